"""A store in a folder: each blob is a file, and its key is the relative path."""

from __future__ import annotations

import errno
import fcntl
import io
import logging
import os
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache, partial
from itertools import islice
from typing import Any, BinaryIO, TypeVar, cast

from holdall.blob import ATOMIC
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    DeleteRefusedError,
    InvalidKeyError,
    StoreError,
    StoreUnavailableError,
)
from holdall.files import BlobFile, BlobWriter
from holdall.keys import check_key
from holdall.paths import absolute, checked_path
from holdall.ranges import CHUNK, span
from holdall.store import ABSENT, ANY, Attributes, Body, Can, Expect, Info, LeftOut, Piece, Put, Store
from holdall.stores.drafts import Draft, compare, describe, etag_of
from holdall.stores.leftout import LeftOutCounts
from holdall.stores.listing import Listing, Run
from holdall.stores.local import FilePieces, sync_folder
from holdall.stores.locks import FolderLock
from holdall.stores.nameless import put_nameless
from holdall.stores.nofollow import (
    FOLDER,
    READ,
    Descriptors,
    close_all,
    has_link,
    open_file,
    open_into,
)
from holdall.stores.oserrors import GONE, translate, typed
from holdall.stores.places import tidy
from holdall.stores.root import Root
from holdall.stores.shortway import ENOUGH, SHORT, delete_short, put_short
from holdall.stores.spelling import is_plain, segment_of, spell_segment
from holdall.stores.steps import rename, sync_below, unlink
from holdall.stores.together import put_in_batches

__all__ = ["FilesystemStore", "describe"]

T = TypeVar("T")

_log = logging.getLogger("holdall")

# A first read of this size takes most blobs whole, without asking for their size before.
_GUESS = 1 << 16
# So many names are looked at to learn whether a disk is blind to case.
_LOOKS = 1000
_compare = compare


class FilesystemStore(Store):
    """A store in a folder: each blob is a file, and its key is the relative path.

    Other programs can read the files, and a file that they add to the folder is a blob. Keys that some file
    system can't spell are escaped (see `holdall.stores.spelling`). Symbolic links, pipes, sockets and
    devices aren't blobs: no call follows, reads, replaces or removes them, and a put at such a path raises
    `KeyConflictError`. Empty folders are ignored.

    A put writes a temporary file in the folder of its target and renames it; on Linux that of a new blob
    gets its name once it is whole. It keeps the permission bits and the POSIX access control list of the
    file that it replaces, and its owner and group where the system lets it; a new file follows the umask.
    Puts and deletes take a shared lock on the store's folder while they rename, and compare-and-swap takes
    an exclusive one, so it is atomic among all processes that write through holdall; other programs ignore
    the lock. A file that the system moves or links only to where nothing is needs no lock. Locks use
    flock(2), and a writer waits for one for at most 60 seconds.

    The ETag is the time of the last change, which holdall sets to the nanosecond, and the size.

    Args:
        path: The folder. The first put makes it.
        durable: Whether a put is on the disk when it returns (fsync of the file and its folder), so that it
            survives a power failure.

    Raises:
        StoreUnavailableError: The path is a file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = FilesystemStore(folder)
    ...     store["notes/today.txt"] = b"hello"
    ...     with open(folder + "/notes/today.txt") as file:
    ...         file.read()
    'hello'
    """

    can = ATOMIC | Can.COPY
    schemes = ("file",)

    _nests = False
    """Whether even a key without `/` lies in a folder of its own."""

    _prunes = True
    """Whether a folder goes with its last blob."""

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = False) -> None:
        self._given = absolute(checked_path(path))
        self._durable = durable
        self._near = not durable
        self._slow = True
        """Whether no put goes the short way: until it is known that times are kept to the nanosecond."""
        self._flat = False
        """Whether plain keys are known to be spelled as themselves."""
        self._long = False
        """Whether the blob that was read last is longer than a first read: the next one is, too, perhaps."""
        self._left = LeftOutCounts(self._given)
        self._base = os.path.realpath(self._given).rstrip("/") + "/"
        self._root = Root(self._given, self._base, durable)
        self._local = self._root.local
        try:
            found = os.stat(self._base[:-1] or "/")
        except OSError as error:
            if error.errno == errno.ENOTDIR:
                raise StoreUnavailableError(f"a part of the path {self._given!r} is a file") from error
            self._fold: bool | None = None
        else:
            if not stat.S_ISDIR(found.st_mode):
                raise StoreUnavailableError(
                    f"{self._given!r} is a file, not a folder; give a folder, or open it as sqlite:/// or zip://"
                )
            self._fold = _blind(self._base)
            self._flat = self._fold is False and not self._nests

    def _settings(self) -> dict[str, object]:
        return {"path": self._given, "durable": self._durable}

    def _path(self, key: str) -> str:
        """The path of a key that has perhaps not been checked."""
        # A plain key is valid, so one match is the whole check.
        plain = type(key) is str and len(key) < 256 and is_plain(key)
        if plain and (self._fold is False or not self._folds(key)):
            return self._base + key
        return self._spell_path(check_key(key))

    def _folds(self, key: str | None = None) -> bool:
        """Whether the disk is known to be blind to case, if it matters for this key: a reader that was opened
        before the first put looks again, and doesn't try by a file of its own."""
        if self._fold is None and not (key and key.isascii() and key == key.lower()):
            fold = _blind(self._base, below=True)
            if fold is not None:
                self._fold = fold
                self._flat = not fold and not self._nests
        return bool(self._fold)

    def _below(self, key: str) -> str:
        """The same, below the store's folder."""
        if self._flat and type(key) is str and len(key) < 256 and is_plain(key):
            return key
        return self._path(key)[len(self._base) :]

    def _spell_path(self, key: str) -> str:
        """The path of a key that is spelled in another way than itself, perhaps."""
        path = self._base[:-1]
        fold = self._folds(key)
        for segment in key.split("/"):
            name, literal = _spell_once(segment, fold)
            spelled = f"{path}/{name}"
            if literal and not os.path.lexists(spelled) and self._has_name(path, segment):
                # Another program has spelled it literally.
                spelled = f"{path}/{segment}"
            path = spelled
        if len(os.fsencode(path)) >= 4096 - 64:
            raise InvalidKeyError("the path of its file is too long for the system", key=key)
        return path

    def _has_name(self, folder: str, name: str) -> bool:
        if not self._fold:
            return os.path.lexists(f"{folder}/{name}")
        # On a disk that is blind to case, only the listing shows how a name is written.
        try:
            return name in os.listdir(folder)
        except OSError:
            return False

    def _stat(self, path: str) -> os.stat_result | None:
        """What stat(2) says of the blob at a path; None if there is none."""
        folder = path.rfind("/")
        fds: list[int] = []
        try:
            if folder < len(self._base):
                found = os.lstat(path)
            else:
                failed = open_into(fds, path[:folder], FOLDER)
                if failed:
                    raise OSError(-failed, os.strerror(-failed))
                found = os.stat(path[folder + 1 :], dir_fd=fds[0], follow_symlinks=False)
        except OSError as error:
            if error.errno in GONE:
                return self._stat(path) if self._reroot(error.errno) else None
            raise translate(error, "read") from error
        finally:
            close_all(fds)
        return found if stat.S_ISREG(found.st_mode) else None

    def _open_blob(self, fds: list[int], key: str) -> os.stat_result:
        """Open a blob into a list."""
        failed = open_into(fds, self._path(key), READ)
        if failed:
            if self._reroot(-failed):
                return self._open_blob(fds, key)
            if -failed not in GONE and not _is_special(self._path(key)):
                raise translate(OSError(-failed, os.strerror(-failed)), "read")
            raise BlobNotFoundError(key=key)
        found = os.fstat(fds[-1])
        if not stat.S_ISREG(found.st_mode):
            raise BlobNotFoundError(key=key)
        return found

    def _reroot(self, code: int | None) -> bool:
        """Whether the folder itself is reached by other links than when the store was opened."""
        if code != errno.ELOOP or not has_link(self._base[:-1], 1):
            return False
        base = os.path.realpath(self._given).rstrip("/") + "/"
        if base == self._base:
            return False
        self._base = self._root.base = base
        return True

    def _get(self, key: str) -> bytes | None:
        path = self._path(key)
        fd = open_file(path, READ)
        if fd < 0:
            if self._reroot(-fd):
                return self._get(key)
            if -fd not in GONE and not _is_special(path):
                raise translate(OSError(-fd, os.strerror(-fd)), "read")
            return None
        try:
            # Unlike read(2), this takes nothing from a pipe or a terminal.
            data = b"" if self._long else os.pread(fd, _GUESS, 0)
            if not 0 < len(data) < _GUESS:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode):
                    return None
                self._long = found.st_size >= _GUESS
                # Some files, such as those of /proc, don't say their size.
                data = _read_rest(fd, found.st_size or _GUESS)
            return data
        except OSError as error:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            raise translate(error, "read") from error
        finally:
            os.close(fd)

    def _has(self, key: str) -> bool:
        return self._stat(self._path(key)) is not None

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        fds: list[int] = []
        try:
            found = self._open_blob(fds, key)
            start, stop = span(start, stop, found.st_size)
            info = describe(key, found)
            if stop - start > CHUNK:
                return info, FilePieces(fds, start, stop)
            piece = os.pread(fds[0], stop - start, start)
            close_all(fds)
            return info, iter((piece,))
        except BaseException as error:
            close_all(fds)
            if isinstance(error, OSError) and not isinstance(error, StoreError):
                raise translate(error, "read") from error
            raise

    def _info(self, key: str) -> Info:
        found = self._stat(self._path(key))
        if found is None:
            raise BlobNotFoundError(key=key)
        return describe(key, found)

    def _open_read(self, key: str) -> BinaryIO:
        fds: list[int] = []
        try:
            info = describe(key, self._open_blob(fds, key))
            return BlobFile(io.FileIO(fds.pop()), _GUESS, info)
        except BaseException:
            close_all(fds)
            raise

    def _put(self, key: str, data: bytes) -> Info:
        if len(data) <= SHORT and (lock := self._lock()) is not None:
            is_flat = self._flat and len(key) < 256 and is_plain(key)
            path = key if is_flat else self._below(key)
            info = None
            if lock.misses > ENOUGH and lock.nameless:
                info = put_nameless(lock, path, key, data)
            info = info or put_short(lock, path, key, data)
            if info is not None:
                return info
        return self._put_long(self._checked(key), (data,), ANY)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        mode = attributes.mode
        most = 0o777 if mode is None else mode | 0o711
        info = None
        if isinstance(body, tuple) and len(body) == 1 and len(body[0]) <= SHORT:
            lock, data = self._lock(), body[0]
            if lock is not None:
                path = self._below(key)
                new = expect is ABSENT or (expect is ANY and lock.misses > ENOUGH)
                if new and lock.nameless and most == 0o777:
                    info = put_nameless(lock, path, key, data)
                info = info or put_short(lock, path, key, data, expect, most)
        return self._put_long(key, body, expect, most) if info is None else info

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        one_by_one = super()._put_many
        if not isinstance(items, list) or type(self)._write is not FilesystemStore._write:
            # What makes each item just before it is put may count on that, and a subclass on its `_write`.
            return one_by_one(items)
        return put_in_batches(items, self._lock, self._below, one_by_one)

    def _lock(self) -> FolderLock | None:
        """This thread's lock, if a blob may be put or deleted the short way by it."""
        lock: FolderLock | None = getattr(self._local, "lock", None)
        return None if self._slow or lock is None or lock.fd < 0 else lock

    def _put_long(self, key: str, body: Body, expect: Expect, most: int = 0o777) -> Info:
        with self._changing():
            draft = Draft(self._root, self._target(key), most)
            try:
                draft.begin()
                for piece in body:
                    draft.add(piece)
                info = draft.publish(key, expect, _compare)
            except BaseException:
                draft.drop()
                raise
        if self._slow and self._root.exact:
            self._slow = self._durable or self._closed
        return info

    def _open_write(self, key: str, expect: Expect, attributes: Attributes) -> BinaryIO:
        with self._changing():
            return cast(BinaryIO, _Writer(self._root, self._target(key), key, expect))

    def _open_append(self, key: str) -> BinaryIO:
        # A copy that grows, so that no reader sees a part, and nothing is stored if the block raises.
        fds: list[int] = []
        with self._changing():
            try:
                found = self._open_blob(fds, key)
                writer = _Writer(self._root, self._target(key), key, etag_of(found))
            except BlobNotFoundError:
                return cast(BinaryIO, _Writer(self._root, self._target(key), key, ABSENT))
            else:
                writer.begin_with(fds[0], found)
                return cast(BinaryIO, writer)
            finally:
                close_all(fds)

    def _delete(self, key: str, expect: Expect) -> bool:
        path = self._below(key)
        lock = self._lock() if expect is ANY else None
        if lock is not None and delete_short(lock, path):
            if self._prunes and "/" in path:
                tidy(lock.fd, path)
            return True
        step = partial(unlink, self._root, path, expect, _compare)
        alone = expect is not ANY or self._root.coarse is True
        done = None
        with self._changing():
            try:
                if not alone:
                    done = self._root.locked(fcntl.LOCK_SH, partial(step, False))
                if done is None:
                    done = self._root.locked(fcntl.LOCK_EX, partial(step, True))
            except (FileNotFoundError, NotADirectoryError) as error:
                if isinstance(error, StoreError):
                    raise
                # The folder is missing, or another process was faster.
                if expect is not ANY:
                    raise ConcurrencyError(key=key, expected=str(expect)) from None
                return False
            if done and "/" in path:
                root = self._root.open_root(make=False)
                if self._durable:
                    sync_below(root, path.rpartition("/")[0], "the blob is deleted")
                if self._prunes:
                    tidy(root, path)
            elif done and self._durable:
                sync_folder(self._root.open_root(make=False), "the blob is deleted")
        return bool(done)

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        with self._changing(), Descriptors() as fds:
            found = self._open_blob(fds, source)
            draft = Draft(self._root, self._target(target))
            try:
                draft.begin()
                draft.clone(fds[0], found)
                return draft.publish(target, expect, _compare)
            except BaseException:
                draft.drop()
                raise

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        with self._changing():
            self._info(source)  # before a folder is made for it
            origin, path = self._below(source), self._target(target)
            # Exclusive, since no put may reach the source between the look at it and the rename.
            step = partial(rename, self._root, source, origin, path, expect, _compare)
            try:
                found = self._root.locked(fcntl.LOCK_EX, step)
            except OSError as error:
                if error.errno == errno.EXDEV:  # another file system is mounted below the folder
                    return super()._move(source, target, expect)
                raise
            root = self._root.open_root(make=False)
            for each in (path, origin) if self._durable else ():
                sync_below(root, os.path.dirname(each) or ".", "the blob is moved")
            if self._prunes:
                tidy(root, origin)
        return describe(target, found)

    def _touch(self, key: str, expires: datetime | None) -> Info:
        with self._changing():
            found = self._stat(self._path(key))
            if found is None:
                raise BlobNotFoundError(key=key)
            if self._root.is_coarse(found):
                # Its new time could be that of another version.
                return super()._touch(key, expires)
            try:
                return self._root.locked(fcntl.LOCK_EX, partial(self._touch_alone, key))
            except PermissionError as error:
                if isinstance(error, StoreError):
                    raise
                # Only its owner may set a file's times, but whoever may write the folder replaces it.
                return super()._touch(key, expires)
            except FileNotFoundError as error:
                raise BlobNotFoundError(key=key) from error  # the folder is gone

    def _touch_alone(self, key: str, _: int) -> Info:
        with Descriptors() as fds:
            self._open_blob(fds, key)
            self._root.note_times(fds[0])
            if self._durable:
                os.fsync(fds[0])
            return describe(key, os.fstat(fds[0]))

    def _local_path(self, key: str) -> str | None:
        with Descriptors() as fds:
            self._open_blob(fds, key)
        return self._path(key)

    def _target(self, key: str) -> str:
        """The path of a key to write to, below the folder."""
        if self._fold is None:
            self._fold = self._root.probe()
            self._flat = not self._fold and not self._nests
        return self._path(key)[len(self._base) :]

    @contextmanager
    def _changing(self) -> Generator[None]:
        try:
            with typed("write"):
                yield
        finally:
            self._base = self._root.base

    def _clear(self) -> None:
        if not self._nests:
            for key in self._keys("", ""):
                segments = key.split("/")
                if ".git" in segments:
                    at = "/".join(segments[: segments.index(".git") + 1])
                    raise DeleteRefusedError(
                        f"clear would delete a Git repository, {self._base + at!r}; nothing was deleted: "
                        "delete the keys that you mean, as in "
                        "store.delete_many(store.iterate_keys(exclude_prefix='.git')), or remove it first"
                    )
        super()._clear()

    def _close(self) -> None:
        self._slow = True
        self._root.forget()
        self._local = self._root.local

    def _listing(self) -> Listing:
        return Listing(self._base, self._folds(), self._path)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        for step in self._listing().walk(prefix, after):
            if isinstance(step, Run):
                yield from step.infos()
            else:
                yield step

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return self._left.pass_on(self._survey(prefix, after))

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        for run in self._left.pass_on(self._listing().walk(prefix, after)):
            above = run.above
            yield from [above + name for name in run.names] if above else run.names

    def _children(self, prefix: str) -> Iterator[str | Info]:
        return self._left.pass_on(self._listing().children(prefix))


class _Writer(BlobWriter):
    """A file whose bytes go to a draft."""

    def __init__(self, root: Root, path: str, key: str, expect: Expect) -> None:
        self._held: list[Piece] = []
        self._length = 0
        self._key = key
        self._expect: Expect = expect
        self._draft = Draft(root, path)
        try:
            self._draft.begin()
            self._done = False
        except BaseException:
            self._draft.drop()
            raise

    def write(self, buffer: Any, /) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        piece = bytes(memoryview(buffer).cast("B"))
        self._held.append(piece)
        self._length += len(piece)
        if self._length >= CHUNK:
            self.flush()
        return len(piece)

    def begin_with(self, source: int, found: os.stat_result) -> None:
        """Copy the bytes of the blob that is appended to."""
        try:
            self._draft.clone(source, found)
        except BaseException:
            self.discard()
            raise

    def tell(self) -> int:
        return self._draft.size + self._length

    def flush(self) -> None:
        """Hand what was gathered to the temporary file."""
        if self._held and not self.closed:
            piece = self._held[0] if len(self._held) == 1 else b"".join(self._held)
            self._held, self._length = [], 0
            try:
                with typed("write", self._key):
                    self._draft.add(piece)
            except BaseException as error:
                self._break(error)
                raise

    def _publish(self) -> None:
        with typed("write", self._key):
            self.flush()
            self._draft.publish(self._key, self._expect, _compare)

    def _drop(self) -> None:
        self._held = []
        self._draft.drop()


def _is_special(path: str) -> bool:
    """Whether a socket, a device or the like is there, which can't always be opened."""
    try:
        return not stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


@lru_cache(512)  # keys have the same folders again and again
def _spell_once(segment: str, fold: bool) -> tuple[str, bool]:
    """Return how a segment is spelled, and whether another program may have spelled it literally."""
    names = spell_segment(segment, fold)
    other = names != [segment] and len(os.fsencode(segment)) < 256 and segment_of([segment], fold) == segment
    return "/".join(names), other


def _blind(base: str, below: bool = False) -> bool | None:
    """Whether the disk of a folder is blind to case, by one of the first names in it, or in folders of it;
    None if they tell nothing."""
    folders, left = [base], _LOOKS
    for folder in folders:
        if not left:
            break
        try:
            with os.scandir(folder) as entries:
                for entry in islice(entries, left):
                    left -= 1
                    swapped = entry.name.swapcase()
                    if swapped != entry.name and swapped.swapcase() == entry.name:
                        # Not by what stat(2) says: with FUSE, a file may have another number under each name.
                        if os.path.lexists(folder + swapped):
                            return swapped not in os.listdir(folder)
                        if os.path.lexists(folder + entry.name):
                            return False
                        # It was a temporary file, perhaps.
                    elif below and entry.is_dir(follow_symlinks=False):
                        folders.append(f"{folder}{entry.name}/")
        except OSError:
            continue
    return None


def _read_rest(fd: int, size: int) -> bytes:
    data = os.pread(fd, size, 0)
    if len(data) == size:
        return data
    # The system reads at most 2 GiB at once.
    buffer = io.BytesIO()
    while data:
        buffer.write(data)
        data = os.pread(fd, 1 << 30, buffer.tell())
    return buffer.getvalue()
