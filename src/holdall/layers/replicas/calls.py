"""Calls of replicas: of one or of all, on this thread or in threads of their own, with a timeout."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial, reduce
from typing import Any, TypeVar, TypeVarTuple, Unpack

from holdall.errors import (
    InvalidArgumentError,
    KeyConflictError,
    PartialWriteError,
    StoreError,
    StoreUnavailableError,
)
from holdall.forks import begin_anew
from holdall.keylocks import KeyLocks
from holdall.layers.layer import Layer
from holdall.layers.replicas.copying import EXACT, digest, replace, state
from holdall.store import Can, Info, Piece, Store
from holdall.workers import Call, Workers

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

REFUSALS = (KeyConflictError, InvalidArgumentError)
"""The errors of a store that can never hold the key: then no replica should."""
ROUNDS = 1000
"""How often a writer looks whether the replicas agree, before it takes two of them for one."""


class Replicas:
    """Stores by name, of which the first decides: the arbiter. `need` of them must take a write."""

    def __init__(self, stores: Mapping[str, Store], need: int, timeout: float | None) -> None:
        self.stores, self.need = stores, need
        self.names = tuple(stores)
        self.first, *self.others = self.names
        self.timeout = timeout
        every = stores.values()
        self.inline = timeout is None and all(store.inline for store in every)
        """Whether nothing is called in a thread: handing a call over takes longer than a call in memory."""
        self.near = timeout is None and all(store.inline or store._near for store in every)
        """Whether short calls aren't handed to threads."""
        self.mixed = len({_classes(store) for store in every}) > 1
        """Whether some may refuse a key that others accept."""
        self._begin()
        begin_anew(self, Replicas._begin)

    def _begin(self) -> None:
        # Also in the child of a fork: threads stay in the parent, and what they held would be held for ever.
        self._turns = KeyLocks()
        # Each replica has threads of its own, since some media keep a connection for each thread.
        self.workers = {name: Workers() for name in self.names}

    def close(self) -> None:
        """Let the threads end."""
        for workers in self.workers.values():
            workers.close()

    @cached_property
    def can(self) -> Can:
        """What all of them can, and this layer with them."""
        shared = reduce(Can.__and__, (store.can for store in self.stores.values()))
        shared &= ~(Can.COPY | Can.BULK | Can.SIGN)
        # All are needed to make the others follow the arbiter.
        return shared if EXACT in shared else shared & ~EXACT

    @cached_property
    def atomic(self) -> bool:
        """Whether the others can follow the arbiter, whichever other handle writes."""
        return EXACT in self.can

    def turn(self, key: str) -> threading.RLock:
        """Let one thread of this handle at a time publish a key. No body is read while it does."""
        return self._turns.of(key)

    def awaited(self, call: Call[T], began: float | None = None) -> T:
        """Return the result of a call that was handed to a thread, at a given time or just now."""
        left = self.timeout
        if left is not None and began is not None:
            left = max(0.0, began + left - time.monotonic())
        if not call.wait(left):
            raise TimeoutError(f"no answer within {self.timeout:g} s")
        return call.result()

    def call(self, name: str, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Call a function of a replica, for at most the timeout."""
        if self.timeout is None:
            return function(*args)
        return self.awaited(self.workers[name].submit(partial(function, *args)))

    def state(self, key: str, name: str) -> str | None:
        """Return what a replica holds, as `copying.state` does; raise a `StoreError` if it doesn't answer."""
        found = self.states(key, (name,))[name]
        if isinstance(found, Exception):
            raise typed(name, found) from None
        return found

    def copy(self, key: str, source: Store, target: str, found: str | None) -> tuple[str | None, str | None]:
        """Make a replica like a store, as `copying.replace` does; a large blob may take longer than one
        call."""
        if self.timeout is None:
            return replace(key, source, self.stores[target], found)
        beats = [time.monotonic()]
        watched = _Watched(source, beats)
        call = self.workers[target].submit(partial(replace, key, watched, self.stores[target], found))
        while True:
            seen = beats[0]
            with suppress(TimeoutError):
                return self.awaited(call)
            if beats[0] == seen:
                raise TimeoutError(f"no progress within {self.timeout:g} s")

    def each(
        self, names: Iterable[str], function: Callable[[str], T], *, short: bool = False
    ) -> dict[str, T | Exception]:
        """Call a function with each of these names at the same time, or one after the other on this thread
        where that is faster, as for a short call of near replicas; return what it returned or raised."""
        if self.inline or (short and self.near):
            return {name: _outcome(function, name) for name in names}
        names, began = tuple(names), time.monotonic()
        calls = {
            name: Call(partial(function, name)) for name in (names[1:] if self.timeout is None else names)
        }
        try:
            for name, call in calls.items():
                self.workers[name].begin(call)
            return {
                name: _outcome(self.awaited, calls[name], began)
                if name in calls
                else _outcome(function, name)
                for name in names
            }
        except BaseException:
            # What goes on behind an interrupted call could undo what is done next.
            self.wait(calls.values())
            raise

    def states(self, key: str, names: Sequence[str]) -> dict[str, str | Exception | None]:
        """Return what each of these holds, as `copying.state` does, or its error."""
        if self.near:
            return {name: _outcome(state, self.stores[name], key) for name in names}
        return self.each(names, lambda name: state(self.stores[name], key))

    def digests(self, key: str) -> dict[str, tuple[Info, str] | Exception | None]:
        """Return what each holds with its SHA-256, as `copying.digest` does, or its error."""
        return self.each(self.names, lambda name: digest(key, self.stores[name]))

    def wait(self, calls: Iterable[Call[Any]]) -> None:
        """Wait for calls that were handed to threads, but for none that hangs."""
        began = time.monotonic()
        for call in calls:
            if call.begun:
                call.wait(self.timeout and max(0.0, began + self.timeout - time.monotonic()))

    def log_failure(self, what: str, key: str, name: str, error: Exception) -> None:
        """Log what a replica failed to do, where the others make up for it."""
        logging.getLogger("holdall.layers.fanout").warning(
            "replica %r failed to %s %r: %s: %s", name, what, key, type(error).__name__, error
        )

    def partial(self, key: str, held: Iterable[str], failures: dict[str, Exception], what: str) -> StoreError:
        """Return the error of a change that too few replicas took."""
        written = tuple(name for name in self.names if name in held)
        if not written:
            kinds = {type(error) for error in failures.values()}
            kind = kinds.pop()
            message = f"no replica confirmed the {what}: {_join_failures(failures)}"
            if not kinds and kind is not PartialWriteError and issubclass(kind, StoreError):
                error = kind(message, key=key)
                error.__cause__ = next(iter(failures.values()))
                return error
        else:
            done = f"only {', '.join(map(repr, written))} took the {what}"
            message = f"{done}, and {self.need} replicas have to: {_join_failures(failures)}"
            message += "; write it again, or make the replicas equal with repair()"
        error = PartialWriteError(message, key=key, failures=failures, written=written)
        error.__cause__ = next(iter(failures.values()), None)
        return error


def _outcome(function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T | Exception:
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001 - it is reported, with the name of the replica
        return error


def unavailable(what: str, failures: Mapping[str, Exception]) -> StoreUnavailableError:
    """Return the error of a call that too few replicas answered."""
    error = StoreUnavailableError(f"{what}: {_join_failures(failures)}")
    error.__cause__ = next(iter(failures.values()))
    return error


def never_equal(key: str) -> StoreUnavailableError:
    """Return the error of a writer that sees the replicas change all the time."""
    return StoreUnavailableError("the replicas never agree; do two of them share one medium?", key=key)


def typed(name: str, error: Exception) -> Exception:
    """Return the error of a call where the replica that decides has failed."""
    if isinstance(error, StoreError):
        return error
    return StoreUnavailableError(f"replica {name!r}, which decides, failed: {type(error).__name__}: {error}")


def _join_failures(failures: Mapping[str, Exception]) -> str:
    return "; ".join(f"{name!r}: {type(error).__name__}: {error}" for name, error in failures.items())


def _classes(store: Store) -> tuple[object, ...]:
    """Return the classes of a store and of those below it: equal results accept the same keys."""
    below = store._below if isinstance(store, Layer) else ()
    return type(store), *map(_classes, below)


class _Watched(Store):
    """A replica that is read with a watch on its progress."""

    def __init__(self, store: Store, beats: list[float]) -> None:
        self._store, self._beats = store, beats

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = self._store._read(key, start, stop)
        return info, self._beating(pieces)

    def _info(self, key: str) -> Info:
        return self._store._info(key)

    def _beating(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self._beats[0] = time.monotonic()
            yield piece
