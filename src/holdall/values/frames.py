"""Data frames as Parquet: those of pandas and polars, and all others that support Arrow."""

from __future__ import annotations

import json
import os
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import suppress
from glob import glob
from typing import Any, Final, cast

from holdall.errors import SerializationError, UnsupportedOperation
from holdall.values.columns import UnfitError, check_names, check_pandas, difference_of
from holdall.values.json import JsonSerializer
from holdall.values.packages import instance, needed, present
from holdall.values.same import type_name
from holdall.values.serializer import Buffer

__all__ = ["ParquetSerializer"]

_OURS: Final = b"holdall"
"""The entry of the file's metadata that names the frame's library."""

_json = JsonSerializer()


class ParquetSerializer:
    """A data frame as Apache Parquet, written and read by pyarrow, compressed with Zstandard, each page with
    a checksum.

    A frame comes back in its own library: pandas (with index, dtypes, `attrs`, `freq`, time zones,
    categories), polars, or pyarrow (`Table` and `RecordBatch`). Other objects with the Arrow PyCapsule
    protocol come back as a `pyarrow.Table`. A file from elsewhere is read as a pandas frame if pandas wrote
    it, otherwise as a `pyarrow.Table`.

    A frame is read back and compared before any of its bytes are returned. A frame that Parquet would change
    is refused, with the name of the column and a way out: two columns of one name, complex numbers,
    several types in one column, sparse columns, lists and dicts as values, intervals as categories. Decimals
    in a column of objects come back equal, with as many digits as the longest of them has.

    polars would wait forever in a process that was forked from one that used it: that raises
    `UnsupportedOperation`.

    See https://parquet.apache.org/docs/file-format/
    """

    name = "parquet"
    media_type = "application/vnd.apache.parquet"
    extensions: tuple[str, ...] = (".parquet",)

    def accepts(self, value: Any) -> bool:
        return _library_of(value) is not None

    def _options(self) -> dict[str, Any]:
        """Return how pyarrow compresses the file."""
        return {"compression": "zstd"}

    def encode(self, value: Any) -> tuple[Buffer, ...]:
        return (self._write_exactly(value)[0],)

    def _write_exactly(self, value: Any) -> tuple[memoryview, str, Any]:
        """Return a frame as a file that restores it, its library, and the Arrow table in between."""
        kind = _library_of(value)
        if kind is None:
            raise SerializationError(f"Parquet holds data frames, got {type_name(value)}")
        arrow = _arrow()
        if kind == "polars":
            _check_threads()
        try:
            data, back, table = _write_parquet(arrow, kind, value, self._options())
        except UnfitError as error:
            raise SerializationError(f"Parquet can't hold this frame: {error}") from error
        except (arrow.ArrowException, SerializationError, *_FAULTS) as error:
            raise SerializationError(
                f"Parquet can't hold {_find_culprit(arrow, kind, value)}: {_one_line(error)}"
            ) from error
        changed = difference_of(kind, value if kind != "arrow" else table, back)
        if changed is not None:
            raise SerializationError(f"Parquet would change this frame: {changed}")
        return data, kind, table

    def decode(self, data: Buffer) -> Any:
        arrow = _arrow()
        try:
            return _read(arrow, data)
        except (arrow.ArrowException, *_FAULTS) as error:
            raise SerializationError(f"this isn't a Parquet file: {_one_line(error)}") from error


def _write_parquet(arrow: Any, kind: str, value: Any, options: dict[str, Any]) -> tuple[memoryview, Any, Any]:
    """Return a frame as a file, as read back from the file, and as the Arrow table in between."""
    table, says = _make_table(arrow, kind, value)
    says["seconds"] = _find_seconds(arrow, table.schema)
    says["dictionaries"] = _find_categories(arrow, table)
    if kind not in ("pandas", "polars") and not _schema_stays(arrow, table):
        says["schema"] = b64encode(table.schema.serialize()).decode("ascii")
    metadata: dict[bytes, bytes] = dict(table.schema.metadata or {})
    metadata[_OURS] = json.dumps(says).encode()
    sink = arrow.BufferOutputStream()
    needed("pyarrow.parquet", "frames", "Parquet").write_table(
        table.replace_schema_metadata(metadata), sink, write_page_checksum=True, **options
    )
    data = memoryview(sink.getvalue())
    return data, _read(arrow, data), table


def _read(arrow: Any, data: Buffer) -> Any:
    parquet = needed("pyarrow.parquet", "frames", "Parquet")
    source = arrow.BufferReader(arrow.py_buffer(data))
    with parquet.ParquetFile(source, page_checksum_verification=True, pre_buffer=False) as file:
        table = file.read(use_threads=len(data) > _LARGE)
    return _make_frame(table)


def _find_culprit(arrow: Any, kind: str, value: Any) -> str:
    """Return the column that can't be written alone either."""
    if kind == "arrow":
        return "this frame"  # it may be readable only once
    if kind == "batch":
        kind, value = "table", arrow.Table.from_batches([value])
    for name in value.column_names if kind == "table" else value.columns:
        try:
            alone = value[[name]].reset_index(drop=True) if kind == "pandas" else value.select([name])
            _write_parquet(arrow, kind, alone, {})
        except (arrow.ArrowException, SerializationError, *_FAULTS):
            return f"the column {name!r} of this frame (convert it first, or leave it out)"
    return "this frame"


_LARGE: Final = 16 << 20
"""The bytes of a table from which Arrow's threads help. A process that ends just after it used them may be
aborted, see https://github.com/apache/arrow/issues/34314."""

# What pyarrow, pandas and polars raise of their own is one of these too.
_FAULTS: Final = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError, MemoryError, AssertionError,
    RuntimeError,
)  # fmt: skip


_is_of_polars = re.compile(r"polars-[0-9]+\n?").fullmatch
_ran = _lost = False


def _before_fork() -> None:
    global _ran
    _ran = "polars" in sys.modules and any(map(_is_of_polars, _list_threads()))


def _after_fork() -> None:
    global _lost
    _lost = _lost or _ran


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _list_threads() -> Iterator[str]:
    """Yield the names of the threads of this process, where the system reports them, as Linux does."""
    for path in glob("/proc/self/task/*/comm"):
        # A thread may have ended in between.
        with suppress(OSError), open(path, errors="replace") as file:
            yield file.read()


def _check_threads() -> None:
    """Refuse work for which polars would wait forever: its threads were the parent's."""
    if _lost:
        raise UnsupportedOperation(
            "polars doesn't work in a process that was forked from one that used it: start this process by "
            "'spawn' or 'forkserver', see multiprocessing.set_start_method"
        )


def _arrow() -> Any:
    return needed("pyarrow", "frames", "Parquet")


def _one_line(error: BaseException) -> str:
    # An error of pyarrow has several parts, one of which names the column.
    return " ".join("; ".join(map(str, error.args)).split())[:300]


def _library_of(value: object) -> str | None:
    """Return which library a frame is of; None for a value that isn't a frame."""
    kind = type(value)
    for module, name, label in (
        ("pandas", "DataFrame", "pandas"),
        ("polars", "DataFrame", "polars"),
        ("pyarrow", "Table", "table"),
        ("pyarrow", "RecordBatch", "batch"),
    ):
        if kind is getattr(sys.modules.get(module), name, None):
            return label
        if instance(value, module, name):
            # A subclass holds more than Parquet would restore.
            return None
    if isinstance(value, type) or not hasattr(kind, "__arrow_c_stream__"):
        return None
    column = (
        instance(value, "pandas", "Series", "Index")
        or instance(value, "polars", "Series")
        or instance(value, "pyarrow", "ChunkedArray")
    )
    return None if column else "arrow"


def _find_seconds(arrow: Any, schema: Any) -> list[int]:
    """Return the columns of times in whole seconds, which Parquet has only as milliseconds."""
    return [
        at
        for at, field in enumerate(schema)
        if arrow.types.is_timestamp(field.type) and field.type.unit == "s"
    ]


def _schema_stays(arrow: Any, table: Any) -> bool:
    """Return whether Parquet restores the schema of a table: it has no times in whole seconds, and its
    own names for the items of lists."""
    sink = arrow.BufferOutputStream()
    parquet = needed("pyarrow.parquet", "frames", "Parquet")
    parquet.write_table(table.slice(0, 0), sink)
    back = parquet.read_schema(arrow.BufferReader(sink.getvalue()))
    return bool(table.schema.equals(back, check_metadata=True))


def _find_categories(arrow: Any, table: Any) -> dict[str, str]:
    """Return the categories that aren't text, each as an Arrow stream, in base64: Parquet reads such columns
    back without their categories."""
    made: dict[str, str] = {}
    # Categories of text come back without this, if a row has one.
    text = (arrow.string(), arrow.large_string()) if table.num_rows else ()
    for at, field in enumerate(table.schema):
        kind = field.type
        if not arrow.types.is_dictionary(kind) or kind.value_type in text:
            continue
        column = table.column(at).unify_dictionaries()
        values = column.chunk(0).dictionary if column.num_chunks else arrow.array([], kind.value_type)
        indices = arrow.array(range(len(values)), kind.index_type)
        array = arrow.DictionaryArray.from_arrays(indices, values, ordered=kind.ordered)
        batch = arrow.record_batch([array], names=["categories"])
        sink = arrow.BufferOutputStream()
        with needed("pyarrow.ipc", "frames", "Parquet").new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        made[str(at)] = b64encode(sink.getvalue()).decode("ascii")
    return made


def _with_categories(arrow: Any, table: Any, at: int, stream: str) -> Any:
    """Return the table with the categories of a column restored."""
    compute = needed("pyarrow.compute", "frames", "Parquet")
    ipc = needed("pyarrow.ipc", "frames", "Parquet")
    batch = ipc.open_stream(b64decode(stream)).read_next_batch()
    kind = batch.schema.field(0).type
    values = batch.column(0).dictionary
    indices = compute.index_in(table.column(at), value_set=values).cast(kind.index_type)
    # A table without rows lacks the chunk that would hold the categories.
    parts = indices.chunks or [arrow.array([], kind.index_type)]
    chunks = [arrow.DictionaryArray.from_arrays(each, values, ordered=kind.ordered) for each in parts]
    field = table.schema.field(at).with_type(kind)
    return table.set_column(at, field, arrow.chunked_array(chunks, kind))


def _make_table(arrow: Any, kind: str, value: Any) -> tuple[Any, dict[str, Any]]:
    """Return the frame as an Arrow table, and what the table doesn't hold of it."""
    if kind == "pandas":
        return _table_of_pandas(arrow, value)
    if kind == "polars":
        table = value.to_arrow()
    elif kind == "batch":
        table = arrow.Table.from_batches([value])
    else:
        table = arrow.table(value)
    check_names(table.column_names)
    return table, {"frame": kind}


def _table_of_pandas(arrow: Any, frame: Any) -> tuple[Any, dict[str, Any]]:
    pandas = needed("pandas", None, "a pandas frame")
    check_pandas(frame)
    says: dict[str, Any] = {"frame": "pandas"}
    if frame.attrs:
        try:
            (attrs,) = _json.encode(dict(frame.attrs))
        except SerializationError as error:
            raise UnfitError(f"its attrs: {error}") from error
        says["attrs"] = str(attrs, "utf-8")
        # pyarrow would write them itself, and fail at values that plain JSON doesn't hold.
        frame = frame.copy(deep=False)
        frame.attrs = {}
    for what, index in (("freq", frame.index), ("freq of columns", frame.columns)):
        if isinstance(index, (pandas.DatetimeIndex, pandas.TimedeltaIndex)) and index.freq is not None:
            says[what] = index.freqstr
    if isinstance(frame.columns, pandas.RangeIndex):
        says["columns"] = [frame.columns.start, frame.columns.stop, frame.columns.step]
    return arrow.Table.from_pandas(frame), says


def _make_frame(table: Any) -> Any:
    """Return the frame that a table was made of."""
    metadata: dict[bytes, bytes] = dict(table.schema.metadata or {})
    known = metadata.pop(_OURS, None)
    says: Any = json.loads(known) if known is not None else {}
    if not isinstance(says, dict):
        raise TypeError("its metadata isn't a JSON object")
    said = cast("dict[str, Any]", says)
    kind = said.get("frame", "pandas" if b"pandas" in metadata and present("pandas") else "table")
    table = table.replace_schema_metadata(metadata or None)
    for at in said.get("seconds", ()):
        field = table.schema.field(at)
        field = field.with_type(_arrow().timestamp("s", field.type.tz))
        table = table.set_column(at, field, table.column(at).cast(field.type))
    for at, stream in said.get("dictionaries", {}).items():
        table = _with_categories(_arrow(), table, int(at), stream)
    if "schema" in said:
        ipc = needed("pyarrow.ipc", "frames", "Parquet")
        table = table.cast(ipc.read_schema(_arrow().py_buffer(b64decode(said["schema"]))))
    if kind == "pandas":
        needed("pandas", None, "a pandas frame")
        frame = table.to_pandas(use_threads=table.nbytes > _LARGE)
        if "freq" in said:
            frame.index.freq = said["freq"]
        if "freq of columns" in said:
            frame.columns.freq = said["freq of columns"]
        if "columns" in said:
            frame.columns = sys.modules["pandas"].RangeIndex(*said["columns"], name=frame.columns.name)
        if "attrs" in said:
            frame.attrs = _json.decode(said["attrs"].encode())
        return frame
    if kind == "polars":
        polars = needed("polars", None, "a polars frame")
        _check_threads()
        try:
            return polars.from_arrow(table)
        except (polars.exceptions.PanicException, polars.exceptions.PolarsError) as error:
            # A panic isn't an Exception, so a caller who catches those would miss it.
            raise ValueError(f"polars can't read it: {error}") from error
    if kind == "batch":
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else _arrow().RecordBatch.from_pylist([], schema=table.schema)
    return table
