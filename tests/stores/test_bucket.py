"""What is special to a store in a bucket."""

from __future__ import annotations

import hashlib
import math
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from obstore.store import S3Store
from tests.again import Combined
from tests.forks import forked, succeeds
from tests.servers.buckets import ask_once, name_for
from tests.servers.ceph import CREDENTIALS, ceph
from tests.servers.moto import moto
from tests.servers.scripted import Fault, Scripted, scripted
from tests.servers.seaweedfs import seaweedfs

from holdall import CachingStore, MemoryStore
from holdall.errors import (
    BlobExistsError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidKeyError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.store import ABSENT, ANY, Can, Store
from holdall.stores.bucket import BucketStore
from holdall.testing import StoreSuite
from holdall.workers import shared


def client_of(url: str) -> Any:
    return boto3.client("s3", endpoint_url=url)


@pytest.fixture(scope="module", autouse=True)
def credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def server(credentials: None) -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture(scope="module")
def gateway(credentials: None) -> Iterator[str]:
    with ceph() as url:
        yield url


@pytest.fixture(scope="module")
def weed(credentials: None) -> Iterator[str]:
    with seaweedfs() as url:
        yield url


@cache
def bucket(url: str, place: Path) -> str:
    """A bucket for each folder."""
    client_of(url).create_bucket(Bucket=name_for(place))
    return name_for(place)


class TestS3(Combined):
    url: str

    @pytest.fixture(autouse=True)
    def _at(self, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
        ask_once(monkeypatch, self)
        self.url = server

    def make(self, place: Path) -> Store:
        return BucketStore(f"s3://{bucket(self.url, place)}", endpoint=self.url)


class TestCeph(StoreSuite):
    reduced = True
    url: str

    @pytest.fixture(autouse=True)
    def _at(self, gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
        ask_once(monkeypatch, self)
        self.url = gateway

    def make(self, place: Path) -> Store:
        return BucketStore(f"s3://{bucket(self.url, place)}", endpoint=self.url)


MIB = 1 << 20


@pytest.fixture
def name(server: str, tmp_path: Path) -> str:
    return bucket(server, tmp_path)


@pytest.fixture
def proxy(server: str) -> Iterator[Scripted]:
    with scripted(int(server.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: Scripted, name: str) -> Iterator[BucketStore]:
    """A store behind a proxy, which has asked what the server can do."""
    with BucketStore(f"s3://{name}/in", endpoint=proxy.url, timeout=2) as store:
        assert Can.SWAP in store.can
        proxy.requests.clear()
        yield store


@pytest.fixture
def patient(proxy: Scripted, name: str) -> Iterator[BucketStore]:
    """The same, with a deadline that a busy machine doesn't miss."""
    with BucketStore(f"s3://{name}/in", endpoint=proxy.url, timeout=600) as store:
        assert Can.SWAP in store.can
        yield store


def put(url: str, name: str, **objects: bytes) -> None:
    client = client_of(url)
    for key, data in objects.items():
        client.put_object(Bucket=name, Key=key, Body=data)


def test_requests(store: BucketStore, proxy: Scripted) -> None:
    calls: list[tuple[Callable[[], object], list[str]]] = [
        (lambda: store.put("a", b"0123456789"), ["PUT"]),
        (lambda: store["a"], ["GET"]),
        (lambda: store.get("absent"), ["GET"]),
        (lambda: "a" in store, ["HEAD"]),
        (lambda: store.info("a"), ["HEAD"]),
        (lambda: store.get_range("a", 2, 5), ["GET"]),
        (lambda: store.get_range("a", -3), ["GET"]),
        (lambda: store.put("new", b"x", expect=ABSENT), ["PUT"]),
        (lambda: [*store.iterate_keys("a")], ["GET"]),
        (lambda: store.copy("a", "b"), ["HEAD", "PUT", "HEAD"]),
        # Of the copy only its ETag says that no other writer replaced it.
        (lambda: store.move("b", "c"), ["HEAD", "PUT", "HEAD", "DELETE"]),
        (lambda: store.pop("c"), ["GET", "DELETE"]),
        (lambda: store.delete("a"), ["HEAD", "DELETE"]),
    ]
    for number, (call, expected) in enumerate(calls):
        proxy.requests.clear()
        call()
        assert [method for method, _ in proxy.requests] == expected, number
    many = {f"{number:04}": b"x" for number in range(40)}
    store.put_many(many)
    proxy.requests.clear()
    infos = list(store.list("00"))
    assert [info.size for info in infos] == [1] * 40
    assert len(proxy.requests) == 1
    # What a listing doesn't say is asked for when somebody wants to know.
    assert infos[0].content_type is None
    assert len(proxy.requests) == 2


def test_a_hit_of_an_immutable_cache_asks_nothing(store: BucketStore, proxy: Scripted) -> None:
    cached = CachingStore(store, MemoryStore(), fresh="immutable")
    store["a"] = b"1"
    assert cached["a"] == b"1"
    proxy.requests.clear()
    assert (cached["a"], cached.get_range("a", -1), "a" in cached) == (b"1", b"1", True)
    assert not proxy.requests


def test_metadata_cost_no_request(store: BucketStore, proxy: Scripted, server: str, name: str) -> None:
    kept = {"owner": "ana", "run_7": "a, b", "e": ""}
    put = store.put("a", b"x", content_type="text/plain", metadata=kept)
    assert put.metadata == store.info("a").metadata == store._read("a", 0, None)[0].metadata == kept
    assert [method for method, _ in proxy.requests] == ["PUT", "HEAD", "GET"]
    client = client_of(server)
    assert client.head_object(Bucket=name, Key="in/a")["Metadata"] == {
        "owner": "ana",
        "run-7": "a, b",
        "e": "",
    }
    client.put_object(Bucket=name, Key="in/b", Body=b"x", Metadata={"Team": "red", "a.b": "x", "1": "x"})
    assert store.info("b").metadata == {"team": "red"}
    with pytest.raises(InvalidArgumentError, match="'content_type' in metadata"):
        store.put("c", b"x", metadata={"content_type": "a/b"})
    with pytest.raises(InvalidArgumentError, match="'contenttype' in metadata"):
        store.put("c", [b"x"], metadata={"contenttype": "a/b"})
    assert "c" not in store


def test_attributes_of_large_blobs(store: BucketStore, proxy: Scripted, server: str, name: str) -> None:
    large = [bytes(MIB)] * 6
    kept = {"owner": "ana"}
    expect: Any = ANY
    for _ in range(2):
        expect = store.put("a", large, content_type="a/b", metadata=kept, expect=expect).etag
        assert (store.info("a").content_type, store.info("a").metadata) == ("a/b", kept)
    with pytest.raises(ConcurrencyError):
        store.put("a", large, metadata=kept, expect="0" * 32)
    with pytest.raises(BlobExistsError):
        store.put("a", large, metadata=kept, expect=ABSENT)
    with BucketStore(f"s3://{name}/in", endpoint=server, storage_class="STANDARD_IA") as cold:
        for key, body in (("small", b"x"), ("large", large)):
            cold.put(key, body)
            cold.put(key, body, expect=cold.info(key).etag)
            found = client_of(server).head_object(Bucket=name, Key=f"in/{key}")
            assert found["StorageClass"] == "STANDARD_IA"
        # A copy inside S3 would be of the bucket's class.
        cold.put("small", b"x", content_type="a/b", metadata=kept)
        for info in (cold.copy("small", "copied"), cold.move("small", "moved")):
            assert (info.content_type, info.metadata) == ("a/b", kept)
            assert cold.info(info.key) == info
            found = client_of(server).head_object(Bucket=name, Key=f"in/{info.key}")
            assert found["StorageClass"] == "STANDARD_IA"
        assert "small" not in cold


def test_a_stream_of_too_many_parts_is_refused(store: BucketStore, server: str, name: str) -> None:
    store._access.settings.cloud = store._access.cloud._replace(parts=2)
    store["a"] = b"old"
    with pytest.raises(UnsupportedOperation, match="at most 16,777,216 bytes, 2 parts"):
        store.put("a", (bytes(MIB) for _ in range(17)))
    assert store["a"] == b"old"
    assert "Uploads" not in client_of(server).list_multipart_uploads(Bucket=name)
    assert store.put("a", (bytes(MIB) for _ in range(16))).size == 16 * MIB


def test_parts_grow_with_a_size_that_is_known(
    store: BucketStore, proxy: Scripted, name: str, tmp_path: Path
) -> None:
    store._access.settings.cloud = store._access.cloud._replace(parts=2)
    sizes: list[int] = []

    def script(method: str, path: str, headers: dict[str, str]) -> None:
        if "partNumber=" in path:
            sizes.append(int({field.lower(): value for field, value in headers.items()}["content-length"]))

    proxy.script = script
    data = random.Random(1).randbytes(19 * MIB + 1)
    (tmp_path / "file").write_bytes(data)
    blobs = MemoryStore({"large": data})

    def put_file(key: str) -> None:
        with open(tmp_path / "file", "rb") as file:
            file.seek(MIB)
            store.put(key, file)

    def write(key: str) -> None:
        with store.open(key, "wb") as file:
            file.write(data)

    parts = sorted([10 * MIB, 9 * MIB + 1])
    for put, expected in (
        (put_file, sorted([10 * MIB, 8 * MIB + 1])),
        (write, parts),
        (lambda key: store.put(key, data), parts),
        (lambda key: store.put(key, blobs.open("large")), parts),
        # What was put in parts is copied through this process.
        (lambda key: store.copy("a", "b"), parts),
    ):
        sizes.clear()
        put("a")
        assert sorted(sizes) == expected
        assert hashlib.sha256(store["a"]).digest() == hashlib.sha256(data[-sum(sizes) :]).digest()


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server counts as near."""
    monkeypatch.setattr("holdall.stores.bucket.access._NEAR", 0)


@pytest.mark.usefixtures("far")
def test_a_large_blob_is_read_in_parts_of_one_version(patient: BucketStore, proxy: Scripted) -> None:
    data = random.Random(1).randbytes(40 * MIB)
    patient["a"] = data
    proxy.requests.clear()
    ranges: list[str] = []

    def script(method: str, path: str, headers: dict[str, str]) -> None:
        ranges.append(headers.get("range", headers.get("Range", "")))

    proxy.script = script
    assert patient["a"] == data
    # Each part once, but for what a lost answer makes obstore ask again.
    assert len(set(ranges)) == 13
    assert str(40 * MIB - 1) in {each.partition("-")[2] for each in ranges}
    ranges.clear()
    with patient.open("a") as file:
        assert file.read(MIB) == data[:MIB]
        assert ranges == [""]
        assert file.read() == data[MIB:]
    assert patient.get_range("a", 5, 30 * MIB) == data[5 : 30 * MIB]
    assert b"".join(patient.chunks("a", 3 * MIB)) == data
    # What is replaced or deleted meanwhile is read to its end.
    for spoil in (lambda: patient.put("a", b"other"), lambda: patient.delete("a")):
        pieces = patient._read("a", 0, None)[1]
        begun = [next(pieces)]
        spoil()
        assert b"".join([*begun, *pieces]) == data
        patient["a"] = data
    # A stream that is dropped leaves nothing under way.
    pieces = patient._read("a", 0, None)[1]
    assert sum(len(next(pieces)) for _ in range(5)) > 4 * MIB
    del pieces
    end = time.monotonic() + 60
    while sum(thread.name == "holdall-worker" for thread in threading.enumerate()) > len(shared()._idle):
        assert time.monotonic() < end, "a part is still asked for"
        time.sleep(0.01)


def test_a_large_blob_of_a_server_that_is_near_is_one_request(
    store: BucketStore, proxy: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.Random(1).randbytes(20 * MIB)
    store["a"] = data
    monkeypatch.setattr("holdall.stores.bucket.access._NEAR", math.inf)
    proxy.requests.clear()
    assert store["a"] == data
    assert b"".join(store.chunks("a", 3 * MIB)) == data
    assert len(proxy.requests) == 2


@pytest.mark.usefixtures("far")
def test_an_interrupt_ends_a_read_in_parts(store: BucketStore, proxy: Scripted, name: str) -> None:
    store["a"] = bytes(20 * MIB)
    main = threading.main_thread().ident
    assert main is not None
    came: list[str] = []

    def script(method: str, path: str, headers: dict[str, str]) -> Fault | None:
        if "range" not in {field.lower() for field in headers}:
            return None
        if not came:
            came.append(path)
            signal.pthread_kill(main, signal.SIGINT)
        return Fault(silent=True)

    proxy.script = script
    with BucketStore(f"s3://{name}/in", endpoint=proxy.url, timeout=600) as patient:
        with pytest.raises(KeyboardInterrupt):
            patient.get("a")
        proxy.script = lambda method, path, headers: None
        assert patient["a"] == bytes(20 * MIB)


@pytest.mark.parametrize("call", ["get, args=('a',)", "get_many, args=(['b', 'c'],)"])
def test_a_silent_server_delays_no_interpreter_that_ends(
    store: BucketStore, proxy: Scripted, name: str, call: str
) -> None:
    store["a"] = bytes(20 * MIB)
    asked = threading.Event()

    def script(method: str, path: str, headers: dict[str, str]) -> Fault | None:
        if "range" not in {field.lower() for field in headers} and not path.endswith(("/b", "/c")):
            return None
        asked.set()
        return Fault(silent=True)

    proxy.script = script
    program = (
        "import sys, threading; from holdall import BucketStore; "
        "from holdall.stores.bucket import access; access._NEAR = 0; "
        f"store = BucketStore('s3://{name}/in', endpoint='{proxy.url}', timeout=600); "
        f"threading.Thread(target=store.{call}, daemon=True).start(); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        assert asked.wait(60)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_string_prefix_in_a_crowd(server: str, name: str) -> None:
    names = ["model", "model-x", "model/a", "modelA", "model_v1", "model_v2/x", "model_", "modelz", "logs/1"]
    put(server, name, **dict.fromkeys(names, b"x"))
    with BucketStore(f"s3://{name}", endpoint=server) as store:
        for prefix in ("", "m", "model", "model_", "model_v", "model/", "modelz", "z", "logs", "logs/1"):
            expected = sorted(key for key in names if key.startswith(prefix))
            if "model_" in expected and prefix == "model_":
                assert expected[0] == "model_"
            assert list(store.iterate_keys(prefix)) == expected


def test_foreign_names_are_left_out_and_nothing_else(server: str, name: str) -> None:
    put(server, name, **{"a": b"x", "x/y": b"x", "z": b"", "folder/": b"", "folder/in": b"x"})
    with BucketStore(f"s3://{name}", endpoint=server) as store:
        assert [info.key for info in store.list()] == ["a", "folder/in", "x/y", "z"]
        assert [entry.path for entry in store.left_out()] == ["folder/"]
        put(server, name, **{"x//y": b"x", "/lead": b"x", "trail/": b"full", "a/../b": b"x"})
        assert [info.key for info in store.list()] == ["a", "folder/in", "x/y", "z"]
        left = {entry.path for entry in store.left_out()}
        assert left == {"folder/", "x//y", "/lead", "trail/", "a/../b"}
        assert [entry.path for entry in store.left_out("x/")] == ["x//y"]
        assert list(store.iterate_keys("x")) == ["x/y"]
        store.clear()
        assert not store
    listed = client_of(server).list_objects_v2(Bucket=name)["Contents"]
    assert {each["Key"] for each in listed} == left


def test_empty_objects_cost_one_request_once(
    store: BucketStore, proxy: Scripted, server: str, name: str
) -> None:
    put(server, name, **{"in/a": b"x", "in/b/": b"", "in/b/c": b"", "in/b/d": b"x"})
    for expected in (2, 1):
        proxy.requests.clear()
        assert list(store.iterate_keys()) == ["a", "b/c", "b/d"]
        assert len(proxy.requests) == expected
    # What is asked by us is asked again too.
    faults = [Fault(status=503), Fault(reset=True), Fault(status=429)]
    proxy.script = lambda method, path, headers: faults.pop() if faults else None
    assert list(store.iterate_keys()) == ["a", "b/c", "b/d"]
    proxy.script = lambda method, path, headers: Fault(status=403)
    with pytest.raises(StoreUnavailableError, match="answered 403 to a listing"):
        list(store.iterate_keys())


def test_a_large_put_on_a_condition(store: BucketStore, proxy: Scripted) -> None:
    def body() -> Iterator[bytes]:
        for number in range(12):
            yield bytes([number]) * MIB

    first = store.put("large", body(), expect=ABSENT, content_type="image/png")
    assert store.info("large") == first
    assert first.content_type == "image/png"
    with pytest.raises(BlobExistsError):
        store.put("large", body(), expect=ABSENT)
    store["large"] = b"other"
    with pytest.raises(ConcurrencyError):
        store.put("large", body(), expect=first.etag)
    second = store.put("large", body(), expect=store.info("large").etag)
    assert second.size == 12 * MIB
    assert store.get_range("large", -2) == b"\x0b\x0b"


def test_more_than_one_put_may_hold_is_refused(store: BucketStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store._access.settings.cloud = store._access.cloud._replace(largest=6 * MIB)
    with pytest.raises(UnsupportedOperation, match="at most 6,291,456 bytes"):
        store.put("large", [bytes(4 * MIB)] * 2, expect=ABSENT)
    with pytest.raises(UnsupportedOperation, match="at most 6,291,456 bytes"):
        store.put("large", bytes(8 * MIB), expect=ABSENT)
    assert "large" not in store


def test_a_failed_stream_leaves_no_parts(store: BucketStore, server: str, name: str) -> None:
    def body() -> Iterator[bytes]:
        yield bytes(20 * MIB)
        raise OSError("the disk of the body")

    store["a"] = b"old"
    with pytest.raises(OSError, match="the disk of the body"):
        store.put("a", body())
    assert store["a"] == b"old"
    assert "Uploads" not in client_of(server).list_multipart_uploads(Bucket=name)


def test_an_interrupted_stream_leaves_no_parts(
    store: BucketStore, server: str, proxy: Scripted, name: str
) -> None:
    """Not even where the server takes longer for a part than the caller waits."""

    def body() -> Iterator[bytes]:
        yield bytes(20 * MIB)
        signal.raise_signal(signal.SIGINT)
        yield bytes(20 * MIB)

    late = Fault(delay=0.5)
    proxy.script = lambda method, path, headers: late if "partNumber=" in path else None
    with BucketStore(f"s3://{name}/in", endpoint=proxy.url) as slow, pytest.raises(KeyboardInterrupt):
        slow.put("a", body())
    end = time.monotonic() + 60
    while "Uploads" in client_of(server).list_multipart_uploads(Bucket=name):
        assert time.monotonic() < end, "parts stay behind"
        time.sleep(0.1)
    assert "a" not in store


def first_put(fault: Fault) -> Callable[[str, str, dict[str, str]], Fault | None]:
    faults = [fault]
    return lambda method, path, headers: faults.pop() if method == "PUT" and faults else None


CONFLICT = b"<Error><Code>ConditionalRequestConflict</Code></Error>"


@pytest.mark.parametrize("metadata", [None, {"owner": "ana"}])
@pytest.mark.parametrize("size", [3, 5 * MIB])
@pytest.mark.parametrize("fault", [Fault(status=500, after=True), Fault(reset=True, after=True)])
def test_a_lost_answer_to_a_create_is_found_out(
    store: BucketStore, proxy: Scripted, fault: Fault, size: int, metadata: Any
) -> None:
    proxy.script = first_put(fault)
    store.put("new", bytes(size), expect=ABSENT, metadata=metadata)
    assert store.info("new").size == size


@pytest.mark.parametrize("expect", [ANY, ABSENT])
def test_a_slow_line_may_take_longer_for_a_part_than_for_an_answer(
    proxy: Scripted, name: str, expect: Any
) -> None:
    with BucketStore(f"s3://{name}/in", endpoint=proxy.url, timeout=1) as store:
        assert store.can
        # To obstore, a part that takes long to send is an answer that takes long to come.
        late = Fault(delay=2.5)
        proxy.script = lambda method, path, headers: late if method == "PUT" else None
        assert store.put("a", [bytes(MIB)] * 9, expect=expect, metadata={"owner": "ana"}).size == 9 * MIB


def test_an_outcome_that_nobody_knows(store: BucketStore, proxy: Scripted) -> None:
    tag = store.put("a", b"old").etag
    proxy.script = first_put(Fault(status=503))
    with pytest.raises(StoreUnavailableError, match="nobody can tell"):
        store.put("a", b"new", expect=tag)
    assert store["a"] == b"old"


def test_a_conflict_under_way_is_tried_again(store: BucketStore, proxy: Scripted) -> None:
    proxy.script = first_put(Fault(status=409, body=CONFLICT))
    store.put("new", b"x", expect=ABSENT)
    proxy.script = first_put(Fault(status=409, body=CONFLICT))
    with pytest.raises(BlobExistsError):
        store.put("new", b"y", expect=ABSENT)
    assert store["new"] == b"x"


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "AccessDenied", "no permission"),
        (403, "InvalidAccessKeyId", "doesn't accept the credentials"),
        (403, "SignatureDoesNotMatch", "doesn't accept the credentials"),
        (400, "ExpiredToken", "have expired"),
        (403, "RequestTimeTooSkewed", "clock is off"),
        (301, "PermanentRedirect", "another region"),
        (400, "AuthorizationHeaderMalformed", "another region"),
        (404, "NoSuchBucket", "doesn't exist"),
    ],
)
def test_refusals_name_the_host_and_the_bucket(
    store: BucketStore, proxy: Scripted, name: str, status: int, code: str, says: str
) -> None:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    proxy.script = lambda method, path, headers: Fault(status=status, body=body)
    for call in (lambda: store["a"], lambda: store.put("a", b""), lambda: list(store.list())):
        with pytest.raises(StoreUnavailableError, match=says) as caught:
            call()
        assert name in str(caught.value)
        assert proxy.url.removeprefix("http://") in str(caught.value)
        assert "Signature=" not in str(caught.value)


def test_no_such_bucket_is_told_apart_from_no_such_key(server: str) -> None:
    with BucketStore("s3://not-there", endpoint=server, timeout=1) as store:
        calls: list[Callable[[], object]] = [
            *(lambda: store["a"], lambda: "a" in store, lambda: store.info("a"), lambda: store.can),
            *(lambda: store.put("a", b""), lambda: list(store.list()), lambda: store.delete("a")),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError, match="doesn't exist"):
                call()


def test_no_server_and_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        BucketStore("s3://bucket", endpoint="http://127.0.0.1:1", timeout=0.2) as store,
        pytest.raises(StoreUnavailableError, match=r"127.0.0.1:1 .*connection was refused"),
    ):
        store.get("a")


def test_what_is_no_object_storage(store: BucketStore, proxy: Scripted) -> None:
    html = Fault(status=200, body=b"<html>", headers=(("Content-Type", "text/html"),))
    proxy.script = lambda method, path, headers: html
    for call in (lambda: store.info("a"), lambda: store.put("a", b"")):
        with pytest.raises(StoreUnavailableError, match="is it an object storage"):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store["a"],
        lambda store: store.put("a", b""),
        lambda store: store.put("a", b"", expect=ABSENT),
        lambda store: store.put("a", [bytes(5 * MIB)], expect=ABSENT),
        lambda store: store.put("a", [bytes(MIB)] * 20),
        lambda store: store.delete("a"),
        lambda store: next(store.list()),
        lambda store: store.get_many(["a", "b"]),
    ],
)
def test_an_interrupt_ends_a_call_that_waits(
    store: BucketStore, proxy: Scripted, name: str, call: Callable[[BucketStore], object]
) -> None:
    came: list[str] = []
    main = threading.main_thread().ident
    assert main is not None

    def script(method: str, path: str, headers: dict[str, str]) -> Fault:
        if not came:
            came.append(method)
            signal.pthread_kill(main, signal.SIGINT)
        return Fault(silent=True)

    proxy.script = script
    # Its deadline is far away.
    with BucketStore(f"s3://{name}/in", endpoint=proxy.url, timeout=600) as patient:
        assert patient.can
        with pytest.raises(KeyboardInterrupt):
            call(patient)
    proxy.script = lambda method, path, headers: None
    store["a"] = b"after"
    assert store["a"] == b"after"


def test_a_forked_child_has_clients_of_its_own(store: BucketStore) -> None:
    store["a"] = b"parent"

    def child() -> None:
        assert store["a"] == b"parent"
        store.put("b", b"child", expect=ABSENT)
        assert list(store.iterate_keys()) == ["a", "b"]
        assert store.pop("a") == b"parent"

    succeeds(forked(child))
    assert store["b"] == b"child"
    assert "a" not in store


def test_equal_settings_share_a_client(server: str, name: str) -> None:
    one, other = (BucketStore(f"s3://{name}/{n}", endpoint=server) for n in range(2))
    apart = BucketStore(f"s3://{name}", endpoint=server, timeout=7)
    clients = [each._access.clients().client for each in (one, other, apart)]
    assert clients[0] is clients[1] is not clients[2]


def test_a_secret_is_never_shown(server: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"s3://testing:top/secret+1@{name}/in?endpoint={server}"
    with Store.from_uri(uri) as store:
        store["a"] = b"x"
        shown = [repr(store), str(store), pickle.dumps(store).decode("latin-1")]
        assert not any("secret+1" in each for each in shown)
        assert repr(store) == (
            f"BucketStore('s3://{name}/in', endpoint='{server}', key='testing', secret='***')"
        )
        # The other process finds its own credentials.
        assert pickle.loads(pickle.dumps(store))["a"] == b"x"
    monkeypatch.setenv("BUCKET_SECRET", "testing")
    with BucketStore(f"s3://{name}/in", endpoint=server, key="testing", secret="env:BUCKET_SECRET") as store:
        again = pickle.loads(pickle.dumps(store))
        assert again["a"] == b"x"
        assert "env:BUCKET_SECRET" in pickle.dumps(store).decode("latin-1")


@pytest.mark.parametrize(
    ("uri", "options"),
    [
        ("bucket", {}),
        ("s3://", {}),
        ("s3:///key", {}),
        ("s3://bucket//a", {}),
        ("s3://bucket/../a", {}),
        ("s3://:secret@bucket", {}),
        ("s3://bucket", {"endpoint": "127.0.0.1:80"}),
        ("s3://bucket", {"region": 5}),
        ("s3://bucket", {"key": "a"}),
        ("s3://bucket", {"timeout": 0}),
        ("r2://bucket", {}),
    ],
)
def test_wrong_arguments(uri: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        BucketStore(uri, **options)
    assert "secret@" not in str(caught.value)


def test_a_signed_url_lets_others_in(store: BucketStore) -> None:
    store["a"] = b"x"
    with urllib.request.urlopen(store.sign("a", expires=60)) as answer:
        assert answer.read() == b"x"
    request = urllib.request.Request(
        store.sign("b", method="PUT"), b"theirs", {"Content-Type": "a/b"}, method="PUT"
    )
    urllib.request.urlopen(request).close()
    assert store["b"] == b"theirs"
    with pytest.raises(InvalidArgumentError, match="at most 604,800 seconds"):
        store.sign("a", expires=10**6)
    with pytest.raises(InvalidArgumentError, match="a method must be one of"):
        store.sign("a", method="get")


def test_a_prefix_leaves_less_room_for_keys(store: BucketStore) -> None:
    store["x" * 1021] = b""
    with pytest.raises(InvalidKeyError, match="with its prefix 'in/'"):
        store["x" * 1022] = b""


def test_a_server_that_lists_folder_by_folder(weed: str) -> None:
    with BucketStore(f"s3://{bucket(weed, Path('order'))}/in", endpoint=weed) as store:
        keys = ["a-b/c", "a.txt", "a/b", "a0", "b/c/d", "b_"]
        store.put_many(dict.fromkeys(keys, b"x"))
        assert list(store.iterate_keys()) == keys
        assert list(store.iterate_keys("a")) == keys[:4]
        tag = store.info("a0").etag
        store.put("a0", b"y", expect=tag)
        with pytest.raises(ConcurrencyError):
            store.delete("a0", expect=tag)
        assert store.pop("a0") == b"y"


def test_a_client_of_obstore_with_a_prefix(server: str, name: str) -> None:
    put(server, name, **{"m/a": b"x", "m/b//c": b"x", "m/d/": b"", "m/d/e": b"", "n": b"x"})
    client = S3Store(name, prefix="m", endpoint=server, client_options={"allow_http": True})
    with BucketStore.from_client(client) as store:
        for _ in range(2):
            assert list(store.iterate_keys()) == ["a", "d/e"]
            assert [entry.path for entry in store.left_out()] == ["b//c", "d/"]
            assert list(store.iterate_keys("d")) == ["d/e"]


def test_without_credentials_nothing_is_signed(server: str, name: str) -> None:
    with BucketStore(f"s3://{name}", endpoint=server, anonymous=True) as store:
        assert Can.SIGN not in store.can
        with pytest.raises(UnsupportedOperation, match=r"'a': .*can't sign URLs: it has no credentials"):
            store.sign("a")


@pytest.mark.parametrize("make", [BucketStore.from_client, BucketStore])
def test_a_client_that_is_passed_in(server: str, name: str, make: Callable[..., BucketStore]) -> None:
    with make(client_of(server), name, "in/") as store:
        store["a"] = b"x"
        assert store.put("a", b"y", expect=store.info("a").etag).size == 1
        with pytest.raises(UnsupportedOperation, match="by its URI"):
            pickle.dumps(store)
    assert client_of(server).get_object(Bucket=name, Key="in/a")["Body"].read() == b"y"
    with pytest.raises(InvalidArgumentError, match="leave out endpoint, secret, or give a URI"):
        BucketStore(client_of(server), name, endpoint=server, secret="abc")
    with pytest.raises(InvalidArgumentError, match="the URI names the bucket"):
        BucketStore(f"s3://{name}", "other")


@pytest.mark.parametrize("uri", ["s3://bucket", "gs://bucket", "az://bucket"])
@pytest.mark.parametrize(
    "endpoint",
    [
        "http://h:9#a",
        "http://h:9?a=1",
        "http://h/?",
        "http://",
        "http://user:word@h",
        "http://a b",
        "https://h:99999",
        "https://h/\n",
        "ftp://h",
    ],
)
def test_an_endpoint_is_the_url_of_a_server(uri: str, endpoint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"an endpoint .* must be a URL such as") as caught:
        BucketStore(uri, endpoint=endpoint, account="a", anonymous=True)
    assert "word" not in str(caught.value)


def test_an_endpoint_of_the_environment_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9#a")
    with pytest.raises(InvalidArgumentError, match=r"an endpoint .* must be a URL such as"):
        BucketStore("s3://bucket", anonymous=True)


def test_a_credential_with_the_end_of_its_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"region": "r", "key": "AKIA123", "secret": "abc"}
    for name in options:
        with pytest.raises(InvalidArgumentError, match="holds a line break") as caught:
            BucketStore("s3://bucket", endpoint="http://127.0.0.1:9", **{**options, name: "abc\n"})
        assert "abc" not in str(caught.value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA123\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abc")
    with pytest.raises(InvalidArgumentError, match="AWS_ACCESS_KEY_ID holds a line break"):
        BucketStore("s3://bucket", endpoint="http://127.0.0.1:9")


def test_a_secret_of_google_that_is_no_file_is_not_shown() -> None:
    with pytest.raises(InvalidArgumentError, match="no file has this path") as caught:
        BucketStore("gs://bucket", secret="abc-secret")
    assert "abc-secret" not in str(caught.value)


def test_a_mistyped_profile_isnt_taken_for_no_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[work]\naws_access_key_id = k\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_PROFILE", "wrok")
    with pytest.raises(InvalidArgumentError, match="AWS_PROFILE names the profile 'wrok'"):
        BucketStore("s3://bucket").get("a")
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InvalidArgumentError, match="lacks keys for it"):
        BucketStore("s3://bucket").get("a")
