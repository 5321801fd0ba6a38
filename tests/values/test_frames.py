"""Frames come back the same, in their own library, or are refused by name before anything is written."""

import io
import random
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from holdall import SerializationError
from holdall.values import serializers
from holdall.values.frames import ParquetSerializer
from holdall.values.registry import joined

serializer = ParquetSerializer()


def encoded(value: object) -> bytes:
    return b"".join(serializer.encode(value))


def again(value: object) -> Any:
    assert serializers.for_value(value).name == "parquet"
    return serializer.decode(encoded(value))


def pandas_frames() -> dict[str, pd.DataFrame]:
    numbers = pd.DataFrame({"a": [1, 2, 3], "b": [1.5, np.nan, -0.0], "c": ["x", None, "ü"]})
    attrs = pd.DataFrame({"a": [1]})
    attrs.attrs = {"unit": "m", "when": datetime(2026, 1, 1, tzinfo=UTC), "tags": {1, 2}}
    index = pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["k", "n"])
    days = pd.date_range("2026-03-28", periods=4, freq="D", tz="Europe/Berlin")
    return {
        "numbers": numbers,
        "types": pd.DataFrame(
            {
                "i1": np.array([1, 2], "i1"),
                "u4": np.array([1, 2], "u4"),
                "f4": np.array([1, 2], "f4"),
                "bool": [True, False],
                "Int64": pd.array([1, None], "Int64"),
                "boolean": pd.array([True, None], "boolean"),
                "string": pd.array(["a", None], "string"),
                "time": pd.to_datetime(["2026-01-01", None]),
                "seconds": np.array(["2026-01-01", "NaT"], "M8[s]"),
                "zone": pd.to_datetime(["2026-01-01", "2026-07-01"]).tz_localize("Europe/Berlin"),
                "delta": pd.to_timedelta([1, 2], unit="s"),
                "decimal": [Decimal("1.50"), Decimal("2.25")],
                "day": [date(2026, 1, 1), None],
                "clock": [time(1, 2, 3), time(4)],
                "raw": [b"\xff", b""],
            }
        ),
        "categories": pd.DataFrame(
            {
                "c": pd.Categorical(["b", "a", None], ["b", "a", "z"], ordered=True),
                "n": pd.Categorical([3, 1, None], [3, 2, 1]),
            }
        ),
        "no rows of categories": pd.DataFrame({"n": pd.Categorical([3, 1], ordered=True)}).iloc[:0],
        "intervals of time": pd.DataFrame(
            {"t": pd.Categorical(pd.to_datetime(["2026-01-02", "2026-01-01"]))}
        ),
        "index of categories": pd.DataFrame({"a": [1, 2]}, index=pd.CategoricalIndex([2, 1], name="k")),
        "index": numbers.set_index("c"),
        "named range": numbers.rename_axis("row"),
        "stepped range": numbers.iloc[::2],
        "shuffled": numbers.iloc[[2, 0, 1]],
        "multi-index": pd.DataFrame({"a": [1, 2]}, index=index),
        "frequency": pd.DataFrame({"a": range(4)}, index=days),
        "attrs": attrs,
        "no rows": numbers.iloc[:0],
        "no columns": pd.DataFrame(index=[1, 2, 3]),
        "nothing": pd.DataFrame(),
        "columns by number": pd.DataFrame(np.eye(3)),
        "columns by number, of ints": pd.DataFrame(np.eye(3), columns=[3, 1, 2]),
        "columns of two levels": pd.DataFrame(
            np.eye(2), columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")], names=["u", None])
        ),
        "columns of days": pd.DataFrame(np.eye(3), columns=pd.date_range("2026-01-01", periods=3)),
        "columns named by a number": pd.DataFrame({"a": [1]}).rename_axis(columns=3),
        "arrow types": pd.DataFrame({"a": pd.array([1, 2], "int64[pyarrow]")}),
    }


@pytest.mark.parametrize("name", pandas_frames())
def test_a_pandas_frame_comes_back_the_same(name: str) -> None:
    frame = pandas_frames()[name]
    try:
        back = again(frame)
    except SerializationError as error:
        pytest.fail(str(error))
    assert type(back) is pd.DataFrame
    assert_frame_equal(frame, back, check_exact=True)
    assert back.attrs == frame.attrs
    for one, other in ((back.index, frame.index), (back.columns, frame.columns)):
        assert getattr(one, "freq", None) == getattr(other, "freq", None)


def bad_frames() -> dict[str, tuple[pd.DataFrame, str]]:
    return {
        "duplicates": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a' is there twice"),
        "complex": (pd.DataFrame({"z": [1j]}), "'z' holds complex"),
        "mixed": (pd.DataFrame({"m": [1, "a"]}), "m"),
        "bool and int": (pd.DataFrame({"m": pd.Series([True, 2], dtype=object)}), "m"),
        "int objects": (pd.DataFrame({"m": pd.Series([1, 2], dtype=object)}), "m"),
        "sparse": (pd.DataFrame({"s": pd.arrays.SparseArray([0, 0, 1])}), "'s' is sparse"),
        "objects": (pd.DataFrame({"o": [object()]}), "o"),
        "tuples": (pd.DataFrame({"t": [(1, 2)]}), "t"),
        "lists": (pd.DataFrame({"l": [[1, 2]]}), "l"),
        "sets": (pd.DataFrame({"l": [{1}]}), "l"),
        "ints in dicts": (pd.DataFrame({"d": [{"a": 1}, {"a": None}]}), "d"),
        "no name": (pd.DataFrame({None: [1]}), "a name of its columns is missing: None"),
        "a tuple as a name": (_with_columns([("a", "b")]), "names such as ('a', 'b')"),
        "an index named by a number": (pd.DataFrame({"a": [1]}).rename_axis(3), "name 3 of its index"),
        "an index of tuples": (_with_columns([("a", "b")]).T.rename(columns=str), "its index"),
        "names of two types": (pd.DataFrame({1: [1], "a": [2]}), "several types"),
        "attrs": (_with_attrs(), "JSON"),
        "None and NaN": (pd.DataFrame({"n": pd.Series(["a", None, np.nan], dtype=object)}), "n"),
    }


def _with_columns(names: list[Any]) -> pd.DataFrame:
    return pd.DataFrame([[1] * len(names)], columns=pd.Index(names, tupleize_cols=False))


def _with_attrs() -> pd.DataFrame:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"x": object()}
    return frame


@pytest.mark.parametrize("name", bad_frames())
def test_what_parquet_would_change_is_refused_by_name(name: str) -> None:
    frame, says = bad_frames()[name]
    with pytest.raises(SerializationError, match="Parquet") as caught:
        serializer.encode(frame)
    assert says in str(caught.value)


cells = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(),
    "text": st.text(st.characters(codec="utf-8"), max_size=5),
    "bool": st.booleans(),
    "mixed": st.integers() | st.text(max_size=2) | st.none() | st.floats() | st.booleans(),
}


@settings(deadline=None)
@given(st.data(), st.integers(0, 4))
def test_any_pandas_frame_comes_back_or_is_refused(data: st.DataObject, rows: int) -> None:
    kinds = data.draw(st.lists(st.sampled_from(list(cells)), max_size=4))
    columns = {
        f"c{at}": data.draw(st.lists(cells[kind], min_size=rows, max_size=rows))
        for at, kind in enumerate(kinds)
    }
    frame = pd.DataFrame({name: pd.Series(cell) for name, cell in columns.items()})
    try:
        held = encoded(frame)
    except SerializationError:
        assert "mixed" in kinds
    else:
        assert_frame_equal(frame, serializer.decode(held), check_exact=True)


def polars_frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "i": pl.Series([1, None, 3], dtype=pl.Int8),
            "u": pl.Series([1, 2, 2**64 - 1], dtype=pl.UInt64),
            "f": [1.5, float("nan"), None],
            "s": ["a", None, "ü"],
            "b": [True, None, False],
            "raw": [b"a", b"", None],
            "day": [date(2026, 1, 1), None, date(1, 1, 1)],
            "clock": [time(1), None, time(23, 59, 59, 999)],
            "ms": pl.Series([datetime(2026, 1, 1)] * 3, dtype=pl.Datetime("ms")),
            "ns": pl.Series([datetime(2026, 1, 1)] * 3, dtype=pl.Datetime("ns", "Europe/Berlin")),
            "delta": [timedelta(seconds=1), None, timedelta(0)],
            "enum": pl.Series(["x", "y", None], dtype=pl.Enum(["y", "x"])),
            "category": pl.Series(["x", "y", None], dtype=pl.Categorical),
            "decimal": pl.Series([Decimal("1.50")] * 3, dtype=pl.Decimal(10, 2)),
            "list": [[1, 2], [], None],
            "array": pl.Series([[1, 2]] * 3, dtype=pl.Array(pl.Int16, 2)),
            "struct": [{"a": 1, "b": "x"}, {"a": None, "b": None}, {"a": 3, "b": "z"}],
            "null": [None, None, None],
        }
    )


def test_a_polars_frame_comes_back_the_same() -> None:
    frame = polars_frame()
    for each in (frame, frame.clear(), pl.DataFrame(), frame.select("s")):
        back = again(each)
        assert type(back) is pl.DataFrame
        assert back.schema == each.schema
        assert back.equals(each)


def test_a_polars_frame_of_objects_is_refused() -> None:
    with pytest.raises(SerializationError, match="Parquet"):
        serializer.encode(pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}))


def test_a_small_frame_starts_no_thread_of_arrow() -> None:
    """A process that ends just after these began may be aborted."""
    code = """
import os
import pandas as pd
from holdall.values.frames import ParquetSerializer
from holdall.values.registry import joined
import pyarrow.parquet
frame = pd.DataFrame({"a": [1, 2], "s": ["x", "y"]}, index=[3, 4])
before = len(os.listdir("/proc/self/task"))
serializer = ParquetSerializer()
assert serializer.decode(b"".join(serializer.encode(frame))).equals(frame)
assert len(os.listdir("/proc/self/task")) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


FORK = """
import os, sys
import pandas as pd
import polars as pl
from holdall import UnsupportedOperation
from holdall.values.frames import ParquetSerializer
from holdall.values.registry import joined
serializer = ParquetSerializer()
frame = pl.DataFrame({"a": [1, 2, 3], "s": ["x", "y", "z"], "t": ["x", "y", "z"]})
other = pd.DataFrame({"a": [1]})
data = b"".join(serializer.encode(frame))
child = os.fork()
if not child:
    refused = 0
    for call in (lambda: serializer.encode(frame), lambda: serializer.decode(data)):
        try:
            call()
        except UnsupportedOperation as error:
            refused += "spawn" in str(error)
    back = serializer.decode(b"".join(serializer.encode(other)))
    os._exit(0 if refused == 2 and back.equals(other) else 1)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status) or not serializer.decode(data).equals(frame))
"""


def test_a_forked_process_whose_parent_used_polars_gets_an_error_and_no_hang() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60)


def test_arrow_tables_and_batches_come_back() -> None:
    table = pa.table(
        {"a": pa.array([1, None], pa.int16()), "s": ["x", "y"], "d": pa.array(["a", "b"]).dictionary_encode()}
    )
    table = table.replace_schema_metadata({"made": "here"})
    back = again(table)
    assert back.equals(table, check_metadata=True)
    (batch,) = table.to_batches()
    assert again(batch).equals(batch, check_metadata=True)
    assert again(batch.slice(0, 0)).equals(batch.slice(0, 0))
    nan = pa.table({"f": [1.0, float("nan"), None]})
    assert repr(again(nan)) == repr(nan)
    with pytest.raises(SerializationError, match="'a' is there twice"):
        serializer.encode(pa.table([[1], [2]], names=["a", "a"]))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([["a"], None]),
        pa.array([["a"], None], pa.large_list(pa.string())),
        pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int32())),
        pa.array([[["a"], []], None]),
        pa.array([{"x": [1], "t": 5}, None], pa.struct({"x": pa.list_(pa.int8()), "t": pa.timestamp("s")})),
        pa.array([1, None], pa.time32("s")),
        pa.array([date(2020, 1, 1), None], pa.date64()),
        pa.array(["a", None]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.large_string())),
    ],
    ids=lambda column: str(column.type),
)
def test_nested_and_rare_types_of_arrow_come_back(column: Any) -> None:
    for table in (
        pa.table({"c": column, "s": pa.array([1, 2], pa.timestamp("s", "UTC"))}),
        pa.table({"c": column}).slice(0, 0),
    ):
        back = again(table)
        assert back.schema.equals(table.schema, check_metadata=True)
        assert back.to_pylist() == table.to_pylist()


class Stream:
    """A frame of a library that nobody knows."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return pa.table({"a": [1, 2]}).__arrow_c_stream__(requested_schema)


class Broken:
    """A frame that can't be given."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        raise RuntimeError("the connection is closed")


class OwnFrame(pd.DataFrame):
    """It would come back as another class."""


def test_what_speaks_arrow_comes_back_as_a_table() -> None:
    assert again(Stream()).equals(pa.table({"a": [1, 2]}))
    with pytest.raises(SerializationError, match="the connection is closed"):
        serializer.encode(Broken())


@pytest.mark.parametrize(
    "value",
    [pd.Series([1]), pl.Series([1]), pa.chunked_array([[1]]), OwnFrame({"a": [1]}), {"a": 1}, pd.DataFrame],
)
def test_what_is_no_frame_is_refused(value: object) -> None:
    assert not serializer.accepts(value)
    with pytest.raises(SerializationError, match="frames"):
        serializer.encode(value)


def test_files_of_others_are_read() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    held = io.BytesIO()
    frame.to_parquet(held)
    assert_frame_equal(serializer.decode(held.getvalue()), frame)
    held = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), held)
    assert serializer.decode(held.getvalue()).equals(pa.table({"a": [1]}))
    assert_frame_equal(pd.read_parquet(io.BytesIO(encoded(frame))), frame)
    assert pl.read_parquet(io.BytesIO(encoded(polars_frame().select("i", "s")))).equals(
        polars_frame().select("i", "s")
    )


@settings(deadline=None)
@given(st.binary() | st.binary().map(lambda middle: b"PAR1" + middle + b"\x04\x00\x00\x00PAR1"))
def test_bytes_that_are_no_parquet_give_a_serialization_error(data: bytes) -> None:
    with pytest.raises(SerializationError, match="Parquet"):
        serializer.decode(data)


def test_damage_gives_a_serialization_error_or_the_frame_and_never_ends_the_process() -> None:
    code = """
import random
import pandas as pd
import polars as pl
from holdall import SerializationError
from holdall.values.frames import ParquetSerializer
from holdall.values.registry import joined
serializer = ParquetSerializer()
frame = pd.DataFrame({"a": range(300), "b": [str(n) for n in range(300)]})
other = pl.DataFrame({"e": pl.Series(["x", "y"] * 20, dtype=pl.Enum(["x", "y"])), "l": [[1], [2, 3]] * 20})
held = [b"".join(serializer.encode(each)) for each in (frame, other)]
dice = random.Random(4)
for turn in range(1200):
    data = held[turn % 2]
    changed = bytearray(data)
    for _ in range(dice.choice([1, 1, 4])):
        changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    try:
        serializer.decode(changed[: dice.choice([len(data), len(data), dice.randrange(len(data))])])
    except SerializationError:
        pass
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_a_changed_page_is_seen() -> None:
    frame = pd.DataFrame({"a": np.random.default_rng(0).standard_normal(10_000)})
    data = encoded(frame)
    dice = random.Random(6)
    for _ in range(50):
        changed = bytearray(data)
        changed[dice.randrange(1000, len(data) - 8000)] ^= 1 << dice.randrange(8)
        with pytest.raises(SerializationError, match="Parquet"):
            serializer.decode(changed)


ORDERS = pd.DataFrame({"n": [1, 2], "state": pd.Categorical(["open", "paid"]), "text": ["a", "b"]})


@pytest.mark.parametrize(
    "frame",
    [
        ORDERS[ORDERS.n > 5],
        ORDERS.set_index("state").iloc[:0],
        ORDERS.set_index(["n", "state"]).iloc[:0],
        pd.DataFrame({"a": pd.Categorical([], categories=["b", "a"], ordered=True)}),
        pd.DataFrame({"a": pd.Categorical([], categories=[3, 1])}),
        pd.DataFrame({"a": pd.Categorical([], categories=pd.to_datetime(["2020", "2021"]))}),
        pd.DataFrame({"a": pd.Categorical([None, None], categories=["b", "a"])}),
        pd.DataFrame(
            {
                "when": pd.Series([], dtype="datetime64[ns, Europe/Berlin]"),
                "month": pd.Series([], dtype="period[M]"),
                "between": pd.Series([], dtype="interval[int64]"),
                "lasts": pd.Series([], dtype="timedelta64[s]"),
                "text": pd.Series([], dtype="string"),
                "any": pd.Series([], dtype=object),
            }
        ),
        pl.DataFrame(schema={"a": pl.Enum(["x"]), "b": pl.Categorical, "c": pl.List(pl.Int8), "d": pl.Null}),
        pa.table({"a": pa.array(["x", None]).dictionary_encode()}).slice(0, 0),
    ],
    ids=range(10),
)
def test_a_frame_without_rows_keeps_its_types(frame: Any) -> None:
    serializer = ParquetSerializer()
    back = serializer.decode(joined(serializer.encode(frame)))
    assert type(back) is type(frame)
    if isinstance(frame, pd.DataFrame):
        pd.testing.assert_frame_equal(back, frame)
    else:
        assert back.schema == frame.schema


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (
            ORDERS.assign(age=pd.cut(ORDERS.n, [0, 1, 9])),
            r"column 'age' has categories of interval.*rename_categories\(str\)",
        ),
        (pd.crosstab(ORDERS.state, ORDERS.state.rename("x")), r"type CategoricalIndex; .*columns.map\(str\)"),
        (
            ORDERS.assign(tags=[["a"], ["b"]]),
            "column 'tags', row 0: it would come back as a numpy.ndarray, not as a list",
        ),
        (
            ORDERS.assign(tags=[{"a": 1}, {"b": 1}]),
            "column 'tags', row 0: .* members, not 1; write such values as text",
        ),
        (ORDERS.assign(mixed=[1, "x"]), "column 'mixed' of this frame .convert it first"),
        (ORDERS.assign(mixed=pd.Series([1, True], dtype=object)), "column 'mixed'"),
        (
            ORDERS.assign(any=pd.Series([1, 2], dtype=object)),
            "'any' would come back as dtype.'int64'.*astype",
        ),
        (
            ORDERS.assign(at=pd.Series([time(9, tzinfo=ZoneInfo("Europe/Berlin"))] * 2, dtype=object)),
            "column 'at', row 0: it would come back without its time zone",
        ),
        (
            pd.DataFrame({"n": [1]}, index=pd.date_range("2026", periods=1, freq=pd.DateOffset(days=2))),
            "freq <DateOffset: days=2> of its index .* frame.index.freq = None",
        ),
        (pd.DataFrame([[1]], columns=pd.period_range("2026", periods=1, freq="M")), "type PeriodIndex"),
        (pd.DataFrame([[1]], columns=pd.interval_range(0, 1)), "type IntervalIndex"),
        (
            pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1.5), ("b", float("nan"))])),
            r"a name of its columns is missing: \('b', nan\)",
        ),
        (pd.DataFrame([[1, 2]], columns=[True, False]), "are bools"),
        (pl.DataFrame({"ok": [1], "big": pl.Series([1], dtype=pl.Int128)}), "the column 'big' of this frame"),
        (
            pa.table({"ok": [1], "runs": pa.RunEndEncodedArray.from_arrays([1], [1])}),
            "the column 'runs' of this frame",
        ),
    ],
    ids=range(15),
)
def test_the_column_and_the_way_out_are_named(frame: Any, words: str) -> None:
    with pytest.raises(SerializationError, match=words) as caught:
        ParquetSerializer().encode(frame)
    assert "this isn't a Parquet file" not in str(caught.value)
