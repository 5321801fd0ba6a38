"""Files of the local disk that are replaced whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from holdall.paths import replacing


def test_a_file_that_is_replaced_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    path.chmod(0o640)
    with replacing(str(path)) as file:
        (draft,) = tmp_path.glob(".holdall-*")
        assert stat.S_IMODE(draft.stat().st_mode) == 0o640
        file.write(b"new")
    found = path.stat()
    assert (path.read_bytes(), found.st_uid, found.st_gid) == (b"new", 12345, 23456)
    assert stat.S_IMODE(found.st_mode) == 0o640


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    file: Any
    with pytest.raises(TypeError), replacing(str(path)) as file:
        file.writelines([b"new", 5])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
