"""migrate: everything to another store, of which nothing is replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Holdall

import holdall as package

Blobs = dict[str, bytes]


@pytest.fixture
def source(holdall: Holdall, tmp_path: Path) -> Holdall:
    """A store of three blobs; each run has a journal in the folder of the test."""
    holdall.env["XDG_STATE_HOME"] = str(tmp_path / "state")
    holdall.uri = "sqlite:///source.db"
    with package.SqliteStore(tmp_path / "source.db") as store:
        store.put("a", b"1", content_type="text/plain")
        store.put("b/c", b"22")
        store.put("d", b"333")
    return holdall


def blobs(path: Path) -> Blobs:
    with package.SqliteStore(path) as store:
        return dict(store)


def migrate(holdall: Holdall, *more: str, target: str = "sqlite:///target.db", code: int = 0) -> Any:
    return holdall.both("migrate", "sqlite:///source.db", target, *more, code=code)


def test_everything_is_there_then_and_the_source_stays(source: Holdall, tmp_path: Path) -> None:
    output, errors = migrate(source)
    assert errors == ""
    assert output.decode().splitlines()[-1] == "3 blobs in sqlite:///target.db, read back and compared"
    assert blobs(tmp_path / "target.db") == blobs(tmp_path / "source.db")
    with package.SqliteStore(tmp_path / "target.db") as store:
        assert store.info("a").content_type == "text/plain"
    # Again, before the switch, for what was written meanwhile.
    with package.SqliteStore(tmp_path / "source.db") as store:
        store["a"] = b"11"
        store["e"] = b"4"
    report = json.loads(migrate(source, "--json")[0])
    assert [report[name] for name in ("copied", "skipped", "in_target", "changed")] == [2, 2, 4, 0]
    assert blobs(tmp_path / "target.db") == blobs(tmp_path / "source.db")


def test_a_target_that_has_blobs_is_refused_unless_they_are_to_be_merged(
    source: Holdall, tmp_path: Path
) -> None:
    with package.SqliteStore(tmp_path / "target.db") as store:
        store["other"] = b"x"
    assert "has 'other', so nothing was done" in migrate(source, code=3)[1]
    assert blobs(tmp_path / "target.db") == {"other": b"x"}
    migrate(source, "--merge")
    assert blobs(tmp_path / "target.db") == {**blobs(tmp_path / "source.db"), "other": b"x"}


@pytest.mark.parametrize("again", [True, False])
def test_what_the_target_has_with_other_bytes_is_never_replaced(
    source: Holdall, tmp_path: Path, again: bool
) -> None:
    if again:
        migrate(source)
    with package.SqliteStore(tmp_path / "target.db") as store:
        store["a"] = b"newer"
    with package.SqliteStore(tmp_path / "source.db") as store:
        store["e"] = b"4"
    before = blobs(tmp_path / "target.db")
    errors = migrate(source, *(() if again else ["--merge"]), code=3)[1].splitlines()
    assert errors[0] == "holdall: 'a': sqlite:///target.db has other bytes"
    assert "1 blob in sqlite:///target.db would be replaced, so nothing was done" in errors[1]
    assert blobs(tmp_path / "target.db") == before


def test_a_dry_run_prints_the_plan_and_makes_nothing(source: Holdall, tmp_path: Path) -> None:
    output, errors = migrate(source, "--dry-run", target="./new")
    assert output.decode().splitlines()[-1] == "3 to copy (6 B), 0 to delete, 0 equal; nothing was done"
    assert "can't keep content types" in errors
    assert not (tmp_path / "new").exists()


def test_what_the_target_can_not_keep_is_said_before(source: Holdall, tmp_path: Path) -> None:
    source("put", "later", "x", "--ttl", "1h", uri=source.uri)
    assert "'later' expires, and ./new can't keep" in migrate(source, target="./new", code=2)[1]
    assert not (tmp_path / "new").exists()
    assert "can't keep" not in migrate(source)[1]
    with package.SqliteStore(tmp_path / "target.db") as store:
        assert store.info("later").expires is not None


def test_a_mistyped_source_and_one_store_twice_are_refused(source: Holdall, tmp_path: Path) -> None:
    assert "there is nothing at" in source.error("migrate", "./typo", "./new", code=4)
    assert "same store" in source.error("migrate", source.uri, source.uri, "--merge", code=2)
    assert sorted(blobs(tmp_path / "source.db")) == ["a", "b/c", "d"]


def test_a_damaged_blob_stays_and_the_others_are_copied(source: Holdall, tmp_path: Path) -> None:
    toml = "[stores.checked]\nuri = './data'\nchecksum = 'sha256'\n"
    (tmp_path / "holdall.toml").write_text(toml)
    for key in ("a", "b", "c"):
        source("put", key, "value", uri="checked:")
    damaged = (tmp_path / "data" / "b").read_bytes()
    (tmp_path / "data" / "b").write_bytes(damaged[:-1] + b"?")
    output, errors = source.both("migrate", "checked:", "sqlite:///t.db", "--json", code=4)
    assert "'b'" in errors
    assert "lacks 1 blob; run it again" in errors
    assert list(json.loads(output)["failures"]) == ["b"]
    assert sorted(blobs(tmp_path / "t.db")) == ["a", "c"]
