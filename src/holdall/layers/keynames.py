"""Keys of blobs that are stored encrypted, each always as the same name."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

from holdall.errors import UnsupportedOperation
from holdall.keys import MAX_KEY_BYTES, check_key
from holdall.layers.sealing import Binding, ciphers
from holdall.masterkeys import MasterKey

_LABEL: Final = b"holdall key names 2\0"
_STORE: Final = b"holdall store 2\0"
_SIV: Final = 16
LONGEST: Final = MAX_KEY_BYTES * 3 // 4 - _SIV
"""The longest key, in UTF-8 bytes, whose encrypted name is a valid key."""


class KeyNames:
    """Encrypts keys by AES-256-SIV (RFC 5297), which is deterministic. In another context a key has another
    name."""

    def __init__(self, master: MasterKey, binding: Binding) -> None:
        loaded = ciphers()
        self.name, self.id = master.name, master.id
        self.proof = master.derived(_STORE + binding.of(b""), 32)
        try:
            self._siv: Any = loaded.AESSIV(master.derived(_LABEL + binding.of(b""), 64))
        except loaded.UnsupportedAlgorithm as error:
            raise UnsupportedOperation("names= needs AES-SIV, which this OpenSSL lacks") from error
        self._invalid: type[Exception] = loaded.InvalidTag
        self._warned = False

    def encrypt(self, key: str) -> str:
        """Return the name that a key is stored under."""
        # A lone surrogate may come this far: no blob has this key.
        return _spell_sealed(self._siv.encrypt(key.encode(errors="surrogatepass"), None))

    def opened(self, name: str) -> str | None:
        """Return the key that a name stands for; None if it isn't one of ours."""
        try:
            sealed = urlsafe_b64decode(name.encode("ascii") + b"=" * (-len(name) % 4))
            # The decoder passes over what it doesn't know, so that many spellings give the same.
            if _spell_sealed(sealed) != name:
                return None
            return check_key(self._siv.decrypt(sealed, None).decode())
        except (ValueError, self._invalid):
            return None

    def decrypt(self, name: str) -> str | None:
        """Do the same, and warn of the first name that isn't ours."""
        key = self.opened(name)
        if key is None and not self._warned:
            import logging

            self._warned = True
            logging.getLogger("holdall.layers.encrypted").warning(
                "the store below has blobs whose names weren't encrypted with this names key; "
                "they aren't listed"
            )
        return key


def _spell_sealed(sealed: bytes) -> str:
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()
