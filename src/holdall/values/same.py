"""Whether a value came back as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time
from typing import Any, cast

__all__ = ["same"]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types, all the way down. A NaN is the same as another.

    >>> same([1, {"a": float("nan")}], [1, {"a": float("nan")}]), same([1], [True]), same((), [])
    (True, False, False)
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        left, right = cast("Mapping[Any, Any]", one), cast("Mapping[Any, Any]", other)
        return len(left) == len(right) and all(
            same(*keys) and same(*members)
            for keys, members in zip(
                zip(left, right, strict=True), zip(left.values(), right.values(), strict=True), strict=True
            )
        )
    if isinstance(one, (list, tuple)):
        first, second = cast("Sequence[Any]", one), cast("Sequence[Any]", other)
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(one, (datetime, time)) and one.tzinfo is None and one.fold != other.fold:
        return False
    return bool(one == other) or (one != one and other != other)
