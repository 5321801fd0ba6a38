"""A zip archive: its directory, what its records mean, and how a new archive is made of an old one."""

from __future__ import annotations

import errno
import os
import select
import stat
import struct
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from holdall.errors import IntegrityError, InvalidArgumentError, InvalidKeyError, UnsupportedOperation
from holdall.keys import check_key
from holdall.ranges import CHUNK
from holdall.store import Piece

__all__ = [
    "CHECKED",
    "DEFLATED",
    "ENCRYPTED",
    "STORED",
    "Directory",
    "Entry",
    "File",
    "Fold",
    "Member",
    "View",
    "check_header",
    "damaged",
    "find_directory",
    "foreign",
    "members_of",
    "refuse_overlaps",
    "stamp_of",
    "transfer",
    "type_bytes",
    "type_text",
    "write_at",
]

STORED, DEFLATED = 0, 8
ENCRYPTED, _STREAMED, _UTF8 = 0x0001, 0x0008, 0x0800
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_UNIX = (3, 19)
"""The systems whose attributes hold a mode, and whose names are bytes."""
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
_EPOCH = 315619200.0
"""1980-01-02 in UTC: a zip knows no time before 1980, wherever it is read."""
_LONGEST_TYPE = 1 << 14
CHECKED = 64 << 10
"""Data up to this size are checked, and copied, at once."""
NOT_A_KEY = "name that can't be a key"
_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFDIR: "folder with contents",
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}

_own = select.kqueue.fromfd if sys.platform == "darwin" else select.epoll.fromfd


class File:
    """A file that stays open for reading while any reader uses it.

    It has no `__del__`: it takes a while to close a large archive that was replaced, as its blocks are freed,
    and Python drops an interrupt that comes in a `__del__`. The queue of events owns the descriptor, whatever
    file it belongs to, and closes it without running Python code.
    """

    __slots__ = ("_owner", "fd", "inode")

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._owner = _own(self.fd)
        self.inode = os.fstat(self.fd).st_ino


class Entry:
    """Where a blob is, and what it is."""

    __slots__ = (
        "checked",
        "content_type",
        "crc",
        "encrypted",
        "etag",
        "file",
        "header",
        "length",
        "method",
        "name",
        "offset",
        "size",
        "written",
    )

    def __init__(
        self,
        file: File,
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
        name: bytes = b"",
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
        self.name = name
        """As it is spelled in the archive; empty in the journal."""
        self.checked = False
        """Whether the whole blob was read once, and its CRC was right."""


class Member(NamedTuple):
    """One record of a central directory."""

    record: bytes
    raw: bytes
    """The name as it is spelled there."""
    name: str
    maker: int
    """The system that it was made on."""
    flags: int
    method: int
    moment: int
    crc: int
    length: int
    size: int
    header: int
    attributes: int
    extra: bytes

    def left_out(self) -> str | None:
        """Why this isn't a blob, in words; empty for an empty folder, None for a blob."""
        if self.name.endswith("/") and not self.size:
            # An empty folder is nothing in a folder, too.
            return ""
        if self.maker in _UNIX:
            if self.attributes >> 28 not in (0, stat.S_IFREG >> 12):
                return _KINDS.get(stat.S_IFMT(self.attributes >> 16), "special file")
        elif "\\" in self.name:
            # Some programs write folders so; unzip makes folders of it, others don't.
            return NOT_A_KEY
        try:
            check_key(self.name)
        except InvalidKeyError:
            return NOT_A_KEY
        return None


class Directory(NamedTuple):
    """Where the central directory of an archive is, and what follows it."""

    start: int = 0
    length: int = 0
    shift: int = 0
    """The number of bytes before the archive: a program that unpacks it."""
    number: int = 0
    comment: bytes = b""


class View:
    """The state that a handle knows: the archive, with the journal laid over it up to `parsed`."""

    def __init__(self) -> None:
        self.archive: File | None = None
        self.identity: tuple[int, int, int] | None = None
        self.directory = Directory()
        self.left_out: dict[str, str] = {}
        """The kind of each member that isn't a blob, by its path."""
        self.journal: File | None = None
        self.parsed = 0
        self.seed = 0
        self.torn = False
        self.entries: dict[str, Entry] = {}
        self.order: list[str] | None = None


def find_directory(fd: int, size: int, path: str) -> Directory:
    """Where the central directory is."""
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
        raise damaged(path, "it has no central directory at its end")
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
                raise damaged(path, "the 64-bit end of its directory is missing")
    if disk or first_disk:
        raise UnsupportedOperation(f"{path} is split over several files; join them with zip -s 0")
    start = stop - length
    shift = start - offset
    if start < 0 or shift < 0:
        raise damaged(path, "its central directory lies outside the file")
    if shift and os.pread(fd, 4, 0) == _LOCAL_SIGN.to_bytes(4, "little"):
        # Bytes before an archive are a program that unpacks it. If they are members, this is a cut
        # archive, and the directory that of an archive stored inside.
        raise damaged(path, "its central directory doesn't belong to it")
    comment = tail[len(tail) - end[7] :] if end[7] else b""
    return Directory(start, length, shift, number, comment)


def members_of(archive: File | None, directory: Directory, path: str) -> Iterator[Member]:
    """The records of the central directory, each held against the others."""
    if archive is None:
        return
    start, length = directory.start, directory.length
    raw = b""
    while len(raw) < length:
        more = os.pread(archive.fd, length - len(raw), start + len(raw))
        if not more:
            raise damaged(path, "its central directory is cut off")
        raw += more
    at = number = 0
    while at < length:
        try:
            (
                sign,
                made,
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
                attributes,
                header,
            ) = _CENTRAL.unpack_from(raw, at)
        except struct.error:
            raise damaged(path, "its central directory is cut off") from None
        body = at + _CENTRAL.size
        stop = body + names + extras + comments
        if sign != _CENTRAL_SIGN or stop > length:
            raise damaged(path, "its central directory has a bad record")
        name = raw[body : body + names]
        extra = raw[body + names : body + names + extras]
        if size == _MAX32 or packed == _MAX32 or header == _MAX32:
            long = _field(extra, _ZIP64) or b""
            if len(long) < 8 * (size, packed, header).count(_MAX32):
                raise damaged(path, "a 64-bit size is missing")
            if size == _MAX32:
                size, long = int.from_bytes(long[:8], "little"), long[8:]
            if packed == _MAX32:
                packed, long = int.from_bytes(long[:8], "little"), long[8:]
            if header == _MAX32:
                header = int.from_bytes(long[:8], "little")
        header += directory.shift
        if header + _LOCAL.size + packed > start:
            raise damaged(path, "a member reaches past the directory")
        if method == STORED and size != packed and not flags & ENCRYPTED:
            raise damaged(path, "a stored member has two sizes")
        yield Member(
            raw[at:stop],
            name,
            _decoded(name, flags, extra, made >> 8),
            made >> 8,
            flags,
            method,
            date << 16 | clock,
            crc,
            packed,
            size,
            header,
            attributes,
            extra,
        )
        at = stop
        number += 1
    if number & _MAX16 != directory.number & _MAX16:
        raise damaged(path, f"its directory has {number} records where it says {directory.number}")


def check_header(entry: Entry, path: str) -> int:
    """Hold a member against its own header; where its data begin, which only that says.

    Raises:
        IntegrityError: The header isn't there, or is of another member: the directory was changed.
    """
    raw = os.pread(entry.file.fd, _LOCAL.size + len(entry.name), entry.header)
    if len(raw) < _LOCAL.size:
        raise damaged(path, "a member's header is cut off")
    sign, _, flags, method, _, _, crc, length, size, names, extras = _LOCAL.unpack_from(raw)
    if sign != _LOCAL_SIGN:
        raise damaged(path, "a member isn't where the directory says")
    # A program that streams a member writes CRC and sizes after the data; long ones are in an extra field.
    said = [(crc, entry.crc), (length, entry.length), (size, entry.size)]
    if (
        raw[_LOCAL.size :] != entry.name
        or names != len(entry.name)
        or method != entry.method
        or (flags ^ entry.encrypted) & ENCRYPTED
        or (not flags & _STREAMED and any(here not in (0, there, _MAX32) for here, there in said))
    ):
        raise damaged(path, "a member's own header contradicts the directory")
    return entry.header + _LOCAL.size + names + extras


def refuse_overlaps(members: Iterable[Member], directory: Directory, path: str) -> None:
    """Refuse an archive whose members share bytes: a small one can be unpacked to terabytes.

    Raises:
        IntegrityError: Two members overlap.
    """
    spans = [(each.header, each.header + _LOCAL.size + len(each.raw) + each.length) for each in members]
    spans.sort()
    end = 0
    for start, stop in spans:
        if start < end:
            raise damaged(path, "two of its members overlap")
        end = stop
    if end > directory.start:
        raise damaged(path, "a member reaches past the directory")


def damaged(path: str, how: str) -> IntegrityError:
    return IntegrityError(
        f"{path} isn't a zip archive, or it is damaged: {how}; restore it from a copy, repair it with "
        "zip -FF, or move it away to begin a new one"
    )


class Fold:
    """A new archive: what stays of the old one, byte for byte, then what the journal holds, then the
    directory."""

    def __init__(self, view: View, members: Iterable[Member], fd: int) -> None:
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
        comment = self._view.directory.comment
        self._write(
            _END.pack(_END_SIGN, 0, 0, number, number, min(length, _MAX32), min(start, _MAX32), len(comment))
        )
        self._write(comment)
        self._flush()

    def _keep_members(self, archive: File) -> None:
        starts = sorted({member.header for member in self._members})
        end = self._view.directory.start
        stops = dict(zip(starts, [*starts[1:], end], strict=bool(starts)))
        kept = [member for member in self._members if self._stays(member)]
        # The bytes before the first member are a program that unpacks the archive.
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

    def _stays(self, member: Member) -> bool:
        if member.left_out() is not None:
            return True
        entry = self._view.entries.get(member.name)
        return entry is not None and entry.header == member.header and entry.file is self._view.archive

    def _add(self, key: str, entry: Entry) -> None:
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
        stamp += type_bytes(entry.content_type)
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

    def _copy(self, source: File, offset: int, length: int) -> None:
        if length <= CHECKED:
            data = os.pread(source.fd, length, offset)
            if len(data) < length:
                raise OSError(errno.EIO, "a file ended before what was written to it")
            self._write(data)
        else:
            self._flush()
            transfer(source.fd, offset, self._fd, self._at, length)
            self._at += length

    def _flush(self) -> None:
        write_at(self._fd, self._buffer, self._at - len(self._buffer))
        self._buffer = bytearray()


def write_at(fd: int, data: Piece | bytearray, offset: int) -> None:
    view = memoryview(data)
    while len(view):
        done = os.pwrite(fd, view, offset)
        offset += done
        view = view[done:]


def transfer(source: int, start: int, target: int, at: int, length: int) -> None:
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
        write_at(target, data, at)
        start, at, length = start + len(data), at + len(data), length - len(data)


def type_bytes(content_type: str | None) -> bytes:
    if content_type is None:
        return b""
    # A byte before it distinguishes an empty type from none.
    data = b"=" + content_type.encode("utf-8", "surrogatepass")
    if len(data) > _LONGEST_TYPE:
        raise InvalidArgumentError(f"a zip store keeps a content_type of at most {_LONGEST_TYPE - 1} bytes")
    return data


def type_text(data: bytes) -> str | None:
    return data[1:].decode("utf-8", "surrogatepass") if data else None


def _field(extra: bytes, wanted: int) -> bytes | None:
    at = 0
    while at + 4 <= len(extra):
        kind, length = extra[at] | extra[at + 1] << 8, extra[at + 2] | extra[at + 3] << 8
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return None


def stamp_of(member: Member) -> tuple[str, float, str | None] | None:
    """What holdall wrote with a member, if it still is that member."""
    field = _field(member.extra, _OURS)
    if field is None or len(field) < _STAMP.size:
        return None
    etag, written, crc, size = _STAMP.unpack_from(field)
    if crc != member.crc or size != member.size:
        return None
    try:
        return etag.hex(), written, type_text(field[_STAMP.size :])
    except UnicodeDecodeError:
        return None


def foreign(member: Member) -> tuple[str, float, str | None]:
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
        # The local time where it was packed; this machine's is the best guess.
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


def _decoded(name: bytes, flags: int, extra: bytes, maker: int) -> str:
    """A name as unzip reads it."""
    if name.isascii():
        return name.decode()
    if flags & _UTF8:
        # What isn't UTF-8 becomes lone surrogates, which no key has.
        return name.decode("utf-8", "surrogateescape")
    field = _field(extra, _NAME)
    if field is not None and len(field) > 5 and int.from_bytes(field[1:5], "little") == zlib.crc32(name):
        return field[5:].decode("utf-8", "surrogateescape")
    if maker in _UNIX:
        # Info-ZIP's zip writes names as the file system has them, which is UTF-8 nearly everywhere.
        try:
            return name.decode()
        except UnicodeDecodeError:
            pass
    return name.decode("cp437")


def _relocated(member: Member, header: int) -> bytes:
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
