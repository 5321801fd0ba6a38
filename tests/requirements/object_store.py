"""What the blocks of object-store.md leave to their reader, and what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest
from aiobotocore.session import get_session
from tests.requirements.reader import Reader
from tests.requirements.running import Supplies
from tests.requirements.servers import Servers

import holdall

supplies = Supplies()


@supplies("Usage")
def _a_store_of_files(reader: Reader, _: Servers) -> Generator[None]:
    reader.given["/path/to/"] = f"{reader.folder}/path/to/"
    yield
    assert type(reader["store"]) is holdall.FilesystemStore
    reader["store"].put("my_object_key", b"of before")
    assert reader.files() == ["block_39.py", "path/to/storage/directory/my_object_key"]


@supplies("Usage", 2)
def _calls_of_a_store(reader: Reader, _: Servers) -> Generator[None]:
    yield
    assert (reader["data"], reader["exists"], reader["keys"]) == (b"of before", True, [])
    assert reader["store"].get("my_object_key") is None
    assert not reader["store"].exists("my_object_key")


@supplies("Usage", 3)
def _a_store_that_is_a_context(reader: Reader, _: Servers) -> Generator[None]:
    yield
    assert reader["data"] == b"my object data"
    with pytest.raises(holdall.StoreClosedError):
        reader["store"].get("my_object_key")
    with holdall.SqliteStore(reader.folder / "path/to/db.sqlite") as again:
        assert dict(again) == {"my_object_key": b"my object data"}
    with holdall.ZipStore(reader.folder / "blobs.zip") as archive:
        archive.put("my_object_key", b"my object data")
    with holdall.ZipStore(reader.folder / "blobs.zip") as archive:
        assert dict(archive) == {"my_object_key": b"my object data"}


@supplies("Usage", 4)
def _a_store_of_a_bucket(reader: Reader, servers: Servers) -> Generator[None]:
    bucket = servers.bucket("my-bucket")
    reader.names["asyncio"] = asyncio
    reader.names["client_of_the_reader"] = get_session().create_client(
        "s3", endpoint_url=servers.s3, region_name="us-east-1", aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )  # fmt: skip
    reader.given["async with ... as"] = "async with client_of_the_reader as"
    yield
    assert reader.held["main"]["data"] == b"my object data"
    assert type(reader.held["main"]["store"]) is holdall.AsyncBucketStore
    assert bucket.Object("my_object_key").get()["Body"].read() == b"my object data"
