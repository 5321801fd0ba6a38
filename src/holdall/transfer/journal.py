"""The steps of a transfer and their states, in a database that survives a kill."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Self

from holdall.errors import InvalidArgumentError, StoreError, StoreUnavailableError
from holdall.spans import Span
from holdall.store import LeftOut
from holdall.transfer.compare import above
from holdall.transfer.step import Kind, Step

PENDING, DONE, FAILED, RETRY = 0, 1, 2, 3
"""The states of a step."""

_PAGE = 500
_opening = threading.Lock()
_MARK = 0x68616C6A
"""SQLite's application_id of our files."""
_VERSION = 1
"""SQLite's user_version of our files."""

_TABLES = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE step (
    number INTEGER PRIMARY KEY, kind INTEGER NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL,
    source TEXT, target TEXT, state INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE pair (key TEXT PRIMARY KEY, source TEXT NOT NULL, target TEXT NOT NULL) WITHOUT ROWID;
"""
_LEFT_OUT = """
CREATE TABLE IF NOT EXISTS left_out (
    of_source INTEGER NOT NULL, path BLOB NOT NULL, kind TEXT NOT NULL, PRIMARY KEY (of_source, path)
) WITHOUT ROWID
"""
_IN_THE_WAY = "CREATE INDEX IF NOT EXISTS in_the_way ON step (key) WHERE kind = 2"
_EXAMPLES = 3


class Journal:
    """The steps of a transfer, and the pairs of ETags that were found to belong to equal bytes.

    Args:
        path: The path of its file; None for a temporary one, which is held in memory while it is small.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.kept = path is not None
        """Whether it outlives this run."""
        self._facts: dict[str, Any] = {}
        """Those of a temporary one."""
        self._name: str = "" if path is None else os.path.abspath(os.fspath(path))
        # A plan may be walked by another thread than the one that made it.
        self._lock = threading.RLock()
        with _opening:
            if self.kept:
                _create_private(self._name)
            try:
                # Without a name it is a private database in memory, and in an unlinked file past 2 MiB.
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
            run(_LEFT_OUT)
            return
        # The system releases this lock when the process ends, in whatever way.
        run("PRAGMA locking_mode = EXCLUSIVE")
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and run("PRAGMA application_id").fetchone()[0] != _MARK:
            raise InvalidArgumentError(
                f"{self._name!r} is a database, but not a journal of holdall; give another path"
            )
        version = run("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise StoreUnavailableError(
                f"the journal {self._name!r} was written by a newer version of holdall; upgrade holdall, or "
                "give another path"
            )
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("BEGIN EXCLUSIVE")
        if not run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _TABLES.split(";"):
                run(statement)
            run(f"PRAGMA application_id = {_MARK}")
            run(f"PRAGMA user_version = {_VERSION}")
        run(_LEFT_OUT)
        run("COMMIT")
        # It holds keys, also those of an encrypted store, which other users must not see. A journal of an
        # earlier version may be readable by them.
        for name in (self._name, f"{self._name}-wal"):
            if os.path.exists(name) and os.stat(name).st_uid == os.geteuid():
                os.chmod(name, 0o600)

    def _failure(self, error: sqlite3.Error) -> StoreError:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreUnavailableError(
                f"another run is using the journal {self._name!r}; wait until it ends, or give another path"
            )
        if code == sqlite3.SQLITE_NOTADB:
            return InvalidArgumentError(f"{self._name!r} isn't a journal of holdall; give another path")
        name = f"the journal {self._name!r}" if self._name else "the temporary journal"
        return StoreUnavailableError(f"{name} can't be used: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it, so that others can use it."""
        with self._lock:
            self._connection.close()

    def __del__(self) -> None:
        # A plan doesn't close its journal.
        if hasattr(self, "_connection"):
            self._connection.close()

    # --- facts ---

    def fact(self, name: str) -> Any:
        """Return the fact that was recorded by a name, or None."""
        if not self.kept:
            return self._facts.get(name)
        import json

        rows = self._all("SELECT value FROM fact WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def begin(self, transfer: object, options: dict[str, object]) -> bool:
        """Begin a run; return whether it first finishes one that was stopped.

        Args:
            transfer: The identities of both stores.
            options: The kind of the transfer, its selection and its comparison.
        """
        if not self.kept:
            self.restart({})
            return False
        import json

        known, phase = self.fact("transfer"), self.fact("phase")
        before: dict[str, object] = self.fact("options") or {}
        transfer, options = json.loads(json.dumps(transfer)), json.loads(json.dumps(options))
        if known is not None and known != transfer:
            raise InvalidArgumentError(
                f"the journal {self._name!r} is of other stores: {known}; give another path, or delete it"
            )
        if before and before["kind"] != options["kind"]:
            raise InvalidArgumentError(
                f"the journal {self._name!r} belongs to a transfer of another kind (it is of a "
                f"{before['kind']}, this is a {options['kind']}); give another path, or delete it"
            )
        if phase in ("plan", "act") and before != options:
            changed = [name for name in {**before, **options} if before.get(name) != options.get(name)]
            raise InvalidArgumentError(
                f"the journal {self._name!r} records a run that was stopped, with a different "
                f"{' and '.join(changed)}; finish that run with the same arguments, or delete the journal"
            )
        if phase == "act":
            # What failed is tried again.
            self._do([("UPDATE step SET state = 0 WHERE state > 1", [()])])
            return True
        self.restart({"transfer": transfer, "options": options})
        return False

    def restart(self, facts: dict[str, object]) -> None:
        """Forget the steps, but not the pairs that are known to be equal."""
        self._forget_steps({**facts, "phase": "plan", "counts": None})

    def note(self, **facts: object) -> None:
        """Record facts."""
        self._do([(_FACT, self._rows(facts))])

    def finish(self) -> None:
        """Mark the run as done: the next one begins anew."""
        self._forget_steps({"phase": "done", "counts": None})

    def _forget_steps(self, facts: dict[str, object]) -> None:
        self._do([("DELETE FROM step", [()]), ("DELETE FROM left_out", [()]), (_FACT, self._rows(facts))])

    def _rows(self, facts: dict[str, object]) -> list[tuple[str, str]]:
        """Return the rows of facts; none for a temporary journal, which has them in memory."""
        if not self.kept:
            self._facts |= facts
            return []
        import json

        return [(name, json.dumps(value)) for name, value in facts.items()]

    # --- steps ---

    def add(self, steps: Iterable[Sequence[Any]]) -> None:
        """Add steps to the end."""
        self._do([(_ADD, [step[1:] for step in steps])])

    def steps(self, *kinds: int, state: int = PENDING) -> Iterator[Step]:
        """Yield the steps in a state, in order; steps that are added or marked meanwhile may be missing."""
        wanted = ", ".join(str(int(kind)) for kind in kinds or Kind)
        sql = (
            "SELECT number, kind, key, size, source, target FROM step "
            f"WHERE number > ? AND state = ? AND kind IN ({wanted}) ORDER BY number LIMIT {_PAGE}"
        )
        last = 0
        while rows := self._all(sql, (last, state)):
            yield from map(Step._make, rows)
            last = rows[-1][0]

    def counts(self, state: int = PENDING) -> dict[int, tuple[int, int]]:
        """Return the number of steps in a state, and of their bytes, by kind."""
        rows = self._all("SELECT kind, count(*), sum(size) FROM step WHERE state = ? GROUP BY kind", (state,))
        return {kind.value: (0, 0) for kind in Kind} | {kind: (count, size) for kind, count, size in rows}

    def mark(
        self,
        states: Sequence[tuple[int, int]],
        known: Sequence[tuple[str, str, str]] = (),
        gone: Sequence[tuple[str]] = (),
        proven: Sequence[tuple[str, str, int]] = (),
    ) -> None:
        """Record states by number, pairs of ETags that belong to equal bytes, keys that were deleted, and
        steps of a move that became deletes from the source."""
        self._do(
            [
                ("UPDATE step SET kind = 5, state = 0, source = ?, target = ? WHERE number = ?", proven),
                ("UPDATE step SET state = ? WHERE number = ?", states),
                ("INSERT OR REPLACE INTO pair VALUES (?, ?, ?)", known),
                ("DELETE FROM pair WHERE key = ?", gone),
            ]
        )

    def drop_deletes(self, numbers: Sequence[tuple[int]]) -> None:
        """Remove deletes from the plan."""
        if numbers:
            counts = self.fact("counts")
            counts["deletes"] -= len(numbers)
            drop = ("DELETE FROM step WHERE number = ?", numbers)
            self._do([drop, (_FACT, self._rows({"counts": counts}))])

    def withhold_deletes(self) -> int:
        """Remove all deletes from the plan; return their number."""
        counts = self.counts()
        self._do([("DELETE FROM step WHERE kind IN (2, 3)", [()])])
        return counts[Kind.DELETE][0] + counts[Kind.REMOVE][0]

    def is_in_the_way(self, key: str) -> bool:
        """Return whether a blob that will be deleted later is at the path of a key's folder, or is in a
        folder at the path of its blob."""
        folders = list(above(key))[:-1]
        self._all(_IN_THE_WAY, ())
        sql = (
            f"SELECT 1 FROM step WHERE kind = 2 AND state = {PENDING} "
            f"AND (key IN ({', '.join('?' * len(folders))}) OR (key > ? AND key < ?)) LIMIT 1"
        )
        return bool(self._all(sql, (*folders, f"{key}/", f"{key}0")))

    # --- what listings leave out ---

    def note_left_out(self, entries: Iterable[tuple[bool, LeftOut]]) -> None:
        """Record what listings left out, each with whether the source's did."""
        rows = [(of_source, _as_bytes(path.rstrip("/")), kind) for of_source, (path, kind) in entries]
        self._do([("INSERT OR IGNORE INTO left_out VALUES (?, ?, ?)", rows)])

    def left_out(self, of_source: bool) -> dict[str, tuple[int, list[str]]]:
        """Return, for each kind of what one store left out, the number and a few of the paths."""
        kinds = self._all(
            "SELECT kind, count(*) FROM left_out WHERE of_source = ? GROUP BY kind ORDER BY kind",
            (of_source,),
        )
        sql = f"SELECT path FROM left_out WHERE of_source = ? AND kind = ? ORDER BY path LIMIT {_EXAMPLES}"
        return {
            kind: (count, [_as_path(path) for (path,) in self._all(sql, (of_source, kind))])
            for kind, count in kinds
        }

    def find_left_out(self, of_source: bool, paths: Iterable[str]) -> tuple[str, str] | None:
        """Return the path and the kind of the first of these that one store left out."""
        named = ["", *paths]
        wanted = ", ".join("?" * len(named))
        where = f"of_source = ? AND path IN ({wanted})"
        sql = f"SELECT path, kind FROM left_out WHERE {where} ORDER BY path LIMIT 1"
        rows = self._all(sql, (of_source, *map(_as_bytes, named)))
        return (_as_path(rows[0][0]), rows[0][1]) if rows else None

    # --- equal blobs ---

    def resolve(self, kinds: Sequence[tuple[int, int]], equal: Sequence[tuple[int]]) -> None:
        """Record the results of comparing steps: another kind, or nothing to do."""
        self._do(
            [
                ("UPDATE step SET kind = ? WHERE number = ?", kinds),
                ("DELETE FROM step WHERE number = ?", equal),
            ]
        )

    def pairs(self, span: Span) -> Iterator[tuple[str, str, str]]:
        """Yield the pairs known to be equal, from the start of a span, in key order: each with the ETags of
        the source and of the target."""
        sql = f"SELECT key, source, target FROM pair WHERE key > ? ORDER BY key LIMIT {_PAGE}"
        last = max(span.prefix[:-1], span.after)
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
        """Run all statements or none, each for many rows."""
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


def _create_private(name: str) -> None:
    """Create the file of a journal, unless it is there: SQLite would create it readable by all.

    One that is there isn't opened: to close it would drop the locks that another run of this process holds on
    it.
    """
    try:
        os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreUnavailableError(f"the journal {name!r} can't be used: {error.strerror}") from error


def _as_bytes(path: str) -> bytes:
    # A name that isn't UTF-8 has lone surrogates, which SQLite refuses as text.
    return path.encode("utf-8", "surrogatepass")


def _as_path(path: bytes) -> str:
    return path.decode("utf-8", "surrogatepass")
