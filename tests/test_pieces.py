"""The bytes of a blob on their way."""

from __future__ import annotations

import tempfile

import pytest

from holdall.pieces import read_file
from holdall.ranges import CHUNK


@pytest.mark.parametrize("read", [0, 1, 2, 3])
def test_a_file_is_closed_when_its_pieces_are_dropped(read: int) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * (CHUNK + 2))
        pieces = read_file(file, 1, CHUNK + 2)
        assert [len(next(pieces, b"")) for _ in range(read)] == [CHUNK, 1, 0][:read]
        del pieces
        assert file.closed
