"""What a store in Valkey or Redis may be opened with: URLs, sockets, and clients of every kind."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from tests.servers.ports import free_port
from tests.servers.valkey import ValkeyServer, program, valkey_cluster

import valkey
from holdall import Store
from holdall.errors import InvalidArgumentError, StoreUnavailableError
from holdall.stores.valkey import ValkeyStore, open_socket, open_tls
from holdall.testing import race


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


def _works(store: Store) -> None:
    assert store.put("a", b"\xff\x00").size == 2
    assert store["a"] == b"\xff\x00"
    assert store.get_many(["a"]) == {"a": b"\xff\x00"}
    assert list(store) == ["a"]
    assert store.delete("a") is True


def test_a_socket_of_this_host(tmp_path: Path) -> None:
    path = tmp_path / "a server@home.sock"
    with (
        ValkeyServer("--unixsocket", str(path), "--requirepass", "s3cr@t/?"),
        redis.Redis(unix_socket_path=str(path), password="s3cr@t/?") as client,
    ):
        url = f"unix://{path}".replace(" ", "%20").replace("@", "%40")
        stores = [
            ValkeyStore(f"{url}?db=3", password="s3cr@t/?"),
            ValkeyStore(f"{url}?db=3".replace("unix://", "unix://default:s3cr%40t%2F%3F@")),
            Store.from_uri(f"{url}?db=3&password=s3cr%40t%2F%3F"),
            Store.from_uri(f"{url}?db=3".replace("unix://", "unix://:s3cr%40t%2F%3F@")),
            ValkeyStore(redis.Redis(unix_socket_path=str(path), password="s3cr@t/?", db=3)),
            ValkeyStore(valkey.Valkey(unix_socket_path=str(path), password="s3cr@t/?", db=3)),
        ]
        secret = tmp_path / "secret"
        secret.write_text("s3cr@t/?\n")
        stores.append(pickle.loads(pickle.dumps(ValkeyStore(f"{url}?db=3", password=f"file:{secret}"))))
        for store in stores:
            with store:
                _works(store)
                store.clear()
                assert "s3cr" not in repr(store)
        assert client.info("keyspace") == {}
        stores[0] = ValkeyStore(f"{url}?db=3", password="s3cr@t/?")
        stores[0]["left"] = b"x"
        assert list(client.info("keyspace")) == ["db3"]
        stores[0].close()
    with ValkeyStore(url) as store, pytest.raises(StoreUnavailableError) as caught:
        store.get("key")
    assert str(path) in str(caught.value)


def test_the_number_of_a_database_may_be_an_option(server: ValkeyServer) -> None:
    for store in (
        ValkeyStore(f"{server.url}?db=5"),
        ValkeyStore(f"{server.url}/5?db=5"),
        Store.from_uri(f"{server.url}?db=5"),
        Store.from_uri(server.url, db=5),
        Store.from_uri(f"{server.url}/5"),
    ):
        with store:
            assert repr(store) == f"ValkeyStore('{server.url}/5')"
    assert repr(open_tls("h:1", db=2)) == "ValkeyStore('rediss://h:1/2')"
    assert repr(open_socket("user:s3cret@/a b@/c.sock", db=2)) == (
        "ValkeyStore('unix://user@/a%20b%40/c.sock?db=2', password='***')"
    )


@pytest.mark.parametrize(
    "url",
    [
        *("redis://localhost/1?db=2", "redis://localhost?db=x", "redis://localhost?db=1&db=1"),
        *("redis://localhost?socket_timeout=3", "redis://localhost:0", "redis://:pa#ss@localhost"),
        *("redis://:pass?word@localhost", "unix://", "unix:///", "unix://host/path.sock", "unix://host:1/a"),
        *("unix:///a.sock?db=x", "redis://:1#s3cret@localhost", "redis://localhost?password=s3cret"),
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        ValkeyStore(url)
    assert "s3cret" not in str(caught.value)


def test_a_socket_is_no_way_into_a_cluster() -> None:
    with pytest.raises(InvalidArgumentError, match="cluster"):
        ValkeyStore("unix:///a.sock", cluster=True)


@pytest.mark.parametrize("library", [redis, valkey], ids=lambda library: library.__name__)
def test_clients_with_settings_of_all_kinds(server: ValkeyServer, library: Any) -> None:
    client = library.Redis if library is redis else library.Valkey
    at = {"host": "127.0.0.1", "port": server.port}
    pools = [
        library.BlockingConnectionPool(**at, max_connections=1, timeout=1),
        library.ConnectionPool(**at, max_connections=1),
        library.ConnectionPool.from_url(f"redis://127.0.0.1:{server.port}/4?decode_responses=true"),
    ]
    clients = [
        *(client(connection_pool=pool) for pool in pools),
        client(**at, single_connection_client=True),
        client(**at, encoding="latin-1", decode_responses=True, protocol=3),
        client(**at, health_check_interval=1, client_name="named", socket_keepalive=True),
        client(**at, retry_on_error=[library.ConnectionError], socket_timeout=5, socket_connect_timeout=1),
        client.from_url(f"redis://127.0.0.1:{server.port}/4"),
    ]
    for one in clients:
        with one, ValkeyStore(one, prefix="clients:") as store:
            _works(store)
            # The limit of the client's pool is for the client.
            race(*[lambda number=number, store=store: store.put(f"{number}", b"x") for number in range(4)])
            store.clear()
            assert one.ping()


def test_a_client_that_tries_again(server: ValkeyServer) -> None:
    port = free_port()
    retry = Retry(ExponentialBackoff(cap=0.02, base=0.01), 3)
    with (
        redis.Redis(port=port, retry=retry) as client,
        ValkeyStore(client) as store,
        pytest.raises(StoreUnavailableError, match=f"{port}; is it up"),
    ):
        store.get("key")


def test_a_client_without_a_timeout_has_that_of_the_store(server: ValkeyServer) -> None:
    with (
        redis.Redis(port=server.port, socket_timeout=None, retry=Retry(NoBackoff(), 0)) as client,
        ValkeyStore(client) as store,
        ValkeyStore(client, timeout=0.2) as hasty,
    ):
        _works(store)
        server.pause()
        try:
            with pytest.raises(StoreUnavailableError, match="timeout="):
                hasty.get("key")
        finally:
            server.resume()


def test_what_is_no_client_of_one_server() -> None:
    class Own(redis.asyncio.Redis):
        """A client that somebody made a class of their own of."""

    wrong: Any = ValkeyStore
    for client in (
        *(redis.asyncio.Redis(), valkey.asyncio.Valkey(), Own(), redis.asyncio.RedisCluster(host="h")),
        *(redis.ConnectionPool(), redis.Redis, redis.Sentinel([("localhost", 1)])),
    ):
        with pytest.raises(InvalidArgumentError, match="synchronous client"):
            wrong(client)
    with pytest.raises(InvalidArgumentError, match="master_for"):
        wrong(redis.Sentinel([("localhost", 1)]))


@pytest.mark.parametrize("library", [redis.RedisCluster, valkey.ValkeyCluster])
def test_a_client_of_a_cluster_behind_other_addresses(library: Any) -> None:
    with valkey_cluster() as servers:
        # As seen from outside a container: localhost is the server's 127.0.0.1.
        told: set[tuple[str, int]] = set()

        def remap(address: tuple[str, int]) -> tuple[str, int]:
            told.add(address)
            return "localhost", address[1]

        options: dict[str, Any] = {"address_remap": remap, "socket_timeout": 5}
        if library is valkey.ValkeyCluster:
            options["read_from_replicas"] = True
        client = library(host="localhost", port=servers[1].port, **options)
        told.clear()
        with ValkeyStore(client, prefix="remapped:") as store:
            store.put_many({f"{number}": b"x" for number in range(100)})
            assert len(store) == 100
        assert {port for _, port in told} == {server.port for server in servers}
        client.close()


class _Sentinel:
    def __init__(self, folder: Path, primary: ValkeyServer) -> None:
        self.port = free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 4000\n"
        )
        self.process = subprocess.Popen(
            [program(), str(config), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def test_a_client_of_a_sentinel(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(ValkeyServer())
        replica = stack.enter_context(ValkeyServer("--replicaof", f"127.0.0.1 {primary.port}"))
        seen = stack.enter_context(redis.Redis(port=replica.port))
        _until(lambda: seen.info("replication")["master_link_status"] == "up")
        sentinel = stack.enter_context(contextlib.closing(_Sentinel(tmp_path, primary)))
        watcher = redis.Redis(port=sentinel.port)
        stack.enter_context(watcher)
        _until(lambda: _answers(watcher) and len(watcher.sentinel_slaves("main")) == 1)
        client = redis.Sentinel([("127.0.0.1", sentinel.port)], socket_timeout=2).master_for("main")
        store = stack.enter_context(ValkeyStore(client, timeout=5))
        _works(store)
        store["before"] = b"x"
        with redis.Redis(port=primary.port) as raw:
            raw.wait(1, 5000)
        primary.kill()
        failed: list[StoreUnavailableError] = []

        def writes() -> bool:
            try:
                return store.put("after", b"y").size == 1
            except StoreUnavailableError as error:
                failed.append(error)
                return False

        _until(writes)
        assert failed
        assert "main" in str(failed[0])
        assert store["before"] == b"x"
        assert store.delete("before") is True
        assert list(store) == ["after"]
        assert seen.exists("holdall:b:after")
        client.close()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _until(ready: Any) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)
