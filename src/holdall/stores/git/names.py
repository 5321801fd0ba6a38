"""How a key is spelled as a path in a repository, reversibly: as `holdall.stores.spelling` has it, and so
that no name is one that git keeps for itself.

A segment that some system takes for `.git` (in capitals, `git~1` on NTFS, with code points that HFS+ ignores)
has its first character escaped.
"""

from __future__ import annotations

import re

from holdall.errors import InvalidKeyError
from holdall.keys import check_key
from holdall.stores.spelling import is_plain, read_names, spell_segment, spellable

__all__ = ["key_of", "path_of"]

# The code points that HFS+ leaves out of account, as git's own utf8.c lists them.
_ignored = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]").sub
_own = re.compile(r"(?:\.git|git~\d+)(?:[ .:].*)?", re.IGNORECASE | re.DOTALL).fullmatch


def _names(segment: str, fold: bool) -> list[str]:
    names = spell_segment(segment, fold)
    first = names[0]
    if _own(_ignored("", first)):
        names[0] = "".join([f"%{byte:02X}" for byte in first[0].encode()]) + first[1:]
    return names


def path_of(key: str, fold: bool = False) -> str:
    """The path of a valid key.

    >>> path_of("a/b.txt"), path_of(".git/config"), path_of("a:b")
    ('a/b.txt', '%2Egit/config', 'a%3Ab')
    """
    if len(key) < 256 and not fold and is_plain(key):
        return key
    path = "/".join(["/".join(_names(segment, fold)) for segment in key.split("/")])
    if len(path.encode()) > 3500:
        raise InvalidKeyError("the path of its file is too long for git", key=key)
    return path


def key_of(path: bytes, fold: bool = False) -> str | None:
    """The key that a path in a repository is the spelling of, whoever spelled it; None if it can be no key.

    >>> key_of(b"%2Egit/config"), key_of(b"what?"), key_of(bytes([255]))
    ('.git/config', 'what?', None)
    """
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return None
    if len(text) < 256 and not fold and is_plain(text):
        return text
    segments: list[str] = []
    names: list[str] = []
    parts = text.split("/")
    for number, name in enumerate(parts):
        names.append(name)
        if name.endswith("%~") and number < len(parts) - 1 and parts[number + 1].startswith("~"):
            continue
        segment = read_names(names)
        if not spellable(segment) or _names(segment, fold) != names:
            if not all(spellable(each) for each in names):
                return None
            segments += names
        else:
            segments.append(segment)
        names = []
    key = "/".join(segments)
    try:
        return check_key(key)
    except InvalidKeyError:
        return None
