"""Pickles, read only if they are signed with the user's own key, or trusted by the user's word."""

from __future__ import annotations

import hmac
import pickle
from collections.abc import Iterable
from typing import Any, Final, Literal, get_args

from holdall.errors import InvalidArgumentError, SerializationError, UntrustedDataError
from holdall.values.serializer import Buffer

__all__ = ["Mode", "PickleSerializer"]

Mode = Literal["signed", "trust", "never"]

_MAGIC: Final = b"hldpick1"
_LABEL: Final = b"holdall pickle 1\0"
_SIGNATURE: Final = 32
_SHORTEST: Final = 16


class PickleSerializer:
    """Any value that `pickle` takes. To read a pickle is to run it, so that none is read that anybody else
    could have written.

    A signed pickle is 8 bytes `hldpick1`, the pickle (protocol 5), and the HMAC-SHA256 (RFC 2104) of
    `holdall pickle 1`, a NUL and the pickle. The signature says who wrote the value, not under which key of
    a store: who can write there can put one signed value in the place of another.

    A pickle has no canonical form: equal values may have different bytes.

    Args:
        key: At least 16 bytes that only the writers and readers know, kept outside of the store, such as
            `secrets.token_bytes(32)` gives.
        mode: `signed` reads only what is signed with the key, and refuses all without one; `trust` writes
            and reads bare pickles, and must be true of everybody who can write to the store; `never` refuses
            both.

    Raises:
        InvalidArgumentError: The key is no bytes, or too short, or the mode would not use it; no mode is
            called so.

    >>> serializer = PickleSerializer(b"a key of at least 16 bytes")
    >>> serializer.decode(b"".join(serializer.encode(range(3))))
    range(0, 3)
    """

    name = "pickle"
    media_type = "application/x-python-pickle"
    extensions: tuple[str, ...] = (".pickle", ".pkl")

    def __init__(self, key: bytes | None = None, mode: Mode = "signed") -> None:
        if mode not in get_args(Mode):
            raise InvalidArgumentError(f"mode is one of {', '.join(get_args(Mode))}, not {mode!r}")
        if key is not None and (not isinstance(key, bytes) or len(key) < _SHORTEST):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(
                f"key is at least {_SHORTEST} bytes, as secrets.token_bytes(32) gives them"
            )
        if key is not None and mode == "trust":
            raise InvalidArgumentError(
                "mode='trust' signs nothing, so it takes no key; leave one of them out"
            )
        self._key = key
        self._mode: Mode = mode

    def __repr__(self) -> str:
        # Never the key itself.
        key = "" if self._key is None else "key=..., "
        return f"PickleSerializer({key}mode={self._mode!r})"

    def accepts(self, value: Any) -> bool:
        return self._mode == "trust" or (self._mode == "signed" and self._key is not None)

    def encode(self, value: Any) -> Iterable[Buffer]:
        self._check_allowed("written")
        try:
            pickled = pickle.dumps(value, protocol=5)
        except Exception as error:
            raise SerializationError(f"this {type(value).__qualname__} can't be pickled: {error}") from error
        if self._mode == "trust":
            return (pickled,)
        return _MAGIC, pickled, self._signature(pickled)

    def decode(self, data: Buffer) -> Any:
        self._check_allowed("read")
        view = memoryview(data)
        if self._mode == "signed":
            view = self._verified(view)
        try:
            return pickle.loads(view)
        except Exception as error:
            raise SerializationError(f"this is no pickle that can be read here: {error!r}") from error

    def _check_allowed(self, done: str) -> None:
        if self._mode == "never":
            raise UntrustedDataError(f"pickles are not {done} here, since the mode is 'never'")
        if self._mode == "signed" and self._key is None:
            raise UntrustedDataError(
                f"no pickle is {done} without a key to sign it: give PickleSerializer(key=...), or "
                "mode='trust' if nobody else can write where it is kept"
            )

    def _verified(self, view: memoryview) -> memoryview:
        """The pickle, whose signature was right. Not one byte of it was unpickled before."""
        if len(view) < len(_MAGIC) + _SIGNATURE or bytes(view[: len(_MAGIC)]) != _MAGIC:
            raise UntrustedDataError(
                "this isn't signed, so it isn't unpickled; if nobody else can write where it is kept, "
                "read it with PickleSerializer(mode='trust')"
            )
        pickled = view[len(_MAGIC) : -_SIGNATURE]
        if not hmac.compare_digest(self._signature(pickled), bytes(view[-_SIGNATURE:])):
            raise UntrustedDataError(
                "this pickle was signed with another key or has changed, so it isn't unpickled"
            )
        return pickled

    def _signature(self, pickled: Buffer) -> bytes:
        made = hmac.new(self._key or b"", _LABEL, "sha256")
        made.update(pickled)
        return made.digest()
