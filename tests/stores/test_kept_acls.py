"""What replaces a file keeps its access control list: nobody loses it, and nobody gets in."""

import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from holdall import FilesystemStore, GitStore, HashdirStore, MemoryStore, Store, ZipStore, copy_store
from holdall.paths import replacing

pytestmark = pytest.mark.skipif(not hasattr(os, "setxattr"), reason="this system has other lists")

_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_NOBODY = 0xFFFFFFFF


def _acl(group: int, user: int, mask: int, other: int) -> bytes:
    """A list with the rights of the owning group, the user 1234, all that it names, and all others."""
    entries = (
        (1, 6, _NOBODY),
        (2, user, 1234),
        (4, group, _NOBODY),
        (16, mask, _NOBODY),
        (32, other, _NOBODY),
    )
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _set(path: Path, acl: bytes, name: str = _ACCESS) -> None:
    try:
        os.setxattr(path, name, acl)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip("this file system has no access control lists")


def _get(path: Path) -> bytes | None:
    return os.getxattr(path, _ACCESS) if _ACCESS in os.listxattr(path) else None


def _open(store: Store) -> None:
    with store.open("a", "wb") as file:
        file.write(b"new")


def _edit(store: Store) -> None:
    with store.local("a", write=True) as path:
        path.write_bytes(b"new")


_WRITES: dict[str, Callable[[Store], object]] = {
    "bytes": lambda store: store.put("a", b"new"),
    "pieces": lambda store: store.put("a", iter([b"new"])),
    "swap": lambda store: store.put("a", b"new", expect=store.info("a").etag),
    "many": lambda store: store.put_many({"a": b"new", "b": b"new"}),
    "file": _open,
    "edit": _edit,
    "transfer": lambda store: copy_store(MemoryStore({"a": b"new"}), store),
}


@pytest.mark.parametrize("write", _WRITES)
@pytest.mark.parametrize("kind", [FilesystemStore, HashdirStore, GitStore])
def test_a_blob_keeps_its_list(write: str, kind: Callable[[Path], Store], tmp_path: Path) -> None:
    store = kind(tmp_path / "store")
    store["a"] = b"old"
    with store.local("a") as path:
        file = path if kind is not GitStore else tmp_path / "store/a"
    acl = _acl(group=0, user=6, mask=6, other=0)
    _set(file, acl)
    _WRITES[write](store)
    assert store["a"] == b"new"
    assert _get(file) == acl
    assert stat.S_IMODE(file.stat().st_mode) == 0o660


@pytest.mark.parametrize("write", _WRITES)
def test_a_blob_without_a_list_gets_none_of_its_folder(write: str, tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store["a"] = b"old"
    (tmp_path / "a").chmod(0o640)
    _set(tmp_path, _acl(group=7, user=7, mask=7, other=0), _DEFAULT)
    _WRITES[write](store)
    assert store["a"] == b"new"
    assert _get(tmp_path / "a") is None
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    store["new"] = b"1"
    assert _get(tmp_path / "new") is not None


def test_a_private_copy_limits_the_list(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store.update({"private": b"new", "a": b"old"})
    (tmp_path / "private").chmod(0o600)
    _set(tmp_path / "a", _acl(group=0, user=6, mask=6, other=4))
    store.copy("private", "a")
    assert _get(tmp_path / "a") == _acl(group=0, user=6, mask=0, other=0)


def test_an_archive_keeps_its_list(tmp_path: Path) -> None:
    path, acl = tmp_path / "a.zip", _acl(group=0, user=6, mask=6, other=0)
    with ZipStore(path) as store:
        store["a"] = b"old"
    _set(path, acl)
    with ZipStore(path) as store:
        store["a"] = b"new"
    assert _get(path) == acl


def test_a_file_that_is_replaced_through_a_link_keeps_its_list(tmp_path: Path) -> None:
    file, link, acl = tmp_path / "file", tmp_path / "link", _acl(group=0, user=6, mask=6, other=0)
    file.write_bytes(b"old")
    link.symlink_to(file)
    _set(file, acl)
    with replacing(str(link)) as made:
        made.write(b"new")
    assert (file.read_bytes(), _get(file)) == (b"new", acl)
