"""Several ranges of one blob by few reads, and the calls that read many blobs or delete a prefix."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall import (
    Can,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidKeyError,
    MemoryStore,
    RoutedStore,
    SqliteStore,
    Store,
    ValueStore,
)
from holdall.keys import check_key, escape, unescape
from holdall.parts import merged
from holdall.testing import Counting, Limited
from holdall.testing.samples import MIB, make_noise


def test_near_ranges_are_read_together() -> None:
    data = make_noise(MIB)
    store = Counting(MemoryStore({"a": data}))
    ranges = [(0, 100), (200, 300), (500_000, 500_010), (500_005, 500_020), (250, 260), (MIB - 1, MIB + 9)]
    assert store.get_ranges("a", ranges) == [data[low:high] for low, high in ranges]
    assert (store.calls["read"], store.calls["info"]) == (3, 0)
    assert store.bytes_read == 300 + 20 + 1
    limited = Counting(Limited(MemoryStore({"a": data}), ~Can.RANGE))
    assert limited.get_ranges("a", [*ranges, (-9, None)]) == [
        *(data[low:high] for low, high in ranges),
        data[-9:],
    ]
    assert limited.calls["read"] == 1


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60))), st.integers(0, 9), st.integers(1, 30))
def test_merged_spans_hold_all(spans: list[tuple[int, int]], gap: int, longest: int) -> None:
    groups = merged(spans, gap, longest)
    assert groups == sorted(groups)
    assert all(low < high for low, high in groups)
    assert all(last <= first for (_, last), (first, _) in pairwise(groups))
    for low, high in spans:
        if low < high:
            assert sum(first <= low and high <= last for first, last in groups) == 1


class Replaced(Limited):
    """A store whose blob is replaced by another writer behind each of its first reads."""

    left = 3

    def _read(self, key: str, start: int, stop: int | None) -> Any:
        found = super()._read(key, start, stop)
        if self.left:
            self.left -= 1
            self._store[key] = bytes([self.left % 26 + 65]) * MIB
        return found


def test_ranges_are_never_of_two_versions() -> None:
    store = Replaced(MemoryStore({"a": bytes(MIB)}), ~Can(0))
    assert store.get_ranges("a", [(0, 2), (MIB - 2, MIB)]) == [b"AA", b"AA"]
    store.left = 1000
    with pytest.raises(ConcurrencyError):
        store.get_ranges("a", [(0, 2), (MIB - 2, MIB)])


def test_many_blobs_are_read_as_they_are_asked_for() -> None:
    store = Counting(MemoryStore({f"{number:05}": b"x" for number in range(3000)}))
    asked: list[str] = []

    def keys() -> Iterator[str]:
        for key in store:
            asked.append(key)
            yield key

    pairs = store.iterate_many(keys())
    assert next(pairs) == ("00000", b"x")
    assert len(asked) <= 1000
    assert store.calls["read"] <= 2
    assert len(list(pairs)) == 2999
    wrong: Any = store
    for many in ("00000", 5, None):
        with pytest.raises(InvalidArgumentError):
            wrong.iterate_many(many)
    with pytest.raises(InvalidKeyError):
        list(store.iterate_many(["/"]))


@pytest.mark.parametrize("routed", [False, True])
def test_many_blobs_take_the_memory_of_a_few(tmp_path: Path, routed: bool) -> None:
    store: Store = SqliteStore(tmp_path / "a.db")
    if routed:
        store = RoutedStore({"a": store, "": SqliteStore(tmp_path / "b.db")})
    for number in range(48):
        store[f"{'a/' if number % 2 else ''}{number:02}"] = bytes(MIB)
    for read in (lambda: store.iterate_many(sorted(store)), ValueStore(store, "raw").iterate_values):
        tracemalloc.start()
        try:
            assert sum(1 for _ in read()) == 48
            assert tracemalloc.get_traced_memory()[1] < 8 * MIB
        finally:
            tracemalloc.stop()


def test_an_empty_name_is_the_store_itself() -> None:
    store: Store = MemoryStore({"a/b": b"1"})
    assert store / "" is store
    folder = store / "a"
    assert folder / "" is folder


@given(st.text(st.characters(codec=None)))
def test_any_text_is_a_segment_and_back(text: str) -> None:
    segment = escape(text)
    if len(segment.encode()) <= 1024:
        assert check_key(f"a/{segment}") == f"a/{segment}"
    assert "/" not in segment
    assert unescape(segment) == text


@pytest.mark.parametrize(
    "text", ["", ".", "..", "...", "%", "%2F", "a/b", "\0\x85\n", "\ud800", "\udfff\ud800", "é😀"]
)
def test_awkward_texts_are_segments(text: str) -> None:
    assert check_key(escape(text)) == escape(text)
    assert unescape(escape(text)) == text


@pytest.mark.parametrize("segment", ["", ".", "%2", "%zz", "%41", "%2f", "a/b", "%C3%A9", "%C3", "%%", "a%"])
def test_what_escape_never_returns_is_refused(segment: str) -> None:
    with pytest.raises(InvalidArgumentError, match="no such segment"):
        unescape(segment)


def test_wrong_texts() -> None:
    wrong: Any = escape
    with pytest.raises(InvalidArgumentError):
        wrong(b"a")
    wrong = unescape
    with pytest.raises(InvalidArgumentError):
        wrong(None)
