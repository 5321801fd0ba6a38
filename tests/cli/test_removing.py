"""rm, which asks before it deletes many."""

from __future__ import annotations

import json
import subprocess

import pytest


@pytest.fixture
def logs(holdall):
    for key in ("keep", "logs/1", "logs/2/a", "logs2"):
        holdall("put", key, "xyz")
    return holdall


def test_rm(anywhere):
    anywhere("put", "a", "")
    anywhere("put", "b", "")
    assert anywhere.error("rm", "absent", "a", code=1) == "'absent': no such blob"
    anywhere("rm", "--force", "absent", "b")
    assert anywhere("keys") == b""


def test_a_wrong_key_stops_it_before_anything_goes(logs):
    logs.error("rm", "keep", "a//b", code=2)
    assert "--recursive" in logs.error("rm", "keep", "logs/", code=2)
    logs("exists", "keep")


def test_a_prefix_is_a_folder_or_said_to_be_a_string_prefix(logs):
    assert "'logs/'" in logs.error("rm", "-r", "logs", "--yes", code=2)
    assert "empty" in logs.error("rm", "-r", "--string-prefix", "", "--yes", code=2)
    assert "--recursive" in logs.error("rm", "--string-prefix", "logs", "--yes", code=2)
    assert logs("keys").count(b"\n") == 4
    logs("rm", "-r", "--string-prefix", "logs", "--yes")
    assert logs("keys") == b"keep\n"


def test_without_a_terminal_it_needs_to_be_told(logs):
    error = logs.error("rm", "-r", "logs/", code=2, stdin=b"y\n")
    assert error == "Delete 2 blobs (6 B) under logs/? There is no terminal to ask on; add --yes"
    logs("exists", "logs/1")
    logs("rm", "-r", "logs/", "--yes")
    assert logs("keys") == b"keep\nlogs2\n"


def test_nothing_there(logs):
    logs.error("rm", "-r", "none/", "--yes", code=1)
    logs.both("rm", "-r", "none/", "--yes", "--force")


def test_folders_go_in_every_store(anywhere):
    for key in ("logs/1", "logs/2/a", "logs2"):
        anywhere("put", key, "xyz")
    anywhere("rm", "-r", "logs/", "-y")
    assert anywhere("keys") == b"logs2\n"


@pytest.mark.parametrize(
    ("answer", "code", "left"),
    [
        ("y\n", 0, b"keep\nlogs2\n"),
        ("YES\n", 0, b"keep\nlogs2\n"),
        ("n\n", 130, b"keep\nlogs/1\nlogs/2/a\nlogs2\n"),
        ("\n", 130, b"keep\nlogs/1\nlogs/2/a\nlogs2\n"),
        ("\x03", 130, b"keep\nlogs/1\nlogs/2/a\nlogs2\n"),
        ("\x04", 130, b"keep\nlogs/1\nlogs/2/a\nlogs2\n"),
    ],
)
def test_a_terminal_is_asked(logs, terminal, answer, code, left):
    process = logs.start(
        "rm",
        "-r",
        "logs/",
        stdin=terminal.slave,
        stderr=terminal.slave,
        start_new_session=True,
        preexec_fn=_own_terminal,
    )
    terminal.until(lambda seen: seen.endswith("[y/N] "))
    assert terminal.seen == "Delete 2 blobs (6 B) under logs/? [y/N] "
    terminal.type(answer)
    assert process.wait(60) == code
    assert logs("keys") == left
    terminal.poll(0)
    assert terminal.seen.replace("\r", "").endswith("\nholdall: nothing was deleted\n") == (code == 130)


def _own_terminal() -> None:
    # Ctrl-C becomes a signal only for the process whose terminal this is.
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_progress_of_a_long_put_is_seen_at_a_terminal(holdall, terminal):
    process = holdall.start("put", "big", stdin=subprocess.PIPE, stderr=terminal.slave)
    sent = 0
    while "put big" not in terminal.seen:
        process.stdin.write(bytes(1 << 20))
        process.stdin.flush()
        sent += 1 << 20
        terminal.poll(0.1)
        assert sent < 600 << 20
    process.stdin.close()
    assert process.wait(60) == 0
    assert len(holdall("get", "big")) == sent
    assert "MB" in terminal.seen


def test_there_is_no_progress_for_short_work(holdall, terminal):
    process = holdall.start("put", "small", "x", stderr=terminal.slave)
    assert process.wait(60) == 0
    terminal.poll(0)
    assert terminal.seen == ""


def test_a_dry_run_prints_what_would_go(logs):
    assert logs("rm", "keep", "-n") == b"- keep  (3 B)\n1 to delete (3 B); nothing was done\n"
    assert logs("rm", "-r", "logs/", "--dry-run").count(b"- logs/") == 2
    output, errors = logs.both("rm", "keep", "none", "--dry-run", "--json", code=1)
    assert json.loads(output) == {"kind": "delete", "key": "keep", "size": 3}
    assert errors == "holdall: 'none': no such blob\n"
    assert "starts with" in logs.both("rm", "-rn", "none/", code=1)[1]
    assert logs("keys").count(b"\n") == 4


def test_rm_prints_json(logs):
    output, errors = logs.both("rm", "keep", "none", "--json", code=1)
    assert list(map(json.loads, output.splitlines())) == [
        {"key": "keep", "deleted": 1},
        {"key": "none", "deleted": 0},
    ]
    assert errors == "holdall: 'none': no such blob\n"
    assert json.loads(logs("rm", "none", "--force", "--json")) == {"key": "none", "deleted": 0}
    assert json.loads(logs("rm", "-ry", "logs/", "--json")) == {"prefix": "logs/", "deleted": 2}
    assert logs("keys") == b"logs2\n"
