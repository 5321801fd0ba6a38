"""The steps of a transfer for one blob, or for a batch of small ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from holdall.blob import attributes_of, mode_of
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    KeyConflictError,
    StoreError,
    StoreUnavailableError,
)
from holdall.pieces import join_pieces, regroup
from holdall.ranges import CHUNK
from holdall.stopping import Stop, Stopped
from holdall.store import ABSENT, ANY, PLAIN, Attributes, Body, Can, Expect, Info, Piece, Store
from holdall.transfer.step import Kind, Outcome, Rules, Status, Step

if TYPE_CHECKING:
    import hashlib

SMALL = 1 << 16
"""The largest blob that may go into a batch, in bytes."""

_HELD = CHUNK


class Worker:
    """Does the steps of a transfer, from any thread.

    Args:
        stop: Ends a long copy when it is set.
        final: Whether no blob that is in the way will be deleted later.
        dry: Whether to compare only.
    """

    failed: bool = False
    """Whether something failed. From then on nothing is deleted."""

    def __init__(
        self,
        source: Store,
        target: Store,
        rules: Rules,
        stop: Stop,
        *,
        final: bool = False,
        dry: bool = False,
    ) -> None:
        self._source = source
        self._target = target
        self._rules = rules
        self._stop = stop
        self._final = final
        self._dry = dry
        self.bulk = Can.BULK in target.can and target is not source  # which is read only, to verify it
        """Whether several steps at once are copies to where nothing was, to be put together."""
        self._creates = Can.CREATE in target.can
        self._swaps = Can.SWAP in target.can
        self._keeps = bool(target.can & (Can.ATTRIBUTES | Can.EXPIRE | Can.METADATA))
        self._take: dict[int, Callable[[Step], Outcome]] = {
            Kind.COPY: self._copy,
            Kind.COMPARE: self._compare,
            Kind.DELETE: self._delete,
            Kind.REMOVE: self._remove,
            Kind.CHECK: self._check,
            Kind.GIVE_UP: self._give_up,
        }

    def __call__(self, unit: list[Step]) -> list[Outcome]:
        """Do a step or several; small copies to where nothing was are put together, where that costs less."""
        if len(unit) == 1 or not self.bulk:
            return [self._act(step) for step in unit if not self._check_stop()]
        return self._batch(unit)

    def _check_stop(self) -> bool:
        if self._stop.is_set():
            raise Stopped
        return False

    def _act(
        self,
        step: Step,
        data: bytes | None = None,
        info: Info | None = None,
        pieces: Iterator[Piece] | None = None,
    ) -> Outcome:
        try:
            if info is not None:
                return self._put(step, info, data, pieces or iter(()))
            return self._take[step.kind](step)
        except KeyConflictError as error:
            if not self._final:
                return Outcome(step, Status.AGAIN)
            return self._fail_step(step, error)
        except Exception as error:  # noqa: BLE001 - one key's failure never stops the others
            return self._fail_step(step, error)

    def _fail_step(self, step: Step, error: Exception) -> Outcome:
        if step.kind == Kind.COPY and step.source_etag is None:
            kind = self._find_left_out(step.key)
            if kind is not None:
                return Outcome(step, Status.LEFT_OUT, left_out=kind)
        self.failed = True
        if isinstance(error, StoreError):
            error.key = step.key
        return Outcome(step, Status.FAILED, error=_bare(error))

    def _find_left_out(self, key: str) -> str | None:
        """Return the kind of an entry of an outline that isn't a blob."""
        try:
            for entry in self._source._survey(key, ""):
                if isinstance(entry, Info) or entry.path != key:
                    break
                return entry.kind
        except StoreError:
            # What failed first is reported.
            return None
        return None

    def _copy(self, step: Step, *, checked: bool = False) -> Outcome:
        try:
            info, pieces = self._source._read(step.key, 0, None)
        except BlobNotFoundError:
            return self._conclude_missing(step)
        if not checked:
            self._check_replaced(step)
        if info.size > _HELD:
            return self._put(step, info, None, pieces)
        return self._put(step, info, _read_whole(info, pieces, "the source"), pieces)

    def _conclude_missing(self, step: Step) -> Outcome:
        """Return the outcome of a step whose source is gone: an earlier shard moved it, or someone deleted
        it."""
        if self._rules.move:
            try:
                found = self._target._info(step.key)
            except BlobNotFoundError:
                pass
            else:
                if found.etag != step.target_etag:
                    return Outcome(step, Status.SKIPPED)
        raise BlobNotFoundError(
            "it was deleted from the source after it was listed; run again to bring the target up to date"
        )

    def _put(self, step: Step, info: Info, data: bytes | None, pieces: Iterator[Piece]) -> Outcome:
        key, target = step.key, self._target
        expect: Expect = ANY
        if step.target_etag is None:
            if self._creates:
                expect = ABSENT
        elif self._swaps:
            expect = step.target_etag
        attributes = self._attributes_of(info)
        stream: _Stream | None = None
        body: Body = (data,) if data is not None else ()
        if data is None:
            body = stream = _Stream(pieces, info.size, self._rules.verify, self._stop)
        try:
            written = target._write(key, body, expect, attributes)
        except ConcurrencyError as error:
            # Written by a run that was killed, or by a call whose answer was lost, it is the same blob.
            found = self._equal(key, info, data)
            if found is not None:
                return Outcome(step, Status.SKIPPED, 0, *found)
            if expect is ABSENT and _is_absent(target, key):
                raise KeyConflictError(
                    "something that isn't a blob lies at this key in the target; move it away, then run again"
                ) from None
            raise ConcurrencyError(
                "somebody changed the target's blob after it was listed, so it isn't replaced; run again to "
                "replace it",
                expected=error.expected,
                actual=error.actual,
            ) from None
        etag = self._verify(key, written, data, stream) if self._rules.verify else written.etag
        return Outcome(step, Status.COPIED, info.size, info.etag, etag)

    def _attributes_of(self, info: Info) -> Attributes:
        if not self._keeps and mode_of(info) is None:
            return PLAIN
        kept = attributes_of(info, self._target.can)
        return PLAIN if kept == PLAIN else kept

    def _check_replaced(self, step: Step) -> None:
        """Read the blob before it is replaced: an unreadable one may be the only copy, for example written
        with another key, and isn't replaced unless asked."""
        if step.target_etag is None or self._rules.replace_unreadable:
            return
        try:
            self._drain(self._read_target(step.key)[1])
        except BlobNotFoundError:
            return
        except _Unreadable as error:
            raise error.kept() from error.error.__cause__

    def _read_target(self, key: str) -> tuple[Info, Iterator[Piece]]:
        """Read as `_read` does, but with an error that differs from a failure of the source."""
        try:
            info, pieces = self._target._read(key, 0, None)
        except BlobNotFoundError:
            raise
        except Exception as error:
            raise _Unreadable(error) from error
        return info, _readable(pieces)

    def _drain(self, pieces: Iterator[Piece]) -> None:
        for _ in pieces:
            self._check_stop()

    def _verify(self, key: str, written: Info, data: bytes | None, stream: _Stream | None) -> str:
        """Read the copy back, which must have the bytes of the source; return its ETag."""
        if data is not None and self._target._get(key) == data:
            return written.etag
        try:
            found, pieces = self._target._read(key, 0, None)
            if data is not None:
                same = found.size == len(data) and join_pieces(pieces) == data
            else:
                same = stream is not None and self._digest(pieces) == stream.digest
        except BlobNotFoundError:
            raise IntegrityError("the target lost the blob right after it was written") from None
        if same:
            return found.etag
        if found.etag != written.etag:
            raise ConcurrencyError(
                "somebody replaced the target's blob right after it was copied; run again to replace it",
                expected=written.etag,
                actual=found.etag,
            )
        raise IntegrityError("the target returns other bytes than were written to it; check its medium")

    def _digest(self, pieces: Iterator[Piece]) -> bytes:
        digest = _hash("blake2b")
        for piece in pieces:
            if self._stop.is_set():
                raise Stopped
            digest.update(piece)
        return digest.digest()

    def _batch(self, steps: list[Step]) -> list[Outcome]:
        """Put small new blobs together; special cases go one by one."""
        outcomes: list[Outcome] = []
        held: dict[str, tuple[Step, Info, bytes]] = {}
        for step in steps:
            if self._stop.is_set():
                raise Stopped
            try:
                info, pieces = self._source._read(step.key, 0, None)
                # The plan may not know the size.
                if info.size > SMALL:
                    outcomes.append(self._act(step, None, info, pieces))
                else:
                    held[step.key] = step, info, _read_whole(info, pieces, "the source")
            except BlobNotFoundError:
                outcomes.append(self._act(step))
            except Exception as error:  # noqa: BLE001 - one key's failure never stops the others
                outcomes.append(self._fail_step(step, error))
        return outcomes + self._put_together(held)

    def _put_together(self, held: dict[str, tuple[Step, Info, bytes]]) -> list[Outcome]:
        """Put blobs by one call. If it fails, each half of them is put so: what can't be put is alone in the
        end, and raises its own error."""
        self._check_stop()
        if len(held) < 2:
            return self._each(held)
        outcomes: list[Outcome] = []
        target = self._target
        try:
            # A batch can't be put on condition: blobs that another writer has put meanwhile are found first.
            for key, _ in target._get_many(list(held)):
                step, info, data = held.pop(key)
                outcomes.append(self._act(step, data, info))
            entries = [(key, (data,), self._attributes_of(info)) for key, (_, info, data) in held.items()]
            written = {info.key: info for info in target._put_many(entries)}
            found = dict(target._get_many(list(held))) if self._rules.verify else None
        except StoreUnavailableError:
            # The halves would fail in the same way, and wait for the store as long.
            return outcomes + self._each(held)
        except Exception:  # noqa: BLE001 - each of them is tried
            left = iter(held.items())
            half = dict(islice(left, len(held) // 2))
            return outcomes + self._put_together(half) + self._put_together(dict(left))
        for key, (step, info, data) in held.items():
            if found is not None and found.get(key) != data:
                outcomes.append(self._verify_doubted(step, info, written[key], data))
                continue
            outcomes.append(Outcome(step, Status.COPIED, info.size, info.etag, written[key].etag))
        return outcomes

    def _each(self, held: dict[str, tuple[Step, Info, bytes]]) -> list[Outcome]:
        return [self._act(step, data, info) for step, info, data in held.values() if not self._check_stop()]

    def _verify_doubted(self, step: Step, info: Info, written: Info, data: bytes) -> Outcome:
        try:
            etag = self._verify(step.key, written, data, None)
            return Outcome(step, Status.COPIED, info.size, info.etag, etag)
        except Exception as error:  # noqa: BLE001 - one key's failure never stops the others
            return self._fail_step(step, error)

    def _compare(self, step: Step) -> Outcome:
        key, source, target = step.key, self._source, self._target
        # A move doesn't trust digests: they are of what was written, not of what is there now.
        if self._rules.digests and not (self._rules.move and self._rules.verify):
            for algorithm in ("sha256", "blake3"):
                mine = source._digest(key, algorithm)
                if mine is None:
                    continue
                yours = target._digest(key, algorithm)
                if yours == mine:
                    return Outcome(step, Status.SKIPPED, 0, step.source_etag, step.target_etag)
                if yours is not None:
                    return Outcome(step, Status.DIFFERS) if self._dry else self._copy(step)
        try:
            info, pieces = source._read(key, 0, None)
        except BlobNotFoundError:
            return self._conclude_missing(step)
        data = _read_whole(info, pieces, "the source") if info.size <= _HELD else None
        found = self._equal(key, info, data, pieces, replaces=self._rules.replace_unreadable)
        if found is not None:
            return Outcome(step, Status.SKIPPED, 0, *found)
        if self._dry:
            return Outcome(step, Status.DIFFERS)
        # The target's blob was just read to its end.
        return self._copy(step, checked=True) if data is None else self._put(step, info, data, pieces)

    def _equal(
        self,
        key: str,
        info: Info,
        data: bytes | None,
        pieces: Iterator[Piece] | None = None,
        *,
        replaces: bool | None = None,
    ) -> tuple[str, str] | None:
        """Return the ETags of both blobs if their bytes are equal. Otherwise the target's was read to its
        end.

        Args:
            key: Which.
            info: Of the source's blob.
            data: Its bytes, if they are in memory.
            pieces: Otherwise its pieces; None to read them again.
            replaces: Whether a blob of the target that can't be read is replaced; None if it isn't asked.
        """
        try:
            found, theirs = self._read_target(key)
            if found.size != info.size:
                self._drain(theirs)
                return None
            if data is not None:
                return (info.etag, found.etag) if join_pieces(theirs) == data else None
            if pieces is None:
                info, pieces = self._source._read(key, 0, None)
            mine, yours = regroup(pieces, CHUNK), regroup(theirs, CHUNK)
            while True:
                self._check_stop()
                one, other = next(mine, b""), next(yours, b"")
                if one != other:
                    self._drain(yours)
                    return None
                if not one:
                    return info.etag, found.etag
        except BlobNotFoundError:
            if pieces is not None and not _is_absent(self._target, key):
                raise  # the source's blob was deleted
            return None
        except _Unreadable as error:
            if replaces and isinstance(error.error, StoreError):
                return None
            found_error = error.error if replaces is None else error.kept()
            raise found_error from error.error.__cause__

    def _delete(self, step: Step) -> Outcome:
        if self.failed:
            return Outcome(step, Status.WITHHELD)
        # The plan may be old, and the listing incomplete: only the source itself can show that it is absent.
        if not _is_absent(self._source, step.key):
            raise ConcurrencyError(
                "the source has this blob now, but lacked it when it was listed, so the target's isn't "
                "deleted; run again"
            )
        exact = Can.CONDITIONAL_DELETE in self._target.can
        expect = step.target_etag if exact and step.target_etag is not None else ANY
        try:
            self._target._delete(step.key, expect)
        except ConcurrencyError as error:
            if error.actual is not None or not _is_absent(self._target, step.key):
                raise ConcurrencyError(
                    "somebody changed the target's blob after it was listed, so it isn't deleted; run again "
                    "to delete it",
                    expected=error.expected,
                    actual=error.actual,
                ) from None
        return Outcome(step, Status.DELETED)

    def _remove(self, step: Step) -> Outcome:
        key = step.key
        if self.failed:
            return Outcome(step, Status.WITHHELD)
        if step.target_etag is None or self._rules.verify:
            # A blob that was called equal without a look at the bytes may be their only copy.
            info, pieces = self._source._read(key, 0, None)
            found = self._equal(key, info, None, pieces)
            if found is None:
                raise IntegrityError(
                    "the target holds other bytes, though compare= calls them equal, so the source's blob "
                    "isn't deleted: pass compare='content' to replace the target's, or verify=False to "
                    "delete the source's unseen"
                )
            step = step._replace(target_etag=step.target_etag or found[1])
        return self._give_up(step)

    def _give_up(self, step: Step) -> Outcome:
        """Delete a blob from the source, if both stores hold what was compared or copied."""
        key, source, etag = step.key, self._source, step.source_etag or ""
        if self.failed:
            return Outcome(step, Status.WITHHELD)
        if self._target._info(key).etag != step.target_etag:
            raise ConcurrencyError(
                "somebody changed the target's blob, so the source's isn't deleted; run again"
            )
        try:
            if Can.CONDITIONAL_DELETE in source.can:
                source._delete(key, etag)
                return Outcome(step, Status.DELETED)
            if (actual := source._info(key).etag) == etag:
                source._delete(key, ANY)
                return Outcome(step, Status.DELETED)
        except BlobNotFoundError:
            return Outcome(step, Status.DELETED)
        except ConcurrencyError as error:
            actual = error.actual
            if actual is None and _is_absent(source, key):
                return Outcome(step, Status.DELETED)
        raise ConcurrencyError(
            "the source's blob changed while it was moved, so it isn't deleted: the target holds what it was "
            "before; run again to move the new one",
            expected=etag,
            actual=actual,
        )

    def _check(self, step: Step) -> Outcome:
        store, key = self._source, step.key
        for last in (False, True):
            info, pieces = store._read(key, 0, None)
            known, algorithm = store._digest(key, "sha256"), "sha256"
            digest = None if known is None else _hash(algorithm)
            size = 0
            for piece in pieces:
                if self._stop.is_set():
                    raise Stopped
                size += len(piece)
                if digest is not None:
                    digest.update(piece)
            if size != info.size:
                raise IntegrityError(f"the store returned {size} bytes of a blob of {info.size}")
            if digest is None or digest.hexdigest() == known:
                return Outcome(step, Status.CHECKED, size)
            # The digest may be of another version than the bytes, if a writer replaced the blob in between.
            if last or store._info(key).etag == info.etag:
                break
        raise IntegrityError("the digest of the bytes isn't the one that was recorded for them")


def _hash(algorithm: str) -> hashlib._Hash:
    # Its import takes as long as comparing a thousand Infos, and most runs read no blobs.
    import hashlib

    return hashlib.new(algorithm)


class _Unreadable(Exception):
    """A blob of the target can't be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error

    def kept(self) -> Exception:
        """Return the error of a blob that isn't replaced."""
        if isinstance(self.error, StoreError):
            self.error.message += (
                "; the target's blob can't be read, so it isn't replaced: repair or delete it, or pass "
                "replace_unreadable=True"
            )
        return self.error


def _readable(pieces: Iterator[Piece]) -> Iterator[Piece]:
    try:
        yield from pieces
    except (BlobNotFoundError, ConcurrencyError):
        raise
    except Exception as error:
        raise _Unreadable(error) from error


class _Stream:
    """The pieces of a blob on their way, counted and digested."""

    def __init__(self, pieces: Iterator[Piece], size: int, digested: bool, stop: Stop) -> None:
        self._pieces = pieces
        self.size = size
        self._digest = _hash("blake2b") if digested else None
        self._stop = stop

    def __iter__(self) -> Iterator[Piece]:
        count = 0
        for piece in self._pieces:
            if self._stop.is_set():
                raise Stopped
            count += len(piece)
            if self._digest is not None:
                self._digest.update(piece)
            yield piece
        if count != self.size:
            raise IntegrityError(f"the source returned {count} bytes of a blob of {self.size}")

    @property
    def digest(self) -> bytes | None:
        return None if self._digest is None else self._digest.digest()


def _read_whole(info: Info, pieces: Iterator[Piece], where: str) -> bytes:
    data = join_pieces(pieces)
    if len(data) != info.size:
        raise IntegrityError(f"{where} returned {len(data)} bytes of a blob of {info.size}")
    return data


def _is_absent(store: Store, key: str) -> bool:
    try:
        store._info(key)
    except BlobNotFoundError:
        return True
    return False


def _bare(error: Exception) -> Exception:
    """Return the error without its frames, which would keep every blob that failed in memory."""
    link: BaseException | None = error
    for _ in range(16):
        if link is not None:
            link.__traceback__ = None
            link = link.__cause__ or link.__context__
    return error
