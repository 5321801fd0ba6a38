"""What an older library wrote is read, and what a newer one wrote is refused and left as it is."""

from __future__ import annotations

import gc
import sqlite3
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import redis
from tests.formats.samples import FORMATS, HERE, KEY, VALUES, cached, restore, serializer_of, typed
from tests.servers.postgresql import PostgresServer
from tests.servers.valkey import ValkeyServer

from holdall import (
    BlobStore,
    CachingStore,
    ChecksumStore,
    CompressedStore,
    EncryptedStore,
    FilesystemStore,
    GitStore,
    HashdirStore,
    IntegrityError,
    KeyConflictError,
    MemoryStore,
    SerializationError,
    SqliteStore,
    SqlStore,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
    UntrustedDataError,
    ValkeyStore,
    ZipStore,
    copy_store,
)

ARCHIVES = sorted(HERE.glob("*.tar.gz"))


@pytest.fixture(autouse=True)
def key_of_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDALL_PICKLE_KEY", KEY.hex())


def unpack(archive: Path, name: str, folder: Path) -> Path:
    with tarfile.open(archive) as kept:
        members = [each for each in kept.getmembers() if each.name.partition("/")[0] == name]
        kept.extractall(folder, members, filter="data")
    return folder / name


def names_in(archive: Path) -> list[str]:
    with tarfile.open(archive) as kept:
        return sorted({each.partition("/")[0] for each in kept.getnames()})


@pytest.mark.parametrize(
    ("archive", "name"),
    [pytest.param(each, name, id=f"{each.name[:-7]}-{name}") for each in ARCHIVES for name in names_in(each)],
)
def test_what_an_older_version_wrote_is_read(archive: Path, name: str, tmp_path: Path) -> None:
    FORMATS[name].check(unpack(archive, name, tmp_path))


def test_every_format_has_a_sample() -> None:
    assert ARCHIVES
    assert names_in(ARCHIVES[-1]) == sorted(FORMATS)


class Newer(NamedTuple):
    """What a newer version would write, and the calls that refuse it."""

    sample: str
    change: Callable[[Path], object]
    calls: list[Callable[[Path], object]]
    error: type[StoreError]
    match: str = "newer version of holdall"


def swapped(old: bytes, new: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        found = [path for path in folder.rglob("*") if path.is_file() and old in path.read_bytes()]
        assert found
        for path in found:
            path.write_bytes(path.read_bytes().replace(old, new))

    return change


def altered(pattern: str, *statements: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (path,) = folder.glob(pattern)
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return change


def newer_log(folder: Path) -> None:
    """The journal of a catalogue in JSON has a checksum before each line."""
    (path,) = folder.glob("*.log")
    line = path.read_bytes().split(b"\n")[0].partition(b" ")[2].replace(b'"journal": 1', b'"journal": 2')
    path.write_bytes(b"%08x %s\n" % (zlib.crc32(line), line))


def newer_manifest(folder: Path) -> None:
    with zipfile.ZipFile(folder / "export.zip") as old, zipfile.ZipFile(folder / "new.zip", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith(".json") and b'"format": 1' in data[:200]:
                data = data.replace(b'"format": 1', b'"format": 2', 1)
            new.writestr(name, data)
    (folder / "new.zip").replace(folder / "export.zip")


def begun_by_a_newer_version(folder: Path) -> None:
    path = folder / ".git/holdall/journal"
    path.write_bytes(b"2" + path.read_bytes()[1:])


def get(opened: Callable[[Path], Any], key: str = "large") -> Callable[[Path], object]:
    return lambda folder: opened(folder)[key]


def put(opened: Callable[[Path], Any]) -> Callable[[Path], object]:
    return lambda folder: opened(folder).put("new", b"1")


def listed(opened: Callable[[Path], Any]) -> Callable[[Path], object]:
    return lambda folder: list(opened(folder).list())


def decoded(name: str) -> Callable[[Path], object]:
    return lambda folder: serializer_of(VALUES[name][0]).decode((folder / name).read_bytes())


def over(layer: Callable[..., Any], *options: object) -> Callable[[Path], Any]:
    return lambda folder: layer(FilesystemStore(folder), *options)


def database(folder: Path) -> SqliteStore:
    return SqliteStore(folder / "store.db")


def archive_of(folder: Path) -> ZipStore:
    return ZipStore(folder / "killed-open.zip")


def write_back(folder: Path) -> CachingStore:
    return cached(folder, "write-back")


def import_export(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as other, BlobStore(other) as store:
        store.import_from(folder / "export.zip")


encrypted, compressed, checked = over(EncryptedStore, KEY), over(CompressedStore), over(ChecksumStore)
NEWER = [
    Newer(
        "hashdir",
        lambda folder: (folder / ".holdall~hashdir").write_text("2 3 v2"),
        [get(HashdirStore), put(HashdirStore)],
        StoreUnavailableError,
    ),
    Newer(
        "sqlite",
        altered("store.db", "ALTER TABLE holdall_v1_blobs RENAME TO holdall_v2_blobs"),
        [get(database), put(database), listed(database)],
        StoreUnavailableError,
    ),
    Newer(
        "zip-journal",
        swapped(b"holdzip\x02", b"holdzip\x03"),
        [get(archive_of, "archived"), put(archive_of), listed(archive_of)],
        IntegrityError,
        "another version of holdall",
    ),
    Newer(
        "git",
        begun_by_a_newer_version,
        [get(GitStore), put(partial(GitStore, author="A <a@b.c>")), listed(GitStore)],
        StoreUnavailableError,
    ),
    Newer(
        "encrypted",
        swapped(b"hldlkey2", b"hldlkey3"),
        [get(encrypted, "a/b"), put(encrypted)],
        IntegrityError,
    ),
    Newer(
        "encrypted",
        swapped(b"hldlaes\x02", b"hldlaes\x03"),
        [get(encrypted, "a/b")],
        IntegrityError,
        "another version of holdall",
    ),
    Newer(
        "compressed-lz4",
        swapped(b"holdall4", b"holdall5"),
        [get(compressed), listed(compressed)],
        IntegrityError,
    ),
    Newer(
        "compressed-gzip",
        swapped(b"holdallz", b"holdally"),
        [get(compressed), listed(compressed)],
        IntegrityError,
    ),
    Newer(
        "compressed-zstd",
        swapped(b"\xb1\xea\x92\x8f", b"\xb2\xea\x92\x8f"),
        [get(compressed), listed(compressed)],
        IntegrityError,
    ),
    Newer("checksum-sha256", swapped(b"\x01hldlsum", b"\x09hldlsum"), [get(checked)], IntegrityError),
    Newer("write-back", swapped(b"hdc1", b"hdc9"), [get(write_back, "waits")], IntegrityError),
    Newer(
        "transfer-journal",
        altered("journal", "PRAGMA user_version = 2"),
        [lambda folder: copy_store(MemoryStore(), MemoryStore(), journal=folder / "journal")],
        StoreUnavailableError,
    ),
    Newer("typed", swapped(b"hldtype1", b"hldtype2"), [get(typed, "text")], SerializationError),
    Newer(
        "locks",
        swapped(b'"version": 1', b'"version": 2'),
        [lambda folder: FilesystemStore(folder).lock("job", wait=0).__enter__()],
        SerializationError,
        "newer holdall",
    ),
    Newer("values", swapped(b"hldpick2", b"hldpick3"), [decoded("signed-pickle")], UntrustedDataError),
    Newer("values", swapped(b"hldb2nd1", b"hldb2nd2"), [decoded("array-b2nd")], SerializationError),
    Newer(
        "catalog-json",
        swapped(b'"version": 1,\n  "', b'"version": 2,\n  "'),
        [lambda folder: BlobStore(folder).list(), lambda folder: BlobStore(folder).put(1, key="a")],
        UnsupportedOperation,
        "newer holdall",
    ),
    Newer(
        "catalog-json",
        newer_log,
        [lambda folder: BlobStore(folder).list(), lambda folder: BlobStore(folder).put(1, key="a")],
        UnsupportedOperation,
        "newer holdall",
    ),
    Newer(
        "catalog-sqlite",
        altered("*.db", "ALTER TABLE holdall_catalog_v1_entries RENAME TO holdall_catalog_v2_entries"),
        [lambda folder: BlobStore(folder).list(), lambda folder: BlobStore(folder).put(1, key="a")],
        StoreUnavailableError,
    ),
    Newer("catalog-export", newer_manifest, [import_export], IntegrityError, "install a newer one"),
]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("newer", NEWER, ids=lambda each: each.sample)
def test_what_a_newer_version_wrote_is_refused_and_left_as_it_is(newer: Newer, tmp_path: Path) -> None:
    folder = unpack(ARCHIVES[-1], newer.sample, tmp_path)
    newer.change(folder)
    before = contents(folder)
    for call in newer.calls:
        with pytest.raises(newer.error, match=newer.match):
            call(folder)
    gc.collect()  # closes the stores
    after = contents(folder)
    # SQLite's own two files may come, and go.
    assert {name: after.get(name) for name in before if not name.endswith(("-wal", "-shm"))} == {
        name: data for name, data in before.items() if not name.endswith(("-wal", "-shm"))
    }


def test_a_sweep_leaves_the_blobs_of_a_newer_version(tmp_path: Path) -> None:
    folder = unpack(ARCHIVES[-1], "catalog-json", tmp_path)
    swapped(b'"holdall": "catalog", "format": 1', b'"holdall": "catalog", "format": 2')(folder)
    before = contents(folder / "blobs")
    with BlobStore(folder, keep=True) as store:
        store.delete("array")
        with pytest.raises(IntegrityError, match="newer version of holdall"):
            store.collect(grace=0, max_share=1)
    assert contents(folder / "blobs") == before


def test_a_copy_in_a_cache_that_a_newer_version_wrote_is_fetched_again(tmp_path: Path) -> None:
    folder = unpack(ARCHIVES[-1], "cache", tmp_path)
    swapped(b"hdc1", b"hdc9")(folder)
    with cached(folder, "write-through") as store:
        assert store["kept"] == b"a copy"
        assert store.stats().misses == 1


def test_a_result_of_a_call_that_a_newer_version_wrote_is_computed_again(tmp_path: Path) -> None:
    folder = unpack(ARCHIVES[-1], "calls", tmp_path)
    swapped(b"hldcall1", b"hldcall2")(folder)
    with pytest.warns(RuntimeWarning, match="computed again"), pytest.raises(AssertionError):
        FORMATS["calls"].check(folder)


def test_a_blob_of_a_newer_version_in_valkey(tmp_path: Path) -> None:
    folder = unpack(ARCHIVES[-1], "valkey", tmp_path)
    with ValkeyServer() as server:
        restore(folder, server.port)
        raw: Any = redis.Redis(port=server.port)
        newer = b"hdl2" + raw.get("holdall:b:a")[4:]
        raw.set("holdall:b:a", newer)
        with ValkeyStore(f"valkey://127.0.0.1:{server.port}") as store:
            for call in (
                lambda: store["a"],
                lambda: store.info("a"),
                lambda: store.exists("a"),
                lambda: store.get_range("a", 0, 1),
                lambda: store.get_many(["a"]),
                lambda: list(store.list()),
                lambda: list(store),
            ):
                with pytest.raises(StoreUnavailableError, match="newer version of holdall"):
                    call()
            for write in (lambda: store.put("a", b""), lambda: store.put_many({"a": b""})):
                with pytest.raises(KeyConflictError, match="newer version of holdall"):
                    write()
            assert not store.delete("a")
            with pytest.raises(StoreUnavailableError):
                list(store)  # it is in the list of keys, too
        assert raw.get("holdall:b:a") == newer
        raw.close()


def test_the_tables_of_a_newer_version_in_postgresql() -> None:
    with PostgresServer() as server, SqlStore(server.url) as store, psycopg.connect(server.url) as raw:
        store["a"] = b"1"
        raw.execute("ALTER TABLE holdall RENAME COLUMN data TO bytes")
        raw.commit()
        for call in (lambda: store["a"], lambda: store.put("a", b""), lambda: list(store.list())):
            with pytest.raises(KeyConflictError, match="newer version of holdall"):
                call()
