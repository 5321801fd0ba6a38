"""Copy, sync, move, diff and verify between any two stores."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import effort
from tests.servers.valkey import ValkeyServer

from holdall.errors import (
    BlobExistsError,
    ConcurrencyError,
    DeleteRefusedError,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    KeyConflictError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
    TransferError,
    UnsupportedOperation,
)
from holdall.keys import matcher
from holdall.layers.caching import CachingStore
from holdall.layers.checksum import ChecksumStore
from holdall.layers.compressed import CompressedStore
from holdall.layers.encrypted import EncryptedStore
from holdall.layers.expiring import ExpiringStore
from holdall.layers.fanout import FanoutStore
from holdall.layers.layer import Transparent
from holdall.layers.notifying import NotifyingStore
from holdall.layers.readonly import ReadOnlyStore
from holdall.layers.routed import RoutedStore
from holdall.layers.traced import TracedStore
from holdall.store import ANY, Attributes, Body, Can, Expect, Info, Piece, Put, Store
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.fsspec import FsspecStore
from holdall.stores.git import GitStore
from holdall.stores.hashdir import HashdirStore
from holdall.stores.memory import MemoryStore
from holdall.stores.sqlite import SqliteStore
from holdall.stores.valkey import ValkeyStore
from holdall.stores.zip import ZipStore
from holdall.testing import Counting, Flaky, Limited, Slow
from holdall.transfer import (
    Action,
    Plan,
    Report,
    copy_store,
    diff_stores,
    move_store,
    sync_stores,
    verify_store,
)
from holdall.transfer.place import missing_place

KINDS: dict[str, Callable[[Path], Store]] = {
    "memory": lambda place: MemoryStore(),
    "files": lambda place: FilesystemStore(place / "files"),
    "hashdir": lambda place: HashdirStore(place / "hashdir"),
    "sqlite": lambda place: SqliteStore(place / "blobs.sqlite"),
    "zip": lambda place: ZipStore(place / "box.zip"),
}

BLOBS = {
    "a": b"1",
    "b/c": b"",
    "b/d": b"x" * 5000,
    "été/水": bytes(range(256)) * 300,
    "logs/1": b"one",
    "logs/2": b"two",
    "z big": b"0123456789" * 250_000,
}


def filled(store: Store, blobs: dict[str, bytes]) -> Store:
    store.put_many(blobs)
    return store


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Callable[[str, str], Store]]:
    opened: list[Store] = []

    def make(kind: str, name: str) -> Store:
        (tmp_path / name).mkdir(exist_ok=True)
        opened.append(KINDS[kind](tmp_path / name))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.mark.parametrize(("one", "other"), list(product(KINDS, KINDS)))
def test_each_to_each(one: str, other: str, stores: Callable[[str, str], Store]) -> None:
    source = filled(stores(one, "source"), BLOBS)
    target = filled(stores(other, "target"), {"a": b"2", "b/d": b"y" * 5000, "logs/2": b"two", "old/x": b"?"})
    report = sync_stores(source, target)
    assert dict(target.items()) == BLOBS
    assert (report.copied, report.skipped, report.deleted, report.failures) == (6, 1, 1, {})
    assert report.bytes == sum(map(len, BLOBS.values())) - 3
    again = sync_stores(source, target)
    assert (again.copied, again.skipped, again.deleted, again.ok) == (0, len(BLOBS), 0, True)
    assert dict(source.items()) == BLOBS
    assert verify_store(target).checked == len(BLOBS)
    assert list(diff_stores(source, target)) == []


@pytest.mark.parametrize(
    "lost", [Can.RANGE, Can.SWAP, Can.CONDITIONAL_DELETE, Can.CREATE, Can.SWAP | Can.CREATE | Can.ATTRIBUTES]
)
def test_stores_that_can_do_less(lost: Can) -> None:
    source, target = MemoryStore(BLOBS), MemoryStore({"a": b"2", "old": b""})
    sync_stores(Limited(source, ~lost), Limited(target, ~lost))
    assert dict(target) == BLOBS


def test_a_read_only_source_and_a_folder_of_a_store() -> None:
    source, target = MemoryStore(BLOBS), MemoryStore({"logs/keep": b""})
    sync_stores(ReadOnlyStore(source), target / "backup")
    assert dict(target / "backup") == BLOBS
    assert target["logs/keep"] == b""


def test_a_target_that_cannot_list_is_asked_key_by_key() -> None:
    source, below = MemoryStore(BLOBS), MemoryStore({"a": b"2", "logs/1": b"one"})
    target = Limited(below, ~Can.LIST)
    assert copy_store(source, target).copied == len(BLOBS) - 1
    assert dict(below) == BLOBS
    with pytest.raises(UnsupportedOperation):
        sync_stores(source, target)


def test_what_a_store_must_be_able_to(stores: Callable[[str, str], Store]) -> None:
    source, target = MemoryStore(BLOBS), MemoryStore()
    with pytest.raises(UnsupportedOperation):
        copy_store(Limited(source, ~Can.LIST), target)
    with pytest.raises(ReadOnlyError):
        copy_store(source, ReadOnlyStore(target))
    with pytest.raises(UnsupportedOperation):
        sync_stores(source, Limited(target, ~Can.DELETE))
    with pytest.raises(ReadOnlyError):
        move_store(ReadOnlyStore(source), target)
    with pytest.raises(UnsupportedOperation):
        next(diff_stores(source, Limited(target, ~Can.LIST)))
    with pytest.raises(UnsupportedOperation):
        verify_store(Limited(source, ~Can.LIST))
    assert not target
    assert sync_stores(source, Limited(target, ~Can.DELETE), delete=False).ok


def test_attributes_go_along() -> None:
    source, target = MemoryStore(), MemoryStore()
    source.put("page", b"<p>", content_type="text/html", ttl=timedelta(hours=1), metadata={"owner": "ana"})
    copy_store(source, target)
    there, here = target.info("page"), source.info("page")
    assert there.metadata == here.metadata == {"owner": "ana"}
    assert (there.content_type, there.expires) == (here.content_type, here.expires)


def test_attributes_that_the_target_cannot_keep_stay_behind(stores: Callable[[str, str], Store]) -> None:
    source, target = MemoryStore(), stores("files", "target")
    source.put("page", b"<p>", content_type="text/html", ttl=60, metadata={"owner": "ana"})
    copy_store(source, target)
    assert target["page"] == b"<p>"


@pytest.mark.parametrize("kind", ["sqlite", "zip"])
def test_attributes_of_small_blobs_in_batches(kind: str, stores: Callable[[str, str], Store]) -> None:
    class Together(Transparent):
        @property
        def can(self) -> Can:  # type: ignore[override]
            return self._store.can

        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            assert not key.startswith("04"), f"{key} is put alone"
            return super()._write(key, body, expect, attributes)

        def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
            return self._store._put_many(items)

    source, target = MemoryStore({f"{index:03}": b"x" for index in range(50)}), stores(kind, "target")
    source.put("007", b"typed", content_type="text/plain")
    source.put("009", b"short", content_type="text/html", ttl=60)
    assert copy_store(source, Together(target)).ok
    assert [target.info(key).content_type for key in ("007", "008", "009")] == [
        "text/plain",
        None,
        "text/html",
    ]
    if Can.EXPIRE in target.can:
        assert target.info("009").expires == source.info("009").expires
    assert target.info("007").expires is None
    assert dict(target.items()) == dict(source)


CONTENTS = st.dictionaries(
    st.sampled_from(["a", "a.b", "b/a", "b/b", "b/c/d", "logs/1", "logs/2", "logs.json", "z"]),
    st.sampled_from([b"", b"1", b"2", b"12"]),
)


@given(CONTENTS, CONTENTS, st.sampled_from(["auto", "content"]), st.sampled_from([None, 3]))
@settings(deadline=None, max_examples=effort(100, 33))
def test_after_a_sync_contents_are_identical(
    one: dict[str, bytes], other: dict[str, bytes], compare: str, jobs: int | None
) -> None:
    source, target = MemoryStore(one), MemoryStore(other)
    report = sync_stores(source, target, max_delete=1.0, compare=compare, jobs=jobs)
    assert dict(target) == dict(source) == one
    assert report.ok
    assert report.deleted == len(other.keys() - one.keys())
    assert report.copied == sum(other.get(key) != data for key, data in one.items())
    assert report.copied + report.skipped == len(one)


@given(
    CONTENTS,
    CONTENTS,
    st.sampled_from(["", "b", "logs", "logs/", "x"]),
    st.sampled_from([None, "*", "**/[12]", "logs/*", "b/**"]),
    st.booleans(),
)
@settings(deadline=None, max_examples=effort(150, 50))
def test_what_is_not_selected_is_untouched(
    one: dict[str, bytes], other: dict[str, bytes], prefix: str, glob: str | None, filtered: bool
) -> None:
    matches = matcher(glob or "**")

    def meant(key: str) -> bool:
        return key.startswith(prefix) and bool(matches(key)) and (not filtered or "a" not in key)

    source, target, copied = MemoryStore(one), MemoryStore(other), MemoryStore(other)
    where = (lambda info: "a" not in info.key) if filtered else None
    sync_stores(source, target, max_delete=1.0, prefix=prefix, glob=glob, where=where)
    expected = {key: data for key, data in other.items() if not meant(key)}
    expected |= {key: data for key, data in one.items() if meant(key)}
    assert dict(target) == expected
    copy_store(source, copied, prefix=prefix, glob=glob, where=where)
    assert dict(copied) == other | {key: data for key, data in one.items() if meant(key)}


@given(CONTENTS, CONTENTS)
@settings(deadline=None, max_examples=effort(100, 33))
def test_a_dry_run_touches_nothing_and_says_what_is_done(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    source, target = Counting(MemoryStore(one)), Counting(MemoryStore(other))
    plan = sync_stores(source, target, dry_run=True)
    assert target.calls["write"] == target.calls["delete"] == 0
    actions = list(plan)
    assert [action.key for action in actions] == sorted(action.key for action in actions)
    report = sync_stores(source, target, max_delete=1.0)
    assert {action.key for action in actions if action.kind == "copy"} == {
        key for key, data in one.items() if other.get(key) != data
    }
    assert {action.key for action in actions if action.kind == "delete"} == other.keys() - one.keys()
    assert (plan.copies, plan.deletes, plan.bytes) == (report.copied, report.deleted, report.bytes)
    assert len(plan) == len(actions)
    assert plan.equal == report.skipped


@given(CONTENTS, CONTENTS)
@settings(deadline=None, max_examples=effort(100, 33))
def test_diff_says_what_differs_in_order(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    found = list(diff_stores(MemoryStore(one), MemoryStore(other)))
    assert [each.key for each in found] == sorted(
        key for key in one.keys() | other.keys() if one.get(key) != other.get(key)
    )
    for each in found:
        assert each.kind == (
            "differs" if each.key in one and each.key in other else "source" if each.key in one else "target"
        )
        assert (each.source is not None, each.target is not None) == (each.key in one, each.key in other)


@given(CONTENTS, CONTENTS)
@settings(deadline=None, max_examples=effort(100, 33))
def test_a_move_leaves_nothing_behind(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    source, target = MemoryStore(one), MemoryStore(other)
    plan = move_store(source, target, dry_run=True)
    assert dict(source) == one
    assert len(plan) == len(one)
    report = move_store(source, target)
    assert (dict(source), dict(target)) == ({}, other | one)
    assert report.deleted == len(one)
    assert report.copied == plan.copies
    assert report.copied + report.skipped == len(one)


def test_compare_by_size() -> None:
    source, target = MemoryStore({"a": b"1", "b": b"12"}), MemoryStore({"a": b"2", "b": b"1"})
    assert copy_store(source, target, compare="size").copied == 1
    assert dict(target) == {"a": b"2", "b": b"12"}


def test_compare_by_time() -> None:
    target = MemoryStore({"newer": b"1", "older": b"1"})
    source = MemoryStore({"newer": b"2", "older": b"2"})
    target["newer"] = b"3"
    assert copy_store(source, target, compare="modified").copied == 1
    assert dict(target) == {"newer": b"3", "older": b"2"}


def test_compare_by_etag_reads_nothing() -> None:
    below = MemoryStore({"a": b"1", "b": b"2"})
    source, target = Counting(below), Counting(MemoryStore({"a": b"1", "b": b"2"}))
    assert sync_stores(source, target, compare="etag").skipped == 2
    assert source.calls["read"] == target.calls["read"] == 0
    below["a"] = b"1"
    assert sync_stores(source, target, compare="etag").copied == 1


def test_compare_by_a_function() -> None:
    source, target = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore({"a": b"x", "b": b"yy"})
    copy_store(source, target, compare=lambda mine, theirs: theirs.size > mine.size)
    assert dict(target) == {"a": b"1", "b": b"yy"}


def test_digests_that_both_know_spare_the_reading() -> None:
    class Digesting(Counting):
        def _digest(self, key: str, algorithm: str) -> str | None:
            return sha256(self._store[key]).hexdigest() if algorithm == "sha256" else None

    source, target = (
        Digesting(MemoryStore({"a": b"1", "b": b"2"})),
        Digesting(MemoryStore({"a": b"1", "b": b"3"})),
    )
    report = sync_stores(source, target)
    assert (report.copied, report.skipped, target["b"]) == (1, 1, b"2")
    assert source.calls["read"] == 1
    assert sync_stores(source, target, compare="content").skipped == 2
    assert source.calls["read"] == 3


def test_equal_sizes_are_compared_whole(stores: Callable[[str, str], Store]) -> None:
    big = b"x" * 3_000_000
    source, target = stores("files", "one"), stores("sqlite", "two")
    for place in range(0, len(big), 999_999):
        changed = bytearray(big)
        changed[place] ^= 1
        source["big"], target["big"] = big, changed
        assert [each.key for each in diff_stores(source, target)] == ["big"]
        assert sync_stores(source, target).copied == 1
        assert target["big"] == big


@pytest.mark.parametrize("compare", ["", "sha1", 1, None])
def test_bad_arguments_are_refused(compare: Any) -> None:
    source, target = Counting(MemoryStore(BLOBS)), MemoryStore()
    for act in (copy_store, sync_stores, move_store, diff_stores):
        with pytest.raises(InvalidArgumentError):
            act(source, target, compare=compare)
        for bad in (
            {"jobs": 0},
            {"jobs": True},
            {"jobs": 1.5},
            {"prefix": 1},
            {"glob": "[z-a]"},
            {"where": 1},
        ):
            with pytest.raises(InvalidArgumentError):
                act(source, target, **bad)  # type: ignore[arg-type]
    for bad in ({"executor": 1}, {"executor": "thread"}, {"executor": "process", "jobs": 2}, {"journal": ""}):
        with pytest.raises(InvalidArgumentError):
            copy_store(source, target, **bad)  # type: ignore[call-overload]
    for act in (copy_store, diff_stores):
        with pytest.raises(InvalidArgumentError, match="source and target must be stores, not dict"):
            act(source, {})  # type: ignore[arg-type, call-overload, operator]
    assert source.calls["scan"] == 0


def test_a_sync_that_deletes_too_much_is_refused() -> None:
    source, target = MemoryStore({"0": b"new"}), MemoryStore({str(index): b"" for index in range(10)})
    with pytest.raises(DeleteRefusedError, match=r"9 of 10 .* 50% .* max_delete=9 or 1\.0") as caught:
        sync_stores(source, target)
    assert (caught.value.deletes, caught.value.selected) == (9, 10)
    assert len(target) == 10
    assert target["0"] == b""
    for refused in (8, 0.89, 0, 0.0, 1):
        with pytest.raises(DeleteRefusedError):
            sync_stores(source, target, max_delete=refused)
    assert len(sync_stores(source, target, dry_run=True)) == 10
    assert sync_stores(source, target, max_delete=9).deleted == 9


@pytest.mark.parametrize("allowed", [9, 0.9, 1.0, 100])
def test_a_sync_that_deletes_as_much_as_it_may(allowed: float) -> None:
    source, target = MemoryStore({"0": b"new"}), MemoryStore({str(index): b"" for index in range(10)})
    assert sync_stores(source, target, max_delete=allowed).deleted == 9


@pytest.mark.parametrize("bad", [-1, 1.5, -0.1, float("nan"), True, "half", None])
def test_a_guard_that_means_nothing(bad: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="share"):
        sync_stores(MemoryStore(), MemoryStore(), max_delete=bad)


def test_one_blob_that_was_renamed_is_refused_by_default() -> None:
    source, target = MemoryStore({"new": b"1"}), MemoryStore({"old": b"1"})
    with pytest.raises(DeleteRefusedError, match="1 of 1"):
        sync_stores(source, target)
    assert sync_stores(source, target, max_delete=1).ok
    assert dict(target) == {"new": b"1"}


def test_the_guard_counts_what_is_selected() -> None:
    source = MemoryStore({"a/1": b"", "b/1": b""})
    target = MemoryStore({"a/1": b"", "b/1": b"", "b/2": b"", "b/3": b""})
    with pytest.raises(DeleteRefusedError, match="2 of 3"):
        sync_stores(source, target, prefix="b/")
    assert sync_stores(source, target).deleted == 2


def test_an_empty_source_empties_no_target() -> None:
    target = MemoryStore({"a": b""})
    with pytest.raises(DeleteRefusedError):
        sync_stores(MemoryStore(), target)
    assert list(target) == ["a"]


def test_after_a_refusal_the_journal_lists_anew(tmp_path: Path) -> None:
    source, target = MemoryStore(), MemoryStore({"a": b"", "b": b""})
    with pytest.raises(DeleteRefusedError):
        sync_stores(source, target, journal=tmp_path / "j")
    source.update({"a": b"1", "c": b"2"})
    sync_stores(source, target, journal=tmp_path / "j")
    assert dict(target) == {"a": b"1", "c": b"2"}


def test_a_transfer_into_itself_is_refused(tmp_path: Path) -> None:
    memory, files = MemoryStore(BLOBS), filled(FilesystemStore(tmp_path), {"a": b"", "docs/b": b""})
    overlapping: list[tuple[Store, Store]] = [
        (memory, memory),
        (memory, memory / "backup"),
        (memory / "backup", memory),
        (memory / "a", memory / "a" / "b"),
        (files, FilesystemStore(f"{tmp_path}/x/..")),
        (files, FilesystemStore(tmp_path / "backup")),
        (FilesystemStore(tmp_path / "docs"), files),
        (files / "docs", FilesystemStore(tmp_path / "docs" / "c")),
        (files, SqliteStore(tmp_path / "backup.sqlite")),
        (files, SqliteStore(tmp_path / "backup.sqlite") / "x"),
        (SqliteStore(tmp_path / "s"), SqliteStore(tmp_path / "s")),
        (MemoryStore(name="same"), MemoryStore(name="same")),
    ]
    for source, target in overlapping:
        for act in (copy_store, sync_stores, move_store):
            with pytest.raises(InvalidArgumentError):
                act(source, target)
    assert dict(memory) == BLOBS
    for journal in ("journal.db", "docs/journal.db"):
        with pytest.raises(InvalidArgumentError, match="journal"):
            copy_store(files, memory, journal=tmp_path / journal)
        with pytest.raises(InvalidArgumentError, match="journal"):
            copy_store(memory, files, journal=tmp_path / journal)


VIEWS: dict[str, Callable[[Path], tuple[Store, Store]]] = {
    "a layer": lambda place: (NotifyingStore(store := FilesystemStore(place / "a"), print), store),
    "below a layer": lambda place: (store := MemoryStore(), TracedStore(store)),
    "a replica": lambda place: (FanoutStore([store := MemoryStore(), MemoryStore()]), store),
    "a prefix of a layer": lambda place: (TracedStore(store := MemoryStore()) / "a", store / "a"),
    "encrypted names": lambda place: (
        EncryptedStore(store := MemoryStore(), b"k" * 32, names=b"k" * 32) / "a",
        TracedStore(store) / "b",
    ),
    "another setting": lambda place: (
        SqliteStore(place / "a.db"),
        SqliteStore(place / "a.db", durable=True),
    ),
    "a linked file": lambda place: (SqliteStore(place / "a.db"), SqliteStore(_linked(place, "a.db"))),
    "a linked folder": lambda place: (HashdirStore(place / "a"), HashdirStore(_linked(place, "a"))),
}


def _linked(place: Path, name: str) -> Path:
    (place / "link").symlink_to(name)
    return place / "link"


@pytest.mark.parametrize("name", list(VIEWS))
def test_a_move_between_two_views_of_one_store_is_refused(name: str, tmp_path: Path) -> None:
    source, target = VIEWS[name](tmp_path)
    with source, target:
        source["x"] = b"the only copy"
        with pytest.raises(InvalidArgumentError, match="same store"):
            move_store(source, target)
        assert source["x"] == b"the only copy"


def test_a_folder_that_is_mounted_twice_is_one(tmp_path: Path) -> None:
    script = (
        "import sys; from holdall import FilesystemStore, InvalidArgumentError, move_store\n"
        "source, target = FilesystemStore(sys.argv[1]), FilesystemStore(sys.argv[2])\n"
        "source['b/x'] = b'the only copy'\n"
        "for one, other in ((source, target), (FilesystemStore(sys.argv[1] + '/b'), target)):\n"
        "    try: move_store(one, other)\n"
        "    except InvalidArgumentError: pass\n"
        "    else: sys.exit('moved')\n"
        "assert source['b/x'] == b'the only copy'\n"
    )
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    mount = f'mount --bind "{one}" "{other}" && exec "{sys.executable}" -c "$0" "{one}" "{other}"'
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", mount, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_layers_over_parts_of_one_store_may_be_moved() -> None:
    store = TracedStore(MemoryStore({"logs/a": b"1"}))
    assert move_store(store, store / "archive", prefix="logs/").ok
    assert list(store) == ["archive/logs/a"]
    assert move_store(store / "archive", TracedStore(store) / "back").ok
    assert list(store) == ["back/logs/a"]


INSIDE: dict[str, Callable[[Path], Store]] = {
    "sqlite": lambda place: SqliteStore(place / "x.db"),
    "zip": lambda place: ZipStore(place / "d" / "x.zip"),
    "hashdir": lambda place: HashdirStore(place),
    "git": lambda place: GitStore(place, author="Ann <ann@example.org>"),
    "a layer": lambda place: TracedStore(SqliteStore(place / "x.db")),
    "a folder": lambda place: FilesystemStore(place / "d"),
}


@pytest.mark.parametrize("name", list(INSIDE))
def test_a_source_in_the_folder_of_the_target_is_not_deleted(name: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with INSIDE[name](tmp_path) as source:
        source.put_many({"a": b"1", "b": b"2"})
        for call in (
            lambda: sync_stores(source, FilesystemStore(tmp_path), max_delete=1.0),
            lambda: move_store(source, FilesystemStore(tmp_path), prefix="" if name != "git" else "a"),
        ):
            if name in ("sqlite", "zip", "a layer") and call.__code__.co_names[0] == "move_store":
                continue  # nothing of the source's is deleted but what was copied
            with pytest.raises(InvalidArgumentError):
                call()
        assert dict(source.items()) == {"a": b"1", "b": b"2"}


OVER: dict[str, Callable[[Store], Store]] = {
    "traced": TracedStore,
    "expiring": lambda store: ExpiringStore(store, 3600),
    "encrypted": lambda store: EncryptedStore(store, b"k" * 31 + b"y"),
    "compressed": CompressedStore,
    "cached": lambda store: CachingStore(store, MemoryStore()),
    "replicated": lambda store: FanoutStore([store]),
    "routed": lambda store: RoutedStore({"other/": MemoryStore(), "": store}),
}


@pytest.mark.parametrize("layer", OVER)
def test_a_source_in_the_folder_below_a_layer_is_not_deleted(layer: str, tmp_path: Path) -> None:
    target = OVER[layer](FilesystemStore(tmp_path))
    target.put_many({"a": b"1", "old": b"2"})
    for name in ("sqlite", "a folder"):
        with INSIDE[name](tmp_path) as source:
            source.put_many({"a": b"1", "b": b"2"})
            with pytest.raises(InvalidArgumentError, match=r"inside the other|in the folder of the target"):
                sync_stores(source, target, max_delete=1.0)
            assert dict(source.items()) == {"a": b"1", "b": b"2"}
    with pytest.raises(InvalidArgumentError, match="the journal"):
        sync_stores(MemoryStore({"a": b"1"}), target, journal=tmp_path / "j", max_delete=1.0)


def test_a_replica_is_filled_from_the_other(tmp_path: Path) -> None:
    near = FilesystemStore(tmp_path / "near")
    near["a"] = b"1"
    both = FanoutStore([near, FilesystemStore(tmp_path / "far")])
    assert sync_stores(near, both).ok


def test_two_views_of_one_server_are_one() -> None:
    with ValkeyServer() as server:
        url = f"{server.url}/0"
        one = ValkeyStore(url, prefix="n:")
        one.put_many({"a": b"1", "x/b": b"2"})
        for other in (ValkeyStore(url, prefix="n:", timeout=5), ValkeyStore(url, prefix="n:x/")):
            with pytest.raises(InvalidArgumentError, match="same store"):
                move_store(one, other)
            with pytest.raises(InvalidArgumentError, match="same store"):
                sync_stores(one, other)
        assert dict(one.items()) == {"a": b"1", "x/b": b"2"}
        assert move_store(one, ValkeyStore(url, prefix="m:")).ok
        assert not one


def test_a_move_takes_no_digest_for_the_bytes(tmp_path: Path) -> None:
    medium = MemoryStore()
    source, target = ChecksumStore(MemoryStore()), ChecksumStore(medium)
    source["k"] = target["k"] = b"hello" * 10
    medium["k"] = medium["k"].replace(b"hello", b"jello", 1)
    report = move_store(source, target)
    assert source.get("k", b"") == b"hello" * 10 or target["k"] == b"hello" * 10
    assert not report.deleted or target["k"] == b"hello" * 10


def test_shards_delete_nothing_unless_all_copies_are_there() -> None:
    source = Faulty(MemoryStore({**{f"a{n}": b"%d" % n for n in range(8)}, "new": b"precious"}), read="new")
    target = MemoryStore({"zold": b"precious"})
    reports = [shard() for shard in sync_stores(source, target, dry_run=True).shards(10)]
    assert {key for report in reports for key in report.failures} == {"new"}
    assert sum(report.withheld for report in reports) == 1
    assert target["zold"] == b"precious"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_of_a_move_delete_what_was_copied(count: int) -> None:
    blobs = {f"a{n}": b"%d" % n for n in range(8)}
    source, target = MemoryStore(blobs), MemoryStore({"a0": b"0", "a1": b"x", "mine": b""})
    shards = move_store(source, target, dry_run=True).shards(count)
    for number, shard in enumerate(shards, start=1):
        assert len(source) == 8
        report = shard()
        assert report.ok
        assert report.deleted == (8 if number == len(shards) else 0)
    assert (dict(source), dict(target)) == ({}, blobs | {"mine": b""})


@pytest.mark.parametrize("jobs", [None, 4])
@pytest.mark.parametrize("kind", ["files", "sqlite", "zip"])
def test_a_move_of_many_blobs(kind: str, jobs: int | None, stores: Callable[[str, str], Store]) -> None:
    blobs = {f"{n:03}": b"%d" % n for n in range(200)}
    source, target = MemoryStore(blobs), filled(stores(kind, "target"), {"000": b"0", "001": b"old"})
    report = move_store(source, target, jobs=jobs)
    assert (report.copied, report.skipped, report.deleted, report.ok) == (199, 1, 200, True)
    assert (dict(source), dict(target.items())) == ({}, blobs)


def test_a_shard_whose_copy_takes_the_place_of_a_delete(tmp_path: Path) -> None:
    source = MemoryStore({"a/b": b"1", "c": b"2", "d": b"3"})
    target = filled(FilesystemStore(tmp_path), {"a": b"old", "d/e": b"old"})
    for shard in sync_stores(source, target, dry_run=True).shards(4):
        assert shard().ok
    assert dict(target.items()) == dict(source)


def test_a_renewed_ttl_is_taken_over() -> None:
    source, target = MemoryStore(), MemoryStore()
    source.put("session", b"x", ttl=60)
    sync_stores(source, target)
    assert sync_stores(source, target).skipped == 1
    for ttl in (3600, None):
        source.put("session", b"x", ttl=ttl)
        assert sync_stores(source, target).copied == 1
        assert sync_stores(source, target).skipped == 1
        one, other = source.info("session").expires, target.info("session").expires
        assert one is other is None or abs((one - other).total_seconds()) < 2
    short = ExpiringStore(MemoryStore(), ttl=60)
    sync_stores(source, short)
    assert sync_stores(source, short).skipped == 1


def test_parts_of_one_store_that_do_not_overlap(tmp_path: Path) -> None:
    memory = MemoryStore({"a/1": b"1", "ab/1": b"2"})
    sync_stores(memory / "a", memory / "b")
    sync_stores(memory / "ab", memory / "c")
    copy_store(memory, memory / "backup", prefix="a/")
    assert dict(memory / "backup") == {"a/1": b"1"}
    files = filled(FilesystemStore(tmp_path), {"docs/b": b"3", "docs2/c": b""})
    copy_store(files / "docs", FilesystemStore(tmp_path / "docs2"))
    copy_store(files, SqliteStore(tmp_path / "backup.sqlite"), prefix="docs/")
    assert files["docs2/b"] == b"3"


class Faulty(Counting):
    """A store some of whose keys can't be read, written or deleted."""

    def __init__(self, store: Store, *, read: str = "", write: str = "", delete: str = "") -> None:
        super().__init__(store)
        self.faults = {"read": read, "write": write, "delete": delete}

    def _fault(self, call: str, key: str) -> None:
        if key == self.faults[call]:
            raise StoreUnavailableError(f"no {call}")

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        self._fault("read", key)
        return super()._read(key, start, stop)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self._fault("write", key)
        return super()._write(key, body, expect, attributes)

    def _delete(self, key: str, expect: Expect) -> bool:
        self._fault("delete", key)
        return super()._delete(key, expect)


@pytest.mark.parametrize("jobs", [None, 1, 4])
def test_what_fails_is_named_and_the_rest_is_done(jobs: int | None, caplog: pytest.LogCaptureFixture) -> None:
    source = Faulty(MemoryStore({str(index): b"%d" % index for index in range(20)}), read="3")
    target = Faulty(MemoryStore({"old1": b"", "old2": b""}), write="7", delete="old1")
    with caplog.at_level(logging.WARNING, "holdall.transfer"):
        report = sync_stores(source, target, jobs=jobs, max_delete=1.0)
    assert sorted(report.failures) == ["3", "7"]
    assert all(isinstance(error, StoreUnavailableError) for error in report.failures.values())
    assert report.failures["3"].key == "3"  # type: ignore[attr-defined]
    assert (report.copied, report.deleted, report.withheld, report.ok) == (18, 0, 2, False)
    assert "withheld: 2 to be deleted" in str(report)
    assert len(caplog.records) == 2
    with pytest.raises(TransferError, match=r"2 of 20 failed: '.*no") as caught:
        report.raise_for_failures()
    assert caught.value.failures == report.failures
    source.faults.update(read="")
    target.faults.update(write="")
    report = sync_stores(source, target, jobs=jobs)
    assert (report.copied, report.deleted, report.skipped, report.withheld) == (2, 0, 18, 1)
    assert list(report.failures) == ["old1"]
    target.faults.update(delete="")
    report = sync_stores(source, target, jobs=jobs)
    assert (report.copied, report.deleted, report.skipped, report.ok) == (0, 2, 20, True)


@pytest.mark.parametrize("kind", ["sqlite", "zip"])
def test_a_batch_that_fails_is_put_one_by_one(kind: str, stores: Callable[[str, str], Store]) -> None:
    class Refusing(Faulty):
        can = stores(kind, "target").can | Can.BULK  # type: ignore[assignment]

        def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
            return self._store._put_many(self._picked(items))

        def _picked(self, items: Iterable[Put]) -> Iterator[Put]:
            for each in items:
                self._fault("write", each[0])
                yield each

    source = MemoryStore({f"{index:03}": b"%d" % index for index in range(100)})
    target = stores(kind, "target")
    report = copy_store(source, Refusing(target, write="042"))
    assert list(report.failures) == ["042"]
    assert dict(target.items()) == {key: data for key, data in source.items() if key != "042"}


@pytest.mark.parametrize("error", [StoreUnavailableError("down"), InvalidKeyError("refused")])
def test_what_no_batch_takes_is_put_once_by_itself(error: StoreError) -> None:
    together: list[str] = []
    alone: list[str] = []

    class Refusing(MemoryStore):
        can = MemoryStore.can | Can.BULK

        def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
            together.extend(key for key, _, _ in items)
            raise error

        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            alone.append(key)
            raise error

    source = MemoryStore({f"{index:03}": b"1" for index in range(100)})
    report = copy_store(source, Refusing())
    assert list(report.failures) == sorted(alone) == list(source)
    if isinstance(error, StoreUnavailableError):
        # Each call may wait long for a store that is down.
        assert len(together) == len(set(together))


def test_a_listing_that_fails_stops_before_anything_is_touched() -> None:
    class Broken(MemoryStore):
        def _scan(self, prefix: str, after: str) -> Iterator[Info]:
            for info in super()._scan(prefix, after):
                if info.key == "5":
                    raise StoreUnavailableError("the network is gone")
                yield info

    ten = {str(index): b"" for index in range(10)}
    for source, target in (
        (Broken(ten), MemoryStore({"old": b""})),
        (MemoryStore(ten), Broken({"5": b"old"})),
    ):
        before = dict(target) if type(target) is MemoryStore else {"5": target["5"]}
        with pytest.raises(StoreUnavailableError):
            sync_stores(source, target, max_delete=1.0)
        assert {key: target[key] for key in before} == before


def test_a_listing_out_of_order_deletes_nothing() -> None:
    class Shuffled(MemoryStore):
        def _scan(self, prefix: str, after: str) -> Iterator[Info]:
            return reversed(list(super()._scan(prefix, after)))

    target = MemoryStore({"a": b"1", "b": b"2"})
    with pytest.raises(StoreError, match="out of order"):
        sync_stores(Shuffled({"a": b"1", "b": b"2"}), target, max_delete=1.0)
    assert len(target) == 2


def test_a_blob_in_the_way_is_tried_again_after_the_deletes(tmp_path: Path) -> None:
    source = MemoryStore({"a/b": b"1", "c": b"2", "d/e/f": b"3"})
    target = filled(FilesystemStore(tmp_path), {"a": b"old", "c/d": b"old", "d": b"old"})
    report = sync_stores(source, target, max_delete=1.0)
    assert report.ok, report.failures
    assert dict(target.items()) == dict(source)
    assert report.deleted == 3
    filled(source, {"c/d": b"4"})
    report = sync_stores(source, target)
    assert report.conflicts == ["c/d"]
    assert isinstance(report.failures["c/d"], KeyConflictError)


def test_a_source_that_gives_fewer_bytes_than_it_says() -> None:
    class Short(MemoryStore):
        def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
            info, pieces = super()._read(key, start, stop)
            next(pieces)
            return info, pieces

    source, target = Short({"big": b"x" * 3_000_000, "small": b"1"}), MemoryStore({"big": b"old"})
    report = copy_store(source, target)
    assert {key: type(error) for key, error in report.failures.items()} == {
        "big": IntegrityError,
        "small": IntegrityError,
    }
    assert dict(target) == {"big": b"old"}
    assert sorted(verify_store(source).failures) == ["big", "small"]


class Corrupting(Counting):
    """A store that keeps other bytes than it was given, now and then."""

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        data = b"".join(bytes(piece) for piece in body)
        if key.startswith("bad"):
            data = data[:-1] + bytes([data[-1] ^ 1])
        return self._store._write(key, [data], expect, attributes)

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        for key, body, attributes in items:
            yield self._write(key, body, ANY, attributes)


def test_a_corrupt_copy_is_found(tmp_path: Path) -> None:
    class Bulk(Corrupting):
        can = MemoryStore.can | Can.BULK  # type: ignore[assignment]

    source = MemoryStore(
        {"bad": b"12", "bad big": b"x" * 3_000_000, "bad2": b"1", "good": b"3", "good2": b"4"}
    )
    for kind in (Corrupting, Bulk):
        below = MemoryStore()
        target = kind(below)
        report = copy_store(source, target, journal=tmp_path / kind.__name__)
        assert sorted(report.failures) == ["bad", "bad big", "bad2"]
        assert all(isinstance(error, IntegrityError) for error in report.failures.values())
        assert report.copied == 2
        assert copy_store(source, target, compare="size").ok
        assert copy_store(source, kind(MemoryStore()), verify=False).ok
        moved = move_store(MemoryStore(dict(source)), kind(MemoryStore()))
        assert (moved.failed, moved.deleted, moved.withheld) == (3, 0, 2)


def test_every_blob_is_read_by_verify() -> None:
    class Recorded(Faulty):
        def _digest(self, key: str, algorithm: str) -> str | None:
            return sha256(b"as it was").hexdigest() if key in ("changed", "same") else None

    seen: list[tuple[int, int, int, str]] = []
    store = Recorded(
        MemoryStore({"big": b"x" * 3_000_000, "changed": b"1", "gone": b"2", "same": b"as it was"}),
        read="gone",
    )
    report = verify_store(store, progress=lambda *told: seen.append(told))
    assert {key: type(error) for key, error in report.failures.items()} == {
        "changed": IntegrityError,
        "gone": StoreUnavailableError,
    }
    assert (report.checked, report.bytes) == (2, 3_000_009)
    assert [told[:2] for told in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert store.bytes_read == 3_000_010
    assert verify_store(store, prefix="b").checked == 1


class Meddled(Counting):
    """A target to which somebody writes just before the transfer does."""

    def __init__(self, store: Store, meddle: Callable[[str, Store], object]) -> None:
        super().__init__(store)
        self.meddle = meddle

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self.meddle(key, self._store)
        return super()._write(key, body, expect, attributes)

    def _delete(self, key: str, expect: Expect) -> bool:
        self.meddle(key, self._store)
        return super()._delete(key, expect)


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_somebody_else_wrote_meanwhile_stays(kind: str, stores: Callable[[str, str], Store]) -> None:
    source = MemoryStore({"changed": b"source", "created": b"source", "fine": b"source", "same": b"source"})
    below = filled(stores(kind, "target"), {"changed": b"before", "old": b"before", "old2": b"before"})

    def meddle(key: str, store: Store) -> None:
        if key == "same":
            store.put(key, b"source")
        elif key != "fine":
            store.put(key, b"theirs")

    report = sync_stores(source, Meddled(below, meddle), max_delete=1.0)
    assert sorted(report.conflicts) == ["changed", "created"]
    assert all("somebody changed" in str(error) for error in report.failures.values())
    assert not isinstance(report.failures["created"], BlobExistsError)
    assert {key for key, data in below.items() if data == b"theirs"} == {"changed", "created"}
    assert below["fine"] == below["same"] == b"source"
    assert (report.copied, report.skipped, report.deleted, report.withheld) == (1, 1, 0, 2)
    copy_store(source, below)
    report = sync_stores(source, Meddled(below, meddle), max_delete=1.0)
    assert (report.conflicts, report.deleted, report.withheld, below["old"]) == (["old"], 0, 1, b"theirs")
    assert "somebody changed" in str(report.failures["old"])
    assert sync_stores(source, below, max_delete=1.0).ok
    assert dict(below.items()) == dict(source)


def test_who_was_faster_to_delete_is_no_conflict() -> None:
    below = MemoryStore({"old": b"", "x": b""})
    report = sync_stores(
        MemoryStore({"x": b""}), Meddled(below, lambda key, store: store.delete(key)), max_delete=1.0
    )
    assert report.ok
    assert list(below) == ["x"]


def test_a_batch_looks_first_what_somebody_else_created(stores: Callable[[str, str], Store]) -> None:
    source = MemoryStore({f"{index:03}": b"source" for index in range(64)})
    target = stores("sqlite", "target")

    def progress(done: int, total: int, size: int, key: str) -> None:
        target.put("060", b"theirs")

    report = copy_store(source, target, progress=progress)
    assert report.conflicts == ["060"]
    assert target["060"] == b"theirs"
    assert report.copied == 63


def test_a_copy_that_somebody_replaces_at_once_is_a_conflict() -> None:
    class Replaced(Counting):
        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            written = super()._write(key, body, expect, attributes)
            self._store.put(key, b"theirs")
            return written

    below = MemoryStore()
    report = copy_store(MemoryStore({"a": b"1", "b": b"x" * 3_000_000}), Replaced(below))
    assert report.conflicts == ["a", "b"]
    assert all(isinstance(error, ConcurrencyError) for error in report.failures.values())
    assert set(below.values()) == {b"theirs"}


@pytest.mark.parametrize("lost", [Can(0), Can.CONDITIONAL_DELETE, Can.SWAP | Can.CONDITIONAL_DELETE])
def test_what_changes_at_the_source_while_it_is_moved_stays(lost: Can) -> None:
    below = MemoryStore({"a": b"1", "b": b"2"})

    def meddle(key: str, store: Store) -> None:
        if key == "a":
            below[key] = b"newer"

    target = MemoryStore()
    report = move_store(Limited(below, ~lost), Meddled(target, meddle))
    assert (report.conflicts, report.withheld) == (["a"], 1)
    assert (dict(below), dict(target)) == ({"a": b"newer", "b": b"2"}, {"a": b"1", "b": b"2"})
    assert move_store(below, target).ok
    assert (dict(below), dict(target)) == ({}, {"a": b"newer", "b": b"2"})


def test_a_move_trusts_no_target_that_changed() -> None:
    source, target = MemoryStore({"a": b"1", "b": b"1"}), MemoryStore({"a": b"1", "b": b"1"})

    def progress(done: int, total: int, size: int, key: str) -> None:
        target.pop("b", None)

    report = move_store(source, target, compare="size", progress=progress)
    assert list(report.failures) == ["b"]
    assert dict(source) == {"b": b"1"}


@pytest.mark.parametrize("compare", ["size", "modified", lambda one, other: True])
def test_a_move_deletes_nothing_that_only_seems_equal(compare: Any) -> None:
    source, target = MemoryStore({"a": b"1", "b": b"1"}), MemoryStore({"a": b"1", "b": b"2"})
    report = move_store(source, target, compare=compare)
    assert list(report.failures) == ["b"]
    assert isinstance(report.failures["b"], IntegrityError)
    assert (dict(source), dict(target)) == ({"b": b"1"}, {"a": b"1", "b": b"2"})
    assert move_store(source, target, compare=compare, verify=False).deleted == 1


def test_what_the_source_has_is_not_deleted_though_it_was_not_listed() -> None:
    class Forgetful(Counting):
        def _scan(self, prefix: str, after: str) -> Iterator[Info]:
            return (info for info in super()._scan(prefix, after) if info.key != "b")

    blobs = {"a": b"1", "b": b"2", "c": b"3"}
    target = MemoryStore({**blobs, "old": b""})
    report = sync_stores(Forgetful(MemoryStore(blobs)), target)
    assert (report.conflicts, report.deleted, report.withheld) == (["b"], 0, 1)
    assert dict(target) == {**blobs, "old": b""}


@pytest.mark.parametrize("executor", [False, True])
def test_nothing_is_deleted_after_a_failure(executor: bool) -> None:
    # Renamed at the source, and then unreadable there: the target has the only copy left, by the old name.
    source = Faulty(MemoryStore({"new": b"a novel", "x": b"1", "y": b""}), read="new")
    target = MemoryStore({"old": b"a novel", "older": b"a longer novel", "z": b""})
    with ThreadPoolExecutor(1) as pool:
        report = sync_stores(source, target, max_delete=1.0, executor=pool if executor else None)
    assert (list(report.failures), report.deleted, report.withheld) == (["new"], 0, 3)
    assert dict(target) == {"old": b"a novel", "older": b"a longer novel", "x": b"1", "y": b"", "z": b""}
    source.faults.update(read="")
    assert sync_stores(source, target, max_delete=1.0).ok
    assert dict(target) == {"new": b"a novel", "x": b"1", "y": b""}


def test_a_shard_deletes_nothing_after_a_failure() -> None:
    source = MemoryStore({"new": b"a novel"})
    target = MemoryStore({"old": b"a novel", "older": b"a longer novel"})
    (shard,) = sync_stores(source, target, dry_run=True).shards(1)
    del source["new"]
    report = shard()
    assert (list(report.failures), report.withheld) == (["new"], 2)
    assert list(target) == ["old", "older"]


def test_what_goes_from_the_source_meanwhile_is_named() -> None:
    source = MemoryStore({"a": b"1", "b": b"2"})

    def progress(done: int, total: int, size: int, key: str) -> None:
        source.delete("b")

    report = copy_store(source, MemoryStore(), progress=progress)
    assert list(report.failures) == ["b"]
    assert "after it was listed" in str(report.failures["b"])


@pytest.mark.parametrize("jobs", [None, 1, 5])
def test_progress_is_told_once_for_each_action(jobs: int | None) -> None:
    source = MemoryStore({str(index): b"12" for index in range(30)} | {"same": b"x", "alike": b"y"})
    target = MemoryStore({"old": b"", "same": b"x", "alike": b"z"})
    told: list[tuple[int, int, int, str]] = []
    report = sync_stores(source, target, jobs=jobs, progress=lambda *each: told.append(each))
    assert [each[0] for each in told] == list(range(1, 34))
    assert {each[1] for each in told} == {33}
    assert [each[2] for each in told] == sorted(each[2] for each in told)
    assert told[-1][2] == report.bytes == 61
    assert {each[3] for each in told} == {*source, "old"}


@pytest.mark.parametrize("jobs", [None, 4])
def test_what_progress_raises_stops_the_transfer(jobs: int | None) -> None:
    def progress(done: int, total: int, size: int, key: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    target = Counting(MemoryStore())
    with pytest.raises(KeyboardInterrupt):
        copy_store(
            MemoryStore({str(index): b"" for index in range(1000)}), target, progress=progress, jobs=jobs
        )
    assert target.calls["write"] <= 20


def test_reports_add_up_and_pickle() -> None:
    one = Report(copied=1, bytes=10, seconds=2, failures={"a": ConcurrencyError("x", key="a")})
    both = one + Report(skipped=2, deleted=3, checked=4, bytes=5, seconds=1, resumed=6)
    expected = Report(1, 2, 3, 4, 15, 2, 6, one.failures)
    assert both == expected
    assert one.copied == 1
    assert both.rate == 7.5
    again = pickle.loads(pickle.dumps(both))
    assert again.conflicts == ["a"]
    assert str(again.failures["a"]) == "'a': x"
    assert (
        str(both) == "1 copied, 4 checked, 3 deleted, 2 skipped, 6 resumed, 1 failed, 15 B in 2.0 s (8 B/s)"
    )
    assert Report().rate == 0
    Report().raise_for_failures()


def test_a_plan_pickles_and_is_cut_in_shards(tmp_path: Path) -> None:
    source = filled(FilesystemStore(tmp_path / "source"), BLOBS | {f"n{index}": b"x" for index in range(50)})
    target = filled(SqliteStore(tmp_path / "target"), {"a": b"2", "b/d": b"y" * 5000, "old": b""})
    plan = sync_stores(source, target, dry_run=True)
    again: Plan = pickle.loads(pickle.dumps(plan))
    assert list(again) == list(plan)
    assert Action("delete", "old", 0, None, target.info("old").etag) in list(again)
    assert repr(again) == repr(plan)
    for count in (1, 3, 7, 1000):
        shards = plan.shards(count)
        assert len(shards) <= count
        assert sorted(action for shard in shards for action in shard) == sorted(plan)
    shards = again.shards(4)
    assert len(shards) == 4
    # The last one deletes, and not before the others are done.
    early = pickle.loads(pickle.dumps(shards[-1]))()
    assert (early.failed, early.deleted, early.withheld, "old" in target) == (1, 0, 1, True)
    report = Report()
    for shard in [*reversed(shards[:-1]), shards[-1]]:
        report.merge(pickle.loads(pickle.dumps(shard))())
    assert dict(target.items()) == dict(source.items())
    assert (report.copied, report.deleted, report.bytes) == (plan.copies, plan.deletes, plan.bytes)
    with pytest.raises(InvalidArgumentError):
        plan.shards(0)


def test_a_plan_says_what_it_could_not_compare() -> None:
    source = Faulty(MemoryStore({"a": b"1", "b": b"2"}), read="a")
    plan = copy_store(source, MemoryStore({"a": b"1", "b": b"3"}), dry_run=True)
    assert [action.key for action in plan] == ["b"]
    assert list(plan.failures) == ["a"]


def test_a_shard_that_is_run_twice_copies_once(tmp_path: Path) -> None:
    source, target = MemoryStore({"a": b"1"}), MemoryStore({"old": b""})
    [shard] = sync_stores(source, target, dry_run=True, max_delete=1.0).shards(1)
    assert (shard().copied, shard().ok, shard().copied) == (1, True, 0)


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_an_executor_runs_the_shards(pool: Any, tmp_path: Path) -> None:
    blobs = BLOBS | {f"n/{index:04}": b"%d" % index for index in range(500)}
    source = filled(FilesystemStore(tmp_path / "source"), blobs)
    target = filled(
        SqliteStore(tmp_path / "target"), {"a": b"2", "b/d": b"y" * 5000, "old": b"", "n/0000": b"0"}
    )
    told: list[tuple[int, int, int, str]] = []
    with pool(2) as executor:
        report = sync_stores(
            source,
            target,
            executor=executor,
            journal=tmp_path / "j",
            progress=lambda *each: told.append(each),
        )
        assert report.ok
        assert dict(target.items()) == blobs
        assert (report.copied, report.skipped, report.deleted) == (len(blobs) - 1, 1, 1)
        assert sorted(each[0] for each in told) == list(range(1, len(blobs) + 2))
        counted = Counting(source)
        again = sync_stores(source, target, executor=executor, journal=tmp_path / "j")
        assert (again.copied, again.skipped, counted.calls["read"]) == (0, len(blobs), 0)


class Deadly(Counting):
    """A store that kills the process which reads one key."""

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        if key == "n/0300" and os.getpid() != PARENT:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._read(key, start, stop)


PARENT = os.getpid()


def test_a_worker_that_dies_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    blobs = {f"n/{index:04}": b"%d" % index for index in range(500)}
    source = Deadly(filled(FilesystemStore(tmp_path / "source"), blobs))
    target = FilesystemStore(tmp_path / "target")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as executor:
        report = copy_store(source, target, executor=executor, journal=tmp_path / "j")
    assert "n/0300" in report.failures
    assert report.copied + report.failed == len(blobs)
    assert "died" in str(report.failures["n/0300"])
    held = {key: target.get(key) for key in blobs if key not in report.failures}
    assert held == {key: blobs[key] for key in held}
    report = copy_store(source, target, journal=tmp_path / "j")
    assert report.ok
    assert dict(target.items()) == blobs


def test_stores_that_do_not_pickle_are_refused(tmp_path: Path) -> None:
    files = FilesystemStore(tmp_path)
    files["a"] = b"1"
    with ProcessPoolExecutor(1) as executor:
        for source, target in (
            (MemoryStore({"a": b"1"}), files),
            (files, MemoryStore()),
            (files, EncryptedStore(SqliteStore(tmp_path / "s.db"), b"k" * 32)),
        ):
            with pytest.raises(InvalidArgumentError, match="other processes can open"):
                copy_store(source, target, executor=executor)


def test_slow_stores_get_threads(tmp_path: Path) -> None:
    blobs = {f"{index:03}": b"x" for index in range(128)}
    readers: set[int] = set()

    class Watched(MemoryStore):
        def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
            readers.add(threading.get_ident())
            return super()._read(key, start, stop)

    source, target = Slow(Watched(blobs), 0.005), MemoryStore()
    fast = Limited(source, Can.LIST | Can.RANGE)
    fast._scan = source._store._scan  # type: ignore[method-assign]
    fast.inline = False
    assert copy_store(fast, target).ok
    assert len(readers) > 2
    assert dict(target) == blobs
    assert [each.key for each in diff_stores(fast, MemoryStore(dict.fromkeys(blobs, b"y")))] == list(blobs)


def test_fast_stores_stay_on_the_calling_thread(tmp_path: Path) -> None:
    seen: set[int] = set()

    class Watched(Counting):
        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            seen.add(threading.get_ident())
            return super()._write(key, body, expect, attributes)

    blobs = {f"{index:03}": b"x" for index in range(100)}
    copy_store(MemoryStore(blobs), Watched(MemoryStore()))
    assert seen == {threading.get_ident()}
    seen.clear()
    copy_store(MemoryStore(blobs), Watched(MemoryStore()), jobs=3)
    assert threading.get_ident() not in seen


@pytest.mark.parametrize("jobs", [None, 4])
def test_ten_thousand_blobs_through_stores_that_fail(jobs: int | None, tmp_path: Path) -> None:
    blobs = {f"{index:05}": b"%d" % (index % 7) for index in range(10_000)}
    here, there = MemoryStore(blobs), MemoryStore({f"{index:05}": b"4" for index in range(5000, 10_000)})
    there.update({f"{index:05}": b"44" for index in range(10_000, 12_000)})
    there.update({f"x{index}": b"" for index in range(100)})

    class Listing(Flaky):
        """Fails in reads and writes."""

        def _scan(self, prefix: str, after: str) -> Iterator[Info]:
            return self._store._scan(prefix, after)

        def _info(self, key: str) -> Info:
            return self._store._info(key)

        def _delete(self, key: str, expect: Expect) -> bool:
            return self._store._delete(key, expect)

    source, target = Listing(here, 0.05, 1), Listing(there, 0.05, 2)
    journal = tmp_path / "j"
    runs = 0
    missing = len(blobs) + 2100
    while True:
        before = dict(there)
        report = sync_stores(source, target, journal=journal, jobs=jobs, max_delete=1.0)
        runs += 1
        for key in blobs.keys() | before.keys():
            if key in blobs and key not in report.failures:
                assert there.get(key) == blobs.get(key), key
        assert report.deleted == (0 if report.failures else 2100)
        # Of a few, all may fail again.
        assert report.failed < max(missing / 2, 30)
        missing = report.failed
        if report.ok:
            break
    assert 2 <= runs < 12
    assert dict(there) == blobs


def test_a_transfer_leaves_no_files_open(tmp_path: Path) -> None:
    source, target = FilesystemStore(tmp_path / "s"), FilesystemStore(tmp_path / "t")
    filled(source, BLOBS)
    copy_store(source, target)
    before = len(os.listdir("/proc/self/fd"))
    shutil.rmtree(tmp_path / "t")
    copy_store(source, target, jobs=3, journal=tmp_path / "j")
    list(copy_store(source, MemoryStore(), dry_run=True))
    next(diff_stores(source, MemoryStore()))
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_blob_that_cant_be_read_ends_no_comparison() -> None:
    below = MemoryStore()
    checked = ChecksumStore(below)
    checked.update({"a": b"1", "b": b"2", "c": b"3"})
    below["b"] = b"X" + below["b"][1:]
    for jobs in (1, 4):
        found = list(diff_stores(checked, MemoryStore({"a": b"1", "b": b"2", "c": b"x"}), jobs=jobs))
        assert [(each.kind, each.key) for each in found] == [("failed", "b"), ("differs", "c")]
        assert isinstance(found[0].error, IntegrityError)


def test_a_place_that_stays_taken_is_one_failure_and_deletes_nothing(tmp_path: Path) -> None:
    source = MemoryStore({"a/b": b"1", "c/d": b"2", "e": b"3"})
    target = filled(FilesystemStore(tmp_path), {"a": b"old", "c": b"mine", "z": b"old"})
    source["c"] = b"mine"
    with pytest.MonkeyPatch.context() as patch:
        calls: list[str] = []
        write = target._write
        patch.setattr(target, "_write", lambda key, *rest: (calls.append(key), write(key, *rest))[1])
        report = sync_stores(source, target, max_delete=1.0)
    assert report.conflicts == ["c/d", "a/b"]
    assert calls.count("c/d") == 2
    assert (report.deleted, report.withheld) == (0, 2)
    assert isinstance(report.failures["a/b"], KeyConflictError)


def test_a_plan_with_failures_withholds_its_deletes() -> None:
    source = Faulty(MemoryStore({"a": b"1", "b": b"2"}), read="a")
    target = MemoryStore({"a": b"1", "b": b"3", "old": b""})
    plan = sync_stores(source, target, dry_run=True)
    assert [action.key for action in plan] == ["b"]
    assert (list(plan.failures), plan.withheld, plan.deletes) == (["a"], 1, 0)
    assert [shard().ok for shard in plan.shards(2)] == [True]
    assert "old" in target


@pytest.mark.parametrize("jobs", [None, 4])
@pytest.mark.parametrize("kind", ["executor", "journal", "plain"])
def test_no_deletes_after_a_failure_in_any_kind_of_run(kind: str, jobs: int | None, tmp_path: Path) -> None:
    blobs = {f"{n:03}": b"%d" % n for n in range(50)}
    old = {f"old{n:03}": b"" for n in range(40)}
    for act, fault in (
        (sync_stores, "read"),
        (sync_stores, "write"),
        (move_store, "read"),
        (move_store, "write"),
    ):
        below, target = MemoryStore(blobs), MemoryStore(old)
        source: Store = below
        faulty: Store = target
        if fault == "read":
            source = Faulty(below, read="049")
        else:
            faulty = Faulty(target, write="049")
        options: dict[str, Any] = {"max_delete": 1.0} if act is sync_stores else {}
        if kind == "journal":
            options["journal"] = tmp_path / f"{act.__name__} {fault}"
        with ThreadPoolExecutor(2) as pool:
            if kind == "executor":
                options["executor"] = pool
            report = act(source, faulty, jobs=jobs, **options)
        assert (list(report.failures), report.deleted) == (["049"], 0)
        assert report.withheld == (40 if act is sync_stores else 49)
        assert len(below) == 50
        assert len([key for key in target if key.startswith("old")]) == 40


def test_the_folder_in_another_file_system_is_no_local_path() -> None:
    files = fsspec.filesystem("memory")
    files.pipe("/of-sync/a/1", b"1")
    source, target = FsspecStore(files, "of-sync/a"), MemoryStore({"1": b"1", "2": b"2"})
    assert sync_stores(source, target).deleted == 1
    assert missing_place(source) is None
