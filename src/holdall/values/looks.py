"""What bytes look like, for errors of those that can't be read."""

from __future__ import annotations

from typing import Final

from holdall.values.pickles import MAGIC

_KINDS: Final = (
    (MAGIC, "a signed pickle"),
    (b"hldtype1", "a typed value (serialization_mode='typed')"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"PK\x03\x04", "a zip archive"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "RIFF (WebP, WAV)"),
    (b"PAR1", "Parquet"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
)
_SHOWN: Final = 16


def describe_bytes(data: bytes) -> str:
    """Return what bytes look like, and how they begin.

    >>> describe_bytes(b'{"a": 1}'), describe_bytes(b"")
    ('8 bytes that look like JSON, beginning with b\\'{"a": 1}\\'', 'no bytes at all')
    """
    if not data:
        return "no bytes at all"
    count = "1 byte" if len(data) == 1 else f"{len(data):,} bytes"
    verb = "looks" if len(data) == 1 else "look"
    return f"{count} that {verb} like {_name_format(data)}, beginning with {data[:_SHOWN]!r}"


def _name_format(data: bytes) -> str:
    for magic, name in _KINDS:
        if data.startswith(magic):
            return name
    try:
        text = data[:4096].decode()
    except UnicodeDecodeError as error:
        # The cut may go through a character.
        if error.start < 4093 or len(data) <= 4096:
            return "nothing that is known here"
        text = data[: error.start].decode()
    if "\0" in text:
        return "nothing that is known here"
    return "JSON" if text.lstrip()[:1] in ("{", "[", '"') else "text"
