"""Which blobs of two stores belong together, and when two are equal."""

# What is asked of stores here is what layers ask of the stores below.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeAlias, cast

from holdall.errors import BlobNotFoundError, InvalidArgumentError, StoreError
from holdall.store import Can, Info, Store, _selection

__all__ = ["Compare", "Difference", "Judge", "Selection", "judge", "pairs"]

Compare: TypeAlias = (
    Literal["auto", "size", "modified", "content", "etag"] | Callable[[Info, Info], object] | str
)
Judge: TypeAlias = Callable[[Info, Info], bool | None]
"""Whether two blobs are equal; None if only their contents tell."""


class Difference(NamedTuple):
    """A key whose blobs differ, or can't be compared."""

    kind: Literal["source", "target", "differs", "failed"]
    """Which store alone has it; `differs`: both have one, with other bytes; or `failed`: that can't be told,
    as one of them can't be read."""
    key: str
    source: Info | None
    target: Info | None
    error: Exception | None = None
    """Why it failed."""


class Selection:
    """Which keys are meant: the same in both stores."""

    def __init__(self, prefix: str, glob: str | None, where: Callable[[Info], object] | None) -> None:
        if where is not None and not callable(where):
            raise InvalidArgumentError(f"where is a function of an Info, not {where!r}")
        self.prefix, self.start, self.matches = _selection(prefix, glob)
        self.where = where

    def selects(self, key: str) -> bool:
        """Whether a key is meant, as far as it tells."""
        return key.startswith(self.prefix) and (self.matches is None or bool(self.matches(key)))

    def scan(self, store: Store, after: str) -> Iterator[Info]:
        """The blobs of a store whose keys are meant and sort past `after`."""
        listing = store._alive(store._scan(self.prefix, max(after, self.start)))
        matches = self.matches
        last = ""
        for info in listing:
            key = info.key
            if key <= last:
                # Two lists can only be merged in order; else keys would seem to be missing, and be deleted.
                raise StoreError(f"{store!r} lists {key!r} past {last!r}, which is out of order")
            last = key
            if matches is None or matches(key):
                yield info


def pairs(
    source: Store, target: Store, selection: Selection, after: str = ""
) -> Iterator[tuple[Info | None, Info | None]]:
    """The blobs of both stores, side by side, in key order, lazily."""
    where = selection.where
    both = _merged(source, target, selection, after)
    if where is None:
        return both
    # One of the two decides, so that a key is meant in both stores or in neither.
    return (pair for pair in both if where(cast(Info, pair[0] or pair[1])))


def _merged(
    source: Store, target: Store, selection: Selection, after: str
) -> Iterator[tuple[Info | None, Info | None]]:
    sources = selection.scan(source, after)
    if Can.LIST not in target.can:
        for info in sources:
            yield info, _found(target, info.key)
        return
    targets = selection.scan(target, after)
    one, other = next(sources, None), next(targets, None)
    while one is not None and other is not None:
        mine, yours = one.key, other.key
        if mine == yours:
            yield one, other
            one, other = next(sources, None), next(targets, None)
        elif mine < yours:
            yield one, None
            one = next(sources, None)
        else:
            yield None, other
            other = next(targets, None)
    while one is not None:
        yield one, None
        one = next(sources, None)
    while other is not None:
        yield None, other
        other = next(targets, None)


def _found(store: Store, key: str) -> Info | None:
    try:
        return store._info(key)
    except BlobNotFoundError:
        return None


def judge(compare: Compare) -> Judge:
    """What `compare=` means.

    Raises:
        InvalidArgumentError: It means nothing.
    """
    if callable(compare):
        return lambda source, target: bool(compare(source, target))
    if isinstance(compare, str) and compare in _judges:  # pyright: ignore[reportUnnecessaryIsInstance]
        return _judges[compare]
    raise InvalidArgumentError(f"compare is one of {', '.join(_judges)}, or a function, not {compare!r}")


def _by_content(source: Info, target: Info) -> bool | None:
    return None if source.size == target.size else False


def _by_size(source: Info, target: Info) -> bool | None:
    return source.size == target.size


def _by_time(source: Info, target: Info) -> bool | None:
    if source.size != target.size:
        return False
    one, other = source._modified, target._modified
    if type(one) is float and type(other) is float:
        # Seconds as most stores give them: no datetime need be made of each.
        return other >= one
    return target.modified >= source.modified


def _by_etag(source: Info, target: Info) -> bool | None:
    return source.etag == target.etag


_judges: dict[str, Judge] = {
    "auto": _by_content,
    "size": _by_size,
    "modified": _by_time,
    "content": _by_content,
    "etag": _by_etag,
}
