"""What a metadata backend keeps in transactions, and returns outside of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.query import Query
from holdall.catalog.row import Alias, Blob, Lease, Row
from holdall.errors import StoreClosedError
from holdall.testing.suites.backends import (
    AWKWARD,
    KEYS,
    NESTED,
    BackendBase,
    check_add,
    exactly,
    new_blob,
    new_row,
    over,
    put,
    read,
    write,
)


class OddError(Exception):
    """What a transaction raises in a test."""


class TransactionTests(BackendBase):
    """What a metadata backend keeps in transactions, and returns outside of them."""

    def test_a_new_medium_is_empty(self, backend: MetadataBackend) -> None:
        assert backend.fetch("a") is None
        assert backend.row("a") is None
        assert backend.row("a", 1) is None
        listed = backend.keys(), backend.find(Query()), backend.earlier(), backend.blobs()
        assert [list(each) for each in (*listed, backend.suspects(2**62))] == [[]] * 5
        assert backend.indexes() == []
        assert read(backend, lambda t: (t.row("a"), t.earlier("a"), t.blob(1), t.blob_of("d"))) == (
            None,
            [],
            None,
            None,
        )
        assert read(backend, lambda t: (t.aliases(), t.leases(), t.alias("a"), t.suspected(1))) == (
            [],
            [],
            None,
            None,
        )
        assert not read(backend, lambda t: t.is_named(1))

    def test_its_identity_stays(
        self, backend: MetadataBackend, other: MetadataBackend, place: Path, tmp_path: Path
    ) -> None:
        assert backend.identity == other.identity == backend.identity
        assert len(backend.identity) >= 16
        backend.close()
        again, elsewhere = self.make(place), self.make(tmp_path / "elsewhere")
        assert again.identity == other.identity != elsewhere.identity
        again.close()
        elsewhere.close()

    def test_a_row_comes_back_exactly(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        inputs = (("a'\"%", 3, "e" * 64), ("\U0001f600", 2**40, ""))
        row = new_row(
            "é/'\"%_",
            7,
            sequence=2**62,
            blob=2**61,
            size=2**45,
            library="numpy 2.3 (\U0001f600)",
            metadata=NESTED,
            inputs=inputs,
        )
        write(backend, put(row, new_blob(2**61)))
        for each in (backend, other):
            assert exactly(each.row(row.key)) == exactly(row)
            assert exactly(each.row(row.key, 7)) == exactly(row)
            assert exactly(read(each, lambda t: t.row(row.key))) == exactly(row)
            assert [*map(exactly, each.find(Query()))] == [exactly(row)]
            fetched = each.fetch(row.key)
            assert fetched is not None
            assert exactly(fetched[0]) == exactly(row)
            assert each.row(row.key, 6) is each.fetch(row.key, 6) is None
            assert each.row("\ud800") is each.fetch("\ud800") is each.fetch("a\0") is None

    def test_the_metadata_of_a_row_are_the_callers(self, backend: MetadataBackend) -> None:
        given: dict[str, Any] = {"a": [1], "b": {"c": 1}}
        write(backend, put(new_row(metadata=given)))
        given["a"].append(2)
        for _ in range(2):
            row = backend.row("a")
            assert row is not None
            assert row.metadata == {"a": [1], "b": {"c": 1}}
            row.metadata["a"].append(3)
            row.metadata["b"]["c"] = 2

    def test_versions(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        first, second, third = (new_row("a", each, blob=each, metadata={"n": each}) for each in (1, 2, 3))
        write(backend, put(first, new_blob(1), new_blob(2), new_blob(3)))
        write(backend, lambda t: t.put_earlier(first), put(second))
        write(backend, lambda t: t.put_earlier(second), put(third), put(new_row("b")))
        for each in (backend, other):
            assert each.row("a") == each.row("a", 3) == third
            assert [each.row("a", version) for version in (1, 2, 4)] == [first, second, None]
            assert each.fetch("a", 1) == (first, new_blob(1))
            assert read(each, lambda t: t.earlier("a")) == [second, first]
            assert read(each, lambda t: t.row("a", 2)) == second
            assert read(each, lambda t: t.row("a", 3)) == read(each, lambda t: t.row("a")) == third
            assert list(each.earlier()) == [first, second]
            assert list(each.keys()) == ["a", "b"]
        changed = replace(first, metadata={"n": 0})
        write(backend, lambda t: t.put_earlier(changed), lambda t: t.drop_earlier("a", 2))
        assert list(other.earlier()) == [changed]
        write(backend, lambda t: t.drop_row("a"))
        assert other.row("a") is other.row("a", 3) is None
        assert other.row("a", 1) == changed
        assert list(other.keys()) == ["b"]
        write(backend, lambda t: t.drop_row("a"), lambda t: t.drop_earlier("a", 9))
        assert read(backend, lambda t: (t.row("a"), t.earlier("a"))) == (None, [changed])

    def test_a_row_is_replaced(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        write(backend, put(new_row("a", 1, metadata={"old": 1}, inputs=(("x", 1, "d"),))))
        new = new_row("a", 2, metadata={"new": 2}, size=0)
        write(backend, put(new))
        assert other.row("a") == new
        assert list(other.find(Query())) == [new]

    def test_blobs(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        apart, inline = new_blob(1), new_blob(3, inline=True, data=bytes(range(256)) * 40)
        empty, begun = new_blob(4, inline=True, data=b"", size=0), new_blob(2, until=2**60, digest="same")
        write(backend, put(apart, begun, inline, empty))
        lean = [replace(each, data=None) for each in (apart, begun, inline, empty)]
        for each in (backend, other):
            assert list(each.blobs()) == lean
            assert list(each.blobs(2)) == lean[2:]
            assert read(each, lambda t: [t.blob(number) for number in (1, 2, 3, 4, 5)]) == [*lean, None]
            assert read(each, lambda t: t.blob_of(inline.digest)) == lean[2]
            assert read(each, lambda t: t.blob_of("same")) is None
        rows = [new_row(f"k{each}", blob=each) for each in (1, 3, 4)]
        write(backend, put(*rows))
        assert [other.fetch(row.key) for row in rows] == list(zip(rows, (apart, inline, empty), strict=True))
        # Once it is written it is found; without data, the data stay.
        write(backend, put(replace(begun, until=0), replace(lean[2], until=7)))
        assert read(other, lambda t: t.blob_of("same")) == replace(begun, until=0)
        assert other.fetch("k3") == (rows[1], replace(inline, until=7))
        write(backend, put(replace(inline, data=b"other")))
        assert other.fetch("k3") == (rows[1], replace(inline, data=b"other"))
        write(backend, lambda t: t.drop_blob(1), lambda t: t.drop_blob(99))
        assert [blob.number for blob in other.blobs()] == [2, 3, 4]

    def test_blobs_with_the_same_bytes(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        # Two writers of the same bytes met, and each has written its own.
        twins = [new_blob(number, digest="same") for number in (1, 2, 3)]
        write(backend, put(*twins))
        write(backend, put(replace(twins[1], until=7)))  # it is being swept
        assert read(other, lambda t: t.blob_of("same")) in (twins[0], twins[2])
        write(backend, lambda t: t.drop_blob(1))
        for each in (backend, other):
            assert read(each, lambda t: t.blob_of("same")) == twins[2]
        write(backend, put(replace(twins[2], until=7)))
        assert read(other, lambda t: t.blob_of("same")) is None
        write(backend, put(twins[1]), lambda t: t.drop_blob(3))
        assert read(other, lambda t: t.blob_of("same")) == twins[1]

    def test_a_blob_that_is_named(self, backend: MetadataBackend) -> None:
        write(backend, put(new_row("a", 2, blob=1)), lambda t: t.put_earlier(new_row("a", 1, blob=2)))
        assert read(backend, lambda t: [t.is_named(number) for number in (1, 2, 3)]) == [True, True, False]
        write(backend, put(new_row("b", 1, blob=1)), lambda t: t.drop_row("a"))
        assert read(backend, lambda t: [t.is_named(number) for number in (1, 2)]) == [True, True]
        write(backend, lambda t: t.drop_row("b"), lambda t: t.drop_earlier("a", 1))
        assert read(backend, lambda t: [t.is_named(number) for number in (1, 2)]) == [False, False]

    def test_suspects(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        write(backend, put(*(new_blob(number) for number in range(1, 6))))
        write(backend, over(range(1, 5), lambda t, n: t.suspect(n, 1000 - n)))
        write(backend, lambda t: t.suspect(4, 5000), lambda t: t.acquit(3), lambda t: t.acquit(5))
        assert read(other, lambda t: [t.suspected(n) for n in (1, 3, 4, 5)]) == [999, None, 5000, None]
        assert sorted(other.suspects(999)) == [2]
        assert sorted(other.suspects(5000)) == [1, 2]
        assert sorted(other.suspects(5001)) == [1, 2, 4]
        write(backend, lambda t: t.drop_blob(2))
        assert read(other, lambda t: t.suspected(2)) is None
        assert sorted(other.suspects(2**62)) == [1, 4]

    def test_aliases(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        names = sorted(set(AWKWARD) - {""})
        aliases = [Alias(name, "a" if at % 2 else "b%", at, at) for at, name in enumerate(names)]
        write(backend, over(aliases[::-1], lambda t, each: t.put_alias(each)))
        assert read(other, lambda t: t.aliases()) == aliases
        assert read(other, lambda t: t.aliases("a")) == aliases[1::2]
        assert read(other, lambda t: t.aliases("b_")) == []
        assert read(other, lambda t: [t.alias(name) for name in names]) == aliases
        moved = Alias(names[0], "c", 1, 99)
        write(backend, lambda t: t.put_alias(moved), lambda t: t.drop_alias(names[1]))
        assert read(other, lambda t: [t.alias(names[0]), t.alias(names[1])]) == [moved, None]
        write(backend, lambda t: t.drop_alias("absent"))
        assert len(read(other, lambda t: t.aliases())) == len(aliases) - 1

    def test_leases(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        first, second, third = Lease("a", 1, 5), Lease("b'", 2, 2**60), Lease("c", 1, 0)
        write(backend, over((first, second, third), lambda t, each: t.put_lease(each)))
        assert sorted(read(other, lambda t: t.leases()), key=lambda each: each.name) == [first, second, third]
        assert sorted(read(other, lambda t: t.leases(1)), key=lambda each: each.name) == [first, third]
        write(backend, lambda t: t.put_lease(Lease("a", 2, 9)), lambda t: t.drop_lease("c"))
        write(backend, lambda t: t.drop_lease("absent"))
        assert read(other, lambda t: t.leases(1)) == []
        assert sorted(read(other, lambda t: t.leases(2)), key=lambda e: e.name) == [Lease("a", 2, 9), second]

    def test_numbers_only_grow(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        last = 0
        for turn in range(30):
            each = (backend, other)[turn % 2]
            numbers = read(each, lambda t, n=turn % 5 * 9: [t.next_number() for _ in range(n)])
            assert numbers == sorted(set(numbers))
            assert not numbers or numbers[0] > last
            last = numbers[-1] if numbers else last
        first, high, more = read(
            backend, lambda t: (t.next_number(), t.next_number(last + 1000), t.next_number(5))
        )
        assert last < first < last + 1000 < high < more
        assert read(other, lambda t: t.next_number(2**50)) == 2**50 + 1
        assert read(backend, lambda t: t.next_number()) > 2**50

    def test_a_number_is_not_given_again(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        """Whatever it was given for: a blob that is dropped by now, a change, nothing at all."""
        last = 0
        for turn in range(12):
            each = (backend, other)[turn % 2]

            def act(t: Transaction, turn: int = turn) -> int:
                number = t.next_number()
                if turn % 4 == 1:
                    t.put_row(new_row(sequence=number, blob=0))
                elif turn % 4 == 2:
                    t.put_blob(new_blob(number))
                elif turn % 4 == 3:
                    t.put_blob(new_blob(number))
                    t.put_row(new_row(sequence=t.next_number(), blob=number))
                    return t.next_number()
                return number

            number = each.transact(act)
            assert number > last
            last = number
            for blob in list(backend.blobs()) if turn > 5 else ():
                write(each, over((blob.number,), lambda t, dropped: t.drop_blob(dropped)))

        def act_and_drop(t: Transaction) -> int:
            number = t.next_number()
            t.put_blob(new_blob(number))
            t.drop_blob(number)
            return number

        assert last < backend.transact(act_and_drop) < read(other, lambda t: t.next_number())

    def test_an_entry_is_added_with_its_blob(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        row = new_row("a", 1, sequence=0, blob=0, digest="one", metadata=NESTED, inputs=(("x", 1, "d"),))
        blob = new_blob(0, digest="one", inline=True, data=b"12345")
        number = backend.add(row, blob)
        assert number is not None
        kept = replace(row, sequence=number, blob=number), replace(blob, number=number)

        def add(to: MetadataBackend, key: str, digest: str, data: bytes) -> int | None:
            new = new_blob(0, digest=digest, inline=True, data=data)
            return to.add(new_row(key, 1, digest=digest), new)

        check_add(backend, other, add, *kept)

    def test_a_transaction_sees_what_it_writes(self, backend: MetadataBackend) -> None:
        def act(t: Transaction) -> None:
            row, blob = new_row(metadata={"x": 1}), new_blob(1, inline=True, data=b"12345")
            t.put_blob(blob)
            t.put_row(row)
            assert (t.row("a"), t.blob(1)) == (row, replace(blob, data=None))
            assert t.blob_of(blob.digest) == replace(blob, data=None)
            assert t.is_named(1)
            t.put_earlier(row)
            t.drop_row("a")
            assert t.row("a", 1) == row
            assert t.row("a") is None
            assert t.earlier("a") == [row]
            t.suspect(1, 5)
            t.put_alias(Alias("n", "a", 1, 1))
            t.put_lease(Lease("l", 1, 1))
            assert (t.suspected(1), len(t.aliases("a")), len(t.leases(1))) == (5, 1, 1)
            t.drop_blob(1)
            assert (t.blob(1), t.blob_of(blob.digest), t.suspected(1)) == (None, None, None)

        backend.transact(act)

    @pytest.mark.parametrize("kind", [OddError, KeyboardInterrupt])
    def test_a_transaction_that_raises_writes_nothing(
        self, backend: MetadataBackend, other: MetadataBackend, kind: type[BaseException]
    ) -> None:
        blob = new_blob(1, inline=True, data=b"12345")
        alias, lease = Alias("n", "a", 1, 1), Lease("l", 1, 1)
        write(
            backend,
            put(new_row("a"), new_row("b"), blob),
            lambda t: t.put_earlier(new_row("a", 0)),
            lambda t: t.put_alias(alias),
            lambda t: t.put_lease(lease),
            lambda t: t.suspect(1, 5),
        )

        def state() -> Any:
            return (
                list(other.find(Query())),
                list(other.earlier()),
                list(other.blobs()),
                list(other.suspects(99)),
                other.fetch("a"),
                read(other, lambda t: (t.aliases(), t.leases())),
            )

        def act(t: Transaction) -> None:
            t.next_number()
            t.put_row(new_row("c"))
            t.put_row(new_row("a", 2, metadata={"no": 1}))
            t.drop_row("b")
            t.put_earlier(new_row("a", 1))
            t.drop_earlier("a", 0)
            t.put_blob(replace(blob, data=b"no"))
            t.put_blob(new_blob(2))
            t.suspect(2, 1)
            t.acquit(1)
            t.put_alias(Alias("n", "b", 9, 9))
            t.drop_lease("l")
            raise kind("on purpose")

        before = state()
        with pytest.raises(kind, match="on purpose"):
            backend.transact(act)
        assert state() == before
        write(backend, put(new_row("c")))
        assert list(other.keys()) == ["a", "b", "c"]

    def test_a_transaction_returns_what_it_returns(self, backend: MetadataBackend) -> None:
        thing = object()
        assert backend.transact(lambda t: thing) is thing
        assert backend.transact(lambda t: None) is None

    def test_keys_are_listed_by_prefix(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        write(backend, put(*map(new_row, KEYS)))
        assert list(other.keys()) == sorted(KEYS)
        for prefix in {key[:length] for key in KEYS for length in (1, 2, 3)} | {"x" * 1024, "none", "\ud800"}:
            assert list(other.keys(prefix)) == sorted(key for key in KEYS if key.startswith(prefix)), prefix
        assert [backend.row(key) for key in KEYS] == [*map(new_row, KEYS)]

    def test_many_rows(self, backend: MetadataBackend) -> None:
        keys = [f"{number:05}" for number in range(2500)]
        write(backend, put(*map(new_row, keys)), *(put(new_blob(each)) for each in range(1, 2501)))
        write(backend, over(keys, lambda t, key: t.put_earlier(new_row(key, 0))))
        write(backend, over(range(1, 2501), lambda t, n: t.suspect(n, n)))
        assert list(backend.keys()) == keys
        assert [row.key for row in backend.earlier()] == keys
        assert [blob.number for blob in backend.blobs(500)] == [*range(501, 2501)]
        assert sorted(backend.suspects(2001)) == [*range(1, 2001)]

    def test_listings_are_lazy_and_writers_go_on(self, backend: MetadataBackend) -> None:
        numbers = range(1, 3001)
        write(backend, put(*(new_row(f"{n:05}") for n in numbers), *map(new_blob, numbers)))
        write(backend, over(numbers, lambda t, n: t.suspect(n, n)))
        keys, rows, blobs = backend.keys(), backend.find(Query()), backend.blobs()
        suspects = backend.suspects(10_000)
        firsts: tuple[str, Row, Blob, int] = next(keys), next(rows), next(blobs), next(suspects)
        # While all four are under way, others write.
        write(backend, put(new_row("00000"), new_row("99999")), lambda t: t.drop_row("02000"))
        write(backend, lambda t: t.drop_blob(2999))
        wanted = [f"{n:05}" for n in numbers if n != 2000]
        assert [key for key in (firsts[0], *keys) if key not in ("99999", "02000")] == wanted
        assert [row.key for row in (firsts[1], *rows) if row.key not in ("99999", "02000")] == wanted
        assert {blob.number for blob in (firsts[2], *blobs)} | {2999} == set(numbers)
        assert {firsts[3], *suspects} | {2999} == set(numbers)

    def test_a_closed_backend_raises(self, backend: MetadataBackend) -> None:
        write(backend, put(new_row()))
        backend.close()
        backend.close()
        for call in (
            lambda: backend.row("a"),
            lambda: backend.fetch("a"),
            lambda: backend.transact(lambda t: None),
            lambda: list(backend.keys()),
            lambda: list(backend.find(Query())),
        ):
            with pytest.raises(StoreClosedError):
                call()
