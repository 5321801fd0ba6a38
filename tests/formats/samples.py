"""Each format that holdall writes: how a sample of it is made, and what a reader must find in it.

`python -m tests.formats.samples` makes the samples of this version and keeps them in `VERSION.tar.gz` beside
this file. It is run once, when a version is published; what is there already is never made again, since it
shows what an older library wrote. To look at a format, unpack it: `tar xf tests/formats/0.1.0.tar.gz`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psycopg
import redis
from tests.servers.postgresql import PostgresServer, program
from tests.servers.valkey import ValkeyServer

import holdall
from holdall import (
    BlobStore,
    CachingStore,
    ChecksumStore,
    CompressedStore,
    EncryptedStore,
    FilesystemStore,
    GitStore,
    HashdirStore,
    SqliteStore,
    SqlStore,
    Store,
    ValkeyStore,
    ValueStore,
    ZipStore,
    copy_store,
    get_store,
)
from holdall import cached as cached_calls
from holdall.values import joined, serializers

HERE = Path(__file__).parent
KEY = bytes(range(32))
"""The key of what is encrypted or signed."""
BLOBS = {"a": b"1", "a/b": b"", "notes/Zoë: a?.txt": b"hello\n" * 20, "large": bytes(70_000)}
"""In a folder, `a` can't be beside `a/b`."""
FLAT = {key: data for key, data in BLOBS.items() if key != "a"}
SMALL = {key: data for key, data in FLAT.items() if key != "large"}
"""What is encrypted can't be compressed in the archive."""
OBJECTS: dict[str, Any] = {"run/1": {"rate": 0.1}, "run/2": b"bytes", "array": np.arange(6.0).reshape(2, 3)}


class Format(NamedTuple):
    """How a sample is made in an empty folder, and how it is checked there."""

    make: Callable[[Path], None]
    check: Callable[[Path], None]


FORMATS: dict[str, Format] = {}


def _check_blobs(store: Store, blobs: dict[str, bytes]) -> None:
    assert dict(store.items()) == blobs
    assert {info.key: info.size for info in store.list()} == {key: len(data) for key, data in blobs.items()}


def _add_store(name: str, opened: Callable[[Path], Store], blobs: dict[str, bytes] = BLOBS) -> None:
    def make(folder: Path) -> None:
        with opened(folder) as store:
            for key, data in blobs.items():
                store.put(key, iter([data]) if key == "large" else data)

    def check(folder: Path) -> None:
        with opened(folder) as store:
            _check_blobs(store, blobs)
            store["new"] = b"written by this version"
            _check_blobs(store, {**blobs, "new": b"written by this version"})

    FORMATS[name] = Format(make, check)


_add_store("folder", FilesystemStore, FLAT)
_add_store("hashdir", HashdirStore)
_add_store("sqlite", lambda folder: SqliteStore(folder / "store.db"))
_add_store("zip", lambda folder: ZipStore(folder / "store.zip"))
_add_store("git", lambda folder: GitStore(folder, author="A <a@example.org>"), FLAT)
_add_store("encrypted", lambda folder: EncryptedStore(FilesystemStore(folder), KEY), SMALL)
_add_store("encrypted-names", lambda folder: EncryptedStore(FilesystemStore(folder), KEY, names=KEY), SMALL)
for _codec in ("zstd", "lz4", "gzip"):
    _add_store(
        f"compressed-{_codec}",
        lambda folder, codec=_codec: CompressedStore(FilesystemStore(folder), codec),
        FLAT,
    )
for _digest in ("sha256", "blake3"):

    def _checked(folder: Path, algorithm: str = _digest) -> Store:
        return ChecksumStore(FilesystemStore(folder), algorithm)

    _add_store(f"checksum-{_digest}", _checked, FLAT)


def _make_zip_journal(folder: Path) -> None:
    store = ZipStore(folder / "open.zip")
    store.update({"archived": b"1"})
    store.flush()
    store.put("in the journal", b"2", content_type="text/plain")
    for name in ("open.zip", "open.zip.journal"):
        shutil.copy(folder / name, folder / f"killed-{name}")
    store.close()
    (folder / "open.zip").unlink()


def _check_zip_journal(folder: Path) -> None:
    with ZipStore(folder / "killed-open.zip") as store:
        _check_blobs(store, {"archived": b"1", "in the journal": b"2"})
        assert store.info("in the journal").content_type == "text/plain"


FORMATS["zip-journal"] = Format(_make_zip_journal, _check_zip_journal)


def cached(folder: Path, mode: str) -> CachingStore:
    return CachingStore(
        FilesystemStore(folder / "source"), FilesystemStore(folder / "cache"), mode, sync_on_close=False
    )


def _make_cache(folder: Path) -> None:
    with cached(folder, "write-through") as store:
        store["kept"] = b"a copy"
        assert store["kept"] == b"a copy"


def _check_cache(folder: Path) -> None:
    source = FilesystemStore(folder / "source")
    # The copy of the tar file has another ETag, so the cache is asked without the source's opinion.
    with CachingStore(source, FilesystemStore(folder / "cache"), fresh="immutable") as store:
        assert store["kept"] == b"a copy"
        assert store.stats().hits == 1


FORMATS["cache"] = Format(_make_cache, _check_cache)


def _make_write_back(folder: Path) -> None:
    with cached(folder, "write-back") as store:
        store["waits"] = b"not at the source yet"
        store["removed"] = b"1"
        del store["removed"]


def _check_write_back(folder: Path) -> None:
    with cached(folder, "write-back") as store:
        assert store["waits"] == b"not at the source yet"
        assert store.sync().uploaded == ("waits",)
    assert FilesystemStore(folder / "source")["waits"] == b"not at the source yet"


FORMATS["write-back"] = Format(_make_write_back, _check_write_back)


class Moved(FilesystemStore):
    """A folder that a journal knows by its name, wherever it is."""

    def _settings(self) -> dict[str, object]:
        return {"path": Path(self._given).name}


def _make_transfer_journal(folder: Path) -> None:
    Moved(folder / "source").update(FLAT)
    copy_store(Moved(folder / "source"), Moved(folder / "target"), journal=folder / "journal")


def _check_transfer_journal(folder: Path) -> None:
    source, target = Moved(folder / "source"), Moved(folder / "target")
    source["new"] = b"since then"
    report = copy_store(source, target, journal=folder / "journal")
    assert (report.copied, report.skipped) == (1, len(FLAT))
    assert dict(target.items()) == {**FLAT, "new": b"since then"}


FORMATS["transfer-journal"] = Format(_make_transfer_journal, _check_transfer_journal)


def _make_locks(folder: Path) -> None:
    with FilesystemStore(folder) as store, store.lock("job"):
        store.counter("visits").increment(7)


def _check_locks(folder: Path) -> None:
    with FilesystemStore(folder) as store:
        before = json.loads(store["job"])["token"]
        with store.lock("job") as lock:
            assert lock.token > before
        assert store.counter("visits").increment() == 8


def _computed(folder: Path) -> bool:
    calls: list[int] = []

    @cached_calls(FilesystemStore(folder), key=lambda count: count)
    def squares(count: int) -> list[int]:
        calls.append(count)
        return [number**2 for number in range(count)]

    assert squares(4) == [0, 1, 4, 9]
    return bool(calls)


def _check_calls(folder: Path) -> None:
    assert not _computed(folder)


FORMATS["calls"] = Format(lambda folder: _computed(folder) and None, _check_calls)


FORMATS["locks"] = Format(_make_locks, _check_locks)


TYPED: dict[str, Any] = {
    "text": "a str",
    "bytes": b"bytes",
    "json": {"a": [1, None]},
    "array": np.arange(3.0),
    "pickle": {1, 2},
}


def typed(folder: Path) -> ValueStore:
    """The values of a sample."""
    return get_store(str(folder), serialization_mode="typed")


def _make_typed(folder: Path) -> None:
    typed(folder).update(TYPED)


def _check_typed(folder: Path) -> None:
    np.testing.assert_equal(dict(typed(folder).items()), TYPED)


FORMATS["typed"] = Format(_make_typed, _check_typed)

VALUES: dict[str, tuple[str, Any]] = {
    "signed-pickle": ("pickle", {"set": {1, 2}, "complex": 1j}),
    "array-npy": ("npy", np.array(["a", "bc"])),
    "array-b2nd": ("b2nd", np.zeros((300, 300))),
    "json": ("json", {"a": [1, 2.5, None, "ü"]}),
    "yaml": ("yaml", {"a": [1, 2.5, None, "ü"]}),
}


def serializer_of(name: str) -> Any:
    if name != "pickle":
        return next(each for each in serializers if each.name == name)
    from holdall.values.pickles import PickleSerializer

    return PickleSerializer(key=KEY)


def _make_values(folder: Path) -> None:
    for name, (form, value) in VALUES.items():
        (folder / name).write_bytes(joined(serializer_of(form).encode(value)))


def _check_values(folder: Path) -> None:
    for name, (form, value) in VALUES.items():
        if (folder / name).exists():
            np.testing.assert_equal(serializer_of(form).decode((folder / name).read_bytes()), value)


FORMATS["values"] = Format(_make_values, _check_values)


def _fill(store: BlobStore) -> None:
    for key, value in OBJECTS.items():
        store.put(value, key=key, metadata={"loss": 0.5, "tags": ["x"]})
    store.put({"rate": 0.2}, key="run/1", metadata={"loss": 0.25}, inputs=["run/2"])
    store.alias("best", "run/1", 1)


def _check_catalog(store: BlobStore) -> None:
    expected = {**OBJECTS, "run/1": {"rate": 0.2}}
    assert store.list() == sorted(expected)
    for key, value in expected.items():
        np.testing.assert_equal(store.get(key), value)
    assert store.get("run/1", version=1) == OBJECTS["run/1"]
    assert (store.resolve("best").key, store.resolve("best").version) == ("run/1", 1)
    assert store.entry("run/2").metadata == {"loss": 0.5, "tags": ["x"]}
    assert [entry.key for entry in store.find({"metadata.loss": {"<": 0.3}})] == ["run/1"]
    assert [each.key for each in store.entry("run/1").inputs] == ["run/2"]
    assert store.verify().ok
    store.put("by this version", key="new")
    assert store.get("new") == "by this version"


def _add_catalog(backend: str) -> None:
    def make(folder: Path) -> None:
        with BlobStore(folder, backend=backend, keep=True) as store:
            _fill(store)

    def check(folder: Path) -> None:
        with BlobStore(folder, keep=True) as store:
            _check_catalog(store)

    FORMATS[f"catalog-{backend}"] = Format(make, check)


_add_catalog("json")
_add_catalog("sqlite")


def _make_export(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as other, BlobStore(other, keep=True) as store:
        _fill(store)
        store.export(folder / "export.zip")


def _check_export(folder: Path) -> None:
    with BlobStore(folder / "imported", keep=True) as store:
        store.import_from(folder / "export.zip")
        _check_catalog(store)


FORMATS["catalog-export"] = Format(_make_export, _check_export)


def _make_valkey(folder: Path) -> None:
    with ValkeyServer() as server:
        with ValkeyStore(f"valkey://127.0.0.1:{server.port}") as store:
            store.update(BLOBS)
            store.put("typed", b"1", content_type="text/plain")
        client: Any = redis.Redis(port=server.port)
        lines = [
            f"{b64encode(name).decode()} {b64encode(client.dump(name)).decode()}\n"
            for name in sorted(client.keys())
        ]
        client.close()
    (folder / "dump").write_text("".join(lines))


def restore(folder: Path, port: int) -> None:
    """Give a Valkey server what a sample holds."""
    client: Any = redis.Redis(port=port)
    for line in (folder / "dump").read_text().splitlines():
        name, value = map(b64decode, line.split())
        client.restore(name, 0, value)
    client.close()


def _check_valkey(folder: Path) -> None:
    with ValkeyServer() as server:
        restore(folder, server.port)
        with ValkeyStore(f"valkey://127.0.0.1:{server.port}") as store:
            _check_blobs(store, {**BLOBS, "typed": b"1"})
            assert store.info("typed").content_type == "text/plain"


FORMATS["valkey"] = Format(_make_valkey, _check_valkey)


def _make_postgresql(folder: Path) -> None:
    with PostgresServer() as server:
        with SqlStore(server.url) as store:
            store.update(BLOBS)
        with BlobStore(folder / "objects", backend=server.url, keep=True) as catalog:
            _fill(catalog)
        command = [program("pg_dump"), "--no-owner", "--no-privileges", "--inserts", server.url]
        dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # What begins with a backslash is for the program psql.
    lines = [line for line in dump.splitlines() if line and not line.startswith(("--", "\\"))]
    (folder / "dump.sql").write_text("\n".join(lines) + "\n")


def _check_postgresql(folder: Path) -> None:
    with PostgresServer() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute((folder / "dump.sql").read_bytes())
        with SqlStore(server.url) as store:
            _check_blobs(store, BLOBS)
        with BlobStore(folder / "objects", backend=server.url, keep=True) as catalog:
            _check_catalog(catalog)


FORMATS["postgresql"] = Format(_make_postgresql, _check_postgresql)


def _write(path: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as made,
        tarfile.open(path, "x:gz", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, form in FORMATS.items():
            folder = Path(made, name)
            folder.mkdir()
            form.make(folder)
            for hook in folder.glob(".git/hooks/*"):
                hook.unlink()
            archive.add(folder, name)


def main() -> None:
    """Make the samples of this version."""
    os.environ["HOLDALL_PICKLE_KEY"] = KEY.hex()
    _write(HERE / f"{holdall.__version__}.tar.gz")


if __name__ == "__main__":
    main()
