"""A store in PostgreSQL whose server, network or credentials fail."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import psycopg_pool
import pytest
from tests.servers.ports import free_port
from tests.servers.postgresql import PostgresServer
from tests.servers.proxy import Proxy

from holdall import (
    InvalidArgumentError,
    InvalidTypeError,
    KeyConflictError,
    LeftOut,
    ReadOnlyError,
    SqlStore,
    Store,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.catalog.postgresql import PostgresqlBackend
from holdall.stores.sql.rows import Statements

MIB = 1 << 20
SECRET = "s3cr@t/?#%"
QUOTED = "s3cr%40t%2F%3F%23%25"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        hba = Path(server.data, "pg_hba.conf")
        local = "host postgres app 127.0.0.1/32 scram-sha-256\n"
        hba.write_text(local + hba.read_text())
        with psycopg.connect(server.url, autocommit=True) as raw:
            raw.execute("SELECT pg_reload_conf()")
            raw.execute(f"CREATE ROLE app LOGIN PASSWORD '{SECRET}'".encode())
            raw.execute("GRANT ALL ON SCHEMA public TO app")
        yield server


@pytest.fixture
def raw(server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.url, autocommit=True) as raw:
        raw.execute("DROP TABLE IF EXISTS holdall, holdall_chunks")
        yield raw


@pytest.fixture
def store(server: PostgresServer, raw: psycopg.Connection[Any]) -> Iterator[SqlStore]:
    with SqlStore(server.url) as store:
        yield store


def count(raw: psycopg.Connection[Any], sql: bytes) -> int:
    row = raw.execute(sql).fetchone()
    assert row is not None
    return row[0]


def test_reading_makes_no_table(store: SqlStore, raw: psycopg.Connection[Any]) -> None:
    assert store.get("a") is None
    assert list(store) == []
    assert store.delete("a") is False
    store.clear()
    assert count(raw, b"SELECT count(*) FROM pg_tables WHERE tablename LIKE 'holdall%'") == 0
    store["a"] = b"1"
    raw.execute("DROP TABLE holdall, holdall_chunks")
    assert store.get("a") is None
    store["a"] = b"2"
    assert store["a"] == b"2"


def test_tables_that_another_client_makes_meanwhile(
    server: PostgresServer, store: SqlStore, raw: psycopg.Connection[Any]
) -> None:
    statements = Statements("holdall")
    raw.execute(statements.alone.replace(b"_xact", b""))
    first = threading.Thread(target=store.put, args=("a", b"1"))
    first.start()
    waiting = b"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while not count(raw, waiting):
        assert first.is_alive()
        time.sleep(0.01)
    for statement in statements.create:
        raw.execute(statement)
    with raw.transaction():
        # A client that alters the tables now waits until this transaction ends.
        raw.execute(b"INSERT INTO holdall_chunks VALUES (1, 1, '')")
        raw.execute(statements.alone.replace(b"_xact_lock", b"_unlock"))
        first.join(60)
        ended = not first.is_alive()
    first.join()
    assert ended
    assert store["a"] == b"1"


def test_chunks_go_with_their_blob(store: SqlStore, raw: psycopg.Connection[Any]) -> None:
    def chunks() -> int:
        return count(raw, b"SELECT count(*) FROM holdall_chunks")

    large = bytes(6 * MIB)
    store["a"] = large
    assert chunks() == 6
    ways: list[Callable[[], object]] = [
        lambda: store.put("a", b"small"),
        lambda: store.put("a", b"small", ttl=60),
        lambda: store.delete("a"),
        lambda: store.delete_many(["a"]),
        lambda: store.put_many({"a": b"small", "b": b""}),
        lambda: store.copy("b", "a"),
        lambda: store.move("b", "a"),
        store.clear,
    ]
    for way in ways:
        store["a"] = large
        store["b"] = b"b"
        way()
        assert chunks() == 0

    def failing() -> Iterator[bytes]:
        yield large
        raise RuntimeError("the body failed")

    with pytest.raises(RuntimeError):
        store.put("a", failing())
    assert chunks() == 0
    assert count(raw, b"SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'") == 0


def test_what_another_program_keeps(store: SqlStore, raw: psycopg.Connection[Any]) -> None:
    store["a"] = b"1"
    raw.execute("INSERT INTO holdall (key, etag, modified, data) VALUES ('/x//y', 1, now(), '')")
    assert list(store) == ["a"]
    assert list(store.left_out()) == [LeftOut("/x//y", "name that can't be a key")]
    raw.execute("DROP TABLE IF EXISTS theirs")
    raw.execute("CREATE TABLE theirs (id integer)")
    raw.execute("INSERT INTO theirs VALUES (1)")
    with SqlStore(store._settings()["server"], table="theirs") as other:
        for call in (lambda: other.get("a"), lambda: other.put("a", b""), lambda: list(other)):
            with pytest.raises(KeyConflictError, match="table="):
                call()
    assert count(raw, b"SELECT count(*) FROM theirs") == 1


@pytest.mark.parametrize("table", ["", "a b", 'a"b', "a;b", "a.b.c", "1a", "x" * 51, b"a", None, "é"])
def test_what_is_no_table(table: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="table"):
        SqlStore("postgresql://h/d", table=table)


def test_what_is_no_server() -> None:
    for wrong in (None, 1, object(), b"postgresql://h", "h", "mysql://h", "postgresql://h/d?colour=red"):
        with pytest.raises(InvalidArgumentError):
            SqlStore(wrong)
    with pytest.raises(InvalidArgumentError) as caught:
        SqlStore("postgresql://u:secr%zzet@h/d")
    assert "secr" not in str(caught.value)
    assert caught.value.__suppress_context__
    flag: Any = "no"
    with pytest.raises(InvalidTypeError, match="prepare"):
        SqlStore("postgresql://h/d", prepare=flag)
    with pytest.raises(InvalidArgumentError, match="no option"):
        Store.from_uri("postgresql://h/d?colour=red")


def test_no_server() -> None:
    port = free_port()
    with SqlStore(f"postgresql://u@127.0.0.1:{port}/d") as store:
        for call in (lambda: store.get("a"), lambda: store.put("a", b""), lambda: list(store), store.clear):
            with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{port}/d; is it up.*refused"):
                call()


def test_credentials(server: PostgresServer, raw: psycopg.Connection[Any], tmp_path: Path) -> None:
    at = f"127.0.0.1:{server.port}"
    for store in (
        SqlStore(f"postgresql://app:{QUOTED}@{at}/postgres", table="apps"),
        SqlStore(f"postgresql://app@{at}/postgres", table="apps", password=SECRET),
        Store.from_uri(f"postgres://app:{QUOTED}@{at}/postgres?table=apps"),
    ):
        store["a"] = b"1"
        assert SECRET not in repr(store)
        assert QUOTED not in repr(store)
        for each in (store, store / "folder"):
            with pytest.raises(UnsupportedOperation, match="env:NAME"):
                pickle.dumps(each)
        store.close()
    for url, says in (
        (f"postgresql://app@{at}/postgres", "asks for a password"),
        (f"postgresql://app:wr0ng@{at}/postgres", "password"),
        (f"postgresql://holdall@{at}/none", "createdb"),
        (f"postgresql://nobody@{at}/postgres", "doesn't know this user"),
    ):
        with SqlStore(url) as store:
            with pytest.raises(StoreUnavailableError, match=re.escape(says)) as caught:
                store.get("a")
            assert at in str(caught.value)
            assert "wr0ng" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    "name", ["oauth_client_secret", "scram_client_key", "scram_server_key", "sslpassword"]
)
def test_a_url_has_no_secret_but_the_password(name: str) -> None:
    url = f"postgresql://app@127.0.0.1/postgres?{name}=s3cret"
    for make in (SqlStore, Store.from_uri, PostgresqlBackend):
        with pytest.raises(InvalidArgumentError, match=f"{name} isn't taken|libpq") as caught:
            make(url)
        assert "s3cret" not in str(caught.value)


def test_passwords_of_the_environment(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://app@127.0.0.1:{server.port}/postgres"
    monkeypatch.setenv("APP_PASSWORD", SECRET)
    with SqlStore(url, table="apps", password="env:APP_PASSWORD") as store:
        store["a"] = b"1"
        pickled = pickle.dumps(store)
        assert SECRET.encode() not in pickled
        with pickle.loads(pickled) as again:
            assert again["a"] == b"1"
    monkeypatch.setenv("PGPASSWORD", SECRET)
    with SqlStore(url, table="apps") as store, pickle.loads(pickle.dumps(store)) as again:
        assert again["a"] == store["a"] == b"1"
    monkeypatch.delenv("PGPASSWORD")
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"127.0.0.1:*:*:app:{SECRET}\n")
    passfile.chmod(0o600)
    with Store.from_uri(f"{url}?table=apps&passfile={passfile}") as store:
        assert store["a"] == b"1"


def test_what_the_server_refuses(
    server: PostgresServer, store: SqlStore, raw: psycopg.Connection[Any]
) -> None:
    store["a"] = b"1"
    with SqlStore(f"postgresql://app@127.0.0.1:{server.port}/postgres", password=SECRET) as other:
        with pytest.raises(StoreUnavailableError, match="GRANT"):
            other.get("a")
        raw.execute("GRANT SELECT ON holdall, holdall_chunks TO app")
        assert other["a"] == b"1"
        with pytest.raises(StoreUnavailableError, match="GRANT"):
            other["a"] = b"2"
    option = "options=-c%20default_transaction_read_only%3Don"
    with (
        SqlStore(f"{server.url}?{option}") as other,
        pytest.raises(ReadOnlyError, match="default_transaction_read_only"),
    ):
        other["a"] = b"2"
    raw.execute("BEGIN")
    raw.execute("SELECT * FROM holdall FOR UPDATE")
    for setting, says in (("lock_timeout", "lock_timeout"), ("statement_timeout", "statement_timeout")):
        with SqlStore(f"{server.url}?options=-c%20{setting}%3D50ms") as other:
            for call in (lambda other=other: other.put("a", b"2"), lambda other=other: other.delete("a")):
                with pytest.raises(StoreUnavailableError, match=says):
                    call()
    raw.execute("ROLLBACK")
    assert store["a"] == b"1"


def test_a_server_that_starts_again() -> None:
    with PostgresServer() as server, SqlStore(server.url) as store:
        store["a"] = b"1"
        calls: list[Callable[[], object]] = [
            lambda: store["a"],
            lambda: store.put("a", b"2"),
            lambda: list(store),
            lambda: store.put("b", bytes(5 * MIB)),
            lambda: store.delete("b"),
        ]
        for number, call in enumerate(calls):
            server.stop("immediate" if number % 2 else "fast")
            if number == 1:
                with pytest.raises(StoreUnavailableError):
                    store.get("a")
            server.start()
            call()
        assert store["a"] == b"2"


def test_an_answer_that_is_lost(server: PostgresServer, raw: psycopg.Connection[Any]) -> None:
    with (
        contextlib.closing(Proxy(server.port)) as proxy,
        SqlStore(f"postgresql://holdall@127.0.0.1:{proxy.port}/postgres?sslmode=disable") as store,
    ):
        etag = store.put("a", b"0").etag

        def lose(holds: bytes = b"") -> None:
            done = threading.Event()

            def cut(way: str, data: bytes) -> bool:
                if way != "reply" or done.is_set() or holds not in data:
                    return False
                done.set()
                return True

            proxy.cut = cut

        lose()
        assert store["a"] == b"0"
        # The statement is prepared now, so that the answer that is lost is that to the put itself.
        store["a"] = b"0"
        lose()
        info = store.put("a", b"1")
        assert info == store.info("a")
        assert info.etag != etag
        lose(b"COMMIT")
        swapped = store.put("a", b"2", expect=info.etag)
        assert swapped == store.info("a")
        for call in (
            lambda: store.delete("a"),
            lambda: store.delete_many(["a"]),
            lambda: store.put_many({"a": b"3"}),
        ):
            store["a"] = b"4"
            lose()
            with pytest.raises(StoreUnavailableError, match="can't know"):
                call()


def test_what_is_passed_in_stays_open(server: PostgresServer, raw: psycopg.Connection[Any]) -> None:
    with psycopg_pool.ConnectionPool(server.url, min_size=1, max_size=4, open=True) as pool:
        with psycopg.connect(server.url) as connection:
            for given in (pool, connection):
                store = SqlStore(given)
                store["a"] = b"1"
                store["large"] = iter([bytes(3 * MIB)] * 2)
                assert store.put_many({"b": b"2"}).keys() == {"b"}
                assert store["a"] == b"1"
                assert len(store["large"]) == 6 * MIB
                with pytest.raises(UnsupportedOperation, match="URL"):
                    pickle.dumps(store)
                store.close()
            assert not connection.closed
            assert not connection.autocommit
        with pool.connection() as borrowed:
            assert not borrowed.autocommit
            assert borrowed.execute("SELECT 1").fetchone() == (1,)


def _child(store: SqlStore, number: int) -> None:
    for turn in range(20):
        store[f"{number}/{turn}"] = b"%d" % turn
        assert store[f"{number}/{turn}"] == b"%d" % turn


def test_forked_processes(store: SqlStore) -> None:
    store["before"] = b"x"
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_child, args=(store, number)) for number in range(3)]
    for child in children:
        child.start()
    _child(store, 9)
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert len(store) == 81


def test_a_server_that_hangs(server: PostgresServer, raw: psycopg.Connection[Any]) -> None:
    with SqlStore(server.url, timeout=1) as store, SqlStore(server.url, timeout=1) as writer:
        writer["a"] = store["b"] = b"1"
        large = bytes(64 * MIB)
        with server.hung():
            for call in (lambda: store["a"], lambda: list(store)):
                with pytest.raises(StoreUnavailableError, match=str(server.port)):
                    call()
            with pytest.raises(StoreUnavailableError, match=r"hasn't answered for 1 s.*can't know"):
                writer.put("a", large)
        assert store["a"] == b"1"
        # A call that waits for another client isn't ended, since the server answers.
        raw.execute("BEGIN")
        raw.execute("SELECT * FROM holdall FOR UPDATE")
        late = threading.Thread(target=lambda: store.put("a", b"2", ttl=60))
        late.start()
        late.join(2.5)
        assert late.is_alive()
        raw.execute("COMMIT")
        late.join(60)
        assert writer["a"] == b"2"


def test_what_has_expired_is_swept(server: PostgresServer, raw: psycopg.Connection[Any]) -> None:
    def rows() -> int:
        return count(raw, b"SELECT count(*) FROM holdall")

    def expire() -> None:
        raw.execute("UPDATE holdall SET expires = now() - interval '1 s' WHERE expires IS NOT NULL")

    with SqlStore(server.url) as store:
        store["forever"] = b"1"
        store.put_many({f"dead/{number}": b"x" for number in range(50)}, ttl=60)
        store.put("large", bytes(6 * MIB), ttl=60)
        expire()
        for number in range(16):
            store.put(f"next/{number}", b"y", ttl=60)
        assert rows() == 17
        assert count(raw, b"SELECT count(*) FROM holdall_chunks") == 0
        expire()
        # A row that another call holds is left alone, and nobody waits for it.
        raw.execute("BEGIN")
        raw.execute("SELECT * FROM holdall WHERE key = 'next/0' FOR UPDATE")
        store.put_many({"last": b"z"}, ttl=60)
        raw.execute("COMMIT")
        assert rows() == 3
        expire()
        with SqlStore(server.url) as another:
            another["forever"] = b"2"
        assert rows() == 1


def test_a_network_that_is_gone(server: PostgresServer) -> None:
    with SqlStore(server.url, timeout=7) as store:
        store.get("a")
        connection = store._source._idle[0].connection
        with socket.socket(fileno=os.dup(connection.fileno())) as copy:
            # Linux ends a connection whose bytes nobody confirms for as long.
            assert copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
            assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
