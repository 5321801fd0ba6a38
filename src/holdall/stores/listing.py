"""The files of a folder and of those below it, in order of their keys, and what lies there that can't be a
blob."""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

from holdall.blob import NOT_A_KEY
from holdall.errors import InvalidKeyError
from holdall.keys import past
from holdall.store import Info, LeftOut
from holdall.stores.drafts import describe
from holdall.stores.litter import is_draft, sweep
from holdall.stores.nofollow import FOLDER, LIST, Descriptors, open_into
from holdall.stores.oserrors import GONE, kind_of, translate
from holdall.stores.spelling import PRIVATE, are_plain, is_plain, is_small, segment_of, spell

_HIDDEN = "second file for one key"
_TOO_LONG = "path too long for a key"
_LONGEST = 1024
_BATCH = 256


class Folder(NamedTuple):
    """The contents of a folder, as segments of keys."""

    files: list[str]
    """Sorted."""
    folders: list[str]
    """With a `/` each, sorted: so they sort among the files as the keys below them do."""
    odd: dict[str, str]
    """The relative paths of those that are not spelled as themselves."""
    others: dict[str, str]
    """What can't be a blob: of each name, its kind."""


class Run(NamedTuple):
    """Files in one folder whose keys follow one another."""

    above: str
    """What their keys begin with."""
    folder: str
    """What their paths begin with."""
    names: list[str]
    odd: dict[str, str]

    def infos(self) -> Iterator[Info | LeftOut]:
        """What stat(2) says of each that is still there."""
        for start in range(0, len(self.names), _BATCH):
            yield from self._look(self.names[start : start + _BATCH])

    def _look(self, names: list[str]) -> list[Info | LeftOut]:
        # A few at once, so that no folder is open while the caller does other work.
        found: list[Info | LeftOut] = []
        with Descriptors() as fds:
            try:
                if not open_folder(fds, self.folder, FOLDER):
                    return []
                above, odd, folder = self.above, self.odd, fds[0]
                for name in names:
                    try:
                        what = os.stat(
                            odd.get(name, name) if odd else name, dir_fd=folder, follow_symlinks=False
                        )
                    except (FileNotFoundError, NotADirectoryError):
                        continue  # deleted since its folder was read
                    if stat.S_ISREG(what.st_mode):
                        found.append(describe(above + name, what))
                    else:
                        found.append(LeftOut(above + name, kind_of(what.st_mode)))
            except OSError as error:
                raise translate(error, "list") from error
        return found


class _Deeper(NamedTuple):
    above: str
    folder: str


def open_folder(fds: list[int], path: str, flags: int) -> bool:
    """Open a folder into a list, on no way through a link; whether it is there."""
    failed = open_into(fds, path.rstrip("/") or "/", flags)
    if failed and -failed not in GONE:
        raise OSError(-failed, os.strerror(-failed))
    return not failed


def printable(name: str) -> str:
    """A name with its bytes that aren't UTF-8 written out."""
    return name.encode("utf-8", "backslashreplace").decode()


class Listing:
    """A walk through a folder, whose path ends in `/`. `fold` is whether its disk is blind to case."""

    def __init__(self, base: str, fold: bool, path_of: Callable[[str], str]) -> None:
        self._base = base
        self._fold = fold
        self._path_of = path_of

    def walk(self, prefix: str, after: str) -> Iterator[Run | LeftOut]:
        """The files of a prefix past a key in order, in runs that lie in one folder, and what is left out."""
        start = self.start(prefix)
        if isinstance(start, LeftOut):
            return iter((start,) if start.path > after else ())
        if start is None:
            return iter(())
        above, folder = start
        return self.below(above, folder, after, prefix[len(above) :])

    def start(self, prefix: str) -> tuple[str, str] | LeftOut | None:
        """The deepest folder that all keys of a prefix lie in: as a part of the key, and as a path. What
        stands in the way if that can't be a blob; None for nothing."""
        end = prefix.rfind("/") + 1
        above, path = "", self._base
        while len(above) < end:
            above = prefix[: prefix.index("/", len(above)) + 1]
            try:
                path = self._path_of(above[:-1])
                mode = os.lstat(path).st_mode
            except (InvalidKeyError, FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise translate(error, "list") from error
            if not stat.S_ISDIR(mode):
                return None if stat.S_ISREG(mode) else LeftOut(above[:-1], kind_of(mode))
            path += "/"
        return above, path

    def below(self, above: str, folder: str, after: str, rest: str = "") -> Iterator[Run | LeftOut]:
        """The same for what starts with `rest` in one folder, and in those below it."""
        # A stack of levels rather than a recursion, so that a deep tree costs no more a step than a flat one.
        stack = [self._level(above, folder, after, rest)]
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
            elif isinstance(step, _Deeper):
                stack.append(self._level(step.above, step.folder, after, ""))
            else:
                yield step

    def children(self, prefix: str) -> Iterator[str | Info | LeftOut]:
        """What lies in the folder of a prefix: the blobs, the folders that hold any, and what is left out."""
        start = self.start(prefix)
        if isinstance(start, LeftOut):
            yield start
        if start is None or isinstance(start, LeftOut):
            return
        above, folder = start
        files, folders, odd, others = self.read(folder)
        for name, kind in others.items():
            if (above + name).startswith(prefix):
                yield LeftOut(above + name, kind)
        for name in sorted([*files, *folders]):
            key = above + name
            if not key.startswith(prefix):
                continue
            if name[-1] != "/":
                for entry in Run(above, folder, [name], odd).infos():
                    if isinstance(entry, Info):
                        yield entry
            elif any(isinstance(step, Run) for step in self.below(key, folder + odd.get(name, name), "")):
                yield key

    def _level(self, above: str, folder: str, after: str, rest: str) -> Iterator[Run | LeftOut | _Deeper]:
        try:
            files, folders, odd, others = self.read(folder)
        except InvalidKeyError:
            yield LeftOut(above[:-1], _TOO_LONG)
            return
        if len(above.encode()) + 255 > _LONGEST or odd:
            files, folders = self._short(above, files, others), self._short(above, folders, others)
        left = sorted(others) if others else []
        if rest:
            files, folders, left = _starting(files, rest), _starting(folders, rest), _starting(left, rest)
        if after:
            if after.startswith(above):
                seen = after[len(above) :]
                files = files[bisect_right(files, seen) :]
                folders = [name for name in folders if name > seen or seen.startswith(name)]
                left = left[bisect_right(left, seen) :]
            elif above < after:
                return
        done = 0
        for name in sorted([*folders, *left]) if left else folders:
            turn = bisect_left(files, name)
            if turn > done:
                yield Run(above, folder, files[done:turn], odd)
                done = turn
            if name in others:
                yield LeftOut(above + name, others[name])
            else:
                yield _Deeper(above + name, folder + odd.get(name, name))
        if done < len(files):
            yield Run(above, folder, files[done:] if done else files, odd)

    def _short(self, above: str, names: list[str], others: dict[str, str]) -> list[str]:
        """Those names whose keys are short enough; the others are left out."""
        kept: list[str] = []
        for name in names:
            # A key below a folder has one character more at least.
            if len((above + name).encode()) + (name[-1] == "/") <= _LONGEST:
                kept.append(name)
            else:
                others[name.rstrip("/")] = _TOO_LONG
        return kept

    def read(self, folder: str) -> Folder:
        """Return the contents of a folder; nothing if it is gone."""
        with Descriptors() as fds:
            try:
                if not open_folder(fds, folder, LIST):
                    return Folder([], [], {}, {})
                return self._read(fds[0])
            except OSError as error:
                raise _listing_error(error, folder) from error

    def _read(self, fd: int) -> Folder:
        files: list[str] = []
        folders: list[str] = []
        others: dict[str, str] = {}
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    files.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                else:
                    try:
                        kind = kind_of(entry.stat(follow_symlinks=False).st_mode)
                    except FileNotFoundError:
                        continue
                    segment = segment_of([entry.name], self._fold)
                    others[printable(entry.name) if segment is None else segment] = kind
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
                for segment, path in self._odd(fd, name, is_folder, others):
                    if segment in odd and odd[segment] != path:
                        others[segment.rstrip("/")] = _HIDDEN
                    # The spelling of our own hides a literal one.
                    if segment not in odd or spell(segment.rstrip("/"), self._fold) == path.rstrip("/"):
                        odd[segment] = path
            files += [segment for segment in odd if segment[-1] != "/"]
            folders += [segment for segment in odd if segment[-1] == "/"]
        # A file that is replaced while the folder is read may be read twice.
        if len(set(files)) < len(files):
            files = list(set(files))
        files.sort()
        folders = sorted(set(folders))
        return Folder(files, folders, odd, others)

    def _odd(self, fd: int, name: str, is_folder: bool, others: dict[str, str]) -> Iterator[tuple[str, str]]:
        if name.startswith(PRIVATE):
            if not is_folder and is_draft(name):
                sweep(name, fd)
            return
        if is_folder and name.endswith("%~") and (long := list(self._long(fd, [name], others))):
            yield from long
            return
        segment = segment_of([name], self._fold)
        if segment is None:
            others[printable(name)] = NOT_A_KEY
        elif is_folder:
            yield segment + "/", name + "/"
        else:
            yield segment, name

    def _long(self, above: int, names: list[str], others: dict[str, str]) -> Iterator[tuple[str, str]]:
        """What goes on in a folder because its name is too long for one."""
        with Descriptors() as fds:
            try:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                fds.append(os.open(names[-1], flags, dir_fd=above))
                for name, kind in sorted(names_in(fds[0])):
                    chain = [*names, name]
                    if kind == "folder" and name.endswith("%~"):
                        yield from self._long(fds[0], chain, others)
                        continue
                    segment = segment_of(chain, self._fold)
                    end = "/" if kind == "folder" else ""
                    if segment is not None and kind in ("file", "folder"):
                        yield segment + end, "/".join(chain) + end
                    else:
                        others[printable("/".join(chain))] = NOT_A_KEY
            except FileNotFoundError:
                return


def names_in(folder: int) -> Iterator[tuple[str, str]]:
    """Yield each name in an open folder with its kind, but for those of our own; sweep the files that dead
    writers left."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                kind = "file"
            elif entry.is_dir(follow_symlinks=False):
                kind = "folder"
            else:
                try:
                    kind = kind_of(entry.stat(follow_symlinks=False).st_mode)
                except FileNotFoundError:
                    continue  # deleted since its folder was read
            if not entry.name.startswith(PRIVATE):
                yield entry.name, kind
            elif kind == "file" and is_draft(entry.name):
                sweep(entry.name, folder)


def _listing_error(error: OSError, folder: str) -> Exception:
    if error.errno in (errno.EACCES, errno.EPERM):
        return translate(error, f"list {folder!r}")
    return translate(error, "list")


def _starting(names: list[str], rest: str) -> list[str]:
    return names[bisect_left(names, rest) : bisect_right(names, past(rest))]
