"""A store in PostgreSQL, reached in other ways: by TLS, by a socket, through a pooler, at other isolation."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.servers.certificates import sign_itself
from tests.servers.pgbouncer import pgbouncer
from tests.servers.postgresql import PostgresServer

from holdall import SqlStore, Store, StoreUnavailableError

MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer("default_transaction_isolation=serializable") as server:
        key, certificate = Path(server.data, "server.key"), Path(server.data, "server.crt")
        sign_itself("DNS:localhost", certificate, key)
        key.chmod(0o600)
        if os.getuid() == 0:
            shutil.chown(key, "postgres")
            shutil.chown(certificate, "postgres")
        server.stop()
        server.settings.append("ssl=on")
        server.start()
        yield server


def together(calls: Callable[[int], None]) -> None:
    """Call from six threads at once; raise the first error."""
    failed: list[BaseException] = []

    def call(number: int) -> None:
        try:
            calls(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_tls(server: PostgresServer, tmp_path: Path) -> None:
    root = Path(server.data, "server.crt")
    for path in (root, tmp_path / "other.crt"):
        if path != root:
            sign_itself("DNS:localhost", path, tmp_path / "other.key")
        for host in ("localhost", "127.0.0.1"):
            url = f"postgresql://holdall@{host}:{server.port}/postgres"
            with Store.from_uri(f"{url}?sslmode=verify-full&sslrootcert={path}") as store:
                if (path, host) == (root, "localhost"):
                    store["a"] = b"1"
                    assert store["a"] == b"1"
                    continue
                with pytest.raises(StoreUnavailableError, match=r"trusted.*sslrootcert="):
                    store["a"] = b"1"


def test_a_socket_of_the_system(server: PostgresServer) -> None:
    folder = quote(server.folder, safe="")
    with SqlStore(f"postgresql://holdall@{folder}:{server.port}/postgres") as store:
        store["socket"] = b"1"
        assert f"host={server.folder}" in repr(store)
    for uri in (
        f"postgresql://holdall@{folder}:{server.port}/postgres",
        f"postgresql://holdall@/postgres?host={server.folder}&port={server.port}",
    ):
        with Store.from_uri(uri) as store:
            assert store["socket"] == b"1"


def test_calls_that_the_server_undoes_begin_again(server: PostgresServer) -> None:
    def work(number: int) -> None:
        for turn in range(10):
            store.modify("count", lambda old: b"%d" % (int(old) + 1))
            store.put("same", b"%d" % number, ttl=60)
            store.put_many({"same": b"x", f"many/{turn}": b"y"})
            store.delete("same")

    with SqlStore(server.url, table="undone") as store:
        store["count"] = b"0"
        together(work)
        assert store["count"] == b"60"


def test_a_pooler(server: PostgresServer) -> None:
    def work(number: int) -> None:
        store.put(f"large/{number}", iter([bytes(MIB)] * 5))
        for turn in range(10):
            key = f"{number}/{turn}"
            store[key] = key.encode()
            assert store[key] == key.encode()
            store.put_many({f"{key}/a": b"1", f"{key}/b": b"2"})
        assert len(store[f"large/{number}"]) == 5 * MIB

    with pgbouncer(server) as url:
        with SqlStore(url, table="pooled", prepare=False) as store:
            together(work)
            assert len(store) == 6 + 6 * 10 * 3
        with SqlStore(url, table="prepared") as store:
            refused: StoreUnavailableError | None = None
            try:
                together(work)
            except StoreUnavailableError as error:
                refused = error
            # Version 1.21 and later know prepared statements.
            assert refused is None or "prepare=False" in str(refused)
