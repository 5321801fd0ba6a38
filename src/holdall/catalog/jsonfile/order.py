"""Keys in the order of code points, sorted only when somebody asks for the order."""

from __future__ import annotations

from bisect import bisect_left, insort

_FEW = 32


class KeyOrder:
    """The keys of a dict, in order.

    A key that comes is remembered, and sorted in with the next question. A key that goes stays in the list,
    so that who reads the list looks each key up. Lists that were returned never change.
    """

    __slots__ = ("_fresh", "_gone", "_keys")

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._fresh: list[str] = []
        self._gone: set[str] = set()

    def add(self, key: str) -> None:
        """Add a key that isn't in the dict yet."""
        if key in self._gone:
            self._gone.discard(key)
        else:
            self._fresh.append(key)

    def discard(self, key: str) -> None:
        """Remove a key that was in the dict until now."""
        self._gone.add(key)

    def sorted(self) -> list[str]:
        """Return the keys in order, and some that are gone."""
        if self._fresh or len(self._gone) > len(self._keys) // 2:
            # An old list may be in use, so that a new one takes its place.
            keys = self._keys.copy()
            if len(self._fresh) <= _FEW:
                for key in self._fresh:
                    insort(keys, key)
            else:
                keys += self._fresh
                keys.sort()
            if len(self._gone) > len(keys) // 2:
                keys = [key for key in keys if key not in self._gone]
                self._gone.clear()
            self._keys = keys
            self._fresh = []
        return self._keys


def starting_with(keys: list[str], prefix: str) -> tuple[int, int]:
    """Return where the keys with a prefix begin and end in a sorted list.

    >>> starting_with(["a", "b", "b/c", "c"], "b")
    (1, 3)
    """
    start = bisect_left(keys, prefix)
    # Of what follows the prefix, those that start with it come first.
    return start, bisect_left(keys, True, lo=start, key=lambda key: not key.startswith(prefix))
