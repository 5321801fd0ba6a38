"""What a metadata backend does with small objects, each a row and its bytes, in one call."""

from __future__ import annotations

from collections.abc import Callable

from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.row import Alias, Lease
from holdall.testing.suites.backends import (
    NESTED,
    BackendBase,
    check_add,
    exactly,
    new_row,
    new_small,
    over,
    read,
    write,
)


class SmallObjectTests(BackendBase):
    """What a metadata backend does with small objects in one call."""

    def test_a_small_object_is_added_at_once(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        small = new_small("a", "one", metadata=NESTED)
        number = backend.add_small(small)
        assert number is not None

        def add(to: MetadataBackend, key: str, digest: str, data: bytes) -> int | None:
            return to.add_small(new_small(key, digest, data=data))

        check_add(backend, other, add, small.row(number), small.blob(number))

    def test_small_objects_are_added_all_or_none(
        self, backend: MetadataBackend, other: MetadataBackend
    ) -> None:
        smalls = [new_small(f"k{at}", f"digest {at}", metadata={"at": at}) for at in range(50)]
        numbers = backend.add_all(smalls)
        assert numbers is not None
        assert len(set(numbers)) == 50
        for small, number in zip(smalls, numbers, strict=True):
            found = other.fetch(small.key)
            assert found is not None
            assert (exactly(found[0]), found[1]) == (exactly(small.row(number)), small.blob(number))
        for taken in (new_small("k7", "new"), new_small("new", "digest 7")):
            assert other.add_all([new_small("a", "a"), taken, new_small("b", "b")]) is None
        assert len(list(other.keys())) == len(list(other.blobs())) == 50
        assert read(other, lambda t: t.next_number()) > max(numbers)

    def test_a_small_object_is_overwritten_at_once(
        self, backend: MetadataBackend, other: MetadataBackend
    ) -> None:
        first = backend.add_small(new_small("a", "one", metadata={"n": 1}))
        assert first is not None
        small = new_small("a", "two", data=b"54321", metadata={"n": 2})
        done = backend.overwrite(small)
        if done is None:
            # The backend leaves it to a transaction.
            assert read(other, lambda t: t.row("a")) == new_small("a", "one", metadata={"n": 1}).row(first)
            return
        number, version = done
        assert (number > first, version) == (True, 2)
        found = other.fetch("a")
        assert found is not None
        assert (exactly(found[0]), found[1]) == (exactly(small.row(number, 2)), small.blob(number))
        assert [each.number for each in other.blobs()] == [number]
        assert read(other, lambda t: t.blob(first)) is read(other, lambda t: t.blob_of("one")) is None
        # The key doesn't exist; the bytes are in the store already; another entry has them.
        assert other.add_small(new_small("b", "three")) is not None
        for each in (new_small("c", "four"), new_small("a", "two"), new_small("a", "three")):
            assert other.overwrite(each) is None
        write(backend, lambda t: t.put_lease(Lease("reader", number, 2**60)))
        assert other.overwrite(new_small("a", "new")) is None
        write(backend, lambda t: t.drop_lease("reader"))
        self.check_kept(backend, other, lambda each: each.overwrite(new_small("a", "new")) is None)

    def test_a_small_object_is_removed_at_once(
        self, backend: MetadataBackend, other: MetadataBackend
    ) -> None:
        numbers = backend.add_all([new_small(key, key) for key in "xaby"])
        assert numbers is not None
        last = numbers[-1]
        for key in "xy":
            if backend.remove(key):
                assert other.fetch(key) is read(other, over((key,), lambda t, key: t.blob_of(key))) is None
        assert not other.remove("gone")
        again = backend.add_small(new_small("new", "new"))
        assert again is not None
        assert again > last
        assert read(other, lambda t: t.next_number()) > again
        self.check_kept(backend, other, lambda each: not each.remove("a"))

    def check_kept(
        self, backend: MetadataBackend, other: MetadataBackend, keeps: Callable[[MetadataBackend], bool]
    ) -> None:
        """Check that an entry `a` stays as it is where something protects it."""
        before = other.fetch("a")
        assert before is not None
        row, blob = before
        protections: list[tuple[Callable[[Transaction], None], Callable[[Transaction], None]]] = [
            (lambda t: t.put_alias(Alias("prod", "a", row.version, 1)), lambda t: t.drop_alias("prod")),
            (lambda t: t.put_earlier(new_row("a", 0, blob=77)), lambda t: t.drop_earlier("a", 0)),
            (lambda t: t.put_row(new_row("sharing", blob=blob.number)), lambda t: t.drop_row("sharing")),
        ]
        for protect, free in protections:
            write(backend, protect)
            assert keeps(other)
            assert other.fetch("a") == before
            assert read(other, lambda t: t.is_named(blob.number))
            write(backend, free)
        assert other.fetch("a") == before
