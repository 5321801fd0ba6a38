"""Listings are in order, and show what is there."""

from __future__ import annotations

import gc
import pickle
import random
import threading
from itertools import chain
from pathlib import Path
from typing import Any, cast

import pytest

from holdall.errors import BlobNotFoundError, InvalidArgumentError
from holdall.store import Can, Info, Store
from holdall.testing.keys import split_words
from holdall.testing.refusals import needs
from holdall.testing.running import race
from holdall.testing.samples import key_of, list_keys, read_all
from holdall.testing.suites.base import SuiteBase


class ListingTests(SuiteBase):
    """Listings are in order, and show what is there."""

    def test_listing_is_in_order_of_code_points(self, store: Store, other: Store) -> None:
        keys = split_words(
            "a-b a.b a/b a/b/c.d a/b/c-d a/b/c/d a0 aa a!b a.b.c a0/x B Z/z b _ ~ é z \uffff \U00010000",
            "水/é 水.x 水0 % d/e d.e/f d-e/f d\\e/f CON.x CON/y con0 a\\ a: a% e\u0301",
        )
        keys += ["a b", "d/e f/g"]
        keys = [key for key in keys if not any(other.startswith(f"{key}/") for other in keys)]
        for key in random.Random(3).sample(keys, len(keys)):
            store[key] = key.encode()
        assert list_keys(store) == list_keys(other) == list(store) == sorted(keys)
        for prefix in self._choose(sorted({key[:end] for key in keys for end in range(len(key) + 1)})):
            expected = sorted(key for key in keys if key.startswith(prefix))
            assert list_keys(store, prefix) == expected, prefix
            tree = {
                key[: slash + 1] if (slash := key.find("/", len(prefix))) >= 0 else key for key in expected
            }
            assert [key_of(child) for child in store.children(prefix)] == sorted(tree), prefix

    @needs(Can.DELETE | Can.LIST)
    def test_a_prefix_is_deleted(self, store: Store, other: Store) -> None:
        wrong: Any = store
        keys = ["logs/a", "logs/b/c", "logs.json", "l%/a", "la/a"]
        store.put_many(dict.fromkeys(keys, b"1"))
        for prefix in ("", "logs", "l", "logs/b", None, 5, b"logs/"):
            with pytest.raises(InvalidArgumentError):
                wrong.delete_prefix(prefix)
        assert sorted(other) == sorted(keys)
        assert (store / "logs").delete_prefix("b/") == 1
        assert store.delete_prefix("logs/") == 1
        assert store.delete_prefix("logs/") == 0
        assert store.delete_prefix("l%/") == 1
        assert sorted(other) == ["la/a", "logs.json"]
        assert store.delete_prefix("logs", string_prefix=True) == 1
        assert list(other) == ["la/a"]
        assert store / "" is store

    def test_a_prefix_is_a_string_prefix_and_literal(self, store: Store) -> None:
        keys = [
            *split_words(r"a_b axb a%b a%%b a*b a?b a[b] a]b ab aB A_b a_/x a\b a'b"),
            *("logs.json", "logs/1", "logs/2", "logs2/1", "logs-1", "v2.1/x", "v2.2/x", "v2x1/x", "model_v1"),
            *("data/x", "data2/x", "data-2/x", "é/x", "e\u0301/x", "percent%20/x", "percent /x"),
        ]
        store.put_many(dict.fromkeys(keys, b""))
        prefixes = [
            *split_words(r"a_ a% a%% a* a? a[ a] a[b a\ a' A a _ % * ? ["),
            *split_words("logs logs/ logs. log v2. v2.1 v2.1/ model_ data data/ data2 é"),
            *split_words("logs/1 logs/1/ logs/../data/ e percent% zzz / // a// .. . ../ \U0010ffff"),
            *("percent ", "\x00", "a\x00", "\ud800", "a" * 2000),
        ]
        for prefix in self._choose(prefixes):
            expected = sorted(key for key in keys if key.startswith(prefix))
            assert list_keys(store, prefix) == expected, prefix
            excluded = sorted(key for key in keys if not key.startswith(prefix))
            assert list(store.iterate_keys(exclude_prefix=prefix)) == excluded, prefix
            assert list(store.iterate_keys("a", prefix)) == [key for key in excluded if key.startswith("a")]
            both = list(store.children(prefix))
            assert all(key_of(child).startswith(prefix) for child in both), prefix
        assert list(store.iterate_keys(None, None)) == list(store.iterate_keys("", "")) == sorted(keys)
        wrong: Any = store
        for prefix in (1, b"a", ["a"], Path("a")):
            for call in (wrong.list, wrong.iterate_keys, wrong.children):
                with pytest.raises(InvalidArgumentError):
                    list(call(prefix))
        assert len(store) == len(keys)

    def test_a_glob_picks_keys(self, store: Store) -> None:
        keys = split_words("a.pdf a.txt b/a.pdf b/c/a.pdf b/c/d.txt [x] x b* c/.pdf B/a.pdf a^ a-")
        store.put_many(dict.fromkeys(keys, b""))
        for glob, expected in {
            "*.pdf": ["a.pdf"],
            "**/*.pdf": ["B/a.pdf", "a.pdf", "b/a.pdf", "b/c/a.pdf", "c/.pdf"],
            "b/*.pdf": ["b/a.pdf"],
            "b/**": ["b/a.pdf", "b/c/a.pdf", "b/c/d.txt"],
            "b/**/a.pdf": ["b/a.pdf", "b/c/a.pdf"],
            "*/*/*": ["b/c/a.pdf", "b/c/d.txt"],
            "?": ["x"],
            "[[]x]": ["[x]"],
            "[ax]": ["x"],
            "[!a]": ["x"],
            "a[.]*": ["a.pdf", "a.txt"],
            "a[\\^-]": ["a-", "a^"],
            "b[*]": ["b*"],
            "x": ["x"],
            "nothing": [],
            "**": sorted(keys),
        }.items():
            assert list_keys(store, glob=glob) == expected, glob
        assert list_keys(store, "b/", glob="**/*.txt") == ["b/c/d.txt"]
        assert list_keys(store, "b/c/d", glob="b/*/*") == ["b/c/d.txt"]
        assert list_keys(store, "c", glob="b/*") == []
        assert list(store.iterate_keys(exclude_prefix="b/", glob="**/a.pdf")) == ["B/a.pdf", "a.pdf"]
        for glob in (1, b"*", ["*"], "[b-a]"):
            with pytest.raises(InvalidArgumentError):
                list(store.list(glob=cast(Any, glob)))

    def test_children_show_one_level(self, store: Store) -> None:
        keys = split_words("logs.json logs/1 logs/2/x logs/2/y logs-old logs0 readme a/b/c/d z!/x z/x")
        infos = store.put_many({key: key.encode() for key in keys})
        for prefix, expected in {
            "": ["a/", "logs-old", "logs.json", "logs/", "logs0", "readme", "z!/", "z/"],
            "logs/": ["logs/1", "logs/2/"],
            "logs/2/": ["logs/2/x", "logs/2/y"],
            "logs": ["logs-old", "logs.json", "logs/", "logs0"],
            "a/": ["a/b/"],
            "a/b": ["a/b/"],
            "z": ["z!/", "z/"],
            "readme": ["readme"],
            "readme/": [],
            "nothing": [],
        }.items():
            children = list(store.children(prefix))
            assert [key_of(child) for child in children] == expected, prefix
            assert all(child == infos[child.key] for child in children if isinstance(child, Info))

    def test_a_survey_is_the_listing_and_what_it_leaves_out(self, store: Store) -> None:
        store.update(dict.fromkeys(["a", "b/c", "b/d", "e"], b"1"))
        for prefix in ("", "b", "b/", "x"):
            surveyed = [entry for entry in store._survey(prefix, "") if isinstance(entry, Info)]
            assert surveyed == list(store._scan(prefix, "")), (
                "a transfer would see other blobs than a listing"
            )
        assert list(store.left_out()) == list(store.left_out("b/")) == []

    def test_reading_makes_nothing(self, place: Path) -> None:
        with self._handle(place) as store:
            before = sorted(place.rglob("*"))
            assert store.get("key") is None
            assert "key" not in store
            assert list(store.list()) == list(store.children()) == list(store.left_out()) == []
            assert store.get_many(["key"]) == {}
            for read in (store.info, store.open, store.chunks):
                with pytest.raises(BlobNotFoundError):
                    read("key")
            made = set(place.rglob("*")).difference(before)
            assert self.keeps_what_is_read or not made

    def test_a_folder_that_is_empty_again_is_gone(self, store: Store, other: Store) -> None:
        store["a/b/c/d"] = b"1"
        store["a/x"] = b"2"
        del store["a/b/c/d"]
        assert [key_of(child) for child in other.children("a/")] == ["a/x"]
        other.delete_many(["a/x"])
        assert list(store.children()) == []
        assert not store
        store["a/b"] = b"3"
        store.move("a/b", "moved")
        store["a"] = b"where a folder was"
        assert read_all(other) == {"a": b"where a folder was", "moved": b"3"}
        store.clear()
        other["moved/x/y"] = b"where a blob was"
        assert read_all(store) == {"moved/x/y": b"where a blob was"}

    def test_listing_while_the_store_changes(self, store: Store, other: Store) -> None:
        size = self._effort(400, 60, 40)
        store.put_many({f"{number:04d}/x": b"" for number in range(0, size, 2)})
        stable = {f"{number:04d}/x" for number in range(0, size, 4)}
        for listing in (store.iterate_keys, lambda: (info.key for info in store.list()), store.children):
            seen: list[str] = []
            for child in listing():
                at = int(key_of(child)[:4])
                seen.append(f"{at:04d}/x")
                # Blobs that come and go, behind the listing and before it, move the others to other places.
                if at % 4:
                    other.delete(f"{at:04d}/x")
                elif at % 3 == 0:
                    other[f"{at + 1:04d}/x"] = b"new"
                    other.delete(f"{at + 6:04d}/x")
                else:
                    other[f"{max(at - 1, 0):04d}/x"] = b"new"
            assert seen == sorted(set(seen)), "a listing repeated a key or lost its order"
            assert stable <= set(seen), "a listing lost a key that was there the whole time"
            listed = list(store)
            assert listed == list(other) == list_keys(store) == list_keys(other)
            assert set(listed) == store.get_many(listed).keys(), "a listing shows what is gone"

    def test_a_listing_that_is_dropped(self, store: Store) -> None:
        store.put_many({f"{number}": b"" for number in range(50)})
        for call in (store.list, store.iterate_keys, store.children, store.values):
            iterator = iter(call())
            next(iterator)
            del iterator
        gc.collect()
        store.clear()
        assert not store

    def test_spans_cover_each_key_once(self, store: Store, other: Store) -> None:
        numbers = range(self._effort(40, 10, 10, 12))
        keys = [f"{folder}{number:03}" for folder in ("a", "b/", "b/c/", "é") for number in numbers]
        store.put_many(dict.fromkeys(keys, b""))
        for prefix in ("", "b", "b/c/", "é0", "absent"):
            expected = sorted(key for key in keys if key.startswith(prefix))
            for n in (1, 2, 7, 1000)[: self._effort(4, 3, 3, 4)]:
                spans = pickle.loads(pickle.dumps(store.split(n, prefix)))
                assert 1 <= len(spans) <= n
                listed = [[info.key for info in other.list(span)] for span in spans]
                assert [*chain(*listed)] == expected
                assert listed == [list(other.iterate_keys(span)) for span in spans]
                assert all(span.covers(key) for span, each in zip(spans, listed, strict=True) for key in each)
                # Keys that come later belong to one of them, too.
                assert all(sum(span.covers(prefix + late) for span in spans) == 1 for late in "!~x水")
        first, *_ = store.split(2)
        assert [key for span in store.split(3, first) for key in store.iterate_keys(span)] == list(
            store.iterate_keys(first)
        )
        assert [info.key for info in store.list(first, glob="**/c/*")] == [
            key for key in store.iterate_keys(first) if key.startswith("b/c/")
        ]
        wrong: Any = store
        for n in (0, -1, 1.5, "2", True, None):
            with pytest.raises(InvalidArgumentError):
                wrong.split(n)

    def test_spans_are_listed_while_others_write(self, store: Store, other: Store) -> None:
        stable = [f"{number:03}/stable" for number in range(self._effort(60, 40, 30))]
        store.put_many(dict.fromkeys(stable, b""))
        done = threading.Event()

        def write() -> None:
            rng = random.Random(1)
            while not done.is_set():
                passing = f"{rng.randrange(100):03}/{rng.choice('az')}"
                other[passing] = b""
                other.delete(passing)

        def read() -> None:
            try:
                for n in (2, 3, 5, 16):
                    listed = list(chain(*map(store.iterate_keys, store.split(n))))
                    assert listed == sorted(set(listed)), "spans overlap"
                    assert [key for key in listed if key.endswith("stable")] == stable, "a span lost a key"
            finally:
                done.set()

        race(write, read)
