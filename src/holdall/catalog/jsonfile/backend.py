"""A catalogue's rows in memory, in a JSON file, and in a journal next to it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.jsonfile.order import starting_with
from holdall.catalog.jsonfile.search import find
from holdall.catalog.jsonfile.state import own
from holdall.catalog.jsonfile.transaction import JsonTransaction
from holdall.catalog.jsonfile.view import View, find_file, load
from holdall.catalog.jsonfile.writing import JournalWriter
from holdall.catalog.query import Path, Query, parse_field
from holdall.catalog.row import Blob, Row
from holdall.errors import IntegrityError, StoreClosedError, StoreUnavailableError
from holdall.forks import begin_anew
from holdall.stores.oserrors import translate

T = TypeVar("T")


class JsonBackend(MetadataBackend):
    """Keeps a catalogue's rows in a JSON file that a person can read, and in a journal next to it.

    Args:
        path: The JSON file. Its folder is made with the first write.
        durable: Whether a transaction waits until the disk has it, so that it survives a loss of power.
            Without it, it survives a killed process.

    A transaction appends one line to the journal, `<path>.log`, whatever the size of the catalogue. The
    journal is folded into the JSON file when it has outgrown it, and by `close` where that takes little. Both
    files together are the catalogue: copy, restore and delete them together. All rows are in memory, about
    3 KB each. Processes on one host share the files; not every network file system has the locks for it.

    >>> backend = JsonBackend("/tmp/absent/cache_metadata.json")
    >>> list(backend.keys())
    []
    >>> backend.close()
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = False) -> None:
        # A link to the file stays one.
        self._path: str = os.path.realpath(os.fspath(path))
        self._log = self._path + ".log"
        self._durable = durable
        self._closed = False
        self._begin()
        begin_anew(self, JsonBackend._begin)

    def _begin(self) -> None:
        """Begin without locks and without open files, at first and in the child of a fork."""
        self._turn = threading.RLock()
        """Held by the thread that writes."""
        self._within = threading.Lock()
        """Held in a transaction, so that none begins within another one."""
        self._lock = threading.RLock()
        """Held while the view is looked at or changed."""
        self._view: View | None = None
        self._writer = JournalWriter(self._path, self._durable, self._lock)
        self._number = 0
        """The last number that was given, also by a transaction that was rolled back."""

    @property
    def identity(self) -> str:
        with self._lock:
            title = self._look().title
        if title is None:
            title = self._write(lambda view: view.title)
        assert title is not None
        return title.identity

    def exists(self) -> bool:
        with self._lock:
            return self._look().title is not None

    def transact(self, act: Callable[[Transaction], T]) -> T:
        return self._write(partial(self._commit, act))

    def _write(self, act: Callable[[View], T]) -> T:
        """Call a function with the newest view, while no other thread and no other process writes."""
        with self._turn:
            if self._within.locked():
                raise StoreUnavailableError(
                    "the catalogue was written to within a transaction of the same thread: by its own "
                    "function, by a signal handler or by a finalizer; write afterwards"
                )
            with self._within:
                try:
                    self._check_open()
                    return self._writer.run(self._look, act)
                except OSError as error:
                    raise translate(error, "write the catalogue") from error

    def _commit(self, act: Callable[[Transaction], T], view: View) -> T:
        transaction = JsonTransaction(view.tables, max(view.tables.number, self._number))
        try:
            result = act(transaction)
        finally:
            given, self._number = self._number, transaction.number
        if transaction.changes or transaction.number > max(given, view.tables.number):
            line = f'{{"number":{transaction.number},"changes":[{",".join(transaction.changes)}]}}'
            self._writer.append(view, line.encode(), partial(self._advance, view, transaction))
            self._writer.fold_if_grown(view)
        return result

    def _advance(self, view: View, transaction: JsonTransaction, start: int, line: bytes, check: int) -> None:
        with self._lock:
            view.advance(start, line, check, transaction.number, transaction.calls)

    def _find_view(self, anew: bool) -> View:
        with self._lock:
            view = self._view
            found = find_file(self._log)
            if view is not None and not anew:
                if view.is_current(found):
                    return view
                try:
                    if view.catch_up(found):
                        return view
                except IntegrityError:
                    # It may be the right line of another journal than the one that was read before: read all.
                    view.torn = True
            self._view = None
            self._view = view = load(self._path)
            return view

    def _look(self, anew: bool = False) -> View:
        """Return the newest view, with the lock held."""
        self._check_open()
        try:
            return self._find_view(anew)
        except OSError as error:
            raise translate(error, "read the catalogue") from error

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError("the catalogue was closed; open it again")

    def fetch(self, key: str, version: int | None = None) -> tuple[Row, Blob] | None:
        found = self._find(key, version)
        return None if found is None else (own(found[0]), found[1])

    def load(self, key: str, version: int | None = None) -> Blob | None:
        found = self._find(key, version)
        return None if found is None else found[1]

    def _find(self, key: str, version: int | None) -> tuple[Row, Blob] | None:
        """Return a row and its blob, which the caller must not hand out as they are."""
        with self._lock:
            tables = self._look().tables
            row = tables.row(key, version)
            if row is None:
                return None
            blob = tables.whole_blob(row.blob)
        if blob is None:
            raise IntegrityError(f"its entry names blob {row.blob}, which {self._path!r} lacks", key=key)
        return row, blob

    def row(self, key: str, version: int | None = None) -> Row | None:
        with self._lock:
            view = self._look()
            row = view.tables.row(key, version)
        return None if row is None else own(row)

    def keys(self, prefix: str = "") -> Iterator[str]:
        with self._lock:
            view = self._look()
            keys, rows = view.tables.keys(), view.tables.rows
        start, stop = starting_with(keys, prefix)
        return (key for key in islice(keys, start, stop) if key in rows)

    def find(self, query: Query) -> Iterator[Row]:
        with self._lock:
            view = self._look()
            return find(view.tables, query)

    def earlier(self) -> Iterator[Row]:
        with self._lock:
            view = self._look()
            rows = [row for versions in view.tables.earlier.values() for row in versions.values()]
        rows.sort(key=lambda row: (row.key, row.version))
        return map(own, rows)

    def blobs(self, after: int = 0) -> Iterator[Blob]:
        with self._lock:
            view = self._look()
            blobs = [blob for number, blob in view.tables.blobs.items() if number > after]
        return iter(sorted(blobs, key=lambda blob: blob.number))

    def suspects(self, before: int) -> Iterator[int]:
        with self._lock:
            view = self._look()
            return iter([blob for blob, since in view.tables.suspects.items() if since < before])

    def create_index(self, path: Path) -> None:
        """Do nothing: a search looks at all rows, which are in memory."""
        self._check_open()
        parse_field(path)

    def drop_index(self, path: Path) -> None:
        """Do nothing."""
        self._check_open()

    def indexes(self) -> list[Path]:
        return []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._path!r})"

    def close(self) -> None:
        with self._turn:
            if self._closed:
                return
            try:
                if self._view is not None and not self._within.locked():
                    self._writer.fold_if_small(self._look)
            finally:
                self._closed = True
                self._writer.close()
                with self._lock:
                    view, self._view = self._view, None
                    if view is not None:
                        view.close()
