"""Replicas: a store whose writes go to several stores, and whose reads come from the first that answers."""

# Helpers outside of the class call primitives too.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial, reduce
from itertools import chain
from typing import Any, Literal, TypeVar, cast

from holdall.digests import read_digest
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    KeyConflictError,
    PartialWriteError,
    StoreError,
    StoreUnavailableError,
    WrongKeyError,
)
from holdall.keys import check_prefix
from holdall.layers.forks import begin_anew
from holdall.layers.layer import Layer, place_of
from holdall.layers.marks import SIZE, Mark, is_mark, is_none
from holdall.layers.replicas import Repair, ReplicaDifference, Rule, leader, replace, state
from holdall.layers.tee import Tee
from holdall.layers.turns import Turns
from holdall.layers.workers import Call, Pace, Workers
from holdall.ranges import cut, span
from holdall.store import ABSENT, ANY, Attributes, Body, Can, Expect, Info, LeftOut, Piece, Store

__all__ = ["FanoutStore"]

T = TypeVar("T")

_REFUSALS = (KeyConflictError, InvalidArgumentError)
"""The errors of a store that can never hold the key: then no replica should."""
_GRACE = 1.0
"""Seconds that a blob which the first replica lacks is left to the writer or deleter who may be at it."""
_NOTHING = ""
"""No version: no ETag is empty."""
_SHORT = 1 << 16
"""Up to how many bytes a body is written to one replica after the other, where that is faster."""
_REMEMBERED = 1 << 12
"""Remember the failed replicas of at most this many keys."""
_SPARED = 10.0
"""Seconds for which failed replicas are remembered."""
_ROUNDS = 1000
"""How often a writer looks whether the replicas agree, before it takes two of them for one."""
_NEVER = "the replicas never agree; do two of them share one medium?"


class FanoutStore(Layer):
    """Several stores with the same blobs, as one store.

    Args:
        children: The replicas, in the order in which they are asked: a sequence (they are then named `0`,
            `1` and so on), or a mapping from names to stores. No two may share a medium.
        read: `first`: reads ask one replica after the other.
        write: The number of replicas that must accept a write (a quorum), or `all`.
        timeout: Seconds after which a call of a replica counts as failed, or a stream that makes no progress;
            None waits.

    *Writes* go to all replicas at once. A short body goes to one after the other, if `timeout` is None and
    each takes less time than handing the call to a thread. A body is read once; if it raises, every replica
    keeps the old blob. The first replica is the arbiter: it publishes first and deletes last, and its ETags
    are those of this store. So it alone decides `expect=`, and if a writer is killed, readers see the
    arbiter's state. After its writes a writer compares all replicas with the arbiter and makes them equal, so
    two writers of one key never leave them different. This needs replicas that can CREATE and SWAP. If one
    can't, only the writers of this handle take turns at a key, and those of other handles can leave replicas
    different until `repair`.

    If a replica fails and too few are left, the write raises `PartialWriteError`: its `failures` says why,
    and its `written` names the replicas that hold the new value. If enough are left, the write is done, and
    the failure is logged. In both cases the handle remembers that this replica is behind: it isn't asked for
    this key until `repair` or a later write mends it, so that no read returns a version older than the one
    that it missed. Other handles don't know that. `behind` returns these replicas.

    *Reads* go on to the next replica if one lacks the blob or fails, which is logged. A blob that is damaged,
    or encrypted under another key, counts as a failure; only a write replaces it. An ETag of another replica
    never matches at the arbiter. If some replicas fail and the others lack the blob, the read raises
    `StoreUnavailableError`, since the blob may exist, unless `write` is a quorum and so few fail that one of
    the others must have every acknowledged blob. A stream that stops half-way goes on from the same replica
    if the ETag is unchanged, otherwise from another one whose blob has the same size and begins with the
    bytes that were read already (by CRC-32).

    *Listing* merges all replicas. It goes on without failed replicas as long as the others must have every
    acknowledged key: fewer replicas may fail than must accept a write.

    *Repair*, and any other copy into a replica that lacks a blob, first puts a mark of about 70 bytes there
    under the blob's key, so that a delete in the meantime is noticed: even a process that is killed in
    between never brings a deleted blob back. Such a process can leave a mark. This store hides it; a program
    that reads the replica itself sees it until the next write or `repair`.

    Raises:
        InvalidArgumentError: No children are given, two of them are one place, or the quorum is larger than
            their number.

    >>> from holdall import MemoryStore
    >>> near, far = MemoryStore(), MemoryStore()
    >>> store = FanoutStore({"near": near, "far": far})
    >>> store["a"] = b"1"
    >>> near["a"], far["a"]
    (b'1', b'1')
    >>> del near["a"]
    >>> store["a"], store.repair().mended
    (b'1', {'a': {'near': 'copied'}})
    """

    def __init__(
        self,
        children: Sequence[Store] | Mapping[str, Store],
        *,
        read: Literal["first"] = "first",
        write: Literal["all"] | int = "all",
        timeout: float | None = None,
    ) -> None:
        self._stores = _named(children)
        super().__init__(*self._stores.values())
        self._names = tuple(self._stores)
        self._first, *self._others = self._names
        if read != "first":
            raise InvalidArgumentError(f"read must be 'first', not {read!r}")
        count = len(self._names)
        number = cast(object, write)
        if write != "all" and (type(number) is not int or not 1 <= number <= count):
            raise InvalidArgumentError(f"write must be 'all' or a number from 1 to {count}, not {write!r}")
        if timeout is not None and (type(timeout) not in (int, float) or not 0 < timeout < 1e9):
            raise InvalidArgumentError(
                f"timeout must be a positive number of seconds, or None, not {timeout!r}"
            )
        self._children_given = children
        self._write_rule, self._timeout = write, timeout
        self._need_written = count if write == "all" else write
        # Calls of stores in memory take less time than handing them to a thread.
        self.inline = self._direct = self.inline and timeout is None
        self._checking = [
            store for store in self._stores.values() if type(store)._checked is not Store._checked
        ]
        self._mixed = len({_kind(store) for store in self._stores.values()}) > 1
        # Whether the replicas answer at once, and whether they take a change at once, which only those do.
        self._asking, self._changing = Pace(), Pace(short=True)
        # For each key and replica that is behind, what those hold that are not; ANY for whatever they hold.
        self._marks: dict[str, dict[str, dict[str, Expect | None]]] = {}
        # By key, the replicas that failed to read it: asked last, so that many reads of one blob, such as
        # of its end and then of its frames, find one version and not two in turn.
        self._poor: dict[str, tuple[frozenset[str], float]] = {}
        self._begin()
        begin_anew(self, FanoutStore._begin)

    def _begin(self) -> None:
        # Also in the child of a fork: threads stay in the parent, and what they held would be held for ever.
        self._mutex = threading.Lock()
        self._turns = Turns()
        # Each replica has threads of its own, since some media keep a connection for each thread.
        self._workers = {name: Workers() for name in self._names}

    def _settings(self) -> dict[str, object]:
        settings: dict[str, object] = {"children": self._children_given}
        if self._write_rule != "all":
            settings["write"] = self._write_rule
        if self._timeout is not None:
            settings["timeout"] = self._timeout
        return settings

    def _close(self) -> None:
        for workers in self._workers.values():
            workers.close()

    @cached_property
    def can(self) -> Can:  # pyright: ignore[reportIncompatibleVariableOverride]
        shared = reduce(Can.__and__, (store.can for store in self._stores.values()))
        shared &= ~(Can.COPY | Can.BULK | Can.SIGN)
        # Both are needed to make the others follow the arbiter.
        atomic = Can.CREATE | Can.SWAP
        return shared if atomic in shared else shared & ~atomic

    @cached_property
    def _strong(self) -> bool:
        return Can.CREATE | Can.SWAP in self.can

    @property
    def replicas(self) -> Mapping[str, Store]:
        """The stores by their names, in order.

        >>> from holdall import MemoryStore
        >>> FanoutStore([MemoryStore(), MemoryStore()]).replicas
        {'0': MemoryStore(), '1': MemoryStore()}
        """
        return dict(self._stores)

    def _checked(self, key: object) -> str:
        key = super()._checked(key)
        for store in self._checking:
            # A replica may have room for shorter keys only. One that was encrypted under another key is a
            # mistake in the settings, which no other replica makes up for: the call is refused before
            # anything is touched. One that is closed or can't be reached fails later, alone.
            try:
                store._checked(key)
            except (InvalidArgumentError, WrongKeyError):
                raise
            except StoreError:
                continue
        return key

    # --- calls of the replicas ------------------------------------------------------------------------

    def _turn(self, key: str) -> threading.RLock:
        """Let one thread of this handle at a time publish a key. No body is read while it does."""
        return self._turns.of(key)

    def _submit(self, name: str, function: Callable[[], T]) -> Call[T]:
        return self._workers[name].submit(function)

    def _awaited(self, call: Call[T], began: float | None = None) -> T:
        left = self._timeout
        if left is not None and began is not None:
            left = max(0.0, began + left - time.monotonic())
        if not call.wait(left):
            raise TimeoutError(f"no answer within {self._timeout:g} s")
        return call.result()

    def _call(self, name: str, function: Callable[[], T]) -> T:
        return function() if self._timeout is None else self._awaited(self._submit(name, function))

    def _each(
        self, names: Iterable[str], function: Callable[[str], T], *, here: bool = False
    ) -> dict[str, T | Exception]:
        """Call a function for each of these at the same time, or one after the other on this thread; return
        what it returned or raised."""
        names, began = tuple(names), time.monotonic()
        results: dict[str, T | Exception] = {}
        at_once = names if self._timeout is not None else () if here or self._direct else names[1:]
        calls = {name: Call(partial(function, name)) for name in at_once}
        try:
            for name, call in calls.items():
                self._workers[name].begin(call)
            for name in names:
                try:
                    there = calls.get(name)
                    results[name] = function(name) if there is None else self._awaited(there, began)
                except Exception as error:  # noqa: BLE001 - it is reported, with the name of the replica
                    results[name] = error
        except BaseException:
            # What goes on behind an interrupted call could undo what is done next.
            self._wait(calls.values())
            raise
        return results

    def _states(self, key: str, names: Sequence[str]) -> dict[str, str | Exception | None]:
        if self._timeout is not None:
            return self._each(names, lambda name: state(self._stores[name], key))
        if self._direct:
            return self._states_here(key, names)
        if self._asking.short and names:
            began = time.perf_counter()
            states = self._states_here(key, names)
            self._asking.took((time.perf_counter() - began) / len(names))
            return states
        spent = [0.0]

        def timed(name: str) -> str | None:
            began = time.perf_counter()
            try:
                return state(self._stores[name], key)
            finally:
                spent.append(time.perf_counter() - began)

        states = self._each(names, timed)
        self._asking.took(max(spent))
        return states

    def _states_here(self, key: str, names: Iterable[str]) -> dict[str, str | Exception | None]:
        states: dict[str, str | Exception | None] = {}
        for name in names:
            try:
                states[name] = state(self._stores[name], key)
            except Exception as error:  # noqa: BLE001 - it is reported, with the name of the replica
                states[name] = error
        return states

    @property
    def _here(self) -> bool:
        """Return whether short changes are made on this thread, one after the other."""
        return self._direct or (self._timeout is None and self._asking.short and self._changing.short)

    def _change(self, names: Sequence[str], change: Callable[[str], T]) -> dict[str, T | Exception]:
        """Make a short change in each of these."""
        if self._direct or not self._here:
            return self._each(names, change)
        began = time.perf_counter()
        try:
            return self._each(names, change, here=True)
        finally:
            if names:
                self._changing.took((time.perf_counter() - began) / len(names))

    def _digests(self, key: str) -> dict[str, tuple[Info, str] | Exception | None]:
        return self._each(self._names, lambda name: _digested(key, self._stores[name]))

    def _state(self, key: str, name: str) -> str | None:
        found = self._states(key, (name,))[name]
        if isinstance(found, Exception):
            raise _typed(name, found) from None
        return found

    def _replace(
        self, key: str, source: str, target: str, found: str | None
    ) -> tuple[str | None, str | None]:
        """Make one replica like another; a large blob may take longer than one call."""
        stores = self._stores[source], self._stores[target]
        if self._timeout is None:
            return replace(key, *stores, found)
        beats = [time.monotonic()]
        watched = _Watched(stores[0], beats)
        call = self._submit(target, lambda: replace(key, watched, stores[1], found))
        while True:
            seen = beats[0]
            with suppress(TimeoutError):
                return self._awaited(call)
            if beats[0] == seen:
                raise TimeoutError(f"no progress within {self._timeout:g} s")

    def _failed(self, what: str, key: str, name: str, error: Exception) -> None:
        import logging

        logging.getLogger(__name__).warning(
            "replica %r failed to %s %r: %s: %s", name, what, key, type(error).__name__, error
        )

    def _unavailable(self, what: str, failures: Mapping[str, Exception]) -> StoreUnavailableError:
        error = StoreUnavailableError(f"{what}: {_told(failures)}")
        error.__cause__ = next(iter(failures.values()))
        return error

    def _shown(self, name: str, info: Info) -> Info:
        etag = _etag(name if name != self._first else None, info.etag)
        return info if etag == info.etag else info.replace(etag=etag)

    # --- reading --------------------------------------------------------------------------------------

    def _current(self, key: str) -> list[str]:
        """Return the replicas that aren't known to be behind."""
        marks = self._marks.get(key)
        return [name for name in self._names if marks is None or name not in marks]

    def _note_poor(self, key: str, name: str) -> None:
        with self._mutex:
            if len(self._poor) >= _REMEMBERED and key not in self._poor:
                self._poor.clear()
            self._poor[key] = self._spared(key) | {name}, time.monotonic() + _SPARED

    def _spared(self, key: str) -> frozenset[str]:
        """Return the replicas that recently failed to read a key."""
        names, until = self._poor.get(key, (frozenset[str](), 0.0))
        return names if names and time.monotonic() < until else frozenset()

    def _ask(self, key: str, what: str, function: Callable[[Store], T]) -> tuple[str, T]:
        """Return the result of the first replica that has the blob, and its name."""
        missing, failures = False, dict[str, Exception]()
        names = self._current(key)
        if self._poor and (spared := self._spared(key)):
            names.sort(key=spared.__contains__)
        for name in names:
            try:
                result = self._call(name, partial(function, self._stores[name]))
                info = result if isinstance(result, Info) else cast("tuple[Info]", result)[0]
                if info.size != SIZE or not self._call(name, partial(is_mark, self._stores[name], key)):
                    return name, result
                missing = True
            except BlobNotFoundError:
                missing = True
            except InvalidArgumentError:
                raise
            except Exception as error:  # noqa: BLE001 - it is logged, and raised if nobody answers
                self._failed(what, key, name, error)
                failures[name] = error
                self._note_poor(key, name)
        # Where a quorum will do, what was acknowledged is on one of those that answered.
        known = missing and len(failures) < self._need_written < len(self._names)
        if failures and not known:
            also = ", and the others lack the blob" if missing else ""
            raise self._unavailable(f"replicas failed to {what} it{also}", failures)
        raise BlobNotFoundError(key=key)

    def _info(self, key: str) -> Info:
        name, info = self._ask(key, "look up", lambda store: store._info(key))
        return self._shown(name, info)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        name, (info, pieces, held) = self._ask(key, "read", partial(_opened, key, start, stop))
        shown = self._shown(name, info)
        if pieces is None:
            return shown, iter(held)
        low, high = span(start, stop, info.size)
        return shown, self._stream(key, name, info, pieces, held, low, high)

    def _stream(
        self, key: str, name: str, info: Info, pieces: Iterator[Piece], held: list[Piece], low: int, high: int
    ) -> Iterator[Piece]:
        given, seal, tried = 0, 0, set[str]()
        while True:
            try:
                piece = held.pop(0) if held else self._call(name, lambda: next(pieces, None))  # noqa: B023
                if piece is None:
                    if given == high - low:
                        return
                    raise IntegrityError(f"replica {name!r} returned {given} bytes of {high - low}", key=key)
            except Exception as error:  # noqa: BLE001 - it is logged, and raised if nobody can go on
                self._failed("read on", key, name, error)
                self._note_poor(key, name)
                name, pieces = self._resumed(key, name, info, tried, low, high, given, seal, error)
                continue
            given += len(piece)
            seal = zlib.crc32(piece, seal)
            yield piece
            del piece

    def _resumed(
        self,
        key: str,
        name: str,
        info: Info,
        tried: set[str],
        low: int,
        high: int,
        given: int,
        seal: int,
        cause: Exception,
    ) -> tuple[str, Iterator[Piece]]:
        """Continue a stream that stopped half-way, with the same bytes."""
        # An unbroken ETag is a proof; the first bytes of another replica are good evidence.
        for other in (name, *(other for other in self._current(key) if other != name)):
            if other in tried:
                continue
            tried.add(other)
            try:
                same = other == name
                rest = self._call(
                    other, partial(_rest, self._stores[other], key, info, same, low, high, given, seal)
                )
            except Exception as error:  # noqa: BLE001 - it is logged, and the first one is raised
                self._failed("read on", key, other, error)
                continue
            if rest is not None:
                return other, rest
        if isinstance(cause, StoreError):
            raise cause
        raise StoreUnavailableError(f"replica {name!r} stopped half-way: {cause}", key=key) from cause

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        listing = self._merged(prefix, lambda store: store._scan(prefix, after), place_of)
        return (self._shown(name, info) for name, info in listing)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        # A key that is a blob in one replica is one, even if another has, say, a link in its place.
        listing = self._merged(prefix, lambda store: store._survey(prefix, after), place_of)
        return (each if isinstance(each, LeftOut) else self._shown(name, each) for name, each in listing)

    def _merged(
        self,
        prefix: str,
        begin: Callable[[Store], Iterator[T]],
        key_of: Callable[[T], str],
        failures: dict[str, Exception] | None = None,
    ) -> Iterator[tuple[str, T]]:
        """Yield the first entry of each key with its replica's name, in order. All there are, if given a
        place for failures, which then never end it."""
        everything = failures is not None
        failures = {} if failures is None else failures
        listings: dict[str, Iterator[T]] = {}
        heads: dict[str, tuple[str, T]] = {}

        def advance(name: str) -> None:
            heads.pop(name, None)
            try:
                if name not in listings:
                    listings[name] = iter(self._call(name, partial(begin, self._stores[name])))
                for entry in self._call(name, lambda: list(_one(listings[name], self._stores[name]))):
                    heads[name] = key_of(entry), entry
            except Exception as error:
                if isinstance(error, WrongKeyError) and not everything:
                    # Its settings are wrong, which no other replica makes up for.
                    raise
                self._failed("list", prefix, name, error)
                failures[name] = error
                if not everything and len(failures) >= self._need_written:
                    raise self._unavailable("too many replicas failed to list", failures) from error

        for name in self._names:
            advance(name)
        while heads:
            key = min(key for key, _ in heads.values())
            behind = () if everything else self._marks.get(key, ())
            holders = [name for name in self._names if name in heads and heads[name][0] == key]
            holders.sort(key=lambda name: isinstance(heads[name][1], LeftOut))
            found = next(((name, heads[name][1]) for name in holders if name not in behind), None)
            if found is not None:
                yield found
            elif all(name in behind or name in failures for name in self._names):
                # Those that could report whether the key is still there all failed.
                raise self._unavailable("too many replicas failed to list", failures)
            for name in holders:
                advance(name)

    # --- writing --------------------------------------------------------------------------------------

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        expect = self._own_etag(key, expect)
        if expect is ABSENT:
            self._none_elsewhere(key)
        try:
            return self._publish(key, body, expect, attributes)
        except BlobExistsError:
            # A mark isn't a blob.
            if not self._unmark(key, self._first) or not isinstance(body, tuple):
                raise
        return self._publish(key, body, expect, attributes)

    def _unmark(self, key: str, name: str) -> bool:
        """Remove a mark from a replica; return whether one was there."""
        found = self._state(key, name)
        if not isinstance(found, Mark):
            return False
        with suppress(ConcurrencyError):
            self._call(name, partial(self._stores[name]._delete, key, found))
        return True

    def _publish(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        try:
            if self._direct:
                return self._write_here(key, body, expect, attributes)
            if self._here:
                short, body = _short(body)
                if short:
                    return self._write_here(key, body, expect, attributes)
            else:
                self._changing.passed()
            return self._write_apart(key, body, expect, attributes)
        except ConcurrencyError:
            raise
        except BaseException:
            self._doubt(key)
            raise

    def _write_here(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        """Write one after the other, from memory, where all may keep the same bytes."""
        pieces = [piece if type(piece) is bytes else bytes(piece) for piece in body]
        data = (pieces[0] if len(pieces) == 1 else b"".join(pieces),)
        del pieces

        with self._turn(key):
            absent = self._absent(key, expect)
            outcomes: dict[str, Info | Exception] = {}
            began = time.perf_counter()
            for name, store in self._stores.items():
                condition = expect if name == self._first else ANY
                try:
                    outcomes[name] = store._write(key, data, condition, attributes)
                except Exception as error:  # noqa: BLE001 - it is reported, with the name of the replica
                    if name == self._first and (expect is not ANY or isinstance(error, _REFUSALS)):
                        raise _typed(name, error) from None
                    outcomes[name] = error
            if not self._direct:
                self._changing.took((time.perf_counter() - began) / len(self._names))
            return self._written(key, outcomes, absent)

    def _write_apart(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        """Write in threads, which all see the body at once, and its end when it is their turn."""
        tee = Tee(self._names, self._timeout)

        def run(name: str) -> Info:
            condition = expect if name == self._first else ANY
            try:
                return self._stores[name]._write(key, tee.reader(name), condition, attributes)
            finally:
                tee.gone(name)

        def outcome(name: str) -> Info | Exception:
            try:
                return self._awaited(calls[name])
            except Exception as error:  # noqa: BLE001 - it is reported, with the name of the replica
                if isinstance(error, TimeoutError):
                    tee.fail(error, name)
                given_up = tee.error(name)
                return given_up if isinstance(given_up, Exception) else error

        calls = {name: Call(partial(run, name)) for name in self._names}
        try:
            for name, call in calls.items():
                self._workers[name].begin(call)
            # The caller's one buffer stays as it is until this returns; one of many is filled again.
            kept = isinstance(body, tuple) and self._timeout is None
            for piece in body:
                if not tee.feed(piece if kept or type(piece) is bytes else bytes(piece)):
                    break
            with self._turn(key):
                absent = self._absent(key, expect)
                tee.open(self._first)
                outcomes = {self._first: outcome(self._first)}
                error = outcomes[self._first]
                if isinstance(error, Exception) and (expect is not ANY or isinstance(error, _REFUSALS)):
                    raise _typed(self._first, error) from None
                tee.open(*self._others)
                outcomes |= {name: outcome(name) for name in self._others}
                return self._written(key, outcomes, absent)
        except BaseException as error:
            # Readers that still wait for more, or for the end, must never see it.
            tee.fail(error, *self._names)
            self._wait(calls.values())
            raise

    def _wait(self, calls: Iterable[Call[Any]]) -> None:
        """Wait for calls that were handed to threads, but none that hangs."""
        began = time.monotonic()
        for call in calls:
            if call.begun:
                call.wait(self._timeout and max(0.0, began + self._timeout - time.monotonic()))

    def _absent(self, key: str, expect: Expect) -> bool:
        """Return whether a put of a new key can be taken back: stores of one kind all accept it, or none
        does."""
        self._need_arbiter(key, expect)
        if expect is ANY and self._mixed and self._first not in self._marks.get(key, ()):
            return is_none(self._states(key, (self._first,))[self._first])
        return expect is ABSENT

    def _written(self, key: str, outcomes: dict[str, Info | Exception], absent: bool) -> Info:
        """Return the result of a put: every replica follows the arbiter, or is reported as failed."""
        infos = {name: each for name, each in outcomes.items() if isinstance(each, Info)}
        if len(infos) == len(outcomes):
            return self._taken(key, infos, {})
        failures = {name: each for name, each in outcomes.items() if isinstance(each, Exception)}
        held: dict[str, str | None] = {name: info.etag for name, info in infos.items()}
        refusal = next((error for error in failures.values() if isinstance(error, _REFUSALS)), None)
        if refusal is not None and infos and absent:
            # A medium of folders has no place for what the others took: it was not there before.
            conditions = {
                name: etag if self._strong and etag is not None else ANY for name, etag in held.items()
            }
            taken_back = self._each(held, lambda name: self._stores[name]._delete(key, conditions[name]))
            lost = {name: each for name, each in taken_back.items() if isinstance(each, Exception)}
            if any(not isinstance(error, ConcurrencyError) for error in lost.values()):
                raise self._partial(key, lost, failures, "write")
            raise refusal
        if infos:
            return self._taken(key, infos, failures)
        raise self._partial(key, (), failures, "write")

    def _taken(self, key: str, infos: dict[str, Info], failures: dict[str, Exception]) -> Info:
        held: dict[str, str | None] = {name: info.etag for name, info in infos.items()}
        first = next(iter(held))
        failures |= self._settle(key, first, held, held[first])
        self._conclude(key, held, failures, "write")
        return self._shown(first, infos[first])

    def _delete(self, key: str, expect: Expect) -> bool:
        try:
            return self._removed(key, self._own_etag(key, expect))
        except ConcurrencyError:
            raise
        except BaseException:
            self._doubt(key)
            raise

    def _removed(self, key: str, expect: Expect) -> bool:
        if not self._here:
            self._changing.passed()
        with self._turn(key):
            states = self._states(key, self._names)
            own = states[self._first]
            self._need_arbiter(key, expect)
            if expect is not ANY:
                if isinstance(own, Exception):
                    raise _typed(self._first, own) from None
                if own != expect:
                    raise ConcurrencyError(key=key, expected=str(expect), actual=own)

            def remove(name: str) -> bool:
                found = states[name]
                if name == self._first or expect is ANY or not isinstance(found, str):
                    return self._stores[name]._delete(key, expect if name == self._first else ANY)
                try:
                    return self._stores[name]._delete(key, found)
                except ConcurrencyError:
                    # Another writer is at it; the arbiter decides who was first.
                    return False

            # The arbiter is last, so that what readers saw is what they see until nothing is left.
            outcomes: dict[str, bool | Exception] = dict.fromkeys(self._others, False)
            outcomes |= self._change([name for name in self._others if states[name] is not None], remove)
            outcomes |= self._change((self._first,), remove)
            failures = {name: each for name, each in outcomes.items() if isinstance(each, Exception)}
            held: dict[str, str | None] = dict.fromkeys(name for name in self._names if name not in failures)
            lost = failures.get(self._first)
            if isinstance(lost, ConcurrencyError):
                # Another writer was faster: blobs that were deleted already come back, as the arbiter has
                # them.
                self._settle(key, self._first, held, _NOTHING)
                raise lost
            if lost is not None and expect is not ANY:
                # It may have deleted it or not: the others follow it, if it answers.
                if failures := self._settle(key, self._first, held, _NOTHING):
                    failures = {self._first: lost, **failures}
                    self._remember(key, held, failures)
                    raise self._partial(key, held, failures, "delete")
                raise _typed(self._first, lost) from None
            if held:
                failures |= self._settle(key, next(iter(held)), held, None)
            current = self._current(key)
            self._conclude(key, held, failures, "delete")
            current = [name for name in current if not isinstance(states[name], Mark)]
            if isinstance(own, str) and self._first in current and lost is None:
                return outcomes[self._first] is True
            # A replica that failed to answer had it, and for readers of this store it is gone.
            return any(
                outcomes[name] is True or (name in failures and isinstance(states[name], str))
                for name in current
            )

    def _settle(
        self, key: str, arbiter: str, held: dict[str, str | None], version: str | None
    ) -> dict[str, Exception]:
        """Make the replicas that were written agree with the arbiter; return which failed to, and why.

        Each writer is responsible for what it wrote, until each replica holds the same as the arbiter, or the
        blob of another writer, which is responsible for it in the same way. Case 1: this writer was the last
        at the arbiter; then it sees the replicas that differ. Case 2: it wrote to another replica later than
        the last writer of the arbiter; then it sees that the arbiter has changed.

        Args:
            key: Which.
            arbiter: The name of the replica that decides.
            held: The ETags of what was written to each, None for what was deleted; it is kept up.
            version: The ETag that the arbiter gave to this.
        """
        failures: dict[str, Exception] = {}
        others = [name for name in held if name != arbiter]
        if not self._strong or not others:
            return failures
        copied = dict.fromkeys(others, version)
        mine = {**held, arbiter: version}
        for _ in range(_ROUNDS):
            states = self._states(key, (arbiter, *others))
            if states == mine:
                # No other writer came between, as nearly always.
                break
            now = states[arbiter]
            if isinstance(now, Exception):
                # It accepted the write, and fails to say whether that is still there.
                failures[arbiter] = now
                break
            if isinstance(now, Mark):
                # It isn't there any more, and is about to be copied back from what is left of it elsewhere.
                with suppress(ConcurrencyError):
                    self._stores[arbiter]._delete(key, now)
                continue
            stale: dict[str, str | None] = {}
            for name in tuple(others):
                found = states[name]
                if isinstance(found, Exception):
                    failures[name] = found
                    others.remove(name)
                elif (now == copied[name]) != (found == held[name]):
                    stale[name] = found
                elif now != copied[name]:
                    others.remove(name)
            if not stale:
                break
            for name, found in stale.items():
                try:
                    copied[name], held[name] = self._replace(key, arbiter, name, found)
                except ConcurrencyError:
                    continue
                except Exception as error:  # noqa: BLE001 - it is reported, with the name of the replica
                    failures[name] = error
                    others.remove(name)
        else:
            raise StoreUnavailableError(_NEVER, key=key)
        for name in failures:
            held.pop(name, None)
        return failures

    def _conclude(
        self, key: str, held: dict[str, str | None], failures: dict[str, Exception], what: str
    ) -> None:
        """Remember which replicas missed a change, then acknowledge it if enough accepted it, or raise."""
        # Also if too few accepted it: a reader that has seen it must not see an older version later.
        if failures or key in self._marks:
            self._remember(key, held, failures)
        if len(held) < self._need_written:
            raise self._partial(key, held, failures, what)
        if key in self._poor:
            with self._mutex:
                self._poor.pop(key, None)
        for name, error in failures.items():
            self._failed(what, key, name, error)

    def _remember(self, key: str, held: dict[str, str | None], failures: Iterable[str]) -> None:
        """Note which replicas missed a change; where none confirmed it, nobody knows."""
        marks = {name: {**held} for name in failures}
        with self._mutex:
            if not marks:
                self._marks.pop(key, None)
            elif held:
                self._marks[key] = cast("dict[str, dict[str, Expect | None]]", marks)

    def _doubt(self, key: str) -> None:
        """After a failed change the state of the replicas is unknown; one that was behind still is."""
        with self._mutex:
            marks = self._marks.get(key, {})
            for name in marks:
                marks[name] = dict.fromkeys((each for each in self._names if each not in marks), ANY)

    def _partial(
        self, key: str, held: Iterable[str], failures: dict[str, Exception], what: str
    ) -> StoreError:
        written = tuple(name for name in self._names if name in held)
        if not written:
            kinds = {type(error) for error in failures.values()}
            kind = kinds.pop()
            message = f"no replica confirmed the {what}: {_told(failures)}"
            if not kinds and kind is not PartialWriteError and issubclass(kind, StoreError):
                error = kind(message, key=key)
                error.__cause__ = next(iter(failures.values()))
                return error
        else:
            done = f"only {', '.join(map(repr, written))} took the {what}"
            message = f"{done}, and {self._need_written} replicas have to: {_told(failures)}"
            message += "; write it again, or make the replicas equal with repair()"
        error = PartialWriteError(message, key=key, failures=failures, written=written)
        error.__cause__ = next(iter(failures.values()), None)
        return error

    # --- conditions -----------------------------------------------------------------------------------

    def _own_etag(self, key: str, expect: Expect) -> Expect:
        """Return the arbiter's ETag for an ETag of this store; one of another replica matches nothing
        there."""
        if expect is not ANY and self._first in self._marks.get(key, ()):
            # One that is behind would decide by what it missed.
            report = Repair()
            self._mend(key, report)
            failure = report.failures.get(key, {}).get(self._first)
            if failure is not None:
                raise _typed(self._first, failure) from failure
        if not isinstance(expect, str) or not expect.startswith("@"):
            return expect
        if expect.startswith("@@"):
            return expect[1:]
        name, _, etag = expect[1:].partition("@")
        if name in self._others:
            self._fill_arbiter(key, name, etag)
            # A blob that the arbiter has and can't read would be read elsewhere and refused here forever.
            try:
                self._call(self._first, partial(_digested, key, self._stores[self._first]))
            except Exception as error:  # a replica may be anybody's store
                raise _typed(self._first, error) from error
            with self._mutex:
                self._poor.pop(key, None)
        raise ConcurrencyError(key=key, expected=expect, actual=self._state(key, self._first))

    def _need_arbiter(self, key: str, expect: Expect) -> None:
        """A write that the arbiter missed came before this turn."""
        if expect is not ANY and self._first in self._marks.get(key, ()):
            raise (BlobExistsError if expect is ABSENT else ConcurrencyError)(key=key)

    def _none_elsewhere(self, key: str) -> None:
        """A blob that readers find in another replica exists, even if the arbiter lacks it."""
        others = [name for name in self._current(key) if name != self._first]
        for name, found in self._states(key, others).items():
            if isinstance(found, str) and not is_none(found):
                own = self._state(key, self._first)
                etag = _etag(name, found) if own is None or is_none(own) else _etag(None, own)
                raise BlobExistsError(key=key, actual=etag)

    def _fill_arbiter(self, key: str, name: str, etag: str) -> None:
        """Copy a blob that only others have to the arbiter, so that the next swap can be decided.

        Another writer may be writing or deleting such a blob right now; then it is left alone."""
        deadline = time.monotonic() + _GRACE
        while is_none(own := self._state(key, self._first)) and self._state(key, name) == etag:
            if time.monotonic() > deadline:
                try:
                    self._replace(key, name, self._first, own)
                except ConcurrencyError:
                    return
                except Exception as error:
                    raise _typed(self._first, error) from error
                return
            time.sleep(0.01)

    # --- replicas -------------------------------------------------------------------------------------

    def behind(self) -> dict[str, list[str]]:
        """The keys whose last write this handle knows some replicas to have missed, with their names.

        >>> from holdall import MemoryStore
        >>> FanoutStore([MemoryStore(), MemoryStore()]).behind()
        {}
        """
        with self._mutex:
            return {key: list(marks) for key, marks in sorted(self._marks.items())}

    def verify(self, prefix: str = "") -> Iterator[ReplicaDifference]:
        """Compare the replicas by the SHA-256 of each blob; yield the differences in order of their keys.

        Args:
            prefix: The start of the keys, as in `list`.

        Raises:
            StoreUnavailableError: At the end, if a replica couldn't be listed, since it may have blobs that
                the others lack.

        >>> from holdall import MemoryStore
        >>> store = FanoutStore([MemoryStore({"a": b"1"}), MemoryStore()])
        >>> [(difference.key, sorted(difference.digests)) for difference in store.verify()]
        [('a', ['0', '1'])]
        """
        self._need(Can.LIST, "verify")
        prefix = check_prefix(prefix)
        return self._alive(self._differences(prefix))

    def _differences(self, prefix: str) -> Iterator[ReplicaDifference]:
        unlisted: dict[str, Exception] = {}
        for _, key in self._merged(prefix, lambda store: store._keys(prefix, ""), str, unlisted):
            difference = None
            seen: object = ""
            # A writer between two replicas isn't a difference: a difference lasts.
            while (found := self._compared(key))[0] != seen:
                seen, difference = found
                if difference is None:
                    break
            if difference is not None:
                yield difference
        if unlisted:
            raise self._unavailable("replicas failed to list all their keys", unlisted)

    def _compared(self, key: str) -> tuple[object, ReplicaDifference | None]:
        found = self._digests(key)
        failures = {name: each for name, each in found.items() if isinstance(each, Exception)}
        known = {name: each for name, each in found.items() if not isinstance(each, Exception)}
        known = {name: _blob(each) for name, each in known.items()}
        digests = {name: each and each[1] for name, each in known.items()}
        if not failures and len(set(digests.values())) == 1:
            return "", None
        versions = {name: each and each[0].etag for name, each in known.items()}
        return (versions, set(failures)), ReplicaDifference(key, digests, failures)

    def repair(self, rule: Rule = "first", prefix: str = "") -> Repair:
        """Make the replicas equal, by compare-and-swap, so that no newer write is lost.

        Replicas that this handle knows to be behind first get what was acknowledged, deletes included. Then,
        where replicas differ, a rule decides which one is right. If a replica doesn't answer for a key, the
        key is left as it is and reported in `failures`.

        Args:
            rule: `first`: the first replica that has the key. `newest`: the one with the latest `modified`.
                Or a function of the key and a dict from the replicas' names to their `Info`, or None where
                there is none. It returns the name of the replica to follow; if that one lacks the key,
                the key is deleted.
            prefix: The start of the keys, as in `list`.

        >>> from holdall import MemoryStore
        >>> store = FanoutStore([MemoryStore({"a": b"1", "b": b"2"}), MemoryStore({"b": b"3"})])
        >>> store.repair().mended
        {'a': {'1': 'copied'}, 'b': {'1': 'copied'}}
        >>> list(store.verify())
        []
        """
        for flag in (Can.LIST, Can.WRITE, Can.DELETE):
            self._need(flag, "repair")
        if rule not in ("first", "newest") and not callable(rule):
            raise InvalidArgumentError(f"the rule must be 'first', 'newest' or a function, not {rule!r}")
        prefix = check_prefix(prefix)
        report = Repair()
        for key in self.behind():
            if key.startswith(prefix):
                self._mend(key, report)
        for _, key in self._merged(prefix, lambda store: store._keys(prefix, ""), str, report.unlisted):
            if key not in report.failures:
                self._equalize(key, rule, report)
        return report

    def _mend(self, key: str, report: Repair) -> None:
        """Copy what was acknowledged to a replica that is behind, if the others still hold it."""
        with self._turn(key):
            for name, witnesses in list(self._marks.get(key, {}).items()):
                try:
                    for _ in range(_ROUNDS):
                        with suppress(ConcurrencyError):
                            if self._follow(key, name, witnesses, report):
                                break
                    else:
                        raise StoreUnavailableError(_NEVER, key=key)
                except Exception as error:  # noqa: BLE001 - it is in the report
                    report.failures.setdefault(key, {})[name] = error
                    continue
                with self._mutex:
                    marks = self._marks.get(key, {})
                    marks.pop(name, None)
                    if not marks:
                        self._marks.pop(key, None)

    def _follow(self, key: str, name: str, witnesses: dict[str, Expect | None], report: Repair) -> bool:
        failure: Exception | None = None
        for witness, etag in witnesses.items():
            own = self._call(name, partial(_digested, key, self._stores[name]))
            try:
                right = _blob(self._call(witness, partial(_digested, key, self._stores[witness])))
            except Exception as error:  # noqa: BLE001 - another witness may answer
                failure = error
                continue
            version = right and right[0].etag
            if etag is not ANY and version != etag:
                # Another writer has written since, and has made all replicas equal.
                continue
            if (own and own[1]) == (right and right[1]):
                return True
            copied, _ = self._replace(key, witness, name, own and own[0].etag)
            if copied != version:
                return False
            report.note(key, name, "deleted" if copied is None else "copied")
            return True
        if failure is not None:
            raise failure
        return True

    def _equalize(self, key: str, rule: Rule, report: Repair) -> None:
        with self._turn(key):
            given: dict[str, tuple[str | None, str | None]] = {}
            for _ in range(_ROUNDS):
                found = self._digests(key)
                failures = {name: each for name, each in found.items() if isinstance(each, Exception)}
                if failures:
                    report.failures[key] = failures
                    return
                known = {name: each for name, each in found.items() if not isinstance(each, Exception)}
                blobs = {name: _blob(each) for name, each in known.items()}
                digests = {name: each and each[1] for name, each in blobs.items()}
                if len(set(digests.values())) == 1:
                    # No replica has a blob; remove the mark that a killed repair left.
                    for name in (name for name, each in known.items() if each is not None and each[1] == ""):
                        self._unmark(key, name)
                    return
                right = leader(rule, key, {name: each and each[0] for name, each in blobs.items()})
                stale = [name for name in self._names if digests[name] != digests[right]]
                chosen = blobs[right]
                version = chosen and chosen[0].etag
                if digests[right] is None:
                    stale.reverse()
                for name in stale:
                    etag = (before := known[name]) and before[0].etag
                    try:
                        if given.get(name) == (version, etag):
                            raise IntegrityError(
                                "it was copied here, and now reads as other bytes; check the medium", key=key
                            )
                        given[name] = self._replace(key, right, name, etag)
                    except ConcurrencyError:
                        break
                    except Exception as error:  # noqa: BLE001 - it is in the report
                        report.failures.setdefault(key, {})[name] = error
                        return
                    report.note(key, name, "deleted" if given[name][0] is None else "copied")
                    if given[name][0] != version:
                        break
            else:
                report.failures.setdefault(key, {})[self._first] = StoreUnavailableError(_NEVER, key=key)


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


def _kind(store: Store) -> tuple[object, ...]:
    """Return the classes of a store and of those below it: equal results accept the same keys."""
    below = store._below if isinstance(store, Layer) else ()
    return type(store), *map(_kind, below)


def _named(children: object) -> dict[str, Store]:
    if isinstance(children, Store):
        raise InvalidArgumentError("children must be a sequence of stores, such as a list, and not one store")
    if isinstance(children, Mapping):
        stores = dict(cast("Mapping[Any, Any]", children))
    elif isinstance(children, Sequence) and not isinstance(children, str | bytes):
        stores = {str(number): each for number, each in enumerate(cast("Sequence[Any]", children))}
    else:
        raise InvalidArgumentError("children must be a sequence of stores, or a mapping from names to stores")
    if not stores:
        raise InvalidArgumentError("a FanoutStore needs at least one child")
    for name, store in stores.items():
        if not isinstance(name, str) or not name or "@" in name:
            raise InvalidArgumentError(f"the name of a replica must be a str without '@', not {name!r}")
        if not isinstance(store, Store):
            kind = type(store).__name__
            raise InvalidArgumentError(
                f"replica {name!r} must be a store, not {kind}; Store.from_uri opens one"
            )
    if len({id(store) for store in stores.values()}) < len(stores):
        raise InvalidArgumentError("each replica must be a different store, and one was given twice")
    if len(stores) > 1:
        from holdall.layers.caching.checks import refuse_shared_place

        refuse_shared_place(stores)
    return stores


def _etag(name: str | None, etag: str) -> str:
    """Return an ETag that names its replica; the arbiter's are plain."""
    if name is not None:
        return f"@{name}@{etag}"
    return "@" + etag if etag.startswith("@") else etag


def _short(body: Body) -> tuple[bool, Body]:
    """Whether a body is at hand or soon at its end, and the body; of one that is long little is read."""
    if isinstance(body, tuple):
        return sum(map(len, body)) <= _SHORT, body
    held: list[Piece] = []
    size, pieces = 0, iter(body)
    for piece in pieces:
        held.append(bytes(piece))
        size += len(piece)
        if size > _SHORT:
            return False, chain(held, pieces)
    return True, tuple(held)


def _told(failures: Mapping[str, Exception]) -> str:
    return "; ".join(f"{name!r}: {type(error).__name__}: {error}" for name, error in failures.items())


def _typed(name: str, error: Exception) -> Exception:
    """Return the error of a call where the replica that decides has failed."""
    if isinstance(error, StoreError):
        return error
    return StoreUnavailableError(f"replica {name!r}, which decides, failed: {type(error).__name__}: {error}")


def _one(iterator: Iterator[T], store: Store) -> Iterator[T]:
    """Yield the next entry of a replica's listing, if there is one; a mark isn't a blob."""
    for entry in iterator:
        if not isinstance(entry, Info) or entry.size != SIZE or not is_mark(store, entry.key):
            yield entry
            return


_NO_DIGEST = ""
"""Of a mark."""


def _digested(key: str, store: Store) -> tuple[Info, str] | None:
    """Return a blob's digest, or a mark's; None where there is neither."""
    try:
        info, digest = read_digest(store, key)
    except BlobNotFoundError:
        return None
    return (info, _NO_DIGEST) if info.size == SIZE and is_mark(store, key) else (info, digest)


def _blob(found: tuple[Info, str] | None) -> tuple[Info, str] | None:
    """Return what was found if it is a blob, otherwise None."""
    return None if found is None or found[1] == _NO_DIGEST else found


def _opened(
    key: str, start: int, stop: int | None, store: Store
) -> tuple[Info, Iterator[Piece] | None, list[Piece]]:
    """A blob that has begun to come; None for the pieces where it is here already, whole and to its end, so
    that what is found out at the end is found out in time."""
    info, pieces = store._read(key, start, stop)
    pieces = iter(pieces)
    low, high = span(start, stop, info.size)
    held: list[Piece] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if not held and size < high - low:
            return info, pieces, [piece]
        held.append(bytes(piece))
    if size != high - low:
        raise IntegrityError(f"the store returned {size} bytes of {high - low}", key=key)
    return info, None, held


def _rest(
    store: Store, key: str, info: Info, same: bool, low: int, high: int, given: int, seal: int
) -> Iterator[Piece] | None:
    """Return the rest of a stream from a store that holds the same blob; None if it doesn't."""
    ranges = Can.RANGE in store.can
    found, pieces = store._read(key, low, high) if ranges and low < high else store._read(key, 0, None)
    if found.size != info.size or (same and found.etag != info.etag):
        return None
    if not ranges or low >= high:
        pieces = cut(pieces, low, high)
    pieces = iter(pieces)
    seen = check = 0
    for piece in pieces if given else ():
        part = memoryview(piece)[: given - seen]
        seen, check = seen + len(part), zlib.crc32(part, check)
        if seen == given:
            if check != seal:
                return None
            left = bytes(memoryview(piece)[len(part) :])
            return _chain(left, pieces)
    return None if given else pieces


def _chain(first: bytes, pieces: Iterator[Piece]) -> Iterator[Piece]:
    if first:
        yield first
    yield from pieces
