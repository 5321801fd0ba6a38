"""What becomes of a zip store by interrupts and damage, and of archives that other programs made."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import random
import signal
import stat
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.forks import forked
from tests.interrupts import interrupting

from holdall.errors import IntegrityError, KeyConflictError, UnsupportedOperation
from holdall.layers.readonly import ReadOnlyStore
from holdall.store import LeftOut, Store
from holdall.stores.zip import ZipStore
from holdall.stores.zip.journal import BEGIN, HEAD


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "box.zip"


def journal(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def left_by_a_kill(path: Path, **blobs: bytes) -> bytes:
    """An archive with `first`, and a journal that holds the blobs."""
    with ZipStore(path) as store:
        store["first"] = b"1"

    def write() -> None:
        store = ZipStore(path)
        for key, data in blobs.items():
            store[key] = data
        os.kill(os.getpid(), signal.SIGKILL)

    assert os.waitstatus_to_exitcode(os.waitpid(forked(write), 0)[1]) == -signal.SIGKILL
    return journal(path).read_bytes()


def test_an_interrupt_leaves_no_lock_and_undoes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ZipStore, "_fold_size", 30_000)
    store = ZipStore(path)
    kept: dict[str, bytes] = {}
    calls: list[tuple[Callable[[], object], float]] = [
        (lambda: store.put("a", b"1"), 2e-4),
        (lambda: store.put("large", b"x" * 200_000), 1e-3),
        (lambda: store.put("stream", iter([b"y" * 1_000_000] * 3)), 8e-3),
        (lambda: store.put_many({f"b{n}": b"x" for n in range(30)}), 1e-3),
        (lambda: store.get("a"), 1e-4),
        (lambda: list(store.list()), 3e-4),
        (lambda: store.move("a", "c"), 3e-4),
        (lambda: store.delete_many(["a", "b1"]), 3e-4),
        (store.flush, 5e-3),
    ]
    with interrupting() as interrupts:
        for turn in range(600):
            call, length = random.choice(calls)
            try:
                interrupts.during(call, length)
            except KeyError:
                assert call is calls[6][0]
            if journal(path).exists():
                with open(journal(path), "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            key = f"kept/{turn % 20}"
            store[key] = kept[key] = b"%d" % turn
            if turn % 10 == 0:
                with ZipStore(path) as other:
                    assert other[key] == kept[key]
        assert interrupts.count > 100
        for turn in range(20):
            interrupts.during(store.close, 5e-3)
            store = ZipStore(path)
            key = f"kept/{turn}"
            store[key] = kept[key] = b"again %d" % turn
    store.close()
    with ZipStore(path) as again:
        found = dict(again.items())
    assert {key: found[key] for key in kept} == kept
    assert os.listdir(path.parent) == ["box.zip"]
    assert subprocess.run(["unzip", "-tqq", path]).returncode == 0


def test_a_flipped_bit_in_a_journal_is_an_error_everywhere_and_nothing_is_cut_off(path: Path) -> None:
    blobs = {f"k{number}": b"acknowledged %d" % number for number in range(5)}
    whole = left_by_a_kill(path, **blobs)
    blobs["first"] = b"1"
    archive = path.read_bytes()
    for at in range(len(whole)):
        raw = bytearray(whole)
        raw[at] ^= 1 << at % 8
        journal(path).write_bytes(raw)
        with ZipStore(path) as store:
            if 12 <= at < BEGIN:
                # Which process made it says nothing about what is in it.
                assert dict(store.items()) == blobs
                store._tidies = False
                continue
            for call in (
                lambda: dict(store.items()),
                lambda: store.put("new", b""),
                lambda: store.delete("first"),
                store.flush,
            ):
                with pytest.raises(IntegrityError, match="journal"):
                    call()
        assert journal(path).read_bytes() == raw
        assert path.read_bytes() == archive


def test_what_was_taken_out_of_a_journal_or_put_in_is_noticed(path: Path) -> None:
    whole = left_by_a_kill(path, a=b"a" * 10, b=b"b" * 10, c=b"c" * 10)
    length = HEAD + 1 + 10
    records = [whole[at : at + length] for at in range(BEGIN, len(whole), length)]
    assert len(records) == 3
    for order in ((0, 2), (1, 2), (1, 0, 2), (0, 0, 1, 2), (2,)):
        journal(path).write_bytes(whole[:BEGIN] + b"".join(records[index] for index in order))
        with ZipStore(path) as store, pytest.raises(IntegrityError, match="damaged at byte"):
            list(store)
    # The journal of another archive has another number.
    other = path.with_name("other.zip")
    foreign = left_by_a_kill(other, a=b"x" * 10)
    journal(path).write_bytes(whole + foreign[BEGIN:])
    with ZipStore(path) as store, pytest.raises(IntegrityError, match="damaged at byte"):
        list(store)
    # A blob that looks like records isn't taken for them.
    other_journal = left_by_a_kill(other, copy=whole, z=b"z")
    assert whole[BEGIN:] in other_journal
    with ZipStore(other) as store:
        assert store["copy"] == whole
        assert list(store) == ["a", "copy", "first", "z"]


def test_a_large_record_that_was_not_finished_is_cut_off(path: Path) -> None:
    whole = left_by_a_kill(path, a=b"1")
    # The head of a large one is written last.
    journal(path).write_bytes(whole + bytes(HEAD) + b"big" + b"x" * 300_000)
    with ZipStore(path) as store:
        assert dict(store.items()) == {"first": b"1", "a": b"1"}
        store["b"] = b"2"
    with ZipStore(path) as store:
        assert dict(store.items()) == {"first": b"1", "a": b"1", "b": b"2"}


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_no_reader_gets_the_end_before_all_was_checked(path: Path, method: int) -> None:
    data = b"".join(b"line %06d: all is well\n" % number for number in range(50_000))
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a", data)
    with ZipStore(path) as store:
        assert store["a"] == data
        assert store.get_range("a", 5, 1_200_000) == data[5:1_200_000]
        store.copy("a", "b")
        assert store["b"] == data
    good = path.read_bytes()
    stop = good.index(b"PK\x01\x02")
    packed = method != zipfile.ZIP_STORED
    for _ in range(12):
        raw = bytearray(good)
        raw[random.randrange(31, stop)] ^= 1 << random.randrange(8)
        path.write_bytes(raw)
        with ZipStore(path) as store:

            def read(mode: str, store: Store = store) -> bytes:
                with store.open("a", mode) as file:
                    text = file.read()
                    return text.encode() if isinstance(text, str) else text

            def seek(store: Store = store) -> bytes:
                with store.open("a") as file:
                    file.seek(100)
                    return data[:100] + file.read(50) + data[150:]

            def part(store: Store = store) -> bytes:
                return data[:7] + store.get_range("a", 7, 9) + data[9:]

            calls = [
                lambda: store["a"],
                lambda: b"".join(store.chunks("a")),
                lambda: read("rb"),
                lambda: read("r"),
            ]
            for call in calls + ([seek, part] if packed else []):
                # The text of a damaged piece may be found out before its end is.
                with suppress(IntegrityError, UnicodeDecodeError):
                    assert call() == data


def test_a_directory_that_lies_about_its_members_is_refused(path: Path) -> None:
    def archive() -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as made:
            made.writestr("safe.txt", b"1111")
            made.writestr("evil.txt", b"2222")
        return file.getvalue()

    raw = bytearray(archive())
    central = raw.index(b"PK\x01\x02")
    # A name in the directory that isn't the member's own.
    at = raw.index(b"safe.txt", central)
    raw[at : at + 4] = b"fake"
    path.write_bytes(raw)
    with ZipStore(path) as store:
        with pytest.raises(IntegrityError, match="own header"):
            store["fake.txt"]
        assert store["evil.txt"] == b"2222"
    # Two members that share their bytes unpack to more than there is.
    raw = bytearray(archive())
    second = raw.index(b"PK\x01\x02", central + 4)
    raw[second + 42 : second + 46] = bytes(4)
    path.write_bytes(raw)
    with ZipStore(path) as store, pytest.raises(IntegrityError, match="overlap"):
        list(store)
    # Another size.
    raw = bytearray(archive())
    raw[central + 20 : central + 28] = struct.pack("<II", 3, 3)
    path.write_bytes(raw)
    with ZipStore(path) as store, pytest.raises(IntegrityError):
        store["safe.txt"]


def member(name: str, *, system: int = 3, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = system
    info.external_attr = mode << 16
    return info


def test_names_as_info_zip_writes_them(path: Path, tmp_path: Path) -> None:
    for name in ("ü.txt", "水"):
        (tmp_path / name).write_bytes(name.encode())
    subprocess.run(["zip", "-q", path, "ü.txt", "水"], cwd=tmp_path, check=True)
    # Without its extra field of Unicode names, as older ones write them.
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"up", b"xx"))
    for content in (raw, raw.replace(b"up", b"xx")):
        path.write_bytes(content)
        with ZipStore(path) as store:
            assert list(store) == ["ü.txt", "水"]
            assert store["水"] == "水".encode()
            store["ü.txt"] = b"new"
        with zipfile.ZipFile(path) as archive:
            assert len(archive.namelist()) == 2
    # What DOS wrote has DOS's characters.
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member("a\u0301", system=0), b"1")
    raw = path.read_bytes().replace("a\u0301".encode(), b"\x81xx")
    flags = struct.pack("<H", 0)
    raw = bytearray(raw)
    raw[6:8] = flags
    at = raw.index(b"PK\x01\x02")
    raw[at + 8 : at + 10] = flags
    path.write_bytes(raw)
    with ZipStore(path) as store:
        assert list(store) == ["üxx"]


def test_what_can_not_be_a_blob_is_left_out_and_stays(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/", b"")
        archive.writestr(member("link", mode=stat.S_IFLNK | 0o777), b"folder/a")
        archive.writestr(member("folder/pipe", mode=stat.S_IFIFO | 0o644), b"")
        archive.writestr(member("folder/a"), b"1")
        archive.writestr("../outside", b"2")
        archive.writestr("/absolute", b"3")
        archive.writestr(member("windows\\name", system=0), b"4")
        archive.writestr(member("unix\\name"), b"5")
    names = zipfile.ZipFile(path).namelist()
    odd = "name that can't be a key"
    left_out = [
        LeftOut("../outside", odd),
        LeftOut("/absolute", odd),
        LeftOut("folder/pipe", "named pipe"),
        LeftOut("link", "symbolic link"),
        LeftOut("windows\\name", odd),
    ]
    with ZipStore(path) as store:
        assert list(store) == ["folder/a", "unix\\name"]
        assert list(store.left_out()) == left_out
        assert list(store.left_out("folder/")) == left_out[2:3]
        assert [
            entry.path if isinstance(entry, LeftOut) else entry.key for entry in store._survey("", "")
        ] == sorted(["folder/a", "unix\\name", *(entry.path for entry in left_out)])
        assert "link" not in store
        for write in (
            lambda: store.put("link", b"x"),
            lambda: store.put_many({"new": b"1", "link": b"x"}),
            lambda: store.copy("folder/a", "link"),
            lambda: store.setdefault("link", b"x"),
            lambda: store.modify("link", lambda old: old, b""),
        ):
            with pytest.raises(KeyConflictError, match="symbolic link"):
                write()
        assert "new" not in store
        assert not store.delete("link")
        store["folder/a"] = b"changed"
        store["folder/b"] = b"new"
        store.flush()
        assert list(store.left_out()) == left_out
        store.clear()
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [name for name in names if name not in ("folder/a", "unix\\name")]
        assert archive.read("link") == b"folder/a"
        assert archive.getinfo("link").external_attr >> 16 == stat.S_IFLNK | 0o777


def test_of_two_members_of_one_name_the_last_counts(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr(member("a", mode=stat.S_IFLNK | 0o777), b"old")
        archive.writestr(member("a"), b"new")
        archive.writestr(member("b"), b"old")
        archive.writestr(member("b", mode=stat.S_IFLNK | 0o777), b"a")
    for _ in range(2):
        with ZipStore(path) as store:
            assert dict(store.items()) | {"c": b""} == {"a": b"new", "c": b""}
            assert list(store.left_out()) == [LeftOut("b", "symbolic link")]
            store["c"] = b""


def test_a_method_that_python_lacks_is_an_error_of_that_member_only(path: Path) -> None:
    data = b"x" * 1000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", data)
        archive.writestr("b", data)
    raw = bytearray(path.read_bytes())
    central = raw.index(b"PK\x01\x02")
    raw[8:10] = raw[central + 10 : central + 12] = struct.pack("<H", 9)
    path.write_bytes(raw)
    with ZipStore(path) as store:
        assert list(store) == ["a", "b"]
        assert store["b"] == data
        for call in (lambda: store["a"], lambda: store.copy("a", "c"), lambda: store.open("a")):
            with pytest.raises(UnsupportedOperation, match=r"method 9, .*deflated \(8\), bzip2 \(12\), LZMA"):
                call()
        store["new"] = b"1"
    assert zlib.decompressobj(-15).decompress(path.read_bytes()[31:]) == data


def test_a_bomb_is_unpacked_bit_by_bit(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    with ZipStore(path) as store:
        assert max(map(len, store._read("a", 0, None)[1])) <= 1 << 20


def test_a_reader_folds_at_its_close_what_a_killed_process_left(path: Path) -> None:
    left_by_a_kill(path, a=b"1")
    with ReadOnlyStore(ZipStore(path)) as store:
        assert store["a"] == b"1"
    with Store.from_uri(f"zip://{path}?readonly=1&prefix=x") as store:
        assert list(store) == []
    assert journal(path).exists()
    with ZipStore(path) as store:
        assert list(store) == ["a", "first"]
    assert not journal(path).exists()
    assert zipfile.ZipFile(path).namelist() == ["first", "a"]


def test_a_reader_leaves_the_journal_of_a_living_writer(path: Path) -> None:
    with ZipStore(path) as first:
        first["first"] = b"1"
    writer = ZipStore(path)
    writer["a"] = b"1"
    with ZipStore(path) as reader:
        assert reader["a"] == b"1"
    assert journal(path).exists()
    code = "import sys; from holdall import ZipStore\nwith ZipStore(sys.argv[1]) as s: assert s['a'] == b'1'"
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert journal(path).exists()
    writer.close()
    assert not journal(path).exists()


def test_a_fold_keeps_the_mode_and_journals_are_private(path: Path) -> None:
    with ZipStore(path) as store:
        store["a"] = b"1"
    for mode in (0o640, 0o604, 0o444):
        path.chmod(mode)
        with ZipStore(path) as store:
            store["a"] = b"2"
            assert stat.S_IMODE(journal(path).stat().st_mode) == 0o600
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_fold_keeps_the_mode_where_it_can_not_keep_the_owner(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ZipStore(path) as store:
        store["a"] = b"1"
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    path.chmod(0o604)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    with ZipStore(path) as store:
        store["a"] = b"2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_an_archive_that_was_replaced_or_deleted_is_noticed(path: Path) -> None:
    store = ZipStore(path)
    store["k"] = b"old"
    store.flush()
    for _ in range(2):
        with ZipStore(path.with_name("b.zip")) as other:
            other["k"] = b"restored"
        os.replace(path.with_name("b.zip"), path)
        store["later"] = b"1"
        with ZipStore(path) as other:
            assert dict(other.items()) == dict(store.items()) == {"k": b"restored", "later": b"1"}
        store.flush()
    journal(path).unlink(missing_ok=True)
    path.unlink()
    store["b"] = b"2"
    assert dict(store.items()) == {"b": b"2"}
    store["c"] = b"3"
    journal(path).unlink()
    store["d"] = b"4"
    store.close()
    with ZipStore(path) as other:
        assert dict(other.items()) == {"b": b"2", "d": b"4"}
