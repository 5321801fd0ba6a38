"""A catalogue's rows in SQLite."""

from __future__ import annotations

import math
import os
import pickle
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.interrupts import interrupting

from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.query import All, Order, Query, parse_where
from holdall.catalog.row import Row, Small
from holdall.catalog.sqlite import SqliteBackend
from holdall.errors import IntegrityError, InvalidArgumentError, StoreUnavailableError
from holdall.stores.sqlite import SqliteStore
from holdall.testing import BackendSuite


class TestSqlite(BackendSuite):
    def make(self, place: Path) -> MetadataBackend:
        return SqliteBackend(place / "cache_metadata.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache_metadata.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SqliteBackend]:
    with closing(SqliteBackend(path)) as backend:
        yield backend


def row(key: str, **metadata: Any) -> Row:
    return Row(key, 1, 1, 1, "d", 1, "t", "json", "", "", 0, 0, metadata)


def small(key: str) -> Small:
    digest = f"{time.monotonic_ns():064x}"
    return Small(key, digest, 1, 1, ".json", "t", "json", "", "", 0, {}, b"1")


def add(backend: SqliteBackend, *rows: Row) -> None:
    def act(t: Transaction) -> None:
        for each in rows:
            t.put_row(each)

    backend.transact(act)


def steps(backend: SqliteBackend, call: Callable[[], Iterator[Any]]) -> list[str]:
    """How SQLite carries out the first statement of a call."""
    assert backend.identity  # which makes the file
    asked: list[tuple[str, tuple[Any, ...]]] = []
    backend._indexed()  # what a handle asks for once a minute
    all_of = backend._all

    def spy(sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        asked.append((sql, values))
        return all_of(sql, values)

    backend._all = spy  # type: ignore[method-assign]
    try:
        list(call())
    finally:
        backend._all = all_of  # type: ignore[method-assign]
    sql, values = asked[0]
    return [each[3] for each in all_of(f"EXPLAIN QUERY PLAN {sql}", values)]


LOSS = ("metadata", "loss")


@pytest.mark.parametrize(
    "where",
    [
        {"metadata.loss": 0.25},
        {"metadata.loss": 7},
        {"metadata.loss": 2**70},
        {"metadata.loss": "x"},
        {"metadata.loss": True},
        {"metadata.loss": None},
        {"metadata.loss": {"<": 0.1}},
        {"metadata.loss": {">=": "a"}},
        {"metadata.loss": {"prefix": "a%"}},
        {"metadata.loss": {"in": [1, 2.5, "x", 4]}},
        {"metadata.loss": {"exists": False}},
        {"metadata.loss": {">": 1}, "metadata.other": {"<": 5}},
    ],
)
def test_a_comparison_uses_the_index(backend: SqliteBackend, where: dict[str, Any]) -> None:
    backend.create_index(LOSS)
    plan = steps(backend, lambda: backend.find(Query(parse_where(where))))
    assert any("USING INDEX holdall_catalog_v1_by_" in step for step in plan), plan


@pytest.mark.parametrize("descending", [False, True])
def test_an_order_with_a_limit_uses_the_index(backend: SqliteBackend, descending: bool) -> None:
    backend.create_index(LOSS)
    plan = steps(backend, lambda: backend.find(Query(All(()), Order(LOSS, descending), None, 1)))
    assert any("USING INDEX holdall_catalog_v1_by_" in step for step in plan), plan
    # Where values are equal, the keys of those are sorted, no more.
    assert [step for step in plan if "TEMP" in step] == (
        ["USE TEMP B-TREE FOR RIGHT PART OF ORDER BY"] if descending else []
    )
    follows = Query(All(()), Order(LOSS, descending), (0.5, "k"), 1)
    plan = steps(backend, lambda: backend.find(follows))
    assert len(plan) == 1
    assert "(<expr>=? AND key>?)" in plan[0]


def test_many_matches_are_not_sorted_for_each_page(backend: SqliteBackend) -> None:
    backend.create_index(LOSS)
    rows = [row(f"{number:06}", loss=number) for number in range(40_000)]
    add(backend, *rows)
    asked: list[str] = []
    backend._indexed()  # what a handle asks for once a minute
    all_of = backend._all
    backend._all = lambda sql, values: asked.append(sql) or all_of(sql, values)  # type: ignore[method-assign]
    found = list(backend.find(Query(parse_where({"metadata.loss": {">=": 0}}))))
    assert found == rows
    assert len(set(asked)) == 3
    assert len(asked) < 30
    plan = all_of(f"EXPLAIN QUERY PLAN {asked[-1]}", (-1, "020000", 1000))
    assert "entries_1 (key>?)" in plan[0][3]
    assert len(plan) == 1


def test_a_field_of_every_entry_has_an_index(backend: SqliteBackend) -> None:
    backend.create_index(("size",))
    plan = steps(backend, lambda: backend.find(Query(parse_where({"size": {">": 5}}), Order(("size",)))))
    assert any("USING INDEX holdall_catalog_v1_by_" in step for step in plan), plan
    assert not any("TEMP" in step for step in plan)


def test_a_page_of_blobs_reads_no_more_than_two_pages(backend: SqliteBackend) -> None:
    plan = steps(backend, backend.blobs)
    assert [step for step in plan if "holdall_catalog_v1" in step] == [
        f"SEARCH holdall_catalog_v1_{table} USING INTEGER PRIMARY KEY (rowid>?)"
        for table in ("blobs", "entries")
    ]
    for at in range(2500):
        assert backend.add_small(small(f"k{at}"))
        if at % 3 == 0:
            backend.transact(lambda t, key=f"k{at}": t.drop_row(key))
    numbers = [each.number for each in backend.blobs()]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 2500


@pytest.mark.parametrize("limit", [None, 5])
def test_what_no_index_finds_is_read_as_it_lies_if_all_is_wanted(
    backend: SqliteBackend, limit: int | None
) -> None:
    rows = [row(f"{at * 7919 % 3001:04}", loss=at % 3) for at in range(3001)]
    add(backend, *rows)
    query = Query(parse_where({"metadata.loss": 1}), limit=limit)
    (plan,) = steps(backend, lambda: backend.find(query))[:1]
    assert ("USING INDEX" in plan) is (limit is not None)
    wanted = sorted((each for each in rows if each.metadata["loss"] == 1), key=lambda each: each.key)
    assert list(backend.find(query))[:limit] == wanted[:limit]
    backend.create_index(LOSS)
    assert "by_" in steps(backend, lambda: backend.find(query))[0]


def test_a_prefix_is_a_range_of_the_keys_index(backend: SqliteBackend) -> None:
    for call in (
        lambda: backend.keys("run/"),
        lambda: backend.find(Query(parse_where({"key": {"prefix": "run/"}}))),
    ):
        (plan,) = steps(backend, call)
        assert "entries_1 (key>? AND key<?)" in plan


def test_only_suspects_are_read(backend: SqliteBackend) -> None:
    (plan,) = steps(backend, lambda: backend.suspects(5))
    assert "COVERING INDEX holdall_catalog_v1_since" in plan


@pytest.mark.parametrize("name", ["", 'a"b', "a\\b", "tab\t", "\ud800", "a\0"])
def test_a_name_that_sqlite_cannot_spell_has_no_index(backend: SqliteBackend, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="can't have an index"):
        backend.create_index(("metadata", name))
    with pytest.raises(InvalidArgumentError):
        backend.create_index(("metadata) ; DROP TABLE holdall_catalog_v1_entries; --",))
    assert backend.indexes() == []


def test_the_tables_of_another_program_are_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (a)")
        other.execute("INSERT INTO mine VALUES (1)")
        other.execute("PRAGMA user_version = 42")
        other.commit()
    with closing(SqliteBackend(path)) as backend:
        add(backend, row("a"))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT a FROM mine").fetchall() == [(1,)]
        assert other.execute("PRAGMA user_version").fetchone() == (42,)
        names = {name for (name,) in other.execute("SELECT name FROM sqlite_master")} - {"mine"}
        assert all("holdall_catalog_v1_" in name for name in names)


def test_a_catalogue_and_a_store_share_a_file(path: Path) -> None:
    with SqliteStore(path) as store, closing(SqliteBackend(path)) as backend:
        store["a"] = b"1"
        add(backend, row("b"))
        assert (list(store), list(backend.keys())) == (["a"], ["b"])


def test_a_newer_version(path: Path, backend: SqliteBackend) -> None:
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("CREATE TABLE holdall_catalog_v2_entries (key)")
    with pytest.raises(StoreUnavailableError, match="newer version of holdall"):
        backend.row("a")
    with closing(sqlite3.connect(path)) as newer:
        assert newer.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)


def test_tables_of_a_version_before_the_first(path: Path) -> None:
    with closing(sqlite3.connect(path)) as older:
        older.execute("CREATE TABLE holdall_catalog_v1_entries (key TEXT PRIMARY KEY) WITHOUT ROWID")
        older.execute("CREATE INDEX holdall_catalog_v1_leased ON holdall_catalog_v1_entries (key)")
    with closing(SqliteBackend(path)) as backend:
        calls: list[Callable[[], object]] = [
            lambda: backend.row("a"), lambda: list(backend.keys()), lambda: backend.add_small(small("a")),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(StoreUnavailableError, match="with the version that made it"):
                call()


@pytest.mark.parametrize("content", [b"SQLite format 3\0", b'{"json": true}', b"x" * 5000])
def test_what_is_not_a_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with closing(SqliteBackend(path)) as backend:
        for call in (lambda: backend.row("a"), lambda: add(backend, row("a")), lambda: backend.identity):
            with pytest.raises(StoreUnavailableError, match="isn't a SQLite database"):
                call()
    assert path.read_bytes() == content


def test_a_file_that_was_cut(path: Path) -> None:
    with closing(SqliteBackend(path)) as backend:
        add(backend, *(row(f"{number}", text="x" * 100) for number in range(2000)))
    size = path.stat().st_size
    os.truncate(path, size // 2)
    with closing(SqliteBackend(path)) as backend, pytest.raises(IntegrityError, match="restore a backup"):
        list(backend.find(Query()))
    assert path.stat().st_size == size // 2


def test_a_file_that_is_replaced_is_seen(path: Path, tmp_path: Path, backend: SqliteBackend) -> None:
    with closing(SqliteBackend(tmp_path / "backup.db")) as backup:
        add(backup, row("old"))
        was = backup.identity
    add(backend, row("new"))
    os.replace(tmp_path / "backup.db", path)
    add(backend, row("newer"))
    assert list(backend.keys()) == ["newer", "old"]
    assert backend.identity == was


def test_reading_makes_no_file(path: Path, backend: SqliteBackend) -> None:
    assert backend.row("a") is backend.fetch("a") is None
    assert list(backend.keys()) == list(backend.find(Query())) == backend.indexes() == []
    assert not path.exists()


def test_a_pickle_opens_the_file_again(backend: SqliteBackend) -> None:
    add(backend, row("a"))
    with closing(pickle.loads(pickle.dumps(backend))) as again:
        assert again.row("a") == row("a")


def test_an_interrupt_leaves_no_transaction_behind(path: Path, backend: SqliteBackend) -> None:
    def change(t: Transaction) -> None:
        number = t.next_number()
        for key in ("a", "b"):
            t.put_row(Row(key, 1, number, number, "d", 1, "t", "json", "", "", 0, 0, {}))

    def calls() -> None:
        backend.transact(change)
        key = f"k{time.monotonic_ns()}"
        backend.add_small(small(key))
        backend.overwrite(small(key))
        backend.remove(key)
        backend.fetch("a")
        next(backend.find(Query()), None)

    calls()
    with closing(SqliteBackend(path, timeout=5)) as other, interrupting() as interrupts:
        while interrupts.count < 150:
            interrupts.during(calls, 1e-4)
            assert not backend._local.connection.in_transaction or not backend._local.connection.alive
            # Another one has the lock at once, and both rows are of one transaction.
            found = other.transact(lambda t: (t.row("a"), t.row("b")))
            assert found[0] is not None
            assert found[1] is not None
            assert found[0].sequence == found[1].sequence
    calls()


def test_a_full_disk_changes_nothing(path: Path, backend: SqliteBackend) -> None:
    add(backend, row("a"))
    backend.transact(lambda t: t._run("PRAGMA max_page_count = 40").fetchone())  # type: ignore[attr-defined]
    with pytest.raises(StoreUnavailableError, match="is full; nothing was changed"):
        add(backend, *(row(f"k{number}", text="x" * 1000) for number in range(500)))
    assert list(backend.keys()) == ["a"]
    add(backend, row("b"))
    assert list(backend.keys()) == ["a", "b"]


def test_a_locked_file(path: Path, backend: SqliteBackend) -> None:
    add(backend, row("a"))
    with closing(sqlite3.connect(path)) as shell, closing(SqliteBackend(path, timeout=0.05)) as other:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            add(other, row("b"))
        assert other.row("a") == row("a")
        shell.execute("ROLLBACK")
        add(other, row("b"))


def test_metadata_that_is_not_json(backend: SqliteBackend) -> None:
    add(backend, row("a", n=1))
    for value in ({1, 2}, b"x", object(), math.nan, math.inf):
        with pytest.raises((InvalidArgumentError, ValueError)):
            add(backend, row("b"), row("a", n=value))
    assert list(backend.find(Query())) == [row("a", n=1)]


def test_metadata_that_another_program_changed(path: Path, backend: SqliteBackend) -> None:
    add(backend, row("a", n=1))
    with closing(sqlite3.connect(path)) as shell:
        shell.execute("UPDATE holdall_catalog_v1_entries SET metadata = ' {\"n\": 2}\n'")
        shell.commit()
    assert backend.row("a") == row("a", n=2)
    with closing(sqlite3.connect(path)) as shell:
        shell.execute("UPDATE holdall_catalog_v1_entries SET metadata = 'no JSON'")
        shell.commit()
    for call in (lambda: backend.row("a"), lambda: list(backend.find(Query()))):
        with pytest.raises(IntegrityError, match="metadata"):
            call()
