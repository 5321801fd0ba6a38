"""Large files are decoded from where they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from holdall import IntegrityError
from holdall.catalog.reading import map_file
from holdall.catalog.store import BlobStore

RNG = np.random.default_rng(5)


def test_what_is_read_stays_when_the_file_goes(tmp_path: Path) -> None:
    values = {
        "array": RNG.random(700_000),
        "bytes": RNG.bytes(5_000_000),
        "records": np.zeros(700_000, "i4,f4"),
        "tensors": {"w": RNG.random(700_000)},
        "frame": pd.DataFrame({"a": RNG.random(700_000)}),
        "pickle": [RNG.random(700_000), None],
    }
    with BlobStore(tmp_path, backend="sqlite", compression=None) as store:
        for name, value in values.items():
            store.put(value, key=name)
        found = {name: store.get(name) for name in values}
        for path in tmp_path.rglob("*"):
            if path.is_file() and path.stat().st_size > 4 << 20:
                path.unlink()
        for name, value in values.items():
            assert repr(found[name]) == repr(value)
            with pytest.raises(IntegrityError, match="gone"):
                store.get(name)
        found["array"] += 1
        found["records"]["f0"] = 1


def test_a_file_that_was_changed_isnt_decoded(tmp_path: Path) -> None:
    with BlobStore(tmp_path, backend="sqlite") as store:
        store.put(RNG.random(700_000), key="a")
        (path,) = tmp_path.rglob("*.b2nd")
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(3_000_000)
            file.write(b"\0" * 9)
        with pytest.raises(IntegrityError, match="damaged"):
            store.get("a")
        os.truncate(path, 1000)
        with pytest.raises(IntegrityError, match="damaged"):
            store.get("a")


def test_what_cant_be_mapped(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert bytes(map_file(tmp_path / "a", 3) or b"") == b"abc"
    assert map_file(tmp_path / "a", 4) is None
    assert map_file(tmp_path / "b", 3) is None
    (tmp_path / "c").symlink_to("a")
    assert map_file(tmp_path / "c", 3) is None
    (tmp_path / "d").touch()
    assert map_file(tmp_path / "d", 0) is None
