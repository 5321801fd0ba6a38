"""Clients that users hold, and what a bucket takes over of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiobotocore.session
import boto3
import pytest
from adlfs import AzureBlobFileSystem
from azure.core.credentials import AccessToken, AzureSasCredential
from azure.storage.blob import BlobServiceClient
from azure.storage.blob.aio import BlobServiceClient as AsyncServiceClient
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from cloudpathlib import AzureBlobClient, S3Client
from gcsfs import GCSFileSystem
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from obstore.store import GCSStore, S3Store
from s3fs import S3FileSystem
from tests.servers import ceph as ceph_server
from tests.servers.azurite import azurite
from tests.servers.gcs import gcs, service_account
from tests.servers.moto import moto
from upath import UPath

from holdall import BucketStore
from holdall.errors import (
    InvalidArgumentError,
    InvalidTypeError,
    MissingDependencyError,
    UnsupportedOperation,
)
from holdall.stores.bucket.given import taken_over
from holdall.stores.bucket.google import google_token


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A client of cloudpathlib that makes its own folder warns when it removes it."""
    monkeypatch.setenv("CLOUDPATHLIB_LOCAL_CACHE_DIR", str(tmp_path))


KEYS: Any = {
    "aws_access_key_id": ceph_server.CREDENTIALS["AWS_ACCESS_KEY_ID"],
    "aws_secret_access_key": "a-secret-key",
    "region_name": "eu-west-1",
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with moto() as url:
        client: Any = boto3.client("s3", endpoint_url=url, **KEYS)
        client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield url


def check(client: Any, bucket: str | None = "bucket") -> None:
    made = taken_over(client, bucket)
    made.put("a", b"hello")
    assert bytes(made.get("a").bytes()) == b"hello"
    made.delete("a")
    assert "secret" not in repr(made)


def test_what_boto3_holds(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(boto3.client("s3", endpoint_url=url, **KEYS))
    check(boto3.resource("s3", endpoint_url=url, **KEYS))
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    check(boto3.Session(**KEYS))


def test_credentials_that_expire_are_asked_for_again(url: str) -> None:
    client: Any = boto3.client("s3", endpoint_url=url, **KEYS)
    asked: list[int] = []

    def refresh() -> dict[str, str]:
        asked.append(1)
        return {
            "access_key": "testing",
            "secret_key": "testing",
            "token": "token",
            "expiry_time": "2099-01-01T00:00:00Z",
        }

    client._request_signer._credentials = RefreshableCredentials.create_from_metadata(
        refresh(), refresh_using=refresh, method="test"
    )
    told = taken_over(client, "bucket").credential_provider()
    assert told["token"] == "token"
    assert told["expires_at"] is not None


def test_addressing_signatures_and_tls() -> None:
    virtual: Any = {"s3": {"addressing_style": "virtual"}}
    made = taken_over(
        boto3.client("s3", endpoint_url="https://host:1", config=Config(**virtual), **KEYS), "bucket"
    )
    assert made.config["endpoint"] == "https://bucket.host:1"
    made = taken_over(boto3.client("s3", endpoint_url="https://host:1", verify=False, **KEYS), "bucket")
    assert made.config["endpoint"] == "https://host:1"
    assert made.client_options["allow_invalid_certificates"] == "true"
    anonymous: Any = boto3.client("s3", region_name="eu-west-1", config=Config(signature_version=UNSIGNED))
    made = taken_over(anonymous, "bucket")
    assert made.config["skip_signature"] == "true"
    assert "endpoint" not in made.config
    with pytest.raises(UnsupportedOperation, match="SSL_CERT_FILE"):
        taken_over(boto3.client("s3", endpoint_url="https://host:1", verify="/a.pem", **KEYS), "bucket")


def test_what_aiobotocore_holds(url: str) -> None:
    async def run() -> Any:
        session = aiobotocore.session.get_session()
        async with session.create_client("s3", endpoint_url=url, **KEYS) as client:
            return taken_over(client, "bucket")

    check(asyncio.run(run()))


def test_what_google_holds() -> None:
    with gcs("bucket") as server:
        options = {"api_endpoint": server.url}
        client = storage.Client(project="p", credentials=AnonymousCredentials(), client_options=options)
        check(client)
        made = taken_over(client, "bucket")
        assert google_token(made) is None


def test_the_token_of_a_client_of_google() -> None:
    def provide() -> Any:
        return {"token": "a-token", "expires_at": None}

    assert google_token(GCSStore("bucket", credential_provider=provide)) == "a-token"
    assert google_token(GCSStore("bucket", config={"bearer_token": "b-token"})) == "b-token"


def test_what_azure_holds() -> None:
    with azurite() as connection:
        service = BlobServiceClient.from_connection_string(connection)
        container = service.create_container("bucket")
        check(service)
        check(container, None)
        with pytest.raises(InvalidArgumentError, match="'bucket', not of 'other'"):
            taken_over(container, "other")
        check(AzureBlobClient(connection_string=connection).CloudPath("az://bucket/a"), None)


def test_credentials_of_azure() -> None:
    class Credential:
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            return AccessToken("a-token", 4_000_000_000)

    url = "https://name.blob.core.windows.net"
    made = taken_over(BlobServiceClient(url, credential=Credential()), "bucket")
    assert made.credential_provider()["token"] == "a-token"

    class AsyncCredential:
        async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            raise NotImplementedError

    with pytest.raises(UnsupportedOperation, match="belongs to its event loop"):
        taken_over(AsyncServiceClient(url, credential=AsyncCredential()), "bucket")
    signed = AzureSasCredential("sv=1&sig=a-secret")
    assert "sas_key" in taken_over(BlobServiceClient(url, credential=signed), "bucket").config
    assert "sas_key" in taken_over(BlobServiceClient(f"{url}/?sv=1&sig=a-secret"), "bucket").config
    assert taken_over(BlobServiceClient(url), "bucket").config["skip_signature"] == "true"


def test_what_cloudpathlib_holds(url: str) -> None:
    session = boto3.Session(**KEYS)
    check(S3Client(boto3_session=session, endpoint_url=url).CloudPath("s3://bucket/a/b"), None)


def test_what_file_systems_of_fsspec_hold(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own: Any = {"key": "testing", "secret": "a-secret-key", "skip_instance_cache": True}
    check(S3FileSystem(endpoint_url=url, **own))
    region = {"endpoint_url": url, "region_name": "eu-west-1"}
    check(S3FileSystem(client_kwargs=region, **own))
    with pytest.raises(UnsupportedOperation, match="ACL of the client"):
        taken_over(S3FileSystem(s3_additional_kwargs={"ACL": "public-read"}, **own), "bucket")
    made = taken_over(S3FileSystem(anon=True, requester_pays=True, endpoint_url=url), "bucket")
    assert (made.config["skip_signature"], made.config["request_payer"]) == ("true", "true")
    # A session of the user's own stays what it is.
    session = aiobotocore.session.AioSession()
    session.set_credentials("testing", "a-secret-key")
    check(S3FileSystem(session=session, endpoint_url=url, skip_instance_cache=True))
    with gcs("bucket") as server:
        check(GCSFileSystem(token="anon", endpoint_url=server.url))
    signed: Any = {"account_name": "name", "sas_token": "sv=1&sig=a-secret"}
    assert "sas_key" in taken_over(AzureBlobFileSystem(**signed), "bucket").config


def test_what_universal_pathlib_holds(url: str) -> None:
    own: Any = {"key": "testing", "secret": "a-secret-key", "endpoint_url": url}
    check(UPath("s3://bucket/a/b", **own), None)
    with pytest.raises(InvalidArgumentError, match="'bucket', not of 'other'"):
        taken_over(UPath("s3://bucket/a", **own), "other")
    with pytest.raises(InvalidTypeError, match="expected a client"):
        taken_over(UPath("memory://bucket/a"))


def test_how_long_it_waits(url: str) -> None:
    made = taken_over(boto3.client("s3", endpoint_url=url, **KEYS), "bucket")
    options = made.client_options
    assert (options["connect_timeout"], options["read_timeout"]) == ("30s", "30s")
    # A large object takes long.
    assert options["timeout"] != "30s"
    assert made.retry_config["retry_timeout"] == timedelta(minutes=1)


def test_without_obstore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.stores.bucket.driver._loaded", [])
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingDependencyError, match=r"holdall\[bucket\]"):
        taken_over(boto3.client("s3", **KEYS), "bucket")


async def _provide() -> dict[str, Any]:
    return {"access_key_id": "k", "secret_access_key": "s", "token": None, "expires_at": None}


class _Provider:
    async def __call__(self) -> dict[str, Any]:
        return await _provide()


@pytest.mark.parametrize("provider", [_provide, _Provider()])
def test_a_provider_that_must_be_awaited_is_refused(provider: Any) -> None:
    own = S3Store("bucket", region="eu-west-1", credential_provider=provider)
    with pytest.raises(UnsupportedOperation, match="belongs to its event loop"):
        BucketStore.from_client(own)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_function_that_returns_a_coroutine_is_refused_where_it_is_called(url: str) -> None:
    options: Any = {"allow_http": True}

    def provider() -> Any:
        return _provide()

    own = S3Store("b", endpoint=url, region="eu-west-1", client_options=options, credential_provider=provider)
    with BucketStore.from_client(own) as store, pytest.raises(UnsupportedOperation, match="event loop"):
        store.put("a", b"")


def test_what_is_no_client() -> None:
    with gcs("bucket") as server:
        own = GCSStore("bucket", service_account_key=service_account(server.url))
        assert taken_over(own) is own
        with pytest.raises(InvalidArgumentError):
            taken_over(own, "other")
    with pytest.raises(InvalidArgumentError, match="name of a bucket"):
        taken_over(boto3.client("s3", **KEYS))
    for wrong in (3, "bucket", boto3.client("sts", **KEYS), S3Store):
        with pytest.raises(InvalidTypeError, match="expected a client"):
            taken_over(wrong, "bucket")
