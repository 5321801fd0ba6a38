"""What is special to a store in a `GSPath`."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from cloudpathlib import GSClient, GSPath
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from tests.awkward import check_awkward_keys
from tests.forks import forked, succeeds
from tests.servers.google import environment, google, make_bucket

from holdall.blobs import JsonDictBlob, StrBlob
from holdall.dicts import PathBlobDict
from holdall.errors import InvalidArgumentError, InvalidKeyError, StoreUnavailableError, UnsupportedOperation
from holdall.store import Store
from holdall.stores.path import PathStore
from holdall.testing import StoreSuite, race

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that the default client of cloudpathlib uses, here and in the processes that tests start."""
    early = tmp_path_factory.mktemp("early")
    (early / "sitecustomize.py").write_text("import cloudpathlib")
    with google() as url, pytest.MonkeyPatch.context() as patch:
        # Processes that the kit forks by the hundred inherit what takes a second to import.
        patch.syspath_prepend(early)
        patch.setenv("CLOUDPATHLIB_LOCAL_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        for name, value in environment(url).items():
            patch.setenv(name, value)
        patch.setattr(GSClient, "_default_client", None)
        yield url


def bucket(place: Path) -> str:
    """A bucket for each folder."""
    name = hashlib.sha256(str(place).encode()).hexdigest()[:32]
    make_bucket(os.environ["STORAGE_EMULATOR_HOST"], name)
    return name


class TestGoogle(StoreSuite):
    reduced = True
    interruptible = False  # the clouds' libraries swallow interrupts

    def make(self, place: Path) -> Store:
        return PathStore(GSPath(f"gs://{bucket(place)}"))


@pytest.fixture
def name(url: str, tmp_path: Path) -> str:
    return bucket(tmp_path)


@pytest.fixture
def box(name: str) -> Any:
    """The bucket as Google's own client sees it."""
    return GSClient.get_default_client().client.bucket(name)


def test_a_path_without_a_bucket() -> None:
    with pytest.raises(InvalidArgumentError, match="doesn't name a bucket"):
        PathStore(GSPath("gs://"))


def test_a_folder_of_a_bucket(box: Any, name: str) -> None:
    for key in ("in", "in/", "in/a", "in/b//c", "in/d/", "in.txt", "other/a"):
        box.blob(key).upload_from_string(b"old")
    with PathStore(GSPath(f"gs://{name}/in/")) as store:
        assert list(store) == ["a"]
        store["é/ü"] = b"new"
        assert box.blob("in/é/ü").download_as_bytes() == b"new"
        store.clear()
        left = [each.name for each in box.list_blobs()]
        assert left == ["in", "in.txt", "in/", "in/b//c", "in/d/", "other/a"]
        store["x" * 1021] = b""
        with pytest.raises(InvalidKeyError, match="with its folder"):
            store["x" * 1022] = b""


def test_an_etag_is_a_generation(box: Any, name: str) -> None:
    with PathStore(GSPath(f"gs://{name}")) as store:
        first, second = store.put("a", b"one"), store.put("a", b"two")
        assert first.etag != second.etag == str(box.get_blob("a").generation)
        assert second == store.info("a") == next(store.list())
        copied = store.copy("a", "b")
        assert copied.etag != second.etag
        assert copied == store.info("b")


@pytest.mark.parametrize("size", [5 * MIB, 5 * MIB + 1, 10 * MIB, 12 * MIB + 5])
def test_a_large_blob(box: Any, name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[str] = []
    session = box.client._http
    ask = session.request

    def counted(*arguments: Any, **options: Any) -> Any:
        requests.append(arguments[0] if arguments else options["method"])
        return ask(*arguments, **options)

    monkeypatch.setattr(session, "request", counted)
    with PathStore(GSPath(f"gs://{name}")) as store:
        pieces = [bytes([number]) * MIB for number in range(size // MIB)] + [b"x" * (size % MIB)]
        info = store.put("a", iter(pieces))
        assert info.size == size
        assert ("PUT" in requests) == (size > 5 * MIB)
        assert info == store.info("a")
        assert hashlib.sha256(b"".join(pieces)).digest() == hashlib.sha256(store["a"]).digest()
        assert store.get_range("a", 3 * MIB - 1, 3 * MIB + 1) == b"\2\3"


@pytest.mark.parametrize("size", [1, 12])
def test_a_body_that_fails_leaves_nothing(box: Any, name: str, size: int) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(size):
            yield b"x" * MIB
        raise KeyboardInterrupt

    with PathStore(GSPath(f"gs://{name}")) as store:
        store["a"] = b"old"
        for key in ("a", "b"):
            with pytest.raises(KeyboardInterrupt):
                store.put(key, body())
        assert store["a"] == b"old"
        assert [each.name for each in box.list_blobs()] == ["a"]


def test_a_read_that_meets_a_new_version_is_of_one(
    box: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PathStore(GSPath(f"gs://{name}")) as store:
        store["a"] = b"first" * 100
        download, met = storage.Blob.download_to_file, list[int]()

        def meeting(blob: Any, *arguments: Any, **options: Any) -> Any:
            if not met:
                met.append(blob.generation)
                box.blob("a").upload_from_string(b"second")
            return download(blob, *arguments, **options)

        monkeypatch.setattr(storage.Blob, "download_to_file", meeting)
        assert store.get_range("a", 1, -1) == b"econ"
        assert met != [store.info("a").etag]
        met.clear()
        monkeypatch.setattr(storage.Blob, "upload_from_string", lambda *_: box.blob("a").delete())
        assert store.get("a") is None


def test_a_read_is_one_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[str] = []
    ask = HTTPConnection.putrequest

    def told(connection: HTTPConnection, method: str, url: str, **options: Any) -> None:
        # Google's library asks once in the background what kind of bucket it is.
        if "/o/" in url:
            requests.append(method)
        ask(connection, method, url, **options)

    with PathStore(GSPath(f"gs://{name}")) as store:
        store["a"] = b"0123456789"
        store["empty"] = b""
        store["big"] = b"x" * 6 * MIB
        monkeypatch.setattr(HTTPConnection, "putrequest", told)
        reads: list[tuple[Callable[[], object], object]] = [
            (lambda: store["a"], b"0123456789"),
            (lambda: store["empty"], b""),
            (lambda: len(store["big"]), 6 * MIB),
            (lambda: store.get_range("a", 2, 5), b"234"),
            (lambda: store.get_range("a", 7), b"789"),
            (lambda: store.get_range("a", 0, 10**30), b"0123456789"),
        ]
        for read, expected in reads:
            requests.clear()
            assert read() == expected
            assert requests == ["GET"]
        infos = [store._read("a", *part)[0] for part in ((0, None), (2, 5), (-3, None), (7, None))]
        assert infos == [store.info("a")] * 4 == [next(store.list("a"))] * 4
        assert store.get_range("empty", 0, 5) == store.get_range("a", 10, 12) == b""
        assert store.get("absent") is None


def test_an_answer_without_what_a_blob_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's library may come to keep the headers to itself."""
    from holdall.stores.path import google as module

    monkeypatch.setattr(module, "_answering", lambda: storage.Blob)
    monkeypatch.setattr(storage.Blob, "answer", {}, raising=False)
    with PathStore(GSPath(f"gs://{name}")) as store:
        store["a"] = b"0123456789"
        assert (store["a"], store.get_range("a", 2, 5)) == (b"0123456789", b"234")


def test_many_at_once(name: str) -> None:
    together = threading.Barrier(10, timeout=60)
    with PathStore(GSPath(f"gs://{name}")) as store:

        def meeting(act: Callable[..., Any]) -> Callable[..., Any]:
            def met(*arguments: Any) -> Any:
                # Ten are under way at once: each waits for nine others.
                together.wait()
                return act(*arguments)

            return met

        inner: Any = store
        for call in ("_write", "_read", "_delete"):
            setattr(inner, call, meeting(getattr(store, call)))
        blobs = {str(number): b"%d" % number for number in range(20)}
        assert list(store.put_many(blobs)) == list(blobs)
        assert store.get_many(blobs) == blobs
        assert store.delete_many(blobs) == 20


def test_many_of_which_some_are_large(name: str) -> None:
    blobs = {str(number): bytes([number]) * (MIB * (number % 3)) for number in range(12)}
    with PathStore(GSPath(f"gs://{name}")) as store:
        assert [info.size for info in store.put_many(blobs).values()] == list(map(len, blobs.values()))
        assert store.get_many([*blobs, "absent"]) == blobs
    with (
        PathStore(GSPath("gs://no-such-bucket-here")) as nowhere,
        pytest.raises(StoreUnavailableError, match="doesn't exist") as caught,
    ):
        nowhere.put_many({"a": b"", "b": b""})
    assert caught.value.key == "a"
    assert "'b'" in str(caught.value)


def test_every_awkward_key_comes_back(name: str) -> None:
    with PathStore(GSPath(f"gs://{name}/in")) as store:
        check_awkward_keys(store, "in")


def test_a_folder_goes_with_all_that_is_in_it(box: Any, name: str) -> None:
    beside = ["in", "in.txt", "inner/a"]
    for key in (*beside, "in/", "in/b//c"):
        box.blob(key).upload_from_string(b"")
    with PathBlobDict(GSPath(f"gs://{name}/in")) as d:
        d.store.put_many({f"{number}": b"" for number in range(100)})
        d.delete()
        assert [each.name for each in box.list_blobs()] == beside
        d.delete()
    with pytest.raises(StoreUnavailableError, match="doesn't exist"):
        PathBlobDict(GSPath("gs://no-such-bucket-here/in")).delete()


def test_who_is_away_is_given_up_soon(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from holdall.stores.path import google as module

    assert module._PATIENCE <= 10
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    client = storage.Client(
        "testing", AnonymousCredentials(), client_options={"api_endpoint": "http://127.0.0.1:9"}
    )
    store = PathStore(GSPath(f"gs://{name}", client=GSClient(storage_client=client)))
    calls: list[Callable[[], object]] = [
        lambda: store["a"],
        lambda: store.put("a", b""),
        lambda: store.put("a", iter([b"x" * MIB] * 6)),
        lambda: list(store),
        lambda: store.delete("a"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailableError, match="port=9"):
            call()


def test_of_those_who_delete_one_is_told(name: str) -> None:
    with PathStore(GSPath(f"gs://{name}")) as store:
        store["a"] = b""
        assert [store.delete("a"), store.delete("a")] == [True, False]


def test_a_listing_comes_by_the_page(box: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with PathStore(GSPath(f"gs://{name}/in")) as store:
        keys = [f"{number:02}" for number in range(25)]
        store.put_many(dict.fromkeys(keys, b""))
        asked: list[Any] = []
        whole = storage.Client.list_blobs

        def paged(client: Any, *arguments: Any, **options: Any) -> Any:
            asked.append(options)
            listed = whole(client, *arguments, page_size=10, **options)
            listed.page_number = 0
            return listed

        monkeypatch.setattr(storage.Client, "list_blobs", paged)
        assert list(store) == keys
        assert [info.key for info in store.list("0")] == keys[:10]
        assert asked[-1]["prefix"] == "in/0"
        # What sorts before is left out by the cloud.
        assert next(store._keys("", "07")) == "08"
        assert asked[-1]["start_offset"] == "in/07"


def test_no_local_copy_is_kept_or_read(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = GSPath(f"gs://{name}/in", client=GSClient(local_cache_dir=tmp_path / "cache"))
    with PathStore(path) as store:
        store["a"] = b"1"
        (path / "a").write_bytes(b"2")
        assert store["a"] == b"2"
        store["a"] = b"3"
        GSPath(f"gs://{name}/in/a").write_bytes(b"4")
        assert store["a"] == b"4"
        store.put("big", iter([b"x" * MIB] * 9))
        assert sum(map(len, store.chunks("big"))) == 9 * MIB
        (path / "a").clear_cache()
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert files == []


def test_the_media_type_is_told_to_the_cloud(box: Any, name: str) -> None:
    with PathStore(GSPath(f"gs://{name}")) as store:
        store.put_many({"a.png": b"", "b.txt.gz": b"", "c": b""})
        store.copy("a.png", "d")
    assert box.get_blob("a.png").content_type == box.get_blob("d").content_type == "image/png"
    found = box.get_blob("b.txt.gz")
    assert (found.content_type, found.content_encoding or "") == ("application/octet-stream", "")


def test_what_lies_there_with_an_encoding_is_read_as_it_lies(box: Any, name: str) -> None:
    import gzip

    packed = gzip.compress(b"text" * 1000)
    blob = box.blob("a")
    blob.content_encoding = "gzip"
    blob.upload_from_string(packed)
    with PathStore(GSPath(f"gs://{name}")) as store:
        assert store["a"] == packed
        assert store.info("a").size == len(packed)
        assert store.get_range("a", 0, 2) == packed[:2]


def test_errors_say_what_to_do(name: str) -> None:
    store = PathStore(GSPath("gs://no-such-bucket-here"))
    calls: list[Callable[[], object]] = [
        lambda: store.put("a", b""),
        lambda: store.put("a", iter([b"x" * MIB] * 6)),
        lambda: list(store),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailableError, match="the bucket 'no-such-bucket-here' doesn't exist"):
            call()
    client = storage.Client(
        "testing", AnonymousCredentials(), client_options={"api_endpoint": "http://127.0.0.1:9"}
    )
    retry = Retry(initial=0.01, timeout=0.05)
    away = PathStore(GSPath(f"gs://{name}", client=GSClient(storage_client=client, retry=retry, timeout=5)))
    for call in (lambda: away["a"], lambda: away.put("a", b""), lambda: list(away), lambda: away.delete("a")):
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1'?, port=9"):
            call()


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_do_not_suffice(
    box: Any, name: str, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    from google.api_core.exceptions import from_http_status

    def refused(*_: Any, **__: Any) -> None:
        raise from_http_status(status, "no")

    monkeypatch.setattr(storage.Blob, "reload", refused)
    with (
        PathStore(GSPath(f"gs://{name}")) as store,
        pytest.raises(StoreUnavailableError, match="no permission"),
    ):
        store.info("a")


def test_a_client_of_its_own_does_not_travel(name: str) -> None:
    client = GSClient(storage_client=storage.Client.create_anonymous_client())
    with PathStore(GSPath(f"gs://{name}", client=client)) as store:
        store["a"] = b"1"
        with pytest.raises(UnsupportedOperation, match="set_as_default_client"):
            pickle.dumps(store)


@pytest.mark.parametrize("reopened", [False, True])
def test_a_forked_child_has_connections_of_its_own(name: str, reopened: bool) -> None:
    path = GSPath(f"gs://{name}")
    with PathStore(path) as store:
        store["a"] = b"parent"

        def work() -> None:
            with PathStore(path) if reopened else store as opened:
                for number in range(20):
                    opened[f"child/{number}"] = opened["a"]

        child = forked(work)
        for number in range(20):
            store[f"parent/{number}"] = store["a"]
        succeeds(child)
        assert len(store) == 41


def test_a_closed_store_leaves_the_client_that_it_was_given(name: str) -> None:
    path = GSPath(f"gs://{name}")
    with PathStore(path) as store:
        store["a"] = b"1"
    assert (path / "a").read_bytes() == b"1"
    with PathStore(path) as store:
        assert store["a"] == b"1"


def test_threads_share_a_store(name: str) -> None:
    with PathStore(GSPath(f"gs://{name}")) as store:

        def work(number: int) -> None:
            for turn in range(5):
                store[f"{number}/{turn}"] = b"%d" % number * 1000
                assert store[f"{number}/{turn}"] == b"%d" % number * 1000

        race(*(partial(work, number) for number in range(16)))
        assert len(store) == 80


def test_a_blob_dict_in_the_cloud(box: Any, name: str) -> None:
    box.blob("beside").upload_from_string(b"")
    with PathBlobDict(GSPath(f"gs://{name}/in"), ttl=3600) as d:
        d.create()
        d.update({"a.txt": StrBlob("one"), "b/c.json": JsonDictBlob({"x": 1})})
        assert d["a.txt"].as_bytes() == b"one"
        assert type(d["b/c.json"]) is JsonDictBlob
        assert list(d.search("**/*.json")) == ["b/c.json"]
        d.delete()
        assert not d
    assert [each.name for each in box.list_blobs()] == ["beside"]
