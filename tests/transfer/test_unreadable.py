"""A blob of the target that can't be read is never replaced unasked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdall.errors import (
    DeleteRefusedError,
    IntegrityError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
    WrongKeyError,
)
from holdall.layers.checksum import ChecksumStore
from holdall.layers.compressed import CompressedStore
from holdall.layers.encrypted import EncryptedStore
from holdall.layers.layer import Transparent
from holdall.layers.prefix import PrefixStore
from holdall.store import Info, Piece, Store
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.memory import MemoryStore
from holdall.stores.zip import ZipStore
from holdall.transfer import copy_store, diff_stores, move_store, sync_stores, verify_store

KEY, OTHER = b"a" * 32, b"b" * 32

COMPARES: list[Any] = ["auto", "size", "modified", "content", "etag", lambda one, other: False]


def damaged(medium: MemoryStore, key: str, place: int) -> None:
    data = bytearray(medium[key])
    data[place] ^= 0x55
    medium[key] = bytes(data)


LAYERS: dict[str, tuple[Callable[[Store], Store], str]] = {
    "encrypted": (lambda below: EncryptedStore(below, KEY), "k"),
    "compressed": (lambda below: CompressedStore(below), "k.zst"),
    "checksum": (lambda below: ChecksumStore(below), "k"),
    "both": (lambda below: CompressedStore(EncryptedStore(below, KEY)), "k.zst"),
}


@pytest.mark.parametrize("compare", COMPARES)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_damaged_blob_is_a_failure(layer: str, compare: Any) -> None:
    make, _ = LAYERS[layer]
    for old in (b"other bytes" * 20_000, b"another size"):
        medium = MemoryStore()
        target = make(medium)
        target.update({"k": old, "old": b"", "l": b"x"})
        (below,) = [key for key in medium if key.startswith("k")]
        damaged(medium, below, len(medium[below]) - 3)
        before = medium[below]
        source = MemoryStore({"k": os.urandom(len(b"other bytes" * 20_000)), "l": b"new", "m": b"1"})
        try:
            report = sync_stores(source, target, compare=compare, max_delete=1.0)
        except IntegrityError:
            # Some layers notice it in the listing.
            assert medium[below] == before
            continue
        assert medium[below] == before or compare in ("size", "modified")
        if "k" in report.failures:
            assert isinstance(report.failures["k"], IntegrityError)
            assert "replace_unreadable" in str(report.failures["k"])
            assert (report.deleted, report.withheld, target["m"]) == (0, 1, b"1")
        else:
            # It was called equal without a look at it.
            assert compare in ("size", "modified")
            assert medium[below] == before
        if compare in ("auto", "content"):
            report = sync_stores(source, target, compare=compare, replace_unreadable=True, max_delete=1.0)
            assert report.ok, report.failures
            assert dict(target.items()) == dict(source)


@pytest.mark.parametrize("move", [False, True])
def test_what_is_replaced_is_read_to_its_end(move: bool, tmp_path: Path) -> None:
    class Torn(Transparent):
        """Fails at the end of each blob."""

        def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
            info, pieces = super()._read(key, start, stop)

            def torn() -> Iterator[Piece]:
                yield from pieces
                if key != "fine":
                    raise IntegrityError("the last piece is wrong")

            return info, torn()

    act = move_store if move else copy_store
    for size, other in ((3_000_000, 3_000_000), (3_000_000, 5), (5, 3_000_000), (5, 5)):
        below = MemoryStore({"a": b"x" * other, "fine": b"old"})
        source = MemoryStore({"a": b"y" * size, "fine": b"new"})
        report = act(source, Torn(below))
        assert list(report.failures) == ["a"]
        assert "the last piece is wrong" in str(report.failures["a"])
        assert dict(below) == {"a": b"x" * other, "fine": b"new"}
        assert "a" in source


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    class Shut(FilesystemStore):
        def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
            if key == "a" and self.shut:
                raise StoreUnavailableError("permission denied")
            return super()._read(key, start, stop)

        shut = True

    target = Shut(tmp_path)
    target.update({"a": b"old", "z": b""})
    source = MemoryStore({"a": b"longer"})
    report = sync_stores(source, target)
    assert (list(report.failures), report.withheld) == (["a"], 1)
    target.shut = False
    assert target["a"] == b"old"


def test_zip_members_that_are_damaged_stay(tmp_path: Path) -> None:
    path = tmp_path / "z.zip"
    with ZipStore(path) as store:
        store.update({"a": b"needle in a haystack" * 50, "b": b"1"})
    data = path.read_bytes()
    start = data.index(b"a") + 40
    path.write_bytes(data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :])
    with ZipStore(path) as store:
        try:
            store["a"]
        except IntegrityError:
            report = sync_stores(MemoryStore({"a": b"new", "b": b"2"}), store)
            assert list(report.failures) == ["a"]
            assert store["b"] == b"2"


@pytest.mark.parametrize("compare", COMPARES)
@pytest.mark.parametrize("names", [None, KEY])
def test_another_key_stops_all_before_anything_is_touched(compare: Any, names: bytes | None) -> None:
    medium = MemoryStore()
    EncryptedStore(medium, KEY, names=names).update({f"n{n}": b"%d" % n for n in range(5)})
    before = dict(medium)
    wrong = EncryptedStore(medium, OTHER, names=names and OTHER)
    plain = MemoryStore({"n1": b"x", "new": b"1"})
    for vault in (wrong, CompressedStore(wrong), PrefixStore(wrong, "n")):
        for source, target in ((plain, vault), (vault, plain)):
            for act in (
                lambda s, t: sync_stores(s, t, compare=compare, max_delete=1.0),
                lambda s, t: sync_stores(s, t, compare=compare, replace_unreadable=True, max_delete=1.0),
                lambda s, t: copy_store(s, t, compare=compare),
                lambda s, t: move_store(s, t, compare=compare),
                lambda s, t: sync_stores(s, t, compare=compare, dry_run=True),
                lambda s, t: list(diff_stores(s, t, compare=compare)),
            ):
                with pytest.raises(WrongKeyError):
                    act(source, target)  # type: ignore[no-untyped-call]
        with pytest.raises(WrongKeyError):
            verify_store(vault)
    assert dict(medium) == before
    assert dict(plain) == {"n1": b"x", "new": b"1"}


def test_a_source_that_cannot_be_read_deletes_nothing() -> None:
    class Unreadable(MemoryStore):
        def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
            raise IntegrityError("nothing here can be trusted")

    source = Unreadable({"a": b"1", "b": b"2"})
    old = {"a": b"1", "precious": b"x"}
    target = MemoryStore(old)
    for compare in COMPARES[:5]:
        report = sync_stores(source, target, compare=compare, max_delete=1.0)
        assert (sorted(report.failures)[-1], report.deleted, report.withheld) == ("b", 0, 1)
        assert dict(target) == old
    assert move_store(source, target).deleted == 0
    assert len(source) == 2


def test_a_source_whose_place_is_missing_deletes_nothing(tmp_path: Path) -> None:
    target = MemoryStore({"a": b"", "b": b""})
    missing = FilesystemStore(tmp_path / "mistyped")
    for source in (missing, PrefixStore(missing, "x/"), CompressedStore(missing)):
        with pytest.raises(DeleteRefusedError, match="mistyped"):
            sync_stores(source, target, max_delete=1.0)
    assert len(target) == 2
    assert not (tmp_path / "mistyped").exists()
    (tmp_path / "mistyped").mkdir()
    assert sync_stores(missing, target, max_delete=1.0).deleted == 2


def test_replace_unreadable_needs_a_target_that_takes_writes() -> None:
    class Dead(MemoryStore):
        def _write(self, *_: Any) -> Info:
            raise UnsupportedOperation("no")

    with pytest.raises(StoreError):
        copy_store(MemoryStore({"a": b""}), Dead(), replace_unreadable=True).raise_for_failures()
