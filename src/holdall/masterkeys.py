"""Master keys: 32 bytes or a reference to them, what is derived from them, and their fingerprints."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeAlias, cast

from holdall.errors import InvalidArgumentError, UnsupportedOperation

Key: TypeAlias = bytes | str
"""32 bytes, or a reference to them, `env:NAME` or `file:PATH`, in base64 or hexadecimal. A reference may end
in `#` and the fingerprint that the key must have, 16 hexadecimal digits."""

_SIZE: Final = 32
_CHECK: Final = b"holdall key check 1\0"
_OTHERS: Final = 0o077
_FILE_LIMIT: Final = 1024
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))

_fingerprint = re.compile(r"[0-9A-Fa-f]{16}").fullmatch


class Hidden:
    """A value that no repr, traceback or pickle shows.

    >>> Hidden(b"a key")
    Hidden('***')
    """

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value: Any = value

    def __repr__(self) -> str:
        return "Hidden('***')"

    def __reduce__(self) -> NoReturn:
        raise UnsupportedOperation(
            "a key isn't pickled; give a reference, 'env:NAME' or 'file:PATH', instead"
        )


class Keyed:
    """HMAC-SHA256 (RFC 2104) with one key, prepared once: half the time of `hmac.digest` for a short message.

    >>> Keyed(b"key")(b"message") == hmac.digest(b"key", b"message", "sha256")
    True
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(padded.translate(_INNER))
        self._outer = hashlib.sha256(padded.translate(_OUTER))

    def __call__(self, message: bytes, more: bytes | bytearray | memoryview = b"") -> bytes:
        inner = self._inner.copy()
        inner.update(message)
        if more:
            inner.update(more)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class MasterKey:
    """A key of 32 bytes, from which others are derived by HKDF-SHA256 (RFC 5869). Its purpose is part of its
    fingerprint."""

    __slots__ = ("expand", "id", "name")

    def __init__(self, name: str, key: Hidden, purpose: str) -> None:
        self.name = name
        # HKDF's first step, without a salt.
        self.expand = Keyed(hmac.digest(bytes(32), key.value, "sha256"))
        """HMAC-SHA256 with what HKDF's first step gives."""
        self.id: bytes = self.derived(_CHECK + purpose.encode(), 8)
        """Its fingerprint. Keys are uniform, so it only reveals whether two keys are equal."""

    def __repr__(self) -> str:
        return f"MasterKey({self.name!r}, {self.id.hex()})"

    def derived(self, info: bytes, size: int) -> bytes:
        """A key derived from this one for one use, which `info` names: HKDF's second step."""
        made = block = b""
        while len(made) < size:
            block = self.expand(block + info + bytes([len(made) // 32 + 1]))
            made += block
        return made[:size]


def hidden(key: object) -> str | Hidden:
    """A key as given, out of sight unless it is a reference; whoever is given a key calls this first."""
    if isinstance(key, Hidden) or (isinstance(key, str) and key.startswith(("env:", "file:"))):
        return key
    return Hidden(bytes(cast(bytes, key)) if isinstance(key, bytearray | memoryview) else key)


def hidden_keys(keys: Mapping[Any, object]) -> dict[object, str | Hidden]:
    """The same for a mapping of names to keys; a name that can't be one may be a key by mistake."""
    return {name if _is_name(name) else Hidden(name): hidden(key) for name, key in keys.items()}


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isprintable() and 1 <= len(name.encode("utf-8", "replace")) <= 31


def check_key_names(keys: Mapping[object, object]) -> None:
    """Refuse a mapping without keys, or with a name that can't be one."""
    if not keys or not all(map(_is_name, keys)):
        # Not what was given, which may be a key by mistake: 64 hexadecimal digits aren't a name.
        raise InvalidArgumentError(
            "expected a mapping of names to keys; the name of a key is a printable str of 1 to 31 UTF-8 bytes"
        )


def current_name(keys: Mapping[str, object], current: object) -> str:
    """Return the name of the key for what is new: the one that was asked for, or the only one."""
    if current is None and len(keys) == 1:
        return next(iter(keys))
    if isinstance(current, str):
        return current
    # Not what was given, which may be a key by mistake.
    known = ", ".join(map(repr, keys))
    raise InvalidArgumentError(f"current must be the name of one of the keys: {known}")


def are_references(*keys: object) -> bool:
    """Whether none of these keys holds key bytes, so that all may be pickled."""
    return all(key is None or isinstance(key, str) for key in keys)


def shown(key: object) -> str:
    """A key as a repr shows it."""
    return repr(key) if isinstance(key, str) else "'***'"


def master_key(name: str, key: str | Hidden, purpose: str, fingerprint: object = None) -> MasterKey:
    """Return the master key that was given, or referred to, to `hidden`. Its fingerprint must be the one in
    hexadecimal; None takes any.

    Raises:
        InvalidArgumentError: It isn't a key, can't be found, or has another fingerprint. No message shows
            any part of a key.
    """
    expected = fingerprint
    if isinstance(key, str):
        reference, found, after = key.rpartition("#")
        if found and (_fingerprint(after) or key.startswith("env:")):
            key = reference
            if fingerprint is None:
                expected = after
            elif isinstance(fingerprint, str) and fingerprint.lower() != after.lower():
                raise InvalidArgumentError(f"the key {name!r} was given two different fingerprints")
    if expected is not None and not (isinstance(expected, str) and _fingerprint(expected)):
        raise InvalidArgumentError(f"the fingerprint of the key {name!r} must be 16 hexadecimal digits")
    made = MasterKey(name, _key_bytes(f"the key {name!r}", key), purpose)
    if expected is not None and made.id.hex() != expected.lower():
        raise InvalidArgumentError(
            f"the key {name!r} is another key: expected the fingerprint {expected.lower()}, "
            f"got {made.id.hex()}; nothing was read or written"
        )
    return made


def _key_bytes(what: str, key: str | Hidden) -> Hidden:
    """The 32 bytes of a key. Nothing here holds them in a local variable that a traceback would show."""
    where = what
    if isinstance(key, str):
        scheme, _, place = key.partition(":")
        if not place:
            raise InvalidArgumentError(f"{what} is {key!r}; expected 'env:NAME' or 'file:PATH'")
        where, text = (_from_environment if scheme == "env" else _from_file)(what, place)
        key = Hidden(_decode_key(text))
    elif isinstance(key.value, str):
        raise InvalidArgumentError(
            f"{what} is a str, but not a reference; expected 'env:NAME', 'file:PATH', or 32 bytes"
        )
    if not isinstance(key.value, bytes) or len(key.value) != _SIZE:
        raise InvalidArgumentError(
            f"{where} isn't a key; expected 32 bytes, or in a variable or a file their base64 or hexadecimal "
            "form; generate_key() makes one"
        )
    if not any(key.value):
        raise InvalidArgumentError(f"{where} is all zeros, which isn't secret; generate_key() makes a key")
    return key


def _from_environment(what: str, name: str) -> tuple[str, Hidden]:
    try:
        text = Hidden(os.environ.get(name))
    except UnicodeEncodeError:
        text = Hidden(None)
    if text.value is None:
        raise InvalidArgumentError(f"{what}: the environment variable {name!r} isn't set")
    return f"{what} in the environment variable {name!r}", text


def _from_file(what: str, path: str) -> tuple[str, Hidden]:
    try:
        with open(os.path.expanduser(path), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = Hidden(file.read(_FILE_LIMIT).decode("ascii", "replace"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgumentError(f"{what}: the file {path!r} can't be read: {reason}") from error
    if mode & _OTHERS:
        import logging

        logging.getLogger("holdall.keys").warning(
            "the key file %r can be read by other users (mode %03o); run: chmod 600 %s",
            path,
            mode & 0o777,
            path,
        )
    return f"{what} in the file {path!r}", text


def _decode_key(text: Hidden) -> bytes | None:
    try:
        if len(text.value.strip()) == 2 * _SIZE:
            return bytes.fromhex(text.value.strip())
        plain = Hidden(text.value.strip().replace("-", "+").replace("_", "/"))
        return b64decode(cast(str, plain.value) + "=" * (-len(plain.value) % 4), validate=True)
    except ValueError:
        return None
