"""io: one blob, file or stream to another."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from tests.cli.conftest import Holdall

DATA = bytes(range(256)) * 10_000


def test_a_blob_goes_to_a_file_a_pipe_and_another_store(holdall: Holdall, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    holdall("io", "-i", "file", "-o", "sqlite:///one.db#a/b.bin")
    holdall("io", "-i", "sqlite:///one.db#a/b.bin", "--output", "./copy")
    assert (tmp_path / "copy").read_bytes() == DATA
    assert holdall("io", "--source", "sqlite:///one.db#a/b.bin") == DATA
    holdall("io", "-o", "zip://two.zip#x", stdin=DATA)
    assert holdall("get", "x", uri="zip://two.zip") == DATA
    (tmp_path / "holdall.toml").write_text("[stores.pad]\nuri = 'sqlite:///pad.db'\n")
    holdall("io", "-i", "zip://two.zip#x", "-o", "pad:a/x")
    assert holdall("keys", uri="pad:") == b"a/x\n"


def test_it_keeps_the_type_and_when_it_expires(holdall: Holdall) -> None:
    one, two = "sqlite:///one.db", "sqlite:///two.db"
    holdall("put", "a", "x", "--ttl", "1h", "--content-type", "text/csv", uri=one)
    holdall("io", "-i", f"{one}#a", "-o", f"{two}#a")
    before, after = (json.loads(holdall("info", "a", "--json", uri=uri)) for uri in (one, two))
    assert after["content_type"] == "text/csv"
    moved = datetime.fromisoformat(after["expires"]) - datetime.fromisoformat(before["expires"])
    assert abs(moved.total_seconds()) < 60
    holdall("io", "-i", f"{one}#a", "-o", "hashdir://files#x")


def test_a_private_blob_is_shown_to_nobody(holdall: Holdall, tmp_path: Path) -> None:
    private = tmp_path / "private" / "a"
    private.parent.mkdir()
    private.write_bytes(b"secret")
    private.chmod(0o600)
    holdall("io", "-i", f"file://{private}", "-o", f"file://{tmp_path}/copies/a")
    assert (tmp_path / "copies" / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("args", "said", "code"),
    [
        ((), "nothing to do", 2),
        (("x", "y"), "it takes options only, such as --source", 2),
        (("-i", "x", "-o", "x"), "nothing to do", 2),
        (("-i", ""), "is empty", 2),
        (("-i", "sqlite:///one.db"), "#KEY", 2),
        (("-o", "sqlite:///one.db", "-i", "file"), "#KEY", 2),
        (("-i", "nofile"), "can't be read", 2),
        (("-i", "s3:/bucket/key"), "a URI has two", 2),
        (("-i", "file", "-o", "s3:/bucket/key"), "a URI has two", 2),
        (("-i", "sqlite:///none.db#a"), "there is nothing at", 4),
        (("-i", "sqlite:///one.db#none"), "no such blob", 1),
        (("-i", "sqlite:///one.db#a", "-o", "./nofolder/x"), "no such file or directory", 2),
    ],
)
def test_mistakes(holdall: Holdall, tmp_path: Path, args: tuple[str, ...], said: str, code: int) -> None:
    holdall("put", "a", "x", uri="sqlite:///one.db")
    (tmp_path / "file").write_bytes(b"x")
    before = sorted(tmp_path.iterdir())
    assert said in holdall.error("io", *args, code=code)
    assert sorted(tmp_path.iterdir()) == before
