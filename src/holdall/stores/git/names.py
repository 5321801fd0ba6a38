"""How a key is spelled as a path in a repository, reversibly: as `holdall.stores.spelling` has it, and so
that no name is one that git keeps for itself.

A segment that some system takes for `.git` (in capitals, `git~1` on NTFS, with code points that HFS+ ignores)
has its first character escaped; so has one that is taken for `.gitmodules`, in which git wants no other bytes
than its own, and for a folder `.gitattributes`, where it wants a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import AnyStr

from holdall.errors import InvalidKeyError
from holdall.keys import check_key
from holdall.stores.spelling import is_plain, read_names, spell_segment, spellable

# The code points that HFS+ leaves out of account, as git's own utf8.c lists them.
_ignored = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]").sub
_flags = re.IGNORECASE | re.DOTALL
_own = re.compile(r"(?:\.git|git~\d+)(?:[ .:].*)?", _flags).fullmatch
# What `git fsck` takes for these files, by their short names on NTFS too.
_modules = re.compile(
    r"(?:\.gitmodules|gitmod~[1-4]|(?=.{8}\Z)g?i?7?e?b?a?~[1-9]\d*)[ .]*(?::.*)?", _flags
).fullmatch
_attributes = re.compile(
    r"(?:\.gitattributes|gitatt~[1-4]|(?=.{8}\Z)g?i?7?d?2?9?~[1-9]\d*)[ .]*(?::.*)?", _flags
).fullmatch
# What git refuses to check out: see `verify_path` in its read-cache.c.
_refused = re.compile(r"(?:\.git|git~1)[ .]*(?::.*)?", _flags).fullmatch


def folders_of(path: AnyStr, slash: AnyStr) -> Iterator[AnyStr]:
    """Yield the folders that a path is in, the outermost first.

    >>> list(folders_of("a/b/c", "/"))
    ['a', 'a/b']
    """
    end = path.find(slash)
    while end > 0:
        yield path[:end]
        end = path.find(slash, end + 1)


def is_allowed(path: bytes) -> bool:
    """Return whether a path in a tree may be a file of a work tree. The tree may be malicious.

    >>> is_allowed(b"a/.gitignore"), is_allowed(b".git/hooks/x"), is_allowed(b"../x"), is_allowed(b"/x")
    (True, False, False, False)
    """
    text = path.decode(errors="surrogateescape")
    if any(name in ("", ".", "..") for name in text.split("/")):
        return False
    return not any(map(_refused, _ignored("", text).replace("\\", "/").split("/")))


def _names(segment: str, fold: bool, last: bool) -> list[str]:
    names = spell_segment(segment, fold)
    first = _ignored("", names[0])
    if _own(first) or _modules(first) or (not last and _attributes(first)):
        first = names[0]
        names[0] = "".join([f"%{byte:02X}" for byte in first[0].encode()]) + first[1:]
    return names


def path_of(key: str, fold: bool = False) -> str:
    """The path of a valid key.

    >>> path_of("a/b.txt"), path_of(".git/config"), path_of("a:b")
    ('a/b.txt', '%2Egit/config', 'a%3Ab')
    """
    if len(key) < 256 and not fold and is_plain(key):
        return key
    segments = key.split("/")
    last = len(segments) - 1
    names = [_names(segment, fold, number == last) for number, segment in enumerate(segments)]
    path = "/".join(["/".join(each) for each in names])
    if len(path.encode()) > 3500:
        raise InvalidKeyError("the path of its file is too long for git", key=key)
    return path


def key_of(path: bytes, fold: bool = False) -> str | None:
    """Return the key that a path in a repository spells, whichever program spelled it; None if it isn't
    valid.

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
        if not spellable(segment) or _names(segment, fold, number == len(parts) - 1) != names:
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
