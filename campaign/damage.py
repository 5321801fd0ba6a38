"""Flipped bits: a store that checks what it keeps gives the right bytes or an error, never wrong bytes."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

from campaign.stores import Make
from holdall import ChecksumStore, Store, StoreError, ZipStore

_FLIPS = 400
_BLOBS = {
    "text": b"all is well\n" * 400,
    "noise": random.Random(1).randbytes(3000),
    "small": b"1",
    "empty": b"",
    "folder/large": random.Random(2).randbytes(200_000),
}


def flip(make: Make, place: Path, visit: int) -> int:
    """Flip one bit at a time, in every file that the store made, and read in every way."""
    rng = random.Random(visit)
    with closing(make(place)) as store:
        store.put_many(_BLOBS)
    files = [path for path in place.rglob("*") if path.is_file() and path.stat().st_size]
    for _ in range(_FLIPS):
        path = rng.choice(files)
        good = path.read_bytes()
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        try:
            _check(make, place)
        finally:
            path.write_bytes(good)
    with closing(make(place)) as store:
        assert dict(store.items()) == _BLOBS, "reading damaged files changed them"
    return _FLIPS


def _check(make: Make, place: Path) -> None:
    try:
        store = make(place)
    except StoreError:
        return
    with closing(store):
        for key, data in _BLOBS.items():
            for read in (_get, _range, _file, _chunks):
                try:
                    start, found = read(store, key)
                except StoreError:
                    continue
                if read is _range and type(store) in (ZipStore, ChecksumStore):
                    continue  # they check whole blobs only, and say so
                assert found == data[start:][: len(found)], f"{read.__name__} of {key!r} gives wrong bytes"
                if read is not _range:
                    assert len(found) == len(data), f"{read.__name__} of {key!r} gives less"


def _get(store: Store, key: str) -> tuple[int, bytes]:
    return 0, store[key]


def _range(store: Store, key: str) -> tuple[int, bytes]:
    return 100, store.get_range(key, 100, 900)


def _file(store: Store, key: str) -> tuple[int, bytes]:
    with store.open(key) as file:
        return 0, file.read()


def _chunks(store: Store, key: str) -> tuple[int, bytes]:
    return 0, b"".join(store.chunks(key, 1000))
