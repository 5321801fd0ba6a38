"""A store in a path of a cloud, of cloudpathlib's or universal-pathlib's kinds."""

from __future__ import annotations

import contextlib
import gc
import gzip
import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from azure.storage.blob import BlobServiceClient
from cloudpathlib import AzureBlobClient, AzureBlobPath, GSClient, GSPath, S3Client, S3Path
from tests.awkward import check_awkward_keys
from tests.forks import forked, succeeds
from tests.servers.azurite import azurite
from tests.servers.buckets import name_for
from tests.servers.ceph import CREDENTIALS
from tests.servers.gcs import GcsServer, gcs
from tests.servers.moto import moto
from tests.servers.proxy import Proxy
from tests.servers.scripted import Fault, scripted
from upath import UPath

from holdall.blobs import JsonDictBlob, StrBlob
from holdall.dicts import PathBlobDict
from holdall.errors import (
    BlobExistsError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidKeyError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.store import ABSENT, Can, Store
from holdall.stores.bucket import BucketStore
from holdall.stores.path import PathStore
from holdall.testing import race

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def patch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """What the clouds share: processes that the kit forks by the hundred inherit what takes a second to
    import, and no client has a temporary folder of its own."""
    early = tmp_path_factory.mktemp("early")
    (early / "sitecustomize.py").write_text("import boto3.s3.transfer, cloudpathlib")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(early)
        patch.setenv("CLOUDPATHLIB_LOCAL_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield patch


class Box:
    """A bucket as another program sees it.

    Attributes:
        cloud: The path of the bucket, by cloudpathlib.
        universal: The same by universal-pathlib.
    """

    cloud: Any
    universal: Any

    def put(self, *names: str, data: bytes = b"old") -> None:
        raise NotImplementedError

    def names(self) -> list[str]:
        raise NotImplementedError

    def kind(self, name: str) -> str:
        """The media type of an object."""
        raise NotImplementedError


class S3Box(Box):
    def __init__(self, url: str, name: str) -> None:
        self.client = boto3.client("s3", endpoint_url=url)
        self.client.create_bucket(Bucket=name)
        self.name, self.cloud = name, S3Path(f"s3://{name}")
        self.universal = UPath(f"s3://{name}", endpoint_url=url)

    def put(self, *names: str, data: bytes = b"old") -> None:
        for name in names:
            self.client.put_object(Bucket=self.name, Key=name, Body=data)

    def names(self) -> list[str]:
        return [each["Key"] for each in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def kind(self, name: str) -> str:
        found = self.client.head_object(Bucket=self.name, Key=name)
        assert "ContentEncoding" not in found
        return found["ContentType"]


class AzureBox(Box):
    def __init__(self, connection: str, name: str) -> None:
        self.client = BlobServiceClient.from_connection_string(connection).create_container(name)
        self.cloud = AzureBlobPath(f"az://{name}")
        self.universal = UPath(f"abfs://{name}", connection_string=connection)

    def put(self, *names: str, data: bytes = b"old") -> None:
        for name in names:
            self.client.upload_blob(name, data)

    def names(self) -> list[str]:
        return [each.name for each in self.client.list_blobs()]

    def kind(self, name: str) -> str:
        return self.client.get_blob_client(name).get_blob_properties().content_settings.content_type


class GoogleBox(Box):
    def __init__(self, server: GcsServer, name: str) -> None:
        server.buckets[name] = {}
        self.server, self.name, self.cloud = server, name, GSPath(f"gs://{name}")
        self.universal = UPath(f"gs://{name}", endpoint_url=server.url, token="anon")

    def put(self, *names: str, data: bytes = b"old") -> None:
        for name in names:
            self.server.keep(self.name, name, data, {}, None)

    def names(self) -> list[str]:
        return sorted(self.server.buckets[self.name])

    def kind(self, name: str) -> str:
        return self.server.buckets[self.name][name].headers["content-type"]


# The default clients of cloudpathlib use these servers, here and in the processes that tests start.


@pytest.fixture(scope="module")
def s3(patch: pytest.MonkeyPatch) -> Iterator[str]:
    with moto() as url:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": url}.items():
            patch.setenv(name, value)
        patch.setattr(S3Client, "_default_client", None)
        yield url


@pytest.fixture(scope="module")
def azure(patch: pytest.MonkeyPatch) -> Iterator[str]:
    with azurite() as connection:
        patch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
        patch.setattr(AzureBlobClient, "_default_client", None)
        yield connection


@pytest.fixture(scope="module")
def google(patch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    with gcs() as server:
        patch.setenv("NO_GCE_CHECK", "true")
        patch.setenv("STORAGE_EMULATOR_HOST", server.url)
        patch.setattr(GSClient, "_default_client", None)
        yield server


def box_of(cloud: str, request: pytest.FixtureRequest, place: Path) -> Box:
    make: Any = {"s3": S3Box, "azure": AzureBox, "google": GoogleBox}[cloud]
    return make(request.getfixturevalue(cloud), name_for(place))


@pytest.fixture(params=["s3", "azure", "google"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Box:
    """A bucket that is empty."""
    return box_of(request.param, request, tmp_path)


@pytest.fixture(params=["cloud", "universal"])
def folder(request: pytest.FixtureRequest, box: Box) -> Any:
    """A folder of it, as a path of either library."""
    return getattr(box, request.param) / "in"


@pytest.fixture(params=[("s3", "universal"), ("azure", "cloud"), ("google", "universal")], ids="-".join)
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A folder in each cloud, as a path of one library, for what no library has a part in."""
    cloud, library = request.param
    return getattr(box_of(cloud, request, tmp_path), library) / "in"


@pytest.fixture
def s3_box(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return box_of("s3", request, tmp_path)


@pytest.fixture
def azure_box(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return box_of("azure", request, tmp_path)


def test_what_a_store_does(folder: Any) -> None:
    with PathStore(folder) as store:
        assert isinstance(store, BucketStore)
        assert Can.CREATE | Can.SWAP | Can.CONDITIONAL_DELETE | Can.BULK | Can.RANGE in store.can
        assert list(store) == []
        info = store.put("a/b.txt", b"0123456789")
        store.update({"a.txt": b"", "a/c/d": b"x" * 70_000, "z": b"last"})
        assert info == store.info("a/b.txt") == next(store.list("a/b"))
        assert list(store) == ["a.txt", "a/b.txt", "a/c/d", "z"]
        assert list(store.list()) == [store.info(key) for key in store]
        assert list(store.iterate_keys("a/")) == ["a/b.txt", "a/c/d"]
        children = [each if isinstance(each, str) else each.key for each in store.children()]
        assert children == ["a.txt", "a/", "z"]
        assert (store["a/b.txt"], store["a.txt"]) == (b"0123456789", b"")
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


def test_creates_and_swaps(either: Any) -> None:
    large = b"x" * (6 * MIB)
    with PathStore(either) as store, PathStore(either) as other:
        for data in (b"one", large):
            first = store.put("a", data, expect=ABSENT)
            with pytest.raises(BlobExistsError):
                other.put("a", b"no", expect=ABSENT)
            second = other.put("a", b"two" + data, expect=first.etag)
            with pytest.raises(ConcurrencyError):
                store.put("a", data, expect=first.etag)
            with pytest.raises(ConcurrencyError):
                store.delete("a", expect=first.etag)
            assert store["a"] == b"two" + data
            store.delete("a", expect=second.etag)
            assert "a" not in other
        store["n"] = b"0"
        add = partial(store.modify, "n", lambda data: b"%d" % (int(data) + 1))
        race(*(partial(lambda: [add() for _ in range(4)]) for _ in range(4)))
        assert other.pop("n") == b"16"
        assert other.setdefault("n", b"new") == store.setdefault("n", b"newer") == b"new"


def test_every_awkward_key_comes_back(folder: Any) -> None:
    with PathStore(folder) as store:
        if hasattr(folder, "cloud_prefix"):
            check_awkward_keys(store, "in", ["az://", "gs://", "s3://"].index(folder.cloud_prefix))
        odd = ["a?b", "in/?/x", "in/#/x", "x?versionId=1", "x#1"]
        store.clear()
        for key in odd:
            store[key] = key.encode()
        assert {key: data.decode() for key, data in store.items()} == dict(zip(odd, odd, strict=True))


def test_many_of_which_some_are_large(either: Any) -> None:
    blobs = {str(number): bytes([number]) * (MIB * (number % 3)) for number in range(12)}
    with PathStore(either) as store:
        assert [info.size for info in store.put_many(blobs).values()] == list(map(len, blobs.values()))
        assert store.get_many([*blobs, "absent"]) == blobs
        assert store.delete_many([*blobs, "absent"]) == 12


def test_a_large_blob_streams(either: Any) -> None:
    pieces = [bytes([number]) * MIB for number in range(12)]
    with PathStore(either) as store:
        info = store.put("big", iter(pieces))
        assert (info.size, info) == (12 * MIB, store.info("big"))
        assert [chunk == piece for chunk, piece in zip(store.chunks("big"), pieces, strict=True)] == [
            True
        ] * 12
        assert store.get_range("big", 5 * MIB - 1, 5 * MIB + 1) == b"\4\5"


def test_a_body_that_fails_leaves_the_old_blob(either: Any) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(12):
            yield b"x" * MIB
        raise KeyboardInterrupt

    with PathStore(either) as store:
        store["a"] = b"old"
        for key in ("a", "b"):
            with pytest.raises(KeyboardInterrupt):
                store.put(key, body())
        assert dict(store) == {"a": b"old"}


def test_what_others_put_there(box: Box, folder: Any) -> None:
    box.put("in", "in/", "in/a", "in/b//c", "in/d/", "in.txt", "other/a")
    with PathStore(folder) as store:
        assert list(store) == ["a"]
        store["é/ü"] = b"new"
        assert "in/é/ü" in box.names()
        store.clear()
        assert box.names() == ["in", "in.txt", "in/", "in/b//c", "in/d/", "other/a"]
        store["x" * 1021] = b""
        with pytest.raises(InvalidKeyError, match="with its prefix 'in/'"):
            store["x" * 1022] = b""


def test_folders_that_others_marked_are_not_blobs(box: Box, folder: Any) -> None:
    box.put("in/", "in/a", "in/d/", "in/d/e", "in/f/", data=b"")
    with PathStore(folder) as store:
        assert list(store) == ["a", "d/e"]
        assert [entry.path for entry in store.left_out()] == ["", "d/", "f/"]
        assert list(store.iterate_keys("d")) == ["d/e"]


def test_a_folder_goes_with_all_that_is_in_it(box: Box, folder: Any) -> None:
    beside = ["in", "in.txt", "inner/a"]
    box.put(*beside, "in/", "in/b//c")
    with PathBlobDict(folder) as d:
        # More than S3 deletes at a time.
        many = 1010 if isinstance(folder, S3Path) else 30
        d.store.put_many({str(number): b"" for number in range(many)})
        d.delete()
        assert box.names() == beside
        d.delete()
    nowhere = type(folder)(str(folder).replace(str(folder).split("/")[2], "no-such-bucket-here"))
    if hasattr(folder, "cloud_prefix"):
        with pytest.raises(StoreUnavailableError, match="doesn't exist"):
            PathBlobDict(nowhere).delete()


def test_a_blob_with_the_name_of_the_folder_is_not_in_it(either: Any) -> None:
    with PathStore(either) as store, PathStore(either.parent) as above:
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


def test_two_versions_are_never_mixed(either: Any) -> None:
    """The old one comes back, so that on S3 its ETag says nothing."""
    versions = [bytes([number]) * (9 * MIB + 5) for number in range(2)]

    def write(handle: Store) -> None:
        for turn in range(4):
            handle["key"] = versions[turn % 2]

    def read(handle: Store) -> None:
        for _ in range(6):
            assert handle["key"] in versions

    with PathStore(either) as store, PathStore(either) as other:
        store["key"] = versions[0]
        race(partial(write, other), partial(read, store), partial(read, other))


def test_a_media_type_by_the_name(box: Box, folder: Any) -> None:
    with PathStore(folder) as store:
        store.put_many({"a.png": b"", "b.txt.gz": b"", "c": b"", "data:x/é,": b""})
        assert store.put("e.png", b"", content_type="text/x-mine").content_type == "text/x-mine"
        store["f.png"] = bytes(5 * MIB)
        store.copy("a.png", "d")
        assert [store.info(key).content_type for key in "cd"] == [None, "image/png"]
    kinds = [box.kind(f"in/{key}") for key in ("a.png", "d", "e.png", "f.png")]
    assert kinds == ["image/png", "image/png", "text/x-mine", "image/png"]
    assert box.kind("in/b.txt.gz").endswith("/octet-stream")


def test_no_bucket() -> None:
    for path in (S3Path("s3://"), GSPath("gs://"), UPath("s3://")):
        with pytest.raises(InvalidArgumentError, match="doesn't name a bucket"):
            PathStore(path)


def test_a_bucket_that_is_not_there(folder: Any) -> None:
    name = str(folder).split("/")[2]
    options = {} if hasattr(folder, "cloud_prefix") else folder.storage_options
    nowhere = type(folder)(str(folder).replace(name, "no-such-bucket-here"), **options)
    with PathStore(nowhere) as store:
        calls: list[Callable[[], object]] = [
            *(
                lambda: store["a"],
                lambda: store.put("a", b""),
                lambda: list(store),
                lambda: store.delete("a"),
            ),
            *(lambda: store.put_many({"a": b"", "b": b""}), lambda: store.get_many(["a", "b"])),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError, match=r"'no-such-bucket-here' .*doesn't exist"):
                call()


def test_a_forked_child_has_connections_of_its_own(folder: Any) -> None:
    with PathStore(folder) as store:
        store["a"] = b"parent"

        def work() -> None:
            with PathStore(folder) as opened:
                for number in range(10):
                    opened[f"child/{number}"] = store["a"]

        child = forked(work)
        for number in range(10):
            store[f"parent/{number}"] = store["a"]
        succeeds(child)
        assert len(store) == 21


def test_many_leave_no_file_open(either: Any) -> None:
    def opened() -> Counter[str]:
        found: list[str] = []
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(str(each.readlink()))
        # The client keeps its connections.
        return Counter(name for name in found if not name.startswith("socket:"))

    with PathStore(either) as store:
        blobs = {str(number): b"%d" % number for number in range(20)}
        store.put_many(blobs)
        before = opened()
        for _ in range(3):
            store.put_many(blobs)
            assert store.get_many(blobs) == blobs
        store.delete_many(blobs)
        gc.collect()
        assert not opened() - before  # what earlier tests left open may be closed meanwhile


def test_a_blob_dict_in_the_cloud(box: Box, folder: Any) -> None:
    box.put("beside")
    with PathBlobDict(folder, ttl=3600) as d:
        d.update({"a.txt": StrBlob("one"), "b/c.json": JsonDictBlob({"x": 1})})
        assert d["a.txt"].as_bytes() == b"one"
        assert type(d["b/c.json"]) is JsonDictBlob
        assert list(d.search("**/*.json")) == ["b/c.json"]
        d.delete()
        assert not d
        d.delete()
    with PathBlobDict(folder.parent) as whole:
        assert list(whole) == ["beside"]
        with pytest.raises(InvalidArgumentError, match="whole file system"):
            whole.delete()


def test_a_path_travels_with_the_default_client(box: Box) -> None:
    with PathStore(box.cloud / "in") as store:
        store["a"] = b"1"
        with pickle.loads(pickle.dumps(store)) as again:
            assert again["a"] == b"1"
        assert repr(again) == repr(store) == f"PathStore({box.cloud / 'in'!r})"
    own = type(box.cloud.client)
    arguments = {"storage_client": box.cloud.client.client} if own is GSClient else {}
    path = own(**arguments).CloudPath(str(box.cloud))
    with PathStore(path) as store:
        assert store["in/a"] == b"1"
        with pytest.raises(UnsupportedOperation, match="set_as_default_client"):
            pickle.dumps(store)
    # A closed store leaves the client as it was.
    with PathStore(path) as store:
        assert store["in/a"] == b"1"


def test_a_universal_path_travels_without_secrets(s3: str, s3_box: S3Box) -> None:
    with PathStore(s3_box.universal / "in") as store:
        store["a"] = b"1"
        assert pickle.loads(pickle.dumps(store))["a"] == b"1"
    with PathStore(
        UPath(f"s3://{s3_box.name}/in", endpoint_url=s3, key="testing", secret="hunter2")
    ) as store:
        assert store["a"] == b"1"
        assert "hunter2" not in repr(store)
        with pytest.raises(UnsupportedOperation, match="key, secret may hold a secret"):
            pickle.dumps(store)


def test_a_read_is_one_request(s3: str, s3_box: S3Box) -> None:
    with scripted(int(s3.rpartition(":")[2])) as proxy:
        client = S3Client(endpoint_url=proxy.url)
        with PathStore(client.S3Path(f"s3://{s3_box.name}/in")) as store:
            assert Can.RANGE in store.can
            store["a"] = b"0123456789"
            reads: list[tuple[Callable[[], object], object]] = [
                (lambda: store["a"], b"0123456789"),
                (lambda: store.get_range("a", 2, 5), b"234"),
                (lambda: store.get_range("a", 7), b"789"),
                (lambda: store.get_range("a", 0, 10**30), b"0123456789"),
                (lambda: store.get("absent"), None),
            ]
            for read, expected in reads:
                proxy.requests.clear()
                assert read() == expected
                assert [method for method, _ in proxy.requests] == ["GET"]
            infos = [store._read("a", *part)[0] for part in ((0, None), (2, 5), (-3, None), (7, None))]
            assert infos == [store.info("a")] * 4
            for part in ((-11, None), (-11, 5), (-(10**30), 5)):
                assert store.get_range("a", *part) == b"0123456789"[slice(*part)]
            assert store.get_range("a", 10, 12) == store.get_range("a", 10**30) == b""


def test_a_large_blob_is_uploaded_in_parts_that_a_failure_takes_away(s3_box: S3Box) -> None:
    def body() -> Iterator[bytes]:
        yield from [b"x" * MIB] * 20
        raise OSError("the disk of the body")

    with PathStore(s3_box.cloud) as store:
        assert store.put("a", iter([b"x" * MIB] * 20)).etag.endswith("-3")
        with pytest.raises(OSError, match="the disk of the body"):
            store.put("a", body())
        assert store.info("a").size == 20 * MIB
    assert "Uploads" not in s3_box.client.list_multipart_uploads(Bucket=s3_box.name)


def test_no_local_copy_is_kept_or_read(
    s3_box: S3Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = S3Client(local_cache_dir=tmp_path / "cache").S3Path(f"s3://{s3_box.name}/in")
    with PathStore(path) as store:
        store["a"] = b"1"
        (path / "a").write_bytes(b"2")
        assert store["a"] == b"2"
        store["a"] = b"3"
        (s3_box.cloud / "in/a").write_bytes(b"4")
        assert store["a"] == b"4"
        store.put("big", iter([b"x" * MIB] * 9))
        assert sum(map(len, store.chunks("big"))) == 9 * MIB
        (path / "a").clear_cache()
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


@pytest.mark.parametrize("cuts", [1, 3])
def test_a_read_that_breaks_off_goes_on_with_the_same_version(s3: str, s3_box: S3Box, cuts: int) -> None:
    data = os.urandom(MIB) * 9
    with contextlib.closing(Proxy(int(s3.rpartition(":")[2]))) as proxy:
        client = S3Client(endpoint_url=f"http://127.0.0.1:{proxy.port}")
        with PathStore(client.S3Path(f"s3://{s3_box.name}")) as store, PathStore(s3_box.cloud) as other:
            other["a"] = data
            left, seen = [cuts], [0]

            def cut(way: str, passed: bytes) -> bool:
                seen[0] += len(passed)
                if way == "reply" and left[0] and seen[0] > 2 * MIB:
                    left[0], seen[0] = left[0] - 1, 0
                    return True
                return False

            proxy.cut = cut
            assert store["a"] == data
            assert left == [0]
            left[0], seen[0] = 1, 0
            assert store.get_range("a", 5, -5) == data[5:-5]
            # Another version is never the rest of this one.
            left[0], seen[0] = 1, 0
            chunks = store.chunks("a")
            assert next(chunks) == data[:MIB]
            other["a"] = data[::-1]
            with pytest.raises((ConcurrencyError, StoreUnavailableError)):
                list(chunks)


def test_what_lies_there_with_an_encoding_is_read_as_it_lies(s3_box: S3Box) -> None:
    packed = gzip.compress(b"text" * 1000)
    s3_box.client.put_object(Bucket=s3_box.name, Key="a", Body=packed, ContentEncoding="gzip")
    with PathStore(s3_box.cloud) as store:
        assert store["a"] == packed
        assert store.info("a").size == len(packed)
        assert store.get_range("a", 0, 2) == packed[:2]


def test_what_goes_with_each_request(s3: str, s3_box: S3Box) -> None:
    with scripted(int(s3.rpartition(":")[2])) as proxy:
        seen: list[dict[str, str]] = []

        def script(method: str, path: str, headers: dict[str, str]) -> Fault | None:
            seen.append({name.lower(): value for name, value in headers.items()})
            return None

        proxy.script = script
        extra = {"ServerSideEncryption": "AES256", "RequestPayer": "requester"}
        paths = [
            S3Client(endpoint_url=proxy.url, extra_args=extra).S3Path(f"s3://{s3_box.name}"),
            UPath(f"s3://{s3_box.name}", endpoint_url=proxy.url, s3_additional_kwargs=extra),
        ]
        for path in paths:
            seen.clear()
            with PathStore(path) as store:
                store["a"] = b"1"
            assert seen[-1]["x-amz-server-side-encryption"] == "AES256"
            assert seen[-1]["x-amz-request-payer"] == "requester"
    with pytest.raises(UnsupportedOperation, match="ACL of the client can't be taken over"):
        PathStore(S3Client(extra_args={"ACL": "public-read"}).S3Path(f"s3://{s3_box.name}"))


def test_azure_names_that_others_gave(azure_box: AzureBox) -> None:
    for name in ("in/plain.txt", "in/a\uff0eb", "in/c\uff0e", "in/d\uff3ce", "in/f\u201bef"):
        azure_box.put(name, data=name.encode())
    with PathStore(azure_box.cloud / "in") as store:
        # A spelling that nobody here would have chosen isn't a blob; it would be another's.
        assert list(store) == ["c.", "d\\e", "f\ufffef", "plain.txt"]
        assert store["c."] == "in/c\uff0e".encode()
        assert [entry.path for entry in store.left_out()] == ["a\uff0eb"]
        store["n.tar.gz"] = b"no archive"
        assert store["n.tar.gz"] == b"no archive"


def test_a_delete_whose_answer_is_lost_is_not_told_as_done_by_nobody(azure: str, azure_box: AzureBox) -> None:
    port = int(azure.rpartition(":")[2].partition("/")[0])
    with contextlib.closing(Proxy(port)) as proxy:
        client = AzureBlobClient(connection_string=azure.replace(f":{port}/", f":{proxy.port}/"))
        with PathStore(client.CloudPath(str(azure_box.cloud))) as store:
            assert Can.DELETE in store.can
            store["a"] = b"1"
            left = [1]

            def cut(way: str, data: bytes) -> bool:
                if way == "reply" and left[0]:
                    left[0] = 0
                    return True
                return False

            proxy.cut = cut
            with pytest.raises(StoreUnavailableError, match="delete"):
                store.delete("a")
            assert left == [0]
            assert "a" not in store


def test_what_azure_refuses_for_good_is_not_tried_for_ever(azure_box: AzureBox) -> None:
    with PathStore(azure_box.cloud) as store:
        store["a"] = b"old"
        blob = azure_box.client.get_blob_client("a")
        lease = blob.acquire_lease()
        calls: list[Callable[[], object]] = [
            lambda: store.put("a", b"new"),
            lambda: store.put("a", b"new", expect=store.info("a").etag),
            lambda: store.put("a", iter([b"x" * MIB] * 9)),
            lambda: store.delete("a"),
            lambda: store.delete("a", expect=store.info("a").etag),
            lambda: store.put_many({"a": b"new", "b": b""}),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError, match=r"'a': .*[Ll]ease"):
                call()
        lease.release()
        assert store["a"] == b"old"
        blob.set_standard_blob_tier("Archive")
        for call in (lambda: store["a"], lambda: store.get_range("a", -1)):
            with pytest.raises(StoreUnavailableError, match="archived"):
                call()
