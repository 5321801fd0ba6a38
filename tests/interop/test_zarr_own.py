"""zarr's own tests of groups, arrays and codecs, with its memory store replaced by ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.effort import effort

SOURCE = Path(sys.prefix, "zarr")
"""zarr's source. Its wheel comes without tests."""
USUAL = ("test_group.py", "test_array.py", "test_codecs", "test_metadata/test_consolidated.py")
MORE = (
    "test_metadata",
    "test_indexing.py",
    "test_attributes.py",
    "test_v2.py",
    "test_buffer.py",
    "test_tree.py",
)


def run(
    tmp_path: Path, files: tuple[str, ...], few: int, corrupting: bool = False
) -> tuple[dict[str, Any], str]:
    """Run zarr's tests, and return what `zarr_memory` reports, and what pytest prints.

    Args:
        tmp_path: Where the report goes.
        files: Which of them.
        few: With how many sets of parameters each test is run; 0 for all.
        corrupting: Whether every read is corrupted.
    """
    if not (SOURCE / "tests").is_dir():
        pytest.fail(f"{SOURCE} lacks zarr's tests; to get them: make .venv/.peers")
    report = tmp_path / "report.json"
    environment = {
        **os.environ,
        "PYTHONPATH": os.path.dirname(__file__),
        "REPLACED_REPORT": str(report),
        "REPLACED_FEW": str(few),
        "REPLACED_CORRUPTING": "yes" if corrupting else "",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=native",
        "-p",
        "zarr_memory",
        "-p",
        "no:cacheprovider",
    ]
    ended = subprocess.run(
        # Its addopts are of a plug-in that measures.
        [*command, "-o", "addopts=", f"--basetemp={tmp_path}/files", *(f"tests/{name}" for name in files)],
        cwd=SOURCE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = ended.stdout[-3000:] + ended.stderr[-1000:]
    assert report.exists(), printed
    return json.loads(report.read_text()), printed


def test_groups_arrays_and_codecs(tmp_path: Path) -> None:
    report, printed = run(tmp_path, effort(USUAL + MORE, USUAL), effort(0, 1))
    assert not report["failures"], printed
    assert report["stores"] >= 150, "the memory store isn't replaced"
    assert report["with a store"] >= 150


def test_they_fail_over_a_store_that_corrupts_every_read(tmp_path: Path) -> None:
    files, least = effort((USUAL, 80), (("test_group.py", "test_metadata/test_consolidated.py"), 40))
    report, printed = run(tmp_path, files, 1, corrupting=True)
    assert report["corrupted, failed"] == len(report["failures"]) >= least, printed
    # Some few look at something else than what they read.
    assert report["corrupted"] <= len(report["failures"]) * 1.2, printed
