"""The index of a work tree, read and written: which files git tracks, and what it knows of each.

The format is that of git's `Documentation/gitformat-index.txt`, versions 2 to 4 for reading, 2 and 3 for
writing. The optional extensions, which only save git time, are left out of what is written.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from holdall.errors import IntegrityError, KeyConflictError, UnsupportedOperation
from holdall.store import LeftOut
from holdall.stores.git.names import folders_of, key_of, path_of
from holdall.stores.git.rows import Parts, Rows

_EXTENDED = 0x4000


class Entry(NamedTuple):
    """A file that git tracks."""

    path: str
    oid: bytes
    mode: int
    mtime: int
    """In nanoseconds; with the next two fields it shows whether the file has changed."""
    inode: int
    size: int
    skip: bool = False
    """Whether git leaves it out of the work tree (a sparse checkout)."""
    unmerged: bool = False
    """Whether a merge, a rebase, a stash or the like left it in conflict: git has several versions of it."""

    def is_clean(self, found: os.stat_result) -> bool:
        """Whether a file is the one that git knows."""
        return (
            found.st_mtime_ns == self.mtime
            and found.st_size & 0xFFFFFFFF == self.size
            and found.st_ino & 0xFFFFFFFF == self.inode
        )


class Index:
    """The contents of an index file. They never change: `changed` makes another."""

    def __init__(
        self,
        rows: Rows,
        entries: Parts[Entry],
        extended: bool = False,
        unmerged: bool = False,
        left: Sequence[LeftOut] = (),
    ) -> None:
        self.signature: tuple[int, int, int] | None = None
        """Of the file that it was read from: time, inode, size."""
        self._rows = rows
        self.entries = entries
        """By key."""
        self.extended = extended
        """Whether an entry may have more flags than version 2 knows."""
        self.unmerged = unmerged
        self.by_git = False
        """Whether git wrote it, which adds extensions."""
        self.left = left
        """Tracked entries that can't be blobs, in the order of the paths."""
        self._keys: list[str] | None = None
        self._converts: bool | None = None

    @property
    def keys(self) -> list[str]:
        """Sorted."""
        if self._keys is None:
            self._keys = sorted(self.entries)
        return self._keys

    @property
    def has_attributes(self) -> bool:
        """Whether a tracked `.gitattributes` may convert what git keeps."""
        if self._converts is None:
            self._converts = any(path.endswith(b".gitattributes") for path in self._rows.paths_from(b""))
        return self._converts

    def mode_and_oid(self, path: bytes, width: int) -> tuple[bytes, bytes] | None:
        """Return the mode and object of a path, as in a tree; None if it isn't tracked."""
        raw = self._rows.get(path)
        if raw is None:
            return None
        return b"%o" % int.from_bytes(raw[24:28], "big"), raw[40 : 40 + width]

    def has(self, path: bytes) -> bool:
        """Whether a path is tracked."""
        return self._rows.get(path) is not None

    def changed(self, changes: Mapping[bytes, tuple[int, bytes, os.stat_result] | None], fold: bool) -> Index:
        """This index with other entries: a mode, an object and a file's stat(2); None for none."""
        entries: dict[str, Entry | None] = {}
        raws: list[tuple[bytes, bytes | None]] = []
        # A stable sort: what goes makes room for what comes.
        for path, change in sorted(changes.items(), key=lambda item: item[1] is not None):
            key = key_of(path, fold)
            if change is None:
                raws.append((path, None))
                known = None if key is None else self.entries.get(key)
                if key is not None and known is not None and known.path.encode() == path:
                    entries[key] = None
                continue
            raw, entry = _pack(path, *change)
            raws.append((path, raw))
            if key is not None and entry.mode != 0o120000:
                entries[key] = entry
        rows, parts = self._rows.changed(raws), self.entries.changed(entries)
        made = Index(rows, parts, self.extended, self.unmerged, left=self.left)
        if not any(path.endswith(b".gitattributes") for path in changes):
            made._converts = self._converts
        return made

    def check_room(self, path: bytes, gone: Mapping[bytes, object]) -> None:
        """Refuse a path where a blob is in the way that stays.

        Raises:
            KeyConflictError: The path is below a blob, or blobs are below it.
        """
        for above in folders_of(path, b"/"):
            if above not in gone and self.has(above):
                raise KeyConflictError(
                    f"{os.fsdecode(above)!r} is a blob; a work tree can't hold blobs below it too"
                )
        folder = path + b"/"
        below = takewhile(lambda each: each.startswith(folder), self._rows.paths_from(folder))
        if any(each not in gone for each in below):
            raise KeyConflictError("blobs lie below it, and a work tree can't hold both")

    def packed(self, algorithm: str) -> list[bytes]:
        """Return the bytes of the file, in pieces."""
        at = 60 + _wide(algorithm)
        version = 3 if self.extended and any(raw[at] & 0x40 for raw in self._rows.raws) else 2
        return self._rows.packed(struct.pack(">4sII", b"DIRC", version, len(self._rows)), algorithm)


def _wide(algorithm: str) -> int:
    return 0 if algorithm == "sha1" else 12


def _pack(path: bytes, mode: int, oid: bytes, found: os.stat_result) -> tuple[bytes, Entry]:
    mtime, ctime = found.st_mtime_ns, found.st_ctime_ns
    inode, size = found.st_ino & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF
    raw = (
        struct.pack(
            ">10I",
            *(ctime // 1_000_000_000 & 0xFFFFFFFF, ctime % 1_000_000_000),
            *(mtime // 1_000_000_000 & 0xFFFFFFFF, mtime % 1_000_000_000),
            *(found.st_dev & 0xFFFFFFFF, inode, mode),
            *(found.st_uid & 0xFFFFFFFF, found.st_gid & 0xFFFFFFFF, size),
        )
        + oid
        + min(len(path), 0xFFF).to_bytes(2, "big")
        + path
    )
    raw += b"\0" * (8 - len(raw) % 8)
    return raw, Entry(os.fsdecode(path), oid, mode, mtime, inode, size)


EMPTY = Index(Rows([]), Parts[Entry].of({}))

_DAMAGED = (
    "the index of the repository is damaged ({}): move the file away and run `git reset`, which makes a new "
    "one of the last commit"
)
LINK, MODULE, UNSPELLABLE, DOUBLE = (
    "symbolic link",
    "submodule",
    "name that can't be a key",
    "second spelling of a key",
)
_KINDS = {0o120000: LINK, 0o160000: MODULE}


def kind_of(mode: int, key: str | None) -> str | None:
    """Why what git tracks can't be a blob; None if it can be one.

    Args:
        mode: As git keeps it.
        key: The key of its path, if it can be one.
    """
    if mode & 0o170000 != 0o100000:
        return _KINDS.get(mode & 0o170000, f"entry of mode {mode:o}")
    return UNSPELLABLE if key is None else None


def read_index(path: str, algorithm: str, fold: bool) -> Index:
    """The index in a file; empty if there is none.

    Raises:
        IntegrityError: The file is damaged.
        UnsupportedOperation: It is of a kind that only git reads.
    """
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            content = file.read()
    except FileNotFoundError:
        return EMPTY
    width = 20 + _wide(algorithm)
    if len(content) < 12 + width or content[:4] != b"DIRC":
        raise IntegrityError(_DAMAGED.format("it doesn't begin with DIRC"))
    # With index.skipHash git writes zeros.
    end = len(content) - width
    if any(content[end:]) and hashlib.new(algorithm, content[:end]).digest() != content[end:]:
        raise IntegrityError(_DAMAGED.format("its checksum is wrong"))
    version = int.from_bytes(content[4:8], "big")
    if version not in (2, 3, 4):
        raise UnsupportedOperation(
            f"the index has version {version}, which only git can read: run `git update-index "
            "--index-version 2`"
        )
    try:
        at, made = _entries(content, width, fold)
        by_git = _check_extensions(content, at, end)
    except (struct.error, ValueError, IndexError) as error:
        raise IntegrityError(_DAMAGED.format(error)) from error
    made.by_git = by_git
    made.signature = found.st_mtime_ns, found.st_ino, found.st_size
    return made


def _entries(content: bytes, width: int, fold: bool) -> tuple[int, Index]:
    """The entries of an index, and where they end."""
    version, count = struct.unpack_from(">II", content, 4)
    head = struct.Struct(f">10I{width}sH")
    paths: list[bytes] = []
    raws: list[bytes] = []
    entries: dict[str, Entry] = {}
    left: list[LeftOut] = []
    at, before = 12, b""
    unmerged = extended = False
    for _ in range(count):
        begin = at
        _, _, seconds, nanoseconds, _, inode, mode, _, _, size, oid, flags = head.unpack_from(content, at)
        at += head.size
        more = 0
        if flags & _EXTENDED and version >= 3:
            more = int.from_bytes(content[at : at + 2], "big")
            at += 2
            extended = True
        if version == 4:
            name, after = _shared_name(content, at, before)
            raw = content[begin:at] + name
            raw += b"\0" * (8 - len(raw) % 8)
        else:
            length = flags & 0xFFF
            end = at + length if length < 0xFFF else content.index(b"\0", at)
            name, after = content[at:end], begin + ((end - begin) // 8 + 1) * 8
            raw = content[begin:after]
        at = after
        again = name == before
        before = name
        paths.append(name)
        raws.append(raw)
        in_conflict = bool(flags & 0x3000)
        unmerged |= in_conflict
        key = key_of(name, fold)
        kind = kind_of(mode, key)
        if kind is not None or key is None:
            if not again:
                left.append(LeftOut(key or os.fsdecode(name), kind or UNSPELLABLE))
            continue
        if key in entries and entries[key].path != os.fsdecode(name):
            # The spelling of our own hides a literal one.
            ours = path_of(key, fold).encode() == name
            left.append(LeftOut(entries[key].path if ours else os.fsdecode(name), DOUBLE))
            if not ours:
                continue
        if in_conflict:
            # Its file is read as one that a person edits is: no time is that of a clean one.
            entries[key] = Entry(os.fsdecode(name), oid, mode, -1, -1, -1, unmerged=True)
            continue
        moment = seconds * 1_000_000_000 + nanoseconds
        skip = bool(more & 0x4000)
        entries[key] = Entry(os.fsdecode(name), oid, mode, moment, inode, size, skip)
    if at > len(content):
        raise ValueError("it ends within an entry")
    left.sort()
    return at, Index(Rows.of(paths, raws), Parts[Entry].of(entries), extended, unmerged, left=left)


def _shared_name(content: bytes, at: int, before: bytes) -> tuple[bytes, int]:
    """A name that says how much of the end of the one before it goes, and what comes instead; its end."""
    cut, at = _varint(content, at)
    end = content.index(b"\0", at)
    return before[: len(before) - cut] + content[at:end], end + 1


def _check_extensions(content: bytes, at: int, end: int) -> bool:
    """Refuse an index with an extension that changes what the entries say; whether it has any."""
    by_git = at + 8 <= end
    while at + 8 <= end:
        name, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "big")
        if not name[:1].isupper():
            raise UnsupportedOperation(
                f"the index has the extension {name.decode(errors='replace')!r} (a split or sparse "
                "index), which only git reads: run "
                "`git update-index --no-split-index` or `git sparse-checkout disable`"
            )
        at += 8 + length
    return by_git


def _varint(content: bytes, at: int) -> tuple[int, int]:
    byte = content[at]
    at += 1
    value = byte & 0x7F
    while byte & 0x80:
        byte = content[at]
        at += 1
        value = ((value + 1) << 7) | (byte & 0x7F)
    return value, at
