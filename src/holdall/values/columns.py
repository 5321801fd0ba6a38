"""Differences between data frames, and columns that Parquet can't hold: by name, with a way out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from holdall.values.packages import instance, needed
from holdall.values.same import difference, same

_TO_TEXT = "write such values as text, as json.dumps does, or use PickleSerializer(key=...)"


class UnfitError(ValueError):
    """A part of a frame that Parquet can't hold; the message is complete."""


def check_names(names: Any) -> None:
    """Refuse two columns with the same name."""
    seen: set[Any] = set()
    for name in names:
        if name in seen:
            raise UnfitError(
                f"the column {name!r} is there twice; rename one, since Parquet finds columns by name"
            )
        seen.add(name)


def check_pandas(frame: Any) -> None:
    """Refuse what pyarrow would change, or would fail at without naming the column."""
    pandas = needed("pandas", None, "a pandas frame")
    check_names(frame.columns)
    _check_columns(pandas, frame.columns)
    for name in frame.index.names:
        if name is not None and not isinstance(name, str):
            raise UnfitError(
                f"the name {name!r} of its index isn't a str; rename it: frame.rename_axis('name')"
            )
    for name, dtype in frame.dtypes.items():
        if isinstance(dtype, pandas.SparseDtype):
            raise UnfitError(f"the column {name!r} is sparse; give it as frame[{name!r}].sparse.to_dense()")
        if getattr(dtype, "kind", "") == "c":
            raise UnfitError(f"the column {name!r} holds complex numbers; give their parts as two columns")
        _check_categories(pandas, f"the column {name!r}", f"frame[{name!r}].cat", dtype)
    for number, name in enumerate(frame.index.names):
        level = frame.index.get_level_values(number) if frame.index.nlevels > 1 else frame.index
        _check_categories(pandas, f"the index {name or number!r}", "frame.index", level.dtype)
    for what, index in (("index", frame.index), ("columns", frame.columns)):
        freq = getattr(index, "freq", None)
        if freq is not None and not isinstance(index, pandas.PeriodIndex) and not _is_freq(pandas, index):
            raise UnfitError(
                f"the freq {freq!r} of its {what} has no name from which it could be made again; remove it: "
                f"frame.{what}.freq = None"
            )


def _check_columns(pandas: Any, columns: Any) -> None:
    if len(set(map(type, columns))) > 1:
        kinds = ", ".join(sorted({type(name).__name__ for name in columns}))
        raise UnfitError(f"the names of its columns are of several types ({kinds}); {_RENAME}")
    if isinstance(columns, (pandas.CategoricalIndex, pandas.PeriodIndex, pandas.IntervalIndex)):
        raise UnfitError(f"the names of its columns are of type {type(columns).__name__}; {_RENAME}")
    if columns.dtype == bool:
        raise UnfitError(f"the names of its columns are bools; {_RENAME}")
    several = isinstance(columns, pandas.MultiIndex)
    for number in range(columns.nlevels):
        level = columns.get_level_values(number)
        if level.hasnans:
            raise UnfitError(f"a name of its columns is missing: {columns[level.isna()][0]!r}; {_RENAME}")
        if several and isinstance(
            level.dtype, (pandas.CategoricalDtype, pandas.PeriodDtype, pandas.IntervalDtype)
        ):
            raise UnfitError(f"the names of its columns have a level of {level.dtype}; {_RENAME}")
    if columns.inferred_type == "mixed" and not several:
        raise UnfitError(f"its columns have names such as {columns[0]!r}; {_RENAME}")


_RENAME = "give them names of str, as frame.columns = frame.columns.map(str)"


def _check_categories(pandas: Any, what: str, way: str, dtype: Any) -> None:
    if not isinstance(dtype, pandas.CategoricalDtype) or dtype.categories is None:
        return
    if isinstance(dtype.categories.dtype, (pandas.IntervalDtype, pandas.PeriodDtype)):
        raise UnfitError(
            f"{what} has categories of {dtype.categories.dtype}; give them as text: "
            f"{way}.rename_categories(str)"
        )


def _is_freq(pandas: Any, index: Any) -> bool:
    try:
        return bool(pandas.tseries.frequencies.to_offset(index.freqstr) == index.freq)
    except (ValueError, AttributeError):
        return False


def difference_of(kind: str, frame: Any, back: Any) -> str | None:
    """Return the first difference; None if there is none."""
    if kind == "pandas":
        return _of_pandas(frame, back)
    if kind == "polars":
        if frame.schema != back.schema:
            for name, dtype in frame.schema.items():
                if back.schema.get(name) != dtype:
                    return _as_type(name, back.schema.get(name), dtype, "cast it first")
            return "the order of its columns"
        return None if frame.equals(back, null_equal=True) else "its values"
    return _of_arrow(frame, back)


def _as_type(name: Any, now: Any, was: Any, way: str) -> str:
    return f"the column {name!r} would come back as {str(now)[:100]}, not as {str(was)[:100]}; {way}"


def _of_arrow(table: Any, back: Any) -> str | None:
    for name in table.schema.names:
        was, now = table.schema.field(name), back.schema.field(name)
        if was != now:
            return _as_type(name, now.type, was.type, "cast it first")
    if not table.schema.equals(back.schema, check_metadata=True):
        return "the metadata of its schema"
    if table.num_rows != back.num_rows:
        return "the number of its rows, which it has without columns"
    for name in table.schema.names:
        one, other = table.column(name), back.column(name)
        # For Arrow, NaNs differ; as text they are equal.
        if not one.equals(other) and repr(one.to_pylist()) != repr(other.to_pylist()):
            return f"the values of {name!r}"
    return None


def _of_pandas(frame: Any, back: Any) -> str | None:
    testing = needed("pandas.testing", None, "a pandas frame")
    for what, one, other in (("index", frame.index, back.index), ("columns", frame.columns, back.columns)):
        if getattr(one, "freq", None) != getattr(other, "freq", None):
            return f"the freq of its {what}; remove it: frame.{what}.freq = None"
        try:
            testing.assert_index_equal(one, other, exact=True, check_exact=True)
        # Besides AssertionError, objects that can't be compared may raise anything.
        except Exception as error:  # noqa: BLE001
            way = "make it a column: frame.reset_index()" if what == "index" else _RENAME
            return f"its {what}: {' '.join(str(error).split())[:200]}; {way}"
        if one.nlevels == 1 and one.dtype == object and (changed := _of_objects(one, other)):
            return f"its {what}{changed}"
    for name in frame.columns:
        if (changed := _of_series(testing, name, frame[name], back[name])) is not None:
            return changed
    if (changed := difference(frame.attrs, back.attrs)) is not None:
        return f"its attrs: {changed}"
    return None if frame.flags.allows_duplicate_labels == back.flags.allows_duplicate_labels else "its flags"


def _of_series(testing: Any, name: Any, one: Any, other: Any) -> str | None:
    if one.dtype != other.dtype:
        return _as_type(name, repr(other.dtype), repr(one.dtype), "convert it first, with astype")
    # Equal isn't enough where types may be mixed: True is 1, None is NaN, a list is an array.
    if one.dtype == object:
        changed = _of_objects(one, other)
        return None if changed is None else f"the column {name!r}{changed}"
    try:
        testing.assert_series_equal(one, other, check_exact=True, check_freq=False)
    except Exception as error:  # noqa: BLE001
        return f"the column {name!r}: {' '.join(str(error).split())[:200]}"
    return None


def _of_objects(one: Any, other: Any) -> str | None:
    for row, (given, back) in enumerate(zip(one, other, strict=True)):
        # A column of decimals has one number of digits.
        if isinstance(given, Decimal) and isinstance(back, Decimal) and given == back:
            continue
        if instance(given, "numpy", "ndarray") and instance(back, "numpy", "ndarray") and same(given, back):
            continue
        if (changed := difference(given, back)) is not None:
            return f", row {row}: {changed}; {_TO_TEXT}"
    return None
