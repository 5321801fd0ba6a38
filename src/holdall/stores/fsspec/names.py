"""Where the file of a key lies, and which keys the files in the folders have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from holdall.blob import NOT_A_KEY, Info, LeftOut
from holdall.keys import is_key
from holdall.stores.fsspec.media import FILE, FOLDER, Found, Medium
from holdall.stores.spelling import PRIVATE, are_plain, is_plain, segment_of, spell_segment

DRAFTS = f"{PRIVATE}fsspec"
"""The folder of files that are being written."""

_TOO_LONG = "path too long for a key"
_HIDDEN = "second file for one key"


def info_of(key: str, found: Found) -> Info:
    """Return the info of a blob."""
    return Info(key, found.size, found.etag, found.modified)


def find_path(medium: Medium, fs: Any, base: str, key: str) -> str:
    """Return the path of a key's file; where another program may have spelled it literally, it is asked."""
    if len(key) < 256 and is_plain(key):
        return base + key
    path = base
    for segment in key.split("/"):
        names = spell_segment(segment)
        spelled = path + "/".join(names)
        if (
            names != [segment]
            and len(segment.encode()) < 256
            and segment_of([segment]) == segment
            and medium.look(fs, spelled) is None
            and medium.look(fs, path + segment) is not None
        ):
            spelled = path + segment
        path = f"{spelled}/"
    return path[:-1]


class _Level(NamedTuple):
    above: str
    """What the keys in the folder begin with."""
    folders: dict[str, str]
    """Their paths, by the keys that they begin, with a `/`."""
    files: dict[str, Found]
    left: dict[str, str]
    """What isn't a blob: its kind."""

    def names(self) -> list[str]:
        return sorted({*self.folders, *self.files, *self.left})


class Listing:
    """A walk through the folders.

    Args:
        names: Returns the names in a folder, and what they are.
        base: The folder of the store, with a `/` at its end, or nothing.
    """

    def __init__(self, names: Callable[[str], list[tuple[str, Found]]], base: str) -> None:
        self._names, self._base = names, base

    def walk(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        """Yield the blobs of a prefix whose keys sort past a key, in order, and what is left out."""
        return self._below("", self._base, prefix, after)

    def _below(self, above: str, folder: str, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        # A stack of levels rather than a recursion, since keys may have 500 segments.
        first = self._level(above, folder)
        stack = [(first, iter(first.names()))]
        while stack:
            level, rest = stack[-1]
            name = next(rest, None)
            if name is None:
                stack.pop()
            elif name in level.folders:
                if (name.startswith(prefix) or prefix.startswith(name)) and (
                    name > after or after.startswith(name)
                ):
                    inner = self._level(name, level.folders[name])
                    stack.append((inner, iter(inner.names())))
            elif name.startswith(prefix) and name > after:
                found = level.files.get(name)
                yield LeftOut(name, level.left[name]) if found is None else info_of(name, found)

    def children(self, prefix: str) -> Iterator[str | Info | LeftOut]:
        """Yield one level of the tree of keys: blobs, folders that hold any, and what is left out."""
        above = prefix[: prefix.rfind("/") + 1]
        level = _Level("", {"": self._base}, {}, {})
        for end in [0, *(at + 1 for at, char in enumerate(above) if char == "/")]:
            folder = level.folders.get(above[:end])
            if folder is None:
                return
            level = self._level(above[:end], folder)
        for name in level.names():
            if not name.startswith(prefix):
                continue
            if name in level.files:
                yield info_of(name, level.files[name])
            elif name in level.left:
                yield LeftOut(name, level.left[name])
            elif any(isinstance(each, Info) for each in self._below(name, level.folders[name], "", "")):
                yield name

    def _level(self, above: str, folder: str) -> _Level:
        level = _Level(above, {}, {}, {})
        entries = [entry for entry in self._names(folder) if not entry[0].startswith(PRIVATE)]
        if len(above.encode()) < 1024 - 255 and are_plain([name for name, _ in entries]):
            # A look at all names together, which are keys as they are.
            for name, found in entries:
                if found.kind == FILE:
                    level.files[above + name] = found
                elif found.kind == FOLDER:
                    level.folders[f"{above}{name}/"] = f"{folder}{name}/"
                else:
                    level.left[above + name] = found.kind
            return level
        for chain, path, found in self._entries(folder, entries, []):
            segment = segment_of(chain)
            if segment is None:
                shown = "/".join(chain).encode("utf-8", "backslashreplace").decode()
                level.left[above + shown] = NOT_A_KEY
                continue
            key = above + segment
            if not is_key(key):
                level.left[key] = _TOO_LONG if len(key.encode()) > 1024 else NOT_A_KEY
                continue
            own = spell_segment(segment) == chain
            if found.kind == FOLDER:
                if own or f"{key}/" not in level.folders:
                    level.folders[f"{key}/"] = f"{path}/"
            elif found.kind != FILE:
                level.left[key] = found.kind
            elif key in level.files and not own:
                level.left.setdefault(key, _HIDDEN)
            else:
                level.files[key] = found
        for key in level.files:
            level.left.pop(key, None)
        return level

    def _entries(
        self, folder: str, entries: list[tuple[str, Found]], chain: list[str]
    ) -> Iterator[tuple[list[str], str, Found]]:
        """Yield what is in a folder: its names, more than one for a segment that is too long for a name."""
        for name, found in entries:
            inner: list[tuple[str, Found]] = []
            if found.kind == FOLDER and name.endswith("%~"):
                inner = self._names(f"{folder}{name}/")
            if any(each.startswith("~") for each, _ in inner):
                yield from self._entries(f"{folder}{name}/", inner, [*chain, name])
            else:
                yield [*chain, name], f"{folder}{name}", found
