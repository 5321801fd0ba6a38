"""The contract: a store is a mapping from keys to bytes."""

from __future__ import annotations

import enum
from collections.abc import (
    Awaitable,
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    Sequence,
    ValuesView,
)
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, islice
from typing import (
    IO,
    TYPE_CHECKING,
    Any,
    BinaryIO,
    ClassVar,
    Final,
    Literal,
    NoReturn,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from holdall.arguments import (
    check_count,
    check_expiry,
    check_many,
    check_metadata,
    check_mode,
    check_seconds,
    check_type,
    pairs_of,
)
from holdall.blob import (
    ABSENT,
    ANY,
    PLAIN,
    Attributes,
    Body,
    Can,
    Condition,
    Data,
    Expect,
    Info,
    Item,
    Items,
    LeftOut,
    Measured,
    Piece,
    Put,
    TextOptions,
    WriteOptions,
    attributes_of,
    mode_of,
    with_mode,
)
from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    InvalidDataError,
    InvalidKeyError,
    InvalidTypeError,
    StoreClosedError,
    StoreError,
    UnsupportedOperation,
    naming,
)
from holdall.files import BlobFile, BlobReader, SpooledWriter, open_text
from holdall.keys import check_key, check_prefix, past, scan_range
from holdall.pieces import flatten, join_pieces, pieces_of, regroup
from holdall.ranges import CHUNK, check_range, cut
from holdall.ranges import span as span_in
from holdall.spans import PAGE, Span, Spans, guess_points, sample_points, span_of, spans_between, within
from holdall.stopping import stoppable

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from holdall.aio.store import AsyncStore
    from holdall.files import BlobBytesIO, BlobTextIO
    from holdall.locks import Counter, Lock

__all__ = [
    "ABSENT",
    "ANY",
    "PLAIN",
    "Attributes",
    "Body",
    "Can",
    "Condition",
    "Data",
    "Expect",
    "Info",
    "Item",
    "Items",
    "LeftOut",
    "Piece",
    "Put",
    "Span",
    "Store",
    "holds_item",
    "mode_of",
    "pairs_of",
    "with_mode",
]

T = TypeVar("T")


class _Missing(enum.Enum):
    MISSING = "missing"


_MISSING: Final = _Missing.MISSING
_BATCH: Final = 1000
_LOOKS_AT_ONCE: Final = 16
_READS: Final = 20
"""How often `read` begins again because the blob was replaced during it."""


class Store(MutableMapping[str, bytes]):
    """A mapping from keys to bytes, in any medium.

    It is used as a dict, and has more calls for files, ranges, conditions, and many blobs at once. A subclass
    such as `SqliteStore` is opened by itself, or by `Store.from_uri`; `with` closes it.

    To write a store of your own, subclass this, write the five primitives `_read`, `_write`, `_delete`,
    `_info` and `_scan`, and say in `can` what the store does natively and atomically. Arguments are checked
    here, once, before a primitive is called; keys are added to errors here; fallbacks are made here.

    A store that can do better than a fallback overrides a hook: `_get`, `_put`, `_has`, `_survey`,
    `_keys`, `_children`, `_split`, `_get_many`, `_put_many`, `_delete_many`, `_copy`, `_move`,
    `_open_read`, `_open_write`, `_open_append`, `_sign`, `_digest`, `_touch`, `_local_path`, `_clear`,
    `_close`. It never overrides a public call, so that layers, which call primitives and hooks, are as
    fast as the store below. A class that overrides a primitive doesn't inherit the `_get`, `_put` or
    `_has` that would bypass it.

    >>> from holdall import MemoryStore
    >>> store = MemoryStore()
    >>> store["greeting"] = b"hello"
    >>> store["greeting"], store.get("other"), list(store)
    (b'hello', None, ['greeting'])
    """

    can: Can = Can(0)
    """What this store does natively and atomically."""

    schemes: ClassVar[tuple[str, ...]] = ()
    """The URI schemes of this store."""

    inline: bool = False
    """Whether calls touch neither disk nor network, so that `aio` runs them without a thread."""

    _near: bool = False
    """Whether a short call takes less time than it takes to hand it to a thread."""

    _in_loop: bool = False
    """Whether an event loop may run short calls itself (see `holdall.aio.native`): they wait by what
    `holdall.stopping` has for it, hold no lock that others wait for meanwhile, and compute little. Those that
    ask for `can` are run so once it is known."""

    _far: bool = False
    """Whether each call waits for a server, and a listing begins at any key as soon as at the first: `split`
    then looks at some keys only, and transfers list spans side by side."""

    _together: int = 0
    """The number of small blobs that a transfer puts at once, because each call of `_put_many` costs much; 0
    where it doesn't."""

    _secrets: ClassVar[frozenset[str]] = frozenset()
    """The settings whose values no repr shows."""

    _tidies: bool = True
    """Whether this handle may finish at its close what a killed process left; below a `ReadOnlyStore` that
    owns it, it may not."""

    _closed: bool = False

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        """Open a blob: return its `Info` and its bytes.

        `key` is valid. `start` and `stop` are ints, as in a slice: negative ends count from the end;
        `holdall.ranges.span` resolves them against the size. A whole blob is `0, None`.

        The info and the bytes must come from one read, so that the ETag belongs to these bytes, even while
        the blob is replaced. Pieces hold at most a few MiB. An iterator that is dropped half-way must free
        what it holds. Only a store that `can` RANGE is given anything but `0, None`.

        Raises:
            BlobNotFoundError: No blob has this key, or it has expired.
        """
        raise NotImplementedError

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        """Write a blob, whole or not at all.

        `key` is valid. `body` is read once; it may be endless in length but is never to be gathered whole by
        a medium that can stream, and it may raise, which must leave the old blob and no litter that listing
        shows. `expect` is only what `can` has: a condition is checked in the same atomic step that publishes.
        `attributes` hold only what `can` has. A piece that is not bytes is the caller's buffer: it is
        only good until the next piece is asked for. When this returns, the write is acknowledged.

        Raises:
            ConcurrencyError: `expect` is an ETag, and the blob has another, or there is none.
            BlobExistsError: `expect` is `ABSENT`, and there is a blob.
            KeyConflictError: The medium has folders, and another blob is in the way.
        """
        raise NotImplementedError

    def _delete(self, key: str, expect: Expect) -> bool:
        """Delete a blob; return whether it was there. `expect` is `ANY`, or an ETag where `can` has
        CONDITIONAL_DELETE: it is checked in the same atomic step that deletes.

        Raises:
            ConcurrencyError: `expect` is an ETag, and the blob has another, or there is none.
        """
        raise NotImplementedError

    def _info(self, key: str) -> Info:
        """Return the properties of a blob without reading it.

        Raises:
            BlobNotFoundError: No blob has this key, or it has expired.
        """
        raise NotImplementedError

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        """Yield the blobs whose keys start with the string `prefix` and sort past `after`, in order of their
        code points, lazily: no step may cost memory in proportion to what is listed, where the medium allows
        it, and nothing reads a blob's bytes.

        Writers may come between any two steps: that must cause neither an error nor a repeated key. A blob
        that exists throughout the listing is listed.
        """
        raise NotImplementedError

    # The next ones are hooks, each with a fallback.

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for hook, parts in _UNCHECKED.items():
            if any(_depth(cls, part) < _depth(cls, hook) for part in parts):
                setattr(cls, hook, getattr(Store, hook))

    # The key of the next three is a str that may be invalid, so that a call for a blob that is there pays for
    # no check: what is found has a valid key, and where nothing is found the caller checks the key. Once the
    # store is closed they aren't called.

    def _get(self, key: str) -> bytes | None:
        """Return the bytes of a whole blob; None if no blob has this key, or it has expired."""
        try:
            return join_pieces(self._read(self._checked(key), 0, None)[1])
        except BlobNotFoundError:
            return None

    def _has(self, key: str) -> bool:
        """Return whether a blob has this key."""
        try:
            self._info(self._checked(key))
        except BlobNotFoundError:
            return False
        return True

    def _put(self, key: str, data: bytes) -> Info:
        """Write a blob whatever is there, without attributes. A `_put` checks the key before it writes a new
        blob, and leaves what it isn't made for, such as long data, to this fallback."""
        key = self._checked(key)
        if Can.WRITE not in self.can:
            self._need(Can.WRITE, "put")
        return self._write(key, (data,), ANY, PLAIN)

    # Where `_in_loop` says so, an event loop awaits what the next two return; for None, it makes the call in
    # the usual way. Once the store is closed they aren't called.

    def _begin_get(self, key: str) -> Awaitable[bytes | None] | None:
        """Return what gives the bytes of a small blob by one request, or None if the blob isn't small.

        Raises:
            BlobNotFoundError: No blob has this key (raised where it is awaited).
        """
        return None

    def _begin_put(self, key: str, data: bytes, called: str) -> Awaitable[Info] | None:
        """Return what makes the call `_put` by one request. Its `Info` has the key that the caller used."""
        return None

    def _get_range(self, key: str, start: int, stop: int | None) -> bytes:
        """Return a part of a blob, whose ends are those of a slice."""
        return join_pieces(self._read_part(key, start, stop)[1])

    def _read_part(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        """Open a part of a blob; without RANGE it is cut from the whole."""
        if Can.RANGE in self.can:
            return self._read(key, start, stop)
        info, pieces = self._read(key, 0, None)
        return info, cut(pieces, *span_in(start, stop, info.size))

    def _read_spans(self, key: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[Info, bytes]]:
        """Read several spans of a blob, in order, each with the `Info` of the version that it is of. They are
        sorted, aren't empty and don't overlap. It is called only where `can` has RANGE."""
        for low, high in spans:
            info, pieces = self._read(key, low, high)
            yield info, join_pieces(pieces)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        """Yield what `_scan` yields, and what `_scan` leaves out as `LeftOut`, all in order of their paths.

        A store whose medium can hold what isn't a blob overrides this, and makes `_scan` of it. A transfer
        lists by this call, so that nothing is silently absent.
        """
        return self._scan(prefix, after)

    def _outline(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        """Yield what `_survey` yields, for a transfer that reads each blob anyway. Where it takes a request
        to know the size and the ETag, the ETag is empty, and what can't be read may be listed as a blob."""
        return self._survey(prefix, after)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return (info.key for info in self._scan(prefix, after))

    def _children(self, prefix: str) -> Iterator[str | Info]:
        return group_children(self._scan, prefix)

    def _split(self, n: int, span: Span) -> Iterable[str]:
        """Return places that cut a span into at most `n` parts of about equal size."""
        prefix, after, until = span
        if not self._far:
            return sample_points(within(self._keys(prefix, after), until), n)
        from concurrent.futures import ThreadPoolExecutor

        def look(after: str) -> list[str]:
            return list(islice(self._keys(prefix, after), PAGE))

        with ThreadPoolExecutor(_LOOKS_AT_ONCE, "holdall-split") as pool:
            return guess_points(look, n, span, pool.map)

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for key in keys:
            try:
                data = self._get(key)
            except StoreError as error:
                self._name_key(error, key)
                raise
            if data is not None:
                yield key, data

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        for key, body, attributes in items:
            try:
                yield self._write(key, body, ANY, attributes)
            except StoreError as error:
                error.key = key
                raise

    def _delete_many(self, keys: Iterable[str]) -> int:
        return sum(self.delete(key) for key in keys)

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        info, pieces = self._read(source, 0, None)
        attributes = attributes_of(info)
        return self._write(target, Measured(stoppable(pieces), info.size), expect, attributes)

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        exact = self._takes_exactly("move")
        while True:
            info, pieces = self._read(source, 0, None)
            attributes = attributes_of(info)
            moved = self._write(target, Measured(stoppable(pieces), info.size), expect, attributes)
            if not exact:
                self._delete(source, ANY)
                return moved
            try:
                self._delete(source, info.etag)
                return moved
            except ConcurrencyError as error:
                # It changed since it was read: move the newer bytes, over those just written.
                if error.actual is None and not self.exists(source):
                    return moved
                expect = moved.etag if Can.SWAP in self.can else ANY

    def _move_many(self, moves: Mapping[str, str]) -> bool:
        """Move blobs from keys to others, all in one step or none, where the medium can: return whether it
        was done. What is at a target is replaced. No source is a target too.

        Raises:
            BlobNotFoundError: A source is missing.
        """
        return False

    def _open_read(self, key: str) -> BinaryIO:
        return cast(BinaryIO, BlobFile(BlobReader(self, key), CHUNK))

    def _open_write(self, key: str, expect: Expect, attributes: Attributes) -> BinaryIO:
        return cast(BinaryIO, SpooledWriter(lambda body: self._write(key, body, expect, attributes)))

    def _open_append(self, key: str) -> BinaryIO:
        """Open a file whose bytes come behind those of the blob, which is seen whole at its close; a missing
        blob is made. At the close the blob must be the one that was opened, else `ConcurrencyError`."""
        raise UnsupportedOperation(
            f"{kind_name(self)} can't append: write the whole blob with mode 'w', or a new blob for each part"
        )

    def _sign(self, key: str, method: str, seconds: float) -> str:
        raise NotImplementedError

    def _digest(self, key: str, algorithm: str) -> str | None:
        """Return the digest of the whole blob in hexadecimal, if it is known without reading the blob.

        `algorithm` is a name that `hashlib` knows, or `blake3`. None where it isn't known, or there is none.
        """
        return None

    def _touch(self, key: str, expires: datetime | None) -> Info:
        """Renew when a blob was written, and when it expires, unless `expires` is None: it then stays as it
        is. The bytes and what else is kept with them stay.

        Raises:
            BlobNotFoundError: No blob has this key, or it has expired.
        """
        self._need(Can.SWAP, "touch a blob: it would have to write it again, over what others put meanwhile")
        while True:
            info, pieces = self._read(key, 0, None)
            kept = attributes_of(info, self.can)._replace(mode=None)
            if expires is not None:
                kept = kept._replace(expires=expires)
            try:
                return self._write(key, Measured(stoppable(pieces), info.size), info.etag, kept)
            except ConcurrencyError:
                continue

    def _local_path(self, key: str) -> str | None:
        """Return the path of a file on this machine that holds the blob's bytes and nothing else, for
        programs that only read it. None where the medium has none, or there is no blob."""
        return None

    def _clear(self) -> None:
        keys = self._keys("", "")
        while batch := list(islice(keys, _BATCH)):
            self._delete_many(batch)

    def _close(self) -> None:
        """Free what this handle holds; called once."""

    def _settings(self) -> dict[str, object]:
        """Return the constructor's arguments that open this store again, here or in another process.

        The first one is shown without its name by `repr`.
        """
        raise UnsupportedOperation(f"{kind_name(self)} has no settings to pickle it by")

    def _checked(self, key: object) -> str:
        if self._closed:
            raise self._closed_error()
        return check_key(key)

    def _name_key(self, error: StoreError, key: str) -> None:
        """Give an error of a call without a check the key that the caller used."""
        if isinstance(error, InvalidKeyError) and error.key != key:
            # A store below found the fault, in the key as it is called there.
            self._checked(key)
        if not isinstance(error, StoreClosedError):
            error.key = key

    def _closed_error(self) -> StoreClosedError:
        return _closed_error(type(self).__name__)

    def _need(self, flag: Can, call: str) -> None:
        if self._closed:
            raise self._closed_error()
        # As `flag not in self.can`, in a fifth of its time.
        if flag._value_ & ~self.can._value_:
            raise UnsupportedOperation(f"{kind_name(self)} can't {call}")

    def _takes_exactly(self, call: str) -> bool:
        """Return whether a delete can be limited to the version that was read before.

        Raises:
            UnsupportedOperation: The store can't delete; or it can SWAP, so that its callers count on
                conditions, but can't keep one when it deletes.
        """
        self._need(Can.DELETE, call)
        if Can.CONDITIONAL_DELETE in self.can:
            return True
        if Can.SWAP in self.can:
            raise UnsupportedOperation(
                f"{kind_name(self)} can't {call}: it compares ETags for a put, but not for a delete, so "
                "a blob that another writer puts meanwhile would be lost; if you are the only writer, read "
                "the blob and then delete it without expect="
            )
        return False

    def _conditions(
        self,
        expect: Expect,
        ttl: float | timedelta | None,
        content_type: str | None,
        metadata: Mapping[str, str] | None = None,
        expires: datetime | None = None,
    ) -> Attributes:
        """Return the attributes to write; raise if the store can't keep a promise of the call."""
        self._need(Can.WRITE, "put")
        if expect is not ANY:
            self._check_expect(expect)
        if content_type is not None:
            check_type(content_type, str, "a content_type must be a str such as 'text/plain'")
            self._need(Can.ATTRIBUTES, "keep a content_type")
        if metadata is not None:
            metadata = check_metadata(metadata)
            self._need(Can.METADATA, "keep metadata")
        if ttl is None and expires is None:
            return Attributes(content_type, metadata=metadata)
        moment = check_expiry(ttl, expires)
        self._need(Can.EXPIRE, "let a blob expire (ttl=)")
        return Attributes(content_type, moment, metadata=metadata)

    def _check_expect(self, expect: object) -> None:
        if expect is ABSENT:
            self._need(Can.CREATE, "create only where nothing is (expect=ABSENT)")
        elif isinstance(expect, str):
            self._need(Can.SWAP, "compare and swap (expect=etag)")
        else:
            self._check_type_of(expect)

    @staticmethod
    def _check_type_of(expect: object) -> None:
        if not isinstance(expect, Condition | str):
            hint = "; pass its .etag" if isinstance(expect, Info) else ""
            raise InvalidTypeError(f"expect must be ANY, ABSENT or an ETag (a str), not {expect!r}{hint}")

    def __getitem__(self, key: str) -> bytes:
        data = self.get(key, _MISSING)
        if data is _MISSING:
            raise BlobNotFoundError(key=key)
        return data

    def __setitem__(self, key: str, value: Data) -> None:
        self.put(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise BlobNotFoundError(key=key)

    def __contains__(self, key: object) -> bool:
        try:
            return self.exists(cast(str, key))
        except InvalidKeyError:
            # As in a dict, what can't be a key isn't there.
            return False

    def __iter__(self) -> Iterator[str]:
        return self.iterate_keys()

    def __len__(self) -> int:
        return sum(1 for _ in self.iterate_keys())

    def __bool__(self) -> bool:
        return next(self.iterate_keys(), None) is not None

    # A store is a place, not a value: comparing contents would read every blob.
    __eq__ = object.__eq__
    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    @overload
    def get(self, key: str, default: None = None) -> bytes | None: ...
    @overload
    def get(self, key: str, default: bytes) -> bytes: ...
    @overload
    def get(self, key: str, default: T) -> bytes | T: ...
    def get(self, key: str, default: Any = None) -> Any:
        """Return the blob's bytes, or the default where there is none.

        Raises:
            InvalidKeyError: The key isn't valid.

        >>> from holdall import MemoryStore
        >>> MemoryStore().get("absent", b"a default")
        b'a default'
        """
        if type(key) is not str:
            key = self._checked(key)
        try:
            data = self._get(key)
        except StoreError as error:
            self._name_key(error, key)
            raise
        if data is None:
            self._checked(key)
            return default
        return data

    def get_range(self, key: str, start: int, stop: int | None = None) -> bytes:
        """Return the bytes from `start` to before `stop`, as a slice does: negative ends count from the end,
        and ends outside the blob are clamped.

        Raises:
            BlobNotFoundError: No blob has this key.
            InvalidTypeError: An end isn't an int.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore({"a": b"0123456789"})
        >>> store.get_range("a", 2, 5), store.get_range("a", -3), store.get_range("a", -99, 2)
        (b'234', b'789', b'01')
        """
        key = self._checked(key)
        try:
            check_range(start, stop)
            return self._get_range(key, start, stop)
        except StoreError as error:
            error.key = key
            raise

    def read(self, key: str, start: int = 0, stop: int | None = None) -> tuple[Info, bytes]:
        """Return the `Info` of a blob and its bytes, or a range of them as in `get_range`, from one read, so
        that the ETag belongs to these bytes.

        Raises:
            BlobNotFoundError: No blob has this key.
            ConcurrencyError: It was replaced again and again while it was read.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore({"a": b"0123456789"})
        >>> info, data = store.read("a")
        >>> store.put("a", data.upper(), expect=info.etag).size
        10
        >>> info, data = store.read("a", -3)
        >>> info.size, data
        (10, b'789')
        """
        key = self._checked(key)
        with naming(key):
            check_range(start, stop)
            for tries in range(1, _READS + 1):
                try:
                    info, pieces = self._read_part(key, start, stop)
                    return info, join_pieces(pieces)
                except ConcurrencyError:
                    if tries == _READS:
                        raise
        raise AssertionError("the last try returns or raises")

    def get_ranges(self, key: str, ranges: Iterable[tuple[int, int | None]]) -> list[bytes]:
        """Return several ranges of one version of a blob, in the order in which they are given.

        Near ones are read together. From a bucket they come side by side.

        Args:
            key: Which.
            ranges: Pairs of start and stop, each as in `get_range`. They may overlap.

        Raises:
            BlobNotFoundError: No blob has this key.
            ConcurrencyError: It was replaced again and again while it was read.
            InvalidTypeError: A range isn't a pair, or an end isn't an int.

        >>> from holdall import MemoryStore
        >>> MemoryStore({"a": b"0123456789"}).get_ranges("a", [(8, 10), (0, 2), (-3, None)])
        [b'89', b'01', b'789']
        """
        from holdall.parts import read_ranges

        key = self._checked(key)
        with naming(key):
            return read_ranges(self, key, ranges)

    def put(
        self,
        key: str,
        data: Data,
        *,
        expect: Expect = ANY,
        ttl: float | timedelta | None = None,
        expires: datetime | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Info:
        """Store bytes under a key, whole or not at all, and return what was written.

        Args:
            key: Where.
            data: Any buffer, a binary file (read from where it stands), or an iterable of buffers; the last
                two are streamed, and their own errors come out as they are.
            expect: What must be there now: `ANY`, `ABSENT`, or the ETag of the blob to replace.
            ttl: How long it lives, in seconds or as a timedelta, counted from now; None means forever.
            expires: When it goes, an aware datetime, instead of a ttl.
            content_type: Its media type, kept with it.
            metadata: Names and values to keep with it, as `Info.metadata`. So that each cloud keeps them, a
                name has only a-z, 0-9 and `_` and begins with a letter, a value is printable ASCII, and all
                have at most 2,048 bytes together.

        Raises:
            ConcurrencyError: The blob has another ETag than `expect`, or there is none.
            BlobExistsError: `expect` is `ABSENT`, and there is a blob.
            InvalidDataError: The data are not bytes.
            UnsupportedOperation: The medium can't keep what was asked for.

        >>> from holdall import ABSENT, MemoryStore
        >>> store = MemoryStore()
        >>> first = store.put("config", b"v1", expect=ABSENT)
        >>> store.put("config", b"v2", expect=first.etag).size
        2
        """
        if (
            type(data) is bytes
            and type(key) is str
            and expect is ANY
            and ttl is None
            and expires is None
            and content_type is None
            and metadata is None
        ):
            try:
                return self._put(key, data)
            except StoreError as error:
                self._name_key(error, key)
                raise
        key = self._checked(key)
        try:
            body = (data,) if type(data) is bytes else pieces_of(data)
            attributes = self._conditions(expect, ttl, content_type, metadata, expires)
            return self._write(key, body, expect, attributes)
        except StoreError as error:
            self._name_key(error, key)
            raise

    def delete(self, key: str, *, expect: Expect = ANY) -> bool:
        """Delete a blob; return True if it was there.

        Args:
            key: Which.
            expect: `ANY`, or the ETag it must have.

        Raises:
            ConcurrencyError: The blob has another ETag, or there is none.

        >>> from holdall import MemoryStore
        >>> MemoryStore({"a": b""}).delete("a")
        True
        """
        key = self._checked(key)
        try:
            self._need(Can.DELETE, "delete")
            if expect is ABSENT:
                raise InvalidArgumentError("delete takes ANY or an ETag as expect, not ABSENT")
            if expect is not ANY:
                self._check_type_of(expect)
                self._need(Can.CONDITIONAL_DELETE, "compare and delete (delete with expect=etag)")
            return self._delete(key, expect)
        except StoreError as error:
            error.key = key
            raise

    @overload
    def pop(self, key: str) -> bytes: ...
    @overload
    def pop(self, key: str, default: bytes) -> bytes: ...
    @overload
    def pop(self, key: str, default: T) -> bytes | T: ...
    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Delete a blob and return its bytes. Of many callers at once only one gets them, if `can` has
        CONDITIONAL_DELETE.

        Raises:
            BlobNotFoundError: No blob has this key, and there is no default.
            UnsupportedOperation: `can` has SWAP without CONDITIONAL_DELETE: a put in between would be lost.

        >>> from holdall import MemoryStore
        >>> MemoryStore({"a": b"x"}).pop("a")
        b'x'
        """
        key = self._checked(key)
        try:
            exact = self._takes_exactly("pop")
            while True:
                try:
                    info, pieces = self._read(key, 0, None)
                except BlobNotFoundError:
                    if default is _MISSING:
                        raise
                    return default
                data = join_pieces(pieces)
                if not exact:
                    self._delete(key, ANY)
                    return data
                try:
                    self._delete(key, info.etag)
                    return data
                except ConcurrencyError:
                    continue
        except StoreError as error:
            error.key = key
            raise

    def popitem(self) -> tuple[str, bytes]:
        """Delete the first blob; return its key and its bytes.

        Raises:
            BlobNotFoundError: The store is empty.
            UnsupportedOperation: As for `pop`.
        """
        self._takes_exactly("popitem")
        while True:
            key = next(self.iterate_keys(), None)
            if key is None:
                raise BlobNotFoundError("the store is empty")
            data = self.pop(key, _MISSING)
            if data is not _MISSING:
                return key, data

    def setdefault(self, key: str, default: Data = b"") -> bytes:
        """Return the blob's bytes; where there is none, put `default` first, atomically if `can` has CREATE.

        >>> from holdall import MemoryStore
        >>> MemoryStore().setdefault("a", b"first")
        b'first'
        """
        key = self._checked(key)
        pieces = pieces_of(default, key)
        body: bytes | None = None
        while True:
            found = self.get(key, _MISSING)
            if found is not _MISSING:
                return found
            if body is None:
                # A stream can be read once, and the race may need it twice.
                body = join_pieces(iter(pieces))
            try:
                self.put(key, body, expect=ABSENT if Can.CREATE in self.can else ANY)
                return body
            except ConcurrencyError:
                continue

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, other: Items = (), /, **more: Data
    ) -> None:
        """Put many blobs, given as to `dict.update`; see `put_many`.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore()
        >>> store.update([("a", b"1")], b=b"2")
        >>> list(store)
        ['a', 'b']
        """
        self.put_many(chain(pairs_of(other), more.items()) if more else other)

    def clear(self) -> None:
        """Delete every blob of this store, and nothing else from the medium."""
        self._need(Can.DELETE, "clear")
        self._need(Can.LIST, "clear")
        self._clear()

    def keys(self) -> KeysView[str]:
        """Return a view of the keys: `in` looks up one key, iterating lists them."""
        return KeysView(self)

    def values(self) -> ValuesView[bytes]:
        """Return a view of the blobs' bytes, read one by one as it is iterated."""
        return LiveValues(self)

    def items(self) -> ItemsView[str, bytes]:
        """Return a view of keys with their bytes, read one by one as it is iterated."""
        return LiveItems(self)

    @overload
    def __truediv__(self, prefix: Literal[""]) -> Self: ...
    @overload
    def __truediv__(self, prefix: str) -> Store: ...
    def __truediv__(self, prefix: str) -> Store:
        """Return the blobs under a folder as a store of their own; for an empty name it is this store.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore({"logs/2026/a": b"1", "readme": b""})
        >>> list(store / "logs")
        ['2026/a']
        """
        from holdall.layers.prefix import PrefixStore

        return self if prefix == "" else PrefixStore(self, prefix)

    def exists(self, key: str) -> bool:
        """Return whether a blob has this key.

        >>> from holdall import MemoryStore
        >>> MemoryStore({"a": b""}).exists("a")
        True
        """
        if type(key) is not str:
            key = self._checked(key)
        try:
            found = self._has(key)
        except StoreError as error:
            self._name_key(error, key)
            raise
        if not found:
            self._checked(key)
        return found

    def info(self, key: str) -> Info:
        """Return the properties of a blob without reading it.

        Raises:
            BlobNotFoundError: No blob has this key.

        >>> from holdall import MemoryStore
        >>> MemoryStore({"a": b"xyz"}).info("a").size
        3
        """
        key = self._checked(key)
        try:
            return self._info(key)
        except StoreError as error:
            error.key = key
            raise

    def list(self, prefix: str | Span = "", *, glob: str | None = None) -> Iterator[Info]:
        """Yield the blobs whose keys start with a string prefix and match a glob, in order of their keys.

        Args:
            prefix: Any str, its characters literal; as in S3 it may end inside a segment. Or a span
                of `split`.
            glob: `*` and `?` within a segment, `**` for any number of segments, `[abc]`.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore({"logs/a": b"", "logs/b": b"12", "x": b""})
        >>> [(info.key, info.size) for info in store.list("logs/")]
        [('logs/a', 0), ('logs/b', 2)]
        """
        self._need(Can.LIST, "list")
        span = span_of(prefix)
        prefix, start, matches = scan_range(span.prefix, glob)
        infos = within(self._scan(prefix, max(start, span.after)), span.until)
        if matches is None:
            return self._alive(infos)
        return self._alive(info for info in infos if matches(info.key))

    def iterate_keys(
        self, prefix: str | Span | None = None, exclude_prefix: str | None = None, glob: str | None = None
    ) -> Iterator[str]:
        """Yield the keys that start with one prefix, or belong to a span of `split`, don't start with another
        prefix, and match a glob, in order.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore({"a.txt": b"", "b/c.txt": b"", "d": b""})
        >>> list(store.iterate_keys(glob="**/*.txt", exclude_prefix="a"))
        ['b/c.txt']
        """
        self._need(Can.LIST, "list")
        span = span_of(prefix)
        prefix, start, matches = scan_range(span.prefix, glob)
        keys = within(self._keys(prefix, max(start, span.after)), span.until)
        excluded = check_prefix(exclude_prefix)
        if excluded:
            keys = (key for key in keys if not key.startswith(excluded))
        if matches is not None:
            keys = (key for key in keys if matches(key))
        return self._alive(keys)

    def split(self, n: int, prefix: str | Span = "") -> Spans:
        """Return at most `n` spans of keys, which together cover all keys of a prefix, each of them once, now
        and later. They can be pickled, so that other processes and machines list one each.

        In a bucket or another store behind a server, the spans are guessed by a look at some keys, so that a
        million keys under one prefix needn't be listed one after the other; their sizes differ. In other
        stores all keys are listed once, and the spans have about the same size.

        Args:
            n: How many, 1 or more.
            prefix: As in `list`; a span is cut into smaller ones.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore({f"{number:03}": b"" for number in range(300)})
        >>> [[info.key for info in store.list(span)][-1] for span in store.split(3)]
        ['099', '199', '299']
        """
        check_count(n, "n, the number of spans,")
        self._need(Can.LIST, "split")
        span = span_of(prefix)
        return spans_between(span, self._split(n, span) if n > 1 else ())

    def left_out(self, prefix: str = "") -> Iterator[LeftOut]:
        """Yield what a listing of this prefix leaves out: links, pipes, names that can't be keys.

        Args:
            prefix: Any str, its characters literal, as in `list`.

        >>> from holdall import MemoryStore
        >>> list(MemoryStore({"a": b""}).left_out())
        []
        """
        self._need(Can.LIST, "list")
        found = self._alive(self._survey(check_prefix(prefix), ""))
        return (entry for entry in found if isinstance(entry, LeftOut))

    def _alive(self, listing: Iterator[T]) -> Iterator[T]:
        for entry in listing:
            if self._closed:
                raise self._closed_error()
            yield entry

    def children(self, prefix: str = "") -> Iterator[str | Info]:
        """Yield one level of the tree of keys in order, as a directory shows it: one prefix that ends in `/`
        for all keys that go on past a `/` there, and an `Info` for each other key.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore({"logs/1": b"", "logs/2": b"", "readme": b""})
        >>> [child if isinstance(child, str) else child.key for child in store.children()]
        ['logs/', 'readme']
        """
        self._need(Can.LIST, "list")
        return self._alive(self._children(check_prefix(prefix)))

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of the keys that have a blob; keys without one are left out.

        >>> from holdall import MemoryStore
        >>> MemoryStore({"a": b"1"}).get_many(["a", "b"])
        {'a': b'1'}
        """
        checked = [self._checked(key) for key in check_many(keys, "get")]
        return dict(self._get_many(checked))

    def iterate_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield those of the keys that have a blob, with its bytes: as `get_many`, but as they come, so that
        any number of blobs needs memory for a few only. Their order is the medium's.

        Args:
            keys: Any iterable, read as the blobs are. One that comes twice may be yielded twice.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore({"a": b"1", "c": b"3"})
        >>> for key, data in store.iterate_many(["c", "b", "a"]):
        ...     print(key, data)
        c b'3'
        a b'1'
        """
        return self._alive(self._each_of_many(iter(check_many(keys, "get"))))

    def _each_of_many(self, keys: Iterator[str]) -> Iterator[tuple[str, bytes]]:
        while batch := [self._checked(key) for key in islice(keys, _BATCH)]:
            yield from self._get_many(dict.fromkeys(batch))

    def put_many(
        self,
        items: Items,
        *,
        ttl: float | timedelta | None = None,
        expires: datetime | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> dict[str, Info]:
        """Put many blobs, in one round trip, transaction or commit, or side by side, where `can` has BULK.

        Every key and the type of every value are checked before the first is written.

        Args:
            items: A mapping, any object with `keys()` and `[]`, or an iterable of pairs of key and data. Data
                with a ttl, content type or metadata of their own are an `Item`.
            ttl: As in `put`, for each that doesn't say.
            expires: As in `put`, for each that doesn't say.
            content_type: As in `put`, for each that doesn't say.
            metadata: As in `put`, for each that doesn't say.

        >>> from holdall import MemoryStore
        >>> list(MemoryStore().put_many({"a": b"1", "b": b"2"}))
        ['a', 'b']
        """
        attributes = self._conditions(ANY, ttl, content_type, metadata, expires)
        check = self._checked
        checked: list[Put] = [
            (check(key), (data,), attributes)
            if type(data) is bytes
            else self._entry(check(key), data, attributes)
            for key, data in pairs_of(items)
        ]
        return {info._key: info for info in self._put_many(checked)}

    def _entry(self, key: str, data: Any, shared: Attributes) -> Put:
        if not isinstance(data, Item):
            return key, pieces_of(data, key), shared
        item = cast("Item[Any]", data)
        try:
            own = self._conditions(ANY, item.ttl, item.content_type, item.metadata, item.expires)
        except StoreError as error:
            error.key = key
            raise
        merged = Attributes(
            shared.content_type if own.content_type is None else own.content_type,
            own.expires or shared.expires,
            metadata=own.metadata or shared.metadata,
        )
        return key, pieces_of(item.value, key), merged

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete many blobs; return the number of those that were there.

        >>> from holdall import MemoryStore
        >>> MemoryStore({"a": b"", "b": b""}).delete_many(["a", "b", "c"])
        2
        """
        self._need(Can.DELETE, "delete")
        return self._delete_many(dict.fromkeys(self._checked(key) for key in check_many(keys, "delete")))

    def delete_prefix(self, prefix: str, *, string_prefix: bool = False) -> int:
        """Delete the blobs whose keys start with a prefix; return the number of those that were there.

        Args:
            prefix: A folder, which ends in `/`, so that `logs/` doesn't take `logs.json` too.
            string_prefix: Whether it may end anywhere, as in `list`.

        Raises:
            InvalidArgumentError: The prefix is empty, or doesn't end in `/` and isn't said to be a string
                prefix; nothing was deleted.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore({"logs/a": b"", "logs/b/c": b"", "logs.json": b""})
        >>> store.delete_prefix("logs/"), list(store)
        (2, ['logs.json'])
        """
        self._need(Can.DELETE, "delete")
        self._need(Can.LIST, "list")
        prefix = check_prefix(prefix)
        check_type(string_prefix, bool, "string_prefix must be True or False")
        if not prefix:
            raise InvalidArgumentError("an empty prefix means every blob: call clear(), if you mean that")
        if not (string_prefix or prefix.endswith("/")):
            raise InvalidArgumentError(
                f"the prefix {prefix!r} would delete keys such as {prefix + 'x'!r} too: end it with '/', or "
                "say string_prefix=True"
            )
        deleted, keys = 0, self._alive(self._keys(prefix, ""))
        while batch := list(islice(keys, _BATCH)):
            deleted += self._delete_many(batch)
        return deleted

    @overload
    def open(
        self,
        key: str,
        mode: Literal["rb", "wb", "xb", "ab", "br", "bw", "bx", "ba"] = "rb",
        **options: Unpack[WriteOptions],
    ) -> BlobBytesIO: ...
    @overload
    def open(
        self,
        key: str,
        mode: Literal["r", "w", "x", "a", "rt", "wt", "xt", "at"],
        **options: Unpack[TextOptions],
    ) -> BlobTextIO: ...
    @overload
    def open(self, key: str, mode: str, **options: Unpack[TextOptions]) -> IO[Any]: ...
    def open(
        self,
        key: str,
        mode: str = "rb",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        expect: Expect = ANY,
        ttl: float | timedelta | None = None,
        expires: datetime | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> IO[Any]:
        """Open the blob as a file object, streamed.

        A written file becomes visible, whole, when it is closed, and not at all if the body of its `with`
        raises or the file is dropped without being closed. A file that is read returns the bytes of the blob
        that was opened. A store that lacks them once the blob is replaced or deleted raises
        `ConcurrencyError` or `BlobNotFoundError` at the next read. Its `info` is the blob's.

        A file that is written has `discard()`, which closes it without storing anything. A file that is
        appended to fails at its close with `ConcurrencyError` if the blob was changed since it was opened.

        Args:
            key: Which.
            mode: `r` reads, `w` writes, `x` creates (as `expect=ABSENT`, and refused now if a blob is
                there), `a` appends, in folders only (other stores raise `UnsupportedOperation`); `b` for
                bytes (the default is `rb`), otherwise text.
            encoding: As in the builtin `open`, for text; UTF-8 by default.
            errors: As in the builtin `open`.
            newline: As in the builtin `open`.
            expect: As in `put`, for a file that is written; checked when it is closed.
            ttl: As in `put`.
            expires: As in `put`.
            content_type: As in `put`.
            metadata: As in `put`.

        Raises:
            BlobNotFoundError: The mode is `r`, and no blob has this key.
            BlobExistsError: The mode is `x`, and there is a blob.
            InvalidArgumentError: The mode, or an option of the text, isn't one.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore()
        >>> with store.open("log.csv", "w") as file:
        ...     _ = file.write("a,b")
        >>> store["log.csv"]
        b'a,b'
        """
        key = self._checked(key)
        action = check_mode(key, mode, encoding, errors, newline)
        with naming(key):
            file = self._open_file(key, mode, action, expect, ttl, expires, content_type, metadata)
        if "b" in mode:
            return file
        return open_text(file, action != "r", encoding or "utf-8", errors, newline)

    def _open_file(
        self,
        key: str,
        mode: str,
        action: str,
        expect: Expect,
        ttl: float | timedelta | None,
        expires: datetime | None,
        content_type: str | None,
        metadata: Mapping[str, str] | None,
    ) -> BinaryIO:
        if action in "ra" and (expect, ttl, expires, content_type, metadata) != (ANY, *(None,) * 4):
            raise InvalidArgumentError(
                "expect, ttl, expires, content_type and metadata are for files that are written anew, "
                f"not for mode {mode!r}"
            )
        if action == "r":
            return self._open_read(key)
        if action == "a":
            self._need(Can.WRITE, "append")
            file = self._open_append(key)
        else:
            # What mode 'x' expects is checked with the blob that may be there.
            attributes = self._conditions(
                ANY if action == "x" else expect, ttl, content_type, metadata, expires
            )
            if action == "x":
                self._refuse_present(key, expect)
                expect = ABSENT
            file = self._open_write(key, expect, attributes)
        file.key = key  # pyright: ignore[reportAttributeAccessIssue]
        return file

    def _refuse_present(self, key: str, expect: Expect) -> None:
        if expect is not ANY:
            raise InvalidArgumentError("mode 'x' means expect=ABSENT; leave expect out")
        self._check_expect(ABSENT)
        try:
            raise BlobExistsError(actual=self._info(key).etag)
        except BlobNotFoundError:
            pass

    def chunks(self, key: str, size: int = CHUNK) -> Iterator[bytes]:
        """Yield the blob's bytes in chunks of `size` bytes, the last one shorter.

        Raises:
            BlobNotFoundError: No blob has this key.

        >>> from holdall import MemoryStore
        >>> list(MemoryStore({"a": b"abcde"}).chunks("a", 2))
        [b'ab', b'cd', b'e']
        """
        key = self._checked(key)
        check_count(size, "the size of a chunk", key=key)
        try:
            pieces = self._read(key, 0, None)[1]
        except StoreError as error:
            error.key = key
            raise
        return (bytes(piece) for piece in regroup(pieces, size))

    def checksum(self, key: str, algorithm: str = "sha256") -> str:
        """Return the digest of the blob's bytes, in hexadecimal.

        The blob is read in pieces, unless the store keeps this digest with it, as a `ChecksumStore` does.

        Args:
            key: Which.
            algorithm: A name that `hashlib` knows, such as `sha256` (FIPS 180-4), `sha512` or `md5`; or
                `blake3`.

        Raises:
            BlobNotFoundError: No blob has this key.
            InvalidArgumentError: The algorithm is unknown, or its digest lacks a fixed length.
            MissingDependencyError: It is `blake3`, which isn't installed.

        >>> from holdall import MemoryStore
        >>> MemoryStore({"a": b"abc"}).checksum("a")[:16]
        'ba7816bf8f01cfea'
        """
        from holdall.digests import digest

        key = self._checked(key)
        with naming(key):
            return digest(self, key, algorithm)[1]

    def touch(
        self, key: str, *, ttl: float | timedelta | None = None, expires: datetime | None = None
    ) -> Info:
        """Renew the time at which a blob was written, and its time to live, and return its `Info`.

        The bytes stay, and what is kept with them. Memory, files, SQLite, PostgreSQL and Valkey change only
        the times. Other stores write the blob again, by compare-and-swap. Its ETag may change.

        Args:
            key: Which. Unlike touch(1), this creates nothing; `setdefault(key)` does.
            ttl: How long it lives from now on, as in `put`. None leaves the time at which it expires as it
                is; in an `ExpiringStore` it begins a new life.
            expires: As in `put`.

        Raises:
            BlobNotFoundError: No blob has this key.
            UnsupportedOperation: The store can't write, or can't keep a ttl; or it can't compare and swap,
                and would have to write the blob again.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore()
        >>> before = store.put("session", b"1", ttl=60)
        >>> after = store.touch("session", ttl=3600)
        >>> after.expires > before.expires, after.size
        (True, 1)
        """
        key = self._checked(key)
        with naming(key):
            return self._touch(key, self._conditions(ANY, ttl, None, None, expires).expires)

    def local(self, key: str, *, write: bool = False, expect: Expect = ANY) -> AbstractContextManager[Path]:
        """Return a context manager that gives the blob as a real file, for programs that take a path.

        In a `FilesystemStore` or `HashdirStore`, also below layers that leave bytes alone, it is the store's
        own file, without a copy. It is only to be read: what a program writes there changes the blob at once,
        and not atomically. Elsewhere the blob is copied to a file of the same name, which only this user can
        read, in a private temporary folder. The folder goes when the block ends, however it ends; what a
        killed process left is removed by the next process that calls this.

        With `write=True` the file is always a copy, and may be changed or replaced. At the end of the block
        it is put back if its bytes have changed, provided that nobody has changed the blob meanwhile. If that
        fails, the edited file is kept, and the error says where. If the block raises, nothing is put.

        Args:
            key: Which.
            write: Whether a changed file is put back.
            expect: With `write=True`, what must be there now: `ANY` blob, the ETag of one, or `ABSENT`. Where
                it is `ABSENT` there is no file at first; the program makes it.

        Raises:
            BlobNotFoundError: No blob has this key, and `expect` isn't `ABSENT`.
            ConcurrencyError: The blob has another ETag than `expect`, or was changed during the block.
            BlobExistsError: `expect` is `ABSENT`, and there is a blob.
            InvalidDataError: No regular file is there at the end.
            UnsupportedOperation: `write=True`, and the store can't compare and swap.
            StoreUnavailableError: The temporary folder can't be written.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore({"notes/today.txt": b"hello"})
        >>> with store.local("notes/today.txt") as path:
        ...     path.name, path.read_text()
        ('today.txt', 'hello')
        >>> with store.local("notes/today.txt", write=True) as path:
        ...     _ = path.write_text("goodbye")
        >>> store["notes/today.txt"]
        b'goodbye'
        """
        from holdall.virtual import open_local

        return open_local(self, key, write, expect)

    def modify(
        self, key: str, function: Callable[[bytes], Data], default: bytes | _Missing = _MISSING
    ) -> Info:
        """Change a blob by compare-and-swap: read it, call the function, and put the result. If another
        writer changed the blob in the meantime, begin again; so the function may be called more than once.

        Args:
            key: Which.
            function: Called with the current bytes; returns the data to put.
            default: The argument of the function where there is no blob.

        Raises:
            BlobNotFoundError: No blob has this key, and there is no default.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore()
        >>> _ = store.modify("count", lambda old: b"%d" % (int(old) + 1), default=b"0")
        >>> store["count"]
        b'1'
        """
        key = self._checked(key)
        check_type(function, Callable, "modify must be given a function", key=key)
        with naming(key):
            self._need(Can.SWAP, "modify")
            if default is not _MISSING:
                self._need(Can.CREATE, "modify with a default")
                if flatten(default) is None:
                    kind = type(cast(object, default)).__name__
                    raise InvalidDataError(f"the default of modify is bytes, not {kind}")
        while True:
            try:
                with naming(key):
                    info, pieces = self._read(key, 0, None)
                    data = join_pieces(pieces)
                old, expect = data, cast(Expect, info.etag)
                attributes = attributes_of(info)._replace(mode=None)
            except BlobNotFoundError:
                if default is _MISSING:
                    raise
                old, expect, attributes = default, ABSENT, PLAIN
            new = function(old)
            try:
                return self._write(key, pieces_of(new), expect, attributes)
            except ConcurrencyError:
                continue
            except StoreError as error:
                error.key = key
                raise

    @overload
    def copy(self, source: str, target: str, *, expect: Expect = ANY) -> Info: ...
    @overload
    def copy(self, source: str = "") -> NoReturn: ...
    def copy(self, source: str = "", target: str | _Missing = _MISSING, *, expect: Expect = ANY) -> Info:
        """Copy a blob, with its attributes, inside the medium where it can.

        Args:
            source: From which key.
            target: To which. It is required; without it the error says how to copy all blobs.
            expect: What must be at the target, as in `put`. There is no condition on the source.

        Raises:
            BlobNotFoundError: There is no source.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore({"a": b"x"})
        >>> store.copy("a", "b").size, sorted(store)
        (1, ['a', 'b'])
        """
        if target is _MISSING:
            raise InvalidTypeError(
                "copy(source, target) copies one blob; dict(store.items()) gives all as a dict, and "
                "copy_store(store, other) copies them to another store"
            )
        return self._transfer(self._copy, source, target, expect)

    def move(self, source: str, target: str, *, expect: Expect = ANY) -> Info:
        """Move a blob, with its attributes, inside the medium where it can. The target is whole before the
        source goes.

        Args:
            source: From which key.
            target: To which.
            expect: What must be at the target, as in `put`. There is no condition on the source.

        Raises:
            BlobNotFoundError: There is no source.
            UnsupportedOperation: As for `pop`.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore({"a": b"x"})
        >>> store.move("a", "b").key, list(store)
        ('b', ['b'])
        """
        with naming(source if isinstance(source, str) else None):
            self._takes_exactly("move")
        return self._transfer(self._move, source, target, expect)

    def _transfer(
        self, act: Callable[[str, str, Expect], Info], source: str, target: str, expect: Expect
    ) -> Info:
        source, target = self._checked(source), self._checked(target)
        try:
            self._conditions(expect, None, None)
            if source == target:
                info = self._info(source)
                if expect is ABSENT:
                    raise BlobExistsError(actual=info.etag)
                if expect is not ANY and expect != info.etag:
                    raise ConcurrencyError(expected=expect, actual=info.etag)
                return info
            return act(source, target, expect)
        except StoreError as error:
            of_source = isinstance(error, BlobNotFoundError | IntegrityError) or error.key == source
            error.key = source if of_source else target
            raise

    def sign(self, key: str, *, method: str = "GET", expires: float | timedelta = 3600) -> str:
        """Return a URL that lets anyone who has it read (`GET`) or write (`PUT`) one blob for a while.

        Args:
            key: Which.
            method: The HTTP method it is good for.
            expires: How long the URL is valid, in seconds or as a timedelta.

        Raises:
            UnsupportedOperation: The medium has no such URLs.
        """
        key = self._checked(key)
        with naming(key):
            check_type(method, str, "a method must be a str such as 'GET'")
            self._need(Can.SIGN, "sign URLs")
            return self._sign(key, method, check_seconds(expires, "expires"))

    def lock(self, key: str, *, ttl: float | timedelta = 30, wait: float | timedelta | None = None) -> Lock:
        """Return a lock for all who use this store, which `with` takes and releases.

        While the block runs, a thread renews it. A holder that is silent for the ttl loses it. The lock is
        kept in a blob under the key, which stays there when it is released. See "Locks" in the guide for what
        `lock.token` and `lock.check()` are for.

        Args:
            key: The key of the lock's blob, which nothing else uses.
            ttl: How long a holder may be silent, in seconds or as a timedelta.
            wait: How long to wait for the lock; None for ever, 0 for a single try.

        Raises:
            UnsupportedOperation: When it is taken: the store can't SWAP.
            LockHeldError: When it is taken: another held it all the while.
            LockLostError: At the end of the block: another may have held the lock meanwhile.

        >>> from holdall import MemoryStore
        >>> with MemoryStore().lock("job", ttl=30) as lock:
        ...     lock.lost
        False
        """
        from holdall.locks import Lock

        return Lock(self, key, ttl=ttl, wait=wait)

    def counter(self, key: str) -> Counter:
        """Return a whole number under a key, whose changes by many writers are all counted.

        Args:
            key: The key of the blob, which is the number as text.

        Raises:
            UnsupportedOperation: When it is changed: the store can't SWAP.
            SerializationError: When it is used: the blob isn't a number.

        >>> from holdall import MemoryStore
        >>> MemoryStore().counter("hits").increment()
        1
        """
        from holdall.locks import Counter

        return Counter(self, key)

    def close(self) -> None:
        """Free what this handle holds. It may be called twice; any other call then raises."""
        if not self._closed:
            self._closed = True
            # The hooks that are called unchecked needn't look whether the store is closed.
            refuse = partial(_refuse_closed, type(self).__name__)
            vars(self).update(_get=refuse, _put=refuse, _has=refuse)
            vars(self).update(_begin_get=refuse, _begin_put=refuse)
            self._close()

    def __enter__(self) -> Self:
        if self._closed:
            raise self._closed_error()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _knows_can(self) -> bool:
        """Whether `can` is known without asking the medium."""
        return "can" in vars(self)

    @property
    def aio(self) -> AsyncStore:
        """The same calls as coroutines."""
        from holdall.aio.store import AsyncStore

        return AsyncStore(self)

    @staticmethod
    def from_uri(uri: str | PathLike[str], **options: Any) -> Store:
        """Open the store that a URI or a path names.

        Args:
            uri: Such as `memory://`, `./data`, `sqlite:///file.db`, or the `name:` of a stack in
                `holdall.toml` (see `holdall.config`); its query holds options, such as those of the store,
                `prefix=logs/` and `readonly=1`.
            options: The same as keywords.

        Raises:
            InvalidArgumentError: The scheme or an option is unknown; the message lists those known.

        >>> from holdall import Store
        >>> Store.from_uri("memory://")
        MemoryStore()
        """
        from holdall.opening import from_uri

        return from_uri(uri, **options)

    @property
    def token(self) -> str:
        """A short str that is equal for handles on the same place with the same settings, in any process, and
        holds no secret. Stores in the memory of a process, and handles that can't be pickled, have tokens of
        their own.

        >>> from holdall import MemoryStore
        >>> store = MemoryStore()
        >>> store.token == MemoryStore().token, (store / "a").token == (store / "a").token
        (False, True)
        """
        from holdall.identity import token_of

        return token_of(self)

    def __dask_tokenize__(self) -> str:
        return self.token

    def same_place(self, other: Store) -> bool:
        """Return whether another store keeps its bytes in the same place, whatever the settings and layers of
        the two are, as far as that can be seen: one server may have two names.

        >>> from holdall import CompressedStore, MemoryStore
        >>> store = MemoryStore()
        >>> store.same_place(CompressedStore(store)), store.same_place(MemoryStore())
        (True, False)
        """
        from holdall.identity import are_one_place

        check_type(other, Store, "same_place must be given a store")
        return are_one_place(self, other)

    def __repr__(self) -> str:
        try:
            settings = self._settings()
        except (UnsupportedOperation, AttributeError):
            # A debugger shows stores whose constructor failed, or hasn't ended.
            return f"{type(self).__name__}(...)"
        from inspect import signature

        parameters = signature(type(self)).parameters
        shown: list[str] = []
        for index, (name, value) in enumerate(settings.items()):
            text = "'***'" if name in self._secrets and value is not None else repr(value)
            if index == 0:
                if value is not None:
                    shown.append(text)
            elif name not in parameters or value != parameters[name].default:
                shown.append(f"{name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (type(self), self._settings())


_UNCHECKED: Final = {
    "_get": ("_read", "_checked"),
    "_put": ("_write", "_checked", "_need", "_conditions", "can"),
    "_has": ("_info", "_checked"),
    "_get_range": ("_read",),
    "_outline": ("_survey", "_scan"),
    "delete": ("_delete", "_checked", "_need", "can"),
}
"""What stands in for a primitive and its checks: where a class changes one of these,
it has changed what they do."""


def _depth(cls: type, name: str) -> int:
    """Return which class of the method resolution order, counted from 0, has an attribute of this name."""
    return next(depth for depth, base in enumerate(cls.__mro__) if name in vars(base))


def _closed_error(name: str) -> StoreClosedError:
    return StoreClosedError(f"this {name} is closed; open the store again")


def _refuse_closed(name: str, *_: object) -> NoReturn:
    raise _closed_error(name)


def _reopen(kind: Callable[..., Store], settings: dict[str, Any]) -> Store:
    return kind(**settings)


_SPOKEN_WITH_A_VOWEL = (*"AEIOU", "Http", "Fsspec")


def kind_name(store: Store) -> str:
    """Return the name of a store's class with its article, for a message."""
    name = type(store).__name__
    return f"{'an' if name.startswith(_SPOKEN_WITH_A_VOWEL) else 'a'} {name}"


def group_children(scan: Callable[[str, str], Iterator[Info]], prefix: str) -> Iterator[str | Info]:
    """Yield one level of the tree of keys, as `Store.children` does.

    Args:
        scan: A store's `_scan`, which begins anew behind each folder.
        prefix: Where the level begins.
    """
    after = ""
    while True:
        for info in scan(prefix, after):
            slash = info.key.find("/", len(prefix))
            if slash >= 0:
                break
            yield info
        else:
            return
        folder = info.key[: slash + 1]
        yield folder
        after = past(folder)


class LiveValues(ValuesView[T]):
    """The values of a mapping; one that is deleted while they are listed is left out."""

    _mapping: Mapping[str, T]

    def __iter__(self) -> Iterator[T]:
        for _, value in _pairs(self._mapping):
            yield value

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)


class LiveItems(ItemsView[str, T]):
    """The keys of a mapping with their values; one that is deleted while they are listed is left out."""

    _mapping: Mapping[str, T]

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return _pairs(self._mapping)

    def __contains__(self, item: object) -> bool:
        return holds_item(self._mapping, item)


def holds_item(mapping: Mapping[str, Any], item: object) -> bool:
    """Return whether a mapping has a pair, which may be any object: as in a dict, other objects aren't there.

    >>> holds_item({"a": 1}, ("a", 1)), holds_item({"a": 1}, 5)
    (True, False)
    """
    if not isinstance(item, tuple) or len(cast("tuple[object, ...]", item)) != 2:
        return False
    key, value = cast("tuple[str, object]", item)
    try:
        found = mapping.get(key, _MISSING)
    except InvalidKeyError:
        return False
    return found is not _MISSING and bool(found == value)


def _pairs(mapping: Mapping[str, T]) -> Iterator[tuple[str, T]]:
    for key in mapping:
        value = mapping.get(key, _MISSING)
        if value is not _MISSING:
            yield key, value
