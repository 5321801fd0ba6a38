"""What is special to a store in Valkey or Redis."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import pickle
import random
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.again import Again
from tests.servers.valkey import ValkeyServer, valkey_cluster

import valkey
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    KeyConflictError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.store import ABSENT, Item, LeftOut, Store
from holdall.stores.valkey import ValkeyStore, head, open_tls
from holdall.stores.valkey.cluster import slot_of
from holdall.stores.valkey.connecting import url_of
from holdall.testing import StoreSuite, race

MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[ValkeyServer]]:
    with valkey_cluster() as servers:
        yield servers


def prefix_of(place: Path) -> str:
    return f"test:{hashlib.sha256(str(place).encode()).hexdigest()[:16]}:"


class TestValkey(StoreSuite):
    url: str

    @pytest.fixture(autouse=True)
    def _at(self, server: ValkeyServer) -> None:
        self.url = server.url

    def make(self, place: Path) -> Store:
        return ValkeyStore(self.url, prefix=prefix_of(place))


class TestValkeyCluster(Again):
    respells = True
    url: str

    @pytest.fixture(autouse=True)
    def _at(self, cluster: list[ValkeyServer]) -> None:
        self.url = cluster[0].url

    def make(self, place: Path) -> Store:
        return ValkeyStore(self.url, prefix=prefix_of(place), cluster=True)


@pytest.fixture
def raw(server: ValkeyServer) -> Iterator[redis.Redis]:
    """A bare client of an emptied server."""
    with redis.Redis(port=server.port, protocol=2) as raw:
        raw.flushall()
        yield raw


@pytest.fixture
def store(server: ValkeyServer, raw: redis.Redis) -> Iterator[ValkeyStore]:
    with ValkeyStore(server.url) as store:
        yield store


def names(raw: redis.Redis) -> set[bytes]:
    return set(raw.keys())


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def test_it_keeps_to_its_prefix(server: ValkeyServer, raw: redis.Redis) -> None:
    prefixes = ["app:", "app*", "app?", "app[a-z]", "app\\", "appx", "é:", "{tag}:"]
    stores = [ValkeyStore(server.url, prefix=prefix) for prefix in prefixes]
    raw.set("foreign", b"kept")
    raw.hset("app:foreign", "field", "kept")
    for number, store in enumerate(stores):
        store.put_many({"a": b"%d" % number, "large": bytes(9 * MIB)})
        store.put("brief", b"", ttl=60)
        assert all(name.startswith(prefixes[number].encode()) for name in names(raw) if b"large" in name) is (
            number == 0
        )
    for number, store in enumerate(stores):
        assert list(store) == ["a", "brief", "large"]
        assert store["a"] == b"%d" % number
        store.clear()
        assert list(store) == []
        assert all(list(other) == ["a", "brief", "large"] for other in stores[number + 1 :])
    for store in stores:
        # A listing leaves an empty list of keys, and clear not even that.
        store.clear()
    assert sorted(raw.keys()) == [b"app:foreign", b"foreign"]
    for store in stores:
        store.close()


def test_a_prefix_that_another_one_begins_with(server: ValkeyServer, raw: redis.Redis) -> None:
    with ValkeyStore(server.url, prefix="a") as short, ValkeyStore(server.url, prefix="a:b") as long:
        for store in (short, long):
            store.put_many({"x": b"", ":b": b"", "b:x": b"", "large": bytes(5 * MIB)})
        short.clear()
        assert len(long) == 4
        assert len(long["large"]) == 5 * MIB
        short["x"] = b"short"
        long.clear()
        assert list(short) == ["x"]


def test_a_foreign_value_under_the_name_of_a_blob_is_neither_read_nor_overwritten(
    store: ValkeyStore, raw: redis.Redis
) -> None:
    raw.set("holdall:b:text", b"foreign")
    raw.hset("holdall:b:hash", "field", "foreign")
    store["mine"] = b"mine"
    for key in ("text", "hash"):
        assert store.get(key) is None
        assert key not in store
        assert store.get_many([key, "mine"]) == {"mine": b"mine"}
        assert store.delete(key) is False
        with pytest.raises(BlobNotFoundError):
            store.get_range(key, 1)
        with pytest.raises(BlobNotFoundError):
            store.copy(key, "new")
        for write in (
            lambda key=key: store.put(key, b"x"),
            lambda key=key: store.put(key, b"x", expect=ABSENT),
            lambda key=key: store.put(key, bytes(9 * MIB)),
            lambda key=key: store.put_many({"other": b"x", key: b"x"}),
            lambda key=key: store.copy("mine", key),
            lambda key=key: store.move("mine", key),
        ):
            with pytest.raises(KeyConflictError) as caught:
                write()
            assert "prefix" in str(caught.value)
    assert list(store) == ["mine"]
    store.clear()
    assert raw.get("holdall:b:text") == b"foreign"
    assert raw.hgetall("holdall:b:hash") == {b"field": b"foreign"}
    assert len(raw.keys()) == 2, "a write that was refused left something"


def test_what_another_program_puts_in_the_place_of_a_blob_is_left_out_and_reported(
    store: ValkeyStore, raw: redis.Redis
) -> None:
    store.put_many({"a": b"1", "hash": b"2", "text": b"3", "z": b"4"})
    raw.delete("holdall:b:hash")
    raw.hset("holdall:b:hash", "field", "theirs")
    raw.set("holdall:b:text", "theirs")
    for _ in range(2):
        assert list(store) == [info.key for info in store.list()] == ["a", "z"]
        assert list(store.left_out()) == [
            LeftOut("hash", "another program's hash"),
            LeftOut("text", "another program's string"),
        ]
    assert list(store.left_out("t")) == [LeftOut("text", "another program's string")]
    assert store.delete("hash") is False
    assert [left.path for left in store.left_out()] == ["text"]
    store.clear()
    assert names(raw) == {b"holdall:b:hash", b"holdall:b:text"}


def test_what_another_program_deletes_is_gone_from_listings(store: ValkeyStore, raw: redis.Redis) -> None:
    store.put_many({"a": b"1", "b": b"2", "c": b"3"})
    raw.delete("holdall:b:b")
    assert list(store) == ["a", "c"]
    assert raw.zrange("holdall:keys", 0, -1) == [b"a", b"c", b"\xff"]


def test_the_chunks_of_a_large_blob_go_with_it(store: ValkeyStore, raw: redis.Redis) -> None:
    large = noise(9 * MIB + 5)
    store["small"] = b"small"

    def chunks() -> list[bytes]:
        return [name for name in names(raw) if name.startswith(b"holdall:c:")]

    def put() -> None:
        store["large"] = large
        assert len(chunks()) == 1
        assert raw.ttl(chunks()[0]) == -1, "chunks that are published expire"

    put()
    store["large"] = b"small now"
    assert chunks() == []
    put()
    store["large"] = large[1:]
    assert len(chunks()) == 1
    store.put_many({"large": b"small"})
    assert chunks() == []
    put()
    del store["large"]
    assert chunks() == []
    put()
    store.copy("large", "copied")
    assert len(chunks()) == 2
    assert all(raw.ttl(name) == -1 for name in chunks())
    store.move("large", "copied")
    assert len(chunks()) == 1
    assert store["copied"] == large
    store.copy("small", "copied")
    assert chunks() == []
    put()
    store.move("small", "large")
    assert chunks() == []
    put()
    store.clear()
    assert names(raw) == set()


def test_a_large_blob_that_fails_leaves_nothing(store: ValkeyStore, raw: redis.Redis) -> None:
    info = store.put("key", b"before")
    held = names(raw)

    def failing() -> Iterator[bytes]:
        for _ in range(12):
            yield bytes(MIB)
        raise RuntimeError("the body failed")

    with pytest.raises(RuntimeError):
        store.put("key", failing())
    with pytest.raises(BlobExistsError):
        store.put("key", bytes(12 * MIB), expect=ABSENT)
    with pytest.raises(ConcurrencyError):
        store.put("key", bytes(12 * MIB), expect="0" * 16)
    assert names(raw) == held
    assert store.info("key") == info


def test_the_chunks_of_a_writer_that_dies_expire(store: ValkeyStore, raw: redis.Redis) -> None:
    def watched() -> Iterator[bytes]:
        for number in range(12):
            yield bytes(MIB)
            chunks = [name for name in names(raw) if name.startswith(b"holdall:c:")]
            assert len(chunks) == (number >= 4)
            # Were the writer killed now, these seconds are all that they would live.
            assert all(0 < raw.ttl(name) <= 15 * 60 for name in chunks)

    store.put("key", watched())
    assert store.info("key").size == 12 * MIB


def test_chunks_that_expired_under_a_writer_are_not_published(store: ValkeyStore, raw: redis.Redis) -> None:
    store["key"] = b"before"

    def slow() -> Iterator[bytes]:
        for number in range(12):
            yield bytes(MIB)
            if number == 10:
                raw.delete(*[name for name in names(raw) if name.startswith(b"holdall:c:")])

    with pytest.raises(StoreUnavailableError, match="put it again"):
        store.put("key", slow())
    assert store["key"] == b"before"


def test_a_blob_whose_chunks_were_evicted_says_so(store: ValkeyStore, raw: redis.Redis) -> None:
    store["key"] = bytes(9 * MIB)
    raw.delete(*[name for name in names(raw) if name.startswith(b"holdall:c:")])
    for read in (lambda: store["key"], lambda: b"".join(store.chunks("key"))):
        with pytest.raises(IntegrityError, match="maxmemory-policy"):
            read()


def test_expired_keys_leave_the_index_without_a_listing(store: ValkeyStore, raw: redis.Redis) -> None:
    for number in range(100):
        info = store.put(f"brief/{number}", b"", ttl=0.001)
    assert info.expires is not None
    while time.time() <= info.expires.timestamp() + 0.002:
        pass
    for number in range(20):
        store.put(f"long/{number}", b"", ttl=60)
    assert raw.zcard("holdall:keys") == raw.zcard("holdall:expiring") == 20
    store.put_many({f"long/{number}": b"" for number in range(20)})
    assert raw.zcard("holdall:expiring") == 0
    assert len(store) == 20


def test_a_key_that_expired_and_came_again_stays_listed(store: ValkeyStore, raw: redis.Redis) -> None:
    put_again = {
        "put": lambda key: store.put(key, b"again"),
        "many": lambda key: store.put_many({key: b"again"}),
        "copy": lambda key: store.copy("source", key),
        "move": lambda key: store.move(store.copy("source", "moving").key, key),
    }
    store["source"] = b"again"
    last = None
    for name in put_again:
        last = store.put(name, b"", ttl=0.001)
    assert last is not None
    assert last.expires is not None
    while time.time() <= last.expires.timestamp() + 0.002:
        pass
    for name, put in put_again.items():
        put(name)
    for number in range(10):
        store.put(f"sweeps/{number}", b"", ttl=60)
    assert set(put_again) <= set(store)
    assert raw.zcard("holdall:expiring") == 10


def test_a_batch_with_many_ends_is_one_request(store: ValkeyStore, raw: redis.Redis) -> None:
    store.put_many({f"{number:03}": b"old" for number in range(300)}, ttl=60)
    raw.config_resetstat()
    ends = {f"{number:03}": None if number % 3 else 1000 + number for number in range(500)}
    store.put_many({key: Item(key.encode(), ttl=seconds) for key, seconds in ends.items()})
    scripts = {name: stat for name, stat in raw.info("commandstats").items() if "eval" in name}
    assert sum(stat["calls"] for stat in scripts.values()) <= 2  # the first may load it
    left = {info.key: info.expires for info in store.list()}
    assert {key for key, moment in left.items() if moment is None} == {key for key in ends if not ends[key]}
    assert raw.zcard("holdall:expiring") == sum(1 for seconds in ends.values() if seconds)
    assert {key for key in ends if raw.ttl(f"holdall:b:{key}") == -1} == {
        key for key in ends if not ends[key]
    }
    assert store.get_many(ends) == {key: key.encode() for key in ends}


def test_it_never_asks_for_all_keys_at_once(store: ValkeyStore, raw: redis.Redis) -> None:
    store.put_many({f"{number:05}": b"x" for number in range(5000)})
    # The first listing looks once whether the list is whole.
    assert bool(store)
    raw.config_resetstat()
    assert len(list(store.list())) == 5000
    assert next(store.iterate_keys("04")) == "04000"
    assert bool(store)
    used = {name.removeprefix("cmdstat_"): stat for name, stat in raw.info("commandstats").items()}
    assert not {"keys", "scan", "smembers", "zrange", "hgetall"} & set(used)
    assert used["zrangebylex"]["calls"] < 20
    store.clear()
    assert raw.keys() == []


def test_an_archive_is_read_by_one_request(store: ValkeyStore, raw: redis.Redis) -> None:
    with store.open("a.zip", "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}", noise(MIB))
    raw.config_resetstat()
    with store.open("a.zip") as file, zipfile.ZipFile(file) as archive:
        assert [archive.read(f"{number}") for number in (2, 0, 1)] == [noise(MIB)] * 3
    used = {
        name for name in raw.info("commandstats") if name not in ("cmdstat_config|resetstat", "cmdstat_info")
    }
    assert (used, raw.info("commandstats")["cmdstat_get"]["calls"]) == ({"cmdstat_get"}, 1)


def test_touch_of_a_large_blob_renews_its_chunks(store: ValkeyStore, raw: redis.Redis) -> None:
    data = noise(5 * MIB + 1)
    store.put("large", data, ttl=100)
    store.touch("large", ttl=5000)
    assert all(
        raw.ttl(name) > 4000 for name in raw.keys("holdall:*") if raw.type(name) in (b"string", b"hash")
    )
    assert store["large"] == data
    store.put("large", data)
    raw.config_resetstat()
    assert store.touch("large", ttl=50).expires is not None
    assert raw.info("stats")["total_net_input_bytes"] < 5000
    assert store["large"] == data


def test_ranges_of_a_large_blob(store: ValkeyStore, raw: redis.Redis) -> None:
    data = noise(9 * MIB + 77)
    store["large"] = data
    rng = random.Random(1)
    for _ in range(60):
        start, stop = rng.randrange(-len(data), len(data) + 9), rng.randrange(-len(data), len(data) + 9)
        assert store.get_range("large", start, stop) == data[start:stop]
    for start in (0, MIB - 1, MIB, MIB + 1, 9 * MIB - 1, 9 * MIB, 9 * MIB + 76, 9 * MIB + 77):
        assert store.get_range("large", start, start + 2) == data[start : start + 2]
    raw.config_resetstat()
    assert store.get_range("large", 5 * MIB + 10, 5 * MIB + 20) == data[5 * MIB + 10 : 5 * MIB + 20]
    assert raw.info("stats")["total_net_output_bytes"] < 20_000, "a range costs more than its bytes"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
def test_a_large_blob_is_held_once(store: ValkeyStore, kind: Any) -> None:
    data = kind(bytes(64 * MIB))
    store["warm"] = b""
    tracemalloc.start()
    try:
        store["key"] = data
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()
    assert store.info("key").size == 64 * MIB
    del data
    tracemalloc.start()
    try:
        assert len(store["key"]) == 64 * MIB
        assert tracemalloc.get_traced_memory()[1] < 90 * MIB
    finally:
        tracemalloc.stop()


def test_many_blobs_of_unknown_size_come_in_several_replies(store: ValkeyStore, raw: redis.Redis) -> None:
    blobs = {f"{number:03}": bytes(300_000) for number in range(400)}
    store.put_many(blobs)
    raw.config_resetstat()
    assert store.get_many([*blobs, "absent", *blobs]) == blobs
    assert raw.info("commandstats")["cmdstat_mget"]["calls"] > 5


def test_a_large_blob_that_goes_while_it_is_read(store: ValkeyStore) -> None:
    goes: list[tuple[type[StoreError], Callable[[], object]]] = [
        (BlobNotFoundError, lambda: store.delete("key")),
        (ConcurrencyError, lambda: store.put("key", bytes(5 * MIB))),
    ]
    for kind, go in goes:
        store["key"] = bytes(20 * MIB)
        with store.open("key") as file:
            assert len(file.read(10)) == 10
            chunks = store.chunks("key")
            assert len(next(chunks)) == MIB
            go()
            with pytest.raises(kind):
                list(chunks)
            with pytest.raises(kind):
                file.read()


def test_large_blobs_that_are_replaced_while_they_are_read(server: ValkeyServer, store: ValkeyStore) -> None:
    blobs = [bytes([number]) * (9 * MIB + number) for number in range(4)]
    store["key"] = blobs[0]
    done = threading.Event()

    def write() -> None:
        try:
            for number in range(12):
                store.put("key", blobs[number % 4])
        finally:
            done.set()

    def read() -> None:
        with ValkeyStore(server.url) as other:
            while not done.is_set():
                assert other["key"] in blobs
                assert other.get_range("key", 8 * MIB)[:1] in [blob[:1] for blob in blobs]
                assert other.copy("key", "copied").size in [len(blob) for blob in blobs]
                assert other["copied"] in blobs
                with contextlib.suppress(ConcurrencyError):
                    assert b"".join(other.chunks("key")) in blobs

    race(write, read)


@pytest.mark.parametrize("library", [redis.Redis, valkey.Valkey])
@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 3}, {"db": 3}], ids=str)
def test_a_client_that_is_passed_in(
    server: ValkeyServer, raw: redis.Redis, library: Any, options: dict[str, Any]
) -> None:
    with library(host="127.0.0.1", port=server.port, **options) as client:
        store = ValkeyStore(client, prefix="app:")
        assert store.put("a", b"\xff\x00bytes stay bytes").size == 18
        assert store["a"] == b"\xff\x00bytes stay bytes"
        assert store.get_many(["a"]) == {"a": store["a"]}
        assert store.get_range("a", 0, 2) == b"\xff\x00"
        assert [info.size for info in store.list()] == [18]
        with pytest.raises(BlobExistsError):
            store.put("a", b"", expect=ABSENT)
        store["large"] = bytes(9 * MIB)
        assert len(store["large"]) == 9 * MIB
        with ValkeyStore(f"{server.url}/{options.get('db', 0)}", prefix="app:") as other:
            assert other["a"] == store["a"]
        with pytest.raises(UnsupportedOperation, match="URL"):
            pickle.dumps(store)
        assert "ValkeyStore" in repr(store)
        store.close()
        assert client.ping(), "close took the client along"


@pytest.mark.parametrize("library", [redis.RedisCluster, valkey.ValkeyCluster])
def test_a_client_of_a_cluster(cluster: list[ValkeyServer], library: Any) -> None:
    client = library(host="127.0.0.1", port=cluster[1].port)
    with ValkeyStore(client, prefix="injected:") as store:
        blobs = {f"{number}": b"%d" % number for number in range(300)}
        store.put_many(blobs)
        assert store.get_many(blobs) == blobs
        assert list(store) == sorted(blobs)
        with ValkeyStore(cluster[2].url, prefix="injected:", cluster=True) as other:
            assert dict(other.items()) == blobs
        store.clear()
    assert client.ping()
    client.close()


def test_what_is_no_server() -> None:
    wrong: Any = ValkeyStore
    for server in (None, 1, b"valkey://localhost", redis.asyncio.Redis(), object()):
        with pytest.raises(InvalidArgumentError):
            wrong(server)
    for url in (
        *("localhost", "http://localhost", "valkey://localhost/db", "valkey://localhost:x", ""),
        *(
            "valkey://localhost?timeout=1",
            "valkey://localhost/-1",
            "valkey://[::1",
            "valkey://localhost:99999",
        ),
    ):
        with pytest.raises(InvalidArgumentError):
            ValkeyStore(url)
    for options in (
        *({"prefix": ""}, {"prefix": "{}"}, {"prefix": b"a"}, {"timeout": 0}, {"timeout": "1"}),
        *({"timeout": -1}, {"timeout": True}, {"timeout": timedelta(seconds=1)}, {"tls_ca": "ca.pem"}),
        *({"timeout": float("inf")}, {"timeout": 1e12}, {"prefix": "\ud800"}),
        *({"password": 5}, {"password": "\ud800"}),
    ):
        with pytest.raises(InvalidArgumentError):
            wrong("valkey://localhost", **options)
    with pytest.raises(InvalidArgumentError, match="has only database 0"):
        ValkeyStore("valkey://localhost/1", cluster=True)
    with pytest.raises(InvalidArgumentError, match="RedisCluster"):
        ValkeyStore(redis.Redis(), cluster=True)
    with pytest.raises(InvalidArgumentError, match="own password"):
        ValkeyStore(redis.Redis(), password="secret")


def test_secrets_are_not_shown() -> None:
    for store in (
        ValkeyStore("redis://user:s3cr%40t%2F@localhost:1/2"),
        ValkeyStore("rediss://user@localhost:1/2", password="s3cr@t/"),
        ValkeyStore._from_uri("user:s3cr@t/@localhost:1/2"),
        open_tls("user:s3cr@t/@localhost:1/2"),
    ):
        assert "s3cr" not in repr(store)
        assert "user@localhost:1/2" in repr(store)
        assert "s3cr" not in repr(store._settings())
        with pytest.raises(UnsupportedOperation, match="env:NAME"):
            pickle.dumps(store)
        with pytest.raises(UnsupportedOperation, match="env:NAME"):
            pickle.dumps(store / "folder")
        with pytest.raises(StoreError) as caught:
            store.get("key")
        error: BaseException | None = caught.value
        while error is not None:
            assert "s3cr" not in str(error)
            error = error.__cause__ or error.__context__
    with pytest.raises(InvalidArgumentError) as refused:
        ValkeyStore("redis://user:s3cret@localhost:port")
    assert "s3cret" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_a_location_of_a_uri() -> None:
    assert url_of("valkey", "") == "valkey://"
    assert repr(ValkeyStore._from_uri("")) == "ValkeyStore('valkey://localhost:6379')"
    assert repr(ValkeyStore._from_uri("[::1]:7000/3", prefix="a:")) == (
        "ValkeyStore('valkey://[::1]:7000/3', prefix='a:')"
    )
    assert repr(open_tls("h", cluster=True)) == "ValkeyStore('rediss://h:6379', cluster=True)"


def test_slots_are_those_of_the_server(cluster: list[ValkeyServer]) -> None:
    with redis.Redis(port=cluster[0].port, protocol=2) as raw:
        for name in (b"a", b"holdall:{7}keys", b"{}a", b"{a", b"a}{b}", b"{{a}}", "é{ü}".encode()):
            assert raw.execute_command("CLUSTER KEYSLOT", name) == slot_of(name), name


def test_a_cluster_spreads_its_blobs(cluster: list[ValkeyServer]) -> None:
    with ValkeyStore(cluster[0].url, prefix="spread:", cluster=True) as store:
        store.put_many({f"{number:04}": b"%d" % number for number in range(1000)})
        for server in cluster:
            with redis.Redis(port=server.port, protocol=2) as raw:
                assert sum(b"b:" in name for name in raw.keys("spread:*")) > 150
        assert list(store.iterate_keys("05")) == [f"05{number:02}" for number in range(100)]
        assert [info.key for info in store.list()] == [f"{number:04}" for number in range(1000)]
        store.clear()
        for server in cluster:
            with redis.Redis(port=server.port, protocol=2) as raw:
                assert raw.keys("spread:*") == []


def test_a_server_that_is_in_no_cluster(server: ValkeyServer) -> None:
    with (
        ValkeyStore(server.url, cluster=True) as store,
        pytest.raises(StoreUnavailableError, match="leave cluster= out"),
    ):
        store["key"] = b"x"


def test_a_slot_that_moves_to_another_server(cluster: list[ValkeyServer]) -> None:
    with contextlib.ExitStack() as stack:
        raws = [stack.enter_context(redis.Redis(port=server.port, protocol=2)) for server in cluster]
        store = stack.enter_context(ValkeyStore(cluster[0].url, prefix="moves:", cluster=True))
        ids = [raw.execute_command("CLUSTER MYID").decode() for raw in raws]
        store["key"] = b"before"
        shard, _, name = store._place("key")
        slot = slot_of(name)
        held = [raw.execute_command("CLUSTER COUNTKEYSINSLOT", slot) for raw in raws]
        source = held.index(max(held))
        target = (source + 1) % 3
        raws[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        raws[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        # The new server has the keys already, the old one still has the slot: it says ASK. All prefixes share
        # the slots, and so the other tests' keys move too.
        while moving := raws[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            raws[source].execute_command(
                "MIGRATE", "127.0.0.1", cluster[target].port, "", 0, 5000, "KEYS", *moving
            )
        assert store["key"] == b"before"
        assert store.info("key").size == 6
        assert store.get_many(["key"]) == {"key": b"before"}

        def finish() -> None:
            for raw in (raws[target], raws[source], raws[3 - source - target]):
                raw.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])

        # A script has keys that are nowhere yet, for which the servers say TRYAGAIN until the slot has moved.
        race(lambda: store.put("key", b"asked"), finish)
        assert store["key"] == b"asked"
        store["key"] = b"moved"
        assert store.get_many(["key"]) == {"key": b"moved"}
        assert list(store) == ["key"]
        assert shard < 64


def test_a_store_that_is_dropped_leaves_no_connection(server: ValkeyServer, raw: redis.Redis) -> None:
    before = len(raw.client_list())
    store: ValkeyStore | None = ValkeyStore(server.url)
    race(*[partial(store.put, f"{number}", b"") for number in range(8)])
    assert len(raw.client_list()) > before
    store = None
    gc.collect()
    deadline = time.monotonic() + 60
    while len(raw.client_list()) > before:
        assert time.monotonic() < deadline


def test_heads_are_read_as_they_were_written() -> None:
    for kind in (None, "", "text/plain", "é" * 400, "x" * 4096):
        one = head.BlobHead("0123456789abcdef", 1_700_000_000_123_456, 1_800_000_000_123, 1 << 40, MIB, kind)
        read = head.parse(one.packed() + b"bytes")
        assert read is not None
        assert read[:6] == one[:6]
        assert (one.packed() + b"bytes")[read.end :] == b"bytes"
    rng = random.Random(0)
    for _ in range(300):
        head.parse(rng.randbytes(rng.randrange(80)))
        head.parse(head.MAGIC + rng.randbytes(rng.randrange(80)))


def test_a_long_content_type(store: ValkeyStore) -> None:
    kind = "text/plain; " + "é" * 1000
    info = store.put("key", b"four", content_type=kind)
    assert info.content_type == kind
    assert store.info("key") == next(store.list()) == info
    assert store.get_range("key", 1, 3) == b"ou"
    assert store["key"] == b"four"
    assert store.copy("key", "copied").content_type == kind
    assert store.move("key", "moved").content_type == kind
    with pytest.raises(InvalidArgumentError):
        store.put("key", b"four", content_type="x" * 70_000)
