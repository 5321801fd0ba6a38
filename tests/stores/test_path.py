"""What is special to a store in the folder of a pathlib-like object."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import pickle
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import boto3
import pytest
from azure.core.exceptions import ResourceExistsError
from cloudpathlib import AzureBlobClient, AzureBlobPath, CloudPath, S3Client, S3Path
from tests.awkward import check_awkward_keys
from tests.forks import forked, succeeds
from tests.servers.azurite import azurite
from tests.servers.ceph import CREDENTIALS, ceph
from tests.servers.proxy import Proxy
from upath import UPath

from holdall.blobs import JsonDictBlob, StrBlob
from holdall.dicts import LocalPath, PathBlobDict
from holdall.errors import (
    InvalidArgumentError,
    InvalidKeyError,
    ReadOnlyError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.store import Store
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.memory import MemoryStore
from holdall.stores.path import PathStore
from holdall.testing import StoreSuite

MIB = 1 << 20


@pytest.fixture(scope="module")
def patch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """What the clouds share: processes that the kit forks by the hundred inherit what takes a second to
    import, and no client has a temporary folder of its own."""
    early = tmp_path_factory.mktemp("early")
    (early / "sitecustomize.py").write_text("import boto3.s3.transfer, cloudpathlib")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(early)
        patch.setenv("CLOUDPATHLIB_LOCAL_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield patch


@pytest.fixture(scope="module")
def s3(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that the default client of cloudpathlib uses, here and in the processes that tests start."""
    with ceph() as url:
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


@cache
def container(place: Path) -> str:
    """A container for each folder."""
    name = hashlib.sha256(str(place).encode()).hexdigest()[:32]
    with contextlib.suppress(ResourceExistsError):
        AzureBlobClient.get_default_client().service_client.create_container(name)
    return name


@cache
def bucket(place: Path) -> str:
    """A bucket for each folder."""
    name = hashlib.sha256(str(place).encode()).hexdigest()[:32]
    S3Client.get_default_client().client.create_bucket(Bucket=name)
    return name


class TestMemory(StoreSuite):
    reduced = True
    respells = True
    interruptible = False  # the clouds' libraries swallow interrupts
    persistent = False

    def make(self, place: Path) -> Store:
        return PathStore(UPath(f"memory://{place}"))


class TestS3(StoreSuite):
    reduced = True
    interruptible = False  # the clouds' libraries swallow interrupts

    @pytest.fixture(autouse=True)
    def _server(self, s3: object) -> None:
        """There is one."""

    def make(self, place: Path) -> Store:
        return PathStore(S3Path(f"s3://{bucket(place)}"))


class TestAzure(StoreSuite):
    reduced = True
    interruptible = False  # the clouds' libraries swallow interrupts

    @pytest.fixture(autouse=True)
    def _server(self, azure: object) -> None:
        """There is one."""

    def make(self, place: Path) -> Store:
        return PathStore(AzureBlobPath(f"az://{container(place)}"))


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of all requests that this process makes."""
    made: list[str] = []
    ask = HTTPConnection.putrequest

    def told(connection: HTTPConnection, method: str, *arguments: Any, **options: Any) -> None:
        made.append(method)
        ask(connection, method, *arguments, **options)

    monkeypatch.setattr(HTTPConnection, "putrequest", told)
    return made


# --- both clouds ---


@pytest.fixture(params=["s3", "azure"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> CloudPath:
    """A folder of a bucket that is empty."""
    request.getfixturevalue(request.param)
    if request.param == "s3":
        return S3Path(f"s3://{bucket(tmp_path)}/in")
    return AzureBlobPath(f"az://{container(tmp_path)}/in")


def test_a_small_read_is_one_request(folder: CloudPath, requests: list[str]) -> None:
    with PathStore(folder) as store:
        store["a"] = b"0123456789"
        reads: list[tuple[Callable[[], object], object]] = [
            (lambda: store["a"], b"0123456789"),
            (lambda: store.get_range("a", 2, 5), b"234"),
            (lambda: store.get_range("a", 7), b"789"),
            (lambda: store.get_range("a", 0, 10**30), b"0123456789"),
            (lambda: store.get("absent"), None),
        ]
        for read, expected in reads:
            requests.clear()
            assert read() == expected
            assert requests == ["GET"]
        infos = [store._read("a", *part)[0] for part in ((0, None), (2, 5), (-3, None), (7, None))]
        assert infos == [store.info("a")] * 4
        for part in ((-11, None), (-11, 5), (-(10**30), 5)):
            assert store.get_range("a", *part) == b"0123456789"[slice(*part)]
        assert store.get_range("a", 10, 12) == store.get_range("a", 10**30) == b""


def test_many_at_once(folder: CloudPath, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ten are under way at once: each waits for nine others.
    together = threading.Barrier(10, timeout=60)
    with PathStore(folder) as store:
        for meeting in ("_write", "_read", "_delete"):
            act = getattr(store, meeting)

            def met(*arguments: Any, act: Any = act) -> Any:
                together.wait()
                return act(*arguments)

            monkeypatch.setattr(store, meeting, met)
        blobs = {str(number): b"%d" % number for number in range(20)}
        assert list(store.put_many(blobs)) == list(blobs)
        assert store.get_many(blobs) == blobs
        assert store.delete_many(blobs) == 20


def test_every_awkward_key_comes_back(folder: CloudPath) -> None:
    with PathStore(folder) as store:
        check_awkward_keys(store, "in")


def test_many_leave_no_file_open(folder: CloudPath) -> None:
    def opened() -> list[str]:
        found: list[str] = []
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(str(each.readlink()))
        # The client keeps its connections.
        return sorted(name for name in found if not name.startswith("socket:"))

    with PathStore(folder) as store:
        blobs = {str(number): b"%d" % number for number in range(20)}
        store.put_many(blobs)
        before = opened()
        for _ in range(3):
            store.put_many(blobs)
            assert store.get_many(blobs) == blobs
        store.delete_many(blobs)
        gc.collect()
        assert opened() == before


def test_many_of_which_some_are_large(folder: CloudPath) -> None:
    blobs = {str(number): bytes([number]) * (MIB * (number % 3)) for number in range(12)}
    with PathStore(folder) as store:
        assert [info.size for info in store.put_many(blobs).values()] == list(map(len, blobs.values()))
        assert store.get_many([*blobs, "absent"]) == blobs


def test_many_into_a_bucket_that_is_not_there(folder: CloudPath) -> None:
    nowhere = type(folder)(f"{folder.cloud_prefix}no-such-bucket-here")
    with PathStore(nowhere) as store:
        for call in (
            lambda: store.put_many({"a": b"", "b": b""}),
            lambda: store.get_many(["a", "b"]),
        ):
            with pytest.raises(StoreUnavailableError, match="doesn't exist") as caught:
                call()
            assert caught.value.key == "a"
            assert "'b'" in str(caught.value)


def test_a_folder_goes_with_all_that_is_in_it(folder: CloudPath) -> None:
    # More than S3 lists at a time; Azure lists five thousand.
    many = 1010 if isinstance(folder, S3Path) else 30
    with PathStore(folder.parent) as top:
        beside = ["in", "in.txt", "inner/a"]
        top.put_many(dict.fromkeys([*beside, "in/a", *(f"in/b/{number}" for number in range(many))], b""))
        d = PathBlobDict(folder)
        assert len(d) == many + 1
        d.delete()
        assert list(top) == beside
        d.delete()
    with pytest.raises(StoreUnavailableError, match="doesn't exist"):
        PathBlobDict(type(folder)(f"{folder.cloud_prefix}no-such-bucket-here/in")).delete()


# --- which store it is ---


@pytest.mark.parametrize("kind", [str, Path, LocalPath, UPath, lambda path: UPath(f"file://{path}")])
def test_a_local_folder_is_a_filesystem_store(tmp_path: Path, kind: Callable[[Path], Any]) -> None:
    with PathStore(kind(tmp_path)) as store:
        assert type(store) is FilesystemStore
        store["a/b"] = b"1"
        assert (tmp_path / "a" / "b").read_bytes() == b"1"


@pytest.mark.parametrize("wrong", [None, 5, b"x", "s3://bucket/folder", MemoryStore()])
def test_what_is_no_folder(wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        PathStore(wrong)


@pytest.mark.usefixtures("s3")
def test_a_cloud_without_a_bucket() -> None:
    with pytest.raises(InvalidArgumentError, match="doesn't name a bucket"):
        PathStore(S3Path("s3://"))


def test_what_can_not_be_replaced_whole_is_only_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("in/a/b.txt", b"0123456789")
        archive.writestr("in/c", b"")
    with PathStore(UPath("zip://in", fo=str(tmp_path / "x.zip"))) as store:
        assert list(store) == ["a/b.txt", "c"]
        assert store["a/b.txt"] == b"0123456789"
        assert store.get_range("a/b.txt", 2, -2) == b"234567"
        assert store.info("c").size == 0
        assert store.get("in/c") is None
        calls: list[Callable[[], object]] = [
            lambda: store.put("d", b""),
            lambda: store.delete("c"),
            store.clear,
        ]
        for call in calls:
            with pytest.raises(ReadOnlyError, match="zip:// can only be read"):
                call()


# --- the cloud ---


@pytest.fixture
def client(s3: str) -> Any:
    return boto3.client("s3", endpoint_url=s3)


@pytest.fixture
def name(s3: str, tmp_path: Path) -> str:
    return bucket(tmp_path)


def test_a_folder_of_a_bucket(client: Any, name: str) -> None:
    for key in ("in", "in/", "in/a", "in/b//c", "in/d/", "in.txt", "other/a"):
        client.put_object(Bucket=name, Key=key, Body=b"old")
    with PathStore(S3Path(f"s3://{name}/in/")) as store:
        assert list(store) == ["a"]
        store["é/ü"] = b"new"
        assert client.get_object(Bucket=name, Key="in/é/ü")["Body"].read() == b"new"
        store.clear()
        left = [each["Key"] for each in client.list_objects_v2(Bucket=name)["Contents"]]
        assert left == ["in", "in.txt", "in/", "in/b//c", "in/d/", "other/a"]
        store["x" * 1021] = b""
        with pytest.raises(InvalidKeyError, match="with its folder"):
            store["x" * 1022] = b""


def test_a_body_that_fails_leaves_no_upload(client: Any, name: str) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(12):
            yield b"x" * MIB
        raise KeyboardInterrupt

    with PathStore(S3Path(f"s3://{name}")) as store:
        store["a"] = b"old"
        with pytest.raises(KeyboardInterrupt):
            store.put("a", body())
        assert store["a"] == b"old"
    assert "Uploads" not in client.list_multipart_uploads(Bucket=name)


def test_a_large_blob_is_uploaded_in_parts(client: Any, name: str) -> None:
    with PathStore(S3Path(f"s3://{name}")) as store:
        info = store.put("a", iter([bytes([number]) * MIB for number in range(12)]))
        assert (info.size, info.etag[-2:]) == (12 * MIB, "-3")
        assert info == store.info("a")
        assert store.get_range("a", 11 * MIB - 1, 11 * MIB + 1) == b"\n\v"


def test_no_local_copy_is_kept_or_read(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = S3Path(f"s3://{name}/in", client=S3Client(local_cache_dir=tmp_path / "cache"))
    with PathStore(path) as store:
        store["a"] = b"1"
        (path / "a").write_bytes(b"2")
        assert store["a"] == b"2"
        store["a"] = b"3"
        S3Path(f"s3://{name}/in/a").write_bytes(b"4")
        assert store["a"] == b"4"
        store.put("big", iter([b"x" * MIB] * 9))
        assert sum(map(len, store.chunks("big"))) == 9 * MIB
        (path / "a").clear_cache()
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert files == []


def test_the_media_type_is_told_to_the_cloud(client: Any, name: str) -> None:
    with PathStore(S3Path(f"s3://{name}")) as store:
        store.put_many({"a.png": b"", "b.txt.gz": b"", "c": b""})
    assert client.head_object(Bucket=name, Key="a.png")["ContentType"] == "image/png"
    assert "ContentEncoding" not in client.head_object(Bucket=name, Key="b.txt.gz")


def test_errors_say_what_to_do(s3: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = PathStore(S3Path("s3://no-such-bucket-here"))
    calls: list[Callable[[], object]] = [lambda: store["a"], lambda: store.put("a", b""), lambda: list(store)]
    for call in calls:
        with pytest.raises(StoreUnavailableError, match="the bucket 'no-such-bucket-here' doesn't exist"):
            call()
    away = PathStore(S3Path(f"s3://{name}", client=S3Client(endpoint_url="http://127.0.0.1:9")))
    for call in (lambda: away["a"], lambda: away.put("a", b""), lambda: list(away), lambda: away.delete("a")):
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:9"):
            call()


def test_s3_that_does_not_answer_is_not_waited_for(s3: str) -> None:
    from botocore.config import Config

    def timeout(client: S3Client) -> float:
        store: Any = PathStore(S3Path("s3://bucket", client=client))
        return store._boto3().meta.config.connect_timeout

    assert timeout(S3Client(endpoint_url=s3)) == 5
    patient = boto3.session.Session()
    patient._session.set_default_client_config(Config(connect_timeout=33))  # type: ignore[attr-defined]
    assert timeout(S3Client(boto3_session=patient, endpoint_url=s3)) == 33


@pytest.mark.parametrize("cuts", [1, 3, 100])
def test_a_read_that_breaks_off_goes_on_with_the_same_version(s3: str, name: str, cuts: int) -> None:
    data = os.urandom(MIB) * 9
    with contextlib.closing(Proxy(int(s3.rpartition(":")[2]))) as proxy:
        client = S3Client(endpoint_url=f"http://127.0.0.1:{proxy.port}")
        with (
            PathStore(S3Path(f"s3://{name}", client=client)) as store,
            PathStore(S3Path(f"s3://{name}")) as other,
        ):
            other["a"] = data
            left, seen = [cuts], [0]

            def cut(way: str, passed: bytes) -> bool:
                seen[0] += len(passed)
                if way == "reply" and left[0] and seen[0] > 2 * MIB:
                    left[0], seen[0] = left[0] - 1, 0
                    return True
                return False

            proxy.cut = cut
            if cuts == 100:
                with pytest.raises(StoreUnavailableError, match="can't read"):
                    store.get("a")
                return
            assert store["a"] == data
            assert left == [0]
            left[0], seen[0] = 1, 0
            assert store.get_range("a", 5, -5) == data[5:-5]
            # Another version is never the rest of this one.
            left[0], seen[0] = 1, 0
            chunks = store.chunks("a")
            assert next(chunks) == data[:MIB]
            other["a"] = data[::-1]
            with pytest.raises(StoreUnavailableError, match="can't read"):
                list(chunks)


def test_a_client_of_its_own_does_not_travel(s3: str, name: str) -> None:
    with PathStore(S3Path(f"s3://{name}", client=S3Client(endpoint_url=s3))) as store:
        store["a"] = b"1"
        with pytest.raises(UnsupportedOperation, match="set_as_default_client"):
            pickle.dumps(store)


def test_a_forked_child_has_connections_of_its_own(name: str) -> None:
    with PathStore(S3Path(f"s3://{name}")) as store:
        store["a"] = b"parent"

        def work() -> None:
            for number in range(20):
                store[f"child/{number}"] = store["a"]

        child = forked(work)
        for number in range(20):
            store[f"parent/{number}"] = store["a"]
        succeeds(child)
        assert len(store) == 41


def test_a_read_that_is_dropped_closes_its_connection(name: str) -> None:
    with PathStore(S3Path(f"s3://{name}")) as store:
        store["a"] = b"x" * 3 * MIB
        for _ in range(3):
            store.chunks("a")
            next(store.chunks("a"))
        gc.collect()
        assert len(store["a"]) == 3 * MIB


def test_a_blob_dict_in_the_cloud(client: Any, name: str) -> None:
    client.put_object(Bucket=name, Key="beside", Body=b"")
    with PathBlobDict(S3Path(f"s3://{name}/in"), ttl=3600) as d:
        d.create()
        d.update({"a.txt": StrBlob("one"), "b/c.json": JsonDictBlob({"x": 1})})
        assert d["a.txt"].as_bytes() == b"one"
        assert type(d["b/c.json"]) is JsonDictBlob
        assert list(d.search("**/*.json")) == ["b/c.json"]
        d.delete()
        assert not d
        d.delete()
    with PathBlobDict(S3Path(f"s3://{name}")) as whole:
        assert list(whole) == ["beside"]
        with pytest.raises(InvalidArgumentError, match="whole file system"):
            whole.delete()


# --- Azure ---


@pytest.mark.usefixtures("azure")
def test_azure_names_that_others_gave(tmp_path: Path) -> None:
    box = container(tmp_path)
    service = AzureBlobClient.get_default_client().service_client
    for blob in ("in/plain.txt", "in/a\uff0eb", "in/c\uff0e", "in/d\uff3ce"):
        service.get_blob_client(box, blob).upload_blob(blob.encode())
    with PathStore(AzureBlobPath(f"az://{box}/in")) as store:
        # A spelling that nobody here would have chosen is no blob; it would be another's.
        assert list(store) == ["c.", "d\\e", "plain.txt"]
        assert store["c."] == "in/c\uff0e".encode()
        store["n.tar.gz"] = b"no archive"
        assert store["n.tar.gz"] == b"no archive"


def test_a_delete_whose_answer_is_lost_is_not_told_as_done_by_nobody(
    azure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    port = int(azure.rpartition(":")[2].partition("/")[0])
    with contextlib.closing(Proxy(port)) as proxy:
        client = AzureBlobClient(connection_string=azure.replace(f":{port}/", f":{proxy.port}/"))
        with PathStore(AzureBlobPath(f"az://{container(tmp_path)}", client=client)) as store:
            store["a"] = b"1"
            proxy.cut = lambda way, data: way == "reply"
            with pytest.raises(StoreUnavailableError, match="can't delete"):
                store.delete("a")
            proxy.cut = lambda way, data: False
            assert "a" not in store


@pytest.mark.usefixtures("azure")
def test_what_azure_refuses_for_good_is_not_tried_for_ever(tmp_path: Path) -> None:
    box = container(tmp_path)
    with PathStore(AzureBlobPath(f"az://{box}")) as store:
        store["a"] = b"old"
        blob = AzureBlobClient.get_default_client().service_client.get_blob_client(box, "a")
        lease = blob.acquire_lease()
        calls: list[Callable[[], object]] = [
            lambda: store.put("a", b"new"),
            lambda: store.put("a", iter([b"x" * MIB] * 6)),
            lambda: store.delete("a"),
            lambda: store.put_many({"a": b"new", "b": b""}),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError, match=r"'a': .* lease"):
                call()
        lease.release()
        assert store["a"] == b"old"
        blob.set_standard_blob_tier("Archive")
        for call in (lambda: store["a"], lambda: store.get_range("a", -1)):
            with pytest.raises(StoreUnavailableError, match="archived"):
                call()


def test_azure_that_is_away_is_told_within_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    client = AzureBlobClient(
        connection_string="DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;"
        "BlobEndpoint=http://127.0.0.1:9/a;"
    )
    store = PathStore(AzureBlobPath("az://box", client=client))
    calls: list[Callable[[], object]] = [
        lambda: store["a"],
        lambda: store.info("a"),
        lambda: store.put("a", b""),
        lambda: store.put("a", iter([b"x" * MIB] * 6)),
        lambda: list(store),
        lambda: store.delete("a"),
    ]
    for call in calls:
        waits.clear()
        with pytest.raises(StoreUnavailableError, match="port=9"):
            call()
        assert sum(waits) < 30


@pytest.mark.usefixtures("azure")
def test_a_container_that_is_not_there() -> None:
    store = PathStore(AzureBlobPath("az://nowhere"))
    for call in (lambda: store.put("a", b""), lambda: list(store)):
        with pytest.raises(StoreUnavailableError, match="the bucket 'nowhere' doesn't exist"):
            call()
