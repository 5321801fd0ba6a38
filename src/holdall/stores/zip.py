"""A store in one zip archive that any unzip reads, with a journal next to it."""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from typing import TypeVar
from weakref import WeakSet

from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    KeyConflictError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.keys import past
from holdall.paths import checked_path
from holdall.ranges import CHUNK, cut, span
from holdall.store import ABSENT, ANY, Attributes, Body, Can, Expect, Info, LeftOut, Piece, Store
from holdall.stores.zip_archive import (
    CHECKED,
    DEFLATED,
    ENCRYPTED,
    STORED,
    Entry,
    File,
    Fold,
    View,
    check_header,
    find_directory,
    foreign,
    members_of,
    refuse_overlaps,
    stamp_of,
    transfer,
    type_bytes,
    write_at,
)
from holdall.stores.zip_journal import (
    BEGIN,
    CLEAR,
    DELETE,
    HEAD,
    PUT,
    Change,
    Item,
    batches,
    beginning,
    begun,
)
from holdall.stores.zip_packed import METHODS, unpacked

__all__ = ["ZipStore"]

T = TypeVar("T")

_HELD = 2 * CHUNK
"""A streamed body waits for the lock in memory up to this size, and in a temporary file past it."""

_fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


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

    can = (
        Can.WRITE
        | Can.DELETE
        | Can.LIST
        | Can.RANGE
        | Can.CREATE
        | Can.SWAP
        | Can.COPY
        | Can.BULK
        | Can.ATTRIBUTES
    )
    schemes = ("zip",)

    _fold_size = 4 << 20
    """A journal smaller than this isn't folded before `close`."""

    # Until it is made whole there is nothing to free.
    _closed = True

    def __init__(
        self, path: str | os.PathLike[str], *, durable: bool = False, compression: str | None = None
    ) -> None:
        self._lock_fd = -1
        self._dirty = False
        given = checked_path(path, "an archive")
        if compression not in (None, "stored", "deflated"):
            raise InvalidArgumentError(f"compression is 'stored' or 'deflated', not {compression!r}")
        # The journal lies next to the archive itself, also when a link leads there.
        self._path = os.path.realpath(given)
        if os.path.isdir(self._path):
            raise StoreUnavailableError(f"{self._path} is a folder; give the path of the archive in it")
        self._folder, name = os.path.split(self._path)
        self._journal_path = f"{self._path}.journal"
        self._temporary = os.path.join(self._folder, f".{name}.holdall-fold")
        self._durable = durable
        self._deflate = compression == "deflated"
        self._view: View | None = None
        self._lock_inode = 0
        self._fold_at = 0
        self._begin_life()
        self._closed = False
        _handles.add(self)

    def _begin_life(self) -> None:
        """What belongs to one process: a fork calls it again."""
        self._mutex = threading.Lock()
        self._dirty = False

    def _settings(self) -> dict[str, object]:
        return {
            "path": self._path,
            "durable": self._durable,
            "compression": "deflated" if self._deflate else None,
        }

    # --- reading --------------------------------------------------------------------------------------

    def _get(self, key: str) -> bytes | None:
        entry = self._current().entries.get(key)
        if entry is None:
            return None
        if entry.method == STORED and not entry.encrypted:
            try:
                offset = entry.offset if entry.offset >= 0 else self._locate(entry)
                data = os.pread(entry.file.fd, entry.size, offset)
                if len(data) == entry.size and zlib.crc32(data) == entry.crc:
                    return data
            except OSError as error:
                raise self._failure(error, key) from error
        # What didn't come whole in one call, or is damaged: the long way copes with it, or says so.
        return super()._get(key)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        entry = self._found(key)
        self._check_readable(entry)
        low, high = span(start, stop, entry.size)
        info = _info(key, entry)
        if entry.offset < 0:
            try:
                self._locate(entry)
            except OSError as error:
                raise self._failure(error) from error
        whole = low == 0 and high == entry.size
        if entry.method == STORED:
            return info, self._stored(entry, low, high, entry.crc if whole else None)
        if not whole and not entry.checked and low < high:
            # The CRC is of the whole blob, so that a part is checked by reading all of it, once a handle.
            for _ in self._unpacked(entry):
                pass
        pieces = self._unpacked(entry)
        return info, pieces if whole else cut(pieces, low, high)

    def _info(self, key: str) -> Info:
        return _info(key, self._found(key))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (_info(key, entry) for key, entry in self._walk(prefix, after))

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        left_out = self._current().left_out
        if not left_out:
            return self._scan(prefix, after)
        others = (
            LeftOut(path, left_out[path])
            for path in sorted(left_out)
            if path.startswith(prefix) and path > after
        )
        return merge(self._scan(prefix, after), others, key=_place)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return (key for key, _ in self._walk(prefix, after))

    def _walk(self, prefix: str, after: str) -> Iterator[tuple[str, Entry]]:
        view = self._current()
        # The sorted list is replaced, never changed, so that it can be walked while others write.
        order = view.order
        if order is None:
            with self._mutex:
                order = view.order = sorted(view.entries)
        low = bisect_left(order, prefix)
        high = bisect_right(order, past(prefix)) if prefix else len(order)
        if after:
            low = max(low, bisect_right(order, after))
        for index in range(low, high):
            if self._closed:
                raise self._closed_error()
            entry = (self._view or view).entries.get(order[index])
            if entry is not None:
                yield order[index], entry

    def _found(self, key: str) -> Entry:
        entry = self._current().entries.get(key)
        if entry is None:
            raise BlobNotFoundError(key=key)
        return entry

    def _check_readable(self, entry: Entry) -> None:
        if entry.encrypted:
            raise UnsupportedOperation(
                f"this member of {self._path} is encrypted; unpack it with a zip program and put it again"
            )
        if entry.method not in METHODS:
            known = ", ".join(f"{name} ({number})" for number, name in METHODS.items())
            raise UnsupportedOperation(
                f"this member of {self._path} is compressed by zip's method {entry.method}, and holdall "
                f"reads {known}; unpack it with a zip program and put it again"
            )

    def _locate(self, entry: Entry) -> int:
        """Find the data of a member; where they begin."""
        entry.offset = check_header(entry, self._path)
        return entry.offset

    def _stored(self, entry: Entry, low: int, high: int, crc: int | None) -> Iterator[Piece]:
        found = 0
        for at in range(low, high, CHUNK):
            piece = self._slice(entry, at, min(at + CHUNK, high))
            if crc is not None:
                found = zlib.crc32(piece, found)
                if at + CHUNK >= high and found != crc:
                    raise self._corrupt()
            yield piece

    def _slice(self, entry: Entry, low: int, high: int) -> bytes:
        try:
            piece = os.pread(entry.file.fd, high - low, entry.offset + low)
            while len(piece) < high - low:
                more = os.pread(entry.file.fd, high - low - len(piece), entry.offset + low + len(piece))
                if not more:
                    raise self._corrupt()
                piece += more
        except OSError as error:
            raise self._failure(error) from error
        return piece

    def _unpacked(self, entry: Entry) -> Iterator[Piece]:
        try:
            yield from unpacked(entry)
        except ValueError as error:
            raise self._corrupt() from error
        except OSError as error:
            # bz2 reports damaged data as an OSError without a number.
            raise (self._failure(error) if error.errno else self._corrupt()) from error
        entry.checked = True

    # --- writing --------------------------------------------------------------------------------------

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        with _Draft(self._spool, self._deflate) as draft:
            try:
                draft.put(key, body, attributes, self._etag())
            except _SpoolError as error:
                raise self._failure(error.reason) from error.reason
            return self._publish(draft, key, expect)[0]

    def _put_many(self, items: Iterable[tuple[str, Body]], attributes: Attributes) -> Iterator[Info]:
        with _Draft(self._spool, self._deflate) as draft:
            try:
                for key, body in items:
                    draft.put(key, body, attributes, self._etag())
            except _SpoolError as error:
                raise self._failure(error.reason) from error.reason
            return iter(self._publish(draft, "", ANY) if draft.items else ())

    def _delete(self, key: str, expect: Expect) -> bool:
        entry = self._current().entries.get(key)
        if entry is None:
            # Nothing to do, and nothing to be created for it.
            if expect is not ANY:
                raise ConcurrencyError(key=key, expected=str(expect))
            return False

        def delete(view: View) -> bool:
            if expect is not ANY:
                _expect(view, key, expect)
            if key not in view.entries:
                return False
            self._append(view, (Item(DELETE, key),))
            return True

        return self._locked(delete)

    def _delete_many(self, keys: Iterable[str]) -> int:
        known = self._current().entries
        wanted = [key for key in keys if key in known]
        if not wanted:
            return 0

        def delete(view: View) -> int:
            items = [Item(DELETE, key) for key in wanted if key in view.entries]
            if items:
                self._append(view, items)
            return len(items)

        return self._locked(delete)

    def _clear(self) -> None:
        if self._current().entries:
            self._locked(lambda view: self._append(view, (Item(CLEAR, ""),)))

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        if self._found(source).method not in (STORED, DEFLATED):
            # What another program packed is unpacked on its way.
            return super()._copy(source, target, expect)
        return self._duplicate(source, target, expect, move=False)

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        if self._found(source).method not in (STORED, DEFLATED):
            return super()._move(source, target, expect)
        return self._duplicate(source, target, expect, move=True)

    def _duplicate(self, source: str, target: str, expect: Expect, *, move: bool) -> Info:
        self._check_readable(self._found(source))

        def duplicate(view: View) -> Info:
            entry = view.entries.get(source)
            if entry is None:
                raise BlobNotFoundError(key=source)
            self._check_readable(entry)
            if expect is not ANY:
                _expect(view, target, expect)
            offset = entry.offset if entry.offset >= 0 else self._locate(entry)
            check = 0
            if entry.length <= CHECKED:
                check = zlib.crc32(self._slice(entry, 0, entry.length))
            item = Item(
                PUT,
                target,
                entry.content_type,
                entry.method,
                entry.crc,
                entry.size,
                entry.length,
                check,
                HEAD + len(target.encode()) + len(type_bytes(entry.content_type)),
                time.time(),
                self._etag(),
            )
            items = (item, Item(DELETE, source)) if move else (item,)
            self._append(view, items, source=(entry.file.fd, offset))
            return Info(target, item.size, item.etag.hex(), item.written, item.content_type)

        return self._locked(duplicate)

    def _publish(self, draft: _Draft, key: str, expect: Expect) -> list[Info]:
        def publish(view: View) -> None:
            if expect is not ANY:
                _expect(view, key, expect)
            self._append(view, draft.items, draft=draft)

        self._locked(publish)
        return [
            Info(
                item.key,
                item.size,
                item.etag.hex(),
                item.written,
                item.content_type,
            )
            for item in draft.items
        ]

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
        if os.access(self._journal_path, os.F_OK):
            self._locked(lambda view: self._fold(view, sync=True))

    @property
    def path(self) -> str:
        """Where the archive is, absolute."""
        return self._path

    def _close(self) -> None:
        with self._mutex:
            self._retire(wait=True)
        self._view = None

    def _retire(self, wait: bool) -> None:
        """Fold what this handle wrote, or a killed process left, if no other process writes now or it may
        wait for them; free the lock. The mutex is held."""
        try:
            abandoned = self._lock_fd < 0 and wait and self._is_abandoned()
            if abandoned:
                self._open_journal()
            if self._lock_fd >= 0:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | (0 if wait and self._dirty else fcntl.LOCK_NB))
                # Another journal means that another process has folded ours.
                if os.stat(self._journal_path).st_ino == self._lock_inode:
                    view = self._begin(closing=True)
                    if self._dirty or abandoned or view.parsed <= BEGIN:
                        self._fold(view, sync=True)
        except (BlockingIOError, FileNotFoundError):
            pass
        except (OSError, StoreError) as error:
            # The journal keeps everything that was acknowledged; the next writer folds it.
            self._warn(error)
        finally:
            # Closing the file frees the lock. No call of Python comes first, which an interrupt could keep
            # from being made.
            fd, self._lock_fd = self._lock_fd, -1
            if fd >= 0:
                os.close(fd)

    def _is_abandoned(self) -> bool:
        """Whether there is a journal of a process that ended without folding it, and this one may."""
        if not self._tidies or not os.access(self._journal_path, os.R_OK | os.W_OK):
            return False
        if not os.access(self._folder, os.W_OK):
            return False
        journal = File(self._journal_path)
        made = begun(journal.fd, self._journal_path)
        pid = 0 if made is None else made[1]
        if pid == os.getpid():
            return not any(other._lock_fd >= 0 for other in list(_handles) if other._path == self._path)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    def __del__(self) -> None:
        # A mapping is often dropped unclosed; the archive should hold what was put into it all the same.
        if not self._closed:
            self._closed = True
            self._retire_now()

    def _retire_now(self) -> None:
        """Retire, unless another thread, or a frame below this one, is at work."""
        if self._mutex.acquire(blocking=False):
            try:
                self._retire(wait=False)
            finally:
                self._mutex.release()

    # --- the lock -------------------------------------------------------------------------------------

    def _locked(self, act: Callable[[View], T]) -> T:
        """Call `act` with the lock of all handles and processes, which is on the journal, and what is there.

        The release covers the taking: wherever an interrupt comes, the next step is that call of C.
        """
        with self._mutex:
            try:
                return act(self._begin())
            except StoreError:
                # Some are OSErrors too: a blob that isn't there is a FileNotFoundError.
                raise
            except OSError as error:
                raise self._failure(error) from error
            finally:
                if self._lock_fd >= 0:
                    fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _begin(self, closing: bool = False) -> View:
        """Take the lock, and catch up with the others; the caller frees it, also after an error.

        The mutex is held. The journal is unlinked when it is folded, so that a lock counts only while its
        file is still the one at the path.
        """
        if self._closed and not closing:
            raise self._closed_error()
        while True:
            if self._lock_fd < 0:
                self._open_journal()
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            try:
                if os.stat(self._journal_path).st_ino == self._lock_inode:
                    break
            except FileNotFoundError:
                pass
            self._drop_lock()
        view = self._refresh(locked=True)
        if view.torn:
            os.ftruncate(self._lock_fd, view.parsed)
            view.torn = False
        if view.parsed == 0:
            begin = beginning()
            write_at(self._lock_fd, begin, 0)
            view.seed = int.from_bytes(begin[8:12], "little")
            view.parsed = BEGIN
        return view

    def _open_journal(self) -> None:
        # An archive that can't be read is refused before anything is made next to it.
        self._refresh()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._lock_fd = os.open(self._journal_path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(self._folder, exist_ok=True)
            self._lock_fd = os.open(self._journal_path, flags, 0o600)
        self._lock_inode = os.fstat(self._lock_fd).st_ino
        if self._durable:
            self._sync_folder()

    def _drop_lock(self) -> None:
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)

    def _after_fork(self) -> None:
        # A lock belongs to an open file, which parent and child would share, and both would hold it.
        self._drop_lock()
        self._begin_life()
        self._view = None

    # --- the view -------------------------------------------------------------------------------------

    def _current(self) -> View:
        """Return the current state, whichever process wrote it, for the price of two system calls."""
        view = self._view
        if view is not None:
            try:
                if view.journal is None:
                    same = not os.access(self._journal_path, os.F_OK)
                else:
                    now = os.stat(self._journal_path)
                    same = now.st_size == view.parsed and now.st_ino == view.journal.inode
                if same:
                    now = os.stat(self._path)
                    if (now.st_ino, now.st_size, now.st_mtime_ns) == view.identity:
                        return view
            except OSError:
                pass
        with self._mutex:
            if self._closed:
                raise self._closed_error()
            return self._refresh()

    def _refresh(self, locked: bool = False) -> View:
        """Catch up with the files. The mutex is held; the lock of the processes need not be.

        A fold replaces the archive, then unlinks the journal, which replayed over the new archive changes
        nothing. The journal is therefore opened first: with an older archive than the journal's, what was
        folded would be missing. If either was replaced meanwhile, the two may not belong together: again.
        """
        try:
            while True:
                view = self._view
                journal = self._opened(self._journal_path, None if view is None else view.journal)
                identity = self._identity()
                if (
                    view is None
                    or identity != view.identity
                    or (view.journal is not None and view.journal is not journal)
                    or (journal is not None and os.fstat(journal.fd).st_size < view.parsed)
                ):
                    view = View()
                    view.archive = self._opened(self._path, None)
                    if view.archive is not None:
                        now = os.fstat(view.archive.fd)
                        view.identity = (now.st_ino, now.st_size, now.st_mtime_ns)
                        self._load(view, view.archive, now)
                if journal is not None:
                    view.journal = journal
                    self._replay(view, journal, locked)
                if self._identity() == view.identity and self._stands(journal):
                    self._view = view
                    return view
        except OSError as error:
            raise self._failure(error) from error

    def _opened(self, path: str, known: File | None) -> File | None:
        try:
            if known is not None and os.stat(path).st_ino == known.inode:
                return known
            return File(path)
        except FileNotFoundError:
            return None

    def _identity(self) -> tuple[int, int, int] | None:
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return None
        return now.st_ino, now.st_size, now.st_mtime_ns

    def _stands(self, journal: File | None) -> bool:
        try:
            return os.stat(self._journal_path).st_ino == (-1 if journal is None else journal.inode)
        except FileNotFoundError:
            return journal is None

    # --- the journal ----------------------------------------------------------------------------------

    def _replay(self, view: View, journal: File, locked: bool) -> None:
        """Lay the records from `parsed` on over the entries."""
        try:
            self._lay(view, journal)
        except IntegrityError:
            if locked:
                raise
            # A writer may have been half-way through a record.
            try:
                fcntl.flock(journal.fd, fcntl.LOCK_SH)
                self._lay(view, journal)
            finally:
                fcntl.flock(journal.fd, fcntl.LOCK_UN)

    def _lay(self, view: View, journal: File) -> None:
        if view.parsed == 0:
            begin = begun(journal.fd, self._journal_path)
            if begin is None:
                view.torn = os.fstat(journal.fd).st_size > 0
                return
            view.seed = begin[0]
            view.parsed = BEGIN
        for end, batch in batches(journal, view.parsed, view.seed, self._journal_path):
            self._apply(view, batch)
            view.parsed = end
        view.torn = view.parsed < os.fstat(journal.fd).st_size

    def _apply(self, view: View, batch: Iterable[Change]) -> None:
        entries = view.entries
        for kind, key, entry in batch:
            if entry is not None:
                if key not in entries:
                    view.order = None
                entries[key] = entry
            elif kind == CLEAR:
                entries.clear()
                view.order = None
            elif entries.pop(key, None) is not None:
                view.order = None

    def _append(
        self,
        view: View,
        items: Iterable[Item],
        *,
        draft: _Draft | None = None,
        source: tuple[int, int] | None = None,
    ) -> None:
        """Write records to the journal's end, make them count, and fold it where it has grown too long.

        The lock is held. The data come from the draft, or from a place in a file (for the first item).
        """
        items = tuple(items)
        for item in items:
            if item.kind == PUT and item.key in view.left_out:
                raise KeyConflictError(
                    f"a {view.left_out[item.key]} of that name is in {self._path}, and isn't a blob; "
                    "remove it with a zip program, or use another key",
                    key=item.key,
                )
        fd, start = self._lock_fd, view.parsed
        journal = view.journal
        assert journal is not None
        heads = _heads(items, view.seed, start)
        written = False
        try:
            if draft is not None and draft.spool >= 0:
                for offset, piece in draft.pieces:
                    write_at(draft.spool, piece, offset)
                for item, head in zip(items, heads, strict=True):
                    write_at(draft.spool, head, item.offset - len(head))
                total = draft.size
                transfer(draft.spool, HEAD, fd, start + HEAD, total - HEAD)
                first = heads[0][:HEAD]
            elif source is not None:
                end = start + items[0].offset
                transfer(source[0], source[1], fd, end, items[0].length)
                total = items[0].offset + items[0].length
                rest = b"".join(heads[1:])
                write_at(fd, heads[0][HEAD:], start + HEAD)
                write_at(fd, rest, start + total)
                total += len(rest)
                first = heads[0][:HEAD]
            else:
                parts: list[Piece] = []
                pieces = [] if draft is None else draft.pieces
                place = 0
                for item, head in zip(items, heads, strict=True):
                    parts.append(head)
                    while place < len(pieces) and pieces[place][0] < item.offset + item.length:
                        parts.append(pieces[place][1])
                        place += 1
                total = sum(map(len, parts))
                if total <= _HELD + CHECKED and all(item.length <= CHECKED for item in items):
                    write_at(fd, b"".join(parts), start)
                    first = b""
                else:
                    parts[0] = heads[0][HEAD:]
                    at = start + HEAD
                    for part in parts:
                        write_at(fd, part, at)
                        at += len(part)
                    first = heads[0][:HEAD]
            if first:
                # The first header makes everything after it count, so that it is the last to be written.
                if self._durable:
                    _fdatasync(fd)
                write_at(fd, first, start)
            written = True
            if self._durable:
                _fdatasync(fd)
        except OSError as error:
            self._withdraw(view, start, written)
            raise self._failure(error) from error
        self._dirty = True
        self._apply(view, [Change(item.kind, item.key, item.entry(journal, start)) for item in items])
        view.parsed = start + total
        self._fold_if_due(view, fresh=start == BEGIN)

    def _withdraw(self, view: View, start: int, written: bool) -> None:
        """Take back records that couldn't be written, or not be made durable."""
        try:
            os.ftruncate(self._lock_fd, start)
            if written:
                # Others may have read them; a new journal file makes them begin again.
                self._fold(view, sync=True)
        except (OSError, StoreError):
            view.torn = True

    def _fold_if_due(self, view: View, fresh: bool) -> None:
        """Fold a journal that is long for its archive, so that a write costs a constant share of the folds.

        The first write of a store is folded at once: from then on there is an archive, whatever happens.
        """
        if view.identity is not None:
            size = view.parsed
            if size < self._fold_size or size < view.identity[1] // 2 or size < self._fold_at:
                return
        try:
            self._fold(view, sync=self._durable or view.identity is not None or not fresh)
        except (OSError, StoreError) as error:
            # The write itself is safe in the journal. Trying again at each one would cost an archive each.
            self._fold_at = 2 * view.parsed
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        from logging import getLogger

        getLogger("holdall").warning(
            "%s couldn't be brought up to date; its journal keeps what was written: %s", self._path, error
        )

    # --- the archive ----------------------------------------------------------------------------------

    def _load(self, view: View, file: File, now: os.stat_result) -> None:
        """Read the central directory."""
        if not stat.S_ISREG(now.st_mode):
            raise StoreUnavailableError(f"{self._path} isn't a regular file; give the path of an archive")
        view.directory = find_directory(file.fd, now.st_size, self._path)
        entries = view.entries
        members = list(members_of(file, view.directory, self._path))
        refuse_overlaps(members, view.directory, self._path)
        for member in members:
            key, kind = member.name, member.left_out()
            if kind is not None:
                # Of two members of one name the last one counts.
                if kind:
                    view.left_out[key] = kind
                    entries.pop(key, None)
                continue
            view.left_out.pop(key, None)
            stamp = stamp_of(member)
            etag, written, content_type = foreign(member) if stamp is None else stamp
            entries[key] = Entry(
                file,
                -1,
                member.size,
                member.length,
                member.method,
                member.crc,
                etag,
                written,
                content_type,
                member.header,
                bool(member.flags & ENCRYPTED),
                member.raw,
            )

    def _fold(self, view: View, *, sync: bool) -> None:
        """Write a new archive with what the journal says, put it in place of the old one, drop the journal.

        The lock is held. A kill at any point leaves the old archive with the journal, or the new one with
        the journal, which are the same blobs, or the new one alone.
        """
        if view.parsed <= BEGIN:
            self._discard_journal()
            return
        while True:
            fd = self._temporary_file(view)
            try:
                Fold(view, members_of(view.archive, view.directory, self._path), fd).run()
                if sync:
                    os.fsync(fd)
                # Another program may have changed the archive since; what it did must not be lost.
                if self._identity() != view.identity:
                    view = self._refresh(locked=True)
                    continue
                _liken(fd, view.archive)
                os.replace(self._temporary, self._path)
            except BaseException:
                # It is gone where an interrupt came just after it took the place of the archive.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._temporary)
                raise
            finally:
                os.close(fd)
            break
        if sync:
            self._sync_folder()
        self._discard_journal()

    def _discard_journal(self) -> None:
        os.unlink(self._journal_path)
        # Those who wait for its lock see that the file has no name now, and open the next one.
        self._drop_lock()
        self._dirty = False
        self._fold_at = 0
        self._view = None

    def _temporary_file(self, view: View) -> int:
        # One name is enough under the lock, and what a killed process left is taken away by the next.
        try:
            os.unlink(self._temporary)
        except FileNotFoundError:
            pass
        mode = 0o666 if view.archive is None else 0o600
        return os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _spool(self) -> int:
        """A file without a name where the archive will be, so that nothing is left of it."""
        os.makedirs(self._folder, exist_ok=True)
        try:
            return os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in (
                errno.EISDIR,
                errno.EOPNOTSUPP,
                errno.EINVAL,
            ):
                raise
        path = f"{self._temporary}-{os.urandom(6).hex()}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        return fd

    # --- errors ---------------------------------------------------------------------------------------

    def _etag(self) -> bytes:
        # Fresh from the system: what a process counts would come again after a clone of the machine.
        return os.urandom(16)

    def _corrupt(self) -> IntegrityError:
        return IntegrityError(
            f"the bytes in {self._path} aren't what was written (wrong CRC); restore the archive from a copy"
        )

    def _failure(self, error: OSError, key: str | None = None) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if error.errno == errno.EROFS:
            return ReadOnlyError(f"{self._path} is on a read-only file system", key=key)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why = "the disk is full; free some space and try again"
        elif error.errno == errno.EFBIG:
            why = "the file would be larger than the file system or this process's limit (ulimit -f) allows"
        elif error.errno in (errno.EACCES, errno.EPERM):
            why = "permission denied; check the permissions of the file and of its folder"
        else:
            why = error.strerror or str(error)
        return StoreUnavailableError(f"{self._path}: {why}", key=key)


class _SpoolError(Exception):
    """An `OSError` of ours, which must not be taken for one of the caller's iterator."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


class _Draft:
    """Records made ready before the lock is taken: the caller's iterator may take its time, or use this very
    store."""

    def __init__(self, make_spool: Callable[[], int], deflate: bool) -> None:
        self._make_spool = make_spool
        self._deflate = deflate
        self.items: list[Item] = []
        self.pieces: list[tuple[int, Piece]] = []
        """Each with its offset from the first record's start, if it isn't in the spool."""
        self.size = 0
        self.spool = -1
        self._held = 0

    def __enter__(self) -> _Draft:
        return self

    def __exit__(self, *_: object) -> None:
        if self.spool >= 0:
            os.close(self.spool)

    def put(self, key: str, body: Body, attributes: Attributes, etag: bytes) -> None:
        content_type = attributes.content_type
        self.size += HEAD + len(key.encode()) + len(type_bytes(content_type))
        offset = self.size
        crc = size = check = 0
        method = STORED
        if isinstance(body, tuple) and len(body) == 1 and (not self._deflate or len(body[0]) <= CHUNK):
            data: Piece = body[0]
            size = len(data)
            if size <= CHUNK:
                data = bytes(data)
            crc = check = zlib.crc32(data)
            if self._deflate:
                packer = zlib.compressobj(wbits=-15)
                packed = packer.compress(data) + packer.flush()
                if len(packed) < size:
                    data, method, check = packed, DEFLATED, zlib.crc32(packed)
            # The caller holds it anyway, so that it needs no spool, however large.
            self._keep(data, 0)
        else:
            packer = zlib.compressobj(wbits=-15) if self._deflate else None
            method = STORED if packer is None else DEFLATED
            for piece in body:
                size += len(piece)
                # A copy: the caller may fill the same buffer again for the next piece.
                stored = bytes(piece) if packer is None else packer.compress(piece)
                crc = zlib.crc32(piece if packer else stored, crc)
                check = zlib.crc32(stored, check) if packer else crc
                self._keep(stored, len(stored))
            if packer is not None:
                stored = packer.flush()
                check = zlib.crc32(stored, check)
                self._keep(stored, len(stored))
        length = self.size - offset
        self.items.append(
            Item(
                PUT,
                key,
                content_type,
                method,
                crc,
                size,
                length,
                check if length <= CHECKED else 0,
                offset,
                time.time(),
                etag,
            )
        )

    def _keep(self, piece: Piece, held: int) -> None:
        if len(piece):
            self.pieces.append((self.size, piece))
            self.size += len(piece)
            self._held += held
            if self._held > _HELD:
                self.spill()

    def spill(self) -> None:
        """Write out what is held."""
        try:
            if self.spool < 0:
                self.spool = self._make_spool()
            for offset, piece in self.pieces:
                write_at(self.spool, piece, offset)
        except OSError as error:
            raise _SpoolError(error) from error
        self.pieces = []
        self._held = 0


# --- helpers ------------------------------------------------------------------------------------------


def _liken(fd: int, archive: File | None) -> None:
    """Give a new file the owner and the mode of the archive that it replaces."""
    if archive is not None:
        old, new = os.fstat(archive.fd), os.fstat(fd)
        try:
            if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
                os.fchown(fd, old.st_uid, old.st_gid)
            os.fchmod(fd, stat.S_IMODE(old.st_mode))
        except PermissionError:
            # This user may not change the owner or the group; the file stays the writer's.
            pass


def _heads(items: tuple[Item, ...], seed: int, start: int) -> list[bytes]:
    """The records without their data, each made for its place; those before an item with data end where the
    next begins."""
    heads: list[bytes] = []
    at = start
    for index, item in enumerate(items):
        heads.append(item.head(index < len(items) - 1, seed, at))
        at += len(heads[-1]) + item.length
    return heads


def _place(entry: Info | LeftOut) -> str:
    return entry.path if isinstance(entry, LeftOut) else entry.key


def _info(key: str, entry: Entry) -> Info:
    return Info(key, entry.size, entry.etag, entry.written, entry.content_type)


def _expect(view: View, key: str, expect: Expect) -> None:
    entry = view.entries.get(key)
    actual = None if entry is None else entry.etag
    if expect is ABSENT:
        if actual is not None:
            raise BlobExistsError(key=key, actual=actual)
    elif actual != expect:
        raise ConcurrencyError(key=key, expected=str(expect), actual=actual)


# --- life and death of the process --------------------------------------------------------------------

_handles: WeakSet[ZipStore] = WeakSet()


def _after_fork() -> None:
    for store in list(_handles):
        store._after_fork()  # pyright: ignore[reportPrivateUsage]


def _at_exit() -> None:
    for store in list(_handles):
        store._retire_now()  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
