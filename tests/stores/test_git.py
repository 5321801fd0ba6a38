"""What is special to git: commits, history, revisions, other people's work, hooks, rules, kills."""

import errno
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdall import (
    ABSENT,
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidKeyError,
    KeyConflictError,
    Store,
    StoreClosedError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.stores.git import GitStore
from holdall.stores.git.repository import Repository
from holdall.testing import StoreSuite, race


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


class TestGit(StoreSuite):
    def make(self, place: Path) -> Store:
        return GitStore(place / "store")


def git(folder: Path, *arguments: str, good: bool = True) -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not good, done.stderr
    return done.stdout


def subjects(folder: Path) -> list[str]:
    return git(folder, "log", "--format=%s").splitlines()


def check(folder: Path, status: str = "") -> None:
    """The work tree is clean, or as it is said to be, and the repository is sound."""
    assert git(folder, "status", "--porcelain") == status
    done = subprocess.run(
        ["git", "-C", folder, "fsck", "--strict"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "error" in done.stderr) == (0, False), done.stderr


def test_every_change_is_a_commit(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["a/b"] = b"1"
    check(tmp_path)
    store["a/b"] = b"2"
    check(tmp_path)
    store.put("a/b", b"2")
    store.put("c", b"c", expect=ABSENT)
    store.move("c", "d")
    del store["a/b"]
    assert not store.delete("a/b")
    check(tmp_path)
    assert subjects(tmp_path) == ["Delete a/b", "Move c to d", "Add c", "Update a/b", "Add a/b"]
    assert (tmp_path / "d").read_bytes() == b"c"
    assert not (tmp_path / "a").exists()
    assert git(tmp_path, "log", "-1", "--format=%an <%ae> %cn") == "Ann <ann@example.org> Ann\n"


def test_an_unchanged_put_commits_nothing(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    first = store.put("a", b"1")
    assert store.put("a", b"1") == first
    assert store.put("a", iter([b"1"])) == first
    again = store.put("a", b"1", expect=first.etag)
    assert again.etag == store.info("a").etag
    assert list(store.put_many({"a": b"1"})) == ["a"]
    assert subjects(tmp_path) == ["Add a"]
    check(tmp_path)


def test_many_are_one_commit(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["old"] = b""
    store.put_many({"old": b"1", "x/y": b"2", "z": b"3"})
    assert store.delete_many(["z", "x/y", "absent"]) == 2
    said = git(tmp_path, "log", "-2", "--format=%B").split("\n")
    assert said[:4] == ["Delete 2 blobs", "", "Delete z", "Delete x/y"]
    assert "Add 2 and Update 1 blobs" in said
    store.put_many({"1": b"", "2": b""})
    store.clear()
    assert len(subjects(tmp_path)) == 5
    check(tmp_path)


def test_put_many_is_whole_or_not_at_all(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["a"] = b"old"
    with pytest.raises(KeyConflictError) as caught:
        store.put_many({"b": b"1", "a/below": b"2"})
    assert caught.value.key == "a/below"
    assert list(store) == ["a"]

    def broken():
        yield b"x"
        raise RuntimeError("the body fails")

    with pytest.raises(RuntimeError, match="the body fails"):
        store.put_many({"b": b"1", "a": broken()})
    assert dict(store.items()) == {"a": b"old"}
    assert subjects(tmp_path) == ["Add a"]
    check(tmp_path)


def test_keys_that_git_keeps_for_itself_are_escaped(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    keys = [
        ".git",
        "a/.GIT/config",
        "git~1",
        "GIT~2/x",
        ".git./y",
        ".g\u200cit/z",
        ".git::$INDEX_ALLOCATION",
        "a/.git ",
    ]
    keys += [".gitx", "x.git/HEAD", "CON", "what?", "%2Egit", "é", "-rf", ":(top)x", "HEAD", "x" * 300]
    config = (tmp_path / ".git" / "config").read_bytes()
    for key in keys:
        store[key] = key.encode()
    check(tmp_path)
    with GitStore(tmp_path) as fresh:
        assert {key: fresh[key].decode() for key in fresh} == {key: key for key in keys}
        assert [revision.message for revision in fresh.history("git~1")] == ["Add git~1"]
        assert {key: data.decode() for key, data in fresh.at("HEAD").items()} == {key: key for key in keys}
    assert (tmp_path / ".git" / "config").read_bytes() == config
    store.clear()
    assert sorted(os.listdir(tmp_path)) == [".git"]


def test_names_that_other_programs_spelled_are_kept(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["a"] = b""
    for name in ("what?", "a:b/c", "%41", "back\\slash", "CON"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    git(tmp_path, "-c", "core.protectNTFS=false", "add", ".")
    git(tmp_path, "commit", "-qm", "by hand")
    assert {key: data.decode() for key, data in store.items() if key != "a"} == {
        key: key for key in ("what?", "a:b/c", "%41", "back\\slash", "CON")
    }
    assert dict(store.at("HEAD").items()) == dict(store.items())
    store["what?"] = b"new"
    assert (tmp_path / "what?").read_bytes() == b"new"
    del store["back\\slash"]
    assert not (tmp_path / "back\\slash").exists()
    assert store.history("what?")[0].message == "Update what?"
    assert git(tmp_path, "status", "--porcelain") == ""


def test_the_options_of_a_uri(tmp_path: Path) -> None:
    with GitStore._from_uri(
        str(tmp_path), author="A <a@b>", remote="false", push="none", durable=True
    ) as store:
        store["a"] = b"1"
        assert store.history()[0].author == "A"
    git(tmp_path, "remote", "add", "origin", str(tmp_path))
    with GitStore._from_uri(str(tmp_path), remote="true", push="none") as store:
        assert repr(store) == f"GitStore({str(tmp_path)!r}, remote=True, push=None)"
        past = store.at("HEAD")
    with pytest.raises(StoreClosedError):
        past["a"]


def test_the_past_can_be_read(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    begun = datetime.now(UTC) - timedelta(seconds=2)
    large = random.Random(1).randbytes(3 << 20)
    for data in (b"1", b"2", large):
        store["a/b"] = data
    store["c"] = b""
    git(tmp_path, "tag", "v1", "HEAD~2")
    assert (store.at("v1")["a/b"], store.at("HEAD~3")["a/b"], store.at("HEAD~1")["a/b"]) == (
        b"2",
        b"1",
        large,
    )
    past = store.at("HEAD~1")
    assert (list(past), past.get_range("a/b", 1 << 20, (1 << 20) + 9)) == (["a/b"], large[1 << 20 :][:9])
    assert past.info("a/b").size == len(large)
    assert past.info("a/b").modified >= begun
    assert b"".join(past.chunks("a/b")) == large
    assert "c" not in past
    with pytest.raises(BlobNotFoundError):
        past["c"]
    with pytest.raises(UnsupportedOperation):
        past["c"] = b""
    for wrong in ("nothing", "", "--help", "v1\nHEAD", "HEAD:a"):
        with pytest.raises(InvalidArgumentError):
            store.at(wrong)
    git(tmp_path, "gc", "--quiet")
    with GitStore(tmp_path) as packed:
        assert packed.at("v1")["a/b"] == b"2"
        assert packed.at("HEAD~1").info("a/b").size == len(large)
        packed["a/b"] = b"after gc"
    check(tmp_path)
    again = pickle.loads(pickle.dumps(past))
    assert again["a/b"] == large
    again._store.close()


def test_history_tells_who_when_and_what(tmp_path: Path) -> None:
    store = GitStore(tmp_path, author="Bob B. <bob@example.org>")
    store["a"] = b"1"
    store["b"] = b"1"
    store["a"] = b"2"
    newest, oldest = store.history("a")
    assert (newest.message, oldest.message) == ("Update a", "Add a")
    assert (newest.author, newest.email) == ("Bob B.", "bob@example.org")
    assert abs(newest.modified - datetime.now(UTC)) < timedelta(seconds=60)
    assert store.at(oldest.commit)["a"] == b"1"
    assert [revision.message for revision in store.history(limit=2)] == ["Update a", "Add b"]
    assert store.history("absent") == []


def test_revert_is_a_commit_too(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    assert store.history() == []
    store["other"] = b""
    store["a"] = b"1"
    store["a"] = b"2"
    info = store.revert("a", "HEAD~1")
    assert info is not None
    assert (store["a"], store.info("a")) == (b"1", info)
    assert store.revert("a", "HEAD~3") is None
    assert "a" not in store
    assert subjects(tmp_path)[:2] == ["Revert a to HEAD~3", "Revert a to HEAD~1"]
    check(tmp_path)


def test_nobody_to_commit_is_a_clear_error(tmp_path: Path, home: Path) -> None:
    (home / ".gitconfig").write_text("")
    with GitStore(tmp_path) as store:
        with pytest.raises(StoreUnavailableError, match=r"user\.name"):
            store["a"] = b"1"
        assert list(store) == []
        check(tmp_path)
    with GitStore(tmp_path, author="Ann <a@example.org>") as store:
        store["a"] = b"1"
        check(tmp_path)
    for wrong in ("Ann", "<a@b>", "A<n <a@b>", "A> <a@b>", "A\n <a@b>", "Ann <a@b> x", 3):
        with pytest.raises(InvalidArgumentError):
            GitStore(tmp_path, author=wrong)  # type: ignore[arg-type]


def test_a_person_works_in_the_same_tree(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store.put_many({"a": b"1", "edited": b"1", "staged": b"1"})
    (tmp_path / "edited").write_bytes(b"not committed")
    (tmp_path / "staged").write_bytes(b"staged")
    (tmp_path / "mine.txt").write_bytes(b"untracked")
    git(tmp_path, "add", "staged")
    state = " M edited\nM  staged\n?? mine.txt\n"
    store["a"] = b"2"
    store["b"] = b"1"
    check(tmp_path, state)
    assert git(tmp_path, "show", "HEAD:staged") == "1"
    assert store["edited"] == b"not committed"
    assert "mine.txt" not in store
    for call in (lambda: store.put("mine.txt", b""), lambda: store.put("mine.txt", b"", expect=ABSENT)):
        with pytest.raises(KeyConflictError, match="git add"):
            call()
    assert (tmp_path / "mine.txt").read_bytes() == b"untracked"
    git(tmp_path, "commit", "-qm", "by hand")
    git(tmp_path, "stash", "-q")
    git(tmp_path, "switch", "-qc", "other", "HEAD~2")
    assert store["a"] == b"2"
    assert "b" not in store
    store["c"] = b"on other"
    git(tmp_path, "switch", "-q", "main")
    assert "c" not in store
    assert store["staged"] == b"staged"
    store["d"] = b"1"
    git(tmp_path, "merge", "-q", "other", "-m", "merge")
    assert store.get_many(["a", "b", "c", "d"]) == {"a": b"2", "b": b"1", "c": b"on other", "d": b"1"}
    check(tmp_path, "?? mine.txt\n")


def test_a_swap_sees_what_a_person_did(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    old = store.put("a", b"1").etag
    (tmp_path / "a").write_bytes(b"2")
    for _ in range(2):
        with pytest.raises(ConcurrencyError):
            store.put("a", b"3", expect=old)
        with pytest.raises(BlobExistsError):
            store.put("a", b"3", expect=ABSENT)
        git(tmp_path, "commit", "-qam", "by hand", good=False)
    store.put("a", b"3", expect=store.info("a").etag)
    assert store["a"] == b"3"
    (tmp_path / "a").unlink()
    assert "a" not in store
    assert list(store) == []
    store.put("a", b"4", expect=ABSENT)
    check(tmp_path)


def test_links_are_no_blobs(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    tree = tmp_path / "tree"
    store = GitStore(tree)
    (tree / "link").symlink_to("../outside")
    (tree / "folder").symlink_to("..")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "links")
    assert list(store) == []
    for key in ("link", "folder/outside"):
        assert store.get(key) is None
        with pytest.raises(KeyConflictError):
            store[key] = b"new"
    assert (tmp_path / "outside").read_bytes() == b"secret"
    check(tree)


def test_a_mode_stays(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["run"] = b"#!/bin/sh\n"
    (tmp_path / "run").chmod(0o755)
    git(tmp_path, "commit", "-qam", "executable")
    store["run"] = b"#!/bin/sh\ntrue\n"
    assert os.access(tmp_path / "run", os.X_OK)
    check(tmp_path)


def test_what_git_ignores_is_refused(tmp_path: Path, home: Path) -> None:
    store = GitStore(tmp_path)
    store["kept.log"] = b"1"
    store["sub/.gitignore"] = b"*.tmp\n"
    store[".gitignore"] = b"*.log\n!important.log\n"
    for key in ("a.log", "deep/er/a.log", "sub/x.tmp"):
        with pytest.raises(InvalidKeyError, match="ignore"):
            store[key] = b"1"
    store["x.tmp"] = store["important.log"] = b"1"
    store["kept.log"] = b"2"
    (tmp_path / "build.log").write_bytes(b"")
    assert "build.log" not in store
    del store[".gitignore"]
    store["a.log"] = b"1"
    (home / "ignore").write_text("secret*\n")
    git(tmp_path, "config", "core.excludesFile", str(home / "ignore"))
    with pytest.raises(InvalidKeyError, match="ignore"):
        store["secret"] = b"1"
    (tmp_path / "build.log").unlink()
    check(tmp_path)


@pytest.mark.parametrize("by", ["attributes", "autocrlf"])
def test_line_ends_and_filters_do_as_in_git(tmp_path: Path, by: str) -> None:
    store = GitStore(tmp_path)
    if by == "attributes":
        store[".gitattributes"] = b"*.txt text\n*.up filter=up\n"
    else:
        git(tmp_path, "config", "core.autocrlf", "true")
        (tmp_path / ".git/info/attributes").write_text("*.up filter=up\n")
    git(tmp_path, "config", "filter.up.clean", "tr a-z A-Z")
    git(tmp_path, "config", "filter.up.smudge", "tr A-Z a-z")
    first = store.put("a.txt", b"one\r\ntwo\r\n")
    store["b.up"] = b"quiet"
    assert store["a.txt"] == b"one\r\ntwo\r\n"
    check(tmp_path)
    assert git(tmp_path, "show", "HEAD:b.up") == "QUIET"
    assert store.at("HEAD")["a.txt"] == b"one\ntwo\n"
    commits = len(subjects(tmp_path))
    second = store.put("a.txt", b"one\ntwo\n")
    assert (store["a.txt"], len(subjects(tmp_path))) == (b"one\ntwo\n", commits)
    assert first.etag != second.etag
    store["b.up"] = b"other"
    store.revert("b.up", "HEAD~1")
    assert store["b.up"] == b"quiet"
    check(tmp_path)


def test_hooks_are_asked(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["a"] = b"1"

    def hook(name: str, script: str) -> None:
        path = tmp_path / ".git" / "hooks" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    hook(
        "pre-commit",
        'git diff --cached --name-only | grep -q bad && { echo "no bad names" >&2; exit 1; }; true',
    )
    hook("commit-msg", 'echo "Signed-off-by: Ann" >> "$1"')
    hook("post-commit", "git log -1 --format=%s >> .git/told")
    with pytest.raises(UnsupportedOperation, match="no bad names"):
        store["bad"] = b"1"
    assert "bad" not in store
    check(tmp_path)
    store["good"] = b"1"
    assert git(tmp_path, "log", "-1", "--format=%B").split("\n")[:2] == ["Add good", "Signed-off-by: Ann"]
    assert (tmp_path / ".git/told").read_text().startswith("Add good")
    (tmp_path / ".git/hooks/pre-commit").unlink()
    hook(
        "reference-transaction",
        f'cat >> {tmp_path}/.git/refs-told; test "$1" != prepared -o ! -e {tmp_path}/.git/stop',
    )
    store["more"] = b"1"
    assert "refs/heads/main" in (tmp_path / ".git/refs-told").read_text()
    (tmp_path / ".git/stop").touch()
    with pytest.raises(StoreUnavailableError, match="hook"):
        store["less"] = b"1"
    assert "less" not in store
    check(tmp_path)


def test_a_merge_that_is_not_finished_stops_commits(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["a"] = b"1"
    git(tmp_path, "switch", "-qc", "other")
    store["a"] = b"2"
    git(tmp_path, "switch", "-q", "main")
    store["a"] = b"3"
    git(tmp_path, "merge", "-q", "other", good=False)
    for key in ("a", "b"):
        with pytest.raises((StoreUnavailableError, KeyConflictError), match="merge"):
            store[key] = b"4"
    git(tmp_path, "merge", "--abort")
    store["b"] = b"4"
    check(tmp_path)


def test_a_lock_of_another_git_is_waited_for(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    lock = tmp_path / ".git" / "index.lock"
    lock.touch()
    timer = threading.Timer(0.2, lock.unlink)
    timer.start()
    store["a"] = b"1"
    timer.join()
    assert store["a"] == b"1"
    check(tmp_path)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_every_form_of_the_index_is_read(tmp_path: Path, version: int) -> None:
    store = GitStore(tmp_path)
    store.put_many({f"folder/{number:03}": b"%d" % number for number in range(300)})
    (tmp_path / "later").touch()
    git(tmp_path, "add", "--intent-to-add", "later")
    git(tmp_path, "update-index", "--index-version", str(version))
    with GitStore(tmp_path) as fresh:
        assert len(fresh) == 301
        fresh["folder/new"] = b"1"
        del fresh["folder/007"]
    check(tmp_path, " A later\n")
    git(tmp_path, "update-index", "--split-index")
    with pytest.raises(UnsupportedOperation, match="split"):
        list(store)


def test_a_repository_of_sha256(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256")
    store = GitStore(tmp_path)
    store["a/b"] = b"1"
    store["a/b"] = b"2"
    git(tmp_path, "gc", "-q")
    store["c"] = b"3"
    assert store.at("HEAD~2")["a/b"] == b"1"
    check(tmp_path)


def test_linked_work_trees_and_detached_heads(tmp_path: Path) -> None:
    store = GitStore(tmp_path / "one")
    store["a"] = b"1"
    git(tmp_path / "one", "worktree", "add", "-q", "-b", "two", str(tmp_path / "two"))
    with GitStore(tmp_path / "two") as other:
        other["b"] = b"2"
        git(tmp_path / "one", "pack-refs", "--all")
        git(tmp_path / "two", "switch", "-q", "--detach")
        other["c"] = b"3"
        assert git(tmp_path / "two", "log", "--format=%s") == "Add c\nAdd b\nAdd a\n"
        check(tmp_path / "two")
    assert list(store) == ["a"]
    store["d"] = b"4"
    check(tmp_path / "one")


def test_the_environment_of_a_hook_leads_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    with GitStore(elsewhere) as store:
        store["x"] = b""
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(elsewhere / ".git/index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(elsewhere))
    store = GitStore(tmp_path / "here")
    store["a"] = b"1"
    assert store.at("HEAD")["a"] == b"1"
    monkeypatch.undo()
    assert "Add a" not in subjects(elsewhere)


def test_what_is_no_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    bare = tmp_path / "bare"
    bare.mkdir()
    git(bare, "init", "-q", "--bare", "x/.git")
    for place in (tmp_path / "file", tmp_path / "file" / "below", bare / "x"):
        with pytest.raises(StoreUnavailableError):
            GitStore(place)
    git(bare, "init", "-q", "--bare", "y.git")
    for place in (bare / "y.git", bare / "x" / ".git"):
        before = sorted(os.listdir(place))
        with pytest.raises(StoreUnavailableError, match="bare"):
            GitStore(place)
        assert sorted(os.listdir(place)) == before
    for wrong in (3, "", b"x", "a\0b"):
        with pytest.raises(InvalidArgumentError):
            GitStore(wrong)  # type: ignore[arg-type]


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    for options in (
        *({"timeout": "5"}, {"timeout": 0}, {"timeout": float("inf")}, {"timeout": float("nan")}),
        *({"pull_interval": "x"}, {"pull_interval": -1}, {"remote": 5}, {"push": "x"}),
    ):
        with pytest.raises(InvalidArgumentError):
            GitStore(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="limit"):
        GitStore(tmp_path).history(limit=-1)


def test_a_repository_in_the_work_tree_is_left_alone(tmp_path: Path) -> None:
    outer, inner = GitStore(tmp_path), GitStore(tmp_path / "inner")
    inner["a"] = b"1"
    with pytest.raises(KeyConflictError, match="repository of its own"):
        outer["inner/deep/b"] = b"2"
    outer["c"] = b"3"
    assert (list(outer), list(inner)) == (["c"], ["a"])
    check(tmp_path / "inner")
    check(tmp_path, "?? inner/\n")


def test_a_repository_that_only_others_may_write_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    GitStore(tmp_path)["a/b"] = b"1"
    shutil.rmtree(tmp_path / ".git" / "holdall")
    makedirs = os.makedirs

    def refused(path: str, *rest: object, **more: object) -> None:
        if str(path).endswith(".git/holdall"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        makedirs(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "makedirs", refused)
    store = GitStore(tmp_path)
    assert (store["a/b"], list(store), store.at("HEAD")["a/b"]) == (b"1", ["a/b"], b"1")
    for call in (lambda: store.put("c", b"2"), lambda: store.delete("a/b")):
        with pytest.raises(StoreUnavailableError, match="no permission"):
            call()
    check(tmp_path)


def test_a_program_git_that_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = GitStore(tmp_path / "tree")
    store["a"] = b"1"
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(StoreUnavailableError, match="not installed"):
        store.history()
    (tmp_path / "bin" / "git").write_bytes(b"no program")
    (tmp_path / "bin" / "git").chmod(0o755)
    with pytest.raises(StoreUnavailableError, match="can't be run"):
        store.history()


def test_a_history_in_another_encoding(tmp_path: Path, home: Path) -> None:
    with (home / ".gitconfig").open("a") as file:
        file.write("[i18n]\ncommitEncoding = latin1\nlogOutputEncoding = latin1\n")
    store = GitStore(tmp_path)
    store["ü"] = b"1"
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", b"by hand: \xfc".decode("utf-8", "surrogateescape"))
    assert [revision.message for revision in store.history()] == ["by hand: ü", "Add ü"]


def test_writers_and_a_person_lose_nothing(tmp_path: Path) -> None:
    store, other = GitStore(tmp_path), GitStore(tmp_path)
    store["counter"] = b"0"
    hands = 12

    def write(handle: GitStore, name: str) -> None:
        for number in range(20):
            handle[f"{name}/{number}"] = b"%d" % number
            handle.modify("counter", lambda old: b"%d" % (int(old) + 1))

    def person() -> None:
        for number in range(hands):
            (tmp_path / f"hand-{number}").write_bytes(b"by hand")
            deadline = time.monotonic() + 60
            for command in (
                ["add", f"hand-{number}"],
                ["commit", "-qm", f"hand {number}", "--", f"hand-{number}"],
            ):
                while True:
                    done = subprocess.run(["git", "-C", tmp_path, *command], capture_output=True, check=False)
                    if done.returncode == 0:
                        break
                    assert b"lock" in done.stderr, done.stderr
                    assert time.monotonic() < deadline

    race(lambda: write(store, "one"), lambda: write(other, "two"), person)
    assert store["counter"] == b"40"
    assert len(list(store)) == 1 + 40 + hands
    assert len(subjects(tmp_path)) == 1 + 80 + hands
    check(tmp_path)


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_locks_of_a_writer_killed_before_it_began_are_given_back_by_opening(tmp_path: Path) -> None:
    GitStore(tmp_path)["a"] = b"1"
    killed = (
        "import os, sys\n"
        "from holdall.stores.git import GitStore\n"
        "from holdall.stores.git.repository import Repository\n"
        "Repository._write_journal = lambda *_: os.kill(os.getpid(), 9)\n"
        "GitStore(sys.argv[1])['b'] = b'2'\n"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(tmp_path)], check=False).returncode == -9
    left = [tmp_path / ".git/index.lock", tmp_path / ".git/refs/heads/main.lock"]
    assert all(lock.exists() for lock in left)
    with GitStore(tmp_path) as store:
        assert not any(lock.exists() for lock in left)
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", "by hand")
        assert list(store) == ["a"]
    check(tmp_path)


@pytest.mark.parametrize("step", ["_write_index", "_set_ref"])
def test_what_fails_half_way_is_finished_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = GitStore(tmp_path)
    store.put_many({"a": b"1", "b": b"1", "c": b"1"})
    for call in (lambda: store.put_many({"a": b"2", "new/x": b"2"}), lambda: store.delete("b")):
        with monkeypatch.context() as broken:
            broken.setattr(Repository, step, _full)
            with pytest.raises(StoreUnavailableError, match="full"):
                call()
        assert not (tmp_path / ".git/index.lock").exists()
        assert store["new/x"] == b"2"
    assert dict(store.items()) == {"a": b"2", "new/x": b"2", "c": b"1"}
    check(tmp_path)
    assert subjects(tmp_path)[0] == "Delete b"


def test_what_fails_before_the_first_file_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GitStore(tmp_path)
    store["a"] = b"1"
    with monkeypatch.context() as broken:
        broken.setattr(Repository, "_move", _full)
        with pytest.raises(StoreUnavailableError, match="full"):
            store.put_many({"a": b"2", "b": b"2"})
    with GitStore(tmp_path) as fresh:
        assert dict(fresh.items()) == {"a": b"1"}
        fresh["b"] = b"3"
    assert dict(store.items()) == {"a": b"1", "b": b"3"}
    check(tmp_path)
    assert sorted(os.listdir(tmp_path / ".git/holdall")) == ["journal", "lock", "ref", "ref.lock"]


def test_a_file_that_a_person_wrote_after_a_crash_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GitStore(tmp_path)
    store["a"] = b"1"
    with monkeypatch.context() as broken:
        broken.setattr(Repository, "_write_index", _full)
        with pytest.raises(StoreUnavailableError):
            store["a"] = b"2"
    (tmp_path / "a").write_bytes(b"mine")
    assert store["a"] == b"mine"
    store["b"] = b"1"
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert store.at("HEAD~1")["a"] == b"2"


def test_a_durable_store(tmp_path: Path) -> None:
    with GitStore(tmp_path, durable=True) as store:
        store["a/b"] = b"1"
        store.put_many({"a/b": b"2", "c/d": b"3"})
        del store["c/d"]
        assert (dict(store.items()), store.at("HEAD~2")["a/b"]) == ({"a/b": b"2"}, b"1")
        assert repr(store) == f"GitStore({str(tmp_path)!r}, durable=True)"
    check(tmp_path)


_WRITER = """
import sys
from holdall.stores.git import GitStore
store = GitStore(sys.argv[1])
for number in range(1000):
    store.put_many({f"k/{name}": b"%d" % number for name in range(4)})
    store[f"single/{number}"] = b"x"
    if number % 3 == 2:
        del store[f"single/{number - 1}"]
    print(number, flush=True)
"""


def test_a_killed_commit_is_whole_or_not_at_all(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    rng = random.Random()
    GitStore(tree).close()
    for _ in range(25):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(tree)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with GitStore(tree) as store:
            assert len({store[f"k/{name}"] for name in range(4)}) == 1
            check(tree)
            store["alive"] = os.urandom(4)
            check(tree)
            assert not (tree / ".git/index.lock").exists()
            store.clear()
