"""Folders that are swapped for symbolic links during a call: nothing outside is touched or read."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from campaign.stores import Make
from holdall import Store, StoreError

_CALLS = 3000


def swap(make: Make, place: Path, visit: int) -> int:
    """Use a store whose folder is swapped for a link to another one, all the time."""
    outside = place / "outside"
    (outside / "b").mkdir(parents=True)
    for name in ("x", "b/y"):
        (outside / name).write_bytes(b"outside")
    before = _snapshot(outside)
    inner = place / "inner"
    inner.mkdir()
    rng = random.Random(visit)
    with closing(make(inner)) as store:
        store.put_many({"a/x": b"inside", "a/b/y": b"inside", "c": b"inside"})
        root = next(path for path in (inner / "files", inner / "git", inner / "hashdir") if path.is_dir())
        with _swapping(root / "a", outside):
            for _ in range(_CALLS):
                with suppress(StoreError):
                    _call(store, rng)
    assert _snapshot(outside) == before, "something outside of the store was changed"
    return _CALLS


def _call(store: Store, rng: random.Random) -> None:
    key = rng.choice(("a/x", "a/b/y", "a/new", "a/b/new/z"))
    match rng.randrange(8):
        case 0 | 1:
            store.put(key, b"inside")
        case 2:
            store.delete(key)
        case 3:
            store.copy("c", key)
        case 4:
            store.move("c", key)
            store.put("c", b"inside")
        case 5:
            for data in store.values():
                assert data == b"inside", "bytes from outside were read"
        case 6:
            with store.open(key, "wb") as file:
                file.write(b"inside")
        case _:
            assert store.get(key, b"inside") == b"inside", "bytes from outside were read"


@contextmanager
def _swapping(folder: Path, outside: Path) -> Iterator[None]:
    stop = threading.Event()
    kept = folder.with_name(".kept")

    def swap() -> None:
        while not stop.is_set():
            with suppress(OSError):
                os.rename(folder, kept)
                os.symlink(outside, folder)
            with suppress(OSError):
                os.unlink(folder)
            with suppress(OSError):
                os.rename(kept, folder)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }
