"""The same blobs in several blob dicts."""

# A dict of replicas does with them, and with the fanout over their stores, what a dict does with itself.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeVar, cast, overload

from holdall.dicts.base import _MISSING, B, BlobDict, _whole
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    PartialWriteError,
    StoreError,
)
from holdall.layers.fanout import FanoutStore
from holdall.layers.marks import new_mark
from holdall.layers.replicas import state
from holdall.store import ABSENT, PLAIN, Attributes, Can, Info, Store, mode_of

T = TypeVar("T")
_log = logging.getLogger("holdall")

_FILLABLE = Can.WRITE | Can.DELETE | Can.CREATE | Can.SWAP


class MultiReplicaBlobDict(BlobDict[B]):
    """Several blob dicts with the same blobs, as one: a put goes to all, a read asks one after the other.

    The rules are those of `FanoutStore`, which does the work: the first replica decides; if it lacks a blob
    or fails, the next one is asked; a put must reach all of them (otherwise `PartialWriteError` says which
    failed); and a listing is the merged union of all.

    A read that finds a blob in a later replica puts it into the earlier ones that lack it, if they can CREATE
    and SWAP; failures of this are logged. A blob that another process deletes at that moment stays deleted,
    even if this process is killed in between.

    A replica that only this process sees, such as an `InMemoryBlobDict`, goes stale when other processes put
    into the other replicas: give it a ttl, or use a `CachingStore`, which asks its origin.

    Args:
        replica_dicts: The dicts by their names, in the order in which they are asked. No two may share a
            place. They stay open when this one is closed.
        fill: Whether reads fill the replicas that come before the one that had the blob.
        write: The number of replicas that must accept a put, as in `FanoutStore`, or `all`.
        timeout: Seconds after which a call of a replica counts as failed; None waits.

    >>> from holdall import InMemoryBlobDict
    >>> from holdall.blobs import StrBlob
    >>> cache, origin = InMemoryBlobDict(ttl=60), InMemoryBlobDict()
    >>> d = MultiReplicaBlobDict({"cache": cache, "origin": origin})
    >>> origin["a.txt"] = StrBlob("found")
    >>> "a.txt" in cache, d["a.txt"].as_str(), "a.txt" in cache
    (False, 'found', True)
    """

    def __init__(
        self,
        replica_dicts: Mapping[str, BlobDict[B]],
        *,
        fill: bool = True,
        write: Literal["all"] | int = "all",
        timeout: float | None = None,
    ) -> None:
        if not isinstance(replica_dicts, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(
                "the replicas must be a dict from names to blob dicts, not a "
                f"{type(cast(object, replica_dicts)).__name__}"
            )
        for each in replica_dicts.values():
            if not isinstance(each, BlobDict):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidArgumentError(
                    f"a replica must be a blob dict, not a {type(cast(object, each)).__name__}"
                )
        self._replicas = dict(replica_dicts)
        self._fanout = FanoutStore(
            {name: each.store for name, each in self._replicas.items()}, write=write, timeout=timeout
        )
        super().__init__(self._fanout)
        self._fill = fill

    @property
    def replicas(self) -> Mapping[str, BlobDict[B]]:
        """The dicts by their names, in order."""
        return dict(self._replicas)

    def close(self) -> None:
        """Free what this dict holds; its replicas stay open."""
        self._fanout.close()

    def _chosen(self, names: Iterable[str] | None) -> dict[str, BlobDict[B]]:
        """Return the replicas of these names, in their order."""
        if names is None:
            return self._replicas
        if not isinstance(names, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(
                f"replica_names must be a set of names, not a {type(cast(object, names)).__name__}"
            )
        wanted = {names} if isinstance(names, str) else set(names)
        if unknown := wanted - self._replicas.keys():
            raise InvalidArgumentError(
                f"there is no replica {', '.join(sorted(map(repr, unknown)))}; there are "
                f"{', '.join(map(repr, self._replicas))}"
            )
        return {name: each for name, each in self._replicas.items() if name in wanted}

    def _checked_blob(self, key: str, blob: object) -> B:
        checked = super()._checked_blob(key, blob)
        for each in self._replicas.values():
            each._checked_blob(key, blob)
        return checked

    # --- reading and filling --------------------------------------------------------------------------

    def _fetch(self, key: str) -> B | None:
        fanout = self._fanout
        key = fanout._checked(key)
        try:
            name, (info, data) = fanout._ask(key, "read", partial(_whole, key=key))
        except BlobNotFoundError:
            return None
        except StoreError as error:
            error.key = key
            raise
        if self._fill and name != next(iter(self._replicas)):
            self._fill_before(key, name, info, data)
        return self._replicas[name]._wrap(key, data, info.content_type)

    def _fill_before(self, key: str, source: str, info: Info, data: bytes) -> None:
        """Put the blob of one replica into those before it that lack it."""
        origin = self._replicas[source].store
        with self._fanout._turn(key):
            for name, each in self._replicas.items():
                if name == source:
                    return
                behind = name in self._fanout.behind().get(key, ())
                if behind or not _holds(each.store, info):
                    continue
                try:
                    self._fanout._call(name, partial(_fill, each.store, origin, key, info, data))
                except Exception as error:  # noqa: BLE001 - it is logged; the blob itself was read
                    self._fanout._failed("take", key, name, error)

    def _take(self, key: str) -> B | None:
        # What only a later replica has is filled first, so that the first one can decide who takes it.
        return None if self._fetch(key) is None else super()._take(key)

    # --- calls of some replicas, by name --------------------------------------------------------------

    @overload
    def get(self, key: str, /, *, replica_names: Iterable[str] | None = None) -> B | None: ...
    @overload
    def get(self, key: str, /, default: B, *, replica_names: Iterable[str] | None = None) -> B: ...
    @overload
    def get(self, key: str, /, default: T, *, replica_names: Iterable[str] | None = None) -> B | T: ...
    def get(self, key: str, /, default: Any = None, *, replica_names: Iterable[str] | None = None) -> Any:
        """Return the blob, or the default where there is none.

        Args:
            key: Which.
            default: The result where there is none.
            replica_names: Which replicas to ask, in their order, and no others; nothing is filled then.
        """
        if replica_names is None:
            return super().get(key, default)
        blob = self._asked(self._chosen(replica_names), lambda each: each._fetch(key))
        return default if blob is None else blob

    def _asked(self, chosen: Mapping[str, BlobDict[B]], ask: Callable[[BlobDict[B]], T]) -> T | None:
        """Return the blob of the first replica that has one; if none has, raise an error of one of them."""
        failure: StoreError | None = None
        for name, each in chosen.items():
            try:
                found = ask(each)
            except InvalidArgumentError:
                raise
            except StoreError as error:
                _log.warning("replica %r failed to answer: %s", name, error)
                failure = failure or error
                continue
            if found is not None and found is not False:
                return found
        if failure is not None:
            raise failure
        return None

    def contains(self, key: str, *, replica_names: Iterable[str] | None = None) -> bool:
        """Return whether any of these replicas has a blob."""
        if replica_names is None:
            return key in self
        return bool(self._asked(self._chosen(replica_names), lambda each: key in each))

    def len(self, *, replica_name: str | None = None) -> int:
        """Return the number of blobs, in all replicas together or in one."""
        return len(self) if replica_name is None else len(self._one(replica_name))

    def iter(self, *, replica_name: str | None = None) -> Iterator[str]:
        """Yield the keys, of all replicas together or of one."""
        return iter(self) if replica_name is None else iter(self._one(replica_name))

    def _one(self, name: str) -> BlobDict[B]:
        return self._chosen((name,))[name]

    def put(self, key: str, blob: B, *, replica_names: Iterable[str] | None = None) -> None:
        """Put a blob, into all replicas or some; those left out keep what they have.

        Raises:
            PartialWriteError: Some of them failed: its `failures` says why, and its `written` names the
                others.
        """
        if replica_names is None:
            super().__setitem__(key, blob)
            return
        chosen = self._chosen(replica_names)
        for each in chosen.values():
            each._checked_blob(key, blob)
            each.store._checked(key)
        self._in_each(chosen, "take", key, lambda each: each.__setitem__(key, blob))

    def __setitem__(self, key: str, blob: B, /, *, replica_names: Iterable[str] | None = None) -> None:
        self.put(key, blob, replica_names=replica_names)

    @overload
    def pop(self, key: str, /, *, replica_names: Iterable[str] | None = None) -> B: ...
    @overload
    def pop(self, key: str, /, default: B, *, replica_names: Iterable[str] | None = None) -> B: ...
    @overload
    def pop(self, key: str, /, default: T, *, replica_names: Iterable[str] | None = None) -> B | T: ...
    def pop(self, key: str, /, default: Any = _MISSING, *, replica_names: Iterable[str] | None = None) -> Any:
        """Delete a blob from all replicas, or from some, and return it.

        Raises:
            BlobNotFoundError: None of them has it, and there is no default.
            PartialWriteError: Some of them failed; the first one still has it, if it had.
        """
        if replica_names is None:
            return super().pop(key, default)
        chosen = self._chosen(replica_names)
        first, *others = list(chosen) or [None]
        if others and first is not None:
            # The first replica is asked before anything is deleted, and loses its blob last.
            chosen[first]._fetch(key)
        rest = {name: each for name, each in chosen.items() if name != first}
        popped = self._in_each(rest, "delete", key, lambda each: each.pop(key, None), is_all=False)
        if first is not None:
            popped.insert(0, chosen[first].pop(key, None))
        blob = next((blob for blob in popped if blob is not None), None)
        if blob is None and default is _MISSING:
            raise BlobNotFoundError(key=key)
        return default if blob is None else blob

    def clear(self, *, replica_names: Iterable[str] | None = None) -> None:
        """Delete every blob of all replicas, or of some.

        Raises:
            PartialWriteError: Some of them failed.
        """
        if replica_names is None:
            super().clear()
            return
        self._in_each(self._chosen(replica_names), "clear", None, lambda each: each.clear())

    def _in_each(
        self,
        chosen: Mapping[str, BlobDict[B]],
        what: str,
        key: str | None,
        act: Callable[[BlobDict[B]], T],
        *,
        is_all: bool = True,
    ) -> list[T]:
        """Do something with each of these replicas, even if others fail; return their results. They may be
        only some of those that the call is for."""
        given: dict[str, T] = {}
        failures: dict[str, Exception] = {}
        for name, each in chosen.items():
            try:
                given[name] = act(each)
            except StoreError as error:
                failures[name] = error
        if failures and len(chosen) == 1 and is_all:
            raise next(iter(failures.values()))
        if failures:
            raise PartialWriteError(
                f"these replicas failed to {what}: "
                + "; ".join(f"{name!r}: {error}" for name, error in failures.items()),
                key=key,
                failures=failures,
                written=tuple(given),
            )
        return list(given.values())


def _holds(store: Store, info: Info) -> bool:
    """Return whether a store can be filled with a blob and keep its attributes."""
    return _FILLABLE in store.can and (info.expires is None or Can.EXPIRE in store.can)


def _fill(store: Store, origin: Store, key: str, info: Info, data: bytes) -> None:
    # As in `replicas.replace`: the mark is there before the origin is asked again, so that a delete by
    # anybody either takes the mark away, or is seen here.
    try:
        mark = store._write(key, (new_mark(),), ABSENT, PLAIN).etag
    except ConcurrencyError:
        return
    try:
        if state(origin, key) == info.etag:
            kept = info.content_type if Can.ATTRIBUTES in store.can else None
            store._write(key, (data,), mark, Attributes(kept, info.expires, mode_of(info)))
        else:
            store._delete(key, mark)
    except ConcurrencyError:
        return
    except BaseException:
        with suppress(StoreError):
            store._delete(key, mark)
        raise
