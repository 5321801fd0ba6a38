"""lock: a program runs while no other holds the lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Holdall


def test_the_program_has_the_lock_and_its_exit_code_is_passed_on(anywhere: Holdall) -> None:
    output, _ = anywhere.both("lock", "locks/a", "--", "sh", "-c", "echo $HOLDALL_LOCK_TOKEN; exit 7", code=7)
    second = anywhere("lock", "locks/a", "--", "sh", "-c", "echo $HOLDALL_LOCK_TOKEN")
    assert int(second) > int(output)
    assert json.loads(anywhere("get", "locks/a"))["holder"] is None
    assert anywhere.both("lock", "locks/a", "--", "sh", "-c", "kill -9 $$", code=137) == (b"", "")


@pytest.mark.parametrize(
    ("args", "said", "code"),
    [
        (("locks/a",), "name a program", 2),
        (("locks/a", "--", ""), "name a program", 2),
        (("locks/a", "--", "no-such-program"), "'no-such-program' can't be run: no such file", 127),
        (("locks/a", "--", "/dev/null"), "permission denied", 126),
        (("a//b", "--", "true"), "'a//b'", 2),
        (("locks/a", "--ttl", "x", "--", "true"), "span of time", 2),
    ],
)
def test_mistakes(holdall: Holdall, args: tuple[str, ...], said: str, code: int) -> None:
    assert said in holdall.error("lock", *args, code=code)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_comes_second_is_refused_and_a_signal_ends_both(
    holdall: Holdall, tmp_path: Path, number: signal.Signals
) -> None:
    script = "trap 'echo ended > end; exit 9' TERM INT; touch begun; while :; do sleep 0.05; done"
    process = holdall.start("lock", "job", "--", "sh", "-c", script, start_new_session=True)
    wait_for(tmp_path / "begun")
    error = holdall.error("lock", "job", "--wait", "0", "--", "true", code=3)
    assert f"process {process.pid} on" in error
    # A terminal sends its Ctrl-C to all processes in the foreground; a service manager, a SIGTERM to one.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    assert process.wait(60) == 9
    assert (tmp_path / "end").exists()
    holdall("lock", "job", "--wait", "0", "--", "true")


def test_a_lock_that_is_lost_is_said(holdall: Holdall, tmp_path: Path) -> None:
    script = "touch begun; while [ ! -e go ]; do sleep 0.05; done"
    process = holdall.start(*("lock", "job", "--ttl", "1", "--", "sh", "-c", script), stderr=subprocess.PIPE)
    wait_for(tmp_path / "begun")
    holdall("rm", "job")
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, b"another may have had it" in errors) == (3, True), errors
