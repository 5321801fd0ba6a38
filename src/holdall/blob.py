"""A blob's properties, what a store can do, and what a call may ask for: the words of the contract."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import (
    IO,
    TYPE_CHECKING,
    Any,
    BinaryIO,
    Final,
    Generic,
    NamedTuple,
    NoReturn,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    cast,
)

from holdall.errors import BlobExistsError, ConcurrencyError, InvalidTypeError

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Condition(enum.Enum):
    """The values of `expect` that aren't ETags."""

    ANY = "any"
    ABSENT = "absent"

    def __repr__(self) -> str:
        return self.name


ANY: Final = Condition.ANY
"""Whatever is there now, nothing included."""
ABSENT: Final = Condition.ABSENT
"""Nothing is there now."""

Expect: TypeAlias = Condition | str
"""What must be there now: `ANY`, `ABSENT`, or the ETag of the blob."""
Piece: TypeAlias = bytes | memoryview
"""A flat run of bytes, on its way through a store."""
Body: TypeAlias = Iterable[Piece]
"""The pieces that a backend writes: they can be read once, in order."""


class Measured(Iterator[Piece]):
    """Pieces whose total size is known before the first is read, for a medium that plans by it. A file may
    grow or shrink meanwhile.

    >>> measured = Measured([b"ab", b"c"], 3)
    >>> size_of(measured), b"".join(measured)
    (3, b'abc')
    """

    def __init__(self, pieces: Iterable[Piece], size: int) -> None:
        self._pieces, self.size = iter(pieces), size

    def __next__(self) -> Piece:
        return next(self._pieces)


def size_of(body: Body) -> int | None:
    """Return the size of a body as far as it is known; None for a stream."""
    if isinstance(body, tuple):
        return sum(map(len, body))
    return getattr(body, "size", None)


Data: TypeAlias = "Buffer | BinaryIO | IO[bytes] | Iterable[Buffer]"
"""The data that a caller may put: a buffer, a binary file, or an iterable of buffers."""


class WriteOptions(TypedDict, total=False):
    """What `open` takes for a file of bytes."""

    expect: Expect
    ttl: float | timedelta | None
    expires: datetime | None
    content_type: str | None
    metadata: Mapping[str, str] | None


class TextOptions(WriteOptions, total=False):
    """What `open` takes for a file of text."""

    encoding: str | None
    errors: str | None
    newline: str | None


class HasKeys(Protocol):
    """An object with `keys()` and `[]`, which `dict.update` takes as well as mappings and pairs."""

    def keys(self) -> Iterable[str]: ...

    def __getitem__(self, key: Any, /) -> Data | Item[Data]: ...


T_co = TypeVar("T_co", covariant=True)


class Item(Generic[T_co]):
    """A value for `put_many` or `update` that has its own time to live, content type or metadata. What it
    leaves out is as the call says for all.

    Args:
        value: What would stand here without them: the data, or any value for a `ValueStore`.
        ttl: As in `Store.put`.
        expires: As in `Store.put`.
        content_type: As in `Store.put`.
        metadata: As in `Store.put`.

    >>> from holdall import Item, MemoryStore
    >>> store = MemoryStore()
    >>> written = store.put_many({"page": Item(b"<p>", content_type="text/html"), "plain": b"..."})
    >>> written["page"].content_type, written["plain"].content_type
    ('text/html', None)
    """

    __slots__ = ("content_type", "expires", "metadata", "ttl", "value")

    def __init__(
        self,
        value: T_co,
        *,
        ttl: float | timedelta | None = None,
        expires: datetime | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.value = value
        self.ttl = ttl
        self.expires = expires
        self.content_type = content_type
        self.metadata = metadata

    def __repr__(self) -> str:
        # Without the value, which may be long.
        names = "ttl", "expires", "content_type", "metadata"
        given = ((name, getattr(self, name)) for name in names)
        return f"Item({', '.join(['...', *(f'{name}={own!r}' for name, own in given if own is not None)])})"

    def __reduce__(self) -> NoReturn:
        # Else a ValueStore would pickle it as a value, and drop the ttl.
        raise InvalidTypeError("an Item is for put_many and update, not a value to be stored: give its value")


Items: TypeAlias = "Mapping[str, Data | Item[Data]] | HasKeys | Iterable[tuple[str, Data | Item[Data]]]"
"""What `put_many` and `update` take."""


class Can(enum.Flag):
    """What a store does natively and atomically.

    Without `RANGE`, `COPY` or `BULK` the call still works, only slower. Without `WRITE`, `DELETE`, `LIST`,
    `CREATE`, `SWAP`, `CONDITIONAL_DELETE`, `EXPIRE`, `SIGN`, `ATTRIBUTES` or `METADATA` it raises
    `UnsupportedOperation`.

    >>> from holdall import Can, MemoryStore
    >>> Can.SWAP in MemoryStore().can
    True
    """

    WRITE = enum.auto()
    """Blobs can be put."""
    DELETE = enum.auto()
    """Blobs can be deleted."""
    LIST = enum.auto()
    """Keys can be listed."""
    RANGE = enum.auto()
    """A part of a blob is read without the rest."""
    CREATE = enum.auto()
    """`expect=ABSENT`, atomic."""
    SWAP = enum.auto()
    """`expect=` an ETag of a put, atomic."""
    EXPIRE = enum.auto()
    """`ttl=`."""
    COPY = enum.auto()
    """Blobs are copied without passing through this process."""
    BULK = enum.auto()
    """Many blobs cost less together than one by one."""
    SIGN = enum.auto()
    """URLs that let others in for a while."""
    ATTRIBUTES = enum.auto()
    """`content_type=` is kept with the blob."""
    CONDITIONAL_DELETE = enum.auto()
    """`delete(expect=)` an ETag, atomic. A store with SWAP needs it to `pop`, `popitem` and `move`, which
    would else lose what another writer puts in between."""
    METADATA = enum.auto()
    """`metadata=` is kept with the blob."""


_ALL: Final = ~Can(0)
ATOMIC: Final = Can.WRITE | Can.DELETE | Can.LIST | Can.RANGE | Can.CREATE | Can.SWAP | Can.CONDITIONAL_DELETE
"""What a store can do that checks conditions in the step that publishes or deletes."""


class Info:
    """The properties of a blob that are known without reading it. An `Info` can't be changed.

    Args:
        key: The key, as the store takes it back.
        size: In bytes.
        etag: An opaque token that changes whenever the bytes do; an int is written in hexadecimal.
        modified: When it was written: aware, or in seconds since 1970 in UTC; or a function that returns it.
        content_type: The media type given at the put (RFC 9110, section 8.3); or a function that returns it.
        expires: When it goes, as `modified`; None for never.
        metadata: What the put was given, if anything. `==` ignores it, since not every listing has it.

    >>> from holdall import MemoryStore
    >>> info = MemoryStore().put("a", b"four")
    >>> info.key, info.size, info.modified.tzname()
    ('a', 4, 'UTC')
    """

    # Callers rarely look at what a put returns, so a backend hands over what it has, and the ETag's text
    # and the times are made when they are asked for: otherwise a put in memory would take twice as long. What
    # a server must be asked for is a function.
    __slots__ = ("_content_type", "_etag", "_expires", "_key", "_metadata", "_mode", "_modified", "_size")

    def __init__(
        self,
        key: str,
        size: int,
        etag: str | int,
        modified: datetime | float | Callable[[], datetime],
        content_type: str | Callable[[], str | None] | None = None,
        expires: datetime | float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._key = key
        self._size = size
        self._etag = etag
        self._modified = modified
        self._content_type = content_type
        self._expires = expires
        self._metadata = metadata
        self._mode: int | Callable[[], int] | None = None

    @property
    def key(self) -> str:
        """The key, as the store takes it back."""
        return self._key

    @property
    def size(self) -> int:
        """In bytes."""
        return self._size

    @property
    def etag(self) -> str:
        """An opaque token that changes whenever the bytes do."""
        etag = self._etag
        return etag if isinstance(etag, str) else f"{etag:x}"

    @property
    def modified(self) -> datetime:
        """When it was written, aware, in UTC."""
        if callable(self._modified):
            self._modified = self._modified()
        return _utc(self._modified)

    @property
    def content_type(self) -> str | None:
        """The media type given at the put, if one was."""
        if callable(self._content_type):
            self._content_type = self._content_type()
        return self._content_type

    @property
    def expires(self) -> datetime | None:
        """When it goes, aware, in UTC; None for never."""
        return None if self._expires is None else _utc(self._expires)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The names and values given at the put, read-only. It is empty in listings of a medium that doesn't
        list them, such as S3: ask `info`."""
        return MappingProxyType(self._metadata) if self._metadata else _NOTHING

    def replace(self, **changes: Any) -> Info:
        """Return a copy with some fields replaced.

        >>> Info("logs/a", 1, "e", 0.0).replace(key="a").key
        'a'
        """
        # Every layer asks for this on every call: what isn't changed is handed on as it is kept.
        made = _another(Info)
        made._key = changes.pop("key", self._key)
        made._size = changes.pop("size", self._size) if changes else self._size
        made._etag, made._modified, made._mode = self._etag, self._modified, self._mode
        made._content_type, made._expires = self._content_type, self._expires
        made._metadata = self._metadata
        if changes:
            made._etag = changes.pop("etag", self._etag)
            made._modified = changes.pop("modified", self._modified)
            made._content_type = changes.pop("content_type", self._content_type)
            made._expires = changes.pop("expires", self._expires)
            made._metadata = changes.pop("metadata", self._metadata)
        if changes:
            raise InvalidTypeError(f"an Info has no field {', '.join(changes)}")
        return made

    def _fields(self) -> tuple[str, int, str, datetime, str | None, datetime | None]:
        return self.key, self.size, self.etag, self.modified, self.content_type, self.expires

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Info) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        fields = zip(_FIELDS, self._fields(), strict=True)
        metadata = f", metadata={dict(self._metadata)}" if self._metadata else ""
        return f"Info({', '.join([f'{name}={value!r}' for name, value in fields])}{metadata})"

    def __reduce__(self) -> tuple[object, ...]:
        return Info, (*self._fields(), None if self._metadata is None else dict(self._metadata))


_another = cast("Callable[[type[Info]], Info]", object.__new__)
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_FIELDS = ("key", "size", "etag", "modified", "content_type", "expires")


def with_mode(info: Info, mode: int) -> Info:
    """Note in a new `Info` the permission bits of the blob's file, and return it."""
    info._mode = mode & 0o777
    return info


def bits_of(info: Info) -> int | None:
    """Return the permission bits of the blob's file; None where its medium has none."""
    if callable(info._mode):
        info._mode = info._mode()
    return info._mode


def mode_of(info: Info) -> int | None:
    """Return the permission bits that limit a copy of a blob; None where everybody may read it, or its medium
    has none."""
    mode = bits_of(info)
    return None if mode is None or mode & 0o044 == 0o044 else mode


def _utc(moment: datetime | float) -> datetime:
    # A file may carry any time of 64 bits: the nearest one that a datetime has.
    try:
        if isinstance(moment, datetime):
            return moment.astimezone(UTC)
        return datetime.fromtimestamp(moment, UTC)
    except (OverflowError, ValueError, OSError):
        early = moment.year < 5000 if isinstance(moment, datetime) else moment < 0
        return (datetime.min if early else datetime.max).replace(tzinfo=UTC)


class Attributes(NamedTuple):
    """What a store keeps with a blob besides its bytes."""

    content_type: str | None = None
    expires: datetime | None = None
    mode: int | None = None
    """The permission bits of the file that it is a copy of, where the source is a file that not everybody may
    read: a copy shows itself to nobody else. A store without permission bits ignores it."""
    metadata: Mapping[str, str] | None = None
    """Names and values, not empty; nobody changes it."""


def attributes_of(info: Info, can: Can = _ALL) -> Attributes:
    """Return what a copy of a blob is written with, in a store that can do this."""
    return Attributes(
        info.content_type if Can.ATTRIBUTES in can else None,
        info.expires if Can.EXPIRE in can else None,
        mode_of(info),
        (info._metadata or None) if Can.METADATA in can else None,
    )


PLAIN: Final = Attributes()
"""No attributes."""

Put: TypeAlias = tuple[str, Body, Attributes]
"""One of many blobs that a backend writes. Entries whose attributes are equal usually share them."""


NOT_A_KEY = "name that can't be a key"
"""The kind of what is left out for its name."""


class LeftOut(NamedTuple):
    """Something in a store's place that a listing of blobs leaves out, since it can't be a blob.

    >>> LeftOut("latest", "symbolic link").kind
    'symbolic link'
    """

    path: str
    """Where it is, spelled as its key would be; it needn't be a valid key."""
    kind: str
    """Its kind: `symbolic link`, `named pipe`, `name that can't be a key`."""


def place_of(entry: Info | LeftOut) -> str:
    """Return where an entry of a survey belongs in the order of keys."""
    return entry.path if isinstance(entry, LeftOut) else entry.key


def check_expected(actual: str | None, expect: Expect, key: str | None = None) -> None:
    """Check the ETag of what is there, which is None for no blob, against what the caller expects.

    Raises:
        BlobExistsError: `expect` is `ABSENT`, and a blob is there.
        ConcurrencyError: `expect` is an ETag, and another blob is there, or none.
    """
    if expect is ABSENT:
        if actual is not None:
            raise BlobExistsError(key=key, actual=actual)
    elif expect is not ANY and actual != expect:
        raise ConcurrencyError(key=key, expected=str(expect), actual=actual)
