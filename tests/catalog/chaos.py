"""Processes that put, update, delete and collect the same keys and the same contents, and are killed.

Each worker notes an act before it begins, and once more when it was acknowledged. At the end every note is
held against the catalogue.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from holdall import BlobStore, ConcurrencyError, ProtectedError
from holdall.catalog import upkeep, writing
from holdall.testing.running import wait_for

__all__ = ["Make", "chaos"]

Make = Callable[[int], BlobStore]
"""Opens the catalogue, with this many versions of a key to keep."""

WORKERS = 8
_KEEPS = (1, 3)
"""How many versions the workers keep, one after the other: handles of one catalogue may differ."""
_SHARED = 5
"""How many keys of each kind all workers use."""
_SIZES = (40, 3_000, 70_000, 0, 100_000)
CONTENTS = [random.Random(at).randbytes(_SIZES[at % len(_SIZES)]) + b"%d" % at for at in range(30)]
"""What all workers put, some of it small enough for a database. They are so many that most come and go."""


class _Worker:
    """One process at work."""

    def __init__(self, store: BlobStore, number: int, notes: int, chance: random.Random) -> None:
        self.store = store
        self.number = number
        self.chance = chance
        self._notes = notes

    def step(self) -> None:
        """Carry out one act."""
        acts = (
            self.own,
            self.own,
            self.count,
            self.count,
            self.swap,
            self.swap,
            self.free,
            self.free,
            self.read,
        )
        self.chance.choice((*acts, self.alias, self.collect, self.collect))()

    def _act(self, kind: str, key: str, value: Any, call: Callable[[], object]) -> None:
        """Carry out a call between two notes."""
        self._note(kind, key, value, "begun")
        try:
            call()
        except (ConcurrencyError, ProtectedError):
            self._note(kind, key, value, "refused")
        else:
            self._note(kind, key, value, "done")

    def _note(self, *note: Any) -> None:
        os.write(self._notes, json.dumps(note).encode() + b"\n")

    def own(self) -> None:
        """Put or delete a key that only this worker writes; the contents are those of all."""
        key = f"own/{self.number}/{self.chance.randrange(3)}"
        at = self.chance.randrange(len(CONTENTS))
        if self.chance.random() < 0.3:
            self._act("own", key, None, lambda: self.store.delete(key))
        else:
            self._act("own", key, at, lambda: self.store.put(CONTENTS[at], key, {"at": at}))

    def count(self) -> None:
        """Update the metadata of a key that all put, update and read."""
        key = f"count/{self.chance.randrange(_SHARED)}"
        if self.chance.random() < 0.2:
            # The content that is there already: its metadata stay.
            self.store.put(CONTENTS[2], key)
            return
        value = time.monotonic_ns()

        def update() -> None:
            assert self.store.update_metadata(key, {f"w{self.number}": value}), f"{key} is gone"

        self._act("count", key, value, update)

    def swap(self) -> None:
        """Count by compare-and-swap, in the metadata and in the content."""
        key = f"swap/{self.chance.randrange(_SHARED)}"
        entry = self.store.entry(key)
        assert entry is not None, f"{key} is gone"
        count = entry.metadata["count"] + 1
        if self.chance.random() < 0.5:
            self._act(
                "swap", key, 1, lambda: self.store.update_metadata(key, {"count": count}, expect=entry.etag)
            )
        else:
            data = CONTENTS[count % len(CONTENTS)]
            self._act("swap", key, 1, lambda: self.store.put(data, key, {"count": count}, expect=entry.etag))

    def free(self) -> None:
        """Put or delete a key that all put and delete."""
        key = f"free/{self.chance.randrange(_SHARED)}"
        at = self.chance.randrange(len(CONTENTS))
        kind = self.chance.randrange(4)
        if kind == 0:
            self._act("free", key, None, lambda: self.store.delete(key))
        elif kind == 1:
            many = {f"free/{number}": CONTENTS[at] for number in range(_SHARED)}
            metadata = {key: {"at": at} for key in many}
            self._act("free", key, at, lambda: self.store.put_many(many, metadata))
        else:
            self._act("free", key, at, lambda: self.store.put(CONTENTS[at], key, {"at": at}))

    def read(self) -> None:
        """Read what others put and delete: it is whole, or not there."""
        kind = self.chance.choice(("free", "swap", "count"))
        key = f"{kind}/{self.chance.randrange(_SHARED)}"
        found = self.store.get(key)
        assert found in CONTENTS or (found is None and kind == "free"), f"{key} is {found!r:.80}"
        for entry in self.store.find({"key": {"prefix": "own/"}}):
            assert set(entry.metadata) == {"at"}

    def alias(self) -> None:
        """Point an alias at what may be deleted at the same time."""
        key = f"free/{self.chance.randrange(_SHARED)}"
        try:
            self.store.alias("best", key)
        except KeyError:
            self.store.delete_alias("best")

    def collect(self) -> None:
        self.store.collect(0, max_share=1.0)


def _work(make: Make, number: int, notes: Path, seed: float, over: Path) -> None:
    """Carry out acts until it is over; the whole life of a process."""
    code = 1
    parent = os.getppid()
    try:
        fd = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        store = make(_KEEPS[number % len(_KEEPS)])
        worker = _Worker(store, number, fd, random.Random(seed))
        while not over.exists() and os.getppid() == parent:
            worker.step()
        store.close()
        code = 0
    except BaseException:  # noqa: BLE001 - the process ends here, and its parent reads why
        notes.with_suffix(".fault").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def chaos(make: Make, place: Path, kills: int, seed: int = 0) -> Counter[str]:
    """Let processes work on a catalogue, kill one after the other, and check what is left; return how often
    each kind of act was acknowledged, and how many were killed.

    Args:
        make: Opens the catalogue, which is empty, in each process.
        place: An empty folder for notes.
        kills: How many processes are killed.
        seed: Which acts they choose.

    Raises:
        AssertionError: A promise is broken.
    """
    chance = random.Random(seed)
    store = make(1)
    for number in range(_SHARED):
        store.put(CONTENTS[2], f"count/{number}")
        store.put(CONTENTS[0], f"swap/{number}", {"count": 0})
    store.close()
    over = place / "over"
    counts: Counter[str] = Counter()
    running: dict[int, int] = {}

    def begin(number: int) -> None:
        pid = os.fork()
        if not pid:
            _work(make, number, place / f"{number}.notes", chance.random() + number, over)
        running[number] = pid

    try:
        for number in range(WORKERS):
            begin(number)
        while counts["killed"] < kills:
            time.sleep(chance.uniform(0.01, 0.2))
            number = chance.randrange(WORKERS)
            chance.random()  # the child that follows works otherwise than the one before
            os.kill(running[number], signal.SIGKILL)
            _, status = os.waitpid(running.pop(number), 0)
            if not os.WIFSIGNALED(status):
                break  # it has failed
            counts["killed"] += 1
            begin(number)
        over.touch()
        for number in list(running):
            assert wait_for(running.pop(number)) in (0, 1), f"worker {number} hangs or died"
    finally:
        for pid in running.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    faults = [path.read_text() for path in place.glob("*.fault")]
    assert not faults, "\n".join(faults)
    _check(make, place, counts)
    return counts


def _check(make: Make, place: Path, counts: Counter[str]) -> None:
    """Hold the notes against the catalogue."""
    store = make(1)
    try:
        _check_notes(store, place, counts)
        _check_rows(store)
        _check_garbage(store)
        _check_rows(store)
    finally:
        store.close()


def _check_notes(store: BlobStore, place: Path, counts: Counter[str]) -> None:
    own: dict[str, set[Any]] = defaultdict(lambda: {None})
    swaps: Counter[tuple[str, str]] = Counter()
    for notes in sorted(place.glob("*.notes")):
        number = notes.stem
        least: dict[str, int] = {}
        most: dict[str, int] = {}
        for line in notes.read_text().splitlines():
            kind, key, value, state = json.loads(line)
            counts[kind] += state == "done"
            if kind == "own":
                # Begun and not done: killed before or after its moment.
                own[key] = own[key] | {value} if state == "begun" else {value}
            elif kind == "swap":
                swaps[key, state] += 1
            elif kind == "count":
                most[key] = value
                if state == "done":
                    least[key] = value
        for key in most:
            entry = store.entry(key)
            assert entry is not None, f"{key} is gone"
            found = entry.metadata.get(f"w{number}", 0)
            assert least.get(key, 0) <= found <= most[key], f"{key} lost an update of worker {number}"
    for key, allowed in own.items():
        entry = store.entry(key)
        found = None if entry is None else entry.metadata["at"]
        assert found in allowed, f"{key} is {found}, and its worker left {allowed}"
    for number in range(_SHARED):
        key = f"swap/{number}"
        entry = store.entry(key)
        assert entry is not None, f"{key} is gone"
        done, begun = swaps[key, "done"], swaps[key, "begun"] - swaps[key, "refused"]
        assert done <= entry.metadata["count"] <= begun, f"{key} lost an update"


def _check_rows(store: BlobStore) -> None:
    """Each row has its bytes."""
    for entry in store.find():
        data = store.get(entry.key)
        if "at" in entry.metadata:
            assert data == CONTENTS[entry.metadata["at"]], f"{entry.key} has the bytes of another put"
        assert data in CONTENTS
        for version in store.history(entry.key):
            assert store.get(entry.key, version=version.version) in CONTENTS
    assert store.aliases().keys() <= {"best"}
    for name in store._backend.transact(lambda tx: tx.aliases()):
        assert store.resolve(name.name) is not None, "an alias points at nothing"
    found = store.verify()
    assert not found.missing
    assert not found.damaged
    assert not found.unknown


def _check_garbage(store: BlobStore) -> None:
    """After a sweep there are the blobs that a row names, and no others. The writers that were killed count
    as under way for a day, so that the sweep comes a day later."""
    store.collect(0, max_share=1.0)
    with patch.object(upkeep, "micros", lambda: writing.micros() + 25 * 3_600 * 1_000_000):
        swept = store.collect(0, max_share=1.0)
    assert swept.kept == 0
    blobs = list(store._backend.blobs())
    unnamed = store._backend.transact(lambda tx: [each for each in blobs if not tx.is_named(each.number)])
    assert unnamed == []
    assert list(store._backend.suspects(2**62)) == []
    stored = {address for address, _ in store._blobs.addresses()}
    named = {
        store._blobs.address(blob.digest, blob.number, blob.extension) for blob in blobs if not blob.inline
    }
    assert stored == named
    # Equal contents are stored once.
    digests = Counter(blob.digest for blob in blobs)
    assert set(digests.values()) <= {1}, digests
