"""Reads of objects: small ones by one request, large ones by several at a time, all of one version."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from holdall.blob import Info, Piece
from holdall.errors import BlobNotFoundError, ConcurrencyError
from holdall.pieces import join_pieces
from holdall.ranges import CHUNK, span
from holdall.stopping import away, in_loop
from holdall.stores.bucket.access import Access
from holdall.stores.bucket.attributes import metadata_of, type_of
from holdall.stores.bucket.clouds import AZURE, tag_of
from holdall.stores.bucket.errors import ChangedError, PartError
from holdall.stores.bucket.names import Names
from holdall.stores.crew import Crew
from holdall.workers import Call

T = TypeVar("T")

_WHOLE = 4 * CHUNK
"""What is handed over in one piece."""
_LARGE = 16 * CHUNK
"""What is read by one request."""
_PART, _PARTS = 3 * CHUNK, 4
"""The size of a part of what is larger, and how many are under way."""
_LITTLE = CHUNK
"""What an event loop reads as a part."""
_NEXT = 32
_FAR = 1 << 53
_TRIES = 20


class Reader:
    """The reads of a store."""

    def __init__(self, access: Access, names: Names) -> None:
        self._access, self._names = access, names
        self._wholes = 0
        """How many objects to ask for whole before the next try to ask for a part."""

    def info_of(self, key: str, meta: Any, attributes: Mapping[str, str]) -> Info:
        """Return the info of a blob, by what the server said of it."""
        kind = type_of(self._access.cloud, attributes)
        return Info(key, meta["size"], tag_of(meta), _second(meta), kind, None, metadata_of(attributes))

    def listed(self, key: str, meta: Any) -> Info:
        """Return the info of a blob that a listing named. Its content type is asked for when somebody wants
        to know it."""
        return Info(key, meta["size"], tag_of(meta), _second(meta), partial(self._type_of, key))

    def _type_of(self, key: str) -> str | None:
        try:
            return self.info(key).content_type
        except BlobNotFoundError:
            return None

    def info(self, key: str) -> Info:
        return self.info_of(key, *self._access.described(self._names.of(key)))

    def get(self, key: str) -> bytes | None:
        try:
            found, data = self._access.get(self._names.of(key), _LARGE)
        except BlobNotFoundError:
            return None
        if data is not None:
            return data
        return away(lambda: join_pieces(self._pieces(key, found)))

    def begin_get(self, key: str) -> Awaitable[bytes | None] | None:
        """Return what gives the bytes of an object of at most `_LITTLE`, and None for another.

        A whole object comes in two steps, its head and its bytes, each of which wakes the event loop; a part
        comes in one. After an object that isn't as small, the next ones are asked for whole.
        """
        if not self._access.takes_ranges():
            return None
        if self._wholes > 0:  # below, if two threads count at the same time
            self._wholes -= 1
            return None
        return self._little(self._names.of(key))

    async def _little(self, name: str) -> bytes | None:
        try:
            with self._access.asking("read"):
                data = await self._access.begin("get_range_async", name, start=0, end=_LITTLE + 1)
            if len(data) <= _LITTLE:
                return bytes(data)
        except PartError:
            pass
        # It is larger, or has no parts: it is empty, or is unpacked on its way.
        self._wholes = _NEXT
        return None

    def read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        if (start, stop) == (0, None):
            return self._open_answer(key, {})
        part = _part_of(start, stop)
        if part is not None and not (isinstance(part, dict) and self._access.cloud is AZURE):
            try:
                return self._open_answer(key, {"range": part})
            except PartError:
                # A range past the end, or of an empty object, is refused.
                pass
        for _ in range(_TRIES):
            info = self.info(key)
            low, high = span(start, stop, info.size)
            if low == high:
                return info, iter(())
            try:
                return self._open_answer(key, {"range": (low, high), "if_match": f'"{info.etag}"'})
            except (ChangedError, PartError):
                continue
        raise ConcurrencyError("it is replaced all the time while it is read", key=key)

    def span(self, key: str, start: int, stop: int) -> tuple[Info, bytes]:
        """Return the bytes of a range, with the info of the version that it is of."""
        info, pieces = self.read(key, start, stop)
        return info, join_pieces(pieces)

    def _open_answer(self, key: str, options: dict[str, Any]) -> tuple[Info, Iterator[Piece]]:
        found = self._access.ask("read", "get", self._names.of(key), options=options)
        info = self.info_of(key, found.meta, found.attributes)
        low, high = found.range
        if high - low <= _WHOLE:
            return info, iter([self._access.whole(found)])
        pieces = self._pieces(key, found)
        # In parts it is read by threads, for which this one waits.
        return info, iter([away(lambda: join_pieces(pieces))]) if in_loop() else pieces

    def _pieces(self, key: str, found: Any) -> Iterator[Piece]:
        """Yield the bytes of an answer. Past its first part, a large one of a server that isn't near is asked
        for in parts, side by side; the answer stays open, and goes on where the server doesn't send a part of
        this version."""
        stream, (low, high) = self._access.stream(found, CHUNK), found.range
        at, begun = low, low
        try:
            for piece in stream:
                yield piece
                at += len(piece)
                if high - low > _LARGE and at - low >= _WHOLE and not self._access.is_near():
                    break
            begun = at
            try:
                calls = (
                    partial(self._part, key, found.meta, start, min(start + _PART, high))
                    for start in range(begun, high, _PART)
                )
                for part in _side_by_side(calls):
                    for start in range(0, len(part), CHUNK):
                        yield part[start : start + CHUNK]
                    at += len(part)
            except (ChangedError, PartError, BlobNotFoundError):
                for piece in stream:
                    begun += len(piece)
                    if begun > at:
                        yield piece[at - begun :]
                        at = begun
        except ChangedError:
            raise ConcurrencyError("it was replaced while it was read; read it again", key=key) from None

    def _part(self, key: str, meta: Any, start: int, stop: int) -> memoryview:
        options = {"range": (start, stop), "if_match": f'"{tag_of(meta)}"'}
        return self._access.held(self._access.ask("read", "get", self._names.of(key), options=options))


def _second(meta: Any) -> datetime:
    """Return when an object was written. A listing may have fractions of seconds, which a request for one
    object never has."""
    moment: datetime = meta["last_modified"]
    return moment.replace(microsecond=0) if moment.microsecond else moment


def _part_of(start: int, stop: int | None) -> Any:
    """Return a range as obstore takes it; None where the size must be known first."""
    if stop is None:
        if start >= 0:
            return {"offset": start} if start < _FAR else None
        return {"suffix": -start} if -start < _FAR else None
    return (start, min(stop, _FAR)) if 0 <= start < min(stop, _FAR) else None


def _side_by_side(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Yield the results of calls, in order. At an error, an interrupt, or when the caller stops iterating,
    those under way are stopped."""
    begun: deque[Call[T]] = deque()
    crew = Crew(_PARTS)
    try:
        for call in calls:
            if len(begun) == _PARTS:
                yield begun.popleft().result()
            begun.append(crew.submit(call))
        while begun:
            yield begun.popleft().result()
    finally:
        # Nobody waits for their threads, which the end of the interpreter may have frozen.
        crew.stop()
        crew.dismiss()
