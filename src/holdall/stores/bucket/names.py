"""The names of objects that keys have, and the keys that names have. On Azure some have other spellings.

Azure takes a backslash for a slash, may drop a dot at the end of a segment, and lists in XML, which lacks two
characters (https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata).
Keys with these have other spellings, which are also rclone's where that has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from holdall.blob import NOT_A_KEY, LeftOut
from holdall.errors import BlobNotFoundError, StoreUnavailableError
from holdall.keys import is_key
from holdall.stores.bucket.access import Access
from holdall.stores.bucket.clouds import AZURE
from holdall.stores.bucket.probe import is_probe

_QUOTE = "\u201b"
_SPELLINGS = {"\\": "\uff3c", ".": "\uff0e", "\ufffe": f"{_QUOTE}e", "\uffff": f"{_QUOTE}f"}
_MEANINGS = {spelling: meaning for meaning, spelling in _SPELLINGS.items()}
_awkward = re.compile(r"[\\\ufffe\uffff\uff3c\uff0e\u201b]|\.(?=/|\Z)")
_unsure = re.compile(r"[\\\ufffe\uffff\uff3c\uff0e\u201b.]")
_spelled = re.compile(r"\u201b.|[\uff3c\uff0e]", re.DOTALL)
_high = re.compile("[\\\\\u201b-\U0010ffff]")
_PAGE = 1000


class Names:
    """The names of the objects of a store.

    Args:
        access: The bucket.
        root: What all keys are below.
    """

    def __init__(self, access: Access, root: str) -> None:
        self._access = access
        self._spells = access.cloud is AZURE
        self.root = _spelling(root) if self._spells else root
        self._marked = False

    def of(self, key: str) -> str:
        """Return the name of a key."""
        return self.root + (_spelling(key) if self._spells else key)

    def to_write(self, key: str) -> str:
        """Return the name of a key that is about to be written."""
        name = self.of(key)
        if self._spells and not self._marked and name != self.root + key:
            self._access.ask("write", "put", self._mark, b"", use_multipart=False)
            self._marked = True
        return name

    @property
    def _mark(self) -> str:
        """An object that says that keys with other spellings were written: their names sort elsewhere, so
        that a listing is held in memory and sorted. No key has this name."""
        return self.root + _QUOTE

    def are_in_order(self) -> bool:
        """Return whether names sort as their keys do."""
        return not self._spells or not self._is_marked()

    def _is_marked(self) -> bool:
        if not self._marked:
            try:
                self._access.head(self._mark)
                self._marked = True
            except BlobNotFoundError:
                return False
        return True

    def listed(self, prefix: str, after: str) -> Iterator[tuple[str, Any] | LeftOut]:
        """Yield each key with what the server says of it, and what has no key, in order."""
        if any("\ud800" <= each <= "\udfff" for each in prefix):
            return
        if self._spells:
            yield from self._list_sorted(prefix, after)
            return
        begin, start = self.root + prefix, self.root + after if after else ""
        cut = len(self.root)
        for meta in self._access.list(begin, start):
            name = meta["path"]
            if not is_probe(name):
                key = name[cut:]
                yield (key, meta) if is_key(key) else _leave_out(key)

    def _entry(self, key: str, meta: Any) -> tuple[str, Any] | LeftOut:
        return (key, meta) if is_key(key) else _leave_out(key)

    def _list_sorted(self, prefix: str, after: str) -> Iterator[tuple[str, Any] | LeftOut]:
        # How a segment is spelled depends on how it ends.
        known = re.split("[\0-\x1f]", prefix, maxsplit=1)[0]
        end = known.rfind("/") + 1
        begin = self.root + _spelling(known[:end]) + _unsure.split(known[end:], maxsplit=1)[0]
        # All other spellings sort past the characters that are left.
        start = _high.split(after, maxsplit=1)[0]
        found = self._access.list(begin, self.root + start if start else "")
        first = list(islice(found, _PAGE))
        if len(first) < _PAGE or any(self._is_spelled(meta) for meta in first) or self._is_marked():
            entries = self._choose_entries(chain(first, found), prefix, after)
            yield from sorted(entries, key=_place)
        else:
            yield from self._choose_entries(self._check_unmarked(chain(first, found)), prefix, after)

    def _is_spelled(self, meta: Any) -> bool:
        """Return whether a key has this name as another spelling."""
        rest = meta["path"][len(self.root) :]
        key = _meaning(rest)
        return key != rest and _spelling(key) == rest

    def _check_unmarked(self, found: Iterable[Any]) -> Iterator[Any]:
        """Yield the same, while there are no other spellings. A program that doesn't know the mark, such as
        rclone, may have written some."""
        for meta in found:
            if self._is_spelled(meta):
                self._marked = True
                raise StoreUnavailableError(
                    f"{meta['path']!r} is the name of a key that sorts elsewhere, which nothing said before; "
                    "list again: from now on listings are sorted in memory"
                )
            yield meta

    def _choose_entries(
        self, found: Iterable[Any], prefix: str, after: str
    ) -> Iterator[tuple[str, Any] | LeftOut]:
        for meta in found:
            name = meta["path"]
            if is_probe(name) or name == self._mark:
                continue
            rest = name[len(self.root) :]
            key = _meaning(rest)
            # Another spelling of the same key would be another object.
            entry = self._entry(key, meta) if _spelling(key) == rest else _leave_out(rest)
            place = _place(entry)
            if place.startswith(prefix) and (place > after or not after):
                yield entry


def _leave_out(name: str) -> LeftOut:
    return LeftOut(name, NOT_A_KEY)


def _place(entry: tuple[str, Any] | LeftOut) -> str:
    return entry[0]


def _spelling(key: str) -> str:
    return _awkward.sub(lambda found: _SPELLINGS.get(found[0], _QUOTE + found[0]), key)


def _meaning(name: str) -> str:
    return _spelled.sub(lambda found: _MEANINGS.get(found[0], found[0][1:]), name)
