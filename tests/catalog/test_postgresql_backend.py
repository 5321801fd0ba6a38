"""A catalogue's rows in PostgreSQL."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.servers.postgresql import PostgresServer

from holdall import BlobStore
from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.postgresql import PostgresqlBackend
from holdall.catalog.query import All, Order, Query, parse_where
from holdall.catalog.row import Row
from holdall.errors import InvalidArgumentError, StoreUnavailableError, UnsupportedOperation
from holdall.testing import BackendSuite


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer("max_connections=200") as server:
        yield server


def schema_of(place: Path) -> str:
    return f"s_{hashlib.sha256(str(place).encode()).hexdigest()[:16]}"


class TestPostgresql(BackendSuite):
    url: str

    @pytest.fixture(autouse=True)
    def _at(self, server: PostgresServer) -> None:
        self.url = server.url

    def make(self, place: Path) -> MetadataBackend:
        return PostgresqlBackend(self.url, schema=schema_of(place))


@pytest.fixture
def backend(server: PostgresServer, tmp_path: Path) -> Iterator[PostgresqlBackend]:
    with contextlib.closing(PostgresqlBackend(server.url, schema=schema_of(tmp_path))) as backend:
        yield backend


def row(key: str, **metadata: Any) -> Row:
    return Row(key, 1, 1, 1, "d", 1, "t", "json", "", "", 0, 0, metadata)


def add(backend: PostgresqlBackend, *rows: Row) -> None:
    def act(t: Transaction) -> None:
        for each in rows:
            t.put_row(each)

    backend.transact(act)


@pytest.fixture(scope="module")
def large(server: PostgresServer) -> Iterator[PostgresqlBackend]:
    """Some thousand entries, of which the server has statistics."""
    with contextlib.closing(PostgresqlBackend(server.url, schema="large")) as large:
        rows = (row(f"k{n:05}", loss=n / 7, name=f"n{n}", deep={"er": n}, same=n % 3) for n in range(8000))
        add(large, *rows)
        large.create_index(("metadata", "loss"))
        large.create_index(("metadata", "deep", "er"))
        large.create_index(("size",))
        with psycopg.connect(server.url, autocommit=True) as raw:
            raw.execute("VACUUM ANALYZE large.holdall_catalog_v1_entries")
        yield large


def plan(backend: PostgresqlBackend, call: Callable[[], Iterator[Any]], number: int = 0) -> str:
    """How the server carries out a statement of a call."""
    asked: list[tuple[bytes, Any]] = []
    ask = backend._ask

    def spy(sql: bytes, values: Any = ()) -> list[tuple[Any, ...]]:
        asked.append((sql, values))
        return ask(sql, values)

    backend.indexes()
    backend._indexed()
    backend._ask = spy  # type: ignore[method-assign]
    try:
        list(call())
    finally:
        backend._ask = ask  # type: ignore[method-assign]
    sql, values = asked[number]
    with psycopg.connect(backend._url) as raw:
        return "\n".join(str(line) for (line,) in raw.execute(b"EXPLAIN " + sql, values))


@pytest.mark.parametrize("where", [{"metadata.name": "n5"}, {"metadata.name": {"in": ["n5", "n7", "x"]}}])
def test_what_a_field_equals_is_found_by_the_index_of_all_metadata(
    large: PostgresqlBackend, where: dict[str, Any]
) -> None:
    found = plan(large, lambda: large.find(Query(parse_where(where))))
    assert "Bitmap Index Scan on holdall_catalog_v1_facts" in found
    assert "facts @>" in found


@pytest.mark.parametrize(
    "where",
    [
        {"metadata.loss": 5 / 7},
        {"metadata.loss": 3},
        {"metadata.loss": "x"},
        {"metadata.loss": {"<": 0.5}},
        {"metadata.loss": {">=": 1140}},
        {"metadata.deep.er": {">": 7990}},
        {"metadata.loss": {"prefix": "x"}},
        {"metadata.loss": {">": 1141}, "metadata.name": {"prefix": "n"}},
        {"size": {">": 5}},
    ],
)
def test_a_comparison_uses_the_declared_index(large: PostgresqlBackend, where: dict[str, Any]) -> None:
    found = plan(large, lambda: large.find(Query(parse_where(where))))
    assert "Index" in found
    assert "holdall_catalog_v1_by_" in found


@pytest.mark.parametrize("descending", [False, True])
def test_an_order_with_a_limit_uses_the_declared_index(large: PostgresqlBackend, descending: bool) -> None:
    order = Order(("metadata", "loss"), descending)
    for number, after in ((0, None), (0, (5 / 7, "k00005")), (1, (5 / 7, "k00005"))):
        query = Query(All(()), order, after, 1)
        found = plan(large, lambda query=query: large.find(query), number)
        assert "holdall_catalog_v1_by_" in found
        assert "Seq Scan" not in found
    best = next(large.find(Query(All(()), order, None, 1)))
    assert best.key == ("k07999" if descending else "k00000")


def test_a_prefix_is_a_range_of_the_keys_index(large: PostgresqlBackend) -> None:
    for call in (
        lambda: large.keys("k0012"),
        lambda: large.find(Query(parse_where({"key": {"prefix": "k0012"}}))),
    ):
        found = plan(large, call)
        assert "holdall_catalog_v1_entries_pkey" in found
        assert "Seq Scan" not in found


def test_many_matches_are_not_sorted_for_each_page(large: PostgresqlBackend) -> None:
    found = list(large.find(Query(parse_where({"metadata.loss": {">=": 0}}))))
    assert [each.key for each in found] == [f"k{n:05}" for n in range(8000)]


def test_long_values_of_an_indexed_field(backend: PostgresqlBackend) -> None:
    backend.create_index(("metadata", "text"))
    long = "\U0001f600" * 5000
    rows = [row(key, text=long[:-1] + end) for key, end in (("a", "b"), ("b", "a"), ("c", "c"))]
    add(backend, *rows)
    a, b, c = rows
    assert list(backend.find(Query(order=Order(("metadata", "text"))))) == [b, a, c]
    assert list(backend.find(Query(order=Order(("metadata", "text"), True)))) == [c, a, b]
    where = parse_where({"metadata.text": a.metadata["text"]})
    assert list(backend.find(Query(where))) == [a]
    where = parse_where({"metadata.text": {">": a.metadata["text"]}})
    assert list(backend.find(Query(where))) == [c]
    # The longest key, and the longest number, too.
    add(backend, row("k" * 1024, text=10**300), row("\U0001f600" * 256, text=long))


def test_a_catalogue_is_in_its_schema(server: PostgresServer, tmp_path: Path) -> None:
    one, two = (PostgresqlBackend(server.url, schema=f"{schema_of(tmp_path)}_{n}") for n in range(2))
    add(one, row("a"))
    assert (list(one.keys()), list(two.keys())) == (["a"], [])
    assert one.identity != two.identity
    with psycopg.connect(server.url) as raw:
        names = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
        found = {name for (name,) in raw.execute(names, (one._schema,))}
    assert found == {
        f"holdall_catalog_v1_{name}"
        for name in ("entries", "versions", "blobs", "suspects", "aliases", "leases", "state")
    }
    one.close()
    two.close()


def test_reading_makes_no_tables(server: PostgresServer, backend: PostgresqlBackend) -> None:
    assert backend.row("a") is backend.fetch("a") is backend.load("a") is None
    assert list(backend.keys()) == list(backend.find(Query())) == backend.indexes() == []
    with psycopg.connect(server.url) as raw:
        found = raw.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (backend._schema,)).fetchone()
    assert found is None


def test_tables_that_are_dropped_are_made_again(server: PostgresServer, backend: PostgresqlBackend) -> None:
    add(backend, row("a"))
    with psycopg.connect(server.url, autocommit=True) as raw:
        raw.execute(f'DROP SCHEMA "{backend._schema}" CASCADE'.encode())
    assert backend.row("a") is None
    add(backend, row("b"))
    with psycopg.connect(server.url, autocommit=True) as raw:
        raw.execute(f'DROP SCHEMA "{backend._schema}" CASCADE'.encode())
    add(backend, row("c"))
    assert list(backend.keys()) == ["c"]


def test_a_newer_version(server: PostgresServer, tmp_path: Path) -> None:
    schema = schema_of(tmp_path)
    with psycopg.connect(server.url, autocommit=True) as raw:
        raw.execute(f'CREATE SCHEMA "{schema}"'.encode())
        raw.execute(f'CREATE TABLE "{schema}".holdall_catalog_v2_entries (key text)'.encode())
    with contextlib.closing(PostgresqlBackend(server.url, schema=schema)) as backend:
        for call in (lambda: backend.row("a"), lambda: add(backend, row("a"))):
            with pytest.raises(StoreUnavailableError, match="newer version of holdall"):
                call()


@pytest.mark.parametrize("schema", ["", 'a"; DROP TABLE x; --', "a.b", "a" * 64, "é"])
def test_a_schema_that_is_not_a_name(schema: str) -> None:
    with pytest.raises(InvalidArgumentError, match="schema"):
        PostgresqlBackend("postgresql://", schema=schema)


@pytest.mark.parametrize("url", ["postgresql://app:s3cr%40t@127.0.0.1:1/x", "postgresql://app:s3cr@t@h:x/y"])
def test_a_password_is_never_shown(url: str) -> None:
    def call() -> None:
        backend = PostgresqlBackend(url, timeout=2)
        assert "s3cr" not in repr(backend)
        backend.row("a")

    with pytest.raises((StoreUnavailableError, InvalidArgumentError)) as caught:
        call()
    assert "s3cr" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_pickle_opens_the_catalogue_again(
    server: PostgresServer, backend: PostgresqlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(backend, row("a"))
    with contextlib.closing(pickle.loads(pickle.dumps(backend))) as again:
        assert again.row("a") == row("a")
    with contextlib.closing(PostgresqlBackend(server.url, password="s3cret")) as secret:
        assert "s3cret" not in repr(secret)
        with pytest.raises(UnsupportedOperation, match="env:NAME"):
            pickle.dumps(secret)
    monkeypatch.setenv("DATABASE_PASSWORD", "s3cret")
    with contextlib.closing(PostgresqlBackend(server.url, password="env:DATABASE_PASSWORD")) as named:
        assert b"s3cret" not in pickle.dumps(named)


def test_a_catalogue_is_opened_by_its_url(server: PostgresServer, tmp_path: Path) -> None:
    with psycopg.connect(server.url, autocommit=True) as raw:
        raw.execute("CREATE DATABASE catalogue")
        raw.execute("CREATE ROLE app LOGIN SUPERUSER PASSWORD 's3cret'")
    url = f"postgresql://app:s3cret@127.0.0.1:{server.port}/catalogue"
    with BlobStore(tmp_path, backend=url) as store:
        store.put({"x": 1}, key="a", metadata={"loss": 0.5})
        assert "s3cret" not in repr(store)
        with pytest.raises(UnsupportedOperation, match="password"):
            pickle.dumps(store)
    with BlobStore(tmp_path, backend=url.replace(":s3cret", "").replace("postgresql:", "postgres:")) as store:
        found = store.find({"metadata.loss": {"<": 1}})
        assert [entry.key for entry in found] == ["a"]
        with pickle.loads(pickle.dumps(store)) as other:
            assert other.get("a") == {"x": 1}
    with pytest.raises(InvalidArgumentError, match="postgresql://") as caught:
        BlobStore(tmp_path, backend="mysql://app:s3cret@host/db")
    assert "s3cret" not in str(caught.value)


def test_a_connection_that_is_lost(server: PostgresServer, backend: PostgresqlBackend) -> None:
    add(backend, row("a"))

    def kill() -> None:
        with psycopg.connect(server.url, autocommit=True) as raw:
            raw.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holdall'"
            )
            # The server ends them a moment later.
            still = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'holdall'"
            while raw.execute(still).fetchone() is not None:
                pass

    kill()
    assert backend.row("a") == row("a")
    kill()
    add(backend, row("b"))

    def act(t: Transaction) -> None:
        t.put_row(row("c"))
        kill()
        t.put_row(row("d"))

    with pytest.raises(StoreUnavailableError, match="can't know whether it was done"):
        backend.transact(act)
    assert list(backend.keys()) == ["a", "b"]


def test_a_server_that_is_down(server: PostgresServer, backend: PostgresqlBackend) -> None:
    add(backend, row("a"))
    server.stop()
    try:
        for call in (lambda: backend.row("a"), lambda: add(backend, row("b"))):
            with pytest.raises(StoreUnavailableError):
                call()
    finally:
        server.start()
    add(backend, row("c"))
    assert list(backend.keys()) == ["a", "c"]


def test_a_writer_that_stays_away_keeps_others_for_no_longer_than_their_timeout(
    server: PostgresServer, backend: PostgresqlBackend
) -> None:
    add(backend, row("a"))
    inside, leave = threading.Event(), threading.Event()

    def act(t: Transaction) -> None:
        t.put_row(row("b"))
        inside.set()
        assert leave.wait(60)

    thread = threading.Thread(target=backend.transact, args=(act,))
    thread.start()
    assert inside.wait(60)
    try:
        with contextlib.closing(PostgresqlBackend(server.url, schema=backend._schema, timeout=1)) as other:
            with pytest.raises(StoreUnavailableError, match="lock_timeout"):
                add(other, row("c"))
            assert list(other.keys()) == ["a"]  # readers never wait
    finally:
        leave.set()
        thread.join()
    assert list(backend.keys()) == ["a", "b"]


def test_an_interrupt_gives_the_turn_back(server: PostgresServer, backend: PostgresqlBackend) -> None:
    add(backend, row("a"))

    def act(t: Transaction) -> None:
        t.put_row(row("b"))
        os.kill(os.getpid(), signal.SIGINT)
        t.put_row(row("c"))

    with pytest.raises(KeyboardInterrupt):
        backend.transact(act)
    with contextlib.closing(PostgresqlBackend(server.url, schema=backend._schema, timeout=5)) as other:
        add(other, row("d"))
    assert list(backend.keys()) == ["a", "d"]


def test_numbers_and_names_come_back_as_they_were(backend: PostgresqlBackend) -> None:
    """JSONB keeps neither the kind of a number nor the order of names."""
    metadata = {"zz": 1e23, "a": 10**23, "b": 1.0, "c": -0.0, "d": 1e-7, "aaa": 2**53, "e": float(2**53)}
    add(backend, row("a", **metadata))
    found = backend.row("a")
    assert found is not None
    assert repr(found.metadata) == repr(metadata)
    for name, value in metadata.items():
        assert list(backend.find(Query(parse_where({f"metadata.{name}": value})))) == [found]
    assert list(backend.find(Query(parse_where({"metadata.zz": 10**23})))) == []
