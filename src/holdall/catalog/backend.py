"""What a catalogue keeps its rows in: the protocol of metadata backends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from holdall.catalog.query import Path, Query
from holdall.catalog.row import Alias, Blob, Lease, Row, Small

T = TypeVar("T")


class Transaction(ABC):
    """What may be read and written within one transaction.

    Reads see the writes of the same transaction, and no later ones of others.
    """

    @abstractmethod
    def row(self, key: str, version: int | None = None) -> Row | None:
        """Return the newest row of a key, or that of a version."""

    @abstractmethod
    def earlier(self, key: str) -> list[Row]:
        """Return the rows of all versions of a key but the newest, the newest of them first."""

    @abstractmethod
    def put_row(self, row: Row) -> None:
        """Make this the newest row of its key, in place of the one that is."""

    @abstractmethod
    def put_earlier(self, row: Row) -> None:
        """Keep a row as an earlier version of its key, in place of one with its number."""

    @abstractmethod
    def drop_row(self, key: str) -> None:
        """Delete the newest row of a key; its earlier versions stay."""

    @abstractmethod
    def drop_earlier(self, key: str, version: int) -> None:
        """Delete an earlier version of a key."""

    @abstractmethod
    def next_number(self, above: int = 0) -> int:
        """Return a number that is larger than `above`, and than all that committed transactions have had. A
        number that isn't used may be lost."""

    @abstractmethod
    def blob(self, number: int) -> Blob | None:
        """Return a blob without its data."""

    @abstractmethod
    def blob_of(self, digest: str) -> Blob | None:
        """Return a blob with a digest that is written (`until` is 0), without its data."""

    @abstractmethod
    def put_blob(self, blob: Blob) -> None:
        """Add a blob, or replace the one with its number. An inline one without data keeps the bytes that are
        there."""

    @abstractmethod
    def drop_blob(self, number: int) -> None:
        """Delete a blob, its data, and whether it is suspected."""

    @abstractmethod
    def is_named(self, blob: int) -> bool:
        """Return whether a row, the newest of its key or an earlier one, has this blob."""

    @abstractmethod
    def suspect(self, blob: int, since: int) -> None:
        """Remember that a blob may be named by no row, since a moment in microseconds since the epoch; of one
        that is remembered already, change the moment."""

    @abstractmethod
    def suspected(self, blob: int) -> int | None:
        """Return since when a blob is suspected, or None."""

    @abstractmethod
    def acquit(self, blob: int) -> None:
        """Forget that a blob is suspected."""

    @abstractmethod
    def alias(self, name: str) -> Alias | None:
        """Return an alias."""

    @abstractmethod
    def aliases(self, key: str | None = None) -> list[Alias]:
        """Return the aliases of the versions of a key, or all, by name."""

    @abstractmethod
    def put_alias(self, alias: Alias) -> None:
        """Add an alias, or replace the one with its name."""

    @abstractmethod
    def drop_alias(self, name: str) -> None:
        """Delete an alias."""

    @abstractmethod
    def leases(self, blob: int | None = None) -> list[Lease]:
        """Return the leases of a blob, or all, those that have run out too."""

    @abstractmethod
    def put_lease(self, lease: Lease) -> None:
        """Add a lease, or replace the one with its name."""

    @abstractmethod
    def drop_lease(self, name: str) -> None:
        """Delete a lease."""


class MetadataBackend(ABC):
    """Where a catalogue keeps its rows. Subclass it to keep them somewhere else, and pass an instance as
    `BlobStore(backend=...)`; `holdall.testing.BackendSuite` tests it.

    Threads share an instance. Instances in several processes, and on several hosts where the medium is shared
    by hosts, may have one medium open at once, and each sees what another has committed.

    Keys, digests, names and metadata are data: no character in them has a meaning. Strings are compared by
    code points.
    """

    inline: int = 0
    """Blobs of at most this many stored bytes are faster in the backend than in files; 0 keeps none there."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A random str that was made with the medium, and that a moved medium keeps."""

    def exists(self) -> bool:
        """Return whether the medium was made, which the first write does. What never knows returns True."""
        return True

    @abstractmethod
    def transact(self, act: Callable[[Transaction], T]) -> T:
        """Call `act` in a transaction, and return what it returns. All that it writes is committed when it
        returns, and nothing if it raises. It may be called more than once, where the medium finds at its
        commit that another writer came first, so it has no other effects.

        What was committed survives a killed process. Transactions that write are serializable.

        Raises:
            StoreUnavailableError: The medium can't be reached or written, such as a full disk.
        """

    # A backend may leave each of the next ones to a transaction: they are faster ways.

    def add(self, row: Row, blob: Blob) -> int | None:
        """Add an entry with its inline blob, whose numbers the backend gives: the fast way of a small put.
        Return the number, which is that of the blob and the row's sequence, whatever they are given as.

        Return None, with nothing changed, if the key has a row, or if there is a blob with the digest.
        """

        def act(transaction: Transaction) -> int | None:
            if transaction.row(row.key) is not None or transaction.blob_of(blob.digest) is not None:
                return None
            number = transaction.next_number()
            transaction.put_blob(replace(blob, number=number))
            transaction.put_row(replace(row, sequence=number, blob=number))
            return number

        return self.transact(act)

    def add_small(self, small: Small) -> int | None:
        """Do what `add` does with a row and a blob that agree."""
        return self.add(small.row(0), small.blob(0))

    def add_all(self, smalls: Sequence[Small]) -> list[int] | None:
        """Add several entries, all or none, as `add` does, and return their numbers; None if `add` would
        return None for one of them. No two have the same key or the same digest."""

        def act(transaction: Transaction) -> list[int] | None:
            for small in smalls:
                if transaction.row(small.key) is not None or transaction.blob_of(small.digest) is not None:
                    return None
            numbers = [transaction.next_number() for _ in smalls]
            for small, number in zip(smalls, numbers, strict=True):
                transaction.put_blob(small.blob(number))
                transaction.put_row(small.row(number))
            return numbers

        return self.transact(act)

    def overwrite(self, small: Small) -> tuple[int, int] | None:
        """Put an entry in the place of one that has an inline blob of its own, other bytes, no earlier
        versions, no alias and no lease. Return its number and its version; None, with nothing changed, if the
        key holds something else or nothing, if there is a blob with the digest, or at any time."""
        return None

    def remove(self, key: str) -> bool:
        """Delete an entry that has an inline blob of its own, no earlier versions and no alias, with its
        blob. Return whether it was deleted: False if the key holds something else or nothing, or at any
        time."""
        return False

    def load_small(self, key: str) -> tuple[bytes, int, int, str, str, str] | None:
        """Return the inline bytes of the newest version of a key, with the size, the CRC-32, the format, the
        codec and the library of its blob: the fast way of a small get. It may be None at any time, and is
        where the entry has none."""
        return None

    def load(self, key: str, version: int | None = None) -> Blob | None:
        """Return what `fetch` does without the row: the fast way of reads of the bytes alone."""
        found = self.fetch(key, version)
        return None if found is None else found[1]

    @abstractmethod
    def fetch(self, key: str, version: int | None = None) -> tuple[Row, Blob] | None:
        """Return the newest row of a key, or that of a version, and its blob with its data, both as of one
        moment. This is the fast way of reads, without a lock."""

    @abstractmethod
    def row(self, key: str, version: int | None = None) -> Row | None:
        """Return the newest row of a key, or that of a version, without a lock."""

    @abstractmethod
    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that start with a prefix, in the order of code points, lazily."""

    @abstractmethod
    def find(self, query: Query) -> Iterator[Row]:
        """Yield at least the rows that match a query, each the newest of its key, in the query's order
        (`arrange` of `holdall.catalog.query`), after its position (`compile_after`), lazily. Rows that don't
        match its condition may come among them, as may more than `query.limit`: the catalogue looks at each.
        A backend that can narrow them down by an index does.

        While others write, a row that is there from the start to the end comes once.
        """

    @abstractmethod
    def earlier(self) -> Iterator[Row]:
        """Yield the earlier versions of all keys, by key and version, lazily."""

    @abstractmethod
    def blobs(self, after: int = 0) -> Iterator[Blob]:
        """Yield the blobs with a number above `after`, by number, without their data, lazily."""

    @abstractmethod
    def suspects(self, before: int) -> Iterator[int]:
        """Yield the numbers of blobs that are suspected since a moment before this one, lazily, at a cost
        that doesn't depend on the number of other blobs."""

    @abstractmethod
    def create_index(self, path: Path) -> None:
        """Make comparisons with a field and orders by it fast. Where an index exists already, and in a
        backend without indexes, nothing changes."""

    @abstractmethod
    def drop_index(self, path: Path) -> None:
        """Delete an index, if it exists."""

    @abstractmethod
    def indexes(self) -> list[Path]:
        """Return the fields that have an index."""

    @abstractmethod
    def close(self) -> None:
        """Release files and connections. Closing twice is allowed."""
