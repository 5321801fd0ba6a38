"""The same blobs in several blob dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar, overload

from holdall.arguments import check_type
from holdall.dicts.base import B, BlobDict
from holdall.dicts.memory import InMemoryBlobDict
from holdall.errors import BlobNotFoundError, InvalidArgumentError, PartialWriteError, StoreError
from holdall.layers.fanout import FanoutStore
from holdall.layers.replicas.reading import has_plain_etag, split_etag
from holdall.values.mapping import MISSING, Missing

T = TypeVar("T")


class MultiReplicaBlobDict(BlobDict[B]):
    """Several blob dicts with the same blobs, as one: a put goes to all, a read asks one after the other.

    The rules are those of `FanoutStore`, which does the work: the first replica decides; if it lacks a blob
    or fails, the next one is asked; a put must reach all of them (otherwise `PartialWriteError` says which
    failed); and a listing is the merged union of all.

    A read that finds a blob in a later replica puts it into the earlier ones that lack it, if they can
    CREATE, SWAP and CONDITIONAL_DELETE; failures of this are logged. A blob that another process deletes at
    that moment stays deleted, even if this process is killed in between.

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
        check_type(replica_dicts, Mapping, "the replicas must be a dict from names to blob dicts")
        for each in replica_dicts.values():
            check_type(each, BlobDict, "a replica must be a blob dict")
        self._replicas = dict(replica_dicts)
        self._views: dict[tuple[str, ...], BlobDict[B]] = {}
        stores = {name: each.store for name, each in self._replicas.items()}
        super().__init__(FanoutStore(stores, write=write, timeout=timeout, fill=fill))
        self._first = next(iter(stores))

    @property
    def replicas(self) -> Mapping[str, BlobDict[B]]:
        """The dicts by their names, in order."""
        return dict(self._replicas)

    def close(self) -> None:
        """Free what this dict holds; its replicas stay open."""
        while self._views:
            self._views.popitem()[1].close()
        self._store.close()

    def _check_blob(self, key: str, blob: object) -> B:
        checked = super()._check_blob(key, blob)
        for each in self._replicas.values():
            each._check_blob(key, blob)
        return checked

    def _find(self, key: str) -> B | Missing:
        found = self._read(key)
        if found is None:
            return MISSING
        info, data = found
        # The replica that had the blob says of which class it is.
        name = self._first if has_plain_etag(info) else split_etag(info.etag)[0] or self._first
        return self._replicas[name]._decode(key, data, info.content_type)

    def _choose_replicas(self, names: Iterable[str]) -> dict[str, BlobDict[B]]:
        """Return the replicas of these names, in their order."""
        check_type(names, Iterable, "replica_names must be a set of names")
        wanted = {names} if isinstance(names, str) else set(names)
        if unknown := wanted - self._replicas.keys():
            raise InvalidArgumentError(
                f"no replica is named {', '.join(sorted(map(repr, unknown)))}; the replicas are "
                f"{', '.join(map(repr, self._replicas))}"
            )
        return {name: each for name, each in self._replicas.items() if name in wanted}

    def _view(self, names: Iterable[str] | None) -> BlobDict[B]:
        """Return a dict of these replicas alone; a read of it fills none of them."""
        if names is None:
            return self
        chosen = self._choose_replicas(names)
        if not chosen:
            return InMemoryBlobDict()
        view = self._views.get(tuple(chosen))
        if view is None:
            view = self._views[tuple(chosen)] = MultiReplicaBlobDict(chosen, fill=False)
        return view

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
        return BlobDict[B].get(self._view(replica_names), key, default)

    def contains(self, key: str, *, replica_names: Iterable[str] | None = None) -> bool:
        """Return whether any of these replicas has a blob."""
        return key in self._view(replica_names)

    def len(self, *, replica_name: str | None = None) -> int:
        """Return the number of blobs, in all replicas together or in one."""
        return len(self._view(replica_name))

    def iter(self, *, replica_name: str | None = None) -> Iterator[str]:
        """Yield the keys, of all replicas together or of one."""
        return iter(self._view(replica_name))

    def put(self, key: str, blob: B, *, replica_names: Iterable[str] | None = None) -> None:
        """Put a blob, into all replicas or some; those left out keep what they have.

        Raises:
            PartialWriteError: Some of them failed: its `failures` says why, and its `written` names the
                others.
        """
        try:
            BlobDict[B].__setitem__(self._view(replica_names), key, blob)
        except BaseException:
            # A view remembers which replica missed this, and would never ask it again for the key, since what
            # that replica is given by other ways isn't seen there.
            self._views.clear()
            raise

    def __setitem__(self, key: str, blob: B, /, *, replica_names: Iterable[str] | None = None) -> None:
        self.put(key, blob, replica_names=replica_names)

    @overload
    def pop(self, key: str, /, *, replica_names: Iterable[str] | None = None) -> B: ...
    @overload
    def pop(self, key: str, /, default: B, *, replica_names: Iterable[str] | None = None) -> B: ...
    @overload
    def pop(self, key: str, /, default: T, *, replica_names: Iterable[str] | None = None) -> B | T: ...
    def pop(self, key: str, /, default: Any = MISSING, *, replica_names: Iterable[str] | None = None) -> Any:
        """Delete a blob from all replicas, or from some, and return it.

        Raises:
            BlobNotFoundError: None of them has it, and there is no default.
            PartialWriteError: Some of them failed; the first one still has it, if it had.
        """
        if replica_names is None:
            return super().pop(key, default)
        (_, first), *others = [*self._choose_replicas(replica_names).items()] or [("", InMemoryBlobDict[B]())]
        if others:
            # The first replica is asked before anything is deleted, and loses its blob last.
            first._find(key)
        popped = _call_each(others, "delete", lambda each: each.pop(key, None), key)
        blob = next((blob for blob in (first.pop(key, None), *popped) if blob is not None), default)
        if blob is MISSING:
            raise BlobNotFoundError(key=key)
        return blob

    def clear(self, *, replica_names: Iterable[str] | None = None) -> None:
        """Delete every blob of all replicas, or of some.

        Raises:
            PartialWriteError: Some of them failed.
        """
        if replica_names is None:
            super().clear()
        elif len(chosen := self._choose_replicas(replica_names)) == 1:
            next(iter(chosen.values())).clear()
        else:
            _call_each(chosen.items(), "clear", BlobDict[B].clear)


def _call_each(
    replicas: Iterable[tuple[str, BlobDict[Any]]],
    what: str,
    call: Callable[[BlobDict[Any]], T],
    key: str | None = None,
) -> list[T]:
    """Call a function with each of these replicas, even if others fail; return its results."""
    done: dict[str, T] = {}
    failures: dict[str, Exception] = {}
    for name, each in replicas:
        try:
            done[name] = call(each)
        except StoreError as error:
            failures[name] = error
    if failures:
        listed = "; ".join(f"{name!r}: {error}" for name, error in failures.items())
        message = f"these replicas failed to {what}: {listed}"
        raise PartialWriteError(message, key=key, failures=failures, written=tuple(done))
    return list(done.values())
