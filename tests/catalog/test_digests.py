"""Equal values have equal digests, whatever stores them, in every process and on every machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from holdall.catalog.content import Formats

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import samples  # noqa: E402

KNOWN = (HERE / "digests.txt").read_text().splitlines()


def digest(value: Any, formats: Formats | None = None) -> str:
    return (formats or Formats()).encode(value).digest


def test_digests_are_those_of_earlier_versions() -> None:
    assert samples.lines() == KNOWN


@pytest.mark.parametrize(
    ("codec", "level", "settings"),
    [
        ("zstd", 9, {"PYTHONHASHSEED": "1", "BLOSC_NTHREADS": "1", "OMP_NUM_THREADS": "1"}),
        ("gzip", 1, {"PYTHONHASHSEED": "2", "BLOSC_NTHREADS": "3", "ARROW_DEFAULT_MEMORY_POOL": "system"}),
        ("blosclz", 5, {"PYTHONHASHSEED": "3", "BLOSC_CLEVEL": "9", "BLOSC_SHUFFLE": "BITSHUFFLE"}),
        ("none", 3, {"PYTHONHASHSEED": "4", "BLOSC_BLOCKSIZE": "65536", "LC_ALL": "C", "TZ": "Asia/Tokyo"}),
    ],
)
def test_digests_are_the_same_in_another_process(codec: str, level: int, settings: dict[str, str]) -> None:
    run = subprocess.run(
        [sys.executable, str(HERE / "samples.py"), codec, str(level)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    # Without a codec, arrays have another format, and the same digest.
    assert [line.rpartition(" ")[2] for line in run.stdout.splitlines()] == [
        line.rpartition(" ")[2] for line in KNOWN
    ]


def test_all_digests_differ() -> None:
    digests = [line.rpartition(" ")[2] for line in KNOWN]
    assert len(set(digests)) == len(digests)


def _twins() -> list[tuple[str, Any, Any]]:
    array = np.arange(24.0).reshape(4, 6)
    chunked = pa.concat_tables([pa.table({"t": ["a", None]}), pa.table({"t": ["b", "c"]})])
    plain = pa.table({"t": ["a", None, "b", "c"]})
    sliced = pa.table({"t": ["x", "a", None, "b", "c", "y"]}).slice(1, 4)
    held = pa.array([1, 2, 3, 4])
    # A null over other memory.
    masked = pa.Array.from_buffers(pa.int64(), 4, [pa.py_buffer(b"\x0b"), held.buffers()[1]])
    lists = pa.array([[9], [1, None], None, []])
    maps = pa.array([[("k", 1)], [("z", None)], None], pa.map_(pa.string(), pa.int32()))
    return [
        ("keys in another order", {"a": 1, "b": {"x": 1, "y": 2}}, {"b": {"y": 2, "x": 1}, "a": 1}),
        ("pairs in another order", {1: "a", (2, 3): "b"}, {(2, 3): "b", 1: "a"}),
        ("memory order", array, np.asfortranarray(array)),
        ("strides", array[::2, ::3], np.array(array[::2, ::3])),
        ("read-only", array, np.frombuffer(array.tobytes()).reshape(4, 6)),
        ("bytes", b"abc", bytearray(b"abc")),
        ("a view", b"abc", memoryview(b"xabcx")[1:4]),
        ("an ordered dict of arrays", {"a": array, "b": array}, OrderedDict(b=array, a=array)),
        ("chunks", chunked, plain),
        ("offsets", sliced, plain),
        ("nulls", pa.table({"n": masked}), pa.table({"n": pa.array([1, 2, None, 4])})),
        ("lists", pa.table({"l": lists[1:]}), pa.table({"l": pa.array([[1, None], None, []])})),
        ("maps", pa.table({"m": maps[1:]}), pa.table({"m": pa.array([[("z", None)], None], maps.type)})),
        ("bools", pa.table({"b": pa.array([None, True, False])[1:]}),
         pa.table({"b": pa.array([True, False])})),
        ("ranges", pd.DataFrame({"a": [1]}, pd.RangeIndex(0, 1)),
         pd.DataFrame({"a": [1]}, pd.RangeIndex(0, 3, 3))),
        ("polars chunks", pl.concat([pl.DataFrame({"a": ["x"]}), pl.DataFrame({"a": ["y"]})], rechunk=False),
         pl.DataFrame({"a": ["x", "y"]})),
        ("polars categories", pl.DataFrame({"c": ["b", "a"]}, schema={"c": pl.Categorical}),
         pl.DataFrame({"c": ["a", "b", "a"]}, schema={"c": pl.Categorical})[1:]),
    ]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), [pytest.param(*pair, id=name) for name, *pair in _twins()])
def test_equal_values_have_equal_digests(one: Any, other: Any) -> None:
    assert Formats().encode(one).format != "pickle"
    assert digest(one) == digest(other)


def _others() -> list[tuple[str, list[Any]]]:
    array = np.arange(4.0)
    frame = pd.DataFrame({"a": [1, 2]})
    labelled = frame.copy()
    labelled.attrs["unit"] = "m"
    hour = timedelta(hours=1)
    return [
        ("numbers", [1, 1.0, True, "1", b"1", 1 + 0j, [1], (1,), {1}, frozenset({1}), {1: 1}, {"1": 1}]),
        ("zeros", [0.0, -0.0, 0, False, None, "", b"", [], {}, ()]),
        ("times", [datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=timezone.utc),  # noqa: UP017
                   datetime(2024, 1, 1, 1, tzinfo=timezone(hour))]),
        ("arrays", [array, array.astype("f4"), array.reshape(2, 2), array.astype(">f8"), array.view("i8"),
                    array.view("M8[s]"), array.view("M8[ms]"), array.tobytes(), array.tolist(),
                    np.ma.array(array), {"a": array}, {"b": array}]),
        ("NaNs", [np.array([0x7FF8000000000000 + n], "i8").view("f8") for n in range(3)]),
        ("records", [np.zeros(2, kind) for kind in ("i4,i4", "i4,f4", [("a", "i4"), ("b", "i4")],
                     [("f0", "i4", (1,)), ("f1", "i4")], np.dtype("i1,i4", align=True), "i1,i4")]),
        ("frames", [frame, frame.rename(columns={"a": "b"}), frame.astype("f8"), frame.astype("Int64"),
                    frame[::-1], frame.set_index("a"), frame.rename_axis("i"), frame.rename_axis(columns="c"),
                    labelled, frame.set_flags(allows_duplicate_labels=False), pl.DataFrame({"a": [1, 2]}),
                    pa.table({"a": [1, 2]}), pa.record_batch({"a": [1, 2]}),
                    pa.table({"a": pa.array([1, 2], pa.int32())}), pd.DataFrame({0: [1, 2]}),
                    pd.DataFrame({"0": [1, 2]}), frame.iloc[:0], pd.DataFrame({"a": pd.Categorical([1, 2])}),
                    pd.DataFrame({"a": pd.Categorical([1, 2], categories=[2, 1])}),
                    pd.DataFrame({"a": pd.Categorical([1, 2], categories=[1, 2], ordered=True)}),
                    pa.table({"a": [1, 2]}).replace_schema_metadata({"k": "v"})]),
        ("texts", [pa.table({"t": text}) for text in (["ab", "c"], ["a", "bc"], ["abc", ""], ["abc", None],
                                                      ["abc"], pa.array(["ab", "c"], pa.large_string()))]),
        ("lists", [pa.table({"l": each}) for each in ([[1], [2]], [[1, 2], []], [[1, 2], None], [[1, 2]])]),
        ("models", [samples.User(name="Ada"), samples.User(name="ada"), {"name": "Ada"},
                    samples.Point(1, 2.0), samples.Point(2, 1.0)]),
    ]  # fmt: skip


@pytest.mark.parametrize("others", [pytest.param(each, id=name) for name, each in _others()])
def test_other_values_have_other_digests(others: list[Any]) -> None:
    digests = list(map(digest, others))
    assert len(set(digests)) == len(digests)


def test_pickles_of_two_users_are_apart() -> None:
    one, other = Formats(pickle_key=bytes([1]) * 32), Formats(pickle_key=bytes([2]) * 32)
    assert digest(range(3), one) == digest(range(3), one) != digest(range(3), other)


def test_a_large_array_isnt_copied_to_be_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    from holdall.catalog import canonical

    array = np.arange(6_000_000, dtype="f4").reshape(2000, 3000)[:, ::2]
    sizes: list[int] = []
    copied = canonical.without_gaps
    monkeypatch.setattr(canonical, "without_gaps", lambda part: (sizes.append(part.nbytes), copied(part))[1])
    canonical.array_digest(array)
    assert max(sizes) <= 4 << 20
    assert sum(sizes) == array.nbytes
