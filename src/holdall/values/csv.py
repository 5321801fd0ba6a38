"""The rows of a CSV blob, one by one."""

from __future__ import annotations

import csv
import weakref
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

from holdall.errors import SerializationError
from holdall.values.models import serializer_of
from holdall.values.passed import Passed


class CsvRows(NamedTuple):
    """How rows are read: each is a list of str, as `csv.reader` returns it (RFC 4180); or a model whose
    fields the first row names."""

    function: Callable[[Any], Any] | None
    """Called with each row; what it returns is yielded."""
    model: Any

    def read(self, file: IO[str], key: str) -> Iterator[Any]:
        """Return an iterator of the rows of a file, which is closed in the end.

        Raises:
            SerializationError: A row can't be read; the message names the line that it ends at.
        """
        made = self._rows(file, key)
        # One that is dropped before its first row never gets to the end.
        weakref.finalize(made, file.close).atexit = False
        return made

    def _rows(self, file: IO[str], key: str) -> Iterator[Any]:
        with file:
            rows = csv.reader(file, strict=True)
            passed = Passed(rows if self.function is None and self.model is None else self._make_rows(rows))
            try:
                yield from passed
            except (csv.Error, UnicodeDecodeError, SerializationError) as error:
                if passed.thrown is not None:
                    raise
                said = error.message if isinstance(error, SerializationError) else str(error)
                # What isn't UTF-8 is noticed some lines ahead.
                ahead = "after " if isinstance(error, UnicodeDecodeError) else ""
                raise SerializationError(
                    f"{ahead}line {rows.line_num:,}: {said}; read in mode 'csv'", key=key
                ) from error

    def _make_rows(self, rows: Iterator[list[str]]) -> Iterator[Any]:
        function, model = self.function, self.model
        if model is None:
            yield from map(function or list, rows)
            return
        convert = serializer_of(model)._of_text
        names = next(rows, list[str]())
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise SerializationError(f"the first row names the field {twice!r:.50} twice")
        for row in rows:
            if not row:
                continue
            if len(row) != len(names):
                raise SerializationError(f"this row has {len(row)} fields, and the first one {len(names)}")
            yield convert(dict(zip(names, row, strict=True)))
