"""put, cp and mv."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest


def test_a_value_a_file_or_standard_input(holdall, tmp_path):
    file = tmp_path / "input"
    file.write_bytes(b"\x00\xff")
    holdall("put", "value", "hello")
    holdall("put", "raw", b"\xff\xfe")
    holdall("put", "file", "--file", str(file))
    holdall("put", "piped", stdin=b"piped")
    holdall("put", "dash", "-", stdin=b"dash")
    got = [holdall("get", key) for key in ("value", "raw", "file", "piped", "dash")]
    assert got == [b"hello", b"\xff\xfe", b"\x00\xff", b"piped", b"dash"]


def test_one_source_only(holdall, tmp_path):
    assert "only one of" in holdall.error("put", "k", "v", "--file", "x", code=2)
    assert "only one of" in holdall.error("put", "k", "v", "--text", "x", code=2)
    assert "'x': no such file" in holdall.error("put", "k", "--file", "x", code=2)
    assert "directory" in holdall.error("put", "k", "--file", str(tmp_path), code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_begins_with_a_dash(holdall):
    for command in (["put", "-k", "v"], ["get", "-k"], ["rm", "-k"], ["cp", "-k", "k"]):
        assert "write -- before an argument that begins with -" in holdall.error(*command, code=2)
    for option in ("--sotre", "--nosuch"):
        assert "before what" not in holdall.error("get", option, "x", "k", code=2), "it is a mistyped option"
    holdall("put", "--", "-k", "v")
    assert holdall("get", "--", "-k") == b"v"


def test_put_asks_for_a_value_at_a_terminal(holdall, terminal):
    process = holdall.start("put", "k", stdin=terminal.slave, stderr=subprocess.PIPE)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert b"give VALUE" in errors


def test_put_prints_the_etag_when_asked(holdall):
    assert holdall("put", "k", "v") == b""
    etag = holdall("put", "k", "v2", "--print-etag").decode().strip()
    assert json.loads(holdall("info", "k", "--json"))["etag"] == etag


def test_compare_and_swap_in_a_script(anywhere):
    first = anywhere("put", "k", "1", "--if-absent", "--print-etag").decode().strip()
    second = anywhere("put", "k", "2", "--if-match", first, "--print-etag").decode().strip()
    assert f"the ETag there now is {second}" in anywhere.error("put", "k", "3", "--if-match", first, code=3)
    assert f"the ETag there now is {second}" in anywhere.error("put", "k", "3", "--if-absent", code=3)
    assert "nothing is there now" in anywhere.error("put", "new", "3", "--if-match", first, code=3)
    assert anywhere("get", "k") == b"2"
    assert anywhere("keys") == b"k\n"


def test_conditions_exclude_each_other(holdall):
    assert "exclude" in holdall.error("put", "k", "v", "--if-absent", "--if-match", "x", code=2)


def test_what_a_store_cannot_do_is_wrong_usage(holdall):
    assert "expire" in holdall.error("put", "k", "v", "--ttl", "60", code=2)
    assert "content_type" in holdall.error("put", "k", "v", "--content-type", "a/b", code=2)
    assert holdall.both("keys")[0] == b""


def test_a_ttl_is_a_number_more_than_zero(holdall, tmp_path):
    uri = f"sqlite:///{tmp_path}/s.db"
    for wrong in ("soon", "0", "-1", "nan", "inf", "5 m", "m5", "5x", "1h-5m"):
        holdall.error("put", "k", "v", "--ttl", wrong, code=2, uri=uri)
    holdall("put", "k", "v", "--ttl", "1.5e3", uri=uri)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("5m", 300), ("1h30m", 5400), ("7d", 604_800)])
def test_a_ttl_has_units(holdall, tmp_path, text, seconds):
    uri = f"sqlite:///{tmp_path}/s.db"
    before = datetime.now(UTC)
    holdall("put", "k", "v", "--ttl", text, uri=uri)
    expires = datetime.fromisoformat(json.loads(holdall("info", "k", "--json", uri=uri))["expires"])
    assert before + timedelta(seconds=seconds) <= expires + timedelta(milliseconds=1)
    assert expires <= datetime.now(UTC) + timedelta(seconds=seconds)


def test_the_name_of_a_file_is_not_taken_for_the_value(holdall, tmp_path):
    (tmp_path / "f.pdf").write_text("the contents")
    (tmp_path / "docs").mkdir()
    holdall("put", "k", "old")
    for value in ("f.pdf", "docs", "./f.pdf", str(tmp_path / "f.pdf")):
        error = holdall.error("put", "k", value, code=2)
        assert "--text" in error
        assert ("--file" in error) == (value != "docs")
    for value in ("./typo.pdf", "/no/such/file"):
        assert "--text" in holdall.error("put", "k", value, code=2)
    assert holdall("get", "k") == b"old"
    holdall("put", "k", "--text", "f.pdf")
    assert holdall("get", "k") == b"f.pdf"
    holdall("put", "k", "--file", "f.pdf")
    assert holdall("get", "k") == b"the contents"


def test_standard_input_that_nobody_piped_in_empties_no_blob(holdall, tmp_path):
    holdall("put", "k", "value")
    assert "pipe it in" in holdall.error("put", "k", code=2)  # the null device, as cron has it
    assert holdall("get", "k") == b"value"
    holdall("put", "k", stdin=b"from a pipe")
    assert holdall("get", "k") == b"from a pipe"
    (tmp_path / "file").write_text("from a file")
    with open(tmp_path / "file", "rb") as file:
        assert holdall.start("put", "k", stdin=file).wait(60) == 0
    assert holdall("get", "k") == b"from a file"
    holdall("put", "k", "-")
    assert holdall("get", "k") == b""


def test_a_folder_in_the_way_is_a_conflict(holdall):
    holdall("put", "a", "1")
    holdall.error("put", "a/b", "2", code=3)
    assert holdall("get", "a") == b"1"


def test_ctrl_c_in_the_middle_of_a_put_leaves_the_old_blob(anywhere):
    anywhere("put", "k", "old")
    process = anywhere.start("put", "k", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    # Three pieces are more than pipe and buffers hold: once they are in, the put has begun.
    process.stdin.write(bytes(3 << 20))
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        # A signal just before read(2) blocks is seen when that returns: one presses the keys again.
        process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    # Some versions of typer end the line on which the terminal shows ^C.
    assert process.stderr.read().strip() == b""
    process.stdin.close()
    process.stderr.close()
    assert anywhere("get", "k") == b"old"
    assert anywhere("keys") == b"k\n"


def test_a_terminated_get_leaves_the_old_file_and_no_litter(holdall, tmp_path):
    holdall("put", "k", "new")
    file = tmp_path / "out" / "file"
    file.parent.mkdir()
    file.write_text("old")
    code = (
        "import os, signal, sys, holdall.cli, holdall.store\n"
        "def chunks(self, key):\n"
        "    yield b'half'\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    yield b'never'\n"
        "holdall.store.Store.chunks = chunks\n"
        f"sys.argv = ['holdall', 'get', 'k', '-o', {str(file)!r}]\n"
        "sys.exit(holdall.cli.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], env=holdall.env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (143, b"")
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


def test_cp_and_mv(anywhere):
    anywhere("put", "a/x.txt", "1")
    anywhere("cp", "a/x.txt", "b/")
    anywhere("cp", "a/x.txt", "c")
    anywhere("mv", "c", "d")
    assert anywhere("keys") == b"a/x.txt\nb/x.txt\nd\n"
    assert anywhere("get", "d") == b"1"
    anywhere.error("cp", "absent", "e", code=1)
    anywhere.error("mv", "absent", "e", code=1)
    anywhere.error("cp", "d", "a/x.txt", "--if-absent", code=3)
    anywhere.error("mv", "d", "a/x.txt", "--if-absent", code=3)
    assert anywhere("keys") == b"a/x.txt\nb/x.txt\nd\n"


def test_folders_are_copied_and_moved(anywhere):
    for key in ("a/1", "a/b/2", "ab"):
        anywhere("put", key, key)
    anywhere("cp", "--recursive", "a/", "c/d/")
    assert anywhere("keys") == b"a/1\na/b/2\nab\nc/d/1\nc/d/b/2\n"
    anywhere("mv", "--recursive", "a/", "e/")
    assert anywhere("keys") == b"ab\nc/d/1\nc/d/b/2\ne/1\ne/b/2\n"
    assert anywhere("get", "e/b/2") == b"a/b/2"


def test_folders_are_named_with_a_slash(holdall):
    holdall("put", "a/1", "x")
    assert "--recursive" in holdall.error("cp", "a/", "b/", code=2)
    assert "a/ b/" in holdall.error("cp", "-r", "a", "b", code=2)
    assert "lies in the other" in holdall.error("mv", "-r", "a/", "a/b/", code=2)
    holdall.error("cp", "-r", "none/", "b/", code=1)
    holdall.error("cp", "-r", "a/", "../b/", code=2)
    assert holdall("keys") == b"a/1\n"


def test_another_store_is_not_taken_for_a_key(holdall):
    assert "within one store" in holdall.error("cp", "a", "sqlite:///other.db", code=2)


def test_folders_without_a_dot_are_keys_of_no_store(holdall):
    for name in ("cp", "mv"):
        told = holdall.error(name, "photos", "copy", code=2, uri="")
        assert "--store URI" in told
        assert f"holdall {name} ./photos ./copy" in told


def test_what_writes_prints_json(anywhere):
    put = json.loads(anywhere("put", "a/b", "xyz", "--json"))
    assert put == json.loads(anywhere("info", "a/b", "--json"))
    assert "--print-etag" in anywhere.error("put", "a/b", "x", "--json", "--print-etag", code=2)
    copied = json.loads(anywhere("cp", "a/b", "c/", "--json"))
    assert (copied["key"], copied["size"]) == ("c/b", 3)
    moved = anywhere("mv", "-r", "a/", "d/", "--json").splitlines()
    assert [json.loads(line)["key"] for line in moved] == ["d/b"]
    assert anywhere("keys") == b"c/b\nd/b\n"
