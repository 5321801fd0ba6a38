"""Claims of README.md and docs/ that neither a snippet nor another test shows: a test for each, by page."""

from __future__ import annotations

import builtins
import os
import pickle
import re
import shutil
import sqlite3
import subprocess
import tomllib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.test_docs import ROOT, STORES, table

import holdall
from holdall import (
    ABSENT,
    BlobNotFoundError,
    ChecksumStore,
    ConcurrencyError,
    DeleteRefusedError,
    EncryptedStore,
    FanoutStore,
    FilesystemStore,
    GitStore,
    HashdirStore,
    IntegrityError,
    InvalidArgumentError,
    MemoryStore,
    PathBlobDict,
    SqliteStore,
    Store,
    StoreUnavailableError,
    StrBlob,
    ZipStore,
    copy_store,
    sync_stores,
)
from holdall.cli.app import _COMMANDS
from holdall.testing import Flaky


def test_the_pages_list_every_error_and_extra() -> None:
    text = "".join((ROOT / "docs" / name).read_text() for name in ("errors.md", "installing.md"))
    for row in table(ROOT / "docs/errors.md", "error")[1:]:
        for name in re.findall(r"`(\w+Error|UnsupportedOperation)`", row[0]):
            for base in re.findall(r"`(\w+)`", row[1].partition("(")[0]):
                found = getattr(builtins, base, None) or getattr(holdall, base)
                assert issubclass(getattr(holdall, name), found), (name, base)
    listed = set(re.findall(r"`(\w+)`", text))
    # These are kinds of errors that are listed, for a wrong type.
    kinds = {"InvalidTypeError", "InvalidKeyTypeError"}
    errors = {
        name
        for name in holdall.__all__
        if isinstance(found := getattr(holdall, name), type) and issubclass(found, holdall.StoreError)
    }
    assert errors - kinds <= listed
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) <= listed
    assert "video" not in extras["all"][0]


def test_each_stores_means_are_in_the_table_of_promises() -> None:
    text = " ".join(row[0] for row in table(ROOT / "docs/promises.md", "store"))
    assert [store.__name__ for store in STORES if f"`{store.__name__}`" not in text] == []


URIS = ["memory://", "sqlite:///box.db", "zip://box.zip"]
FOLDERS = ["./files", "hashdir://hashed"]


@pytest.mark.parametrize("uri", URIS + FOLDERS)
@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_a_file_never_mixes_two_versions(
    uri: str, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.from_uri(uri) as store:
        store["a"] = b"1" * 5_000_000
        with store.open("a") as file:
            file.read(1)
            if change == "replaced":
                store["a"] = b"2" * 5_000_000
            else:
                store.delete("a")
            file.seek(4_000_000)
            if uri in FOLDERS:
                assert file.read() == b"1" * 1_000_000
            else:
                with pytest.raises(ConcurrencyError if change == "replaced" else BlobNotFoundError):
                    file.read()


@pytest.mark.parametrize("uri", [*URIS[1:], *FOLDERS, "git+file://tree"])
def test_opening_and_reading_make_nothing(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.from_uri(uri) as store:
        assert (list(store), store.get("a"), "a" in store, store.delete("a")) == ([], None, False, False)
    assert os.listdir() == []


def test_copies_that_keep_the_times_keep_the_etags_of_a_folder(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "files")
    store["a"] = b"1"
    # A time that isn't a whole second, which the classic format of tar would cut off.
    os.utime(tmp_path / "files/a", ns=(0, 1_700_000_000_123_456_789))
    for name, command in (
        ("kept", "cp -a files kept"),
        ("new", "cp -r files new"),
        ("packed", "mkdir packed && tar --format=posix -cf - -C files . | tar -xf - -C packed"),
    ):
        subprocess.run(command, shell=True, check=True, cwd=tmp_path)
        same = FilesystemStore(tmp_path / name).info("a").etag == store.info("a").etag
        assert same == (name != "new"), name


def test_the_expect_of_a_copy_and_a_move_is_about_the_target() -> None:
    store = MemoryStore({"a": b"1", "b": b"2"})
    for act in (store.copy, store.move):
        with pytest.raises(ConcurrencyError):
            act("a", "b", expect=store.info("a").etag)
    assert store.copy("a", "b", expect=store.info("b").etag).size == 1
    assert store.move("a", "b", expect=store.info("b").etag).size == 1
    assert dict(store.items()) == {"b": b"1"}


def test_a_put_drops_what_a_modify_a_copy_and_a_move_keep() -> None:
    store = MemoryStore()
    store.put("a", b"1", content_type="text/plain", ttl=60)
    store.modify("a", lambda old: old + b"2")
    store.copy("a", "b")
    store.move("b", "c")
    for key in ("a", "c"):
        info = store.info(key)
        assert info.content_type == "text/plain"
        assert info.expires is not None
    store["a"] = b"3"
    info = store.info("a")
    assert (info.content_type, info.expires) == (None, None)


def test_where_a_store_differs_from_a_dict() -> None:
    store, other = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore({"a": b"1", "b": b"2"})
    assert store != other
    assert dict(store.items()) == dict(other.items())
    assert store.popitem() == ("a", b"1")
    with pytest.raises(TypeError):
        _ = store | other  # type: ignore
    with pytest.raises(TypeError):
        reversed(store)  # type: ignore
    assert not hasattr(store, "fromkeys")


def test_the_home_folder_is_meant_at_the_beginning_of_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in (Store.from_uri("~/x"), FilesystemStore("~/x")):
        assert repr(folder) == f"FilesystemStore('{tmp_path}/home/x')"
    assert repr(Store.from_uri("sqlite:///~/x.db")) == f"SqliteStore('{tmp_path}/home/x.db')"
    assert repr(ZipStore("~/x.zip")) == f"ZipStore('{tmp_path}/home/x.zip')"
    assert repr(FilesystemStore("./~/x")) == f"FilesystemStore('{tmp_path}/~/x')"


def test_an_edit_that_was_not_committed_is_lost_by_a_put_or_a_delete_without_expect(tmp_path: Path) -> None:
    with GitStore(tmp_path, author="A <a@b.c>") as store:
        etags = {key: info.etag for key, info in store.put_many({"a": b"1", "b": b"1"}).items()}
        for key in etags:
            (tmp_path / key).write_text("edited")
        with pytest.raises(ConcurrencyError):
            store.put("a", b"2", expect=etags["a"])
        with pytest.raises(ConcurrencyError):
            store.delete("b", expect=etags["b"])
        assert store["a"] == store["b"] == b"edited"
        store["a"] = b"2"
        del store["b"]
        assert (tmp_path / "a").read_text() == "2"
        assert not (tmp_path / "b").exists()


def test_what_goes_on_without_the_first_replica() -> None:
    away = Flaky(MemoryStore(), rate=1, seed=1)
    store = FanoutStore({"first": away, "second": MemoryStore(), "third": MemoryStore()}, write=2)
    store["a"] = b"1"
    assert (store["a"], list(store), store.setdefault("a", b"2")) == (b"1", ["a"], b"1")
    calls: list[Callable[[], object]] = [
        lambda: store.put("a", b"2", expect=store.info("a").etag),
        lambda: store.put("b", b"2", expect=ABSENT),
        lambda: store.modify("a", lambda old: old),
        lambda: store.setdefault("b", b"2"),
        lambda: store.pop("a"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailableError):
            call()
    assert store.delete("a")
    assert list(store) == []


def test_a_checksum_is_looked_at_by_whole_reads_only() -> None:
    below = MemoryStore({"long": b"x" * 100, "short": b"x" * 10})
    store = ChecksumStore(below)
    # Of what was put below without the layer, the last 48 bytes are taken for a digest.
    assert {info.key: info.size for info in store.list()} == {"long": 52, "short": 0}
    store["a"] = b"precious"
    below["a"] = b"P" + below["a"][1:]
    assert store.copy("a", "b").size == store.move("b", "c").size == 8
    for key in ("long", "short", "a", "c"):
        with pytest.raises(IntegrityError):
            store[key]


def test_a_key_file_is_looked_for_where_a_pickle_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    key = Path("key")
    key.touch(0o600)
    key.write_text(EncryptedStore.generate_key().hex())
    store = EncryptedStore(FilesystemStore("files"), "file:key")
    store["a"] = b"1"
    pickled = pickle.dumps(store)
    assert pickle.loads(pickled)["a"] == b"1"
    monkeypatch.chdir("elsewhere")
    with pytest.raises(InvalidArgumentError, match="key"):
        pickle.loads(pickled)


def test_a_dict_with_compression_lists_what_it_cannot_read(tmp_path: Path) -> None:
    with PathBlobDict(tmp_path, compression="gzip") as d:
        d["a.txt"] = StrBlob("a")
        (tmp_path / "b.txt").write_text("not compressed")
        assert (list(d), len(d)) == (["a.txt", "b.txt"], 2)
        with pytest.raises(IntegrityError):
            d["b.txt"]


def test_a_limit_of_deletes_is_a_number_or_a_share() -> None:
    source = MemoryStore({"new": b""})
    for limit, allowed in ((1, True), (1.0, True), (0.5, False)):
        target = MemoryStore({"old": b""})
        if allowed:
            assert sync_stores(source, target, max_delete=limit).deleted == 1
        else:
            with pytest.raises(DeleteRefusedError, match="1 of 1"):
                sync_stores(source, target, max_delete=limit)
    many = MemoryStore({str(number): b"" for number in range(4)})
    with pytest.raises(DeleteRefusedError):
        sync_stores(source, many, max_delete=1)
    assert sync_stores(source, many, max_delete=1.0).deleted == 4


def test_etags_of_two_stores_are_never_equal(tmp_path: Path) -> None:
    source, target = FilesystemStore(tmp_path / "a"), FilesystemStore(tmp_path / "b")
    source["x"] = b"1"
    for compare, copied in (("auto", 1), ("etag", 1), ("etag", 1), ("auto", 0)):
        assert copy_store(source, target, compare=compare).copied == copied


def test_a_copy_keeps_neither_times_nor_empty_folders(tmp_path: Path) -> None:
    source, target = FilesystemStore(tmp_path / "a"), FilesystemStore(tmp_path / "b")
    source["x"] = b"1"
    (tmp_path / "a/empty").mkdir()
    os.utime(tmp_path / "a/x", (1e9, 1e9))
    begun = datetime.now(UTC) - timedelta(seconds=5)
    assert copy_store(source, target).left_out == {}
    assert target.info("x").modified > begun
    assert source.copy("x", "y").modified > begun
    assert source.move("x", "z").modified == datetime.fromtimestamp(1e9, UTC)
    assert os.listdir(tmp_path / "b") == ["x"]


def test_no_executor_takes_a_store_in_memory(tmp_path: Path) -> None:
    source = FilesystemStore(tmp_path / "a")
    source["x"] = b"1"
    target = MemoryStore()
    # It is refused before a worker starts.
    with ProcessPoolExecutor(1) as executor, pytest.raises(InvalidArgumentError, match="memory"):
        copy_store(source, target, executor=executor)
    assert len(target) == 0


def test_a_journal_can_be_deleted_after_success(tmp_path: Path) -> None:
    source, target = FilesystemStore(tmp_path / "a"), FilesystemStore(tmp_path / "b")
    source["x"] = b"1"
    journal = tmp_path / "journal"
    assert sync_stores(source, target, journal=journal).copied == 1
    # A finished one serves another selection too, but no other kind of transfer.
    assert sync_stores(source, target, journal=journal, prefix="x").skipped == 1
    with pytest.raises(InvalidArgumentError, match="another kind"):
        copy_store(source, target, journal=journal)
    journal.unlink()
    assert sync_stores(source, target, journal=journal).skipped == 1


def test_backups_of_a_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    large = b"1" * 3_000_000
    with SqliteStore(path) as store:
        store["a"] = large
        shutil.copy(path, tmp_path / "torn.db")
        with sqlite3.connect(path) as old, sqlite3.connect(tmp_path / "backup.db") as new:
            old.backup(new)
        old.close()
        new.close()
    shutil.copy(path, tmp_path / "closed.db")
    found = {name: list(SqliteStore(tmp_path / f"{name}.db")) for name in ("torn", "backup", "closed")}
    assert found == {"torn": [], "backup": ["a"], "closed": ["a"]}
    assert SqliteStore(tmp_path / "backup.db")["a"] == large


def test_backups_of_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with ZipStore(path) as store:
        store["a"] = b"1"
        store.flush()
        store["b"] = b"2"
        for name, ends in (("alone", [""]), ("both", ["", ".journal"])):
            for end in ends:
                shutil.copy(f"{path}{end}", tmp_path / f"{name}.zip{end}")
    assert list(ZipStore(tmp_path / "alone.zip")) == ["a"]
    assert list(ZipStore(tmp_path / "both.zip")) == ["a", "b"]


def test_backups_of_a_hashdir_and_a_repository(tmp_path: Path) -> None:
    with HashdirStore(tmp_path / "h", width=1, depth=2) as hashed:
        hashed["a"] = b"1"
    with GitStore(tmp_path / "g", author="A <a@b.c>") as tracked:
        tracked["a"] = b"1"
    for command in ("cp -a h h2", "cp -a g g2", "git clone -q --mirror g m", "git clone -q m g3"):
        subprocess.run(command.split(), check=True, cwd=tmp_path)
    assert HashdirStore(tmp_path / "h2", width=1, depth=2)["a"] == b"1"
    assert GitStore(tmp_path / "g2")["a"] == GitStore(tmp_path / "g3")["a"] == b"1"


def test_a_format_of_another_version_is_refused(tmp_path: Path) -> None:
    hashed = tmp_path / "h"
    HashdirStore(hashed)["a"] = b"1"
    (hashed / ".holdall~hashdir").write_text("format 9")
    with pytest.raises(StoreUnavailableError, match="newer version"):
        HashdirStore(hashed)
    with ZipStore(tmp_path / "a.zip") as store:
        store.update({"a": b"1"})
        store["b"] = b"2"
        journal = (tmp_path / "a.zip.journal").read_bytes()
    path = tmp_path / "a.zip.journal"
    path.write_bytes(journal[:7] + b"\x09" + journal[8:])
    with pytest.raises(IntegrityError, match="another version"):
        list(ZipStore(tmp_path / "a.zip"))
    assert path.read_bytes()[7] == 9


def test_the_quickstart_lists_every_command() -> None:
    rows = table(ROOT / "docs/quickstart.md", "command")[1:]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    # The page of the catalogue lists those that follow `catalog`.
    assert sorted(listed) == sorted({name.partition(" ")[0] for name in _COMMANDS})
