"""Laws of content, on values that nobody thought of."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import pathlib
import random
import zoneinfo
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.effort import effort

from holdall.catalog.content import Formats
from holdall.values.same import difference, same

FORMATS = Formats()
SMALL = settings(max_examples=40, deadline=None)

_zones = st.sampled_from(
    [
        None,
        dt.UTC,
        zoneinfo.ZoneInfo("Europe/Berlin"),
        zoneinfo.ZoneInfo("UTC"),
        dt.timezone(dt.timedelta(hours=-3)),
        dt.timezone(dt.timedelta(0), "own name"),
    ]
)
_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 3)
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.sampled_from(["$holdall", "value", "dict", "", "\ud800", 1 << 9000, -0.0, math.nan, bytearray(b"x")])
    | st.decimals().filter(lambda number: not number.is_snan())
    | st.uuids()
    | st.dates()
    | st.timedeltas()
    | st.datetimes(timezones=_zones)
    | st.times()
    | st.sampled_from([pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), pathlib.Path("b")])
    | st.sampled_from([np.float64(1), np.int8(1), range(3), dt.timezone.utc])  # noqa: UP017
)
_keys = _leaves.filter(lambda leaf: not isinstance(leaf, bytearray)) | st.tuples(st.integers(), st.text())
values = st.recursive(
    _leaves,
    lambda held: (
        st.lists(held, max_size=4)
        | st.lists(held, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.just("$holdall"), held, max_size=4)
        | st.dictionaries(_keys, held, max_size=3)
        | st.sets(_keys, max_size=4)
        | st.frozensets(_keys, max_size=4)
    ),
    max_leaves=12,
)


def back(value: Any) -> tuple[str, Any]:
    content = FORMATS.encode(value)
    data = b"".join(map(bytes, content.pieces))
    return content.format, FORMATS.decode(content.format, content.codec, content.library, data)


def shuffled(value: Any, seed: int) -> Any:
    """Return an equal value whose dicts and sets were filled in another order."""
    order = random.Random(seed)
    if type(value) in (list, tuple):
        return type(value)(shuffled(each, seed) for each in value)
    if type(value) is dict:
        pairs = [(key, shuffled(each, seed)) for key, each in value.items()]
        order.shuffle(pairs)
        return dict(pairs)
    if type(value) in (set, frozenset):
        members = list(value)
        order.shuffle(members)
        return type(value)(members)
    return value


@given(values)
@settings(max_examples=effort(300, 75), deadline=None)
def test_values_come_back_exactly(value: Any) -> None:
    form, again = back(value)
    # Bytes of any kind come back as bytes.
    assert difference(bytes(value) if isinstance(value, bytearray) else value, again) is None
    # A zone may have a name that counts for nothing in a comparison.
    if isinstance(value, dt.datetime):
        assert value.tzname() == again.tzname()
        assert type(value.tzinfo) is type(again.tzinfo)
    if isinstance(value, (dict, list)) and form == "pickle":
        assert FORMATS._json(value) is None


@given(values, st.integers())
@settings(max_examples=effort(200, 50), deadline=None)
def test_the_order_of_dicts_and_sets_doesnt_count(value: Any, seed: int) -> None:
    one = FORMATS.encode(value)
    if one.format == "json":
        assert FORMATS.encode(shuffled(value, seed)).digest == one.digest


@given(st.lists(values, min_size=2, max_size=5))
@settings(max_examples=effort(150, 37), deadline=None)
def test_one_digest_is_of_one_value(several: list[Any]) -> None:
    made = [(FORMATS.encode(each), each) for each in several]
    for one, first in made:
        for other, second in made:
            if one.digest == other.digest:
                # Of the same type at all levels, but for the order of dicts.
                assert one.format == other.format
                assert type(first) is type(second) or {type(first), type(second)} == {bytes, bytearray}
                if not isinstance(first, (dict, list, tuple, bytearray, bytes)):
                    assert same(first, second)


@given(
    hnp.arrays(
        hnp.scalar_dtypes() | hnp.nested_dtypes(max_leaves=4),
        hnp.array_shapes(min_dims=0, min_side=0, max_side=5),
    )
)
@SMALL
def test_arrays_come_back(array: Any) -> None:
    _, again = back(array)
    assert again.dtype == array.dtype
    assert same(np.ascontiguousarray(array), np.ascontiguousarray(again))
    one = FORMATS.encode(array)
    if array.ndim > 1 and one.format != "pickle":
        assert FORMATS.encode(np.asfortranarray(array)).digest == one.digest
        assert FORMATS.encode(np.ascontiguousarray(array[::-1])[::-1]).digest == one.digest


_text = st.text(st.characters(codec="utf-8"), max_size=5)
_small = st.none() | st.integers(-9, 9)
_letters = st.lists(st.none() | st.sampled_from("abc"), max_size=3)
_moments = st.datetimes(min_value=dt.datetime(1800, 1, 1), timezones=st.just(dt.UTC))
_columns: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.string(), _text),
    (pa.large_string(), _text),
    (pa.binary(), st.binary(max_size=5)),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.date32(), st.dates()),
    (pa.timestamp("us", "UTC"), _moments),
    (pa.decimal128(20, 3), st.integers(-(10**9), 10**9).map(lambda n: decimal.Decimal(n).scaleb(-3))),
    (pa.list_(pa.int16()), st.lists(_small, max_size=3)),
    (pa.large_list(pa.string()), _letters),
    (pa.list_(pa.int32(), 2), st.lists(_small, min_size=2, max_size=2)),
    (
        pa.map_(pa.string(), pa.int8()),
        st.dictionaries(st.sampled_from("ab"), _small).map(lambda d: [*d.items()]),
    ),
    (
        pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]),
        st.fixed_dictionaries({"a": _small, "b": st.none() | _letters}),
    ),
    (pa.dictionary(pa.int8(), pa.string()), st.sampled_from("abc")),
]
_rows = st.one_of(
    *(st.tuples(st.just(kind), st.lists(st.none() | each, min_size=6, max_size=6)) for kind, each in _columns)
)


@given(st.lists(_rows, min_size=1, max_size=3), st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))
@settings(max_examples=effort(150, 37), deadline=None)
def test_tables_have_one_digest_whatever_their_chunks(
    columns: list[Any], cut: int, low: int, high: int
) -> None:
    names = [f"c{at}" for at in range(len(columns))]
    low, high = sorted((low, high))

    def table(low: int, high: int) -> pa.Table:
        arrays = [pa.array(rows[low:high], kind) for kind, rows in columns]
        return pa.table(arrays, names=names)

    whole = table(0, 6)
    digest = FORMATS.encode(whole).digest
    parts = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    assert FORMATS.encode(parts).digest == digest
    if not any(pa.types.is_dictionary(kind) for kind, _ in columns):
        # A part of a table with categories has all of them.
        part = FORMATS.encode(whole.slice(low, high - low)).digest
        assert part == FORMATS.encode(table(low, high)).digest
        assert (part == digest) == ((low, high) == (0, 6))
    form, again = back(whole)
    assert form == "parquet"
    assert again.equals(whole)


@given(
    st.lists(
        st.floats(width=32, allow_infinity=False)
        | st.none()
        | st.text(max_size=2)
        | st.integers(-3, 3)
        | st.booleans(),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([None, "string", "category", "Int64", "float64", "object", "str"]),
    st.booleans(),
)
@SMALL
def test_frames_come_back(column: list[Any], kind: str | None, indexed: bool) -> None:
    try:
        frame = pd.DataFrame({"a": pd.Series(column, dtype=kind)})
    except (ValueError, TypeError, OverflowError, RuntimeWarning):
        return  # pandas has no such column
    if indexed:
        frame = frame.set_index("a")
    _, again = back(frame)
    pd.testing.assert_frame_equal(frame, again)
    assert FORMATS.encode(frame).digest == FORMATS.encode(frame.copy(deep=True)).digest
