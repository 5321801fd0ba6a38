"""Which server does what with conditions and ranges."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import boto3
import pytest
from azure.storage.blob import BlobServiceClient
from obstore.exceptions import PermissionDeniedError
from obstore.store import AzureStore, GCSStore, S3Store
from tests.servers import ceph as ceph_server
from tests.servers import rclone_s3 as rclone_server
from tests.servers.azurite import azurite
from tests.servers.gcs import GcsServer, gcs, service_account
from tests.servers.moto import moto
from tests.servers.seaweedfs import seaweedfs

from holdall import ABSENT, BucketStore, Can, StoreUnavailableError, UnsupportedOperation
from holdall.stores.bucket.probe import Findings, _found, find_out, is_probe

HTTP: Any = {"allow_http": True}


def s3(url: str, credentials: dict[str, str]) -> Any:
    key, secret = credentials["AWS_ACCESS_KEY_ID"], credentials["AWS_SECRET_ACCESS_KEY"]
    client: Any = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1"
    )
    client.create_bucket(Bucket="bucket")
    client.close()
    keys: Any = {"access_key_id": key, "secret_access_key": secret, "region": "us-east-1"}
    return S3Store("bucket", endpoint=url, client_options=HTTP, **keys)


@contextmanager
def over_moto() -> Generator[Any]:
    with moto() as url:
        yield s3(url, ceph_server.CREDENTIALS)


@contextmanager
def over_seaweedfs() -> Generator[Any]:
    with seaweedfs() as url:
        yield s3(url, ceph_server.CREDENTIALS)


@contextmanager
def over_ceph() -> Generator[Any]:
    with ceph_server.ceph() as url:
        yield s3(url, ceph_server.CREDENTIALS)


@contextmanager
def over_rclone() -> Generator[Any]:
    with rclone_server.rclone_s3() as url:
        yield s3(url, rclone_server.CREDENTIALS)


@contextmanager
def over_azurite() -> Generator[Any]:
    with azurite() as connection:
        fields = dict(part.split("=", 1) for part in connection.strip(";").split(";"))
        with BlobServiceClient.from_connection_string(connection) as service:
            service.create_container("bucket")
        keys: Any = {"account_name": fields["AccountName"], "account_key": fields["AccountKey"]}
        yield AzureStore("bucket", endpoint=fields["BlobEndpoint"], client_options=HTTP, **keys)


@contextmanager
def over_gcs() -> Generator[Any]:
    with gcs("bucket") as server:
        yield google(server)


def google(server: GcsServer, **options: Any) -> Any:
    return GCSStore("bucket", service_account_key=service_account(server.url), client_options=HTTP, **options)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (over_moto, Findings()),
        (over_seaweedfs, Findings(ordered=False)),
        (over_ceph, Findings(delete=False, quoted=False)),
        (over_rclone, Findings(create=False, swap=False, delete=False, range=False)),
        (over_azurite, Findings(starts=False)),
        (over_gcs, Findings()),
    ],
)
def test_what_a_server_does_is_found_out_once(
    server: Callable[[], Any], expected: Findings, caplog: pytest.LogCaptureFixture
) -> None:
    with server() as client, caplog.at_level(logging.WARNING, "holdall"):
        assert find_out(client) == expected
        assert find_out(client) is find_out(client)
        warnings = [record.getMessage() for record in caplog.records if record.name == "holdall"]
        whole = all(expected[:4])
        assert len(warnings) == (0 if whole else 1)
        assert whole or "'bucket' at 127.0.0.1:" in warnings[0]
        assert [meta["path"] for page in client.list() for meta in page] == []


def test_the_prefix_of_a_client_is_where_it_is_tried() -> None:
    with gcs("bucket") as server:
        assert find_out(google(server, prefix="logs/2026")) == Findings()
        assert all("logs%2F2026%2F" in path or "logs/2026/" in path for _, path in server.requests)
        asked = len(server.requests)
        assert find_out(google(server)) == Findings()
        assert len(server.requests) == asked


def test_one_that_may_only_read_can_check_no_condition() -> None:
    with gcs("bucket") as server:
        server.read_only = True
        assert find_out(google(server)) == Findings(create=False, swap=False, delete=False, settled=False)
        server.read_only = False
        assert find_out(google(server)) == Findings()


def test_an_open_store_tries_conditions_again_where_no_put_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.stores.bucket.access.AGAIN", 0)
    with gcs("bucket") as server, BucketStore.from_client(google(server)) as store:
        server.read_only = True
        assert (list(store), store.can & (Can.CREATE | Can.SWAP)) == ([], Can(0))
        with pytest.raises(UnsupportedOperation):
            store.put("a", b"1", expect=ABSENT)
        server.read_only = False
        store.put("a", b"1", expect=ABSENT)
        asked = len(server.requests)
        assert Can.SWAP in store.can
        assert len(server.requests) == asked


def test_the_objects_that_are_there_show_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """SeaweedFS lists folder by folder."""
    with over_seaweedfs() as client:
        for name in ("a/b", "a-"):
            client.put(name, b"0123456789")
        monkeypatch.setattr("holdall.stores.bucket.probe._takes_puts", lambda *_: False)
        assert not find_out(client).ordered
        assert list(BucketStore.from_client(client)) == ["a-", "a/b"]


def test_a_server_that_takes_no_puts_is_read(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket/a").write_bytes(b"0123456789")
    key, secret = itemgetter("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")(rclone_server.CREDENTIALS)
    with (
        rclone_server.rclone_s3(tmp_path) as url,
        BucketStore("s3://bucket", endpoint=url, region="us-east-1", key=key, secret=secret) as store,
    ):
        assert (list(store), store["a"], store.get_range("a", 3, 5)) == (["a"], b"0123456789", b"34")
        assert not store.can & (Can.CREATE | Can.SWAP)
        with pytest.raises(StoreUnavailableError):
            store["b"] = b""


def test_known_clouds_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    keys: Any = {"access_key_id": "a", "secret_access_key": "b", "region": "eu-west-1"}
    for client in (
        S3Store("bucket", **keys),
        S3Store("bucket", endpoint="https://s3.eu-west-1.amazonaws.com", **keys),
        AzureStore("bucket", account_name="name", account_key="Zm91cg=="),
    ):
        assert find_out(client) == Findings()


def test_a_server_that_the_environment_names_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with gcs("bucket") as server:
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", service_account(server.url))
        assert find_out(GCSStore("bucket", client_options=HTTP)) == Findings()
        assert server.requests


def test_a_bucket_that_is_not_there_is_no_finding() -> None:
    with gcs() as server:
        before = dict(_found)
        with pytest.raises(FileNotFoundError):
            find_out(google(server))
        assert _found == before


def test_a_bucket_is_not_made_by_a_mistyped_name() -> None:
    """SeaweedFS makes a bucket for the first put."""
    with over_seaweedfs() as client:
        other = S3Store(config={**client.config, "bucket": "mistyped"}, client_options=HTTP)
        for _ in range(2):
            with pytest.raises(FileNotFoundError, match="NoSuchBucket"):
                find_out(other)


def test_wrong_credentials_are_no_finding(caplog: pytest.LogCaptureFixture) -> None:
    with over_seaweedfs() as client, caplog.at_level(logging.WARNING, "holdall"):
        wrong = {**client.config, "secret_access_key": "wrong"}
        with pytest.raises(PermissionDeniedError, match="SignatureDoesNotMatch"):
            find_out(S3Store(config=wrong, client_options=HTTP))
        assert not caplog.records


def test_names_of_probes() -> None:
    assert is_probe(".holdall-probe-" + "a1" * 16)
    assert is_probe(".holdall-probe-" + "a1" * 16 + "-/a")
    assert not is_probe(".holdall-probe-" + "a1" * 16 + "/a")
    assert not is_probe(".holdall-probe-")
