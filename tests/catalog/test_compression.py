"""Codecs: what they store comes back, and bytes that were changed don't."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import lz4.frame
import pytest

from holdall import IntegrityError, InvalidArgumentError, MissingDependencyError
from holdall.catalog.compression import LEVELS, NAMES, Compression, unpack

TEXT = b"".join(b"%d: all is well\n" % number for number in range(60_000))
NOISE = bytes(__import__("random").Random(1).randbytes(600_000))


def packed(codec: str, data: bytes, level: int = 3) -> bytes:
    name, size, pieces = Compression(codec, level).pack([data])
    assert name == codec
    made = b"".join(map(bytes, pieces))
    assert size in (None, len(made))
    return made


@pytest.mark.parametrize("codec", NAMES)
def test_bytes_of_any_size_come_back(codec: str) -> None:
    for size in (0, 1, 511, 512, 1000, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, len(TEXT)):
        data = TEXT[:size]

        def drawn(data: bytes = data) -> Iterator[memoryview]:
            # One buffer that is filled again and again, as a serializer may do.
            held = bytearray(7777)
            for at in range(0, len(data), len(held)):
                part = data[at : at + len(held)]
                held[: len(part)] = part
                yield memoryview(held)[: len(part)]

        for pieces in ([data], [data[:100], data[100:]], drawn()):
            name, size, made = Compression(codec).pack(pieces)
            stored = b"".join(map(bytes, made))
            assert size in (None, len(stored))
            assert bytes(unpack(name, stored)) == data
            assert name == (codec if len(data) >= 512 else "")


@pytest.mark.parametrize("codec", NAMES)
@pytest.mark.parametrize("level", LEVELS)
def test_levels(codec: str, level: int) -> None:
    data = packed(codec, TEXT[:300_000], level)
    assert len(data) < 200_000
    assert bytes(unpack(codec, data)) == TEXT[:300_000]


def test_programs_of_the_formats_read_them() -> None:
    assert gzip.decompress(packed("gzip", TEXT)) == TEXT
    assert lz4.frame.open(io.BytesIO(packed("lz4", TEXT))).read() == TEXT
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    assert zstd.decompress(packed("zstd", TEXT)) == TEXT


@pytest.mark.parametrize("codec", NAMES)
def test_what_doesnt_shrink_is_kept_as_it_is(codec: str) -> None:
    for data in (NOISE, NOISE[:5000], TEXT[:5000] + NOISE):
        name, _, pieces = Compression(codec).pack([data])
        assert (name, b"".join(map(bytes, pieces))) == ("", data)
    name, _, pieces = Compression(codec).pack(iter([NOISE[:300_000], NOISE[300_000:]]))
    assert (name, b"".join(map(bytes, pieces))) == ("", NOISE)
    assert Compression(None).pack([TEXT])[0] == Compression("none").pack([TEXT])[0] == ""


@pytest.mark.parametrize("codec", NAMES)
def test_bytes_that_were_changed_are_refused(codec: str) -> None:
    short, long = packed(codec, TEXT[:2000]), packed(codec, TEXT)
    for stored, plain in ((short, TEXT[:2000]), (long, TEXT)):
        step = max(1, len(stored) // 97)
        for at in {*range(0, len(stored), step), *range(max(0, len(stored) - 60), len(stored))}:
            changed = bytearray(stored)
            changed[at] ^= 0x10
            # A bit that means nothing to the format may be changed, but no byte of the content.
            with suppress(IntegrityError):
                assert bytes(unpack(codec, bytes(changed))) == plain
        for cut in (0, 1, 8, len(stored) // 2, len(stored) - 1):
            with pytest.raises(IntegrityError, match=f"these {codec} bytes are damaged") as error:
                unpack(codec, stored[:cut])
            assert error.value.key is None
        for more in (b"\0", stored):
            with pytest.raises(IntegrityError):
                unpack(codec, stored + more)


@pytest.mark.parametrize("codec", NAMES)
def test_a_bomb_takes_no_memory(codec: str) -> None:
    bombs: list[bytes] = [packed(codec, bytes(1 << 20))]
    # A size of 1 TB that only a footer claims.
    size = struct.pack("<Q", 1 << 20)
    if size in bombs[0]:
        bombs.append(bombs[0].replace(size, struct.pack("<Q", 1 << 40)))
    if codec == "gzip":
        bombs.append(gzip.compress(bytes(1 << 26)))
    if codec == "lz4":
        bombs.append(lz4.frame.compress(bytes(1 << 26)))
    assert bytes(unpack(codec, bombs[0])) == bytes(1 << 20)
    for bomb in bombs[1:]:
        tracemalloc.start()
        with pytest.raises(IntegrityError):
            unpack(codec, bomb)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 8 << 20


def test_unknown_codecs_and_levels() -> None:
    with pytest.raises(InvalidArgumentError, match="compression must be one of"):
        Compression("LZ4")
    with pytest.raises(InvalidArgumentError, match="from 1 to 9"):
        Compression("zstd", 22)


@pytest.mark.parametrize(("codec", "module"), [("lz4", "lz4.frame"), ("blosclz", "blosc2")])
def test_a_missing_package_is_an_error_at_once(
    codec: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdall.layers import codecs

    monkeypatch.setitem(sys.modules, module, None)
    if codec == "lz4":
        monkeypatch.setattr(codecs.CODECS["lz4"], "_module", None)
    with pytest.raises(MissingDependencyError, match=r"holdall\[catalog\]"):
        Compression(codec)
