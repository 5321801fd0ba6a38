"""Values of every built-in type, and the content that a catalogue makes of each.

`python samples.py` prints a line for each value: its name, its format and its digest. `digests.txt` holds
these lines, so that a digest that another version changes is noticed: entries that were put before would no
longer be found by theirs.
"""

from __future__ import annotations

import datetime as dt
import decimal
import pathlib
import uuid
import zoneinfo
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic


class User(pydantic.BaseModel):
    name: str
    roles: list[str] = []
    height: float | None = None


class Point(msgspec.Struct):
    x: int
    y: float


class Opaque:
    """An object that only pickle holds."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and self.held == other.held

    def __hash__(self) -> int:
        return 0


def records() -> Any:
    made = np.zeros(3, np.dtype({"names": ["a", "b"], "formats": ["i1", "<f8"], "itemsize": 24}))
    made["b"] = [1.5, -0.0, np.nan]
    return made


def frame() -> pd.DataFrame:
    made = pd.DataFrame(
        {
            "int": [3, 1, 2],
            "float": [1.5, float("nan"), -0.0],
            "text": ["a", None, "zwölf"],
            "bool": [True, False, True],
            "category": pd.Categorical(["x", "y", "x"], categories=["y", "x", "z"]),
            "time": pd.to_datetime(["2024-01-15", "2024-02-29", None]).tz_localize("Europe/Berlin"),
            "nullable": pd.array([1, None, 3], dtype="Int64"),
        },
        index=pd.date_range("2024-01-01", periods=3, freq="D", name="day"),
    )
    made.attrs["source"] = "sensor"
    return made


def table() -> pa.Table:
    parts = [
        pa.table(
            {
                "list": pa.array([[1, None], None, []], pa.list_(pa.int32())),
                "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
                "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
                "decimal": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")]),
                "binary": pa.array([b"\0", None, b"abc"], pa.large_binary()),
                "fixed": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)),
                "seconds": pa.array([1, None, 3], pa.timestamp("s")),
                "flags": pa.array([True, None, False]),
                "nothing": pa.nulls(3),
            }
        )
    ]
    return pa.concat_tables(parts * 2).replace_schema_metadata({"b": "2", "a": "1"})


def values() -> dict[str, Any]:
    """The values, each made anew, in another order of insertion where that can't count."""
    rng = np.random.default_rng(7)
    large = np.arange(1_500_000, dtype="f8").reshape(1000, 1500)
    return {
        "bytes": b"\0\xff abc",
        "bytes large": bytes(range(256)) * 5000,
        "text": "zwölf\n",
        "text large": "all is well\n" * 100_000,
        "none": None,
        "bool": True,
        "int": 1,
        "int large": 1 << 9000,
        "float": 1.0,
        "float -0": -0.0,
        "float nan": float("nan"),
        "complex": 1 - 2j,
        "dict": {"b": [1, 1.0, True, None], "a": {"z": "ä", "y": {}}},
        "dict any": {2: "two", "1": "one", (1, 2): b"pair", None: {3, 1, 2}},
        "list": [1, "two", [3.5]],
        "tuple": (1, (2, "three")),
        "set": {"gamma", "alpha", "beta", 1, 2.5},
        "frozenset": frozenset({frozenset({1, 2}), (3,)}),
        "datetime": dt.datetime(2024, 3, 1, 12, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        "date": dt.date(2024, 2, 29),
        "time": dt.time(1, 2, 3, 4),
        "timedelta": dt.timedelta(days=-1, microseconds=5),
        "uuid": uuid.UUID(int=7),
        "decimal": decimal.Decimal("1.50"),
        "path": pathlib.PurePosixPath("a/b"),
        "array f8": np.array([[1.5, -0.0], [np.nan, np.inf]]),
        "array big-endian": np.arange(6, dtype=">i4").reshape(2, 3),
        "array fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "array strided": np.arange(60, dtype="i2").reshape(6, 10)[::2, 1::3],
        "array large": large,
        "array large strided": large[:, ::-1],
        "array random": rng.integers(0, 256, 5_000_000, dtype="u1"),
        "array 0-d": np.array(7, "u2"),
        "array empty": np.zeros((0, 3), "c16"),
        "array time": np.array(["2024-01-01", "NaT"], "M8[ns]"),
        "array days": np.array([1, 2], "m8[D]"),
        "array text": np.array(["ab", "c"]),
        "array bool": np.array([True, False]),
        "array records": records(),
        "array masked": np.ma.array([1.5, 2.5], mask=[False, True], fill_value=9.0),
        "tensors": {"w": np.ones((2, 2), "f4"), "b": np.zeros(2, "i8")},
        "pandas": frame(),
        "pandas plain": pd.DataFrame({"a": [1, 2]}),
        "pandas multi": pd.DataFrame(
            {("x", "a"): [1.0, 2.0]}, index=pd.MultiIndex.from_tuples([("r", 1), ("s", 2)], names=["n", None])
        ),
        "polars": pl.DataFrame(
            {"a": [1, None], "t": ["x", "y"], "l": [[1, 2], []], "d": [dt.date(2024, 1, 1), None]}
        ),
        "polars categories": pl.DataFrame({"c": ["x", "y", "x"]}, schema={"c": pl.Categorical}),
        "arrow": table(),
        "arrow batch": pa.record_batch({"a": [1, 2, None]}),
        "arrow dictionary": pa.table({"d": pa.array(["x", "y", None, "x"]).dictionary_encode()}),
        "pydantic": User(name="Ada", roles=["admin"]),
        "msgspec": Point(3, 0.5),
    }


def lines(compression: str = "lz4", level: int = 3) -> list[str]:
    from holdall.catalog.content import Formats

    formats = Formats(compression, level)
    made: list[str] = []
    for name, value in values().items():
        content = formats.encode(value)
        made.append(f"{name}: {content.format} {content.digest}")
    return made


if __name__ == "__main__":
    import sys

    # As where the tests import it.
    sys.modules["samples"] = sys.modules["__main__"]
    for kind in (User, Point, Opaque):
        kind.__module__ = "samples"
    print("\n".join(lines(*sys.argv[1:2], *map(int, sys.argv[2:3]))))
