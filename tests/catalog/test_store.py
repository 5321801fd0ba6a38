"""`BlobStore` on every backend of metadata: what its page promises."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from tests.catalog import samples

from holdall import (
    ABSENT,
    ANY,
    BlobExistsError,
    BlobNotFoundError,
    BlobStore,
    ConcurrencyError,
    DeleteRefusedError,
    FilesystemBlobBackend,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    MemoryStore,
    ProtectedError,
    ReadOnlyError,
    SerializationError,
    StoreClosedError,
    StoreUnavailableError,
    UnsupportedOperation,
    UntrustedDataError,
)
from holdall.catalog.backend import Transaction
from holdall.catalog.manifest import exported_to

Make = Callable[..., BlobStore]
LARGE = np.arange(60_000, dtype="f8").reshape(300, 200)
"""It lies outside the backend of metadata: half a MiB."""


class Model:
    """What only pickle takes."""

    def __init__(self, weights: list[float]) -> None:
        self.weights = weights

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.weights == other.weights

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that signs pickles is that of this test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


@pytest.fixture
def store(make: Make) -> BlobStore:
    return make()


def files(folder: Path) -> list[str]:
    """The blobs in the folder of a catalogue."""
    return sorted(path.name for path in folder.rglob("*") if re.match("[0-9a-f]{64}-", path.name))


def numbers(seed: int) -> Any:
    """An array that no other test has, and that doesn't compress."""
    return np.random.default_rng(seed).standard_normal(20_000)


@pytest.mark.parametrize(
    "value",
    [{"config": "value"}, "text", b"\0bytes", 1.5, None, [1, "a", None], (1, 2), {1, 2}, "", b"", 0, False],
    ids=repr,
)
def test_values_come_back(store: BlobStore, value: Any) -> None:
    key = store.put(value, key="a")
    assert key == "a"
    found = store.get("a")
    assert found == value
    assert type(found) is type(value)
    assert store.exists("a")


def test_arrays_frames_and_models_come_back(store: BlobStore) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]})
    store.put(LARGE, key="array")
    store.put(frame, key="frame")
    store.put(Model([0.5]), key="model")
    np.testing.assert_array_equal(store.get("array"), LARGE)
    pd.testing.assert_frame_equal(store.get("frame"), frame)
    assert store.get("model") == Model([0.5])
    assert [store.get_metadata(key)["format"] for key in ("array", "frame", "model")] == [  # type: ignore[index]
        "b2nd",
        "parquet",
        "pickle",
    ]


def test_what_is_absent_is_none(store: BlobStore) -> None:
    assert store.get("a") is None
    assert store.get("a", default=5) == 5
    assert store.get_metadata("a") is None
    assert not store.exists("a")
    assert not store.delete("a")
    assert not store.update_metadata("a", {"x": 1})
    assert store.list() == []
    assert store.clear() == 0
    with pytest.raises(BlobNotFoundError):
        store.open("a")


@pytest.mark.parametrize(
    "key", ["v2.1", "run/raw", "../up", "a//b", "/abs", "trailing/", ".", "ä\u0308 ☃", "%2E", "a\\b"]
)
def test_keys_are_kept_exactly(store: BlobStore, key: str) -> None:
    store.put(1, key=key)
    store.put(2, key=key + "x")
    assert (store.get(key), store.get(key + "x")) == (1, 2)
    assert store.list() == sorted([key, key + "x"])
    assert store.list(prefix=key) == sorted([key, key + "x"])


def test_a_prefix_is_characters_and_nothing_else(store: BlobStore) -> None:
    for key in ("model_v1", "modelxv1", "model%", "run/a", "run"):
        store.put(0, key=key)
    assert store.list("model_") == ["model_v1"]
    assert store.list("model%") == ["model%"]
    assert store.list("run/") == ["run/a"]
    assert store.list(prefix="") == store.list() == sorted(store)


@pytest.mark.parametrize("key", ["", 5, b"a", "a\nb", "a\0", "\ud800", "x" * 1025, ["a"]])
def test_what_can_be_no_key_is_refused(store: BlobStore, key: Any) -> None:
    for call in (lambda: store.put(1, key=key), lambda: store.get(key), lambda: store.delete(key)):
        with pytest.raises(InvalidKeyError):
            call()
    assert store.list() == []


def test_swapped_arguments_are_refused(store: BlobStore) -> None:
    with pytest.raises(TypeError, match="the data first"):
        store.put("model_v1", LARGE)  # type: ignore[arg-type]


def test_random_keys_and_digests_as_keys(make: Make) -> None:
    store = make()
    keys = {store.put(1) for _ in range(5)}
    assert len(keys) == 5
    assert all(len(key) == 16 for key in keys)
    addressed = make(content_addressable=True)
    first, second = addressed.put({"a": 1, "b": 2}), addressed.put({"b": 2, "a": 1})
    assert first == second == first.digest
    assert len(first) == 64
    assert addressed.put(1, key="named") == "named"


def test_get_metadata_says_all(store: BlobStore) -> None:
    before = datetime.now(UTC)
    key = store.put(LARGE, key="a", metadata={"accuracy": 0.95, "shape": (3, 4), "n": {"x": [True, None]}})
    found = store.get_metadata("a")
    assert found is not None
    assert found["metadata"] == {"accuracy": 0.95, "shape": [3, 4], "n": {"x": [True, None]}}
    assert found["type"] == "numpy.ndarray"
    assert found["format"] == "b2nd"
    assert found["digest"] == key.digest
    assert 0 < found["file_size"] < LARGE.nbytes
    assert before - timedelta(seconds=1) < found["created"] <= found["updated"] <= datetime.now(UTC)
    found["metadata"]["accuracy"] = 0
    assert store.get_metadata("a")["metadata"]["accuracy"] == 0.95  # type: ignore[index]


def test_update_metadata_merges(store: BlobStore) -> None:
    store.put(1, key="a", metadata={"x": 1, "n": {"deep": 1}})
    assert store.update_metadata("a", {"deployed": True, "n": 2})
    found = store.get_metadata("a")
    assert found is not None
    assert found["metadata"] == {"x": 1, "n": 2, "deployed": True}
    assert found["updated"] >= found["created"]
    assert store.get("a") == 1
    assert store.update_metadata("a", {"deployed": 1})
    assert store.get_metadata("a")["metadata"]["deployed"] is not True  # type: ignore[index]


@pytest.mark.parametrize(
    "metadata",
    [
        {"x": float("nan")}, {"x": ...}, {1: 2}, {"x": {1: 2}}, {"x": {1, 2}}, {"x": b"b"}, [1], "text",
        {"x": datetime(2024, 1, 15, tzinfo=UTC)}, {"x": "\ud800"}, {"x": "a\0b"}, {"x": 10**2000},
    ],
    ids=repr,
)  # fmt: skip
def test_metadata_that_json_cant_hold_is_refused(store: BlobStore, metadata: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        store.put(1, key="a", metadata=metadata)
    store.put(1, key="b")
    with pytest.raises(InvalidArgumentError):
        store.update_metadata("b", metadata)
    assert store.list() == ["b"]
    assert store.get_metadata("b")["metadata"] == {}  # type: ignore[index]


def test_metadata_that_is_nested_too_deep_is_refused(store: BlobStore) -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(InvalidArgumentError, match="levels"):
        store.put(1, key="a", metadata={"x": deep})
    for items in ([1], ["a"]):
        nested: Any = {"x": items}
        for _ in range(30):
            nested = {"x": nested}
        store.put(1, key="b", metadata=nested)
        with pytest.raises(InvalidArgumentError, match="levels"):
            store.put(1, key="a", metadata={"x": nested})
    assert store.list() == ["b"]


def test_scalars_of_numpy_are_numbers(store: BlobStore) -> None:
    store.put(
        1, key="a", metadata={"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": np.float64(2)}
    )
    assert store.list(metadata_filter={"a": 0.5, "b": 3, "c": True, "d": 2.0}) == ["a"]


def test_expect_is_compare_and_swap(store: BlobStore) -> None:
    first = store.put(1, key="a", expect=ABSENT)
    with pytest.raises(BlobExistsError):
        store.put(2, key="a", expect=ABSENT)
    second = store.put(2, key="a", expect=first.etag)
    with pytest.raises(ConcurrencyError):
        store.put(3, key="a", expect=first.etag)
    assert store.update_metadata("a", {"x": 1}, expect=second.etag)
    with pytest.raises(ConcurrencyError):
        store.update_metadata("a", {"x": 2}, expect=second.etag)
    with pytest.raises(ConcurrencyError):
        store.delete("a", expect=second.etag)
    entry = store.entry("a")
    assert entry is not None
    assert store.delete("a", expect=entry.etag)
    with pytest.raises(ConcurrencyError):
        store.put(3, key="a", expect=entry.etag)
    with pytest.raises(InvalidArgumentError):
        store.put(3, key="a", expect=5)  # type: ignore[arg-type]


def test_equal_objects_are_stored_once(make: Make, tmp_path: Path) -> None:
    store, big = make(), numbers(0).reshape(100, 200)
    one = store.put(big, key="one")
    two = store.put(big.copy(), key="two")
    three = make(compression="zstd").put(np.asfortranarray(big), key="three")
    assert one.digest == two.digest == three.digest
    assert (one.is_shared, two.is_shared, three.is_shared) == (False, True, True)
    assert len(files(tmp_path / "store")) == 1
    assert store.delete("one")
    store.collect(0, max_share=1.0)
    np.testing.assert_array_equal(store.get("two"), big)
    store.delete("two")
    store.delete("three")
    assert store.collect(0, max_share=1.0).blobs == 1
    assert files(tmp_path / "store") == []


def test_small_objects_are_shared_too(store: BlobStore) -> None:
    assert not store.put({"a": 1}, key="one").is_shared
    assert store.put({"a": 1}, key="two").is_shared
    store.delete("one")
    store.collect(0, max_share=1.0)
    assert store.get("two") == {"a": 1}


def test_without_keep_only_the_newest_stays(store: BlobStore) -> None:
    for seed in range(3):
        store.put(numbers(seed), key="a")
    assert [each.version for each in store.history("a")] == [3]
    assert store.get("a", version=2) is None
    assert store.collect(0, max_share=1.0).blobs == 2


def test_versions_are_kept_pruned_and_restored(make: Make) -> None:
    store = make(keep=3)
    for seed in range(5):
        store.put(numbers(seed), key="a", metadata={"seed": seed})
    assert [each.version for each in store.history("a")] == [5, 4, 3]
    np.testing.assert_array_equal(store.get("a", version=3), numbers(2))
    assert store.get_metadata("a", version=4)["metadata"] == {"seed": 3}  # type: ignore[index]
    restored = store.restore("a", 3)
    assert (restored.version, restored.metadata) == (6, {"seed": 2})
    np.testing.assert_array_equal(store.get("a"), numbers(2))
    with pytest.raises(BlobNotFoundError):
        store.restore("a", 1)
    assert store.delete("a", version=5)
    assert [each.version for each in store.history("a")] == [6, 4]
    assert store.delete("a", version=6)
    np.testing.assert_array_equal(store.get("a"), numbers(3))
    assert not store.delete("a", version=99)
    assert make(keep=True).put(1, key="a").version == 5


def test_equal_bytes_make_no_version_unless_asked(make: Make) -> None:
    store = make(keep=True)
    first = store.put(1, key="a", metadata={"x": 1})
    again = store.put(1, key="a")
    assert (again.is_new, again.version, again.etag) == (False, 1, first.etag)
    assert store.get_metadata("a")["metadata"] == {"x": 1}  # type: ignore[index]
    changed = store.put(1, key="a", metadata={"x": 2})
    assert (changed.is_new, changed.version) == (False, 1)
    assert changed.etag != first.etag
    assert store.put(1, key="a", on_same="version").version == 2
    assert [each.metadata for each in store.history("a")] == [{}, {"x": 2}]
    with pytest.raises(InvalidArgumentError):
        store.put(1, key="a", on_same="replace")  # type: ignore[arg-type]


def test_an_alias_protects_what_it_points_at(make: Make) -> None:
    store = make()
    store.put(numbers(1), key="a")
    assert store.alias("prod", "a").version == 1
    store.put(numbers(2), key="a")
    store.put(numbers(3), key="a")
    # `keep` is 1, and still version 1 stays.
    assert [each.version for each in store.history("a")] == [3, 1]
    store.collect(0, max_share=1.0)
    np.testing.assert_array_equal(store.get("a", version=1), numbers(1))
    for call in (lambda: store.delete("a"), lambda: store.delete("a", version=1), store.clear):
        with pytest.raises(ProtectedError, match="prod"):
            call()
    entry = store.resolve("prod")
    assert entry is not None
    moved = store.alias("prod", "a", 3, expect=entry.etag)
    with pytest.raises(ConcurrencyError):
        store.alias("prod", "a", 1, expect=entry.etag)
    assert store.aliases() == {"prod": moved}
    assert store.aliases("b") == {}
    with pytest.raises(BlobNotFoundError):
        store.alias("prod", "missing")
    assert store.delete_alias("prod")
    assert not store.delete_alias("prod")
    assert store.resolve("prod") is None
    assert store.clear() == 1


def test_a_lease_holds_the_bytes(store: BlobStore) -> None:
    store.put(numbers(1), key="a")
    with store.lease("a", ttl=60) as lease:
        store.delete("a")
        found = store.collect(0, max_share=1.0)
        assert (found.blobs, found.kept) == (0, 1)
        lease.renew()
    assert store.collect(0, max_share=1.0).blobs == 1
    with pytest.raises(BlobNotFoundError):
        lease.renew()
    with pytest.raises(BlobNotFoundError):
        store.lease("a")
    with pytest.raises(InvalidArgumentError):
        store.lease("a", ttl=0)


def test_a_lease_says_that_a_small_object_was_deleted(tmp_path: Path) -> None:
    with BlobStore(tmp_path, "sqlite") as store:
        store.put("small", "a")
        with store.lease("a") as lease:
            lease.renew()
            store.delete("a")
            with pytest.raises(BlobNotFoundError, match="it was deleted"):
                lease.renew()


def test_a_leased_version_is_not_pruned(store: BlobStore) -> None:
    store.put(numbers(1), key="a")
    with store.lease("a"):
        store.put(numbers(2), key="a")
        assert [each.version for each in store.history("a")] == [2, 1]
    store.put(numbers(3), key="a")
    assert [each.version for each in store.history("a")] == [3]


@pytest.mark.parametrize("make_object", [str, numbers], ids=["small", "large"])
def test_bytes_of_a_version_that_is_dropped_stay_where_the_new_one_has_them(
    make: Make, make_object: Callable[[int], Any]
) -> None:
    store = make(keep=2)
    for number in (1, 2, 1):
        store.put(make_object(number), key="put")
        store.put_many({"many": make_object(number + 10)})
    for number in (21, 22):
        store.put(make_object(number), key="restored")
    store.restore("restored", 1)
    store.collect(0, max_share=1.0)
    for key, number in (("put", 1), ("many", 11), ("restored", 21)):
        assert [each.version for each in store.history(key)] == [3, 2]
        np.testing.assert_array_equal(store.get(key), make_object(number))
        np.testing.assert_array_equal(store.get(key, version=2), make_object(number + 1))
    assert store.verify(digests=True).ok


def test_a_version_is_found_while_it_becomes_the_newest_one(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves from one table to the other between two statements of a read."""
    store, other = make(keep=True), make(keep=True)
    for call in (store.get, store.entry):
        other.delete("a")
        for number in (1, 2, 3):
            other.put(numbers(number), key="a")
        if not hasattr(store._backend, "_one"):
            continue
        one: Callable[..., Any] = store._backend._one  # type: ignore[attr-defined]
        looks: list[str] = []

        def look(sql: str, values: Any, one: Any = one, looks: list[str] = looks) -> Any:
            found = one(sql, values)
            looks.append(sql)
            if len(looks) == 1:
                other.delete("a", version=3)
            elif len(looks) == 2:
                other.put(numbers(4), key="a")
            return found

        monkeypatch.setattr(store._backend, "_one", look, raising=False)
        assert call("a", version=2) is not None
        monkeypatch.undo()
        assert call("a", version=9) is None


def test_lineage_follows_inputs_and_ends_at_circles(store: BlobStore) -> None:
    store.put([1], key="raw")
    store.put([2], key="clean", inputs=["raw"])
    clean = store.entry("clean")
    assert clean is not None
    store.put([3], key="model", inputs=[clean, ("raw", 1)])
    # A circle: version 1 stays its input, though nothing has that digest any more.
    store.put([4], key="raw", inputs=["model"])
    found = store.lineage("model")
    assert [each.key for each in found.steps[found.root]] == ["clean", "raw"]
    assert str(found).splitlines()[:3] == [
        "model (version 1)",
        "  clean (version 1)",
        "    raw (version 1) (not in the catalogue)",
    ]
    assert len(store.lineage("raw", depth=1).entries) == 2
    with pytest.raises(BlobNotFoundError, match="missing"):
        store.put(1, key="x", inputs=["missing"])
    assert not store.exists("x")
    with pytest.raises(BlobNotFoundError):
        store.lineage("missing")


def test_put_many_is_one_step(store: BlobStore) -> None:
    made = store.put_many({"a": 1, "b": LARGE, "c": LARGE}, {"a": {"x": 1}})
    assert [str(each) for each in made] == ["a", "b", "c"]
    assert store.list(metadata_filter={"x": 1}) == ["a"]
    np.testing.assert_array_equal(store.get("c"), LARGE)
    with pytest.raises(SerializationError):
        store.put_many({"d": 1, "e": lambda: None})
    with pytest.raises(InvalidArgumentError):
        store.put_many({"d": 1}, {"z": {}})
    assert store.list() == ["a", "b", "c"]
    assert store.put_many({}) == []
    # As in put, an equal object keeps its metadata where none is given.
    store.put_many({"a": 1, "b": LARGE}, {"a": None, "b": {}})  # type: ignore[dict-item]
    assert store.list(metadata_filter={"x": 1}) == ["a"]


def test_small_puts_answer_alike_whatever_came_before(store: BlobStore) -> None:
    """New keys go into the backend by a shorter way while they follow each other."""
    held: dict[str, tuple[int, int]] = {}
    for key, value in (
        (0, 0),
        (1, 1),
        (1, 2),
        (2, 3),
        (3, 3),
        (4, 4),
        (4, 4),
        (5, 5),
        (0, 6),
        (6, 7),
        (7, 8),
    ):
        name = f"key {key}"
        version, before = held.get(name, (0, -1))
        is_shared = any(value == other for _, other in held.values())
        made = store.put({"value": value}, name, {"number": value}, expect=ABSENT if not version else ANY)
        held[name] = (version + (value != before), value)
        assert (made.version, made.is_new, made.is_shared) == (held[name][0], value != before, is_shared)
        entry = store.entry(name)
        assert entry is not None
        assert (made.etag, made.digest, entry.metadata) == (entry.etag, entry.digest, {"number": value})
        with pytest.raises(BlobExistsError):
            store.put({"value": 100 + value}, name, expect=ABSENT)
    assert {key: store.get(key) for key in store} == {key: {"value": at} for key, (_, at) in held.items()}


def test_find_takes_conditions_orders_and_limits(store: BlobStore) -> None:
    for epoch, loss in enumerate([0.9, 0.4, 0.1, 0.3]):
        store.put(epoch, key=f"checkpoint_epoch_{epoch:04d}", metadata={"epoch": epoch, "loss": loss})
    store.put("notes", key="readme")
    (best,) = store.find(order_by="metadata.loss", limit=1)
    assert best.key == "checkpoint_epoch_0002"
    assert [each.metadata["epoch"] for each in store.find({"metadata.loss": {"<": 0.4}})] == [2, 3]
    assert [each.key for each in store.find({"type": "str"})] == ["readme"]
    assert [each.key for each in store.find(order_by="-metadata.loss")][-1] == "readme"
    assert [
        each.key for each in store.find({"or": [{"key": "readme"}, {"metadata.epoch": {"in": [0]}}]})
    ] == [
        "checkpoint_epoch_0000",
        "readme",
    ]
    pages: list[str] = []
    after = None
    while page := [*store.find({"key": {"prefix": "check"}}, order_by="metadata.loss", limit=3, after=after)]:
        pages += [each.key[-1] for each in page]
        after = page[-1]
    assert pages == ["2", "3", "1", "0"]
    with pytest.raises(InvalidArgumentError, match=r"\$gt"):
        store.find({"metadata.loss": {"$gt": 1}})
    with pytest.raises(InvalidArgumentError, match=r"metadata\.loss"):
        store.find(order_by="loss")
    with pytest.raises(BlobNotFoundError):
        store.find(after="missing")


def test_an_index_changes_nothing_but_the_time(store: BlobStore) -> None:
    for at in range(20):
        store.put(at, key=f"{at:02}", metadata={"n": at % 3, "v2.1": at})
    before = [each.key for each in store.find({"metadata.n": 1})]
    if "JsonBackend" in repr(store):
        with pytest.raises(UnsupportedOperation, match="has no indexes"):
            store.create_index("metadata.n")
        assert store.indexes() == []
    else:
        store.create_index("metadata.n")
        store.create_index("metadata.n")
        store.create_index(("metadata", "v2.1"))
        assert store.indexes() == [("metadata", "n"), ("metadata", "v2.1")]
    assert [each.key for each in store.find({"metadata.n": 1})] == before
    assert [each.key for each in store.find({("metadata", "v2.1"): 5})] == ["05"]  # type: ignore[dict-item]
    store.drop_index("metadata.n")
    store.drop_index("metadata.n")
    with pytest.raises(InvalidArgumentError):
        store.create_index("loss")


def test_collect_keeps_what_is_young_and_refuses_too_much(store: BlobStore, tmp_path: Path) -> None:
    for seed in range(4):
        store.put(numbers(seed), key=str(seed))
    store.delete("0")
    assert store.collect().blobs == 0
    with pytest.raises(DeleteRefusedError, match=r"max_share=1\.0"):
        store.collect(0)
    assert store.collect(0, dry_run=True, max_share=0.5).blobs == 1
    assert store.collect(0, max_share=0.5).blobs == 1
    assert store.verify().ok
    store.clear()
    with pytest.raises(DeleteRefusedError):
        store.collect(0)
    assert store.collect(0, max_share=1.0).blobs == 3
    assert store.verify().ok
    assert files(tmp_path / "store") == []


def test_verify_finds_what_is_gone_damaged_and_unknown(store: BlobStore, tmp_path: Path) -> None:
    for seed in range(3):
        store.put(numbers(seed), key=str(seed))
    assert store.verify().ok
    digests = {key: store.entry(key).digest for key in "012"}  # type: ignore[union-attr]
    places = {key: next((tmp_path / "store/blobs").rglob(f"{digests[key]}*")) for key in "012"}
    places["0"].unlink()
    data = bytearray(places["1"].read_bytes())
    data[len(data) // 2] ^= 1
    places["1"].write_bytes(data)
    stray = places["2"].with_name(places["2"].name.replace(digests["2"], "f" * 64))
    stray.write_bytes(b"stray")
    looked: list[int] = []
    found = store.verify(progress=looked.append)
    assert (found.missing, found.damaged) == ([("0", 1)], [("1", 1)])
    assert [Path(each).name for each in found.unknown] == [stray.name]
    assert looked == [1, 2, 3]
    for key in "01":
        with pytest.raises(IntegrityError):
            store.get(key)
    assert not store.exists("0")
    assert store.verify(repair=True).repaired
    assert not stray.exists()
    assert not places["1"].exists()
    # The same object, put again, is whole again.
    store.put(numbers(0), key="0")
    np.testing.assert_array_equal(store.get("0"), numbers(0))


def test_verify_computes_the_digests_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(keep=True)
    for name, value in samples.values().items():
        store.put(value, key=name)
    store.put(Model([1.0]), key="pickle")
    store.put(Model([2.0] * 50_000), key="pickle")
    store.put_file(io.BytesIO(b"line\n" * 100_000), "file")
    looked: list[int] = []
    found = store.verify(digests=True, progress=looked.append)
    assert (found.ok, found.differing, found.unread) == (True, [], [])
    assert looked == sorted(looked)

    def change(tx: Transaction) -> None:
        for key in changed:
            row = tx.row(key)
            assert row is not None
            tx.put_row(replace(row, digest="f" * 64))

    changed = ["array large", "bytes large", "file", "frozenset", "pandas", "pickle", "text"]
    store._backend.transact(change)
    assert store.verify().ok
    found = store.verify(digests=True)
    assert sorted(found.differing) == [(key, 2 if key == "pickle" else 1) for key in changed]
    assert not found.ok
    store.close()
    # A pickle isn't read for it. What can't be read here is said.
    other = make(pickle_key=b"k" * 32, keep=True)
    monkeypatch.delattr(samples, "User")
    found = other.verify(digests=True)
    assert (found.unread, len(found.differing)) == ([("pydantic", 1)], len(changed))


def test_verify_looks_at_the_bytes_in_the_database(tmp_path: Path) -> None:
    with BlobStore(tmp_path, "sqlite") as store:
        store.put("x" * 1000, "a")
        store.put("short", "b")
    with sqlite3.connect(tmp_path / "cache_metadata.db") as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            if "data" in columns:
                connection.execute(
                    f"UPDATE {table} SET data = CAST(x'00' || substr(data, 2) AS BLOB) WHERE data NOT NULL"
                )
    connection.close()
    with BlobStore(tmp_path) as store:
        assert store.verify().ok
        assert store.verify(digests=True).damaged == [("a", 1), ("b", 1)]


def test_usage_tells_own_from_shared(store: BlobStore) -> None:
    store.put(numbers(1), key="run1/a")
    store.put(numbers(1), key="run2/a")
    store.put(numbers(2), key="run2/b")
    store.put("text", key="readme")
    found = store.usage()
    size = store.entry("run1/a").file_size  # type: ignore[union-attr]
    assert found.by_prefix["run1/"].own == 0
    assert found.by_prefix["run1/"].shared == size
    assert found.by_prefix["run2/"].entries == 2
    assert found.by_type["numpy.ndarray"].shared == 0
    assert found.by_age["today"].entries == found.total.entries == 4


def test_open_gives_the_file_of_the_format(store: BlobStore) -> None:
    frame = pd.DataFrame({"a": range(20_000)})
    store.put(frame, key="frame")
    store.put("text " * 10_000, key="text")
    with store.open("frame") as file:
        pd.testing.assert_frame_equal(pd.read_parquet(file), frame)
    with store.open("text") as file:
        assert file.read() == b"text " * 10_000


def test_a_masked_array_is_not_mapped_without_its_mask(make: Make) -> None:
    store = make(compression=None)
    store.put(np.ma.array(LARGE, mask=LARGE > 7), "masked")
    with pytest.raises(UnsupportedOperation, match=r"numpy\.ma\.MaskedArray"):
        store.get("masked", mmap=True)
    assert store.get("masked").mask.sum() == LARGE.size - 8


def test_an_array_is_mapped_read_only(make: Make) -> None:
    store = make(compression="none")
    store.put(LARGE, key="array")
    mapped = store.get("array", mmap=True)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, LARGE)
    with pytest.raises(ValueError, match="read-only"):
        mapped[0, 0] = 1
    store.put({"a": 1}, key="dict")
    with pytest.raises(UnsupportedOperation):
        store.get("dict", mmap=True)
    assert store.get("missing", mmap=True) is None


def test_two_handles_see_the_same(make: Make) -> None:
    one, two = make(), make()
    one.put(1, key="a", metadata={"x": 1})
    assert two.get("a") == 1
    two.update_metadata("a", {"y": 2})
    assert one.get_metadata("a")["metadata"] == {"x": 1, "y": 2}  # type: ignore[index]
    two.delete("a")
    assert one.list() == []


def test_what_is_closed_says_so(make: Make) -> None:
    with make() as store:
        store.put(1, key="a")
    store.close()
    for call in (lambda: store.get("a"), lambda: store.put(1), store.list, lambda: store.find()):
        with pytest.raises(StoreClosedError):
            call()
    assert make().get("a") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "brotli"}, {"compression_level": 0}, {"compression_level": 10}, {"backend": "mongo"},
        {"blob_backend": "disk"}, {"blob_backend": 5}, {"keep": 0}, {"keep": -1}, {"pickles": "maybe"},
        {"cache_dir": 5},
    ],
    ids=repr,
)  # fmt: skip
def test_options_that_cant_be_right_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        BlobStore(**{"cache_dir": tmp_path / "store", **options})
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", "blosclz", "none"])
def test_every_codec_gives_back_what_it_took(make: Make, compression: str) -> None:
    store = make(compression=compression, compression_level=6)
    store.put(LARGE, key="array")
    store.put("text " * 20_000, key="text")
    np.testing.assert_array_equal(store.get("array"), LARGE)
    assert store.get("text") == "text " * 20_000
    assert (store.entry("text").file_size < 50_000) == (compression != "none")  # type: ignore[union-attr]


def test_pickles_of_others_are_not_read(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make().put(Model([1.0]), key="a")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
    stranger = make()
    with pytest.raises(UntrustedDataError, match="pickle_key"):
        stranger.get("a")
    # The same object of another user is another blob, which that user can read.
    stranger.put(Model([1.0]), key="b")
    assert stranger.get("b") == Model([1.0])
    with pytest.raises(UntrustedDataError):
        make(pickles="never").get("a")
    with pytest.raises((SerializationError, UntrustedDataError)):
        make(pickles="never").put(Model([1.0]), key="c")
    assert not stranger.exists("c")


def test_values_that_nothing_takes_leave_nothing(store: BlobStore) -> None:
    with pytest.raises(SerializationError):
        store.put(lambda: None, key="a")
    assert store.list() == []
    assert store.verify().ok


@pytest.mark.parametrize("shape", ["other folder", "same folder", "bucket"])
def test_migrate_takes_everything_and_can_be_repeated(make: Make, tmp_path: Path, shape: str) -> None:
    source = make(keep=True)
    for seed in range(3):
        source.put(numbers(seed), key="a", metadata={"seed": seed})
    source.put({"small": 1}, key="b", inputs=["a"])
    source.alias("prod", "a", 2)
    folder = tmp_path / ("store" if shape == "same folder" else "target")
    kept = MemoryStore() if shape == "bucket" else None
    target = BlobStore(folder, backend=other_backend(source), blob_backend=kept, keep=True)
    moved = source.migrate(target)
    assert (moved.entries, moved.present) == (4, 0)
    assert source.migrate(target).present == 4
    for version in (1, 2, 3):
        np.testing.assert_array_equal(target.get("a", version=version), numbers(version - 1))
    assert target.get("b") == {"small": 1}
    assert [each.created for each in target.history("a")] == [each.created for each in source.history("a")]
    assert target.resolve("prod").version == 2  # type: ignore[union-attr]
    assert target.lineage("b").entries.keys() == source.lineage("b").entries.keys()
    assert target.put(numbers(9), key="a").version == 4
    assert target.verify().ok
    if shape == "same folder":
        source.delete("b")
        source.put(numbers(5), key="c")
        source.delete("c")
        with pytest.raises(DeleteRefusedError, match="another catalogue"):
            source.collect(0, max_share=1.0)
    with pytest.raises(InvalidArgumentError):
        source.migrate(source)


def test_a_second_migration_keeps_what_the_target_has_since(make: Make, tmp_path: Path) -> None:
    source = make()
    source.put(numbers(1), key="a")
    with BlobStore(tmp_path / "target", other_backend(source), keep=1) as target:
        source.migrate(target)
        target.put(numbers(2), key="a")
        source.migrate(target)
        np.testing.assert_array_equal(target.get("a"), numbers(2))
        assert [each.version for each in target.history("a")] == [2, 1]
        # A source that went on replaces it, and what the target had stays as an earlier version.
        source.put(numbers(3), key="b")
        source.put(numbers(4), key="b")
        target.put(numbers(5), key="b")
        source.migrate(target)
        np.testing.assert_array_equal(target.get("b"), numbers(4))
        np.testing.assert_array_equal(target.get("b", version=1), numbers(5))
        target.collect(0, max_share=1.0)
        assert target.verify().ok


def other_backend(store: BlobStore) -> str:
    return "sqlite" if "json" in repr(store).lower() else "json"


def test_an_error_of_a_store_during_an_export_stays_what_it_is(tmp_path: Path) -> None:
    for raised in (BlobNotFoundError(key="a"), ReadOnlyError("it's read-only", key="a")):
        with pytest.raises(type(raised)) as caught, exported_to(tmp_path / "x.zip"):
            raise raised
        assert caught.value is raised
        assert list(tmp_path.iterdir()) == []


def test_a_private_export_that_is_replaced_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with exported_to(path) as file:
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
        file.write(b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)


def test_an_export_can_be_read_by_a_person_and_by_us(make: Make, tmp_path: Path) -> None:
    import zipfile

    store = make(keep=True)
    store.put("first", key="notes/today", metadata={"by": "ana"})
    store.put("second", key="notes/today")
    store.put(LARGE, key="../array")
    store.put(LARGE, key="copy")
    store.alias("prod", "notes/today", 1)
    path = tmp_path / "out.zip"
    assert store.export(path) == 3
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read("catalog.json"))
        assert archive.read("objects/notes/today.v1.txt") == b"first"
    assert len(names) == 4
    assert not any(".." in name.split("/") for name in names)
    assert [each["key"] for each in manifest["entries"]] == ["../array", "copy", "notes/today", "notes/today"]
    target = BlobStore(tmp_path / "target")
    assert target.import_from(path).entries == 4
    assert target.import_from(path).present == 4
    assert (target.get("notes/today"), target.get("notes/today", version=1)) == ("second", "first")
    assert target.resolve("prod").metadata == {"by": "ana"}  # type: ignore[union-attr]
    (tmp_path / "bad.zip").write_bytes(path.read_bytes()[:-100])
    for bad in ("bad.zip", "missing.zip"):
        with pytest.raises(StoreUnavailableError, match=bad):
            target.import_from(tmp_path / bad)


WRONG = [
    ("key", 5), ("key", ""), ("key", "a\0"), ("version", "1"), ("version", 0), ("version", True),
    ("digest", "../x"), ("size", -1), ("metadata", [1]), ("metadata", None), ("metadata", {"a": math.nan}),
    ("crc", None), ("created", 10**25), ("extension", "/../x"), ("inputs", [["a"]]),
    ("file", "nowhere"), ("type", 5),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_an_export_that_was_changed_changes_nothing(
    make: Make, tmp_path: Path, name: str, value: object
) -> None:
    """Also if the fault is in its last entry."""
    with BlobStore(tmp_path / "source") as source:
        source.put_many({"a": 1, "b": 2})
        source.export(tmp_path / "good.zip")
    with ZipFile(tmp_path / "good.zip") as good, ZipFile(tmp_path / "bad.zip", "w") as bad:
        manifest = json.loads(good.read("catalog.json"))
        manifest["entries"][-1][name] = value
        for each in good.namelist():
            bad.writestr(each, json.dumps(manifest) if each == "catalog.json" else good.read(each))
    store = make()
    with pytest.raises(IntegrityError, match=r"bad\.zip' isn't an export"):
        store.import_from(tmp_path / "bad.zip")
    assert store.list() == []
    assert store.import_from(tmp_path / "good.zip").entries == 2


def test_entries_as_frames_and_parquet(store: BlobStore, tmp_path: Path) -> None:
    store.put(1, key="a", metadata={"loss": 0.5, "tag": "x", "n": {"deep": 1}})
    store.put(2, key="b", metadata={"loss": 1, "tag": 5})
    frame = store.to_frame()
    assert list(frame["key"]) == ["a", "b"]
    assert list(frame["metadata.loss"]) == [0.5, 1.0]
    assert list(frame["metadata.tag"]) == ['"x"', "5"]
    assert store.export(tmp_path / "out.parquet", {"metadata.loss": 1}, format="parquet") == 1
    assert list(pd.read_parquet(tmp_path / "out.parquet")["key"]) == ["b"]


def test_blobs_lie_where_the_backend_says(tmp_path: Path, make: Make) -> None:
    store = make(blob_backend=FilesystemBlobBackend(tmp_path / "sharded", shard_chars=3))
    key = store.put(numbers(6), key="a")
    (path,) = (tmp_path / "sharded").rglob("*.b2nd")
    assert path.parent.name == key.digest[:3]
    assert path.name.startswith(key.digest)
    assert path.suffix == ".b2nd"
    memory = MemoryStore()
    other = make(blob_backend=memory)
    other.put(numbers(7), key="b")
    assert [name for name in memory if name.endswith(".b2nd")]
    uri = make(blob_backend=f"file://{tmp_path}/by-uri")
    uri.put(numbers(8), key="c")
    assert (tmp_path / "by-uri").is_dir()


def test_a_moved_folder_opens(make: Make, tmp_path: Path) -> None:
    store = make()
    store.put(LARGE, key="a", metadata={"x": 1})
    store.close()
    if "postgresql" in repr(store).lower():
        return
    (tmp_path / "store").rename(tmp_path / "moved")
    backend = "json" if (tmp_path / "moved/cache_metadata.json").exists() else "sqlite"
    moved = BlobStore(tmp_path / "moved", backend=backend)
    np.testing.assert_array_equal(moved.get("a"), LARGE)


def test_a_catalogue_goes_to_another_process_as_its_settings(make: Make, tmp_path: Path) -> None:
    store = make(keep=2, compression="zstd", content_addressable=True)
    store.put(1, key="a")
    with pickle.loads(pickle.dumps(store)) as other:
        assert other.get("a") == 1
        assert other.put(2, key="a").version == 2
        assert len(other.history("a")) == 2
        assert len(other.put(3)) == 64
    with pytest.raises(UnsupportedOperation, match="env:NAME"):
        pickle.dumps(make(pickle_key=b"k" * 32))


def test_the_password_of_a_store_stays_here(tmp_path: Path) -> None:
    with BlobStore(tmp_path, blob_backend="s3://AKIA:s3cret@bucket?region=eu-west-1") as store:
        assert b"s3cret" not in pickle.dumps(store)
        assert "s3cret" not in repr(store)


def test_a_program_may_change_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for backend in ("json", "sqlite"):
        with BlobStore(f"of {backend}", backend=backend) as store:
            store.put(1, key="a")
            (tmp_path / "elsewhere").mkdir(exist_ok=True)
            with monkeypatch.context() as patch:
                patch.chdir(tmp_path / "elsewhere")
                store.put(numbers(1), key="b")
                assert store.list() == ["a", "b"]
    assert not any((tmp_path / "elsewhere").iterdir())


def test_stored_keys_are_plain_keys(store: BlobStore) -> None:
    key = store.put(1, key="a")
    assert pickle.loads(pickle.dumps(key)) == "a"
    assert json.dumps({"key": key}) == '{"key": "a"}'


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(tmp_path))
    blobs = FilesystemBlobBackend("~/bytes")
    with BlobStore("~/store", backend="sqlite", blob_backend=blobs) as store:
        store.put({"a": 1}, key="a")
    assert (tmp_path / "store" / "cache_metadata.db").exists()
    assert blobs.path("x") == tmp_path / "bytes" / "x"
    assert not list((tmp_path / "cwd").iterdir())


def test_a_folder_is_opened_by_what_it_has(tmp_path: Path) -> None:
    with BlobStore(tmp_path, backend="sqlite") as store:
        store.put(1, "a")
    with BlobStore(tmp_path) as store:
        assert store.get("a") == 1
        assert "SqliteBackend" in repr(store)
    assert not (tmp_path / "cache_metadata.json").exists()
    with BlobStore(tmp_path / "new") as store:
        store.put(1, "a")
        assert "JsonBackend(" in repr(store)
    assert (tmp_path / "new/cache_metadata.json").exists()


def test_a_uri_is_no_folder() -> None:
    with pytest.raises(InvalidArgumentError, match=r"not a URI such as s3://\.\.\."):
        BlobStore("s3://key:secret@bucket/models")


def test_what_is_not_there_is_said(make: Make) -> None:
    store = make()
    for call in (store.open, store.lineage, store.lease, lambda key: store.alias("prod", key)):
        with pytest.raises(BlobNotFoundError, match="'absent': it isn't in the catalogue"):
            call("absent")


def test_a_put_that_fails_names_its_key(make: Make) -> None:
    class Full(MemoryStore):
        def _put(self, key: str, data: Any) -> Any:
            if "/" in key:
                raise StoreUnavailableError("the disk is full", key=key)
            return super()._put(key, data)

    with pytest.raises(StoreUnavailableError, match="'large': the disk is full"):
        make(blob_backend=Full()).put(np.random.default_rng(1).bytes(100_000), "large")


@pytest.mark.parametrize(("first", "second"), [("sqlite", "json"), ("json", "sqlite")])
def test_blobs_of_another_catalogue_are_refused_before_a_file_is_made(
    tmp_path: Path, first: str, second: str
) -> None:
    with BlobStore(tmp_path, first) as store:
        store.put(numbers(1), "a")
    before = sorted(path.name for path in tmp_path.iterdir())
    with BlobStore(tmp_path, second) as store:
        assert store.list() == []
        with pytest.raises(InvalidArgumentError, match="belong to another catalogue"):
            store.put(numbers(1), "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_database_that_was_cut_to_nothing_isnt_taken_for_a_new_one(tmp_path: Path) -> None:
    with BlobStore(tmp_path, "sqlite") as store:
        store.put(numbers(1), "a")
    (tmp_path / "cache_metadata.db").write_bytes(b"")
    for backend in (None, "sqlite"):
        with pytest.raises(IntegrityError, match=r"cache_metadata\.db' is empty"):
            BlobStore(tmp_path, backend)
    # Without blobs, a program was killed as it made the file.
    (tmp_path / "new").mkdir()
    (tmp_path / "new/cache_metadata.db").write_bytes(b"")
    with BlobStore(tmp_path / "new") as store:
        store.put(1, "a")
        assert "SqliteBackend" in repr(store)
    # Next to a JSON file, an empty one is no second catalogue.
    with BlobStore(tmp_path / "json", "json") as store:
        store.put(1, "a")
    (tmp_path / "json/cache_metadata.db").write_bytes(b"")
    with BlobStore(tmp_path / "json") as store:
        assert store.get("a") == 1


def test_a_folder_with_two_catalogues_wants_to_know_which(tmp_path: Path) -> None:
    for backend in ("json", "sqlite"):
        with BlobStore(tmp_path, backend) as store:
            store.put(backend, key="a")
    with pytest.raises(InvalidArgumentError, match="backend='json' or 'sqlite'"):
        BlobStore(tmp_path)
    with BlobStore(tmp_path, "sqlite") as store:
        assert store.get("a") == "sqlite"
