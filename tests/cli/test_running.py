"""local and lock: a program runs on a blob as a file, or while no other holds the lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.cli.conftest import COMMAND, Holdall


@pytest.fixture(params=["{}/store", "sqlite:///{}/store.db"], ids=["own file", "copy"])
def either(request: pytest.FixtureRequest, holdall: Holdall, tmp_path: Path) -> Holdall:
    """`holdall` on a store with files of its own, and on one without."""
    holdall.uri = request.param.format(tmp_path)
    holdall.env["HOLDALL_URI"] = holdall.uri
    return holdall


def test_the_program_has_the_lock_and_its_exit_code_is_passed_on(either: Holdall) -> None:
    output, _ = either.both("lock", "locks/a", "--", "sh", "-c", "echo $HOLDALL_LOCK_TOKEN; exit 7", code=7)
    second = either("lock", "locks/a", "--", "sh", "-c", "echo $HOLDALL_LOCK_TOKEN")
    assert int(second) > int(output)
    assert json.loads(either("get", "locks/a"))["holder"] is None
    assert either.both("lock", "locks/a", "--", "sh", "-c", "kill -9 $$", code=137) == (b"", "")


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


def test_a_lock_that_is_waited_for_is_said_once(holdall: Holdall, tmp_path: Path) -> None:
    script = "touch begun; while [ ! -e go ]; do sleep 0.05; done"
    first = holdall.start("lock", "job", "--", "sh", "-c", script)
    wait_for(tmp_path / "begun")
    second = holdall.start("lock", "job", "--", "true", stderr=subprocess.PIPE)
    said = second.stderr.readline()
    (tmp_path / "go").touch()
    assert said.startswith(b"holdall: waiting for the lock 'job', which process %d on " % first.pid)
    assert second.communicate(timeout=60)[1] == b""
    assert (first.wait(60), second.returncode) == (0, 0)


def test_a_lock_that_is_lost_is_said(holdall: Holdall, tmp_path: Path) -> None:
    script = "touch begun; while [ ! -e go ]; do sleep 0.05; done"
    process = holdall.start(*("lock", "job", "--ttl", "1", "--", "sh", "-c", script), stderr=subprocess.PIPE)
    wait_for(tmp_path / "begun")
    holdall("rm", "job")
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, b"another may have had it" in errors) == (3, True), errors


SHOW = ("sh", "-c", 'cat "$1"; basename "$1"', "sh")


def test_a_program_gets_the_blob_as_a_file_of_its_name(either: Holdall, tmp_path: Path) -> None:
    either.env["TMPDIR"] = str(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    either("put", "a/notes.txt", "hello\n")
    assert either("local", "a/notes.txt", "--", *SHOW).splitlines()[0] == b"hello"
    assert either("local", "a/notes.txt", "--", "wc", "-c").split()[0] == b"6"
    line = either("local", "a/notes.txt", "--", "echo", "<{}>", "{}", "end").decode().split()
    assert (line[0], line[2]) == (f"<{line[1]}>", "end")
    assert line[1].endswith(".txt")
    assert either.both("local", "a/notes.txt", "--", "sh", "-c", "exit 7", code=7) == (b"", "")
    assert either("get", "a/notes.txt") == b"hello\n"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_an_editor_changed_is_put_back(either: Holdall) -> None:
    either("put", "notes.txt", "one\n")
    before = either("info", "notes.txt", "--json")
    either("local", "notes.txt", "--write", "--", "cat")
    assert either("info", "notes.txt", "--json") == before
    either("local", "notes.txt", "-w", "--", "sh", "-c", 'echo two >> "$1"', "sh")
    assert either("get", "notes.txt") == b"one\ntwo\n"
    either("local", "new.txt", "-w", "--if-absent", "--", "sh", "-c", "echo new > {}")
    assert either("get", "new.txt") == b"new\n"
    assert "already there" in either.error("local", "new.txt", "-w", "--if-absent", "--", "cat", code=3)


def kept(errors: str) -> bytes:
    return Path(errors.partition("kept as '")[2].partition("'")[0]).read_bytes()


def test_an_edit_that_is_not_put_back_is_kept(holdall: Holdall, tmp_path: Path) -> None:
    holdall.env["TMPDIR"] = str(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    uri = "sqlite:///s.db"
    holdall("put", "a", "old", uri=uri)
    change = 'chmod u+w "$1"; printf new > "$1"; exit'
    fails = holdall.both("local", "a", "-w", "--", "sh", "-c", f"{change} 5", "sh", code=5, uri=uri)[1]
    assert "the program failed" in fails
    assert kept(fails) == b"new"
    reads = holdall.both("local", "a", "--", "sh", "-c", f"{change} 0", "sh", uri=uri)[1]
    assert "without --write nothing was put back" in reads
    assert kept(reads) == b"new"
    other = f"{change.removesuffix('; exit')}; {COMMAND[0]} -m holdall put a other"
    before = sorted((tmp_path / "tmp").iterdir())
    for last in ("mkdir {}", "ln -s /etc/passwd {}", "true"):
        # What isn't a file isn't an edit, and no link is followed.
        script = f"rm -f {{}}; {last}"
        assert holdall.both("local", "a", "--", "sh", "-c", script, uri=uri) == (b"", "")
    assert sorted((tmp_path / "tmp").iterdir()) == before
    late = holdall.both("local", "a", "-w", "--", "sh", "-c", other, "sh", code=3, uri=uri)[1]
    assert kept(late) == b"new"
    assert holdall("get", "a", uri=uri) == b"other"


@pytest.mark.parametrize(
    ("args", "said", "code"),
    [
        (("a",), "name a program", 2),
        (("none", "--", "cat"), "no such blob", 1),
        (("a", "--", "no-such-program"), "'no-such-program' can't be run: no such file", 127),
        (("a", "--if-absent", "--", "cat"), "add --write", 2),
        (("a", "cat", "--frob"), "write -- before the program", 2),
        (("a", "--write", "--if-match", "x", "--", "cat"), "ETag", 3),
    ],
)
def test_mistakes_with_local(holdall: Holdall, args: tuple[str, ...], said: str, code: int) -> None:
    holdall("put", "a", "x")
    assert said in holdall.error("local", *args, code=code)
    assert holdall("get", "a") == b"x"
