"""doctor: what is installed, and which stores answer."""

from __future__ import annotations

import json
import socket
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Holdall
from tests.servers.ports import free_port

from holdall.cli.packages import Extra, read_extras
from holdall.cli.stores import spoken

PROJECT = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]


def examine(holdall: Holdall, *args: str, code: int = 0) -> Any:
    return json.loads(holdall.both("doctor", *args, "--json", code=code)[0])


@pytest.fixture
def settings(holdall: Holdall, tmp_path: Path) -> Path:
    """A holdall.toml with a store that answers, beside HOLDALL_URI, which is there too."""
    holdall.env["HOME"] = str(tmp_path)
    (tmp_path / "store").mkdir()
    holdall("put", "a", "1", uri="sqlite:///pad.db")
    path = tmp_path / "holdall.toml"
    path.write_text("[stores.pad]\nuri = 'sqlite:///pad.db'\n")
    return path


def test_what_is_named_is_asked(holdall: Holdall, settings: Path) -> None:
    found = examine(holdall)
    assert found["configuration"] == str(settings)
    assert "HOLDALL_URI" in found["variables"]
    assert [(each["name"], each["error"]) for each in found["stores"]] == [
        ("HOLDALL_URI", None),
        ("pad:", None),
    ]
    assert all("list" in each["can"] and each["seconds"] >= 0 for each in found["stores"])
    for line in (["pad"], ["--store", "pad"]):
        assert [each["name"] for each in examine(holdall, *line)["stores"]] == ["pad"]
    shown = holdall("doctor").decode()
    assert "pad:  answers in" in shown
    assert f"Python {'.'.join(map(str, sys.version_info[:3]))}" in shown


def test_a_store_that_does_not_answer_is_named_without_its_secrets(holdall: Holdall, settings: Path) -> None:
    away = f"valkey://:pw-secret@127.0.0.1:{free_port()}"
    settings.write_text(f"[stores.away]\nuri = '{away}'\n[stores.pad]\nuri = 'sqlite:///pad.db'\n")
    output, errors = holdall.both("doctor", code=4)
    assert "away:  FAILED: no server can be reached" in output.decode()
    assert "pad:  answers" in output.decode()
    given = holdall.both("doctor", away, "./typo", "--json", code=4)
    assert [each["name"] for each in json.loads(given[0])["stores"]] == [spoken(away), "./typo"]
    assert "pw-secret" not in output.decode() + errors + given[0].decode() + given[1]
    holdall.env["HOLDALL_URI"] = away
    assert "pw-secret" not in "".join(map(str, holdall.both("doctor", code=4)))
    assert not (settings.parent / "typo").exists()


def test_a_server_that_says_nothing_is_waited_for_so_long(holdall: Holdall) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/db"
        (store,) = examine(holdall, uri, "--timeout", "0.2", code=4)["stores"]
    assert store["error"] == "no answer within 0.2 s"


def test_a_configuration_that_can_not_be_read_is_a_failure(holdall: Holdall, settings: Path) -> None:
    settings.write_text("[stores")
    found = examine(holdall, code=4)
    assert "isn't valid TOML" in found["configuration_error"]
    assert [each["name"] for each in found["stores"]] == ["HOLDALL_URI"]
    assert "FAILED" in holdall.both("doctor", code=4)[0].decode().splitlines()[1]


def test_without_any_store_it_reports_what_is_installed(holdall: Holdall, tmp_path: Path) -> None:
    holdall.env |= {"HOME": str(tmp_path), "HOLDALL_URI": ""}
    found = examine(holdall)
    assert found["stores"] == []
    assert [each["name"] for each in found["extras"]] == sorted(
        PROJECT["optional-dependencies"].keys() - {"all"}
    )
    assert all(each["installed"] or each["missing"] for each in found["extras"])


def fake(monkeypatch: pytest.MonkeyPatch, requires: list[str], versions: dict[str, str]) -> list[Extra]:
    class Fake:
        metadata = metadata.Distribution.from_name("pytest").metadata
        requires: list[str]

    class Names:
        def get_all(self, _: str) -> list[str]:
            return ["one", "two", "all"]

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    Fake.requires = requires
    Fake.metadata = Names()  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(metadata, "distribution", lambda _: Fake)
    monkeypatch.setattr(metadata, "version", version)
    return read_extras()


def test_packages_that_are_absent_or_of_another_version_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    requires = [
        "here[more,most]>=2.1; extra == 'one'",
        "old>=2.10; extra == 'one'",
        "absent; extra == 'one'",
        "new>=2.2,<3; extra == 'one'",
        "before>=1.0; (python_version < '3.0') and extra == 'two'",
        "here>=2.1 ; python_version >= '3.0' and extra == \"two\"",
        "holdall[one]; extra == 'two'",
        "always>=1",
        "more; extra == 'all'",
    ]
    one, two = fake(monkeypatch, requires, {"here": "2.1", "old": "2.9.9", "new": "3.0"})
    assert one == Extra("one", {"here": "2.1"}, ["old>=2.10", "absent", "new>=2.2,<3"])
    assert two == Extra("two", {"here": "2.1"}, [])


def test_a_holdall_that_pip_does_not_know_has_no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    assert read_extras() == []
