"""The list of keys in a Valkey server: what becomes of the store when it is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise

import pytest
import redis
from tests.servers.valkey import ValkeyServer, valkey_cluster

from holdall import MemoryStore, ValkeyStore, copy_store, sync_stores

PREFIX = "an*[odd]?pre\\fix:"


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def raw(server: ValkeyServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port) as raw:
        raw.flushall()
        yield raw


@pytest.fixture
def store(server: ValkeyServer, raw: redis.Redis) -> Iterator[ValkeyStore]:
    with ValkeyStore(server.url, prefix=PREFIX) as store:
        raw.set(f"{PREFIX}b:foreign", b"another program's")
        raw.set(f"{PREFIX}b:/no/key", b"another program's")
        raw.set("anX[odd]?pre\\fix:b:other", b"hdl1")
        yield store


def test_a_lost_list_is_made_anew(
    store: ValkeyStore, raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    store.put_many({f"{number:04}": b"x" for number in range(1500)})
    store.put("brief", b"x", ttl=600)
    assert len(store) == 1501
    assert not caplog.records
    raw.delete(f"{PREFIX}keys", f"{PREFIX}expiring")
    store["later"] = b"y"
    with caplog.at_level(logging.WARNING):
        assert len(store) == 1502
    assert "lacked 1501 blobs" in caplog.text
    assert raw.zscore(f"{PREFIX}expiring", "brief") is not None
    caplog.clear()
    assert len(list(store.list("00"))) == 100
    assert not caplog.records
    raw.zrem(f"{PREFIX}keys", "0001", "0002")
    assert store.reindex() == 2
    assert len(store) == 1502
    store.clear()
    assert sorted(name for name in raw.scan_iter() if name.startswith(PREFIX.encode())) == [
        f"{PREFIX}b:/no/key".encode(),
        f"{PREFIX}b:foreign".encode(),
    ]


def test_transfers_with_a_store_whose_list_was_lost(store: ValkeyStore, raw: redis.Redis) -> None:
    source, backup = MemoryStore({"a": b"1", "b": b"2", "c": b"3"}), MemoryStore()
    assert copy_store(source, store).ok
    raw.delete(f"{PREFIX}keys")
    report = sync_stores(source, store)
    assert (report.ok, list(store)) == (True, ["a", "b", "c"])
    assert copy_store(store, backup).ok
    raw.delete(f"{PREFIX}keys")
    assert sync_stores(store, backup).ok
    assert dict(backup) == dict(source)


def test_a_server_that_forgot_everything_under_an_open_handle(store: ValkeyStore, raw: redis.Redis) -> None:
    store.put_many({"a": b"1", "b": b"2"})
    assert list(store) == ["a", "b"]
    raw.flushall()
    assert (list(store), "a" in store, store.get("a")) == ([], False, None)
    store["c"] = b"3"
    assert list(store) == ["c"]


def test_a_user_who_may_not_search(
    server: ValkeyServer, raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with ValkeyStore(server.url) as store:
        store.put_many({"a": b"1", "b": b"2"})
    for number, rule in enumerate(("-scan", "-@write")):
        raw.execute_command(f"ACL SETUSER user{number} on >pass ~* +@all {rule}")
        raw.zrem("holdall:keys", b"\xff")
        with ValkeyStore(server.url.replace("//", f"//user{number}:pass@")) as store, caplog.at_level(30):
            assert list(store) == ["a", "b"]
            assert list(store) == ["a", "b"]
        assert len(caplog.records) == 1
        caplog.clear()


def test_a_cluster_that_lost_a_list() -> None:
    with valkey_cluster() as servers, ValkeyStore(servers[0].url, cluster=True) as store:
        keys = [f"{number:03}" for number in range(200)]
        store.put_many(dict.fromkeys(keys, b"x"))
        assert list(store) == keys
        for server in servers:
            with redis.Redis(port=server.port) as raw:
                for name in raw.keys("holdall:{*}keys"):
                    raw.delete(name)
        assert list(store) == keys
        assert store.reindex() == 0


def test_etags_are_not_counted(server: ValkeyServer, raw: redis.Redis) -> None:
    """Of a machine that is cloned, both copies would count on from the same number."""
    with ValkeyStore(server.url) as store:
        infos = [
            store.put("a", b"x"),
            store.put("a", b"x"),
            store.put("a", iter([b"x"])),
            store.copy("a", "b"),
        ]
        store.put_many({"c": b"", "d": b""})
        numbers = sorted(int(info.etag, 16) for info in [*infos, store.info("c"), store.info("d")])
        assert min(after - before for before, after in pairwise(numbers)) > 1000
