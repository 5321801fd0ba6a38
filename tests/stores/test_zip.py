"""What is special about a zip archive and its journal."""

from __future__ import annotations

import gc
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import pytest
from tests.again import Again, Combined
from tests.forks import forked, succeeds

from holdall.errors import (
    BlobExistsError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.store import ABSENT, Can, Store
from holdall.stores.zip import ZipStore, entry, fold


class _OftenFolded(ZipStore):
    _fold_size = 2000


class TestZipFoldedOften(Again):
    def make(self, place: Path) -> Store:
        return _OftenFolded(place / "box.zip")


class TestZipDeflated(Combined):
    def make(self, place: Path) -> Store:
        return ZipStore(place / "box.zip", compression="deflated")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "box.zip"


def journal(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def unzip_accepts(path: Path) -> None:
    result = subprocess.run(["unzip", "-tqq", path], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def contents(path: Path) -> dict[str, bytes]:
    with ZipStore(path) as store:
        return dict(store.items())


def python(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_any_unzip_reads_it(path: Path, tmp_path: Path) -> None:
    blobs = {"a": b"1", "a/b": b"2", "naïve/水.txt": b"3", "empty": b"", "big": bytes(300_000)}
    with ZipStore(path) as store:
        store.put_many(blobs)
        store.put("a", b"one")
        del store["empty"]
    assert os.listdir(tmp_path) == ["box.zip"]
    unzip_accepts(path)
    with zipfile.ZipFile(path) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "a": b"one",
            "a/b": b"2",
            "naïve/水.txt": b"3",
            "big": bytes(300_000),
        }
        member = archive.getinfo("a")
        assert member.external_attr >> 16 == 0o100644
        assert abs(time.mktime((*member.date_time, 0, 0, -1)) - time.time()) < 60


def test_the_first_put_makes_an_archive(path: Path) -> None:
    store = ZipStore(path)
    store["a"] = b"1"
    unzip_accepts(path)
    store.close()


def test_flush_shows_what_was_written_to_other_programs(path: Path) -> None:
    with ZipStore(path) as store:
        store.update({"a": b"1", "b": b"2"})
        store["c"] = b"3"
        store.flush()
        unzip_accepts(path)
        assert sorted(zipfile.ZipFile(path).namelist()) == ["a", "b", "c"]
        store["d"] = b"4"
        assert list(store) == ["a", "b", "c", "d"]


def test_a_store_dropped_unclosed_is_folded(path: Path) -> None:
    store = ZipStore(path)
    store["a"] = b"1"
    store["b"] = b"2"
    del store
    gc.collect()
    assert sorted(zipfile.ZipFile(path).namelist()) == ["a", "b"]
    code = "import sys; from holdall import ZipStore; s = ZipStore(sys.argv[1]); s['c'] = b'3'; s['d'] = b'4'"
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert sorted(zipfile.ZipFile(path).namelist()) == ["a", "b", "c", "d"]
    assert not journal(path).exists()


def test_deflated_blobs_are_smaller_and_ranges_of_them_right(path: Path) -> None:
    data = b"".join(b"%d " % number for number in range(1_000_000))
    noise = os.urandom(1000)
    with ZipStore(path, compression="deflated") as store:
        store["streamed"] = io.BytesIO(data)
        store["whole"] = data[:100_000]
        store["noise"] = noise
        for _ in range(2):
            assert store["streamed"] == data
            assert store["whole"] == data[:100_000]
            assert store["noise"] == noise
            assert store.get_range("streamed", 5_000_001, 5_000_009) == data[5_000_001:5_000_009]
            assert store.get_range("streamed", -3) == data[-3:]
            store.flush()
    unzip_accepts(path)
    assert path.stat().st_size < len(data) / 2


def test_foreign_members_are_read_and_kept(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"a comment"
        archive.writestr("mimetype", b"application/x-test")
        archive.writestr("folder/", b"")
        archive.writestr("../outside", b"kept")
        archive.writestr("/absolute", b"kept too")
        archive.writestr("packed", b"x" * 10_000, zipfile.ZIP_DEFLATED)
        archive.writestr("bzip2", b"y" * 1000, zipfile.ZIP_BZIP2)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("packed", b"y" * 10_000, zipfile.ZIP_DEFLATED)
        archive.writestr("changed", b"old")
        archive.writestr("deleted", b"old")
        with archive.open("streamed", "w") as member:
            member.write(b"with a data descriptor")
    with ZipStore(path) as store:
        assert list(store) == ["bzip2", "changed", "deleted", "mimetype", "packed", "streamed"]
        assert store["packed"] == b"y" * 10_000
        assert store["streamed"] == b"with a data descriptor"
        before = store.info("packed")
        assert store["bzip2"] == b"y" * 1000
        store["changed"] = b"new"
        del store["deleted"]
        store.flush()
        assert store.info("packed") == before
    unzip_accepts(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.comment == b"a comment"
        assert archive.namelist()[0] == "mimetype"
        assert archive.read("../outside") == b"kept"
        assert archive.read("/absolute") == b"kept too"
        assert archive.read("bzip2") == b"y" * 1000
        assert archive.read("changed") == b"new"
        assert "folder/" in archive.namelist()
        assert "deleted" not in archive.namelist()
    with ZipStore(path) as store:
        store.clear()
        assert not store
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["folder/", "../outside", "/absolute"]


def test_an_encrypted_member_is_a_typed_error(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"hush")
    subprocess.run(["zip", "-q", "-P", "pass", path, "secret"], cwd=tmp_path, check=True)
    with ZipStore(path) as store:
        with pytest.raises(UnsupportedOperation, match="encrypted"):
            store["secret"]
        store["other"] = b"1"
    subprocess.run(["unzip", "-tqq", "-P", "pass", path], check=True)


def test_changes_of_other_programs_are_noticed(path: Path, tmp_path: Path) -> None:
    store = ZipStore(path)
    store["a"] = b"1"
    etag = store.info("a").etag
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b", b"2")
    assert store["b"] == b"2"
    assert store.info("a").etag == etag
    (tmp_path / "a").write_bytes(b"from zip")
    subprocess.run(["zip", "-q", path, "a"], cwd=tmp_path, check=True)
    assert store["a"] == b"from zip"
    assert store.info("a").etag != etag
    store["c"] = b"3"
    subprocess.run(["zip", "-qd", path, "b"], check=True)
    assert list(store) == ["a", "c"]
    store.close()
    unzip_accepts(path)
    assert contents(path) == {"a": b"from zip", "c": b"3"}


def test_what_another_program_adds_during_a_fold_is_not_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ZipStore(path)
    store["a"] = b"1"
    store["b"] = b"2"
    sync = os.fsync

    def meanwhile(fd: int) -> None:
        monkeypatch.undo()
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("c", b"3")
        sync(fd)

    monkeypatch.setattr(os, "fsync", meanwhile)
    store.close()
    assert contents(path) == {"a": b"1", "b": b"2", "c": b"3"}
    unzip_accepts(path)


def test_a_uri_opens_it(path: Path) -> None:
    with Store.from_uri(f"zip://{path}?durable=true&compression=deflated") as store:
        assert repr(store) == f"ZipStore('{path}', durable=True, compression='deflated')"
        store["a"] = b"x" * 1000
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("a").compress_type == zipfile.ZIP_DEFLATED


def test_a_program_before_the_archive_stays(path: Path) -> None:
    with ZipStore(path) as store:
        store["a"] = b"1"
    path.write_bytes(b"#!/bin/sh\nexit\n" + path.read_bytes())
    with ZipStore(path) as store:
        assert store["a"] == b"1"
        store["b"] = b"2"
    assert path.read_bytes().startswith(b"#!/bin/sh\nexit\nPK")
    unzip_accepts(path)
    assert contents(path) == {"a": b"1", "b": b"2"}


def test_more_members_than_sixteen_bits_count(path: Path) -> None:
    with ZipStore(path) as store:
        store.put_many((f"{number:06d}", b"%d" % number) for number in range(70_000))
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 70_000
        assert archive.read("069999") == b"69999"
    assert subprocess.run(["unzip", "-tqq", path]).returncode == 0
    with ZipStore(path) as store:
        assert len(store) == 70_000
        store["x"] = b"more"
    with ZipStore(path) as store:
        assert store["x"], store["000001"] == (b"more", b"1")


def test_sizes_and_offsets_of_64_bits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every size counts as too long for 32 bits, rather than writing 4 GiB.
    with ZipStore(path) as store:
        store["short"] = b"s" * 100
    monkeypatch.setattr(fold, "_LONG", 90)
    blobs = {"short": b"s" * 100, "long": b"l" * 200_000, "packed": b"p" * 1000}
    with ZipStore(path) as store:
        store["long"] = blobs["long"]
    with ZipStore(path, compression="deflated") as store:
        store["packed"] = blobs["packed"]
        del store["short"]
        store.flush()
        store["short"] = blobs["short"]
    unzip_accepts(path)
    assert contents(path) == blobs
    monkeypatch.undo()
    with ZipStore(path) as store:
        store["after"] = b"1"
    unzip_accepts(path)
    assert contents(path) == blobs | {"after": b"1"}


def test_a_truncated_archive_is_a_typed_error_and_stays(path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("inner", b"x")
    with ZipStore(path) as store:
        store.update({"a": b"1" * 100, "inner.zip": inner.getvalue(), "z": b"2"})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with ZipStore(path) as store:
            with pytest.raises(IntegrityError, match=r"box\.zip"):
                store.get("a")
            with pytest.raises(IntegrityError):
                store["a"] = b"new"
        assert os.listdir(path.parent) == ["box.zip"]
        assert path.read_bytes() == whole[:length]


def test_what_is_no_zip_is_never_overwritten(path: Path) -> None:
    for text in (b"", b"some text", os.urandom(100_000)):
        path.write_bytes(text)
        with ZipStore(path) as store:
            for use in (lambda: store["a"], lambda: list(store), store.clear, lambda: store.put("a", b"")):
                with pytest.raises(IntegrityError):
                    use()
        assert path.read_bytes() == text


def test_changed_bytes_are_an_error(path: Path) -> None:
    with ZipStore(path) as store:
        store["small"] = b"small blob"
        store["large"] = (b"large" * 100_000 for _ in range(20))
    path.write_bytes(
        path.read_bytes().replace(b"small blob", b"SMALL BLOB").replace(b"largelarge", b"LARGElarge", 1)
    )
    with ZipStore(path) as store:
        with pytest.raises(IntegrityError):
            store["small"]
        with pytest.raises(IntegrityError):
            list(store.chunks("large"))


def test_a_folder_or_a_foreign_journal_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="folder"):
        ZipStore(tmp_path)
    with pytest.raises(InvalidArgumentError):
        ZipStore("")
    with pytest.raises(InvalidArgumentError):
        ZipStore(path, compression="zstd")
    for text in (b"mine", b"my own diary of the year"):
        journal(path).write_bytes(text)
        with ZipStore(path) as store:
            with pytest.raises(IntegrityError, match="journal"):
                list(store)
            with pytest.raises(IntegrityError):
                store["a"] = b""
        assert journal(path).read_bytes() == text


def test_a_file_in_the_way_of_the_folder_is_named(path: Path) -> None:
    path.write_bytes(b"mine")
    with ZipStore(path / "inner.zip") as store:
        pieces = [bytes(1 << 20)] * 8
        for use in (
            lambda: store.get("a"),
            lambda: store.put("a", b""),
            lambda: store.put("a", iter(pieces)),
        ):
            with pytest.raises(StoreUnavailableError, match="a file is in the way of its folder"):
                use()
    assert path.read_bytes() == b"mine"


def test_a_torn_record_is_as_if_never_written(path: Path) -> None:
    with ZipStore(path) as store:
        store["a"] = b"1"
    keeper = ZipStore(path)
    keeper["a"] = b"old"
    start = journal(path).stat().st_size
    keeper["a"] = b"new"
    whole = journal(path).read_bytes()
    archive = path.read_bytes()
    keeper.close()
    for length in range(start, len(whole)):
        for tail in (b"", bytes(1024)):
            path.write_bytes(archive)
            journal(path).write_bytes(whole[:length] + tail)
            with ZipStore(path) as store:
                assert dict(store.items()) == {"a": b"old"}
                store["b"] = b"next"
                assert dict(store.items()) == {"a": b"old", "b": b"next"}
            assert contents(path) == {"a": b"old", "b": b"next"}


def test_a_batch_counts_whole_or_not_at_all(path: Path) -> None:
    with ZipStore(path) as store:
        store["a"] = b"1"
    archive = path.read_bytes()
    for body in (b"new", b"large" * 50_000):
        keeper = ZipStore(path)
        keeper.put_many({"a": body, "b": body, "c": body})
        whole = journal(path).read_bytes()
        keeper.close()
        for _ in range(50):
            path.write_bytes(archive)
            journal(path).write_bytes(whole[: random.randrange(len(whole))])
            assert contents(path) == {"a": b"1"}
            journal(path).unlink(missing_ok=True)
        path.write_bytes(archive)


def test_a_journal_left_by_a_kill_after_the_fold_changes_nothing(path: Path) -> None:
    with ZipStore(path) as store:
        store["a"] = b"0"
        store["gone"] = b"0"
    store = ZipStore(path)
    store["a"] = b"1"
    store.put("b", b"2", content_type="text/plain")
    del store["gone"]
    left = journal(path).read_bytes()
    before = list(store.list())
    store.close()
    journal(path).write_bytes(left)
    with ZipStore(path) as store:
        assert list(store.list()) == before
        assert store["b"] == b"2"
        store["c"] = b"3"
        assert list(store) == ["a", "b", "c"]
    unzip_accepts(path)
    with ZipStore(path) as store:
        assert list(store.list())[:2] == before


def test_reading_creates_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    with ZipStore(folder / "box.zip") as store:
        assert list(store) == []
        assert store.get("a") is None
        assert "a" not in store
        assert not store.delete("a")
        assert store.delete_many(["a", "b"]) == 0
        with pytest.raises(ConcurrencyError):
            store.delete("a", expect="tag")
        store.clear()
        store.flush()
    assert not folder.exists()
    with ZipStore(folder / "box.zip") as store:
        store["a"] = b"1"
    before = os.stat(folder / "box.zip")
    with ZipStore(folder / "box.zip") as store:
        assert list(store.items()) == [("a", b"1")]
    assert os.listdir(folder) == ["box.zip"]
    assert os.stat(folder / "box.zip").st_mtime_ns == before.st_mtime_ns


def test_a_refused_put_leaves_no_file(path: Path) -> None:
    with ZipStore(path) as store, pytest.raises(ConcurrencyError):
        store.put("a", b"", expect="tag")
    assert os.listdir(path.parent) == []


def test_handles_see_each_others_writes_at_once(path: Path) -> None:
    one, two = ZipStore(path), ZipStore(path)
    for number in range(200):
        writer, reader = (one, two) if number % 2 else (two, one)
        etag = writer.put("n", b"%d" % number).etag
        if number % 7 == 0:
            writer.flush()
        assert reader["n"] == b"%d" % number
        assert reader.info("n").etag == etag
        writer.delete("n")
        assert "n" not in reader
    one.close()
    two["after"] = b"1"
    two.close()
    assert contents(path) == {"after": b"1"}


def test_streams_go_on_through_folds_and_overwrites(path: Path) -> None:
    data = os.urandom(5 << 20)
    with ZipStore(path) as store, ZipStore(path) as other:
        store["a"] = iter([data])
        for _ in range(2):
            pieces = store.chunks("a", 1 << 20)
            read = next(pieces)
            with store.open("a") as file:
                assert file.read(10) == data[:10]
                other.flush()
                other["a"] = b"short"
                other.flush()
                assert read + b"".join(pieces) == data
                assert file.read(100) == data[10:110]
            store["a"] = iter([data])


def test_a_body_may_use_the_store(path: Path) -> None:
    with ZipStore(path) as store:
        store["a"] = b"1"

        def body() -> object:
            store["b"] = b"2"
            yield store["a"]
            store.flush()
            yield store["b"]

        store["c"] = body()
        assert dict(store.items()) == {"a": b"1", "b": b"2", "c": b"12"}


def test_a_listing_survives_folds(path: Path) -> None:
    with ZipStore(path) as store:
        store.put_many({f"{number:03d}": b"" for number in range(100)})
        seen: list[str] = []
        for key in store:
            seen.append(key)
            store[key] = b"again"
            store[f"{key}-more"] = b""
            if len(seen) % 10 == 0:
                store.flush()
        assert seen == [f"{number:03d}" for number in range(100)]
        assert len(store) == 200


def test_threads_on_handles_with_folds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ZipStore, "_fold_size", 2000)
    stores = [ZipStore(path) for _ in range(3)]
    stores[0]["count"] = b"0"
    errors: list[BaseException] = []

    def work(store: Store, name: str) -> None:
        try:
            for number in range(60):
                store.modify("count", lambda old: b"%d" % (int(old) + 1))
                store[f"{name}/{number}"] = name.encode() * number
                assert store[f"{name}/{number}"] == name.encode() * number
                if number % 3 == 0:
                    assert store.delete(f"{name}/{number}")
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(stores[n % 3], f"t{n}")) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert stores[1]["count"] == b"360"
    for store in stores:
        assert len(store) == 1 + 6 * 40
        store.close()
    unzip_accepts(path)


_CREATE = """
import sys
from holdall import ABSENT, BlobExistsError, ZipStore
ZipStore._fold_size = 3000
won = 0
store = ZipStore(sys.argv[1])
for number in range(300):
    try:
        store.put(f"{number:03d}", sys.argv[2].encode(), expect=ABSENT)
        won += 1
    except BlobExistsError:
        pass
    store.put(f"own/{sys.argv[2]}/{number}", b"mine")
    store.modify("count", lambda old: b"%d" % (int(old) + 1), default=b"0")
store.close()
print(won)
"""


def test_processes_create_each_blob_once(path: Path) -> None:
    workers = [python(_CREATE, path, name) for name in "abc"]
    won = [int(worker.communicate()[0]) for worker in workers]
    assert sum(won) == 300
    unzip_accepts(path)
    with ZipStore(path) as store:
        assert store["count"] == b"900"
        assert len(store) == 300 + 900 + 1
        with pytest.raises(BlobExistsError):
            store.put("000", b"", expect=ABSENT)


def test_after_a_fork_both_write(path: Path) -> None:
    store = ZipStore(path)
    store["count"] = b"0"

    def work(child: int) -> None:
        for number in range(50):
            store.modify("count", lambda old: b"%d" % (int(old) + 1))
            store[f"{child}/{number}"] = b"x"
        store.close()

    children = [forked(partial(work, child)) for child in range(3)]
    for _ in range(50):
        store.modify("count", lambda old: b"%d" % (int(old) + 1))
    for child in children:
        succeeds(child)
    assert store["count"] == b"200"
    assert len(store) == 151
    store.close()
    unzip_accepts(path)


def test_a_link_to_the_archive_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.zip"
    link.symlink_to(path)
    with ZipStore(path) as store:
        store["a"] = b"1"
    path.chmod(0o640)
    with ZipStore(link) as one, ZipStore(path) as two:
        one["b"] = b"2"
        assert journal(path).stat().st_mode & 0o777 == 0o600
        assert two["b"] == b"2"
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert contents(path) == {"a": b"1", "b": b"2"}


def test_copies_and_types_survive_the_fold(path: Path) -> None:
    with ZipStore(path) as store:
        assert Can.COPY in store.can
        store.put("a", b"x" * 200_000, content_type="text/plain")
        for number in range(3):
            store.copy("a", f"copy{number}")
            store.move(f"copy{number}", f"moved{number}")
            store.flush()
        assert list(store) == ["a", "moved0", "moved1", "moved2"]
        before = list(store.list())
        assert {info.content_type for info in before} == {"text/plain"}
        assert len({info.etag for info in before}) == 4
    with ZipStore(path) as store:
        assert list(store.list()) == before
        assert store["moved2"] == b"x" * 200_000
    unzip_accepts(path)


_WRITE = """
import os, random, sys
from holdall import ZipStore
ZipStore._fold_size = int(sys.argv[2])
random.seed(int(sys.argv[3]))
store = ZipStore(sys.argv[1])
os.write(1, b"ready\\n")
number = 0
while True:
    number += 1
    key = f"k{random.randrange(20)}"
    size = random.choice([10, 1000, 70_000])
    turn = random.randrange(10)
    if turn == 0:
        store.delete(key)
        os.write(1, b"%d %s -\\n" % (number, key.encode()))
        continue
    value = b"%d:" % number + b"v" * size
    os.write(1, b"%d %s ?\\n" % (number, key.encode()))
    if turn == 1:
        store.put(key, (value[at : at + 500] for at in range(0, len(value), 500)))
    elif turn == 2:
        store.put_many({key: value, "pair": value})
    else:
        store[key] = value
    os.write(1, b"%d %s +\\n" % (number, key.encode()))
"""


@pytest.mark.parametrize("fold_size", [4 << 20, 200, 20_000])
def test_a_kill_loses_nothing_acknowledged(path: Path, fold_size: int) -> None:
    held: dict[str, bytes] = {}
    for seed in range(12):
        worker = python(_WRITE, path, fold_size, random.randrange(1 << 30))
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        time.sleep(random.uniform(0, 0.08))
        worker.send_signal(signal.SIGKILL)
        said = worker.communicate()[0].decode().splitlines()
        maybe: tuple[str, str] | None = None
        for line in said:
            number, key, mark = line.split()
            maybe = (key, number) if mark == "?" else None
            if mark == "-":
                held.pop(key, None)
            elif mark == "+":
                held[key] = number.encode()
        if path.exists():
            unzip_accepts(path)
        store = ZipStore(path)
        found = {key: value.partition(b":")[0] for key, value in store.items()}
        found.pop("pair", None)
        # The delete under way says nothing before it is done; of a put it is known what it would write.
        changed = {key for key in {*held, *found} if held.get(key) != found.get(key)}
        assert len(changed) <= 1, (seed, changed)
        for key in changed:
            assert key not in found or maybe == (key, found[key].decode())
        for key, value in store.items():
            number, _, rest = value.partition(b":")
            assert rest.strip(b"v") == b"", key
            assert len(rest) in (10, 1000, 70_000)
        held = found
        if seed % 3 == 0:
            store["k0"] = b"0:" + b"v" * 10
            held["k0"] = b"0"
            store.close()
            unzip_accepts(path)
            assert set(os.listdir(path.parent)) == {"box.zip"}
    with ZipStore(path) as store:
        store["end"] = b""
    assert os.listdir(path.parent) == ["box.zip"]
    unzip_accepts(path)


_FULL = """
import os, resource, sys
from holdall import StoreUnavailableError, ZipStore
path = sys.argv[1]
store = ZipStore(path, durable=sys.argv[2] == "durable")
store["a"] = b"old"
store["b"] = b"kept"
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
bodies = [
    lambda: bytes(2 << 20),
    lambda: iter([bytes(1 << 20)] * 8),
    lambda: (bytes(60_000) for _ in range(40)),
]
for body in bodies:
    try:
        store["a"] = body()
    except StoreUnavailableError as error:
        assert isinstance(error.__cause__, OSError), error.__cause__
        assert "ulimit -f" in str(error)
    else:
        raise SystemExit("it was written")
    try:
        store.put_many({"a": b"x", "c": bytes(2 << 20)})
    except StoreUnavailableError:
        pass
    assert dict(store.items()) == {"a": b"old", "b": b"kept"}, dict(store.items()).keys()
store["d"] = bytes(1000)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("durable", ["durable", "plain"])
def test_a_full_disk_leaves_the_old_blobs(path: Path, durable: str) -> None:
    worker = python(_FULL, path, durable)
    worker.communicate()
    assert worker.returncode == -signal.SIGKILL
    assert contents(path) == {"a": b"old", "b": b"kept", "d": bytes(1000)}


def test_an_archive_that_cannot_be_folded_loses_nothing(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ZipStore(path)
    store["a"] = b"1"
    store["b"] = b"2"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(StoreUnavailableError, match="the disk is full"):
            store.flush()
        patch.setattr(store._writer, "fold_size", 0)
        store["c"] = bytes(1000)
        assert "couldn't be brought up to date" in caplog.text
        store.close()
    assert sorted(os.listdir(path.parent)) == ["box.zip", "box.zip.journal"]
    assert contents(path) == {"a": b"1", "b": b"2", "c": bytes(1000)}


_STREAM = """
import resource, sys, zlib
from holdall import ZipStore
path, compression = sys.argv[1:]
piece = bytes(range(256)) * 4096
with ZipStore(path, compression=compression) as store:
    store["warm"] = piece
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store["big"] = (piece for _ in range(80))
    store.copy("big", "copy")
    store.flush()
    crc = size = 0
    for chunk in store.chunks("copy"):
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    with store.open("big") as source, store.open("again", "wb") as target:
        while chunk := source.read(1 << 20):
            target.write(chunk)
assert size == 80 << 20
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("compression", ["stored", "deflated"])
def test_streams_take_little_memory(path: Path, compression: str) -> None:
    worker = python(_STREAM, path, compression)
    grown = int(worker.communicate()[0])
    assert grown < 32 << 10, f"{grown} KiB"
    with ZipStore(path) as store:
        assert {info.size for info in store.list()} == {1 << 20, 80 << 20}
    assert subprocess.run(["unzip", "-tqq", path]).returncode == 0


def test_an_archive_that_nobody_reads_is_closed_without_python(path: Path) -> None:
    """Python drops an interrupt that comes while a `__del__` runs."""
    path.write_bytes(b"")
    file = entry.File(str(path))
    fd = file.fd
    assert not hasattr(file, "__del__")
    assert os.fstat(fd).st_ino == file.inode
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
