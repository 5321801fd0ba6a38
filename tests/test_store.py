"""What the base class does for every store: its face in a repr, its secrets, what it hands out."""

import copy
import gc
import io
import os
import pickle
import re
import sys
import warnings
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from holdall import (
    ABSENT,
    AsyncStore,
    BlobExistsError,
    BytesBlob,
    CachingStore,
    Can,
    CompressedStore,
    ConcurrencyError,
    FanoutStore,
    FilesystemStore,
    GitStore,
    HashdirStore,
    Info,
    IntegrityError,
    InvalidArgumentError,
    InvalidDataError,
    InvalidKeyError,
    MemoryStore,
    SqliteStore,
    Store,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
    ZipStore,
)
from holdall.files import SpooledWriter
from holdall.testing import Counting, Limited, Slow


class Remote(MemoryStore):
    """A store with a password."""

    _secrets = frozenset({"password"})

    def __init__(self, host: str, *, password: str | None = None, below: Store | None = None) -> None:
        super().__init__()
        self._given = {"host": host, "password": password, "below": below}

    def _settings(self) -> dict[str, object]:
        return dict(self._given)


def test_a_repr_prints_the_stack_and_no_secret(tmp_path: Path) -> None:
    inner = Remote("here", password="hunter2")
    stack = Counting(Slow(Remote("there", password="swordfish", below=inner), 0.0))
    text = repr(stack)
    assert "swordfish" not in text
    assert "hunter2" not in text
    assert text.startswith(
        "Counting(Slow(Remote('there', password='***', below=Remote('here', password='***'))"
    )
    assert repr(Remote("here")) == "Remote('here')"
    assert repr(FilesystemStore(tmp_path, durable=True)) == f"FilesystemStore('{tmp_path}', durable=True)"
    assert repr(FilesystemStore(tmp_path).aio) == f"AsyncStore(FilesystemStore('{tmp_path}'))"


def test_a_store_without_settings_can_be_shown_but_not_pickled() -> None:
    class Bare(Store):
        """Nothing at all."""

    assert repr(Bare()) == "Bare(...)"
    with pytest.raises(UnsupportedOperation, match="a Bare has no settings"):
        pickle.dumps(Bare())


def test_what_it_can_not_do_is_said_with_the_right_article() -> None:
    class Archive(Store):
        """Reads only."""

    with pytest.raises(UnsupportedOperation, match="'a': an Archive can't put"):
        Archive().put("a", b"")


def test_a_store_may_be_on_a_full_path_of_any_kind(tmp_path: Path) -> None:
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        store = FilesystemStore("relative")
        store["a"] = b"1"
    finally:
        os.chdir(before)
    # A store is a place: it stays where it was opened.
    assert store["a"] == b"1"
    assert pickle.loads(pickle.dumps(store))["a"] == b"1"


def test_info_is_frozen_and_equal_by_what_it_tells() -> None:
    when = datetime(2026, 11, 21, 12, 0, 0, 500_000, tzinfo=UTC)
    info = Info("a", 1, 0xBEEF, when.timestamp(), "text/plain", when.timestamp())
    assert (info.etag, info.modified, info.expires) == ("beef", when, when)
    assert info == Info("a", 1, "beef", when, "text/plain", when)
    assert hash(info) == hash(Info("a", 1, "beef", when, "text/plain", when))
    assert info != Info("a", 2, "beef", when, "text/plain", when)
    assert info != ("a", 1, "beef", when, "text/plain", when)
    assert pickle.loads(pickle.dumps(info)) == copy.copy(info) == info
    assert info.replace(key="b", size=2) == Info("b", 2, "beef", when, "text/plain", when)
    elsewhere = Info("a", 1, "e", when.astimezone(timezone(timedelta(hours=5))))
    assert elsewhere.modified.tzinfo is UTC
    assert eval(repr(info), {"Info": Info, "datetime": __import__("datetime")}) == info
    for name in ("key", "size", "etag", "modified", "content_type", "expires"):
        with pytest.raises(AttributeError):
            setattr(info, name, None)
    with pytest.raises(AttributeError):
        info.other = 1  # type: ignore[attr-defined]


def test_an_error_names_its_key_wherever_it_comes_from() -> None:
    store = MemoryStore()

    def failing() -> Iterator[bytes]:
        yield b"a"
        yield "text"  # type: ignore[misc]

    for call in (
        lambda: store.put("the/key", "text"),  # type: ignore[arg-type]
        lambda: store.put("the/key", failing()),
        lambda: store.put_many({"other": b"", "the/key": 5}),  # type: ignore[dict-item]
        lambda: store.modify("the/key", lambda old: 5, b""),  # type: ignore[arg-type,return-value]
    ):
        with pytest.raises(InvalidDataError) as caught:
            call()
        assert caught.value.key == "the/key"
        assert str(caught.value).startswith("'the/key': ")
    assert list(store) == []


@pytest.mark.parametrize(
    "wrong", [5, None, "text", b"bytes", [b"a"], ["ab"], [("a",)], [("a", b"", 1)], {"a"}]
)
def test_what_is_no_pairs_is_refused(wrong: object, tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.db") as sqlite:
        for store in (MemoryStore(), FilesystemStore(tmp_path / "files"), sqlite):
            store["kept"] = b""
            for call in (store.put_many, store.update):
                with pytest.raises(InvalidArgumentError, match="pairs of key and data"):
                    call(wrong)  # type: ignore[operator]
            assert list(store.iterate_keys()) == ["kept"]


class Duck:
    """All that `dict.update` asks for."""

    def keys(self) -> list[str]:
        return ["a", "b"]

    def __getitem__(self, key: str) -> bytes:
        return key.encode()


@pytest.fixture(
    params=["memory", "files", "hashdir", "sqlite", "zip", "git", "cache", "gzip", "two", "least"]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Stores with fast ways of their own, and layers that change bytes or ask two."""
    made: dict[str, Callable[[], Store]] = {
        "memory": MemoryStore,
        "files": lambda: FilesystemStore(tmp_path / "files"),
        "hashdir": lambda: HashdirStore(tmp_path / "hashdir"),
        "sqlite": lambda: SqliteStore(tmp_path / "x.db"),
        "zip": lambda: ZipStore(tmp_path / "x.zip"),
        "git": lambda: GitStore(tmp_path / "git", author="A <a@example.org>"),
        "cache": lambda: CachingStore(MemoryStore(), MemoryStore()),
        "gzip": lambda: CompressedStore(MemoryStore(), "gzip"),
        "two": lambda: FanoutStore([MemoryStore(), MemoryStore()]),
        "least": lambda: Limited(MemoryStore(), Can.WRITE | Can.DELETE | Can.LIST),
    }
    with made[request.param]() as store:
        yield store


def test_put_many_and_update_take_what_a_dict_takes(store: Store) -> None:
    one_dict: dict[str, bytes] = {}
    for given, more in (
        (Duck(), {}),
        ({"c": b"1"}, {"d": b"2"}),
        ([("e", b"1"), ["f", b"2"], deque(["g", b"3"])], {}),
        (iter([("h", b"1")]), {"h": b"last"}),
        (UserDict({"i": b"1"}), {}),
        ((), {}),
        ({}, {"j": b"1"}),
        (OrderedDict(k=b"1").items(), {}),
        (zip("lm", (b"1", b"2"), strict=True), {}),
        (MemoryStore({"n": b"1"}), {}),
    ):
        kept = list(given) if isinstance(given, Iterator) else given
        one_dict.update(kept, **more)  # type: ignore[arg-type]
        store.update(iter(kept) if isinstance(given, Iterator) else given, **more)  # type: ignore[arg-type]
    store.update()
    store.update(other=b"a key")
    assert dict(store.items()) == {**one_dict, "other": b"a key"}
    assert set(store.put_many(Duck())) == {"a", "b"}  # type: ignore[arg-type]


def test_a_wrong_type_is_a_type_error_before_anything_is_touched(store: Store) -> None:
    wrong: Any = store
    store["kept"] = b"before"
    calls: list[Callable[[], object]] = []
    for bad in (
        5,
        None,
        1.5,
        object(),
        ["kept"],
        ("kept",),
        {"kept"},
        b"kept",
        bytearray(b"k"),
        Path("kept"),
        len,
    ):
        calls += [
            partial(call, bad)
            for call in (
                *(wrong.get, wrong.exists, wrong.info, wrong.delete, wrong.pop, wrong.setdefault),
                *(wrong.open, wrong.chunks, wrong.__getitem__, wrong.__delitem__, wrong.sign),
                *(lambda key: wrong.put(key, b""), lambda key: wrong.get_range(key, 0)),
                *(lambda key: wrong.copy(key, "new"), lambda key: wrong.copy("kept", key)),
                *(lambda key: wrong.move(key, "new"), lambda key: wrong.move("kept", key)),
                *(lambda key: wrong.modify(key, bytes), lambda key: wrong.open(key, "w")),
                *(lambda key: wrong.put_many([("new", b""), (key, b"")]),),
                *(lambda key: wrong.get_many(["kept", key]), lambda key: wrong.delete_many(["kept", key])),
            )
        ]
    for bad in (5, None, 1.5, object(), "text", {"a": b""}, [1], len, io.StringIO("text")):
        calls += [
            partial(wrong.put, "kept", bad),
            partial(wrong.__setitem__, "kept", bad),
            partial(wrong.setdefault, "new", bad),
            partial(wrong.put_many, {"new": b"", "kept": bad}),
            partial(wrong.update, new=b"", kept=bad),
        ]
        if Can.SWAP in store.can:
            calls += [partial(wrong.modify, "kept", lambda _, bad=bad: bad)]
    for bad in (5, 1.5, object(), "text", b"bytes", [5], [b"ab"], ["ab"], [None], [{"a": b""}], store.aio):
        calls += [partial(wrong.update, bad), partial(wrong.put_many, bad)]
    calls += [partial(wrong.update, None), partial(wrong.put_many, None)]
    for bad in (5, None, object(), "kept", b"kept"):
        calls += [partial(wrong.get_many, bad), partial(wrong.delete_many, bad)]
    for bad in (None, 5, b"etag", True, store.info("kept")):
        calls += [
            partial(wrong.put, "kept", b"", expect=bad),
            partial(wrong.delete, "kept", expect=bad),
            partial(wrong.open, "kept", "w", expect=bad),
            partial(wrong.copy, "kept", "new", expect=bad),
            partial(wrong.move, "kept", "new", expect=bad),
        ]
    for bad in ("60", b"1", True, [1], object()):
        calls += [partial(wrong.put, "kept", b"", ttl=bad), partial(wrong.put_many, {"kept": b""}, ttl=bad)]
        calls += [partial(wrong.open, "kept", "wb", ttl=bad)]
    for bad in (5, b"text/plain", ["a/b"]):
        calls += [partial(wrong.put, "kept", b"", content_type=bad)]
        calls += [partial(wrong.put_many, {"kept": b""}, content_type=bad)]
    for bad in (5, b"kept", ["kept"], object()):
        calls += [
            partial(call, bad) for call in (wrong.list, wrong.iterate_keys, wrong.children, wrong.left_out)
        ]
        calls += [partial(wrong.list, glob=bad), partial(wrong.iterate_keys, None, bad)]
    for bad in ("1", 1.0, None, True, b"1"):
        calls += [partial(wrong.get_range, "kept", bad), partial(wrong.chunks, "kept", bad)]
    calls += [partial(wrong.get_range, "kept", 0, bad) for bad in ("1", 1.0, True)]
    calls += [partial(wrong.open, "kept", bad) for bad in (5, None, b"rb", ["r"])]
    for name in ("encoding", "errors", "newline"):
        calls += [partial(wrong.open, "kept", mode, **{name: 5}) for mode in ("r", "w")]
    if Can.SWAP in store.can and Can.CREATE in store.can:
        calls += [partial(wrong.modify, "kept", bad) for bad in (5, None, b"data")]
        calls += [partial(wrong.modify, "new", bytes, bad) for bad in (5, None, "text")]
        calls += [partial(wrong.modify, "kept", bytes, "text")]
    calls += [partial(wrong.sign, "kept", method=5), wrong.copy, partial(wrong.copy, "kept")]
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call()
        assert isinstance(caught.value, TypeError | UnsupportedOperation), (call, caught.value)
        if isinstance(caught.value, UnsupportedOperation):
            # What this store can't do at all, it says first.
            assert not isinstance(caught.value, TypeError)
    assert dict(store.items()) == {"kept": b"before"}


def test_what_can_not_be_a_key_is_not_in_it(store: Store) -> None:
    store.update({"a": b"1", "b/c": b"2"})
    for bad in (5, None, "", "a/../b", "/a", "a//b", b"a", "\ud800", "x" * 2000, ["a"], object()):
        assert bad not in store
        assert bad not in store.keys()  # noqa: SIM118
        assert (bad, b"1") not in store.items()
        assert bad not in store.items()
        assert bad not in store.values()
        with pytest.raises(InvalidKeyError):
            store.exists(bad)  # type: ignore[arg-type]
    keys, both = store.keys(), {"a", "b/c"}
    others: set[Any] = {"a", "", 5, b"a", "x//y"}
    assert keys & others == others & keys == {"a"}
    assert keys | others == both | others
    assert keys - others == {"b/c"}
    assert others - keys == others - {"a"}
    assert keys ^ others == both ^ others
    assert keys == both
    assert both == keys
    assert keys != others
    assert keys.isdisjoint({5, "", "z"})
    assert not keys.isdisjoint(others)
    assert keys <= both | others
    assert keys >= {"a"}
    assert not keys >= others
    items: set[Any] = {("a", b"1"), ("a", b"2"), ("", b""), (5, 5), 5}
    assert store.items() & items == {("a", b"1")}
    assert store.items() - items == {("b/c", b"2")}
    assert store.items() == {"a": b"1", "b/c": b"2"}.items()


def test_swapped_arguments_are_told(store: Store) -> None:
    wrong: Any = store
    for call, hint in (
        (lambda: wrong.put(b"data", "key"), r"put\(key, data\)"),
        (lambda: wrong.put(io.BytesIO(), "key"), "the key is the first argument"),
        (lambda: wrong.put([b"piece"], "key"), "the key is the first argument"),
        (lambda: wrong.put({"a": 1}, "key"), "not dict; the key is the first argument"),
        (lambda: wrong.modify(bytes.upper, "key"), "the key is the first argument"),
        (lambda: wrong.open("w", "a.txt"), re.escape("did you mean open('a.txt', 'w')?")),
        (lambda: wrong.open("key", "r+"), "a blob is replaced, not changed in place"),
        (lambda: wrong.copy(), "copy_store"),
        (lambda: wrong.copy("key"), r"copy\(source, target\)"),
        (lambda: wrong.copy("key", wrong), r"copy_store\(source, target\)"),
        (lambda: wrong.get_many("key"), r"get\(key\) is for one"),
        (lambda: wrong.delete_many("key"), r"delete\(key\) is for one"),
        (lambda: wrong[Path("a")], "as_posix"),
    ):
        with pytest.raises(StoreError, match=hint):
            call()
    assert list(store) == []


def test_text_options_that_python_lacks_are_refused_before_it_is_opened(store: Store) -> None:
    store["kept"] = b"before"
    for option in ({"encoding": "nope"}, {"encoding": "base64"}, {"errors": "nope"}, {"newline": "x"}):
        for mode in ("r", "w"):
            with pytest.raises(InvalidArgumentError):
                store.open("kept", mode, **option)
    assert dict(store.items()) == {"kept": b"before"}


def test_mode_x_is_refused_at_the_open_and_still_at_the_close(store: Store) -> None:
    if Can.CREATE not in store.can:
        with pytest.raises(UnsupportedOperation):
            store.open("new", "x")
        return
    etag = store.put("there", b"before").etag
    for mode in ("x", "xb"):
        with pytest.raises(BlobExistsError) as caught:
            store.open("there", mode)
        assert (caught.value.key, caught.value.actual) == ("there", etag)
    file = store.open("new", "xb")
    file.write(b"ours")
    store["new"] = b"theirs"
    with pytest.raises(BlobExistsError):
        file.close()
    assert dict(store.items()) == {"there": b"before", "new": b"theirs"}


def test_a_range_is_clamped_as_a_slice_is(store: Store) -> None:
    data = b"abc"
    store["a"] = data
    store["large"] = large = bytes(range(256)) * 10_000
    for start in (-(1 << 70), -10, -3, -1, 0, 2, 3, 9, 1 << 70):
        for stop in (None, -(1 << 70), -10, -3, -1, 0, 2, 3, 9, 1 << 70):
            assert store.get_range("a", start, stop) == data[start:stop]
            assert store.get_range("large", start, stop) == large[start:stop]


def test_a_wrong_expect_says_what_is_there(store: Store) -> None:
    if Can.SWAP not in store.can:
        return
    first = store.put("a", b"1").etag
    now = store.put("a", b"22").etag
    failing: list[tuple[Callable[[], object], str | None]] = []
    for key, actual in (("a", now), ("gone", None)):
        failing += [
            (partial(store.put, key, b"", expect=first), actual),
            (partial(store.put, key, iter([b"", b""]), expect=first), actual),
            (partial(store.delete, key, expect=first), actual),
            (partial(store.copy, "a", key, expect=first), actual),
        ]
    failing += [(partial(store.put, "a", b"", expect=ABSENT), now)]
    for call, actual in failing:
        with pytest.raises(ConcurrencyError) as caught:
            call()
        assert caught.value.actual == actual
        said = "nothing is there now" if actual is None else f"the ETag there now is {actual}"
        assert said in str(caught.value)
    assert dict(store.items()) == {"a": b"22"}


def test_every_refusal_names_its_key(tmp_path: Path) -> None:
    from holdall import ReadOnlyStore

    reading = ReadOnlyStore(MemoryStore({"a": b""}))
    wrong: Any = MemoryStore({"a": b""})
    for call in (
        *(partial(call, "a") for call in (reading.delete, reading.pop, reading.__delitem__, reading.sign)),
        *(partial(call, "a", b"") for call in (reading.put, reading.__setitem__)),
        *(partial(call, "a", "b") for call in (reading.move,)),
        partial(reading.modify, "a", bytes),
        partial(reading.open, "a", "w"),
        partial(wrong.get_range, "a", "1"),
        partial(wrong.chunks, "a", 0),
        partial(wrong.delete, "a", expect=ABSENT),
        partial(wrong.modify, "a", 5),
        partial(wrong.modify, "a", bytes, 5),
        partial(wrong.sign, "a", method=5),
        partial(wrong.open, "a", "q"),
        partial(wrong.copy, "b", "a", expect=5),
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.key == "a", call


def test_a_copy_that_can_not_read_names_the_source(tmp_path: Path) -> None:
    class Damaged(MemoryStore):
        def _copy(self, source: str, target: str, expect: Any) -> Info:
            raise IntegrityError("the bytes are not what was written")

    with pytest.raises(IntegrityError) as caught:
        Damaged({"a": b"1"}).copy("a", "b")
    assert caught.value.key == "a"


def test_a_file_that_can_not_be_looked_at_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> None:
        raise StoreUnavailableError("no permission")

    store = FilesystemStore(tmp_path)
    monkeypatch.setattr(store, "_stat", refused)  # the tests run as root, who may look at everything
    with pytest.raises(StoreUnavailableError) as caught:
        store.exists("a")
    assert caught.value.key == "a"


def every_class() -> list[type[Any]]:
    import holdall
    import holdall.stores.path.cloud
    import holdall.stores.path.universal

    found: list[type[Any]] = [
        AsyncStore,
        *(getattr(holdall, name) for name in holdall.__all__ if "Dict" in name),
    ]
    waiting: list[type[Any]] = [Store]
    for name in holdall.__all__:
        getattr(holdall, name)
    while waiting:
        kind = waiting.pop()
        if kind.__module__.startswith("holdall.") and not kind.__module__.startswith("holdall.testing"):
            found.append(kind)
            waiting += kind.__subclasses__()
    return [kind for kind in found if not issubclass(kind, BytesBlob | Exception)]


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_a_half_made_store_can_be_shown(kind: type[Any]) -> None:
    # A debugger and a traceback with locals show what a failing constructor has left.
    assert kind.__name__.lstrip("_") in repr(object.__new__(kind))


def test_a_file_that_an_interrupt_left_half_made_is_dropped() -> None:
    file = SpooledWriter.__new__(SpooledWriter)
    file.discard()


@pytest.mark.parametrize(
    "make", [MemoryStore, lambda: FilesystemStore("."), lambda: CompressedStore(MemoryStore())]
)
@pytest.mark.parametrize(("mode", "data"), [("wb", b"half"), ("w", "half")])
def test_a_dropped_file_where_warnings_are_errors(
    make: Callable[[], Store], mode: str, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is discarded all the same, and nothing else is said."""
    said: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: said.append(str(raised.exc_value)))
    store = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = store.open("a", mode)
        file.write(data)
        del file
        gc.collect()
    assert said == ["the file of 'a' was dropped without being closed, so it wasn't stored; use `with`"]
    assert not store
