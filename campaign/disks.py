"""Full disks: after an error the call happened, and the error says that it may have; or it did not happen."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import cast

from campaign.stores import Make
from holdall import FanoutStore, PartialWriteError, Store, StoreError

_CALLS = 60
_SIZE = "3m"


def fill(make: Make, place: Path, visit: int) -> int:
    """Write into a small disk that is full again and again."""
    rng = random.Random(visit)
    with _disk(place) as disk:
        with closing(make(disk)) as store:
            store["first"] = b"1"
            known = {"first": b"1"}
            for _ in range(_CALLS):
                key, deletes = f"key{rng.randrange(6)}", rng.randrange(4) == 0
                data = rng.randbytes(rng.choice((10, 3000, 40_000, 150_000)))
                wanted, before = None if deletes else data, known.pop(key, None)
                failed: StoreError | None = None
                try:
                    with _ballast(disk, rng.randrange(0, 24_000)):
                        _write(store, key, data, -1 if deletes else rng.randrange(3))
                except StoreError as error:
                    failed = error
                found = store.get(key)
                if failed is None:
                    assert found == wanted, f"{key!r} isn't what was acknowledged"
                else:
                    _check(found, before, wanted, failed)
                if isinstance(failed, PartialWriteError):
                    # As its message says: until then the replicas differ.
                    assert cast(FanoutStore, store).repair()
                    found = store.get(key)
                if found is not None:
                    known[key] = found
        # With room again everything works, by a new handle too.
        with closing(make(disk)) as store:
            assert dict(store.items()) == known, "what was acknowledged isn't there"
            store["last"] = b"2"
            assert store["last"] == b"2"
    return _CALLS


def _write(store: Store, key: str, data: bytes, kind: int) -> None:
    match kind:
        case 0:
            store.put(key, data)
        case 1:
            store.put(key, (data[at : at + 9000] for at in range(0, len(data), 9000)))
        case 2:
            with store.open(key, "wb") as file:
                file.write(data)
        case _:
            store.delete(key)


def _check(found: bytes | None, before: bytes | None, wanted: bytes | None, error: StoreError) -> None:
    """Check what a call that failed left behind."""
    if found == before:
        return
    if found != wanted:
        raise AssertionError(f"{error.key!r} is neither the old nor the new blob") from error
    if not (isinstance(error, PartialWriteError) or "may" in str(error)):
        raise AssertionError("it is done all the same, and the error doesn't say that it may be") from error


@contextmanager
def _disk(place: Path) -> Iterator[Path]:
    """A small disk in memory."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"a small disk can't be mounted; run this as root: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def _ballast(disk: Path, left: int) -> Iterator[None]:
    """Fill the disk but for some bytes."""
    path = disk / "ballast"
    free = os.statvfs(disk)
    size = max(0, free.f_bavail * free.f_frsize - left)
    try:
        with open(path, "wb") as file, suppress(OSError):
            file.write(bytes(size))
        yield
    finally:
        path.unlink(missing_ok=True)
