"""A store in a file system of fsspec."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, ClassVar, TypeVar

from holdall.arguments import check_type
from holdall.blob import NOT_A_KEY, Attributes, Body, Can, Expect, Info, LeftOut, Piece
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidTypeError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.keys import is_key
from holdall.pieces import join_pieces, regroup
from holdall.ranges import CHUNK, span
from holdall.store import Store
from holdall.stores.fsspec import drafts
from holdall.stores.fsspec.address import parse
from holdall.stores.fsspec.drafts import Draft
from holdall.stores.fsspec.driver import driver
from holdall.stores.fsspec.errors import ChangedError, failed
from holdall.stores.fsspec.media import FILE, Found, Local, Medium, Webdav
from holdall.stores.fsspec.memory import Memory
from holdall.stores.fsspec.names import Listing, find_path, info_of
from holdall.stores.fsspec.options import Hidden, hide, secrets_of, settings_of, values_of
from holdall.stores.fsspec.pool import PATIENCE, Loan, Pool, begin, join, leave, run, with_loan
from holdall.stores.fsspec.sftp import Sftp, session_class
from holdall.stores.fsspec.stream import Held
from holdall.stores.leftout import LeftOutCounts
from holdall.stores.password import Password

T = TypeVar("T")

_TRIES = 20
_MEDIA: dict[str, type[Medium]] = {
    "fsspec.implementations.local.LocalFileSystem": Local,
    "fsspec.implementations.memory.MemoryFileSystem": Memory,
    "fsspec.implementations.sftp.SFTPFileSystem": Sftp,
    "webdav4.fsspec.WebdavFileSystem": Webdav,
}
"""The file systems that are known. A subclass may do things in another way, and isn't."""


class FsspecStore(Store):
    """The files of a folder in any file system that fsspec knows, such as of an SFTP or a WebDAV server.

    A put writes a file under another name, and moves it to its place once it is whole. Where it isn't known
    that this replaces a file in one step, the store is only read, and `can` says so: the disk, files in
    memory, and OpenSSH's SFTP server are written to.

    Args:
        filesystem_or_url: A URL such as `sftp://user@host/folder`, percent-encoded; or a file system of
            fsspec, which stays as it is: except for one in memory, the store opens others like it.
        path: The folder, below that of the URL.
        username: The user, unless the URL says it.
        password: The password. `env:NAME` means an environment variable, and `file:PATH` the first line of a
            file. Only such a reference can be pickled.
        atomic_move: Your word that the file system's `mv` replaces a file in one step, so that the store may
            write.
        storage_options: What else the file system takes. Values of options whose names look like those of
            secrets are never shown.

    Raises:
        MissingDependencyError: fsspec, or the package of the file system, isn't installed.
        InvalidArgumentError: An argument isn't valid.

    >>> store = FsspecStore("memory://reports")
    >>> store["2026/may.txt"] = b"all is well"
    >>> import fsspec
    >>> fsspec.filesystem("memory").cat("/reports/2026/may.txt")
    b'all is well'
    """

    _secrets: ClassVar[frozenset[str]] = frozenset({"password"})

    def __init__(
        self,
        filesystem_or_url: Any,
        path: str = "",
        *,
        username: str | None = None,
        password: Any = None,
        atomic_move: bool = False,
        **storage_options: Any,
    ) -> None:
        secret: object = Hidden(password) if isinstance(password, str | Password) else password
        # From here on no traceback shows it.
        password = None
        options = hide(storage_options)
        del storage_options
        check_type(path, str, "a path must be a str")
        check_type(atomic_move, bool, "atomic_move must be True or False")
        if isinstance(filesystem_or_url, str):
            where = parse(filesystem_or_url, options, username, secret)
            self._kind: Any = where.kind
            given, root, secret, self._place = where.options, where.root, where.password, where.place
            shown: Any = where.url
            user = None if "@" in where.place else username
            self._fs = None
        else:
            if options or username is not None or secret is not None:
                raise InvalidTypeError("a file system that is passed in has its options already")
            self._fs = _check_given(filesystem_or_url)
            self._kind = type(self._fs)
            given = hide(self._fs.storage_options)
            root, shown, user = "", self._fs, None
            names = self._kind.protocol
            self._place = f"{names if isinstance(names, str) else names[0]}://"
        self._reopens: dict[str, object] = {"filesystem_or_url": shown, "path": path, "username": user}
        self._reopens["password"] = secret.setting if isinstance(secret, Hidden) else secret
        self._reopens |= {"atomic_move": atomic_move, **settings_of(options)}
        self._process = os.getpid()
        self._given = given
        self._begin(root, path, atomic_move)

    def _begin(self, root: str, path: str, atomic_move: bool) -> None:
        kind = self._kind
        known = _MEDIA.get(f"{kind.__module__}.{kind.__qualname__}", Medium)
        if atomic_move and known is Medium and kind.mv is driver().AbstractFileSystem.mv:
            raise InvalidArgumentError(
                f"atomic_move can't be true: the mv of a {kind.__name__} copies the file, then deletes it"
            )
        self._medium = known(atomic_move)
        self._memory = self._medium if isinstance(self._medium, Memory) else None
        self.inline = self._memory is not None
        joined = f"{root.rstrip('/')}/{path.strip('/')}" if root and path else root or path
        if self._memory is not None:
            joined = f"/{joined.strip('/')}"
        self._base = f"{joined.rstrip('/')}/" if joined else ""
        self._is_swept = False
        self._left = LeftOutCounts(self._place)
        self._can: Can | None = self._medium.can if known is not Sftp else None
        self._why = self._medium.why
        make = partial(_open_system, kind, self._fs, self._given, known)
        if self._memory is not None:
            # One that was passed in may hold files of its own.
            make = partial(_same, self._fs if self._fs is not None else kind(skip_instance_cache=True))
        self._token: object = _token(kind, atomic_move, self._given) if self._fs is None else object()
        medium = self._medium
        self._pool = join(self._token, lambda: Pool(make, medium.close, medium.disown, medium.is_alive))

    @property
    def can(self) -> Can:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the file system does natively and atomically; a server is asked at first use."""
        if self._can is None:
            if self._pool.can is None:
                can, self._pool.why = self._lend("read", lambda loan: self._medium.ask(loan.fs))
                self._pool.can = can
            self._can, self._why = self._pool.can, self._pool.why
        return self._can

    def _need(self, flag: Can, call: str) -> None:
        if not self._closed and flag in (Can.WRITE | Can.DELETE) and flag not in self.can:
            raise ReadOnlyError(f"{self._place} can only be read: {self._why}")
        super()._need(flag, call)

    def _settings(self) -> dict[str, object]:
        return self._reopens

    def __reduce__(self) -> tuple[object, ...]:
        if self._memory is not None:
            if not getattr(self._fs, "global_store", True):
                raise UnsupportedOperation(
                    "a pickle of this file system in memory would be a copy of its files"
                )
            return _here, (os.getpid(), self._reopens)
        if self._fs is not None and any(isinstance(value, Hidden) for value in self._given.values()):
            raise UnsupportedOperation(
                "an FsspecStore over a file system that was passed in with a secret can't be pickled; open "
                "it by its URL, with a reference to the secret (password='env:NAME')"
            )
        return super().__reduce__()

    def _close(self) -> None:
        leave(self._token, self._pool)

    def _lend(self, what: str, function: Callable[[Loan], T]) -> T:
        return self._guard(what, lambda: with_loan(self._pool, function))

    def _guard(self, what: str, function: Callable[[], T]) -> T:
        try:
            return function()
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - a driver may raise anything
            # Its cause is set there, unless that shows a secret.
            raise failed(error, what, self._place, secrets_of(self._given))  # noqa: B904

    def _path(self, fs: Any, key: str) -> str:
        return self._base + key if self._memory is not None else find_path(self._medium, fs, self._base, key)

    def _info(self, key: str) -> Info:
        return info_of(key, self._find_file(key))

    def _find_file(self, key: str) -> Found:
        def look(loan: Loan) -> Found | None:
            return self._medium.look(loan.fs, self._path(loan.fs, key))

        found = self._alone(look) if self._memory is not None else self._lend("read", look)
        if found is None or found.kind != FILE:
            raise BlobNotFoundError(key=key)
        return found

    def _alone(self, function: Callable[[Loan], T]) -> T:
        """Call a function with the memory, which needs neither a thread nor a connection."""
        loan = self._pool.lend()
        self._pool.take_back(loan.fs)
        return function(loan)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        memory = self._memory
        if memory is not None:
            path = self._base + key
            info, data = self._alone(lambda loan: memory.read(loan.fs, path, key, start, stop))
            return info, iter((data,))
        for _ in range(_TRIES):
            try:
                return self._lend("read", lambda loan: self._open_part(loan, key, start, stop))
            except ChangedError:
                continue
        raise ConcurrencyError("it is replaced all the time while it is read", key=key)

    def _open_part(self, loan: Loan, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        reader = self._medium.open(loan.fs, self._path(loan.fs, key))
        if reader is None:
            raise BlobNotFoundError(key=key)
        try:
            info = info_of(key, reader.found)
            low, high = span(start, stop, info.size)
            pieces = reader.pieces(low, high)
            if not reader.holds:
                return info, pieces
            if high - low > CHUNK:
                loan.kept = True
                return info, Held(loan, reader, pieces, partial(self._guard, "read"))
            data = b"".join(pieces)
            if len(data) != high - low:
                raise ChangedError("another program changed the file while it was read")
            return info, iter((data,))
        finally:
            if not loan.kept:
                reader.close()

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        memory = self._memory
        if memory is not None:
            data = join_pieces(iter(body))
            return info_of(key, self._alone(lambda loan: memory.put(loan.fs, self._base + key, data, expect)))
        pieces = regroup(body, CHUNK)
        first, second = next(pieces, b""), next(pieces, None)
        sweeps, self._is_swept = not self._is_swept, True
        locate = partial(self._path, key=key)
        draft = Draft(self._pool, self._medium, self._base, locate, expect, sweeps)
        try:
            if second is None:
                found = self._step(partial(draft.write, (first,)))
            else:
                self._step(draft.begin)
                for piece in chain((first, second), pieces):
                    self._step(partial(draft.add, piece))
                found = self._step(draft.publish)
        except Exception:
            run(draft.drop)
            raise
        except BaseException:
            # An interrupted step ends first; nobody waits long for both.
            begin(draft.drop).wait(PATIENCE)
            raise
        return info_of(key, found)

    def _step(self, function: Callable[[], T]) -> T:
        return self._guard("write", lambda: run(function))

    def _delete(self, key: str, expect: Expect) -> bool:
        memory = self._memory
        if memory is not None:
            return self._alone(lambda loan: memory.delete(loan.fs, self._base + key, expect))
        medium, base = self._medium, self._base
        return self._lend(
            "delete", lambda loan: drafts.remove(medium, loan.fs, base, self._path(loan.fs, key))
        )

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        memory, medium, base = self._memory, self._medium, self._base
        self._takes_exactly("move")
        if memory is not None:
            old, new = base + source, base + target
            return info_of(target, self._alone(lambda loan: memory.move(loan.fs, old, new, source, expect)))

        def act(loan: Loan) -> Found:
            paths = self._path(loan.fs, source), self._path(loan.fs, target)
            return drafts.move(medium, loan.fs, base, paths, source, expect)

        return info_of(target, self._lend("move", act))

    def _delete_folder(self) -> None:
        """Delete the folder with everything in it, also what isn't a blob."""
        memory, folder = self._memory, self._base.rstrip("/")
        if memory is not None:
            self._alone(lambda loan: memory.remove_all(loan.fs, folder))
        else:
            self._lend("delete", lambda loan: drafts.remove_all(self._medium, loan.fs, folder))

    def _listing(self) -> Listing:
        def names(folder: str) -> list[tuple[str, Found]]:
            path = folder.rstrip("/") or folder[:1]
            return self._lend("list", lambda loan: self._medium.names(loan.fs, path))

        return Listing(names, self._base)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        memory = self._memory
        if memory is None:
            yield from self._listing().walk(prefix, after)
            return
        for name, found in self._alone(lambda loan: memory.scan(loan.fs, self._base)):
            if name.startswith(prefix) and name > after:
                if is_key(name):
                    yield info_of(name, found)
                else:
                    yield LeftOut(name.encode("utf-8", "backslashreplace").decode(), NOT_A_KEY)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return self._left.pass_on(self._survey(prefix, after))

    def _children(self, prefix: str) -> Iterator[str | Info]:
        if self._memory is not None:
            return super()._children(prefix)
        return self._left.pass_on(self._listing().children(prefix))


def _check_given(fs: Any) -> Any:
    kind = getattr(driver(), "AbstractFileSystem")  # noqa: B009 - the module has no types
    if not isinstance(fs, kind):
        raise InvalidTypeError(
            f"expected a URL such as sftp://host/folder, or a file system of fsspec, not {type(fs).__name__}"
        )
    return fs


def _same(fs: Any) -> Any:
    return fs


def _open_system(kind: Any, like: Any, given: dict[str, object], medium: type[Medium]) -> Any:
    """Open a file system, such as one that was passed in, which keeps no listing."""
    options, arguments = values_of(given), () if like is None else like.storage_args
    if medium is Sftp:
        kind = session_class()
        options["policy"] = options.pop("host_key_policy", None) or ("reject" if like is None else "auto_add")
    try:
        fs = kind(*arguments, **options, skip_instance_cache=True)
    except (TypeError, ValueError, KeyError) as error:
        hint = "" if any(secret in str(error) for secret in secrets_of(given)) else f": {error}"
        raise InvalidArgumentError(f"the file system doesn't take these options{hint}") from None
    except FileNotFoundError as error:
        raise StoreUnavailableError(f"a file that the options name isn't there: {error}") from error
    fs.dircache.use_listings_cache = False
    fs.dircache.clear()
    return fs


def _token(kind: Any, atomic_move: bool, given: dict[str, object]) -> object:
    """What two handles have in common that share connections."""
    values = values_of(given)
    if all(isinstance(value, str | int | float | tuple | None) for value in values.values()):
        return kind, atomic_move, tuple(sorted((name, repr(value)) for name, value in values.items()))
    return object()


def _here(process: int, settings: dict[str, Any]) -> FsspecStore:
    if process != os.getpid():
        raise StoreUnavailableError(
            "files in memory can't be opened in another process; use a path on a disk or a server"
        )
    return FsspecStore(**settings)
