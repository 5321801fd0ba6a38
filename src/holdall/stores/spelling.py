"""How a key is spelled as a relative path on disk, reversibly.

Most keys are spelled as themselves. What some file system can't hold is escaped on all of them, so that a
folder may move: `%` and two capital hexadecimal digits stand for a byte, as in RFC 3986, section 2.1; a
segment too long for a file name goes on in a folder whose name ends in `%~`.
"""

from __future__ import annotations

import re

PRIVATE = ".holdall~"
"""How the names begin that are never blobs; the segments of keys that begin so are escaped."""

_LONGEST = 255
_CUT = 200
_MORE = "%~"

# A look at two letters is quicker than six alternatives, and a set of ranges than one with `\w`.
_DEVICE = r"(?=[aclnpACLNP][opruOPRU])(?i:con|prn|aux|nul|com\d|lpt\d)(?:[./]|\Z)"
_PORTABLE = rf"(?!{_DEVICE})[A-Za-z0-9_][A-Za-z0-9_.\-]*+(?<!\.)"
is_plain = re.compile(rf"{_PORTABLE}(?:/{_PORTABLE})*+", re.ASCII).fullmatch
"""Whether a key, if it is of at most 255 characters, is valid and spelled as itself on every disk.

It may reject such a key, but never accepts another one.
"""

is_small = re.compile(r"(?!(?:con|prn|aux|nul|com\d|lpt\d)\.)[a-z0-9_][a-z0-9_.\-]{3,}(?<!\.)").fullmatch
"""The same for one segment on a disk that is blind to case."""

# A device of Windows is taken whatever the extension, with superscript digits too:
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_device = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])[ ]*(?:\.|\Z)", re.I).match
_unsafe = re.compile(r'[/\\:*?"<>|]|%(?=[0-9A-F]{2}|~)').sub
_folds = re.compile(r"[A-Z]|[^\x00-\x7f]+").sub
_escaped = re.compile(r"(?:%[0-9A-F]{2})+").sub
_unit = re.compile(r"(?:%[0-9A-F]{2})+|.", re.DOTALL).findall


_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/"
_DEVICES = ("/con", "/prn", "/aux", "/nul", "/com", "/lpt")


def are_plain(names: list[str]) -> bool:
    """Whether all of these names are surely spelled as themselves: a look at all of them together costs a
    tenth of a match for each.

    >>> are_plain(["a.txt", "b"]), are_plain(["a.txt", "b:c"])
    (True, False)
    """
    text = f"/{'/'.join(names)}/"
    if not text.isascii() or text.encode().translate(None, _SAFE) or "./" in text:
        return False
    text = text.lower()
    return not any(device in text for device in _DEVICES)


def spell(key: str, fold: bool = False) -> str:
    """The relative path of a key.

    Args:
        key: A valid key.
        fold: Whether the disk is blind to case or to Unicode's normal forms: capitals and all that is not
            ASCII are then escaped too.

    >>> spell("logs/2026.txt"), spell("a:b/con.txt"), spell("Key", fold=True)
    ('logs/2026.txt', 'a%3Ab/%63on.txt', '%4Bey')
    """
    return "/".join(["/".join(spell_segment(segment, fold)) for segment in key.split("/")])


def spell_segment(segment: str, fold: bool = False) -> list[str]:
    """The names that stand for one segment of a key: one, or a chain of folders for a long one."""
    name = _unsafe(_escape, segment)
    if name[-1] in ". ":
        name = name[:-1] + _escape(name[-1])
    if _device(segment) or segment[: len(PRIVATE)].lower() == PRIVATE:
        name = _escape(name[0]) + name[1:]
    if fold:
        name = _folds(_escape, name) if "%" not in name else _fold_around(name)
    if len(name) <= _LONGEST and len(name.encode()) <= _LONGEST:
        return [name]
    return _chain(name)


def _escape(match: re.Match[str] | str) -> str:
    text = match if isinstance(match, str) else match[0]
    return "".join([f"%{byte:02X}" for byte in text.encode()])


def _fold_around(name: str) -> str:
    # The capital digits of escapes stay.
    return "".join(
        [unit if unit[0] == "%" and len(unit) > 1 else _folds(_escape, unit) for unit in _unit(name)]
    )


def _chain(name: str) -> list[str]:
    """Names of at most 200 bytes; all but the last end in `%~`, and all but the first begin with `~`, so
    that no piece is a name with a meaning of its own."""
    pieces: list[str] = []
    piece, size = "", 0
    for unit in re.findall(r"%[0-9A-F]{2}|.", name, re.DOTALL):
        length = len(unit.encode())
        if size + length > _CUT:
            pieces.append(piece)
            piece, size = "", 0
        piece += unit
        size += length
    pieces.append(piece)
    last = len(pieces) - 1
    return [
        ("~" if index else "") + piece + ("" if index == last else _MORE)
        for index, piece in enumerate(pieces)
    ]


def read_names(names: list[str]) -> str:
    """Return the key that a name, or a chain of them, stands for, whichever program spelled it.

    >>> read_names(["a%3Ab"])
    'a:b'
    """
    joined = names[0]
    if len(names) > 1:
        joined = joined[: -len(_MORE)]
        joined += "".join([name[1 : -len(_MORE)] for name in names[1:-1]]) + names[-1][1:]
    try:
        return _escaped(_unescape, joined)
    except UnicodeDecodeError:
        return joined


def segment_of(names: list[str], fold: bool = False) -> str | None:
    """The segment that a name, or a chain of them, is the spelling of. A name that `spell_segment` would not
    have made is taken literally; None if no segment is left for it.

    >>> segment_of(["a%3Ab"]), segment_of(["a%3ab"]), segment_of([".."])
    ('a:b', 'a%3ab', None)
    """
    segment = read_names(names)
    if spellable(segment) and spell_segment(segment, fold) == names:
        return segment
    return names[0] if len(names) == 1 and spellable(names[0]) else None


def _unescape(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("%", "")).decode()


spellable = re.compile(r"(?!\.{1,2}\Z)[^/\x00-\x1f\x7f-\x9f\ud800-\udfff]+").fullmatch
