"""sync, mirror, diff, verify, cp and mv between stores; and stores by their configured names."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdall import Store

ENDS = {
    "file": "./{}",
    "hashdir": "hashdir://{}",
    "sqlite": "sqlite:///{}.db",
    "zip": "zip://{}.zip",
}


@pytest.fixture
def command(holdall, tmp_path):
    """`holdall` in a folder of its own, without a store of the environment."""
    holdall.env.pop("HOLDALL_URI")
    holdall.env.pop("HOLDALL_CONFIG", None)
    holdall.env["XDG_STATE_HOME"] = str(tmp_path / "state")
    holdall.env["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    return holdall


def fill(folder: Path, blobs: dict[str, bytes]) -> None:
    for key, data in blobs.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)


def content(uri: str, folder: Path) -> dict[str, bytes]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        with Store.from_uri(uri) as store:
            return dict(store.items())
    finally:
        os.chdir(before)


BLOBS = {"a/1": b"one", "a/2": b"", "b": b"two" * 1000, "é ü": b"three"}


@pytest.mark.parametrize(
    ("source", "target"), [(one, other) for one in ENDS for other in ENDS if one < other]
)
def test_from_any_store_to_any_other_and_back(command, tmp_path, source, target):
    one, other, back = ENDS[source].format("one"), ENDS[target].format("other"), ENDS[source].format("back")
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        with Store.from_uri(one) as store:
            store.update(BLOBS)
    finally:
        os.chdir(before)
    assert command("sync", one, other).startswith(b"4 copied, 3.0 kB in ")
    assert command("mv", other, back).startswith(b"4 copied, 4 deleted, 3.0 kB in ")
    assert content(back, tmp_path) == BLOBS
    assert content(other, tmp_path) == {}


def test_sync_copies_what_differs_and_deletes_only_when_asked(command, tmp_path):
    fill(tmp_path / "s", {"same": b"1", "new": b"2", "changed": b"now"})
    fill(tmp_path / "t", {"same": b"1", "changed": b"old", "more": b"3", "more2": b"4"})
    assert command("sync", "s", "t").startswith(b"2 copied, 1 skipped, 4 B")
    assert content("./t", tmp_path) == {**content("./s", tmp_path), "more": b"3", "more2": b"4"}
    assert command("sync", "s", "t", "--delete").startswith(b"2 deleted, 3 skipped, 0 B")
    assert content("./t", tmp_path) == content("./s", tmp_path)
    assert command("mirror", "s", "t", "--quiet") == b""


def test_only_some_keys(command, tmp_path):
    fill(tmp_path / "s", {"a/1.txt": b"1", "a/2.jpg": b"2", "b/3.txt": b"3"})
    fill(tmp_path / "t", {"z": b"4", "a/gone.txt": b"5"})
    command("sync", "s", "t", "--prefix", "a/", "--glob", "**/*.txt")
    assert set(content("./t", tmp_path)) == {"z", "a/gone.txt", "a/1.txt"}
    command("mirror", "s", "t", "--glob", "a/*.txt")
    assert set(content("./t", tmp_path)) == {"z", "a/1.txt"}
    command("mv", "./s", "./t", "--prefix", "b/")
    assert set(content("./s", tmp_path)) == {"a/1.txt", "a/2.jpg"}
    assert command("sync", "s", "t", "--prefix", "none/") == b"nothing to do: s has no blobs that match\n"


def test_how_blobs_are_compared(command, tmp_path):
    fill(tmp_path / "s", {"a": b"1"})
    fill(tmp_path / "t", {"a": b"2"})
    assert b"1 skipped" in command("sync", "s", "t", "--compare", "size")
    assert b"1 copied" in command("sync", "s", "t", "--compare", "content", "--jobs", "2", "--no-verify")
    assert "--compare takes one of auto, " in command.error("sync", "s", "t", "--compare", "colour", code=2)
    assert "--compare takes one of auto, " in command.error("diff", "s", "t", "--compare", "colour", code=2)


def test_the_report_for_programs(command, tmp_path):
    fill(tmp_path / "s", {"a": b"1", "b": b"22"})
    report = json.loads(command("sync", "s", "t", "--json"))
    assert report["seconds"] > 0
    assert report["rate"] > 0
    del report["seconds"], report["rate"]
    assert report == {
        "copied": 2,
        "skipped": 0,
        "deleted": 0,
        "checked": 0,
        "resumed": 0,
        "failed": 0,
        "withheld": 0,
        "left_out": {},
        "bytes": 3,
        "failures": {},
    }


@pytest.mark.parametrize(
    "place", ["./typo", "hashdir://typo", "sqlite:///typo.db?prefix=a", "zip://typo.zip"]
)
def test_a_source_that_is_not_there_is_no_backup_done(command, tmp_path, place):
    fill(tmp_path / "t", {"a": b"1"})
    for name in ("sync", "mirror", "cp", "mv", "diff", "verify"):
        told = command.error(name, place, *([] if name == "verify" else ["./t"]), "--quiet", code=4)
        assert "there is nothing at" in told
        assert place.partition("?")[0] in told
    assert content("./t", tmp_path) == {"a": b"1"}


def test_a_source_that_has_been_emptied_is_there(command, tmp_path):
    fill(tmp_path / "s", {"a": b"1"})
    command("mv", "./s", "./t")
    assert command("mv", "./s", "./t").startswith(b"nothing to do")
    assert command("verify", "memory://").startswith(b"nothing to do")


def test_a_dry_run_prints_the_plan_and_touches_nothing(command, tmp_path):
    fill(tmp_path / "s", {"same": b"1", "new": b"2", "changed": b"now"})
    fill(tmp_path / "t", {"same": b"1", "changed": b"old", "more": b"3"})
    before = content("./t", tmp_path)
    assert command("mirror", "s", "t", "--dry-run").decode().splitlines() == [
        "~ changed  (3 B)",
        "- more  (1 B)",
        "+ new  (1 B)",
        "2 to copy (4 B), 1 to delete, 1 equal; nothing was done",
    ]
    lines = [json.loads(line) for line in command("sync", "s", "t", "-n", "--json").splitlines()]
    assert [(line["kind"], line["key"], line["size"]) for line in lines] == [
        ("copy", "changed", 3),
        ("copy", "new", 1),
    ]
    assert lines[1]["target_etag"] is None
    assert command("mv", "./s", "./fresh", "--dry-run", "--resume")
    assert content("./t", tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "state") == ["s", "t"]


def test_too_much_to_delete_is_refused(command, tmp_path):
    fill(tmp_path / "s", {"a": b"1"})
    fill(tmp_path / "t", {"a": b"0", "b": b"2", "c": b"3"})
    before = content("./t", tmp_path)
    for arguments in (["mirror"], ["sync", "--delete"], ["mirror", "--max-delete", "10%"]):
        error = command.error(*arguments, "s", "t", code=3)
        assert error.startswith("2 of 3 blobs in t would be deleted")
        assert "--max-delete 2" in error
    assert content("./t", tmp_path) == before
    for allowed in ("2", "100%", "0.7"):
        fill(tmp_path / "t", {"b": b"2", "c": b"3"})
        assert b"2 deleted" in command("mirror", "s", "t", "--max-delete", allowed)
    for wrong in ("many", "-1", "150%", "nan", ""):
        assert "--max-delete" in command.error("mirror", "s", "t", "--max-delete", wrong, code=2)
    assert "--delete" in command.error("sync", "s", "t", "--max-delete", "1", code=2)


def test_one_keys_failure_is_told_and_stops_no_other(command, tmp_path):
    with Store.from_uri(f"sqlite:///{tmp_path}/s.db") as store:
        store.update({"a/b": b"1", "c": b"2", "d/e": b"3"})
    fill(tmp_path / "t", {"a": b"in the way", "d": b"too"})
    output, errors = command.both("sync", "sqlite:///s.db", "t", code=4)
    assert re.fullmatch(r"1 copied, 2 failed, 1 B in .*\n", output.decode())
    lines = errors.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("holdall: 'a/b': ")
    assert lines[1].startswith("holdall: 'd/e': ")
    assert content("./t", tmp_path) == {"a": b"in the way", "c": b"2", "d": b"too"}
    output, _ = command.both("sync", "sqlite:///s.db", "t", "--json", code=4)
    assert set(json.loads(output)["failures"]) == {"a/b", "d/e"}
    output, errors = command.both("sync", "sqlite:///s.db", "t", "--quiet", code=4)
    assert (output, errors.count("\n")) == (b"", 2)


def test_a_store_into_itself_is_refused(command, tmp_path):
    fill(tmp_path / "s", {"a": b"1"})
    for target in ("s", "./s/sub", str(tmp_path / "s")):
        assert "overlap" in command.error("sync", "s", target, code=2)
    assert content("./s", tmp_path) == {"a": b"1"}


def many(folder: Path, count: int) -> dict[str, bytes]:
    blobs = {f"{number % 10}/{number:05}": os.urandom(200) for number in range(count)}
    fill(folder, blobs)
    return blobs


def until_there(process: subprocess.Popen[bytes], folder: Path, count: int) -> int:
    """Wait until so many blobs are in a folder; how many there are."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, "it ended before it could be stopped"
        there = sum(len(files) for _, _, files in os.walk(folder))
        if there >= count:
            return there
    raise AssertionError("it copied nothing")


def test_a_sync_that_was_killed_goes_on(command, tmp_path):
    blobs = many(tmp_path / "s", 3000)
    process = command.start("sync", "s", "t", "--resume", stdout=subprocess.PIPE)
    until_there(process, tmp_path / "t", 1000)
    process.kill()
    process.wait()
    process.stdout.close()
    there = len(content("./t", tmp_path))
    assert there < 3000
    assert len(list((tmp_path / "state" / "holdall").glob("*.journal"))) == 1
    report = json.loads(command("sync", "s", "t", "--resume", "--json"))
    assert report["failed"] == 0
    assert report["resumed"] >= 900
    # What was copied and not yet recorded is copied or compared again: under a hundredth of all.
    assert report["copied"] + report["skipped"] + report["resumed"] == 3000
    assert report["copied"] <= 3000 - there + 30
    assert content("./t", tmp_path) == blobs
    assert b"3,000 skipped" in command("sync", "s", "t", "--resume")


def test_another_transfer_has_another_journal(command, tmp_path):
    fill(tmp_path / "s", {"a": b"1"})
    for options in ([], ["--prefix", "a"], ["--compare", "size"], ["--delete"]):
        command("sync", "s", "t", "--resume", *options)
    command("sync", "./s/../s", str(tmp_path / "t"), "--resume")
    assert len(list((tmp_path / "state" / "holdall").iterdir())) == 4
    command("sync", "s", "t", "--journal", "my.journal")
    assert (tmp_path / "my.journal").exists()
    assert "other stores" in command.error("sync", "s", "elsewhere", "--journal", "my.journal", code=2)
    (tmp_path / "notes").write_text("no journal" * 1000)
    assert "a journal of holdall" in command.error("sync", "s", "t", "--journal", "notes", code=2)
    assert (tmp_path / "notes").read_text() == "no journal" * 1000
    assert "would be among its blobs" in command.error("sync", "s", "t", "--journal", "s/j", code=2)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_ctrl_c_hints_at_resume(command, tmp_path, number, code):
    many(tmp_path / "s", 3000)
    process = command.start("cp", "./s", "./t", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until_there(process, tmp_path / "t", 100)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert output == b""
    told = [line for line in errors.decode().splitlines() if line]
    assert told == ["holdall: stopped; what was copied is whole; run it again (with --resume) to go on"]
    assert 0 < len(content("./t", tmp_path)) < 3000


def test_a_terminal_sees_a_bar_with_blobs_and_bytes(command, tmp_path, terminal):
    many(tmp_path / "s", 300)
    # Patience is for people; here the bar is to be seen however fast the disk is.
    code = (
        "import sys, holdall.cli\nfrom holdall.cli import progress\n"
        "progress._PATIENCE = progress._PAUSE = 0\n"
        "sys.exit(holdall.cli.main(['sync', 's', 't']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=command.env,
        cwd=tmp_path,
        stderr=terminal.slave,
        stdout=subprocess.PIPE,
    )
    terminal.until(lambda seen: re.search(r"sync .*\d+/300 blobs .* k?B .*/s", seen))
    while process.poll() is None:
        terminal.poll(0.05)
    assert process.stdout.read().startswith(b"300 copied")
    process.stdout.close()
    assert process.returncode == 0


def test_diff(command, tmp_path):
    fill(tmp_path / "s", {"same": b"1", "new": b"2", "changed": b"longer", "bytes": b"x"})
    fill(tmp_path / "t", {"same": b"1", "changed": b"old", "more": b"3", "bytes": b"y"})
    lines = command("diff", "s", "t", code=1).decode().splitlines()
    assert lines == ["~ bytes  (1 B)", "~ changed  (3 B -> 6 B)", "- more  (1 B)", "+ new  (1 B)"]
    assert command("diff", "s", "t", "--compare", "size", code=1).decode().count("\n") == 3
    assert command("diff", "s", "t", "--quiet", code=1) == b""
    assert command("diff", "s", "t", "--prefix", "same") == b""
    found = [json.loads(line) for line in command("diff", "s", "t", "--json", code=1).splitlines()]
    assert [each["kind"] for each in found] == ["differs", "differs", "target", "source"]
    assert found[2]["source"] is None
    assert found[2]["target"]["size"] == 1
    command("mirror", "s", "t")
    assert command("diff", "s", "t") == b""
    command.error("diff", "s", "frob://x", code=2)


def test_verify_one_store(command, tmp_path):
    (tmp_path / "holdall.toml").write_text("[stores.safe]\nuri = './s'\nchecksum = true\n")
    for key in ("a", "b", "c"):
        command("put", key, "value of " + key, "--store", "safe")
    assert command("verify", "safe").startswith(b"3 checked, 30 B in ")
    assert json.loads(command("verify", "safe", "--json", "--glob", "[ab]"))["checked"] == 2
    damaged = bytearray((tmp_path / "s" / "b").read_bytes())
    damaged[0] ^= 1
    (tmp_path / "s" / "b").write_bytes(damaged)
    output, errors = command.both("verify", "safe", code=4)
    assert output.startswith(b"2 checked, 1 failed")
    assert errors.count("\n") == 1
    assert errors.startswith("holdall: 'b': ")


def test_verify_two_stores_reads_all_contents(command, tmp_path):
    fill(tmp_path / "s", {"a": b"1", "b": b"2"})
    command("cp", "./s", "zip://z.zip")
    assert command("verify", "s", "zip://z.zip") == b"2 keys compared, all are the same\n"
    fill(tmp_path / "s", {"b": b"3", "c": b"4"})
    lines = command("verify", "s", "zip://z.zip", code=1).decode().splitlines()
    assert lines == ["~ b  (1 B)", "+ c  (1 B)", "3 keys compared, 2 differ"]


def test_verify_two_stores_goes_on_past_what_cant_be_read(command, tmp_path):
    (tmp_path / "holdall.toml").write_text("[stores.safe]\nuri = './s'\nchecksum = true\n")
    fill(tmp_path / "t", {"a": b"1", "b": b"2", "c": b"3"})
    for key, value in (("a", "1"), ("b", "2"), ("c", "x")):
        command("put", key, value, "--store", "safe")
    damaged = bytearray((tmp_path / "s" / "a").read_bytes())
    damaged[0] ^= 1
    (tmp_path / "s" / "a").write_bytes(damaged)
    output, errors = command.both("verify", "safe", "./t", code=4)
    assert output == b"~ c  (1 B)\n3 keys compared, 1 differs and 1 can't be read\n"
    assert errors.startswith("holdall: 'a': ")


def test_keys_and_stores_are_told_apart(command, tmp_path):
    (tmp_path / "holdall.toml").write_text("[stores.models]\nuri = './m'\n")
    fill(tmp_path / "s", {"a": b"1"})
    for end in ("./t", str(tmp_path / "u"), f"../{tmp_path.name}/v", "sqlite:///w.db", "models:"):
        assert command("cp", "./s", end).startswith(b"1 copied")
    command("cp", "./s", "models:sub?readonly=0")
    assert set(content("./m", tmp_path)) == {"a", "sub/a"}
    for ends in (("a", "./t"), ("./s", "b"), ("models:", "b"), ("a", "models:sub")):
        error = command.error("cp", *ends, code=2)
        assert "is a store" in error
        assert "is a key" in error
    # A name that nobody configured is a key, as it always was.
    command("put", "x:y", "1", "--store", "s")
    command("cp", "x:y", "other:", "--store", "s")
    assert content("./s", tmp_path)["other:"] == b"1"


def test_options_of_keys_are_not_those_of_stores(command, tmp_path):
    fill(tmp_path / "s", {"a": b"1"})
    assert "--recursive is for keys" in command.error("cp", "./s", "./t", "-r", code=2)
    assert "--if-absent is for keys" in command.error("mv", "./s", "./t", "--if-absent", code=2)
    for options in (["--prefix", "a"], ["--dry-run"], ["--no-verify"], ["--jobs", "2"]):
        error = command.error("cp", "a", "b", *options, "--store", "s", code=2)
        assert f"{options[0]} is for cp between stores" in error
    for arguments in (["cp", "./s", "./t", "-s", "s"], ["-s", "s", "mv", "./s", "./t"]):
        assert "leave --store out" in command.error(*arguments, code=2)
    for name in ("sync", "mirror", "diff", "verify"):
        assert "leave --store out" in command.error("-s", "s", name, "s", "t", code=2)
    assert "empty" in command.error("sync", "", "t", code=2)
    assert content("./s", tmp_path) == {"a": b"1"}
    assert not (tmp_path / "t").exists()


def test_a_bare_name_opens_the_store_that_is_configured(command, tmp_path):
    (tmp_path / "holdall.toml").write_text("[stores.models]\nuri = 'sqlite:///m.db'\nprefix = 'v1'\n")
    (tmp_path / "sub").mkdir()
    command("put", "k", "v", "--store", "models")
    command.cwd = tmp_path / "sub"
    assert command("get", "k", "-s", "models") == b"v"
    assert command("get", "k", "-s", "models:") == b"v"
    assert command("get", "k", uri="models") == b"v"
    assert content(f"sqlite:///{tmp_path}/m.db", tmp_path) == {"v1/k": b"v"}
    # A path is one as soon as it is written as one, and a name that isn't configured always was.
    command("put", "k", "path", "--store", "./models")
    assert (tmp_path / "sub" / "models" / "k").read_bytes() == b"path"
    command("put", "k", "path", "--store", "others")
    assert (tmp_path / "sub" / "others" / "k").read_bytes() == b"path"
    command("sync", "models", "copy")
    assert (tmp_path / "sub" / "copy" / "k").read_bytes() == b"v"


def test_a_name_that_is_nearly_one_makes_no_folder(command, tmp_path):
    file = tmp_path / "holdall.toml"
    file.write_text("[stores.models]\nuri = 'memory://'\n")
    for args in (("put", "k", "v", "-s", "modles"), ("keys", "-s", "modles"), ("sync", "models", "modles")):
        told = command.error(*args, code=2)
        assert f"{file} has no store of that name; did you mean 'models'? To make a new folder, write" in told
    assert os.listdir(tmp_path) == ["holdall.toml"]
    (tmp_path / "modles").mkdir()
    command("put", "k", "v", "-s", "modles")
    assert (tmp_path / "modles" / "k").read_bytes() == b"v"


def test_a_wrong_configuration_is_one_line_that_names_file_and_key(command, tmp_path):
    file = tmp_path / "holdall.toml"
    file.write_text("[stores.models]\nuri = 'memory://'\nchache = 'x'\n")
    error = command.error("keys", "-s", "models", code=2)
    assert error.startswith(f"{file}: stores.models.chache: unknown")
    assert "'cache'" in error
    assert "names models" in command.error("keys", "-s", "model:", code=2)
    file.write_text("[stores")
    assert f"{file} isn't valid TOML" in command.error("keys", "-s", "models", code=2)
    assert "there is nothing at" in command.both("keys", "-s", "./models")[1]


def test_a_source_that_is_not_there_is_refused(command, tmp_path):
    (tmp_path / "photos").symlink_to("/nowhere/disk")
    (tmp_path / "holdall.toml").write_text(
        "[stores.cached]\nuri = './missing'\ncache = 'memory://'\n"
        "[stores.replicas]\nreplicas = { a = './missing', b = './missing2' }\n"
        "[stores.one]\nreplicas = { a = './missing', b = './there' }\n"
    )
    fill(tmp_path / "there", BLOBS)
    fill(tmp_path / "copy", BLOBS)
    for place in ("./photos", "./missing", "git+file://typo", "cached:", "replicas:"):
        for words in (
            ("mirror", place, "./copy", "--max-delete", "10"),
            ("sync", place, "./copy"),
            ("verify", place),
        ):
            assert "there is nothing at" in command.error(*words, code=4)
    assert content("./copy", tmp_path) == BLOBS
    assert not (tmp_path / "typo").exists()
    assert not (tmp_path / "missing").exists()
    command("sync", "one:", "./copy", "-q")
