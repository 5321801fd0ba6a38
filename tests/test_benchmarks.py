"""The benchmarks run: one medium, few keys, with or without peers and matplotlib."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_quick_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "memory", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| memory: get | <= 2 us, or 4x a method that looks a dict up |" in text
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
    assert "| PrefixStore: get | <= 5 us more than the store |" in text
    assert "| a killed sync run again, tmpfs | < 1 % copied again | 0.00 % | yes |" in text
    assert '| a hit, fresh: "immutable" |' in text
