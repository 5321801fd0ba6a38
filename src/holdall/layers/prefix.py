"""A folder of a store as a store of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import BinaryIO, TypeVar

from holdall.errors import InvalidKeyError, StoreError
from holdall.keys import MAX_KEY_BYTES, check_key
from holdall.layers.layer import Transparent
from holdall.store import Attributes, Body, Can, Expect, Info, LeftOut, Piece, Put, Store

__all__ = ["PrefixStore"]

T = TypeVar("T")
R = TypeVar("R")


class PrefixStore(Transparent):
    """The blobs under a folder of another store, as a store of their own. It touches nothing else.

    Args:
        store: The store below.
        prefix: The folder, such as `logs` or `logs/2026/`; its final slash is optional.

    The folder counts as part of each key: together they have at most 1,024 UTF-8 bytes.

    Raises:
        InvalidKeyError: The prefix can't be the start of a key, or leaves no room for one.

    >>> from holdall import MemoryStore
    >>> store = MemoryStore({"logs/a": b"1", "logs.old/a": b"2"})
    >>> logs = store / "logs"
    >>> logs, list(logs), logs["a"]
    (PrefixStore(MemoryStore(), prefix='logs/'), ['a'], b'1')
    """

    _passes = True

    def __init__(self, store: Store, prefix: str) -> None:
        super().__init__(store)
        folder = check_key(prefix.removesuffix("/") if isinstance(prefix, str) else prefix)
        self._prefix = f"{folder}/"
        self._cut = len(self._prefix)
        if len(self._prefix.encode()) >= MAX_KEY_BYTES:
            raise InvalidKeyError(
                f"this prefix leaves no room for a key: expected fewer than {MAX_KEY_BYTES} UTF-8 bytes, "
                "its slash included",
                key=folder,
            )

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "prefix": self._prefix}

    @cached_property
    def can(self) -> Can:
        return self._store.can

    def _place(self, tail: str) -> str:
        return self._prefix + tail

    def __truediv__(self, prefix: str) -> PrefixStore:
        if prefix == "":
            return self
        # One layer with a longer prefix instead of two: half the way for each call.
        below = PrefixStore(self._store, prefix)
        return PrefixStore(self._store, self._prefix + below._prefix)

    def _checked(self, key: object) -> str:
        if self._closed:
            raise self._closed_error()
        key = check_key(key)
        # The store below knows whether it is closed, and how long a key of its own may be.
        try:
            self._store._checked(self._prefix + key)
        except InvalidKeyError as error:
            message = f"with its folder {self._prefix!r} it can't be a key: {error.message}"
            raise InvalidKeyError(message, key=key) from None
        return key

    def _need(self, flag: Can, call: str) -> None:
        if self._closed:
            raise self._closed_error()
        self._store._need(flag, call)

    @contextmanager
    def _own_keys(self) -> Generator[None]:
        """Give an error of many keys the one that failed, as this store calls it."""
        try:
            yield
        except StoreError as error:
            if error.key is not None:
                error.key = error.key.removeprefix(self._prefix)
            raise

    def _each(self, found: Iterator[T], turn: Callable[[T], R]) -> Iterator[R]:
        with self._own_keys():
            for each in found:
                yield turn(each)

    def _strip(self, info: Info) -> Info:
        return info.replace(key=info.key[self._cut :])

    # With its folder a key is valid below only if it is valid here.

    def _get(self, key: str) -> bytes | None:
        return self._store._get(self._prefix + key)

    def _has(self, key: str) -> bool:
        return self._store._has(self._prefix + key)

    def _put(self, key: str, data: bytes) -> Info:
        return self._store._put(self._prefix + key, data).replace(key=key)

    def _begin_get(self, key: str) -> Awaitable[bytes | None] | None:
        return self._store._begin_get(self._prefix + key)

    def _begin_put(self, key: str, data: bytes, called: str) -> Awaitable[Info] | None:
        return self._store._begin_put(self._prefix + key, data, called)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = self._store._read(self._prefix + key, start, stop)
        return self._strip(info), self._pieces(key, pieces)

    def _read_spans(self, key: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[Info, bytes]]:
        return self._store._read_spans(self._prefix + key, spans)

    def _pieces(self, key: str, pieces: Iterator[Piece]) -> Iterator[Piece]:
        try:
            yield from pieces
        except StoreError as error:
            error.key = key
            raise

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        return self._strip(self._store._write(self._prefix + key, body, expect, attributes))

    def _delete(self, key: str, expect: Expect) -> bool:
        return self._store._delete(self._prefix + key, expect)

    def _info(self, key: str) -> Info:
        return self._strip(self._store._info(self._prefix + key))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        found = self._store._scan(self._prefix + prefix, after and self._prefix + after)
        return self._each(found, self._strip)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        found = self._store._survey(self._prefix + prefix, after and self._prefix + after)
        return self._each(found, self._strip_entry)

    def _strip_entry(self, entry: Info | LeftOut) -> Info | LeftOut:
        if isinstance(entry, LeftOut):
            return LeftOut(entry.path[self._cut :], entry.kind)
        return self._strip(entry)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        found = self._store._keys(self._prefix + prefix, after and self._prefix + after)
        return self._each(found, self._strip_key)

    def _strip_key(self, key: str) -> str:
        return key[self._cut :]

    def _children(self, prefix: str) -> Iterator[str | Info]:
        return self._each(
            self._store._children(self._prefix + prefix),
            lambda child: self._strip_key(child) if isinstance(child, str) else self._strip(child),
        )

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        with self._own_keys():
            for key, data in self._store._get_many([self._prefix + key for key in keys]):
                yield key[self._cut :], data

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        prefixed = ((self._prefix + key, body, attributes) for key, body, attributes in items)
        with self._own_keys():
            yield from map(self._strip, self._store._put_many(prefixed))

    def _delete_many(self, keys: Iterable[str]) -> int:
        with self._own_keys():
            return self._store._delete_many([self._prefix + key for key in keys])

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        return self._strip(self._store._copy(self._prefix + source, self._prefix + target, expect))

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        return self._strip(self._store._move(self._prefix + source, self._prefix + target, expect))

    def _move_many(self, moves: Mapping[str, str]) -> bool:
        with self._own_keys():
            below = {self._prefix + source: self._prefix + target for source, target in moves.items()}
            return self._store._move_many(below)

    def _open_write(self, key: str, expect: Expect, attributes: Attributes) -> BinaryIO:
        return self._store._open_write(self._prefix + key, expect, attributes)

    def _open_append(self, key: str) -> BinaryIO:
        return self._store._open_append(self._prefix + key)

    def _sign(self, key: str, method: str, seconds: float) -> str:
        return self._store._sign(self._prefix + key, method, seconds)

    def _digest(self, key: str, algorithm: str) -> str | None:
        return self._store._digest(self._prefix + key, algorithm)

    def _touch(self, key: str, expires: datetime | None) -> Info:
        return self._strip(self._store._touch(self._prefix + key, expires))

    def _local_path(self, key: str) -> str | None:
        return self._store._local_path(self._prefix + key)
