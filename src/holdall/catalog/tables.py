"""The canonical form of data frames: their columns by Arrow's own memory, which no version of it changes."""

from __future__ import annotations

from typing import Any, Final

from holdall.catalog.canonical import begin, canonical_json, field, note
from holdall.errors import SerializationError
from holdall.values.packages import needed

_TEXT: Final = "text"
_BINARY: Final = "binary"


def frame_digest(kind: str, frame: Any, table: Any) -> str:
    """Return the digest of a data frame.

    It covers the library of the frame, the number of rows, and of each column the name, the type in that
    library, which rows are null, and the values, where those of nulls are zeros: numbers as they lie in
    memory, bools as bits, text and lists by their lengths and then by what they hold, categories by the
    categories and then the numbers of the rows' own. It covers neither chunks and offsets nor what a version
    of pandas or pyarrow writes about itself. Of a pandas frame it covers the index, the names of columns,
    `freq`, `attrs` and flags; of an Arrow table the whole schema with its metadata.

    Args:
        kind: `pandas`, `polars`, `table` or `batch`.
        frame: The frame.
        table: The same as an Arrow table, as the Parquet serializer makes it.

    Raises:
        SerializationError: A column is of a type without a canonical form.
    """
    try:
        return _digest(kind, frame, table)
    # ArrowException is all of these.
    except (ValueError, TypeError, LookupError, RuntimeError, NotImplementedError) as error:
        raise SerializationError(f"this frame lacks a canonical form: {str(error)[:200]}") from error


def _digest(kind: str, frame: Any, table: Any) -> str:
    made = begin("batch" if kind == "batch" else "table" if kind == "arrow" else kind)
    note(made, [table.num_rows, table.num_columns])
    if kind == "pandas":
        _describe_pandas(made, frame)
    elif kind == "polars":
        _describe_polars(made, frame)
    else:
        _describe_table(made, table.schema)
    hasher = _Hasher(made, by_value=kind == "polars")
    for column in table.columns:
        hasher.column(column)
    return made.hexdigest()


def _describe_pandas(to: Any, frame: Any) -> None:
    # As pandas has them, since pyarrow's own account of a frame names its version.
    note(to, [_name_type(dtype) for dtype in frame.dtypes])
    note(to, bool(frame.flags.allows_duplicate_labels))
    field(to, canonical_json(dict(frame.attrs)))
    arrow = needed("pyarrow", "catalog", "a data frame")
    hasher = _Hasher(to, by_value=False)
    for index in (frame.columns, frame.index):
        note(to, [type(index).__name__, getattr(index, "freqstr", None) if hasattr(index, "freq") else None])
        field(to, canonical_json(list(index.names)))
        if type(index).__name__ == "RangeIndex":
            # Equal ranges may have other ends.
            note(to, [len(index), *([index.start, index.step] if len(index) else [])][: 1 + len(index)])
            continue
        note(to, [_name_type(index.get_level_values(at).dtype) for at in range(index.nlevels)])
        if index is frame.columns:
            # The columns of the table hold the levels of the index.
            for at in range(index.nlevels):
                level = index.get_level_values(at)
                hasher.column(arrow.chunked_array([arrow.Array.from_pandas(level)]))


def _name_type(dtype: Any) -> list[str]:
    """Return a type of pandas; categories aren't named, since the values bring them."""
    names = [str(dtype.name), str(getattr(dtype, "storage", "")), str(getattr(dtype, "na_value", ""))]
    if hasattr(dtype, "pyarrow_dtype"):
        names.append(str(dtype.pyarrow_dtype))
    if hasattr(dtype, "ordered"):
        names += [str(dtype.ordered), str(dtype.categories.dtype.name)]
    return names


def _describe_polars(to: Any, frame: Any) -> None:
    for name, dtype in frame.schema.items():
        note(to, [name, str(dtype)])
        categories = getattr(dtype, "categories", None)
        if categories is not None and hasattr(categories, "to_list"):
            note(to, categories.to_list())


def _describe_table(to: Any, schema: Any) -> None:
    _describe_metadata(to, schema.metadata)
    for each in schema:
        note(to, [each.name, str(each.type), each.nullable])
        _describe_metadata(to, each.metadata)


def _describe_metadata(to: Any, metadata: dict[bytes, bytes] | None) -> None:
    found = sorted((metadata or {}).items())
    note(to, len(found))
    for name, value in found:
        field(to, name)
        field(to, value)


class _Hasher:
    """Gives the values of Arrow arrays to a hash."""

    def __init__(self, to: Any, *, by_value: bool) -> None:
        self._to = to
        self._by_value = by_value
        """Whether categories are only a way to keep values, as in polars, where others may come first."""
        self._arrow = needed("pyarrow", "catalog", "a data frame")
        self._compute = needed("pyarrow.compute", "catalog", "a data frame")
        self._numpy = needed("numpy", "catalog", "a data frame")

    def column(self, column: Any) -> None:
        """Give the values of a column, whatever its chunks."""
        if self._arrow.types.is_dictionary(column.type):
            column = column.unify_dictionaries()
        whole = column.combine_chunks()
        if isinstance(whole, self._arrow.ChunkedArray):
            # Text of more than 2 GiB stays in chunks.
            note(self._to, whole.num_chunks)
            for chunk in whole.chunks:
                self.array(chunk)
        else:
            self.array(whole)

    def array(self, array: Any) -> None:
        types, kind = self._arrow.types, array.type
        if isinstance(array, self._arrow.ExtensionArray):
            self.array(array.storage)
            return
        if types.is_dictionary(kind) and self._by_value:
            array = array.dictionary_decode()
            kind = array.type
        note(self._to, [self._name(kind), len(array), array.null_count])
        if types.is_null(kind):
            return
        if array.null_count:
            self._bits(array.is_valid())
        if types.is_boolean(kind):
            self._bits(self._compute.fill_null(array, False) if array.null_count else array)
        elif types.is_dictionary(kind):
            self.array(array.dictionary)
            self.array(array.indices.cast(self._arrow.int64()))
        elif types.is_struct(kind):
            # Flattened, a part is null where the whole is.
            for at, part in enumerate(array.flatten()):
                note(self._to, kind.field(at).name)
                self.array(part)
        elif self._is_list(kind):
            if types.is_map(kind):
                pair = [self._arrow.field("key", kind.key_type, nullable=False), ("value", kind.item_type)]
                array = array.cast(self._arrow.list_(self._arrow.struct(pair)))
            self._lengths(array)
            self.array(array.flatten())
        elif self._name(kind) in (_TEXT, _BINARY):
            self._text(array)
        else:
            self._numbers(array)

    def _is_list(self, kind: Any) -> bool:
        types = self._arrow.types
        return (
            types.is_list(kind)
            or self._is_large(kind)
            or types.is_fixed_size_list(kind)
            or types.is_map(kind)
        )

    def _is_large(self, kind: Any) -> bool:
        return self._arrow.types.is_large_list(kind)

    def _name(self, kind: Any) -> str:
        """Return the name of a type; of those that differ only in how they lie in memory, a common one."""
        types = self._arrow.types
        if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
            return _TEXT
        if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
            return _BINARY
        if self._is_list(kind):
            return "list"
        if types.is_struct(kind):
            return "struct"
        if types.is_dictionary(kind):
            return "ordered categories" if kind.ordered else "categories"
        return str(kind)

    def _bits(self, bools: Any) -> None:
        array = bools.to_numpy(zero_copy_only=False)
        self._to.update(self._numpy.packbits(array, bitorder="little"))

    def _lengths(self, array: Any) -> None:
        """Give the lengths of lists; that of a null is 0."""
        if self._arrow.types.is_fixed_size_list(array.type):
            lengths = self._numpy.full(len(array), array.type.list_size, "<i8")
        else:
            lengths = self._numpy.diff(self._ends(array, "<i8" if self._is_large(array.type) else "<i4"))
        lengths = lengths.astype("<i8")
        if array.null_count:
            lengths[~array.is_valid().to_numpy(zero_copy_only=False)] = 0
        self._to.update(lengths)

    def _ends(self, array: Any, number: str) -> Any:
        """Return where the items of text or of lists begin, and where the last one ends."""
        if not len(array):
            return self._numpy.zeros(1, number)
        size = int(number[-1])
        return self._numpy.frombuffer(array.buffers()[1], number, len(array) + 1, size * array.offset)

    def _text(self, array: Any) -> None:
        large = self._arrow.large_binary()
        array = array.cast(large)
        if array.null_count:
            array = self._compute.fill_null(array, b"")
        ends = self._ends(array, "<i8")
        self._to.update(self._numpy.diff(ends))
        data = array.buffers()[2]
        if data is not None:
            self._to.update(memoryview(data)[int(ends[0]) : int(ends[-1])])

    def _numbers(self, array: Any) -> None:
        width = array.type.bit_width // 8
        if not len(array) or not width:
            return
        data = memoryview(array.buffers()[1])[width * array.offset : width * (array.offset + len(array))]
        if array.null_count:
            # What lies in the place of a null is whatever was there before.
            items = self._numpy.frombuffer(data, "u1").reshape(len(array), width).copy()
            items[~array.is_valid().to_numpy(zero_copy_only=False)] = 0
            data = items.reshape(-1)
        self._to.update(data)
