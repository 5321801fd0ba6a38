"""ls and keys PREFIX; verify by HOLDALL_URI; failures that are alike."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from holdall.cli.reports import Failures


@pytest.fixture
def filled(holdall: Any) -> Any:
    for key in ("readme", "logs/1", "logs/2", "logs/old/3", "logs2"):
        holdall("put", key, key)
    return holdall


def test_ls_lists_one_folder(filled: Any) -> None:
    assert filled("ls").decode().split() == ["logs/", "logs2", "readme"]
    assert filled("ls", "logs/").decode().split() == ["1", "2", "old/"]
    assert filled("ls", "logs").decode().split() == ["1", "2", "old/"]
    assert filled("ls", "lo").decode().split() == ["logs/", "logs2"]
    assert filled("ls", "--long", "logs/").decode().split("\n")[0].split()[0::3] == ["6", "1"]
    assert filled("ls", "--json").count(b"\n") == 3
    assert "starts with this" in filled.error("ls", "none/", code=1)


def test_keys_takes_a_prefix(filled: Any) -> None:
    assert filled("keys", "logs/").split() == [b"logs/1", b"logs/2", b"logs/old/3"]
    assert filled("keys", "logs") == filled("keys", "--prefix", "logs")
    assert "not both" in filled.error("keys", "logs", "--prefix", "logs", code=2)


def test_verify_takes_the_store_that_is_set(filled: Any, tmp_path: Path) -> None:
    assert b"5 checked" in filled("verify")
    assert b"5 checked" in filled("verify", "--store", "store", uri="")
    assert "not both" in filled.error("verify", "./store", "--store", "store", code=2)
    assert "there is nothing at" in filled.error("verify", code=4, uri=str(tmp_path / "typo"))


def test_failures_that_are_alike_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with Failures() as failures:
        for number in range(25):
            failures.report(f"'key {number}': no space left on device")
        failures.report("'other': is damaged")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 12
    assert lines[9] == "holdall: 'key 9': no space left on device"
    assert lines[10] == "holdall: 'other': is damaged"
    assert lines[11] == "holdall: and 15 more failures like this: ...: no space left on device"


def test_a_sync_of_many_failures_is_readable(filled: Any, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    for number in range(30):
        filled("put", f"deep/{number}/x", "1") if number < 2 else None
    for number in range(30):
        folder = tmp_path / "store" / f"f{number}"
        folder.write_text("1")
        os.makedirs(tmp_path / "target" / f"f{number}" / "in the way")
        (tmp_path / "target" / f"f{number}" / "in the way" / "x").write_text("1")
    _, errors = filled.both("sync", "./store", "./target", code=4)
    assert errors.count("\n") == 11
    assert "20 more failures like this" in errors
