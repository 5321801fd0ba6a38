"""What the blocks of blobstore.md leave to their reader, and what they do."""

from __future__ import annotations

import inspect
import json
import shutil
import sqlite3
from collections.abc import Callable, Generator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.requirements.reader import Reader
from tests.requirements.running import Supplies
from tests.requirements.servers import Servers

from holdall import BlobStore, StoreClosedError
from holdall.catalog import FilesystemBlobBackend

supplies = Supplies()


class Model:
    """A model of the reader's, which counts how often one is made of bytes."""

    loaded = 0

    def __init__(self, weights: list[float]) -> None:
        self.weights = weights

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.weights == other.weights

    def __hash__(self) -> int:
        return hash(tuple(self.weights))

    def __setstate__(self, state: dict[str, Any]) -> None:
        Model.loaded += 1
        self.__dict__.update(state)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": np.array(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights = list(state["weights"])


def parameters(call: inspect.Signature | Callable[..., Any]) -> list[tuple[str, Any]]:
    """The parameters that need no keyword, with their defaults."""
    signature = call if isinstance(call, inspect.Signature) else inspect.signature(call)
    return [
        (each.name, each.default)
        for each in signature.parameters.values()
        if each.kind is each.POSITIONAL_OR_KEYWORD and each.name != "self"
    ]


def entries(path: Path) -> int:
    """How many entries a catalogue in SQLite has, as another program sees it."""
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT count(*) FROM holdall_catalog_v1_entries").fetchone()[0]
    connection.close()
    return found


@supplies("Quick Start")
def _a_model_with_metadata(reader: Reader, _: Servers) -> Generator[None]:
    reader.names["my_model"] = Model([0.5])
    Model.loaded = 0
    yield
    assert reader["key"] == "model_v1"
    assert reader["model"] == Model([0.5])
    assert Model.loaded == 1, "get_metadata decodes nothing"
    assert reader["meta"]["metadata"] == {"accuracy": 0.95, "author": "alice"}
    assert reader["all_keys"] == reader["model_keys"] == ["model_v1"]
    store = reader["store"]
    assert store.list() == []
    assert store.get("model_v1") is store.get_metadata("model_v1") is None
    assert entries(reader.folder / "my_storage/cache_metadata.db") == 0
    # Equal objects share their bytes, and nothing expires.
    big = np.random.default_rng(0).random(10_000)
    first, second = store.put(big, key="a"), store.put(big.copy(), key="b")
    assert (first.is_shared, second.is_shared, first.digest) == (False, True, second.digest)
    assert len(reader.files("**/*.b2nd", below="my_storage")) == 1


@supplies("Using Built-in Backends")
def _backends_of_bytes(reader: Reader, _: Servers) -> Generator[None]:
    yield
    # Of the three only the last one has kept its name.
    default, explicit = (
        BlobStore(cache_dir="./data"),
        BlobStore(cache_dir="./data", blob_backend="filesystem"),
    )
    made = default, explicit, reader["store"]
    big = np.random.default_rng(0).random(10_000)
    for number, store in enumerate(made):
        assert np.array_equal(store.get(store.put(big, key=f"{number}")), big)
    files = [reader.files("**/*.b2nd", below=folder) for folder in ("data", "temp")]
    assert [len(each) for each in files] == [1, 0], "two share a folder, and one is in memory"
    assert default.list() == explicit.list() == ["0", "1"]
    assert reader["store"].list() == ["2"]


@supplies("Custom Blob Backend Instance")
def _a_backend_of_its_own(reader: Reader, _: Servers) -> Generator[None]:
    yield
    assert type(reader["custom_backend"]) is FilesystemBlobBackend
    key = reader["store"].put(np.random.default_rng(0).random(10_000), key="array")
    (file,) = reader.files("**/*.b2nd", below="cache")
    assert file.startswith(f"{key.digest[:3]}/{key.digest}")
    assert reader["store"].exists("array")
    (reader.folder / "cache" / file).unlink()
    assert not reader["store"].exists("array"), "it checks the metadata and the file"


@supplies("Constructor")
def _parameters_of_a_catalogue(reader: Reader, _: Servers) -> Generator[None]:
    yield
    assert reader.declared is not None
    asked, ours = parameters(reader.declared), parameters(BlobStore)
    assert ours == asked
    assert list(reader.declared.parameters) == [name for name, _ in ours]
    for folder in ("as_str", Path("as_path")):
        with BlobStore(folder) as store:
            assert store.get(store.put({"a": 1})) == {"a": 1}
        assert "cache_metadata.json" in reader.files(below=str(folder)), "the default backend"


@supplies("`put(data, key=None, metadata=None) -> str`")
def _three_puts(reader: Reader, _: Servers) -> Generator[None]:
    reader.names["store"] = store = BlobStore("api")
    reader.names["model"] = Model([1.5])
    yield
    assert reader["key"] == "fraud_detector_v1"
    (made,) = set(store.list()) - {"fraud_detector_v1"}
    assert len(made) == len("a1b2c3d4e5f6g7h8")
    assert isinstance(reader["key"], str)
    assert store.get(made) == store.get("fraud_detector_v1") == Model([1.5])
    assert store.get_metadata("fraud_detector_v1")["metadata"] == {
        "accuracy": 0.95, "training_date": "2024-01-15", "author": "alice",
    }  # fmt: skip


@supplies("`get(key) -> Any | None`")
def _a_get(reader: Reader, _: Servers) -> Generator[None]:
    yield
    assert reader["model"] == Model([1.5])
    assert reader.printed == ""
    assert reader["store"].get("fraud_detector_v2") is None


@supplies("`get_metadata(key) -> dict | None`")
def _a_get_of_metadata(reader: Reader, _: Servers) -> Generator[None]:
    Model.loaded = 0
    yield
    size = reader["meta"]["file_size"]
    assert reader.printed == f"Accuracy: 0.95\nSize: {size} bytes\n"
    assert size > 0
    assert Model.loaded == 0
    assert reader["store"].get_metadata("fraud_detector_v2") is None


@supplies("`update_metadata(key, metadata) -> bool`")
def _an_update(reader: Reader, _: Servers) -> Generator[None]:
    store = reader["store"]
    before = store.get_metadata("fraud_detector_v1")
    yield
    after = store.get_metadata("fraud_detector_v1")
    assert after["metadata"] == {**before["metadata"], "deployed": True, "deployment_date": "2024-01-20"}
    assert [after[name] for name in ("digest", "version", "created")] == [
        before[name] for name in ("digest", "version", "created")
    ], "the object isn't stored again"
    assert store.update_metadata("fraud_detector_v1", {}) is True
    assert store.update_metadata("fraud_detector_v2", {}) is False


@supplies("`delete(key) -> bool`")
def _a_delete(reader: Reader, _: Servers) -> Generator[None]:
    reader["store"].put(1, key="old_model")
    yield
    assert reader.printed == "Deleted\n"
    assert not reader["store"].exists("old_model")
    assert reader["store"].delete("old_model") is False


@supplies("`exists(key) -> bool`")
def _a_look(reader: Reader, _: Servers) -> Generator[None]:
    del reader.names["model"]
    yield
    assert reader["model"] == Model([1.5])
    assert reader["store"].exists("fraud_detector_v1") is True
    assert reader["store"].exists("fraud_detector_v2") is False


@supplies("`list(prefix=None, metadata_filter=None) -> List[str]`")
def _lists(reader: Reader, _: Servers) -> Generator[None]:
    for key in ("model_b", "model_a", "models"):
        reader["store"].put(key, key=key, metadata={"deployed": key == "model_b", "of": [1]})
    yield
    assert set(reader["all_keys"]) >= {"model_a", "model_b", "models", "fraud_detector_v1"}
    assert reader["model_keys"] == ["model_a", "model_b"]
    assert reader["deployed"] == ["fraud_detector_v1", "model_b"]


@supplies("`clear() -> int`")
def _a_clear(reader: Reader, _: Servers) -> Generator[None]:
    there = reader["store"].list()
    yield
    assert reader["count"] == len(there) == 5
    assert reader.printed == "Removed 5 blobs\n"
    assert reader["store"].list() == []


@supplies("`close()`")
def _a_close(reader: Reader, _: Servers) -> Generator[None]:
    closed = reader["store"]
    reader.names["data"] = {"a": 1}
    yield
    for store in (closed, reader["store"]):
        with pytest.raises(StoreClosedError):
            store.get("key")
    with BlobStore("./store") as again:
        assert again.get("key") == {"a": 1}


@supplies("Content-Addressable Storage")
def _digests_as_keys(reader: Reader, _: Servers) -> Generator[None]:
    reader.names["model_a"] = {"weights": np.arange(1e5)}
    yield
    assert reader["key1"] == reader["key2"] == reader["key1"].digest[: len(reader["key1"])]
    assert int(reader["key1"], 16) >= 0
    assert len(reader["store"].list()) == len(reader.files("blobs/**/*.safetensors*", below="models")) == 1
    with BlobStore("elsewhere", content_addressable=True) as other:
        assert other.put({"weights": np.arange(1e5)}) == reader["key1"], "it depends on the content alone"


@supplies("JSON Backend (Default)")
def _a_file_of_json(reader: Reader, _: Servers) -> Generator[None]:
    shutil.rmtree(reader.folder / "store")
    yield
    reader["store"].put([1], key="a")
    json.loads(reader.text("store/cache_metadata.json"))
    assert "cache_metadata.db" not in reader.files(below="store")


@supplies("SQLite Backend")
def _a_database(reader: Reader, _: Servers) -> Generator[None]:
    shutil.rmtree(reader.folder / "store")
    yield
    reader["store"].put([1], key="a")
    assert entries(reader.folder / "store/cache_metadata.db") == 1
    assert "cache_metadata.json" not in reader.files(below="store")


@supplies("Compression Options")
def _codecs(reader: Reader, _: Servers) -> Generator[None]:
    yield
    text = "all work and no play " * 10_000
    sizes: dict[str, int] = {}
    for codec in ("lz4", "zstd", "gzip", "blosclz"):
        for level in (1, 3, 6, 9):
            with BlobStore(f"{codec}{level}", compression=codec, compression_level=level) as store:
                store.put(text, key="text")
                assert store.get("text") == text
                sizes[codec] = store.get_metadata("text")["file_size"]
    assert all(size < len(text) / 10 for size in sizes.values()), sizes
    assert sizes["zstd"] < sizes["lz4"], "the better ratio"
    assert parameters(BlobStore)[2:4] == [("compression", "lz4"), ("compression_level", 3)]


@supplies("Type-Aware Serialization")
def _types(reader: Reader, _: Servers) -> Generator[None]:
    yield
    store = reader["store"]
    store.put(Model([2.5]), key="object")
    assert reader.files("**/*.b2nd", below=".blobstore")
    assert {key: store.get_metadata(key)["format"] for key in store.list()} == {
        "array": "b2nd", "df": "parquet", "object": "pickle",
        # JSON holds it exactly, and anybody may read that.
        "config": "json",
    }  # fmt: skip
    assert store.get("array").shape == (1000, 1000)
    pd.testing.assert_frame_equal(store.get("df"), pd.DataFrame({"a": [1, 2, 3]}))
    assert (store.get("config"), store.get("object")) == ({"config": "value"}, Model([2.5]))
    # Each is a file, whose name ends as the table says.
    files = reader.files("blobs/*/*", below=".blobstore")
    endings = {file.partition(".")[2] for file in files if file.startswith("blobs/")}
    assert endings == {"b2nd", "parquet", "pkl", "json"}


@supplies("Example: ML Model Storage")
def _models(reader: Reader, _: Servers) -> Generator[None]:
    shutil.rmtree(reader.folder / "models")
    reader.names["trained_model"] = Model([3.5])
    yield
    assert reader.printed == "fraud_detector_v2.1: accuracy=0.95\n"
    assert reader["versions"] == ["fraud_detector_v2.1"]
    store = reader["model_store"]
    assert store.get("fraud_detector_v2.1") == Model([3.5])
    metadata = store.get_metadata("fraud_detector_v2.1")["metadata"]
    assert datetime.fromisoformat(metadata.pop("training_date"))
    assert metadata == {
        "model_name": "fraud_detector", "version": "2.1", "accuracy": 0.95, "f1_score": 0.92,
        "author": "alice", "hyperparameters": {"learning_rate": 0.001, "epochs": 100},
        "deployed": True, "deployment_env": "production",
    }  # fmt: skip
    assert store.list(metadata_filter={"deployed": True}) == ["fraud_detector_v2.1"]


@supplies("Example: Pipeline Artifacts")
def _artifacts(reader: Reader, _: Servers) -> Generator[None]:
    raw = pd.DataFrame({"a": [1, 2, 3]})
    reader.names["extract_from_source"] = lambda: raw
    reader.names["transform"] = lambda data: data[data["a"] > 1]
    yield
    run_id, store = reader["run_id"], reader["artifact_store"]
    assert reader.printed == f"{run_id}/raw_data: extract\n{run_id}/transformed: transform\n"
    pd.testing.assert_frame_equal(store.get(f"{run_id}/raw_data"), raw)
    pd.testing.assert_frame_equal(store.get(f"{run_id}/transformed"), raw[raw["a"] > 1])
    metadata = store.get_metadata(f"{run_id}/transformed")["metadata"]
    assert metadata == {"stage": "transform", "row_count": 2, "depends_on": f"{run_id}/raw_data"}


@supplies("Example: Training Checkpoints")
def _checkpoints(reader: Reader, _: Servers) -> Generator[None]:
    reader.names.update(model=Model([0.0]), current_lr=0.01, epochs=0)

    def train_epoch(model: Model) -> float:
        reader.names["epochs"] += 1
        model.weights = [float(reader.names["epochs"])]
        return abs(reader.names["epochs"] - 41) / 100

    reader.names["train_epoch"] = train_epoch
    yield
    assert reader["checkpoint_store"].list() == [
        f"checkpoint_epoch_{epoch:04d}" for epoch in range(0, 100, 10)
    ]
    assert (reader["best_key"], reader["best_loss"]) == ("checkpoint_epoch_0040", 0.0)
    assert reader["model"].weights == [41.0]
    assert reader["meta"]["metadata"] == {"epoch": 90, "loss": 0.5, "learning_rate": 0.01}
