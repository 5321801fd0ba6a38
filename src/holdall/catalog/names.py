"""What protects versions and blobs: aliases and leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.row import Lease as LeaseRow
from holdall.catalog.row import Row
from holdall.errors import BlobNotFoundError, ProtectedError


def is_leased(tx: Transaction, blob: int, now: int) -> bool:
    """Return whether somebody holds a lease on a blob."""
    return any(lease.until > now for lease in tx.leases(blob))


def protected_versions(tx: Transaction, key: str, versions: Sequence[Row], now: int) -> set[int]:
    """Return the numbers of the versions that an alias points at or that somebody holds a lease on."""
    kept = {alias.version for alias in tx.aliases(key)}
    return kept | {row.version for row in versions if is_leased(tx, row.blob, now)}


def check_unprotected(tx: Transaction, key: str, version: int | None = None) -> None:
    """Refuse to delete what an alias points at: a version, or any version of a key.

    Raises:
        ProtectedError: An alias does.
    """
    found = [each for each in tx.aliases(key) if version is None or each.version == version]
    if found:
        names = ", ".join(f"{each.name!r} (version {each.version})" for each in found)
        raise ProtectedError(
            f"it can't be deleted while an alias points at it: {names}; move or delete the alias first",
            key=key,
            aliases=tuple(each.name for each in found),
        )


def not_found(key: str, version: int | None = None) -> BlobNotFoundError:
    """Return the error for a key or a version that the catalogue lacks."""
    text = "it isn't in the catalogue" if version is None else f"it has no version {version}"
    return BlobNotFoundError(text, key=key)


class Lease:
    """A promise that the bytes of one version stay, whatever is deleted, until the lease is released or runs
    out. It is a context manager, which releases it.

    Attributes:
        key: The key.
        version: The version that is held.
    """

    def __init__(
        self,
        backend: MetadataBackend,
        key: str,
        version: int,
        name: str,
        blob: int,
        extend: Callable[[], int],
    ) -> None:
        self.key = key
        self.version = version
        self._backend = backend
        self._name = name
        self._blob = blob
        self._extend = extend

    def renew(self) -> None:
        """Hold it for its whole time again, from now on.

        Raises:
            BlobNotFoundError: It has run out, and the bytes have been swept since; or it was of a small
                object in a database, whose bytes went with its row when it was deleted.
        """

        def renew(tx: Transaction) -> None:
            found = tx.blob(self._blob)
            if found is None or found.until:
                raise BlobNotFoundError(
                    f"the bytes of version {self.version} are gone: it was deleted, or was swept after the "
                    "lease had run out",
                    key=self.key,
                )
            tx.put_lease(LeaseRow(self._name, self._blob, self._extend()))

        self._backend.transact(renew)

    def release(self) -> None:
        """Give it back. Twice is allowed."""
        self._backend.transact(lambda tx: tx.drop_lease(self._name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"Lease({self.key!r}, version={self.version})"
