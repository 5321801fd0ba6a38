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
from contextlib import contextmanager, nullcontext
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
from holdall.stores.git.locks import Busy, alone, give_back, is_ours, take
from holdall.stores.git.names import key_of
from holdall.stores.git.objects import Objects, sync_folder
from holdall.stores.git.program import Git, Pipe
from holdall.stores.nofollow import READ, has_link, open_file

__all__ = ["Change", "Draft", "Head", "Moved", "Repository"]

_log = logging.getLogger("holdall")

_PATIENCE = 1.0
_STALE = 3600.0
_LATELY = 5.0
"""Seconds that a git may take from reading the index to writing it."""
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
        self.git = Git(folder, timeout, durable)
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
            "--is-inside-work-tree",
            "--show-object-format",
            "--show-prefix",
            "--absolute-git-dir",
        )
        # The path comes last, since it may hold the end of a line.
        inside, algorithm, prefix, private = os.fsdecode(said)[:-1].split("\n", 3)
        if inside != "true" or prefix:
            # A damaged .git is passed over by git for that of a folder above.
            raise StoreUnavailableError(f"{folder!r} is no work tree of git")
        self.private = private
        # As gitrepository-layout(5) says it of linked work trees.
        self.shared = os.path.normpath(os.path.join(private, _text(f"{private}/commondir")))
        self.objects = Objects(self.git, f"{self.shared}/objects", algorithm, durable)
        self.algorithm = algorithm
        self.own = f"{private}/holdall"
        self.index_path = f"{private}/index"
        self._journal = f"{self.own}/journal"
        self.latest: Index = EMPTY
        """The index as it was read or written last; `index` looks for a newer one."""
        self._config: dict[str, str] = {}
        self._config_state: object = None
        self._identity: tuple[str, str] | None = None
        # Without the index, which it would read but once.
        self._ignores = Pipe(
            folder, *("check-ignore", "--no-index"), *("--stdin", "-z", "--verbose", "--non-matching")
        )
        self._packed: tuple[object, dict[str, bytes]] = (None, {})
        self._after: list[Callable[[], object]] = []
        self._outwaited: object = None
        self._mended: object = None
        self._given_up: object = None
        self.learn()
        if self._config.get("extensions.refstorage", "files") != "files":
            raise UnsupportedOperation("this repository keeps its refs in another form than files")
        self.fold = self._is_on("core.ignorecase")
        try:
            os.makedirs(self.own, exist_ok=True)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            self._writable = False
            return  # it can be read at least
        if os.stat(self.own).st_dev != os.stat(folder).st_dev:
            raise StoreUnavailableError(
                "the work tree and its .git are on two file systems; no file moves between"
            )
        self._writable = os.access(self.own, os.W_OK)
        self._sweep()
        if (self.pending() or self._is_locked()) and self._writable:
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
        places = (named or f"{home}/.gitconfig", f"{above}/git/config", "/etc/gitconfig")
        state = (
            *[
                _signature(path)
                for path in (f"{self.shared}/config", f"{self.private}/config.worktree", *places)
            ],
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
            name, given, value = line.partition("\n")
            # A name alone says yes.
            config[name] = value if given else "true"
        self._config, self._identity, self._config_state = config, None, state
        excludes, attributes = config.get("core.excludesfile"), config.get("core.attributesfile")
        self._excluding = os.path.expanduser(excludes or f"{above}/git/ignore")
        self._attributing = os.path.expanduser(attributes or f"{above}/git/attributes")
        self.converting = (
            self._is_on("core.autocrlf")
            or os.path.exists(self._attributing)
            or os.path.exists("/etc/gitattributes")
        )

    def _is_on(self, name: str, default: str = "false") -> bool:
        return self._config.get(name, default).lower() not in ("false", "no", "off", "0", "")

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
        if not self.converting and not self.latest.has_attributes and not _signature(self._info_attributes):
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
        return any(value not in (b"unspecified", b"unset") for value in values.values()) or (
            self._is_on("core.autocrlf") and values.get(b"text") != b"unset"
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
            found = os.stat(self.index_path)
        except FileNotFoundError:
            return EMPTY
        index = self.latest
        if index.signature == (found.st_mtime_ns, found.st_ino, found.st_size):
            return index
        index = self.latest = read_index(self.index_path, self.algorithm, self.fold)
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

    def is_suspect(self) -> bool:
        """Whether the index that was read last is git's, and was not compared yet with what was committed."""
        return self.latest.by_git and self._writable and self.latest.signature != self._mended

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

    def compare(self) -> None:
        """Look whether the index has what was committed, unless somebody holds the lock for long."""
        if self.latest.signature == self._given_up:
            return
        try:
            with self.locked(_PATIENCE):
                return
        except Busy:
            self._given_up = self.latest.signature

    @contextmanager
    def locked(self, patience: float | None = None) -> Generator[None]:
        """Keep all others of holdall away, once what a killed one left is finished.

        Args:
            patience: How many seconds it waits for the lock; None is as long as it takes.

        Raises:
            Busy: It took longer.
        """
        try:
            if not os.path.isdir(self.own):
                os.makedirs(self.own, exist_ok=True)
            fd = os.open(f"{self.own}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise failed(error, "lock the repository") from error
        after: list[Callable[[], object]] = []
        try:
            with alone(fd, patience):
                if self.pending():
                    self._recover()
                self.index()
                if self.is_suspect():
                    self._mend()
                self._after = after
                yield
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise failed(error, "write") from error
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

    def check_idle(self) -> None:
        """Refuse to go on where a person is in the middle of something that moves the branch.

        Raises:
            StoreUnavailableError: A merge, a rebase or the like is under way.
        """
        name = self._under_way()
        if name is not None:
            raise StoreUnavailableError(
                f"a merge or the like is under way in this work tree ({name}): finish it first"
            )

    def _under_way(self) -> str | None:
        return next((name for name in _BUSY if os.path.exists(f"{self.private}/{name}")), None)

    def _commit_object(self, tree: bytes, parent: bytes | None, message: str) -> bytes:
        self.identity()
        self.check_idle()
        return self.make_commit(tree, [] if parent is None else [parent], self._asked(tree, message))

    def make_commit(self, tree: bytes, parents: Sequence[bytes], message: str) -> bytes:
        """Write a commit, of now, and signed where the configuration says so."""
        author, committer = self.identity()
        now = _now()
        header = [f"tree {tree.hex()}", *[f"parent {parent.hex()}" for parent in parents]]
        header += [f"author {author} {now}", f"committer {committer} {now}"]
        return self._write_commit([line.encode() for line in header], (message.rstrip("\n") + "\n").encode())

    def remake_commit(self, tree: bytes, parent: bytes, header: Sequence[bytes], message: bytes) -> bytes:
        """Write a commit as another one was, by its header and message, with another tree and parent."""
        _, committer = self.identity()
        author = next(line for line in header if line.startswith(b"author "))
        moment = next(line for line in header if line.startswith(b"committer ")).rsplit(b" ", 2)[1:]
        made = [
            b"tree " + tree.hex().encode(),
            b"parent " + parent.hex().encode(),
            author,
            b" ".join((b"committer", committer.encode(), *moment)),
            *[line for line in header if line.startswith(b"encoding ")],
        ]
        return self._write_commit(made, message)

    def _write_commit(self, header: Sequence[bytes], message: bytes) -> bytes:
        if not self._is_on("commit.gpgsign"):
            return self.objects.write(b"commit", b"\n".join(header) + b"\n\n" + message)
        # As `git commit-tree` is told what a header says.
        arguments: list[str] = []
        encoding = "UTF-8"
        people: dict[str, str] = {}
        for line in header:
            name, _, value = os.fsdecode(line).partition(" ")
            if name in ("author", "committer"):
                person, _, rest = value.partition(" <")
                mail, _, moment = rest.rpartition("> ")
                for what, said in (("NAME", person), ("EMAIL", mail), ("DATE", f"@{moment}")):
                    people[f"GIT_{name.upper()}_{what}"] = said
            elif name == "encoding":
                encoding = value
            else:
                arguments += ["-p", value] if name == "parent" else [value]
        command = ("-c", f"i18n.commitEncoding={encoding}", "commit-tree", "-S", *arguments)
        code, made, told = self.git.call(*command, data=message, network=False, **people)
        if code:
            raise StoreUnavailableError(f"git can't sign the commit (commit.gpgsign): {told}")
        return bytes.fromhex(made.strip().decode())

    def _asked(self, tree: bytes, message: str) -> str:
        """The message that the hooks of a commit leave, if they let it pass."""
        if self._hook("post-commit"):
            self._after.append(lambda: self.git.call("hook", "run", "--ignore-missing", "post-commit"))
        asked = [name for name in ("pre-commit", "prepare-commit-msg", "commit-msg") if self._hook(name)]
        if not asked:
            return message
        # Not `COMMIT_EDITMSG`, which a person may have open.
        index, text = f"{self.own}/hook-index", f"{self.own}/hook-message"
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
            with open(text, encoding="utf-8", errors="replace") as file:
                message = file.read()
        finally:
            os.unlink(index)
            os.unlink(text)
        if not message.strip():
            raise UnsupportedOperation("the hooks of the repository leave no commit message")
        return message

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
        self._lock_index()
        try:
            if self.index().signature != index.signature or self.is_suspect():
                raise Moved
            for change in changes:
                if change.draft is not None:
                    try:
                        self._make_room(index, os.fsencode(change.path), gone)
                    except KeyConflictError as error:
                        # The path, which the store knows the key of.
                        error.key = change.path
                        raise
            by_git = made is None or self._hook("reference-transaction")
            with nullcontext() if by_git else self._ref_locked(head.ref):
                # The old value is checked while git can't change it, as `git update-ref` does.
                if self.head() != head:
                    raise Moved
                self._write_journal(head, made, changes, told)
                self._move(head, made, changes, told)
        finally:
            give_back(f"{self.own}/index.new", f"{self.private}/index.lock")

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
                if len(folder) > len(self.top) and has_link(folder, len(self.top) + 1):
                    continue  # the blob went with its folder, and what is there is no part of the work tree
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

    def wait_for_git(self) -> bool:
        """Wait until no other git is changing the work tree, a second at most for each; whether one was."""
        lock = f"{self.private}/index.lock"
        waited = False
        deadline = time.monotonic() + _PATIENCE
        while (found := _signature(lock)) is not None and found != self._outwaited:
            if time.monotonic() > deadline:
                # A person may be writing a commit message, or a killed git left it.
                self._outwaited = found
                return False
            time.sleep(0.0005)  # a lock of git's is a file, whose end nobody tells
            waited = True
        return waited

    def _lock_index(self) -> None:
        take(f"{self.own}/index.new", f"{self.private}/index.lock")

    def _is_locked(self) -> bool:
        """Whether a lock of git's is one of ours: somebody commits, or was killed at it."""
        locks = [(f"{self.own}/index.new", f"{self.private}/index.lock"), *self._ref_locks(self.head().ref)]
        return any(is_ours(draft, lock) for draft, lock in locks)

    def _unlock_all(self, ref: str) -> None:
        """Give back the locks of a killed writer. Ours is held."""
        give_back(f"{self.own}/index.new", f"{self.private}/index.lock")
        for draft, lock in self._ref_locks(ref):
            give_back(draft, lock, keep=True)

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
        os.rename(f"{self.private}/index.lock", self.index_path)
        os.unlink(draft)
        index.signature = found.st_mtime_ns, found.st_ino, found.st_size
        self.latest = index
        if self.durable:
            sync_folder(self.private)

    def _ref_path(self, ref: str) -> str:
        return f"{self.private}/HEAD" if ref == "HEAD" else f"{self.shared}/{ref}"

    def _ref_locks(self, ref: str) -> list[tuple[str, str]]:
        """The locks that git takes to move a branch that is checked out, each by a file of ours."""
        locks = [(f"{self.own}/head.lock", f"{self.private}/HEAD.lock")]
        return locks if ref == "HEAD" else [*locks, (f"{self.own}/ref.lock", f"{self.shared}/{ref}.lock")]

    @contextmanager
    def _ref_locked(self, ref: str) -> Generator[None]:
        try:
            for draft, lock in self._ref_locks(ref):
                take(draft, lock, keep=True)
            yield
        finally:
            for draft, lock in self._ref_locks(ref):
                give_back(draft, lock, keep=True)

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
        if self._is_on("core.logallrefupdates", "true"):
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
                with self._ref_locked(ref):
                    self._move(head, made, changes, told)
        finally:
            give_back(f"{self.own}/index.new", f"{self.private}/index.lock")
        _log.info("a change that a killed writer had begun is finished: %s", told)

    def _mend(self) -> None:
        """Put back into the index what a `git commit` took out which read it before our change and wrote it
        after that: git reads the index before it locks it, and finds out too late that the branch moved.
        """
        index = self.latest
        head = self.head()
        if index.signature is None or index.unmerged or self._under_way():
            self._mended = index.signature
            return
        entries: dict[bytes, tuple[int, bytes, os.stat_result] | None] = {}
        for path, (was, now) in self._lately(head.commit, index.signature[0] / 1e9 - _LATELY).items():
            found = index.mode_and_oid(path, self.objects.width)
            if found is None and now is None and len(was) > 1 and (last := was[0]) is not None:
                # A second `git commit` may have committed that, just after our put, and left the file behind.
                if (place := self._as_committed(os.fsdecode(path), last)) is not None:
                    entries[path] = int(last[0], 8), last[1], place
                continue
            if found == now or found not in was:
                continue
            if now is None:
                if not os.path.lexists(f"{self.top}/{os.fsdecode(path)}"):
                    entries[path] = None
            elif (place := self._as_committed(os.fsdecode(path), now)) is not None:
                entries[path] = int(now[0], 8), now[1], place
        if not entries:
            self._mended = index.signature
            return
        self._lock_index()
        try:
            if self.index() is not index or self.head() != head:
                return  # the next call looks again
            self._write_index(index.changed(entries, self.fold))
        finally:
            give_back(f"{self.own}/index.new", f"{self.private}/index.lock")
        _log.info("a git that was overtaken had undone %d changes in the index; they are back", len(entries))

    def _lately(
        self, commit: bytes | None, since: float
    ) -> dict[bytes, tuple[list[tuple[bytes, bytes] | None], tuple[bytes, bytes] | None]]:
        """The paths that the last commits changed: what each had there before, and has now."""
        changed: dict[bytes, tuple[list[tuple[bytes, bytes] | None], tuple[bytes, bytes] | None]] = {}
        try:
            while commit is not None:
                header = self.objects.read(commit).partition(b"\n\n")[0].split(b"\n")
                moment = next(line for line in header if line.startswith(b"committer ")).split()[-2]
                if int(moment) < since:
                    break
                parents = [bytes.fromhex(line[7:].decode()) for line in header if line.startswith(b"parent ")]
                parent = parents[0] if parents else None
                before = None if parent is None else self.objects.root(parent)
                for path, was, now in self.objects.differ(before, self.objects.root(commit)):
                    changed.setdefault(path, ([], now))[0].append(was)
                commit = parent
        except StoreUnavailableError as error:
            _log.debug("the history ends, as in a shallow clone: %s", error)
        return changed

    def _as_committed(self, path: str, entry: tuple[bytes, bytes]) -> os.stat_result | None:
        """A file of the work tree, if it is what a commit has there."""
        fd = open_file(f"{self.top}/{path}", READ)
        if fd < 0:
            return None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or not entry[0].startswith(b"100"):
                return None
            oid = self.objects.hash_file(fd, found.st_size)
            if oid != entry[1] and self.converts(path):
                with open(fd, "rb", closefd=False) as file:
                    said = self.git.run("hash-object", "--stdin", f"--path={path}", data=file)
                oid = bytes.fromhex(said.strip().decode())
            return found if oid == entry[1] else None
        finally:
            os.close(fd)

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
    if os.path.islink(folder):
        raise NotADirectoryError(errno.ENOTDIR, "a symbolic link is not followed", folder)
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
