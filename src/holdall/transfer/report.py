"""The results of a transfer: counts, and every failure."""

from __future__ import annotations

from dataclasses import dataclass, field

from holdall.errors import ConcurrencyError, KeyConflictError, TransferError

_EXAMPLES = 3


@dataclass
class Report:
    """The result of `copy_store`, `sync_stores`, `move_store` or `verify_store`.

    Attributes:
        copied: Blobs written to the target.
        skipped: Blobs that were equal already.
        deleted: Blobs deleted: from the target by a sync, from the source by a move.
        checked: Blobs that `verify_store` read and found whole.
        bytes: The bytes that were copied or checked.
        seconds: The duration.
        resumed: Actions that an earlier run, which was stopped, had done already; not counted above.
        failures: For each key that failed, why.
        withheld: Deletes that weren't done, since something failed.
        left_out: Things in the source that aren't blobs and weren't copied: the number of each kind, such as
            `symbolic link`. The target's blobs at and under such a path stay.
        left_out_paths: For each kind a few of the paths.

    >>> report = Report(copied=2, bytes=3_000_000, seconds=1.5)
    >>> print(report)
    2 copied, 3.0 MB in 1.5 s (2.0 MB/s)
    >>> (report + Report(skipped=1)).ok
    True
    """

    copied: int = 0
    skipped: int = 0
    deleted: int = 0
    checked: int = 0
    bytes: int = 0
    seconds: float = 0.0
    resumed: int = 0
    failures: dict[str, Exception] = field(default_factory=dict[str, Exception])
    withheld: int = 0
    left_out: dict[str, int] = field(default_factory=dict[str, int])
    left_out_paths: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    @property
    def failed(self) -> int:
        """The number of keys that failed."""
        return len(self.failures)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def conflicts(self) -> list[str]:
        """The keys that failed because another writer changed the target's blob, or because something else is
        in its place."""
        kinds = (ConcurrencyError, KeyConflictError)
        return [key for key, error in self.failures.items() if isinstance(error, kinds)]

    def raise_for_failures(self) -> None:
        """Raise if anything failed.

        Raises:
            TransferError: Names the keys, the first few in its message.
        """
        if not self.failures:
            return
        shown = [f"{key!r} ({error!s})" for key, error in list(self.failures.items())[:3]]
        more = f" and {self.failed - 3} more" if self.failed > 3 else ""
        raise TransferError(
            f"{self.failed} of {self.failed + self.copied + self.skipped + self.deleted + self.checked} "
            f"failed: {', '.join(shown)}{more}",
            failures=dict(self.failures),
        )

    def merge(self, other: Report) -> None:
        """Add the counts of another report, and keep the longer time, as of runs side by side."""
        for name in ("copied", "skipped", "deleted", "checked", "bytes", "resumed", "withheld"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.seconds = max(self.seconds, other.seconds)
        self.failures.update(other.failures)
        for kind, count in other.left_out.items():
            self.left_out[kind] = self.left_out.get(kind, 0) + count
            paths = [*self.left_out_paths.get(kind, []), *other.left_out_paths.get(kind, [])]
            self.left_out_paths[kind] = paths[:_EXAMPLES]

    def __add__(self, other: Report) -> Report:
        both = Report()
        both.merge(self)
        both.merge(other)
        return both

    def __str__(self) -> str:
        notes = [
            f"left out: {count:,} ({kind}): {', '.join(map(_quote, self.left_out_paths.get(kind, [])))}"
            + (", ..." if count > len(self.left_out_paths.get(kind, [])) else "")
            for kind, count in self.left_out.items()
        ]
        if self.withheld:
            notes.append(f"withheld: {self.withheld:,} to be deleted, since something failed; run again")
        return "\n".join([self._summary(), *notes])

    def _summary(self) -> str:
        names = ("copied", "checked", "deleted", "skipped", "resumed", "failed")
        counts = [f"{getattr(self, name):,} {name}" for name in names if getattr(self, name)]
        took = f"{_bytes(self.bytes)} in {self.seconds:.1f} s"
        rate = f" ({_bytes(self.rate)}/s)" if self.bytes and self.seconds else ""
        return f"{', '.join([*counts, took]) if counts else 'nothing to do, ' + took}{rate}"


def _quote(path: str) -> str:
    # A path that shows what isn't UTF-8 by backslashes is printable.
    return f"'{path}'" if path.isprintable() else ascii(path)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
