"""The memory of this process, as fsspec keeps files in it: one lock makes each call one step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from holdall.blob import Can, Expect, Info, check_expected
from holdall.errors import BlobNotFoundError, KeyConflictError
from holdall.forks import begin_anew
from holdall.ranges import span
from holdall.stores.fsspec.media import FILE, FOLDER, Found, Medium
from holdall.stores.fsspec.names import info_of


class _Lock:
    def __init__(self) -> None:
        self._begin()
        begin_anew(self, _Lock._begin)

    def _begin(self) -> None:
        self.lock = threading.RLock()


_held = _Lock()
_last = datetime.fromtimestamp(0, UTC)


class Memory(Medium):
    """Files in memory, which are replaced whole."""

    can = Can.LIST | Can.RANGE | Can.WRITE | Can.DELETE | Can.CREATE | Can.SWAP | Can.CONDITIONAL_DELETE

    def close(self, fs: Any) -> None:
        """Nothing is open."""

    def found(self, info: Any) -> Found:
        created: datetime = info.created
        stamp = created.timestamp()
        # Unlike its buffer, its value isn't copied.
        size = len(info.getvalue())
        return Found(FILE, size, f"{round(stamp * 1e6):x}-{size:x}", stamp)

    def look(self, fs: Any, path: str) -> Found | None:
        file = fs.store.get(path)
        if file is not None:
            return self.found(file)
        start = f"{path}/"
        is_folder = path in fs.pseudo_dirs or any(name.startswith(start) for name in tuple(fs.store))
        return Found(FOLDER, 0, "", 0.0) if is_folder else None

    def read(
        self, fs: Any, path: str, key: str, start: int = 0, stop: int | None = None
    ) -> tuple[Info, bytes]:
        """Return the info and the bytes of a blob."""
        with _held.lock:
            file = fs.store.get(path)
            if file is None:
                raise BlobNotFoundError(key=key)
            found = self.found(file)
            low, high = span(start, stop, found.size)
            return info_of(key, found), file.getvalue()[low:high]

    def put(self, fs: Any, path: str, data: bytes, expect: Expect) -> Found:
        """Write a blob, if what is there is what is expected."""
        global _last
        with _held.lock:
            old = self._check(fs, path, expect)
            if old is None:
                self._check_free(fs, path)
            _last = max(datetime.now(UTC), _last + timedelta(microseconds=1))
            if path in fs.pseudo_dirs:
                fs.pseudo_dirs.remove(path)
            fs.pipe_file(path, data)
            fs.store[path].created = fs.store[path].modified = _last
            return self.found(fs.store[path])

    def delete(self, fs: Any, path: str, expect: Expect) -> bool:
        """Delete a blob, if it is what is expected; return whether it was there."""
        with _held.lock:
            self._check(fs, path, expect)
            return fs.store.pop(path, None) is not None

    def move(self, fs: Any, old: str, new: str, key: str, expect: Expect) -> Found:
        """Give a blob another name."""
        with _held.lock:
            data = self.read(fs, old, key)[1]
            found = self.put(fs, new, data, expect)
            fs.store.pop(old, None)
            return found

    def _check(self, fs: Any, path: str, expect: Expect) -> Any:
        file = fs.store.get(path)
        check_expected(None if file is None else self.found(file).etag, expect)
        return file

    def _check_free(self, fs: Any, path: str) -> None:
        inside = f"{path}/"
        above = path.rpartition("/")[0]
        while above and above not in fs.store:
            above = above.rpartition("/")[0]
        if above or any(name.startswith(inside) for name in fs.store):
            raise KeyConflictError("this medium can't hold both a blob and blobs below it; use another key")

    def remove_all(self, fs: Any, folder: str) -> None:
        """Delete a folder with everything in it."""
        with _held.lock:
            for name in [name for name in fs.store if name.startswith(f"{folder}/")]:
                del fs.store[name]
            fs.pseudo_dirs[:] = [
                name for name in fs.pseudo_dirs if name != folder and not name.startswith(f"{folder}/")
            ]

    def scan(self, fs: Any, base: str) -> Iterator[tuple[str, Found]]:
        """Yield all files below a path, by their names there."""
        with _held.lock:
            files = [(name, file) for name, file in fs.store.items() if name.startswith(base)]
            found = [(name[len(base) :], self.found(file)) for name, file in files]
        return iter(sorted(found))
