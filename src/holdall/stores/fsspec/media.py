"""What the file systems differ in: what a file is, how it is read, and how it gets its name."""

from __future__ import annotations

import itertools
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import IO, Any, ClassVar, Final, NamedTuple

from holdall.blob import Can
from holdall.pieces import read_file
from holdall.ranges import CHUNK
from holdall.stores.fsspec.errors import ChangedError

FILE, FOLDER, LINK = "file", "folder", "symbolic link"
_OTHER = "special file"
_KINDS = {"file": FILE, "directory": FOLDER, "dir": FOLDER, "link": LINK}
_MARKS = ("ETag", "etag", "generation", "sha")
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "modify", "created", "date_time")
_HELD: Final = CHUNK


class Found(NamedTuple):
    """What lies at a path."""

    kind: str
    size: int
    etag: str
    modified: float
    mode: int | None = None


class Reader:
    """A file that is read.

    Args:
        found: What the file is.
        pieces: Returns the bytes between two offsets.
        close: Closes it.
        holds: Whether it needs the file system until it is closed.
        is_near: Whether it is closed without a server.
    """

    def __init__(
        self,
        found: Found,
        pieces: Callable[[int, int], Iterator[bytes]],
        close: Callable[[], object],
        holds: bool = True,
        is_near: bool = False,
    ) -> None:
        self.found, self.pieces, self.close, self.holds = found, pieces, close, holds
        self.is_near = is_near


class Medium:
    """A file system that is only read, unless its user knows that it moves files atomically.

    Args:
        moves: Whether the user says so.
    """

    can: Can = Can.LIST | Can.RANGE
    why: ClassVar[str] = (
        "whether it replaces a file in one step isn't known; if you know that its mv does, open it with "
        "atomic_move=True"
    )

    def __init__(self, moves: bool = False) -> None:
        if moves:
            self.can |= Can.WRITE | Can.DELETE

    def close(self, fs: Any) -> None:
        """Close a file system."""
        for name in ("ftp", "client", "session"):
            close = getattr(getattr(fs, name, None), "close", None)
            if callable(close):
                close()
                return

    def disown(self, fs: Any) -> None:
        """Make a file system harmless that belongs to the parent of a fork."""

    def is_alive(self, fs: Any) -> bool:
        """Whether one that was idle can be used."""
        return True

    def ask(self, fs: Any) -> tuple[Can, str]:
        """Return what the server does, and why not more."""
        return self.can, self.why

    def found(self, info: Any) -> Found:
        """Return what fsspec's info of a file says."""
        kind = LINK if info.get("islink") else _KINDS.get(info["type"], _OTHER)
        size = int(info.get("size") or 0)
        modified = next((_seconds(info[name]) for name in _TIMES if info.get(name) is not None), 0.0)
        mark = next((info[name] for name in _MARKS if info.get(name)), f"{round(modified * 1e6):x}-{size:x}")
        return Found(kind, size, str(mark).strip('"'), modified, info.get("mode"))

    def look(self, fs: Any, path: str) -> Found | None:
        """Return what lies at a path; None for nothing."""
        try:
            return self.found(fs.info(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, fs: Any, folder: str) -> list[tuple[str, Found]]:
        """Return the names in a folder, and what they are; nothing if it isn't a folder."""
        try:
            fs.invalidate_cache()
            listed = fs.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        entries: list[tuple[str, Found]] = []
        for info in listed:
            holder, _, name = str(info["name"]).rstrip("/").rpartition("/")
            # Some list a file as if it were a folder with itself in it.
            if name and holder.strip("/") == folder.strip("/"):
                entries.append((name, self.found(info)))
        return entries

    def open(self, fs: Any, path: str) -> Reader | None:
        """Open a file; None if there is none."""
        found = self.look(fs, path)
        if found is None or found.kind != FILE:
            return None

        def fetch(low: int, high: int) -> Iterator[bytes]:
            # All of it is fetched before the first byte is given, since only then is it known to be of one
            # version.
            file = tempfile.SpooledTemporaryFile(_HELD, prefix="holdall-")  # noqa: SIM115 - given to a stream
            try:
                self._fetch(fs, path, file, low, high)
                if low < high and self.look(fs, path) != found:
                    raise ChangedError("it was replaced while it was read")
            except BaseException:
                file.close()
                raise
            return read_file(file, 0, high - low)

        return Reader(found, fetch, _nothing, holds=False)

    def _fetch(self, fs: Any, path: str, file: IO[bytes], low: int, high: int) -> None:
        for at in range(low, high, CHUNK):
            end = min(at + CHUNK, high)
            data = fs.cat_file(path, start=at, end=end)
            if len(data) != end - at:
                raise ChangedError("it was replaced while it was read")
            file.write(data)

    def start(self, fs: Any, target: str, path: str) -> tuple[Found | None, Any]:
        """Open a new file of a name that nobody else has, with the permission bits of the file that it is to
        replace; return what is at the place of that, too."""
        found = self.look(fs, target)
        return found, self.create(fs, path, found.mode if found is not None and found.kind == FILE else None)

    def create(self, fs: Any, path: str, mode: int | None) -> Any:
        """Open a new file with these permission bits."""
        # On the disk of this process: the files of many drivers upload what they have when they are dropped.
        return tempfile.NamedTemporaryFile(prefix="holdall-")

    def settle(self, file: Any) -> None:
        """Have what was asked of a new file done, before anything else is asked of its file system."""

    def write(self, file: Any, data: Any) -> None:
        file.write(data)

    def seal(self, fs: Any, file: Any, path: str) -> Found:
        """Close a file whose bytes are all written, and return what it is."""
        with file:
            file.flush()
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            fs.put_file(file.name, path)
        return self._look_at_sealed(fs, path)

    def _look_at_sealed(self, fs: Any, path: str) -> Found:
        fs.invalidate_cache()
        found = self.look(fs, path)
        if found is None:
            raise FileNotFoundError(path)
        return found

    def abandon(self, file: Any) -> None:
        """Close a file that is about to be deleted."""
        file.close()

    def replace(self, fs: Any, old: str, new: str) -> None:
        """Give a file another name, and take the place of what has it, in one step."""
        fs.mv(old, new)

    def link(self, fs: Any, old: str, new: str) -> None:
        """Give a file a second name, which nothing has."""
        raise NotImplementedError

    def remove(self, fs: Any, path: str) -> None:
        fs.rm_file(path)

    def make_folder(self, fs: Any, path: str) -> None:
        fs.mkdir(path, create_parents=False)

    def remove_folder(self, fs: Any, path: str) -> None:
        """Remove a folder, if it is empty."""
        # What a WebDAV server does, for one, removes what is in it as well.
        raise OSError(f"{path!r} stays, since it isn't known whether only an empty folder would be removed")


class Webdav(Medium):
    """A server of WebDAV: a MOVE may delete its target first (RFC 4918, section 9.9.3)."""

    why = (
        "a MOVE of WebDAV may delete its target before it moves (RFC 4918, section 9.9.3); if you know that "
        "this server replaces it in one step, open it with atomic_move=True"
    )

    def close(self, fs: Any) -> None:
        fs.client.http.close()

    def replace(self, fs: Any, old: str, new: str) -> None:
        # Its `mv` copies and deletes.
        fs.client.move(old, new, overwrite=True)


class Local(Medium):
    """The disk. Times are set, since the kernel's clock would give two changes the same."""

    can = Can.LIST | Can.RANGE | Can.WRITE | Can.DELETE | Can.CREATE

    def close(self, fs: Any) -> None:
        """It holds nothing."""

    def found(self, info: Any) -> Found:
        found = super().found(info)
        # A float has room for a quarter of a microsecond.
        etag = f"{round(found.modified * 1e6):x}-{info['ino']:x}-{found.size:x}"
        return found._replace(etag=etag, mode=stat.S_IMODE(info["mode"]))

    def open(self, fs: Any, path: str) -> Reader | None:
        found = self.look(fs, path)
        if found is None or found.kind != FILE:
            return None
        try:
            file = open(path, "rb", opener=_not_through_a_link)  # noqa: SIM115 - the reader closes it
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(file.fileno())
            info = {"type": FILE, "size": status.st_size, "mtime": status.st_mtime, "ino": status.st_ino}
            found = self.found({**info, "mode": status.st_mode})
        except BaseException:
            file.close()
            raise
        return Reader(found, partial(read_file, file), file.close, is_near=True)

    def create(self, fs: Any, path: str, mode: int | None) -> Any:
        file = fs.open(path, "xb")
        if mode is not None:
            os.chmod(path, mode)
        return file

    def seal(self, fs: Any, file: Any, path: str) -> Found:
        file.close()
        stamp = (time.time_ns() // 1_024_000 * 1024 + next(_ticks) % 1024) * 1000
        os.utime(path, ns=(stamp, stamp))
        return self._look_at_sealed(fs, path)

    def replace(self, fs: Any, old: str, new: str) -> None:
        # Its `mv` would move a file into a folder of the target's name.
        os.replace(old, new)

    def link(self, fs: Any, old: str, new: str) -> None:
        os.link(old, new)

    def make_folder(self, fs: Any, path: str) -> None:
        os.mkdir(path)

    def remove_folder(self, fs: Any, path: str) -> None:
        os.rmdir(path)


_ticks = itertools.count(int.from_bytes(os.urandom(2), "little"))


def _not_through_a_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _nothing() -> None:
    return None


def _seconds(stamp: Any) -> float:
    """Return a time as seconds since 1970, however a driver says it."""
    if isinstance(stamp, str):
        if len(stamp) >= 14 and stamp[:14].isdigit():
            # Of FTP (RFC 3659, section 2.3).
            return datetime.strptime(stamp[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
        try:
            stamp = datetime.fromisoformat(stamp)
        except ValueError:
            return 0.0
    if isinstance(stamp, tuple):
        stamp = datetime(*stamp[:6])  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(stamp, datetime):
        return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()
    return float(stamp) if isinstance(stamp, int | float) else 0.0
