"""The calls of a file system of fsspec over our stores, and the URLs that it takes."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import resource
import signal
import stat
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.callbacks import Callback
from fsspec.generic import rsync
from tests.forks import forked, succeeds

from holdall import (
    BlobExistsError,
    FilesystemStore,
    InvalidArgumentError,
    InvalidKeyError,
    InvalidTypeError,
    MemoryStore,
    SqliteStore,
    Store,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.interop.fsspec import HoldallFileSystem
from holdall.testing import Counting, Slow
from holdall.uri import schemes


@pytest.fixture(autouse=True)
def registered() -> None:
    # As the entry points of an installed holdall do.
    for protocol in HoldallFileSystem.protocol:
        fsspec.register_implementation(protocol, HoldallFileSystem, clobber=True)


@pytest.fixture(params=["memory", "files", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    makers = {"memory": MemoryStore, "files": FilesystemStore, "sqlite": SqliteStore}
    place = () if request.param == "memory" else (tmp_path / "store",)
    with makers[request.param](*place) as made:
        yield made


def test_each_scheme_has_its_entry_points() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    names = {"holdall", *(f"holdall+{scheme}" for scheme in schemes() if not scheme.startswith("x-"))}
    points = project["entry-points"]
    assert set(points["fsspec.specs"]) == set(points["universal_pathlib.implementations"])
    assert set(points["fsspec.specs"]) == set(HoldallFileSystem.protocol)
    assert set(points["fsspec.specs"]) <= names


@pytest.mark.parametrize(
    ("url", "place", "key"),
    [
        ("sqlite:///{0}/x.db#a/b.csv", "sqlite:///{0}/x.db", "a/b.csv"),
        ("sqlite:///{0}/x.db?durable=1#a/", "sqlite:///{0}/x.db?durable=1", "a"),
        ("sqlite:///{0}/x.db", "sqlite:///{0}/x.db", ""),
        ("sqlite:///{0}/x.db#", "sqlite:///{0}/x.db", ""),
        ("sqlite:///{0}/x.db#a%20b/c%23%3F%25%5Bd%5D", "sqlite:///{0}/x.db", "a b/c#?%[d]"),
        ("sqlite:///{0}/x.db#a/**/*.csv", "sqlite:///{0}/x.db", "a/**/*.csv"),
        ("file://{0}/a/b.csv", "file://{0}/a", "b.csv"),
        ("file://{0}/a/*/b[12].csv?durable=1", "file://{0}/a?durable=1", "*/b[12].csv"),
        ("file://{0}/a%23/*.csv", "file://{0}/a%23", "*.csv"),
        ("memory://pad#a", "memory://pad", "a"),
    ],
)
def test_urls(tmp_path: Path, url: str, place: str, key: str) -> None:
    fs, path = fsspec.url_to_fs("holdall+" + url.format(tmp_path))
    with Store.from_uri(place.format(tmp_path)) as expected:
        assert (repr(fs.store), path) == (repr(expected), key)
    again, same = fsspec.url_to_fs(fs.unstrip_protocol(path))
    assert (again.store.token, same) == (fs.store.token, key)


def test_a_url_that_names_no_value_opens_nothing(tmp_path: Path) -> None:
    place = f"holdall+sqlite:///{tmp_path}/x.db"
    with pytest.raises(InvalidKeyError):
        fsspec.open(f"{place}#a/../b", "w")
    with pytest.raises(InvalidArgumentError, match="before the '#'"):
        fsspec.open(f"{place}#a?durable=1", "w")
    with pytest.raises(InvalidArgumentError, match="storage option 'store'"):
        fsspec.open("holdall://a", "w")
    with pytest.raises(InvalidArgumentError, match="three slashes"):
        fsspec.open("holdall+sqlite://x.db#a", "w")
    fs = HoldallFileSystem(f"sqlite:///{tmp_path}/x.db")
    for write in (fs.open, fs.touch, fs.pipe_file):
        with pytest.raises(IsADirectoryError, match="#KEY"):
            write("", *(("wb",) if write == fs.open else (b"1",) if write == fs.pipe_file else ()))
    assert not [*tmp_path.iterdir()]


def test_variables_in_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE_OF_DATA", f"{tmp_path}/x.db")
    url = "holdall+sqlite:///${PLACE_OF_DATA}"
    with fsspec.open(f"{url}#a", "w") as file:
        file.write("1")
    fs, root = fsspec.url_to_fs(url)
    assert fs.ls(root, detail=False) == ["a"]
    with pytest.raises(InvalidArgumentError, match="ABSENT_PLACE"):
        fsspec.url_to_fs("holdall+sqlite:///${ABSENT_PLACE}.db")


def test_keys_that_look_like_urls() -> None:
    fs = HoldallFileSystem(MemoryStore())
    for name in ("holdall+notes.txt", "holdall+x/y", "holdall", "holdall/a"):
        fs.pipe(name, name.encode())
        assert fs.cat(name) == name.encode()
        fs.rm(name)
    for call in (fs.exists, fs.cat_file, fs.info):
        with pytest.raises(InvalidTypeError, match="not bytes"):
            call(b"a")


def test_a_url_of_another_store_is_refused(tmp_path: Path) -> None:
    one, two = (f"holdall+sqlite:///{tmp_path}/{name}.db#a" for name in ("one", "two"))
    for url in (one, two):
        with fsspec.open(url, "w") as file:
            file.write(url)
    # fsspec opens the store of the first one, and reads all from there.
    files = fsspec.open_files([one, two], "r")
    with pytest.raises(InvalidArgumentError, match="another store"), files:
        pass
    with SqliteStore(tmp_path / "one.db") as store:
        fs = HoldallFileSystem(store)
        assert fs.cat(one).decode() == one
        for call in (fs.cat, fs.info, fs.exists, fs.ls, fs.find, fs.glob, fs.rm, fs.open, fs.isfile):
            with pytest.raises(InvalidArgumentError, match="another store"):
                call(two)
        assert dict(store.items()) == {"a": one.encode()}
    # Those of a folder may lie in folders of it.
    folder = f"holdall+file://{tmp_path}/files"
    with fsspec.open(f"{folder}/a b/c.txt", "w") as file:
        file.write("1")
    fs = HoldallFileSystem(f"file://{tmp_path}/files")
    assert fs.cat(f"{folder}/a%20b/c.txt") == b"1"
    assert fs.cat(fs.unstrip_protocol("a b/c.txt")) == b"1"


def test_chained_urls(tmp_path: Path) -> None:
    place = f"holdall+sqlite:///{tmp_path}/x.db"
    with SqliteStore(tmp_path / "x.db") as store:
        store.update({"dir/a.txt": b"1", "dir/sub/b.txt": b"22"})
        with store.open("inner.zip", "wb") as file, zipfile.ZipFile(file, "w") as inner:
            inner.writestr("x.txt", "inner")
        with fsspec.open(f"zip://x.txt::{place}#inner.zip") as file:
            assert file.read() == b"inner"
        for cache in ("simplecache", "filecache"):
            options = {cache: {"cache_storage": str(tmp_path / cache)}}
            with fsspec.open(f"{cache}::{place}#dir/a.txt", **options) as file:
                assert file.read() == b"1"
        folder = fsspec.filesystem("dir", path="dir", fs=HoldallFileSystem(store))
        assert folder.find("") == ["a.txt", "sub/b.txt"]
        method = {"default_method": "options"}
        rsync(f"{place}#dir", f"file://{tmp_path}/out", inst_kwargs=method)
        assert (tmp_path / "out" / "sub" / "b.txt").read_bytes() == b"22"
        rsync(f"file://{tmp_path}/out", f"{place}#back", inst_kwargs=method)
        assert store.get_many(["back/a.txt", "back/sub/b.txt"]) == {
            "back/a.txt": b"1",
            "back/sub/b.txt": b"22",
        }


def test_a_pickle_and_json_are_the_same_place(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/data.db"
    fs = HoldallFileSystem(SqliteStore(tmp_path / "data.db"))
    fs.pipe("a", b"1")
    again = pickle.loads(pickle.dumps(fs))
    assert again.cat("a") == b"1"
    assert again == fs
    assert hash(again) == hash(fs)
    assert HoldallFileSystem(MemoryStore()) != HoldallFileSystem(MemoryStore())
    named = HoldallFileSystem(uri)
    for made in (
        pickle.loads(pickle.dumps(named)),
        fsspec.AbstractFileSystem.from_json(named.to_json()),
        fsspec.AbstractFileSystem.from_dict(named.to_dict(include_password=False)),
    ):
        assert (made.cat("a"), made.unstrip_protocol("a")) == (b"1", f"holdall+{uri}#a")
    # A store is a mapping, and all its values would be in the text.
    with pytest.raises(UnsupportedOperation, match="no JSON"):
        fs.to_json()


def test_a_password_is_in_no_pickle_and_no_text() -> None:
    uri = "valkey://:open-sesame@127.0.0.1:1"
    fs, path = fsspec.url_to_fs(f"holdall+{uri}#a")
    assert "sesame" not in f"{fs!r} {path} {fs.fsid} {fs._fs_token}"
    assert fs.unstrip_protocol(path) == "holdall://a"
    with pytest.raises(UnsupportedOperation, match="env:NAME"):
        pickle.dumps(fs)
    with pytest.raises(UnsupportedOperation, match="env:NAME"):
        fs.to_dict(include_password=False)
    with pytest.raises(InvalidArgumentError) as caught:
        HoldallFileSystem(MemoryStore()).cat(f"holdall+{uri}#a")
    assert "sesame" not in str(caught.value)


def test_modes_of_writing(store: Store) -> None:
    fs = HoldallFileSystem(store)
    fs.pipe_file("a", b"1", mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe_file("a", b"2", mode="create")
    with pytest.raises(BlobExistsError), fs.open("a", "xb") as file:
        file.write(b"3")
    assert fs.cat("a") == b"1"
    assert fs.cat_file("a", -1) == b"1"
    for call in (fs.cat, fs.cat_file, fs.open, fs.info, fs.rm, fs.size, fs.modified):
        with pytest.raises(FileNotFoundError, match="absent"):
            call("absent")
    with pytest.raises(FileNotFoundError):
        fs.info("a/../b")
    fs.pipe("d/e", b"")
    for call in (fs.rm, fs.modified, fs.checksum):
        with pytest.raises(IsADirectoryError):
            call("d")
    assert fs.exists("d/e")
    fs.touch("e")
    fs.touch("a", truncate=False)
    assert (fs.cat("a"), fs.cat("e"), fs.tail("a", 1), fs.head("a")) == (b"1", b"", b"1", b"1")


@pytest.mark.parametrize("mode", ["wb", "w"])
@pytest.mark.parametrize("compression", [None, "gzip", "infer"])
def test_a_block_that_raises_writes_nothing(store: Store, mode: str, compression: str | None) -> None:
    fs = HoldallFileSystem(store)
    data: Any = b"whole" if mode == "wb" else "whole"
    for transaction in (contextlib.nullcontext(), fs.transaction):
        fs.pipe("a.xz", b"before")
        with transaction:
            file = fs.open("a.xz", mode, compression=compression)
            with contextlib.suppress(ZeroDivisionError), file:
                file.write(data)
                file.write(data * (1 // 0))
        assert store["a.xz"] == b"before"
    with fs.transaction, fs.open("a.xz", mode, compression=compression) as file:
        file.write(data)
    with fs.open("a.xz", mode.replace("w", "r"), compression=compression) as file:
        assert file.read() == data
    assert (store["a.xz"] == b"whole") == (compression is None)
    with fs.open("b.xz", mode, compression=compression) as file:
        file.write(data)
    assert store["b.xz"] == store["a.xz"]
    with pytest.warns(ResourceWarning, match="the file of 'c.xz' was dropped without being closed"):
        fs.open("c.xz", mode, compression=compression).write(data)
    with pytest.raises(InvalidArgumentError, match="gzip"):
        fs.open("c.xz", mode, compression="gz")
    assert not store.exists("c.xz")


def test_transactions(store: Store) -> None:
    fs = HoldallFileSystem(store)
    fs.pipe("old", b"before")
    with contextlib.suppress(ZeroDivisionError), fs.transaction:
        fs.pipe("old", b"after")
        with fs.open("new", "wb") as file:
            file.write(b"new")
        fs.pipe("never", b"%d" % (1 / 0))
    assert dict(store.items()) == {"old": b"before"}
    with contextlib.suppress(KeyboardInterrupt), fs.transaction:
        fs.pipe({"old": b"after", "new": b"new"})
        raise KeyboardInterrupt
    assert dict(store.items()) == {"old": b"before"}
    with fs.transaction:
        fs.pipe({"old": b"after", "other": b"1"})
        with fs.open("new", "wb") as file:
            file.write(b"new")
        with pytest.raises(UnsupportedOperation, match="append"):
            fs.open("old", "ab")
        assert dict(store.items()) == {"old": b"before"}
    assert dict(store.items()) == {"old": b"after", "new": b"new", "other": b"1"}
    # One that must be new and isn't fails all.
    transaction = fs.transaction
    transaction.start()
    fs.pipe("old", b"lost")
    fs.pipe("new", b"lost", mode="create")
    with pytest.raises(FileExistsError):
        transaction.complete()
    assert store["old"] == b"after"
    fs.pipe("later", b"1")
    assert store["later"] == b"1"


def test_a_transaction_closes_what_is_open_from_the_outside_in(store: Store) -> None:
    fs = HoldallFileSystem(store)
    with fs.transaction:
        text = fs.open("a.txt", "w")
        text.write("whole")
        packed = fs.open("a.gz", "w", compression="gzip")
        packed.write("whole")
    assert text.closed
    assert packed.closed
    with fs.open("a.txt", "r") as one, fs.open("a.gz", "r", compression="gzip") as two:
        assert (one.read(), two.read()) == ("whole", "whole")
    left: list[Any] = []
    with contextlib.suppress(ZeroDivisionError), fs.transaction:
        left.append(fs.open("b.gz", "w", compression="gzip"))
        left[0].write("half")
        raise ZeroDivisionError
    assert left[0].closed
    assert not fs.exists("b.gz")


def test_one_transaction_at_a_time(store: Store) -> None:
    fs = HoldallFileSystem(store)
    refused: list[BaseException] = []

    def begin() -> None:
        try:
            with fs.transaction:
                fs.pipe("inner", b"1")
        except UnsupportedOperation as error:
            refused.append(error)

    with fs.transaction:
        fs.pipe("outer", b"1")
        begin()
        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
        with pytest.raises(UnsupportedOperation, match="begun already"):
            fs.start_transaction()
        fs.pipe("after", b"1")
        assert not fs.find("")
    assert len(refused) == 2
    assert sorted(store) == ["after", "outer"]
    fs.start_transaction()
    fs.pipe("later", b"1")
    assert not fs.exists("later")
    fs.end_transaction()
    assert store["later"] == b"1"


def commit(fs: HoldallFileSystem, *files: tuple[str, bytes, str], **options: Any) -> None:
    with fs.transaction:
        for path, data, mode in files:
            with fs.open(path, mode, **options) as file:
                file.write(data)


def test_a_transaction_that_fails_takes_back_what_was_new(store: Store) -> None:
    store["old"] = b"before"
    fs = HoldallFileSystem(store)
    with pytest.raises(BlobExistsError, match="old"):
        commit(fs, ("plain", b"1", "wb"), ("new", b"1", "xb"), ("old", b"1", "xb"))
    assert dict(store.items()) == {"old": b"before"}
    with pytest.raises(StoreError):
        commit(fs, ("new", b"1", "xb"), ("old/../a", b"1", "wb"))
    assert dict(store.items()) == {"old": b"before"}


def test_a_transaction_that_fails_when_some_are_put(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = HoldallFileSystem(store)

    def fail(*args: Any) -> Any:
        store["second"] = b"theirs"
        raise StoreUnavailableError("the server is away")

    monkeypatch.setattr(store, "_put_many", fail)
    with pytest.raises(StoreUnavailableError):
        commit(fs, ("first", b"1", "xb"), ("second", b"1", "xb"), ("third", b"1", "wb"))
    assert dict(store.items()) == {"second": b"theirs"}
    monkeypatch.setattr(store, "_delete", fail)
    with pytest.raises(StoreUnavailableError) as caught:
        commit(fs, ("first", b"1", "xb"), ("third", b"1", "wb"))
    assert "'first' was put before" in caught.value.__notes__[0]


def test_a_transaction_writes_a_file_twice(store: Store) -> None:
    fs = HoldallFileSystem(store)
    with pytest.raises(BlobExistsError, match="already"):
        commit(fs, ("a", b"1", "wb"), ("a", b"2", "xb"))
    commit(fs, ("a", b"1", "xb"), ("a", b"2", "wb"))
    assert store["a"] == b"2"
    with pytest.raises(BlobExistsError):
        commit(fs, ("a", b"3", "xb"), ("a", b"4", "wb"))
    assert dict(store.items()) == {"a": b"2"}


def test_a_transaction_whose_disk_is_full() -> None:
    fs = HoldallFileSystem(MemoryStore())

    def write() -> None:
        # What is small needs no temporary file, and of what does nothing is stored.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        commit(fs, ("a", b"x" * 10_000, "wb"), ("b", b"x" * 10_000, "xb"))
        assert (len(fs.cat("a")), len(fs.cat("b"))) == (10_000, 10_000)
        with pytest.raises(StoreUnavailableError, match="TMPDIR"):
            commit(fs, ("c", b"1", "wb"), ("d", b"x" * (5 << 20), "wb"))
        assert fs.find("") == ["a", "b"]

    succeeds(forked(write))


def test_the_options_of_a_file_in_a_transaction(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "a.db") as store:
        fs = HoldallFileSystem(store)
        with fs.transaction:
            for mode in ("wb", "x"):
                with fs.open(mode, mode, content_type="text/csv", ttl=60) as file:
                    file.write(b"1" if mode == "wb" else "1")
            with pytest.raises(TypeError, match="contnt_type"):
                fs.open("a", "wb", contnt_type="text/csv")
            with pytest.raises(InvalidArgumentError, match="mode"):
                fs.open("a", "wqb")
            with pytest.raises(UnsupportedOperation, match="ETag"):
                fs.open("a", "wb", expect="1")
        assert {(info.content_type, info.expires is None) for info in store.list()} == {("text/csv", False)}
        with pytest.raises(UnsupportedOperation, match="autocommit=False"):
            fs.open("a", "wb", autocommit=False)


def test_the_attributes_of_what_is_written(tmp_path: Path) -> None:
    store = MemoryStore()
    fs, local = HoldallFileSystem(store), tmp_path / "local"
    local.write_bytes(b"1")

    def write(**attributes: Any) -> None:
        fs.pipe("a", b"1", **attributes)
        fs.pipe({"b": b"1", "c": b"2"}, batch_size=1, **attributes)
        fs.pipe_file("d", b"1", mode="overwrite", **attributes)
        fs.put(str(local), "e", **attributes)
        fs.touch("f", **attributes)
        with fs.transaction:
            fs.pipe("g", b"1", **attributes)
            fs.put_file(str(local), "h", **attributes)

    write(ttl=100, content_type="text/plain")
    found = {info.key: (info.expires is not None, info.content_type) for info in store.list()}
    assert found == dict.fromkeys("abcdefgh", (True, "text/plain"))
    fs.touch("a", truncate=False, ttl=10_000)
    assert (store.info("a").expires or datetime.max) > (store.info("b").expires or datetime.min)
    for call in (
        lambda: fs.pipe("z", b"1", tll=5),
        lambda: fs.pipe({"y": b"1", "z": b"1"}, tll=5),
        lambda: fs.put(str(local), "z", tll=5),
    ):
        with pytest.raises(TypeError, match="unexpected keyword argument 'tll'"):
            call()
    assert "z" not in store
    with pytest.raises(InvalidTypeError, match="a path is a str or a Path, not bytes"):
        fs.pipe(b"data", "key")


def test_several_files(store: Store) -> None:
    fs = HoldallFileSystem(store)
    fs.pipe({"a": b"0123456789", "b": b"abc", "d/e": b"1", "d/f/g": b"2"})
    assert fs.cat(["b", "a", "a"]) == {"a": b"0123456789", "b": b"abc"}
    assert fs.cat(["a", "absent", "x/../y"], on_error="omit") == {"a": b"0123456789"}
    assert isinstance(fs.cat(["a", "absent"], on_error="return")["absent"], FileNotFoundError)
    with pytest.raises(FileNotFoundError, match="absent"):
        fs.cat(["a", "absent"])
    assert fs.cat("d", recursive=True) == fs.cat("d/**") == {"d/e": b"1", "d/f/g": b"2"}
    assert fs.cat("[ab]", start=1) == {"a": b"123456789", "b": b"bc"}
    assert fs.cat_ranges(["a", "b", "a"], [0, -2, 8], [2, None, 99]) == [b"01", b"bc", b"89"]
    assert fs.cat_ranges(["a", "b"], 1, 2) == [b"1", b"b"]
    found = fs.cat_ranges(["a", "absent"], 0, 1)
    assert found[0] == b"0"
    assert isinstance(found[1], FileNotFoundError)
    for absent in ("absent", "x/../y"):
        with pytest.raises(FileNotFoundError):
            fs.cat_ranges(["a", absent], 0, 1, on_error="raise")
        assert isinstance(fs.cat_ranges(["a", absent], 0, 1)[1], FileNotFoundError)
    assert fs.cat_ranges(["a", "b"], np.array([0, 1]), np.int64(2)) == [b"01", b"b"]
    assert fs.cat_file("a", np.int64(0), np.int64(2)) == b"01"
    with pytest.raises(InvalidArgumentError):
        fs.cat_ranges(["a", "b"], [0], [1])


def test_names_that_are_patterns_elsewhere(store: Store) -> None:
    fs = HoldallFileSystem(store)
    name = "we ird/h#a?b%20[c].txt"
    fs.pipe(name, b"1")
    assert fs.cat_file(name) == b"1"
    assert fs.cat("we ird/h#a[?]b%20[[]c].txt") == {name: b"1"}
    assert fs.ls("we ird", detail=False) == [name]
    assert fs.info(fs.unstrip_protocol(name))["size"] == 1
    fs.rm_file(name)
    assert not fs.exists("we ird")


def test_folders_from_and_to_the_disk(store: Store, tmp_path: Path) -> None:
    fs = HoldallFileSystem(store)
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    (source / "a.txt").write_bytes(b"1" * 100)
    (source / "sub" / "b.txt").write_bytes(b"2")
    (source / "empty").mkdir()
    done = Callback()
    fs.put(f"{source}/", "up", recursive=True, callback=done)
    assert fs.find("up") == ["up/a.txt", "up/sub/b.txt"]
    assert fs.isdir("up/empty")
    assert done.value == done.size
    fs.get("up/", str(target), recursive=True)
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*")) == [
        "a.txt",
        "empty",
        "sub",
        "sub/b.txt",
    ]
    with pytest.raises(FileNotFoundError):
        fs.get("absent", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    assert (fs.du("up"), fs.find("up", maxdepth=1)) == (101, ["up/a.txt"])
    assert [*fs.walk("up")] == [
        ("up", ["empty", "sub"], ["a.txt"]),
        ("up/empty", [], []),
        ("up/sub", [], ["b.txt"]),
    ]


def test_a_download_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore({"a": b"1" * (3 << 20)})
    fs, path = HoldallFileSystem(store), tmp_path / "a"
    path.write_bytes(b"before")

    class Failing(Callback):
        def relative_update(self, inc: int = 1) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fs.get_file("a", str(path), callback=Failing())
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"before", ["a"])
    # What replaces a file has its permission bits; and a name may have any length that the disk takes.
    path.chmod(0o600)
    fs.get_file("a", str(path))
    assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (3 << 20, 0o600)
    fs.get_file("a", str(tmp_path / ("n" * 250)))


def test_moves(store: Store) -> None:
    fs = HoldallFileSystem(store)
    fs.pipe({"d/a": b"1", "d/s/b": b"2"})
    for target in ("d/t", "d/", "d/s/t"):
        with contextlib.suppress(InvalidArgumentError):
            fs.mv("d", target, recursive=True)
        assert fs.find("") == ["d/a", "d/s/b"]
    fs.mv("d/", "d", recursive=True)
    fs.mv("d", "e", recursive=True)
    assert fs.find("") == ["e/a", "e/s/b"]
    fs.mv("e/a", "c")
    fs.cp("e", "f", recursive=True)
    fs.rm("e", recursive=True)
    assert dict(store.items()) == {"c": b"1", "f/s/b": b"2"}


def test_folders_are_remembered_by_all_file_systems_of_a_place(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.db") as store:
        one, two = HoldallFileSystem(store), HoldallFileSystem(f"sqlite:///{tmp_path}/x.db")
        one.makedirs("a/b")
        assert (two.isdir("a/b"), two.ls("a", detail=False), two.ls("a/b")) == (True, ["a/b"], [])
        assert not HoldallFileSystem(MemoryStore()).exists("a")
        with pytest.raises(OSError, match="not empty"):
            two.rmdir("a")
        two.rmdir("a/b")
        assert not one.exists("a/b")
        with pytest.raises(FileNotFoundError):
            one.rmdir("a/b")
        with pytest.raises(FileExistsError):
            one.mkdir("a")
        one.touch("c")
        with pytest.raises(NotADirectoryError):
            one.rmdir("c")


def test_an_asynchronous_one(store: Store) -> None:
    async def use() -> None:
        fs = HoldallFileSystem(store, asynchronous=True)
        await fs._pipe_file("d/a", b"12")
        await fs._pipe({"d/b": b"3", "c": b"4"})
        assert await fs._cat_file("d/a", 1) == b"2"
        assert await fs._cat(["d/a", "c"]) == {"c": b"4", "d/a": b"12"}
        assert await fs._cat("c") == b"4"
        assert await fs._find("d") == ["d/a", "d/b"]
        assert await fs._glob("*/b") == ["d/b"]
        with pytest.raises(FileNotFoundError):
            await fs._cat_file("absent")
        with pytest.raises(UnsupportedOperation, match="transaction"), fs.transaction:
            await fs.open_async("d/a", "wb")
        file = await fs.open_async("d/a")
        async with file:
            assert await file.read() == b"12"
        await fs._rm("d", recursive=True)
        assert not await fs._exists("d")

    asyncio.run(use())


def _in_the_child(fs: HoldallFileSystem, number: int) -> None:
    assert fs.cat("a") == b"1"
    assert fs.glob("d/*") == ["d/b"]
    fs.put_file(__file__, f"from/{number}")
    os._exit(0)


def test_it_goes_on_after_a_fork(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.db") as store:
        fs = HoldallFileSystem(store)
        fs.pipe({"a": b"1", "d/b": b"2"})
        assert fs.glob("d/*") == ["d/b"]
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=_in_the_child, args=(fs, number)) for number in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0, 0]
        assert len(fs.find("from")) == 2


def test_threads_at_once(store: Store) -> None:
    fs = HoldallFileSystem(store)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                fs.pipe(f"{number}/{turn}", b"%d" % turn)
                fs.makedirs(f"{number}/made{turn}", exist_ok=True)
                assert fs.cat(f"{number}/*")[f"{number}/{turn}"] == b"%d" % turn
                assert len(fs.ls(str(number))) == 2 * turn + 2
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_store_that_is_closed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "x.db")
    fs = HoldallFileSystem(store)
    store.close()
    for call in (fs.cat, fs.exists, fs.isfile, fs.isdir, fs.ls, fs.find, fs.open, fs.rm, fs.touch):
        with pytest.raises(StoreClosedError):
            call("a")


def test_an_interrupt_ends_what_runs(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).write_bytes(b"1")
    store = MemoryStore()
    fs = HoldallFileSystem(Slow(store, 0.01), batch_size=4)

    main = threading.main_thread().ident
    assert main is not None

    class Interrupting(Callback):
        def relative_update(self, inc: int = 1) -> None:
            if self.value == 0:
                signal.pthread_kill(main, signal.SIGINT)
            super().relative_update(inc)

    with pytest.raises(KeyboardInterrupt):
        fs.put(f"{tmp_path}/", "up", recursive=True, callback=Interrupting())
    left = len(store)
    assert left < 100
    # fsspec's own function would have written all others meanwhile.
    assert len(fs.cat("up/*")) == left
    assert len(store) == left
    assert not fs.exists("absent")


def test_a_deep_listing_takes_one_request() -> None:
    store = Counting(MemoryStore())
    fs = HoldallFileSystem(store)
    fs.pipe({f"d/{number}/s/a": b"1" for number in range(50)})
    fs.makedirs("d/made/empty")
    before = store.calls["scan"]
    assert len(fs.find("d", withdirs=True)) == 1 + 50 * 3 + 2
    assert len(fs.glob("d/**/a")) == 50
    assert store.calls["scan"] <= before + 4
    # A blob doesn't hide what is below its name.
    both = HoldallFileSystem(MemoryStore({"l": b"1", "l/x/y": b"22"}))
    assert [each["type"] for each in both.ls("")] == ["file", "directory"]
    assert both.ls("", detail=False) == ["l"]
    assert [*both.walk("")] == [("", ["l"], ["l"]), ("l", ["x"], []), ("l/x", [], ["y"])]
    assert both.find("", maxdepth=3) == both.find("") == ["l", "l/x/y"]
    fs.pipe("d/1", b"1")
    fs.rm("d", recursive=True)
    assert fs.find("", withdirs=True) == []


@pytest.mark.parametrize("option", ["durable", "stor", "readonly"])
def test_a_storage_option_that_is_not_known_is_refused(tmp_path: Path, option: str) -> None:
    url = f"holdall+sqlite:///{tmp_path}/x.db#a"
    with pytest.raises(InvalidArgumentError, match=rf"no storage option '{option}'.*\?{option}=\.\.\.#KEY"):
        fsspec.open(url, "wb", **{option: True})
    assert not list(tmp_path.iterdir())


def test_storage_options_that_every_file_system_is_given_are_taken(tmp_path: Path) -> None:
    url = f"holdall+sqlite:///{tmp_path}/x.db#a"
    options = {
        "default_cache_type": "none",
        "default_block_size": 1,
        "use_listings_cache": True,
        "max_paths": 5,
    }
    with fsspec.open(url, "wb", auto_mkdir=True, **options) as file:
        file.write(b"1")
    for cache in ("simplecache", "filecache"):
        with fsspec.open(f"{cache}::{url}", **{cache: {"cache_storage": f"{tmp_path}/{cache}"}}) as file:
            assert file.read() == b"1"


def test_an_option_of_an_open_that_is_about_caching_is_left_out() -> None:
    fs = HoldallFileSystem(MemoryStore())
    fs.pipe("a", b"1")
    with fs.open("a", default_cache="none", cache_type="all", block_size=5, size=1) as file:
        assert file.read() == b"1"
    with pytest.raises(TypeError, match="content_typ"):
        fs.open("b", "wb", content_typ="text/csv")


def test_pipe_of_one_file_is_pipe_file_of_a_subclass() -> None:
    piped: list[str] = []

    class Noting(HoldallFileSystem):
        def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **attributes: Any) -> None:
            piped.append(path)
            super().pipe_file(path, value, mode, **attributes)

    fs = Noting(MemoryStore())
    fs.pipe("a", b"1")
    fs.pipe({"b": b"2"})
    assert (piped, fs.cat("a"), fs.cat("b")) == (["a", "b"], b"1", b"2")
