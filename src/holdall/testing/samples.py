"""Bytes that tests write, and short ways to see what a store holds."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

from holdall.store import Info, Store

MIB = 1 << 20
_NOISE = hashlib.shake_128(b"noise").digest(4 * MIB + 15)
"""Its length is a prime number, so that no two chunks of a blob of noise are equal, whatever their size."""


def make_noise(size: int, seed: int = 0) -> bytes:
    """Return a stretch of a long noise, which begins at another place for each size and seed."""
    at = zlib.crc32(f"{size} {seed}".encode()) % len(_NOISE)
    first = _NOISE[at : at + size]
    rounds, rest = divmod(size - len(first), len(_NOISE))
    return b"".join((first, *(rounds * (_NOISE,)), _NOISE[:rest]))


def seal(payload: bytes) -> bytes:
    """Return a value that shows whether it is whole: the digest of the payload, then the payload."""
    return hashlib.sha256(payload).digest() + payload


def is_whole(value: bytes) -> bool:
    return hashlib.sha256(value[32:]).digest() == value[:32]


def hash_bytes(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def give_once(*pieces: Any) -> Iterator[Any]:
    yield from pieces


def fail_after(*pieces: bytes, error: Exception | None = None) -> Iterator[bytes]:
    yield from pieces
    raise error or BodyError("the body failed")


class BodyError(Exception):
    """Raised by a body that fails."""


def bind_calls(store: object, names: str, *arguments: Any, **options: Any) -> list[Callable[[], object]]:
    """Return a call of each method that is named, with the same arguments; a listing is read to its end."""
    return [partial(_call_by_name, store, name, *arguments, **options) for name in names.split()]


def _call_by_name(store: object, name: str, *arguments: Any, **options: Any) -> object:
    made = getattr(store, name)(*arguments, **options)
    return list(made) if name in ("list", "iterate_keys", "children", "keys", "values", "items") else made


def read_all(store: Store) -> dict[str, bytes]:
    return dict(store.items())


def list_keys(store: Store, prefix: str = "", **options: Any) -> list[str]:
    keys = [info.key for info in store.list(prefix, **options)]
    assert keys == list(store.iterate_keys(prefix, **options)), "list and iterate_keys disagree"
    return keys


def read_file(store: Store, key: str) -> bytes:
    with store.open(key) as file:
        return file.read()


def key_of(child: str | Info) -> str:
    return child if isinstance(child, str) else child.key


def measure_memory() -> int:
    """Return the bytes of memory that this process holds, without mapped files; 0 if unknown."""
    try:
        with open("/proc/self/status") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon")), 0)
    except OSError:
        return 0


def without_times(value: object) -> object:
    if isinstance(value, Info):
        return value.key, value.size
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in cast("dict[object, object]", value).items()}
    return value
