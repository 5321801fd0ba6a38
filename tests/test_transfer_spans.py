"""Transfers of a span of keys, and listings that go side by side."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdall import FilesystemStore, Info, MemoryStore, copy_store, diff_stores, move_store, sync_stores
from holdall.errors import StoreUnavailableError
from holdall.spans import Span
from holdall.transfer import ahead


class Far(MemoryStore):
    """Memory that behaves as a server does."""

    _far = True


class Side(Far):
    """A listing stops at its first key until some go on at the same time."""

    def __init__(self, blobs: dict[str, bytes], awaited: int) -> None:
        super().__init__(blobs)
        self._awaited = awaited
        self._changed = threading.Condition()

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        for number, info in enumerate(super()._scan(prefix, after)):
            if number == 0 and threading.current_thread().name == "holdall-list":
                with self._changed:
                    self._awaited -= 1
                    self._changed.notify_all()
                    assert self._changed.wait_for(lambda: self._awaited <= 0, 60)
            yield info


class Failing(Far):
    """One key can't be listed."""

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        for info in super()._scan(prefix, after):
            if info.key == "15000":
                raise StoreUnavailableError("the server is away")
            yield info


BLOBS = {f"{number:05}": b"%d" % number for number in range(20_000)}


def test_each_span_is_copied_by_itself() -> None:
    source, target = Far(BLOBS), MemoryStore()
    spans = source.split(8)
    assert len(spans) == 8
    with ThreadPoolExecutor(4) as pool:
        reports = pool.map(
            lambda span: copy_store(source, target, prefix=pickle.loads(pickle.dumps(span))), spans
        )
    assert sum(report.copied for report in reports) == len(BLOBS)
    assert dict(target) == BLOBS


def test_a_sync_of_a_span_deletes_nothing_outside() -> None:
    source = MemoryStore({"a": b"1", "b": b"2", "c": b"3"})
    target = MemoryStore({"a0": b"", "b0": b"", "c0": b""})
    report = sync_stores(source, target, prefix=Span("", "a0", "b0"), max_delete=1.0)
    assert (report.copied, report.deleted) == (1, 1)
    assert sorted(target) == ["a0", "b", "c0"]
    assert [each.key for each in diff_stores(source, target, prefix=Span("", "b0"))] == ["c", "c0"]
    assert move_store(source, target, prefix=Span("", "", "b")).deleted == 2
    assert list(source) == ["c"]


@pytest.mark.parametrize("after", ["a", "a-b", "a/x", "a-b/c"])
def test_blobs_under_a_link_before_the_span_are_kept(tmp_path: Path, after: str) -> None:
    source, target = FilesystemStore(tmp_path / "s"), FilesystemStore(tmp_path / "t")
    (tmp_path / "elsewhere").mkdir()
    source["a-b/d"] = b"1"
    (tmp_path / "s" / "a").symlink_to(tmp_path / "elsewhere")
    target.update({"a/y": b"2", "a/z": b"3", "old": b"4"})
    report = sync_stores(source, target, prefix=Span("", after), max_delete=1.0)
    assert report.left_out == {"symbolic link": 1}
    assert {"a/y", "a/z"} <= set(target)
    assert "old" not in target


def test_a_journal_of_a_span_goes_on_with_the_same_span_only(tmp_path: Path) -> None:
    source, target = MemoryStore(BLOBS), MemoryStore()
    span = Span("", "00100", "00200")
    journal = tmp_path / "journal"
    assert copy_store(source, target, prefix=span, journal=journal).copied == 100
    assert copy_store(source, target, prefix=span, journal=journal).copied == 0
    assert copy_store(source, target, prefix="0010", journal=journal).copied == 10 - 9


def test_a_far_store_is_listed_by_several_at_once() -> None:
    source = Side(BLOBS, awaited=4)
    assert [info.key for info in ahead.survey_ahead(source, Span())] == sorted(BLOBS)
    source = Side(BLOBS, awaited=4)
    span = Span("", "00010", "19000")
    assert [info.key for info in ahead.survey_ahead(source, span)] == sorted(filter(span.covers, BLOBS))
    assert copy_store(Side(BLOBS, awaited=4), MemoryStore()).copied == len(BLOBS)


def test_a_listing_that_fails_on_a_thread_fails_in_order() -> None:
    taken = list[str]()
    with pytest.raises(StoreUnavailableError, match="away"):
        taken.extend(info.key for info in ahead.survey_ahead(Failing(BLOBS), Span()))
    assert taken == sorted(BLOBS)[: len(taken)]
    assert len(taken) <= 15_000


def test_the_threads_of_a_listing_that_is_given_up_end() -> None:
    listing = ahead.survey_ahead(Far({f"{number:06}": b"" for number in range(100_000)}), Span())
    for _ in range(5_000):
        next(listing)
    listing.close()
    for thread in threading.enumerate():
        if thread.name == "holdall-list":
            thread.join(60)
            assert not thread.is_alive()
