"""What a cache refuses: its source as its place, swapped arguments, changes that wait, another key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdall import (
    ABSENT,
    CachingStore,
    EncryptedStore,
    FilesystemStore,
    HashdirStore,
    InvalidArgumentError,
    MemoryStore,
    SqliteStore,
    Store,
    StoreUnavailableError,
    ZipStore,
)
from holdall.errors import WrongKeyError
from holdall.layers.layer import Transparent
from holdall.store import Attributes, Body, Expect, Info, LeftOut, Piece

PLACES: dict[str, Callable[[Path], tuple[Store, Store]]] = {
    "one folder": lambda place: (FilesystemStore(place / "d"), FilesystemStore(place / "d")),
    "a folder in the folder": lambda place: (
        FilesystemStore(place / "d"),
        FilesystemStore(place / "d/cache"),
    ),
    "a part of the store": lambda place: ((store := FilesystemStore(place / "d")), store / "cache"),
    "a layer over it": lambda place: (
        FilesystemStore(place / "d"),
        EncryptedStore(FilesystemStore(place / "d"), b"k" * 31 + b"y"),
    ),
    "one database": lambda place: (SqliteStore(place / "a.db"), SqliteStore(place / "a.db")),
    "one archive": lambda place: (ZipStore(place / "a.zip"), ZipStore(place / "a.zip")),
    "one hashdir": lambda place: (HashdirStore(place / "h"), HashdirStore(place / "h")),
    "a database in the folder": lambda place: (FilesystemStore(place), SqliteStore(place / "a.db")),
    "one named dict": lambda place: (MemoryStore(name=str(place)), MemoryStore(name=str(place))),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_cache_is_another_place_than_its_source(tmp_path: Path, name: str) -> None:
    for store in PLACES[name](tmp_path):
        # What isn't there yet has no place to be known by.
        store["a"] = b"1"
    source, cache = PLACES[name](tmp_path)
    with pytest.raises(InvalidArgumentError, match="same place"):
        CachingStore(source, cache)


def test_caches_that_are_elsewhere(tmp_path: Path) -> None:
    shared = FilesystemStore(tmp_path / "cache")
    for number in range(2):
        source = SqliteStore(tmp_path / f"{number}.db")
        source["a"] = b"%d" % number
        assert CachingStore(source, shared / f"{number}")["a"] == b"%d" % number
    store = MemoryStore({"photos/a": b"1"})
    assert CachingStore(store / "photos", store / "cache")["a"] == b"1"
    assert CachingStore(MemoryStore({"a": b"1"}), MemoryStore())["a"] == b"1"


@pytest.mark.parametrize("made", [False, True], ids=["new", "made before"])
def test_a_name_that_begins_with_another_is_elsewhere(tmp_path: Path, made: bool) -> None:
    for source, cache in (
        (FilesystemStore(tmp_path / "data"), FilesystemStore(tmp_path / "data-cache")),
        (SqliteStore(tmp_path / "a.db"), FilesystemStore(tmp_path / "a.db.cache")),
        (ZipStore(tmp_path / "a.zip"), SqliteStore(tmp_path / "a.zip.db")),
        ((one := SqliteStore(tmp_path / "b.db")) / "blobs", one / "cache"),
    ):
        if made:
            source["a"] = b"1"
        store = CachingStore(source, cache)
        store["a"] = b"1"
        assert CachingStore(source, cache)["a"] == b"1"


def test_swapped_arguments_are_reported() -> None:
    photos, near = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore()
    with pytest.raises(InvalidArgumentError, match="swapped"):
        CachingStore(near, photos)
    assert dict(photos) == {"a": b"1", "b": b"2"}
    assert not near
    store = CachingStore(photos, near)
    assert store["a"] == b"1"
    with pytest.raises(InvalidArgumentError, match="swapped"):
        CachingStore(near, photos)
    records = MemoryStore()
    CachingStore(photos, records, "write-back")["c"] = b"3"
    with pytest.raises(InvalidArgumentError, match="swapped"):
        CachingStore(records, photos)
    # A cache that holds what others put there is fine.
    near["mine"] = b""
    assert CachingStore(photos, near)["b"] == b"2"


@pytest.mark.parametrize("fresh", ["etag", "immutable"])
def test_what_waits_for_a_sync_is_hidden_by_no_other_mode(fresh: str) -> None:
    source, cache = MemoryStore({"a": b"old", "c": b"1"}), MemoryStore()
    through = CachingStore(source, cache, fresh=fresh)  # pyright: ignore[reportArgumentType]
    back = CachingStore(source, cache, "write-back", fresh=fresh)  # pyright: ignore[reportArgumentType]
    back["a"] = b"new"
    back.delete("c")
    for mode in ("write-through", "none"):
        with pytest.raises(InvalidArgumentError, match="sync"):
            CachingStore(source, cache, mode)
    changes: list[Callable[[], object]] = [
        lambda: through.put("a", b"x"),
        lambda: through.delete("a"),
        lambda: through.copy("b", "a"),
        lambda: through.move("b", "a"),
        lambda: through.move("a", "b"),
        lambda: through.put_many({"a": b"x"}),
        lambda: through.delete_many(["b", "a"]),
        lambda: through.setdefault("c", b"x") and through.put("c", b"x"),
        lambda: through.modify("a", lambda old: old + b"x"),
    ]
    through["b"] = b"2"
    for change in changes:
        with pytest.raises(StoreUnavailableError, match="sync"):
            change()
    assert dict(source) == {"a": b"old", "b": b"2", "c": b"1"}
    assert back.sync().clean
    assert (through["a"], "c" in through) == (b"new", False)
    through["a"] = b"newer"
    assert CachingStore(source, cache)["a"] == b"newer"


class Beside(Transparent):
    """A source in whose writes something else happens, once."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.others: Callable[[], object] | None = None

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        others, self.others = self.others, None
        if others is not None:
            others()
        return super()._write(key, body, expect, attributes)


@pytest.mark.parametrize("before", [None, b"0"])
def test_a_slow_sync_brings_nothing_back_that_was_deleted_and_synced(before: bytes | None) -> None:
    medium, cache = MemoryStore(), MemoryStore()
    if before is not None:
        medium["a"] = before
    source = Beside(medium)
    slow = CachingStore(source, cache, "write-back")
    slow["a"] = b"1"

    def others() -> None:
        other = CachingStore(medium, cache, "write-back")
        other.delete("a")
        assert other.sync().clean

    source.others = others
    slow.sync()
    assert ("a" in slow, "a" in medium, slow.dirty()) == (False, False, {})


def test_a_record_under_another_key_is_not_replaced() -> None:
    cache, source = MemoryStore(), MemoryStore()
    keys = bytes(range(32)), bytes(range(1, 33))
    store = CachingStore(source, EncryptedStore(cache, keys[0]), "write-back")
    store["a"] = b"1"
    before = dict(cache)
    with pytest.raises(WrongKeyError):
        CachingStore(source, EncryptedStore(cache, keys[1]), "write-back").put("a", b"2")
    assert dict(cache) == before
    assert store["a"] == b"1"


class WithLinks(Transparent):
    """A source that has more than blobs."""

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        yield LeftOut("a-link", "symbolic link")
        yield from self._store._scan(prefix, after)
        yield LeftOut("z-link", "symbolic link")


@pytest.mark.parametrize("mode", ["none", "write-through", "write-back"])
def test_what_a_source_leaves_out_is_handed_on(mode: str) -> None:
    source = WithLinks(MemoryStore({"b": b"1"}))
    store = CachingStore(source, MemoryStore(), mode)  # pyright: ignore[reportArgumentType]
    assert [each.path for each in store.left_out()] == ["a-link", "z-link"]
    store["c"] = b"2"
    assert [getattr(each, "path", None) or getattr(each, "key", None) for each in store._survey("", "")] == [
        *("a-link", "b", "c", "z-link")
    ]


@pytest.mark.parametrize("fresh", [10**400, 1e305, float("nan"), float("inf"), 0, -1, True])
def test_an_odd_age_is_refused(fresh: float) -> None:
    with pytest.raises(InvalidArgumentError, match="seconds"):
        CachingStore(MemoryStore(), MemoryStore(), fresh=fresh)


class Away(Transparent):
    """A source that can't be reached while it is away."""

    away = False

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        self._check()
        return super()._read(key, start, stop)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self._check()
        return super()._write(key, body, expect, attributes)

    def _delete(self, key: str, expect: Expect) -> bool:
        self._check()
        return super()._delete(key, expect)

    def _info(self, key: str) -> Info:
        self._check()
        return super()._info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        self._check()
        return super()._scan(prefix, after)

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailableError("the network is down")


@pytest.mark.parametrize("fresh", ["etag", "immutable", 1e6])
@pytest.mark.parametrize("mode", ["write-through", "write-back"])
def test_what_works_offline(mode: str, fresh: str) -> None:
    """The table of docs/caching.md."""
    source = Away(MemoryStore({"a": b"1", "b": b"2", "c": b"3"}))
    store = CachingStore(source, MemoryStore(), mode, fresh=fresh)  # pyright: ignore[reportArgumentType]
    assert (store["a"], store["b"]) == (b"1", b"2")
    source.away = True
    copies: list[Callable[[], object]] = [lambda: store["a"], lambda: "a" in store]
    back: list[Callable[[], object]] = [
        lambda: store.put("new", b"1"),
        lambda: store["new"],
        lambda: store.modify("new", lambda old: old + b"2"),
        lambda: store.delete("new"),
        lambda: store.put("a", b"x"),
    ]
    never: list[Callable[[], object]] = [
        lambda: list(store),
        lambda: len(store),
        lambda: store["c"],
        lambda: "none" in store,
        lambda: store.put("other", b"", expect=ABSENT),
        lambda: store.setdefault("other", b""),
    ]

    def works(call: Callable[[], object]) -> bool:
        try:
            call()
        except StoreUnavailableError:
            return False
        return True

    assert [works(call) for call in copies] == [fresh != "etag"] * 2
    if mode == "write-back":
        assert works(lambda: store.delete("b")) == (fresh != "etag")
    assert [works(call) for call in back] == [mode == "write-back"] * len(back)
    assert [works(call) for call in never] == [False] * len(never)


def test_a_cache_under_another_key_is_done_without() -> None:
    cache, source = MemoryStore(), MemoryStore({"a": b"1"})
    keys = bytes(range(32)), bytes(range(1, 33))
    assert CachingStore(source, EncryptedStore(cache, keys[0]))["a"] == b"1"
    before = dict(cache)
    store = CachingStore(source, EncryptedStore(cache, keys[1]))
    assert store["a"] == b"1"
    store["b"] = b"2"
    assert (store["b"], source["b"], dict(cache) == before) == (b"2", b"2", True)
    assert store.stats().errors > 0
