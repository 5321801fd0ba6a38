"""What the codecs alone take for a blob that a layer encodes: the bare calls of zstd and of cryptography."""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

__all__ = ["ALONE", "CIPHER", "ZSTD", "Alone", "alone"]

ZSTD: Final = "zstd alone"
CIPHER: Final = "SHA-256, HKDF and AES-256-GCM alone"
ALONE: Final = {"CompressedStore, zstd": ZSTD, "EncryptedStore": CIPHER}
"""The bare calls that a layer is held against."""

_LENGTH: Final = struct.Struct(">Q")
_NONCE: Final = struct.pack(">QI", 0, 1)


class Alone:
    """The calls of a codec, with a dict in the place of a store.

    Args:
        encode: From a key and plain bytes to encoded bytes.
        decode: From a key and encoded bytes to plain bytes.
    """

    def __init__(self, encode: Callable[[str, bytes], bytes], decode: Callable[[str, bytes], bytes]) -> None:
        self._encode, self._decode = encode, decode
        self._blobs: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self._blobs[key] = self._encode(key, data)

    def get(self, key: str) -> bytes:
        return self._decode(key, self._blobs[key])


def _zstd() -> Alone:
    try:
        zstd: Any = import_module("compression.zstd")
    except ImportError:
        zstd = import_module("backports.zstd")
    parameter = zstd.CompressionParameter
    options = {parameter.compression_level: 3, parameter.checksum_flag: 1}
    # One is kept, as a program in a hurry would: to make it takes longer than to compress 1 KiB.
    compressor = zstd.ZstdCompressor(options=options)
    return Alone(
        lambda key, data: compressor.compress(data, compressor.FLUSH_FRAME),
        lambda key, data: zstd.decompress(data),
    )


def _cipher() -> Alone:
    """The format of an encrypted blob in the plainest calls of cryptography: a key of its own for each blob,
    bound to the blob's key, and a commitment to it."""
    aead: Any = import_module("cryptography.hazmat.primitives.ciphers.aead")
    kdf: Any = import_module("cryptography.hazmat.primitives.kdf.hkdf")
    hashes: Any = import_module("cryptography.hazmat.primitives.hashes")
    secret = os.urandom(32)

    def derived(salt: bytes, key: bytes) -> tuple[Any, bytes]:
        bind = hashlib.sha256(_LENGTH.pack(0) + _LENGTH.pack(len(key)) + key).digest()
        made = kdf.HKDFExpand(hashes.SHA256(), 64, b"holdall blob 2\0" + salt + bind).derive(secret)
        return aead.AESGCM(made[:32]), made[32:]

    def encode(name: str, data: bytes) -> bytes:
        key, salt = name.encode(), os.urandom(16)
        cipher, commitment = derived(salt, key)
        header = bytes(16) + salt + commitment
        return header + cipher.encrypt(_NONCE, data, header + key)

    def decode(name: str, stored: bytes) -> bytes:
        key, header = name.encode(), stored[:64]
        cipher, commitment = derived(header[16:32], key)
        if not hmac.compare_digest(commitment, header[32:]):
            raise ValueError("this blob has another key")
        return cipher.decrypt(_NONCE, stored[64:], header + key)

    return Alone(encode, decode)


def alone() -> dict[str, Alone]:
    """The bare calls by their names."""
    return {ZSTD: _zstd(), CIPHER: _cipher()}
