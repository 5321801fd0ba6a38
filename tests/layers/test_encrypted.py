"""Blobs that are encrypted on their way down, of which parts can still be read."""

import copy
import os
import pickle
import random
import string
import struct
import sys
import tempfile
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from holdall import (
    Can,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    MemoryStore,
    MissingDependencyError,
    SqliteStore,
    Store,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.layers.encrypted import EncryptedStore, RotationReport
from holdall.layers.layer import Transparent
from holdall.testing import Counting, Flaky, Limited, StoreSuite, race

OLD, NEW, NAMES = (random.Random(number).randbytes(32) for number in range(3))
# Other processes of the kit open the stores by these.
os.environ["HOLDALL_TEST_OLD"] = b64encode(OLD).decode()
os.environ["HOLDALL_TEST_NEW"] = NEW.hex()
os.environ["HOLDALL_TEST_NAMES"] = b64encode(NAMES).decode()


class TestEncryptedOverMemory(StoreSuite):
    persistent = False

    def make(self, place: Path) -> Store:
        return EncryptedStore(MemoryStore(name=str(place)), "env:HOLDALL_TEST_OLD")


class TestEncryptedOverSqlite(StoreSuite):
    longest = 752

    def make(self, place: Path) -> Store:
        keys = {"old": "env:HOLDALL_TEST_OLD", "new": "env:HOLDALL_TEST_NEW"}
        return EncryptedStore(
            SqliteStore(place / "blobs.sqlite"), keys, current="new", names="env:HOLDALL_TEST_NAMES"
        )


DATA = random.Random(1).randbytes(300_000)
FRAME, SEALED, HEAD = 65_536, 65_552, 64


# --- the form below ---


def test_the_form_below_is_the_one_that_is_told() -> None:
    """HKDF and AES-GCM as `cryptography` has them, by hand."""
    below = MemoryStore()
    EncryptedStore(below, {"2026": NEW})["a/key"] = DATA
    stored = below["a/key"]
    header, body = stored[:HEAD], stored[HEAD:]
    magic, version, frame, length, name, salt = struct.unpack(">7sBIB31s20s", header)
    assert (magic, version, frame, name[:length], name[length:]) == (b"hldlaes", 1, FRAME, b"2026", bytes(27))
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=salt + b"holdall blob 1").derive(NEW)
    frames = [body[at : at + SEALED] for at in range(0, len(body), SEALED)]
    assert len(frames) == 5
    plain = [
        AESGCM(derived).decrypt(struct.pack(">QI", number, number == 4), sealed, header + b"a/key")
        for number, sealed in enumerate(frames)
    ]
    assert b"".join(plain) == DATA


def test_sizes_are_known_without_reading() -> None:
    below = Counting(MemoryStore())
    store = EncryptedStore(below, OLD)
    for size in (0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 200_000):
        assert store.put("key", DATA[:size]).size == size
        assert below.info("key").size == HEAD + size + 16 * max(1, -(-size // FRAME))
        assert store.info("key").size == size
        assert [info.size for info in store.list()] == [size]
    assert below.calls["read"] == 0


def test_nothing_that_is_stored_repeats() -> None:
    below = MemoryStore()
    store = EncryptedStore(below, OLD)
    store["a"] = store["b"] = bytes(1000)
    first = below["a"]
    store["a"] = bytes(1000)
    assert len({first[44:], below["a"][44:], below["b"][44:]}) == 3
    assert not any(bytes(8) in blob[HEAD:] for blob in (first, below["a"], below["b"]))


# --- what can't be done below ---


def test_blobs_cannot_change_places_or_names() -> None:
    below = MemoryStore()
    store = EncryptedStore(below, OLD)
    store["a"], store["b"] = b"of a", b"of b"
    below["a"], below["b"] = below["b"], below["a"]
    below.copy("a", "c")
    for key in "abc":
        with pytest.raises(IntegrityError, match=f"'{key}'"):
            _ = store[key]


def test_frames_cannot_be_moved_dropped_or_taken_from_another() -> None:
    below = MemoryStore()
    store = EncryptedStore(below, OLD)
    store["key"] = DATA[: 4 * FRAME]
    stored = below["key"]
    store["key"] = DATA[: 4 * FRAME]
    other = below["key"]
    head, frames = stored[:HEAD], [stored[at : at + SEALED] for at in range(HEAD, len(stored), SEALED)]
    foreign = [other[at : at + SEALED] for at in range(HEAD, len(other), SEALED)]
    for wrong in (
        frames[:3],
        frames[1:],
        frames[:1],
        [],
        [*frames, frames[3]],
        [frames[0], frames[2], frames[1], frames[3]],
        [frames[0], frames[0], frames[2], frames[3]],
        [foreign[0], *frames[1:]],
        [*frames[:3], foreign[3]],
        [*frames[:3], frames[3][:-1]],
        [*frames[:3], frames[3] + b"x"],
        [*frames, bytes(16)],
    ):
        below["key"] = head + b"".join(wrong)
        for read in (
            lambda: store["key"],
            lambda: list(store.chunks("key")),
            lambda: store.open("key").read(),
            lambda: store.get_range("key", 0),
            lambda: store.get_range("key", 0, 4 * FRAME),
        ):
            with pytest.raises(IntegrityError):
                read()
        # A range that is made of authentic frames, and so long as the whole allows, may be given out.
        right = DATA[: 4 * FRAME]
        for start, stop in ((-10, None), (10 * FRAME, 11 * FRAME), (10, -1), (-4 * FRAME, 9), (FRAME, FRAME)):
            with suppress(IntegrityError):
                assert store.get_range("key", start, stop) == right[start:stop]
    below["key"] = stored
    assert store["key"] == DATA[: 4 * FRAME]


def test_no_byte_comes_out_before_its_frame_is_authentic() -> None:
    below = MemoryStore()
    store = EncryptedStore(below, OLD)
    store["key"] = DATA
    stored = bytearray(below["key"])
    stored[HEAD + 2 * SEALED + 5] ^= 1
    below["key"] = stored
    given_out = b""
    chunks = store.chunks("key", FRAME)
    given_out += next(chunks) + next(chunks)
    with pytest.raises(IntegrityError):
        next(chunks)
    assert given_out == DATA[: 2 * FRAME]
    assert store.get_range("key", 0, 2 * FRAME) == DATA[: 2 * FRAME]
    assert store.get_range("key", 3 * FRAME) == DATA[3 * FRAME :]


def test_the_wrong_key() -> None:
    below = MemoryStore()
    EncryptedStore(below, OLD)["key"] = b"secret"
    with pytest.raises(IntegrityError, match=r"'key': .* another key of this name"):
        _ = EncryptedStore(below, NEW)["key"]
    with pytest.raises(IntegrityError, match=r"'key': .* named 'default', .* given; it has '2026'"):
        _ = EncryptedStore(below, {"2026": OLD})["key"]


# --- keys, and where they may be seen ---


def test_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = MemoryStore()
    EncryptedStore(below, NEW)["key"] = b"1"
    spellings = [NEW.hex(), NEW.hex().upper(), b64encode(NEW).decode(), urlsafe_b64encode(NEW).decode()]
    for spelling in [*spellings, f"  {spellings[0]}\n", spellings[2].rstrip("=")]:
        monkeypatch.setenv("A_KEY", spelling)
        (tmp_path / "key").write_text(spelling)
        for reference in ("env:A_KEY", f"file:{tmp_path / 'key'}"):
            assert EncryptedStore(below, reference)["key"] == b"1"


def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = MemoryStore()
    monkeypatch.setenv("A_KEY", "hunter2-hunter2")
    (tmp_path / "key").write_text("hunter2" * 20)
    (tmp_path / "binary").write_bytes(bytes(range(128, 160)))
    wrong: list[Any] = [
        b"hunter2",
        b"hunter2" * 5,
        "hunter2",
        NEW.hex(),
        "env:",
        "env:HOLDALL_ABSENT",
        "env:A_KEY",
        "file:",
        f"file:{tmp_path / 'absent'}",
        f"file:{tmp_path / 'key'}",
        f"file:{tmp_path / 'binary'}",
        f"file:{tmp_path}",
        "file:a\0b",
        "env:\ud800",
        32,
        ["hunter2"],
    ]
    for key in wrong:
        for make in (
            lambda key: EncryptedStore(below, key),
            lambda key: EncryptedStore(below, {"a": key}),
            lambda key: EncryptedStore(below, OLD, names=key),
        ):
            with pytest.raises(InvalidArgumentError) as caught:
                make(key)
            shown = f"{caught.value}{caught.value!r}{caught.value.__cause__!r}"
            assert "hunter2" not in shown
            assert NEW.hex() not in shown
    for names in ({}, {"": OLD}, {"x" * 32: OLD}, {"a\n": OLD}, {1: OLD}):
        with pytest.raises(InvalidArgumentError):
            EncryptedStore(below, cast(Any, names))
    two = {"a": OLD, "b": NEW}
    for current in (None, "c", 1, ["a"]):
        with pytest.raises(InvalidArgumentError, match="'a', 'b'"):
            EncryptedStore(below, two, current=cast(Any, current))
    # What stands in the wrong place may be a key.
    for make in (
        lambda: EncryptedStore(below, two, current=cast(Any, NEW)),
        lambda: EncryptedStore(below, two, current=NEW.hex()),
        lambda: EncryptedStore(below, {NEW.hex(): "name"}),
        lambda: EncryptedStore(below, cast(Any, {NEW: "name"})),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            make()
        assert NEW.hex() not in str(caught.value)
        assert repr(NEW) not in str(caught.value)


def test_a_traceback_that_shows_local_variables_shows_no_key() -> None:
    below = MemoryStore()
    secret = EncryptedStore.generate_key()
    store = EncryptedStore(below, {"a": secret}, names=bytes(32))
    # The name, the key derived from what was given, and what is around them.
    (master,) = store._masters.values()
    assert repr(master) == "_Master('a')"
    store["key"] = DATA
    (name,) = below
    below[name] = below[name][:-1]
    with pytest.raises(IntegrityError) as caught:
        store["key"]
    # All frames but the one of this test, which has the key.
    error = caught.value.with_traceback(cast(TracebackType, caught.value.__traceback__).tb_next)
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "_opened" in shown or "opened = " in shown
    for each in (secret, master.secret):
        assert repr(each) not in shown
        assert each.hex() not in shown


def test_keys_are_seen_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    below = MemoryStore(name="secrets")
    secret, name_secret = EncryptedStore.generate_key(), EncryptedStore.generate_key()
    store = EncryptedStore(below, {"a": secret, "b": "env:HOLDALL_TEST_OLD"}, current="a", names=name_secret)
    assert repr(store) == (
        "EncryptedStore(MemoryStore(name='secrets'), key={'a': '***', 'b': 'env:HOLDALL_TEST_OLD'}, "
        "current='a', names='***')"
    )
    assert repr(EncryptedStore(below, secret)) == "EncryptedStore(MemoryStore(name='secrets'), key='***')"
    for bad in (
        store,
        EncryptedStore(below, secret),
        EncryptedStore(below, "env:HOLDALL_TEST_OLD", names=secret),
    ):
        with pytest.raises(UnsupportedOperation, match="'env:NAME' or 'file:PATH'"):
            pickle.dumps(bad)
        with pytest.raises(UnsupportedOperation):
            copy.deepcopy(bad)
    store["key"] = b"1"
    [stored] = list(below)
    below[stored] = below[stored][:-1]
    below["foreign"] = b"1"
    with pytest.raises(IntegrityError) as caught:
        _ = store["key"]
    assert list(store) == ["key"]
    seen = f"{caught.value!r} {caught.value.__cause__!r} {caplog.text} {store!r}"
    for shown in (secret, name_secret):
        for form in (shown.hex(), b64encode(shown).decode(), repr(shown)[2:-1]):
            assert form not in seen


def test_a_pickle_holds_references_only() -> None:
    below = MemoryStore(name="pickled")
    store = EncryptedStore(
        below, {"old": "env:HOLDALL_TEST_OLD"}, current="old", names="env:HOLDALL_TEST_NAMES"
    )
    store["key"] = b"1"
    pickled = pickle.dumps(store)
    for secret in (OLD, NAMES, b64encode(OLD), OLD.hex().encode()):
        assert secret not in pickled
    again = pickle.loads(pickled)
    assert again["key"] == b"1"
    assert repr(again) == repr(store)


def test_plain_bytes_are_not_spooled_to_a_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spooled: list[bytes] = []
    real = tempfile.SpooledTemporaryFile

    class Spied(real):  # type: ignore[type-arg,misc,valid-type]
        def write(self, data: Any) -> int:
            spooled.append(bytes(data))
            return super().write(data)

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", Spied)
    store = EncryptedStore(MemoryStore(), OLD)
    with store.open("key", "wb") as file:
        for _ in range(200):
            file.write(b"private " * 10_000)
    assert spooled
    assert not any(b"private" in data for data in spooled)
    assert store["key"] == b"private " * 2_000_000


# --- rotation ---


def test_rotation_keeps_all_and_reads_headers_of_what_is_current() -> None:
    memory = MemoryStore()
    old = EncryptedStore(memory, {"old": OLD})
    old.put("a", b"1", content_type="text/plain", ttl=1000)
    old["b/large"] = DATA * 20
    old["b/empty"] = b""
    below = Counting(memory)
    both = EncryptedStore(below, {"old": OLD, "new": NEW}, current="new")
    both["c"] = DATA
    infos = {info.key: (info.size, info.content_type, info.expires) for info in both.list()}
    assert both.rotate("b/") == RotationReport(2, 0)
    assert both.rotate() == RotationReport(1, 3)
    below.bytes_read = 0
    below.calls["write"] = 0
    assert both.rotate() == RotationReport(0, 4)
    assert below.bytes_read == 4 * HEAD
    assert below.calls["write"] == 0
    new = EncryptedStore(memory, {"new": NEW})
    assert dict(new.items()) == {"a": b"1", "b/empty": b"", "b/large": DATA * 20, "c": DATA}
    assert infos == {info.key: (info.size, info.content_type, info.expires) for info in new.list()}
    with pytest.raises(IntegrityError, match="named 'new'"):
        _ = old["a"]


def test_rotation_goes_on_after_a_failure() -> None:
    memory = MemoryStore()
    keys = {"old": OLD, "new": NEW}
    old = EncryptedStore(memory, keys, current="old")
    for number in range(40):
        old[f"{number:02}"] = DATA[: number * 5000]
    memory["07"] = memory["07"][:-1]
    memory["08"] = b"foreign"
    store = EncryptedStore(Flaky(memory, rate=0.1, seed=1), keys, current="new")
    rounds = 0
    while True:
        rounds += 1
        try:
            report = store.rotate()
        except StoreUnavailableError:
            continue
        assert {"07", "08"} <= set(report.failures)
        if set(report.failures) == {"07", "08"}:
            break
    assert rounds > 1
    assert isinstance(report.failures["07"], IntegrityError)
    new = EncryptedStore(memory, {"new": NEW})
    assert all(new[f"{number:02}"] == DATA[: number * 5000] for number in range(40) if number not in (7, 8))


class Overtaken(Transparent):
    """A store in which somebody else acts just before the next write."""

    act: Callable[[], object] | None = None

    def _write(self, *rest: Any) -> Any:
        act, self.act = self.act, None
        if act is not None:
            act()
        return super()._write(*rest)


def test_rotation_never_brings_back_what_was_replaced_or_deleted() -> None:
    memory = MemoryStore()
    keys = {"old": OLD, "new": NEW}
    old = EncryptedStore(memory, keys, current="old")
    new = EncryptedStore(memory, keys, current="new")
    below = Overtaken(memory)
    store = EncryptedStore(below, keys, current="new")
    for writer, report in ((old, RotationReport(1, 0)), (new, RotationReport(0, 1))):
        old["key"] = b"1"
        below.act = partial(writer.put, "key", b"2")
        assert store.rotate() == report
        assert EncryptedStore(memory, {"new": NEW})["key"] == b"2"
    old["key"] = b"3"
    below.act = partial(memory.delete, "key")
    assert store.rotate() == RotationReport(0, 0)
    assert not memory


def test_rotation_beside_writers_loses_nothing(tmp_path: Path) -> None:
    keys = {"old": OLD, "new": NEW}
    with SqliteStore(tmp_path / "x.sqlite") as below:
        old = EncryptedStore(below, keys, current="old")
        new = EncryptedStore(below, keys, current="new")
        for number in range(10):
            old[f"{number}"] = b"0"

        def count(store: Store) -> None:
            for _ in range(15):
                for number in range(10):
                    store.modify(f"{number}", lambda value: b"%d" % (int(value) + 1))

        def rotate() -> None:
            for _ in range(15):
                assert not new.rotate().failures

        race(partial(count, old), partial(count, new), rotate, rotate)
        assert set(old.values()) == {b"30"}
        new.rotate()
        assert set(EncryptedStore(below, {"new": NEW}).values()) == {b"30"}


def test_rotation_needs_to_compare_and_swap() -> None:
    store = EncryptedStore(Limited(MemoryStore(), ~Can.SWAP), OLD)
    with pytest.raises(UnsupportedOperation, match="rotate"):
        store.rotate()


# --- encrypted names ---


def test_names_tell_nothing_below_and_sort_above() -> None:
    below = MemoryStore()
    store = EncryptedStore(below, OLD, names=NAMES)
    keys = ["a", "b/c", "b/d/e", "b.x", "é", "z" * 752]
    store.put_many({key: key.encode() for key in keys})
    assert all(set(name) <= set(string.ascii_letters + string.digits + "-_") for name in below)
    assert not any(key in below for key in keys)
    assert list(store) == [info.key for info in store.list()] == sorted(keys)
    assert list(store.iterate_keys("b")) == ["b.x", "b/c", "b/d/e"]
    assert [child if isinstance(child, str) else child.key for child in store.children()] == [
        "a",
        "b.x",
        "b/",
        "z" * 752,
        "é",
    ]
    assert [child if isinstance(child, str) else child.key for child in store.children("b/")] == [
        "b/c",
        "b/d/",
    ]
    assert store.get_many(keys) == {key: key.encode() for key in keys}
    again = EncryptedStore(below, OLD, names=NAMES)
    assert again["b/c"] == b"b/c"
    assert again.delete_many(["a", "absent"]) == 1
    with pytest.raises(InvalidKeyError, match="752"):
        store["é" * 377] = b"too long"


def test_names_that_are_not_ours_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    below = MemoryStore()
    store = EncryptedStore(below, OLD, names=NAMES)
    store["key"] = b"1"
    [name] = list(below)
    EncryptedStore(below, OLD, names=OLD)["of another"] = b"2"
    for foreign in ("plain", "ü", "a/b", f"{name}=", f"{name[:5]}.{name[5:]}", name[:-1], name.swapcase()):
        below[foreign] = b"foreign"
    before = dict(below.items())
    assert list(store) == [info.key for info in store.list()] == ["key"]
    assert len(caplog.records) == 1
    assert name not in caplog.text
    store.clear()
    assert dict(below.items()) == {key: value for key, value in before.items() if key != name}


def test_rotation_with_names() -> None:
    below = MemoryStore()
    EncryptedStore(below, {"old": OLD}, names=NAMES)["a/b"] = DATA
    store = EncryptedStore(below, {"old": OLD, "new": NEW}, current="new", names=NAMES)
    assert store.rotate("a/") == RotationReport(1, 0)
    assert EncryptedStore(below, {"new": NEW}, names=NAMES)["a/b"] == DATA


def test_errors_name_keys_as_they_were_given() -> None:
    class Refusing(MemoryStore):
        def _delete_many(self, keys: Any) -> int:
            raise StoreUnavailableError("refused", key=next(iter(keys)))

        def _put_many(self, items: Any, attributes: Any) -> Any:
            for key, _ in items:
                raise StoreUnavailableError("refused", key=key)
            yield

    store = EncryptedStore(Refusing(), OLD, names=NAMES)
    for call in (lambda: store.delete_many(["a/b"]), lambda: store.put_many({"a/b": b"1"})):
        with pytest.raises(StoreUnavailableError) as caught:
            call()
        assert caught.value.key == "a/b"


def test_copies_are_encrypted_again() -> None:
    below = MemoryStore()
    store = EncryptedStore(below, OLD)
    assert not store.can & (Can.COPY | Can.SIGN)
    store["a"] = DATA
    store.copy("a", "b")
    store.move("a", "c")
    assert store["b"] == store["c"] == DATA
    assert below["b"] != below["c"]
    assert store._digest("b", "sha256") is None


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.layers.encrypted._loaded", None)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(MissingDependencyError, match=r"holdall\[encrypt\]"):
        EncryptedStore(MemoryStore(), OLD)


def test_threads_share_a_store() -> None:
    store = EncryptedStore(MemoryStore(), OLD, names=NAMES)

    def work(key: str) -> None:
        for size in range(0, 200_000, 20_000):
            store[key] = DATA[:size]
            assert store[key] == DATA[:size]
            assert store.get_range(key, size // 2) == DATA[size // 2 : size]

    race(*(partial(work, f"{number}") for number in range(6)))


def test_an_error_below_many_keys_names_the_key() -> None:
    class Away(MemoryStore):
        def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
            for key in keys:
                raise StoreUnavailableError("nobody answers", key=key)
            yield "", b""

    store = EncryptedStore(Away(), bytes(32), names=bytes(32))
    with pytest.raises(StoreUnavailableError) as caught:
        store.get_many(["a/secret"])
    assert caught.value.key == "a/secret"
