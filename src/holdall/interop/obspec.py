"""The protocols of obspec over any store (https://developmentseed.org/obspec/latest/)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from itertools import islice
from operator import index
from types import NoneType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from holdall.arguments import check_type
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidKeyError,
    InvalidTypeError,
    StoreError,
    UnsupportedOperation,
)
from holdall.interop.loading import open_store
from holdall.keys import check_key
from holdall.pieces import join_pieces
from holdall.ranges import span as span_in
from holdall.store import ABSENT, ANY, Expect, Info, Span, Store

__all__ = ["ObspecStore"]

T = TypeVar("T")
P = ParamSpec("P")

_PAGE = 1000
_OPTIONS = (
    "head",
    "if_match",
    "if_modified_since",
    "if_none_match",
    "if_unmodified_since",
    "range",
    "version",
)
_ATTRIBUTES = ("Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language")
"""The attributes that obspec has a name for, and stores don't keep."""


# `obspec.exceptions.map_exception` knows errors by the names of their classes.


class NotFoundError(BlobNotFoundError):
    """The object isn't there."""


class AlreadyExistsError(BlobExistsError):
    """The object is there already."""


class PreconditionError(ConcurrencyError):
    """The object isn't as was expected."""


class NotModifiedError(StoreError):
    """The object is still the one that was named."""


class NotSupportedError(UnsupportedOperation):
    """The store can't do it."""


class InvalidPathError(InvalidKeyError):
    """The path can't be a key."""


_NAMED = (
    (BlobNotFoundError, NotFoundError),
    (BlobExistsError, AlreadyExistsError),
    (ConcurrencyError, PreconditionError),
    (UnsupportedOperation, NotSupportedError),
    (InvalidKeyError, InvalidPathError),
)


@contextmanager
def _rename_errors() -> Generator[None]:
    try:
        yield
    except StoreError as error:
        for kind, named in _NAMED:
            if isinstance(error, kind) and not isinstance(error, named):
                raise named(error.message, key=error.key) from error
        raise


class _Result:
    """An object that is read: `obspec.GetResult` and `obspec.GetResultAsync`. Its bytes are read once."""

    def __init__(self, owner: ObspecStore, info: Info, span: tuple[int, int], pieces: Iterator[Any]) -> None:
        self._owner = owner
        self._pieces: Iterator[Any] | None = pieces
        self.meta = _meta(info)
        self.range = span
        self.attributes = dict(info.metadata or {})
        if info.content_type is not None:
            self.attributes["Content-Type"] = info.content_type

    def buffer(self) -> bytes:
        """Return all of its bytes.

        Raises:
            InvalidArgumentError: They were read before, here or by an iterator.
        """
        pieces = self._take_pieces()
        with _rename_errors():
            return join_pieces(pieces)

    async def buffer_async(self) -> bytes:
        """Return all of its bytes."""
        return await self._owner._aio.run(self.buffer)

    def __iter__(self) -> Iterator[Any]:
        return self._yield(self._take_pieces())

    def _take_pieces(self) -> Iterator[Any]:
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            raise InvalidArgumentError("the bytes of a result are read once: call get again")
        return pieces

    @staticmethod
    def _yield(pieces: Iterator[Any]) -> Iterator[Any]:
        with _rename_errors():
            yield from pieces

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._owner._aio._iterate(lambda: iter(self), 1)


def _on_thread(
    call: Callable[Concatenate[ObspecStore, P], T],
) -> Callable[Concatenate[ObspecStore, P], Coroutine[Any, Any, T]]:
    """Return a call as a coroutine function, with the same arguments."""

    @wraps(call)
    async def run(self: ObspecStore, /, *args: P.args, **options: P.kwargs) -> T:
        # By its name, since a subclass may override it.
        return await self._aio.run(getattr(self, call.__name__), *args, **options)

    run.__name__, run.__doc__ = f"{call.__name__}_async", f"As `{call.__name__}`."
    run.__qualname__ = f"ObspecStore.{run.__name__}"
    return run


class ObspecStore:
    """A store as obspec's protocols describe one, for libraries that take any of these in place of obstore.

    It has `get`, `get_range`, `get_ranges`, `put`, `head`, `list`, `list_with_delimiter`, `delete`, `copy`
    and `rename`, and each with `_async` at its end. Paths are keys, and may begin or end with a slash, as
    those of obstore may. A prefix is a folder, as obspec asks. An empty range, and one past the end, is an
    error. `put` takes `chunk_size`, `max_concurrency` and `use_multipart`, and leaves them to the store,
    which never holds a whole stream.

    Its errors have the names that `obspec.exceptions.map_exception` knows, and are holdall's own too.

    Args:
        store: The store, or a URI, a path or a name of `holdall.toml` to open one.

    >>> import holdall
    >>> from holdall.interop.obspec import ObspecStore
    >>> objects = ObspecStore(holdall.MemoryStore())
    >>> written = objects.put("a/b.txt", b"hello", mode="create")
    >>> objects.get("a/b.txt", options={"if_match": written["e_tag"]}).buffer()
    b'hello'
    >>> [meta["path"] for page in objects.list("a") for meta in page]
    ['a/b.txt']
    """

    def __init__(self, store: Store | str | os.PathLike[str]) -> None:
        self.store: Store = open_store(store, "ObspecStore")
        self._aio = self.store.aio

    def __repr__(self) -> str:
        return f"ObspecStore({self.store!r})"

    def get(self, path: str, *, options: Mapping[str, Any] | None = None) -> Any:
        """Return an object, whose bytes are read by `buffer` or by iterating it.

        Args:
            path: Its key.
            options: `range`, `if_match`, `if_none_match`, `if_modified_since`, `if_unmodified_since` and
                `head`, as in `obspec.GetOptions`.
        """
        if options is not None and not isinstance(options, Mapping):
            raise InvalidTypeError(f"options of get are a dict, not {type(options).__name__}")
        wanted = dict(options or {})
        unknown = wanted.keys() - {*_OPTIONS}
        if unknown:
            raise InvalidArgumentError(f"options of get are {', '.join(_OPTIONS)}, not {sorted(unknown)}")
        with _rename_errors():
            if wanted.get("version") is not None:
                raise NotSupportedError("stores name versions by their ETag: use if_match", key=path)
            key = self._key(path)
            start, stop = _span(wanted.get("range"))
            if wanted.get("head"):
                info, pieces = self.store.info(key), iter(())
            else:
                info, pieces = self.store._read_part(key, start, stop)
            try:
                _check_conditions(info, wanted)
                low, high = span_in(start, stop, info.size)
                if stop == 0:  # the last 0 bytes
                    low = high = info.size
                elif low == high and start >= 0 and wanted.get("range") is not None:
                    raise _past(key, start, info.size)
            except BaseException:
                _close(pieces)
                raise
            return _Result(self, info, (low, high), pieces)

    get_async = _on_thread(get)

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> bytes:
        """Return the bytes from `start` to `end`, or `length` of them."""
        with _rename_errors():
            key = self._key(path)
            start, stop = _ends(start, end, length)
            found = self.store.get_range(key, start, stop)
            if not found:
                raise _past(key, start)
            return found

    get_range_async = _on_thread(get_range)

    def get_ranges(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> list[bytes]:
        """Return several ranges of one version of an object."""
        other = lengths if ends is None else ends
        if (ends is None) == (lengths is None) or other is None or len(starts) != len(other):
            raise InvalidArgumentError("give as many ends, or as many lengths, as starts")
        pairs = zip(starts, other, strict=True)
        if ends is None:
            wanted = [_ends(start, None, length) for start, length in pairs]
        else:
            wanted = [_ends(start, end, None) for start, end in pairs]
        with _rename_errors():
            key = self._key(path)
            found = self.store.get_ranges(key, wanted) if wanted else []
            for (start, _), data in zip(wanted, found, strict=True):
                if not data:
                    raise _past(key, start)
            return found

    get_ranges_async = _on_thread(get_ranges)

    def head(self, path: str) -> dict[str, Any]:
        """Return what is known of an object without its bytes."""
        with _rename_errors():
            return _meta(self.store.info(self._key(path)))

    head_async = _on_thread(head)

    def list(self, prefix: str | None = None, *, offset: str | None = None) -> Iterator[list[dict[str, Any]]]:
        """Yield pages of the objects in a folder, at any depth, whose paths are past `offset`."""
        with _rename_errors():
            found = self.store.list(Span(_folder(prefix), check_key(_bare(offset)) if offset else ""))
            while page := [_meta(info) for info in islice(found, _PAGE)]:
                yield page

    def list_async(
        self, prefix: str | None = None, *, offset: str | None = None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """As `list`."""
        return self._aio._iterate(lambda: self.list(prefix, offset=offset), 1)

    def list_with_delimiter(self, prefix: str | None = None) -> dict[str, Any]:
        """Return the objects of one folder, and the folders in it."""
        folders: list[str] = []
        objects: list[dict[str, Any]] = []
        with _rename_errors():
            for child in self.store.children(_folder(prefix)):
                if isinstance(child, str):
                    folders.append(child[:-1])
                else:
                    objects.append(_meta(child))
        return {"common_prefixes": folders, "objects": objects}

    list_with_delimiter_async = _on_thread(list_with_delimiter)

    def put(
        self,
        path: str,
        file: Any,
        *,
        attributes: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        mode: str | Mapping[str, Any] | None = None,
        use_multipart: bool | None = None,
        chunk_size: int = 0,
        max_concurrency: int = 0,
    ) -> dict[str, Any]:
        """Write an object, whole or not at all.

        Args:
            path: Its key.
            file: A buffer, a binary file, a `Path` of a file, or an iterable of buffers.
            attributes: `Content-Type`, and metadata of the user's own as in `Store.put`.
            tags: Not supported.
            mode: `"overwrite"`, `"create"`, or a dict with the `e_tag` of what is replaced.
            use_multipart: The store decides; so it does about the next two.
            chunk_size: See `use_multipart`.
            max_concurrency: See `use_multipart`.
        """
        with _rename_errors():
            key, options = self._key(path), _write_options(attributes, tags, mode)
            if isinstance(file, os.PathLike):
                with open(cast("os.PathLike[str]", file), "rb") as source:
                    return _put_result(self.store.put(key, source, **options))
            return _put_result(self.store.put(key, file, **options))

    async def put_async(
        self,
        path: str,
        file: Any,
        *,
        attributes: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        mode: str | Mapping[str, Any] | None = None,
        use_multipart: bool | None = None,
        chunk_size: int = 0,
        max_concurrency: int = 0,
    ) -> dict[str, Any]:
        """As `put`; takes async iterables of buffers too."""
        if not hasattr(file, "__aiter__"):
            return await self._aio.run(self.put, path, file, attributes=attributes, tags=tags, mode=mode)
        with _rename_errors():
            key, options = self._key(path), _write_options(attributes, tags, mode)
            return _put_result(await self._aio.put(key, file, **options))

    def delete(self, paths: str | Sequence[str]) -> None:
        """Delete an object, or several. One that isn't there is deleted already."""
        with _rename_errors():
            keys = [self._key(path) for path in ([paths] if isinstance(paths, str) else paths)]
            self.store.delete_many(keys)

    delete_async = _on_thread(delete)

    def copy(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """Copy an object inside the store."""
        self._transfer(self.store.copy, from_, to, overwrite)

    copy_async = _on_thread(copy)

    def rename(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """Move an object inside the store."""
        self._transfer(self.store.move, from_, to, overwrite)

    rename_async = _on_thread(rename)

    def _transfer(self, call: Callable[..., object], source: str, target: str, overwrite: bool) -> None:
        with _rename_errors():
            call(self._key(source), self._key(target), expect=ANY if overwrite else ABSENT)

    def _key(self, path: str) -> str:
        return self.store._checked(_bare(path))


def _meta(info: Info) -> dict[str, Any]:
    return {
        "path": info.key,
        "last_modified": info.modified,
        "size": info.size,
        "e_tag": info.etag,
        "version": None,
    }


def _put_result(info: Info) -> dict[str, Any]:
    return {"e_tag": info.etag, "version": None}


def _bare(path: str) -> str:
    if not isinstance(path, str):
        raise InvalidTypeError(f"a path is a str, not {type(path).__name__}")
    # Of "//" one is left, which is wrong: without any it would be the whole store.
    return path.removeprefix("/").removesuffix("/") if path != "//" else "/"


def _folder(prefix: str | None) -> str:
    folder = _bare(prefix or "")
    return f"{check_key(folder)}/" if folder else ""


def _ends(start: int, end: int | None, length: int | None) -> tuple[int, int]:
    if (end is None) == (length is None):
        raise InvalidArgumentError("a range has either an end or a length")
    try:
        start, other = index(start), index(cast(int, length if end is None else end))
    except TypeError as error:
        raise InvalidTypeError(f"the ends of a range are ints: {error}") from error
    stop = start + other if end is None else other
    if not 0 <= start < stop:
        raise InvalidArgumentError(
            f"a range begins at 0 or later and has at least one byte; got one from {start} to {stop}"
        )
    return start, stop


def _past(key: str, start: int, size: int | None = None) -> InvalidArgumentError:
    length = "" if size is None else f" of {size:,} bytes"
    return InvalidArgumentError(f"the range begins at {start:,}, past the end of the object{length}", key=key)


def _span(found: Any) -> tuple[int, int | None]:
    match found:
        case None:
            return 0, None
        case {"offset": int(offset)} if offset >= 0:
            return offset, None
        case {"suffix": int(suffix)} if suffix >= 0:
            return (-suffix, None) if suffix else (0, 0)
        case [start, end]:
            return _ends(start, end, None)
        case _:
            raise InvalidArgumentError(
                f"a range is (start, end), {{'offset': n}} or {{'suffix': n}}, with n from 0 on, not "
                f"{found!r:.80}"
            )


def _close(pieces: Iterator[Any]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


def _check_conditions(info: Info, wanted: Mapping[str, Any]) -> None:
    """Check the conditions of a get (RFC 9110, section 13.2.2)."""
    expected, known = wanted.get("if_match"), wanted.get("if_none_match")
    for name in ("if_match", "if_none_match"):
        check_type(wanted.get(name), (str, NoneType), f"{name} is an ETag, a str")
    for name in ("if_unmodified_since", "if_modified_since"):
        moment = wanted.get(name)
        if moment is not None and (not isinstance(moment, datetime) or moment.tzinfo is None):
            raise InvalidArgumentError(f"{name} is a datetime with a time zone, not {moment!r:.80}")
    since: datetime | None = wanted.get("if_unmodified_since")
    if (expected is not None and not _names(expected, info)) or (
        expected is None and since is not None and info.modified > since
    ):
        raise PreconditionError(key=info.key, actual=info.etag)
    since = wanted.get("if_modified_since")
    if (known is not None and _names(known, info)) or (
        known is None and since is not None and info.modified <= since
    ):
        raise NotModifiedError("it is still the same", key=info.key)


def _names(tags: str, info: Info) -> bool:
    # A store's own ETag may have quotes, and a comma.
    if tags.strip() in ("*", info.etag):
        return True
    return any(tag.strip().strip('"') == info.etag.strip('"') for tag in tags.split(","))


def _write_options(
    attributes: Mapping[str, str] | None, tags: Mapping[str, str] | None, mode: str | Mapping[str, Any] | None
) -> dict[str, Any]:
    if tags:
        raise NotSupportedError("stores keep no tags: use attributes")
    metadata = dict(attributes or {})
    content_type = metadata.pop("Content-Type", None)
    named = [name for name in metadata if name in _ATTRIBUTES]
    if named:
        raise NotSupportedError(f"stores keep no {', '.join(named)}, only Content-Type and your own names")
    expect: Expect
    match mode:
        case None | "overwrite":
            expect = ANY
        case "create":
            expect = ABSENT
        case {"e_tag": str(etag)}:
            expect = etag
        case _:
            raise InvalidArgumentError(
                f"mode is 'overwrite', 'create', or a dict with the e_tag to replace, not {mode!r:.80}"
            )
    return {"expect": expect, "content_type": content_type, "metadata": metadata or None}
