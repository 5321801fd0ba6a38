"""Reads of replicas: one is asked after the other, streams go on elsewhere, and listings are merged."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar, TypeVarTuple, cast

from holdall.blob import place_of
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    StoreError,
    StoreUnavailableError,
    WrongKeyError,
)
from holdall.layers.replicas.calls import Replicas, unavailable
from holdall.layers.replicas.copying import EXACT, state
from holdall.layers.replicas.marks import SIZE, is_mark
from holdall.layers.replicas.memory import Memory
from holdall.ranges import cut, span
from holdall.store import Can, Info, LeftOut, Piece, Store

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_FILLABLE = Can.WRITE | Can.DELETE | EXACT


class Reader:
    """Reads replicas; `fill` as for a `FanoutStore`."""

    def __init__(self, replicas: Replicas, memory: Memory, fill: bool) -> None:
        self._replicas, self._memory, self._fill = replicas, memory, fill

    def shown(self, name: str, info: Info) -> Info:
        """Return the `Info` of a replica's blob with the ETag that it has in the fan-out."""
        own = name == self._replicas.first
        if own and has_plain_etag(info):
            return info
        return info.replace(etag=foreign_etag(None if own else name, info.etag))

    def ask(
        self, key: str, what: str, function: Callable[[Store], tuple[Info, *Ts]]
    ) -> tuple[str, Info, *Ts]:
        """Return the name of the first replica that has the blob, and its result, which begins with the
        `Info`."""
        replicas, missing, failures = self._replicas, False, dict[str, Exception]()
        for name in self._memory.readers(key):
            store = replicas.stores[name]
            try:
                result = replicas.call(name, function, store)
                while (
                    marked := result[0].size == SIZE and replicas.call(name, is_mark, store, result[0], key)
                ) is None:
                    result = replicas.call(name, function, store)
                if not marked:
                    return name, *result
                missing = True
            except BlobNotFoundError:
                missing = True
            except InvalidArgumentError:
                raise
            except Exception as error:  # noqa: BLE001 - it is logged, and raised if nobody answers
                replicas.log_failure(what, key, name, error)
                failures[name] = error
                self._memory.note_failure(key, name)
        # Where a quorum will do, what was acknowledged is on one of those that answered.
        known = missing and len(failures) < replicas.need < len(replicas.names)
        if failures and not known:
            also = ", and the others lack the blob" if missing else ""
            raise unavailable(f"replicas failed to {what} it{also}", failures)
        raise BlobNotFoundError(key=key)

    def info(self, key: str) -> Info:
        """Return the `Info` of the first blob."""
        return self.shown(*self.ask(key, "look up", lambda store: (store._info(key),)))

    def read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        """Open the first blob."""
        name, info, pieces, held = self.ask(key, "read", partial(_open_stream, key, start, stop))
        if pieces is not None:
            stream = _Stream(key, info, name, *span(start, stop, info.size))
            pieces = self._pieces(stream, chain(held, pieces))
        if self._fill and name != self._replicas.first and (start, stop) == (0, None):
            if pieces is not None:
                held, pieces = [bytes(piece) for piece in pieces], None
            self._fill_before(key, name, info, held)
        return self.shown(name, info), iter(held) if pieces is None else pieces

    def _fill_before(self, key: str, name: str, info: Info, pieces: list[Piece]) -> None:
        """Put what was read from one replica into those before it that lack it."""
        replicas = self._replicas
        source = _AtHand(replicas.stores[name], info, pieces)
        with replicas.turn(key):
            for other in replicas.names[: replicas.names.index(name)]:
                try:
                    can = replicas.stores[other].can
                    keeps = _FILLABLE in can and (info.expires is None or Can.EXPIRE in can)
                    if keeps and other not in self._memory.missed(key):
                        replicas.copy(key, source, other, None)
                except ConcurrencyError:
                    # Another writer was faster.
                    continue
                except Exception as error:  # noqa: BLE001 - it is logged; the blob itself was read
                    replicas.log_failure("take", key, other, error)

    def _pieces(self, stream: _Stream, pieces: Iterator[Piece]) -> Iterator[Piece]:
        while True:
            try:
                piece = self._replicas.call(stream.name, next, pieces, None)
                if piece is None:
                    stream.check_end()
                    return
            except Exception as error:  # noqa: BLE001 - it is logged, and raised if nobody can go on
                self._replicas.log_failure("read on", stream.key, stream.name, error)
                self._memory.note_failure(stream.key, stream.name)
                pieces = self._resume_stream(stream, error)
                continue
            stream.given += len(piece)
            stream.seal = zlib.crc32(piece, stream.seal)
            yield piece
            del piece

    def _resume_stream(self, stream: _Stream, cause: Exception) -> Iterator[Piece]:
        """Continue a stream that stopped half-way, with the same bytes."""
        # An unbroken ETag is a proof; the first bytes of another replica are good evidence.
        others = (other for other in self._memory.current(stream.key) if other != stream.name)
        for name in [stream.name, *others]:
            if name in stream.tried:
                continue
            stream.tried.add(name)
            try:
                rest = self._replicas.call(name, stream.rest, name, self._replicas.stores[name])
            except Exception as error:  # noqa: BLE001 - it is logged, and the first one is raised
                self._replicas.log_failure("read on", stream.key, name, error)
                continue
            if rest is not None:
                stream.name = name
                return rest
        if isinstance(cause, StoreError):
            raise cause
        message = f"replica {stream.name!r} stopped half-way: {cause}"
        raise StoreUnavailableError(message, key=stream.key) from cause

    def scan(self, prefix: str, after: str) -> Iterator[Info]:
        """Yield the blobs of all replicas, in order."""
        listing = self.merged(prefix, lambda store: store._scan(prefix, after), place_of)
        return (self.shown(name, info) for name, info in listing)

    def survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        """Yield the same, and what is left out. A key that is a blob in one replica is one, even if another
        has, say, a link in its place."""
        listing = self.merged(prefix, lambda store: store._survey(prefix, after), place_of)
        return (each if isinstance(each, LeftOut) else self.shown(name, each) for name, each in listing)

    def merged(
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
        replicas, names = self._replicas, self._replicas.names
        listings: dict[str, Iterator[T]] = {}
        heads: dict[str, tuple[str, T]] = {}

        def advance(name: str) -> None:
            heads.pop(name, None)
            store = replicas.stores[name]
            try:
                if name not in listings:
                    listings[name] = iter(replicas.call(name, begin, store))
                for entry in replicas.call(name, list, _next_blob(listings[name], store)):
                    heads[name] = key_of(entry), entry
            except Exception as error:
                if isinstance(error, WrongKeyError) and not everything:
                    # Its settings are wrong, which no other replica makes up for.
                    raise
                replicas.log_failure("list", prefix, name, error)
                failures[name] = error
                if not everything and len(failures) >= replicas.need:
                    raise unavailable("too many replicas failed to list", failures) from error

        for name in names:
            advance(name)
        while heads:
            key = min(key for key, _ in heads.values())
            behind = () if everything else self._memory.missed(key)
            holders = [name for name in names if name in heads and heads[name][0] == key]
            holders.sort(key=lambda name: isinstance(heads[name][1], LeftOut))
            found = next(((name, heads[name][1]) for name in holders if name not in behind), None)
            if found is not None:
                yield found
            elif all(name in behind or name in failures for name in names):
                # Those that could report whether the key is still there all failed.
                raise unavailable("too many replicas failed to list", failures)
            for name in holders:
                advance(name)


@dataclass
class _Stream:
    """How far a stream has come."""

    key: str
    info: Info
    name: str
    """The replica that is read."""
    low: int
    high: int
    given: int = 0
    seal: int = 0
    """The CRC-32 of what was given."""

    def __post_init__(self) -> None:
        self.tried = set[str]()

    def check_end(self) -> None:
        size = self.high - self.low
        if self.given != size:
            message = f"replica {self.name!r} returned {self.given} bytes of {size}"
            raise IntegrityError(message, key=self.key)

    def rest(self, name: str, store: Store) -> Iterator[Piece] | None:
        """Return the rest of the stream from a store that holds the same blob; None if it doesn't."""
        ranges = Can.RANGE in store.can and self.low < self.high
        found, pieces = (
            store._read(self.key, self.low, self.high) if ranges else store._read(self.key, 0, None)
        )
        if found.size != self.info.size or (name == self.name and found.etag != self.info.etag):
            return None
        pieces = iter(pieces if ranges else cut(pieces, self.low, self.high))
        seen = check = 0
        for piece in pieces if self.given else ():
            part = memoryview(piece)[: self.given - seen]
            seen, check = seen + len(part), zlib.crc32(part, check)
            if seen == self.given:
                if check != self.seal:
                    return None
                left = bytes(memoryview(piece)[len(part) :])
                return chain((left,) if left else (), pieces)
        return None if self.given else pieces


class _AtHand(Store):
    """A replica with one blob, which was read already."""

    def __init__(self, store: Store, info: Info, pieces: list[Piece]) -> None:
        self._store, self._found, self._pieces = store, info, pieces

    def _info(self, key: str) -> Info:
        return self._found

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        if state(self._store, key) != self._found.etag:
            raise BlobNotFoundError(key=key)
        return self._found, iter(self._pieces)


def _open_stream(
    key: str, start: int, stop: int | None, store: Store
) -> tuple[Info, Iterator[Piece] | None, list[Piece]]:
    """Begin to read a blob. None stands for the pieces if it is here already, whole and to its end, so that
    what is found out at the end is found out in time."""
    info, pieces = store._read(key, start, stop)
    size = info.size
    if start or stop is not None:
        low, high = span(start, stop, size)
        size = high - low
    held: list[Piece] = []
    left = size
    pieces = iter(pieces)
    for piece in pieces:
        left -= len(piece)
        if left > 0 and not held:
            return info, pieces, [piece]
        held.append(bytes(piece))
    if left:
        raise IntegrityError(f"the store returned {size - left} bytes of {size}", key=key)
    return info, None, held


def _next_blob(iterator: Iterator[T], store: Store) -> Iterator[T]:
    """Yield the next entry of a replica's listing, if there is one; a mark isn't a blob."""
    for entry in iterator:
        if not isinstance(entry, Info) or entry.size != SIZE:
            yield entry
            return
        with suppress(BlobNotFoundError):
            info: Info = entry
            while (marked := info.size == SIZE and is_mark(store, info, info.key)) is None:
                info = store._info(info.key)
            if not marked:
                yield cast("T", info)
                return


def has_plain_etag(info: Info) -> bool:
    """Return whether an ETag is the same in the fan-out; an int stays one."""
    return type(info._etag) is int or not info.etag.startswith("@")


def foreign_etag(name: str | None, etag: str) -> str:
    """Return an ETag that names its replica; those of the arbiter, None, are plain."""
    if name is not None:
        return f"@{name}@{etag}"
    return "@" + etag if etag.startswith("@") else etag


def split_etag(etag: str) -> tuple[str | None, str]:
    """Return the name of the replica, None for the arbiter, and the ETag there.

    >>> split_etag(foreign_etag("near", "@1")), split_etag(foreign_etag(None, "@1"))
    (('near', '@1'), (None, '@1'))
    """
    if not etag.startswith("@"):
        return None, etag
    if etag.startswith("@@"):
        return None, etag[1:]
    name, _, etag = etag[1:].partition("@")
    return name, etag
