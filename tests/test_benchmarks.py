"""The benchmarks run: one medium, few keys, without peers, with or without matplotlib."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_quick_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--no-peers", "--only", "memory,import"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| memory: get | <= 0.2 us, or 2x a method that looks a dict up |" in text
    assert "| import holdall | < 60 ms more CPU than a bare interpreter |" in text
    assert "holdall MemoryStore" in text
    assert str(tmp_path) not in text
    assert str(ROOT) not in text


def test_layers_and_syncs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--no-disk", "--only", "layers,sync"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "RESULTS.md").read_text()
    assert (
        "| EncryptedStore: get | <= the store's get plus 1.3x SHA-256, HKDF and AES-256-GCM alone |" in text
    )
    assert "| PrefixStore: get of sqlite | <= 0.4 us more than the store |" in text
    assert "| PrefixStore: put of files | <= 1 us more than the store |" in text
    assert "| a killed sync run again, tmpfs | < 1 % copied again | 0.00 % | yes |" in text
    assert '| a hit, fresh: "immutable" |' in text


def test_servers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--no-peers", "--only", "bucket,sql,http"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "RESULTS.md").read_text()
    for line in ("BucketStore: get", "BucketStore: list", "SqlStore: put", "copy_store: a crawl"):
        assert f"| {line} |" in text
    assert "not in this run" not in text


def test_catalog(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--no-peers", "--only", "catalog"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "RESULTS.md").read_text()
    for line in (
        "put, 1,000 entries",
        "get_metadata, 100,000 entries",
        "find, 10 hits among 100,000",
        "put of a large array, smooth",
    ):
        assert f"| BlobStore: {line} |" in text
    assert "not in this run" not in text


def test_front_door(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--no-peers", "--no-disk", "--only", "door"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "RESULTS.md").read_text()
    for line in (
        "ValueStore, raw: get, sqlite",
        "ValueStore, json: put a small dict",
        "@cached: a hit, 1 KiB of bytes",
        "stream of JSON Lines",
        "holdall keys: start",
    ):
        assert f"| {line} |" in text
    assert "not in this run" not in text


def test_faces(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--no-peers", "--only", "faces"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "RESULTS.md").read_text()
    for place in ("tmpfs", "disk"):
        assert f"| joblib, a FilesystemStore: a hit, a small dict, {place} |" in text
    assert "not in this run" not in text


def test_a_peer_that_is_not_installed(tmp_path: Path) -> None:
    """Nothing is measured, so that no row stays empty; the package is named."""
    program = "import sys; sys.modules['zict'] = None; from benchmarks.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "--quick", "--only", "memory", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "zict: ModuleNotFoundError" in done.stderr
    assert "pip install 'zict'" in done.stderr
    assert "make bench" in done.stderr
    assert not (tmp_path / "RESULTS.md").exists()
