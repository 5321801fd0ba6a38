"""A stack that compresses ciphertext warns when it is made."""

from __future__ import annotations

import pytest

from holdall import (
    CachingStore,
    CompressedStore,
    EncryptedStore,
    FanoutStore,
    MemoryStore,
    PrefixStore,
    ReadOnlyStore,
)

KEY = bytes(range(32))
TEXT = b"a line of text\n" * 800


def compressed() -> CompressedStore:
    return CompressedStore(MemoryStore(), "gzip")


@pytest.mark.parametrize(
    "below",
    [
        compressed,
        lambda: PrefixStore(compressed(), "a"),
        lambda: ReadOnlyStore(PrefixStore(compressed(), "a")),
        lambda: CachingStore(compressed(), MemoryStore()),
        lambda: CachingStore(MemoryStore(), compressed()),
        lambda: FanoutStore([MemoryStore(), compressed()]),
    ],
)
def test_encryption_over_compression_is_warned_of(below) -> None:
    with pytest.warns(
        UserWarning, match=r"expected the other order: CompressedStore\(EncryptedStore"
    ) as seen:
        EncryptedStore(below(), KEY)
    assert [each.filename for each in seen] == [__file__]


def test_the_other_order_is_not_and_saves_a_lot() -> None:
    sizes: list[int] = []
    for order in (
        lambda below: CompressedStore(EncryptedStore(below, KEY), "gzip"),
        lambda below: CompressedStore(PrefixStore(EncryptedStore(below, KEY), "a"), "gzip"),
        lambda below: EncryptedStore(below, KEY),
    ):
        memory = MemoryStore()
        order(memory)["a/x"] = TEXT
        sizes.append(max(info.size for info in memory.list()))
    assert sizes[0] == sizes[1]
    assert sizes[0] < sizes[2] / 20
