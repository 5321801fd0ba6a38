"""The lines of a journal: what they look like, and the difference of torn and damaged ones.

A line is its check in eight hexadecimal digits, a space, and JSON in ASCII. The check is the CRC-32 of the
JSON, continued from the check of the line before, so that a line that was moved, or that follows another
beginning, is seen. The first line names the main file that the journal belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast
from zlib import crc32

from holdall.errors import UnsupportedOperation

_VERSION: Final = 1


class Damaged(Exception):
    """A line that was written whole isn't what was written."""


class Header(NamedTuple):
    """The first line.

    Attributes:
        generation: The main file's.
        main: The size of the main file, and its CRC-32.
        follows: The generation before, and the size of its journal, all of which is in the main file.
    """

    generation: str
    main: tuple[int, int]
    follows: tuple[str, int]


class Line(NamedTuple):
    """A line: what it says, where the next one begins, and what its check continues."""

    content: Any
    end: int
    check: int


def line_of(text: bytes, check: int) -> tuple[bytes, int]:
    """Return a line, and its check."""
    check = crc32(text, check)
    return b"%08x %b\n" % (check, text), check


def header_line(header: Header) -> bytes:
    text = json.dumps({"journal": _VERSION, **header._asdict()}).encode()
    return line_of(text, 0)[0]


def lines(data: bytes, check: int) -> Iterator[Line]:
    """Yield the lines of a part of a journal, up to one that is torn: its writer was killed while it wrote,
    or is writing still.

    Args:
        data: The part, from the beginning of a line.
        check: The check of the line before.

    Raises:
        Damaged: A line isn't what was written.
    """
    at = 0
    while (end := data.find(b"\n", at)) >= 0:
        text = data[at + 9 : end]
        check = crc32(text, check)
        if data[at : at + 9] != b"%08x " % check:
            if end + 1 == len(data) and b"\0" in data[at:end]:
                # The power failed, and a block of the last line isn't on the disk.
                return
            raise Damaged
        at = end + 1
        yield Line(json.loads(text), at, check)


def read_header(data: bytes, path: str) -> tuple[Header, Line] | None:
    """Return the first line of a journal, or None if it isn't there, or torn.

    Raises:
        Damaged: It isn't what was written.
        UnsupportedOperation: A newer version of holdall wrote it.
    """
    for line in lines(data, 0):
        found = cast(dict[str, Any], line.content)
        if found.get("journal") != _VERSION:
            raise UnsupportedOperation(
                f"{path!r} has version {found.get('journal')!r} of the format, and this holdall reads "
                f"version {_VERSION}; nothing was changed: install a newer holdall"
            )
        size, crc = found["main"]
        before, length = found["follows"]
        return Header(found["generation"], (size, crc), (before, length)), line
    return None
