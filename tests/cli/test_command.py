"""What all commands share: naming the store, help, errors, completion, and how they end."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

import holdall as package

IN_A_STORE = ["ls", "keys", "get", "put", "cat", "rm", "cp", "mv", "info", "exists", "du", "tree"]
IN_A_STORE += ["stream", "local", "lock", "verify", "rotate", "repair", "doctor"]
COMMANDS = [*IN_A_STORE, "sync", "mirror", "migrate", "diff", "io", "keygen", "cache", "catalog"]
ON_A_CATALOG = ["ls", "show", "put", "get", "rm", "find", "tag", "alias", "history", "usage"]
ON_A_CATALOG += ["restore", "lease", "index", "verify", "collect", "migrate", "export", "import"]


def test_the_store_is_named_before_the_command_after_it_or_by_the_environment(holdall, tmp_path):
    one, two = str(tmp_path / "1"), f"sqlite:///{tmp_path}/2.db"
    holdall("--store", one, "put", "k", "one", uri="")
    holdall("put", "k", "two", "-s", two, uri="")
    assert holdall("get", "k", "--store", one, uri=two) == b"one"
    assert holdall("--store", one, "get", "k", uri=two) == b"one"
    assert holdall("--store", one, "get", "k", "--store", two, uri="") == b"two"
    assert holdall("get", "k", uri=two) == b"two"


@pytest.mark.parametrize("command", [["keys"], ["get", "a"], ["rm", "a"], ["tree"], ["info"]])
def test_without_a_store_it_says_what_to_do(holdall, command):
    error = holdall.error(*command, code=2, uri="")
    assert "--store" in error
    assert "HOLDALL_URI" in error


def test_an_unknown_scheme_lists_those_known(holdall):
    assert "sqlite" in holdall.error("keys", "--store", "frob://x", code=2)


def test_an_empty_store_is_not_the_usual_one(holdall):
    holdall("put", "k", "v")
    for args in (("rm", "k", "-s", ""), ("-s", "", "rm", "k"), ("verify", "")):
        assert "no store was named" in holdall.error(*args, code=2)
    assert holdall("keys") == b"k\n"


def test_wrong_usage_is_one_line(holdall):
    assert "--help" in holdall.error("get", code=2)
    assert "frob" in holdall.error("frob", code=2)
    assert "?;" not in holdall.error("gett", code=2)
    assert holdall.error("gett", code=2).endswith("ee holdall --help")
    assert "--frob" in holdall.error("keys", "--frob", code=2)
    assert "'a//b'" in holdall.error("get", "a//b", code=2)
    assert "surrogates" in holdall.error("get", b"\xff", code=2)


def test_a_store_that_cannot_be_used_is_unavailable(holdall, tmp_path):
    (tmp_path / "file").write_text("not a database, and longer than a header" * 10)
    for uri in (f"sqlite:///{tmp_path}/file", f"zip://{tmp_path}/file", f"{tmp_path}/file"):
        holdall.error("keys", code=4, uri=uri)


def test_alone_it_shows_its_help(holdall):
    output, errors = holdall.both(code=2)
    assert errors == ""
    assert all(command in output.decode() for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(holdall, command):
    shown = holdall(command, "--help", uri="").decode()
    assert re.search(f"Examples?:(?s:.*)\n   .*holdall {command}", shown)
    assert ("--store" in shown) == (command in IN_A_STORE)
    assert not re.search("<(bool|str|int|list)", shown)
    assert "{" not in shown.partition("Usage")[2].partition("\n")[0]


@pytest.mark.parametrize("command", ON_A_CATALOG)
def test_every_command_on_a_catalogue_has_help_with_an_example(holdall, command):
    shown = holdall("catalog", command, "--help", uri="").decode()
    assert re.search(f"Examples?:(?s:.*)\n   .*holdall catalog {command}", shown)
    assert all(option in shown for option in ("--catalog", "--backend", "--blobs", "-C"))
    assert "<bool>" not in shown


def test_a_group_alone_shows_its_help(holdall):
    output, errors = holdall.both("catalog", code=2)
    assert errors == ""
    assert all(f" {command} " in output.decode() for command in ON_A_CATALOG)
    assert b"\n   holdall cache ls" in holdall.both("cache", code=2)[0]
    assert b"\n   holdall cache ls" in holdall("cache", "ls", "--help")


@pytest.mark.parametrize("args", ["--help", "sync --help"])
def test_a_reader_of_the_help_that_ends_is_as_one_of_any_output(holdall, args):
    line = f"{sys.executable} -m holdall {args} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=holdall.env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


def test_version(holdall):
    assert holdall("--version", uri="").decode() == f"holdall {package.__version__}\n"


def test_a_closed_standard_output_matters_only_to_who_writes(holdall):
    run = f'"{sys.executable}" -m holdall'
    for command, code in ((f"{run} put k v >&-", 0), (f"{run} get k >&-", 4), (f"{run} put k w <&-", 0)):
        done = subprocess.run(
            command, shell=True, env=holdall.env, cwd=holdall.cwd, capture_output=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr


def test_a_fault_of_ours_is_one_line_unless_asked_for_more(holdall):
    code = (
        "import sys, holdall.cli, holdall.store\n"
        "def broken(self, *_, **__): raise ZeroDivisionError('oh')\n"
        "holdall.store.Store.iterate_keys = broken\n"
        "sys.exit(holdall.cli.main(['keys']))"
    )
    plain = subprocess.run([sys.executable, "-c", code], env=holdall.env, capture_output=True, check=False)
    assert plain.returncode == 70
    assert plain.stderr.startswith(b"holdall: a bug in holdall: ZeroDivisionError: oh")
    assert plain.stderr.count(b"\n") == 1
    env = {**holdall.env, "HOLDALL_DEBUG": "1"}
    debug = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert debug.stderr.startswith(b"Traceback")


def test_a_write_that_fails_at_close_is_reported(holdall):
    code = (
        "import sys, holdall, holdall.cli\n"
        "def broken(self): raise holdall.StoreUnavailableError('the disk is full')\n"
        "holdall.FilesystemStore._close = broken\n"
        "sys.exit(holdall.cli.main(['put', 'k', 'v']))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=holdall.env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (4, b"holdall: the disk is full\n")


@pytest.mark.parametrize("args", [[], ["--help"], ["keys", "--help"], ["keys", "--frob"]])
def test_without_typer_it_says_what_to_install(args):
    code = f"import sys; sys.modules['typer'] = None\nimport holdall.cli; sys.exit(holdall.cli.main({args}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 4
    assert b"pip install 'holdall[cli]'" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_command_without_a_mistake_loads_neither_typer_nor_converters(holdall):
    holdall("put", "k", "v")
    code = (
        "import sys, holdall.cli\n"
        "assert holdall.cli.main(['exists', 'k']) == holdall.cli.main(['keys', '--prefix', 'x']) == 0\n"
        "heavy = {'typer', 'rich', 'pydantic', 'msgspec', 'sqlite3', 'zipfile', 'holdall.values.store'}\n"
        "sys.stderr.write(' '.join(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=holdall.env, capture_output=True, check=False)
    assert done.stderr == b""


def complete(holdall, line: list[str], **env: str) -> list[str]:
    """What is offered, where bash asks about the last word; it takes words apart at colons."""
    words: list[str] = []
    for word in ["holdall", *line]:
        parts = word.replace(":", "\0:\0").replace("=", "\0=\0").split("\0")
        words += [part for part in parts if part] or [""]
    done = subprocess.run(
        [sys.executable, "-m", "holdall"],
        env={
            **holdall.env,
            "_HOLDALL_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(words),
            "COMP_CWORD": str(len(words) - 1),
            **env,
        },
        cwd=holdall.cwd,
        capture_output=True,
        check=False,
    )
    assert done.stderr == b""
    return done.stdout.decode().split()


def test_commands_and_options_are_completed(holdall):
    assert set(complete(holdall, [""])) == set(COMMANDS)
    assert complete(holdall, ["keys", "--exc"]) == ["--exclude-prefix"]


def test_keys_are_completed(holdall, tmp_path):
    for key in ("logs/1", "logs/2", "other", "a:b:c", "it's; rm -rf $HOME"):
        holdall("put", key, "x")
    assert complete(holdall, ["get", "lo"]) == ["logs/1", "logs/2"]
    assert complete(holdall, ["cp", "other", "logs/2"]) == ["logs/2"]
    assert complete(holdall, ["get", "a:b"]) == ["b:c"]
    assert complete(holdall, ["get", "a:"]) == ["b:c"]
    # What a shell might run is not offered.
    assert complete(holdall, ["get", "it"]) == []


def test_keys_of_a_catalogue_are_completed(holdall, tmp_path):
    (tmp_path / "file").write_text("x")
    for key in ("run/1", "run/2", "other", "a b"):
        holdall("catalog", "put", key, "file", "-C", "c", "--create")
    assert complete(holdall, ["catalog", "show", "-C", "c", "ru"]) == ["run/1", "run/2"]
    assert complete(holdall, ["catalog", "get", "ru"], HOLDALL_CATALOG="c") == ["run/1", "run/2"]
    assert complete(holdall, ["catalog", "get", "ru"], HOLDALL_CATALOG="d") == []
    assert complete(holdall, ["catalog", "h"]) == ["history"]
    assert not (tmp_path / "d").exists()


def test_keys_are_completed_in_the_store_that_the_line_names(holdall, tmp_path):
    uri = f"sqlite:///{tmp_path}/s.db"
    holdall("put", "there", "x", uri=uri)
    for line in (["--store", uri, "get", "th"], ["get", "-s", uri, "th"], [f"--store={uri}", "info", "th"]):
        assert complete(holdall, line, HOLDALL_URI="") == ["there"]


def test_configured_stores_are_completed(holdall, tmp_path):
    (tmp_path / "holdall.toml").write_text(
        "[stores.models]\nuri = 'sqlite:///m.db'\n[stores.more]\nuri = 'x'\n[stores.logs]\nuri = 'x'\n"
    )
    for line in (["keys", "--store", "mo"], ["sync", "mo"], ["diff", "./x", "mo"], ["verify", "mo"]):
        assert complete(holdall, line) == ["models", "more"]
    holdall("put", "there", "x", "--store", "models")
    assert complete(holdall, ["get", "--store", "models", "th"]) == ["there"]
    assert complete(holdall, ["sync", "a", "b", "--compare", "si"]) == ["size"]
    (tmp_path / "holdall.toml").write_text("[stores")
    assert complete(holdall, ["keys", "--store", "mo"]) == []


def test_completion_offers_fifty_and_makes_nothing(holdall, tmp_path):
    assert complete(holdall, ["get", "x"]) == []
    assert list(tmp_path.iterdir()) == []
    with package.Store.from_uri(holdall.uri) as store:
        store.update({f"k{number:03}": b"" for number in range(120)})
    assert len(complete(holdall, ["get", "k"])) == 50


@pytest.mark.parametrize("uri", ["", "frob://x", "sqlite://two-slashes", "/dev/null"])
def test_completion_never_fails(holdall, uri):
    assert complete(holdall, ["get", "x"], HOLDALL_URI=uri) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(holdall, shell):
    env = {**holdall.env, "_HOLDALL_COMPLETE": f"source_{shell}"}
    done = subprocess.run(
        [sys.executable, "-m", "holdall"], env=env, capture_output=True, check=False, text=True
    )
    assert "_HOLDALL_COMPLETE" in done.stdout


def test_bash_itself(holdall, tmp_path):
    holdall("put", "greeting", "x")
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "holdall").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m holdall "$@"\n')
    (scripts / "holdall").chmod(0o755)
    script = (
        'eval "$(_HOLDALL_COMPLETE=source_bash holdall)"\n'
        "COMP_WORDS=(holdall get gr) COMP_CWORD=2\n"
        "_holdall_completion holdall\n"
        'echo "${COMPREPLY[@]}"'
    )
    env = {**holdall.env, "PATH": f"{scripts}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, check=False, text=True)
    assert done.stdout == "greeting\n", done.stderr
