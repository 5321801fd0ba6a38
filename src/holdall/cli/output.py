"""Standard output as bytes, and how sizes, times and blobs are written for people and for programs."""

from __future__ import annotations

import errno
import os
import sys
from codecs import getincrementaldecoder
from collections.abc import Iterator
from datetime import datetime

from holdall.cli import streams
from holdall.cli.errors import OutputError, UsageFault
from holdall.store import Info


class Output:
    """Standard output: bytes as they are, text as UTF-8 in any locale.

    A terminal shows each line at once; a pipe gets them in blocks. Every failure is an `OutputError`, so that
    a reader that has ended isn't reported as a fault of the store.
    """

    def __init__(self) -> None:
        # A closed standard output fails when something is written to it: some commands print nothing.
        self._closed = streams.is_closed(1)
        self._buffer = sys.stdout.buffer
        self.empty = True
        self.terminal = sys.stdout.isatty()

    def write_chunks(self, chunks: Iterator[bytes], key: str, force: bool) -> None:
        """Write bytes, unless this is a terminal and they aren't text."""
        for chunk in for_terminal(chunks, key, self, force):
            self.write(chunk)

    def write(self, data: bytes) -> None:
        """Write bytes."""
        if self._closed:
            raise OutputError from OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.empty = False
        try:
            self._buffer.write(data)
            if self.terminal:
                self._buffer.flush()
        except OSError as error:
            raise OutputError from error

    def line(self, text: str, end: str = "\n") -> None:
        """Write a line."""
        self.write((text + end).encode(errors="backslashreplace"))


def for_terminal(chunks: Iterator[bytes], key: str, output: Output, force: bool) -> Iterator[bytes]:
    """Refuse to write binary bytes to a terminal: they change its settings, and nobody can read them."""
    first = next(chunks, b"")
    if output.terminal and not force and _is_binary(first):
        raise UsageFault(
            f"{key!r} isn't text: give --output FILE, pipe it into a program, or add --force to print it here"
        )
    yield first
    yield from chunks


def _is_binary(data: bytes) -> bool:
    try:
        # A character may be cut at the end of the chunk.
        text = getincrementaldecoder("utf-8")().decode(data[:65_536])
    except UnicodeDecodeError:
        return True
    return any(char < " " and char not in "\t\n\r\f\x1b" for char in text)


def flush() -> None:
    """Write what standard output still holds in its buffer, and raise if its disk is full."""
    try:
        sys.stdout.flush()
    except OSError as error:
        raise OutputError from error


def human(size: int) -> str:
    """Return a number of bytes as people say it, in powers of 1,000.

    >>> human(999), human(3_400_000), human(999_950)
    ('999 B', '3.4 MB', '1.0 MB')
    """
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} EB"


def exact(size: int) -> str:
    """Return a number of bytes as people say it, and the exact one where they differ.

    >>> exact(12), exact(3_412_345)
    ('12 B', '3.4 MB (3,412,345 bytes)')
    """
    return human(size) if size < 1000 else f"{human(size)} ({size:,} bytes)"


def amount(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> amount(1, "blob"), amount(1200, "blob")
    ('1 blob', '1,200 blobs')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def timestamp(moment: datetime) -> str:
    """Return a time in UTC, to the second (ISO 8601)."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def as_json(info: Info) -> dict[str, object]:
    """Return a blob's `Info` for `dumps`; times as ISO 8601."""
    return {
        "key": info.key,
        "size": info.size,
        "etag": info.etag,
        "modified": iso(info.modified),
        "content_type": info.content_type,
        "expires": None if info.expires is None else iso(info.expires),
    }


def dumps(value: object) -> str:
    """Return JSON on one line."""
    import json

    return json.dumps(value, ensure_ascii=False)


def iso(moment: datetime) -> str:
    """Return a time in ISO 8601."""
    return moment.isoformat().replace("+00:00", "Z")
