"""A store in hashed folders, for any number of any keys."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b

from holdall.arguments import check_count
from holdall.errors import BlobExistsError, InvalidArgumentError, InvalidKeyError, StoreUnavailableError
from holdall.keys import check_key
from holdall.store import ABSENT, Info, LeftOut
from holdall.stores.drafts import Draft, compare, describe
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.listing import names_in, open_folder, printable
from holdall.stores.nofollow import LIST, Descriptors
from holdall.stores.oserrors import translate
from holdall.stores.spelling import PRIVATE, read_names, spell_segment

__all__ = ["HashdirStore"]

_MARK = PRIVATE + "hashdir"
_ELSEWHERE = "file that isn't where its key belongs"
_DIGITS = frozenset("0123456789abcdef")


class HashdirStore(FilesystemStore):
    """A store in a folder of hashed folders: no folder grows large, and any keys live side by side.

    A blob is at `ab/cd/ef/name`, where `abcdef` begins the BLAKE2b digest (RFC 7693, 16 bytes) of its key
    and the name is the key, escaped; `a` and `a/b` can both exist. A listing sorts all keys in memory.

    Args:
        path: The folder. The first put makes it.
        width: The number of hexadecimal digits in the name of a folder.
        depth: The number of levels of folders.
        durable: As in `FilesystemStore`.

    Raises:
        InvalidArgumentError: The folder was made with another width or depth.
        StoreUnavailableError: A newer version of holdall made it, or its mark can't be read.

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
        check_count(width, "width")
        check_count(depth, "depth")
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
        found = text.split()
        if len(found) != 2 or not all(each.isdecimal() for each in found):
            raise StoreUnavailableError(
                f"{self._base + _MARK!r} says {text.strip()!r}, which isn't a width and a depth: a newer "
                "version of holdall wrote it (upgrade holdall), or another program"
            )
        if found != [str(self._width), str(self._depth)]:
            raise InvalidArgumentError(
                f"{self._given!r} was made with width and depth {text.strip()!r}, "
                f"not '{self._width} {self._depth}'; open it with these"
            )
        return True

    def _target(self, key: str) -> str:
        path = super()._target(key)
        if not self._marked and not self._check_mark():
            draft = Draft(self._root, _MARK)
            try:
                draft.begin()
                draft.add(f"{self._width} {self._depth}\n".encode())
                draft.publish(_MARK, ABSENT, compare)
            except BlobExistsError:
                draft.drop()
                self._check_mark()  # another process was faster
            except BaseException:
                draft.drop()
                raise
        self._marked = True
        return path

    def _path(self, key: str) -> str:
        key = check_key(key)
        digest = blake2b(key.encode(), digest_size=16).hexdigest()
        folders = "/".join([digest[start:stop] for start, stop in self._cuts])
        return f"{self._base}{folders}/{'/'.join(spell_segment(key, self._folds(key)))}"

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        found, left = self._find()
        keys = [key for key in found if key.startswith(prefix) and key > after]
        strangers = [path for path in left if path.startswith(prefix) and path > after]
        for name in sorted([*keys, *strangers]):
            if name in left:
                yield LeftOut(name, left[name])
            if name in found:
                what = self._stat(self._path(name))
                if what is not None:
                    yield describe(name, what)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        found, left = self._find()
        self._left.warn(Counter(left.values()))
        return iter(sorted(key for key in found if key.startswith(prefix) and key > after))

    def _children(self, prefix: str) -> Iterator[str | Info]:
        # One look at all files, where `Store._children` would look at all of them again behind each folder.
        folder: str | None = None
        for key in self._keys(prefix, ""):
            if folder is not None and key.startswith(folder):
                continue
            slash = key.find("/", len(prefix))
            if slash >= 0:
                folder = key[: slash + 1]
                yield folder
            elif (what := self._stat(self._path(key))) is not None:
                yield describe(key, what)

    def _find(self) -> tuple[set[str], dict[str, str]]:
        """Return the keys of all blobs, and the kind of everything else: by the key that its name spells, so
        that a transfer knows what a target may hold in its place, otherwise by its path."""
        left: dict[str, tuple[str, str | None]] = {}
        folders = [""]
        for _ in range(self._depth):
            inner: list[str] = []
            for folder in folders:
                for name, kind in self._names(folder):
                    if kind == "folder" and len(name) == self._width:
                        inner.append(f"{folder}{name}/")
                    elif kind not in ("file", "folder") and self._is_hashed(name):
                        # Any keys may lie behind it, so that none can be said to be absent.
                        raise StoreUnavailableError(
                            f"{self._base + folder + name!r} is a {kind}, where a hashdir has a folder; put "
                            "the folder itself there"
                        )
                    else:
                        left[printable(folder + name)] = (_ELSEWHERE if kind == "file" else kind), None
            folders = inner
        keys = {key for folder in folders for key in self._find_in(folder, [], left)}
        named: dict[str, str] = {}
        for path, (kind, key) in left.items():
            named[path if key is None or key in keys or key in named else key] = kind
        return keys, named

    def _find_in(
        self, folder: str, chain: list[str], left: dict[str, tuple[str, str | None]]
    ) -> Iterator[str]:
        """The keys of the files in one folder; what isn't where its key belongs is left out."""
        inner = folder + "".join([name + "/" for name in chain])
        for name, kind in self._names(inner):
            if kind == "folder" and name.endswith("%~"):
                yield from self._find_in(folder, [*chain, name], left)
            else:
                key = read_names([*chain, name])
                try:
                    place = self._path(key)
                    if kind == "file" and place == self._base + inner + name:
                        yield key
                        continue
                except InvalidKeyError:
                    key = None
                left[printable(inner + name)] = (_ELSEWHERE if kind == "file" else kind), key

    def _is_hashed(self, name: str) -> bool:
        return len(name) == self._width and _DIGITS.issuperset(name)

    def _names(self, folder: str) -> list[tuple[str, str]]:
        """Return each name in a folder with its kind."""
        with Descriptors() as fds:
            try:
                if not open_folder(fds, self._base + folder, LIST):
                    return []
                return list(names_in(fds[0]))
            except OSError as error:
                raise translate(error, f"list {self._base + folder!r}") from error
