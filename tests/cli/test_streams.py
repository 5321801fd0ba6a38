"""Standard streams that are closed, and locales that aren't UTF-8."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = f'"{sys.executable}" -m holdall'


def run(holdall: Any, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["bash", "-c", f"{PROGRAM} {command}"],
        env={**holdall.env, **environment},
        cwd=holdall.cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_ends_no_command_wrongly(holdall: Any, tmp_path: Path, closed: str) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_text("1")
    commands = [
        "exists -s one x",
        "diff ./one ./two",
        "put -s one k v",
        "put -s sqlite:///one.db k v",
        "rm -s one k",
        "mirror ./one ./three --quiet",
        "put -s one k --file one/x",
        "rm -s one -r none/ --force --yes",
    ]
    for command in commands:
        assert run(holdall, f"{command} {closed}").returncode == 0, command
    assert run(holdall, f"exists -s one absent {closed}").returncode == 1
    assert (tmp_path / "three" / "x").read_text() == "1"
    # What is written to a closed stream must not go into the file that was opened next.
    assert holdall("get", "k", uri=f"sqlite:///{tmp_path}/one.db") == b"v"


def test_what_can_not_be_printed_is_an_error(holdall: Any, tmp_path: Path) -> None:
    holdall("put", "k", "v")
    for command in ("get k", "keys", "tree", "info k", "exists k -v", "cat k", "sync ./store ./other"):
        done = run(holdall, f"{command} >&-")
        assert done.returncode == 4, command
        assert "standard output" in done.stderr
    assert (tmp_path / "other" / "k").read_bytes() == b"v"
    assert run(holdall, "put k <&-").returncode == 2
    assert holdall("get", "k") == b"v"


def test_no_name_is_misread_in_a_locale_that_is_not_utf_8(holdall: Any, tmp_path: Path) -> None:
    program = shutil.which("localedef")
    assert program, "the tests need localedef: apt-get install libc-bin"
    locales = tmp_path / "locales"
    locales.mkdir()
    made = locales / "en_US.ISO-8859-1"
    # It warns about much, and exits with 1 then.
    subprocess.run([program, "-i", "en_US", "-f", "ISO-8859-1", made], capture_output=True, check=False)
    assert made.exists(), "localedef needs its sources: apt-get install locales"
    (tmp_path / "store").mkdir()
    names = ["café", "naïve", "水"]
    for name in names:
        (tmp_path / "store" / name).write_text(name)
    latin = {"LOCPATH": str(locales), "LC_ALL": "en_US.ISO-8859-1"}
    assert run(holdall, f"mirror ./store sqlite:///{tmp_path}/b.db --quiet", **latin).returncode == 0
    assert sorted(run(holdall, "keys", **latin).stdout.split()) == sorted(names)
    assert sorted(holdall("keys", uri=f"sqlite:///{tmp_path}/b.db").decode().split()) == sorted(names)
    assert run(holdall, "get café", **latin).stdout == "café"
    argument = subprocess.run(
        [sys.executable, "-m", "holdall", "put", os.fsencode("caf") + b"\xe9", "x"],
        env={**holdall.env, **latin},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert argument.returncode == 2
    assert sorted(os.listdir(tmp_path / "store")) == sorted(names)


def test_binary_is_not_printed_on_a_terminal(holdall: Any, terminal: Any) -> None:
    holdall("put", "binary", stdin=b"\x7fELF\x00\x01\x02")
    holdall("put", "text", stdin=b"plain text\n" * 20_000)
    for command in (["get", "binary"], ["cat", "binary"]):
        process = holdall.start(*command, stdout=terminal.slave, stderr=subprocess.PIPE)
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == 2
        assert b"--force" in errors
    terminal.poll(0)
    assert "ELF" not in terminal.seen
    process = holdall.start("get", "binary", "--force", stdout=terminal.slave)
    terminal.until(lambda seen: "ELF" in seen)
    assert process.wait(60) == 0
    process = holdall.start("get", "text", stdout=terminal.slave)
    terminal.until(lambda seen: seen.count("plain text") == 20_000)
    assert process.wait(60) == 0


def test_a_line_that_is_not_text_is_not_printed_on_a_terminal(holdall: Any, terminal: Any) -> None:
    holdall("put", "lines", stdin=b"fine\n\x1b]0;title\x07\n")
    for more, code in (([], 2), (["--force"], 0)):
        process = holdall.start(
            "stream", "lines", "-m", "raw", *more, stdout=terminal.slave, stderr=subprocess.PIPE
        )
        errors = process.communicate(timeout=60)[1]
        assert (process.returncode, b"isn't text" in errors) == (code, code == 2)
    terminal.until(lambda seen: "title" in seen)
    assert terminal.seen.count("fine") == 2
    assert terminal.seen.count("title") == 1
