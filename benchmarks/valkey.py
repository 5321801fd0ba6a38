"""ValkeyStore against bare client libraries, on a server of its own on loopback: one at a time and many."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from benchmarks.table import Table

OURS = "holdall ValkeyStore"
REDIS, REDIS_ONE = "redis-py + hiredis", "redis-py + hiredis, one connection"
VALKEY = "valkey-py + libvalkey"
PIPELINE, MULTIPLE = "redis-py, a pipeline", "redis-py, MSET and MGET"
COLUMNS = ["put", "get"]
"""Of one blob of 1 KiB: microseconds a call."""
MANY_COLUMNS = ["put_many", "put_many again", "get_many"]
"""Of 1,000 blobs of 1 KiB: microseconds a blob; first of new keys, then of those that are there."""

Calls = dict[str, Callable[[], object]]


@contextmanager
def server(folder: str) -> Generator[int]:
    """A server that keeps all in memory; its port.

    Raises:
        RuntimeError: None is installed, or it doesn't start.
    """
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise RuntimeError("no valkey-server or redis-server is installed: apt-get install redis-server")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{program} doesn't start") from None
                time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def calls(table: Table, many: Table, folder: str, count: int, rounds: int, peers: bool) -> None:
    """Fill two tables, of single calls and of a thousand at once, in alternated rounds."""
    with server(folder) as port:
        _single(table, port, count, rounds, peers)
        _many(many, port, rounds)


def _clients(port: int, peers: bool) -> dict[str, Any]:
    redis = importlib.import_module("redis")
    clients = {
        REDIS: redis.Redis(port=port),
        REDIS_ONE: redis.Redis(port=port, single_connection_client=True),
    }
    if peers:
        clients[VALKEY] = importlib.import_module("valkey").Valkey(port=port)
    return clients


def _single(table: Table, port: int, count: int, rounds: int, peers: bool) -> None:
    from holdall.stores.valkey import ValkeyStore

    table.bare = REDIS
    data = os.urandom(1024)
    contenders: dict[str, Calls] = {}
    store = ValkeyStore(f"valkey://127.0.0.1:{port}")
    contenders[OURS] = {"put": lambda: store.put("blob", data), "get": lambda: store.get("blob")}
    clients = _clients(port, peers)
    for name, client in clients.items():
        contenders[name] = {
            "put": lambda client=client: client.set("blob", data),
            "get": lambda client=client: client.get("blob"),
        }
    table.names = list(contenders)
    for number in range(rounds):
        for name in _turned(table.names, number):
            for column in COLUMNS:
                call = contenders[name][column]
                call()
                begin = time.perf_counter()
                for _ in range(count):
                    call()
                table.add(name, column, (time.perf_counter() - begin) / count * 1e6)
    store.close()
    for client in clients.values():
        client.close()


def _many(table: Table, port: int, rounds: int) -> None:
    from holdall.stores.valkey import ValkeyStore

    table.bare = PIPELINE
    blobs = {f"many/{number:04}": os.urandom(1024) for number in range(1000)}
    store = ValkeyStore(f"valkey://127.0.0.1:{port}")
    client = _clients(port, peers=False)[REDIS]

    def pipeline_put() -> None:
        with client.pipeline(transaction=False) as pipeline:
            for key, data in blobs.items():
                pipeline.set(key, data)
            pipeline.execute()

    def pipeline_get() -> list[Any]:
        with client.pipeline(transaction=False) as pipeline:
            for key in blobs:
                pipeline.get(key)
            return pipeline.execute()

    contenders: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        OURS: (lambda: store.put_many(blobs), lambda: store.get_many(blobs)),
        PIPELINE: (pipeline_put, pipeline_get),
        MULTIPLE: (lambda: client.mset(blobs), lambda: client.mget(blobs)),
    }
    table.names = list(contenders)
    table.notes += [
        "a pipeline and MSET write the values only: no ETag, no order of keys, no time to live",
        "one value of 1,000 that another program keeps under a blob's name stops a put_many before it writes",
    ]
    for number in range(rounds):
        for name in _turned(table.names, number):
            put, get = contenders[name]
            client.flushall()
            for column, call in zip(MANY_COLUMNS, (put, put, get), strict=True):
                begin = time.perf_counter()
                call()
                table.add(name, column, (time.perf_counter() - begin) / len(blobs) * 1e6)
    store.close()
    client.close()


def _turned(names: list[str], number: int) -> list[str]:
    return names[number % len(names) :] + names[: number % len(names)]
