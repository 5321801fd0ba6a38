"""A folder of a store as a store of its own."""

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.interrupts import without_collector

from holdall import Can, FilesystemStore, InvalidKeyError, MemoryStore, PrefixStore, SqliteStore, Store
from holdall.errors import BlobExistsError, ConcurrencyError, IntegrityError, StoreClosedError, StoreError
from holdall.layers.layer import Transparent
from holdall.store import ABSENT, Info, Piece
from holdall.testing import Counting, Limited, StoreSuite


class TestPrefixOverMemory(StoreSuite):
    reduced = True
    respells = True
    persistent = False
    longest = 1024 - len("folder/in/")

    def make(self, place: Path) -> Store:
        below = MemoryStore(name=str(place))
        below["folder/in"] = below["folder/in.x"] = below["folder/io/x"] = below["a"] = b"not ours"
        return PrefixStore(below, "folder/in")


def test_it_touches_nothing_else() -> None:
    below = MemoryStore({"in/a": b"1", "in": b"2", "in.b": b"3", "inner/c": b"4", "z": b"5"})
    store = below / "in"
    assert list(store) == ["a"]
    store["b/c"] = b"6"
    assert below["in/b/c"] == b"6"
    store.clear()
    assert sorted(below) == ["in", "in.b", "inner/c", "z"]


def test_folders_of_folders() -> None:
    below = MemoryStore()
    (below / "a" / "b/c/")["key"] = b"1"
    assert list(below) == ["a/b/c/key"]


@pytest.mark.parametrize("prefix", ["", "/", "/a", "a//", "..", "a/../b", "a\0b", "x" * 1025])
def test_what_is_no_prefix(prefix: str) -> None:
    with pytest.raises(InvalidKeyError):
        PrefixStore(MemoryStore(), prefix)


def test_closing_it_leaves_the_store_below_open(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.sqlite") as below:
        with below / "in" as store:
            store["a"] = b"1"
        assert below["in/a"] == b"1"


def test_what_a_pickle_opened_is_closed_with_it(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.sqlite") as below:
        again = pickle.loads(pickle.dumps(below / "in"))
        again["a"] = b"1"
        inner = again._store
        again.close()
        assert inner._closed
        assert below["in/a"] == b"1"


class Damaged(Transparent):
    """A store whose blobs turn out to be damaged when they have been read half-way."""

    can = MemoryStore.can

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = super()._read(key, start, stop)
        return info, self._half(key, pieces)

    def _half(self, key: str, pieces: Iterator[Piece]) -> Iterator[Piece]:
        yield next(pieces)[:1]
        raise IntegrityError("the bytes are not what was written", key=key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        for info in super()._scan(prefix, after):
            yield info
            raise IntegrityError("the entry is damaged", key=info.key)

    def _delete_many(self, keys: object) -> int:
        raise IntegrityError("the entry is damaged", key=next(iter(keys)))  # type: ignore[call-overload]


def test_errors_name_the_key_that_the_caller_used() -> None:
    below = MemoryStore({"in/a": b"12"})
    store, damaged = below / "in", PrefixStore(Damaged(below), "in")
    calls: list[tuple[type[StoreError], str, Callable[[], object]]] = [
        (KeyError, "absent", lambda: store["absent"]),  # type: ignore[list-item]
        (KeyError, "absent", lambda: store.copy("absent", "a")),  # type: ignore[list-item]
        (BlobExistsError, "a", lambda: store.put("a", b"", expect=ABSENT)),
        (ConcurrencyError, "a", lambda: store.move("a", "a", expect="other")),
        (IntegrityError, "a", lambda: damaged["a"]),
        (IntegrityError, "a", lambda: list(damaged.chunks("a"))),
        (IntegrityError, "a", lambda: damaged.open("a").read()),
        (IntegrityError, "a", lambda: damaged.get_many(["a"])),
        (IntegrityError, "a", lambda: damaged.delete_many(["a"])),
        (IntegrityError, "a", lambda: list(damaged.list())),
        (IntegrityError, "a", lambda: list(damaged)),
        (IntegrityError, "a", lambda: list(damaged.children())),
    ]
    for number, (kind, key, call) in enumerate(calls):
        with pytest.raises(kind) as caught:
            call()
        assert caught.value.key == key, number


def test_of_a_file_that_can_not_be_put_the_error_names_the_key(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path) / "in"
    store["a/b"] = b"1"
    with pytest.raises(StoreError) as caught, store.open("a", "wb") as file:
        file.write(b"2")
    assert caught.value.key == "a"
    with pytest.raises(StoreError) as caught:
        store.put_many({"x": b"", "a": b"2"})
    assert caught.value.key == "a"


@pytest.mark.parametrize("prefix", ["x" * 1023, "x" * 1024, "é" * 511 + "x"])
def test_a_prefix_that_leaves_no_room_for_a_key(prefix: str) -> None:
    with pytest.raises(InvalidKeyError, match="room"):
        PrefixStore(MemoryStore(), prefix)


def test_the_longest_key_under_the_longest_prefix() -> None:
    below = MemoryStore()
    (below / ("x" * 1022))["k"] = b"1"
    assert len(next(iter(below))) == 1024
    store = below / "é"
    store["é" * 510 + "y"] = b"2"
    assert next(store.iterate_keys()) == "é" * 510 + "y"
    for key in ("é" * 511, "é" * 510 + "yy", "z" * 1022):
        with pytest.raises(InvalidKeyError):
            store[key] = b"3"
    assert len(list(below)) == 2


def test_a_folder_of_a_folder_is_one_layer() -> None:
    below = MemoryStore()
    deep = below / "a" / "b"
    assert repr(deep) == "PrefixStore(MemoryStore(), prefix='a/b/')"
    assert deep / "" is deep
    for prefix in ("/", "..", "x//y"):
        with pytest.raises(InvalidKeyError):
            _ = deep / prefix


def test_a_listing_asks_below_for_no_more_than_the_folder() -> None:
    below = Counting(MemoryStore(dict.fromkeys(("a", "in.x", "in/a", "in/b/1", "in/b/2", "in0", "z"), b"")))
    seen: list[tuple[str, str]] = []

    class Noting(Transparent):
        def _scan(self, prefix: str, after: str) -> Iterator[Info]:
            seen.append((prefix, after))
            return super()._scan(prefix, after)

    store = PrefixStore(Noting(below), "in")
    assert list(store.iterate_keys()) == ["a", "b/1", "b/2"]
    assert [info.key for info in store.list("b")] == ["b/1", "b/2"]
    assert [child if isinstance(child, str) else child.key for child in store.children()] == ["a", "b/"]
    assert list(store.iterate_keys("b", glob="a*")) == []
    assert seen
    assert all(prefix.startswith("in/") and (not after or after.startswith("in/")) for prefix, after in seen)


def test_what_it_tells_is_what_the_store_below_tells_but_for_the_key() -> None:
    below = MemoryStore()
    store = below / "in"
    put = store.put("a", b"1", ttl=60, content_type="text/plain")
    inner = below.info("in/a")
    assert put == store.info("a") == next(store.list()) == inner.replace(key="a")
    assert (put.etag, put.expires, put.content_type) == (inner.etag, inner.expires, "text/plain")
    assert pickle.loads(pickle.dumps(put)) == put
    assert below.put("in/a", b"2", expect=put.etag).size == 1


def test_it_can_what_the_store_below_can() -> None:
    for can in (Can.WRITE, Can.LIST | Can.DELETE, MemoryStore.can):
        below = Limited(MemoryStore(), can)
        assert (below / "in").can == below.can


def test_over_a_closed_store_it_is_closed() -> None:
    below = MemoryStore()
    store = below / "in"
    below.close()
    for call in (
        lambda: store.put("a", b"1"),
        lambda: store.get("a"),
        lambda: list(store),
        lambda: store.put_many({"a": b"1"}),
        lambda: store.open("a", "wb"),
        lambda: store.clear(),
    ):
        with pytest.raises(StoreClosedError, match="MemoryStore"):
            call()
    store.close()
    with pytest.raises(StoreClosedError, match="PrefixStore"):
        store.get("a")


def test_a_stream_that_is_dropped_frees_what_the_store_below_holds(tmp_path: Path) -> None:
    freed: list[str] = []

    class Holding(Transparent):
        def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
            info, pieces = super()._read(key, start, stop)
            return info, self._held(pieces)

        def _held(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
            try:
                yield from pieces
            finally:
                freed.append("pieces")

    store = PrefixStore(Holding(MemoryStore({"in/a": bytes(3 << 20)})), "in")
    chunks = store.chunks("a")
    next(chunks)
    del chunks
    assert freed == ["pieces"]


def test_what_it_adds_to_a_call_is_little_work() -> None:
    """Function calls, which say the same on every machine."""

    @without_collector()
    def calls(function: Callable[[], object]) -> int:
        count = 0

        def trace(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += event == "call"

        function()
        sys.setprofile(trace)
        try:
            function()
        finally:
            sys.setprofile(None)
        return count

    below = MemoryStore({"in/a": b"1", "a": b"1"})
    bare, store = Transparent(below), below / "in"
    data = bytes(1024)
    assert calls(lambda: store.get("a")) <= calls(lambda: bare.get("a")) + 7
    assert calls(lambda: store.put("a", data)) <= calls(lambda: bare.put("a", data)) + 5
    assert calls(lambda: store.info("a")) <= calls(lambda: bare.info("a")) + 5
