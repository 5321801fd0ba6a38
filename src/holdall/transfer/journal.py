"""The steps of a transfer and their states, in a database that survives a kill."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from holdall.errors import InvalidArgumentError
from holdall.spans import Span
from holdall.store import LeftOut
from holdall.transfer.compare import above
from holdall.transfer.step import Kind, Step

if TYPE_CHECKING:
    from holdall.transfer.database import Database, Rows

PENDING, DONE, FAILED, RETRY = 0, 1, 2, 3
"""The states of a step."""

_PAGE = 500
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
        self._database: Database | None = self._open() if self.kept else None
        """None for a temporary one to which nothing was added."""

    def _open(self) -> Database:
        # The import of sqlite3 takes as long as comparing five hundred pairs.
        from holdall.transfer.database import Database

        return Database(self._name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it, so that others can use it."""
        if self._database is not None:
            self._database.close()

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

    def add(self, steps: Iterable[Sequence[Any]]) -> None:
        """Add steps to the end."""
        self._add(_ADD, [step[1:] for step in steps])

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

    def note_left_out(self, entries: Iterable[tuple[bool, LeftOut]]) -> None:
        """Record what listings left out, each with whether the source's did."""
        rows = [(of_source, _as_bytes(path.rstrip("/")), kind) for of_source, (path, kind) in entries]
        self._add("INSERT OR IGNORE INTO left_out VALUES (?, ?, ?)", rows)

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

    def _all(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return [] if self._database is None else self._database.all(sql, parameters)

    def _add(self, sql: str, rows: Rows) -> None:
        if rows:
            if self._database is None:
                self._database = self._open()
            self._do([(sql, rows)])

    def _do(self, statements: Sequence[tuple[str, Rows]]) -> None:
        """Change what was added, all of it or nothing."""
        if self._database is not None:
            self._database.do(statements)


_ADD = "INSERT INTO step (kind, key, size, source, target) VALUES (?, ?, ?, ?, ?)"
_FACT = "INSERT OR REPLACE INTO fact VALUES (?, ?)"


def _as_bytes(path: str) -> bytes:
    # A name that isn't UTF-8 has lone surrogates, which SQLite refuses as text.
    return path.encode("utf-8", "surrogatepass")


def _as_path(path: bytes) -> str:
    return path.decode("utf-8", "surrogatepass")
