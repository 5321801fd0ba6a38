"""Bytes compressed by Zstandard, as one frame (RFC 8878)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from holdall.errors import MissingDependencyError, SerializationError


def _module() -> Any:
    try:
        return import_module("compression.zstd")
    except ImportError:
        pass
    try:
        return import_module("backports.zstd")
    except ImportError:
        raise MissingDependencyError(
            "Zstandard needs a package that isn't installed: pip install 'holdall[zstd]'"
        ) from None


def compress(data: bytes) -> bytes:
    """Compress bytes to a frame that says its size."""
    return _module().compress(data)


def decompress(data: bytes) -> bytes:
    """Return the bytes of one or more frames."""
    module = _module()
    try:
        return module.decompress(data)
    except (module.ZstdError, ValueError, EOFError) as error:
        raise SerializationError(f"this isn't compressed by Zstandard: {error}") from error
