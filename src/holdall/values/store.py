"""A mapping from keys to Python values, over any store, written and read by a mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from importlib import import_module
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from holdall.arguments import check_type
from holdall.errors import BlobNotFoundError, InvalidDataError, StoreError
from holdall.pieces import join_pieces, pieces_of
from holdall.ranges import CHUNK
from holdall.store import ANY, Can, Expect, Info, Item, Store
from holdall.values.csv import CsvRows
from holdall.values.lines import lines_of
from holdall.values.mapping import MISSING, Missing, ValueMapping
from holdall.values.modes import Codec, Modes, refuse_bytes
from holdall.values.ownpickles import OwnPickles
from holdall.values.registry import Serializers, serializers

if TYPE_CHECKING:
    from pathlib import Path

    from holdall.aio.values import AsyncValueStore
    from holdall.locks import Counter, Lock
    from holdall.masterkeys import Key
    from holdall.values.pickles import Mode

__all__ = ["ValueStore"]

_FIRST, _BATCH = 8, 100
"""How many keys `iterate_values` reads at once, at first and at most."""


class ValueStore(ValueMapping[Any]):
    """A mapping from keys to Python values, kept in any store.

    The mode says how a value becomes bytes, for the whole store or for one call: `raw`, `auto`, `json`,
    `pickle`, `typed`, or the name of a serializer such as `yaml`. The guide says exactly what
    each does. `open`, `info`, `exists` and the like are those of the store of bytes below, `.store`.

    Args:
        store: Where the bytes are. It stays open when this is closed.
        serialization_mode: The mode of calls that don't name one.
        raise_on_nonexist: What `get`, `pop` and `stream` do where there is no value and the call gives no
            default: True raises, False returns None or nothing. None is as a dict does: `get` returns None,
            `pop` and `stream` raise.
        pickles: `signed` reads only pickles that the key signed; `trust` writes bare pickles and reads
            everybody's; `never` refuses both.
        pickle_key: The key that signs pickles, as `PickleSerializer` takes it; by default the user's own,
            which is made at the first need. Of a mapping of names to keys the first one signs.
        serializers: The serializers whose names are modes, and that `typed` chooses from.

    Raises:
        InvalidArgumentError: The mode is unknown; the message lists those known.

    >>> from holdall import MemoryStore
    >>> values = ValueStore(MemoryStore())
    >>> values["ada"] = {"born": 1815}
    >>> values["ada"], values.get("ada", serialization_mode="raw"), values.get("other")
    ({'born': 1815}, b'{"born":1815}', None)
    """

    _uses_types = False

    def __init__(
        self,
        store: Store,
        serialization_mode: str = "auto",
        *,
        raise_on_nonexist: bool | None = None,
        pickles: Mode = "signed",
        pickle_key: Key | Mapping[str, Key] | None = None,
        serializers: Serializers = serializers,
    ) -> None:
        own = OwnPickles(pickles, pickle_key)
        pickle_key = None
        super().__init__(store)
        check_type(serializers, Serializers, "serializers must be a Serializers")
        _check_flag(raise_on_nonexist)
        self._serializers = serializers
        self._pickles = own
        self._raises = raise_on_nonexist
        self._modes = Modes(serializers, own)
        self._codec = self._modes[serialization_mode]

    @property
    def serialization_mode(self) -> str:
        """The mode of calls that don't name one."""
        return self._codec.name

    def __repr__(self) -> str:
        # A debugger shows mappings whose constructor failed.
        if not hasattr(self, "_codec"):
            return f"{type(self).__name__}(...)"
        more = "" if self._raises is None else f", raise_on_nonexist={self._raises}"
        more += "" if self._pickles.usual else f", {self._pickles!r}"
        return f"{type(self).__name__}({self._store!r}, {self.serialization_mode!r}{more})"

    def __reduce__(self) -> tuple[object, ...]:
        settings = self._store, self.serialization_mode, self._raises, self._pickles, self._serializers
        return _reopen, (type(self), *settings, self._owned is not None)

    @property
    def aio(self) -> AsyncValueStore:
        """The same calls as coroutines.

        >>> import asyncio
        >>> from holdall import MemoryStore
        >>> asyncio.run(ValueStore(MemoryStore({"a": b"1"})).aio.get("a"))
        1
        """
        # By its name, since that module is made of this class.
        return import_module("holdall.aio.values").AsyncValueStore(self)

    def _encode(self, key: str, value: Any) -> tuple[Any, None]:
        return self._write_value(self._codec, self._store._checked(key), value), None

    def _decode(self, key: str, data: bytes, media_type: str | None) -> Any:
        return self._make_value(self._codec, key, data)

    @staticmethod
    def _write_value(codec: Codec, key: str, value: Any) -> Any:
        try:
            return codec.encode(value)
        except StoreError as error:
            _blame(error, key, value)
            raise

    @staticmethod
    def _make_value(codec: Codec, key: str, data: bytes) -> Any:
        if codec.decode is None:
            return data
        try:
            return codec.decode(data)
        except StoreError as error:
            refuse_bytes(error, key, codec.name, data)
            raise

    def get(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        key: str,
        default: Any = MISSING,
        *,
        raise_on_nonexist: bool | None = None,
        serialization_mode: str | None = None,
        deserialization_func: Callable[[Any], Any] | None = None,
        model: Any = None,
    ) -> Any:
        """Return the value, or the default where there is none.

        Args:
            key: Which.
            default: What is returned where there is none: None, unless this store raises (see
                `raise_on_nonexist`).
            raise_on_nonexist: Overrides that of the store. With True a default isn't used.
            serialization_mode: The mode of this call.
            deserialization_func: Called with the bytes; what it returns is the value. With a
                `serialization_mode` in the same call it is called with the value that the mode reads.
            model: The bytes are JSON of this type: a Pydantic model, a msgspec Struct, or a type such as
                `list[User]`.

        Raises:
            BlobNotFoundError: There is no value, and the call or the store raises.
            SerializationError: The mode can't read the bytes; the message names the key, the mode, and what
                the bytes look like.
            UntrustedDataError: The bytes are a pickle that this user didn't sign.

        >>> from holdall import MemoryStore
        >>> values = ValueStore(MemoryStore({"note.txt": b"hello"}), "raw")
        >>> values.get("note.txt"), values.get("note.txt", serialization_mode="auto"), values.get("x", 5)
        (b'hello', 'hello', 5)
        """
        codec = self._codec
        if serialization_mode is not None or deserialization_func is not None or model is not None:
            codec = self._modes.reader(codec.name, serialization_mode, deserialization_func, model)
        data = self._store.get(key, MISSING)
        if data is MISSING:
            return self._absent(key, default, raise_on_nonexist, False)
        decode = codec.decode
        if decode is None:
            return data
        try:
            return decode(data)
        except StoreError as error:
            refuse_bytes(error, key, codec.name, data)
            raise

    def _absent(self, key: str, default: Any, own: bool | None, usual: bool) -> Any:
        """Return what a call returns where there is no value, or raise; `usual` says what a dict does."""
        _check_flag(own)
        if own is None and default is not MISSING:
            return default
        raises = usual if (chosen := self._raises if own is None else own) is None else chosen
        if raises:
            raise BlobNotFoundError(key=key)
        return None if default is MISSING else default

    def put(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | timedelta | None = None,
        expires: datetime | None = None,
        expect: Expect = ANY,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        serialization_mode: str | None = None,
        serialization_func: Callable[[Any], Any] | None = None,
        model: Any = None,
    ) -> Info:
        """Store a value under a key, and return what is known of the blob. A value that its mode can't hold
        is refused before anything is written.

        Args:
            key: Where.
            value: Any value that the mode holds.
            ttl: As in `Store.put`.
            expires: As in `Store.put`.
            expect: As in `Store.put`.
            content_type: As in `Store.put`.
            metadata: As in `Store.put`.
            serialization_mode: The mode of this call.
            serialization_func: Called with the value. Bytes or a str that it returns are written as they
                are; anything else, and everything if the call names a `serialization_mode`, by the mode.
            model: The value is of this type, and is written as its JSON: a Pydantic model, a msgspec Struct,
                or a type such as `list[User]`.

        Raises:
            SerializationError: The mode can't hold the value.
            InvalidArgumentError: The mode is unknown; the message lists those known.

        >>> from holdall import MemoryStore
        >>> values = ValueStore(MemoryStore())
        >>> values.put("squares", {n: n * n for n in range(3)}).size > 0, values["squares"]
        (True, {0: 0, 1: 1, 2: 4})
        """
        codec = self._codec
        if serialization_mode is not None or serialization_func is not None or model is not None:
            codec = self._modes.writer(codec.name, serialization_mode, serialization_func, model)
        try:
            data = codec.encode(value)
        except StoreError as error:
            _blame(error, key, value)
            raise
        if expect is ANY and ttl is None and expires is None and content_type is None and metadata is None:
            return self._store.put(key, data)
        kept: dict[str, Any] = {"ttl": ttl, "expires": expires, "content_type": content_type}
        return self._store.put(key, data, expect=expect, metadata=metadata, **kept)

    def __setitem__(self, key: str, value: Any, /) -> None:
        self.put(key, value)

    def pop(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        key: str,
        default: Any = MISSING,
        *,
        raise_on_nonexist: bool | None = None,
        serialization_mode: str | None = None,
        deserialization_func: Callable[[Any], Any] | None = None,
        model: Any = None,
    ) -> Any:
        """Delete a value and return it; the arguments are those of `get`. Of many callers at once only one
        gets it, if the store can CONDITIONAL_DELETE. A value that can't be read stays.

        Raises:
            BlobNotFoundError: There is none, and no default.

        >>> from holdall import MemoryStore
        >>> values = ValueStore(MemoryStore({"a": b"1"}))
        >>> values.pop("a"), values.pop("a", None)
        (1, None)
        """
        codec = self._modes.reader(self._codec.name, serialization_mode, deserialization_func, model)
        value = self._take(key, lambda key, data, _: self._make_value(codec, key, data))
        return self._absent(key, default, raise_on_nonexist, True) if value is MISSING else value

    def setdefault(self, key: str, default: Any = None, /) -> Any:
        """Return the value; where there is none, put the default first, atomically if the store can CREATE.

        >>> from holdall import MemoryStore
        >>> ValueStore(MemoryStore()).setdefault("a", 5)
        5
        """
        if self._codec.decode is None:
            # As `get` returns it the next time; and a stream can be read once only.
            default = join_pieces(iter(pieces_of(self._write_value(self._codec, key, default), key)))
        return super().setdefault(key, default)

    def delete(self, key: str, *, expect: Expect = ANY) -> bool:
        """Delete a value; return True if it was there. See `Store.delete`."""
        return self._store.delete(key, expect=expect)

    def stream(
        self,
        key: str,
        *,
        raise_on_nonexist: bool | None = None,
        serialization_mode: str | None = None,
        deserialization_func: Callable[[Any], Any] | None = None,
        model: Any = None,
    ) -> Iterator[Any]:
        """Yield a blob line by line, each as a value, in the memory of a MiB and a line. The arguments are
        those of `get`. A line ends with `\\n` or `\\r\\n`, which aren't part of it. Where the lines are JSON,
        blank ones are left out.

        The mode `csv`, which only this call has, yields each row as a list of str; with `model` the first row
        names the fields of the others.

        Raises:
            BlobNotFoundError: There is none.
            SerializationError: A line can't be read; the message names its number.

        >>> from holdall import MemoryStore
        >>> values = ValueStore(MemoryStore({"rows.jsonl": b'{"a": 1}\\n{"a": 2}\\n'}))
        >>> [row["a"] for row in values.stream("rows.jsonl")]
        [1, 2]
        """
        asked = self._modes.for_lines(self._codec.name, serialization_mode, deserialization_func, model)
        try:
            if isinstance(asked, CsvRows):
                return asked.read(self._store.open(key, "r", encoding="utf-8-sig", newline=""), key)
            return lines_of(self._store.chunks(key), asked, key)
        except BlobNotFoundError:
            self._absent(key, MISSING, raise_on_nonexist, True)
            return iter(())

    def iterate_keys(
        self, prefix: str | None = None, exclude_prefix: str | None = None, glob: str | None = None
    ) -> Iterator[str]:
        """Yield keys in order; see `Store.iterate_keys`."""
        return self._store.iterate_keys(prefix, exclude_prefix, glob)

    def iterate_values(
        self,
        prefix: str | None = None,
        exclude_prefix: str | None = None,
        glob: str | None = None,
        *,
        serialization_mode: str | None = None,
        deserialization_func: Callable[[Any], Any] | None = None,
        model: Any = None,
    ) -> Iterator[Any]:
        """Yield the values of the keys that `iterate_keys` yields, in their order, many at once where the
        store has BULK; the other arguments are those of `get`. One that is deleted meanwhile is left out.

        >>> from holdall import MemoryStore
        >>> list(ValueStore(MemoryStore({"a/1": b"1", "a/2": b"2", "b": b"3"})).iterate_values("a/"))
        [1, 2]
        """
        codec = self._modes.reader(self._codec.name, serialization_mode, deserialization_func, model)
        keys = self._store.iterate_keys(prefix, exclude_prefix, glob)
        return self._values_of(keys, codec)

    def _values_of(self, keys: Iterator[str], codec: Codec) -> Iterator[Any]:
        if Can.BULK not in self._store.can:
            for key in keys:
                data = self._store.get(key, MISSING)
                if not isinstance(data, Missing):
                    yield self._make_value(codec, key, data)
            return
        size = _FIRST
        while batch := list(islice(keys, size)):
            # Of those that come out of their order, few are held, unless one was deleted meanwhile.
            held: dict[str, bytes] = {}
            due = total = 0
            for key, data in self._store.iterate_many(batch):
                held[key] = data
                total += len(data)
                while due < len(batch) and batch[due] in held:
                    yield self._make_value(codec, batch[due], held.pop(batch[due]))
                    due += 1
            for key in batch[due:]:
                if key in held:
                    yield self._make_value(codec, key, held.pop(key))
            # Some servers send what they are asked for in one reply: of long values few are asked for.
            size = min(_BATCH, 2 * size) if total <= 4 * CHUNK else _FIRST

    def exists(self, key: str) -> bool:
        """Return whether there is a value; see `Store.exists`."""
        return self._store.exists(key)

    def info(self, key: str) -> Info:
        """Return what is known of a blob without reading it; see `Store.info`."""
        return self._store.info(key)

    def checksum(self, key: str, algorithm: str = "sha256") -> str:
        """Return the digest of the bytes of a value in hexadecimal; see `Store.checksum`."""
        return self._store.checksum(key, algorithm)

    def touch(self, key: str, *, ttl: float | timedelta | None = None) -> Info:
        """Renew the time at which a value was written; see `Store.touch`."""
        return self._store.touch(key, ttl=ttl)

    def local(self, key: str, *, write: bool = False, expect: Expect = ANY) -> AbstractContextManager[Path]:
        """Return a context manager that gives the blob as a real file; see `Store.local`."""
        return self._store.local(key, write=write, expect=expect)

    def lock(self, key: str, *, ttl: float | timedelta = 30, wait: float | timedelta | None = None) -> Lock:
        """Return a lock for all who use this store; see `Store.lock`."""
        return self._store.lock(key, ttl=ttl, wait=wait)

    def counter(self, key: str) -> Counter:
        """Return a number that many may change; see `Store.counter`. No serialization mode is applied."""
        return self._store.counter(key)

    def open(self, key: str, mode: str = "rb", **options: Any) -> IO[Any]:
        """Open the bytes of a value as a file; see `Store.open`. No serialization mode is applied."""
        return self._store.open(key, mode, **options)


def _blame(error: StoreError, key: str, value: Any) -> None:
    if isinstance(value, Item):
        raise InvalidDataError(
            "an Item is for update, and holds a value; put takes ttl=, content_type= and metadata=", key=key
        ) from None
    # A function of the caller may read another store, whose key the error has then.
    if error.key is None:
        error.key = key


def _check_flag(value: object) -> None:
    if value is not None:
        check_type(value, bool, "raise_on_nonexist must be True, False or None")


def _reopen(
    kind: type[ValueStore],
    store: Store,
    mode: str,
    raises: bool | None,
    pickles: OwnPickles,
    known: Serializers,
    owned: bool,
) -> ValueStore:
    made = kind(store, mode, raise_on_nonexist=raises, serializers=known)
    made._pickles, made._modes = pickles, Modes(known, pickles)
    made._codec = made._modes[mode]
    if owned:
        made._owned = store
    return made
