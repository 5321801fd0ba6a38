"""The kit itself: it runs whole, its layers do what they say, and broken stores fail it."""

import ast
import contextlib
import hashlib
import inspect
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, unquote

import pytest
from hypothesis import Phase

from holdall import Can, Info, MemoryStore, Store, StoreUnavailableError, UnsupportedOperation
from holdall.errors import BlobExistsError, BlobNotFoundError, ConcurrencyError, IntegrityError
from holdall.layers.layer import Transparent
from holdall.layers.prefix import PrefixStore
from holdall.layers.readonly import ReadOnlyStore
from holdall.store import ABSENT, ANY, Attributes, Body, Expect, Piece
from holdall.stores.memory import _Entry
from holdall.testing import (
    BAD_KEYS,
    GOOD_KEYS,
    Corrupting,
    Counting,
    Flaky,
    Hanging,
    Limited,
    Slow,
    StoreSuite,
    assert_whole,
    check_laws,
    check_refusals,
    laws,
    race,
)


@pytest.fixture
def unshortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that show a fault aren't shortened, which takes longer than to find them."""
    monkeypatch.setattr(laws, "Phase", SimpleNamespace(generate=Phase.generate, shrink=Phase.generate))


def suites(root: type[StoreSuite] = StoreSuite) -> Iterator[type[StoreSuite]]:
    for suite in root.__subclasses__():
        yield suite
        yield from suites(suite)


def test_every_suite_is_whole():
    assert_whole(*(suite for suite in suites() if suite.__name__.startswith("Test")))


def test_every_test_class_that_is_a_suite_is_seen_in_the_files():
    """Also of files that this run doesn't import: no test of the kit is written again, none is marked."""
    kit = {name for name in dir(StoreSuite) if name.startswith("test")}
    found = 0
    for path in Path(__file__).parent.rglob("test_*.py"):
        if "StoreSuite" not in (text := path.read_text()):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and any(
                "StoreSuite" in ast.unparse(base) for base in node.bases
            ):
                if node.name.startswith("Test"):
                    found += 1
                    assert not node.decorator_list, f"{path}: {node.name} is decorated"
                names = {each.name for each in ast.walk(node) if isinstance(each, ast.FunctionDef)}
                if path != Path(__file__):
                    assert not names & kit, f"{path}: {node.name} writes {names & kit} again"
    assert found >= 6


def test_a_suite_that_overrides_a_test_is_not_made():
    with pytest.raises(TypeError, match="test_copy"):

        class Weak(StoreSuite):
            def test_copy(self):
                assert True

    with pytest.raises(TypeError, match="store"):

        class Mock(StoreSuite):
            @pytest.fixture
            def store(self):
                return {}


def test_a_suite_that_skips_or_kills_less_is_not_whole():
    class Base(StoreSuite):
        make = staticmethod(lambda place: MemoryStore(name=str(place)))

    class Skipped(Base):
        pytestmark = pytest.mark.skip("later")

    class Excused(Base):
        pytestmark = [pytest.mark.xfail]  # noqa: RUF012

    class Lazy(Base):
        kills = 3

    class Hidden(Base):
        __test__ = False

    assert_whole(Base)
    for suite in (Skipped, Excused, Lazy, Hidden):
        with pytest.raises(AssertionError):
            assert_whole(suite)


def test_a_reduced_suite_tries_less_and_all_of_it_where_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Medium(StoreSuite):
        pass

    class Layer(StoreSuite):
        reduced = True

    class AnotherLayer(Layer):
        pass

    class Prefixed(Layer):
        respells = True

    def tries(suite: type[StoreSuite]) -> tuple[int, int]:
        return suite()._effort(200, 24, 10), len(suite()._choose_keys())

    def usually(suite: type[StoreSuite]) -> int:
        return suite()._effort(500, 60, 30, 200)

    monkeypatch.delenv("HOLDALL_KIT", raising=False)
    whole = len(GOOD_KEYS)
    assert (usually(Medium), usually(Layer)) == (200, 60)
    assert (tries(Medium), tries(Prefixed)) == ((112, whole), (24, whole))
    assert tries(Layer)[0] == 24
    assert whole // 5 <= tries(Layer)[1] <= whole // 5 + 1
    assert set(Layer()._choose(GOOD_KEYS)).isdisjoint(AnotherLayer()._choose(GOOD_KEYS))
    monkeypatch.setenv("HOLDALL_KIT", "quick")
    assert tries(Medium)[0] == 10
    assert tries(Medium)[1] < whole // 4 < tries(Prefixed)[1] == whole
    monkeypatch.setenv("HOLDALL_KIT", "full")
    assert tries(Medium) == tries(Layer) == (200, whole)
    assert usually(Medium) == usually(Layer) == 500


def test_the_corpora_are_large_and_free_of_folders_of_each_other():
    assert len(BAD_KEYS) >= 500
    assert len(GOOD_KEYS) >= 500
    keys = set(GOOD_KEYS)
    assert len(keys) == len(GOOD_KEYS)
    for key in keys:
        parts = key.split("/")
        assert not any("/".join(parts[:depth]) in keys for depth in range(1, len(parts))), key


def test_without_pytest_it_names_the_extra():
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "try: import holdall.testing\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("MissingDependencyError")
    assert "pip install 'holdall[testing]'" in done.stdout


class Helped(StoreSuite):
    """Suites whose stores need help to be filled."""

    reduced = True

    persistent = False

    def fill(self, place: Path) -> Store:
        return MemoryStore(name=str(place))


class TestAStoreThatDeletesNothing(Helped):
    def make(self, place: Path) -> Store:
        return Limited(self.fill(place), Can.WRITE | Can.LIST)


class TestAStoreThatListsNothing(Helped):
    def make(self, place: Path) -> Store:
        return Limited(self.fill(place), Can.WRITE | Can.DELETE)


class Elsewhere(ReadOnlyStore):
    """Blobs as a server shows them that knows nothing of those who write below it: it has ETags of its own,
    its times are whole seconds, and it can do nothing but read and list."""

    can = Can.LIST
    _children = Store._children
    _open_read = Store._open_read

    def _seen(self, info: Info) -> Info:
        etag = hashlib.sha256(info.etag.encode()).hexdigest()
        return info.replace(etag=etag, modified=info.modified.replace(microsecond=0))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = super()._read(key, start, stop)
        return self._seen(info), pieces

    def _info(self, key: str) -> Info:
        return self._seen(super()._info(key))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return map(self._seen, super()._scan(prefix, after))


class TestAStoreThatShowsWhatOthersWrite(Helped):
    same_infos = False

    def make(self, place: Path) -> Store:
        return Elsewhere(self.fill(place))


@pytest.mark.usefixtures("unshortened")
def test_laws_of_a_store_that_is_only_read(tmp_path: Path):
    class Older(ReadOnlyStore):
        """Gives what was there when it was first asked."""

        def _info(self, key: str) -> Info:
            seen = self.__dict__.setdefault("seen", {})
            return seen.setdefault(key, super()._info(key))

    def fill(place: Path) -> Store:
        return MemoryStore(name=str(place))

    check_laws(lambda place: ReadOnlyStore(fill(place)), tmp_path, fill=fill, examples=20)
    with pytest.raises(AssertionError):
        check_laws(lambda place: Older(fill(place)), tmp_path, fill=fill, examples=20)


def test_a_suite_of_a_store_that_nobody_fills_says_so(tmp_path: Path):
    class Suite(StoreSuite):
        def make(self, place: Path) -> Store:
            return ReadOnlyStore(MemoryStore(name=str(place)))

    with pytest.raises(AssertionError, match=r"fill gives a store that can't .*WRITE"):
        Suite()._handle(tmp_path)


def test_a_helped_store_does_itself_what_it_can(tmp_path: Path):
    class Suite(Helped):
        def make(self, place: Path) -> Store:
            return Counting(ReadOnlyStore(self.fill(place)))

    store = Suite()._handle(tmp_path)
    store["a"] = b"four"
    counting = store._tested
    assert counting.calls["write"] == 0
    assert (store["a"], store.get_range("a", 1), store.get_many(["a"])) == (b"four", b"our", {"a": b"four"})
    assert (list(store), list(store.items()), store.info("a").size) == (["a"], [("a", b"four")], 4)
    with store.open("a") as file:
        assert file.read() == b"four"
    assert counting.calls["read"] == 5
    assert counting.calls["scan"] >= 2
    assert counting.calls["info"] == 1
    assert store.bytes_read == 19
    assert store.delete("a")
    assert "a" not in counting


def test_counting_counts_calls_and_bytes():
    store = Counting(MemoryStore())
    store["a"] = b"four"
    store.put("b", iter([b"1", b"23"]))
    assert store["a"] == b"four"
    assert len(list(store.list())) == 2
    assert store.info("a").size == 4
    assert store.get_range("a", 1, 3) == b"ou"
    assert store.delete("a")
    assert store.calls == {"read": 2, "write": 2, "delete": 1, "info": 1, "scan": 1}
    assert (store.bytes_written, store.bytes_read) == (7, 6)
    assert type(pickle.loads(pickle.dumps(store))) is Counting


def test_slow_takes_its_time():
    store = Slow(MemoryStore({"a": b"1"}), 0.01)
    begun = time.monotonic()
    assert store["a"] == b"1"
    assert time.monotonic() - begun >= 0.02
    assert not store.inline


def test_flaky_fails_before_halfway_and_after_and_the_same_each_time():
    def moments(seed: int) -> list[str]:
        below = MemoryStore({"key": b"before"})
        store, seen = Flaky(below, rate=0.5, seed=seed), list[str]()
        for number in range(60):
            data, old = b"%d" % number, below["key"]
            try:
                store.put("key", iter([data[:1], data[1:]]))
                seen.append("")
            except StoreUnavailableError as error:
                seen.append(error.message)
            assert below["key"] == (data if seen[-1] in ("", "after") else old)
        return seen

    assert set(moments(1)) == {"", "before", "halfway", "after"}
    assert moments(1) == moments(1)
    assert moments(1) != moments(2)
    always = Flaky(MemoryStore({"a": b"1"}), rate=1)
    for call in (
        lambda: always["a"],
        lambda: list(always),
        lambda: always.delete("a"),
        lambda: always.info("a"),
    ):
        with pytest.raises(StoreUnavailableError):
            call()


def test_corrupting_damages_what_is_read_the_same_each_time():
    data = bytes(range(256)) * 8

    def seen(seed: int, **options: bool) -> tuple[list[bytes], int]:
        store = Corrupting(MemoryStore({"a": data, "empty": b""}), rate=0.5, seed=seed, **options)
        values = [store["a"] for _ in range(60)]
        assert store["empty"] == b""
        assert store.info("a").size == len(data)
        return values, store.damaged

    values, damaged = seen(1)
    bad = [value for value in values if value != data]
    assert 10 < len(bad) == damaged < 50
    flipped = [value for value in bad if len(value) == len(data)]
    assert all(sum(a != b for a, b in zip(value, data, strict=True)) == 1 for value in flipped)
    dropped = [value for value in bad if len(value) == len(data) - 1]
    cut = [value for value in bad if len(value) < len(data) - 1]
    assert all(data.startswith(value) for value in cut)
    assert flipped
    assert dropped
    assert cut
    assert seen(1) == (values, damaged)
    assert seen(2) != (values, damaged)
    assert seen(1, reads=False) == ([data] * 60, 0)


def test_corrupting_damages_a_stream_in_bounded_memory_and_once():
    data = os.urandom(5_000_000)
    store = Corrupting(MemoryStore({"a": data}), rate=1, seed=3)
    for _ in range(20):
        chunks = list(store.chunks("a", 1 << 20))
        assert b"".join(chunks) != data
        assert len(chunks) <= 5
    assert store.damaged == 20


def test_corrupting_damages_what_is_written():
    below = MemoryStore()
    store = Corrupting(below, rate=1, reads=False, writes=True)
    store["a"] = b"0123456789"
    stored = below["a"]
    assert stored != b"0123456789"
    assert store["a"] == stored
    store.put("b", iter([b"", b"01234", b"56789"]))
    assert below["b"] != b"0123456789"
    assert store.damaged == 2
    store["empty"] = b""
    assert below["empty"] == b""
    spoiling = Corrupting(MemoryStore(name="corrupt"), 1, 7, reads=False, writes=True)
    again = pickle.loads(pickle.dumps(spoiling))
    assert repr(again) == "Corrupting(MemoryStore(name='corrupt'), rate=1, seed=7, reads=False, writes=True)"


def test_hanging_waits_and_goes_on_as_if_nothing_had_been():
    store = Hanging(MemoryStore({"a": b"1"}), rate=1, seconds=0.02)
    begun = time.monotonic()
    assert store["a"] == b"1"
    assert time.monotonic() - begun >= 0.02
    store.put("b", iter([b"1", b"2"]))
    assert (list(store.iterate_keys()), store["b"]) == (["a", "b"], b"12")
    assert (store.info("b").size, store.delete("b")) == (2, True)
    assert (store.hung, store.hanging, store.inline) == (6, 0, False)
    assert Hanging(MemoryStore({"a": b"1"}), rate=0)["a"] == b"1"


def test_hanging_is_released_and_hangs_nobody_after():
    store = Hanging(MemoryStore({"a": b"1"}), rate=1, seconds=600)

    def release() -> None:
        while store.hanging < 3:
            time.sleep(0.001)
        store.release()

    assert race(*(lambda: store["a"] for _ in range(3)), release, seconds=60)[:3] == [b"1"] * 3
    assert (store.hung, store.hanging) == (3, 0)
    assert store["a"] == b"1"
    other = Hanging(MemoryStore({"a": b"1"}), rate=1, seconds=600)

    def close() -> None:
        while not other.hanging:
            time.sleep(0.001)
        other.close()

    assert race(lambda: other._info("a").size, close, seconds=60)[0] == 1


def test_hanging_hangs_the_same_calls_each_time():
    def hung(seed: int) -> list[int]:
        store = Hanging(MemoryStore({"a": b"1"}), rate=0.3, seconds=0, seed=seed)
        counts: list[int] = []
        for _ in range(40):
            assert store["a"] == b"1"
            counts.append(store.hung)
        return counts

    assert 0 < hung(1)[-1] < 40
    assert hung(1) == hung(1) != hung(2)


def test_limited_can_less_and_never_more():
    store = Limited(Limited(MemoryStore(), Can.WRITE), Can.WRITE | Can.SWAP)
    assert store.can == Can.WRITE
    assert pickle.loads(pickle.dumps(Limited(MemoryStore(name="limited"), Can.LIST))).can == Can.LIST


@pytest.mark.parametrize("flag", [flag for flag in Can if flag in MemoryStore.can])
def test_what_is_taken_away_is_refused(flag: Can):
    check_refusals(Limited(MemoryStore({"a": b"1"}), ~flag), flag, "a")


def test_a_refusal_that_is_none_is_found():
    with pytest.raises(pytest.fail.Exception):
        check_refusals(MemoryStore({"a": b"1"}), Can.SWAP, "a")


def test_a_race_gives_results_errors_and_deadlocks():
    assert race(*(lambda number=number: number for number in range(5))) == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError):
        race(lambda: 1, lambda: 1 // 0)
    never = threading.Event()
    with pytest.raises(AssertionError, match="deadlock"):
        race(never.wait, seconds=0.2)
    never.set()


GAP = 0.001
"""How long a broken store dawdles where it should hold a lock, in seconds: long enough to be caught at it."""


class Named(MemoryStore):
    """A memory store, to be broken; its calls go by the primitives, none by a short cut."""

    put = Store.put
    delete = Store.delete

    def __init__(self, name: str) -> None:
        super().__init__(name=name)


class TornWrite(Named):
    """Publishes pieces as they come."""

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        data, info = b"", super()._write(key, (), expect, attributes)
        for piece in body:
            data += piece
            info = super()._write(key, (data,), ANY, attributes)
        return info


class OneEtag(Named):
    """Takes the size for the ETag."""

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        super()._write(key, body, expect, attributes)
        return self._info(key)

    def _info(self, key: str) -> Info:
        info = super()._info(key)
        return info.replace(etag=str(info.size))


class Wildcards(Named):
    """Has a prefix mean what LIKE means."""

    def _walk(self, prefix: str, after: str) -> Iterator[tuple[str, _Entry]]:
        for key, entry in super()._walk("", after):
            if all(a in ("_", b) for a, b in zip(prefix, key.ljust(len(prefix), "\0"), strict=False)):
                yield key, entry


class SegmentPrefix(Named):
    """Has a prefix mean a folder."""

    def _walk(self, prefix: str, after: str) -> Iterator[tuple[str, _Entry]]:
        return super()._walk(prefix and prefix.rstrip("/") + "/", after)


class UnlockedSwap(Named):
    """Looks, then writes, without a lock around both."""

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        pieces = list(body)
        if expect is not ANY:
            self._expect(key, expect)
            time.sleep(GAP)
        return super()._write(key, pieces, ANY, attributes)


class DeletesTheNewest(Named):
    """Looks at the ETag, then deletes what is there, without a lock around both."""

    def _delete(self, key: str, expect: Expect) -> bool:
        if expect is not ANY:
            self._expect(key, expect)
            time.sleep(GAP)
        return super()._delete(key, ANY)


class LockAWriter(Named):
    """Swaps exclude each other, and no plain put: a lock that each kind of writer has for itself."""

    _swapping = threading.Lock()

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        if expect is ANY:
            return super()._write(key, body, ANY, attributes)
        with self._swapping:
            pieces = list(body)
            self._expect(key, expect)
            time.sleep(GAP)
            return super()._write(key, pieces, ANY, attributes)


class Forgetful(Named):
    """Says that it deletes."""

    def _delete(self, key: str, expect: Expect) -> bool:
        return self._live(key) is not None


class AlwaysThere(Named):
    """Says of every key that it was there."""

    def _delete(self, key: str, expect: Expect) -> bool:
        super()._delete(key, expect)
        return True


class Unordered(Named):
    """Lists in the order of writing."""

    def _walk(self, prefix: str, after: str) -> Iterator[tuple[str, _Entry]]:
        return ((k, e) for k, e in list(self._entries.items()) if k.startswith(prefix) and k > after)


class Swallowing(Named):
    """Stores what came before the body failed."""

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        pieces: list[Piece] = []
        with contextlib.suppress(Exception):
            pieces.extend(body)
        return super()._write(key, pieces, expect, attributes)


class DeletesFirst(Named):
    """Makes room before it reads what to put there."""

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        with self._shared.lock:
            old = self._entries.pop(key, None)
            if expect is not ANY and old is not None:
                self._entries[key] = old
        return super()._write(key, body, expect, attributes)


class Keeping(Named):
    """Keeps the caller's buffer."""

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        pieces = list(body)
        info = super()._write(key, pieces, expect, attributes)
        if len(pieces) == 1:
            self._entries[key] = pieces[0], *self._entries[key][1:]
        return info


class Folding(Named):
    """A disk that is blind to case."""

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        return super()._write(key.lower(), body, expect, attributes)


class Falsy(Named):
    """Takes an empty blob for none."""

    def _live(self, key: str) -> _Entry | None:
        entry = super()._live(key)
        return entry if entry is not None and entry[0] else None


class ExpiredButListed(Named):
    """Lists what has expired."""

    def _walk(self, prefix: str, after: str) -> Iterator[tuple[str, _Entry]]:
        return ((k, self._entries[k]) for k in self._shared.sorted() if k.startswith(prefix) and k > after)


class TimeLessCopy(Named):
    """Drops attributes on the way."""

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        return self._write(target, self._read(source, 0, None)[1], expect, Attributes())


class ReadsToList(Named):
    """Reads each blob that it lists."""

    def _walk(self, prefix: str, after: str) -> Iterator[tuple[str, _Entry]]:
        for key, entry in super()._walk(prefix, after):
            self._read(key, 0, None)
            yield key, entry


class TwoReads(Named):
    """Takes the info from one read and the bytes from another."""

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info = super()._info(key)
        time.sleep(GAP)
        return info, super()._read(key, start, stop)[1]


class LiveListing(Named):
    """Walks the keys that are there by their place."""

    def _walk(self, prefix: str, after: str) -> Iterator[tuple[str, _Entry]]:
        for index in count():
            keys = sorted(key for key in list(self._entries) if key.startswith(prefix) and key > after)
            if index >= len(keys):
                return
            entry = self._live(keys[index])
            if entry is not None:
                yield keys[index], entry


class Overstated(Named):
    """Claims to sign."""

    can = MemoryStore.can & ~Can.SWAP

    def put(self, key, data, *, expect=ANY, ttl=None, content_type=None):
        try:
            return super().put(key, data, expect=expect, ttl=ttl, content_type=content_type)
        except UnsupportedOperation:
            return super().put(key, data)


class ImmortalHandle(Named):
    """Works on once it is closed."""

    def close(self) -> None:
        pass


class Gathering(Named):
    """Claims to stream, and gathers."""

    inline = False


class DropsTheKey(Named):
    """Two keys that differ by a slash are one."""

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        info = super()._write(key.replace("\\", ""), body, expect, attributes)
        return info.replace(key=key)


class LosesRaces(Named):
    """Pops what others pop too."""

    def pop(self, key, *default):
        try:
            value = self[key]
            time.sleep(GAP)
            self.delete(key)
            return value
        except BlobNotFoundError:
            if default:
                return default[0]
            raise


class SecondDeleter(Named):
    """Tells each of many deleters that it was the one."""

    def _delete(self, key: str, expect: Expect) -> bool:
        alive = self._live(key) is not None
        time.sleep(GAP)
        super()._delete(key, expect)
        return alive


# Layers, over a store that is sound.


class LeakyPrefix(PrefixStore):
    """Lists a sibling, whose name begins as its own does."""

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return map(self._strip, self._store._scan(self._prefix.rstrip("/") + prefix, ""))

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return Store._keys(self, prefix, after)


class KeysOfBelow(PrefixStore):
    """Tells keys as the store below calls them."""

    def _info(self, key: str) -> Info:
        return self._store._info(self._prefix + key)


class ErrorsOfBelow(PrefixStore):
    """Looks for what is to be copied as a caller does, and so fails as a caller sees it."""

    def copy(self, source, target, *, expect=ANY):
        below = self._store.copy(self._prefix + source, self._prefix + target, expect=expect)
        return below.replace(key=target)


class Framed(Transparent):
    """Writes a header before each blob, and tells the size with it."""

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        return super()._write(key, (b"HEAD", *map(bytes, body)), expect, attributes)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = super()._read(key, 0, None)
        data = b"".join(pieces)[4:]
        if min(start, stop or 0) < 0:
            start, stop, _ = slice(start, stop).indices(len(data))
        return info, iter((data[start:stop],))


class StaleCache(Transparent):
    """Gives what was there when it was first read."""

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        kept = self.__dict__.setdefault("kept", {})
        if key not in kept:
            info, pieces = super()._read(key, 0, None)
            kept[key] = info, b"".join(pieces)
        info, data = kept[key]
        return info, iter((data[start:stop],))


class HalfFresh(Transparent):
    """Tells what is there now, and gives what was there when it last looked."""

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info = super()._info(key)
        time.sleep(GAP)
        return info, super()._read(key, start, stop)[1]


class StaleListing(Transparent):
    """Lists what was there at the first listing."""

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        kept = self.__dict__.setdefault("kept", [])
        if not kept:
            kept.extend(super()._scan("", ""))
        return (info for info in kept if info.key.startswith(prefix) and info.key > after)


class CountsFromTheWrongEnd(Transparent):
    """Takes a range below for one of its own, one byte further on."""

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        return super()._read(key, start + 1 if start > 0 else start, stop)


class Claiming(Transparent):
    """Claims what the store below can't keep."""

    can = MemoryStore.can

    def __init__(self, store: Store) -> None:
        super().__init__(Limited(store, ~(Can.CREATE | Can.SWAP)))

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        if expect is not ANY:
            time.sleep(GAP)
        return super()._write(key, body, ANY, attributes)

    def _settings(self) -> dict[str, object]:
        return {"store": self._store._store}


class OpenBelow(Transparent):
    """Hands out another store by pickle: the one below it."""

    def __reduce__(self) -> tuple[object, ...]:
        return self._store.__reduce__()


# Layers that are only read, filled from below.


class LetsClearThrough(ReadOnlyStore):
    def clear(self) -> None:
        self._store.clear()


class LetsMoveThrough(ReadOnlyStore):
    def move(self, source, target, *, expect=ANY):
        return self._store.move(source, target, expect=expect)


class RefusesWhenItIsDone(ReadOnlyStore):
    def put(self, key, data, **options):
        self._store.put(key, data, **options)
        return super().put(key, data, **options)


class SaysNothing(ReadOnlyStore):
    """Drops what is put, and keeps quiet."""

    def put(self, key, data, **options):
        return Info(key, 0, "", 0.0)


class StaleReader(StaleCache, ReadOnlyStore):
    pass


class StaleLister(StaleListing, ReadOnlyStore):
    _keys = Store._keys
    _children = Store._children


class TornReader(ReadOnlyStore):
    """Reads the second half when somebody may have written since."""

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = super()._read(key, start, stop)
        first = b"".join(pieces)
        time.sleep(GAP)
        second = b"".join(super()._read(key, start, stop)[1])
        return info, iter((first[: len(first) // 2], second[len(first) // 2 :]))


class Undead(ReadOnlyStore):
    """Reads on once it is closed."""

    def close(self) -> None:
        pass


class Writable(OpenBelow, ReadOnlyStore):
    """Comes out of a pickle as a store that writes."""


class Knocking(ReadOnlyStore):
    """Reads to look."""

    def _info(self, key: str) -> Info:
        return self._read(key, 0, None)[0]


def made(kind: Callable[..., Store], place: str) -> Store:
    if isinstance(kind, type) and issubclass(kind, PrefixStore):
        below = MemoryStore(name=place)
        below["logs.old/x"] = below["logs"] = below["logs2/x"] = b"not ours"
        return kind(below, "logs")
    return kind(MemoryStore(name=place)) if issubclass(kind, Transparent) else kind(place)


def run(kind: type[Store], name: str, place: Path) -> None:
    """One test of the suite, on a store of this kind; on a layer of this kind over a sound store."""

    class Suite(Helped):
        longest = 1024 - (len("logs/") if issubclass(kind, PrefixStore) else 0)

        def make(self, place: Path) -> Store:
            return made(kind, str(place))

    folder = place / "place"
    folder.mkdir()
    suite = Suite()
    fixtures = {"store": suite._handle(folder), "other": suite._handle(folder), "place": folder}
    test = getattr(suite, name)
    test(**{name: fixtures[name] for name in inspect.signature(test).parameters})


CAUGHT = [
    (TornWrite, "test_a_body_that_fails_leaves_the_old_blob"),
    (TornWrite, "test_readers_never_see_a_torn_blob"),
    (OneEtag, "test_the_etag_changes_whenever_the_bytes_do"),
    (OneEtag, "test_info_tells_what_was_written"),
    (Wildcards, "test_a_prefix_is_a_string_prefix_and_literal"),
    (SegmentPrefix, "test_a_prefix_is_a_string_prefix_and_literal"),
    (SegmentPrefix, "test_the_laws_hold"),
    (UnlockedSwap, "test_a_counter_that_many_raise_is_exact"),
    (UnlockedSwap, "test_of_many_creators_one_wins"),
    (UnlockedSwap, "test_of_many_who_swap_or_delete_one_version_one_wins"),
    (DeletesTheNewest, "test_a_delete_or_a_move_takes_no_version_that_it_has_not_seen"),
    (DeletesTheNewest, "test_what_many_pop_one_gets"),
    (LockAWriter, "test_swaps_beside_plain_puts_and_deletes"),
    (Forgetful, "test_it_works_as_a_dict"),
    (Forgetful, "test_the_laws_hold"),
    (AlwaysThere, "test_an_absent_key"),
    (Unordered, "test_listing_is_in_order_of_code_points"),
    (Unordered, "test_the_laws_hold"),
    (Swallowing, "test_a_body_that_fails_leaves_the_old_blob"),
    (Swallowing, "test_what_is_no_bytes_is_refused"),
    (Swallowing, "test_a_flaky_writer_destroys_nothing"),
    (DeletesFirst, "test_a_body_that_fails_leaves_the_old_blob"),
    (DeletesFirst, "test_a_flaky_writer_destroys_nothing"),
    (Keeping, "test_the_callers_buffer_is_copied"),
    (Folding, "test_awkward_keys_come_back_exactly"),
    (Falsy, "test_an_empty_value_is_a_value"),
    (Falsy, "test_the_laws_hold"),
    (ExpiredButListed, "test_an_expired_blob_is_absent_for_every_call"),
    (TimeLessCopy, "test_a_content_type_is_kept"),
    (TimeLessCopy, "test_a_time_to_live"),
    (ReadsToList, "test_listing_and_looking_read_no_values"),
    (TwoReads, "test_readers_never_see_a_torn_blob"),
    (LiveListing, "test_listing_while_the_store_changes"),
    (Overstated, "test_what_it_can_not_do_raises"),
    (ImmortalHandle, "test_a_closed_store_raises"),
    (ImmortalHandle, "test_a_with_block_closes_it"),
    (Gathering, "test_memory_is_bounded"),
    (DropsTheKey, "test_awkward_keys_come_back_exactly"),
    (LosesRaces, "test_what_many_pop_one_gets"),
    (SecondDeleter, "test_of_many_deleters_one_is_told_that_it_was_there"),
    (LeakyPrefix, "test_a_new_store_is_empty"),
    (LeakyPrefix, "test_it_works_as_a_dict"),
    (KeysOfBelow, "test_info_tells_what_was_written"),
    (KeysOfBelow, "test_awkward_keys_come_back_exactly"),
    (ErrorsOfBelow, "test_an_absent_key"),
    (ErrorsOfBelow, "test_the_laws_hold"),
    (Framed, "test_info_tells_what_was_written"),
    (Framed, "test_every_kind_of_data"),
    (Framed, "test_the_laws_hold"),
    (StaleCache, "test_every_read_sees_the_last_write"),
    (StaleCache, "test_sizes_around_the_limits_of_a_medium"),
    (HalfFresh, "test_readers_never_see_a_torn_blob"),
    (StaleListing, "test_it_works_as_a_dict"),
    (StaleListing, "test_every_read_sees_the_last_write"),
    (StaleLister, "test_every_read_sees_the_last_write"),
    (StaleListing, "test_listing_while_the_store_changes"),
    (StaleListing, "test_listing_beside_writers"),
    (CountsFromTheWrongEnd, "test_a_file_reads_as_any_file"),
    (Claiming, "test_expect_absent"),
    (Claiming, "test_expect_an_etag"),
    (Claiming, "test_a_counter_that_many_raise_is_exact"),
    (Claiming, "test_of_many_creators_one_wins"),
    (OpenBelow, "test_a_pickle_opens_the_store_again"),
    (LetsClearThrough, "test_what_it_can_not_do_raises"),
    (LetsMoveThrough, "test_what_it_can_not_do_raises"),
    (RefusesWhenItIsDone, "test_what_it_can_not_do_raises"),
    (RefusesWhenItIsDone, "test_expect_absent"),
    (SaysNothing, "test_what_it_can_not_do_raises"),
    (StaleReader, "test_every_read_sees_the_last_write"),
    (StaleReader, "test_readers_never_see_a_torn_blob"),
    (StaleLister, "test_a_folder_that_is_empty_again_is_gone"),
    (StaleLister, "test_listing_while_the_store_changes"),
    (StaleLister, "test_listing_beside_writers"),
    (TornReader, "test_readers_never_see_a_torn_blob"),
    (Undead, "test_a_closed_store_raises"),
    (Undead, "test_a_with_block_closes_it"),
    (Writable, "test_a_pickle_opens_the_store_again"),
    (Knocking, "test_listing_and_looking_read_no_values"),
]


@pytest.mark.parametrize(("kind", "name"), CAUGHT, ids=[f"{kind.__name__}-{name}" for kind, name in CAUGHT])
@pytest.mark.usefixtures("unshortened")
def test_a_broken_store_fails(kind: type[Store], name: str, tmp_path: Path):
    numbers = count()

    def attack() -> None:
        (place := tmp_path / str(next(numbers))).mkdir()
        run(kind, name, place)

    noticed = AssertionError, pytest.fail.Exception, KeyError, ConcurrencyError, IntegrityError
    with pytest.raises(noticed):
        _again_and_again(attack)


def sound(kind: type[Store]) -> type[Store]:
    """What it would be if it weren't broken."""
    return next(each for each in (Named, ReadOnlyStore, PrefixStore, Transparent) if issubclass(kind, each))


SOUND = sorted({(sound(kind), name) for kind, name in CAUGHT}, key=str)


@pytest.mark.parametrize(("kind", "name"), SOUND, ids=[f"{kind.__name__}-{name}" for kind, name in SOUND])
def test_a_sound_store_passes(kind: type[Store], name: str, tmp_path: Path):
    """So that what fails a broken store is its fault and not the way it is run."""
    run(kind, name, tmp_path)


class Folder(Store):
    """Files in a folder, as one writes them on a first day."""

    can = Can.WRITE | Can.DELETE | Can.LIST

    def __init__(self, path: str) -> None:
        self._path = path

    def _settings(self) -> dict[str, object]:
        return {"path": self._path}

    def _file(self, key: str) -> Path:
        return Path(self._path, quote(key, safe=""))

    def _tell(self, key: str, data: bytes) -> Info:
        return Info(key, len(data), hashlib.sha256(data).hexdigest(), datetime.now(UTC))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        try:
            data = self._file(key).read_bytes()
        except FileNotFoundError:
            raise BlobNotFoundError from None
        return self._tell(key, data), iter((data,))

    def _info(self, key: str) -> Info:
        return self._read(key, 0, None)[0]

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        data = b"".join(body)
        draft = self._file(key).with_suffix(f".{os.getpid()}.draft")
        draft.write_bytes(data)
        draft.replace(self._file(key))
        return self._tell(key, data)

    def _delete(self, key: str, expect: Expect) -> bool:
        try:
            self._file(key).unlink()
        except FileNotFoundError:
            return False
        return True

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        for key in sorted(
            unquote(path.name) for path in Path(self._path).iterdir() if path.suffix != ".draft"
        ):
            if key.startswith(prefix) and key > after:
                yield self._info(key)


class InPlace(Folder):
    """Writes over the old file."""

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        data = b"".join(body)
        with self._file(key).open("wb") as file:
            for at in range(0, len(data), 1000):
                file.write(data[at : at + 1000])
        return self._tell(key, data)


class LitterListed(Folder):
    """Shows what a killed writer left."""

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        for key in sorted(unquote(path.name) for path in Path(self._path).iterdir()):
            if key.startswith(prefix) and key > after:
                yield self._info(key)


class WriteBack(Folder):
    """Acknowledges what it has yet to write."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._held: dict[str, bytes] = {}

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self._held[key] = b"".join(body)
        info = self._tell(key, self._held[key])
        if len(self._held) > 3:
            self._close()
        return info

    def _close(self) -> None:
        while self._held:
            key, data = self._held.popitem()
            super()._write(key, (data,), ANY, Attributes())

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        self._close()
        return super()._read(key, start, stop)


class LockOfOneProcess(Folder):
    """Swaps under a lock that other processes don't know."""

    can = Folder.can | Can.CREATE | Can.SWAP | Can.CONDITIONAL_DELETE
    _lock = threading.RLock()

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        with self._lock:
            self._expect(key, expect)
            return super()._write(key, body, expect, attributes)

    def _delete(self, key: str, expect: Expect) -> bool:
        with self._lock:
            self._expect(key, expect)
            return super()._delete(key, expect)

    def _expect(self, key: str, expect: Expect) -> None:
        held = self._info(key).etag if self._file(key).exists() else None
        if expect is ABSENT and held is not None:
            raise BlobExistsError
        if isinstance(expect, str) and expect != held:
            raise ConcurrencyError
        time.sleep(0.002)


def _again_and_again(attack: Callable[[], None]) -> None:
    """On a busy machine, all moments of one run may come too early or too late."""
    for _ in range(20):
        attack()


@pytest.mark.parametrize("kind", [Folder, InPlace, LitterListed, WriteBack])
def test_kills_find_what_is_lost(kind: type[Folder], tmp_path: Path):
    class Suite(StoreSuite):
        kills = 60

        def make(self, place: Path) -> Store:
            return kind(str(place))

    (place := tmp_path / "place").mkdir()
    suite = Suite()

    def kill() -> None:
        suite.test_killed_writers_lose_nothing_that_was_acknowledged(
            suite.make(place), suite.make(place), place
        )

    if kind is Folder:
        kill()
        return
    with pytest.raises((AssertionError, BlobNotFoundError)):
        _again_and_again(kill)


class Latched(MemoryStore):
    """Holds a latch while it writes, which an interrupt leaves locked."""

    latch = threading.Lock()

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        assert self.latch.acquire(timeout=1), "the latch is held by nobody"
        info = super()._write(key, body, expect, attributes)
        self.latch.release()
        return info


class Swallowing(MemoryStore):
    """Takes an interrupt for an error of the medium."""

    def _info(self, key: str) -> Info:
        while True:
            try:
                return super()._info(key)
            except KeyboardInterrupt:
                pass

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        pieces = b"".join(body)
        while True:
            try:
                return super()._write(key, (pieces,), expect, attributes)
            except KeyboardInterrupt:
                pass


class Renaming(MemoryStore):
    """Raises an error of its own for an interrupt."""

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        try:
            return super()._write(key, body, expect, attributes)
        except KeyboardInterrupt:
            raise StoreUnavailableError("it broke") from None


class Undoing(MemoryStore):
    """Drops the write that follows an interrupted one."""

    interrupted = False

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        if self.interrupted:
            type(self).interrupted = False
            return Info(key, len(b"".join(body)), "0", 0.0)
        try:
            return super()._write(key, body, expect, attributes)
        except KeyboardInterrupt:
            type(self).interrupted = True
            raise


@pytest.mark.parametrize("kind", [MemoryStore, Latched, Swallowing, Renaming, Undoing])
def test_interrupts_find_what_they_leave_behind(kind: type[MemoryStore], tmp_path: Path):
    class Suite(StoreSuite):
        persistent = False

        def make(self, place: Path) -> Store:
            # One named store in memory is made once: the subclass is put on it.
            store = MemoryStore(name=str(place))
            store.__class__ = kind
            return store

    (place := tmp_path / "place").mkdir()
    suite = Suite()
    store, other = suite.make(place), suite.make(place)

    def interrupt() -> None:
        suite.test_an_interrupt_leaves_nothing_behind(store, other, place)

    if kind is MemoryStore:
        interrupt()
        return
    with pytest.raises((AssertionError, ConcurrencyError, StoreUnavailableError)):
        _again_and_again(interrupt)


@pytest.mark.parametrize("kind", [Folder, LockOfOneProcess])
def test_processes_find_a_lock_of_one(kind: type[Folder], tmp_path: Path):
    class Suite(StoreSuite):
        def make(self, place: Path) -> Store:
            return kind(str(place))

    (place := tmp_path / "place").mkdir()
    suite = Suite()

    def run() -> None:
        suite.test_other_processes(suite.make(place), suite.make(place), place)

    if kind is Folder:
        run()
        return
    with pytest.raises(AssertionError):
        run()


def test_a_store_that_is_persistent_must_say_so(tmp_path: Path):
    class Suite(StoreSuite):
        persistent = False

        def make(self, place: Path) -> Store:
            return Folder(str(place))

    (place := tmp_path / "place").mkdir()
    suite = Suite()
    with pytest.raises(AssertionError, match="persistent"):
        suite.test_killed_writers_lose_nothing_that_was_acknowledged(
            suite.make(place), suite.make(place), place
        )


def test_laws_are_checked_with_two_handles(tmp_path: Path):
    class Apart(MemoryStore):
        """Two handles that see different blobs."""

        def __init__(self, name: str) -> None:
            super().__init__()

    with pytest.raises(AssertionError):
        check_laws(lambda place: Apart(str(place)), tmp_path)
