"""The whole kit on Azure and, where it runs at full effort, on Google below two layers."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import AccountSasPermissions, BlobServiceClient, ResourceTypes, generate_account_sas
from tests.again import Again, Combined
from tests.servers.azurite import azurite
from tests.servers.buckets import ask_once, name_for
from tests.servers.gcs import bucket_for, gcs, gcs_alone, service_account

from holdall import CachingStore, EncryptedStore, FilesystemStore
from holdall.blob import place_of
from holdall.errors import (
    BlobExistsError,
    ConcurrencyError,
    InvalidArgumentError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.layers.prefix import PrefixStore
from holdall.spans import Span
from holdall.store import ABSENT, ANY, Can, Store
from holdall.stores.bucket import BucketStore
from holdall.transfer.ahead import survey_ahead

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def patch() -> Iterator[pytest.MonkeyPatch]:
    """A pickled store finds its credentials in the environment, as the processes of a test do."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def connection(patch: pytest.MonkeyPatch) -> Iterator[str]:
    with azurite() as connection:
        patch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
        yield connection


@cache
def container(connection: str, place: Path) -> str:
    """A container for each folder."""
    with BlobServiceClient.from_connection_string(connection) as service:
        service.create_container(name_for(place))
    return name_for(place)


class TestAzure(Again):
    connection: str

    @pytest.fixture(autouse=True)
    def _at(self, connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
        ask_once(monkeypatch, self)
        self.connection = connection

    def make(self, place: Path) -> Store:
        return BucketStore(f"az://{container(self.connection, place)}")


@pytest.fixture(scope="module")
def google(patch: pytest.MonkeyPatch) -> Iterator[str]:
    with gcs_alone() as url:
        patch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", service_account(url))
        yield url


class TestEncryptedAndCached(Combined):
    """What a careful user of a bucket has."""

    keeps_what_is_read = True
    longest = 1024 - len("in/")
    url: str

    @pytest.fixture(autouse=True)
    def _at(self, google: str, monkeypatch: pytest.MonkeyPatch) -> None:
        ask_once(monkeypatch, self)
        self.url = google
        monkeypatch.setenv("HOLDALL_TEST_KEY", bytes(range(32)).hex())

    def make(self, place: Path) -> Store:
        source = BucketStore(f"gs://{bucket_for(self.url, place)}/in")
        cached = CachingStore(source, FilesystemStore(place / "cache"), max_bytes=50 * MIB)
        return EncryptedStore(cached, "env:HOLDALL_TEST_KEY")


@pytest.fixture
def box(connection: str, tmp_path: Path) -> Iterator[BucketStore]:
    with BucketStore(f"az://{container(connection, tmp_path)}/in") as store:
        yield store


def names_in(connection: str, place: Path) -> list[str]:
    with BlobServiceClient.from_connection_string(connection) as service:
        return list(service.get_container_client(name_for(place)).list_blob_names())


def test_names_of_azure_are_those_of_rclone(box: BucketStore, connection: str, tmp_path: Path) -> None:
    box.put_many(dict.fromkeys(["a/b.txt", "c\\d", "v1./x", "e.", "f\uff0eg"], b"x"))
    assert names_in(connection, tmp_path) == [
        *("in/a/b.txt", "in/c\uff3cd", "in/e\uff0e", "in/f\u201b\uff0eg", "in/v1\uff0e/x"),
        # It says that there are such names.
        "in/\u201b",
    ]
    assert list(box.iterate_keys()) == sorted(["a/b.txt", "c\\d", "v1./x", "e.", "f\uff0eg"])
    assert list(box.left_out()) == []


def test_names_that_others_put_on_azure(box: BucketStore, connection: str, tmp_path: Path) -> None:
    with BlobServiceClient.from_connection_string(connection) as service:
        client = service.get_container_client(name_for(tmp_path))
        for name in ("in/a", "in/b\uff0ec", "in/c\uff3cd", "in/z", "other"):
            client.upload_blob(name, b"x")
    # One is spelled as the store spells a key.
    assert list(box.iterate_keys()) == ["a", "c\\d", "z"]
    assert box["c\\d"] == b"x"
    assert [entry.path for entry in box.left_out()] == ["b\uff0ec"]


def test_a_long_listing_of_names_that_nothing_announced(
    box: BucketStore, connection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdall.stores.bucket.names._PAGE", 3)
    with BlobServiceClient.from_connection_string(connection) as service:
        client = service.get_container_client(name_for(tmp_path))
        for name in ("in/a", "in/b", "in/c", "in/d", "in/d\uff3ce", "in/dz"):
            client.upload_blob(name, b"x")
    # A listing that is under way can't give them in order.
    with pytest.raises(StoreUnavailableError, match="list again"):
        list(box.iterate_keys())
    assert list(box.iterate_keys()) == ["a", "b", "c", "d", "d\\e", "dz"]


def test_a_long_listing_of_azure_is_in_order(box: BucketStore) -> None:
    plain = [f"a/{number:04}" for number in range(1002)] + ["b\ue000", "b\U00010000", "c"]
    box.put_many(dict.fromkeys(plain, b""))
    assert list(box.iterate_keys()) == plain
    assert list(box.iterate_keys("b")) == ["b\ue000", "b\U00010000"]
    with BucketStore(box._settings()["uri"]) as other:  # pyright: ignore[reportArgumentType]
        other.put_many({"a/0500.": b"", "a\\b": b"", "b\\": b""})
    expected = sorted([*plain, "a/0500.", "a\\b", "b\\"])
    assert list(box.iterate_keys()) == expected
    assert list(box.iterate_keys("a/050")) == [key for key in expected if key.startswith("a/050")]
    assert [info.key for info in box._scan("", "a/0500")] == [key for key in expected if key > "a/0500"]


@pytest.mark.parametrize("key", ["plain", "é x", "a%20b+c", "水/\U0001f600", "a\\b."])
def test_signed_urls_of_azure(box: BucketStore, key: str) -> None:
    tag = box.put(key, b"x").etag
    with urllib.request.urlopen(box.sign(key, expires=60)) as answer:
        assert answer.read() == b"x"
    headers = {"x-ms-blob-type": "BlockBlob"}
    request = urllib.request.Request(box.sign(key, method="PUT"), b"theirs", headers, method="PUT")
    urllib.request.urlopen(request).close()
    assert box[key] == b"theirs"
    with pytest.raises(ConcurrencyError):
        box.delete(key, expect=tag)
    large = box.put(key, [bytes(5 << 20)], expect=box.info(key).etag)
    assert box.delete(key, expect=large.etag)


def test_the_same_bytes_again_are_the_same_version_on_google(google: str, tmp_path: Path) -> None:
    with BucketStore(f"gs://{bucket_for(google, tmp_path)}") as store:
        tag = store.put("a", b"x").etag
        assert store.put("a", b"x").etag == tag
        assert store.put("a", b"y", expect=tag).etag != tag
        with pytest.raises(ConcurrencyError) as caught:
            store.delete("a", expect=tag)
        assert caught.value.actual == store.info("a").etag
        assert store.pop("a") == b"y"


def test_metadata_and_storage_class_on_azure(connection: str, tmp_path: Path) -> None:
    kept = {"owner": "ana", "run_7": "a, b"}
    with (
        BucketStore(f"az://{container(connection, tmp_path)}", storage_class="Cool") as store,
        BlobServiceClient.from_connection_string(connection) as service,
    ):
        blob = service.get_blob_client(name_for(tmp_path), "a")
        for body in (b"x", [bytes(5 << 20)]):
            expect: Any = ANY
            for _ in range(2):
                expect = store.put("a", body, metadata=kept, content_type="a/b", expect=expect).etag
                found = blob.get_blob_properties()
                assert found.metadata == store.info("a").metadata == kept
                assert (found.content_settings.content_type, found.blob_tier) == ("a/b", "Cool")
        for info in (store.copy("a", "copied"), store.move("a", "moved")):
            found = service.get_blob_client(name_for(tmp_path), info.key).get_blob_properties()
            assert found.metadata == info.metadata == kept
            assert (found.content_settings.content_type, found.blob_tier) == ("a/b", "Cool")
        with pytest.raises(InvalidArgumentError, match="can't be told from a header"):
            store.put("b", b"x", metadata={"storageclass": "x"})


def test_metadata_and_storage_class_on_google(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"owner": "ana", "run_7": "a, b"}
    with gcs("bucket") as server:
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", service_account(server.url))
        with BucketStore("gs://bucket", storage_class="NEARLINE") as store:
            for body in (b"x", [bytes(9 << 20)]):
                expect: Any = ANY
                for _ in range(2):
                    expect = store.put("a", body, metadata=kept, content_type="a/b", expect=expect).etag
                    found = server.buckets["bucket"]["a"].headers
                    assert found["x-goog-storage-class"] == "NEARLINE"
                    assert (store.info("a").metadata, store.info("a").content_type) == (kept, "a/b")


def test_google_takes_large_puts_on_a_condition_whatever_its_credentials_show(
    google: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(client: Any) -> None:
        raise UnsupportedOperation("this client of Google doesn't show its credentials")

    with BucketStore(f"gs://{bucket_for(google, tmp_path)}") as store:
        # What the server does with conditions was found out before.
        assert Can.SWAP in store.can
        for room in ("deleting", "pages"):
            monkeypatch.setattr(f"holdall.stores.bucket.{room}.google_token", hidden)
        info = store.put("a", [bytes(MIB)] * 5, expect=ABSENT, metadata={"owner": "ana"}, content_type="a/b")
        assert store.info("a") == info
        with pytest.raises(BlobExistsError):
            store.put("a", [bytes(MIB)] * 5, expect=ABSENT)
        assert store.put("a", [b"x" * MIB] * 5, expect=info.etag).etag != info.etag
        with pytest.raises(ConcurrencyError):
            store.put("a", [bytes(MIB)] * 5, expect=info.etag)


def test_listings_cost_a_request_for_each_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    with gcs("bucket") as server:
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", service_account(server.url))
        keys = [f"{number % 7}/{number:05}" for number in range(9_500)]
        for key in keys:
            server.keep("bucket", f"in/{key}", b"x", {}, None)
        with BucketStore("gs://bucket/in") as store:
            assert store._far
            server.requests.clear()
            assert list(store.iterate_keys()) == sorted(keys)
            assert len(server.requests) == 10
            # From the first page with an empty object on, which may be the mark of a folder, obstore's
            # answers don't say enough; the next listing begins with requests that do.
            server.keep("bucket", "in/3/", b"", {}, None)
            server.keep("bucket", "in/3/00003", b"", {}, None)
            for expected in (11, 10):
                server.requests.clear()
                assert list(store.iterate_keys()) == sorted(keys)
                assert len(server.requests) == expected
            assert [entry.path for entry in store.left_out()] == ["3/"]
            del server.buckets["bucket"]["in/3/"]
            server.requests.clear()
            spans = store.split(5)
            # Some pages show where to cut.
            assert len(spans) == 5
            assert len(server.requests) < 100
            parts = [list(store.iterate_keys(span)) for span in spans]
            assert [key for part in parts for key in part] == sorted(keys)
            assert max(map(len, parts)) < 3 * len(keys) / 5
            # So do transfers, whose spans are listed side by side.
            server.requests.clear()
            assert [place_of(entry) for entry in survey_ahead(store, Span())] == sorted(keys)
            starts = [path for _, path in server.requests if "start-after" in path]
            assert len(starts) > 8
        with closing(PrefixStore(BucketStore("gs://bucket"), "in/")) as within:
            assert within._far
            assert [key for span in within.split(3) for key in within.iterate_keys(span)] == sorted(keys)


def test_a_server_that_lists_from_the_first_name_is_not_split(box: BucketStore) -> None:
    assert not box._far


def test_a_shared_access_signature_is_enough(connection: str, tmp_path: Path) -> None:
    fields = dict(part.split("=", 1) for part in connection.strip(";").split(";"))
    signature = generate_account_sas(
        fields["AccountName"],
        fields["AccountKey"],
        ResourceTypes(object=True, container=True),
        AccountSasPermissions(read=True, write=True, delete=True, list=True, create=True),
        datetime.now(UTC) + timedelta(hours=1),
    )
    where = f"az://{container(connection, tmp_path)}"
    server: Any = {"endpoint": fields["BlobEndpoint"], "account": fields["AccountName"]}
    with BucketStore(where, secret=signature, **server) as store:
        assert {Can.SWAP, Can.CREATE, Can.CONDITIONAL_DELETE} <= set(store.can)
        for key in ("plain", "é\\x"):
            store[key] = b"x"
            store.put(key, [bytes(5 << 20)], expect=store.info(key).etag)
            with pytest.raises(ConcurrencyError):
                store.delete(key, expect="0x1")
            assert store.delete(key, expect=store.info(key).etag)
            store[key] = b"y"
            assert store.pop(key) == b"y"
            assert not store.delete(key)
        store.put_many({"a": b"", "b": b""})
        assert store.delete_many(["a", "b", "c"]) == 2
        assert names_in(connection, tmp_path) == ["\u201b"]
        assert Can.SIGN not in store.can
        with pytest.raises(UnsupportedOperation, match="can't sign URLs: a shared access signature"):
            store.sign("a")
        assert "sig=" not in repr(store)
