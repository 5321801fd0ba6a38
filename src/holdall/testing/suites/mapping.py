"""A store works as a dict."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator

import pytest

from holdall.errors import BlobNotFoundError
from holdall.store import Can, Info, Piece, Store
from holdall.testing.helped import get_tested
from holdall.testing.refusals import needs
from holdall.testing.samples import bind_calls, give_once, key_of, read_all, read_file
from holdall.testing.suites.base import SuiteBase
from holdall.values.mapping import read_whole


class MappingTests(SuiteBase):
    """A store works as a dict."""

    def test_a_new_store_is_empty(self, store: Store) -> None:
        assert not store
        assert len(store) == 0
        assert list(store) == list(store.list()) == list(store.children()) == []

    def test_it_works_as_a_dict(self, store: Store, other: Store) -> None:
        store["b"] = b"2"
        store["a"] = b"1"
        store.update({"c": b"3"}, d=b"4")
        store.update([("e", b"5")])
        assert store["a"] == b"1"
        assert type(store["a"]) is bytes
        assert "a" in store
        assert "z" not in store
        assert (store.exists("a"), store.exists("z")) == (True, False)
        assert (len(store), bool(store)) == (5, True)
        assert list(store) == list(store.keys()) == ["a", "b", "c", "d", "e"]
        assert list(store.values()) == [b"1", b"2", b"3", b"4", b"5"]
        assert list(store.items()) == list(zip("abcde", store.values(), strict=True))
        assert "a" in store.keys()  # noqa: SIM118 - the view is what is tested
        assert "z" not in store.keys()  # noqa: SIM118
        assert b"5" in store.values()
        assert b"6" not in store.values()
        assert ("a", b"1") in store.items()
        assert ("a", b"2") not in store.items()
        assert (len(store.keys()), len(store.values()), len(store.items())) == (5, 5, 5)
        assert read_all(other) == read_all(store)
        del store["a"]
        assert "a" not in other
        assert other.pop("b") == b"2"
        assert other.setdefault("c", b"x") == b"3"
        assert other.setdefault("new", b"x") == b"x"
        assert other.setdefault("empty") == b""
        assert other.popitem() == ("c", b"3")
        assert read_all(store) == {"d": b"4", "e": b"5", "empty": b"", "new": b"x"}
        store.clear()
        assert not other
        assert read_all(store) == {}

    def test_every_read_sees_the_last_write(self, store: Store, other: Store) -> None:
        def check(handle: Store, data: bytes | None) -> None:
            there = [] if data is None else [data]
            assert handle.get("d/key") == data
            assert list(handle.get_many(["d/key"]).values()) == list(handle.values()) == there
            assert ("d/key" in handle, len(handle), bool(handle)) == (bool(there), len(there), bool(there))
            assert [info.size for info in handle.list()] == [len(each) for each in there]
            assert [key_of(child) for child in handle.children("d/")] == ["d/key"] * len(there)
            for read in (
                lambda: handle["d/key"],
                lambda: handle.get_range("d/key", 0),
                lambda: b"".join(handle.chunks("d/key")),
                lambda: read_file(handle, "d/key"),
                lambda: read_whole(handle, "d/key")[1],
            ):
                if data is None:
                    with pytest.raises(BlobNotFoundError):
                        read()
                else:
                    assert read() == data
            if data is not None:
                assert handle.info("d/key") == read_whole(handle, "d/key")[0]

        # Each value is read before it changes: to one of the same or another size, to none, and back.
        there, both = False, self._effort(2, 1, 1, 2) == 2
        for number, data in enumerate((b"1", b"2", b"3", None, b"4", b"5555", b"", b"6", None, None, b"7")):
            for writer in (store, other) if both else ((store, other)[number % 2],):
                if data is None:
                    assert writer.delete("d/key") is there
                else:
                    writer["d/key"] = data
                there = data is not None
                for handle in (other, store, other):
                    check(handle, data)

    def test_it_equals_only_itself(self, store: Store, other: Store) -> None:
        store["a"] = b"1"
        assert store == store
        assert store != other
        assert store != {"a": b"1"}
        assert len({store, other, store}) == 2
        assert get_tested(store) == get_tested(store)
        assert get_tested(store) != get_tested(other)

    def test_an_absent_key(self, store: Store) -> None:
        store["there"] = b""
        marker = object()
        assert store.get("absent") is None
        assert store.get("absent", marker) is marker
        assert store.get("absent", b"x") == b"x"
        assert store.pop("absent", marker) is marker
        assert store.pop("absent", b"x") == b"x"
        assert store.delete("absent") is False
        assert store.delete("there") is True
        assert store.delete("there") is False
        assert store.get_many(["absent", "there"]) == {}
        assert store.delete_many(["absent", "there"]) == 0
        assert store.exists("absent") is False
        bind = functools.partial(bind_calls, store)
        calls = [
            *bind("__getitem__ __delitem__ pop info open chunks", "absent"),
            *bind("get_range", "absent", 0),
            *bind("get_range", "absent", -5, 1),
            *bind("open", "absent", "r"),
            *bind("copy move", "absent", "target"),
            *bind("copy move", "absent", "absent"),
        ]
        for call in calls:
            with pytest.raises(BlobNotFoundError) as caught:
                call()
            assert isinstance(caught.value, KeyError)
            assert isinstance(caught.value, FileNotFoundError)
            assert caught.value.key == "absent"
            assert "'absent'" in str(caught.value)
        with pytest.raises(BlobNotFoundError):
            store.popitem()
        assert list(store) == []

    @needs(Can.SWAP)
    def test_modify_of_an_absent_key(self, store: Store) -> None:
        with pytest.raises(BlobNotFoundError) as caught:
            store.modify("absent", lambda old: old + b"x")
        assert caught.value.key == "absent"
        assert "absent" not in store

    def test_an_empty_value_is_a_value(self, store: Store, other: Store) -> None:
        for empty in (b"", bytearray(), [], give_once(), io.BytesIO(), [b"", b""]):
            info = store.put("empty", empty)
            assert info.size == 0
            assert other["empty"] == b""
            assert other.get("empty", b"default") == b""
            assert "empty" in other
            assert other.info("empty") == info
            assert list(other.chunks("empty")) == []
            assert other.get_range("empty", 0) == other.get_range("empty", 3, 9) == b""
            assert other.setdefault("empty", b"x") == b""
            assert other.get_many(["empty"]) == {"empty": b""}
            with other.open("empty") as file:
                assert file.read() == b""
            assert other.pop("empty", b"default") == b""

    def test_listing_and_looking_read_no_values(self, store: Store) -> None:
        store.put_many({"a": b"1", "b/c": b"2", "b/d": b"3"})

        def tripwire(key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
            raise AssertionError("a call read a value that nobody asked for")

        tested = get_tested(store)
        tested._read = tripwire
        try:
            assert (len(store), bool(store), list(store)) == (3, True, ["a", "b/c", "b/d"])
            assert "a" in store
            assert "z" not in store
            assert store.exists("a")
            assert store.info("a").size == 1
            assert [info.size for info in store.list()] == [1, 1, 1]
            assert [key_of(child) for child in store.children()] == ["a", "b/"]
            assert "a" in store.keys()  # noqa: SIM118
            assert store.delete("a")
            assert store.delete_many(["b/c"]) == 1
            store.clear()
        finally:
            del tested._read
        assert not store
