"""Copying one replica of a key to another, and the results of comparing replicas."""

# A helper of layers, which call primitives.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from holdall.errors import BlobNotFoundError, ConcurrencyError, InvalidArgumentError, StoreError
from holdall.layers.marks import SIZE, etag_of, is_mark, new_mark
from holdall.store import ABSENT, ANY, PLAIN, Attributes, Can, Expect, Info, Store, mode_of

__all__ = ["Repair", "ReplicaDifference", "Rule", "leader", "replace", "state"]

Rule: TypeAlias = "Literal['first', 'newest'] | Callable[[str, Mapping[str, Info | None]], str]"
"""The rule that decides which replica is right where they differ."""


class ReplicaDifference(NamedTuple):
    """A key whose replicas are not equal, or can't be compared."""

    key: str
    digests: dict[str, str | None]
    """For each replica that answered the SHA-256 of its blob, None where it has none."""
    failures: dict[str, Exception]
    """By its name, why a replica didn't answer."""


@dataclass
class Repair:
    """The result of a repair. It is true if everything was mended."""

    mended: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """For each key and replica that was changed: `copied` or `deleted`."""
    failures: dict[str, dict[str, Exception]] = field(default_factory=dict[str, dict[str, Exception]])
    """By key, the replicas that couldn't be mended, and why."""
    unlisted: dict[str, Exception] = field(default_factory=dict[str, Exception])
    """The replicas whose keys couldn't all be listed, and why: they may have blobs that the others lack."""

    def __bool__(self) -> bool:
        return not self.failures and not self.unlisted

    def note(self, key: str, name: str, action: str) -> None:
        """Add what was done."""
        self.mended.setdefault(key, {})[name] = action


def state(store: Store, key: str) -> str | None:
    """Return the ETag of a blob, None where there is none, or a `Mark` where there is only a mark."""
    try:
        info = store._info(key)
    except BlobNotFoundError:
        return None
    return info.etag if info.size != SIZE else etag_of(store, info, key)


def replace(key: str, source: Store, target: Store, found: str | None) -> tuple[str | None, str | None]:
    """Make one replica of a key like another, if it still is as it was found.

    Where the target had no blob, a mark is put there first (see `marks`), so that a delete in the meantime
    is noticed, whenever this process is killed.

    Args:
        key: Which.
        source: The replica that is right.
        target: The one to change.
        found: Its ETag, None where it had no blob.

    Returns:
        The ETag of the version that was copied and the one that the copy got: None where the blob is absent.

    Raises:
        ConcurrencyError: The target has changed since.
    """
    if found is not None or (Can.CREATE | Can.SWAP) not in target.can:
        return _replaced(key, source, target, found)
    if state(source, key) is None:
        return None, None
    mark = target._write(key, (new_mark(),), ABSENT, PLAIN).etag
    try:
        return _replaced(key, source, target, mark)
    except ConcurrencyError:
        # Another writer has put something in its place.
        raise
    except BaseException:
        with suppress(StoreError):
            target._delete(key, mark)
        raise


def _replaced(key: str, source: Store, target: Store, found: str | None) -> tuple[str | None, str | None]:
    try:
        info, pieces = source._read(key, 0, None)
        if info.size == SIZE and is_mark(source, key):
            raise BlobNotFoundError(key=key)
    except BlobNotFoundError:
        if found is not None:
            target._delete(key, found if Can.SWAP in target.can else ANY)
        return None, None
    attributes = Attributes(
        info.content_type if Can.ATTRIBUTES in target.can else None,
        info.expires if Can.EXPIRE in target.can else None,
        mode_of(info),
    )
    expect: Expect = ANY
    if found is None and Can.CREATE in target.can:
        expect = ABSENT
    elif found is not None and Can.SWAP in target.can:
        expect = found
    return info.etag, target._write(key, pieces, expect, attributes).etag


def leader(rule: Rule, key: str, replicas: Mapping[str, Info | None]) -> str:
    """Return the name of the replica that is right by a rule."""
    there = {name: info for name, info in replicas.items() if info is not None}
    if rule == "first":
        return next(iter(there))
    if rule == "newest":
        return max(there, key=lambda name: there[name].modified)
    name = rule(key, dict(replicas))
    if name not in replicas:
        raise InvalidArgumentError(
            f"the rule named {name!r}, which isn't a replica; expected one of {', '.join(replicas)}", key=key
        )
    return name
