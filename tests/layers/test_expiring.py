"""A store whose blobs all expire."""

import os
import pickle
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from holdall import (
    ABSENT,
    BlobExistsError,
    BlobNotFoundError,
    Can,
    ConcurrencyError,
    FilesystemStore,
    Info,
    InvalidArgumentError,
    MemoryStore,
    SqliteStore,
    Store,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.layers.expiring import ExpiringStore
from holdall.layers.layer import Transparent
from holdall.store import Expect, Piece
from holdall.testing import Flaky, Limited, StoreSuite, race

DAY = 86_400


class TestExpiringOverSqlite(StoreSuite):
    reduced = True
    expires = True

    def make(self, place: Path) -> Store:
        below = SqliteStore(place / "blobs.sqlite")
        store = ExpiringStore(below, ttl=DAY)
        store._own(below)
        return store


class TestExpiringByAge(StoreSuite):
    reduced = True
    expires = True

    def make(self, place: Path) -> Store:
        return ExpiringStore(FilesystemStore(place), ttl=DAY)


class Aging(Transparent):
    """A store without expiry, in which blobs can be made older than they are."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._older: dict[str, timedelta] = {}
        self.before_delete: Callable[[str], object] = str
        self.before_listed: Callable[[str], object] = str

    @cached_property
    def can(self) -> Can:
        return super().can & ~Can.EXPIRE

    def make_older(self, key: str, seconds: float) -> Info:
        info = self._store.info(key)
        self._older[info.etag] = self._older.get(info.etag, timedelta()) + timedelta(seconds=seconds)
        return info

    def _aged(self, info: Info) -> Info:
        return info.replace(modified=info.modified - self._older.get(info.etag, timedelta()))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = super()._read(key, start, stop)
        return self._aged(info), pieces

    def _info(self, key: str) -> Info:
        return self._aged(super()._info(key))

    def _delete(self, key: str, expect: Expect) -> bool:
        self.before_delete(key)
        return super()._delete(key, expect)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        for info in super()._scan(prefix, after):
            aged = self._aged(info)
            self.before_listed(info.key)
            yield aged


@pytest.fixture
def below() -> Aging:
    return Aging(MemoryStore())


def until_past(moment: datetime | None) -> None:
    assert moment is not None
    deadline = time.monotonic() + 60
    while datetime.now(UTC) <= moment:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_every_put_without_a_ttl_gets_this_one(kind: str, tmp_path: Path) -> None:
    with MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "x.sqlite") as medium:
        store = ExpiringStore(medium, timedelta(hours=1))
        assert store.can == medium.can

        def lives(key: str) -> float:
            info = medium.info(key)
            assert info == store.info(key)
            assert info.expires is not None
            return round((info.expires - info.modified).total_seconds() / 60)

        store["plain"] = b"1"
        store.put("stream", iter([b"1", b"2"]), content_type="text/plain")
        store.put_many({"many": b"1"})
        store.setdefault("default", b"1")
        store.modify("new", bytes, default=b"")
        with store.open("file", "w") as file:
            file.write("text")
        assert [lives(key) for key in store] == [60] * 6
        assert store.info("stream").content_type == "text/plain"
        store.put("own", b"1", ttl=60)
        store.put_many({"own many": b"1"}, ttl=120)
        with store.open("own file", "wb", ttl=timedelta(days=1)) as file:
            file.write(b"1")
        assert [lives(key) for key in ("own", "own many", "own file")] == [1, 2, 1440]
        # What keeps a blob keeps its expiry too.
        expires = store.info("own").expires
        assert store.copy("own", "copied").expires == expires
        assert store.move("copied", "moved").expires == expires
        assert store.modify("moved", lambda old: old + b"2").expires == expires
        medium["around"] = b"for ever"
        assert store.info("around").expires is None
        assert store.purge() == 0


@pytest.mark.parametrize("kind", ["memory", "sqlite", "files"])
def test_it_expires_by_the_clock(kind: str, tmp_path: Path) -> None:
    make: dict[str, Callable[[], Store]] = {
        "memory": MemoryStore,
        "sqlite": lambda: SqliteStore(tmp_path / "x.sqlite"),
        "files": lambda: FilesystemStore(tmp_path / "files"),
    }
    with make[kind]() as medium:
        store = ExpiringStore(medium, 0.05)
        info = store.put("a", b"1")
        until_past(info.expires)
        assert store.get("a") is None
        assert list(store) == []
        assert not store.delete("a")
        info = store.put("a", b"2", expect=ABSENT)
        assert info.expires is not None


def test_what_a_blobs_age_tells(below: Aging) -> None:
    store = ExpiringStore(below, DAY)
    info = store.put("a", b"1")
    assert info.expires == info.modified + timedelta(days=1)
    assert store.info("a") == info == next(store.list())
    assert store._read("a", 0, None)[0] == info
    assert Can.EXPIRE not in store.can
    assert Can.CREATE | Can.SWAP in store.can
    with pytest.raises(UnsupportedOperation):
        store.put("a", b"1", ttl=60)
    below["around"] = b"counts too"
    below.make_older("around", DAY - 60)
    assert store["around"] == b"counts too"
    below.make_older("around", 60)
    assert "around" not in store


def test_an_expired_blob_is_absent_for_every_call(below: Aging) -> None:
    store = ExpiringStore(below, DAY)
    store.put_many({"d/a": b"0123", "d/b": b"1", "live": b"2"})
    for key in ("d/a", "d/b"):
        below.make_older(key, DAY)
    assert store.get("d/a") is None
    assert "d/a" not in store
    assert (len(store), list(store), [info.key for info in store.list()]) == (1, ["live"], ["live"])
    assert [child.key for child in store.children() if isinstance(child, Info)] == ["live"]
    assert len(list(store.children())) == 1
    assert list(store.list("d/")) == list(store.children("d/")) == []
    assert store.get_many(["d/a", "live"]) == {"live": b"2"}
    assert (list(store.values()), list(store.iterate_keys(glob="**"))) == ([b"2"], ["live"])
    calls: list[Callable[[], object]] = [
        lambda: store["d/a"],
        lambda: store.get_range("d/a", 1),
        lambda: store.open("d/a"),
        lambda: store.info("d/a"),
        lambda: store.chunks("d/a"),
        lambda: store.pop("d/a"),
        lambda: store.copy("d/a", "copy"),
        lambda: store.move("d/a", "move"),
        lambda: store.modify("d/a", bytes),
        lambda: store.__delitem__("d/b"),
    ]
    for call in calls:
        with pytest.raises(BlobNotFoundError):
            call()
    assert store._digest("d/a", "sha256") is None
    assert store.popitem() == ("live", b"2")
    assert not store


def test_deleting_what_has_expired_removes_it_and_was_not_there(below: Aging) -> None:
    store = ExpiringStore(below, DAY)
    for key in ("a", "b", "c", "d"):
        store[key] = b"1"
    for key in ("a", "b", "c"):
        below.make_older(key, DAY)
    assert store.delete("a") is False
    assert store.delete_many(["b", "c", "d", "e"]) == 1
    assert list(below) == []


def test_a_delete_takes_nothing_that_came_meanwhile(below: Aging) -> None:
    store = ExpiringStore(below, DAY)
    store["a"] = b"1"
    below.make_older("a", DAY)

    def rewrite(key: str) -> None:
        below.before_delete = str
        below[key] = b"new"

    below.before_delete = rewrite
    # The new blob is there, so that it is this one that goes.
    assert store.delete("a") is True
    assert "a" not in below


def test_conditions_on_what_has_expired(below: Aging) -> None:
    store = ExpiringStore(below, DAY)
    store.put_many({"a": b"1", "b": b"2", "c": b"3"})
    etag = below.make_older("a", DAY).etag
    for call in (
        lambda: store.put("a", b"x", expect=etag),
        lambda: store.put("a", iter([b"x"]), expect=etag),
        lambda: store.delete("a", expect=etag),
        lambda: store.copy("b", "a", expect=etag),
        lambda: store.move("b", "a", expect=etag),
    ):
        with pytest.raises(ConcurrencyError) as caught:
            call()
        assert not isinstance(caught.value, BlobExistsError)
        assert caught.value.actual is None
    assert list(store) == ["b", "c"]
    assert store.put("a", b"new", expect=ABSENT).size == 3
    with pytest.raises(BlobExistsError):
        store.put("a", b"new", expect=ABSENT)
    for transfer in (store.copy, store.move):
        below.make_older("a", DAY)
        assert transfer("b", "a", expect=ABSENT).key == "a"
        with pytest.raises(BlobExistsError):
            store.copy("c", "a", expect=ABSENT)
    below.make_older("a", DAY)
    with store.open("a", "x") as file:
        file.write("created")
    below.make_older("a", DAY)
    assert store.setdefault("a", b"default") == b"default"
    below.make_older("a", DAY)
    store.modify("a", lambda old: old + b"!", default=b"fresh")
    assert store["a"] == b"fresh!"


def test_a_blob_that_expires_while_it_is_replaced_is_not_replaced(below: Aging) -> None:
    store = ExpiringStore(below, DAY)
    info = store.put("a", b"1")

    store._ttl = datetime.now(UTC) - info.modified + timedelta(seconds=0.2)
    ends = info.modified + store._ttl

    def slow() -> Iterator[bytes]:
        yield b"2"
        until_past(ends)

    with pytest.raises(ConcurrencyError):
        store.put("a", slow(), expect=info.etag)
    assert below["a"] == b"1"


def test_of_many_creators_over_an_expired_blob_one_wins(below: Aging) -> None:
    store = ExpiringStore(below, DAY)
    for number in range(50):
        key = f"key/{number}"
        below[key] = b"old"
        below.make_older(key, DAY)

        def create(name: int, key: str = key) -> bool:
            try:
                store.put(key, iter([b"%d" % name]), expect=ABSENT)
                return True
            except BlobExistsError:
                return False

        def purge() -> bool:
            store.purge()
            return False

        won = race(purge, *[lambda name=name: create(name) for name in range(5)], purge)
        assert won.count(True) == 1
        assert store[key] == b"%d" % (won.index(True) - 1)


def test_purging(below: Aging) -> None:
    store = ExpiringStore(below, DAY)
    for number in range(20):
        store[f"{number:02d}"] = b"1"
    for number in range(0, 20, 2):
        below.make_older(f"{number:02d}", DAY)
    assert store.purge() == 10
    assert list(below) == list(store) == [f"{number:02d}" for number in range(1, 20, 2)]
    assert store.purge() == 0


@pytest.mark.parametrize("moment", ["before_listed", "before_delete"])
def test_a_purge_takes_nothing_that_was_written_again(below: Aging, moment: str) -> None:
    store = ExpiringStore(below, DAY)
    store.put_many({"a": b"1", "b": b"1"})
    for key in ("a", "b"):
        below.make_older(key, DAY)

    def rewrite(key: str) -> None:
        if key == "a":
            below["a"] = b"1"

    setattr(below, moment, rewrite)
    assert store.purge() == 1
    assert list(store) == list(below) == ["a"]


class Hashing(Transparent):
    """A store whose ETags are made of the bytes, so that the same bytes have the same ones."""

    def _info(self, key: str) -> Info:
        info = super()._info(key)
        return info.replace(etag=f"size {info.size}")

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (info.replace(etag=f"size {info.size}") for info in super()._scan(prefix, after))

    def _delete(self, key: str, expect: Expect) -> bool:
        if isinstance(expect, str) and self._info(key).etag != expect:
            raise ConcurrencyError(key=key, expected=expect)
        return self._store.delete(key)


def test_a_purge_takes_nothing_that_was_renewed_with_the_same_bytes(below: Aging) -> None:
    store = ExpiringStore(Hashing(below), DAY)
    store["a"] = b"lease"
    below.make_older("a", DAY)
    below.before_listed = lambda key: store.put(key, b"lease")
    assert store.purge() == 0
    assert store["a"] == b"lease"


def test_purging_files(tmp_path: Path) -> None:
    store = ExpiringStore(FilesystemStore(tmp_path), DAY)
    store.put_many({"logs/a": b"1", "logs/b": b"2", "c": b"3"})
    old = time.time() - DAY - 1
    os.utime(tmp_path / "logs" / "a", (old, old))
    assert list(store) == ["c", "logs/b"]
    assert store.purge() == 1
    assert not (tmp_path / "logs" / "a").exists()
    assert list(store) == ["c", "logs/b"]


def test_what_a_store_without_conditional_deletes_is_spared() -> None:
    below = Aging(Limited(MemoryStore(), ~Can.CONDITIONAL_DELETE))
    store = ExpiringStore(below, DAY)
    assert Can.CREATE not in store.can
    with pytest.raises(UnsupportedOperation, match="purge could delete a blob that is new"):
        store.purge()
    store["a"] = b"1"
    below.make_older("a", DAY)
    assert store.delete("a") is False
    assert "a" in below
    assert "a" not in store
    store["a"] = b"2"
    assert (store["a"], store.delete("a")) == (b"2", True)
    unlisted = ExpiringStore(Limited(MemoryStore(), ~Can.LIST), DAY)
    with pytest.raises(UnsupportedOperation, match="can't purge"):
        unlisted.purge()


def test_clear_takes_what_has_expired_too(below: Aging) -> None:
    store = ExpiringStore(below, DAY)
    store.put_many({"a": b"1", "b": b"1"})
    below.make_older("a", DAY)
    store.clear()
    assert list(below) == []


class Signing(Transparent):
    @cached_property
    def can(self) -> Can:
        return self._store.can | Can.SIGN

    def _sign(self, key: str, method: str, seconds: float) -> str:
        return f"https://example.com/{key}?{method}"


def test_signed_urls_neither_show_what_has_expired_nor_make_what_never_does(below: Aging) -> None:
    native = ExpiringStore(Signing(MemoryStore()), DAY)
    assert native.sign("a").endswith("GET")
    with pytest.raises(UnsupportedOperation, match="would never expire"):
        native.sign("a", method="PUT")
    by_age = ExpiringStore(Signing(below), DAY)
    with pytest.raises(UnsupportedOperation):
        by_age.sign("a")


@pytest.mark.parametrize(
    "ttl", [0, -1, None, "60", True, float("nan"), float("inf"), timedelta(0), 1e-9, 1e12, 1e300]
)
def test_what_is_no_ttl(ttl: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="ttl"):
        ExpiringStore(MemoryStore(), ttl)


def test_it_goes_with_its_settings(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.sqlite") as medium:
        store = ExpiringStore(medium, timedelta(minutes=1))
        assert repr(store).endswith("ttl=60.0)")
        with pickle.loads(pickle.dumps(store)) as again:
            assert again._ttl == timedelta(minutes=1)
            assert again.put("a", b"1").expires is not None
        assert again._store._closed
        assert medium.info("a").expires is not None


@pytest.mark.parametrize("native", [True, False], ids=["native", "by age"])
def test_every_acknowledged_change_holds_over_a_store_that_fails(native: bool) -> None:
    rng = random.Random(23)
    medium = MemoryStore()
    aging = Aging(medium)
    calm = ExpiringStore(medium if native else aging, DAY)
    store = ExpiringStore(Flaky(medium if native else aging, rate=0.1), DAY)
    assert store._keeps_expiry is native
    keys = [f"key/{number}" for number in range(6)]
    failed = expired = 0
    for number in range(10_000):
        key, target = rng.sample(keys, 2)
        data = b"%d" % number
        actions = [
            "put",
            "create",
            "swap",
            "put many",
            "delete",
            "copy",
            "move",
            "get",
            "list",
            "pop",
            "file",
        ]
        action = rng.choice([*actions, "expire", "purge"])
        before = {name: calm.get(name) for name in keys}
        after: dict[str, bytes | None] = {}
        refused = False
        try:
            match action:
                case "put":
                    after = {key: data}
                    assert store.put(key, data).expires is not None
                case "create":
                    refused = before[key] is not None
                    after = {} if refused else {key: data}
                    store.put(key, iter([data]), expect=ABSENT)
                case "swap":
                    held = medium.get(key)
                    etag = medium.info(key).etag if held is not None else "none"
                    refused = before[key] is None
                    after = {} if refused else {key: data}
                    store.put(key, iter([data]), expect=etag)
                case "put many":
                    after = {key: data, target: data}
                    store.put_many(after)
                case "file":
                    after = {key: data}
                    with store.open(key, "wb") as file:
                        file.write(data)
                case "delete":
                    after = {key: None}
                    assert store.delete(key) is (before[key] is not None)
                case "copy":
                    after = {target: before[key]}
                    store.copy(key, target)
                case "move":
                    after = {target: before[key], key: None}
                    store.move(key, target)
                case "pop":
                    after = {key: None}
                    assert store.pop(key, None) == before[key]
                case "get":
                    assert store.get(key) == before[key]
                    assert store.exists(key) is (before[key] is not None)
                case "expire" if not native and before[key] is not None:
                    aging.make_older(key, DAY)
                    after = {key: None}
                    expired += 1
                case "purge":
                    store.purge()
                    if not native:
                        assert all(before[name] is not None for name in medium)
                case _:
                    assert list(store.iterate_keys()) == [name for name in keys if before[name] is not None]
            assert not refused, (number, action)
            possible = {name: (value,) for name, value in {**before, **after}.items()}
        except StoreUnavailableError:
            failed += 1
            possible = {name: (value, after.get(name, value)) for name, value in before.items()}
        except BlobNotFoundError:
            assert before[key] is None
            assert action in ("copy", "move")
            possible = {name: (value,) for name, value in before.items()}
        except ConcurrencyError:
            assert refused, (number, action)
            possible = {name: (value,) for name, value in before.items()}
        assert all(calm.get(name) in possible[name] for name in keys), (number, action)
    assert failed > 500
    assert native or expired > 200
