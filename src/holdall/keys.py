"""The rules for keys, and how prefixes and globs select keys."""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import cast

from holdall.errors import InvalidArgumentError, InvalidKeyError, InvalidKeyTypeError, InvalidTypeError

__all__ = [
    "MAX_KEY_BYTES",
    "check_key",
    "check_prefix",
    "escape",
    "glob_prefix",
    "matcher",
    "past",
    "scan_range",
    "unescape",
]

MAX_KEY_BYTES = 1024
"""The longest key, in UTF-8 bytes: as long as S3 takes."""

_LAST = "\U0010ffff" * (MAX_KEY_BYTES // 4)

_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f-\x9f\ud800-\udfff]+"
_KEY = rf"{_SEGMENT}(?:/{_SEGMENT})*"  # compiled by the first key that needs it, which takes a while


def check_key(key: object) -> str:
    """Return the key itself if it is valid.

    A key is a non-empty str of at most 1,024 UTF-8 bytes, whose segments between slashes are neither empty
    nor `.` or `..`, without control characters (Unicode's category Cc, NUL among them) or lone surrogates.

    Raises:
        InvalidKeyError: It isn't valid; the message says why. For an object that isn't a str, it is a
            `TypeError` too.

    >>> check_key("run-7/weights")
    'run-7/weights'
    >>> check_key("../etc/passwd")
    Traceback (most recent call last):
    holdall.errors.InvalidKeyError: '../etc/passwd': a key has no segment '..'
    """
    if type(key) is str:
        # What nearly every key is, in half the time of the match: printable, with no segment that could be
        # empty or begin with a dot.
        if (
            0 < len(key) <= MAX_KEY_BYTES // 4
            and key.isprintable()
            and key[0] not in "./"
            and ("/" not in key or ("//" not in key and "/." not in key and key[-1] != "/"))
        ):
            return key
        # A character takes at most four bytes, so that short keys need no encoding to be measured.
        if re.fullmatch(_KEY, key) and (len(key) <= MAX_KEY_BYTES // 4 or len(key.encode()) <= MAX_KEY_BYTES):
            return key
        raise InvalidKeyError(_fault(key), key=key)
    if isinstance(key, str):
        return check_key(str.__str__(key))
    raise InvalidKeyTypeError(f"a key must be a str, not {type(key).__name__}{_hint(key)}")


def is_utf8(text: str) -> bool:
    """Return whether UTF-8 can spell a str: it has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_key(text: str) -> bool:
    """Return whether a str is a valid key."""
    try:
        check_key(text)
    except InvalidKeyError:
        return False
    return True


def _hint(key: object) -> str:
    if isinstance(key, os.PathLike):
        return "; write path.as_posix()"
    if isinstance(key, bytes | bytearray | memoryview):
        return "; decode it, and mind the order: put(key, data)"
    if key is None or isinstance(key, int | float | tuple):
        return ""
    if hasattr(key, "iterate_keys"):
        return "; copy_store(source, target) copies from one store to another"
    return "; the key is the first argument"


def _fault(key: str) -> str:
    if not key:
        return "a key has at least one character"
    if key.startswith("/") or key.endswith("/"):
        return "a key neither starts nor ends with '/'"
    for segment in key.split("/"):
        if not segment:
            return "a key has no empty segment ('//')"
        if segment in (".", ".."):
            return f"a key has no segment {segment!r}"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "a key has no lone surrogates"
    if size > MAX_KEY_BYTES:
        return f"a key has at most {MAX_KEY_BYTES} UTF-8 bytes, this one {size}"
    return "a key has no control characters"


def check_prefix(prefix: object) -> str:
    """Return the prefix as a str; `None` is the empty one. Any str is a prefix, if only of no key."""
    if prefix is None:
        return ""
    if isinstance(prefix, str):
        return str.__str__(prefix)
    raise InvalidTypeError(f"a prefix must be a str, not {type(prefix).__name__}")


def past(prefix: str) -> str:
    """Return the end of a prefix: all keys with this prefix sort before it, and every later key after it.

    >>> "a/zzz" < past("a/") < "a0"
    True
    """
    return prefix + _LAST


def positions(keys: Sequence[str], prefix: str, after: str) -> range:
    """Return where the keys of a prefix past a key stand among sorted ones.

    >>> positions(["a", "b/c", "b/d", "e"], "b/", "b/c")
    range(2, 3)
    """
    first = max(bisect_left(keys, prefix), bisect_right(keys, after))
    return range(first, bisect_right(keys, past(prefix)) if prefix else len(keys))


def glob_prefix(glob: str) -> str:
    """Return the literal text that every match of the glob starts with.

    >>> glob_prefix("logs/2026-*/x")
    'logs/2026-'
    """
    return re.split(r"[*?\[]", glob, maxsplit=1)[0]


def matcher(glob: str) -> Callable[[str], object]:
    """Return a predicate that reports whether a whole key matches the glob.

    As in `pathlib` and fsspec: `*` and `?` stay inside a segment, `**` as a whole segment crosses any number
    of them, none included, `[abc]` and `[!abc]` are sets.

    >>> [bool(matcher("**/*.pdf")(key)) for key in ("a.pdf", "x/y/a.pdf", "a.txt")]
    [True, True, False]
    """
    if not isinstance(glob, str):
        raise InvalidTypeError(f"a glob must be a str, not {type(glob).__name__}")
    *above, last = _groups(glob)
    # The text between two `**` is matched where it first occurs, without going back: as good as any other
    # place, and what keeps the time linear.
    pattern = "".join([*above[:1], *(f"(?>{_FOLDERS}?{group})" for group in above[1:] if group)])
    if above:
        pattern += _FOLDERS if last else ".*"
    return re.compile(pattern + last, re.DOTALL).fullmatch


_FOLDERS = "(?:[^/]+/)*"


def _groups(glob: str) -> list[str]:
    """Return the patterns between the `**` of a glob; all but the last end in `/`, unless empty."""
    groups = [""]
    *folders, name = glob.split("/")
    for folder in folders:
        if folder == "**":
            groups.append("")
        else:
            groups[-1] += _segment_pattern(folder) + "/"
    if name == "**":
        groups.append("")
    else:
        groups[-1] += _segment_pattern(name)
    return groups


def _segment_pattern(segment: str) -> str:
    """Return the pattern of a segment; as above, the text after a `*` is matched where it first occurs."""
    pieces, index = [""], 0
    while index < len(segment):
        char = segment[index]
        index += 1
        if char == "*":
            pieces.append("")
        elif char == "?":
            pieces[-1] += "[^/]"
        elif char == "[":
            # As in fnmatch, a `]` that comes first belongs to the set, and a set never closed is a `[`.
            first = index + (segment[index : index + 1] == "!")
            end = segment.find("]", first + 1)
            if end < 0:
                pieces[-1] += r"\["
                continue
            pieces[-1] += f"(?!/)[{'^' if first > index else ''}{_set(segment[first:end])}]"
            index = end + 1
        else:
            pieces[-1] += re.escape(char)
    first, *rest = pieces
    if not rest:
        return first
    *middle, last = rest
    return first + "".join([f"(?>[^/]*?{piece})" for piece in middle if piece]) + f"[^/]*{last}"


def _set(body: str) -> str:
    """Return the text between the brackets of a set, for `re`."""
    pattern, index = "", 0
    while index < len(body):
        low, dash, high = body[index], body[index + 1 : index + 2], body[index + 2 : index + 3]
        if dash == "-" and high:
            if low > high:
                raise InvalidArgumentError(
                    f"the glob has a bad set [{body}]: {low}-{high} ends before it begins"
                )
            pattern += f"{re.escape(low)}-{re.escape(high)}"
            index += 3
        else:
            pattern += re.escape(low)
            index += 1
    return pattern


def scan_range(prefix: str | None, glob: str | None) -> tuple[str, str, Callable[[str], object] | None]:
    """Return a prefix to scan, where to begin, and a condition that each key must meet."""
    prefix = check_prefix(prefix)
    if glob is None:
        return prefix, "", None
    matches = matcher(glob)
    literal = glob_prefix(glob)
    if literal.startswith(prefix):
        return literal, "", matches
    if prefix.startswith(literal):
        return prefix, "", matches
    return prefix, past(prefix), matches


# What a segment can't have, and the escape itself.
_ESCAPED = re.compile(r"[%/\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ESCAPES = re.compile(r"(?:%[0-9A-F]{2})+")


def escape(text: str) -> str:
    """Return any str as one segment of a key, which `unescape` turns back.

    `%`, `/`, control characters and lone surrogates become `%` and two digits for each byte of their UTF-8
    (RFC 3986, section 2.1), as does the first character of `.` and `..`; the empty str becomes `%`. Different
    texts have different segments. A segment may still be too long: a key has at most 1,024 UTF-8 bytes.

    >>> escape("50% of a/b"), escape(".."), escape(""), escape("déjà vu")
    ('50%25 of a%2Fb', '%2E.', '%', 'déjà vu')
    """
    if not isinstance(cast(object, text), str):
        raise InvalidTypeError(f"escape must be given a str, not {type(text).__name__}")
    if text in ("", ".", ".."):
        return "%2E" + text[1:] if text else "%"
    return _ESCAPED.sub(_percent, text)


def _percent(found: re.Match[str]) -> str:
    return "".join([f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass")])


def unescape(segment: str) -> str:
    """Return the text that `escape` made a segment of.

    Raises:
        InvalidArgumentError: `escape` returns no such segment.

    >>> unescape("50%25 of a%2Fb"), unescape("%2E."), unescape("%")
    ('50% of a/b', '..', '')
    """
    if not isinstance(cast(object, segment), str):
        raise InvalidTypeError(f"unescape must be given a str, not {type(segment).__name__}")
    text = ""
    try:
        if segment != "%":
            text = _ESCAPES.sub(lambda found: _bytes_of(found[0]).decode("utf-8", "surrogatepass"), segment)
    except UnicodeDecodeError:
        pass
    if escape(text) != segment:
        raise InvalidArgumentError(f"escape makes no such segment: {segment!r:.80}")
    return text


def _bytes_of(escapes: str) -> bytes:
    return bytes.fromhex(escapes.replace("%", ""))
