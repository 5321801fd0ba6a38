"""Blobs that are encrypted on their way down, of which parts can still be read."""

import copy
import hashlib
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
from holdall.layers.keycheck import RECORD
from holdall.layers.layer import Transparent
from holdall.testing import Counting, Flaky, Limited, StoreSuite, race


def blobs(below: Store) -> list[str]:
    """The keys below but for the one that every encrypted store has."""
    return [key for key in below if key != RECORD]


OLD, NEW, NAMES = (random.Random(number).randbytes(32) for number in range(3))
# Other processes of the kit open the stores by these.
os.environ["HOLDALL_TEST_OLD"] = b64encode(OLD).decode()
os.environ["HOLDALL_TEST_NEW"] = NEW.hex()
os.environ["HOLDALL_TEST_NAMES"] = b64encode(NAMES).decode()


class TestEncryptedOverSqlite(StoreSuite):
    reduced = True
    respells = True
    longest = 752

    def make(self, place: Path) -> Store:
        keys = {"old": "env:HOLDALL_TEST_OLD", "new": "env:HOLDALL_TEST_NEW"}
        return EncryptedStore(
            SqliteStore(place / "blobs.sqlite"), keys, current="new", names="env:HOLDALL_TEST_NAMES"
        )


VECTORS = [
    # The key, the size of the blob, the context, and what is stored of `a/é`.
    (
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        0,
        "",
        (
            "686c646c616573022f38b1e6af6c22179bc2ecfea9ed4faae887fdf9277a723869dc064e56a8f5da6b1c4d1d4f483d3b"
            "4d5643ed8422aa2a2bff36d36cdffaaf85e21a9c06ec47193eacb22630350ad8"
        ),
    ),
    (
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        1,
        "",
        (
            "686c646c616573022f38b1e6af6c2217d591a10a588bf23537a700952c7c38c489accd591f920724e73b4d76cf3c5ab9"
            "48806170384727844dbf7687f72c50a3bbaddc20f7669fd1a5963cea6b344ea21d"
        ),
    ),
    (
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        100,
        "",
        (
            "686c646c616573022f38b1e6af6c2217ca4f71a46a0e473d6786217bd2b7d1af5b19ed8565ce208a8b014d287f5bb996"
            "0f60100d9386179bac58b0a2a456673eaddb942423be316e90dbe403ba89d501a5462c120bdb111f600d34622440817a"
            "3ab0874c034d4b25b5efa006ca4a1ab776e37ded750c995eb60727437252f0badbdd2b82e0e56e305f11d7f32ea5dc7d"
            "b7a2d77b0b69a86f3f029cf0b22921d244936f4b2d696da9c1b03bbdaf08f16ad6452639"
        ),
    ),
    (
        "6465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f80818283",
        0,
        "prod/tenant-7",
        (
            "686c646c616573026c8012294b08b761ca8bb854ffdca60258dc5850d84ecb1a2560d8c4dec8b45c466d96d7d9591850"
            "5dc2005113e0e7929d0e8d2cef689ccb0f441d28fd234fb5b24c87e9b3e8edcf"
        ),
    ),
    (
        "6465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f80818283",
        1,
        "prod/tenant-7",
        (
            "686c646c616573026c8012294b08b761e5c0dc87b0c59889239fb4f8f5c050f07d7430473a02fcee8fa135067fd960f5"
            "f02aca7564e3e7857b266ef6508a27d2f788c2d5536e8e08971aadb6b2f3b6e50c"
        ),
    ),
    (
        "6465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f80818283",
        100,
        "prod/tenant-7",
        (
            "686c646c616573026c8012294b08b761d25587fea20d69a2b062ca4fdf7092dc3f6d84195626fdac1f9afe08a9261e5b"
            "6961d8c62a79d0ba9ed954bb47ff3b0adcdb63121508ae2494fe49a7619fea6791ae3ea8e37b22c00e6e48f884d0507c"
            "3040198d247feb145db4f1e2199e6794d2df4fce1acf6370ade4337108b115613c347e01a666fed9f1f263e16272259c"
            "14209a0642c46f3d6d17389f6ffd5a302dd02b74e7413e6cf97ada6790d375ff2c9bedb2"
        ),
    ),
]
DATA = random.Random(1).randbytes(300_000)
FRAME, SEALED, HEAD = 65_536, 65_552, 64


def test_the_form_below_is_the_one_that_is_told() -> None:
    """HKDF and AES-GCM as `cryptography` has them, by hand."""
    below = MemoryStore()
    EncryptedStore(below, {"2026": NEW}, context="a context")["a/key"] = DATA
    stored = below["a/key"]
    header, body = stored[:HEAD], stored[HEAD:]
    magic, version, fingerprint, salt, commitment = struct.unpack(">7sB8s16s32s", header)
    assert (magic, version) == (b"hldlaes", 2)

    def hkdf(info: bytes, size: int) -> bytes:
        return HKDF(hashes.SHA256(), size, salt=None, info=info).derive(NEW)

    assert fingerprint == hkdf(b"holdall key check 1\0blobs", 8)
    context, key = b"a context", b"a/key"
    bound = len(context).to_bytes(8) + context + len(key).to_bytes(8) + key
    derived = hkdf(b"holdall blob 2\0" + salt + hashlib.sha256(bound).digest(), 64)
    assert commitment == derived[32:]
    frames = [body[at : at + SEALED] for at in range(0, len(body), SEALED)]
    assert len(frames) == 5
    plain = [
        AESGCM(derived[:32]).decrypt(struct.pack(">QI", number, number == 4), sealed, header + key)
        for number, sealed in enumerate(frames)
    ]
    assert b"".join(plain) == DATA


def test_sizes_are_known_without_reading() -> None:
    below = Counting(MemoryStore())
    store = EncryptedStore(below, OLD)
    store["key"] = b""
    below.calls["read"] = 0
    for size in (0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 200_000):
        assert store.put("key", DATA[:size]).size == size
        assert below.info("key").size == HEAD + size + 16 * max(1, -(-size // FRAME))
        assert store.info("key").size == size
        assert below.calls["read"] == 0
        assert [info.size for info in store.list()] == [size]
        # Each listing looks whether the keys of the store are still the same.
        assert below.calls["read"] == 1
        below.calls["read"] = 0


def test_nothing_that_is_stored_repeats() -> None:
    below = MemoryStore()
    store = EncryptedStore(below, OLD)
    store["a"] = store["b"] = bytes(1000)
    first = below["a"]
    store["a"] = bytes(1000)
    assert len({first[44:], below["a"][44:], below["b"][44:]}) == 3
    assert not any(bytes(8) in blob[HEAD:] for blob in (first, below["a"], below["b"]))


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


def test_vectors() -> None:
    """What was written once is read for ever."""
    for key, size, context, stored in VECTORS:
        below = MemoryStore({"a/é": bytes.fromhex(stored)})
        store = EncryptedStore(below, bytes.fromhex(key), context=context)
        assert store["a/é"] == bytes(range(256))[:size]


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
    store = EncryptedStore(below, {"a": secret}, names=NAMES)
    store["key"] = DATA
    (name,) = blobs(below)
    below[name] = below[name][:-1]
    with pytest.raises(IntegrityError) as caught:
        store["key"]
    # All frames but the one of this test, which has the key.
    error = caught.value.with_traceback(cast(TracebackType, caught.value.__traceback__).tb_next)
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "sealing.py" in shown
    assert repr(secret) not in shown
    assert secret.hex() not in shown


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
    [stored] = blobs(below)
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
    record = len(memory[RECORD])
    below.bytes_read = 0
    below.calls["write"] = 0
    assert both.rotate() == RotationReport(0, 4)
    assert below.bytes_read == 4 * HEAD + record
    assert below.calls["write"] == 0
    new = EncryptedStore(memory, {"new": NEW})
    assert dict(new.items()) == {"a": b"1", "b/empty": b"", "b/large": DATA * 20, "c": DATA}
    assert infos == {info.key: (info.size, info.content_type, info.expires) for info in new.list()}
    with pytest.raises(IntegrityError, match="another key"):
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
    assert blobs(memory) == []


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


def test_names_tell_nothing_below_and_sort_above() -> None:
    below = MemoryStore()
    store = EncryptedStore(below, OLD, names=NAMES)
    keys = ["a", "b/c", "b/d/e", "b.x", "é", "z" * 752]
    store.put_many({key: key.encode() for key in keys})
    assert all(set(name) <= set(string.ascii_letters + string.digits + "-_") for name in blobs(below))
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
    [name] = blobs(below)
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

        def _put_many(self, items: Any) -> Any:
            for key, *_ in items:
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
    monkeypatch.setattr("holdall.layers.sealing._loaded", None)
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

    store = EncryptedStore(Away(), OLD, names=NAMES)
    with pytest.raises(StoreUnavailableError) as caught:
        store.get_many(["a/secret"])
    assert caught.value.key == "a/secret"


def cuts() -> list[int]:
    """How many bytes of a blob of five frames are left: whole frames, parts of one, and odd ends."""
    whole = [HEAD + number * SEALED for number in range(5)]
    return sorted({0, 1, HEAD - 1, *whole, *(size + 1 for size in whole), *(size + 16 for size in whole)})


@pytest.mark.parametrize("cut", cuts())
def test_a_file_over_a_blob_that_was_cut_never_ends_early(cut: int) -> None:
    for below in (MemoryStore(), Limited(MemoryStore(), Can.WRITE | Can.DELETE | Can.LIST)):
        store = EncryptedStore(below, OLD)
        store["key"] = DATA
        with store.open("key", "rb") as file:
            assert file.seek(0, os.SEEK_END) == len(DATA)
            assert file.read() == b""
            assert file.seek(-5, os.SEEK_END) == len(DATA) - 5
            assert file.read() == DATA[-5:]
        below["key"] = below["key"][:cut]
        for read in (
            lambda file: file.read(),
            lambda file: file.seek(0, os.SEEK_END),
            lambda file: file.seek(-1, os.SEEK_END),
            lambda file: (file.seek(cut), file.read()),
            lambda file: (file.seek(4 * FRAME), file.read(1)),
            lambda file: (file.seek(10 * FRAME), file.read(1)),
            lambda file: [file.read(1000) for _ in range(400)],
        ):
            with pytest.raises(IntegrityError), store.open("key", "rb") as file:
                read(file)


def test_a_file_keeps_to_one_version_even_if_the_store_below_lies() -> None:
    class Lying(MemoryStore):
        def _read(self, key: str, start: int, stop: int | None) -> Any:
            info, pieces = super()._read(key, start, stop)
            return info.replace(etag="always the same"), pieces

    below = Lying()
    store = EncryptedStore(below, OLD)
    store["key"] = b"A" * 6_000_000
    with store.open("key", "rb") as file:
        assert file.read(1) == b"A"
        store["key"] = b"B" * 6_000_000
        file.seek(4_000_000)
        with pytest.raises(IntegrityError, match="changed"):
            file.read(1)


def test_seeks_read_no_header_again() -> None:
    below = Counting(MemoryStore())
    store = EncryptedStore(below, OLD)
    store["key"] = DATA
    with store.open("key", "rb") as file:
        for position in (200_000, 70_000, 299_999, 0):
            below.calls["read"] = 0
            file.seek(position)
            assert file.read(1) == DATA[position : position + 1]
            assert below.calls["read"] <= 1


def test_one_flipped_bit_is_noticed_wherever_it_is() -> None:
    below = MemoryStore()
    store = EncryptedStore(below, OLD)
    store["key"] = b"twenty bytes of text"
    stored = below["key"]
    for bit in range(8 * len(stored)):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        below["key"] = flipped
        for read in (store.get, lambda key: store.get_range(key, 0, 3), lambda key: store.open(key).read()):
            with pytest.raises(IntegrityError):
                read("key")
        assert store.info("key").size == 20


def test_a_blob_of_the_first_format_is_told() -> None:
    below = MemoryStore()
    store = EncryptedStore(below, OLD)
    store["other"] = b""
    below["key"] = struct.pack(">7sBIB31s20s", b"hldlaes", 1, FRAME, 7, b"default", bytes(20)) + bytes(20)
    with pytest.raises(IntegrityError, match="version 1, expected 2"):
        _ = store["key"]


def test_constructors_that_raise_show_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    below = MemoryStore()
    monkeypatch.setenv("A_KEY", OLD.hex())
    for make in (
        lambda: EncryptedStore(below, {"a": OLD, "b": NEW}, current="typo"),
        lambda: EncryptedStore(below, {"a": "env:A_KEY", "b": NEW}, current="typo", names=NAMES),
        lambda: EncryptedStore(below, OLD, fingerprint="0" * 16),
        lambda: EncryptedStore(below, "env:A_KEY#" + "0" * 16),
        lambda: EncryptedStore(below, OLD.hex()),
        lambda: EncryptedStore(below, bytearray(OLD[:31])),  # type: ignore[arg-type]
        lambda: EncryptedStore(below, {"a": OLD}, current=cast(Any, NEW)),
        lambda: EncryptedStore(below, {OLD.hex(): "name"}),
        lambda: EncryptedStore(below, OLD, names=bytes(32)),
        lambda: EncryptedStore(below, OLD, context=cast(Any, 5)),
        lambda: EncryptedStore(cast(Any, "a path"), OLD, names=NAMES),
        lambda: EncryptedStore(cast(Any, OLD), cast(Any, below)),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            make()
        # All frames but that of this test.
        error: BaseException | None = caught.value
        while error is not None:
            while (
                error.__traceback__ is not None
                and error.__traceback__.tb_frame.f_code.co_filename == __file__
            ):
                error.__traceback__ = error.__traceback__.tb_next
            error = error.__cause__ or error.__context__
        shown = "".join(
            traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
        )
        assert "AttributeError" not in shown
        for key in (OLD, NEW, NAMES, OLD[:31]):
            for form in (repr(key)[2:-1], key.hex(), b64encode(key).decode(), repr(bytearray(key))):
                assert form not in shown


def test_a_half_made_store_has_a_repr() -> None:
    assert repr(EncryptedStore.__new__(EncryptedStore)) == "EncryptedStore(...)"


def test_weak_keys_and_key_files_that_others_can_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidArgumentError, match="all zeros"):
        EncryptedStore(MemoryStore(), bytes(32))
    (tmp_path / "key").write_text(OLD.hex())
    for mode, warned in ((0o600, False), (0o400, False), (0o640, True), (0o644, True)):
        caplog.clear()
        (tmp_path / "key").chmod(mode)
        EncryptedStore(MemoryStore(), f"file:{tmp_path / 'key'}")
        assert ("chmod 600" in caplog.text) == warned
