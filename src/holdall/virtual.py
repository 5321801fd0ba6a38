"""A blob as a file of this machine, which any program can open.

Each copy is alone in a folder of its own in the system's temporary folder, and the folder is locked as long
as it is used. The system drops the lock when the process ends, in whatever way. So a folder that isn't
locked is litter, whichever process made it, and a process identifier that is used again does no harm. A
folder's name can't be guessed, only its owner can enter it, and it is opened without following a link, so
that nobody else can put anything in its place.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, overload
from weakref import WeakSet

from holdall.arguments import check_type
from holdall.blob import ABSENT, ANY, PLAIN, Attributes, Can, Expect, attributes_of, check_expected
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    IntegrityError,
    InvalidArgumentError,
    InvalidDataError,
    InvalidTypeError,
    StoreError,
    StoreUnavailableError,
    naming,
)
from holdall.forks import in_child
from holdall.pieces import pieces_of
from holdall.ranges import CHUNK
from holdall.stopping import stoppable
from holdall.store import Store
from holdall.stores.locks import CANNOT, generation
from holdall.stores.nofollow import LIST, READ, Descriptors, close_all
from holdall.stores.oserrors import kind_of

_log = logging.getLogger("holdall")
_TRIES = 100
_LONGEST_EXTENSION = 64


@overload
def open_virtual(
    key: str, store: Store | Any, mode: Literal["rb", "br"] = "rb"
) -> AbstractContextManager[BinaryIO]: ...
@overload
def open_virtual(
    key: str, store: Store | Any, mode: Literal["r", "rt", "tr"]
) -> AbstractContextManager[TextIO]: ...
@overload
def open_virtual(key: str, store: Store | Any, mode: str) -> AbstractContextManager[IO[Any]]: ...
def open_virtual(key: str, store: Store | Any, mode: str = "rb") -> AbstractContextManager[IO[Any]]:
    """Return a context manager that gives the blob as an open file of this machine, whose `name` is its path.

    Unlike a file of `store.open`, it has a descriptor and a path, for libraries that want one. It is removed
    as the file of `Store.local` is.

    Args:
        key: Which.
        store: A `Store`, or a face of one whose `.store` it is, such as a `ValueStore`.
        mode: `rb`, or `r` for text in UTF-8. To change the file, use `store.local(key, write=True)`.

    Raises:
        BlobNotFoundError: No blob has this key.
        InvalidArgumentError: The mode isn't one for reading.

    >>> from holdall import MemoryStore
    >>> with open_virtual("a.txt", MemoryStore({"a.txt": b"hello"})) as file:
    ...     file.read(), os.path.basename(file.name)
    (b'hello', 'a.txt')
    """
    below = store if isinstance(store, Store) else getattr(store, "store", None)
    if not isinstance(below, Store):
        hint = "the key comes first: open_virtual(key, store)" if isinstance(key, Store) else ""
        check_type(store, Store, "open_virtual must be given a store", hint=hint)
        raise InvalidTypeError("open_virtual must be given a store")
    if mode not in ("rb", "br", "r", "rt", "tr"):
        kind = InvalidArgumentError if isinstance(mode, str) else InvalidTypeError
        raise kind(
            f"open_virtual's mode must be 'rb' or 'r', not {mode!r}; store.local(key, write=True) gives a "
            "file to change",
            key=key,
        )
    return _open_local(below, key, mode)


@contextmanager
def _open_local(store: Store, key: str, mode: str) -> Generator[IO[Any]]:
    with store.local(key) as path, _open_file(path, mode, key) as file:
        yield file


def _open_file(path: Path, mode: str, key: str) -> IO[Any]:
    try:
        return path.open(mode, encoding=None if "b" in mode else "utf-8")
    except FileNotFoundError as error:
        raise BlobNotFoundError(key=key) from error  # it was the store's own, and another writer deleted it


def open_local(store: Store, key: object, write: bool, expect: Expect) -> AbstractContextManager[Path]:
    """As `Store.local`."""
    name = store._checked(key)
    with naming(name):
        check_type(write, bool, "write must be True or False")
        if write:
            store._need(Can.WRITE, "put a local file back")
            store._need(Can.SWAP, "put a local file back without overwriting what others put meanwhile")
            if expect is not ANY:
                store._check_expect(expect)
        elif expect is not ANY:
            raise InvalidArgumentError("expect is for a local file that is put back: add write=True")
    return _editing(store, name, expect) if write else _reading(store, name)


@contextmanager
def _reading(store: Store, key: str) -> Generator[Path]:
    with naming(key):
        own = store._local_path(key)
    # Programs go by the extension, which the name of a blob's file may spell in another way.
    if own is not None and _extension(os.path.basename(own)) == _extension(_last(key)):
        yield Path(own)
        return
    with _Folder() as folder:
        path = folder.place(key)
        _Copy(store, key, path, 0o400)
        yield path


@contextmanager
def _editing(store: Store, key: str, expect: Expect) -> Generator[Path]:
    with _Folder() as folder:
        path = folder.place(key)
        if expect is ABSENT:
            if store.exists(key):
                raise BlobExistsError(key=key, actual=store.info(key).etag)
            copy = None
        else:
            copy = _Copy(store, key, path, 0o600)
            check_expected(copy.etag, expect, key)
        yield path
        if folder.is_ours():
            _put_back(store, key, path, copy, folder)


class _Copy:
    """A blob's bytes in a new file, and what they were."""

    def __init__(self, store: Store, key: str, path: Path, mode: int) -> None:
        with naming(key):
            info, pieces = store._read(key, 0, None)
            self.size, made = 0, hashlib.blake2b()
            with Descriptors() as fds:
                try:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    fds.extend(map(partial(os.open, path), (flags,), (mode,)))
                    for piece in stoppable(pieces):
                        self._write(fds[0], piece)
                        if mode & 0o200:
                            made.update(piece)
                except OSError as error:
                    if isinstance(error, StoreError):
                        raise
                    raise _no_room(error) from error
            if self.size != info.size:
                raise IntegrityError(f"the store returned {self.size} bytes of a blob of {info.size}")
        self.etag, self.attributes = info.etag, attributes_of(info, store.can)._replace(mode=None)
        self.digest = made.digest()

    def _write(self, fd: int, piece: bytes | memoryview) -> None:
        self.size += len(piece)
        while len(piece):
            piece = memoryview(piece)[os.write(fd, piece) :]

    def equals(self, file: BinaryIO) -> bool:
        """Return whether a file holds the same bytes. Its times aren't asked: they are the same after two
        writes within a tick of the clock, and after one through a memory map on some file systems."""
        if os.fstat(file.fileno()).st_size != self.size:
            return False
        made = hashlib.blake2b()
        for piece in iter(partial(file.read, CHUNK), b""):
            made.update(piece)
        file.seek(0)
        return made.digest() == self.digest


def _put_back(store: Store, key: str, path: Path, copy: _Copy | None, folder: _Folder) -> None:
    """Put the file where its blob is, if its bytes have changed. Keep it if that fails."""
    try:
        with _open_edited(path, key) as file:
            if copy is not None and copy.equals(file):
                return
            expect: Expect = ABSENT if copy is None else copy.etag
            attributes: Attributes = PLAIN if copy is None else copy.attributes
            store._write(key, pieces_of(file), expect, attributes)
    except BaseException as error:
        try:
            # An empty folder holds nothing that is worth to be kept.
            kept = folder.keep(path) if os.path.lexists(path) else None
        except OSError as failed:
            _log.warning("%r can't be kept, and goes: %s", str(path), failed)
            kept = None
        told = f"the edited file is kept as {kept!r}"
        if isinstance(error, StoreError):
            if kept is not None:
                error.message = f"{error.message}; {told}"
            error.key = key
        elif kept is not None:
            error.add_note(f"{key!r} wasn't put back, or may not have been: {told}")
        raise


@contextmanager
def _open_edited(path: Path, key: str) -> Generator[BinaryIO]:
    with Descriptors() as fds:
        try:
            fds.extend(map(partial(os.open, path), (READ,)))
            mode = os.fstat(fds[0]).st_mode
        except FileNotFoundError as error:
            raise InvalidDataError(
                "at the end of the block its local file is missing, so nothing was put; store.delete(key) "
                "deletes a blob",
                key=key,
            ) from error
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise StoreUnavailableError(
                    f"its local file can't be read ({error.strerror}), so nothing was put", key=key
                ) from error
            mode = stat.S_IFLNK
        if not stat.S_ISREG(mode):
            raise InvalidDataError(
                f"at the end of the block a {kind_of(mode)} is in the place of its local file, so nothing "
                "was put",
                key=key,
            )
        with open(fds.pop(), "rb") as file:
            yield file


def _begin_of_names() -> str:
    # Each user sweeps only folders of their own.
    return f"holdall-{os.getuid()}-"


class _Folder:
    """A private folder for one file, locked while it is used, which goes with what is in it."""

    _generation = -1
    """How many forks were behind the process that made it; an interrupt may end the constructor before."""

    def __init__(self) -> None:
        self._path = ""
        self._fds: list[int] = []
        self._generation = generation()

    def is_ours(self) -> bool:
        """Return whether this process made it; it may be a child of the one that did."""
        return self._generation == generation()

    def __enter__(self) -> _Folder:
        try:
            _sweep_once()
            for _ in range(_TRIES):
                if self._make():
                    return self
        except BaseException as error:
            self.remove()
            if isinstance(error, OSError) and not isinstance(error, StoreError):
                raise _no_room(error) from error
            raise
        raise StoreUnavailableError(
            f"folders in {tempfile.gettempdir()!r} keep being deleted by another program: look at TMPDIR"
        )

    def _make(self) -> bool:
        """Make and lock it; return False if it was swept in between."""
        self._path = os.path.join(tempfile.gettempdir(), _begin_of_names() + os.urandom(12).hex())
        _in_use.add(self)
        os.mkdir(self._path, 0o700)
        try:
            self._fds.extend(map(partial(os.open, self._path), (LIST,)))
            try:
                fcntl.flock(self._fds[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                # Where nobody can lock, nobody sweeps.
                if error.errno not in CANNOT:
                    raise
            if os.path.samestat(os.fstat(self._fds[0]), os.lstat(self._path)):
                return True
        except (FileNotFoundError, BlockingIOError):
            pass
        close_all(self._fds)
        return False

    def place(self, key: str) -> Path:
        """Return the path of the file in it: the last part of the key, if the system can spell it."""
        return Path(self._path, _file_name(_last(key), self._path))

    def keep(self, path: Path) -> str:
        """Leave it where no sweep finds it; return the path of the file in it."""
        kept = os.path.join(os.path.dirname(self._path), f"holdall-kept-{os.urandom(6).hex()}")
        os.rename(self._path, kept)
        self._path = ""
        return os.path.join(kept, path.name)

    def __exit__(self, *_: object) -> None:
        try:
            self.remove()
        except BaseException as error:
            self.remove()  # an interrupt may come at any step
            # `shutil.rmtree` may close a descriptor twice when it is interrupted, and raises that.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise

    def remove(self) -> None:
        if self.is_ours() and self._path:
            _remove(self._path)
            self._path = ""
        close_all(self._fds)
        _in_use.discard(self)

    def __del__(self) -> None:
        if self._generation >= 0:
            self.remove()  # an interrupt came before the block began

    def forget(self) -> None:
        """Leave the lock to the parent process, which made the folder."""
        close_all(self._fds)


_in_use: WeakSet[_Folder] = WeakSet()
_swept: set[str] = set()


@in_child
def _after_fork() -> None:
    for folder in list(_in_use):
        folder.forget()
    _in_use.clear()


def _sweep_once() -> None:
    """Remove the folders that dead processes left, at this process's first use of the temporary folder."""
    within = tempfile.gettempdir()
    if within in _swept:
        return
    _swept.add(within)
    is_ours = re.compile(f"{_begin_of_names()}[0-9a-f]{{24}}").fullmatch
    with os.scandir(within) as entries:
        paths = [entry.path for entry in entries if is_ours(entry.name)]
    for path in paths:
        _sweep(path)


def _sweep(path: str) -> None:
    with Descriptors() as fds:
        try:
            fds.extend(map(partial(os.open, path), (LIST,)))
            if os.fstat(fds[0]).st_uid == os.getuid():
                fcntl.flock(fds[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
                _log.info("swept %r, which a process left that was killed", path)
        except OSError as error:
            _log.debug("%r can't be swept: %s", path, error)


def _remove(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path) or os.path.islink(path):
        return
    # A program may leave folders that it locked itself out of.
    for above, names, _ in os.walk(path):
        for folder in (os.path.join(above, name) for name in names):
            if not os.path.islink(folder):
                os.chmod(folder, 0o700)
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        _log.warning("the temporary folder %r can't be removed", path)


def _last(key: str) -> str:
    return key.rpartition("/")[2]


def _extension(name: str) -> str:
    """Return what programs take for a file's kind: its last extensions, such as `.tar.gz`.

    >>> _extension("a.tar.gz"), _extension(".profile"), _extension("v1.2 final.report")
    ('.tar.gz', '', '.report')
    """
    found = ""
    for suffix in reversed(Path(name).suffixes):
        if " " in suffix or len((suffix + found).encode()) > _LONGEST_EXTENSION:
            break
        found = suffix + found
    return found


def _file_name(name: str, folder: str) -> str:
    try:
        if len(os.fsencode(name)) <= os.pathconf(folder, "PC_NAME_MAX"):
            return name
    except UnicodeEncodeError:
        pass
    extension = _extension(name)
    return f"blob{extension if extension.isascii() else ''}"


def _no_room(error: OSError) -> StoreUnavailableError:
    where = tempfile.gettempdir() if tempfile.tempdir else "the system's temporary folder"
    return StoreUnavailableError(
        f"a temporary file can't be written in {where!r} ({error.strerror or error}): free some space there, "
        "or set TMPDIR to another folder"
    )
