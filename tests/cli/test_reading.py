"""keys, get, cat, exists and info, on every store that outlives a process."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from datetime import datetime

import pytest

EVERY_BYTE = bytes(range(256))


def test_a_missing_store_is_empty_and_reading_makes_nothing(anywhere, tmp_path):
    for command in (["keys"], ["keys", "--long"], ["keys", "--json"], ["ls"], ["tree"], ["du"], ["info"]):
        output, errors = anywhere.both(*command)
        assert errors.count("\n") == 1
        assert "there is nothing at" in errors, "a mistyped store looks like an empty one"
        assert output == b"" or command[0] in ("tree", "du", "info")
    for command in ("exists", "get", "cat", "info"):
        _, errors = anywhere.both(command, "a", code=1)
        assert "there is nothing at" in errors
    assert "there is nothing at" in anywhere.both("rm", "a", code=1)[1]
    assert list(tmp_path.iterdir()) == []


def test_every_byte_comes_back(anywhere):
    anywhere("put", "dir/all", stdin=EVERY_BYTE)
    assert anywhere("get", "dir/all") == EVERY_BYTE


def test_twenty_mebibytes_through_pipes(anywhere):
    data = os.urandom(20 << 20)
    anywhere("put", "big", stdin=data)
    assert anywhere("get", "big") == data


def test_an_empty_blob_is_a_blob(anywhere):
    anywhere("put", "empty", "")
    anywhere("exists", "empty")
    assert anywhere("get", "empty") == b""


def test_keys_are_listed_in_order_as_they_are(anywhere):
    keys = ["-dash", "a b", "a/b", "gr\u00fc\u00dfe/\U0001f600", "z"]
    for key in keys:
        anywhere("put", "--", key, "x")
    assert anywhere("keys").decode().splitlines() == sorted(keys)
    assert anywhere("keys", "--null").decode().split("\0") == [*sorted(keys), ""]
    assert anywhere("get", "gr\u00fc\u00dfe/\U0001f600") == b"x"


def test_keys_are_picked(anywhere):
    for key in ("a.pdf", "logs/1", "logs/20", "logs/2", "x/y/b.pdf"):
        anywhere("put", key, "x")
    assert anywhere("keys", "--prefix", "logs/2") == b"logs/2\nlogs/20\n"
    assert anywhere("keys", "--exclude-prefix", "logs/") == b"a.pdf\nx/y/b.pdf\n"
    assert anywhere("keys", "--exclude-prefix", "logs/", "--json").count(b"\n") == 2
    assert anywhere("keys", "--glob", "*.pdf") == b"a.pdf\n"
    assert anywhere("keys", "--glob", "**/*.pdf") == b"a.pdf\nx/y/b.pdf\n"


def test_json_lines(anywhere):
    anywhere("put", "a/b", "four")
    (line,) = anywhere("keys", "--json").splitlines()
    found = json.loads(line)
    assert json.loads(anywhere("info", "a/b", "--json")) == found
    assert (found["key"], found["size"], found["expires"]) == ("a/b", 4, None)
    assert datetime.fromisoformat(found["modified"]).utcoffset().total_seconds() == 0


def test_long_lines_are_aligned(holdall):
    holdall("put", "a/large", stdin=bytes(3_400_000))
    holdall("put", "small", "x")
    first, second = holdall("keys", "--long").decode().splitlines()
    assert first.split()[:2] == ["3.4", "MB"]
    assert first.index("a/large") == second.index("small")
    assert first.index("B") == second.index("B")


def test_long_json_and_null_exclude_each_other(holdall):
    assert "exclude" in holdall.error("keys", "--long", "--json", code=2)


def test_get_writes_a_file_whole_or_not_at_all(holdall, tmp_path):
    holdall("put", "k", "new")
    file = tmp_path / "file"
    holdall("get", "k", "-o", str(file))
    assert file.read_bytes() == b"new"
    assert "no such blob" in holdall.error("get", "absent", "-o", str(file), code=1)
    assert file.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "store"]


def test_get_keeps_the_mode_and_the_link_of_a_file(holdall, tmp_path):
    holdall("put", "k", "new")
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    holdall("get", "k", "-o", str(link))
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_get_gives_a_new_file_the_usual_mode(holdall, tmp_path):
    holdall("put", "k", "new")
    holdall("get", "k", "-o", str(tmp_path / "new"))
    (tmp_path / "other").write_text("")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_get_shows_a_private_blob_to_nobody_else(holdall, tmp_path, mode):
    holdall("put", "k", "secret")
    (tmp_path / "store" / "k").chmod(mode)
    holdall("get", "k", "-o", str(tmp_path / "new"))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode
    (tmp_path / "new").chmod(0o644)
    holdall("get", "k", "-o", str(tmp_path / "new"))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o644, "an older file keeps its bits"


def test_get_writes_into_a_device(holdall):
    holdall("put", "k", "new")
    holdall("get", "k", "-o", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("name", ["", ".", "no/such/folder/file"])
def test_get_refuses_what_is_no_file(holdall, name):
    holdall("put", "k", "v")
    holdall.error("get", "k", "-o", name, code=2)


def test_cat_goes_on_past_a_key_that_is_not_there(holdall):
    holdall("put", "a", "1")
    holdall("put", "b", "2")
    output, errors = holdall.both("cat", "a", "absent", "b", code=1)
    assert (output, errors) == (b"12", "holdall: 'absent': no such blob\n")


def test_exists_says_nothing_unless_asked(holdall):
    holdall("put", "a", "")
    assert holdall("exists", "a") == b""
    assert holdall.both("exists", "b", code=1) == (b"", "")
    assert holdall("exists", "a", "--verbose") == b"a exists\n"
    assert holdall("exists", "b", "-v", code=1) == b"b doesn't exist\n"


def test_info_for_people(holdall):
    holdall("put", "notes.md", stdin=bytes(3_412_345))
    shown = holdall("info", "notes.md").decode()
    assert "3.4 MB (3,412,345 bytes)" in shown
    assert "text/markdown (guessed from the key)" in shown
    assert "expires:       never" in shown


def test_info_tells_a_recorded_type_from_a_guess(holdall, tmp_path):
    uri = f"sqlite:///{tmp_path}/s.db"
    holdall("put", "notes.md", "x", "--content-type", "text/x-notes", "--ttl", "3600", uri=uri)
    shown = holdall("info", "notes.md", uri=uri).decode()
    assert "content type:  text/x-notes\n" in shown
    assert "never" not in shown


def test_info_of_the_store(holdall):
    holdall("put", "a", "1")
    assert holdall("info").startswith(b"store:   FilesystemStore(")
    assert "swap" in json.loads(holdall("info", "--json"))["can"]


def test_a_reader_that_goes_away_ends_it_silently(holdall):
    holdall("put", "big", stdin=bytes(4 << 20))
    for command in (["get", "big"], ["get", "big", "-o", "/dev/stdout"], ["cat", "big", "big"]):
        process = holdall.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(60) == 128 + signal.SIGPIPE


def test_a_descriptor_that_is_not_open_is_an_error(holdall):
    holdall("put", "k", "v")
    assert holdall.error("get", "k", "-o", "/dev/fd/99", code=2) == (
        "can't write '/dev/fd/99': bad file descriptor"
    )


def test_a_full_disk_is_an_error_even_for_the_last_byte(holdall):
    holdall("put", "k", "v")
    with open("/dev/full", "wb") as full:
        process = holdall.start("get", "k", stdout=full, stderr=subprocess.PIPE)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 4
    assert errors == b"holdall: can't write to standard output: no space left on device\n"


def test_a_descriptor_is_written_to_and_not_replaced(anywhere, tmp_path):
    anywhere("put", "a", "1")
    path = tmp_path / "both.txt"
    with path.open("wb") as file:
        file.write(b"first ")
        file.flush()
        process = anywhere.start("get", "a", "-o", "/dev/stdout", stdout=file)
        assert process.wait() == 0
    with path.open("ab") as file:
        file.write(b" last")
    assert path.read_bytes() == b"first 1 last"
    reader, writer = os.pipe()
    process = anywhere.start("get", "a", "-o", f"/dev/fd/{writer}", pass_fds=(writer,))
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"1"
    assert process.wait() == 0


def test_a_file_that_is_replaced_keeps_its_rights(anywhere, tmp_path):
    anywhere("put", "a", "new")
    path = tmp_path / "out"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    path.chmod(0o640)
    anywhere("get", "a", "--output", str(path))
    found = path.stat()
    assert (path.read_bytes(), found.st_uid, found.st_gid) == (b"new", 12345, 23456)
    assert stat.S_IMODE(found.st_mode) == 0o640


def test_exists_prints_json(holdall):
    holdall("put", "a", "x")
    assert json.loads(holdall("exists", "a", "--json")) == {"key": "a", "exists": True}
    assert json.loads(holdall("exists", "b", "--json", code=1)) == {"key": "b", "exists": False}
