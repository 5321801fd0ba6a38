"""What is to be done and what is done, in a database that a kill leaves whole."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Self

from holdall.errors import InvalidArgumentError, StoreError, StoreUnavailableError
from holdall.transfer.plan import Kind, Step

__all__ = ["DONE", "FAILED", "PENDING", "RETRY", "Journal"]

PENDING, DONE, FAILED, RETRY = 0, 1, 2, 3
"""The states of a step."""

_PAGE = 500
_MARK = 0x68616C6A
"""SQLite's application_id of our files."""

_TABLES = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE step (
    number INTEGER PRIMARY KEY, kind INTEGER NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL,
    source TEXT, target TEXT, state INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE pair (key TEXT PRIMARY KEY, source TEXT NOT NULL, target TEXT NOT NULL) WITHOUT ROWID;
"""


class Journal:
    """The steps of a transfer, and the pairs of ETags that were found to belong to equal bytes.

    Args:
        path: Where it is kept; None for a temporary one, which is held in memory while it is small.

    Raises:
        InvalidArgumentError: The file is something else.
        StoreUnavailableError: It can't be opened, or another run holds it.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.kept = path is not None
        """Whether it outlives this run."""
        self._name: str = "" if path is None else os.path.abspath(os.fspath(path))
        # A plan may be walked by another thread than the one that made it.
        self._lock = threading.RLock()
        try:
            # Without a name SQLite holds a private database in memory, and in an unlinked file past 2 MiB.
            self._connection = sqlite3.connect(
                self._name, isolation_level=None, timeout=0, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._failure(error) from error
        try:
            self._open()
        except sqlite3.Error as error:
            self._connection.close()
            raise self._failure(error) from error
        except BaseException:
            self._connection.close()
            raise

    def _open(self) -> None:
        run = self._connection.execute
        if not self.kept:
            run("PRAGMA journal_mode = OFF")
            run("PRAGMA synchronous = OFF")
            self._connection.executescript(_TABLES)
            return
        # The lock is the system's, so that it goes with its holder, however that one ends.
        run("PRAGMA locking_mode = EXCLUSIVE")
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and run("PRAGMA application_id").fetchone()[0] != _MARK:
            raise InvalidArgumentError(f"{self._name!r} is a database, but no journal; give another path")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("BEGIN EXCLUSIVE")
        if not run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _TABLES.split(";"):
                run(statement)
            run(f"PRAGMA application_id = {_MARK}")
        run("COMMIT")

    def _failure(self, error: sqlite3.Error) -> StoreError:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreUnavailableError(
                f"another run uses the journal {self._name!r} now; wait for its end, or give another path"
            )
        if code == sqlite3.SQLITE_NOTADB:
            return InvalidArgumentError(f"{self._name!r} is no journal; give another path")
        name = f"the journal {self._name!r}" if self._name else "the temporary journal"
        return StoreUnavailableError(f"{name} can't be used: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others use it."""
        with self._lock:
            self._connection.close()

    def __del__(self) -> None:
        # A plan holds one for as long as somebody looks at it.
        if hasattr(self, "_connection"):
            self._connection.close()

    # --- facts ---

    def fact(self, name: str) -> Any:
        """What was recorded by a name, or None."""
        rows = self._all("SELECT value FROM fact WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def begin(self, transfer: object, options: dict[str, object]) -> str:
        """Take up a run that was killed, or begin a new one; which phase it is in.

        Raises:
            InvalidArgumentError: The journal is of another transfer.
        """
        known, before, phase = self.fact("transfer"), self.fact("options"), self.fact("phase")
        transfer, options = json.loads(json.dumps(transfer)), json.loads(json.dumps(options))
        if known is not None and known != transfer:
            raise InvalidArgumentError(
                f"the journal {self._name!r} is of other stores: {known}; give another path, or delete it"
            )
        if phase in ("plan", "act"):
            if before != options:
                changed = [name for name in options if before.get(name) != options[name]]
                raise InvalidArgumentError(
                    f"the journal {self._name!r} holds a run that was stopped, with another "
                    f"{' and '.join(changed)}; repeat that one to its end, or delete the journal"
                )
            if phase == "act":
                # What failed is tried again.
                self._do([("UPDATE step SET state = 0 WHERE state > 1", [()])])
            return phase
        self.restart({"transfer": transfer, "options": options})
        return "plan"

    def restart(self, facts: dict[str, object]) -> None:
        """Forget the steps, not what is known to be equal."""
        state: dict[str, object] = {**facts, "phase": "plan", "cursor": "", "counts": None}
        self._do([("DELETE FROM step", [()]), (_FACT, _rows(state))])

    def note(self, **facts: object) -> None:
        """Record facts."""
        self._do([(_FACT, _rows(facts))])

    def finish(self) -> None:
        """All is done: the next run begins anew."""
        facts: dict[str, object] = {"phase": "done", "cursor": "", "counts": None}
        self._do([("DELETE FROM step", [()]), (_FACT, _rows(facts))])

    # --- steps ---

    def add(self, steps: Iterable[Sequence[Any]], **facts: object) -> None:
        """Add steps to the end, and record facts in the same transaction."""
        rows = [step[1:] for step in steps]
        self._do([(_ADD, rows), (_FACT, _rows(facts))])

    def steps(self, *kinds: int, state: int = PENDING) -> Iterator[Step]:
        """The steps in a state, in order; those added or marked meanwhile may be among them or not."""
        wanted = ", ".join(str(int(kind)) for kind in kinds or Kind)
        sql = (
            "SELECT number, kind, key, size, source, target FROM step "
            f"WHERE number > ? AND state = ? AND kind IN ({wanted}) ORDER BY number LIMIT {_PAGE}"
        )
        last = 0
        while rows := self._all(sql, (last, state)):
            yield from map(Step._make, rows)
            last = rows[-1][0]

    def samples(self, *kinds: int, count: int) -> list[str]:
        """The keys of some of the steps that are done, from all over the plan."""
        wanted = ", ".join(str(int(kind)) for kind in kinds)
        done = f"FROM step WHERE state = {DONE} AND kind IN ({wanted})"
        ((first, last),) = self._all(f"SELECT min(number), max(number) {done}", ())
        if first is None:
            return []
        found: dict[str, None] = {}
        for part in range(count):
            number = first + (last - first) * part // max(1, count - 1)
            sql = f"SELECT key {done} AND number >= ? ORDER BY number LIMIT 1"
            found.update((key, None) for (key,) in self._all(sql, (number,)))
        return list(found)

    def counts(self, state: int = PENDING) -> dict[int, tuple[int, int]]:
        """For each kind how many steps are in a state, and of how many bytes."""
        rows = self._all("SELECT kind, count(*), sum(size) FROM step WHERE state = ? GROUP BY kind", (state,))
        return {kind.value: (0, 0) for kind in Kind} | {kind: (count, size) for kind, count, size in rows}

    def mark(
        self,
        states: Sequence[tuple[int, int]],
        known: Sequence[tuple[str, str, str]] = (),
        gone: Sequence[tuple[str]] = (),
    ) -> None:
        """Record states by number, pairs of ETags that belong to equal bytes, and keys that went."""
        self._do(
            [
                ("UPDATE step SET state = ? WHERE number = ?", states),
                ("INSERT OR REPLACE INTO pair VALUES (?, ?, ?)", known),
                ("DELETE FROM pair WHERE key = ?", gone),
            ]
        )

    def resolve(self, kinds: Sequence[tuple[int, int]], equal: Sequence[tuple[int]]) -> None:
        """What comparing steps came to: another kind, or nothing to do."""
        self._do(
            [
                ("UPDATE step SET kind = ? WHERE number = ?", kinds),
                ("DELETE FROM step WHERE number = ?", equal),
            ]
        )

    def pairs(self, prefix: str, after: str) -> Iterator[tuple[str, str, str]]:
        """What is known to be equal, by key, in order: the ETags of the source and of the target."""
        sql = f"SELECT key, source, target FROM pair WHERE key > ? ORDER BY key LIMIT {_PAGE}"
        last = max(after, prefix[:-1])
        while rows := self._all(sql, (last,)):
            yield from rows
            last = rows[-1][0]

    # --- SQLite ---

    def _all(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            with self._lock, closing(self._connection.execute(sql, parameters)) as cursor:
                return cursor.fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _do(self, statements: Sequence[tuple[str, Sequence[Sequence[Any]]]]) -> None:
        """All statements or none, each for many rows."""
        try:
            with self._lock:
                run = self._connection.execute
                try:
                    run("BEGIN IMMEDIATE")
                    for sql, rows in statements:
                        if rows:
                            self._connection.executemany(sql, rows)
                    run("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        run("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise self._failure(error) from error


_ADD = "INSERT INTO step (kind, key, size, source, target) VALUES (?, ?, ?, ?, ?)"
_FACT = "INSERT OR REPLACE INTO fact VALUES (?, ?)"


def _rows(facts: dict[str, object]) -> list[tuple[str, str]]:
    return [(name, json.dumps(value)) for name, value in facts.items()]
