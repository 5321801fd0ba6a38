"""A store in hashed folders, for any number of any keys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b

from holdall.errors import InvalidArgumentError, InvalidKeyError, StoreUnavailableError
from holdall.keys import check_key
from holdall.store import Info, Store
from holdall.stores.filesystem import FilesystemStore, describe
from holdall.stores.spelling import PRIVATE, read_names, spell_segment

__all__ = ["HashdirStore"]

_MARK = PRIVATE + "hashdir"


class HashdirStore(FilesystemStore):
    """A store in a folder of hashed folders: no folder grows large, and any keys live side by side.

    A blob lies at `ab/cd/ef/name`, where `abcdef` begins the BLAKE2b digest (RFC 7693, 16 bytes) of its key
    and the name is the key, escaped; `a` and `a/b` can both be. Listing sorts all keys, in memory.

    Args:
        path: The folder. The first put makes it.
        width: How many hexadecimal digits name a folder.
        depth: How many folders lie in one another.
        durable: As in `FilesystemStore`.

    Raises:
        InvalidArgumentError: The folder was made with another width or depth.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = HashdirStore(folder)
    ...     store["a"] = store["a/b"] = b"both"
    ...     list(store)
    ['a', 'a/b']
    """

    schemes = ("hashdir",)
    _nests = True
    _prunes = False

    def __init__(
        self, path: str | os.PathLike[str], *, width: int = 2, depth: int = 3, durable: bool = False
    ) -> None:
        for name, value in (("width", width), ("depth", depth)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidArgumentError(f"{name} is an int of at least 1, not {value!r}")
        if width * depth > 32:
            raise InvalidArgumentError("width times depth is at most 32, the digits of a digest")
        super().__init__(path, durable=durable)
        self._width = width
        self._depth = depth
        self._cuts = [(at, at + width) for at in range(0, width * depth, width)]
        self._marked = self._check_mark()

    def _settings(self) -> dict[str, object]:
        return {"path": self._given, "width": self._width, "depth": self._depth, "durable": self._durable}

    def _check_mark(self) -> bool:
        """Whether the folder says how it is laid out; if so, as this store does."""
        try:
            with open(self._base + _MARK) as file:
                text = file.read(64)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreUnavailableError(f"{self._base + _MARK!r} can't be read: {error.strerror}") from error
        if text.split() != [str(self._width), str(self._depth)]:
            raise InvalidArgumentError(
                f"{self._given!r} was made with width and depth {text.strip()!r}, "
                f"not '{self._width} {self._depth}'; open it with these"
            )
        return True

    def _target(self, key: str) -> str:
        path = super()._target(key)
        if not self._marked:
            with self._changing():
                self._make_folder(self._base[:-1])
                with self._locked():
                    if not self._check_mark():
                        temporary = f"{self._base}{_MARK}.new-mark"
                        with open(temporary, "w") as file:
                            file.write(f"{self._width} {self._depth}\n")
                        os.replace(temporary, self._base + _MARK)
            self._marked = True
        return path

    def _path(self, key: str) -> str:
        key = check_key(key)
        digest = blake2b(key.encode(), digest_size=16).hexdigest()
        folders = "/".join([digest[start:stop] for start, stop in self._cuts])
        return f"{self._base}{folders}/{'/'.join(spell_segment(key, bool(self._fold)))}"

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        for key in self._keys(prefix, after):
            found = self._stat(self._path(key))
            if found is not None:
                yield describe(key, found)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        folders = [self._base]
        for _ in range(self._depth):
            folders = [
                f"{folder}{name}/"
                for folder in folders
                for name, is_folder in self._names(folder)
                if is_folder and len(name) == self._width
            ]
        keys = (key for folder in folders for key in self._keys_in(folder, []))
        return iter(sorted({key for key in keys if key.startswith(prefix) and key > after}))

    def _children(self, prefix: str) -> Iterator[str | Info]:
        return Store._children(self, prefix)

    def _keys_in(self, folder: str, chain: list[str]) -> Iterator[str]:
        """The keys whose files lie in a folder; a file that lies where its key does not is none of ours."""
        inner = folder + "".join([name + "/" for name in chain])
        for name, is_folder in self._names(inner):
            if name.startswith(PRIVATE):
                self._sweep(inner + name, is_folder)
            elif is_folder:
                if name.endswith("%~"):
                    yield from self._keys_in(folder, [*chain, name])
            else:
                key = read_names([*chain, name])
                try:
                    if self._path(key) == inner + name:
                        yield key
                except InvalidKeyError:
                    continue

    def _names(self, folder: str) -> list[tuple[str, bool]]:
        """What lies in a folder, but for links and the like: each name, and whether it is a folder."""
        try:
            with os.scandir(folder) as entries:
                return [
                    (entry.name, entry.is_dir(follow_symlinks=False))
                    for entry in entries
                    if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
                ]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreUnavailableError(f"{folder!r} can't be listed: {error.strerror}") from error
