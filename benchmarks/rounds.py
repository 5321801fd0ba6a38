"""Calls timed in alternated rounds: in each round every contender runs, one after the other, call by call."""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Callable, Sequence

from benchmarks.contenders import FILES, Absent, Contender
from benchmarks.table import Table

SMALL = ["put", "get", "miss", "exists", "info", "overwrite", "delete", "put_many", "get_many"]

KIB = 1024


def describe(error: BaseException) -> str:
    return str(error) if isinstance(error, Absent) else f"{type(error).__name__}: {error}"


class Ring:
    """The contenders of one table, opened, in an order that turns every round."""

    def __init__(self, table: Table, classes: Sequence[type[Contender]], folder: str) -> None:
        self.table = table
        self.opened: list[Contender] = []
        self.slow: set[tuple[str, str]] = set()
        for number, kind in enumerate(classes):
            table.names.append(kind.name)
            place = f"{folder}/{number}"
            try:
                self.opened.append(kind(place))
            except Exception as error:  # noqa: BLE001 - a peer that can't be opened is a result
                for column in table.columns:
                    table.fail(kind.name, column, describe(error))

    def turned(self, by: int) -> list[Contender]:
        if not self.opened:
            return []
        by %= len(self.opened)
        return self.opened[by:] + self.opened[:by]

    def time(
        self, contender: Contender, column: str, act: Callable[[], int], keep: bool, once: bool = False
    ) -> None:
        """Take one sample, in microseconds for each of the blobs that `act` says it did.

        Args:
            contender: Whose call it is.
            column: Which call.
            act: What to time.
            keep: Whether it is more than a warm-up.
            once: Whether a warm-up of over half a second is the one sample: its noise is little beside it.
        """
        if (contender.name, column) in self.table.reasons or (contender.name, column) in self.slow:
            return
        try:
            begin = time.perf_counter()
            done = act()
            spent = time.perf_counter() - begin
        except Exception as error:
            if contender.kind == "holdall" and not isinstance(error, Absent):
                raise
            self.table.fail(contender.name, column, describe(error))
            return
        if once and not keep and spent > 0.5:
            self.slow.add((contender.name, column))
            keep = True
        if keep:
            self.table.add(contender.name, column, spent * 1e6 / done)

    def close(self) -> None:
        for contender in self.opened:
            try:
                contender.close()
            except Exception as error:  # noqa: BLE001 - a peer that can't be closed spoils no figure
                self.table.notes.append(f"{contender.name} failed to close: {describe(error)}")


def _loop(contender: Contender, column: str, keys: list[str], data: bytes, many: int) -> Callable[[], int]:
    """The timed loop of a call; made outside of the time it takes."""
    call = contender.call(column)
    if column in ("put", "overwrite"):

        def puts() -> int:
            for key in keys:
                call(key, data)
            return len(keys)

        return puts
    if column == "put_many":
        batch = {f"many-{number:05}": data for number in range(many)}

        def put_many() -> int:
            call(batch)
            return many

        return put_many
    if column == "get_many":
        names = [f"many-{number:05}" for number in range(many)]

        def get_many() -> int:
            call(names)
            return many

        return get_many
    if column == "miss":
        keys = [f"absent-{key}" for key in keys]

    def calls() -> int:
        for key in keys:
            call(key)
        return len(keys)

    return calls


def small(
    table: Table,
    classes: Sequence[type[Contender]],
    folder: str,
    keys: list[str],
    rounds: int,
    many: int = 1000,
) -> Table:
    """Every call with values of 1 KiB; one round more is run first, to warm up."""
    first, second = os.urandom(KIB), os.urandom(KIB)
    for kind in classes:
        if kind.limit < len(keys):
            table.notes.append(f"{kind.name} was given {kind.limit:,} keys only")
    ring = Ring(table, classes, folder)
    gc.collect()
    gc.disable()
    try:
        for number in range(-1, rounds):
            for column in table.columns:
                for contender in ring.turned(number + 1):
                    some = keys[: contender.limit]
                    data = second if column == "overwrite" else first
                    try:
                        act = _loop(contender, column, some, data, many)
                    except Absent as error:
                        table.fail(contender.name, column, str(error))
                        continue
                    ring.time(contender, column, act, number >= 0)
            for contender in ring.opened:
                _empty(contender, keys, many)
    finally:
        gc.enable()
        ring.close()
    return table


def _empty(contender: Contender, keys: list[str], many: int) -> None:
    """So that the next round begins as this one did."""
    fresh = getattr(contender, "fresh", None)
    if fresh is not None:
        fresh()
    elif contender.delete is not None and contender.put_many is not None and contender.limit >= len(keys):
        for number in range(many):
            try:
                contender.delete(f"many-{number:05}")
            except (KeyError, OSError):
                break


def mib(
    table: Table, classes: Sequence[type[Contender]], folder: str, blobs: int, size: int, rounds: int
) -> Table:
    """Puts and gets of large blobs, in one piece."""
    keys = [f"large-{number:03}" for number in range(blobs)]
    data = os.urandom(size)
    ring = Ring(table, classes, folder)
    gc.collect()
    gc.disable()
    try:
        for number in range(-1, rounds):
            for column in table.columns:
                for contender in ring.turned(number + 1):
                    try:
                        act = _loop(contender, column, keys, data, 0)
                    except Absent as error:
                        table.fail(contender.name, column, str(error))
                        continue
                    ring.time(contender, column, act, number >= 0)
            for contender in ring.opened:
                if hasattr(contender, "fresh"):
                    contender.fresh()
    finally:
        gc.enable()
        ring.close()
    return table


def listing(
    table: Table,
    classes: Sequence[type[Contender]],
    folder: str,
    keys: list[str],
    prefix: str,
    rounds: int,
) -> Table:
    """Listing all keys, and those of a prefix; microseconds for each key that is listed.

    What takes over half a second is listed once.
    """
    some = sum(key.startswith(prefix) for key in keys)
    plain = f"{folder}/plain"
    if table.medium == FILES:
        fill_folder(plain, keys)
    shared: list[type[Contender]] = []
    for kind in classes:
        table.names.append(kind.name)
        if kind.limit < min(1000, len(keys)) and not kind.plain:
            why = kind.lacks.get("keys", f"as slow to fill as its put is (at most {kind.limit} keys here)")
            for column in table.columns:
                table.fail(kind.name, column, why)
        elif "/" in keys[0] and not kind.nested:
            for column in table.columns:
                table.fail(kind.name, column, "a key has no `/`")
        else:
            shared.append(kind)
    opened: list[Contender] = []
    ring = Ring(Table("", "", "", "", "", table.columns), [], folder)
    ring.table = table
    for number, kind in enumerate(shared):
        try:
            contender = kind(plain if kind.plain else f"{folder}/{number}")
            if not kind.plain:
                _fill(contender, keys)
            contender.call("keys")
            opened.append(contender)
        except Exception as error:
            if kind.kind == "holdall":
                raise
            for column in table.columns:
                table.fail(kind.name, column, describe(error))
    ring.opened = opened
    gc.collect()
    gc.disable()
    try:
        for number in range(-1, rounds):
            for column, start, expected in (("all", "", len(keys)), ("prefix", prefix, some)):
                for contender in ring.turned(number + 1):
                    act = _listed(contender, start, expected)
                    ring.time(contender, column, act, number >= 0, once=True)
    finally:
        gc.enable()
        ring.close()
        shutil.rmtree(folder, ignore_errors=True)
    return table


def _listed(contender: Contender, prefix: str, expected: int) -> Callable[[], int]:
    call = contender.call("keys")

    def listed() -> int:
        found = 0
        for _ in call(prefix):
            found += 1
        if found != expected:
            raise Absent(f"it lists {found:,} keys where there are {expected:,}")
        return found

    return listed


def _fill(contender: Contender, keys: list[str]) -> None:
    if contender.put_many is not None:
        for start in range(0, len(keys), 10_000):
            contender.put_many(dict.fromkeys(keys[start : start + 10_000], b"x"))
    else:
        put = contender.call("put")
        for key in keys:
            put(key, b"x")


def fill_folder(folder: str, keys: list[str]) -> None:
    made: set[str] = set()
    for key in keys:
        path = f"{folder}/{key}"
        parent = os.path.dirname(path)
        if parent not in made:
            os.makedirs(parent, exist_ok=True)
            made.add(parent)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        os.write(fd, b"x")
        os.close(fd)
