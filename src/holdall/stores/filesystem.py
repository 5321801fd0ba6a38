"""A store in a folder: one file a key, the key its relative path."""

from __future__ import annotations

import errno
import fcntl
import io
import logging
import os
import stat
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast, overload

from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidKeyError,
    KeyConflictError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.files import BlobWriter
from holdall.keys import check_key, past
from holdall.ranges import CHUNK, span
from holdall.store import ABSENT, ANY, Attributes, Body, Can, Data, Expect, Info, Piece, Store
from holdall.stores.nofollow import NEW, READ, has_link, move_new, open_file
from holdall.stores.spelling import PRIVATE, are_plain, is_plain, is_small, segment_of, spell, spell_segment

__all__ = ["FilesystemStore", "describe"]

T = TypeVar("T")

_log = logging.getLogger("holdall")

# A first read of this size takes most blobs whole, without asking for their size before.
_GUESS = 1 << 16
_STALE = 3600.0
_TOLD = 1000
"""Of how many files a store says that they are no blobs."""
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

_open_latches: set[int] = set()
_ticks = count(int.from_bytes(os.urandom(2), "little"))
_generation = 0
_draft_name = f"{PRIVATE}{os.urandom(6).hex()}.new-"
_names = count()


def _after_fork() -> None:
    """A lock belongs to an open file, which parent and child would share: the child opens its own."""
    global _generation, _draft_name
    _generation += 1
    _draft_name = f"{PRIVATE}{os.urandom(6).hex()}.new-"
    for latch in _open_latches:
        os.close(latch)
    _open_latches.clear()


os.register_at_fork(after_in_child=_after_fork)


class _Latch:
    """The folder, opened by one thread to lock it."""

    def __init__(self, path: str) -> None:
        self.generation = _generation
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _open_latches.add(self.fd)
        self.draft = f"{_draft_name}{next(_names)}"
        """The name of this thread's temporary file, for as long as a short put takes."""

    def moved(self, path: str) -> bool:
        """Whether the path is another folder by now, whose lock is another."""
        return not os.path.samestat(os.fstat(self.fd), os.stat(path))

    def __del__(self) -> None:
        fd = getattr(self, "fd", -1)
        if fd >= 0 and self.generation == _generation and fd in _open_latches:
            _open_latches.discard(fd)
            os.close(fd)


class FilesystemStore(Store):
    """A store in a folder: one file a key, the key its relative path.

    Plain relative paths are plain files that other programs can read, and a file that somebody drops into
    the folder is a blob. What some file system can't spell is escaped (see `holdall.stores.spelling`).
    Symbolic links are not followed, and are no blobs. An empty folder is nothing.

    A put writes a temporary file beside its target and renames it. Puts and deletes lock the folder shared
    for as long as that takes, compare-and-swap locks it alone, so that it holds among all processes that
    write through holdall; other programs don't know of the lock. Locks are by flock(2).

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

    can = Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE | Can.CREATE | Can.SWAP | Can.COPY
    schemes = ("file",)

    _reachable = True
    _nests = False
    """Whether even a key without `/` lies in a folder of its own."""

    _prunes = True
    """Whether a folder goes with its last blob."""

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = False) -> None:
        try:
            given = os.fspath(path)
        except TypeError:
            raise InvalidArgumentError(f"a path is a str or a Path, not {type(path).__name__}") from None
        if not isinstance(given, str) or not given or "\0" in given:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"{given!r} is no path of a folder")
        self._given = os.path.abspath(os.path.expanduser(given))
        self._durable = durable
        self._slow = durable
        """Whether no put goes the short way."""
        self._flat = False
        """Whether plain keys are known to be spelled as themselves."""
        self._local = threading.local()
        self._left_out: set[str] = set()
        self._base = os.path.realpath(self._given).rstrip("/") + "/"
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

    # --- where a key lies -----------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        """The path of a key that has perhaps not been checked."""
        # What is plain is valid, so that one match is the whole check.
        if type(key) is str and len(key) < 256 and not self._fold and is_plain(key):
            return self._base + key
        return self._spelled(check_key(key))

    def _spelled(self, key: str) -> str:
        """The path of a key that is spelled in another way than itself, perhaps."""
        path = self._base[:-1]
        for segment in key.split("/"):
            names = spell_segment(segment, bool(self._fold))
            spelled = f"{path}/{'/'.join(names)}"
            if names != [segment] and len(os.fsencode(segment)) < 256:
                # Another program may have spelled it literally.
                literal = f"{path}/{segment}"
                if (
                    segment_of([segment], bool(self._fold)) == segment
                    and not os.path.lexists(spelled)
                    and self._has_name(path, segment)
                ):
                    spelled = literal
            path = spelled
        if len(os.fsencode(path)) >= 4096 - 64:
            raise InvalidKeyError("the path of its file is too long for the system", key=key)
        return path

    def _has_name(self, folder: str, name: str) -> bool:
        if not self._fold:
            return os.path.lexists(f"{folder}/{name}")
        # On a disk that is blind to case, only the listing tells how a name is written.
        try:
            return name in os.listdir(folder)
        except OSError:
            return False

    def _stat(self, path: str) -> os.stat_result | None:
        """What stat(2) says of the blob at a path; None if there is none."""
        folder = path.rfind("/")
        try:
            if folder >= len(self._base) and has_link(path[:folder], len(self._base)):
                return None
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _failed(error, "read") from error
        return found if stat.S_ISREG(found.st_mode) else None

    def _opened(self, key: str) -> tuple[int, os.stat_result]:
        fd = open_file(self._path(key), READ)
        if fd < 0:
            if -fd in _GONE:
                if not self._reroot(-fd):
                    raise BlobNotFoundError(key=key)
                return self._opened(key)
            raise _failed(OSError(-fd, os.strerror(-fd)), "read")
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise BlobNotFoundError(key=key)
        return fd, found

    def _reroot(self, code: int) -> bool:
        """Whether the folder itself is reached by other links than when the store was opened."""
        if code != errno.ELOOP:
            return False
        base = os.path.realpath(self._given).rstrip("/") + "/"
        if base == self._base:
            return False
        self._base = base
        return True

    # --- reading --------------------------------------------------------------------------------------

    @overload
    def get(self, key: str, default: None = None) -> bytes | None: ...
    @overload
    def get(self, key: str, default: bytes) -> bytes: ...
    @overload
    def get(self, key: str, default: T) -> bytes | T: ...
    def get(self, key: str, default: Any = None) -> Any:
        if self._closed:
            raise self._closed_error()
        path = self._path(key)
        fd = open_file(path, READ)
        if fd < 0:
            if -fd not in _GONE:
                raise _failed(OSError(-fd, os.strerror(-fd)), "read", key)
            return self.get(key, default) if self._reroot(-fd) else default
        try:
            data = os.read(fd, _GUESS)
            if not 0 < len(data) < _GUESS:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode):
                    return default
                data = _whole(fd, found.st_size)
            return data
        except IsADirectoryError:
            return default
        except OSError as error:
            raise _failed(error, "read", key) from error
        finally:
            os.close(fd)

    def exists(self, key: str) -> bool:
        if self._closed:
            raise self._closed_error()
        return self._stat(self._path(key)) is not None

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        fd, found = self._opened(key)
        try:
            start, stop = span(start, stop, found.st_size)
            info = describe(key, found)
            if stop - start > CHUNK:
                pieces = _Pieces(fd, start, stop)
                fd = -1
                return info, pieces
            return info, iter((os.pread(fd, stop - start, start),))
        except OSError as error:
            raise _failed(error, "read") from error
        finally:
            if fd >= 0:
                os.close(fd)

    def _info(self, key: str) -> Info:
        found = self._stat(self._path(key))
        if found is None:
            raise BlobNotFoundError(key=key)
        return describe(key, found)

    def _open_read(self, key: str) -> BinaryIO:
        fd, _ = self._opened(key)
        return open(fd, "rb", buffering=_GUESS)

    # --- writing --------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        data: Data,
        *,
        expect: Expect = ANY,
        ttl: float | timedelta | None = None,
        content_type: str | None = None,
    ) -> Info:
        # The usual put, with nothing in its way: what a draft does, in the fewest steps. Whatever is in its
        # way leads to the long way, which begins anew and finds out what it was.
        if (
            type(data) is not bytes
            or expect is not ANY
            or ttl is not None
            or content_type is not None
            or self._slow
        ):
            return super().put(key, data, expect=expect, ttl=ttl, content_type=content_type)
        try:
            latch: _Latch = self._local.latch
        except AttributeError:
            return super().put(key, data)
        if type(key) is str and len(key) < 256 and is_plain(key) and self._flat and "/" not in key:
            path = self._base + key
        else:
            path = self._path(key)
            try:
                if has_link(path[: path.rfind("/")], len(self._base)):
                    return super().put(key, data)
            except OSError:
                return super().put(key, data)  # which tells what is wrong
        if latch.generation != _generation:
            return super().put(key, data)
        folder = latch.fd
        name = latch.draft
        fd = -1
        try:
            fd = os.open(name, NEW, 0o666, dir_fd=folder)
            size = len(data)
            if os.write(fd, data) == size:
                stamp = (time.time_ns() & ~1023) | (next(_ticks) & 1023)
                os.utime(fd, ns=(stamp, stamp))
                fcntl.flock(folder, fcntl.LOCK_SH)
                try:
                    # To its whole path, so that it is found there even if the folder was moved meanwhile.
                    os.rename(name, path, src_dir_fd=folder)
                    name = ""
                finally:
                    fcntl.flock(folder, fcntl.LOCK_UN)
                return Info(key, size, stamp << 48 | size, stamp / 1e9)
        except OSError as error:
            _log.debug("%r is put the long way: %s", key, error)
        finally:
            if fd >= 0:
                os.close(fd)
            if name:
                # An interrupt may come just as the file is made, before its number is known here, or just as
                # it got its new name.
                _remove(name, folder)
        return super().put(key, data)

    put.__doc__ = Store.put.__doc__

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        draft = _Draft(self, self._target(key))
        try:
            draft.begin()
            for piece in body:
                draft.add(piece)
            return draft.publish(key, expect)
        except BaseException as error:
            draft.drop()
            if isinstance(error, OSError) and not isinstance(error, StoreError):
                raise _failed(error, "write") from error
            raise

    def _open_write(self, key: str, expect: Expect, attributes: Attributes) -> BinaryIO:
        return cast(BinaryIO, _Writer(self, key, expect))

    def _delete(self, key: str, expect: Expect) -> bool:
        path = self._path(key)
        try:
            held: _Latch | None = getattr(self._local, "latch", None)
            alive = expect is ANY and held is not None and held.generation == _generation
            latch = held.fd if held is not None and alive else self._latch()
        except FileNotFoundError:
            if expect is not ANY:
                raise ConcurrencyError(key=key, expected=str(expect)) from None
            return False
        except OSError as error:
            raise _failed(error, "write") from error
        try:
            if expect is ANY:
                _share(latch)
            else:
                _lock(latch)
            try:
                found = self._stat(path)
                if expect is not ANY:
                    _compare(found, expect)
                if found is None:
                    return False
                os.unlink(path)
            finally:
                fcntl.flock(latch, fcntl.LOCK_UN)
            if self._durable or len(path) > len(self._base) + len(key) or "/" in key:
                self._tidy(path)
        except FileNotFoundError as error:
            if isinstance(error, StoreError):
                raise
            return False  # somebody was faster
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise _failed(error, "write") from error
        return True

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        fd, found = self._opened(source)
        try:
            draft = _Draft(self, self._target(target))
            try:
                draft.begin()
                draft.clone(fd, found.st_size)
                return draft.publish(target, expect)
            except BaseException as error:
                draft.drop()
                if isinstance(error, OSError) and not isinstance(error, StoreError):
                    raise _failed(error, "write") from error
                raise
        finally:
            os.close(fd)

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        with self._changing():
            origin = self._path(source)
            if self._stat(origin) is None:
                raise BlobNotFoundError(key=source)
            path = self._target(target)
            for _ in range(64):
                folder = path.rpartition("/")[0]
                self._make_folder(folder)
                # Alone, since nobody may put to the source between the two steps of a link.
                with self._locked():
                    found = self._stat(origin)
                    if found is None:
                        raise BlobNotFoundError(key=source)
                    there = self._stat(path)
                    if expect is ABSENT and there is not None:
                        raise BlobExistsError(key=target, actual=_etag(there))
                    if expect is not ANY and expect is not ABSENT:
                        _compare(there, expect)
                    try:
                        self._rename(origin, path)
                    except FileNotFoundError:
                        continue  # somebody tidied the folder away
                    if self._durable:
                        _sync_folder(folder)
                        _sync_folder(origin.rpartition("/")[0])
                self._tidy(origin)
                return describe(target, found)
            raise StoreUnavailableError("its folder is deleted as often as it is made")

    def _target(self, key: str) -> str:
        """The path of a key to write to."""
        if self._fold is None:
            self._learn()
        return self._path(key)

    def _learn(self) -> None:
        """Find out, in a folder that was empty or not there, whether its disk is blind to case."""
        probe = f"{self._base}{_draft_name}{next(_names)}"
        with self._changing():
            self._make_folder(self._base[:-1])
            fd = open_file(probe, NEW)
            if fd < 0:
                raise OSError(-fd, os.strerror(-fd))
            os.close(fd)
            self._fold = os.path.lexists(self._base + probe[len(self._base) :].upper())
            os.unlink(probe)
            self._flat = not self._fold and not self._nests

    def _rename(self, temporary: str, path: str) -> None:
        """Replace the file at a path, or the empty folders there."""
        try:
            os.replace(temporary, path)
        except IsADirectoryError:
            try:
                _remove_empty(path)
            except OSError:
                raise KeyConflictError(
                    f"blobs lie below it: {path!r} is a folder, and a file system can't hold both"
                ) from None
            os.replace(temporary, path)

    def _make_folder(self, folder: str) -> None:
        """Make a folder and those above it, none of them through a symbolic link."""
        if not os.path.isdir(self._base):
            above = self._base[:-1]
            made: list[str] = []
            while self._durable and not os.path.isdir(above):
                above = os.path.dirname(above)
                made.append(above)
            os.makedirs(self._base, exist_ok=True)
            for above in made:
                _sync_folder(above)
        path = self._base[:-1]
        for name in folder[len(self._base) :].split("/"):
            if not name:
                continue
            above, path = path, f"{path}/{name}"
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                try:
                    os.mkdir(path)
                except FileExistsError:
                    pass
                except FileNotFoundError:
                    return  # tidied away meanwhile; the caller tries again
                if self._durable:
                    _sync_folder(above)
                continue
            if stat.S_ISLNK(found.st_mode):
                raise KeyConflictError(f"{path!r} is a symbolic link, and links are not followed")
            if not stat.S_ISDIR(found.st_mode):
                raise KeyConflictError(
                    f"{path!r} is a blob, and a file system can't hold both it and blobs below it"
                )

    def _tidy(self, path: str) -> None:
        """Remove the folders that a file left empty."""
        if self._durable:
            _sync_folder(path.rpartition("/")[0])
        if not self._prunes:
            return
        folder = path.rpartition("/")[0]
        while len(folder) > len(self._base):
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = folder.rpartition("/")[0]

    def _latch(self) -> int:
        latch: _Latch | None = getattr(self._local, "latch", None)
        if latch is None or latch.generation != _generation or latch.moved(self._base):
            latch = self._local.latch = _Latch(self._base)
        return latch.fd

    @contextmanager
    def _locked(self) -> Generator[None]:
        latch = self._latch()
        _lock(latch)
        try:
            yield
        finally:
            fcntl.flock(latch, fcntl.LOCK_UN)

    @contextmanager
    def _changing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise _failed(error, "write") from error

    def _close(self) -> None:
        self._slow = True
        self._local = threading.local()

    # --- listing --------------------------------------------------------------------------------------

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        for run in self._walk(prefix, after):
            for name in run.names:
                try:
                    found = os.lstat(run.folder + run.odd.get(name, name))
                except (FileNotFoundError, NotADirectoryError):
                    continue  # deleted since its folder was read
                except OSError as error:
                    raise _failed(error, "list") from error
                if stat.S_ISREG(found.st_mode):
                    yield describe(run.above + name, found)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        for run in self._walk(prefix, after):
            if run.above:
                above = run.above
                yield from [above + name for name in run.names]
            else:
                yield from run.names

    def _children(self, prefix: str) -> Iterator[str | Info]:
        start = self._start(prefix)
        if start is None:
            return
        above, folder = start
        listed = self._listed(folder)
        for name in sorted([*listed.files, *listed.folders]):
            key = above + name
            if not key.startswith(prefix):
                continue
            path = folder + listed.odd.get(name, name)
            if name[-1] == "/":
                if next(self._below(key, path, ""), None) is not None:
                    yield key
                continue
            try:
                found = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # deleted since its folder was read
            except OSError as error:
                raise _failed(error, "list") from error
            if stat.S_ISREG(found.st_mode):
                yield describe(key, found)

    def _middle(self, prefix: str, after: str) -> str | None:
        start = self._start(prefix)
        while start is not None:
            above, folder = start
            files, folders, odd = self._listed(folder)
            names = sorted([*files, *folders])
            seen = after[len(above) :] if after.startswith(above) else ""
            left = names[bisect_right(names, seen) :]
            if len(left) > 1:
                return above + left[len(left) // 2]
            # The folder that is being listed, or the only one.
            inner = next((name for name in folders if seen.startswith(name)), left[0] if left else "")
            if inner[-1:] != "/":
                return None
            start = above + inner, folder + odd.get(inner, inner)
        return None

    def _start(self, prefix: str) -> tuple[str, str] | None:
        """The deepest folder that all keys of a prefix lie in: as a part of the key, and as a path."""
        above = prefix[: prefix.rfind("/") + 1]
        if not above:
            return "", self._base
        try:
            path = self._path(above[:-1])
        except InvalidKeyError:
            return None
        return None if has_link(path, len(self._base)) else (above, path + "/")

    def _walk(self, prefix: str, after: str) -> Iterator[_Run]:
        """The files in order of their keys, in runs that lie in one folder."""
        start = self._start(prefix)
        if start is None:
            return iter(())
        above, folder = start
        return self._below(above, folder, after, prefix[len(above) :])

    def _below(self, above: str, folder: str, after: str, rest: str = "") -> Iterator[_Run]:
        files, folders, odd = self._listed(folder)
        if rest:
            files = _starting(files, rest)
            folders = _starting(folders, rest)
        if after:
            if after.startswith(above):
                seen = after[len(above) :]
                files = files[bisect_right(files, seen) :]
                folders = [name for name in folders if name > seen or seen.startswith(name)]
            elif above < after:
                return
        done = 0
        for name in folders:
            turn = bisect_left(files, name)
            if turn > done:
                yield _Run(above, folder, files[done:turn], odd)
                done = turn
            yield from self._below(above + name, folder + odd.get(name, name), after)
        if done < len(files):
            yield _Run(above, folder, files[done:] if done else files, odd)

    def _listed(self, folder: str) -> _Listed:
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        files.append(entry.name)
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return _Listed([], [], {})
        except OSError as error:
            raise _failed(error, "list") from error
        odd: dict[str, str] = {}
        if not self._fold and are_plain(files) and are_plain(folders):
            folders = [name + "/" for name in folders]
        else:
            plain = is_small if self._fold else is_plain
            strange = [(name, False) for name in files if not plain(name)]
            strange += [(name, True) for name in folders if not plain(name)]
            files = [name for name in files if plain(name)]
            folders = [name + "/" for name in folders if plain(name)]
            for name, is_folder in strange:
                for segment, path in self._odd(folder, name, is_folder):
                    # The spelling of our own hides a literal one.
                    if segment not in odd or spell(segment.rstrip("/"), bool(self._fold)) == path.rstrip("/"):
                        odd[segment] = path
            files += [segment for segment in odd if segment[-1] != "/"]
            folders += [segment for segment in odd if segment[-1] == "/"]
        # A file that is replaced while the folder is read may be read twice.
        if len(set(files)) < len(files):
            files = list(set(files))
        files.sort()
        folders = sorted(set(folders))
        return _Listed(files, folders, odd)

    def _odd(self, folder: str, name: str, is_folder: bool) -> Iterator[tuple[str, str]]:
        if name.startswith(PRIVATE):
            self._sweep(folder + name, is_folder)
            return
        if is_folder and name.endswith("%~") and (long := list(self._long(folder, [name]))):
            yield from long
            return
        segment = segment_of([name], bool(self._fold))
        if segment is None:
            self._leave_out(folder + name)
        elif is_folder:
            yield segment + "/", name + "/"
        else:
            yield segment, name

    def _leave_out(self, path: str) -> None:
        """Say once of a file that it is none of the blobs: a backup should not lack it in silence."""
        if path not in self._left_out and len(self._left_out) < _TOLD:
            self._left_out.add(path)
            _log.warning("%r is no blob and is left out: its name can't be a key", path)

    def _long(self, folder: str, names: list[str]) -> Iterator[tuple[str, str]]:
        """What goes on in a folder because its name is too long for one."""
        inner = folder + "/".join(names)
        try:
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in os.scandir(inner))
        except OSError:
            return
        for name, is_folder in entries:
            chain = [*names, name]
            if name.startswith(PRIVATE):
                self._sweep(f"{inner}/{name}", is_folder)
            elif is_folder and name.endswith("%~"):
                yield from self._long(folder, chain)
            else:
                segment = segment_of(chain, bool(self._fold))
                if segment is not None:
                    end = "/" if is_folder else ""
                    yield segment + end, "/".join(chain) + end

    def _sweep(self, path: str, is_folder: bool) -> None:
        """Remove the temporary file of a writer that was killed: one that is old, and that nobody holds."""
        if is_folder or ".new-" not in path:
            return
        try:
            if time.time() - os.lstat(path).st_mtime < _STALE:
                return
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
            _log.info("swept %r, left by a writer that was killed", path)
        except OSError as error:
            _log.debug("%r is not swept: %s", path, error)
        finally:
            os.close(fd)


class _Listed(NamedTuple):
    """What a folder holds, as segments of keys."""

    files: list[str]
    """Sorted."""
    folders: list[str]
    """With a `/` each, sorted: so they sort among the files as the keys below them do."""
    odd: dict[str, str]
    """The relative paths of those that are not spelled as themselves."""


class _Run(NamedTuple):
    """Files in one folder whose keys follow one another."""

    above: str
    """What their keys begin with."""
    folder: str
    """What their paths begin with."""
    names: list[str]
    odd: dict[str, str]


class _Draft:
    """A temporary file beside its target."""

    def __init__(self, store: FilesystemStore, path: str) -> None:
        self._store = store
        self._path = path
        self.size = 0
        self._pieces = 0
        self._temporary = f"{path[: path.rfind('/')]}/{_draft_name}{next(_names)}"
        self._fd = -1
        self._begun = False

    def begin(self) -> None:
        """Make it. Whatever comes of that, it is to be dropped or published."""
        self._begun = True
        self._fd = self._create()

    def _create(self) -> int:
        for _ in range(64):
            fd = open_file(self._temporary, NEW)
            if fd >= 0:
                return fd
            if -fd == errno.ELOOP and self._store._reroot(-fd):  # pyright: ignore[reportPrivateUsage]
                raise StoreUnavailableError("the store's folder was moved; try again")
            if -fd not in _GONE:
                raise _failed(OSError(-fd, os.strerror(-fd)), "write")
            try:
                self._store._make_folder(self._path.rpartition("/")[0])  # pyright: ignore[reportPrivateUsage]
            except OSError as error:
                if isinstance(error, StoreError):
                    raise
                raise _failed(error, "write") from error
        raise StoreUnavailableError("its folder is deleted as often as it is made")

    def add(self, piece: Piece) -> None:
        self._pieces += 1
        if self._pieces == 2:
            # A stream may last: the lock tells sweepers that its writer lives.
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        written = os.write(self._fd, piece)
        self.size += written
        while written < len(piece):
            # The system takes at most 2 GiB at once, and a full disk takes a part.
            piece = memoryview(piece)[written:]
            written = os.write(self._fd, piece)
            self.size += written

    def clone(self, source: int, size: int) -> None:
        """Take over another file's bytes, inside the file system where it can."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        while self.size < size:
            try:
                copied = os.copy_file_range(source, self._fd, size - self.size, self.size)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                copied = 0
            if not copied:
                while piece := os.pread(source, CHUNK, self.size):
                    self.add(piece)
                return
            self.size += copied

    def publish(self, key: str, expect: Expect) -> Info:
        store, fd, temporary, path = self._store, self._fd, self._temporary, self._path
        # Two changes within one tick of the kernel's clock would else carry the same time, and so one ETag.
        stamp = (time.time_ns() & ~1023) | (next(_ticks) & 1023)
        os.utime(fd, ns=(stamp, stamp))
        if store._durable:  # pyright: ignore[reportPrivateUsage]
            os.fsync(fd)
        latch = store._latch()  # pyright: ignore[reportPrivateUsage]
        done = False
        if expect is ANY or expect is ABSENT:
            _share(latch)
            try:
                if expect is ANY:
                    store._rename(temporary, path)  # pyright: ignore[reportPrivateUsage]
                    done = True
                else:
                    # Alone it is atomic; what is in its way is looked at while no other writer is there.
                    done = move_new(temporary, path) == 0
            finally:
                fcntl.flock(latch, fcntl.LOCK_UN)
        if not done:
            _lock(latch)
            try:
                if expect is ABSENT:
                    _create(store, temporary, path)
                else:
                    _compare(store._stat(path), expect)  # pyright: ignore[reportPrivateUsage]
                    store._rename(temporary, path)  # pyright: ignore[reportPrivateUsage]
            finally:
                fcntl.flock(latch, fcntl.LOCK_UN)
        self._fd = -1
        self._begun = False
        os.close(fd)
        if store._durable:  # pyright: ignore[reportPrivateUsage]
            _sync_folder(path.rpartition("/")[0])
        return Info(key, self.size, stamp << 48 | self.size, stamp / 1e9)

    def drop(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._begun:
            self._begun = False
            _remove(self._temporary)


def _remove(temporary: str, folder: int | None = None) -> None:
    """Take a temporary file away, if it is there."""
    try:
        os.unlink(temporary, dir_fd=folder)
    except FileNotFoundError:
        pass  # it was not made, or has its new name already
    except OSError as error:
        _log.debug("%r is left to be swept: %s", temporary, error)


class _Writer(BlobWriter):
    """A file whose bytes go to a draft."""

    def __init__(self, store: FilesystemStore, key: str, expect: Expect) -> None:
        self._done = True
        self._draft = _Draft(store, store._target(key))  # pyright: ignore[reportPrivateUsage]
        try:
            self._draft.begin()
        except BaseException:
            self._draft.drop()
            raise
        self._done = False
        self._key = key
        self._expect: Expect = expect
        self._held: list[Piece] = []
        self._length = 0

    def write(self, buffer: Any, /) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        piece = bytes(memoryview(buffer).cast("B"))
        self._held.append(piece)
        self._length += len(piece)
        if self._length >= CHUNK:
            self.flush()
        return len(piece)

    def tell(self) -> int:
        return self._draft.size + self._length

    def flush(self) -> None:
        """Hand what was gathered to the temporary file."""
        if self._held:
            piece = self._held[0] if len(self._held) == 1 else b"".join(self._held)
            self._held, self._length = [], 0
            try:
                self._draft.add(piece)
            except OSError as error:
                raise _failed(error, "write", self._key) from error

    def _publish(self) -> None:
        try:
            self.flush()
            self._draft.publish(self._key, self._expect)
        except BaseException as error:
            self._draft.drop()
            if isinstance(error, StoreError):
                error.key = self._key
            elif isinstance(error, OSError):
                raise _failed(error, "write", self._key) from error
            raise

    def _drop(self) -> None:
        self._held = []
        self._draft.drop()


class _Pieces(Iterator[bytes]):
    """What is left of an open file, in chunks; it closes the file at the end, or when it is dropped."""

    def __init__(self, fd: int, start: int, stop: int) -> None:
        self._fd = fd
        self._position = start
        self._stop = stop

    def __next__(self) -> bytes:
        if self._fd < 0:
            raise StopIteration
        try:
            piece = os.pread(self._fd, min(CHUNK, self._stop - self._position), self._position)
        except OSError as error:
            raise _failed(error, "read") from error
        self._position += len(piece)
        if not piece or self._position >= self._stop:
            self.close()
            if not piece:
                raise StopIteration
        return piece

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def _starting(names: list[str], rest: str) -> list[str]:
    return names[bisect_left(names, rest) : bisect_right(names, past(rest))]


def _share(fd: int) -> None:
    """Keep those away who compare and swap."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    except OSError as error:
        # Where nobody can lock, nobody can compare and swap either.
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL):
            raise


def _lock(fd: int) -> None:
    """Keep all other writers away."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        raise UnsupportedOperation(
            f"this file system can't lock a folder ({error.strerror}), so no compare-and-swap"
        ) from error


def _create(store: FilesystemStore, temporary: str, path: str) -> None:
    """Publish where nothing is: a link fails if another program was faster."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        found = store._stat(path)  # pyright: ignore[reportPrivateUsage]
        if found is not None:
            raise BlobExistsError(actual=_etag(found)) from None
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise BlobExistsError("a file or a link is already there") from None
        store._rename(temporary, path)  # pyright: ignore[reportPrivateUsage]
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # Without links, the lock still keeps every writer of holdall away.
        found = store._stat(path)  # pyright: ignore[reportPrivateUsage]
        if found is not None:
            raise BlobExistsError(actual=_etag(found)) from None
        store._rename(temporary, path)  # pyright: ignore[reportPrivateUsage]
        return
    os.unlink(temporary)


def _compare(found: os.stat_result | None, expect: Expect) -> None:
    actual = None if found is None else _etag(found)
    if actual != expect:
        raise ConcurrencyError(expected=str(expect), actual=actual)


def _remove_empty(folder: str) -> None:
    """Remove a folder that holds nothing but such folders."""
    for name in os.listdir(folder):
        _remove_empty(f"{folder}/{name}")
    os.rmdir(folder)


def _sync_folder(folder: str) -> None:
    try:
        fd = os.open(folder or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # somebody took the last blob away, and the folder with it
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _blind(base: str) -> bool | None:
    """Whether the disk of a folder is blind to case, by the name of something in it; None if that tells
    nothing."""
    try:
        with os.scandir(base) as entries:
            for entry in entries:
                swapped = entry.name.swapcase()
                if swapped != entry.name and swapped.swapcase() == entry.name:
                    try:
                        return os.path.samestat(os.lstat(base + swapped), entry.stat(follow_symlinks=False))
                    except OSError:
                        return False
    except OSError:
        return None
    return None


def _whole(fd: int, size: int) -> bytes:
    data = os.pread(fd, size, 0)
    if len(data) == size:
        return data
    # The system reads at most 2 GiB at once.
    buffer = io.BytesIO()
    while data:
        buffer.write(data)
        data = os.pread(fd, 1 << 30, buffer.tell())
    return buffer.getvalue()


def _etag(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns << 48 | found.st_size:x}"


def describe(key: str, found: os.stat_result) -> Info:
    """What stat(2) tells of a blob."""
    stamp = found.st_mtime_ns
    return Info(key, found.st_size, stamp << 48 | found.st_size, stamp / 1e9)


def _failed(error: OSError, what: str, key: str | None = None) -> StoreError:
    """The error of the contract for one of the system."""
    if isinstance(error, StoreError):
        # Some of ours are errors of the system too.
        return error
    code = error.errno or 0
    text = error.strerror or str(error)
    if code == errno.EROFS:
        return ReadOnlyError("the file system is mounted read-only", key=key)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return StoreUnavailableError("the disk is full, or a quota is; the old blob stays", key=key)
    if code in (errno.EACCES, errno.EPERM):
        return StoreUnavailableError(
            f"no permission to {what}: look at the owner and mode of the store's folder", key=key
        )
    if code == errno.ENAMETOOLONG:
        return InvalidKeyError("the path of its file is too long for the system", key=key)
    if code in (errno.ENOTDIR, errno.EISDIR):
        return KeyConflictError("a file system can't hold both a blob and blobs below it", key=key)
    return StoreUnavailableError(f"the file system can't {what}: {text}", key=key)
