"""A repository with a work tree, in which files, index and branch change together or not at all.

A change is written down in a journal (`.git/holdall/journal`), then done: files, branch, index, each by a
rename under git's own locks. Whoever finds a journal when nobody holds `.git/holdall/lock` finishes what it
says if any of it can be seen, and else forgets it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import stat
import time
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import BinaryIO, NamedTuple

from holdall.errors import (
    InvalidKeyError,
    KeyConflictError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.ranges import CHUNK
from holdall.store import Body
from holdall.stores.git.exchange import exchange
from holdall.stores.git.index import EMPTY, Index, read_index
from holdall.stores.git.names import key_of
from holdall.stores.git.objects import Objects, sync_folder
from holdall.stores.git.program import Git, Pipe

__all__ = ["Change", "Draft", "Head", "Moved", "Repository"]

_log = logging.getLogger("holdall")

_WAIT = 10.0
_STALE = 3600.0
_FILE = 0o100644
_BUSY = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply")
_names = count()
_ticks = count(int.from_bytes(os.urandom(2), "little"))


class Moved(Exception):
    """Somebody else moved the branch or the index meanwhile: begin again."""


class Head(NamedTuple):
    """Where a commit goes."""

    ref: str
    """The branch, such as `refs/heads/main`, or `HEAD` where none is checked out."""
    commit: bytes | None


class Draft(NamedTuple):
    """A file that waits to be moved to its place."""

    path: str
    oid: bytes
    """Of the blob that git keeps of it."""
    raw: bytes
    """Of its own bytes: another one where attributes convert."""
    size: int
    stamp: int
    inode: int


class Change(NamedTuple):
    """A path that is to be another file, or none."""

    path: str
    draft: Draft | None
    mode: int = _FILE


class Repository:
    """A repository, found or made.

    Args:
        folder: The work tree.
        author: Such as `Ann <ann@example.org>`; None for whom git's configuration says.
        durable: Whether a commit is on the disk when it is acknowledged.
        timeout: In seconds, for what waits for another host.
    """

    def __init__(self, folder: str, author: str | None, durable: bool, timeout: float) -> None:
        self.top = folder
        self.git = Git(folder, timeout)
        self._author = author
        self.durable = durable
        if not os.path.lexists(f"{folder}/.git"):
            if _is_bare(folder):
                raise StoreUnavailableError(
                    f"{folder!r} has no work tree: it is a bare repository, or the inside of one; open a "
                    "clone of it, with remote=True to keep up with it"
                )
            self._make()
        said = self.git.run(
            "rev-parse",
            "--absolute-git-dir",
            "--git-common-dir",
            "--is-inside-work-tree",
            "--show-object-format",
        )
        private, shared, inside, algorithm = os.fsdecode(said).splitlines()
        if inside != "true":
            raise StoreUnavailableError(f"{folder!r} is no work tree of git")
        self.private = private
        self.shared = os.path.normpath(os.path.join(folder, shared))
        self.objects = Objects(self.git, f"{self.shared}/objects", algorithm, durable)
        self.algorithm = algorithm
        self.own = f"{private}/holdall"
        self._index_path = f"{private}/index"
        self._journal = f"{self.own}/journal"
        self._index: Index = EMPTY
        self._config: dict[str, str] = {}
        self._config_state: object = None
        self._identity: tuple[str, str] | None = None
        self._ignores = Pipe(folder, "check-ignore", "--stdin", "-z", "--verbose", "--non-matching")
        self._packed: tuple[object, dict[str, bytes]] = (None, {})
        self._after: list[Callable[[], object]] = []
        self.learn()
        if self._config.get("extensions.refstorage", "files") != "files":
            raise UnsupportedOperation("this repository keeps its refs in another form than files")
        self.fold = self._config.get("core.ignorecase") == "true"
        try:
            os.makedirs(self.own, exist_ok=True)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return  # it can be read at least
        if os.stat(self.own).st_dev != os.stat(folder).st_dev:
            raise StoreUnavailableError(
                "the work tree and its .git are on two file systems; no file moves between"
            )
        self._sweep()
        if (self.pending() or self._is_locked()) and os.access(self.own, os.W_OK):
            with self.locked():
                if self._is_locked():
                    self._unlock_all(self.head().ref)

    def _make(self) -> None:
        try:
            os.makedirs(self.top, exist_ok=True)
        except OSError as error:
            raise StoreUnavailableError(f"no folder can be made at {self.top!r}: {error.strerror}") from error
        fd = os.open(self.top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not os.path.lexists(f"{self.top}/.git"):
                self.git.run("init", "--quiet")
        finally:
            os.close(fd)

    def close(self) -> None:
        self.objects.close()
        self._ignores.close()

    # --- configuration --------------------------------------------------------------------------------

    def learn(self) -> None:
        """Read git's configuration, if it isn't the one that was read before."""
        home = os.path.expanduser("~")
        above = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
        named = os.environ.get("GIT_CONFIG_GLOBAL")
        state = (
            *[_signature(path) for path in (f"{self.shared}/config", named or f"{home}/.gitconfig")],
            *[
                os.environ.get(f"GIT_{who}_{what}")
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            ],
        )
        if state == self._config_state:
            return
        config: dict[str, str] = {}
        for line in os.fsdecode(self.git.run("config", "--list", "-z", "--includes")).split("\0"):
            name, _, value = line.partition("\n")
            config[name] = value
        self._config, self._identity, self._config_state = config, None, state
        excludes, attributes = config.get("core.excludesfile"), config.get("core.attributesfile")
        self._excluding = os.path.expanduser(excludes or f"{above}/git/ignore")
        self._attributing = os.path.expanduser(attributes or f"{above}/git/attributes")
        self.converting = (
            config.get("core.autocrlf", "false").lower() not in ("false", "no", "0", "")
            or os.path.exists(self._attributing)
            or os.path.exists("/etc/gitattributes")
        )

    def identity(self) -> tuple[str, str]:
        """Who writes and who commits.

        Raises:
            StoreUnavailableError: Nobody has said.
        """
        if self._identity is None:
            if self._author is not None:
                name, _, mail = self._author.partition("<")
                author = f"{name.strip()} <{mail.rstrip('> ')}>"
                code, committer, _ = self._who("COMMITTER")
                self._identity = author, committer if code == 0 else author
            else:
                people: list[str] = []
                for who in ("AUTHOR", "COMMITTER"):
                    code, person, said = self._who(who)
                    if code:
                        raise StoreUnavailableError(
                            "git doesn't know who commits: give author='Name <mail>', or run "
                            f"`git config --global user.name ...` and `user.email ...` "
                            f"({' '.join(said.splitlines()[-1:])})"
                        )
                    people.append(person)
                self._identity = people[0], people[1]
        return self._identity

    def _mover(self) -> str:
        """Who the reflog says moved the branch: to take over others' commits, nobody has to be known."""
        try:
            return self.identity()[1]
        except StoreUnavailableError:
            return "unknown <>"

    def _who(self, who: str) -> tuple[int, str, str]:
        code, printed, said = self.git.call("-c", "user.useConfigOnly=true", "var", f"GIT_{who}_IDENT")
        return code, printed.decode(errors="replace").rpartition("> ")[0] + ">", said

    def is_ignored(self, path: str) -> bool:
        """Whether git would refuse to add a path that it doesn't track."""
        # Usually no rule is there at all, and nobody has to be asked.
        places = [f"{self.shared}/info/exclude", self._excluding, f"{self.top}/.gitignore"]
        end = path.find("/")
        while end > 0:
            places.append(f"{self.top}/{path[:end]}/.gitignore")
            end = path.find("/", end + 1)
        state = [_signature(place) for place in places]
        if not any(state) or (not any(state[1:]) and not _says_anything(places[0])):
            return False
        # Relative to the folder that git runs in, and said to be that by `./` where it looks like magic.
        said = self._ignores.ask(os.fsencode(path) + b"\0", lambda source: _fields(source, 4), tuple(state))
        return bool(said[2]) and not said[2].startswith(b"!")

    def converts(self, path: str) -> bool:
        """Whether git would keep other bytes of a file than those in it."""
        if not self.converting and not self._index.has_attributes and not _signature(self._info_attributes):
            places = [f"{self.top}/.gitattributes"]
            end = path.find("/")
            while end > 0:
                places.append(f"{self.top}/{path[:end]}/.gitattributes")
                end = path.find("/", end + 1)
            if not any(map(os.path.exists, places)):
                return False
        printed = self.git.run("check-attr", "--stdin", "-z", *_CONVERTING, data=os.fsencode(path) + b"\0")
        values = dict(zip(printed.split(b"\0")[1::3], printed.split(b"\0")[2::3], strict=False))
        if values.get(b"text") == b"unset":
            values.pop(b"eol", None)
        automatic = self._config.get("core.autocrlf", "false").lower() not in ("false", "no", "0", "")
        return any(value not in (b"unspecified", b"unset") for value in values.values()) or (
            automatic and values.get(b"text") != b"unset"
        )

    @property
    def _info_attributes(self) -> str:
        return f"{self.shared}/info/attributes"

    def _hook(self, name: str) -> bool:
        folder = self._config.get("core.hookspath")
        path = f"{self.shared}/hooks/{name}"
        if folder:
            path = os.path.join(self.top, os.path.expanduser(folder), name)
        return os.access(path, os.X_OK)

    # --- what is there --------------------------------------------------------------------------------

    def index(self) -> Index:
        """What git tracks now."""
        try:
            found = os.stat(self._index_path)
        except FileNotFoundError:
            return EMPTY
        index = self._index
        if index.signature == (found.st_mtime_ns, found.st_ino, found.st_size):
            return index
        index = self._index = read_index(self._index_path, self.algorithm, self.fold)
        return index

    def pending(self) -> bool:
        """Whether a change is under way, or was when its writer was killed."""
        try:
            fd = os.open(self._journal, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return os.read(fd, 1) == b"+"
        finally:
            os.close(fd)

    def head(self) -> Head:
        """The branch that is checked out, and its last commit."""
        said = _text(f"{self.private}/HEAD")
        if said.startswith("ref: "):
            ref = said[5:].strip()
            return Head(ref, self.ref(ref))
        return Head("HEAD", bytes.fromhex(said))

    def ref(self, name: str) -> bytes | None:
        """What a ref names."""
        for _ in range(3):
            # One that is packed meanwhile is there, and then here.
            said = _text(f"{self.shared}/{name}")
            if said.startswith("ref: "):
                return self.ref(said[5:].strip())
            if said:
                return bytes.fromhex(said)
            found = self._packed_refs().get(name)
            if found is not None:
                return found
        return None

    def _packed_refs(self) -> dict[str, bytes]:
        path = f"{self.shared}/packed-refs"
        state = _signature(path)
        if state is None:
            return {}
        if self._packed[0] != state:
            refs: dict[str, bytes] = {}
            for line in _text(path).splitlines():
                if line[:1] not in ("#", "^", ""):
                    oid, _, name = line.partition(" ")
                    refs[name] = bytes.fromhex(oid)
            self._packed = state, refs
        return self._packed[1]

    # --- changing it ----------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep all others of holdall away, once what a killed one left is finished."""
        try:
            if not os.path.isdir(self.own):
                os.makedirs(self.own, exist_ok=True)
            fd = os.open(f"{self.own}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise failed(error, "lock the repository") from error
        after: list[Callable[[], object]] = []
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if self.pending():
                self._recover()
            self._after = after
            yield
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise failed(error, "write") from error
        finally:
            os.close(fd)
        for act in after:
            act()

    def draft(self, body: Body, path: str) -> Draft:
        """The pieces of a body as a file, and as a blob that git keeps."""
        name = f"{self.own}/draft-{os.getpid():x}-{next(_names):x}-{os.urandom(4).hex()}"
        try:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                raise failed(error, "write") from error
            try:
                os.makedirs(self.own, exist_ok=True)
                fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except OSError as refused:
                raise failed(refused, "write") from refused
        try:
            try:
                pieces = iter(body)
                first = next(pieces, b"")
                data = bytes(first) if type(first) is not bytes else first
                size = 0
                rest = next(pieces, None)
                if rest is not None:
                    # A stream may last: the lock tells sweepers that its writer lives.
                    fcntl.flock(fd, fcntl.LOCK_EX)
                size += _written(fd, data)
                while rest is not None:
                    size += _written(fd, rest)
                    data = b""
                    rest = next(pieces, None)
                if size == len(data):
                    raw = self.objects.write(b"blob", data)
                else:
                    raw = self.objects.write_file(fd, size)
                oid = raw
                if self.converts(path):
                    with open(name, "rb") as file:
                        said = self.git.run("hash-object", "-w", "--stdin", f"--path={path}", data=file)
                    oid = bytes.fromhex(said.strip().decode())
                # Two changes within one tick of the kernel's clock would else carry the same time.
                stamp = (time.time_ns() & ~1023) | (next(_ticks) & 1023)
                os.utime(fd, ns=(stamp, stamp))
                if self.durable:
                    os.fsync(fd)
                return Draft(name, oid, raw, size, stamp, os.fstat(fd).st_ino)
            finally:
                os.close(fd)
        except BaseException as error:
            os.unlink(name)
            if isinstance(error, OSError) and not isinstance(error, StoreError):
                raise failed(error, "write") from error
            raise

    def drop(self, draft: Draft) -> None:
        """Forget a draft that isn't needed, if it has not moved to its place."""
        try:
            os.unlink(draft.path)
        except FileNotFoundError:
            return

    def commit(self, changes: Sequence[Change], message: str) -> bytes | None:
        """Change files, and commit that; the commit, or None where none is needed. The lock is held.

        Raises:
            KeyConflictError: Something is in the way.
            Moved: Somebody else moved the branch or the index.
        """
        head = self.head()
        before = None if head.commit is None else self.objects.root(head.commit)
        after = self.objects.graft(
            before,
            {
                os.fsencode(path): None if draft is None else (b"%o" % mode, draft.oid)
                for path, draft, mode in changes
            },
        )
        if after is None:
            after = self.objects.write(b"tree", b"")
            unchanged = before is None or before == after
        else:
            unchanged = before == after
        made = None if unchanged else self._commit_object(after, head.commit, message)
        self.land(head, made, changes, f"commit: {message.splitlines()[0]}")
        return made

    def _commit_object(self, tree: bytes, parent: bytes | None, message: str) -> bytes:
        author, committer = self.identity()
        for name in _BUSY:
            if os.path.exists(f"{self.private}/{name}"):
                raise StoreUnavailableError(
                    f"a merge or the like is under way in this work tree ({name}): finish it first"
                )
        message = self._asked(tree, message)
        if self._config.get("commit.gpgsign", "false").lower() in ("true", "yes", "1", "on"):
            parents = () if parent is None else ("-p", parent.hex())
            name, _, mail = author.partition(" <")
            said = self.git.run(
                *("-c", "i18n.commitEncoding=UTF-8"),
                *("commit-tree", "-S", tree.hex(), *parents),
                data=message.encode(),
                GIT_AUTHOR_NAME=name,
                GIT_AUTHOR_EMAIL=mail[:-1],
            )
            return bytes.fromhex(said.strip().decode())
        now = _now()
        lines = [f"tree {tree.hex()}"]
        if parent is not None:
            lines.append(f"parent {parent.hex()}")
        lines += [f"author {author} {now}", f"committer {committer} {now}", "", message.rstrip("\n") + "\n"]
        return self.objects.write(b"commit", "\n".join(lines).encode())

    def _asked(self, tree: bytes, message: str) -> str:
        """The message that the hooks of a commit leave, if they let it pass."""
        if self._hook("post-commit"):
            self._after.append(lambda: self.git.call("hook", "run", "--ignore-missing", "post-commit"))
        asked = [name for name in ("pre-commit", "prepare-commit-msg", "commit-msg") if self._hook(name)]
        if not asked:
            return message
        index, text = f"{self.own}/hook-index", f"{self.private}/COMMIT_EDITMSG"
        self.git.run("read-tree", tree.hex(), GIT_INDEX_FILE=index)
        with open(text, "w", encoding="utf-8") as file:
            file.write(message + "\n")
        arguments = {"pre-commit": (), "prepare-commit-msg": (text, "message"), "commit-msg": (text,)}
        try:
            for name in asked:
                code, printed, said = self.git.call(
                    "hook", "run", "--ignore-missing", name, "--", *arguments[name], GIT_INDEX_FILE=index
                )
                if code:
                    told = said or printed.decode(errors="replace").strip()
                    raise UnsupportedOperation(
                        f"the hook {name} of the repository refuses the commit: {told}"
                    )
        finally:
            os.unlink(index)
        with open(text, encoding="utf-8", errors="replace") as file:
            return file.read()

    def land(self, head: Head, made: bytes | None, changes: Sequence[Change], told: str) -> None:
        """Let files, branch and index be what a commit says. The lock is held.

        Args:
            head: What the branch must be now.
            made: What it becomes; None to leave it.
            changes: Of the files.
            told: For the reflog.
        """
        index = self.index()
        gone = {os.fsencode(change.path): None for change in changes if change.draft is None}
        for change in changes:
            if change.draft is not None:
                try:
                    self._make_room(index, os.fsencode(change.path), gone)
                except KeyConflictError as error:
                    # The path, which the store knows the key of.
                    error.key = change.path
                    raise
        self._lock_index()
        try:
            if self.index().signature != index.signature:
                raise Moved
            with self._ref_locked(head, made):
                self._write_journal(head, made, changes, told)
                self._move(head, made, changes, told)
        finally:
            _unlock(f"{self.own}/index.new", f"{self.private}/index.lock")

    def _move(self, head: Head, made: bytes | None, changes: Sequence[Change], told: str) -> None:
        """What is left to do once the journal is written and all locks are held; it can be done again."""
        by_git = made is not None and self._hook("reference-transaction")
        if by_git and made is not None and self.ref_or_head(head.ref) != made:
            old = head.commit.hex() if head.commit else "0" * (2 * self.objects.width)
            try:
                self.git.run("update-ref", "-m", told, "HEAD", made.hex(), old)
            except StoreError:
                self._forget()
                raise
        folders: set[str] = set()
        entries: dict[bytes, tuple[int, bytes, os.stat_result] | None] = {}
        for change in sorted(changes, key=lambda change: change.draft is not None):
            path = f"{self.top}/{change.path}"
            folder = path[: path.rindex("/")]
            if change.draft is None:
                entries[os.fsencode(change.path)] = None
                try:
                    os.unlink(path)
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    continue
                self._tidy(folder)
            else:
                draft = change.draft
                if not _is_placed(path, draft):
                    try:
                        os.rename(draft.path, path)
                    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                        self._make_folder(folder)
                        if os.path.isdir(path):
                            _remove_empty(path)
                        os.rename(draft.path, path)
                    if change.mode & 0o111:
                        os.chmod(path, 0o755)
                entries[os.fsencode(change.path)] = change.mode, draft.oid, os.lstat(path)
            folders.add(folder)
        if made is not None and not by_git and self.ref_or_head(head.ref) != made:
            self._set_ref(head, made, told)
        if self.durable:
            for folder in folders:
                if os.path.isdir(folder):
                    sync_folder(folder)
        self._write_index(self.index().changed(entries, self.fold))
        self._forget()

    def ref_or_head(self, name: str) -> bytes | None:
        """What a ref names, or HEAD itself."""
        return self.head().commit if name == "HEAD" else self.ref(name)

    def _make_room(self, index: Index, path: bytes, gone: Mapping[bytes, object]) -> None:
        index.check_room(path, gone)
        name = os.fsdecode(path)
        where = f"{self.top}/{name}"
        if any(name.startswith(os.fsdecode(other) + "/") for other in gone):
            return
        self._make_folder(where[: where.rindex("/")])
        if index.find(path) < 0:
            self._check_inside(name)
        try:
            found = os.lstat(where)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(found.st_mode):
            if any(other.startswith(path + b"/") for other in gone):
                return
            try:
                _remove_empty(where)
            except OSError:
                raise KeyConflictError(f"{name!r} is a folder with files that git doesn't track") from None
        elif not stat.S_ISREG(found.st_mode):
            raise KeyConflictError(f"{name!r} is a symbolic link or the like, which is not replaced")
        elif index.find(path) < 0:
            raise KeyConflictError(
                f"{name!r} is a file that git doesn't track: `git add` it, or move it away"
            )

    def _make_folder(self, folder: str) -> None:
        """Make a folder of the work tree, and those above it, none through a symbolic link."""
        path = self.top
        for name in folder[len(self.top) + 1 :].split("/"):
            if not name:
                continue
            path = f"{path}/{name}"
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                os.mkdir(path)
                continue
            if stat.S_ISLNK(found.st_mode):
                raise KeyConflictError(f"{path!r} is a symbolic link, and links are not followed")
            if not stat.S_ISDIR(found.st_mode):
                raise KeyConflictError(
                    f"{path!r} is a file, and a work tree can't hold both it and blobs below"
                )

    def _check_inside(self, name: str) -> None:
        """Refuse a path in another repository, of which git would track nothing here."""
        end = name.find("/")
        while end > 0:
            folder = f"{self.top}/{name[:end]}"
            if os.path.lexists(f"{folder}/.git"):
                raise KeyConflictError(f"{folder!r} is a repository of its own: open a GitStore there")
            end = name.find("/", end + 1)

    def _tidy(self, folder: str) -> None:
        while len(folder) > len(self.top):
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = folder[: folder.rindex("/")]

    # --- git's locks ----------------------------------------------------------------------------------

    def _lock_index(self) -> None:
        _lock(f"{self.own}/index.new", f"{self.private}/index.lock")

    def _is_locked(self) -> bool:
        """Whether a lock of git's is one of ours: somebody commits, or was killed at it."""
        return _is_ours(f"{self.own}/index.new", f"{self.private}/index.lock") or _is_ours(
            f"{self.own}/ref.lock", self._ref_path(self.head().ref) + ".lock"
        )

    def _unlock_all(self, ref: str) -> None:
        """Give back the locks of a killed writer. Ours is held."""
        _unlock(f"{self.own}/index.new", f"{self.private}/index.lock")
        _unlock(f"{self.own}/ref.lock", self._ref_path(ref) + ".lock", keep=True)

    def _write_index(self, index: Index) -> None:
        draft = f"{self.own}/index.new"
        content = index.packed(self.algorithm)
        fd = os.open(draft, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            _written(fd, content)
            stamp = (time.time_ns() & ~1023) | (next(_ticks) & 1023)
            os.utime(fd, ns=(stamp, stamp))
            if self.durable:
                os.fsync(fd)
            found = os.fstat(fd)
        finally:
            os.close(fd)
        os.rename(f"{self.private}/index.lock", self._index_path)
        os.unlink(draft)
        index.signature = found.st_mtime_ns, found.st_ino, found.st_size
        self._index = index
        if self.durable:
            sync_folder(self.private)

    def _ref_path(self, ref: str) -> str:
        return f"{self.private}/HEAD" if ref == "HEAD" else f"{self.shared}/{ref}"

    @contextmanager
    def _ref_locked(self, head: Head, made: bytes | None) -> Generator[None]:
        if made is None or self._hook("reference-transaction"):
            if self.head() != head:
                raise Moved
            yield
            return
        lock = self._ref_path(head.ref) + ".lock"
        draft = f"{self.own}/ref.lock"
        _lock(draft, lock, keep=True)
        try:
            # The old value is checked while git can't change it, as `git update-ref` does.
            if self.head() != head:
                raise Moved
            yield
        finally:
            _unlock(draft, lock, keep=True)

    def _set_ref(self, head: Head, made: bytes, told: str) -> None:
        path = self._ref_path(head.ref)
        # The file that was the branch before the last commit becomes the branch again: no file is made.
        spare = f"{self.own}/ref"
        value = made.hex().encode() + b"\n"
        fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _written(fd, value)
            os.ftruncate(fd, len(value))
            if self.durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        if self._config.get("core.logallrefupdates", "true").lower() not in ("false", "no", "0", "off"):
            old = head.commit.hex() if head.commit else "0" * (2 * self.objects.width)
            line = f"{old} {made.hex()} {self._mover()} {_now()}\t{told}\n".encode()
            logs = {f"{self.private}/logs/HEAD"}
            if head.ref != "HEAD":
                logs.add(f"{self.shared}/logs/{head.ref}")
            for log in logs:
                try:
                    _append(log, line)
                except FileNotFoundError:
                    os.makedirs(log[: log.rindex("/")], exist_ok=True)
                    _append(log, line)
        if not _is_regular(path) or not exchange(spare, path):
            os.rename(spare, path)
        if self.durable:
            sync_folder(path[: path.rindex("/")])
            sync_folder(self.own)

    # --- the journal ----------------------------------------------------------------------------------

    def _write_journal(self, head: Head, made: bytes | None, changes: Sequence[Change], told: str) -> None:
        files: list[list[object]] = []
        for path, draft, mode in changes:
            if draft is None:
                files.append([path, None, os.path.lexists(f"{self.top}/{path}"), mode])
            else:
                fields = [draft.path, draft.oid.hex(), draft.raw.hex(), draft.size, draft.stamp, draft.inode]
                files.append([path, fields, False, mode])
        old = None if head.commit is None else head.commit.hex()
        said = [head.ref, old, None if made is None else made.hex(), told, files]
        content = json.dumps(said).encode(errors="surrogateescape")
        # Written in place, since a new file costs more than all else here. The first byte says that the rest
        # is there, and comes last.
        fd = os.open(self._journal, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.pwrite(fd, b"-%08x%08x" % (len(content), zlib.crc32(content)), 0)
            done = 0
            while done < len(content):
                done += os.pwrite(fd, content[done:], 17 + done)
            if self.durable:
                os.fsync(fd)
            os.pwrite(fd, b"+", 0)
            if self.durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        if self.durable:
            sync_folder(self.own)

    def _read_journal(self) -> bytes | None:
        """What the journal says; None for nothing."""
        try:
            fd = os.open(self._journal, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if os.read(fd, 1) != b"+":
                return None
            with open(fd, "rb", closefd=False) as file:
                size, check = int(file.read(8), 16), int(file.read(8), 16)
                content = file.read(size)
        except ValueError:
            return None
        finally:
            os.close(fd)
        return content if zlib.crc32(content) == check else None

    def _forget(self) -> None:
        """Say that nothing is under way."""
        fd = os.open(self._journal, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, b"-", 0)
        finally:
            os.close(fd)

    def _recover(self) -> None:
        """Finish what a killed writer had begun, if any of it can be seen, or forget it."""
        content = self._read_journal()
        if content is None:
            return
        ref, before, after, told, files = json.loads(content.decode(errors="surrogateescape"))
        old = None if before is None else bytes.fromhex(before)
        made = None if after is None else bytes.fromhex(after)
        changes: list[Change] = []
        now = self.ref_or_head(ref)
        seen = made is not None and now == made
        for path, fields, was, mode in files:
            draft = None
            if fields is None:
                seen |= was and not os.path.lexists(f"{self.top}/{path}")
            else:
                name, oid, raw, size, stamp, inode = fields
                draft = Draft(name, bytes.fromhex(oid), bytes.fromhex(raw), size, stamp, inode)
                seen |= _is_placed(f"{self.top}/{path}", draft)
            changes.append(Change(path, draft, mode))
        self._unlock_all(ref)
        if not seen:
            self._forget()
            for change in changes:
                if change.draft is not None:
                    self.drop(change.draft)
            _log.info("a change that a killed writer had not begun is forgotten: %s", told)
            return
        changes = [change for change in map(self._found_again, changes) if change is not None]
        self._lock_index()
        try:
            head = Head(ref, now)
            if made is not None and now not in (old, made):
                # Somebody committed since: this comes on top of that.
                root = None if now is None else self.objects.root(now)
                tree = self.objects.graft(
                    root,
                    {
                        os.fsencode(path): None if draft is None else (b"%o" % mode, draft.oid)
                        for path, draft, mode in changes
                    },
                )
                made = self._commit_object(
                    tree or self.objects.write(b"tree", b""), now, told.partition(": ")[2]
                )
            if made is None or made == now:
                self._move(head, None, changes, told)
            else:
                lock = self._ref_path(ref) + ".lock"
                _lock(f"{self.own}/ref.lock", lock, keep=True)
                try:
                    self._move(head, made, changes, told)
                finally:
                    _unlock(f"{self.own}/ref.lock", lock, keep=True)
        finally:
            _unlock(f"{self.own}/index.new", f"{self.private}/index.lock")
        _log.info("a change that a killed writer had begun is finished: %s", told)

    def _found_again(self, change: Change) -> Change | None:
        """A change whose draft is there, though it was dropped; None if the file is somebody's by now."""
        draft, path = change.draft, f"{self.top}/{change.path}"
        if draft is None or _is_placed(path, draft) or os.path.lexists(draft.path):
            return change
        if os.path.lexists(path):
            place = os.lstat(path)
            key = key_of(os.fsencode(change.path), self.fold)
            entry = None if key is None else self.index().entries.get(key)
            if entry is None or not entry.is_clean(place):
                return None
        return change._replace(draft=self.draft(self.objects.stream(draft.raw), change.path))

    def _sweep(self) -> None:
        """Remove the drafts of writers that were killed long ago."""
        for name in os.listdir(self.own):
            path = f"{self.own}/{name}"
            if not name.startswith("draft-"):
                continue
            try:
                if time.time() - os.lstat(path).st_ctime < _STALE or self.pending():
                    continue
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
            except OSError as error:
                _log.debug("%r is not swept: %s", path, error)
            finally:
                os.close(fd)


_CONVERTING = ("text", "crlf", "eol", "filter", "ident", "working-tree-encoding")


def failed(error: OSError, what: str) -> StoreError:
    """The error of the contract for one of the system."""
    if isinstance(error, StoreError):
        return error
    text = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreUnavailableError("the disk is full, or a quota is; the old blob stays")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreUnavailableError(f"no permission to {what}: look at the owner and mode of the repository")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidKeyError("the path of its file is too long for the system")
    if error.errno in (errno.ENOTDIR, errno.EISDIR):
        return KeyConflictError("a work tree can't hold both a blob and blobs below it")
    return StoreUnavailableError(f"the file system can't {what}: {text}")


def _lock(draft: str, lock: str, keep: bool = False) -> None:
    """Take one of git's locks, by a link to a file of ours, so that one that we left is known."""
    if not keep:
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            _unlock(draft, lock)
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        os.close(fd)
    deadline = time.monotonic() + _WAIT
    pause = 0.0005
    while True:
        try:
            os.link(draft, lock)
            return
        except FileNotFoundError:
            os.makedirs(lock[: lock.rindex("/")], exist_ok=True)
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        except FileExistsError:
            if keep and _is_ours(draft, lock):
                return  # the holder of the other lock was killed
            if time.monotonic() > deadline:
                if not keep:
                    os.unlink(draft)
                raise StoreUnavailableError(
                    f"another git holds {lock!r}; if none runs, one was killed: remove that file"
                ) from None
            time.sleep(pause)
            pause = min(2 * pause, 0.05)


def _unlock(draft: str, lock: str, keep: bool = False) -> None:
    """Give back a lock that is ours, and only then."""
    if _is_ours(draft, lock):
        os.unlink(lock)
    if not keep:
        try:
            os.unlink(draft)
        except FileNotFoundError:
            return


def _is_ours(draft: str, lock: str) -> bool:
    try:
        return os.path.samestat(os.lstat(draft), os.lstat(lock))
    except FileNotFoundError:
        return False


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _is_bare(folder: str) -> bool:
    """Whether a folder is a repository itself, as git sees it."""
    return os.path.lexists(f"{folder}/HEAD") and all(
        os.path.isdir(f"{folder}/{name}") for name in ("objects", "refs")
    )


def _is_placed(path: str, draft: Draft) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_ino == draft.inode and found.st_mtime_ns == draft.stamp


def _remove_empty(folder: str) -> None:
    for name in os.listdir(folder):
        _remove_empty(f"{folder}/{name}")
    os.rmdir(folder)


def _written(fd: int, piece: bytes | memoryview) -> int:
    size = done = os.write(fd, piece)
    while done < len(piece):
        size = os.write(fd, memoryview(piece)[done : done + 64 * CHUNK])
        done += size
    return done


def _append(path: str, line: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


def _signature(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _says_anything(path: str) -> bool:
    return any(line.strip() and not line.startswith("#") for line in _text(path).splitlines())


def _fields(source: BinaryIO, number: int) -> list[bytes]:
    fields: list[bytes] = []
    field = bytearray()
    while len(fields) < number:
        byte = source.read(1)
        if not byte:
            raise EOFError
        if byte == b"\0":
            fields.append(bytes(field))
            field.clear()
        else:
            field += byte
    return fields


def _now() -> str:
    now = int(time.time())
    offset = time.localtime(now).tm_gmtoff // 60
    sign = "-" if offset < 0 else "+"
    return f"{now} {sign}{abs(offset) // 60:02}{abs(offset) % 60:02}"
