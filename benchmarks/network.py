"""The stores of a server on loopback: BucketStore, SqlStore and HttpStore, against bare clients and peers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.servers.postgresql import PostgresServer
from tests.servers.seaweedfs import seaweedfs
from tests.servers.web import nginx

import holdall
from benchmarks.contenders import MIB, PEER, Call, Contender
from benchmarks.table import Table

KIB = 1024
CALLS = ["put", "get", "put 1 MiB", "get 1 MiB", "exists", "list"]
"""Microseconds a call, of 1 KiB where nothing else is said; of a listing microseconds a key."""
AT_ONCE = (16, 64)
IN_FLIGHT = [
    f"{what}{size}, {many}" for many in AT_ONCE for size in ("", " 1 MiB") for what in ("put", "get")
]
"""Microseconds a call, with so many in flight."""
ASYNC_AT_ONCE = (64, 256, 1024)
COROUTINES = [f"{what}, {many}" for many in ASYNC_AT_ONCE for what in ("put", "get")]
OURS, BARE = "holdall BucketStore", "obstore"
OUR_ASYNC, BARE_ASYNC = "holdall AsyncStore over BucketStore", "obstore, coroutines"
SQL_OURS, SQL_BARE = "holdall SqlStore", "psycopg, a prepared statement"
SQL_CALLS = ["put", "get"]
HTTP_OURS, HTTP_COPY, HTTP_BARE = "holdall HttpStore", "copy_store", "a loop of bare httpx2 requests"
HTTP_CALLS = ["files a second"]


@contextmanager
def bucket_server() -> Iterator[str]:
    """The address of SeaweedFS with an empty bucket."""
    buckets = import_module("benchmarks.buckets")
    os.environ.update(buckets.CREDENTIALS)
    with seaweedfs() as url:
        boto3: Any = import_module("boto3")
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket=buckets.BUCKET_NAME)
        yield f"{url}/{buckets.BUCKET_NAME}"


def single(table: Table, place: str, classes: Sequence[type[Contender]], count: int, rounds: int) -> None:
    """Calls one at a time, from the main thread."""
    table.bare, table.names = BARE, [kind.name for kind in classes]
    small, large = os.urandom(KIB), os.urandom(MIB)
    contenders = {kind.name: kind(f"{place}/single") for kind in classes}
    for number in range(rounds):
        for name in _turned(table.names, number):
            contender = contenders[name]
            if contender.kind == PEER and number > 2:
                continue
            put, get, exists = map(contender.call, ("put", "get", "exists"))
            _clock(table, name, "put", count, lambda put=put: put("small", small))
            _clock(table, name, "get", count, lambda get=get: get("small"))
            _clock(table, name, "exists", count, lambda exists=exists: exists("small"))
            _clock(table, name, "put 1 MiB", count // 10, lambda put=put: put("large", large))
            _clock(table, name, "get 1 MiB", count // 10, lambda get=get: get("large"))
    for contender in contenders.values():
        contender.close()


def listings(table: Table, place: str, classes: Sequence[type[Contender]], count: int, rounds: int) -> None:
    """The keys of one prefix."""
    contenders = {kind.name: kind(f"{place}/listed") for kind in classes}
    put = contenders[BARE].call("put")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: put(f"part/{number:06}", b"x"), range(count)))
    for number in range(rounds):
        for name in _turned(list(contenders), number):
            begin = time.perf_counter()
            found = sum(1 for _ in contenders[name].call("keys")("part/"))
            assert found == count, (name, found)
            table.add(name, "list", (time.perf_counter() - begin) / count * 1e6)
    for contender in contenders.values():
        contender.close()


def in_flight(table: Table, place: str, classes: Sequence[type[Contender]], count: int, rounds: int) -> None:
    """Calls of many threads."""
    table.bare, table.names = BARE, [kind.name for kind in classes]
    contenders = {kind.name: kind(f"{place}/flight") for kind in classes}
    sizes = (("", os.urandom(KIB), 4 * count), (" 1 MiB", os.urandom(MIB), max(1, count // 2)))
    with ExitStack() as stack:
        pools = {many: stack.enter_context(ThreadPoolExecutor(many)) for many in AT_ONCE}
        for number in range(rounds):
            for name in _turned(table.names, number):
                contender = contenders[name]
                if contender.kind == PEER and number:
                    continue
                put, get = contender.call("put"), contender.call("get")
                for many, pool in pools.items():
                    for size, data, times in sizes:
                        keys = [f"{at}{size}" for at in range(times)]
                        write = partial(_put, put, data)
                        for what, call in (("put", write), ("get", get)):
                            begin = time.perf_counter()
                            for _ in pool.map(call, keys):
                                pass
                            spent = (time.perf_counter() - begin) / times * 1e6
                            table.add(name, f"{what}{size}, {many}", spent)
    for contender in contenders.values():
        contender.close()


def coroutines(table: Table, place: str, count: int, rounds: int) -> None:
    """Calls of 1 KiB that wait in one event loop: of our store, and of obstore itself."""
    table.bare, table.names = BARE_ASYNC, [OUR_ASYNC, BARE_ASYNC]
    buckets = import_module("benchmarks.buckets")
    ours, bare = buckets.Ours(f"{place}/coroutines"), buckets.Obstore(f"{place}/coroutines")
    asyncio.run(_coroutines(table, ours.store, bare.store, count, rounds))
    ours.close()


async def _coroutines(table: Table, store: holdall.Store, bare: Any, count: int, rounds: int) -> None:
    obstore: Any = import_module("obstore")
    data = os.urandom(KIB)
    view = holdall.AsyncStore(store)

    async def bare_get(key: str) -> object:
        return await (await obstore.get_async(bare, key)).bytes_async()

    calls: dict[str, dict[str, Callable[[str], Awaitable[object]]]] = {
        OUR_ASYNC: {"put": lambda key: view.put(key, data), "get": view.get},
        BARE_ASYNC: {"put": lambda key: obstore.put_async(bare, key, data), "get": bare_get},
    }
    for number in range(rounds):
        for name in _turned(table.names, number):
            for many in ASYNC_AT_ONCE:
                keys = [f"{at}" for at in range(max(count, min(2 * many, 2 * count)))]
                for what, call in calls[name].items():
                    begin = time.perf_counter()
                    await _at_once(call, keys, many)
                    table.add(name, f"{what}, {many}", (time.perf_counter() - begin) / len(keys) * 1e6)


async def _at_once(call: Callable[[str], Awaitable[object]], keys: list[str], many: int) -> None:
    left = iter(keys)

    async def work() -> None:
        for key in left:
            await call(key)

    await asyncio.gather(*(work() for _ in range(many)))


def sql(table: Table, count: int, rounds: int) -> None:
    """Calls of 1 KiB to PostgreSQL, against a statement prepared by hand on one connection."""
    psycopg: Any = import_module("psycopg")
    table.bare, table.names = SQL_BARE, [SQL_OURS, SQL_BARE]
    data = os.urandom(KIB)
    with (
        PostgresServer() as server,
        psycopg.connect(server.url, autocommit=True) as connection,
        holdall.SqlStore(server.url) as store,
    ):
        connection.execute("CREATE TABLE bare (key text PRIMARY KEY, data bytea NOT NULL)")
        put = "INSERT INTO bare VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET data = excluded.data"
        get = "SELECT data FROM bare WHERE key = %s"
        cursor = connection.cursor(binary=True)
        calls: dict[str, dict[str, Callable[[], object]]] = {
            SQL_OURS: {"put": lambda: store.put("blob", data), "get": lambda: store.get("blob")},
            SQL_BARE: {
                "put": lambda: cursor.execute(put, ("blob", data), prepare=True),
                "get": lambda: cursor.execute(get, ("blob",), prepare=True).fetchone(),
            },
        }
        for number in range(rounds):
            for name in _turned(table.names, number):
                for what in SQL_CALLS:
                    _clock(table, name, what, count, calls[name][what])


def http(table: Table, folder: str, count: int, rounds: int) -> None:
    """Files that nginx lists, 100 in each folder: found and read, one after the other."""
    httpx: Any = import_module("httpx2")
    table.bare, table.names = HTTP_BARE, [HTTP_OURS, HTTP_COPY, HTTP_BARE]
    table.notes.append("the bare loop knows the addresses; HttpStore and copy_store find them by a crawl")
    data, keys = os.urandom(KIB), [f"{at // 100:03}/{at:06}" for at in range(count)]
    for key in keys:
        path = Path(folder, key)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    with nginx(Path(folder)) as port, httpx.Client() as client:
        url = f"http://127.0.0.1:{port}"

        def bare() -> int:
            return sum(len(client.get(f"{url}/{key}").content) for key in keys)

        def ours() -> int:
            with holdall.HttpStore(url) as store:
                return sum(len(store[key]) for key in store)

        def copied() -> int:
            with holdall.HttpStore(url) as store:
                return holdall.copy_store(store, holdall.MemoryStore()).bytes

        calls = {HTTP_OURS: ours, HTTP_COPY: copied, HTTP_BARE: bare}
        for number in range(rounds):
            for name in _turned(table.names, number):
                begin = time.perf_counter()
                found = calls[name]()
                assert found == count * KIB, (name, found)
                table.add(name, HTTP_CALLS[0], count / (time.perf_counter() - begin))


def _put(put: Call, data: bytes, key: str) -> object:
    return put(key, data)


def _clock(table: Table, name: str, column: str, times: int, call: Callable[[], object]) -> None:
    call()
    begin = time.perf_counter()
    for _ in range(times):
        call()
    table.add(name, column, (time.perf_counter() - begin) / times * 1e6)


def _turned(names: list[str], number: int) -> list[str]:
    return names[number % len(names) :] + names[: number % len(names)]
