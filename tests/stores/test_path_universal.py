"""A store in a `UPath` of an object storage, over real servers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from azure.storage.blob import BlobServiceClient
from tests.servers.azurite import azurite
from tests.servers.ceph import CREDENTIALS, ceph
from tests.servers.google import environment, google, make_bucket
from upath import UPath

from holdall.dicts import PathBlobDict
from holdall.errors import InvalidKeyError, StoreUnavailableError
from holdall.store import Can
from holdall.stores.path import PathStore
from holdall.testing import GOOD_KEYS, race

# What adlfs and gcsfs do, which is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

MIB = 1 << 20


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def s3(patch: pytest.MonkeyPatch) -> Iterator[Callable[[str], UPath]]:
    with ceph() as url:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)

        def make(name: str) -> UPath:
            boto3.client("s3", endpoint_url=url).create_bucket(Bucket=name)
            return UPath(f"s3://{name}/in", endpoint_url=url)

        yield make


@pytest.fixture(scope="module")
def abfs() -> Iterator[Callable[[str], UPath]]:
    with azurite() as connection, closing(BlobServiceClient.from_connection_string(connection)) as service:

        def make(name: str) -> UPath:
            service.create_container(name)
            return UPath(f"abfs://{name}/in", connection_string=connection)

        yield make


@pytest.fixture(scope="module")
def gs(patch: pytest.MonkeyPatch) -> Iterator[Callable[[str], UPath]]:
    with google() as url:
        # gcsfs would ask Google's own servers what kind of bucket each is.
        for name, value in {**environment(url), "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}.items():
            patch.setenv(name, value)

        def make(name: str) -> UPath:
            make_bucket(url, name)
            return UPath(f"gs://{name}/in", endpoint_url=url, token="anon")

        yield make


@pytest.fixture(params=["s3", "abfs", "gs"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    """A folder in a bucket that is empty."""
    make: Callable[[str], UPath] = request.getfixturevalue(request.param)
    return make(hashlib.sha256(str(tmp_path).encode()).hexdigest()[:32])


@pytest.fixture
def store(folder: UPath) -> Iterator[PathStore]:
    with PathStore(folder) as store:
        yield store


def test_what_a_store_does(store: PathStore) -> None:
    assert store.can == Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE | Can.BULK
    assert list(store) == []
    info = store.put("a/b.txt", b"0123456789")
    store.update({"a.txt": b"", "a/c/d": b"x" * 70_000, "z": b"last"})
    assert info == store.info("a/b.txt") == next(store.list("a/b"))
    assert list(store) == ["a.txt", "a/b.txt", "a/c/d", "z"]
    assert list(store.list()) == [store.info(key) for key in store]
    assert list(store.iterate_keys("a/")) == ["a/b.txt", "a/c/d"]
    assert [each if isinstance(each, str) else each.key for each in store.children()] == ["a.txt", "a/", "z"]
    assert store["a/b.txt"] == b"0123456789"
    assert store["a.txt"] == b""
    assert store.get_range("a/b.txt", 2, -2) == b"234567"
    assert store.get_range("a/b.txt", -3) == b"789"
    assert store.get_range("a.txt", 0, 5) == store.get_range("a/b.txt", 50) == b""
    assert store.put("a/b.txt", b"other").etag != info.etag
    assert store["a/b.txt"] == b"other"
    assert store.copy("z", "y").size == 4
    assert store.move("y", "x").key == "x"
    assert (store.delete("z"), store.delete("z"), store.get("z")) == (True, False, None)
    assert "a" not in store
    store.clear()
    assert not store


def test_a_folder_goes_with_all_that_is_in_it(folder: UPath, store: PathStore) -> None:
    with PathStore(folder.parent) as top:
        beside = ["in", "in.txt", "inner/a"]
        top.put_many(dict.fromkeys([*beside, "in/a", *(f"in/b/{number}" for number in range(30))], b""))
        # What fsspec has listed before says nothing of what is there now.
        list(folder.parent.iterdir())
        store["late"] = b""
        assert len(store) == 32
        d = PathBlobDict(folder)
        d.delete()
        assert list(top) == beside
        d.delete()
        assert list(top) == beside


def test_many_at_once(store: PathStore) -> None:
    blobs = {str(number): bytes([number]) * (MIB * (number % 3)) for number in range(12)}
    assert [info.size for info in store.put_many(blobs).values()] == list(map(len, blobs.values()))
    assert store.get_many([*blobs, "absent"]) == blobs
    assert store.delete_many([*blobs, "absent"]) == 12


def test_a_large_blob_streams(store: PathStore) -> None:
    pieces = [bytes([number]) * MIB for number in range(12)]
    info = store.put("big", iter(pieces))
    assert (info.size, info) == (12 * MIB, store.info("big"))
    assert [chunk == piece for chunk, piece in zip(store.chunks("big"), pieces, strict=True)] == [True] * 12
    assert store.get_range("big", 5 * MIB - 1, 5 * MIB + 1) == b"\4\5"


def test_a_body_that_fails_leaves_the_old_blob(store: PathStore) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(6):
            yield b"x" * MIB
        raise KeyboardInterrupt

    store["a"] = b"old"
    for key in ("a", "b"):
        with pytest.raises(KeyboardInterrupt):
            store.put(key, body())
    assert dict(store) == {"a": b"old"}


def test_awkward_keys_come_back_or_are_refused(folder: UPath, store: PathStore) -> None:
    taken: list[str] = []
    # adlfs takes parts of some for a query, and Azure folds some.
    keys = [*GOOD_KEYS[::16], "a?b", "in/?/x", "in/#/x", "x?versionId=1", "x?versionid=1", "x#1"]
    for key in keys:
        try:
            store[key] = key.encode()
            taken.append(key)
        except InvalidKeyError:
            assert folder.protocol == "abfs" or "?version" in key or len(key.encode()) > 1021
    assert {key: store.get(key) for key in taken} == {key: key.encode() for key in taken}
    assert list(store) == sorted(taken)
    assert len(taken) > len(keys) / 2


def test_a_blob_with_the_name_of_the_folder_is_not_in_it(folder: UPath, store: PathStore) -> None:
    with PathStore(folder.parent) as above:
        above["in"] = b"beside"
        above["inner/a"] = b"elsewhere"
        assert list(store) == []
        store["a"] = b"1"
        assert list(store) == ["a"]
        assert list(above) == ["in", "in/a", "inner/a"]
        assert list(above.iterate_keys("in/")) == ["in/a"]
    store["a/b/c"] = b"2"
    store["a/b"] = b"3"
    assert list(store) == ["a", "a/b", "a/b/c"]
    store.delete("a/b")
    assert dict(store) == {"a": b"1", "a/b/c": b"2"}


def test_a_key_may_be_as_long_as_a_name(store: PathStore) -> None:
    store["x" * 1021] = b"1"
    assert list(store) == ["x" * 1021]
    with pytest.raises(InvalidKeyError, match="with its folder 'in/'"):
        store["x" * 1022] = b""


def test_two_versions_are_never_mixed(folder: UPath, store: PathStore) -> None:
    """The old one comes back, so that on S3 its ETag tells nothing."""
    versions = [bytes([number]) * (2 * MIB + 5) for number in range(2)]
    store["key"] = versions[0]

    def write(handle: PathStore) -> None:
        for turn in range(6):
            handle["key"] = versions[turn % 2]

    def read(handle: PathStore) -> None:
        for _ in range(6):
            assert handle["key"] in versions

    with PathStore(folder) as other:
        race(partial(write, other), partial(read, store), partial(read, other))


def test_a_version_that_returns_while_it_is_replaced(
    folder: UPath, store: PathStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [bytes([number]) * (3 * MIB) for number in range(2)]
    store["key"] = versions[0]
    with PathStore(folder) as other:
        inner: Any = store
        call, reads = inner._call, list[str]()

        def meeting(what: str, function: Callable[[], Any]) -> Any:
            result = call(what, function)
            if what == "read" and isinstance(result, bytes):
                reads.append(what)
                # The second of the parts is of another version, and the third of one that is as the first.
                if len(reads) < 3:
                    other["key"] = versions[len(reads) % 2]
            return result

        monkeypatch.setattr(inner, "_call", meeting)
        assert store["key"] == versions[0]
        assert len(reads) > 3


def test_a_bucket_that_is_not_there(folder: UPath) -> None:
    with PathStore(UPath(f"{folder.protocol}://no-such-bucket", **folder.storage_options)) as store:
        with pytest.raises(StoreUnavailableError):
            store["a"] = b""
        assert store.get("a") is None
