"""The tokens of stores, and which of them are one place."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdall import (
    BucketStore,
    CachingStore,
    CompressedStore,
    EncryptedStore,
    ExpiringStore,
    FilesystemStore,
    FsspecStore,
    HashdirStore,
    HttpStore,
    InvalidTypeError,
    MemoryStore,
    NotifyingStore,
    RoutedStore,
    SqliteStore,
    SqlStore,
    Store,
    ValkeyStore,
    ZipStore,
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


MAKERS: list[Callable[[], Store]] = [
    lambda: FilesystemStore("a"),
    lambda: FilesystemStore("b"),
    lambda: FilesystemStore("a", durable=True),
    lambda: HashdirStore("a"),
    lambda: HashdirStore("a", depth=2),
    lambda: SqliteStore("a.db"),
    lambda: ZipStore("a.zip"),
    lambda: MemoryStore(name="named"),
    lambda: MemoryStore(name="other"),
    lambda: FilesystemStore("a") / "x",
    lambda: FilesystemStore("a") / "y",
    lambda: CompressedStore(FilesystemStore("a")),
    lambda: CompressedStore(FilesystemStore("a"), level=9),
    lambda: ExpiringStore(FilesystemStore("a"), 5),
    lambda: RoutedStore({"a/": FilesystemStore("a"), "": SqliteStore("a.db")}),
    lambda: CachingStore(SqliteStore("a.db"), MemoryStore(name="cache")),
    lambda: ValkeyStore("valkey://app:secret@example.org"),
    lambda: ValkeyStore("valkey://app:secret@example.org", prefix="b:"),
    lambda: SqlStore("postgresql://app:secret@example.org/db"),
    lambda: HttpStore("https://example.org/files"),
    lambda: BucketStore("s3://bucket", region="eu-west-1"),
    lambda: BucketStore("s3://bucket/in", region="eu-west-1"),
]


def test_tokens_are_equal_for_equal_handles_only() -> None:
    tokens = [make().token for make in MAKERS]
    assert tokens == [make().token for make in MAKERS]
    assert len(set(tokens)) == len(tokens)
    assert all(len(token) == 32 and token.isalnum() for token in tokens)
    assert MemoryStore().token != MemoryStore().token
    store = MemoryStore()
    assert store.token == store.token == store.aio.token == pickle.loads(pickle.dumps(store)).token


def test_tokens_hold_in_another_process_and_by_another_path(place: Path) -> None:
    (place / "a").mkdir()
    (place / "link").symlink_to("a")
    files = FilesystemStore("a")
    assert FilesystemStore("link").token == FilesystemStore(place / "a/../a").token == files.token
    code = "from holdall import *; print((CompressedStore(FilesystemStore('a')) / 'x').token)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == (CompressedStore(FilesystemStore("a")) / "x").token


def test_no_secret_is_in_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[list[Store]] = [
        [ValkeyStore(f"valkey://app:{word}@example.org") for word in ("one", "two")],
        [SqlStore(f"postgresql://app:{word}@example.org/db") for word in ("one", "two")],
    ]
    for one, other in pairs:
        assert one.token == other.token
    # One that can't be pickled has a token of its own.
    one, other = (EncryptedStore(FilesystemStore("a"), os.urandom(32), context="c") for _ in range(2))
    assert one.token == one.token != other.token
    monkeypatch.setenv("KEY", os.urandom(32).hex())
    one, other = (EncryptedStore(FilesystemStore("a"), "env:KEY", context="c") for _ in range(2))
    assert one.token == other.token


def test_which_are_one_place(place: Path) -> None:
    files, memory = FilesystemStore("a"), MemoryStore()
    for one, other in (
        (files, FilesystemStore(place / "a", durable=True)),
        (files, CompressedStore(FilesystemStore("a"))),
        (files / "x" / "y", FilesystemStore("a") / "x/y"),
        (memory / "x", CompressedStore(memory / "x")),
        (ValkeyStore("valkey://one:1@example.org"), ValkeyStore("valkey://two:2@example.org")),
    ):
        assert one.same_place(other)
        assert other.same_place(one)
    for one, other in (
        (files, files / "x"),
        (files, FilesystemStore("b")),
        (memory, MemoryStore()),
        (RoutedStore({"x/": files, "": memory}), files),
        (ValkeyStore("valkey://example.org"), ValkeyStore("valkey://example.org", prefix="b:")),
    ):
        assert not one.same_place(other)
        assert not other.same_place(one)
    assert files.aio.same_place(FilesystemStore("a").aio)
    wrong: Any = files
    with pytest.raises(InvalidTypeError):
        wrong.same_place(os.fspath(place))


def test_dask_takes_the_token() -> None:
    from dask.base import tokenize

    assert tokenize(FilesystemStore("a")) == tokenize(FilesystemStore("a")) != tokenize(FilesystemStore("b"))
    assert tokenize(MemoryStore()) != tokenize(MemoryStore())


def test_tokens_of_stores_on_servers_hold_in_another_process() -> None:
    made = (
        "BucketStore('s3://bucket/in', region='eu-west-1', key='a', secret='b')",
        "HttpStore('https://example.org/files')",
        "FsspecStore('file:///tmp/files')",
    )
    code = f"from holdall import *; print(*(each.token for each in ({', '.join(made)})))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == [eval(each).token for each in made]


def test_a_store_over_a_client_has_a_token_of_its_own() -> None:
    client = httpx2.Client()
    one, other = (HttpStore("https://example.org/files", client=client) for _ in range(2))
    assert one.token == one.token != other.token
    fsspec: Any = import_module("fsspec")
    systems = [fsspec.filesystem("dir", path=path, target_protocol="file") for path in ("/tmp/a", "/tmp/b")]
    one, other = map(FsspecStore, systems)
    assert one.token == one.token != other.token
    system = fsspec.filesystem("memory")
    assert FsspecStore(system, "a").token == FsspecStore(system, "a").token != FsspecStore(system, "b").token
    one, other = (NotifyingStore(MemoryStore()) for _ in range(2))
    assert one.token == one.token != other.token
