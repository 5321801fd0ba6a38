"""The rows of an index, against a plain sorted list; and what is known by key, against a dict."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.stores.git import rows as module
from holdall.stores.git.files import write_all
from holdall.stores.git.rows import Parts, Rows

names = st.text("abc/", min_size=1, max_size=3).map(str.encode)
changes = st.lists(st.tuples(names, st.none() | st.binary(min_size=1, max_size=3)), max_size=12)


@given(st.lists(names, max_size=40), st.lists(changes, max_size=8), st.sampled_from([1, 2, 256]))
def test_they_are_a_sorted_list(
    paths: list[bytes], steps: list[list[tuple[bytes, bytes | None]]], room: int
) -> None:
    module._ROOM, before = room, module._ROOM
    try:
        known = [(path, b"%d" % number) for number, path in enumerate(sorted(paths))]
        rows = Rows.of([path for path, _ in known], [raw for _, raw in known])
        for step in steps:
            rows = rows.changed(step)
            for path, raw in step:
                place = bisect_left([each for each, _ in known], path)
                there = place < len(known) and known[place][0] == path
                known[place : place + there] = [] if raw is None else [(path, raw)]
            content = b"%d" % len(known) + b"".join(raw for _, raw in known)
            packed = b"".join(rows.packed(b"%d" % len(known), "sha1"))
            assert packed == content + hashlib.sha1(content).digest()
            assert len(rows) == len(known)
            assert list(rows.paths_from(b"")) == [path for path, _ in known]
            for path in [*paths, b"b", b"zz"]:
                assert rows.get(path) == next((raw for each, raw in known if each == path), None)
                assert list(rows.paths_from(path)) == [each for each, _ in known if each >= path]
    finally:
        module._ROOM = before


keys = st.text("ab", max_size=3)


@given(st.dictionaries(keys, st.integers()), st.lists(st.dictionaries(keys, st.none() | st.integers())))
def test_parts_are_a_dict(known: dict[str, int], steps: list[dict[str, int | None]]) -> None:
    parts = Parts[int].of(known)
    for step in steps:
        before, was = parts, dict(parts)
        parts = parts.changed(step)
        known = {key: value for key, value in {**known, **step}.items() if value is not None}
        assert dict(parts) == known
        assert len(parts) == len(known)
        assert dict(before) == was
        for key in ["b", *step]:
            assert parts.get(key) == known.get(key)
            assert (key in parts) == (key in known)


@pytest.mark.parametrize("short", [False, True])
def test_pieces_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool) -> None:
    pieces = [b"%d," % number for number in range(2500)]
    if short:
        # A disk that is nearly full takes a part.
        monkeypatch.setattr(os, "writev", lambda fd, part: os.write(fd, part[0] + part[1][:1]))
    with open(tmp_path / "file", "wb") as file:
        write_all(file.fileno(), pieces)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)
