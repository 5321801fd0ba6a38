"""Copies, moves, conditions, times to live and attributes."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest

from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidDataError,
)
from holdall.store import ABSENT, ANY, Can, Store
from holdall.testing.helped import get_tested
from holdall.testing.refusals import check_refusals, needs
from holdall.testing.running import wait_until
from holdall.testing.samples import MIB, BodyError, give_once, key_of, list_keys, make_noise, read_all
from holdall.testing.suites.base import SuiteBase


class VersionTests(SuiteBase):
    """Copies, moves, conditions, times to live and attributes."""

    def test_copy(self, store: Store, other: Store) -> None:
        store["a"] = data = make_noise(3 * MIB)
        info = store.copy("a", "b")
        assert info == other.info("b")
        assert (info.key, info.size) == ("b", len(data))
        assert other["b"] == other["a"] == data
        store["b"] = b"changed"
        assert other["a"] == data
        assert store.copy("b", "a").size == 7
        assert other["a"] == b"changed"
        assert store.copy("a", "a") == other.info("a")
        assert store.copy("a", "x/y/z").key == "x/y/z"
        with pytest.raises(BlobNotFoundError) as caught:
            store.copy("absent", "a")
        assert caught.value.key == "absent"
        assert read_all(other) == {"a": b"changed", "b": b"changed", "x/y/z": b"changed"}

    def test_move(self, store: Store, other: Store) -> None:
        store["a"] = data = make_noise(3 * MIB)
        store["b"] = b"replaced"
        info = store.move("a", "b")
        assert info == other.info("b")
        assert (info.key, info.size) == ("b", len(data))
        assert read_all(other) == {"b": data}
        assert store.move("b", "b") == other.info("b")
        assert other["b"] == data
        store.move("b", "x/y/z")
        assert read_all(other) == {"x/y/z": data}
        with pytest.raises(BlobNotFoundError) as caught:
            store.move("absent", "x/y/z")
        assert caught.value.key == "absent"
        assert read_all(other) == {"x/y/z": data}

    @needs(Can.CREATE)
    def test_expect_absent(self, store: Store, other: Store) -> None:
        store.put("key", b"first", expect=ABSENT)
        held = store.info("key")
        store["source"] = b"source"
        for call in (
            lambda: other.put("key", b"second", expect=ABSENT),
            lambda: other.put("key", b"first", expect=ABSENT),
            lambda: other.put("key", give_once(b"second"), expect=ABSENT),
            lambda: other.copy("source", "key", expect=ABSENT),
            lambda: other.move("source", "key", expect=ABSENT),
            lambda: other.copy("key", "key", expect=ABSENT),
        ):
            with pytest.raises(BlobExistsError) as caught:
                call()
            assert isinstance(caught.value, ConcurrencyError)
            assert isinstance(caught.value, FileExistsError)
            assert caught.value.key == "key"
            assert store.info("key") == held
        assert read_all(store) == {"key": b"first", "source": b"source"}
        del other["key"]
        assert store.copy("source", "key", expect=ABSENT).size == 6
        del other["key"]
        assert store.move("source", "key", expect=ABSENT).size == 6
        assert read_all(other) == {"key": b"source"}

    @needs(Can.SWAP)
    def test_expect_an_etag(self, store: Store, other: Store) -> None:
        first = store.put("key", b"1")
        second = store.put("key", b"2", expect=first.etag)
        assert second.etag != first.etag
        assert other["key"] == b"2"
        store["source"] = b"source"
        for key, etag in (("key", first.etag), ("key", "made up"), ("key", ""), ("absent", second.etag)):
            for call in (
                lambda key=key, etag=etag: other.put(key, b"3", expect=etag),
                lambda key=key, etag=etag: other.put(key, give_once(b"3"), expect=etag),
                lambda key=key, etag=etag: other.copy("source", key, expect=etag),
                lambda key=key, etag=etag: other.move("source", key, expect=etag),
            )[: None if Can.CONDITIONAL_DELETE in store.can else -1]:
                with pytest.raises(ConcurrencyError) as caught:
                    call()
                assert not isinstance(caught.value, BlobExistsError)
                assert caught.value.key == key
                assert caught.value.actual == (second.etag if key == "key" else None)
                assert store.info("key") == second
        assert read_all(store) == {"key": b"2", "source": b"source"}
        with pytest.raises(ConcurrencyError):
            store.copy("key", "key", expect=first.etag)
        assert store.copy("key", "key", expect=second.etag).size == 1
        copied = store.copy("source", "key", expect=store.info("key").etag)
        assert other["key"] == b"source"
        if Can.CONDITIONAL_DELETE in store.can:
            assert other.move("source", "key", expect=copied.etag).size == 6
            assert read_all(store) == {"key": b"source"}

    @needs(Can.CONDITIONAL_DELETE)
    def test_delete_an_etag(self, store: Store, other: Store) -> None:
        first = store.put("key", b"1")
        second = other.put("key", b"2")
        for key, etag in (("key", first.etag), ("key", "made up"), ("key", ""), ("absent", second.etag)):
            for handle in (store, other):
                with pytest.raises(ConcurrencyError) as caught:
                    handle.delete(key, expect=etag)
                assert not isinstance(caught.value, BlobExistsError)
                assert caught.value.key == key
                assert caught.value.actual == (second.etag if key == "key" else None)
                assert store.info("key") == second
        assert other.delete("key", expect=store.info("key").etag) is True
        with pytest.raises(ConcurrencyError):
            store.delete("key", expect=second.etag)
        assert read_all(store) == {}

    def test_wrong_conditions(self, store: Store) -> None:
        wrong: Any = store
        store["key"] = b"before"
        for expect in (None, 1, b"etag", True, ["etag"], datetime.now(UTC)):
            with pytest.raises(InvalidArgumentError):
                wrong.put("key", b"x", expect=expect)
            with pytest.raises(InvalidArgumentError):
                wrong.delete("key", expect=expect)
            with pytest.raises(InvalidArgumentError):
                wrong.open("key", "wb", expect=expect)
            with pytest.raises(InvalidArgumentError):
                wrong.copy("key", "new", expect=expect)
        with pytest.raises(InvalidArgumentError):
            store.delete("key", expect=ABSENT)
        assert store.put("key", b"after", expect=ANY).size == 5
        assert store.delete("key", expect=ANY) is True
        assert read_all(store) == {}

    def test_the_etag_changes_whenever_the_bytes_do(self, store: Store, other: Store) -> None:
        seen: dict[str, bytes] = {}
        for number in range(self._effort(150, 40, 20)):
            data = b"%08d" % number
            handle = store if number % 3 else other
            if number % 10 == 9:
                handle.delete("key")
            if number % 7 == 6:
                handle["draft"] = data
                info = handle.move("draft", "key")
            else:
                info = handle.put("key", data)
            assert info.etag not in seen, f"{data!r} has the ETag of {seen[info.etag]!r}"
            seen[info.etag] = data
            assert store.info("key").etag == other.info("key").etag == info.etag

    @needs(Can.SWAP)
    def test_an_etag_that_was_and_is_again(self, store: Store, other: Store) -> None:
        first = store.put("key", b"A")
        between = other.put("key", b"B")
        again = store.put("key", b"A")
        assert between.etag not in (first.etag, again.etag)
        with pytest.raises(ConcurrencyError):
            other.put("key", b"C", expect=between.etag)
        if first.etag != again.etag:
            with pytest.raises(ConcurrencyError):
                other.put("key", b"C", expect=first.etag)
        del store["key"]
        with pytest.raises(ConcurrencyError):
            other.put("key", b"C", expect=again.etag)
        assert read_all(store) == {}

    @needs(Can.SWAP | Can.CREATE)
    def test_modify(self, store: Store, other: Store) -> None:
        info = store.modify("key", lambda old: old + b"1", default=b"0")
        assert info == other.info("key")
        assert other["key"] == b"01"
        assert store.modify("key", lambda old: [old, b"2"], default=b"0").size == 3
        assert other["key"] == b"012"
        calls: list[bytes] = []

        def late(old: bytes) -> bytes:
            calls.append(old)
            if len(calls) == 1:
                other["key"] = b"theirs"
            return old + b"+mine"

        store.modify("key", late)
        assert calls == [b"012", b"theirs"]
        assert other["key"] == b"theirs+mine"

        def fail(_: bytes) -> bytes:
            raise BodyError

        with pytest.raises(BodyError):
            store.modify("key", fail)
        with pytest.raises(InvalidDataError):
            store.modify("key", cast(Any, lambda _: "text"))  # pyright: ignore[reportUnknownLambdaType]
        assert read_all(other) == {"key": b"theirs+mine"}

    def test_what_it_can_not_do_raises(self, store: Store) -> None:
        store["key"] = b"before"
        info, tested = store.info("key"), get_tested(store)
        for flag in Can:
            if flag not in tested.can:
                check_refusals(tested, flag, "key")
                assert read_all(store) == {"key": b"before"}
                assert store.info("key") == info

    @needs(Can.EXPIRE)
    def test_an_expired_blob_is_absent_for_every_call(self, store: Store, other: Store) -> None:
        begun = datetime.now(UTC)
        keys = [f"gone/{number}" for number in range(12)]
        info = store.put(keys[0], b"0", ttl=0.05)
        for key in keys[1:]:
            info = store.put(key, b"x", ttl=timedelta(milliseconds=50))
        store["stays"] = b"stays"
        assert info.expires is not None
        assert begun < info.expires < datetime.now(UTC) + timedelta(seconds=1)
        last = info.expires
        wait_until(lambda: datetime.now(UTC) > last)
        for handle in (store, other):
            assert handle.get(keys[0]) is None
            assert keys[0] not in handle
            assert len(handle) == 1
            assert list_keys(handle) == list(handle) == ["stays"]
            assert list_keys(handle, "gone/") == []
            assert [key_of(child) for child in handle.children()] == ["stays"]
            assert handle.get_many(keys) == {}
            assert list(handle.values()) == [b"stays"]
            for call in (handle.info, handle.__getitem__, handle.open, handle.chunks, handle.__delitem__):
                with pytest.raises(BlobNotFoundError):
                    call(keys[0])
            with pytest.raises(BlobNotFoundError):
                handle.get_range(keys[0], 0)
            with pytest.raises(BlobNotFoundError):
                handle.copy(keys[0], "copy")
            with pytest.raises(BlobNotFoundError):
                handle.move(keys[0], "move")
        assert store.delete(keys[1]) is False
        assert store.pop(keys[2], None) is None
        assert store.delete_many(keys[3:5]) == 0
        assert store.setdefault(keys[5], b"new") == b"new"
        if Can.SWAP in store.can:
            with pytest.raises(ConcurrencyError):
                other.put(keys[11], b"x", expect=info.etag)
            with pytest.raises(BlobNotFoundError):
                other.modify(keys[6], lambda old: old)
        if Can.CONDITIONAL_DELETE in store.can:
            with pytest.raises(ConcurrencyError):
                other.delete(keys[11], expect=info.etag)
        if Can.CREATE in store.can:
            assert (store.put(keys[7], b"new", expect=ABSENT).expires is not None) is self.expires
            assert other[keys[7]] == b"new"
            del store[keys[7]]
        store[keys[8]] = b"for ever"
        assert (other.info(keys[8]).expires is not None) is self.expires
        assert list_keys(other) == [keys[5], keys[8], "stays"]
        assert store.popitem()[0] == keys[5]
        store.delete_many([keys[8], "stays"])
        assert not other
        with pytest.raises(BlobNotFoundError):
            store.popitem()

    @needs(Can.EXPIRE)
    def test_a_time_to_live(self, store: Store, other: Store) -> None:
        wrong: Any = store
        for ttl in (60, 60.0, timedelta(minutes=1)):
            begun = datetime.now(UTC)
            info = store.put("key", b"x", ttl=ttl)
            assert info == other.info("key") == next(other.list())
            assert info.expires is not None
            assert info.expires.utcoffset() == timedelta(0)
            assert abs(info.expires - begun - timedelta(minutes=1)) < timedelta(seconds=30)
        assert other["key"] == b"x"
        copied, moved = store.copy("key", "copied"), store.move("key", "moved")
        assert copied.expires == moved.expires == info.expires
        put = store.put("moved", b"y")
        assert put.expires == other.info("moved").expires != info.expires
        assert (put.expires is not None) is self.expires
        with store.open("file", "wb", ttl=60) as file:
            file.write(b"x")
        assert other.info("file").expires is not None
        many = store.put_many({"m/1": b"", "m/2": b""}, ttl=60)
        assert all(each.expires is not None and other.info(key) == each for key, each in many.items())
        if Can.SWAP in store.can:
            assert store.modify("file", lambda _: b"y").expires == other.info("file").expires is not None
        # A server counts by its own clock.
        until, near = datetime.now(UTC) + timedelta(hours=1), timedelta(seconds=30)
        for moment in (until, until.astimezone(timezone(timedelta(hours=5)))):
            put = store.put("key", b"x", expires=moment)
            assert put.expires is not None
            assert put.expires == other.info("key").expires
            assert abs(put.expires - until) < near
        with store.open("file", "wb", expires=until) as file:
            file.write(b"x")
        for info in (other.info("file"), store.put_many({"key": b"x"}, expires=until)["key"]):
            assert info.expires is not None
            assert abs(info.expires - until) < near
        before = read_all(store)
        for expires in (datetime(2001, 1, 1, tzinfo=UTC), datetime(2999, 1, 1), 5, "2999-01-01"):
            with pytest.raises(InvalidArgumentError):
                wrong.put("bad", b"x", expires=expires)
        with pytest.raises(InvalidArgumentError):
            store.put("bad", b"x", ttl=60, expires=until)
        for ttl in (0, -1, float("nan"), float("inf"), "60", b"1", True, timedelta(0), timedelta(-1), 1e300):
            with pytest.raises(InvalidArgumentError):
                wrong.put("bad", b"x", ttl=ttl)
            with pytest.raises(InvalidArgumentError):
                wrong.put_many({"bad": b"x"}, ttl=ttl)
            with pytest.raises(InvalidArgumentError):
                wrong.open("bad", "wb", ttl=ttl)
        assert read_all(other) == before

    @needs(Can.ATTRIBUTES)
    def test_a_content_type_is_kept(self, store: Store, other: Store) -> None:
        wrong: Any = store
        kind = "text/plain; charset=utf-8"
        info = store.put("key", b"x", content_type=kind)
        assert info.content_type == kind
        assert other.info("key") == next(other.list()) == info
        assert store.copy("key", "copied").content_type == kind
        assert store.move("key", "moved").content_type == kind
        assert [each.content_type for each in other.list()] == [kind, kind]
        assert store.put("moved", b"y").content_type is None
        assert other.info("moved").content_type is None
        with store.open("file", "wb", content_type="image/png") as file:
            file.write(b"x")
        assert other.info("file").content_type == "image/png"
        assert store.put_many({"many": b"x"}, content_type=kind)["many"].content_type == kind
        assert other.info("many").content_type == kind
        if Can.SWAP in store.can:
            store.modify("many", lambda old: old + b"y")
            assert other.info("many").content_type == kind
        for bad in (1, b"text/plain", ["text/plain"], True):
            with pytest.raises(InvalidArgumentError):
                wrong.put("key", b"x", content_type=bad)
        assert "key" not in store

    @needs(Can.METADATA)
    def test_metadata_are_kept(self, store: Store, other: Store) -> None:
        wrong: Any = store
        given = {"owner": "ana", "run_7": 'a, b; c="d" %20', "empty": ""}
        info = store.put("key", b"x", metadata=given)
        given["owner"] = "changed later"
        kept = {**given, "owner": "ana"}
        assert info.metadata == kept
        found, pieces = other._read("key", 0, None)
        assert b"".join(pieces) == b"x"
        assert other.info("key").metadata == found.metadata == kept
        assert pickle.loads(pickle.dumps(other.info("key"))).metadata == kept
        with pytest.raises(TypeError):
            cast(Any, info.metadata)["owner"] = "bob"
        # A listing of some media lacks them.
        assert next(other.list()) == info
        assert next(other.list()).metadata in (kept, {})
        assert store.copy("key", "copied").metadata == other.info("copied").metadata == kept
        assert store.move("key", "moved").metadata == other.info("moved").metadata == kept
        if Can.SWAP in store.can:
            store.modify("moved", lambda old: old + b"y")
            assert other.info("moved").metadata == kept
        assert not store.put("moved", b"y").metadata
        assert not other.info("moved").metadata
        with store.open("file", "wb", metadata=kept) as file:
            file.write(b"x")
        assert other.info("file").metadata == kept
        assert store.put_many({"many": b"x"}, metadata=kept)["many"].metadata == kept
        assert other.info("many").metadata == kept
        assert not store.put("none", b"x", metadata={}).metadata
        before = read_all(store)
        for bad in (
            *(1, "owner", ["owner"], {"owner": 1}, {1: "ana"}, {"owner": None}, {"": "x"}, {"Owner": "x"}),
            *({"a-b": "x"}, {"1a": "x"}, {"a": "x\n"}, {"a": " x"}, {"a": "é"}, {"a": "x" * 2048}),
        ):
            for key in ("bad", "moved"):
                with pytest.raises(InvalidArgumentError):
                    wrong.put(key, b"x", metadata=bad)
        assert read_all(other) == before
