"""The kit on HttpStore over real web servers.

Nginx hides names that begin with a dot from its listings, and a disk has no names of more than 255 bytes. So
the store and the one that fills it are both under a layer that spells the dot otherwise, and cuts long names.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import ClassVar

import pytest
from tests.again import Combined
from tests.servers import web

from holdall import BlobNotFoundError, HttpStore, InvalidKeyError, KeyConflictError, Store
from holdall.layers.layer import Transparent
from holdall.pieces import read_file
from holdall.ranges import span
from holdall.store import Attributes, Body, Can, Expect, Info, LeftOut, Piece, group_children
from holdall.testing import StoreSuite

Serve = Callable[[Path], "contextlib.AbstractContextManager[int]"]
LONGEST = 960
_LONGEST = 200
_MORE = {True: "-" * 9, False: "\U0010ffff" * 2}
"""What ends a part of a long segment that goes on before or past a `/` in the order of keys: a part is longer
than every segment that isn't cut."""
_FIRST = {"-": "-+", ".": "-."}


def spell(key: str) -> str:
    """Spell a key, or the start of one, so that order and folders stay."""
    return "/".join(_segment(segment) for segment in key.split("/"))


def _segment(segment: str) -> str:
    data, parts = segment.encode("utf-8", "surrogatepass"), list[str]()
    while len(data) > _LONGEST:
        end = _LONGEST
        while data[end] & 0xC0 == 0x80:
            end -= 1
        part, data = data[:end], data[end:]
        parts.append(f"{_part(part)}{_MORE[data[0] < 47]}/")
    return "".join(parts) + _part(data)


def _part(data: bytes) -> str:
    text = data.decode("utf-8", "surrogatepass")
    return _FIRST.get(text[:1], text[:1]) + text[1:]


def read(spelled: str) -> str:
    """Read what `spell` returns."""
    whole, is_cut = "", False
    for part in spelled.split("/"):
        is_cut = len(part.encode("utf-8", "surrogatepass")) > _LONGEST + 1
        text = part.removesuffix(_MORE[True]).removesuffix(_MORE[False]) if is_cut else part
        whole += text[1:] if text[:2] == "-." else f"-{text[2:]}" if text[:2] == "-+" else text
        whole += "" if is_cut else "/"
    return whole[:-1] if not is_cut else whole


def _short(key: str) -> str:
    if len(key.encode()) > LONGEST:
        raise InvalidKeyError("this key is too long to be spelled", key=key)
    return key


class Spelled(Transparent):
    """A store whose keys are spelled in letters in the store below."""

    def _own_key(self, info: Info) -> Info:
        return info.replace(key=read(info.key))

    def _checked(self, key: object) -> str:
        return _short(Store._checked(self, key))

    def _get(self, key: str) -> bytes | None:
        return self._store._get(spell(self._checked(key)))

    def _has(self, key: str) -> bool:
        return self._store._has(spell(self._checked(key)))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        info, pieces = self._store._read(spell(key), start, stop)
        return self._own_key(info), pieces

    def _info(self, key: str) -> Info:
        return self._own_key(self._store._info(spell(key)))

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return map(self._own_key, self._store._scan(spell(prefix), spell(after)))

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        for entry in self._store._survey(spell(prefix), spell(after)):
            yield entry if isinstance(entry, LeftOut) else self._own_key(entry)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return map(read, self._store._keys(spell(prefix), spell(after)))

    def _children(self, prefix: str) -> Iterator[str | Info]:
        for child in self._store._children(spell(prefix)):
            if isinstance(child, Info):
                yield self._own_key(child)
            elif len(child.rpartition("/")[0].rpartition("/")[2].encode()) > _LONGEST + 1:
                # This is a part of a long segment.
                yield from group_children(self._scan, read(child))
            else:
                yield read(child)


class Shelf(Store):
    """A folder whose files have times that differ by whole seconds: nginx knows no others. It fills the
    store."""

    can = Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE

    def __init__(self, root: str) -> None:
        self._root = root

    def _settings(self) -> dict[str, object]:
        return {"root": self._root}

    def _checked(self, key: object) -> str:
        return _short(super()._checked(key))

    def _path(self, key: str) -> str:
        return f"{self._root}/files/{spell(key)}"

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        try:
            file = open(self._path(key), "rb")  # noqa: SIM115 - its pieces close it
        except OSError:
            raise BlobNotFoundError from None
        info = self._told(key, os.fstat(file.fileno()))
        return info, read_file(file, *span(start, stop, info.size))

    def _info(self, key: str) -> Info:
        try:
            found = os.stat(self._path(key))
        except OSError:
            raise BlobNotFoundError from None
        return self._told(key, found)

    def _told(self, key: str, found: os.stat_result) -> Info:
        if not stat.S_ISREG(found.st_mode):
            raise BlobNotFoundError
        return Info(key, found.st_size, f"{int(found.st_mtime):x}-{found.st_size:x}", found.st_mtime)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        path, draft, size = self._path(key), f"{self._root}/{token_hex(8)}", 0
        try:
            with open(draft, "wb") as file:
                for piece in body:
                    size += file.write(piece)
            second = self._next_second()
            os.utime(draft, (second, second))
            while not self._publish(draft, path):
                pass
        except BaseException:
            if os.path.lexists(draft):
                os.unlink(draft)
            raise
        return Info(key, size, f"{second:x}-{size:x}", float(second))

    def _publish(self, draft: str, path: str) -> bool:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(draft, path)
        except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            above = path
            while os.path.isdir(path) or (above := os.path.dirname(above)) != self._root:
                if os.path.isdir(path) or os.path.isfile(above):
                    raise KeyConflictError("another blob is in the way") from error
            # A delete has removed the folder as empty.
            return False
        return True

    def _next_second(self) -> int:
        with open(f"{self._root}/second", "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            second = max(int(file.read() or 0) + 1, int(time.time()))
            file.truncate(0)
            file.write(str(second))
        return second

    def _delete(self, key: str, expect: Expect) -> bool:
        path = self._path(key)
        try:
            os.unlink(path)
        except OSError:
            return False
        while (path := os.path.dirname(path)) != f"{self._root}/files":
            try:
                os.rmdir(path)
            except OSError:
                break
        return True

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        base = f"{self._root}/files/"
        names = [f"{above}/{name}"[len(base) :] for above, _, names in os.walk(base) for name in names]
        for key in sorted(read(name.lstrip("/")) for name in names):
            if key.startswith(prefix) and key > after:
                with contextlib.suppress(BlobNotFoundError):
                    yield self._info(key)


class HttpSuite(StoreSuite):
    """One server for all places, each of which is a folder of it.

    Apache and rclone aren't among them: they take size and ETag before they open the file, so that a file
    that is replaced in between is sent under the ETag of the old one, and cut to its size.
    """

    __test__ = False
    same_infos = False
    reduced = True
    longest = LONGEST
    port: ClassVar[int]
    root: ClassVar[Path]
    serve: ClassVar[Serve]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _served(cls) -> Iterator[None]:
        # Apache reads as another user, whom pytest's folders keep out.
        with tempfile.TemporaryDirectory(prefix="web-") as name:
            cls.root = Path(name)
            cls.root.chmod(0o755)
            with cls.serve(cls.root) as cls.port:
                yield

    def _folder(self, place: Path) -> Path:
        folder = self.root / hashlib.sha256(str(place).encode()).hexdigest()[:16]
        (folder / "files").mkdir(parents=True, exist_ok=True)
        return folder

    def make(self, place: Path) -> Store:
        store = HttpStore(f"http://127.0.0.1:{self.port}/{self._folder(place).name}/files", netrc=False)
        spelled = Spelled(store)
        spelled._own(store)
        return spelled

    def fill(self, place: Path) -> Store:
        return Shelf(str(self._folder(place)))


class TestNginx(HttpSuite):
    __test__ = True
    serve = staticmethod(web.nginx)


class TestHttpServer(HttpSuite, Combined):
    __test__ = True
    serve = staticmethod(web.python)
