"""The rows of an index: a sorted table in blocks, so that a change copies and hashes little of it. And what
is known by key, in parts, for the same reason.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

_ROOM = 256
"""The rows of a block, up to twice as many."""
_FEW = 8
"""Up to this number of changes, each is made in its block."""


_PARTS = 64
"""A power of two."""


class Parts(Mapping[str, T], Generic[T]):
    """A mapping that never changes: `changed` makes another, which shares most of what it holds.

    Args:
        parts: By the hash of a key.
    """

    def __init__(self, parts: list[dict[str, T]]) -> None:
        self._parts = parts

    @classmethod
    def of(cls, values: Mapping[str, T]) -> Parts[T]:
        """Make one of another mapping."""
        return cls([{}] * _PARTS).changed(values)

    def __getitem__(self, key: str) -> T:
        return self._parts[hash(key) & (_PARTS - 1)][key]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._parts)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def changed(self, changes: Mapping[str, T | None]) -> Parts[T]:
        """Return one with other values, or without a key."""
        parts = self._parts.copy()
        for place in {hash(key) & (_PARTS - 1) for key in changes}:
            parts[place] = parts[place].copy()
        for key, value in changes.items():
            if value is None:
                parts[hash(key) & (_PARTS - 1)].pop(key, None)
            else:
                parts[hash(key) & (_PARTS - 1)][key] = value
        return Parts(parts)


class _Block(NamedTuple):
    paths: list[bytes]
    starts: list[int]
    """Where each entry begins in `packed`, and where the last one ends."""
    packed: bytes

    def get(self, place: int) -> bytes:
        return self.packed[self.starts[place] : self.starts[place + 1]]

    def raws(self) -> list[bytes]:
        return [self.get(place) for place in range(len(self.paths))]

    def changed(self, path: bytes, raw: bytes | None) -> _Block:
        """Return one with another entry at a path, or without its first entry."""
        place = bisect_left(self.paths, path)
        there = place < len(self.paths) and self.paths[place] == path
        begin, end = self.starts[place], self.starts[place + there]
        packed = self.packed[:begin] + (raw or b"") + self.packed[end:]
        grown = len(packed) - len(self.packed)
        if there and raw is not None and not grown:
            return self._replace(packed=packed)
        new = [] if raw is None else [path]
        paths = [*self.paths[:place], *new, *self.paths[place + there :]]
        after = [start + grown for start in self.starts[place + there :]]
        return _Block(paths, [*self.starts[: place + len(new)], *after], packed)


class Rows:
    """The rows of an index, by their paths. They never change: `changed` makes others.

    Args:
        blocks: The blocks, none of them empty.
        header: What comes before the rows in the file that `sums` are of.
        sums: Hash objects that were fed the header and no block, one block, two blocks, and so on, as far as
            they are known.
    """

    def __init__(self, blocks: list[_Block], header: bytes = b"", sums: Sequence[Any] = ()) -> None:
        self._blocks = blocks
        self._firsts = [block.paths[0] for block in blocks]
        self._header, self._sums = header, list(sums)

    @classmethod
    def of(cls, paths: list[bytes], raws: list[bytes]) -> Rows:
        """Make the rows of sorted paths, which may be repeated, and of their entries."""
        return cls(list(_cut(paths, raws)))

    def __len__(self) -> int:
        return sum(len(block.paths) for block in self._blocks)

    @property
    def raws(self) -> Iterator[bytes]:
        """All entries, as they are in the file."""
        return chain.from_iterable(block.raws() for block in self._blocks)

    def paths_from(self, path: bytes) -> Iterator[bytes]:
        """Yield the paths from a path on."""
        at = self._find(path)
        for block in self._blocks[at : at + 1]:
            yield from block.paths[bisect_left(block.paths, path) :]
        for block in self._blocks[at + 1 :]:
            yield from block.paths

    def get(self, path: bytes) -> bytes | None:
        """Return the first entry of a path."""
        for block in self._blocks[(at := self._find(path)) : at + 1]:
            place = bisect_left(block.paths, path)
            if place < len(block.paths) and block.paths[place] == path:
                return block.get(place)
        return None

    def changed(self, changes: Sequence[tuple[bytes, bytes | None]]) -> Rows:
        """Return rows with other entries at some paths, or without the first entry of a path."""
        if len(changes) > _FEW:
            paths = list(self.paths_from(b""))
            raws = list(self.raws)
            for path, raw in changes:
                _change(paths, raws, path, raw)
            return Rows.of(paths, raws)
        rows = self
        for path, raw in changes:
            rows = rows._with(path, raw)
        return rows

    def _with(self, path: bytes, raw: bytes | None) -> Rows:
        blocks, at = self._blocks.copy(), self._find(path)
        block = (blocks[at] if blocks else _Block([], [0], b"")).changed(path, raw)
        fits = 0 < len(block.paths) <= 2 * _ROOM
        blocks[at : at + 1] = [block] if fits else _cut(block.paths, block.raws())
        return Rows(blocks, self._header, self._sums[: at + 1])

    def packed(self, header: bytes, algorithm: str) -> list[bytes]:
        """Return a file in pieces: a header, the rows, and the hash of both by an algorithm of `hashlib`."""
        sums = self._sums
        if header != self._header:
            self._header = header
            sums[:] = [hashlib.new(algorithm, header)]
        for block in self._blocks[len(sums) - 1 :]:
            total = sums[-1].copy()
            total.update(block.packed)
            sums.append(total)
        return [header, *(block.packed for block in self._blocks), sums[-1].digest()]

    def _find(self, path: bytes) -> int:
        """Return the block that the first entry of a path is in, or would be in."""
        at = max(bisect_left(self._firsts, path) - 1, 0)
        following = at + 1 < len(self._blocks) and self._firsts[at + 1] == path
        return at + 1 if following and self._blocks[at].paths[-1] != path else at


def _change(paths: list[bytes], raws: list[bytes], path: bytes, raw: bytes | None) -> None:
    place = bisect_left(paths, path)
    there = place < len(paths) and paths[place] == path
    if raw is None:
        del paths[place : place + there], raws[place : place + there]
    else:
        paths[place : place + there], raws[place : place + there] = [path], [raw]


def _cut(paths: list[bytes], raws: list[bytes]) -> Iterator[_Block]:
    room = _ROOM if len(paths) > 2 * _ROOM else 2 * _ROOM
    for begin in range(0, len(paths), room):
        part = raws[begin : begin + room]
        starts = [0, *accumulate(map(len, part))]
        yield _Block(paths[begin : begin + room], starts, b"".join(part))
