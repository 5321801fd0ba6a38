"""A store of git and its remotes: by path, by `git daemon`, over HTTP; alone, beside others, and offline."""

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.forks import forked, succeeds
from tests.servers.git import daemon, http
from tests.servers.proxy import Proxy

from holdall import ConcurrencyError, InvalidArgumentError, StoreUnavailableError
from holdall.stores.git import GitStore, remote
from holdall.testing import race


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git that knows nobody's configuration but this one."""
    folder = tmp_path_factory.mktemp("home")
    config = "[user]\nname = Ann\nemail = ann@example.org\n[init]\ndefaultBranch = main\n"
    (folder / ".gitconfig").write_text(config)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "none"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A bare repository that takes pushes."""
    folder = tmp_path / "served" / "repository.git"
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "--bare")
    git(folder, "config", "http.receivepack", "true")
    return folder


@pytest.fixture(params=["path", "daemon", "http"])
def url(request: pytest.FixtureRequest, bare: Path) -> Iterator[str]:
    """Each way to reach it."""
    if request.param == "path":
        yield str(bare)
    else:
        with (daemon if request.param == "daemon" else http)(bare.parent) as address:
            yield f"{address}/repository.git"


def opened(folder: Path, url: str, **options: object) -> GitStore:
    if not folder.exists():
        folder.mkdir()
        git(folder, "init", "-q")
        git(folder, "remote", "add", "origin", url)
    return GitStore(folder, **{"remote": True, "pull_interval": 0, "push": "now", **options})  # type: ignore[arg-type]


def check(folder: Path) -> None:
    assert git(folder, "status", "--porcelain") == ""
    git(folder, "fsck", "--strict")


def test_two_clones_see_each_other(tmp_path: Path, bare: Path, url: str) -> None:
    with opened(tmp_path / "one", url) as one, opened(tmp_path / "two", url) as two:
        one["a/b"] = b"1"
        assert git(bare, "log", "--format=%s", "main") == "Add a/b\n"
        assert two["a/b"] == b"1"
        two.put_many({"a/b": b"2", "c": b"3"})
        assert dict(one.items()) == {"a/b": b"2", "c": b"3"}
        del one["c"]
        assert list(two) == ["a/b"]
        assert [revision.message.split("\n")[0] for revision in two.history()] == [
            "Delete c",
            "Add 1 and Update 1 blobs",
            "Add a/b",
        ]
        for name in ("one", "two"):
            check(tmp_path / name)


def test_a_rejected_push_is_rebased_and_tried_again(tmp_path: Path, bare: Path, url: str) -> None:
    with (
        opened(tmp_path / "one", url, pull_interval=None) as one,
        opened(tmp_path / "two", url, pull_interval=None) as two,
    ):
        one["shared"] = b"0"
        two.sync()

        def write(store: GitStore, name: str) -> None:
            for number in range(4):
                store[f"{name}/{number}"] = name.encode()

        race(lambda: write(one, "one"), lambda: write(two, "two"))
        one.sync()
        two.sync()
        keys = sorted(["shared", *(f"{name}/{number}" for name in ("one", "two") for number in range(4))])
        assert list(one) == list(two) == keys
        assert len(git(bare, "log", "--format=%s", "main").splitlines()) == 9
        assert git(bare, "log", "--merges", "main") == ""
        for name in ("one", "two"):
            check(tmp_path / name)


@pytest.mark.parametrize("prefer", ["ours", "theirs"])
def test_a_conflict_keeps_both_sides(tmp_path: Path, bare: Path, prefer: str) -> None:
    url = str(bare)
    with opened(tmp_path / "one", url) as one, opened(tmp_path / "two", url, pull_interval=None) as two:
        one["key"] = b"0"
        two.sync()
        one["key"] = b"theirs"
        with pytest.raises(ConcurrencyError, match="'key' changed both here and at 'origin'") as caught:
            two["key"] = b"ours"
        assert caught.value.key == "key"
        assert two["key"] == b"ours"
        assert two.at("refs/remotes/origin/main")["key"] == b"theirs"
        assert git(bare, "show", "main:key") == "theirs"
        # It goes on without the other side until somebody has decided, and all of it is kept.
        with pytest.raises(ConcurrencyError):
            two["other"] = b"too"
        with pytest.raises(ConcurrencyError):
            two.sync()
        ours = two.history(limit=1)[0].commit
        two.sync(prefer=prefer)
        check(tmp_path / "two")
        assert dict(two.items()) == {"key": prefer.encode(), "other": b"too"}
        assert git(bare, "show", "main:key") == prefer
        assert dict(one.items()) == dict(two.items())
        assert two.at(ours)["key"] == b"ours"
        if prefer == "theirs":
            assert ours in git(tmp_path / "two", "for-each-ref", "refs/holdall")
        else:
            assert "theirs" in [git(bare, "show", f"main~{back}:key") for back in range(3)]


def test_the_same_change_on_both_sides_is_no_conflict(tmp_path: Path, bare: Path) -> None:
    with (
        opened(tmp_path / "one", str(bare)) as one,
        opened(tmp_path / "two", str(bare), pull_interval=None) as two,
    ):
        one["key"] = b"0"
        two.sync()
        one["key"] = b"same"
        two["key"] = b"same"
        assert len(two.history()) == 2
        two["key"] = b"next"
        assert one["key"] == b"next"


@pytest.mark.parametrize("prefer", ["ours", "theirs"])
def test_what_was_changed_back_here_undoes_nothing_there(tmp_path: Path, bare: Path, prefer: str) -> None:
    with (
        opened(tmp_path / "one", str(bare)) as one,
        opened(tmp_path / "two", str(bare), pull_interval=None, push=None) as two,
    ):
        one["key"] = b"0"
        two.sync()
        two["key"] = b"changed"
        two["key"] = b"0"
        two["other"] = b"1"
        one["key"] = b"theirs"
        with pytest.raises(ConcurrencyError, match="'key'"):
            two.sync()
        assert one["key"] == b"theirs"
        two.sync(prefer=prefer)
        expected = {"key": b"0" if prefer == "ours" else b"theirs", "other": b"1"}
        assert dict(one.items()) == dict(two.items()) == expected
        check(tmp_path / "two")


def test_a_blob_here_and_a_folder_there_is_a_conflict(tmp_path: Path, bare: Path) -> None:
    with (
        opened(tmp_path / "one", str(bare)) as one,
        opened(tmp_path / "two", str(bare), pull_interval=None) as two,
    ):
        one["x"] = b"0"
        two.sync()
        one["a/b"] = b"1"
        with pytest.raises(ConcurrencyError):
            two["a"] = b"2"
        assert two["a"] == b"2"
        two.sync(prefer="theirs")
        assert list(two) == ["a/b", "x"]
        check(tmp_path / "two")


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_blob_is_merged_whole_and_under_its_key(tmp_path: Path, bare: Path, by_hand: bool) -> None:
    """Git's own merge would make one text of both, and follow a file to its new name."""
    lines = [b"%d\n" % number for number in range(100)]
    with (
        opened(tmp_path / "one", str(bare)) as one,
        opened(tmp_path / "two", str(bare), pull_interval=None, push=None) as two,
    ):
        one.put_many({"both": b"".join(lines), "moved": b"".join(lines)})
        two.sync()
        if by_hand:
            git(tmp_path / "two", "commit", "-q", "--allow-empty", "-m", "nothing")
            git(tmp_path / "two", "merge", "-q", "--no-ff", "--allow-unrelated-histories", "HEAD~1")
        ours = {"both": b"".join([*lines, b"ours\n"]), "moved": b"".join([*lines, b"ours\n"])}
        two.put_many(ours)
        one["both"] = b"".join([b"theirs\n", *lines])
        one.move("moved", "there")
        for key in sorted(ours):
            with pytest.raises(ConcurrencyError) as caught:
                two.sync()
            assert repr(key) in str(caught.value)
        two.sync(prefer="ours")
        assert dict(one.items()) == dict(two.items()) == {**ours, "there": b"".join(lines)}
        check(tmp_path / "two")


def test_a_folder_becomes_a_blob(tmp_path: Path, bare: Path) -> None:
    with opened(tmp_path / "one", str(bare)) as one, opened(tmp_path / "two", str(bare)) as two:
        one.put_many({"a/b": b"1", "a/c/d": b"1", "e": b"1"})
        assert len(two) == 3
        one.delete_many(["a/b", "a/c/d", "e"])
        one.put_many({"a": b"2", "e/f": b"2"})
        assert dict(two.items()) == {"a": b"2", "e/f": b"2"}
        check(tmp_path / "two")


def test_offline_work_waits(tmp_path: Path, bare: Path, caplog: pytest.LogCaptureFixture) -> None:
    with daemon(bare.parent) as address:
        one = opened(tmp_path / "one", f"{address}/repository.git")
        one["a"] = b"1"
    port = int(address.rpartition(":")[2])
    one["b"] = b"2"
    one["c"] = b"3"
    assert one["b"] == b"2"
    assert "wait" in caplog.text
    with pytest.raises(StoreUnavailableError, match="git fetch from 'origin'"):
        one.sync()
    with GitStore(tmp_path / "two", author="B <b@x>") as offline:
        assert list(offline) == []
    with daemon(bare.parent, port):
        one.sync()
        assert git(bare, "log", "--format=%s", "main").splitlines() == ["Add c", "Add b", "Add a"]
    one.close()


def test_a_push_in_the_background(tmp_path: Path, bare: Path) -> None:
    with opened(tmp_path / "one", str(bare), push="background") as one:
        for number in range(10):
            one[f"k/{number}"] = b"%d" % number
        deadline = time.monotonic() + 60
        while len(git(bare, "for-each-ref")) == 0 or "k/9" not in git(bare, "log", "--format=%s"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        one["last"] = b"1"
    # What is due when the store is closed is pushed.
    assert git(bare, "log", "-1", "--format=%s") == "Add last\n"
    with opened(tmp_path / "one", str(bare), push=None) as one:
        one["here"] = b"1"
        assert git(bare, "log", "-1", "--format=%s") == "Add last\n"
        one.sync()
        assert git(bare, "log", "-1", "--format=%s") == "Add here\n"


def test_what_a_person_edits_is_not_pulled_over(tmp_path: Path, bare: Path) -> None:
    with opened(tmp_path / "one", str(bare)) as one, opened(tmp_path / "two", str(bare)) as two:
        one["a"] = one["b"] = b"1"
        assert two["a"] == b"1"
        (tmp_path / "two" / "a").write_bytes(b"mine")
        one["b"] = b"2"
        assert two["b"] == b"2"
        one["a"] = b"2"
        with pytest.raises(StoreUnavailableError, match="uncommitted changes"):
            two.sync()
        assert two["a"] == b"mine"
        git(tmp_path / "two", "checkout", "-q", "a")
        assert two["a"] == b"2"
        check(tmp_path / "two")


def outside(folder: Path) -> list[Path]:
    """The files that are in no repository."""
    found = (path for path in folder.rglob("*") if "served" not in path.parts and ".git" not in path.parts)
    return sorted(found)


def tree_of(folder: Path, *entries: tuple[bytes, bytes, str]) -> str:
    """The name of a tree that git itself would not make."""
    raw = b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
    command = ["git", "-C", folder, "hash-object", "-w", "-t", "tree", "--literally", "--stdin"]
    return subprocess.run(command, input=raw, capture_output=True, check=True).stdout.decode().strip()


@pytest.mark.parametrize(
    "name", [".git", ".GIT", "git~1", "..", "../escaped", "/tmp", ".g\u200cit"], ids=ascii
)
def test_a_remote_that_means_harm_writes_nowhere_else(tmp_path: Path, bare: Path, name: str) -> None:
    with opened(tmp_path / "one", str(bare)) as one:
        one["a"] = b"1"
    hook = git(bare, "rev-parse", "main:a").strip()
    inner = tree_of(bare, (b"100755", b"post-commit", hook))
    folder = tree_of(bare, (b"40000", b"hooks", inner))
    entry = (b"100644", hook) if "/" in name else (b"40000", folder)
    root = tree_of(
        bare, *sorted([(entry[0], name.encode(), entry[1]), (b"100644", b"a", hook)], key=lambda e: e[1])
    )
    evil = git(
        bare, "-c", "user.name=E", "-c", "user.email=e@x", "commit-tree", root, "-p", "main", "-m", "evil"
    )
    git(bare, "update-ref", "refs/heads/main", evil.strip())
    before = outside(tmp_path)
    with opened(tmp_path / "one", str(bare)) as one:
        assert one["a"] == b"1"
        with pytest.raises(StoreUnavailableError, match="isn't allowed in a work tree"):
            one.sync()
        assert list(one) == ["a"]
    assert outside(tmp_path) == before
    assert not (tmp_path / "one" / ".git" / "hooks" / "post-commit").exists()
    assert git(tmp_path / "one", "status", "--porcelain") == ""


def test_a_file_in_the_way_of_a_pull_stops_no_read(tmp_path: Path, bare: Path) -> None:
    with opened(tmp_path / "one", str(bare)) as one, opened(tmp_path / "two", str(bare)) as two:
        one["a"] = b"1"
        assert two["a"] == b"1"
        (tmp_path / "two" / "b").write_bytes(b"mine")
        one["b"] = b"theirs"
        assert two["a"] == b"1"
        with pytest.raises(StoreUnavailableError, match=r"'b'.*can't be stored here.*doesn't track"):
            two.sync()
        assert (tmp_path / "two" / "b").read_bytes() == b"mine"
        (tmp_path / "two" / "b").unlink()
        assert two["b"] == b"theirs"
        check(tmp_path / "two")


def test_what_a_person_merged_brings_nothing_old_back(tmp_path: Path, bare: Path) -> None:
    with (
        opened(tmp_path / "one", str(bare)) as one,
        opened(tmp_path / "two", str(bare), pull_interval=None, push=None) as two,
    ):
        one["key"] = b"0"
        two.sync()
        two["mine"] = b"1"
        one["key"] = b"1"
        git(tmp_path / "two", "pull", "-q", "--no-rebase", "--no-edit", "origin", "main")
        one["key"] = b"2"
        two.sync()
        assert dict(two.items()) == dict(one.items()) == {"key": b"2", "mine": b"1"}
        # A clash after a merge is one all the same.
        git(tmp_path / "two", "commit", "-q", "--allow-empty", "-m", "nothing")
        git(tmp_path / "two", "merge", "-q", "--no-ff", "--allow-unrelated-histories", "HEAD~1")
        two["key"] = b"ours"
        git(tmp_path / "two", "switch", "-qc", "topic")
        two["topic"] = b"1"
        git(tmp_path / "two", "switch", "-q", "main")
        git(tmp_path / "two", "merge", "-q", "--no-ff", "-m", "merged", "topic")
        one["key"] = b"theirs"
        with pytest.raises(ConcurrencyError, match="'key'"):
            two.sync()
        two.sync(prefer="ours")
        assert dict(two.items()) == dict(one.items()) == {"key": b"ours", "mine": b"1", "topic": b"1"}
        check(tmp_path / "two")


def test_every_commit_of_a_person_stays_in_the_history(tmp_path: Path, bare: Path) -> None:
    with (
        opened(tmp_path / "one", str(bare)) as one,
        opened(tmp_path / "two", str(bare), pull_interval=None, push=None) as two,
    ):
        one["a"] = b"0"
        two.sync()
        git(tmp_path / "two", "commit", "-q", "--allow-empty", "-m", "a mark")
        two["b"] = b"1"
        one["a"] = b"1"
        two.sync()
        assert [revision.message for revision in one.history()] == ["Add b", "a mark", "Update a", "Add a"]
        git(tmp_path / "two", "switch", "-qc", "topic")
        two["t1"] = two["t2"] = b"1"
        git(tmp_path / "two", "switch", "-q", "main")
        git(tmp_path / "two", "merge", "-q", "--no-ff", "-m", "the topic", "topic")
        one["a"] = b"2"
        two.sync()
        told = {revision.message for revision in one.history()}
        assert {"Add t1", "Add t2", "the topic", "Update a"} <= told
        assert one["t2"] == b"1"
        check(tmp_path / "two")


def test_a_branch_that_a_person_switches_to_while_it_is_fetched(
    tmp_path: Path, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "one", str(bare)) as one:
        one["a"] = b"0"
    with opened(tmp_path / "two", str(bare), pull_interval=None, push=None) as two:
        two.sync()
        git(tmp_path / "two", "branch", "other")
        with opened(tmp_path / "one", str(bare)) as one:
            one["a"] = b"1"
        call = two._repository.git.call

        def switching(*arguments: str, **more: Any) -> Any:
            told = call(*arguments, **more)
            if arguments[0] == "fetch":
                monkeypatch.undo()
                git(tmp_path / "two", "switch", "-q", "other")
            return told

        monkeypatch.setattr(two._repository.git, "call", switching)
        two.sync()
        assert two["a"] == b"0"
        assert two.at("main")["a"] == b"0"
        check(tmp_path / "two")


def test_commits_that_wait_are_sent_by_the_next_process(tmp_path: Path, bare: Path) -> None:
    away = bare.with_name("away.git")
    bare.rename(away)
    with opened(tmp_path / "one", str(bare), push="background", pull_interval=None) as one:
        one["a"] = b"1"
    away.rename(bare)
    assert git(bare, "for-each-ref") == ""
    opened(tmp_path / "one", str(bare), push=None, pull_interval=None).close()
    assert git(bare, "for-each-ref") == ""
    # Neither a put nor a read: what waits is sent since it waits.
    opened(tmp_path / "one", str(bare), push="background", pull_interval=None).close()
    assert git(bare, "log", "--format=%s", "main") == "Add a\n"
    git(tmp_path / "one", "commit", "-q", "--allow-empty", "-m", "a person's")
    opened(tmp_path / "one", str(bare), push="background", pull_interval=None).close()
    assert git(bare, "log", "--format=%s", "main") == "Add a\n"


def test_a_push_that_failed_is_tried_again(
    tmp_path: Path, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_AGAIN", 0.05)
    away = bare.with_name("away.git")
    bare.rename(away)
    with opened(tmp_path / "one", str(bare), push="background", pull_interval=None) as one:
        one["a"] = b"1"
        away.rename(bare)
        deadline = time.monotonic() + 60
        while not git(bare, "for-each-ref"):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_branch_that_was_pushed_by_force(tmp_path: Path, bare: Path) -> None:
    """What was taken back there is still here, and nothing of ours is lost by it."""
    with (
        opened(tmp_path / "one", str(bare), pull_interval=None) as one,
        opened(tmp_path / "two", str(bare), pull_interval=None, push=None) as two,
    ):
        one["a"] = one["b"] = b"0"
        two.sync()
        two["mine"] = b"1"
        git(tmp_path / "one", "reset", "-q", "--hard", "HEAD~1")
        git(tmp_path / "one", "commit", "-q", "--allow-empty", "-m", "another history")
        git(tmp_path / "one", "push", "-qf", "origin", "main")
        two.sync()
        one.sync()
        assert dict(one.items()) == dict(two.items()) == {"a": b"0", "b": b"0", "mine": b"1"}
        # Of no common origin at all.
        with opened(tmp_path / "three", str(bare), pull_interval=None, push=None) as three:
            three["c"] = b"1"
            three.sync()
            assert list(three) == ["a", "b", "c", "mine"]
        for name in ("one", "two", "three"):
            check(tmp_path / name)


def test_a_remote_whose_branch_has_another_name(tmp_path: Path, bare: Path) -> None:
    git(bare, "symbolic-ref", "HEAD", "refs/heads/trunk")
    with opened(tmp_path / "one", str(bare)) as one:
        one["a"] = b"1"
    assert git(bare, "for-each-ref", "--format=%(refname)") == "refs/heads/main\n"


def test_a_shallow_clone(tmp_path: Path, bare: Path) -> None:
    with opened(tmp_path / "one", str(bare)) as one:
        for key in "abcd":
            one[key] = b"0"
        git(tmp_path, "clone", "-q", "--depth=1", f"file://{bare}", "two")
        with opened(tmp_path / "two", str(bare)) as two:
            two["e"] = b"1"
            del one["a"]
            two["f"] = b"1"
            assert list(two) == list(one) == ["b", "c", "d", "e", "f"]
            git(tmp_path / "one", "reset", "-q", "--hard", "HEAD~5")
            git(tmp_path / "one", "commit", "-q", "--allow-empty", "-m", "another history")
            git(tmp_path / "one", "push", "-qf", "origin", "main")
            with pytest.raises(StoreUnavailableError, match="unshallow"):
                two.sync()
            assert list(two) == ["b", "c", "d", "e", "f"]


def test_what_is_made_again_is_signed_again(tmp_path: Path, bare: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")]
    subprocess.run(command, check=True, timeout=60)
    with (
        opened(tmp_path / "one", str(bare), pull_interval=None) as one,
        opened(tmp_path / "two", str(bare), pull_interval=None, push=None, author="Bób <b@x>") as two,
    ):
        for setting in ("gpg.format=ssh", f"user.signingkey={tmp_path / 'key'}", "commit.gpgsign=true"):
            git(tmp_path / "two", "config", *setting.split("=", 1))
        one["a"] = b"0"
        two.sync()
        one["a"] = b"1"
        two["b"] = b"1"
        was = git(tmp_path / "two", "log", "-1", "--format=%an %ae %at %ct %s")
        two.sync()
        assert git(tmp_path / "two", "log", "-1", "--format=%an %ae %at %ct %s") == was
        assert "BEGIN SSH SIGNATURE" in git(tmp_path / "two", "cat-file", "commit", "HEAD")
        assert [revision.message for revision in two.history()] == ["Add b", "Update a", "Add a"]


def test_a_merge_under_way_is_not_pulled_into(tmp_path: Path, bare: Path) -> None:
    with opened(tmp_path / "one", str(bare)) as one, opened(tmp_path / "two", str(bare)) as two:
        one["a"] = b"0"
        assert two["a"] == b"0"
        git(tmp_path / "two", "switch", "-qc", "topic")
        git(tmp_path / "two", "commit", "-q", "--allow-empty", "-m", "topic")
        git(tmp_path / "two", "switch", "-q", "main")
        git(tmp_path / "two", "merge", "-q", "--no-ff", "--no-commit", "topic")
        one["a"] = b"1"
        assert two["a"] == b"0"
        with pytest.raises(StoreUnavailableError, match="under way"):
            two.sync()
        git(tmp_path / "two", "commit", "-qm", "merged")
        assert two["a"] == b"1"
        check(tmp_path / "two")


def test_a_child_syncs_though_its_parent_was_at_it(tmp_path: Path, bare: Path) -> None:
    with opened(tmp_path / "one", str(bare), push=None) as one:
        one["a"] = b"1"
        assert one._remote is not None
        with one._remote._syncing:
            succeeds(forked(one.sync))
    assert git(bare, "show", "main:a") == "1"


def test_a_branch_protected_by_a_hook_is_told(tmp_path: Path, bare: Path) -> None:
    hook = bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho nobody may push >&2\nexit 1\n")
    hook.chmod(0o755)
    with opened(tmp_path / "one", str(bare), push=None) as one:
        one["a"] = b"1"
        with pytest.raises(StoreUnavailableError, match="nobody may push"):
            one.sync()
        hook.unlink()
        one.sync()
    assert git(bare, "show", "main:a") == "1"


def test_a_remote_that_hangs_is_given_up(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"git://127.0.0.1:{server.getsockname()[1]}/x"
        with opened(tmp_path / "one", url, push=None, pull_interval=None, timeout=0.5) as one:
            one["a"] = b"1"
            with pytest.raises(StoreUnavailableError, match="longer than"):
                one.sync()
            assert one["a"] == b"1"


@pytest.mark.parametrize("server", [daemon, http])
def test_a_network_that_fails_now_and_then(tmp_path: Path, bare: Path, server: object) -> None:
    """Whatever the wire does to a fetch or a push, what was acknowledged is kept, and arrives."""
    rng = random.Random(11)
    with server(bare.parent) as address, contextlib.ExitStack() as stack:  # type: ignore[operator]
        proxy = stack.enter_context(contextlib.closing(Proxy(int(address.rpartition(":")[2]))))
        url = f"{address.rpartition(':')[0]}:{proxy.port}/repository.git"
        stores = [stack.enter_context(opened(tmp_path / name, url, timeout=20)) for name in ("one", "two")]
        stores[0]["shared"] = b"0"
        stores[1].sync()
        proxy.delay = 0.01
        cuts = 0

        def cut(way: str, data: bytes) -> bool:
            nonlocal cuts
            cuts += (failed := rng.random() < 0.15)
            return failed

        proxy.cut = cut
        acknowledged: dict[str, bytes] = {"shared": b"0"}

        def write(store: GitStore, name: str) -> None:
            for number in range(12):
                key, data = f"{name}/{number % 5}", rng.randbytes(rng.choice((10, 200_000)))
                store[key] = data
                acknowledged[key] = data
                assert store[key] == data
                if number % 4 == 3:
                    with contextlib.suppress(StoreUnavailableError):
                        store.sync()

        race(lambda: write(stores[0], "a"), lambda: write(stores[1], "b"))
        assert cuts > 10
        proxy.cut = lambda way, data: False
        for store in (*stores, *stores):
            store.sync()
        for store in stores:
            assert dict(store.items()) == acknowledged
        there = stores[0].at("refs/remotes/origin/main")
        assert {key: there[key] for key in acknowledged} == acknowledged
        assert len(git(bare, "log", "--format=%s", "main").splitlines()) == 25
    git(bare, "fsck", "--strict")
    for name in ("one", "two"):
        check(tmp_path / name)


def test_a_server_that_is_killed_while_it_is_asked(tmp_path: Path, bare: Path) -> None:
    """A push that the server may or may not have taken is looked at, and done once."""
    with contextlib.ExitStack() as stack:
        running = contextlib.ExitStack()
        address = running.enter_context(daemon(bare.parent))
        port = int(address.rpartition(":")[2])
        one = stack.enter_context(opened(tmp_path / "one", f"{address}/repository.git"))
        one["first"] = b"0"
        for number in range(6):
            with contextlib.closing(Proxy(port)) as proxy:
                git(
                    tmp_path / "one",
                    "remote",
                    "set-url",
                    "origin",
                    f"git://127.0.0.1:{proxy.port}/repository.git",
                )
                sent = 0

                def cut(way: str, data: bytes, last: int = number) -> bool:
                    nonlocal sent
                    sent += 1
                    if sent <= last + 1:
                        return False
                    running.close()
                    return True

                proxy.cut = cut
                one[f"k/{number}"] = b"%d" % number
                with contextlib.suppress(StoreUnavailableError):
                    one.sync()
                proxy.cut = lambda way, data: False
                running.close()
                running.enter_context(daemon(bare.parent, port))
                one.sync()
                assert git(bare, "show", f"main:k/{number}") == str(number)
        running.close()
        assert len(git(bare, "log", "--format=%s", "main").splitlines()) == 7
    git(bare, "fsck", "--strict")
    check(tmp_path / "one")


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="git remote add"):
        GitStore(tmp_path / "one", remote="nowhere")
    with GitStore(tmp_path / "one") as store, pytest.raises(InvalidArgumentError, match="remote=True"):
        store.sync()
    for wrong in ({"push": "soon"}, {"pull_interval": -1}, {"timeout": 0}):
        with pytest.raises(InvalidArgumentError):
            GitStore(tmp_path / "one", **wrong)  # type: ignore[arg-type]


def test_git_lfs_keeps_every_byte_here_and_there(tmp_path: Path, bare: Path) -> None:
    """It takes the size of the file that a put replaces for that of the new one."""
    with (
        opened(tmp_path / "one", str(bare)) as one,
        opened(tmp_path / "two", str(bare)) as two,
    ):
        for tree in (tmp_path / "one", tmp_path / "two"):
            git(tree, "lfs", "install", "--local")
        one[".gitattributes"] = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
        rng = random.Random(3)
        versions = [rng.randbytes(size) for size in (5_000, 800, 300_000, 0, 1_024, 3_000_000, 1)]
        for data in versions:
            one["x/a.bin"] = data
            assert one["x/a.bin"] == two["x/a.bin"] == data
            check(tmp_path / "one")
            check(tmp_path / "two")
        for data, revision in zip(reversed(versions), two.history("x/a.bin"), strict=True):
            two.revert("x/a.bin", revision.commit)
            assert one["x/a.bin"] == two["x/a.bin"] == data
        check(tmp_path / "one")
        assert b"git-lfs" in one.at("HEAD")["x/a.bin"]
        assert git(tmp_path / "one", "lfs", "fsck") == "Git LFS fsck OK\n"
    git(tmp_path, "clone", "-q", "-c", "filter.lfs.process=git-lfs filter-process", str(bare), "three")
    assert (tmp_path / "three" / "x" / "a.bin").read_bytes() == versions[0]


def test_attributes_that_come_with_a_file_say_how_it_looks(tmp_path: Path, bare: Path) -> None:
    person = tmp_path / "person"
    git(tmp_path, "clone", "-q", str(bare), str(person))

    def push(**files: str | None) -> None:
        for name, said in files.items():
            path = person / {"attributes": ".gitattributes", "inner": "d/.gitattributes"}.get(
                name, f"d/{name}"
            )
            path.parent.mkdir(exist_ok=True)
            if said is None:
                path.unlink()
            else:
                path.write_bytes(said.encode())
        git(person, "add", "--all")
        git(person, "commit", "-qm", "by hand")
        git(person, "push", "-q", "origin", "HEAD:main")
        git(person, "rm", "-rq", "--cached", ".")
        git(person, "reset", "-q", "--hard")

    with opened(tmp_path / "one", str(bare)) as one:
        push(attributes="* eol=crlf\n", a="1\n")
        assert one["d/a"] == (person / "d/a").read_bytes() == b"1\r\n"
        push(inner="a -text\n", a="2\n", b="2\n")
        assert one["d/a"] == (person / "d/a").read_bytes() == b"2\n"
        assert one["d/b"] == (person / "d/b").read_bytes() == b"2\r\n"
        push(inner=None, a="3\n")
        assert one["d/a"] == (person / "d/a").read_bytes() == b"3\r\n"
        push(attributes=None, a="4\n")
        assert one["d/a"] == (person / "d/a").read_bytes() == b"4\n"
        push(attributes="[attr]windows text eol=crlf\n", inner="a windows\n", a="5\n")
        assert one["d/a"] == (person / "d/a").read_bytes() == b"5\r\n"
        check(tmp_path / "one")


def test_a_filter_that_fails_loses_nothing(tmp_path: Path, bare: Path) -> None:
    """As the one of Git LFS does when its server is away."""
    with opened(tmp_path / "one", str(bare)) as one, opened(tmp_path / "two", str(bare)) as two:
        for number in range(3):
            one.put_many({".gitattributes": b"*.up filter=up\n", "a.up": b"%d" % number, "b": b"%d" % number})
        assert two["a.up"] == b"2"
        git(tmp_path / "two", "config", "filter.up.clean", "cat")
        git(tmp_path / "two", "config", "filter.up.smudge", "echo -n half; exit 1")
        git(tmp_path / "two", "config", "filter.up.required", "true")
        with pytest.raises(StoreUnavailableError, match="smudge filter"):
            two.revert("a.up", "HEAD~1")
        one.put_many({"a.up": b"3", "b": b"3"})
        with pytest.raises(StoreUnavailableError, match="smudge filter"):
            two.sync()
        assert (two["a.up"], two["b"]) == (b"2", b"2")
        check(tmp_path / "two")
        git(tmp_path / "two", "config", "filter.up.required", "false")
        two.sync()
        assert (two["a.up"], two["b"]) == (b"3", b"3")
