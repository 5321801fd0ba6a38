"""Pickles, read only if they are signed with the user's key, or if the user trusts them."""

from __future__ import annotations

import hmac
import os
import pickle
import struct
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, Literal, cast, get_args

from holdall.arguments import check_choice
from holdall.errors import InvalidArgumentError, SerializationError, UnsupportedOperation, UntrustedDataError
from holdall.masterkeys import (
    Hidden,
    Key,
    Keyed,
    are_references,
    check_key_names,
    current_name,
    hidden,
    hidden_keys,
    master_key,
    shown,
)
from holdall.values.serializer import Buffer

__all__ = ["Mode", "PickleSerializer"]

Mode = Literal["signed", "trust", "never"]

MAGIC: Final = b"hldpick2"
_LABEL: Final = b"holdall pickle 2\0"
_KEY_LABEL: Final = b"holdall pickle key 2\0"
_ID: Final = 8
_TAG: Final = 32
_LENGTH: Final = struct.Struct(">Q")
_HEAD: Final = len(MAGIC) + _ID


class PickleSerializer:
    """Any value that `pickle` takes. Reading a pickle runs code in it, so pickles that others could have
    written aren't read.

    A signed pickle is 8 bytes `hldpick2`, the fingerprint of the key (8 bytes), the pickle (protocol 5), and
    a tag of 32 bytes: the HMAC-SHA256 (RFC 2104) of `holdall pickle 2`, a NUL, the fingerprint, the context
    and the pickle, each of the last two after its length as 64 bits, big-endian. The key of the tag is
    derived from the master key by HKDF-SHA256 (RFC 5869).

    The signature proves who wrote a value. If the serializer is `bound` to a store and a blob's key, it also
    proves where the value belongs: one signed value can't replace another. It doesn't prove when the value
    was written: an older pickle of the same place is read as well. And anyone who has the key can run code
    in every process that reads with it.

    A pickle has no canonical form: equal values may have different bytes.

    Args:
        key: 32 secret bytes of the writers and readers, as `generate_key` makes them; or a reference to them,
            `env:NAME` or `file:PATH`, in base64 or hexadecimal; or a mapping of names to such keys, where
            older ones are kept to read old pickles. A pickle of the serializer holds only references.
        current: The name of the key that signs; not needed for one key.
        mode: `signed` reads only pickles that one of the keys signed, and without keys refuses all; `trust`
            writes bare pickles, and reads these and signed ones, whoever wrote them; it is safe only if
            everyone who can write to the store is trusted; `never` refuses both.
        context: The place that signatures are bound to; see `bound`. If empty, only unbound pickles are read.

    Raises:
        InvalidArgumentError: A key isn't valid, or can't be found, or the mode doesn't use keys; or the mode
            is unknown.

    >>> serializer = PickleSerializer(PickleSerializer.generate_key())
    >>> serializer.decode(b"".join(serializer.encode(range(3))))
    range(0, 3)
    """

    name = "pickle"
    media_type = "application/x-python-pickle"
    extensions: tuple[str, ...] = (".pickle", ".pkl")

    # A repr shows these if the constructor raised.
    _given: str | Hidden | dict[str, str | Hidden] | None = None
    _asked: str | None = None
    _mode: Mode = "signed"
    _context: bytes = b""

    def __init__(
        self,
        key: Key | Mapping[str, Key] | None = None,
        mode: Mode = "signed",
        *,
        current: str | None = None,
        context: bytes = b"",
    ) -> None:
        many = isinstance(key, Mapping)
        keys: Any = {} if key is None else hidden_keys(key) if many else {"default": hidden(key)}
        given = None if key is None else keys if many else keys["default"]
        # So that no traceback from here on shows a key.
        key = None
        if current is not None and not (isinstance(current, str) and current in keys):
            current = cast(Any, Hidden(current))
        check_choice(mode, "mode", get_args(Mode))
        if given is not None and mode == "trust":
            raise InvalidArgumentError(
                "mode='trust' signs nothing, so it takes no key; leave one of them out"
            )
        if not isinstance(context, bytes):
            raise InvalidArgumentError("context must be bytes; bound(store, blob_key) makes it of two names")
        self._given, self._mode, self._context = given, mode, context
        self._keys: dict[bytes, tuple[str, Keyed]] = {}
        self._current: bytes | None = None
        if given is not None:
            self._open(keys, current)

    def _open(self, keys: dict[str, str | Hidden], current: object) -> None:
        check_key_names(cast("Mapping[object, object]", keys))
        signing = current_name(keys, current)
        self._asked = cast("str | None", current)
        for name, given in keys.items():
            master = master_key(name, given, "pickles")
            if master.id in self._keys:
                twin = self._keys[master.id][0]
                raise InvalidArgumentError(f"{twin!r} and {name!r} are the same key; leave one of them out")
            self._keys[master.id] = name, Keyed(master.derived(_KEY_LABEL, 32))
            if name == signing:
                self._current = master.id

    @staticmethod
    def generate_key() -> bytes:
        """Make a key of 32 random bytes from the system.

        >>> len(PickleSerializer.generate_key())
        32
        """
        return os.urandom(32)

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each key by its name. They are public, and reveal nothing about a key."""
        return {name: id_.hex() for id_, (name, _) in self._keys.items()}

    def bound(self, store: str, blob_key: str) -> PickleSerializer:
        """Return a serializer whose signatures are valid only for one blob of one store.

        A pickle that it signed must be signed again when it is copied or moved to another key.

        Args:
            store: The name of the store that all its readers and writers use.
            blob_key: The blob's key.

        >>> serializer = PickleSerializer(PickleSerializer.generate_key())
        >>> pickled = b"".join(serializer.bound("prod", "role").encode("guest"))
        >>> serializer.bound("prod", "role").decode(pickled)
        'guest'
        >>> serializer.bound("prod", "name").decode(pickled)
        Traceback (most recent call last):
        holdall.errors.UntrustedDataError: this pickle was changed, or is from another place, ...
        """
        made = PickleSerializer.__new__(PickleSerializer)
        made.__dict__.update(self.__dict__)
        made._context = b"".join(
            [_LENGTH.pack(len(part)) + part for part in map(_encode_name, (store, blob_key))]
        )
        return made

    def __repr__(self) -> str:
        # Never a key itself.
        text = ""
        if isinstance(self._given, dict):
            keys = ", ".join([f"{name!r}: {shown(value)}" for name, value in self._given.items()])
            text = f"key={{{keys}}}, "
        elif self._given is not None:
            text = f"key={shown(self._given)}, "
        current = "" if self._asked is None else f", current={self._asked!r}"
        context = f", context={self._context!r}" if self._context else ""
        return f"PickleSerializer({text}mode={self._mode!r}{current}{context})"

    def __reduce__(self) -> tuple[object, ...]:
        keys = list(self._given.values()) if isinstance(self._given, dict) else [self._given]
        if not are_references(*keys):
            raise UnsupportedOperation(
                "a PickleSerializer that holds keys as bytes isn't pickled, since they would go with it; "
                "give references, 'env:NAME' or 'file:PATH', instead"
            )
        return partial(PickleSerializer, current=self._asked, context=self._context), (
            self._given,
            self._mode,
        )

    def accepts(self, value: Any) -> bool:
        return self._mode == "trust" or (self._mode == "signed" and self._current is not None)

    def encode(self, value: Any) -> Iterable[Buffer]:
        self._check_allowed("written")
        try:
            pickled = pickle.dumps(value, protocol=5)
        except Exception as error:
            raise SerializationError(f"this {type(value).__qualname__} can't be pickled: {error}") from error
        if self._mode == "trust" or self._current is None:
            return (pickled,)
        return MAGIC + self._current, pickled, self._tag(self._current, pickled)

    def decode(self, data: Buffer) -> Any:
        self._check_allowed("read")
        # Copy first, unless it is bytes: the checked bytes are those that are unpickled, even if another
        # thread or process that shares the memory changes it.
        data = bytes(data)
        pickled = self._verify(data) if self._mode == "signed" else _bare(data)
        try:
            return pickle.loads(pickled)
        except Exception as error:
            raise SerializationError(f"this isn't a pickle that can be read here: {error!r}") from error

    def _check_allowed(self, done: str) -> None:
        if self._mode == "never":
            raise UntrustedDataError(f"pickles aren't {done} here, since the mode is 'never'")
        if self._mode == "signed" and self._current is None:
            raise UntrustedDataError(
                f"no pickle is {done} without a key to sign it: give PickleSerializer(key=...), or "
                "mode='trust' if nobody else can write where it is kept"
            )

    def _verify(self, data: bytes) -> memoryview:
        """Return the pickle if its tag is right, before a byte of it is unpickled."""
        if data[:7] == MAGIC[:7] and data[7:8] > MAGIC[7:]:
            raise UntrustedDataError(
                "this pickle was signed by a newer version of holdall, so it isn't unpickled; upgrade holdall"
            )
        if len(data) < _HEAD + _TAG or not data.startswith(MAGIC):
            raise UntrustedDataError(
                "this isn't signed, so it isn't unpickled; if nobody else can write where it is kept, "
                "read it with PickleSerializer(mode='trust')"
            )
        id_ = data[len(MAGIC) : _HEAD]
        if id_ not in self._keys:
            known = ", ".join(f"{name!r} = {each}" for name, each in self.fingerprints().items())
            raise UntrustedDataError(
                f"this pickle was signed with another key, {id_.hex()}, which isn't among those given, "
                f"{known}; so it isn't unpickled"
            )
        pickled = memoryview(data)[_HEAD:-_TAG]
        if not hmac.compare_digest(self._tag(id_, pickled), data[-_TAG:]):
            raise UntrustedDataError(
                "this pickle was changed, or is from another place, so it isn't unpickled"
            )
        return pickled

    def _tag(self, id_: bytes, pickled: Buffer) -> bytes:
        head = _LABEL + id_ + _LENGTH.pack(len(self._context)) + self._context + _LENGTH.pack(len(pickled))
        return self._keys[id_][1](head, pickled)


def _bare(data: bytes) -> Buffer:
    """Return the pickle in a signed one; no pickle begins as these do."""
    return memoryview(data)[_HEAD:-_TAG] if data.startswith(MAGIC) else data


def _encode_name(name: object) -> bytes:
    try:
        if isinstance(name, str):
            return name.encode()
    except UnicodeEncodeError:
        pass
    raise InvalidArgumentError(
        "bound(store, blob_key) takes two strings: the name of the store and the key of the blob"
    )
