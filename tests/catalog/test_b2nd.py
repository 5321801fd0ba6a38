"""Frames that are made of their chunks are those that Blosc2 itself reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
from tests.forks import forked, succeeds

from holdall import StoreUnavailableError
from holdall.catalog import arrays
from holdall.catalog.b2nd import Frame, can_assemble
from holdall.catalog.content import Formats
from holdall.values.arrays import _layout


def arrays_of(shape: tuple[int, ...], kind: str) -> list[np.ndarray[Any, Any]]:
    """Return arrays of noise, of zeros, and of both."""
    zeros = np.zeros(shape, kind)
    noise = np.random.default_rng(3).integers(0, 256, zeros.nbytes, dtype="u1").view(kind).reshape(shape)
    mixed = noise.copy()
    mixed.reshape(-1)[mixed.size // 3 :] = zeros.reshape(-1)[0]
    return [noise, zeros, mixed, np.asfortranarray(mixed)]


@pytest.mark.parametrize("shape", [(700_000,), (3, 300_001), (5, 300, 501), (2, 3, 150_001), (60_000, 11)])
@pytest.mark.parametrize("kind", ["f8", "u1", "S3"])
def test_frames_are_those_of_blosc2(shape: tuple[int, ...], kind: str) -> None:
    assert can_assemble()
    for array in arrays_of(shape, kind):
        for level in (0, 3):
            frame = Frame(array, "LZ4", level)
            data = b"".join(frame)
            assert frame.size == len(data)
            assert blosc2.ndarray_from_cframe(data)[()].tobytes() == array.tobytes()
            settings = {"codec": blosc2.Codec.LZ4, "clevel": level}
            layout = _layout(array.shape, array.dtype.itemsize, {"cparams": settings})
            theirs = blosc2.asarray(np.ascontiguousarray(array), **layout).to_cframe()
            assert data == theirs


def test_an_array_that_doesnt_shrink_is_drawn_from_its_own_memory() -> None:
    array = np.random.default_rng(1).integers(0, 256, 5_000_000, dtype="u1")
    content = Formats().encode(array)
    assert (content.format, content.codec) == ("b2nd", "")
    pieces = [memoryview(piece) for piece in content.pieces]
    own = [piece for piece in pieces if np.shares_memory(np.frombuffer(piece, "u1"), array)]
    assert sum(map(len, own)) == array.nbytes
    assert (Formats().decode("b2nd", "", "", b"".join(pieces)) == array).all()


@pytest.mark.parametrize("held", [0, 128 << 20])
@pytest.mark.parametrize("codec", ["lz4", "zstd", "gzip", "blosclz"])
def test_large_arrays_by_file_and_in_memory(
    held: int, codec: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(arrays, "_HELD", held)
    array = np.cumsum(np.random.default_rng(2).integers(-3, 4, 900_000)).astype("f8")
    content = Formats(codec).encode(array)
    assert content.codec == codec
    data = b"".join(content.pieces)
    assert content.size == len(data)
    (tmp_path / "array.b2nd").write_bytes(data)
    assert (blosc2.open(str(tmp_path / "array.b2nd"), mode="r")[:] == array).all()
    assert (Formats().decode("b2nd", content.codec, "", memoryview(data)) == array).all()
    assert len(data) < 0.3 * array.nbytes


def test_small_arrays_are_frames_of_blosc2() -> None:
    for shape in [(), (0,), (1,), (3, 4), (2, 0, 5), (10_000,), (7, 9, 11), (1,) * 8]:
        for kind in ("f8", ">i4", "M8[25s]", "U3", "?", "g"):
            array = np.zeros(shape, kind)
            array[...] = 1
            data = b"".join(Formats().encode(array).pieces)
            found = blosc2.ndarray_from_cframe(data)[()]
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert (found == array).all()


def test_what_is_read_can_be_written_to() -> None:
    content = Formats().encode(np.arange(10))
    array = Formats().decode("b2nd", "", "", b"".join(content.pieces))
    array += 1
    assert array.base is None


def test_no_room_for_a_temporary_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(arrays, "_HELD", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(StoreUnavailableError, match="TMPDIR"):
        Formats().encode(np.zeros(1_000_000))


def test_an_interrupt_comes_out_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(arrays, "Frame", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Formats().encode(np.zeros(1_000_000))


@pytest.mark.parametrize("setting", ["BLOSC_BLOCKSIZE=65536", "BLOSC_CLEVEL=9"])
def test_the_environment_of_blosc2_loses_no_array(setting: str) -> None:
    code = """
import numpy as np
from holdall.catalog.content import Formats
for array in (np.arange(9.0), np.random.default_rng(0).random(90_000), np.cumsum(np.ones(600_000))):
    for codec in ("lz4", "zstd"):
        content = Formats(codec).encode(array)
        data = b"".join(map(bytes, content.pieces))
        assert (Formats().decode(content.format, content.codec, "", data) == array).all()
"""
    name, _, value = setting.partition("=")
    subprocess.run([sys.executable, "-c", code], env=os.environ | {name: value}, check=True)


def test_a_child_of_a_fork_encodes_and_decodes() -> None:
    array = np.cumsum(np.ones(1_000_000))

    def work() -> None:
        content = Formats().encode(array)
        data = b"".join(content.pieces)
        assert (Formats().decode("b2nd", content.codec, "", data) == array).all()

    work()
    succeeds(forked(work))
