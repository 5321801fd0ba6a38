"""The upkeep of a catalogue: sweeping bytes that no entry names, and looking whether all bytes are there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final, TypeAlias

from holdall.arguments import check_seconds
from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.blobs import BlobBackend, address_of, sums_of
from holdall.catalog.names import is_leased
from holdall.catalog.row import Blob, Row
from holdall.catalog.storage import check_storage, mark_storage
from holdall.catalog.usage import all_rows
from holdall.catalog.writing import CLAIMED, micros
from holdall.errors import BlobNotFoundError, DeleteRefusedError, InvalidArgumentError

Progress: TypeAlias = Callable[[int], object]

_log = logging.getLogger("holdall")
QUARANTINE: Final = "quarantine/"


@dataclass(frozen=True, slots=True)
class Collection:
    """What a `collect` deleted, or would delete.

    Attributes:
        blobs: The number of blobs.
        bytes: Their stored bytes.
        kept: The number of blobs that no entry names, and that stay: younger than the grace, leased, or under
            way.
        dry_run: Whether nothing was deleted.
    """

    blobs: int
    bytes: int
    kept: int
    dry_run: bool


@dataclass(slots=True)
class Verification:
    """What a `verify` found.

    Attributes:
        checked: The number of blobs whose bytes were read.
        missing: The keys of entries whose bytes are gone, with versions.
        damaged: The keys of entries whose bytes have changed, with versions.
        unknown: The addresses of blobs in the storage that the catalogue doesn't know.
        repaired: What was moved into quarantine.
        differing: The keys of entries whose bytes are those that were put, by their checksum, but not the
            object that their digest names, with versions. They are looked for by `verify(digests=True)`, as
            are the next.
        unread: The keys of entries whose objects can't be read here, so that their digest isn't known, with
            versions: a library isn't installed, or a class is gone.
    """

    checked: int = 0
    missing: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    damaged: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    unknown: list[str] = field(default_factory=list[str])
    repaired: list[str] = field(default_factory=list[str])
    differing: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    unread: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, damaged, unknown or differing."""
        return not (self.missing or self.damaged or self.unknown or self.differing)


def collect(
    backend: MetadataBackend, blobs: BlobBackend, grace: float | timedelta, dry_run: bool, max_share: float
) -> Collection:
    """Delete the blobs that no row names. Each of these keeps a blob:

    - a row names it, in the transaction that claims it;
    - a lease on it hasn't run out;
    - it was suspected, or renewed by a put, less than the grace ago;
    - the clock of the storage says that it was written less than the grace ago;
    - its writer may still be under way.

    Only suspected blobs are looked at, so that the work is that of the garbage.
    """
    seconds = 0.0 if grace == 0 else check_seconds(grace, "grace")
    if isinstance(max_share, bool) or not 0 <= max_share <= 1:
        raise InvalidArgumentError(f"max_share must be a share from 0.0 to 1.0, not {max_share!r}")
    width = int(seconds * 1_000_000)
    sweep = _Sweep(backend, blobs, width)
    found, kept = sweep.find()
    if found:
        _check_share(backend, len(found), max_share)
        sweep.check_storage(write=not dry_run)
        if not dry_run:
            sweep.drop_old_leases()
    taken = size = 0
    for blob in found:
        if sweep.is_fresh(blob):
            kept += 1
        elif dry_run or sweep.take(blob):
            taken, size = taken + 1, size + blob.size
        else:
            kept += 1
    if taken and not dry_run:
        _log.info("collected %d blobs of %d bytes", taken, size)
    return Collection(taken, size, kept, dry_run)


def _check_share(backend: MetadataBackend, garbage: int, max_share: float) -> None:
    """Refuse a sweep that would take too much, as one of a catalogue does that has lost its rows."""
    if max_share >= 1:
        return
    # No more of them are looked at than it takes to know.
    enough = int(garbage / max_share) + 1 if max_share else garbage
    total = sum(1 for _ in islice(backend.blobs(), enough))
    if garbage > max_share * total:
        raise DeleteRefusedError(
            f"collect would delete {garbage:,} of {total:,} blobs, a larger share than {max_share:g}; if the "
            "entries were meant to go, allow it with max_share=1.0",
            deletes=garbage,
            selected=total,
        )


# The rules that keep a blob, each a function, so that a test can turn it off and see what goes then.


def is_named(tx: Transaction, number: int) -> bool:
    """Return whether a row names a blob."""
    return tx.is_named(number)


def is_young(since: int, before: int) -> bool:
    """Return whether a blob was suspected, or renewed, after a moment."""
    return since > before


def is_under_way(blob: Blob, now: int) -> bool:
    """Return whether the writer of a blob may still be at work."""
    return blob.until > now


def is_written_since(modified: datetime, moment: datetime) -> bool:
    """Return whether a blob was written after a moment of its storage's clock."""
    return modified > moment


class _Sweep:
    def __init__(self, backend: MetadataBackend, blobs: BlobBackend, grace: int) -> None:
        self._backend = backend
        self._blobs = blobs
        self._grace = grace
        self._began = micros()
        self._now: datetime | None = None

    def find(self) -> tuple[list[Blob], int]:
        """Return the suspected blobs that may go, and how many stay."""
        found: list[Blob] = []
        kept = 0
        # A moment later than now, so that a grace of nothing takes what was suspected in this microsecond.
        for number in self._backend.suspects(self._began - self._grace + 1):
            blob = self._backend.transact(lambda tx, number=number: self._judge(tx, number))
            if isinstance(blob, Blob):
                found.append(blob)
            elif blob:
                kept += 1
        return found, kept

    def _judge(self, tx: Transaction, number: int) -> Blob | bool:
        """Return a blob that may go; otherwise whether it is one that stays without a row."""
        blob = tx.blob(number)
        since = tx.suspected(number)
        if blob is None or since is None:
            return False
        if is_named(tx, number):
            # A row names it again: it was put, or restored.
            tx.acquit(number)
            return False
        stays = (
            is_young(since, self._began - self._grace)
            or is_leased(tx, number, self._began)
            or is_under_way(blob, self._began)
        )
        return stays or blob

    def drop_old_leases(self) -> None:
        """Delete the leases of readers that were killed."""

        def drop(tx: Transaction) -> None:
            for lease in tx.leases():
                if lease.until < self._began:
                    tx.drop_lease(lease.name)

        self._backend.transact(drop)

    def is_fresh(self, blob: Blob) -> bool:
        """Return whether the storage says that a blob was written within the grace."""
        if not self._grace:
            return False
        try:
            modified = self._blobs.store.info(address_of(self._blobs, blob)).modified
        except BlobNotFoundError:
            return False
        assert self._now is not None
        return is_written_since(modified, self._now - timedelta(microseconds=self._grace))

    def take(self, blob: Blob) -> bool:
        """Delete a blob; return whether it may still go.

        It is claimed in a transaction that looks at everything once more. From then on no put relies on it:
        the same bytes get another number, thus another address. A kill after the claim leaves a suspected
        blob that the next sweep takes.
        """

        def claim(tx: Transaction) -> bool:
            if not isinstance(self._judge(tx, blob.number), Blob):
                return False
            tx.put_blob(replace(blob, until=CLAIMED))
            return True

        if not self._backend.transact(claim):
            return False
        if not blob.inline:
            self._blobs.store.delete(address_of(self._blobs, blob))
        self._backend.transact(lambda tx: tx.drop_blob(blob.number))
        return True

    def check_storage(self, *, write: bool) -> None:
        """Ask the storage for its time, and whether it has seen this catalogue in a later state.

        Raises:
            DeleteRefusedError: It has, or it belongs to another catalogue.
        """
        number = check_storage(self._backend, self._blobs)
        self._now = mark_storage(self._backend, self._blobs, number) if write else datetime.now(UTC)


def verify(
    backend: MetadataBackend, blobs: BlobBackend, repair: bool, progress: Progress | None
) -> Verification:
    """Compare rows with bytes, and bytes with rows."""
    found = Verification()
    # The addresses come first: a blob that is put meanwhile has its row before it has its bytes, so that each
    # address that was listed has a row by now, unless it is unknown or was swept since.
    unknown = dict(blobs.addresses())
    bad: dict[int, str] = {}
    known: set[int] = set()
    for blob in backend.blobs():
        known.add(blob.number)
        unknown.pop(address_of(blobs, blob), None)
        if blob.until:
            continue
        fault = _fault_of(blobs, blob)
        found.checked += 1
        if fault is not None:
            bad[blob.number] = fault
        if progress is not None:
            progress(found.checked)
    for row in all_rows(backend):
        if row.blob in bad:
            places = found.missing if bad[row.blob] == "missing" else found.damaged
            places.append((row.key, row.version))
        elif row.blob not in known and _is_lost(backend, row):
            found.missing.append((row.key, row.version))
    found.unknown += unknown
    if repair:
        _quarantine(backend, blobs, found, [number for number, fault in bad.items() if fault == "damaged"])
    return found


def _is_lost(backend: MetadataBackend, row: Row) -> bool:
    """Return whether a row names a blob that the catalogue doesn't know, also when both are looked at once: a
    row may have been put, or deleted, since the blobs were listed."""

    def act(tx: Transaction) -> bool:
        now = tx.row(row.key, row.version)
        return now is not None and tx.blob(now.blob) is None

    return backend.transact(act)


def _fault_of(blobs: BlobBackend, blob: Blob) -> str | None:
    if blob.inline:
        return None
    try:
        stored = sums_of(blobs, blob)
    except BlobNotFoundError:
        return "missing"
    return None if stored == (blob.size, blob.crc) else "damaged"


def _quarantine(
    backend: MetadataBackend, blobs: BlobBackend, found: Verification, damaged: list[int]
) -> None:
    """Move what is damaged or unknown out of the way. The rows stay, and say that their bytes are gone."""
    places = list(found.unknown)
    for number in damaged:
        blob = backend.transact(lambda tx, number=number: tx.blob(number))
        if blob is not None:
            places.append(address_of(blobs, blob))
    for address in places:
        try:
            blobs.store.move(address, QUARANTINE + address.rpartition("/")[2])
        except BlobNotFoundError:
            continue
        found.repaired.append(address)
