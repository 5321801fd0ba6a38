"""The loggers of the house, where the program uses `logging` and where it doesn't."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

LISTED = "store = holdall.FilesystemStore('.'); list(store)\n"
"""Warns of a link once."""


def run(code: str, cwd: Path) -> tuple[str, str]:
    (cwd / "link").symlink_to("nowhere")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, holdall\n{code}"],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


def test_nothing_is_printed_unless_logging_is_set_up(tmp_path: Path) -> None:
    imported = "print('logging' in sys.modules)\n"
    assert run(imported + LISTED + imported, tmp_path) == ("False\nTrue\n", "")


@pytest.mark.parametrize("early", [True, False])
def test_a_program_that_sets_logging_up_gets_what_is_logged(tmp_path: Path, early: bool) -> None:
    setup = "import logging; logging.basicConfig(format='%(name)s %(filename)s %(levelname)s')\n"
    store = "holdall.FilesystemStore\n"  # whose modules get their loggers
    _, printed = run((setup + store if early else store + setup) + LISTED, tmp_path)
    assert printed == "holdall leftout.py WARNING\n"


def test_a_command_prints_what_is_logged(tmp_path: Path) -> None:
    code = "from holdall.cli import main\nsys.exit(main(['keys', '--store', '.']))"
    printed, warned = run(code, tmp_path)
    assert printed == ""
    assert re.fullmatch(r"holdall: .*link.*\n", warned)
