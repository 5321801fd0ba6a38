"""A number in a store that many processes change."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from holdall.arguments import check_type
from holdall.errors import InvalidArgumentError, InvalidTypeError, SerializationError

if TYPE_CHECKING:
    from holdall.store import Store

_NUMBER: Final = re.compile(rb"\s*[+-]?[0-9]{1,1000}\s*")
_LARGEST: Final = 10**1000


class Counter:
    """A whole number in a store, which is 0 at first. `store.counter("hits")` makes one.

    Each change is a compare-and-swap, so that none is lost, whoever else changes it. The blob is the number
    as decimal text.

    Args:
        store: A store that can SWAP.
        key: The key of the blob.

    >>> from holdall import MemoryStore
    >>> store = MemoryStore()
    >>> hits = store.counter("hits")
    >>> hits.increment(), hits.increment(by=10), hits.value
    (1, 11, 11)
    >>> store["hits"]
    b'11'
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = store._checked(key)

    @property
    def key(self) -> str:
        """The key of the blob."""
        return self._key

    @property
    def value(self) -> int:
        """The number; 0 where there is no blob.

        Raises:
            SerializationError: The blob isn't a number.
        """
        data = self._store.get(self._key)
        return 0 if data is None else self._parse(data)

    def increment(self, by: int = 1) -> int:
        """Add to the number, and return what it is then. No two calls that add 1 return the same.

        Args:
            by: How much; a negative number subtracts.

        Raises:
            UnsupportedOperation: The store can't SWAP.
            SerializationError: The blob isn't a number; it is left as it is.
            InvalidArgumentError: The number would have more than 1,000 digits.
        """
        _check_number(by, "by")
        return self._change(lambda old: old + by)[1]

    def reset(self, to: int = 0) -> int:
        """Set the number, and return what it was.

        Args:
            to: The new number.

        Raises:
            UnsupportedOperation: The store can't SWAP.
            SerializationError: The blob isn't a number; it is left as it is.
            InvalidArgumentError: The number has more than 1,000 digits.
        """
        _check_number(to, "to")
        return self._change(lambda old: to)[0]

    def _change(self, function: Callable[[int], int]) -> tuple[int, int]:
        old = new = 0

        def change(data: bytes) -> bytes:
            nonlocal old, new
            old = self._parse(data)
            new = function(old)
            if abs(new) >= _LARGEST:
                raise InvalidArgumentError("a counter has at most 1,000 digits", key=self._key)
            return b"%d" % new

        self._store.modify(self._key, change, default=b"0")
        return old, new

    def _parse(self, data: bytes) -> int:
        if not _NUMBER.fullmatch(data):
            raise SerializationError(
                f"expected a whole number, and what is here begins with {data[:20]!r}; it was left as it is: "
                "use another key for the counter",
                key=self._key,
            )
        return int(data)

    def __repr__(self) -> str:
        return f"Counter({self._store!r}, {self._key!r})"


def _check_number(value: object, name: str) -> None:
    check_type(value, int, f"{name} must be an int")
    if isinstance(value, bool):
        raise InvalidTypeError(f"{name} must be an int, not bool")
