"""The check, before a handle's first call, that its keys are those that a store was encrypted with.

A small blob below, the *record*, holds the fingerprints of the keys that blobs are encrypted under, each with
a proof that its writer had that key. It is made before the first blob. Where there is none, because it was
lost or the store below lacks a place for it, the headers of the blobs that are there decide.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final, NamedTuple

from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidKeyError,
    WrongKeyError,
)
from holdall.layers.frames import read_part
from holdall.layers.keyring import KeyRing
from holdall.layers.sealing import HEAD, BlobKey, listed_keys
from holdall.pieces import join_pieces
from holdall.store import ABSENT, ANY, PLAIN, Can, Expect, Piece, Store

RECORD: Final = "holdall.encryption"
"""The key of the record. A store below that is itself encrypted has one there; then a number follows."""
_PLACES: Final = (RECORD, *(f"{RECORD}.{number}" for number in range(2, 6)))
_MAGIC: Final = b"hldlkey2"
_ENTRY: Final = struct.Struct(">c8s32s")
_BLOBS: Final = b"b"
_NAMES: Final = b"n"
_DIGEST: Final = 8
_LARGEST: Final = 1 << 16
_SEARCHED: Final = 256
"""The number of blobs that are checked if the record is missing."""

Entries = dict[tuple[bytes, bytes], bytes]
"""The proofs, by kind and fingerprint."""


class _Record(NamedTuple):
    etag: str
    entries: Entries


class KeyCheck:
    """Refuses the first call of a handle that has another key than the store was encrypted with.

    It holds no lock: two threads that ask at once do the same work twice and come to the same answer.
    """

    def __init__(
        self, store: Store, ring: KeyRing, judge: Callable[[str, Piece], bool | WrongKeyError]
    ) -> None:
        self._store = store
        self.keys = ring.all
        """All keys of the handle, by their fingerprints."""
        self._current, self._names, self._context = ring.current, ring.names, ring.context
        self._judge = judge
        """From a key below and the first bytes of its blob to True if one of the keys opens it, False if it
        isn't an encrypted blob, or the error."""
        self._searched = False
        self.readable = False
        """Whether the keys are known to be the right ones."""
        self.writable = False
        """Whether the record also lists the key that encrypts."""
        self.place: str | None = next(filter(self._is_place, _PLACES), None)
        """The record's key below; None where the store below can't have one."""

    def _is_place(self, place: str) -> bool:
        try:
            self._store._checked(place)
        except InvalidKeyError:
            return False
        return True

    def forget(self) -> None:
        """Ask again at the next call."""
        self.readable = self.writable = self._searched = False

    def before_reading(self) -> None:
        """Find out whether the keys are the right ones, unless that is known.

        Raises:
            WrongKeyError: They aren't.
            IntegrityError: The record was changed.
        """
        found = self._find_record()
        if found is not None:
            self._accept(found)
        elif not self._searched:
            # A store in which nothing is encrypted yet is searched once; its first writer makes the
            # record, for which each call looks.
            self.readable = self._search(())
            self._searched = True

    def before_writing(self, keys: Iterable[str] = ()) -> None:
        """Do the same, and list the key that encrypts in the record before anything is encrypted under it.
        `keys` are the keys below that are about to be written."""
        # Two handles with different keys that come to an empty store at once both find no record. One of
        # them creates it; the other's creation is refused, and it begins again and finds the wrong key. Where
        # the store below can't create, the one that wrote last is found by both when they look again, unless
        # the other has looked already.
        while True:
            found = self._find_record()
            expect: Expect = ANY
            if found is None:
                # Blobs without a record: any of the keys may have encrypted some of them.
                listed = self.keys.values() if self._search(keys) else (self._current,)
                entries = self._entries(listed)
                if Can.CREATE in self._store.can:
                    expect = ABSENT
            else:
                self._accept(found)
                if self.writable:
                    return
                entries = found.entries | self._entries((self._current,))
                if Can.SWAP in self._store.can:
                    expect = found.etag
            if self.place is None or self._write_record(self.place, entries, expect):
                self.readable = self.writable = True
                return

    def after_rotation(self) -> None:
        """List the current key alone: nothing is encrypted under another any more."""
        found = self._find_record()
        entries = self._entries((self._current,))
        if self.place is None or (found is not None and found.entries == entries):
            return
        expect: Expect = ANY
        if found is not None:
            expect = found.etag
        elif Can.CREATE in self._store.can:
            expect = ABSENT
        # Where another handle has changed it meanwhile, it may list too many, which does no harm.
        self._write_record(self.place, entries, expect)

    def _entries(self, keys: Iterable[BlobKey]) -> Entries:
        entries = {(_BLOBS, key.id): key.proof for key in keys}
        if self._names is not None:
            entries[_NAMES, self._names.id] = self._names.proof
        return entries

    def _write_record(self, place: str, entries: Entries, expect: Expect) -> bool:
        """Write the record; return whether it is sure to be there now."""
        body = _MAGIC + b"".join(_ENTRY.pack(*kind, proof) for kind, proof in sorted(entries.items()))
        try:
            self._store._write(place, (body + _digest(body),), expect, PLAIN)
        except ConcurrencyError:
            return False
        return expect is not ANY

    def _find_record(self) -> _Record | None:
        if self.place is None:
            return None
        try:
            info, pieces = self._store._read(self.place, 0, None)
            body = b"" if info.size > _LARGEST else join_pieces(pieces)
        except BlobNotFoundError:
            return None
        listed, digest = body[len(_MAGIC) : -_DIGEST], body[-_DIGEST:]
        if body[:7] == _MAGIC[:7] and body[7:8] > _MAGIC[7:]:
            raise IntegrityError(
                f"the blob {self.place!r} in the store below, which lists the store's keys, was written by a "
                "newer version of holdall; upgrade holdall"
            )
        if (
            not body.startswith(_MAGIC)
            or _digest(body[:-_DIGEST]) != digest
            or not listed
            or len(listed) % _ENTRY.size
        ):
            raise IntegrityError(
                f"the blob {self.place!r} in the store below, which lists the store's keys, was changed; "
                "restore it, or delete it there: the next write makes it again"
            )
        return _Record(info.etag, {(kind, id_): proof for kind, id_, proof in _ENTRY.iter_unpack(listed)})

    def _accept(self, found: _Record) -> None:
        theirs = [id_ for kind, id_ in found.entries if kind == _BLOBS]
        mine = [key for id_, key in self.keys.items() if (_BLOBS, id_) in found.entries]
        if not mine:
            raise self._refusal(
                f"it was encrypted with {_as_hex(theirs)}, and this EncryptedStore has "
                f"{listed_keys(self.keys.values())}"
            )
        for key in mine:
            if not hmac.compare_digest(key.proof, found.entries[_BLOBS, key.id]):
                raise self._refusal(
                    f"it was encrypted with the key {key.name!r} in another context than {self._context!r}"
                )
        self._accept_names(found)
        self.readable = True
        self.writable = (_BLOBS, self._current.id) in found.entries

    def _accept_names(self, found: _Record) -> None:
        theirs = [id_ for kind, id_ in found.entries if kind == _NAMES]
        if self._names is None:
            if theirs:
                raise self._refusal(
                    f"its keys are encrypted with the names key {_as_hex(theirs)}; give it as names="
                )
        elif not theirs:
            raise self._refusal("its keys aren't encrypted; leave names= out")
        elif self._names.id not in theirs:
            raise self._refusal(
                f"its keys are encrypted with the names key {_as_hex(theirs)}, and this EncryptedStore has "
                f"{self._names.id.hex()}"
            )

    def _refusal(self, why: str) -> WrongKeyError:
        where = "" if self.place is None else f"; its keys are listed in its blob {self.place!r}"
        return WrongKeyError(
            f"the store below was encrypted with another key: {why}. Nothing was read or changed. Give the "
            f"key that it was encrypted with{where}"
        )

    def _search(self, keys: Iterable[str]) -> bool:
        """Return whether one of the keys opens a blob; raise if all encrypted blobs are under other keys."""
        refused: WrongKeyError | None = None
        for key in islice(self._candidates(keys), _SEARCHED):
            try:
                header = join_pieces(read_part(self._store, key, 0, HEAD)[1])
            except BlobNotFoundError:
                continue
            except WrongKeyError:
                raise
            except IntegrityError:
                # One blob is damaged. Others show the key as well, and a read of this one raises.
                continue
            verdict = self._judge(key, header)
            if verdict is True:
                return True
            if isinstance(verdict, WrongKeyError):
                refused = refused or verdict
        if refused is not None:
            raise self._refusal(f"its blob {refused.key!r} says: {refused.message}")
        return False

    def _candidates(self, keys: Iterable[str]) -> Iterator[str]:
        listed = self._store._keys("", "") if Can.LIST in self._store.can else iter(())
        return (key for key in chain(keys, listed) if key != self.place)


def _digest(body: bytes) -> bytes:
    # Against accidents: this distinguishes a damaged record from one of another key.
    return hashlib.sha256(body).digest()[:_DIGEST]


def _as_hex(ids: Iterable[bytes]) -> str:
    return ", ".join(id_.hex() for id_ in ids)
