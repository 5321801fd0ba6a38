"""What a transfer holds doesn't grow with what it moves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STORES = """
import resource, sys
from holdall.errors import BlobNotFoundError
from holdall.store import Can, Info, Store
from holdall.stores.filesystem import FilesystemStore
from holdall.transfer import *

class Made(Store):
    "Blobs that are made when they are asked for, and kept by nobody."
    can = Can.LIST | Can.WRITE | Can.DELETE
    def __init__(self, count, size, empty=False, step=1):
        self.count, self.size, self.empty, self.step = count, size, empty, step
    def _settings(self):
        return {"count": self.count, "size": self.size, "empty": self.empty, "step": self.step}
    def _info(self, key):
        index = int(key.rpartition("/")[2])
        if index >= self.count or index % self.step:
            raise BlobNotFoundError
        return self._made(key)
    def _made(self, key):
        return Info(key, self.size, "1", 0.0)
    def _read(self, key, start, stop):
        piece = bytearray(b"x" * min(self.size, 1 << 20))
        return self._made(key), (memoryview(piece) for _ in range(0, self.size, 1 << 20))
    def _write(self, key, body, expect, attributes):
        return Info(key, sum(map(len, body)), "1", 0.0)
    def _delete(self, key, expect):
        return True
    def _scan(self, prefix, after):
        if not self.empty:
            for index in range(0, self.count, self.step):
                yield self._made(f"some/folder/{index:09}")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""


def grown(script: str, place: Path) -> float:
    """By how many MiB the peak of memory grew from a small run to a large one."""
    ran = subprocess.run(
        [sys.executable, "-c", STORES + script, str(place)], capture_output=True, text=True, check=True
    )
    return float(ran.stdout)


@pytest.mark.parametrize("journal", [None, "j"])
def test_fifty_thousand_keys(journal: str | None, tmp_path: Path) -> None:
    script = f"""
def run(count):
    journal = None if {journal!r} is None else f"{{sys.argv[1]}}/{{count}}"
    target = Made(count, 10, step=2)
    target.count *= 2
    report = sync_stores(Made(count, 10), target, journal=journal, max_delete=1.0, jobs=1)
    assert report.copied == count // 2 and report.deleted == count // 2, report
    plan = copy_store(Made(count, 10), Made(count, 10, empty=True), dry_run=True)
    assert len(plan) == count
run(2000)
before = peak()
run(50_000)
print(peak() - before)
"""
    assert grown(script, tmp_path) < 10


def test_a_blob_of_two_hundred_mebibytes(tmp_path: Path) -> None:
    script = """
def run(size):
    source, target = Made(1, size), FilesystemStore(sys.argv[1] + "/target")
    report = copy_store(source, target)
    assert (report.bytes, report.ok) == (size, True), report.failures
    assert copy_store(source, target).skipped == 1
    assert verify_store(target).bytes == size
    assert list(diff_stores(source, target)) == []
    target.clear()
run(2 << 20)
before = peak()
run(200 << 20)
print(peak() - before)
"""
    assert grown(script, tmp_path) < 10
