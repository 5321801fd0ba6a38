"""What a newcomer mistypes is refused or warned of: nothing that matches nothing passes for done."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.cli.conftest import COMMAND, Holdall
from tests.cli.started import Started

WRONG = ("/logs/", "../x", "sqlite:///x.db")


@pytest.fixture
def plain(tmp_path: Path, started: Started) -> Holdall:
    """A folder as a store, with one blob."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a").write_bytes(b"1")
    return Holdall("./store", tmp_path, started)


@pytest.mark.parametrize("command", ["keys", "ls", "tree", "du"])
def test_a_prefix_that_no_key_can_start_with_is_refused(plain: Holdall, command: str) -> None:
    for prefix in WRONG:
        assert "no key starts with" in plain.error(command, prefix, code=2)


@pytest.mark.parametrize("command", ["sync", "mirror", "diff"])
def test_what_can_select_nothing_is_refused_between_stores(
    plain: Holdall, command: str, tmp_path: Path
) -> None:
    (tmp_path / "copy").mkdir()
    for prefix in WRONG:
        assert "no key starts with" in plain.error(command, "./store", "./copy", "-p", prefix, code=2)
        assert "matches no key" in plain.error(command, "./store", "./copy", "--include", prefix, code=2)
    for name in ("./a", "."):
        # It would have been copied, and what was to be kept private would lie there.
        assert "matches no key" in plain.error(command, "./store", "./copy", "--exclude", name, code=2)
    assert "write 'a/**'" in plain.error(command, "./store", "./copy", "--include", "a/", code=2)
    assert os.listdir(tmp_path / "copy") == []


def test_a_pattern_as_a_prefix_is_warned_of(plain: Holdall) -> None:
    output, errors = plain.both("keys", "b*")
    assert (output, "--glob" in errors) == (b"", True)
    assert "matches no key" in plain.error("keys", "--glob", "./a", code=2)


@pytest.mark.parametrize("command", ["keys", "ls", "tree", "du"])
def test_every_listing_warns_of_what_it_leaves_out(plain: Holdall, command: str, tmp_path: Path) -> None:
    for number in range(3):
        os.symlink("a", tmp_path / "store" / f"link-{number}")
    output, errors = plain.both(command)
    assert b"a" in output
    assert errors.count("\n") == 1
    assert "left out 3 of kind 'symbolic link'" in errors


def test_a_command_on_blobs_shows_what_the_library_warns_of(plain: Holdall, tmp_path: Path) -> None:
    plain("keygen", "--output", "key")
    (tmp_path / "key").chmod(0o644)
    (tmp_path / "holdall.toml").write_text("[stores.vault]\nuri = './vault'\nencrypt = 'file:key'\n")
    for args in (("put", "a", "1"), ("get", "a"), ("exists", "a"), ("rm", "a")):
        _, errors = plain.both(*args, uri="vault:")
        assert errors.count("chmod 600") == errors.count("\n") == 1


def test_a_stack_that_compresses_what_is_encrypted_is_one_line(usual: Holdall, tmp_path: Path) -> None:
    usual("keygen", "-o", "key")
    (tmp_path / "holdall.toml").write_text(
        "[stores.small]\nuri = './small'\ncompress = 'gzip'\n"
        "[stores.odd]\nuri = 'small:'\nencrypt = 'file:key'\n"
        "[stores.right]\nuri = './other'\ncompress = 'gzip'\nencrypt = 'file:key'\n"
    )
    errors = usual.both("put", "a", "1", uri="odd:")[1]
    assert errors.startswith("holdall: CompressedStore below EncryptedStore")
    assert errors.count("\n") == 1
    assert usual.both("put", "a", "1", uri="right:") == (b"", "")


def test_a_warning_whose_number_grows_is_printed_twice(plain: Holdall, tmp_path: Path) -> None:
    for folder, links in (("b", 1), ("c", 2), ("d", 3)):
        (tmp_path / "store" / folder).mkdir()
        (tmp_path / "store" / folder / "x").write_bytes(b"")
        for number in range(links):
            os.symlink("x", tmp_path / "store" / folder / f"link-{number}")
    lines = plain.both("tree")[1].splitlines()
    assert ["left out 1 of" in lines[0], "left out 3 of" in lines[1], len(lines)] == [True, True, 2]


@pytest.mark.parametrize(
    "args", [("get", "a", "--output", "full/x"), ("keygen", "--output", "full/x")], ids=["get", "keygen"]
)
def test_a_file_that_a_full_disk_can_not_hold_is_named(
    plain: Holdall, tmp_path: Path, args: tuple[str, ...]
) -> None:
    (tmp_path / "store" / "a").write_bytes(bytes(1 << 20))
    (tmp_path / "full").mkdir()
    fill = (
        'mount -t tmpfs -o size=8k none full && { head -c 8192 /dev/zero > full/0; "$@"; echo "$?" full/*; }'
    )
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", fill, "sh", *COMMAND, *args],
        env=plain.env,
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.decode() == "holdall: 'full/x': no space left on device\n"
    assert done.stdout.decode() == "4 full/0\n"


def test_a_repository_on_a_read_only_disk_is_said(plain: Holdall, tmp_path: Path) -> None:
    plain("put", "a", "1", uri="git+file://repository")
    seal = 'mount --bind repository repository && mount -o remount,ro,bind repository && exec "$@"'
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", seal, "sh", *COMMAND, "put", "a", "2"],
        env={**plain.env, "HOLDALL_URI": "git+file://repository"},
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, b"mounted read-only" in done.stderr) == (2, True), done.stderr


def test_a_file_in_the_place_of_a_key_is_answered_with_the_right_command(
    plain: Holdall, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"1")
    assert "holdall get a --output ./new" in plain.error("cp", "a", "./new", code=2)
    assert "holdall put b --file ./file" in plain.error("mv", "./file", "b", code=2)
    assert "is a store and 'a' is a key" in plain.error("cp", "a", "./store", code=2)


SECRET = "valkey://me:pw-secret@127.0.0.1:1/0"


@pytest.mark.parametrize(
    "args",
    [
        (SECRET, "keys"),
        ("keys", SECRET),
        ("keys", "a", SECRET),
        ("get", SECRET),
        ("put", SECRET, "x"),
        ("cp", SECRET, "a"),
        ("rm", SECRET),
        ("sync", SECRET, SECRET, SECRET),
        ("sync", SECRET, "./store"),
        ("migrate", "./store", SECRET),
        ("doctor", "--frob", SECRET),
        ("io", "-i", SECRET),
        ("lock", SECRET, "--", "true"),
        ("catalog", "ls", "--catalog", SECRET),
        ("catalog", SECRET),
    ],
    ids=lambda args: " ".join(args).replace(SECRET, "URI"),
)
def test_a_uri_in_a_wrong_place_is_quoted_without_its_password(plain: Holdall, args: tuple[str, ...]) -> None:
    output, errors, _ = plain.any(*args)
    assert errors
    assert "pw-secret" not in output + errors
