"""Each rule that keeps a blob from being swept: with it the blob stays, and without it the blob goes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from holdall import BlobStore, DeleteRefusedError, MemoryStore
from holdall.catalog import upkeep, writing

Make = Callable[..., BlobStore]


def numbers(seed: int) -> Any:
    """An array that lies outside the backend of metadata."""
    return np.random.default_rng(seed).standard_normal(20_000)


def sweep(store: BlobStore, grace: float | timedelta = 0) -> int:
    return store.collect(grace, max_share=1.0).blobs


def named(store: BlobStore) -> float:
    """A row names it again: the same bytes were put while it was suspected, under another key."""
    store.put(numbers(1), key="a")
    store.put(numbers(1), key="b")
    number = store._backend.row("a").blob  # type: ignore[union-attr]
    store.delete("a")
    store._backend.transact(lambda tx: tx.suspect(number, 1))
    return 0


def young(store: BlobStore) -> float:
    """It was deleted within the grace, though it was written long before."""
    store.put(numbers(1), key="a")
    store.delete("a")
    return 3_600


def leased(store: BlobStore) -> float:
    """Somebody holds it."""
    store.put(numbers(1), key="a")
    store.lease("a", ttl=600)
    store.delete("a")
    return 0


def under_way(store: BlobStore) -> float:
    """Its writer hasn't come to its commit."""
    store.put(numbers(1), key="a")
    blob = store._backend.fetch("a")[1]  # type: ignore[index]
    store.delete("a")
    writer = upkeep.replace(blob, until=writing.micros() + writing.UNDER_WAY)
    store._backend.transact(lambda tx: tx.put_blob(writer))
    return 0


def written(store: BlobStore) -> float:
    """The catalogue's clock is wrong, and the storage's isn't."""
    store.put(numbers(1), key="a")
    number = store._backend.row("a").blob  # type: ignore[union-attr]
    store.delete("a")
    store._backend.transact(lambda tx: tx.suspect(number, 1))
    return 3_600


RULES = {
    "is_named": (named, lambda *_: False),
    "is_young": (young, lambda *_: False),
    "is_leased": (leased, lambda *_: False),
    "is_under_way": (under_way, lambda *_: False),
    "is_written_since": (written, lambda *_: False),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_keeps_a_blob(make: Make, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    prepare, off = RULES[rule]
    store = make(blob_backend=MemoryStore())
    if rule == "is_young":
        # Only this rule may keep it, not the clock of the storage, nor the choice of what is looked at.
        monkeypatch.setattr(upkeep, "is_written_since", lambda *_: False)
        suspects = store._backend.suspects
        monkeypatch.setattr(store._backend, "suspects", lambda _: suspects(1 << 62))
    grace = prepare(store)
    assert sweep(store, grace) == 0
    assert store.verify().ok
    monkeypatch.setattr(upkeep, rule, off)
    if rule == "is_named":
        number = store._backend.row("b").blob  # type: ignore[union-attr]
        store._backend.transact(lambda tx: tx.suspect(number, 1))
    assert sweep(store, grace) == 1


def test_what_is_swept_is_looked_at_again_when_it_is_claimed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(blob_backend=MemoryStore())
    store.put(numbers(1), key="a")
    store.delete("a")
    checked = upkeep.check_storage

    def put_meanwhile(*given: Any) -> int:
        # After the sweep has chosen what goes, and before it claims it.
        assert store.put(numbers(1), key="b").is_shared
        return checked(*given)

    monkeypatch.setattr(upkeep, "check_storage", put_meanwhile)
    assert sweep(store) == 0
    np.testing.assert_array_equal(store.get("b"), numbers(1))


def test_a_put_of_bytes_that_are_being_swept_writes_them_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = MemoryStore()
    store = make(blob_backend=place)
    store.put(numbers(1), key="a")
    store.delete("a")
    delete = place.delete

    def delete_after_a_put(key: str, **options: Any) -> bool:
        monkeypatch.setattr(place, "delete", delete)
        assert not store.put(numbers(1), key="b").is_shared
        return delete(key, **options)

    monkeypatch.setattr(place, "delete", delete_after_a_put)
    assert sweep(store) == 1
    np.testing.assert_array_equal(store.get("b"), numbers(1))
    assert store.verify().ok


def test_a_put_whose_blob_is_swept_before_its_commit_writes_it_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = MemoryStore()
    store = make(blob_backend=place)
    put = place.put

    def put_and_sweep(key: str, data: Any, **options: Any) -> Any:
        info = put(key, data, **options)
        if "-" in key and not swept:
            swept.append(key)
            monkeypatch.setattr(upkeep, "is_under_way", lambda *_: False)
            assert sweep(store) == 1
        return info

    swept: list[str] = []
    store.put(numbers(0), key="first")
    monkeypatch.setattr(place, "put", put_and_sweep)
    store.put(numbers(1), key="a")
    assert len(swept) == 1
    np.testing.assert_array_equal(store.get("a"), numbers(1))
    assert store.verify().ok


def test_bytes_that_come_after_their_number_was_swept_leave_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = MemoryStore()
    store = make(blob_backend=place)
    store.put(numbers(0), key="first")
    put = place.put
    swept: list[str] = []

    def sweep_and_put(key: str, data: Any, **options: Any) -> Any:
        if "-" in key and not swept:
            swept.append(key)
            with monkeypatch.context() as patch:
                patch.setattr(upkeep, "is_under_way", lambda *_: False)
                assert sweep(store) == 1
        return put(key, data, **options)

    monkeypatch.setattr(place, "put", sweep_and_put)
    store.put(numbers(1), key="a")
    np.testing.assert_array_equal(store.get("a"), numbers(1))
    assert store.verify().ok
    assert len([key for key in place if "-" in key[:68]]) == 2 + 1


def test_a_failed_put_leaves_nothing_that_a_sweep_keeps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    place = MemoryStore()
    store = make(blob_backend=place)
    store.put(numbers(0), key="first")

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(place, "put", fail)
        with pytest.raises(OSError, match="No space"):
            store.put(numbers(1), key="a")
    assert store.list() == ["first"]
    assert sweep(store) == 1
    assert store.verify().ok


@pytest.mark.parametrize("place", ["files", "elsewhere"])
def test_a_reader_of_what_is_deleted_reads_to_the_end(make: Make, place: str) -> None:
    store = make(blob_backend=None if place == "files" else MemoryStore())
    store.put(numbers(1), key="a")
    with store.open("a") as file:
        head = file.read(10)
        store.delete("a")
        # Files stay readable without a name; elsewhere a lease holds the blob.
        swept = sweep(store)
        assert swept == (place == "files")
        rest = file.read()
        file.seek(0)
        assert file.read() == head + rest
    assert swept + sweep(store) == 1
    assert store._backend.transact(lambda tx: tx.leases()) == []


def test_a_get_of_what_is_pruned_meanwhile_gets_what_is_there_by_then(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = MemoryStore()
    store = make(blob_backend=place)
    store.put(numbers(1), key="a")
    get = place.get

    def get_after_a_sweep(key: str, *given: Any) -> Any:
        monkeypatch.setattr(place, "get", get)
        store.put(numbers(2), key="a")
        assert sweep(store) == 1
        return get(key, *given)

    monkeypatch.setattr(place, "get", get_after_a_sweep)
    np.testing.assert_array_equal(store.get("a"), numbers(2))


def test_an_open_of_what_is_pruned_meanwhile_opens_what_is_there_by_then(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = MemoryStore()
    store = make(blob_backend=place)
    store.put(numbers(1), key="a")
    opened = place.open

    def open_after_a_sweep(key: str, *given: Any) -> Any:
        monkeypatch.setattr(place, "open", opened)
        store.delete("a")
        with monkeypatch.context() as patch:
            patch.setattr(upkeep, "is_leased", lambda *_: False)
            assert sweep(store) == 1
        store.put(numbers(2), key="a")
        return opened(key, *given)

    monkeypatch.setattr(place, "open", open_after_a_sweep)
    with store.open("a") as file, store.open("a") as again:
        assert file.read() == again.read()


@pytest.mark.parametrize("make", ["json", "sqlite"], indirect=True)
def test_a_restored_older_catalogue_sweeps_nothing(make: Make, tmp_path: Any) -> None:
    import shutil

    store = make()
    for seed in range(3):
        store.put(numbers(seed), key=str(seed))
    store.delete("0")
    store.close()
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    store = make()
    # The blob that the backup suspects is named again.
    store.put(numbers(0), key="back")
    store.put(numbers(9), key="other")
    store.delete("other")
    assert sweep(store) == 1
    store.close()
    for name in (tmp_path / "backup").glob("cache_metadata*"):
        shutil.copy(name, tmp_path / "store")
    for name in (tmp_path / "store").glob("cache_metadata*"):
        if not (tmp_path / "backup" / name.name).exists():
            name.unlink()
    with pytest.raises(DeleteRefusedError, match="older than its blobs"):
        sweep(make())


def test_one_storage_has_one_catalogue(make: Make, tmp_path: Any) -> None:
    place = MemoryStore()
    store = make(blob_backend=place)
    store.put(numbers(1), key="a")
    with BlobStore(tmp_path / "another", blob_backend=place) as another:
        with pytest.raises(ValueError, match="another catalogue"):
            another.put(numbers(1), key="a")
        assert another.list() == []
    assert store.verify().ok


def test_the_work_is_that_of_the_garbage(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    place = MemoryStore()
    store = make(blob_backend=place)
    for seed in range(30):
        store.put(numbers(seed), key=f"{seed:02}")
    store.delete("00")
    looked: list[int] = []
    blobs = store._backend.blobs

    def count(*given: Any) -> Any:
        for blob in blobs(*given):
            looked.append(blob.number)
            yield blob

    monkeypatch.setattr(store._backend, "blobs", count)
    monkeypatch.setattr(MemoryStore, "_scan", None)
    assert store.collect(0).blobs == 1
    assert len(looked) <= 6


def test_an_entry_whose_blob_the_catalogue_does_not_know_is_missing(make: Make) -> None:
    store = make(blob_backend=MemoryStore())
    for seed, key in enumerate("abc"):
        store.put(numbers(seed), key=key)
    number = store._backend.row("b").blob  # type: ignore[union-attr]
    store._backend.transact(lambda tx: tx.drop_blob(number))
    found = store.verify()
    assert (found.missing, found.damaged, found.checked) == ([("b", 1)], [], 2)


def test_what_is_put_or_deleted_during_a_look_is_not_missing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(blob_backend=MemoryStore())
    store.put(numbers(0), key="a")
    blobs, rows = store._backend.blobs, upkeep.all_rows

    def blobs_before_puts(*given: Any) -> Any:
        yield from blobs(*given)
        store.put(numbers(1), key="b")
        store.put(numbers(2), key="c")

    def rows_before_deletes(*given: Any) -> Any:
        for row in [*rows(*given)]:
            if row.key == "c":
                store.delete("c")
                assert sweep(store) == 1
            yield row

    monkeypatch.setattr(store._backend, "blobs", blobs_before_puts)
    monkeypatch.setattr(upkeep, "all_rows", rows_before_deletes)
    assert store.verify().ok
    assert list(store) == ["a", "b"]
