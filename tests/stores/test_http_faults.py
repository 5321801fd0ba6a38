"""HttpStore against servers that fail, lie, redirect, or say less than others."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from tests.servers import web
from tests.servers.certificates import sign_itself

from holdall import (
    BlobNotFoundError,
    ConcurrencyError,
    HttpStore,
    InvalidArgumentError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)

DATA = bytes(range(256)) * 40
STAMP = (("Last-Modified", "Sun, 29 Nov 2026 04:42:12 GMT"), ("ETag", '"one"'))


class Answers(ThreadingHTTPServer):
    """A server whose answers a test writes: `answer` is called with each request's handler."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Any], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked.append((self.command, self.path, dict(self.headers.items())))
                answer(self)

            do_HEAD = do_OPTIONS = do_PROPFIND = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = asked = list[tuple[str, str, dict[str, str]]]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *args: Any) -> None:
        """A client that has gone is no fault."""


@contextlib.contextmanager
def answering(answer: Callable[[Any], None]) -> Iterator[Answers]:
    with Answers(answer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def say(handler: Any, status: int, body: bytes = b"", *headers: tuple[str, str], length: int = -1) -> None:
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if length < 0 else length))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
    if length > len(body):
        handler.close_connection = True


def open_store(url: str, **options: Any) -> HttpStore:
    return HttpStore(url, netrc=False, **options)


def test_no_other_host_is_sent_the_credentials() -> None:
    with answering(lambda handler: say(handler, 200, DATA, *STAMP)) as other:
        with (
            answering(lambda handler: say(handler, 302, b"", ("Location", f"{other.url}/b"))) as first,
            open_store(first.url, username="me", password="secret") as store,
        ):
            assert store["a"] == DATA
            assert store.info("a").size == len(DATA)
        with (
            httpx2.Client(headers={"X-Api-Key": "k"}, auth=("me", "secret"), cookies={"c": "d"}) as client,
            answering(lambda handler: say(handler, 302, b"", ("Location", f"{other.url}/b"))) as second,
            open_store(second.url, client=client) as store,
        ):
            assert store["a"] == DATA
        assert all("Authorization" in headers for _, _, headers in first.asked)
        assert all({"Authorization", "X-Api-Key", "Cookie"} <= {*headers} for _, _, headers in second.asked)
        for _, _, headers in other.asked:
            assert {"authorization", "x-api-key", "cookie"}.isdisjoint(map(str.lower, headers))


@pytest.mark.parametrize("location", ["ftp://x/y", "file:///etc/passwd", "/again"])
def test_a_redirect_that_leads_nowhere_is_an_error(location: str) -> None:
    with (
        answering(lambda handler: say(handler, 302, b"", ("Location", location))) as server,
        open_store(server.url) as store,
        pytest.raises(StoreUnavailableError, match="redirects"),
    ):
        store.get("a")


def test_a_cut_body_is_never_a_value() -> None:
    with (
        answering(lambda handler: say(handler, 200, DATA[:100], *STAMP, length=len(DATA))) as server,
        open_store(server.url) as store,
    ):
        for read in (lambda: store["a"], lambda: list(store.chunks("a")), lambda: store.get_range("a", 5)):
            with pytest.raises(StoreError, match=r"127\.0\.0\.1"):
                read()


def test_a_cut_body_is_continued() -> None:
    def answer(handler: Any) -> None:
        asked = handler.headers.get("Range")
        start = int(asked[6:].partition("-")[0]) if asked else 0
        part = (("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"),) if asked else ()
        say(
            handler, 206 if asked else 200, DATA[start : start + 999], *STAMP, *part, length=len(DATA) - start
        )

    with answering(answer) as server, open_store(server.url) as store:
        assert store["a"] == DATA
        assert store.get_range("a", 100) == DATA[100:]


def test_another_version_is_never_mixed_in() -> None:
    def answer(handler: Any) -> None:
        etag = ("ETag", f'"{len(server.asked)}"')
        say(handler, 200, DATA[:999], etag, length=len(DATA))

    with answering(answer) as server, open_store(server.url) as store, pytest.raises(ConcurrencyError):
        list(store.chunks("a"))


def test_what_has_neither_length_nor_etag_is_measured() -> None:
    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(DATA), DATA))

    with answering(answer) as server, open_store(server.url) as store:
        info = store.info("a")
        assert (info.size, info.etag) == (len(DATA), hashlib.sha256(DATA).hexdigest())
        assert store["a"] == DATA
        assert store.get_range("a", -300, -2) == DATA[-300:-2]
        with store.open("a") as file:
            file.seek(10)
            assert file.read(5) == DATA[10:15]


def test_a_body_whose_end_nobody_knows_is_refused() -> None:
    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(DATA)
        handler.close_connection = True

    with (
        answering(answer) as server,
        open_store(server.url) as store,
        pytest.raises(StoreUnavailableError, match="Content-Length"),
    ):
        store.get("a")


def test_what_is_sent_compressed_although_not_asked_is_as_it_is_sent() -> None:
    headers = (*STAMP, ("Content-Encoding", "gzip"))
    with (
        answering(lambda handler: say(handler, 200, DATA, *headers)) as server,
        open_store(server.url) as store,
    ):
        assert store["a"] == DATA
        assert store.info("a").size == len(DATA)
        assert all(headers["Accept-Encoding"] == "identity" for _, _, headers in server.asked)


def test_a_busy_server_is_asked_again_and_then_named() -> None:
    def answer(handler: Any) -> None:
        if handler.path == "/soon" and len(server.asked) == 3:
            say(handler, 200, b"now", *STAMP)
        else:
            say(handler, 503, b"", ("Retry-After", "0"))

    with answering(answer) as server, open_store(server.url) as store:
        assert store["soon"] == b"now"
        with pytest.raises(StoreUnavailableError, match=rf"{server.url} fails \(503\)"):
            store.get("never")
        with pytest.raises(StoreUnavailableError, match="503"):
            list(store)


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "asks for credentials"), (403, "refuses"), (500, "fails"), (418, "isn't understood")],
)
def test_what_a_status_means(status: int, says: str) -> None:
    with answering(lambda handler: say(handler, status)) as server, open_store(server.url) as store:
        for call in (lambda: store.get("a"), lambda: store.info("a"), lambda: "a" in store):
            with pytest.raises(StoreUnavailableError, match=says) as caught:
                call()
            assert server.url in str(caught.value)


def test_a_silent_server_is_given_up() -> None:
    event = threading.Event()
    with answering(lambda handler: event.wait(30)) as server, open_store(server.url, timeout=0.2) as store:
        try:
            with pytest.raises(StoreUnavailableError, match="timeout="):
                store.get("a")
        finally:
            event.set()


def test_who_speaks_no_http_and_who_is_not_known() -> None:
    with (
        answering(lambda handler: handler.wfile.write(b"+OK POP3 ready\r\n\r\n")) as server,
        open_store(server.url) as store,
        pytest.raises(StoreUnavailableError, match="HTTP"),
    ):
        store.get("a")
    with open_store("http://nowhere.invalid/x") as store, pytest.raises(StoreUnavailableError) as caught:
        store.get("a")
    assert "nowhere.invalid" in str(caught.value)


HOSTILE = """<html><head><title>Index of /files/</title></head><body>
<a href="../">up</a> <a href="/">root</a> <a href="?C=N;O=D">sort</a> <a href="./">.</a> <a href="#x">x</a>
<a href="fine">f</a> <a href="/files/also">f</a> <a href="fine">again</a> <a href=mailto:me@example.org>m</a>
<a href="..%2f..%2fetc%2fpasswd">p</a> <a href="%2e%2e/">p</a> <a href="%2e">p</a>
<a href="/other/secret">o</a>
<a href="../../../x/y">o</a> <a href="//evil.example/z">e</a> <a href="http://evil.example/w">e</a>
<a href="sub/deeper">d</a> <a href="javascript:alert(1)">j</a> <a href="nul%00">n</a>
<a>none</a></body></html>"""


def test_a_listing_never_leads_out_of_the_base() -> None:
    def answer(handler: Any) -> None:
        if handler.path == "/files/" and handler.command == "GET":
            say(handler, 200, HOSTILE.encode(), ("Content-Type", "text/html"))
        elif handler.path in ("/files/fine", "/files/also"):
            say(handler, 200, b"ok", *STAMP)
        else:
            say(handler, 404)

    with answering(answer) as server, open_store(f"{server.url}/files") as store:
        assert list(store) == ["also", "fine"]
        assert [info.key for info in store.list()] == ["also", "fine"]
        left = {entry.path: entry.kind for entry in store.left_out()}
        assert {path for path, kind in left.items() if "leads out" in kind} == {"secret", "y", "z", "w"}
        assert {path for path, kind in left.items() if "key" in kind} == {
            "../../etc/passwd",
            "..",
            ".",
            "nul\0",
        }
        assert {path for _, path, _ in server.asked} <= {"/files/", "/files/fine", "/files/also"}


def test_a_page_is_no_listing_unless_it_is_said_to_be_one() -> None:
    page = b"<html><title>Welcome</title><a href='a'>a</a></html>"

    def answer(handler: Any) -> None:
        if handler.path == "/":
            say(handler, 200, page, ("Content-Type", "text/html; charset=utf-8"))
        else:
            say(handler, 200, b"a", *STAMP)

    with answering(answer) as server:
        with open_store(server.url) as store, pytest.raises(UnsupportedOperation, match="isn't listed"):
            list(store)
        with open_store(server.url, listing="html") as store:
            assert list(store) == ["a"]


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_client_that_is_passed_in_stays_open(library: Any) -> None:
    with answering(lambda handler: say(handler, 200, DATA, *STAMP)) as server, library.Client() as client:
        with HttpStore(server.url, client=client) as store:
            assert store["a"] == DATA
            with pytest.raises(UnsupportedOperation, match="client"):
                pickle.dumps(store)
        assert not client.is_closed
        assert client.get(server.url).status_code == 200
    with HttpStore(server.url, client=client) as store, pytest.raises(StoreUnavailableError, match="closed"):
        store.get("a")
    for other in (library.AsyncClient(), object()):
        with pytest.raises(InvalidArgumentError, match="client must be"):
            HttpStore(server.url, client=other)


def in_child(work: Callable[[], bool]) -> bool:
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def test_a_child_of_a_fork_opens_its_own_connections() -> None:
    with answering(lambda handler: say(handler, 200, DATA, *STAMP)) as server:
        with open_store(server.url) as store:
            assert store["a"] == DATA
            assert in_child(lambda: store["a"] == DATA)
            assert store["a"] == DATA
        with httpx2.Client() as client, HttpStore(server.url, client=client) as store:
            assert store["a"] == DATA

            def refused() -> bool:
                with pytest.raises(StoreUnavailableError, match="fork"):
                    store.get("a")
                return True

            assert in_child(refused)


def test_secrets_are_never_pickled_or_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_TOKEN", "s3cret")
    with answering(lambda handler: say(handler, 200, DATA, *STAMP)) as server:
        with open_store(server.url, token="env:WEB_TOKEN") as store:
            data = pickle.dumps(store)
            assert b"s3cret" not in data
            with pickle.loads(data) as again:
                assert again["a"] == DATA
        assert server.asked[-1][2]["Authorization"] == "Bearer s3cret"
    for store in (
        HttpStore("https://me:s3cret@h"),
        HttpStore("https://h", username="me", password="s3cret"),
        HttpStore("https://h", token="s3cret"),
    ):
        with store, pytest.raises(UnsupportedOperation, match="never pickled"):
            pickle.dumps(store)
        assert "s3cret" not in repr(store)
    wrong: tuple[dict[str, Any], ...] = (
        {"password": "x"},
        {"username": "a", "password": "b", "token": "c"},
        {"username": "a:b"},
        {"timeout": 0},
        {"concurrency": 0},
        {"listing": "none"},
        {"tls_key": "x"},
        {"tls_ca": "/nowhere"},
    )
    for options in wrong:
        with pytest.raises(InvalidArgumentError):
            HttpStore("https://h", **options)


def test_a_certificate_must_be_trusted(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a").write_bytes(b"1")
    sign_itself("IP:127.0.0.1", tmp_path / "pem", tmp_path / "key")
    more = f'ssl_certificate "{tmp_path}/pem"; ssl_certificate_key "{tmp_path}/key";'
    with web.nginx(tmp_path / "root", more=more, tls="ssl") as port:
        url = f"https://127.0.0.1:{port}"
        with open_store(url) as store, pytest.raises(StoreUnavailableError, match="tls_ca="):
            store.get("a")
        with open_store(url, tls_ca=str(tmp_path / "pem")) as store:
            assert list(store) == ["a"]
            assert store["a"] == b"1"
        with open_store(f"http://127.0.0.1:{port}") as store, pytest.raises(StoreUnavailableError):
            store.get("a")


def test_a_file_that_is_gone_is_not_there() -> None:
    with answering(lambda handler: say(handler, 410)) as server, open_store(server.url) as store:
        assert store.get("a") is None
        with pytest.raises(BlobNotFoundError):
            store.info("a")


def test_an_interrupt_leaves_no_lock_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(lock: Any) -> None:
        lock._lock.acquire()
        raise KeyboardInterrupt

    (tmp_path / "a").write_bytes(b"1")
    with web.python(tmp_path) as port, HttpStore(f"http://127.0.0.1:{port}") as store:
        # The lock of the client's own pool, which an interrupt between its acquiring and its block would
        # leave locked, so that the threads of each later listing would wait for it.
        monkeypatch.setattr("httpcore2._synchronization.ThreadLock.__enter__", interrupted)
        assert store["a"] == b"1"
        assert list(store) == ["a"]
