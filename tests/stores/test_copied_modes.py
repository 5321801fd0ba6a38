"""A copy of a file, wherever it goes, is never readable by more people than its source."""

import os
import pickle
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdall import (
    CompressedStore,
    EncryptedStore,
    ExpiringStore,
    FanoutStore,
    FilesystemStore,
    HashdirStore,
    MemoryStore,
    RoutedStore,
    SqliteStore,
    Store,
    copy_store,
    move_store,
    sync_stores,
)
from holdall.store import mode_of

_KEY = bytes(range(32))
_LEFT = {0o600: 0o600, 0o640: 0o640, 0o604: 0o604, 0o644: 0o644, 0o755: 0o644, 0o666: 0o644}
"""The mode of a source, and the one of a new copy under a umask of 0022."""
_TRANSFERS: dict[str, Callable[[Store, Store], object]] = {
    "copy": copy_store,
    "sync": sync_stores,
    "move": move_store,
}
_LAYERS: dict[str, Callable[[Store], Store]] = {
    "encrypted": lambda below: EncryptedStore(below, _KEY),
    "compressed": CompressedStore,
    "prefix": lambda below: below / "p/",
    "routed": lambda below: RoutedStore({"": below}),
    "expiring": lambda below: ExpiringStore(below, ttl=1000),
    "fanout": lambda below: FanoutStore({"one": below, "two": MemoryStore()}),
}


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    old = os.umask(0o022)
    yield
    os.umask(old)


def _path(folder: Path, key: str) -> Path:
    """The file of a key, in whatever folder and however its store spells it."""
    (path,) = [path for path in folder.rglob("*") if path.is_file() and path.name.startswith(key)]
    return path


def _mode(folder: Path, key: str) -> int:
    return stat.S_IMODE(_path(folder, key).stat().st_mode)


def _fill(store: Store, folder: Path) -> dict[str, int]:
    """Put a blob for each mode; return the keys with the modes that their copies get."""
    wanted: dict[str, int] = {}
    for mode, left in _LEFT.items():
        for size in (5, 3 << 20) if mode == 0o600 else (5,):
            key = f"{mode:o}-{size}"
            store[key] = bytes(size)
            _path(folder, key).chmod(mode)
            wanted[key] = left
    return wanted


@pytest.mark.parametrize("kind", [FilesystemStore, HashdirStore])
@pytest.mark.parametrize("transfer", _TRANSFERS)
def test_a_transfer_between_folders(transfer: str, kind: type[FilesystemStore], tmp_path: Path) -> None:
    source, target = FilesystemStore(tmp_path / "source"), kind(tmp_path / "target")
    wanted = _fill(source, tmp_path / "source")
    _TRANSFERS[transfer](source, target)
    assert {key: _mode(tmp_path / "target", key) for key in target} == wanted


@pytest.mark.parametrize("layer", _LAYERS)
def test_a_transfer_into_a_layer_over_a_folder(layer: str, tmp_path: Path) -> None:
    source = FilesystemStore(tmp_path / "source")
    wanted = _fill(source, tmp_path / "source")
    target = _LAYERS[layer](FilesystemStore(tmp_path / "target"))
    sync_stores(source, target)
    assert {key: _mode(tmp_path / "target", key) for key in target} == wanted


@pytest.mark.parametrize("layer", _LAYERS)
def test_a_transfer_out_of_a_layer_over_a_folder(layer: str, tmp_path: Path) -> None:
    source = _LAYERS[layer](FilesystemStore(tmp_path / "source"))
    wanted = _fill(source, tmp_path / "source")
    copy_store(source, FilesystemStore(tmp_path / "target"))
    assert {key: _mode(tmp_path / "target", key) for key in wanted} == wanted


def test_a_transfer_over_an_older_copy(tmp_path: Path) -> None:
    source, target = FilesystemStore(tmp_path / "source"), FilesystemStore(tmp_path / "target")
    for key, mode, old in (("a", 0o600, 0o644), ("b", 0o644, 0o600), ("c", 0o640, 0o664)):
        source[key], target[key] = b"new", b"older"
        _path(tmp_path / "source", key).chmod(mode)
        _path(tmp_path / "target", key).chmod(old)
    sync_stores(source, target)
    assert [_mode(tmp_path / "target", key) for key in "abc"] == [0o600, 0o600, 0o640]


def test_other_stores_take_the_blobs_of_a_private_file(tmp_path: Path) -> None:
    source = FilesystemStore(tmp_path / "source")
    wanted = _fill(source, tmp_path / "source")
    with SqliteStore(tmp_path / "target.db") as database:
        for target in (MemoryStore(), database, RoutedStore({"6": MemoryStore(), "": database})):
            assert copy_store(source, target)
            assert sorted(target) == sorted(wanted)
            assert sync_stores(target, FilesystemStore(tmp_path / "source"))


@pytest.mark.parametrize("call", ["copy", "move"])
@pytest.mark.parametrize("layer", ["encrypted", "compressed", "fanout", "routes"])
def test_a_copy_inside_a_layer(call: str, layer: str, tmp_path: Path) -> None:
    below = FilesystemStore(tmp_path / "store")
    if layer == "routes":
        store: Store = RoutedStore({"to-": FilesystemStore(tmp_path / "store" / "other"), "": below})
    else:
        store = _LAYERS[layer](below)
    wanted = _fill(store, tmp_path / "store")
    for key in wanted:
        getattr(store, call)(key, f"to-{key}")
    for key, mode in wanted.items():
        # A rename keeps the bits, and a copy by the file system keeps the executable ones.
        found = _mode(tmp_path / "store", f"to-{key}")
        assert (found == mode) if mode != 0o644 else (found & 0o644 == mode)


def test_a_replica_that_is_repaired(tmp_path: Path) -> None:
    one = FilesystemStore(tmp_path / "one")
    wanted = _fill(one, tmp_path / "one")
    store = FanoutStore({"one": one, "two": FilesystemStore(tmp_path / "two")})
    assert store.repair()
    assert {key: _mode(tmp_path / "two", key) for key in wanted} == wanted


def test_an_info_keeps_its_mode_to_itself(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store["a"] = b""
    store.info("a")
    (tmp_path / "a").chmod(0o600)
    info = store.info("a")
    assert mode_of(info) == mode_of(info.replace(key="b")) == mode_of(next(store.list())) == 0o600
    again = pickle.loads(pickle.dumps(info))
    assert (again, hash(again), repr(again), mode_of(again)) == (info, hash(info), repr(info), None)


def test_the_mode_of_what_was_put_is_that_of_its_file(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store["d/first"] = b""  # from now on puts go the short way
    wide, replaced, deleted = (store.put(f"d/{name}", b"1") for name in ("wide", "replaced", "deleted"))
    os.umask(0o077)
    private = store.put("private", b"1")
    os.umask(0o022)
    store["d/replaced"] = b"2"
    del store["d/deleted"]
    assert [mode_of(info) for info in (wide, private)] == [None, 0o600]
    # Nobody can say any more who might read them.
    assert [mode_of(info.replace(key="k")) for info in (replaced, deleted)] == [0o600, 0o600]
