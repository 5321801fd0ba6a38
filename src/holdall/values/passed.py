"""An iterator that a generator passes on, and what its caller throws into the generator."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    _Chain = chain[Any]
else:
    _Chain = chain


class Passed(_Chain):
    """What a generator passes on by `yield from`, as fast as it comes. It notes an exception that the caller
    throws into the generator, which else looks like one of the iterator's own."""

    thrown: object = None

    def throw(self, kind: Any, value: Any = None, _: object = None) -> NoReturn:
        """Raise what the caller throws."""
        self.thrown = kind if value is None else value
        raise self.thrown  # pyright: ignore[reportGeneralTypeIssues]
