"""Containers of Azure, on Azurite."""

import asyncio
import contextlib
import pickle
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from azure.storage.blob import BlobServiceClient
from azure.storage.blob.aio import BlobServiceClient as AsyncServiceClient
from tests.servers.azurite import azurite
from tests.servers.proxy import Proxy
from tests.test_async_blobs import ETAG, flushed, increment, run

from holdall import (
    AsyncBlobStore,
    AzureBlobAdapter,
    BlobNotFoundError,
    CacheMode,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidTypeError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.stores.bucket.connection import parse_connection


@pytest.fixture(scope="module")
def connection() -> Iterator[str]:
    with azurite() as connection:
        yield connection


@pytest.fixture
def container(connection: str) -> str:
    name = f"c{uuid4().hex}"
    with BlobServiceClient.from_connection_string(connection) as client:
        client.create_container(name)
    return name


def opened(connection: str, container: str, mode: CacheMode = CacheMode.NONE) -> AsyncBlobStore:
    adapter = AzureBlobAdapter.from_connection_string(connection)
    return AsyncBlobStore(adapter, container, cache_mode=mode, concurrency_mode=ETAG)


@pytest.mark.parametrize("mode", CacheMode)
def test_a_write_that_lost_the_race_is_an_error(connection: str, container: str, mode: CacheMode):
    async def main() -> None:
        async with opened(connection, container, mode) as a, opened(connection, container) as b:
            with pytest.raises(BlobNotFoundError):
                await a.get_json("x/n")
            await b.set_json("x/n", {"at": datetime(2026, 1, 2)})
            with pytest.raises(ConcurrencyError):
                await flushed(a, a.set_json("x/n", 5))
            a.forget("x/n")
            assert await a.get_json("x/n") == {"at": datetime(2026, 1, 2)}
            await flushed(a, a.set_json("x/n", 6))
            with pytest.raises(ConcurrencyError):
                await b.delete("x/n")
            assert await b.get_json("x/n") == 6
            assert await b.list_keys("x") == ["x/n"]
            await b.delete("x/n")
            with pytest.raises(ConcurrencyError):
                await flushed(a, a.set_json("x/n", 7))
            a.forget("x/n")
            assert await a.list_keys() == []

    run(main())


@pytest.mark.parametrize("mode", CacheMode)
def test_handles_that_race_lose_nothing(connection: str, container: str, mode: CacheMode):
    async def main() -> None:
        handles = [opened(connection, container, mode) for _ in range(2)]
        await asyncio.gather(*(increment(each, 8) for each in handles))
        for each in handles:
            await each.close()
        async with opened(connection, container) as store:
            assert await store.get_json("n") == 16

    run(main())


def test_what_is_large_compares_too(connection: str, container: str):
    large = b"x" * 6_000_000

    async def main() -> None:
        async with opened(connection, container) as a, opened(connection, container) as b:
            for each in (a, b):
                assert not await each.exists("n")
            await a.set_binary("n", large)
            with pytest.raises(ConcurrencyError):
                await b.set_binary("n", large + b"b")
            assert await b.get_binary("n") == large
            await b.set_binary("n", large + b"b")
            with pytest.raises(ConcurrencyError):
                await a.set_binary("n", large + b"a")
            await b.delete("n")
            a.forget("n")
            with pytest.raises(BlobNotFoundError):
                await a.get_binary("n")

    run(main())


def test_a_lost_answer_is_no_lost_race(connection: str, container: str):
    """A request that is repeated after a lost answer would fail because of itself."""
    port = int(connection.rpartition(":")[2].partition("/")[0])

    async def main(proxy: Proxy) -> None:
        store = opened(connection.replace(f":{port}/", f":{proxy.port}/"), container)
        for write in (store.set_json, lambda key, _: store.delete(key)):
            await store.set_json("n", 1)
            proxy.cut = lambda way, data: way == "reply"
            with pytest.raises(StoreUnavailableError):
                await write("n", 2)
            proxy.cut = lambda way, data: False
            with pytest.raises(ConcurrencyError):
                await store.set_json("n", 3)
            if await store.exists("n"):
                assert await store.get_json("n") == 2
        store.forget("n")
        await store.close()

    with contextlib.closing(Proxy(port)) as proxy:
        run(main(proxy))


def test_a_client_that_is_passed_in_stays_open(connection: str, container: str):
    async def main(client: Any) -> None:
        for _ in range(2):
            async with AsyncBlobStore(AzureBlobAdapter(client), container) as store:
                await store.set_binary("a", b"1")
                assert await store.get_binary("a") == b"1"

    with BlobServiceClient.from_connection_string(connection) as client:
        run(main(client))
        assert client.get_blob_client(container, "a").exists()

    async def in_a_loop() -> None:
        async with AsyncServiceClient.from_connection_string(connection) as client:
            await main(client)
            assert await client.get_blob_client(container, "a").exists()

    run(in_a_loop())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "AccountName=a;AccountKey=k==;",
            {"account_key": "k==", "endpoint": "https://a.blob.core.windows.net"},
        ),
        (
            "DefaultEndpointsProtocol=http;accountname=a;AccountKey=k;EndpointSuffix=core.chinacloudapi.cn",
            {"account_key": "k", "endpoint": "http://a.blob.core.chinacloudapi.cn"},
        ),
        (
            "BlobEndpoint=https://a.blob.core.windows.net/;SharedAccessSignature=?sv=1&sig=s%3D",
            {"sas_key": "sv=1&sig=s%3D", "endpoint": "https://a.blob.core.windows.net"},
        ),
        (
            "BlobEndpoint=http://127.0.0.1:1/a;AccountKey=k",
            {"account_key": "k", "endpoint": "http://127.0.0.1:1/a"},
        ),
    ],
)
def test_connection_strings(text: str, expected: dict[str, str]):
    assert parse_connection(text) == {"account_name": "a", **expected}
    assert repr(AzureBlobAdapter.from_connection_string(text)) == "AzureBlobAdapter('a')"


def test_the_connection_string_of_an_emulator():
    assert parse_connection("UseDevelopmentStorage=true")["account_name"] == "devstoreaccount1"


def test_mistakes_are_typed_errors(connection: str):
    for wrong in ("", "hunter2", "AccountKey=hunter2"):
        with pytest.raises(InvalidArgumentError, match="connection string") as caught:
            AzureBlobAdapter.from_connection_string(wrong)
        assert "hunter2" not in repr(caught.value)
    with pytest.raises(InvalidTypeError, match="environment variable"):
        AzureBlobAdapter.from_connection_string(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="from_connection_string"):
        AzureBlobAdapter(connection)
    adapter = AzureBlobAdapter.from_connection_string(connection)
    assert "AccountKey" not in repr(adapter)
    with pytest.raises(UnsupportedOperation, match="never pickled"):
        pickle.dumps(adapter)
    for name in ("..", "", "a/../b", "/etc", "data/x", "Data", "ab", "a--b"):
        with pytest.raises(InvalidArgumentError, match="name of a container"):
            AsyncBlobStore(adapter, name)
    with pytest.raises(StoreUnavailableError, match=r"the bucket 'missing' at .* doesn't exist"):
        run(opened(connection, "missing").set_json("a", 1))
    key = connection.partition("AccountKey=")[2].partition(";")[0]
    with pytest.raises(StoreUnavailableError) as away_error:
        run(opened(connection.replace(key, "aHVudGVyMg=="), "missing").get_json("a"))
    assert key not in str(away_error.value)
