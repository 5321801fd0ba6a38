"""A store in a cluster whose servers die, and whose slots move, while it is used."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module

import pytest
import redis
from tests.servers.valkey import ValkeyServer, valkey_cluster

from holdall.errors import ConcurrencyError, StoreError, StoreUnavailableError
from holdall.stores.valkey import ValkeyStore
from holdall.stores.valkey.cluster import slot_of
from holdall.testing import race

MIB = 1 << 20


def test_a_replica_takes_the_place_of_a_server_that_dies() -> None:
    """What a cluster itself may lose is what was acknowledged just before: replicas get it afterwards."""
    with valkey_cluster(replicas=True, node_timeout=1000) as servers:
        acknowledged: list[dict[str, float]] = [{}, {}]
        failed: list[StoreError] = []
        killed = [0.0]
        done = threading.Event()

        def write(name: int) -> None:
            with ValkeyStore(servers[0].url, cluster=True, timeout=10) as store:
                number = 0
                while not done.is_set():
                    key = f"{name}/{number}"
                    try:
                        if number % 20 == 0:
                            store.put(key, key.encode() + bytes(5 * MIB))
                        elif number % 20 < 10:
                            store.put(key, key.encode())
                        else:
                            store.put_many({key: key.encode()})
                    except StoreUnavailableError as error:
                        failed.append(error)
                        time.sleep(0.05)
                        continue
                    acknowledged[name][key] = time.monotonic()
                    number += 1

        def kill() -> None:
            try:
                deadline = time.monotonic() + 60
                while min(map(len, acknowledged)) < 100:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                servers[1].kill()
                killed[0] = time.monotonic()
                # Every shard is served again, by the replica that was elected.
                with ValkeyStore(servers[0].url, cluster=True, timeout=10) as store:
                    for number in range(200):
                        while not _writes(store, f"after/{number}"):
                            assert time.monotonic() < deadline, "nobody took the place of the dead server"
                            time.sleep(0.05)
            finally:
                done.set()

        race(kill, *[lambda name=name: write(name) for name in range(2)])
        assert failed, "no call was under way when the server died"
        with ValkeyStore(servers[2].url, cluster=True, timeout=10) as store:
            listed = set(store)
            for keys in acknowledged:
                for key, at in keys.items():
                    data = store.get(key)
                    if data is None:
                        assert killed[0] - 1 < at <= killed[0], f"{key} was acknowledged, and is gone"
                    else:
                        assert data.rstrip(b"\0") == key.encode()
            assert listed == store.get_many(listed).keys()


def _writes(store: ValkeyStore, key: str) -> bool:
    try:
        store[key] = b"x"
    except StoreUnavailableError:
        return False
    return True


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[ValkeyServer]]:
    with valkey_cluster() as servers:
        yield servers


@pytest.mark.parametrize("library", ["redis", "valkey"])
def test_slots_that_move_while_everybody_writes(
    cluster: list[ValkeyServer], monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """Nothing is lost, torn or left unlisted, also of blobs in chunks, while the keys of a slot are on both
    servers for a while."""
    # valkey-py has no classes for the errors of a cluster, unless its own client of clusters is used.
    monkeypatch.setattr("holdall.stores.valkey.connecting.driver", lambda: import_module(library))
    values = [b"small", bytes(4 * MIB + 100), b"x" * 300_000]
    with contextlib.ExitStack() as stack:
        raws = [stack.enter_context(redis.Redis(port=server.port, protocol=2)) for server in cluster]
        ids = [raw.execute_command("CLUSTER MYID").decode() for raw in raws]
        checks = stack.enter_context(ValkeyStore(cluster[0].url, prefix="moving:", cluster=True))
        keys = _of_one_shard(checks, 4)
        slot = slot_of(checks._place(keys[0])[2])
        for key in keys:
            checks.put(key, values[1])
        owner = next(number for number, raw in enumerate(raws) if _holds(raw, slot))
        working = [2]

        def move() -> None:
            here = owner
            while working[0]:
                there = (here + 1) % 3
                raws[there].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[here])
                raws[here].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[there])
                while names := raws[here].execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
                    raws[here].execute_command(
                        *("MIGRATE", "127.0.0.1", cluster[there].port, "", 0, 5000, "KEYS", *names)
                    )
                    # Others come between.
                    time.sleep(0.02)
                for raw in (raws[there], raws[here], raws[3 - here - there]):
                    raw.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[there])
                here = there
                time.sleep(0.3)

        def work(seed: int) -> None:
            try:
                with ValkeyStore(cluster[seed].url, prefix="moving:", cluster=True, timeout=30) as store:
                    for turn in range(30):
                        key = keys[turn % len(keys)]
                        if turn % 7 == 6:
                            store.put(key, values[turn % 3], ttl=3600)
                        else:
                            store.put(key, values[turn % 3])
                        assert store.get(key) in values
                        with contextlib.suppress(ConcurrencyError):
                            assert b"".join(store.chunks(key)) in values
                        assert set(store.get_many(keys)) == set(keys)
            finally:
                working[0] -= 1

        race(move, lambda: work(0), lambda: work(1))
        assert list(checks) == sorted(keys)
        assert all(value in values for value in checks.values())
        held = [name for raw in raws for name in raw.execute_command("CLUSTER GETKEYSINSLOT", slot, 100)]
        chunks = {name.rpartition(":")[2] for name in held if "}c:" in name}
        large = {info.etag for info in checks.list() if info.size > 4 * MIB}
        assert chunks == large, "chunks that belong to no blob were left behind"
        checks.clear()


def test_what_replaces_a_blob_waits_for_chunks_that_are_on_their_way(cluster: list[ValkeyServer]) -> None:
    """All else has moved. The server that the slot goes to must not take the chunks for gone: once they come,
    nothing would drop them."""
    with contextlib.ExitStack() as stack:
        raws = [stack.enter_context(redis.Redis(port=server.port, protocol=2)) for server in cluster]
        store = stack.enter_context(ValkeyStore(cluster[0].url, prefix="late:", cluster=True, timeout=0.2))
        large, small, brief = _of_one_shard(store, 3)
        etag = store.put(large, bytes(5 * MIB)).etag
        store.put_many({small: b"x", brief: b"x"}, ttl=3600)
        slot = slot_of(store._place(large)[2])
        here = next(raw for raw in raws if _holds(raw, slot))
        at = raws.index(here)
        there, port = raws[at - 1], cluster[at - 1].port
        here_id, there_id = (raw.execute_command("CLUSTER MYID").decode() for raw in (here, there))

        def move(names: list[str]) -> None:
            here.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *names)

        there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", here_id)
        here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", there_id)
        held = here.execute_command("CLUSTER GETKEYSINSLOT", slot, 100)
        chunks = [name for name in held if name.endswith(etag)]
        move([name for name in held if name not in chunks])
        calls: list[Callable[[], object]] = [
            lambda: store.put(large, b"new", ttl=3600),
            lambda: store.put_many({large: b"new"}, ttl=3600),
            lambda: store.delete(large),
            lambda: store.copy(small, large),
            lambda: store.move(small, large),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError, match="rearranged"):
                call()
        move(chunks)
        for raw in (there, here, raws[at - 2]):
            raw.execute_command("CLUSTER SETSLOT", slot, "NODE", there_id)
        assert store[large] == bytes(5 * MIB)
        store[large] = b"new"
        assert chunks[0] not in there.execute_command("CLUSTER GETKEYSINSLOT", slot, 100)
        store.clear()


def _of_one_shard(store: ValkeyStore, count: int) -> list[str]:
    shard = store._place("0")[0]
    numbers = (f"{number}" for number in range(10_000))
    return [key for key in numbers if store._place(key)[0] == shard][:count]


def _holds(raw: redis.Redis, slot: int) -> bool:
    return bool(raw.execute_command("CLUSTER COUNTKEYSINSLOT", slot))


@pytest.mark.parametrize("library", ["redis", "valkey"])
def test_a_cluster_that_was_not_asked_for(
    cluster: list[ValkeyServer], monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setattr("holdall.stores.valkey.connecting.driver", lambda: import_module(library))
    with ValkeyStore(cluster[0].url, prefix="plain:") as store:
        told: list[str] = []
        for call in (lambda: store.put("key", b"x"), *[lambda key=f"{n}": store.get(key) for n in range(20)]):
            try:
                assert call() is None
            except StoreUnavailableError as error:
                told.append(str(error))
        assert len(told) > 5
        assert all("cluster=True" in text for text in told)
