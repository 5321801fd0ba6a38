"""A store in one zip archive that any unzip reads, with a journal next to it."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from typing import TypeVar

from holdall.blob import ATOMIC, check_expected, place_of
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    StoreUnavailableError,
)
from holdall.keys import positions
from holdall.paths import absolute, checked_path
from holdall.ranges import cut, span
from holdall.store import ANY, Attributes, Body, Can, Expect, Info, LeftOut, Piece, Put, Store
from holdall.stores.zip.archive import locate
from holdall.stores.zip.draft import Draft, FilePart, new_etag
from holdall.stores.zip.entry import CHECKED, STORED, Entry
from holdall.stores.zip.faults import failure
from holdall.stores.zip.journal import CLEAR, DELETE, PUT, Change, head_size
from holdall.stores.zip.packed import DEFLATED, check_readable, read_at, read_stored, unpack
from holdall.stores.zip.view import Files, View
from holdall.stores.zip.writer import Writer

T = TypeVar("T")


class ZipStore(Store):
    """A store in one zip archive that any unzip reads.

    Args:
        path: The archive. The first write makes it and its folder; reading makes nothing.
        durable: Whether an acknowledged write survives a power cut, not only a kill.
        compression: None or `"stored"` keeps blobs as they are, so that ranges are read directly;
            `"deflated"` compresses the blobs that are put from now on.

    A key is a member's name. Members that can't be blobs (links, names such as `../x`) stay as they are, and
    `left_out` lists them.

    A zip ends in a directory of all members. To change it in place would rewrite the whole directory, and a
    kill would lose it. So writes are appended to a journal next to it, `<path>.journal`, and folded into a
    new archive that replaces the old one: at `close`, at `flush`, and when the journal outgrows half the
    archive. Other programs see the folded blobs. Archive and journal belong together: move both or neither.
    The next handle that is closed folds what a killed process left in the journal.

    Locks use flock(2), which works on local file systems.

    >>> import os, tempfile, zipfile
    >>> path = os.path.join(tempfile.mkdtemp(), "box.zip")
    >>> with ZipStore(path) as store:
    ...     store["notes/1"] = b"hello"
    >>> zipfile.ZipFile(path).read("notes/1")
    b'hello'

    The format: PKWARE's APPNOTE.TXT 6.3.10.
    """

    can = ATOMIC | Can.COPY | Can.BULK | Can.ATTRIBUTES
    schemes = ("zip",)

    _fold_size = 4 << 20
    """A journal smaller than this isn't folded before `close`."""

    # Until it is made whole there is nothing to free.
    _closed = True

    def __init__(
        self, path: str | os.PathLike[str], *, durable: bool = False, compression: str | None = None
    ) -> None:
        given = absolute(checked_path(path, "an archive"))
        if compression not in (None, "stored", "deflated"):
            raise InvalidArgumentError(f"expected compression as 'stored' or 'deflated', got {compression!r}")
        # The journal lies next to the archive itself, also when a link leads there.
        self._path = os.path.realpath(given)
        if os.path.isdir(self._path):
            raise StoreUnavailableError(f"{self._path} is a folder; give the path of the archive in it")
        self._durable = durable
        self._deflate = compression == "deflated"
        self._files = Files(self._path)
        self._writer = Writer(self._files, durable, self._fold_size)
        self._closed = False

    def _settings(self) -> dict[str, object]:
        return {
            "path": self._path,
            "durable": self._durable,
            "compression": "deflated" if self._deflate else None,
        }

    def _get(self, key: str) -> bytes | None:
        entry = self._view().entries.get(key)
        if entry is None:
            return None
        if entry.method == STORED and not entry.encrypted:
            try:
                offset = entry.offset if entry.offset >= 0 else locate(entry, self._path)
                data = os.pread(entry.file.fd, entry.size, offset)
                if len(data) == entry.size and zlib.crc32(data) == entry.crc:
                    return data
            except OSError as error:
                raise failure(error, self._path) from error
        # What didn't come whole in one call, or is damaged: the long way copes with it, or says so.
        return super()._get(key)

    def _has(self, key: str) -> bool:
        return key in self._view().entries

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        entry = self._find_entry(key)
        check_readable(entry, self._path)
        low, high = span(start, stop, entry.size)
        locate(entry, self._path)
        info = entry.info(key)
        if entry.method == STORED:
            return info, read_stored(entry, low, high, self._path)
        if high - low == entry.size:
            return info, unpack(entry, self._path)
        if not entry.checked and low < high:
            # The CRC is of the whole blob, so that a part is checked by reading all of it, once a handle.
            for _ in unpack(entry, self._path):
                pass
        return info, cut(unpack(entry, self._path), low, high)

    def _info(self, key: str) -> Info:
        return self._find_entry(key).info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (entry.info(key) for key, entry in self._walk(prefix, after))

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        left_out = self._view().left_out
        if not left_out:
            return self._scan(prefix, after)
        others = (
            LeftOut(path, left_out[path])
            for path in sorted(left_out)
            if path.startswith(prefix) and path > after
        )
        return merge(self._scan(prefix, after), others, key=place_of)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return (key for key, _ in self._walk(prefix, after))

    def _walk(self, prefix: str, after: str) -> Iterator[tuple[str, Entry]]:
        view = self._view()
        order = view.order
        if order is None:
            with self._files.mutex:
                order = view.order = sorted(view.entries)
        for index in positions(order, prefix, after):
            if self._closed:
                raise self._closed_error()
            entry = (self._files.view or view).entries.get(order[index])
            if entry is not None:
                yield order[index], entry

    def _find_entry(self, key: str) -> Entry:
        entry = self._view().entries.get(key)
        if entry is None:
            raise BlobNotFoundError(key=key)
        return entry

    def _view(self) -> View:
        """The current state, whichever process wrote it."""
        view = self._files.current()
        if view is not None:
            return view
        with self._files.mutex:
            if self._closed:
                raise self._closed_error()
            return self._files.refresh()

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        with Draft(self._path, self._deflate) as draft:
            draft.put(key, body, attributes.content_type)
            return self._publish(draft, key, expect)[0]

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        with Draft(self._path, self._deflate) as draft:
            for key, body, attributes in items:
                draft.put(key, body, attributes.content_type)
            return iter(self._publish(draft, "", ANY) if draft.changes else ())

    def _publish(self, draft: Draft, key: str, expect: Expect) -> list[Info]:
        def publish(view: View) -> None:
            _compare(view, key, expect)
            self._writer.append(view, draft.changes, draft.pieces, draft.run())

        self._run_locked(publish)
        return [change.entry.info(change.key) for change in draft.changes if change.entry is not None]

    def _run_locked(self, act: Callable[[View], T]) -> T:
        """Call `act` while no other thread, handle or process writes."""
        with self._files.mutex:
            if self._closed:
                raise self._closed_error()
            return self._writer.locked(act)

    def _delete(self, key: str, expect: Expect) -> bool:
        entry = self._view().entries.get(key)
        if entry is None:
            # Nothing to do, and nothing to be created for it.
            if expect is not ANY:
                raise ConcurrencyError(key=key, expected=str(expect))
            return False

        def delete(view: View) -> bool:
            _compare(view, key, expect)
            if key not in view.entries:
                return False
            self._writer.append(view, [Change(DELETE, key)])
            return True

        return self._run_locked(delete)

    def _delete_many(self, keys: Iterable[str]) -> int:
        known = self._view().entries
        wanted = [key for key in keys if key in known]
        if not wanted:
            return 0

        def delete(view: View) -> int:
            changes = [Change(DELETE, key) for key in wanted if key in view.entries]
            if changes:
                self._writer.append(view, changes)
            return len(changes)

        return self._run_locked(delete)

    def _clear(self) -> None:
        if self._view().entries:
            self._run_locked(lambda view: self._writer.append(view, [Change(CLEAR, "")]))

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        if self._find_entry(source).method not in (STORED, DEFLATED):
            # What another program packed is unpacked on its way.
            return super()._copy(source, target, expect)
        return self._duplicate(source, target, expect, move=False)

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        if self._find_entry(source).method not in (STORED, DEFLATED):
            return super()._move(source, target, expect)
        return self._duplicate(source, target, expect, move=True)

    def _duplicate(self, source: str, target: str, expect: Expect, *, move: bool) -> Info:
        def duplicate(view: View) -> Info:
            old = view.entries.get(source)
            if old is None:
                raise BlobNotFoundError(key=source)
            check_readable(old, self._path)
            _compare(view, target, expect)
            offset, check = locate(old, self._path), 0
            if old.length <= CHECKED:
                check = zlib.crc32(read_at(old, 0, old.length, self._path))
            kind = old.content_type
            new = Entry(old.size, old.length, old.method, old.crc, new_etag(), time.time(), kind)
            new.offset = head_size(target, kind)
            run = FilePart(old.file.fd, offset, new.offset, old.length)
            changes = [Change(PUT, target, new, check), Change(DELETE, source)]
            self._writer.append(view, changes if move else changes[:1], run=run)
            return new.info(target)

        check_readable(self._find_entry(source), self._path)
        return self._run_locked(duplicate)

    def flush(self) -> None:
        """Fold the journal into the archive, so that other programs see all blobs.

        Raises:
            StoreUnavailableError: The new archive can't be written; nothing is lost, the journal stays.

        >>> import os, tempfile, zipfile
        >>> store = ZipStore(os.path.join(tempfile.mkdtemp(), "box.zip"))
        >>> store["a"], store["b"] = b"1", b"2"
        >>> store.flush()
        >>> sorted(zipfile.ZipFile(store.path).namelist())
        ['a', 'b']
        """
        self._need(Can.WRITE, "flush")
        with self._files.mutex:
            if self._closed:
                raise self._closed_error()
            self._writer.flush()

    @property
    def path(self) -> str:
        """Where the archive is, absolute."""
        return self._path

    def _close(self) -> None:
        with self._files.mutex:
            self._writer.retire(wait=True, tidy=self._tidies)
        self._files.view = None

    def __del__(self) -> None:
        # A mapping is often dropped unclosed; the archive should hold what was put into it all the same.
        if not self._closed:
            self._closed = True
            self._writer.retire_now()


def _compare(view: View, key: str, expect: Expect) -> None:
    """Check what is there against what the caller expects."""
    entry = view.entries.get(key)
    check_expected(None if entry is None else entry.etag, expect, key)
