"""A store in one zip archive, that any unzip reads, with a journal beside it."""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import stat
import struct
import threading
import time
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple, TypeVar, overload
from weakref import WeakSet

from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.keys import check_key, past
from holdall.ranges import CHUNK, cut, span
from holdall.store import ABSENT, ANY, Attributes, Body, Can, Expect, Info, Piece, Store

__all__ = ["ZipStore"]

T = TypeVar("T")

_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF8 = 0x0001, 0x0800
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_LONG = _MAX32
"""From here on a size or an offset is written with 64 bits, and its field of 32 says so by `_MAX32`."""

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_END64 = struct.Struct("<IQHHIIQQQQ")
_LOCATOR = struct.Struct("<IIQI")
_LOCAL_SIGN, _CENTRAL_SIGN, _END_SIGN = 0x04034B50, 0x02014B50, 0x06054B50
_END64_SIGN, _LOCATOR_SIGN = 0x06064B50, 0x07064B50

# Extra fields: 64-bit sizes, the time in UTC, a name in UTF-8, and our own.
_ZIP64, _TIME, _NAME, _OURS = 0x0001, 0x5455, 0x7075, 0x4844
_STAMP = struct.Struct("<16sdIQ")
"""Our own: ETag, time of the write, and CRC and size of what they belong to, then the content type. A
program that changes the member but keeps the field is found out by the CRC or the size."""

_MAGIC = b"holdzip\x01"
_RECORD = struct.Struct("<IBBBxHHIQQd16s")
"""A record of the journal: check, kind, more, method, then the lengths of key and content type, the CRC, size
and stored size of the data, the time of the write, and the ETag. Key, content type and data follow."""
_HEAD = _RECORD.size
_PUT, _DELETE, _CLEAR = 1, 2, 3
_CHECKED = 64 << 10
"""The `check` of a record covers its data up to this size. Larger data are written before their record's
header is, so that a valid header means whole data, and opening a store needn't read them."""
_LONGEST_TYPE = 1 << 14
_EPOCH = 315619200.0
"""1980-01-02 in UTC: a zip knows no time before 1980, wherever it is read."""
_PACKED = 64 << 10
"""How much is given to the decompressor at once: it copies what it can't use yet."""
_HELD = 2 * CHUNK
"""A streamed body waits for the lock in memory up to this size, and in a temporary file past it."""

_fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class _File:
    """A file open for reading, for as long as anybody reads from it."""

    __slots__ = ("fd", "inode")

    def __init__(self, path: str) -> None:
        self.fd = -1
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.inode = os.fstat(self.fd).st_ino

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self.fd >= 0:
            close(self.fd)


class _Entry:
    """Where a blob is, and what it is."""

    __slots__ = (
        "content_type",
        "crc",
        "encrypted",
        "etag",
        "file",
        "header",
        "length",
        "method",
        "offset",
        "size",
        "written",
    )

    def __init__(
        self,
        file: _File,
        offset: int,
        size: int,
        length: int,
        method: int,
        crc: int,
        etag: str,
        written: float,
        content_type: str | None,
        header: int = -1,
        encrypted: bool = False,
    ) -> None:
        self.file = file
        self.offset = offset
        """Of the data; -1 until the local header was read."""
        self.size = size
        self.length = length
        """As stored."""
        self.method = method
        self.crc = crc
        self.etag = etag
        self.written = written
        self.content_type = content_type
        self.header = header
        """Offset of the local header in the archive; -1 in the journal."""
        self.encrypted = encrypted


class _Member(NamedTuple):
    """One record of a central directory."""

    record: bytes
    name: str
    flags: int
    method: int
    moment: int
    crc: int
    length: int
    size: int
    header: int
    extra: bytes


class _View:
    """What a handle knows: the archive, with the journal laid over it up to `parsed`."""

    def __init__(self) -> None:
        self.archive: _File | None = None
        self.identity: tuple[int, int, int] | None = None
        self.directory = (0, 0)
        self.comment = b""
        self.shift = 0
        self.journal: _File | None = None
        self.parsed = 0
        self.torn = False
        self.entries: dict[str, _Entry] = {}
        self.order: list[str] | None = None


class _Item(NamedTuple):
    """One record to be written; `offset` is that of its data from the first record's start."""

    kind: int
    key: str
    content_type: str | None = None
    method: int = _STORED
    crc: int = 0
    size: int = 0
    length: int = 0
    check: int = 0
    offset: int = 0
    written: float = 0.0
    etag: bytes = bytes(16)

    def head(self, more: bool) -> bytes:
        name = self.key.encode()
        kind = _type_bytes(self.content_type)
        tail = _RECORD.pack(
            0,
            self.kind,
            more,
            self.method,
            len(name),
            len(kind),
            self.crc,
            self.size,
            self.length,
            self.written,
            self.etag,
        )
        rest = b"".join((tail[4:], name, kind))
        return zlib.crc32(rest, self.check).to_bytes(4, "little") + rest


class ZipStore(Store):
    """A store in one zip archive, that any unzip reads.

    Args:
        path: The archive. It and its folder are made by the first write; reading creates nothing.
        durable: Whether a write that was acknowledged outlasts a power cut, not only a kill.
        compression: None or `"stored"` keeps blobs as they are, so that ranges are read straight;
            `"deflated"` compresses what is put from now on.

    A key is a member's name. Members whose names are no keys (folders, `../x`) aren't listed, and stay.

    A zip ends in a directory of all members, so that changing it in place costs the whole directory, and a
    kill would leave none. Writes are therefore appended to a journal beside it, `<path>.journal`, and folded
    into a new archive that replaces the old one: at `close`, at `flush`, and when the journal outgrows half
    the archive. Other programs see what was folded. Archive and journal belong together: move both or
    neither.

    Locks are `flock`, which holds on local file systems.

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
        given = os.fspath(path)
        if not isinstance(given, str) or not given or "\0" in given:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError("a zip store needs the path of its archive, a str")
        if compression not in (None, "stored", "deflated"):
            raise InvalidArgumentError(f"compression is 'stored' or 'deflated', not {compression!r}")
        # The journal lies beside the archive itself, however many links lead to it.
        self._path = os.path.realpath(given)
        if os.path.isdir(self._path):
            raise StoreUnavailableError(f"{self._path} is a folder; give the path of the archive in it")
        self._folder, name = os.path.split(self._path)
        self._journal_path = f"{self._path}.journal"
        self._temporary = os.path.join(self._folder, f".{name}.holdall-fold")
        self._durable = durable
        self._deflate = compression == "deflated"
        self._view: _View | None = None
        self._lock_inode = 0
        self._fold_at = 0
        self._begin_life()
        self._closed = False
        _handles.add(self)

    def _begin_life(self) -> None:
        """What belongs to one process: a fork calls it again."""
        self._mutex = threading.Lock()
        self._nonce = os.urandom(8)
        self._count = count(1)
        self._dirty = False

    def _settings(self) -> dict[str, object]:
        return {
            "path": self._path,
            "durable": self._durable,
            "compression": "deflated" if self._deflate else None,
        }

    # --- reading --------------------------------------------------------------------------------------

    @overload
    def get(self, key: str, default: None = None) -> bytes | None: ...
    @overload
    def get(self, key: str, default: bytes) -> bytes: ...
    @overload
    def get(self, key: str, default: T) -> bytes | T: ...
    def get(self, key: str, default: Any = None) -> Any:
        if self._closed or key.__class__ is not str:
            key = self._checked(key)
        entry = self._current().entries.get(key)
        if entry is None:
            self._checked(key)
            return default
        if entry.method == _STORED and not entry.encrypted:
            try:
                offset = entry.offset if entry.offset >= 0 else self._locate(entry)
                data = os.pread(entry.file.fd, entry.size, offset)
                if len(data) == entry.size and zlib.crc32(data) == entry.crc:
                    return data
            except OSError as error:
                raise self._failure(error, key) from error
            except StoreError as error:
                error.key = key
                raise
        # What didn't come whole in one call, or is damaged: the long way copes with it, or says so.
        return super().get(key, default)

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
        if entry.method == _STORED:
            whole = low == 0 and high == entry.size
            return info, self._stored(entry, low, high, entry.crc if whole else None)
        pieces = self._inflated(entry)
        return info, pieces if low == 0 and high == entry.size else cut(pieces, low, high)

    def _info(self, key: str) -> Info:
        return _info(key, self._found(key))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (_info(key, entry) for key, entry in self._walk(prefix, after))

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return (key for key, _ in self._walk(prefix, after))

    def _walk(self, prefix: str, after: str) -> Iterator[tuple[str, _Entry]]:
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

    def _found(self, key: str) -> _Entry:
        entry = self._current().entries.get(key)
        if entry is None:
            raise BlobNotFoundError(key=key)
        return entry

    def _check_readable(self, entry: _Entry) -> None:
        if entry.encrypted:
            raise UnsupportedOperation(
                f"this member of {self._path} is encrypted; unpack it with a zip program and put it again"
            )
        if entry.method not in (_STORED, _DEFLATED):
            raise UnsupportedOperation(
                f"this member of {self._path} is compressed by zip's method {entry.method}, and holdall "
                "reads stored (0) and deflated (8); unpack it with a zip program and put it again"
            )

    def _locate(self, entry: _Entry) -> int:
        """Read the local header, whose length the central directory doesn't tell."""
        header = os.pread(entry.file.fd, _LOCAL.size, entry.header)
        if len(header) < _LOCAL.size:
            raise self._damaged("a member's header is cut off")
        sign, *_, name, extra = _LOCAL.unpack(header)
        if sign != _LOCAL_SIGN:
            raise self._damaged("a member isn't where the directory says")
        entry.offset = entry.header + _LOCAL.size + name + extra
        return entry.offset

    def _stored(self, entry: _Entry, low: int, high: int, crc: int | None) -> Iterator[Piece]:
        found = 0
        for at in range(low, high, CHUNK):
            piece = self._slice(entry, at, min(at + CHUNK, high))
            if crc is not None:
                found = zlib.crc32(piece, found)
                if at + CHUNK >= high and found != crc:
                    raise self._corrupt()
            yield piece

    def _slice(self, entry: _Entry, low: int, high: int) -> bytes:
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

    def _inflated(self, entry: _Entry) -> Iterator[Piece]:
        inflate = zlib.decompressobj(-15)
        size = crc = 0
        try:
            for at in range(0, entry.length, _PACKED):
                packed = self._slice(entry, at, min(at + _PACKED, entry.length))
                # A bounded piece at a time: what was packed well must not fill the memory.
                while packed and not inflate.eof:
                    piece = inflate.decompress(packed, CHUNK)
                    packed = inflate.unconsumed_tail
                    size += len(piece)
                    crc = zlib.crc32(piece, crc)
                    if size > entry.size:
                        raise self._corrupt()
                    if piece:
                        yield piece
            while not inflate.eof and size <= entry.size and (piece := inflate.decompress(b"", CHUNK)):
                size += len(piece)
                crc = zlib.crc32(piece, crc)
                yield piece
        except zlib.error as error:
            raise self._corrupt() from error
        if size != entry.size or crc != entry.crc:
            raise self._corrupt()

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
        with self._mutex:
            view = self._begin()
            try:
                if expect is not ANY:
                    _expect(view, key, expect)
                if key not in view.entries:
                    return False
                self._append(view, (_Item(_DELETE, key),))
                return True
            finally:
                self._end()

    def _delete_many(self, keys: Iterable[str]) -> int:
        known = self._current().entries
        wanted = [key for key in keys if key in known]
        if not wanted:
            return 0
        with self._mutex:
            view = self._begin()
            try:
                items = [_Item(_DELETE, key) for key in wanted if key in view.entries]
                if items:
                    self._append(view, items)
                return len(items)
            finally:
                self._end()

    def _clear(self) -> None:
        if not self._current().entries:
            return
        with self._mutex:
            view = self._begin()
            try:
                self._append(view, (_Item(_CLEAR, ""),))
            finally:
                self._end()

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        return self._duplicate(source, target, expect, move=False)

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        return self._duplicate(source, target, expect, move=True)

    def _duplicate(self, source: str, target: str, expect: Expect, *, move: bool) -> Info:
        self._check_readable(self._found(source))
        with self._mutex:
            view = self._begin()
            try:
                entry = view.entries.get(source)
                if entry is None:
                    raise BlobNotFoundError(key=source)
                self._check_readable(entry)
                if expect is not ANY:
                    _expect(view, target, expect)
                offset = entry.offset if entry.offset >= 0 else self._locate(entry)
                check = 0
                if entry.length <= _CHECKED:
                    check = zlib.crc32(self._slice(entry, 0, entry.length))
                item = _Item(
                    _PUT,
                    target,
                    entry.content_type,
                    entry.method,
                    entry.crc,
                    entry.size,
                    entry.length,
                    check,
                    _HEAD + len(target.encode()) + len(_type_bytes(entry.content_type)),
                    time.time(),
                    self._etag(),
                )
                items = (item, _Item(_DELETE, source)) if move else (item,)
                self._append(view, items, source=(entry.file.fd, offset))
                return _info(target, view.entries[target])
            except StoreError:
                # Some are OSErrors too: a blob that isn't there is a FileNotFoundError.
                raise
            except OSError as error:
                raise self._failure(error) from error
            finally:
                self._end()

    def _publish(self, draft: _Draft, key: str, expect: Expect) -> list[Info]:
        with self._mutex:
            view = self._begin()
            try:
                if expect is not ANY:
                    _expect(view, key, expect)
                self._append(view, draft.items, draft=draft)
            finally:
                self._end()
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
        """Fold the journal into the archive, so that other programs see what was written.

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
            with self._mutex:
                view = self._begin()
                try:
                    self._fold(view, sync=True)
                except OSError as error:
                    raise self._failure(error) from error
                finally:
                    self._end()

    @property
    def path(self) -> str:
        """Where the archive is, absolute."""
        return self._path

    def _close(self) -> None:
        self._retire(wait=True)
        self._view = None

    def _retire(self, wait: bool) -> None:
        """Fold what this handle wrote, if nobody else writes now or it may wait for them; free the lock."""
        if not self._mutex.acquire(blocking=wait):
            return
        try:
            if self._lock_fd >= 0:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | (0 if wait and self._dirty else fcntl.LOCK_NB))
                # Another journal means that somebody has folded ours.
                if os.stat(self._journal_path).st_ino == self._lock_inode:
                    view = self._begin(closing=True)
                    if self._dirty or view.parsed <= len(_MAGIC):
                        self._fold(view, sync=True)
        except (BlockingIOError, FileNotFoundError):
            pass
        except (OSError, StoreError) as error:
            # The journal keeps everything that was acknowledged; the next writer folds it.
            self._warn(error)
        finally:
            self._drop_lock()
            self._mutex.release()

    def __del__(self) -> None:
        # A mapping is often dropped unclosed; the archive should hold what was put into it all the same.
        if not self._closed:
            self._closed = True
            self._retire(wait=False)

    # --- the lock -------------------------------------------------------------------------------------

    def _begin(self, closing: bool = False) -> _View:
        """Take the lock of all handles and processes, which is on the journal, and catch up with them.

        The mutex is held. The journal is unlinked when it is folded, so that a lock counts only while its
        file is still the one at the path.
        """
        if self._closed and not closing:
            raise self._closed_error()
        try:
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
            view = self._refresh()
            if view.torn:
                os.ftruncate(self._lock_fd, view.parsed)
                view.torn = False
            if view.parsed == 0:
                _write_at(self._lock_fd, _MAGIC, 0)
                view.parsed = len(_MAGIC)
            return view
        except OSError as error:
            self._end()
            raise self._failure(error) from error
        except StoreError:
            self._end()
            raise

    def _open_journal(self) -> None:
        # An archive that can't be read is refused before anything is made beside it.
        view = self._refresh()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        mode = 0o666 if view.archive is None else 0o600
        try:
            self._lock_fd = os.open(self._journal_path, flags, mode)
        except FileNotFoundError:
            os.makedirs(self._folder, exist_ok=True)
            self._lock_fd = os.open(self._journal_path, flags, mode)
        now = os.fstat(self._lock_fd)
        self._lock_inode = now.st_ino
        if not now.st_size:
            _liken(self._lock_fd, view.archive)
        if self._durable:
            self._sync_folder()

    def _end(self) -> None:
        if self._lock_fd >= 0:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

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

    def _current(self) -> _View:
        """What is there now, by whomever it was written, for the price of two calls to the system."""
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

    def _refresh(self) -> _View:
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
                    view = _View()
                    view.archive = self._opened(self._path, None)
                    if view.archive is not None:
                        now = os.fstat(view.archive.fd)
                        view.identity = (now.st_ino, now.st_size, now.st_mtime_ns)
                        self._load(view, view.archive, now)
                if journal is not None:
                    view.journal = journal
                    self._replay(view, journal)
                if self._identity() == view.identity and self._stands(journal):
                    self._view = view
                    return view
        except OSError as error:
            raise self._failure(error) from error

    def _opened(self, path: str, known: _File | None) -> _File | None:
        try:
            if known is not None and os.stat(path).st_ino == known.inode:
                return known
            return _File(path)
        except FileNotFoundError:
            return None

    def _identity(self) -> tuple[int, int, int] | None:
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return None
        return now.st_ino, now.st_size, now.st_mtime_ns

    def _stands(self, journal: _File | None) -> bool:
        try:
            return os.stat(self._journal_path).st_ino == (-1 if journal is None else journal.inode)
        except FileNotFoundError:
            return journal is None

    # --- the journal ----------------------------------------------------------------------------------

    def _replay(self, view: _View, journal: _File) -> None:
        """Lay the records from `parsed` on over the entries.

        What doesn't check is not there yet: a writer is at it, or was killed at it, and the next one
        overwrites it. Records that say `more` count only together with the last one of theirs.
        """
        fd, at = journal.fd, view.parsed
        size = os.fstat(fd).st_size
        if at == 0:
            begin = os.pread(fd, len(_MAGIC), 0)
            if begin != _MAGIC[: len(begin)]:
                raise IntegrityError(
                    f"{self._journal_path} is no journal of a zip store, or of a newer version; move it away"
                )
            if len(begin) < len(_MAGIC):
                view.torn = bool(begin)
                return
            at = view.parsed = len(_MAGIC)
        block, base = b"", at
        batch: list[tuple[int, str, _Entry | None]] = []
        while at < size:
            if at - base + _HEAD > len(block):
                block, base = os.pread(fd, CHUNK, at), at
                if len(block) < _HEAD:
                    break
            place = at - base
            check, kind, more, method, names, types, crc, full, length, written, etag = _RECORD.unpack_from(
                block, place
            )
            if kind not in (_PUT, _DELETE, _CLEAR):
                break
            data = _HEAD + names + types
            need = data + (length if length <= _CHECKED else 0)
            if place + need > len(block):
                block, base, place = os.pread(fd, max(CHUNK, need), at), at, 0
                if len(block) < need:
                    break
            found = zlib.crc32(block[place + data : place + need]) if need > data else 0
            if zlib.crc32(block[place + 4 : place + data], found) != check or at + data + length > size:
                break
            key = block[place + _HEAD : place + _HEAD + names].decode()
            if kind == _PUT:
                content_type = _type_text(block[place + data - types : place + data])
                entry = _Entry(
                    journal, at + data, full, length, method, crc, etag.hex(), written, content_type
                )
            else:
                entry = None
            batch.append((kind, key, entry))
            at += data + length
            if not more:
                self._apply(view, batch)
                view.parsed = at
                batch = []
        view.torn = view.parsed < size

    def _apply(self, view: _View, batch: list[tuple[int, str, _Entry | None]]) -> None:
        entries = view.entries
        for kind, key, entry in batch:
            if entry is not None:
                if key not in entries:
                    view.order = None
                entries[key] = entry
            elif kind == _CLEAR:
                entries.clear()
                view.order = None
            elif entries.pop(key, None) is not None:
                view.order = None

    def _append(
        self,
        view: _View,
        items: Iterable[_Item],
        *,
        draft: _Draft | None = None,
        source: tuple[int, int] | None = None,
    ) -> None:
        """Write records to the journal's end, make them count, and fold it where it has grown too long.

        The lock is held. The data come from the draft, or from a place in a file (for the first item).
        """
        fd, start = self._lock_fd, view.parsed
        journal = view.journal
        assert journal is not None
        items = tuple(items)
        heads = [item.head(index < len(items) - 1) for index, item in enumerate(items)]
        written = False
        try:
            if draft is not None and draft.spool >= 0:
                for offset, piece in draft.pieces:
                    _write_at(draft.spool, piece, offset)
                for item, head in zip(items, heads, strict=True):
                    _write_at(draft.spool, head, item.offset - len(head))
                total = draft.size
                _transfer(draft.spool, _HEAD, fd, start + _HEAD, total - _HEAD)
                first = heads[0][:_HEAD]
            elif source is not None:
                end = start + items[0].offset
                _transfer(source[0], source[1], fd, end, items[0].length)
                total = items[0].offset + items[0].length
                rest = b"".join(heads[1:])
                _write_at(fd, heads[0][_HEAD:], start + _HEAD)
                _write_at(fd, rest, start + total)
                total += len(rest)
                first = heads[0][:_HEAD]
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
                if total <= _HELD + _CHECKED and all(item.length <= _CHECKED for item in items):
                    _write_at(fd, b"".join(parts), start)
                    first = b""
                else:
                    parts[0] = heads[0][_HEAD:]
                    at = start + _HEAD
                    for part in parts:
                        _write_at(fd, part, at)
                        at += len(part)
                    first = heads[0][:_HEAD]
            if first:
                # The first header makes everything after it count, so that it is the last to be written.
                if self._durable:
                    _fdatasync(fd)
                _write_at(fd, first, start)
            written = True
            if self._durable:
                _fdatasync(fd)
        except OSError as error:
            self._withdraw(view, start, written)
            raise self._failure(error) from error
        self._dirty = True
        batch: list[tuple[int, str, _Entry | None]] = []
        for item in items:
            entry = None
            if item.kind == _PUT:
                entry = _Entry(
                    journal,
                    start + item.offset,
                    item.size,
                    item.length,
                    item.method,
                    item.crc,
                    item.etag.hex(),
                    item.written,
                    item.content_type,
                )
            batch.append((item.kind, item.key, entry))
        self._apply(view, batch)
        view.parsed = start + total
        self._fold_if_due(view, fresh=start == len(_MAGIC))

    def _withdraw(self, view: _View, start: int, written: bool) -> None:
        """Take back records that couldn't be written, or not be made durable."""
        try:
            os.ftruncate(self._lock_fd, start)
            if written:
                # Others may have read them; a new journal file tells them to begin again.
                self._fold(view, sync=True)
        except (OSError, StoreError):
            view.torn = True

    def _fold_if_due(self, view: _View, fresh: bool) -> None:
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
            "%s could not be brought up to date, its journal keeps what was written: %s", self._path, error
        )

    # --- the archive ----------------------------------------------------------------------------------

    def _load(self, view: _View, file: _File, now: os.stat_result) -> None:
        """Read the central directory."""
        if not stat.S_ISREG(now.st_mode):
            raise StoreUnavailableError(f"{self._path} is no plain file; give the path of an archive")
        self._find_directory(view, file.fd, now.st_size)
        entries = view.entries
        for member in self._members(view):
            try:
                key = check_key(member.name)
            except InvalidKeyError:
                continue
            stamp = _stamp(member)
            etag, written, content_type = _foreign(member) if stamp is None else stamp
            entries[key] = _Entry(
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
                bool(member.flags & _ENCRYPTED),
            )

    def _find_directory(self, view: _View, fd: int, size: int) -> None:
        tail_at = max(0, size - _END.size - _MAX16 - _LOCATOR.size - _END64.size)
        tail = os.pread(fd, size - tail_at, tail_at)
        sign = _END_SIGN.to_bytes(4, "little")
        place = tail.rfind(sign)
        while place >= 0:
            # Nothing may follow but the comment, whose text may look like another end.
            if place + _END.size <= len(tail):
                end = _END.unpack_from(tail, place)
                if place + _END.size + end[7] == len(tail):
                    break
            place = tail.rfind(sign, 0, place)
        else:
            raise self._damaged("it has no central directory at its end")
        _, disk, first_disk, _, number, length, offset, _ = end
        stop = tail_at + place
        place -= _LOCATOR.size
        if place >= 0:
            sign64, _, offset64, _ = _LOCATOR.unpack_from(tail, place)
            if sign64 == _LOCATOR_SIGN:
                for at in (tail_at + place - _END64.size, offset64):
                    raw = os.pread(fd, _END64.size, at) if 0 <= at < size else b""
                    if len(raw) == _END64.size and raw[:4] == _END64_SIGN.to_bytes(4, "little"):
                        _, _, _, _, disk, first_disk, _, number, length, offset = _END64.unpack(raw)
                        stop = at
                        break
                else:
                    raise self._damaged("the 64-bit end of its directory is missing")
        if disk or first_disk:
            raise UnsupportedOperation(f"{self._path} is split over several files; join them with zip -s 0")
        start = stop - length
        shift = start - offset
        if start < 0 or shift < 0:
            raise self._damaged("its central directory lies outside the file")
        if shift and os.pread(fd, 4, 0) == _LOCAL_SIGN.to_bytes(4, "little"):
            # Bytes before an archive are a program that unpacks it. If they are members, this is a cut
            # archive, and the directory that of an archive stored inside.
            raise self._damaged("its central directory doesn't belong to it")
        view.directory = (start, length)
        view.shift = shift
        view.comment = tail[len(tail) - end[7] :] if end[7] else b""
        self._number = number

    def _members(self, view: _View) -> Iterator[_Member]:
        if view.archive is None:
            return
        start, length = view.directory
        raw = b""
        while len(raw) < length:
            more = os.pread(view.archive.fd, length - len(raw), start + len(raw))
            if not more:
                raise self._damaged("its central directory is cut off")
            raw += more
        at = number = 0
        while at < length:
            try:
                (
                    sign,
                    _,
                    _,
                    flags,
                    method,
                    clock,
                    date,
                    crc,
                    packed,
                    size,
                    names,
                    extras,
                    comments,
                    _,
                    _,
                    _,
                    header,
                ) = _CENTRAL.unpack_from(raw, at)
            except struct.error:
                raise self._damaged("its central directory is cut off") from None
            body = at + _CENTRAL.size
            stop = body + names + extras + comments
            if sign != _CENTRAL_SIGN or stop > length:
                raise self._damaged("its central directory has a bad record")
            name = raw[body : body + names]
            extra = raw[body + names : body + names + extras]
            if size == _MAX32 or packed == _MAX32 or header == _MAX32:
                long = _field(extra, _ZIP64) or b""
                if len(long) < 8 * (size, packed, header).count(_MAX32):
                    raise self._damaged("a 64-bit size is missing")
                if size == _MAX32:
                    size, long = int.from_bytes(long[:8], "little"), long[8:]
                if packed == _MAX32:
                    packed, long = int.from_bytes(long[:8], "little"), long[8:]
                if header == _MAX32:
                    header = int.from_bytes(long[:8], "little")
            header += view.shift
            if header + _LOCAL.size + packed > start:
                raise self._damaged("a member reaches past the directory")
            if method == _STORED and size != packed and not flags & _ENCRYPTED:
                raise self._damaged("a stored member has two sizes")
            yield _Member(
                raw[at:stop],
                _decoded(name, flags, extra),
                flags,
                method,
                date << 16 | clock,
                crc,
                packed,
                size,
                header,
                extra,
            )
            at = stop
            number += 1
        if number & _MAX16 != self._number & _MAX16:
            raise self._damaged(f"its directory has {number} records where it says {self._number}")

    def _fold(self, view: _View, *, sync: bool) -> None:
        """Write a new archive with what the journal says, put it in place of the old one, drop the journal.

        The lock is held. A kill at any point leaves the old archive with the journal, or the new one with
        the journal, which are the same blobs, or the new one alone.
        """
        if view.parsed <= len(_MAGIC):
            self._discard_journal()
            return
        while True:
            fd = self._temporary_file(view)
            try:
                _Fold(view, self._members(view), fd).run()
                if sync:
                    os.fsync(fd)
                # Another program may have changed the archive since; what it did must not be lost.
                if self._identity() != view.identity:
                    view = self._refresh()
                    continue
                os.replace(self._temporary, self._path)
            except BaseException:
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
        # The file without a name tells those who wait for its lock to open the next one.
        self._drop_lock()
        self._dirty = False
        self._fold_at = 0
        self._view = None

    def _temporary_file(self, view: _View) -> int:
        # One name is enough under the lock, and what a killed process left is taken away by the next.
        try:
            os.unlink(self._temporary)
        except FileNotFoundError:
            pass
        mode = 0o666 if view.archive is None else 0o600
        fd = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        _liken(fd, view.archive)
        return fd

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
        return self._nonce + next(self._count).to_bytes(8, "big")

    def _corrupt(self) -> IntegrityError:
        return IntegrityError(
            f"the bytes in {self._path} aren't what was written; restore the archive from a copy"
        )

    def _damaged(self, how: str) -> IntegrityError:
        return IntegrityError(
            f"{self._path} is no zip archive, or a damaged one: {how}; restore it from a copy, mend it with "
            "zip -FF, or move it away to begin anew"
        )

    def _failure(self, error: OSError, key: str | None = None) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if error.errno == errno.EROFS:
            return ReadOnlyError(f"{self._path} is on a read-only file system", key=key)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            why = "there is no room left; free some and try again"
        elif error.errno in (errno.EACCES, errno.EPERM):
            why = "permission denied; check the rights on it and on its folder"
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
        self.items: list[_Item] = []
        self.pieces: list[tuple[int, Piece]] = []
        """Each with its offset from the first record's start, as far as it isn't in the spool."""
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
        self.size += _HEAD + len(key.encode()) + len(_type_bytes(content_type))
        offset = self.size
        crc = size = check = 0
        method = _STORED
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
                    data, method, check = packed, _DEFLATED, zlib.crc32(packed)
            # The caller holds it anyway, so that it needs no spool, however large.
            self._keep(data, 0)
        else:
            packer = zlib.compressobj(wbits=-15) if self._deflate else None
            method = _STORED if packer is None else _DEFLATED
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
            _Item(
                _PUT,
                key,
                content_type,
                method,
                crc,
                size,
                length,
                check if length <= _CHECKED else 0,
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
                _write_at(self.spool, piece, offset)
        except OSError as error:
            raise _SpoolError(error) from error
        self.pieces = []
        self._held = 0


class _Fold:
    """A new archive: what stays of the old one, byte for byte, then what the journal holds, then the
    directory."""

    def __init__(self, view: _View, members: Iterable[_Member], fd: int) -> None:
        self._view = view
        self._members = list(members)
        self._fd = fd
        self._at = 0
        self._buffer = bytearray()
        self._directory: list[bytes] = []

    def run(self) -> None:
        if self._view.archive is not None:
            self._keep_members(self._view.archive)
        for key, entry in self._view.entries.items():
            if entry.file is not self._view.archive:
                self._add(key, entry)
        start = self._at
        for record in self._directory:
            self._write(record)
        length = self._at - start
        number = len(self._directory)
        if number >= _MAX16 or length >= _LONG or start >= _LONG:
            end64 = self._at
            self._write(_END64.pack(_END64_SIGN, 44, 45, 45, 0, 0, number, number, length, start))
            self._write(_LOCATOR.pack(_LOCATOR_SIGN, 0, end64, 1))
        number = min(number, _MAX16)
        comment = self._view.comment
        self._write(
            _END.pack(_END_SIGN, 0, 0, number, number, min(length, _MAX32), min(start, _MAX32), len(comment))
        )
        self._write(comment)
        self._flush()

    def _keep_members(self, archive: _File) -> None:
        starts = sorted({member.header for member in self._members})
        end = self._view.directory[0]
        stops = dict(zip(starts, [*starts[1:], end], strict=bool(starts)))
        for member in self._members:
            if member.header + _LOCAL.size + member.length > stops[member.header]:
                raise IntegrityError("members of the archive overlap, so that it can't be rewritten safely")
        kept = [member for member in self._members if self._stays(member)]
        # What stands before the first member is a program that unpacks the archive.
        first = starts[0] if starts else end
        self._copy(archive, 0, first)
        moved: dict[int, int] = {}
        run_start = run_stop = first
        for header in sorted({member.header for member in kept}):
            if header != run_stop:
                self._copy(archive, run_start, run_stop - run_start)
                run_start = header
            moved[header] = self._at + header - run_start
            run_stop = stops[header]
        self._copy(archive, run_start, run_stop - run_start)
        for member in kept:
            self._directory.append(_relocated(member, moved[member.header]))

    def _stays(self, member: _Member) -> bool:
        entry = self._view.entries.get(member.name)
        if entry is not None:
            return entry.file is self._view.archive
        try:
            check_key(member.name)
        except InvalidKeyError:
            return True
        return False

    def _add(self, key: str, entry: _Entry) -> None:
        name = key.encode()
        flags = 0 if key.isascii() else _UTF8
        clock, date = _dos(entry.written)
        at = self._at
        size, length, offset = entry.size, entry.length, at
        extra = b""
        if 0 <= entry.written < 1 << 31:
            extra = struct.pack("<HHBI", _TIME, 5, 1, int(entry.written))
        long = b""
        if size >= _LONG or length >= _LONG:
            # In a local header the two go together (APPNOTE, 4.5.3).
            long = struct.pack("<QQ", size, length)
            size = length = _MAX32
        version = 45 if long else 20
        local = struct.pack("<HH", _ZIP64, len(long)) + long + extra if long else extra
        head = _LOCAL.pack(
            _LOCAL_SIGN,
            version,
            flags,
            entry.method,
            clock,
            date,
            entry.crc,
            length,
            size,
            len(name),
            len(local),
        )
        self._write(b"".join((head, name, local)))
        self._copy(entry.file, entry.offset, entry.length)
        if offset >= _LONG:
            long += struct.pack("<Q", offset)
            offset, version = _MAX32, 45
        if long:
            extra = struct.pack("<HH", _ZIP64, len(long)) + long + extra
        stamp = _STAMP.pack(bytes.fromhex(entry.etag), entry.written, entry.crc, entry.size)
        stamp += _type_bytes(entry.content_type)
        extra += struct.pack("<HH", _OURS, len(stamp)) + stamp
        head = _CENTRAL.pack(
            _CENTRAL_SIGN,
            3 << 8 | version,  # made on Unix, so that the mode below counts
            version,
            flags,
            entry.method,
            clock,
            date,
            entry.crc,
            length,
            size,
            len(name),
            len(extra),
            0,
            0,
            0,
            (stat.S_IFREG | 0o644) << 16,
            offset,
        )
        self._directory.append(b"".join((head, name, extra)))

    def _write(self, data: bytes) -> None:
        self._buffer += data
        self._at += len(data)
        if len(self._buffer) >= CHUNK:
            self._flush()

    def _copy(self, source: _File, offset: int, length: int) -> None:
        if length <= _CHECKED:
            data = os.pread(source.fd, length, offset)
            if len(data) < length:
                raise OSError(errno.EIO, "a file ended before what was written to it")
            self._write(data)
        else:
            self._flush()
            _transfer(source.fd, offset, self._fd, self._at, length)
            self._at += length

    def _flush(self) -> None:
        _write_at(self._fd, self._buffer, self._at - len(self._buffer))
        self._buffer = bytearray()


# --- helpers ------------------------------------------------------------------------------------------


def _write_at(fd: int, data: Piece | bytearray, offset: int) -> None:
    view = memoryview(data)
    while len(view):
        done = os.pwrite(fd, view, offset)
        offset += done
        view = view[done:]


def _liken(fd: int, archive: _File | None) -> None:
    """Let a new file be read by whoever may read the archive, and by nobody else."""
    if archive is not None:
        old, new = os.fstat(archive.fd), os.fstat(fd)
        try:
            if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
                os.fchown(fd, old.st_uid, old.st_gid)
            os.fchmod(fd, stat.S_IMODE(old.st_mode))
        except PermissionError:
            # Neither is ours to give away; the file stays the writer's own.
            pass


def _transfer(source: int, start: int, target: int, at: int, length: int) -> None:
    """Copy inside the kernel where it can."""
    copy = getattr(os, "copy_file_range", None)
    while length > 0 and copy is not None:
        try:
            done = copy(source, target, min(length, 1 << 30), start, at)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            break
        if not done:
            break
        start, at, length = start + done, at + done, length - done
    while length > 0:
        data = os.pread(source, min(length, CHUNK), start)
        if not data:
            raise OSError(errno.EIO, "a file ended before what was written to it")
        _write_at(target, data, at)
        start, at, length = start + len(data), at + len(data), length - len(data)


def _info(key: str, entry: _Entry) -> Info:
    return Info(key, entry.size, entry.etag, entry.written, entry.content_type)


def _expect(view: _View, key: str, expect: Expect) -> None:
    entry = view.entries.get(key)
    actual = None if entry is None else entry.etag
    if expect is ABSENT:
        if actual is not None:
            raise BlobExistsError(key=key, actual=actual)
    elif actual != expect:
        raise ConcurrencyError(key=key, expected=str(expect), actual=actual)


def _type_bytes(content_type: str | None) -> bytes:
    if content_type is None:
        return b""
    # A byte before it tells an empty type from none.
    data = b"=" + content_type.encode("utf-8", "surrogatepass")
    if len(data) > _LONGEST_TYPE:
        raise InvalidArgumentError(f"a zip store keeps a content_type of at most {_LONGEST_TYPE - 1} bytes")
    return data


def _type_text(data: bytes) -> str | None:
    return data[1:].decode("utf-8", "surrogatepass") if data else None


def _field(extra: bytes, wanted: int) -> bytes | None:
    at = 0
    while at + 4 <= len(extra):
        kind, length = extra[at] | extra[at + 1] << 8, extra[at + 2] | extra[at + 3] << 8
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return None


def _stamp(member: _Member) -> tuple[str, float, str | None] | None:
    """What holdall wrote with a member, if it still is that member."""
    field = _field(member.extra, _OURS)
    if field is None or len(field) < _STAMP.size:
        return None
    etag, written, crc, size = _STAMP.unpack_from(field)
    if crc != member.crc or size != member.size:
        return None
    try:
        return etag.hex(), written, _type_text(field[_STAMP.size :])
    except UnicodeDecodeError:
        return None


def _foreign(member: _Member) -> tuple[str, float, str | None]:
    """An ETag and a time for what another program wrote. A fold changes neither."""
    etag = f"{member.crc:08x}{zlib.crc32(member.extra, member.moment):08x}-{member.size:x}"
    field = _field(member.extra, _TIME)
    if field is not None and len(field) >= 5 and field[0] & 1:
        return etag, float(int.from_bytes(field[1:5], "little", signed=True)), None
    date, clock = member.moment >> 16, member.moment & _MAX16
    try:
        moment = datetime(
            1980 + (date >> 9),
            date >> 5 & 15,
            date & 31,
            clock >> 11,
            clock >> 5 & 63,
            min(59, 2 * (clock & 31)),
        )
        # The local time of whoever packed it; this machine's is the best guess.
        return etag, moment.timestamp(), None
    except (ValueError, OverflowError, OSError):
        return etag, _EPOCH, None


def _dos(written: float) -> tuple[int, int]:
    local = time.localtime(min(max(written, _EPOCH), 4354732800.0))
    year = max(local.tm_year, 1980)
    return (
        local.tm_hour << 11 | local.tm_min << 5 | min(local.tm_sec, 59) >> 1,
        (year - 1980) << 9 | local.tm_mon << 5 | local.tm_mday,
    )


def _decoded(name: bytes, flags: int, extra: bytes) -> str:
    if name.isascii():
        return name.decode()
    if flags & _UTF8:
        # What is no UTF-8 becomes lone surrogates, which no key has.
        return name.decode("utf-8", "surrogateescape")
    field = _field(extra, _NAME)
    if field is not None and len(field) > 5 and int.from_bytes(field[1:5], "little") == zlib.crc32(name):
        return field[5:].decode("utf-8", "surrogateescape")
    return name.decode("cp437")


def _relocated(member: _Member, header: int) -> bytes:
    """A record of the directory for a member that moved."""
    values = list(_CENTRAL.unpack_from(member.record))
    if values[16] != _MAX32 and header < _LONG:
        return member.record[:42] + header.to_bytes(4, "little") + member.record[46:]
    names, extras = values[10], values[11]
    long = b""
    if values[9] == _MAX32:
        long += member.size.to_bytes(8, "little")
    if values[8] == _MAX32:
        long += member.length.to_bytes(8, "little")
    long += header.to_bytes(8, "little")
    extra = struct.pack("<HH", _ZIP64, len(long)) + long + _without(member.extra, _ZIP64)
    values[2], values[11], values[16] = max(values[2], 45), len(extra), _MAX32
    body = _CENTRAL.size + names
    return b"".join(
        (_CENTRAL.pack(*values), member.record[_CENTRAL.size : body], extra, member.record[body + extras :])
    )


def _without(extra: bytes, unwanted: int) -> bytes:
    at, kept = 0, b""
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind != unwanted:
            kept += extra[at : at + 4 + length]
        at += 4 + length
    return kept + extra[at:]


# --- life and death of the process --------------------------------------------------------------------

_handles: WeakSet[ZipStore] = WeakSet()


def _after_fork() -> None:
    for store in list(_handles):
        store._after_fork()  # pyright: ignore[reportPrivateUsage]


def _at_exit() -> None:
    for store in list(_handles):
        store._retire(wait=False)  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
