"""A handle with another key than a store was encrypted with is refused before anything is touched."""

import os
import pickle
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from holdall import (
    CachingStore,
    Can,
    ChecksumStore,
    CompressedStore,
    ExpiringStore,
    FanoutStore,
    FilesystemStore,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    MemoryStore,
    NotifyingStore,
    ReadOnlyStore,
    RoutedStore,
    SqliteStore,
    Store,
    StoreUnavailableError,
    TracedStore,
    WrongKeyError,
    copy_store,
    diff_stores,
    move_store,
    sync_stores,
    verify_store,
)
from holdall.layers.encrypted import EncryptedStore, RotationReport
from holdall.layers.keycheck import RECORD
from holdall.testing import Counting, Flaky, Limited, race

RIGHT, WRONG, THIRD, NAMES = (random.Random(f"key {number}").randbytes(32) for number in range(4))


def emptied(below: MemoryStore) -> dict[str, bytes]:
    return dict(below.items())


def opened(file: object) -> None:
    file.close()  # type: ignore[attr-defined]


CALLS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get("a"),
    "get of what isn't there": lambda store: store.get("absent"),
    "get_range": lambda store: store.get_range("a", 1, 2),
    "in": lambda store: "a" in store,
    "exists": lambda store: store.exists("absent"),
    "info": lambda store: store.info("a"),
    "list": lambda store: list(store.list()),
    "keys": lambda store: list(store),
    "keys of a prefix": lambda store: list(store.iterate_keys("zz")),
    "children": lambda store: list(store.children()),
    "left_out": lambda store: list(store.left_out()),
    "bool": bool,
    "len": len,
    "get_many": lambda store: store.get_many(["a", "b"]),
    "chunks": lambda store: list(store.chunks("a")),
    "open": lambda store: store.open("a").read(),
    "put": lambda store: store.put("a", b"2"),
    "put of a new one": lambda store: store.put("new", b"2"),
    "put of a stream": lambda store: store.put("a", iter([b"2", b"3"])),
    "put_many": lambda store: store.put_many({"a": b"2", "new": b"3"}),
    "open to write": lambda store: opened(store.open("new", "wb")),
    "delete": lambda store: store.delete("a"),
    "delete of what isn't there": lambda store: store.delete("absent"),
    "delete_many": lambda store: store.delete_many(["a", "b"]),
    "clear": lambda store: store.clear(),
    "pop": lambda store: store.pop("a"),
    "popitem": lambda store: store.popitem(),
    "setdefault": lambda store: store.setdefault("new", b"2"),
    "modify": lambda store: store.modify("a", lambda old: old + b"2"),
    "modify a new one": lambda store: store.modify("new", lambda old: old, default=b""),
    "copy": lambda store: store.copy("a", "b"),
    "move": lambda store: store.move("a", "new"),
}


def written(names: bytes | None = None) -> MemoryStore:
    below = MemoryStore()
    EncryptedStore(below, RIGHT, names=names).update({"a": b"1", "b": b"22"})
    return below


@pytest.mark.parametrize("lost", [False, True], ids=["record", "no record"])
@pytest.mark.parametrize("names", [None, NAMES], ids=["plain names", "encrypted names"])
@pytest.mark.parametrize("call", CALLS)
def test_the_first_call_with_a_wrong_key_is_refused(call: str, names: bytes | None, lost: bool) -> None:
    below = written(names)
    if lost:
        del below[RECORD]
    before = emptied(below)
    with pytest.raises(WrongKeyError, match="another key"):
        CALLS[call](EncryptedStore(below, WRONG, names=names))
    with pytest.raises(WrongKeyError, match="another key"):
        CALLS[call](EncryptedStore(below, RIGHT, names=THIRD if names else None, context="another"))
    assert emptied(below) == before
    CALLS[call](EncryptedStore(below, RIGHT, names=names))


LAYERS: dict[str, Callable[[Store], Store]] = {
    "compressed": CompressedStore,
    "checked": ChecksumStore,
    "prefixed": lambda store: store / "folder",
    "cached": lambda store: CachingStore(store, MemoryStore()),
    "cached for a while": lambda store: CachingStore(store, MemoryStore(), fresh=60),
    "written back": lambda store: CachingStore(store, MemoryStore(), "write-back", sync_on_close=False),
    "replicated": lambda store: FanoutStore([MemoryStore(), store]),
    "replicated, first": lambda store: FanoutStore([store, MemoryStore()], write=1),
    "routed": lambda store: RoutedStore({"other/": MemoryStore(), "": store}),
    "expiring": lambda store: ExpiringStore(store, 3600),
    "notifying": NotifyingStore,
    "traced": TracedStore,
    "twice": lambda store: EncryptedStore(store, THIRD),
    "of a file": lambda store: CompressedStore(store / "x", "gzip"),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_under_every_other_layer(layer: str) -> None:
    below = MemoryStore()
    make = LAYERS[layer]
    make(EncryptedStore(below, RIGHT))["a"] = b"1"
    EncryptedStore(below, RIGHT)["folder/a"] = b"1"
    before = emptied(below)
    for name, call in CALLS.items():
        with pytest.raises(WrongKeyError, match="another key"):
            call(make(EncryptedStore(below, WRONG)))
        assert emptied(below) == before, name


def test_reading_below_a_layer_that_only_reads() -> None:
    below = written()
    for make in (
        lambda key: ReadOnlyStore(EncryptedStore(below, key)),
        lambda key: EncryptedStore(ReadOnlyStore(below), key),
    ):
        assert make(RIGHT)["a"] == b"1"
        for call in (lambda store: store["a"], list, lambda store: "a" in store):
            with pytest.raises(WrongKeyError):
                call(make(WRONG))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("compare", ["etag", "size", "content"])
def test_transfers_fail_at_once(compare: str, compressed: bool) -> None:
    def vault(key: bytes) -> Store:
        store = EncryptedStore(below, key)
        return CompressedStore(store) if compressed else store

    below = MemoryStore()
    plain = MemoryStore({f"{number}": b"line\n" * number for number in range(20)})
    copy_store(plain, vault(RIGHT))
    before, here = emptied(below), MemoryStore({"new": b"precious"})
    for transfer in (
        lambda: sync_stores(plain, vault(WRONG)),
        lambda: copy_store(plain, vault(WRONG)),
        lambda: move_store(plain, vault(WRONG)),
        lambda: sync_stores(vault(WRONG), here, delete=True, max_delete=1.0),
        lambda: copy_store(vault(WRONG), here),
        lambda: move_store(vault(WRONG), here),
        lambda: list(diff_stores(vault(WRONG), plain)),
        lambda: list(diff_stores(plain, vault(WRONG))),
        lambda: list(verify_store(vault(WRONG))),
    ):
        with pytest.raises(WrongKeyError, match="another key"):
            transfer()
    assert emptied(below) == before
    assert emptied(here) == {"new": b"precious"}
    assert len(plain) == 20


def test_the_error_names_both_fingerprints_and_no_key() -> None:
    below = written()
    right, wrong = (EncryptedStore(below, key).fingerprints()["default"] for key in (RIGHT, WRONG))
    with pytest.raises(WrongKeyError) as caught:
        list(EncryptedStore(below, {"typo": WRONG}))
    assert right in str(caught.value)
    assert f"'typo' = {wrong}" in str(caught.value)
    assert WRONG.hex() not in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), WrongKeyError)
    store = EncryptedStore(below, RIGHT)
    below["a"] = below["a"][:-1] + bytes([below["a"][-1] ^ 1])
    with pytest.raises(IntegrityError, match="changed") as damaged:
        _ = store["a"]
    assert not isinstance(damaged.value, WrongKeyError)


def test_the_record_is_never_a_blob_of_the_user(tmp_path: Path) -> None:
    for below in (MemoryStore(), FilesystemStore(tmp_path / "files"), SqliteStore(tmp_path / "x.sqlite")):
        store = EncryptedStore(below, RIGHT)
        assert list(store) == []
        assert list(below) == []  # reading makes nothing
        assert not store.delete("absent")
        assert list(below) == []
        store["z"] = b"1"
        assert set(below) == {"z", RECORD}
        assert list(store) == [info.key for info in store.list()] == list(store.iterate_keys("")) == ["z"]
        assert [child.key for child in store.children() if not isinstance(child, str)] == ["z"]
        assert list(store.iterate_keys("holdall")) == [info.key for info in store.list("holdall")] == []
        for call in (Store.get, Store.delete, Store.info, partial(Store.put, data=b"")):
            with pytest.raises(InvalidKeyError, match="fingerprints"):
                call(store, RECORD)
        with pytest.raises(InvalidKeyError, match="fingerprints"):
            store.copy("z", RECORD)
        target = MemoryStore()
        sync_stores(store, target)
        assert list(target) == ["z"]
        sync_stores(MemoryStore({"y": b""}), store, max_delete=1.0)
        assert list(store) == ["y"]
        store.clear()
        assert not store
        with pytest.raises(WrongKeyError):
            EncryptedStore(below, WRONG)["y"] = b""
        EncryptedStore(below, RIGHT)["y"] = b"again"
        assert store["y"] == b"again"


def test_a_store_that_is_copied_below_takes_its_record_along() -> None:
    below, copied = written(), MemoryStore()
    copy_store(below, copied)
    assert EncryptedStore(copied, RIGHT)["a"] == b"1"
    with pytest.raises(WrongKeyError):
        list(EncryptedStore(copied, WRONG))


def test_handles_with_different_keys_race_for_an_empty_store(tmp_path: Path) -> None:
    for number in range(5):
        with SqliteStore(tmp_path / f"{number}.sqlite") as below:
            won: list[bytes] = []

            def write(key: bytes, below: Store = below, won: list[bytes] = won) -> None:
                store = EncryptedStore(below, key)
                try:
                    for count in range(5):
                        store[f"{key.hex()[:4]}{count}"] = b"1"
                except WrongKeyError:
                    return
                won.append(key)

            race(*(partial(write, random.Random(f"{number} {each}").randbytes(32)) for each in range(4)))
            assert len(won) == 1
            assert set(EncryptedStore(below, won[0]).values()) == {b"1"}
            assert len(below) == 6


class Behind(MemoryStore):
    """A store in which another handle writes just before the first write."""

    act: Callable[[], object] | None = None

    def _write(self, *rest: object) -> object:  # type: ignore[override]
        act, self.act = self.act, None
        if act is not None:
            act()
        return super()._write(*rest)  # type: ignore[arg-type]


def test_who_comes_second_to_an_empty_store_writes_nothing() -> None:
    below = Behind()
    below.act = partial(EncryptedStore(below, RIGHT).put, "a", b"1")
    with pytest.raises(WrongKeyError):
        EncryptedStore(below, WRONG)["a"] = b"2"
    assert EncryptedStore(below, RIGHT)["a"] == b"1"


def test_stores_below_that_can_do_less() -> None:
    for can in (
        Can.WRITE | Can.DELETE | Can.LIST,
        Can.WRITE | Can.DELETE,
        ~(Can.CREATE | Can.SWAP),
        ~Can.LIST,
    ):
        memory = MemoryStore()
        below = Limited(memory, can)
        store = EncryptedStore(below, RIGHT)
        store["a"] = b"1"
        assert EncryptedStore(below, {"old": RIGHT, "new": THIRD}, current="new")["a"] == b"1"
        for call in (
            lambda store: store["a"],
            lambda store: store.put("a", b"2"),
            lambda store: "a" in store,
        ):
            with pytest.raises(WrongKeyError):
                call(EncryptedStore(below, WRONG))
        # The record is lost: the blob in the way tells, where nothing can be listed.
        del memory[RECORD]
        with pytest.raises(WrongKeyError):
            EncryptedStore(below, WRONG)["a"] = b"2"
        with pytest.raises(WrongKeyError):
            _ = EncryptedStore(below, WRONG)["a"]
        assert EncryptedStore(below, RIGHT)["a"] == b"1"


def test_a_store_below_without_a_place_for_the_record() -> None:
    inner = MemoryStore()
    below = RoutedStore({"docs/": inner})
    EncryptedStore(below, RIGHT)["docs/a"] = b"1"
    assert list(inner) == ["docs/a"]
    assert EncryptedStore(below, RIGHT)["docs/a"] == b"1"
    for call in (lambda store: store.put("docs/b", b"2"), list, lambda store: store.get("docs/a")):
        with pytest.raises(WrongKeyError):
            call(EncryptedStore(below, WRONG))


def test_a_lost_record_is_made_again_by_the_next_write() -> None:
    below = written()
    record = below.pop(RECORD)
    assert EncryptedStore(below, RIGHT)["a"] == b"1"
    assert RECORD not in below
    EncryptedStore(below, RIGHT)["c"] = b"3"
    assert below[RECORD] == record


def test_a_damaged_record_is_told_from_a_wrong_key() -> None:
    below = written()
    record = below[RECORD]
    for bit in range(len(record) * 8):
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        below[RECORD] = damaged
        # A bit of its version makes it a newer one's.
        told = rf"'{RECORD}' .* (was changed; restore it, or delete|was written by a newer version)"
        with pytest.raises(IntegrityError, match=told) as caught:
            EncryptedStore(below, RIGHT)["a"] = b"2"
        assert not isinstance(caught.value, WrongKeyError)
    for damaged in (b"", record[:-1], record * 3000):
        below[RECORD] = damaged
        with pytest.raises(IntegrityError, match="was changed"):
            list(EncryptedStore(below, RIGHT))
    del below[RECORD]
    assert EncryptedStore(below, RIGHT)["a"] == b"1"


def test_a_store_with_only_foreign_blobs() -> None:
    below = MemoryStore({"plain": b"text", "short": b""})
    for names in (None, NAMES):
        store = EncryptedStore(below, RIGHT, names=names)
        assert "absent" not in store
        assert list(store) == ([] if names else ["plain", "short"])
    # A handle that was opened before anything was encrypted notices it when it is.
    early = EncryptedStore(below, WRONG)
    assert "absent" not in early
    EncryptedStore(below, RIGHT)["a"] = b"1"
    for call in (lambda: "a" in early, lambda: list(early), lambda: early.put("b", b"")):
        with pytest.raises(WrongKeyError):
            call()


def test_names_with_a_wrong_key_or_without_one() -> None:
    below = written(NAMES)
    for lost in (False, True):
        if lost:
            del below[RECORD]
        before = emptied(below)
        for names in (WRONG, None):
            for call in (list, len, lambda store: "a" in store, lambda store: store.put("a", b"3")):
                with pytest.raises(WrongKeyError):
                    call(EncryptedStore(below, RIGHT, names=names))
        assert emptied(below) == before
    with pytest.raises(WrongKeyError, match="leave names= out"):
        list(EncryptedStore(written(), RIGHT, names=NAMES))


def test_a_store_that_was_emptied_and_begun_anew_with_another_key() -> None:
    below = written()
    store = EncryptedStore(below, RIGHT)
    assert store["a"] == b"1"
    below.clear()
    EncryptedStore(below, WRONG).update({"a": b"1", "b": b"2"})
    with pytest.raises(WrongKeyError):
        sync_stores(MemoryStore({"a": b"3"}), store, max_delete=1.0)
    with pytest.raises(WrongKeyError):
        _ = store["a"]
    with pytest.raises(WrongKeyError):
        store["b"] = b"3"
    assert EncryptedStore(below, WRONG).get_many(["a", "b"]) == {"a": b"1", "b": b"2"}


def test_later_calls_ask_nothing() -> None:
    below = Counting(written())
    store = EncryptedStore(below, RIGHT)
    store["a"] = b"1"
    for call, made in (
        (lambda: store["a"], {"read": 1}),
        (lambda: store.put("a", b"2"), {"write": 1}),
        (lambda: store.delete("a"), {"delete": 1}),
        (lambda: store.exists("a"), {"info": 1}),
        (lambda: list(store.iterate_keys()), {"scan": 1}),
    ):
        for name in below.calls:
            below.calls[name] = 0
        call()
        assert {name: count for name, count in below.calls.items() if count} == made


def test_prefixes_below_have_records_of_their_own() -> None:
    below = MemoryStore()
    for name, key in (("a", RIGHT), ("b", WRONG)):
        EncryptedStore(below / name, key)["x"] = name.encode()
    for name, key in (("a", RIGHT), ("b", WRONG)):
        assert EncryptedStore(below / name, key)["x"] == name.encode()
        with pytest.raises(WrongKeyError):
            list(EncryptedStore(below / name, THIRD))


def test_the_record_of_a_store_that_is_away() -> None:
    below = Flaky(written(), rate=1.0, seed=1)
    store = EncryptedStore(below, RIGHT)
    for call in (lambda: store["a"], lambda: store.put("a", b""), lambda: list(store)):
        with pytest.raises(StoreUnavailableError):
            call()


def test_after_a_fork_the_child_checks_for_itself() -> None:
    below = written()
    store = EncryptedStore(below, WRONG)
    pid = os.fork()
    if not pid:
        try:
            list(store)
        except WrongKeyError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    with pytest.raises(WrongKeyError):
        list(store)


def test_blobs_of_one_context_cannot_be_put_into_another() -> None:
    below = MemoryStore()
    one, two = (EncryptedStore(below / name, RIGHT, context=name) for name in ("a", "b"))
    one["config"], two["config"] = b"of a", b"of b"
    below["b/config"] = below["a/config"]
    with pytest.raises(IntegrityError, match="another context"):
        _ = two["config"]
    with pytest.raises(WrongKeyError, match="context"):
        list(EncryptedStore(below / "a", RIGHT))
    assert pickle.loads(pickle.dumps(one["config"])) == b"of a"
    for context in (None, b"a", 1, "\ud800"):
        with pytest.raises(InvalidArgumentError, match="context"):
            EncryptedStore(below, RIGHT, context=context)  # type: ignore[arg-type]


@pytest.fixture
def variable(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("A_KEY", RIGHT.hex())
    return "env:A_KEY"


def test_fingerprints_refuse_a_wrong_key_when_the_store_is_opened(variable: str, tmp_path: Path) -> None:
    below = MemoryStore()
    store = EncryptedStore(below, {"2026": RIGHT}, names=NAMES)
    right, names = store.fingerprints()["2026"], store.fingerprints()["names"]
    wrong = EncryptedStore(below, WRONG).fingerprints()["default"]
    assert len({right, names, wrong}) == 3
    # The same bytes have another fingerprint where they are for another purpose.
    assert EncryptedStore(below, RIGHT, names=RIGHT).fingerprints()["names"] != right
    EncryptedStore(below, RIGHT, fingerprint=right.upper())
    again = EncryptedStore(below, f"{variable}#{right}", fingerprint=right)
    assert repr(pickle.loads(pickle.dumps(again))) == repr(again)
    (tmp_path / "a#key").write_text(NAMES.hex())
    (tmp_path / "a#key").chmod(0o600)
    for given in (f"file:{tmp_path}/a#key", f"file:{tmp_path}/a#key#{names}"):
        assert EncryptedStore(below, RIGHT, names=given).fingerprints()["names"] == names
    for make in (
        lambda: EncryptedStore(below, RIGHT, fingerprint=wrong),
        lambda: EncryptedStore(below, f"{variable}#{wrong}"),
        lambda: EncryptedStore(below, {"a": WRONG, "b": f"{variable}#{wrong}"}, current="a"),
        lambda: EncryptedStore(below, RIGHT, names=f"file:{tmp_path}/a#key#{right}"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"expected the fingerprint .*, got ({right}|{names})"):
            make()
    for malformed in ("", "xyz", right[:8], 12, f"{right}00"):
        with pytest.raises(InvalidArgumentError, match="16 hexadecimal digits"):
            EncryptedStore(below, RIGHT, fingerprint=malformed)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="16 hexadecimal digits"):
        EncryptedStore(below, f"{variable}#1f3a")
    with pytest.raises(InvalidArgumentError, match="two different fingerprints"):
        EncryptedStore(below, f"{variable}#{right}", fingerprint=wrong)
    assert not below


def test_one_key_under_two_names_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="'a' and 'b' are the same key"):
        EncryptedStore(MemoryStore(), {"a": RIGHT, "b": RIGHT}, current="a")
    with pytest.raises(InvalidArgumentError, match="'names'"):
        EncryptedStore(MemoryStore(), {"names": RIGHT}, names=NAMES)


def test_retired_keys_are_read_by_rotation_only() -> None:
    below = MemoryStore()
    EncryptedStore(below, {"old": RIGHT}).update({"a": b"1", "b": b"2"})
    store = EncryptedStore(below, {"old": RIGHT, "new": THIRD}, current="new", retired=["old"])
    with pytest.raises(WrongKeyError, match="another key"):
        _ = store["a"]
    assert store.rotate() == RotationReport(2, 0)
    assert dict(store.items()) == {"a": b"1", "b": b"2"}
    for retired in (["new"], ["absent"], "old", [b"old"], 1):
        with pytest.raises(InvalidArgumentError, match="retired"):
            EncryptedStore(below, {"old": RIGHT, "new": THIRD}, current="new", retired=retired)  # type: ignore[arg-type]


def test_rotation_believes_no_name() -> None:
    """What can't be opened is never counted as done, whatever the keys are called."""
    below = MemoryStore()
    EncryptedStore(below, RIGHT).update({f"{number}": b"1" for number in range(4)})
    keys = {"old": RIGHT, "default": THIRD}
    assert EncryptedStore(below, keys, current="default").rotate() == RotationReport(4, 0)
    assert set(EncryptedStore(below, THIRD).values()) == {b"1"}
    with pytest.raises(WrongKeyError):
        EncryptedStore(below, RIGHT).rotate()
    with pytest.raises(WrongKeyError):
        EncryptedStore(below, {"other": WRONG, "old": RIGHT}, current="other").rotate()


def test_the_old_key_can_be_dropped_only_when_all_opens_with_the_new_one_alone() -> None:
    below = MemoryStore()
    EncryptedStore(below, {"old": RIGHT}).update({"a": b"1", "b": b"2", "c": b"3"})
    store = EncryptedStore(below, {"old": RIGHT, "new": THIRD}, current="new")
    fingerprint = bytes.fromhex(store.fingerprints()["new"])
    # Whoever has the store below writes the new key's fingerprint into an old blob.
    below["a"] = below["a"][:8] + fingerprint + below["a"][16:]
    report = store.rotate()
    assert (report.rotated, report.current, set(report.failures)) == (2, 0, {"a"})
    # The old key is still listed: not everything is rotated.
    assert EncryptedStore(below, {"old": RIGHT}).exists("a")
    below.delete("a")
    assert store.rotate() == RotationReport(0, 2)
    assert dict(EncryptedStore(below, {"new": THIRD}).items()) == {"b": b"2", "c": b"3"}
    with pytest.raises(WrongKeyError):
        EncryptedStore(below, {"old": RIGHT})["d"] = b"4"


def test_rotation_of_a_prefix_keeps_the_old_key_listed() -> None:
    below = MemoryStore()
    EncryptedStore(below, {"old": RIGHT}).update({"a/1": b"1", "b/1": b"2"})
    store = EncryptedStore(below, {"old": RIGHT, "new": THIRD}, current="new")
    assert store.rotate("a/") == RotationReport(1, 0)
    assert EncryptedStore(below, {"old": RIGHT})["b/1"] == b"2"
    assert EncryptedStore(below, {"new": THIRD})["a/1"] == b"1"
    assert store.rotate() == RotationReport(1, 1)
    with pytest.raises(WrongKeyError):
        list(EncryptedStore(below, {"old": RIGHT}))


@pytest.mark.parametrize("mode", ["write-through", "write-back"])
@pytest.mark.parametrize("fresh", ["etag", 60, "immutable"])
def test_a_cache_that_the_right_key_filled_gives_nothing_to_a_wrong_one(fresh: Any, mode: Any) -> None:
    below, cache = written(), MemoryStore()
    with CachingStore(EncryptedStore(below, RIGHT), cache, mode, fresh=fresh) as store:
        assert store["a"] == store["a"] == b"1"
    before = emptied(below)
    for name, call in CALLS.items():
        with pytest.raises(WrongKeyError):
            call(CachingStore(EncryptedStore(below, WRONG), cache, mode, fresh=fresh))
        assert emptied(below) == before, name
    with CachingStore(EncryptedStore(below, RIGHT), cache, mode, fresh=fresh) as store:
        assert store["a"] == b"1"
