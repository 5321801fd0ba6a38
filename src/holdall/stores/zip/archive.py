"""The directory of a zip archive, held against itself, and each member against its own header.

Python's `zipfile` reads directories too, in more than twice the time. It refuses the whole archive for one
name that isn't UTF-8, and takes the directory of an archive that is stored inside a cut one for its own.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from holdall.blob import NOT_A_KEY
from holdall.errors import UnsupportedOperation
from holdall.keys import is_key
from holdall.stores.oserrors import kind_of
from holdall.stores.zip.entry import STORED, Entry, File, decode_type
from holdall.stores.zip.faults import damaged, failure

ENCRYPTED, STREAMED, UTF8 = 0x0001, 0x0008, 0x0800
MAX16, MAX32 = 0xFFFF, 0xFFFFFFFF
_UNIX = (3, 19)
"""The systems whose attributes hold a mode, and whose names are bytes."""

LOCAL = struct.Struct("<4sHHHIIIIHH")
CENTRAL = struct.Struct("<4sHHHHIIIIHHHIII")
END = struct.Struct("<4sHHHHIIH")
END64 = struct.Struct("<4sQHHIIQQQQ")
LOCATOR = struct.Struct("<4sIQI")

# Extra fields: 64-bit sizes, the time in UTC, a name in UTF-8, and our own.
ZIP64, TIME, _NAME, OURS = 0x0001, 0x5455, 0x7075, 0x4844
STAMP = struct.Struct("<16sdIQ")
"""Our own: ETag, time of the write, and CRC and size of what they belong to, then the content type. A
program that changes the member but keeps the field is found out by the CRC or the size."""
EPOCH = 315619200.0
"""1980-01-02 in UTC: a zip knows no time before 1980, wherever it is read."""


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
    """The local time where it was packed, as DOS writes it."""
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
                return kind_of(self.attributes >> 16)
        elif "\\" in self.name:
            # Some programs write folders so; unzip makes folders of it, others don't.
            return NOT_A_KEY
        return None if is_key(self.name) else NOT_A_KEY

    def describe(self) -> tuple[str, float, str | None]:
        """The ETag, the time of the write, and the content type.

        They are those that holdall wrote with it, if it still is that member. For what another program wrote
        they are made up, and a fold doesn't change them.
        """
        field = find_field(self.extra, OURS)
        if field is not None and len(field) >= STAMP.size:
            etag, written, crc, size = STAMP.unpack_from(field)
            if crc == self.crc and size == self.size:
                try:
                    return etag.hex(), written, decode_type(field[STAMP.size :])
                except UnicodeDecodeError:
                    pass
        made_up = f"{self.crc:08x}{zlib.crc32(self.extra, self.moment):08x}-{self.size:x}"
        return made_up, self._read_time(), None

    def _read_time(self) -> float:
        field = find_field(self.extra, TIME)
        if field is not None and len(field) >= 5 and field[0] & 1:
            return float(int.from_bytes(field[1:5], "little", signed=True))
        date, clock = self.moment >> 16, self.moment & MAX16
        day = 1980 + (date >> 9), date >> 5 & 15, date & 31
        try:
            # This machine's local time is the best guess at that of where it was packed.
            return datetime(*day, clock >> 11, clock >> 5 & 63, min(59, 2 * (clock & 31))).timestamp()
        except (ValueError, OverflowError, OSError):
            return EPOCH


class Directory(NamedTuple):
    """Where the central directory of an archive is, and what follows it."""

    start: int = 0
    length: int = 0
    shift: int = 0
    """The number of bytes before the archive: a program that unpacks it."""
    number: int = 0
    comment: bytes = b""


def find_directory(fd: int, size: int, path: str) -> Directory:
    """Find the central directory."""
    tail_at = max(0, size - END.size - MAX16 - LOCATOR.size - END64.size)
    tail = os.pread(fd, size - tail_at, tail_at)
    place = tail.rfind(b"PK\5\6")
    while place >= 0:
        # Nothing may follow but the comment, whose text may look like another end.
        if place + END.size <= len(tail):
            end = END.unpack_from(tail, place)
            if place + END.size + end[7] == len(tail):
                break
        place = tail.rfind(b"PK\5\6", 0, place)
    else:
        raise damaged(path, "it has no central directory at its end")
    _, disk, first_disk, _, number, length, offset, _ = end
    stop = tail_at + place
    place -= LOCATOR.size
    if place >= 0:
        sign64, _, offset64, _ = LOCATOR.unpack_from(tail, place)
        if sign64 == b"PK\6\7":
            for at in (tail_at + place - END64.size, offset64):
                raw = os.pread(fd, END64.size, at) if 0 <= at < size else b""
                if len(raw) == END64.size and raw[:4] == b"PK\6\6":
                    _, _, _, _, disk, first_disk, _, number, length, offset = END64.unpack(raw)
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
    if shift and os.pread(fd, 4, 0) == b"PK\3\4":
        # Bytes before an archive are a program that unpacks it. If they are members, this is a cut
        # archive, and the directory that of an archive stored inside.
        raise damaged(path, "its central directory doesn't belong to it")
    return Directory(start, length, shift, number, tail[len(tail) - end[7] :] if end[7] else b"")


def read_members(archive: File | None, directory: Directory, path: str) -> Iterator[Member]:
    """Yield the records of the central directory, each held against the others."""
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
        if at + CENTRAL.size > length:
            raise damaged(path, "its central directory is cut off")
        fields = CENTRAL.unpack_from(raw, at)
        sign, made, _, flags, method, moment, crc, packed, size, names, extras, comments = fields[:12]
        _, attributes, header = fields[12:]
        body = at + CENTRAL.size
        stop = body + names + extras + comments
        if sign != b"PK\1\2" or stop > length:
            raise damaged(path, "its central directory has a bad record")
        name = raw[body : body + names]
        extra = raw[body + names : body + names + extras]
        if size == MAX32 or packed == MAX32 or header == MAX32:
            size, packed, header = _long(extra, size, packed, header, path)
        header += directory.shift
        if header + LOCAL.size + packed > start:
            raise damaged(path, "a member reaches past the directory")
        if method == STORED and size != packed and not flags & ENCRYPTED:
            raise damaged(path, "a stored member has two sizes")
        maker = made >> 8
        spelled = decode_name(name, flags, extra, maker)
        record = raw[at:stop]
        yield Member(
            record, name, spelled, maker, flags, method, moment, crc, packed, size, header, attributes, extra
        )
        at = stop
        number += 1
    if number & MAX16 != directory.number & MAX16:
        raise damaged(path, f"its directory has {number} records; its end counts {directory.number}")


def _long(extra: bytes, size: int, packed: int, header: int, path: str) -> list[int]:
    """The sizes and the offset of a member, those of 64 bits from its extra field."""
    data = find_field(extra, ZIP64) or b""
    values = [size, packed, header]
    if len(data) < 8 * values.count(MAX32):
        raise damaged(path, "a 64-bit size is missing")
    long = (int.from_bytes(data[at : at + 8], "little") for at in range(0, 24, 8))
    return [next(long) if value == MAX32 else value for value in values]


def locate(entry: Entry, path: str) -> int:
    """Return where the data of a member begin. Only its own header says that, and is held against the
    directory once.

    Raises:
        IntegrityError: The header isn't there, or is of another member: the directory was changed.
    """
    if entry.offset >= 0:
        return entry.offset
    try:
        raw = os.pread(entry.file.fd, LOCAL.size + len(entry.name), entry.header)
    except OSError as error:
        raise failure(error, path) from error
    if len(raw) < LOCAL.size:
        raise damaged(path, "a member's header is cut off")
    sign, _, flags, method, _, crc, length, size, names, extras = LOCAL.unpack_from(raw)
    if sign != b"PK\3\4":
        raise damaged(path, "a member isn't where the directory says")
    # A program that streams a member writes CRC and sizes after the data; long ones are in an extra field.
    pairs = [(crc, entry.crc), (length, entry.length), (size, entry.size)]
    if (
        raw[LOCAL.size :] != entry.name
        or names != len(entry.name)
        or method != entry.method
        or (flags ^ entry.encrypted) & ENCRYPTED
        or (not flags & STREAMED and any(here not in (0, there, MAX32) for here, there in pairs))
    ):
        raise damaged(path, "a member's own header contradicts the directory")
    entry.offset = entry.header + LOCAL.size + names + extras
    return entry.offset


def refuse_overlaps(members: Iterable[Member], directory: Directory, path: str) -> None:
    """Refuse an archive whose members share bytes: a small one can be unpacked to terabytes."""
    spans = [(each.header, each.header + LOCAL.size + len(each.raw) + each.length) for each in members]
    spans.sort()
    end = 0
    for start, stop in spans:
        if start < end:
            raise damaged(path, "two of its members overlap")
        end = stop
    if end > directory.start:
        raise damaged(path, "a member reaches past the directory")


def decode_name(raw: bytes, flags: int, extra: bytes, maker: int) -> str:
    """A name as unzip reads it."""
    if raw.isascii():
        return raw.decode()
    if flags & UTF8:
        # What isn't UTF-8 becomes lone surrogates, which no key has.
        return raw.decode("utf-8", "surrogateescape")
    field = find_field(extra, _NAME)
    if field is not None and len(field) > 5 and int.from_bytes(field[1:5], "little") == zlib.crc32(raw):
        return field[5:].decode("utf-8", "surrogateescape")
    if maker in _UNIX:
        # Info-ZIP's zip writes names as the file system has them, which is UTF-8 nearly everywhere.
        try:
            return raw.decode()
        except UnicodeDecodeError:
            pass
    return raw.decode("cp437")


def find_field(extra: bytes, wanted: int) -> bytes | None:
    """The data of the first extra field of a kind."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = extra[at] | extra[at + 1] << 8, extra[at + 2] | extra[at + 3] << 8
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return None
