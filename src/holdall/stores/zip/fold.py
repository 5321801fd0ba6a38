"""A new archive: what stays of the old one, byte for byte, what the journal holds, and the directory."""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from functools import lru_cache

from holdall.ranges import CHUNK
from holdall.stores.local import copy_range, write_at
from holdall.stores.zip import archive
from holdall.stores.zip.archive import MAX16, MAX32, Member, read_members
from holdall.stores.zip.entry import CHECKED, Entry, File, encode_type
from holdall.stores.zip.view import View

_LONG = MAX32
"""From here on a size or an offset is written with 64 bits, and its field of 32 says so by `MAX32`."""
_PLAIN, _WITH_64 = 20, 45
"""The version of zip that a reader needs."""
_MADE_ON_UNIX = 3 << 8
"""So that the mode below counts."""
_LAST = 4354732800.0
"""2107-12-31 in UTC: a zip knows no later year."""
_TIME = struct.Struct("<HHBI")
_FIELD = struct.Struct("<HH")
_MODE = (stat.S_IFREG | 0o644) << 16


def write_archive(view: View, path: str, fd: int) -> None:
    """Write what a view of the archive at `path` shows to a new file, which is empty."""
    new = _NewArchive(fd)
    if view.archive is not None:
        new.keep(view.archive, view, list(read_members(view.archive, view.directory, path)))
    for key, entry in view.entries.items():
        if entry.file is not view.archive:
            new.add(key, entry)
    new.finish(view.directory.comment)


class _NewArchive:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0
        self._buffer = bytearray()
        self._directory: list[bytes] = []

    def keep(self, old: File, view: View, members: list[Member]) -> None:
        """Copy the members that the journal neither replaced nor deleted, with what lies before the first: a
        program that unpacks the archive."""
        starts = sorted({member.header for member in members})
        end = view.directory.start
        stops = dict(zip(starts, [*starts[1:], end], strict=bool(starts)))
        kept = [member for member in members if _stays(member, old, view)]
        first = starts[0] if starts else end
        self._copy(old, 0, first)
        moved: dict[int, int] = {}
        run_start = run_stop = first
        for header in sorted({member.header for member in kept}):
            if header != run_stop:
                self._copy(old, run_start, run_stop - run_start)
                run_start = header
            moved[header] = self._at + header - run_start
            run_stop = stops[header]
        self._copy(old, run_start, run_stop - run_start)
        self._directory = [_relocate(member, moved[member.header]) for member in kept]

    def add(self, key: str, entry: Entry) -> None:
        """Write a blob of the journal as a member."""
        name = key.encode()
        at = self._at
        size, length, long, needs = entry.size, entry.length, b"", _PLAIN
        if size >= _LONG or length >= _LONG:
            # In a local header the two go together (APPNOTE, 4.5.3).
            long = b"".join(each.to_bytes(8, "little") for each in (size, length))
            size, length, needs = MAX32, MAX32, _WITH_64
        flags = 0 if key.isascii() else archive.UTF8
        moment = _dos_time(int(min(max(entry.written, archive.EPOCH), _LAST)))
        facts = flags, entry.method, moment, entry.crc, length, size, len(name)
        extra = b""
        if 0 <= entry.written < 1 << 31:
            extra = _TIME.pack(archive.TIME, 5, 1, int(entry.written))
        local = _field(archive.ZIP64, long) + extra if long else extra
        self._write(b"".join((archive.LOCAL.pack(b"PK\3\4", needs, *facts, len(local)), name, local)))
        self._copy(entry.file, entry.offset, entry.length)
        if at >= _LONG:
            long += at.to_bytes(8, "little")
            at, needs = MAX32, _WITH_64
        if long:
            extra = _field(archive.ZIP64, long) + extra
        extra += _stamp(entry)
        made = _MADE_ON_UNIX | needs, needs
        record = archive.CENTRAL.pack(b"PK\1\2", *made, *facts, len(extra), 0, 0, _MODE, at)
        self._directory.append(b"".join((record, name, extra)))

    def finish(self, comment: bytes) -> None:
        """Write the directory and the end."""
        start = self._at
        for record in self._directory:
            self._write(record)
        length, end64 = self._at - start, self._at
        number = len(self._directory)
        if number >= MAX16 or length >= _LONG or start >= _LONG:
            needs, counts = (_WITH_64, _WITH_64), (0, 0, number, number)
            self._write(archive.END64.pack(b"PK\6\6", 44, *needs, *counts, length, start))
            self._write(archive.LOCATOR.pack(b"PK\6\7", 0, end64, 1))
        number, length, start = min(number, MAX16), min(length, MAX32), min(start, MAX32)
        self._write(archive.END.pack(b"PK\5\6", 0, 0, number, number, length, start, len(comment)) + comment)
        self._flush()

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
            copy_range(source.fd, offset, self._fd, self._at, length)
            self._at += length

    def _flush(self) -> None:
        write_at(self._fd, self._buffer, self._at - len(self._buffer))
        self._buffer = bytearray()


def _stays(member: Member, old: File, view: View) -> bool:
    if member.left_out() is not None:
        return True
    entry = view.entries.get(member.name)
    return entry is not None and entry.header == member.header and entry.file is old


def _relocate(member: Member, header: int) -> bytes:
    """The record of the directory for a member whose header is elsewhere now."""
    record = member.record
    if header < _LONG and record[42:46] != b"\xff\xff\xff\xff":
        return b"".join((record[:42], header.to_bytes(4, "little"), record[46:]))
    values = list(archive.CENTRAL.unpack_from(record))
    long = [value for value, field in ((member.size, 8), (member.length, 7)) if values[field] == MAX32]
    data = b"".join(value.to_bytes(8, "little") for value in (*long, header))
    extra = _field(archive.ZIP64, data) + _without(member.extra, archive.ZIP64)
    comment = record[archive.CENTRAL.size + len(member.raw) + len(member.extra) :]
    values[2], values[10], values[14] = max(values[2], _WITH_64), len(extra), MAX32
    return b"".join((archive.CENTRAL.pack(*values), member.raw, extra, comment))


def _stamp(entry: Entry) -> bytes:
    """Our own extra field for a blob."""
    stamp = archive.STAMP.pack(bytes.fromhex(entry.etag), entry.written, entry.crc, entry.size)
    return _field(archive.OURS, stamp + encode_type(entry.content_type))


@lru_cache(16)
def _dos_time(written: int) -> int:
    """A time as the records have it: local, in steps of two seconds."""
    year, month, day, hour, minute, second = time.localtime(written)[:6]
    date = (year - 1980) << 9 | month << 5 | day
    return date << 16 | hour << 11 | minute << 5 | min(second, 59) >> 1


def _field(kind: int, data: bytes) -> bytes:
    """An extra field."""
    return _FIELD.pack(kind, len(data)) + data


def _without(extra: bytes, unwanted: int) -> bytes:
    """The extra fields but those of a kind."""
    at, kept = 0, b""
    while at + 4 <= len(extra):
        kind, length = _FIELD.unpack_from(extra, at)
        if kind != unwanted:
            kept += extra[at : at + 4 + length]
        at += 4 + length
    return kept + extra[at:]
