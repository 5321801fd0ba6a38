"""Threads that share a store see whole blobs and exact conditions."""

from __future__ import annotations

import contextlib
import functools
import random
import threading
import zlib
from pathlib import Path

from holdall.errors import BlobExistsError, BlobNotFoundError, ConcurrencyError, StoreUnavailableError
from holdall.store import ABSENT, Can, Info, Store
from holdall.testing.faults import Flaky
from holdall.testing.laws import check_laws
from holdall.testing.refusals import needs
from holdall.testing.running import race, step_together, wait_until
from holdall.testing.samples import hash_bytes, is_whole, key_of, make_noise, read_all, seal
from holdall.testing.suites.base import SuiteBase
from holdall.values.mapping import read_whole


class ThreadTests(SuiteBase):
    """Threads that share a store see whole blobs and exact conditions."""

    def test_threads_share_a_store(self, store: Store) -> None:
        rounds = self._effort(40, 16, 12)

        def work(name: int) -> None:
            for number in range(rounds):
                key = f"{name}/{number}"
                store[key] = b"%d" % number
                assert store[key] == b"%d" % number
                assert store.info(key).size == len(b"%d" % number)
                if number % 4 == 3:
                    del store[key]
                    assert key not in store

        race(*(functools.partial(work, name) for name in range(8)))
        assert len(store) == 8 * rounds * 3 // 4

    def test_one_key_that_all_write_delete_and_list(self, store: Store, other: Store) -> None:
        def work(handle: Store, name: int) -> None:
            for number in range(30):
                match (name + number) % 5:
                    case 0:
                        handle.delete("d/key")
                    case 1:
                        assert [info.key for info in handle.list("d/")] in ([], ["d/key"])
                    case 2:
                        value = handle.get("d/key")
                        assert value is None or is_whole(value)
                    case _:
                        handle["d/key"] = seal(b"%d" % number)

        race(*(functools.partial(work, handle, name) for name in range(4) for handle in (store, other)))
        assert is_whole(store.setdefault("d/key", seal(b"")))

    def test_readers_never_see_a_torn_blob(self, store: Store, other: Store) -> None:
        sizes = (0, 10, 5000, 70_000, 1_200_000, 3_000_000)
        etags: dict[str, str] = {}
        first = seal(b"first")
        etags[store.put("key", first).etag] = hash_bytes(first)
        seen: list[tuple[Info, str]] = []
        writing, rounds = [2], self._effort(18, 6, 6)

        def write(handle: Store, seed: int) -> None:
            try:
                for number in range(rounds):
                    data = seal(make_noise(sizes[(number + seed) % 6], number * 2 + seed))
                    if number % 3 == 0:
                        info = handle.put("key", data)
                    elif number % 3 == 1:
                        info = handle.put(
                            "key", (data[at : at + 65_000] for at in range(0, len(data), 65_000))
                        )
                    else:
                        handle[f"draft-{seed}"] = data
                        info = handle.move(f"draft-{seed}", "key")
                    etags[info.etag] = hash_bytes(data)
            finally:
                writing[0] -= 1

        def read(handle: Store, way: int) -> None:
            while writing[0] > 0:
                if way == 0:
                    assert is_whole(handle["key"]), "get gave a torn blob"
                    assert is_whole(handle.get_range("key", 0)), "get_range gave a torn blob"
                elif way == 1:
                    with contextlib.suppress(ConcurrencyError):
                        with handle.open("key") as file:
                            data = file.read()
                        assert is_whole(data), "a file gave a torn blob"
                else:
                    info, data = read_whole(handle, "key")
                    assert len(data) == info.size, "the size belongs to other bytes"
                    seen.append((info, hash_bytes(data)))
                    assert is_whole(b"".join(handle.chunks("key", 65_536))), "chunks gave a torn blob"

        race(
            functools.partial(write, store, 0),
            functools.partial(write, other, 1),
            *(functools.partial(read, handle, way) for handle in (store, other) for way in range(3)),
        )
        assert seen
        for info, digest in seen:
            # A move shows the ETag of its source under the key of the draft only, so all seen were returned.
            assert etags.get(info.etag) == digest, "an ETag belongs to other bytes"
        info, last = read_whole(store, "key")
        assert read_whole(other, "key") == (info, last)
        assert store["key"] == other["key"] == last
        written = store.put("key", b"the last")
        for handle in (store, other):
            assert read_whole(handle, "key") == (written, b"the last"), "a read gives what was there before"

    def test_listing_beside_writers(self, store: Store, other: Store) -> None:
        many = self._effort(60, 30, 20)
        stable = [f"{number:03d}/stable" for number in range(many)]
        store.put_many(dict.fromkeys(stable, b"x"))
        there = set(stable)
        writing, rounds = [2], self._effort(60, 12, 8, 30)

        def write(handle: Store, seed: int) -> None:
            rng = random.Random(seed)
            try:
                for _ in range(rounds):
                    number = rng.randrange(many)
                    came = f"{number:03d}/{seed}/passing", f"{number:03d}.{seed}"
                    went = f"{rng.randrange(many):03d}/{seed}/passing", f"{rng.randrange(many):03d}.{seed}"
                    for key in came:
                        handle[key] = b"y"
                    there.update(came)
                    for key in went:
                        assert handle.delete(key) is (key in there)
                    there.difference_update(went)
            finally:
                writing[0] -= 1

        def read(handle: Store, way: int) -> None:
            while writing[0] > 0:
                if way == 0:
                    listed = list(handle)
                elif way == 1:
                    infos = list(handle.list())
                    assert all(info.size == 1 and info.etag for info in infos)
                    listed = [info.key for info in infos]
                else:
                    listed = [key_of(child) for child in handle.children()]
                    assert {f"{number:03d}/" for number in range(many)} <= set(listed)
                assert listed == sorted(set(listed)), "a listing repeated a key or lost its order"
                assert way == 2 or set(stable) <= set(listed), "a listing lost a key that was there"

        race(
            functools.partial(write, store, 1),
            functools.partial(write, other, 2),
            *(functools.partial(read, handle, way) for handle in (store, other) for way in range(3)),
        )
        assert list(store) == list(other) == sorted(there)

    @needs(Can.CREATE)
    def test_of_many_creators_one_wins(self, store: Store, other: Store) -> None:
        rounds, step = self._effort(15, 8, 6), step_together(8)
        winners: list[list[bytes]] = [[] for _ in range(rounds)]

        def create(handle: Store, name: int) -> None:
            for number in range(rounds):
                data = b"%d in %d" % (name, number)
                step()
                try:
                    if name < 4:
                        handle.put(f"key/{number}", data, expect=ABSENT)
                    else:
                        with handle.open(f"key/{number}", "xb") as file:
                            file.write(data)
                    winners[number].append(data)
                except BlobExistsError:
                    pass

        race(*(functools.partial(create, (store, other)[name % 2], name) for name in range(8)))
        for number, won in enumerate(winners):
            assert len(won) == 1, f"{len(won)} creators won"
            assert store[f"key/{number}"] == won[0]

    @needs(Can.SWAP | Can.CREATE)
    def test_a_counter_that_many_raise_is_exact(self, store: Store, other: Store) -> None:
        rounds = self._effort(15, 8, 5)

        def count(handle: Store) -> None:
            for _ in range(rounds):
                handle.modify("count", lambda old: b"%d" % (int(old) + 1), default=b"0")

        race(*(functools.partial(count, handle) for _ in range(4) for handle in (store, other)))
        assert int(store["count"]) == int(other["count"]) == 8 * rounds

    @needs(Can.SWAP)
    def test_swaps_beside_plain_puts_and_deletes(self, store: Store, other: Store) -> None:
        swaps: list[tuple[bytes, bytes]] = []
        turns = [0, 0, 0]
        done = threading.Event()
        present = "a swap overwrote a put that it had not seen"
        absent = "a swap brought back what was deleted"

        def swap(handle: Store, name: int) -> None:
            while not done.is_set():
                turns[name] += 1
                token, seen = b" %d.%d" % (name, turns[name]), list[bytes]()

                def add(old: bytes, token: bytes = token, seen: list[bytes] = seen) -> bytes:
                    seen.append(old)
                    # Each swap adds a word to the value, so that a lost swap is a lost word.
                    return old + token if len(old) < 400 else old[:40] + token

                with contextlib.suppress(BlobNotFoundError):
                    handle.modify("key", add)
                    swaps.append((seen[-1], add(seen[-1])))

        def settle() -> None:
            # A thread that was about to swap when the put or delete came has done so two turns later.
            before = list(turns)
            wait_until(lambda: done.is_set() or all(turns[name] >= before[name] + 2 for name in range(3)))

        def put(handle: Store) -> None:
            try:
                for number in range(self._effort(30, 9, 6)):
                    word = b"%040d" % number
                    handle["key"] = word
                    settle()
                    assert store["key"].startswith(word), present
                    if number % 3 == 2:
                        assert handle.delete("key"), "a blob that was there is gone"
                        settle()
                        assert "key" not in store, absent
                handle["key"] = b"%040d" % 99
            finally:
                done.set()

        race(
            functools.partial(put, other),
            *(functools.partial(swap, handle, name) for name, handle in enumerate((store, other, store))),
        )
        replaced = [old for old, _ in swaps]
        assert len(replaced) == len(set(replaced)), "two swaps replaced the same version"
        assert store["key"].startswith(b"%040d" % 99), present

    @needs(Can.SWAP)
    def test_of_many_who_swap_or_delete_one_version_one_wins(self, store: Store, other: Store) -> None:
        rounds, step = self._effort(12, 8, 6), step_together(6)
        deleters = range(3, 6) if Can.CONDITIONAL_DELETE in store.can else range(0)
        etags = {number: store.put(f"key/{number}", b"old").etag for number in range(rounds)}
        winners: list[list[int]] = [[] for _ in range(rounds)]

        def act(handle: Store, name: int) -> None:
            for number, etag in etags.items():
                step()
                try:
                    if name in deleters:
                        handle.delete(f"key/{number}", expect=etag)
                    else:
                        handle.put(f"key/{number}", b"%d" % name, expect=etag)
                    winners[number].append(name)
                except ConcurrencyError:
                    pass

        race(*(functools.partial(act, (store, other)[name % 2], name) for name in range(6)))
        for number, won in enumerate(winners):
            assert len(won) == 1, f"{len(won)} had the version"
            assert store.get(f"key/{number}") == (None if won[0] in deleters else b"%d" % won[0])

    @needs(Can.CONDITIONAL_DELETE)
    def test_a_delete_or_a_move_takes_no_version_that_it_has_not_seen(
        self, store: Store, other: Store
    ) -> None:
        rounds, step = self._effort(15, 10, 6), step_together(4)
        etags = [store.put(f"{number}/delete", b"seen").etag for number in range(rounds)]
        store.put_many({f"{number}/{way}": b"seen" for number in range(rounds) for way in ("pop", "move")})
        popped: dict[int, bytes] = {}

        def put(handle: Store) -> None:
            for number in range(rounds):
                step()
                for way in ("delete", "pop", "move"):
                    handle[f"{number}/{way}"] = b"new"

        def delete(handle: Store) -> None:
            for number, etag in enumerate(etags):
                step()
                with contextlib.suppress(ConcurrencyError):
                    handle.delete(f"{number}/delete", expect=etag)

        def take(handle: Store) -> None:
            for number in range(rounds):
                step()
                popped[number] = handle.pop(f"{number}/pop")

        def move(handle: Store) -> None:
            for number in range(rounds):
                step()
                handle.move(f"{number}/move", f"{number}/moved")

        acts = enumerate((put, delete, take, move))
        race(*(functools.partial(act, (store, other)[at % 2]) for at, act in acts))
        for number in range(rounds):
            assert store[f"{number}/delete"] == b"new", "a delete took a version that it was not asked for"
            left = store.get(f"{number}/pop"), popped[number]
            assert left in ((b"new", b"seen"), (None, b"new")), "a pop lost a put"
            assert b"new" in (store.get(f"{number}/move"), store[f"{number}/moved"]), "a move lost a put"

    def test_of_many_deleters_one_is_told_that_it_was_there(self, store: Store, other: Store) -> None:
        rounds, step = self._effort(15, 8, 6), step_together(8)
        store.put_many({f"d/{number}": b"x" for number in range(rounds)})
        told: list[list[bool]] = [[] for _ in range(rounds)]

        def delete(handle: Store) -> None:
            for number in range(rounds):
                step()
                told[number].append(handle.delete(f"d/{number}"))

        race(*(functools.partial(delete, handle) for _ in range(4) for handle in (store, other)))
        assert [sorted(each) for each in told] == [[False] * 7 + [True]] * rounds
        assert not store

    @needs(Can.CONDITIONAL_DELETE)
    def test_what_many_pop_one_gets(self, store: Store, other: Store) -> None:
        rounds, step = self._effort(15, 8, 6), step_together(8)
        store.put_many({f"p/{number}": b"%d" % number for number in range(rounds)})
        got: list[list[bytes]] = [[] for _ in range(rounds)]
        taken: list[tuple[str, bytes]] = []

        def pop(handle: Store) -> None:
            for number in range(rounds):
                step()
                value = handle.pop(f"p/{number}", None)
                if value is not None:
                    got[number].append(value)

        race(*(functools.partial(pop, handle) for _ in range(4) for handle in (store, other)))
        assert got == [[b"%d" % number] for number in range(rounds)]
        store.put_many({f"i/{number:02d}": b"%d" % number for number in range(30)})

        def pop_items(handle: Store) -> None:
            with contextlib.suppress(BlobNotFoundError):
                while True:
                    taken.append(handle.popitem())

        race(*(functools.partial(pop_items, handle) for _ in range(2) for handle in (store, other)))
        assert sorted(taken) == [(f"i/{number:02d}", b"%d" % number) for number in range(30)]

    @needs(Can.CREATE)
    def test_setdefault_gives_everyone_the_same(self, store: Store, other: Store) -> None:
        rounds, step = self._effort(15, 8, 6), step_together(8)
        values: list[set[bytes]] = [set() for _ in range(rounds)]

        def default(handle: Store, name: int) -> None:
            for number in range(rounds):
                step()
                values[number].add(handle.setdefault(f"key/{number}", b"%d" % name))

        race(*(functools.partial(default, (store, other)[name % 2], name) for name in range(8)))
        assert [{store[f"key/{number}"]} for number in range(rounds)] == values

    def test_moves_lose_nothing(self, store: Store, other: Store) -> None:
        values = {f"m/{number}": seal(b"%d" % number) for number in range(10)}
        store.put_many(values)

        def move(handle: Store, seed: int) -> None:
            for number in range(10):
                with contextlib.suppress(BlobNotFoundError, ConcurrencyError):
                    handle.move(f"m/{number}", f"to/{number}")

        race(*(functools.partial(move, handle, seed) for seed in range(2) for handle in (store, other)))
        assert {key.replace("to/", "m/"): value for key, value in read_all(store).items()} == values
        assert len(store) == 10

    def test_a_flaky_writer_destroys_nothing(self, store: Store) -> None:
        for seed in range(4):
            flaky = Flaky(store, rate=0.4, seed=seed)
            held: dict[str, bytes | None] = {}
            for number in range(40):
                key, data = f"f/{seed}/{number % 5}", seal(b"%d" % number)
                fault = ""
                try:
                    if number % 3 == 0:
                        flaky.put(key, iter([data[:7], data[7:]]))
                    elif number % 3 == 1:
                        with flaky.open(key, "wb") as file:
                            file.write(data)
                    else:
                        flaky.copy(key, f"{key}-copy")
                except StoreUnavailableError as error:
                    fault = error.message
                except BlobNotFoundError:
                    continue
                if number % 3 == 2:
                    copied = store.get(f"{key}-copy")
                    assert copied is None or is_whole(copied)
                    continue
                if fault in ("", "after"):
                    held[key] = data
                assert store.get(key) == held.get(key), f"a put that failed {fault} left something else"
            stored = read_all(store)
            assert all(is_whole(value) for value in stored.values())
            assert {key for key in stored if "-copy" not in key and key.startswith(f"f/{seed}/")} == set(held)

    def test_the_laws_hold(self, place: Path) -> None:
        check_laws(
            self.make,
            place,
            fill=self.fill,
            same_infos=self.same_infos,
            examples=self._effort(self.laws, 12, 5, 20),
            seed=zlib.crc32(type(self).__name__.encode()),
        )
