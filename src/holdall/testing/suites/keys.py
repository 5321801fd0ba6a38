"""Keys are checked, and come back exactly."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import pytest

from holdall.errors import (
    InvalidArgumentError,
    InvalidDataError,
    InvalidKeyError,
    KeyConflictError,
    UnsupportedOperation,
)
from holdall.store import Can, Store
from holdall.testing.helped import get_tested
from holdall.testing.keys import BAD_KEYS, GOOD_KEYS
from holdall.testing.samples import bind_calls, give_once, key_of, list_keys, read_all
from holdall.testing.suites.base import SuiteBase


class KeyTests(SuiteBase):
    """Keys are checked, and come back exactly."""

    def test_what_is_no_key_is_refused_before_anything_is_touched(self, store: Store, place: Path) -> None:
        wrong: Any = store
        tested, bind = get_tested(store), functools.partial(bind_calls, store)
        store["there"] = b"before"
        info = store.info("there")
        outside = sorted(place.parent.iterdir())
        assert len(BAD_KEYS) >= 500
        for bad in self._choose(BAD_KEYS):
            calls = [
                *bind("get __getitem__ __delitem__ exists info delete pop open chunks", bad),
                *bind("get pop", bad, b"default"),
                *bind("__setitem__ put setdefault", bad, b"x"),
                *bind("put", bad, give_once(b"x")),
                *bind("get_range", bad, 0, 1),
                *bind("open", bad, "wb"),
                *bind("copy move", "there", bad),
                *bind("copy move", bad, "new"),
                *bind("copy", bad, bad),
                *bind("get_many delete_many", ["there", bad]),
                *bind("put_many update", [("new", b"x"), (bad, b"x")]),
                *(bind("modify", bad, bytes) if Can.SWAP in store.can else ()),
            ]
            for call in calls:
                with pytest.raises(InvalidKeyError) as caught:
                    call()
                assert isinstance(caught.value, ValueError)
            assert bad not in wrong
            assert bad not in wrong.keys()  # noqa: SIM118
            # A store that can't do this at all may say so first.
            for call in (
                *bind_calls(tested, "put __setitem__ setdefault", bad, b"x"),
                *bind_calls(tested, "delete __delitem__ pop", bad),
            ):
                with pytest.raises((InvalidKeyError, UnsupportedOperation)):
                    call()
        assert read_all(store) == {"there": b"before"}
        assert store.info("there") == info
        assert sorted(place.parent.iterdir()) == outside

    def test_awkward_keys_come_back_exactly(self, store: Store, other: Store) -> None:
        long = [key for key in GOOD_KEYS if len(key.encode()) > self.longest]
        for key in long:
            with pytest.raises(InvalidKeyError):
                store.put(key, b"x")
            with pytest.raises(InvalidKeyError):
                store.put_many({"short": b"x", key: b"x"})
        assert not other
        keys = [key for key in self._choose_keys() if key not in long]
        expected = {key: f"value of {number}".encode() for number, key in enumerate(keys)}
        for key, value in list(expected.items())[::2]:
            assert store.put(key, value).key == key
        many = dict(list(expected.items())[1::2])
        assert list(store.put_many(many)) == list(many)
        assert list_keys(other) == sorted(expected)
        assert list(other) == sorted(expected)
        assert read_all(other) == expected
        for key, value in expected.items():
            assert other[key] == value, key
            assert other.info(key).key == key
            assert key in other
        assert [key_of(child) for child in other.children("in/")] == sorted(
            {key[: key.index("/", 3) + 1] for key in expected if key.startswith("in/")}
        )
        for number, key in enumerate(keys[::40]):
            assert list_keys(store, key)[0] == key
            store.copy(key, f"copied/{number}")
            assert store.pop(f"copied/{number}") == expected[key]
        for key in keys[::3]:
            assert other.delete(key)
            del expected[key]
        assert list_keys(store) == sorted(expected)
        assert store.delete_many(expected) == len(expected)
        assert not other

    def test_a_str_of_another_class_is_a_key(self, store: Store) -> None:
        class Name(str):
            __slots__ = ()

        store[Name("key")] = b"1"
        assert store[Name("key")] == store["key"] == b"1"
        assert type(next(store.iterate_keys())) is str
        assert type(store.info(Name("key")).key) is str

    def test_a_blob_where_a_folder_is(self, store: Store, other: Store) -> None:
        for first, second in (("a", "a/b"), ("d/e/f", "d"), ("g/h", "g/h/i/j"), ("k/l/m/n", "k/l")):
            store[first] = b"first"
            info = store.info(first)
            for write in (
                lambda second=second: store.put(second, b"second"),
                lambda second=second: store.put(second, give_once(b"second")),
                lambda second=second: store.put_many({second: b"second"}),
                lambda first=first, second=second: store.copy(first, second),
            ):
                conflict: str | None = ""
                try:
                    write()
                except KeyConflictError as error:
                    conflict = error.key
                if conflict != "":
                    assert conflict == second
                    assert second not in other
                    assert other.get(second) is None
                    assert other.delete(second) is False
                else:
                    assert other[second] in (b"second", b"first")
                    assert other.delete(second) is True
                assert other.info(first) == info
                assert read_all(other) == {first: b"first"}
            del store[first]
            store[second] = b"now it fits"
            assert read_all(other) == {second: b"now it fits"}
            store.clear()

    def test_many_at_once(self, store: Store, other: Store) -> None:
        many = self._effort(1000, 200, 60)
        blobs = {f"many/{number:04d}": b"%d" % number for number in range(many)}
        infos = store.put_many(blobs)
        assert list(infos) == list(blobs)
        assert other.get_many(blobs) == blobs
        assert [other.info(key) for key in list(blobs)[::97]] == [infos[key] for key in list(blobs)[::97]]
        assert other.get_many(iter(["many/0003", "absent", "many/0001", "many/0003"])) == {
            "many/0001": b"1",
            "many/0003": b"3",
        }
        assert other.get_many([]) == {}
        assert store.put_many({}) == {}
        assert store.put_many(iter([("twice", b"1"), ("twice", b"2")]))["twice"] == other.info("twice")
        assert other["twice"] == b"2"
        assert store.put_many({"mixed/1": iter([b"a", b"b"]), "mixed/2": io.BytesIO(b"cd")}).keys() == {
            "mixed/1",
            "mixed/2",
        }
        assert (other["mixed/1"], other["mixed/2"]) == (b"ab", b"cd")
        assert other.delete_many(key for key in ("many/0000", "many/0000", "absent")) == 1
        assert other.delete_many([]) == 0
        assert other.delete_many(dict.fromkeys(blobs)) == many - 1
        assert list_keys(store) == ["mixed/1", "mixed/2", "twice"]

    def test_many_are_checked_before_the_first_is_written(self, store: Store) -> None:
        wrong: Any = store
        store["old"] = b"before"
        for pair in (("", b"x"), ("../a", b"x"), (1, b"x"), ("a", "text"), ("a", 1), ("a", None)):
            for call in (wrong.put_many, wrong.update):
                with pytest.raises((InvalidKeyError, InvalidDataError)):
                    call([("old", b"new"), ("new", b"x"), pair])
                with pytest.raises((InvalidKeyError, InvalidDataError)):
                    call(give_once(("old", b"new"), pair, ("new", b"x")))
        for bad in ("", "..", "a//b", 1, None):
            with pytest.raises(InvalidKeyError):
                wrong.delete_many(["old", bad])
        for call in (wrong.get_many, wrong.delete_many):
            with pytest.raises(InvalidArgumentError):
                call("old")
        assert read_all(store) == {"old": b"before"}
