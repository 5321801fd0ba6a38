"""A warning for a stack whose layers lie in an order that gains nothing."""

from __future__ import annotations

import warnings

from holdall.layers.layer import Layer
from holdall.store import Store


def warn_of_compression(store: Store) -> None:
    """Warn if a store, or one below it, compresses what a new `EncryptedStore` over it encrypts: ciphertext
    doesn't shrink."""
    waiting = [store]
    while waiting:
        each = waiting.pop()
        if not isinstance(each, Layer):
            continue
        if each._compresses:
            name = type(each).__name__
            warnings.warn(
                f"{name} below EncryptedStore compresses encrypted bytes, which don't shrink; expected the "
                f"other order: {name}(EncryptedStore(store, key))",
                UserWarning,
                stacklevel=3,
            )
            return
        waiting += each._below
