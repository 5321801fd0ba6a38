"""Bytes that tests write, and short ways to see what a store holds."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any, cast

from holdall.store import Info, Store

MIB = 1 << 20


def make_noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{size} {seed}").randbytes(size)


def seal(payload: bytes) -> bytes:
    """A value that tells whether it is whole: a digest, then what it is the digest of."""
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
    """What a failing body raises."""


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


def read_whole(store: Store, key: str) -> tuple[Info, bytes]:
    """A blob's info with its bytes, from one read."""
    info, pieces = store._read(key, 0, None)
    return info, b"".join(pieces)


def measure_memory() -> int:
    """The bytes of memory that this process holds beside mapped files; 0 where nobody tells."""
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
