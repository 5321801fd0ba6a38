"""The base of the suite of metadata backends: its fixtures, and samples of what they keep."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.row import Blob, Row, Small

T = TypeVar("T")


class BackendBase:
    """The settings of the suite, and the fixtures of its tests."""

    queries: ClassVar[int] = 60
    """How many random catalogues are searched, if the environment variable `HOLDALL_KIT` is `full`, and a
    third of them otherwise."""

    kills: ClassVar[int] = 6
    """How many writing processes are killed."""

    def make(self, place: Path) -> MetadataBackend:
        """Return a new instance over the medium in this folder, which is at first empty and only for this
        test; every call with the same folder returns an instance over the same medium."""
        raise NotImplementedError

    def _effort(self, full: int, usual: int | None = None) -> int:
        usual = full if usual is None else usual
        return {"quick": max(1, full // 6), "full": full}.get(os.environ.get("HOLDALL_KIT", ""), usual)

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """The folder for `make`."""
        place = tmp_path / "place"
        place.mkdir()
        return place

    @pytest.fixture
    def backend(self, place: Path) -> Iterator[MetadataBackend]:
        """An instance over an empty medium."""
        with contextlib.closing(self.make(place)) as backend:
            yield backend

    @pytest.fixture
    def other(self, place: Path, backend: MetadataBackend) -> Iterator[MetadataBackend]:
        """A second instance over the same medium."""
        with contextlib.closing(self.make(place)) as other:
            yield other


AWKWARD: tuple[str, ...] = (
    "",
    "a",
    "a.b",
    "A",
    "it's",
    'say "hi"',
    "'; DROP TABLE rows; --",
    "$",
    "$.a",
    "@",
    "%",
    "%s",
    "_",
    "*",
    "[a-z]",
    "?",
    "\\",
    "\\u0041",
    "{}",
    "a b",
    "0",
    "null",
    "true",
    "é",
    "e\u0301",
    "\ue000",
    "\uffff",
    "\U0001f600",
    "\U0010ffff",
    "tab\tline\n",
    "\x7f\x01",
    "key",
    "metadata",
    "z" * 300,
)
"""Names and values without a special meaning; a catalogue holds neither NUL nor lone surrogates."""

NESTED: dict[str, Any] = {
    "z": 1,
    "a": 1.0,
    "true": True,
    "none": None,
    "list": [1, 1.0, True, False, None, "x", [], {}],
    "nested": {"b": {"c": {"d": -0.0}}},
    "huge": 2**70,
    "wide": -(2**63) - 1,
    "long": 2**53 + 1,
    "small": 5e-324,
    "large": 1.7976931348623157e308,
    "power": 1e22,
    **{f"v{index}": text for index, text in enumerate(AWKWARD)},
    "names": {text: index for index, text in enumerate(AWKWARD)},
}

KEYS: tuple[str, ...] = (
    "a",
    "a.b",
    "a/b",
    "a/b/c",
    "a%b",
    "a_b",
    "a*b",
    "a[b]",
    "a'b",
    'a"b',
    "a\\b",
    "v2.1",
    "v2.2",
    "run/raw",
    "run-7/raw",
    "run0",
    "A",
    "é",
    "e\u0301",
    "\ue000",
    "\uffff",
    "\U0001f600",
    "x" * 1024,
)
"""Keys, some the start of others, in no order."""


def new_row(key: str = "a", version: int = 1, **fields: Any) -> Row:
    """Return a row; its fields say something of it, unless they are given."""
    usual: dict[str, Any] = {
        "sequence": version,
        "blob": 1,
        "digest": "d" * 64,
        "size": 10,
        "type": "builtins.dict",
        "format": "json",
        "codec": "",
        "library": "",
        "created": 1_700_000_000_000_000,
        "updated": 1_700_000_000_000_001,
        "metadata": {},
    }
    return Row(key, version, **{**usual, **fields})


_USUAL: dict[str, Any] = {
    "size": 5,
    "crc": 0xFFFFFFFF,
    "extension": ".json.lz4",
    "type": "builtins.dict",
    "format": "json",
    "codec": "lz4",
    "library": "orjson 3.10",
}


def new_small(key: str, digest: str, **fields: Any) -> Small:
    """Return a small object; its fields say something of it, unless they are given."""
    usual: dict[str, Any] = {"now": 1_700_000_000_000_000, "metadata": {}, "data": b"12345"}
    return Small(key, digest, **{**_USUAL, **usual, **fields})


def new_blob(number: int = 1, **fields: Any) -> Blob:
    """Return a blob; its fields say something of it, unless they are given."""
    usual: dict[str, Any] = {**_USUAL, "digest": f"{number:064x}"}
    return Blob(number, **{**usual, **fields})


def check_add(
    backend: MetadataBackend,
    other: MetadataBackend,
    add: Callable[[MetadataBackend, str, str, bytes], int | None],
    row: Row,
    blob: Blob,
) -> None:
    """Check what is there once the entry `a` with the blob `one` was added, and which entries `add` adds."""
    found = other.fetch("a")
    assert found is not None
    assert (exactly(found[0]), found[1]) == (exactly(row), blob)
    assert other.load("a") == other.load("a", 1) == blob
    assert other.load("b") is other.load("a", 2) is None
    # The key is taken, or the digest.
    assert add(backend, "a", "two", b"2") is None
    assert add(backend, "b", "one", b"12345") is None
    assert list(other.keys()) == ["a"]
    assert list(other.blobs()) == [replace(blob, data=None)]
    # One that is under way isn't there yet.
    write(backend, put(new_blob(blob.number + 5, digest="two", until=2**60)))
    again = add(other, "b", "two", b"")
    assert again is not None
    assert again > blob.number + 5
    assert read(backend, lambda t: t.next_number()) > again
    write(backend, lambda t: t.drop_row("b"), lambda t: t.put_earlier(new_row("a", 0, blob=again)))
    loaded = backend.load("a", 0)
    assert loaded is not None
    assert (loaded.number, loaded.data) == (again, b"")


def write(backend: MetadataBackend, *acts: Callable[[Transaction], object]) -> None:
    """Carry out steps in one transaction."""

    def act(transaction: Transaction) -> None:
        for each in acts:
            each(transaction)

    backend.transact(act)


def read(backend: MetadataBackend, act: Callable[[Transaction], T]) -> T:
    return backend.transact(act)


def over(things: Iterable[T], act: Callable[[Transaction, T], object]) -> Callable[[Transaction], None]:
    """Return the step that does something with each of these."""

    def each(transaction: Transaction) -> None:
        for thing in things:
            act(transaction, thing)

    return each


def put(*things: Row | Blob) -> Callable[[Transaction], None]:
    """Return the step that puts rows and blobs."""

    def act(transaction: Transaction) -> None:
        for thing in things:
            if isinstance(thing, Row):
                transaction.put_row(thing)
            else:
                transaction.put_blob(thing)

    return act


def exactly(row: Row | None) -> Any:
    """Return what two rows must share to be the same to the last bit: 1, 1.0 and True differ, as does the
    order of names."""
    if row is None:
        return None
    return (
        row.key, row.version, row.sequence, row.blob, row.digest, row.size, row.type, row.format, row.codec,
        row.library, row.created, row.updated, json.dumps(row.metadata), row.inputs,
    )  # fmt: skip
