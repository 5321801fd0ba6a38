"""A bucket in coroutines, by the clients that users of async programs hold."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from uuid import uuid4

import aiobotocore.session
import boto3
import pytest
from obstore.store import S3Store
from tests.servers.ceph import CREDENTIALS
from tests.servers.moto import moto

from holdall import BlobExistsError, InvalidArgumentError, InvalidTypeError, StoreUnavailableError
from holdall.aio import AsyncBucketStore
from holdall.store import ABSENT

SECONDS = 60
KEYS: Any = {name.lower(): value for name, value in CREDENTIALS.items()} | {"region_name": "us-east-1"}
KEYS.pop("aws_default_region", None)


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, SECONDS))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def bucket(url: str) -> str:
    name = uuid4().hex
    boto3.client("s3", endpoint_url=url, **KEYS).create_bucket(Bucket=name)
    return name


async def use(store: AsyncBucketStore) -> None:
    async def body() -> AsyncIterator[bytes]:
        for number in range(12):
            yield bytes([number]) * (1 << 20)

    await store.put("my_object_key", b"my object data")
    assert await store.get("my_object_key") == b"my object data"
    with pytest.raises(BlobExistsError):
        await store.put("my_object_key", b"", expect=ABSENT)
    assert (await store.put("large", body())).size == 12 << 20
    assert [info.key async for info in store.list()] == ["large", "my_object_key"]
    await asyncio.gather(*(store.put(str(number), b"x") for number in range(100)))
    assert await store.len() == 102


def test_a_client_of_aiobotocore(url: str, bucket: str) -> None:
    async def main() -> None:
        session = aiobotocore.session.get_session()
        async with session.create_client("s3", endpoint_url=url, **KEYS) as client:
            async with AsyncBucketStore(client, bucket) as store:
                await use(store)
            # It stays open.
            assert (await client.list_objects_v2(Bucket=bucket))["KeyCount"] == 102

    run(main())


def test_a_client_of_boto3_one_of_obstore_and_a_uri(
    url: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=url, **KEYS)
    own = S3Store(bucket, endpoint=url, region="us-east-1", client_options={"allow_http": True})

    async def main() -> None:
        for made in (
            AsyncBucketStore(client, bucket, "a/"),
            AsyncBucketStore.from_client(client, bucket, "b/"),
            AsyncBucketStore(own, prefix="c/"),
            AsyncBucketStore(f"s3://{bucket}/d", endpoint=url),
        ):
            async with made as store:
                await use(store)
        assert sorted({info["path"][0] for info in own.list().collect()}) == ["a", "b", "c", "d"]

    run(main())


@pytest.mark.parametrize("known", [True, False], ids=["known", "probed"])
@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get("a"),
        lambda store: store.put("a", b"x"),
        lambda store: store.delete("a"),
        lambda store: store.get_many(["a", "b"]),
        lambda store: store.put_many({"a": b"1", "b": b"2"}),
        lambda store: store.len(),
    ],
)
def test_a_cancelled_call_ends_its_requests(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[AsyncBucketStore], Awaitable[object]], known: bool
) -> None:
    if known:
        # Otherwise the first requests ask what the server can do.
        monkeypatch.setattr("holdall.stores.bucket.probe._KNOWN", (".127.0.0.1",))
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)

    async def main() -> None:
        # A server that never answers notices that its client has gone.
        came, gone = asyncio.Event(), asyncio.Event()
        open_ones: set[asyncio.StreamWriter] = set()
        serving: list[asyncio.Task[None] | None] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving.append(asyncio.current_task())
            open_ones.add(writer)
            while await reader.read(1 << 16):
                came.set()
            writer.close()
            await writer.wait_closed()
            open_ones.discard(writer)
            if not open_ones:
                gone.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            # Neither the store nor the server would end the request within the time of this test.
            async with AsyncBucketStore("s3://bucket", endpoint=endpoint, timeout=3600) as store:
                waiting = asyncio.ensure_future(call(store))
                await came.wait()
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                await gone.wait()
            # Of two connections, one may have been gone before the other came.
            server.close()
            await asyncio.sleep(0)
            await asyncio.gather(*filter(None, serving))

    run(main())


def test_a_cancelled_upload_takes_its_parts_away(url: str, bucket: str) -> None:
    client = boto3.client("s3", endpoint_url=url, **KEYS)

    async def main() -> None:
        drawn, held = 0, asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            nonlocal drawn
            for _ in range(1000):
                drawn += 1
                yield bytes(1 << 20)
                if drawn == 20:
                    held.set()
                    await asyncio.Event().wait()

        async with AsyncBucketStore(client, bucket) as store:
            upload = asyncio.ensure_future(store.put("a", body()))
            await held.wait()
            upload.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upload
            assert drawn == 20
            # The requests that are under way end first.
            while "Uploads" in client.list_multipart_uploads(Bucket=bucket):
                await asyncio.sleep(0.05)
            assert await store.get("a") is None

    run(main())


def test_mistakes(url: str, bucket: str) -> None:
    client = boto3.client("s3", endpoint_url=url, **KEYS)
    for wrong, match in (
        (lambda: AsyncBucketStore(f"s3://{bucket}", "other"), "the URI names the bucket"),
        (lambda: AsyncBucketStore(client), "name of a bucket"),
        (lambda: AsyncBucketStore(client, bucket, endpoint=url), "leave out endpoint"),
        (lambda: AsyncBucketStore(bucket), "URI of a bucket"),
    ):
        with pytest.raises(InvalidArgumentError, match=match):
            wrong()
    with pytest.raises(InvalidTypeError, match="expected a client"):
        AsyncBucketStore(bucket.encode(), bucket)
    with pytest.raises(StoreUnavailableError, match="doesn't exist"):
        run(AsyncBucketStore(client, "not-there").get("a"))
