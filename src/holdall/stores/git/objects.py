"""The objects of a repository: blobs, trees and commits, written loose, read loose or by `git cat-file`.

A loose object is a header and its bytes, deflated, in a file named by the hash of both: see git's
`Documentation/gitformat-loose.txt`. Git itself reads objects in packs.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from bisect import bisect_left
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from typing import BinaryIO, TypeVar

from holdall.errors import IntegrityError
from holdall.ranges import CHUNK
from holdall.stores.git.files import write
from holdall.stores.git.program import Git, Pipe
from holdall.stores.local import sync_folder

T = TypeVar("T")

FOLDER = b"40000"
"""The mode of a tree in a tree."""
_CACHED = 512
_SMALL = 1 << 16
_names = count()


class Tree:
    """The contents of a tree object, in git's order: a folder sorts as if its name ended in `/`."""

    __slots__ = ("keys", "raws")

    def __init__(self, keys: list[bytes], raws: list[bytes]) -> None:
        self.keys = keys
        self.raws = raws

    @classmethod
    def read(cls, content: bytes, width: int) -> Tree:
        keys: list[bytes] = []
        raws: list[bytes] = []
        at = 0
        while at < len(content):
            space = content.index(b" ", at)
            end = content.index(b"\0", space)
            name = content[space + 1 : end]
            int(content[at:space], 8)
            keys.append(name + b"/" if content[at:space] == FOLDER else name)
            raws.append(content[at : end + 1 + width])
            at = end + 1 + width
        if at > len(content):
            raise ValueError("it ends within an entry")
        return cls(keys, raws)

    def find(self, name: bytes) -> tuple[bytes, bytes] | None:
        """The mode and the object of a name."""
        for key in (name, name + b"/"):
            place = bisect_left(self.keys, key)
            if place < len(self.keys) and self.keys[place] == key:
                raw = self.raws[place]
                end = raw.index(b"\0")
                return raw[: raw.index(b" ")], raw[end + 1 :]
        return None

    def put(self, name: bytes, entry: tuple[bytes, bytes] | None) -> None:
        """Let a name be this mode and object, or nothing."""
        for key in (name, name + b"/"):
            place = bisect_left(self.keys, key)
            if place < len(self.keys) and self.keys[place] == key:
                del self.keys[place], self.raws[place]
        if entry is not None:
            key = name + b"/" if entry[0] == FOLDER else name
            place = bisect_left(self.keys, key)
            self.keys.insert(place, key)
            self.raws.insert(place, entry[0] + b" " + name + b"\0" + entry[1])

    def entries(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Each one's mode, name and object."""
        for raw in self.raws:
            space, end = raw.index(b" "), raw.index(b"\0")
            yield raw[:space], raw[space + 1 : end], raw[end + 1 :]


class Objects:
    """The objects of one repository, in its folder `objects`; if `durable` is set, what is written is on the
    disk when it is named."""

    def __init__(self, git: Git, folder: str, algorithm: str, durable: bool) -> None:
        self._git = git
        self._folder = folder
        self.algorithm = algorithm
        self.width = 20 if algorithm == "sha1" else 32
        self._durable = durable
        self._batch = Pipe(git.folder, "cat-file", "--batch")
        self._check = Pipe(git.folder, "cat-file", "--batch-check")
        self._trees: dict[bytes, Tree] = {}
        self._roots: dict[bytes, bytes] = {}

    def close(self) -> None:
        self._batch.close()
        self._check.close()

    def _path(self, oid: bytes) -> str:
        name = oid.hex()
        return f"{self._folder}/{name[:2]}/{name[2:]}"

    def _loose(self, oid: bytes) -> bytes | None:
        try:
            fd = os.open(self._path(oid), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None  # it is in a pack, or in another repository that this one borrows from
        try:
            packed = os.read(fd, _SMALL)
            if len(packed) == _SMALL:
                return None  # git streams it
        finally:
            os.close(fd)
        return zlib.decompress(packed)

    def read(self, oid: bytes) -> bytes:
        """The bytes of an object that is known to be small."""
        with checking(oid):
            loose = self._loose(oid)
            if loose is not None:
                start = loose.index(b"\0")
                if int(loose[:start].split(b" ")[1]) != len(loose) - start - 1:
                    raise ValueError("its size is wrong")
                return loose[start + 1 :]

        def answer(source: BinaryIO) -> bytes:
            size = _size(source.readline(), oid)
            content = source.read(size)
            if len(content) != size or not source.read(1):
                raise EOFError
            return content

        return self._batch.ask(oid.hex().encode() + b"\n", answer)

    def size(self, oid: bytes) -> int:
        """Of a blob, in bytes."""
        try:
            fd = os.open(self._path(oid), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return self._check.ask(oid.hex().encode() + b"\n", lambda source: _size(source.readline(), oid))
        try:
            with checking(oid):
                start = zlib.decompressobj().decompress(os.read(fd, 256), 64)
                return int(start[start.index(b" ") + 1 : start.index(b"\0")])
        finally:
            os.close(fd)

    def stream(self, oid: bytes, size: int | None = None) -> Iterator[bytes]:
        """Return the bytes of a blob in pieces; its size, if that is known, saves a look."""
        if (self.size(oid) if size is None else size) <= CHUNK:
            return iter((self.read(oid),))
        return self._git.streaming("cat-file", "blob", oid.hex())

    def resolve(self, revision: str) -> bytes | None:
        """The commit that a revision names; None if it names none."""
        if not revision or any(char in revision for char in "\n\0") or revision.startswith("-"):
            return None
        try:
            question = f"{revision}^{{commit}}\n".encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return None

        def answer(source: BinaryIO) -> bytes | None:
            line = source.readline()
            if not line:
                raise EOFError  # git was ended before it answered
            words = line.split()
            return bytes.fromhex(words[0].decode()) if len(words) == 3 and words[1] == b"commit" else None

        return self._check.ask(question, answer)

    def root(self, commit: bytes) -> bytes:
        """The tree of a commit."""
        found = self._roots.get(commit)
        if found is None:
            content = self.read(commit)
            with checking(commit):
                found = bytes.fromhex(content[5 : content.index(b"\n")].decode())
                if not content.startswith(b"tree ") or len(found) != self.width:
                    raise ValueError("it isn't a commit")
            self._remember(self._roots, commit, found)
        return found

    def know_root(self, commit: bytes, tree: bytes) -> None:
        """Remember the tree of a commit that was made of it."""
        self._remember(self._roots, commit, tree)

    def time_and_parents(self, commit: bytes) -> tuple[int, list[bytes]]:
        """When a commit was made, in seconds since 1970, and the commits before it."""
        header = self.read(commit).partition(b"\n\n")[0].split(b"\n")
        with checking(commit):
            times = [line.split()[-2] for line in header if line.startswith(b"committer ")]
            parents = [bytes.fromhex(line[7:].decode()) for line in header if line.startswith(b"parent ")]
            return int(times[0]), parents

    def tree(self, oid: bytes) -> Tree:
        """A tree, which the caller leaves as it is."""
        found = self._trees.get(oid)
        if found is None:
            content = self.read(oid)
            with checking(oid):
                found = Tree.read(content, self.width)
            self._remember(self._trees, oid, found)
        return found

    @staticmethod
    def _remember(cache: dict[bytes, T], key: bytes, value: T) -> None:
        if len(cache) >= _CACHED:
            cache.clear()
        cache[key] = value

    def find(self, root: bytes, path: bytes) -> tuple[bytes, bytes] | None:
        """The mode and the object of a path in a tree."""
        names = path.split(b"/")
        for name in names[:-1]:
            found = self.tree(root).find(name)
            if found is None or found[0] != FOLDER:
                return None
            root = found[1]
        return self.tree(root).find(names[-1])

    def walk(self, root: bytes, above: bytes = b"") -> Iterator[tuple[bytes, bytes, bytes]]:
        """Yield the mode, path and object of each entry of a tree, except trees."""
        for mode, name, oid in self.tree(root).entries():
            if mode == FOLDER:
                yield from self.walk(oid, above + name + b"/")
            else:
                yield mode, above + name, oid

    def write(self, kind: bytes, content: bytes | memoryview) -> bytes:
        """Keep an object: what names it."""
        header = b"%s %d\0" % (kind, len(content))
        digest = hashlib.new(self.algorithm, header, usedforsecurity=False)
        digest.update(content)
        oid = digest.digest()
        if not self._has(oid):
            if kind == b"tree" or len(content) < CHUNK:
                # Most of a tree is the names of objects, random bytes that don't get shorter.
                level = 0 if kind == b"tree" else 1
                self._keep(oid, iter((zlib.compress(header + bytes(content), level),)))
            else:
                views = memoryview(content)
                pieces = (views[at : at + CHUNK] for at in range(0, len(content), CHUNK))
                self._keep(oid, _deflate(header, pieces))
        return oid

    def write_file(self, fd: int, size: int) -> bytes:
        """Keep the bytes of an open file as a blob."""
        oid = self.hash_file(fd, size)
        if not self._has(oid):
            self._keep(oid, _deflate(b"blob %d\0" % size, _pieces(fd, size)))
        return oid

    def hash_file(self, fd: int, size: int) -> bytes:
        """What would name the bytes of an open file."""
        digest = hashlib.new(self.algorithm, b"blob %d\0" % size, usedforsecurity=False)
        for piece in _pieces(fd, size):
            digest.update(piece)
        return digest.digest()

    def _has(self, oid: bytes) -> bool:
        try:
            # As git does: what is named again isn't to be pruned as old and unused.
            os.utime(self._path(oid))
        except OSError:
            return False
        return True

    def _keep(self, oid: bytes, pieces: Iterator[bytes]) -> None:
        path = self._path(oid)
        folder = path[: path.rindex("/")]
        # Names that begin so are swept by git, should a kill leave one.
        temporary = f"{folder}/tmp_obj_{os.getpid():x}_{next(_names)}_{os.urandom(3).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            try:
                fd = os.open(temporary, flags, 0o444)
                break
            except FileNotFoundError:
                # It was never there, or `git gc` has just removed it, as it does with empty ones.
                os.makedirs(folder, exist_ok=True)
        try:
            try:
                for piece in pieces:
                    write(fd, piece)
                if self._durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        if self._durable:
            sync_folder(folder)

    def graft(self, oid: bytes | None, changes: Mapping[bytes, tuple[bytes, bytes] | None]) -> bytes:
        """Write the tree that another becomes by changes of paths."""
        return self._graft(oid, changes) or self.write(b"tree", b"")

    def _graft(self, oid: bytes | None, changes: Mapping[bytes, tuple[bytes, bytes] | None]) -> bytes | None:
        """The same; None for an empty one."""
        there = Tree([], []) if oid is None else self.tree(oid)
        tree = Tree(there.keys.copy(), there.raws.copy())
        here: dict[bytes, tuple[bytes, bytes] | None] = {}
        below: dict[bytes, dict[bytes, tuple[bytes, bytes] | None]] = {}
        for path, change in changes.items():
            name, slash, rest = path.partition(b"/")
            if slash:
                below.setdefault(name, {})[rest] = change
            else:
                here[name] = change
        for name, inner in below.items():
            found = tree.find(name)
            folder = found[1] if found is not None and found[0] == FOLDER else None
            made = self._graft(folder, inner)
            if made is not None:
                tree.put(name, (FOLDER, made))
            elif folder is not None:
                tree.put(name, None)
        for name, change in here.items():
            if change is None:
                found = tree.find(name)
                if found is None or found[0] == FOLDER:
                    continue
            tree.put(name, change)
        if not tree.raws:
            return None
        made = self.write(b"tree", b"".join(tree.raws))
        if oid is not None:
            self._trees.pop(oid, None)  # the past is read less often, and there is room for so many only
        self._remember(self._trees, made, tree)
        return made

    def changed_by(
        self, commit: bytes
    ) -> Iterator[tuple[bytes, tuple[bytes, bytes] | None, tuple[bytes, bytes] | None]]:
        """The paths that a commit changed, as `differ` yields them."""
        _, parents = self.time_and_parents(commit)
        return self.differ(self.root(parents[0]) if parents else None, self.root(commit))

    def differ(
        self, old: bytes | None, new: bytes | None, above: bytes = b""
    ) -> Iterator[tuple[bytes, tuple[bytes, bytes] | None, tuple[bytes, bytes] | None]]:
        """The paths that two trees differ in, with what each has there."""
        if old == new:
            return
        one, two = self._read_by_key(old), self._read_by_key(new)
        for key in sorted({*one, *two}):
            was, now = one.get(key), two.get(key)
            if was == now:
                continue
            if key.endswith(b"/"):
                yield from self.differ(was and was[1], now and now[1], above + key)
            else:
                yield above + key, was, now

    def _read_by_key(self, oid: bytes | None) -> dict[bytes, tuple[bytes, bytes]]:
        """The mode and object of each entry of a tree, by its key."""
        if oid is None:
            return {}
        tree = self.tree(oid)
        return {key: (mode, inner) for key, (mode, _, inner) in zip(tree.keys, tree.entries(), strict=True)}


@contextmanager
def checking(oid: bytes) -> Generator[None]:
    """Raise `IntegrityError` where what is read of an object can't be right."""
    try:
        yield
    except (zlib.error, ValueError, IndexError) as error:
        raise IntegrityError(
            f"the object {oid.hex()} of the repository is damaged: `git fsck` lists such objects; get it "
            "from another clone"
        ) from error


def _size(line: bytes, oid: bytes) -> int:
    words = line.split()
    if len(words) != 3:
        if not line:
            raise EOFError
        raise IntegrityError(
            f"the repository lacks the object {oid.hex()}: `git fsck` lists what is missing; get it from "
            "another clone"
        )
    return int(words[2])


def _pieces(fd: int, size: int) -> Iterator[bytes]:
    at = 0
    while at < size:
        piece = os.pread(fd, min(CHUNK, size - at), at)
        if not piece:
            return
        at += len(piece)
        yield piece


def _deflate(header: bytes, pieces: Iterator[bytes] | Iterator[memoryview]) -> Iterator[bytes]:
    deflate = zlib.compressobj(1)
    yield deflate.compress(header)
    for piece in pieces:
        yield deflate.compress(piece)
    yield deflate.flush()
