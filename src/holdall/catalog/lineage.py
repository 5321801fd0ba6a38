"""What an object was made from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from holdall.catalog.backend import MetadataBackend
from holdall.catalog.entry import Entry, Input, entry_of
from holdall.catalog.names import not_found


@dataclass(frozen=True, slots=True)
class Lineage:
    """An object and all that it was made from.

    Attributes:
        root: The object itself.
        steps: For each version that was looked at, from the object on, what it was made from.
        entries: What the catalogue says of each; None for one that was deleted, or whose key holds something
            else under that version by now.
    """

    root: Input
    steps: dict[Input, tuple[Input, ...]]
    entries: dict[Input, Entry | None]

    def __str__(self) -> str:
        """Return it as an indented list."""
        lines: list[str] = []
        stack = [(self.root, 0)]
        shown: set[Input] = set()
        while stack:
            each, level = stack.pop()
            gone = "" if self.entries.get(each) is not None else " (not in the catalogue)"
            again = " (see above)" if each in shown and self.steps.get(each) else ""
            lines.append(f"{'  ' * level}{each.key} (version {each.version}){gone}{again}")
            if each not in shown:
                shown.add(each)
                stack.extend((one, level + 1) for one in reversed(self.steps.get(each, ())))
        return "\n".join(lines)


def trace(backend: MetadataBackend, key: str, version: int | None, depth: int | None) -> Lineage:
    """Return the lineage of a version, up to a number of steps; inputs that lead back are followed once."""
    row = backend.row(key, version)
    if row is None:
        raise not_found(key, version)
    root = Input(row.key, row.version, row.digest)
    steps: dict[Input, tuple[Input, ...]] = {}
    entries: dict[Input, Entry | None] = {}
    left = deque([(root, 0)])
    while left:
        each, level = left.popleft()
        if each in entries:
            continue
        found = backend.row(each.key, each.version)
        entries[each] = entry_of(found) if found is not None and found.digest == each.digest else None
        entry = entries[each]
        if entry is not None and (depth is None or level < depth):
            steps[each] = entry.inputs
            left.extend((one, level + 1) for one in entry.inputs)
    return Lineage(root, steps, entries)
