"""What is stored for a call: a head, and the value in a format that gives it back equal and of its type.

The head is 8 bytes `hldcall1`, when the value was computed (seconds since 1970, a float of 64 bits,
little-endian), and a letter for the format of what follows:

| letter | value | what follows |
| --- | --- | --- |
| `b` | bytes | themselves |
| `s` | a str | UTF-8, with lone surrogates |
| `j` | what plain JSON gives back | JSON |
| `t` | any other | a typed value, see `values/typed.py`; a pickle in it is signed for this call |
| `e` | an exception that the call raised | such a pickle, without what a typed value has in front |
"""

from __future__ import annotations

import struct
import time
from functools import cache
from typing import Any, Final, cast

from holdall.errors import SerializationError, UntrustedDataError
from holdall.userkey import VARIABLE, user_key
from holdall.values.fastjson import MISSING, read_plain
from holdall.values.json import _dumps as dumps
from holdall.values.json import _is_plain, plain
from holdall.values.ownpickles import OwnPickles
from holdall.values.pickles import PickleSerializer
from holdall.values.registry import serializers
from holdall.values.same import type_name
from holdall.values.serializer import Buffer
from holdall.values.typed import read_typed, write_typed

MAGIC: Final = b"hldcall1"
HEAD: Final = struct.Struct("<8sdc")
SIZE: Final = HEAD.size
_PLACE: Final = "holdall.cached"
"""What the signatures of pickles are bound to, with the key of the call."""


class RaisedError(Exception):
    """An exception that was kept; it is the `__cause__`."""


class Entries:
    """Makes stored bytes of results, and results of stored bytes.

    Args:
        trusted: Whether nobody else can write where the bytes are, so that pickles aren't signed.
    """

    def __init__(self, *, trusted: bool = False) -> None:
        self._trusted = trusted
        self._pickler: PickleSerializer | None = PickleSerializer(mode="trust") if trusted else None

    def encode(self, key: str, value: Any, *, raised: bool = False) -> bytes:
        """Return the bytes of a value, or of an exception that was raised.

        Raises:
            SerializationError: No format gives it back as it is.
            StoreUnavailableError: It has to be pickled, and the user's key can't be made.
        """
        letter, data = (b"e", self._encode_error(key, value)) if raised else self._encode_result(key, value)
        return HEAD.pack(MAGIC, time.time(), letter) + data

    def _encode_result(self, key: str, value: Any) -> tuple[bytes, bytes]:
        kind = cast("type[Any]", type(value))
        if kind is bytes:
            return b"b", value
        try:
            if kind is str:
                return b"s", value.encode("utf-8", "surrogatepass")
            if _is_plain(value, set()):
                return b"j", dumps(value).encode()
        except (ValueError, RecursionError, SerializationError):
            # A lone surrogate within it, a NaN, a huge number; too deep for JSON.
            pass
        return b"t", write_typed(value, serializers, self._pickles(key))

    def _encode_error(self, key: str, error: BaseException) -> bytes:
        """Return the pickle of an exception; refuse one that it wouldn't restore, as many with a constructor
        of their own."""
        data = b"".join(self._pickles(key).encode(error))
        back = self._pickles(key).decode(data)
        if type(back) is not type(error) or str(back) != str(error):
            raise SerializationError(f"{type_name(error)} isn't restored by its pickle; give it a __reduce__")
        return data

    def decode(self, key: str, data: bytes) -> Any:
        """Return a value.

        Raises:
            RaisedError: What was kept is an exception; it is the cause.
            SerializationError: These bytes aren't an entry, or not one that can be read here.
            UntrustedDataError: They are a pickle that this user didn't sign for this call.
            MissingDependencyError: The library that reads the value isn't installed.
        """
        try:
            magic, _, letter = HEAD.unpack_from(data)
        except struct.error:
            magic, letter = b"", b""
        if magic != MAGIC:
            raise SerializationError(f"expected the result of a call, and what is here begins {data[:20]!r}")
        body = data[SIZE:]
        if letter == b"j":
            found = read_plain(body)
            return plain(body) if found is MISSING else found
        if letter == b"b":
            return body
        if letter == b"s":
            return str(body, "utf-8", "surrogatepass")
        if letter == b"t":
            return read_typed(body, serializers, self._pickles(key))
        if letter == b"e":
            raise RaisedError from self._pickles(key).decode(body)
        raise SerializationError(f"this result is in a format that isn't known here, {letter!r}")

    def _pickles(self, key: str) -> OwnPickles:
        return cast(OwnPickles, _OfCall(self._pickler, key))


class _OfCall:
    """The pickles of one call, as `OwnPickles` has those of a store."""

    def __init__(self, pickler: PickleSerializer | None, key: str) -> None:
        self._pickler = pickler
        self._key = key

    def encode(self, value: Any) -> Any:
        return self._signer(make=True).encode(value)

    def decode(self, data: Buffer) -> Any:
        return self._signer(make=False).decode(data)

    def _signer(self, *, make: bool) -> PickleSerializer:
        pickler = self._pickler
        if pickler is None:
            reference = user_key(make=make)
            if reference is None:
                raise UntrustedDataError(
                    f"this is a pickle, and you have no key that could have signed it ({VARIABLE} isn't set, "
                    "and your settings have no pickle.key)"
                )
            pickler = _pickler_of(reference)
        return pickler.bound(_PLACE, self._key)


_pickler_of = cache(PickleSerializer)


def created_of(data: bytes) -> float:
    """Return when a value was computed; 0 for bytes that aren't an entry."""
    return HEAD.unpack_from(data)[1] if len(data) >= SIZE and data.startswith(MAGIC) else 0.0
