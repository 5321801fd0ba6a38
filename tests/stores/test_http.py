"""HttpStore over real web servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.servers import web

from holdall import (
    AsyncHttpStore,
    BlobNotFoundError,
    HttpStore,
    InvalidArgumentError,
    MemoryStore,
    ReadOnlyError,
    Report,
    SqliteStore,
    Store,
    StoreUnavailableError,
    UnsupportedOperation,
    copy_store,
)
from holdall.stores.http.link import Link

FILES = {
    "plain.txt": b"hi\n",
    "sub/n": b"n",
    "a b/c d": b"",
    'é&<b>"q".txt': b"q",
    "q?x=1": b"x",
    "a:b": b"c",
    "a\\b": b"b",
    "%2e%2e": b"e",
    "it's": b"s",
    " lead": b"l",
    "trail ": b"t",
    "y" * 100: b"0123456789",
    "x#y?z%41/in": b"i",
    "sub.x": b"dot",
    "sub0": b"zero",
    "deep/er/and/deeper": b"d",
    "+": b"plus",
}


def fill(root: Path) -> None:
    root.chmod(0o755)
    for above in root.parents:
        # pytest's own folders are private, and Apache's processes run as another user.
        if Path(tempfile.gettempdir()) in above.parents:
            above.chmod(above.stat().st_mode | 0o055)
    for key, data in FILES.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (root / "empty").mkdir()


Serve = Callable[[Path], "contextlib.AbstractContextManager[int]"]
SERVERS: dict[str, Serve] = {
    "nginx": web.nginx,
    "nginx json": lambda root: web.nginx(root, "autoindex on; autoindex_format json;"),
    "nginx gzip": lambda root: web.nginx(root, more="gzip on; gzip_types *; gzip_min_length 1;"),
    "apache": web.apache,
    "python": web.python,
    "rclone http": lambda root: web.rclone(root, "http"),
    "rclone webdav": lambda root: web.rclone(root, "webdav"),
}


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpStore]:
    root = tmp_path_factory.mktemp("web")
    fill(root)
    with SERVERS[request.param](root) as port, HttpStore(f"http://127.0.0.1:{port}") as store:
        yield store


def test_all_files_are_found_in_order_and_read(served: HttpStore) -> None:
    assert list(served) == sorted(FILES)
    assert {info.key: info.size for info in served.list()} == {key: len(data) for key, data in FILES.items()}
    assert {key: served[key] for key in served} == FILES
    assert [served.info(key) for key in FILES] == [next(served.list(key)) for key in FILES]
    assert list(served.left_out()) == []
    assert list(served.iterate_keys("sub")) == ["sub.x", "sub/n", "sub0"]
    assert list(served.iterate_keys("deep/e")) == ["deep/er/and/deeper"]
    assert list(served.iterate_keys("deep/x/")) == []
    assert [child if isinstance(child, str) else child.key for child in served.children()] == sorted(
        {f"{key.partition('/')[0]}/" if "/" in key else key for key in FILES}
    )


def test_ranges_are_slices(served: HttpStore) -> None:
    key, data = "y" * 100, b"0123456789"
    ends = (None, -30, -10, -4, -1, 0, 1, 5, 9, 10, 11, 40)
    for start in ends:
        for stop in ends:
            if start is not None:
                assert served.get_range(key, start, stop) == data[start:stop], (start, stop)
    assert served.get_range("a b/c d", 0, 5) == b""
    with served.open(key) as file:
        file.seek(4)
        assert file.read(2) == b"45"
        file.seek(-1, os.SEEK_END)
        assert file.read() == b"9"


def test_a_folder_and_what_is_not_there_are_no_blobs(served: HttpStore) -> None:
    for key in ("sub", "empty", "nope", "plain.txt/x", "sub/nope"):
        assert served.get(key) is None
        assert key not in served
        with pytest.raises(BlobNotFoundError):
            served.info(key)
        with pytest.raises(BlobNotFoundError):
            served.get_range(key, 0, 1)
    with pytest.raises(ReadOnlyError):
        served["a"] = b""
    with pytest.raises(UnsupportedOperation, match="an HttpStore can't sign URLs"):
        served.sign("a")


def test_a_crawl_fills_another_store(served: HttpStore) -> None:
    target = MemoryStore()
    assert copy_store(served, target).copied == len(FILES)
    assert dict(target.items()) == FILES


def test_a_folder_below_is_the_base(served: HttpStore) -> None:
    with HttpStore(f"{served._base}deep/er") as store:
        assert dict(store.items()) == {"and/deeper": b"d"}
    with HttpStore(f"{served._base}x%23y%3Fz%2541") as store:
        assert list(store) == ["in"]
    with HttpStore(f"{served._base}dee") as store, pytest.raises(UnsupportedOperation, match="isn't listed"):
        list(store)


def test_without_a_listing_blobs_are_still_read(tmp_path: Path) -> None:
    fill(tmp_path)
    with web.nginx(tmp_path, "") as port, HttpStore(f"http://127.0.0.1:{port}") as store:
        assert store["sub/n"] == b"n"
        for prefix in ("", "sub/", "nope/"):
            with pytest.raises(UnsupportedOperation, match=f"127.0.0.1:{port}/ isn't listed"):
                list(store.list(prefix))


def test_what_can_not_be_a_blob_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "new\nline").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff")).write_bytes(b"")
    with web.nginx(tmp_path) as port, HttpStore(f"http://127.0.0.1:{port}") as store:
        assert {entry.path for entry in store.left_out()} == {"dangling", "new\nline", "bad\\xff"}
        assert [info.key for info in store.list()] == sorted(FILES)


def test_credentials_are_sent_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    fill(tmp_path / "root")
    (tmp_path / "users").write_text("me:{PLAIN}se/cret\n")
    (tmp_path / "users").chmod(0o644)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    more = f'auth_basic "x"; auth_basic_user_file "{tmp_path}/users";'
    with web.nginx(tmp_path / "root", more=more) as port:
        host = f"127.0.0.1:{port}"
        with HttpStore(f"http://{host}") as store, pytest.raises(StoreUnavailableError, match="username="):
            store.get("plain.txt")
        with Store.from_uri(f"http://me:wrong@{host}") as store:
            with pytest.raises(StoreUnavailableError, match="refuses these credentials"):
                store.get("plain.txt")
            assert "wrong" not in repr(store)
        for store in (
            Store.from_uri(f"http://me:se%2Fcret@{host}"),
            HttpStore(f"http://{host}", username="me", password="se/cret"),
        ):
            with store:
                assert store["plain.txt"] == b"hi\n"
                assert "se/cret" not in repr(store)
                assert "%2F" not in repr(store)
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password se/cret\n")
        with HttpStore(f"http://{host}") as store:
            assert list(store) == sorted(FILES)


def test_failures_name_the_host() -> None:
    with HttpStore("http://127.0.0.1:9", netrc=False) as store:
        for call in (lambda: store.get("a"), lambda: list(store), lambda: store.info("a")):
            with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:9"):
                call()
    for bad in ("http://", "ftp://h", "http://h/?a=b", "http://h:x/", "http://h/#a", "http://h/../x", "h"):
        with pytest.raises(InvalidArgumentError):
            HttpStore(bad)


def test_it_has_an_async_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")

    async def main(url: str) -> None:
        async with AsyncHttpStore(url) as store:
            assert type(store.store) is HttpStore
            assert [await store["a"], [key async for key in store]] == [b"1", ["a"]]

    with web.python(tmp_path) as port:
        asyncio.run(main(f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize("kind", [MemoryStore, SqliteStore])
def test_a_crawl_into_an_empty_store_takes_one_request_a_file(
    kind: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    once = Link._once

    def noted(link: Link, method: str, url: str, headers: Any, body: Any) -> Any:
        asked.append(method)
        return once(link, method, url, headers, body)

    monkeypatch.setattr(Link, "_once", noted)
    with tempfile.TemporaryDirectory(prefix="web-") as name:
        os.chmod(name, 0o755)
        for number in range(30):
            path = Path(name, str(number % 3), str(number))
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"%d" % number)
        Path(name, "large").write_bytes(bytes(3 << 20))
        reports: list[Report] = []
        with web.nginx(Path(name), more="location = /refused { return 403; }") as port:
            for odd in (False, True):
                if odd:
                    Path(name, "dangling").symlink_to("nowhere")
                    Path(name, "refused").write_bytes(b"1")
                for where in (None, lambda info: True):
                    asked.clear()
                    place = {"path": tmp_path / str(len(reports))} if kind is SqliteStore else {}
                    with HttpStore(f"http://127.0.0.1:{port}") as store, kind(**place) as target:
                        reports.append(copy_store(store, target, where=where))
                        if where is None and not odd:
                            # An OPTIONS, a page for each folder, and each file.
                            assert sorted(asked) == ["GET"] * (4 + 31) + ["OPTIONS"]
                        assert dict(target.items()) == {key: store[key] for key in target}
                        assert len(target) == 31
        plain, asking, *others = [replace(report, seconds=0.0) for report in reports]
        assert plain == asking
        assert others[0] == others[1]
        assert others[0].left_out == {
            "listed name that isn't served": 1,
            "file that the server refuses (403)": 1,
        }
