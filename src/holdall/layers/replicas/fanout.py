"""Replicas: a store whose writes go to several stores, and whose reads come from the first that answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, cast

from holdall.errors import InvalidArgumentError, StoreError, WrongKeyError
from holdall.keys import check_prefix
from holdall.layers.layer import Layer
from holdall.layers.replicas.calls import Replicas
from holdall.layers.replicas.memory import Memory
from holdall.layers.replicas.mending import Mender, Repair, ReplicaDifference, Rule
from holdall.layers.replicas.reading import Reader
from holdall.layers.replicas.writing import Writer
from holdall.store import Attributes, Body, Can, Expect, Info, LeftOut, Piece, Store


class FanoutStore(Layer):
    """Several stores with the same blobs, as one store.

    Args:
        children: The replicas, in the order in which they are asked: a sequence (they are then named `0`,
            `1` and so on), or a mapping from names to stores. No two may share a medium.
        read: `first`: reads ask one replica after the other.
        write: The number of replicas that must accept a write (a quorum), or `all`.
        timeout: Seconds after which a call of a replica counts as failed, or a stream that makes no progress;
            None waits.
        fill: Whether a read of a whole blob, which is then held in memory, puts it into the replicas before
            the one that had it, if they lack it and can CREATE, SWAP and CONDITIONAL_DELETE. Failures of this
            are logged.

    *Writes* go to all replicas at once. If `timeout` is None, replicas in memory are written one after the
    other, as are up to 64 KiB to local files and SQLite databases, if they aren't `durable`: that takes less
    time than handing the calls to threads. A body is read once; if it raises, every replica
    keeps the old blob. The first replica is the arbiter: it publishes first and deletes last, and its ETags
    are those of this store. So it alone decides `expect=`, and if a writer is killed, readers see the
    arbiter's state. After its writes a writer compares all replicas with the arbiter and makes them equal, so
    two writers of one key never leave them different. This needs replicas that can CREATE, SWAP and
    CONDITIONAL_DELETE. If one can't, only the writers of this handle take turns at a key, and those of other
    handles can leave replicas different until `repair`.

    If a replica fails and too few are left, the write raises `PartialWriteError`: its `failures` says why,
    and its `written` names the replicas that hold the new value. If enough are left, the write is done, and
    the failure is logged. In both cases the handle remembers that this replica is behind: it isn't asked for
    this key until `repair` or a later write mends it, so that no read returns a version older than the one
    that it missed. Other handles don't know that. `behind` returns these replicas.

    *Reads* go on to the next replica if one lacks the blob or fails, which is logged. A blob that is damaged,
    or encrypted under another key, counts as a failure; only a write replaces it. An ETag of another replica
    never matches at the arbiter. If some replicas fail and the others lack the blob, the read raises
    `StoreUnavailableError`, since the blob may exist, unless `write` is a quorum and so few fail that one of
    the others must have every acknowledged blob. A stream that stops half-way goes on from the same replica
    if the ETag is unchanged, otherwise from another one whose blob has the same size and begins with the
    bytes that were read already (by CRC-32).

    *Listing* merges all replicas. It goes on without failed replicas as long as the others must have every
    acknowledged key: fewer replicas may fail than must accept a write.

    *Repair*, and any other copy into a replica that lacks a blob, first puts a mark of about 70 bytes there
    under the blob's key, so that a delete in the meantime is noticed: even a process that is killed in
    between never brings a deleted blob back. Such a process can leave a mark. This store hides it; a program
    that reads the replica itself sees it until the next write or `repair`.

    Raises:
        InvalidArgumentError: No children are given, two of them are one place, or the quorum is larger than
            their number.

    >>> from holdall import MemoryStore
    >>> near, far = MemoryStore(), MemoryStore()
    >>> store = FanoutStore({"near": near, "far": far})
    >>> store["a"] = b"1"
    >>> near["a"], far["a"]
    (b'1', b'1')
    >>> del near["a"]
    >>> store["a"], store.repair().mended
    (b'1', {'a': {'near': 'copied'}})
    """

    def __init__(
        self,
        children: Sequence[Store] | Mapping[str, Store],
        *,
        read: Literal["first"] = "first",
        write: Literal["all"] | int = "all",
        timeout: float | None = None,
        fill: bool = False,
    ) -> None:
        stores = _by_name(children)
        super().__init__(*stores.values())
        if read != "first":
            raise InvalidArgumentError(f"read must be 'first', not {read!r}")
        count, number = len(stores), cast(object, write)
        if write != "all" and (type(number) is not int or not 1 <= number <= count):
            raise InvalidArgumentError(f"write must be 'all' or a number from 1 to {count}, not {write!r}")
        if timeout is not None and (type(timeout) not in (int, float) or not 0 < timeout < 1e9):
            raise InvalidArgumentError(
                f"timeout must be a positive number of seconds, or None, not {timeout!r}"
            )
        self._options: dict[str, object] = {"children": children}
        if write != "all":
            self._options["write"] = write
        if timeout is not None:
            self._options["timeout"] = timeout
        if fill:
            self._options["fill"] = True
        self._replicas = Replicas(stores, count if write == "all" else write, timeout)
        self.inline = self._replicas.inline
        self._memory = Memory(self._replicas.names)
        self._reader = Reader(self._replicas, self._memory, fill)
        self._mender = Mender(self._replicas, self._memory, self._reader)
        self._writer = Writer(self._replicas, self._memory, self._reader, self._mender)
        self._checking = [store for store in stores.values() if type(store)._checked is not Store._checked]

    def _settings(self) -> dict[str, object]:
        return self._options

    def _close(self) -> None:
        self._replicas.close()

    @cached_property
    def can(self) -> Can:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._replicas.can

    @property
    def replicas(self) -> Mapping[str, Store]:
        """The stores by their names, in order.

        >>> from holdall import MemoryStore
        >>> FanoutStore([MemoryStore(), MemoryStore()]).replicas
        {'0': MemoryStore(), '1': MemoryStore()}
        """
        return dict(self._replicas.stores)

    def _checked(self, key: object) -> str:
        key = super()._checked(key)
        for store in self._checking:
            # A replica may have room for shorter keys only. One that was encrypted under another key is a
            # mistake in the settings, which no other replica makes up for: the call is refused before
            # anything is touched. One that is closed or can't be reached fails later, alone.
            try:
                store._checked(key)
            except (InvalidArgumentError, WrongKeyError):
                raise
            except StoreError:
                continue
        return key

    def _info(self, key: str) -> Info:
        return self._reader.info(key)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        return self._reader.read(key, start, stop)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return self._reader.scan(prefix, after)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        return self._reader.survey(prefix, after)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        return self._writer.write(key, body, expect, attributes)

    def _delete(self, key: str, expect: Expect) -> bool:
        return self._writer.delete(key, expect)

    def behind(self) -> dict[str, list[str]]:
        """Return, for each key, the replicas that missed its last write, as far as this handle knows.

        >>> from holdall import MemoryStore
        >>> FanoutStore([MemoryStore(), MemoryStore()]).behind()
        {}
        """
        return self._memory.report()

    def verify(self, prefix: str = "") -> Iterator[ReplicaDifference]:
        """Compare the replicas by the SHA-256 of each blob; yield the differences in order of their keys.

        Args:
            prefix: The start of the keys, as in `list`.

        Raises:
            StoreUnavailableError: At the end, if a replica couldn't be listed, since it may have blobs that
                the others lack.

        >>> from holdall import MemoryStore
        >>> store = FanoutStore([MemoryStore({"a": b"1"}), MemoryStore()])
        >>> [(difference.key, sorted(difference.digests)) for difference in store.verify()]
        [('a', ['0', '1'])]
        """
        self._need(Can.LIST, "verify")
        return self._alive(self._mender.differences(check_prefix(prefix)))

    def repair(self, rule: Rule = "first", prefix: str = "") -> Repair:
        """Make the replicas equal, by compare-and-swap, so that no newer write is lost.

        Replicas that this handle knows to be behind first get what was acknowledged, deletes included. Then,
        where replicas differ, a rule decides which one is right. If a replica doesn't answer for a key, the
        key is left as it is and reported in `failures`.

        Args:
            rule: `first`: the first replica that has the key. `newest`: the one with the latest `modified`.
                Or a function of the key and a dict from the replicas' names to their `Info`, or None where
                there is none. It returns the name of the replica to follow; if that one lacks the key,
                the key is deleted.
            prefix: The start of the keys, as in `list`.

        >>> from holdall import MemoryStore
        >>> store = FanoutStore([MemoryStore({"a": b"1", "b": b"2"}), MemoryStore({"b": b"3"})])
        >>> store.repair().mended
        {'a': {'1': 'copied'}, 'b': {'1': 'copied'}}
        >>> list(store.verify())
        []
        """
        for flag in (Can.LIST, Can.WRITE, Can.DELETE):
            self._need(flag, "repair")
        if rule not in ("first", "newest") and not callable(rule):
            raise InvalidArgumentError(f"the rule must be 'first', 'newest' or a function, not {rule!r}")
        return self._mender.repair(rule, check_prefix(prefix))


def _by_name(children: object) -> dict[str, Store]:
    if isinstance(children, Store):
        raise InvalidArgumentError("children must be a sequence of stores, such as a list, and not one store")
    if isinstance(children, Mapping):
        stores = dict(cast("Mapping[Any, Any]", children))
    elif isinstance(children, Sequence) and not isinstance(children, str | bytes):
        stores = {str(number): each for number, each in enumerate(cast("Sequence[Any]", children))}
    else:
        raise InvalidArgumentError("children must be a sequence of stores, or a mapping from names to stores")
    if not stores:
        raise InvalidArgumentError("a FanoutStore needs at least one child")
    for name, store in stores.items():
        if not isinstance(name, str) or not name or "@" in name:
            raise InvalidArgumentError(f"the name of a replica must be a str without '@', not {name!r}")
        if not isinstance(store, Store):
            kind = type(store).__name__
            raise InvalidArgumentError(
                f"replica {name!r} must be a store, not {kind}; Store.from_uri opens one"
            )
    if len({id(store) for store in stores.values()}) < len(stores):
        raise InvalidArgumentError("each replica must be a different store, and one was given twice")
    if len(stores) > 1:
        from holdall.layers.caching.checks import refuse_shared_place

        refuse_shared_place(stores)
    return stores
