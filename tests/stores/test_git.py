"""What is special to git: commits, history, revisions, other people's work, hooks, rules, kills."""

import errno
import fcntl
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.effort import effort
from tests.forks import forked, succeeds, succeeds_as_nobody

from holdall import (
    ABSENT,
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    Info,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    KeyConflictError,
    ReadOnlyError,
    Store,
    StoreClosedError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.store import Piece
from holdall.stores.git import GitRevision, GitStore, commits
from holdall.stores.git.names import is_allowed
from holdall.stores.git.refs import Refs
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


def made(folder: Path, **options: Any) -> GitStore:
    """A store in a repository that is there already."""
    subprocess.run(["git", "init", "-q", folder], check=True)
    return GitStore(folder, **options)


def subjects(folder: Path) -> list[str]:
    return git(folder, "log", "--format=%s").splitlines()


def check(folder: Path, status: str = "") -> None:
    """The work tree is clean, or as it is said to be, and the repository is sound."""
    assert git(folder, "status", "--porcelain") == status
    done = subprocess.run(
        ["git", "-C", folder, "fsck", "--strict"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "error" in done.stderr) == (0, False), done.stderr


class Newest(Store):
    """The last commit, looked up for each call, so that what is put meanwhile is seen.

    Args:
        path: The work tree.
    """

    can = GitRevision.can

    def __init__(self, path: str) -> None:
        self._path = path
        # `git mktree` needs a repository; of two processes that make it at once each is right.
        subprocess.run(["git", "init", "-q", path], check=not os.path.isdir(f"{path}/.git"))
        self._git = GitStore(path, author="Ann <ann@example.org>")
        tree = subprocess.run(
            ["git", "-C", path, "mktree"], input=b"", capture_output=True, check=True
        ).stdout
        person = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
        self._empty = git(Path(path), *person, "commit-tree", tree.decode().strip(), "-m", "nothing").strip()

    def _settings(self) -> dict[str, object]:
        return {"path": self._path}

    def _at(self) -> GitRevision:
        try:
            return self._git.at("HEAD")
        except InvalidArgumentError:
            return self._git.at(self._empty)

    def get(self, key: str, default: Any = None) -> Any:
        if self._closed:
            raise self._closed_error()
        return self._at().get(key, default)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        return self._at()._read(key, start, stop)

    def _info(self, key: str) -> Info:
        return self._at()._info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return self._at()._scan(prefix, after)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return self._at()._keys(prefix, after)

    def _close(self) -> None:
        self._git.close()


class TestGitRevision(StoreSuite):
    reduced = True
    same_infos = False

    def make(self, place: Path) -> Store:
        return Newest(str(place / "store"))

    def fill(self, place: Path) -> Store:
        return GitStore(place / "store")


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
    store = made(tmp_path)
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
    for wrong in ("nothing", "", "--help", "--output=x", "v1\nHEAD", "HEAD:a", "HEAD~1..HEAD", "\ud800"):
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
    store.move("a", "c")
    git(tmp_path, "config", "log.follow", "true")
    assert [revision.message for revision in store.history("c")] == ["Move a to c"]


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
    store = made(tree)
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
    store = made(tmp_path)
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


def test_a_blob_that_git_can_not_read_any_more_is_told(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    data = random.Random(1).randbytes(3 << 20)
    store.put_many({"large": data, "small": b"1"})
    past = store.at("HEAD")
    for key in ("large", "small"):
        oid = git(tmp_path, "rev-parse", f"HEAD:{key}").strip()
        path = tmp_path / ".git" / "objects" / oid[:2] / oid[2:]
        packed = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(packed[:-1])
        for read in (lambda: past[key], lambda: b"".join(past.chunks(key)), lambda: past.get(key)):  # noqa: B023
            with pytest.raises((StoreUnavailableError, IntegrityError)):
                read()
        path.unlink()
        with pytest.raises((StoreUnavailableError, IntegrityError)):
            past[key]
    assert (store["large"], store["small"]) == (data, b"1")


@pytest.mark.parametrize("keys", [("x", "x/y"), ("q/r/s", "q/r"), ("a/b", "a/b/c/d")], ids="+".join)
def test_a_blob_and_one_below_it_in_one_commit_are_refused(tmp_path: Path, keys: tuple[str, str]) -> None:
    store = GitStore(tmp_path)
    store["old"] = b"1"
    with pytest.raises(KeyConflictError) as caught:
        store.put_many({"beside": b"1", **dict.fromkeys(keys, b"2")})
    assert caught.value.key == max(keys)
    for handle in (store, GitStore(tmp_path)):
        assert dict(handle.items()) == {"old": b"1"}
        handle["old"] = b"1"
    check(tmp_path)
    assert subjects(tmp_path) == ["Add old"]


def test_a_folder_that_may_not_be_written_to_stops_the_whole_commit() -> None:
    """Half of a commit would wait for ever for the other half."""

    def work(folder: Path) -> None:
        store = GitStore(folder / "tree", author="Ann <ann@example.org>")
        store.put_many({"locked/old": b"0", "b": b"1"})
        os.chmod(folder / "tree" / "locked", 0o555)
        for change in (
            lambda: store.put_many({"a": b"1", "locked/x": b"2"}),
            lambda: store.delete_many(["b", "locked/old"]),
            lambda: store.move("b", "locked/b"),
        ):
            with pytest.raises(StoreUnavailableError, match="permission"):
                change()
            assert dict(store.items()) == {"locked/old": b"0", "b": b"1"}
        store["b"] = b"2"
        os.chmod(folder / "tree" / "locked", 0o755)
        assert dict(store.items()) == {"locked/old": b"0", "b": b"2"}
        check(folder / "tree")

    succeeds_as_nobody(work)


def test_a_blob_that_may_not_be_looked_at_is_not_absent() -> None:
    """A mirror would delete it from the backup."""

    def work(folder: Path) -> None:
        store = GitStore(folder / "tree", author="Ann <ann@example.org>")
        store.put_many({"a": b"0", "d/e/f": b"1", "d/g": b"2"})
        (folder / "tree" / "a").chmod(0o000)
        (folder / "tree" / "d").chmod(0o600)
        for key in ("a", "d/g", "d/e/f"):
            calls: list[Callable[[], object]] = [
                *(lambda: store[key], lambda: store.get(key), lambda: store.info(key)),  # noqa: B023
                lambda: store.open(key).read(),  # noqa: B023
            ]
            for call in calls[: 2 if key == "a" else 4]:
                with pytest.raises(StoreUnavailableError, match="permission"):
                    call()
        with pytest.raises(StoreUnavailableError, match="permission"):
            list(store)
        (folder / "tree" / "d").chmod(0o700)
        (folder / "tree" / "a").chmod(0o600)
        assert dict(store.items()) == {"a": b"0", "d/e/f": b"1", "d/g": b"2"}

    succeeds_as_nobody(work)


def test_attributes_that_are_put_with_a_file_say_what_git_keeps_of_it(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store.put_many({"d/.gitattributes": b"b -text\n", "a": b"0\r\n", "d/b": b"0\r\n"})
    assert store.at("HEAD")["a"] == b"0\r\n"
    blobs = {".gitattributes": b"* text eol=crlf\n", "a": b"1\r\n", "d/a": b"1\r\n", "d/b": b"1\r\n"}
    store.put_many(blobs)
    check(tmp_path)
    past = store.at("HEAD")
    assert (past["a"], past["d/a"], past["d/b"]) == (b"1\n", b"1\n", b"1\r\n")
    assert {key: store[key] for key in blobs} == blobs
    store.put_many({"d/.gitattributes": b"", "d/b": b"2\r\n"})
    check(tmp_path)
    assert store.at("HEAD")["d/b"] == b"2\n"


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


@pytest.mark.parametrize("name", ["pre-commit", "reference-transaction"])
def test_a_hook_that_writes_to_its_own_store_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    hook = tmp_path / ".git" / "hooks" / name
    code = (
        "from holdall.stores.git import GitStore, repository; repository._PATIENCE_IN_HOOK = 0.1; "
        f"GitStore({str(tmp_path)!r})['b'] = b'1'"
    )
    with GitStore(tmp_path) as store:
        store["a"] = b"1"
        hook.write_text(f'#!/bin/sh\n{sys.executable} -c "{code}"\n')
        hook.chmod(0o755)
        with pytest.raises((UnsupportedOperation, StoreUnavailableError), match="until the hook ends"):
            store["a"] = b"2"
        hook.unlink()
        assert dict(store.items()) == {"a": b"1"}
        store["b"] = b"2"
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
    store = made(tmp_path)
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
    with GitStore(tmp_path / "here") as store:
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
        *({"timeout": True}, {"timeout": timedelta(seconds=5)}),
        *({"pull_interval": "x"}, {"pull_interval": -1}, {"remote": 5}, {"remote": ""}, {"push": "x"}),
    ):
        with pytest.raises(InvalidArgumentError):
            GitStore(tmp_path, **options)  # type: ignore[arg-type]
    for limit in (-1, "3"):
        with pytest.raises(InvalidArgumentError, match="limit"):
            GitStore(tmp_path).history(limit=limit)  # type: ignore[arg-type]


def test_a_repository_in_the_work_tree_is_left_alone(tmp_path: Path) -> None:
    outer, inner = GitStore(tmp_path), GitStore(tmp_path / "inner", init=True)
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
    with pytest.raises(StoreUnavailableError, match="isn't installed"):
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


@pytest.mark.parametrize(
    "key",
    [
        *(".gitmodules", "a/.GITMODULES", "gitmod~1", "gi7eba~1/x", ".gitm\u200codules", ".gitmodules/x"),
        *(".gitattributes/x", "a/.GitAttributes/x/y", "gitatt~2/x", ".gitignore/x", ".gitmodules.bak"),
    ],
    ids=ascii,
)
def test_what_git_would_not_have_in_its_own_files_is_escaped(tmp_path: Path, key: str) -> None:
    store = GitStore(tmp_path)
    store[key] = b'[submodule "x"]\n\turl = -u\n\tpath = x\n'
    check(tmp_path)
    with GitStore(tmp_path) as fresh:
        assert list(fresh) == [key]
        assert fresh[key] == fresh.at("HEAD")[key] == store[key]


def test_modules_that_git_wrote_are_a_blob(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["a"] = b"1"
    (tmp_path / ".gitmodules").write_bytes(b"# none\n")
    git(tmp_path, "add", ".gitmodules")
    git(tmp_path, "commit", "-qm", "by hand")
    assert store[".gitmodules"] == store.at("HEAD")[".gitmodules"] == b"# none\n"
    store[".gitmodules"] = b"# still none\n"
    assert (tmp_path / ".gitmodules").read_bytes() == b"# still none\n"
    check(tmp_path)


def test_paths_that_no_work_tree_may_have() -> None:
    refused = ["", "/x", "a//b", ".", "..", "a/../b", ".git", "a/.GIT/x", "git~1", ".git. /x", ".g\u200cit/x"]
    refused += ["a\\.git\\x", ".git::$INDEX_ALLOCATION/x"]
    allowed = [".gitignore", "a.git/x", "git~2", ".github/x", "...", "x\\"]
    assert [path for path in refused + allowed if is_allowed(path.encode())] == allowed


def test_a_link_where_a_blob_was_leads_nowhere(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    (outside / "empty" / "folder").mkdir(parents=True)
    (outside / "x").write_bytes(b"precious")
    store = GitStore(tree)
    store.put_many({"d/x": b"1", "e": b"2", "f": b"3"})
    (tree / "d" / "x").unlink()
    (tree / "d").rmdir()
    (tree / "d").symlink_to(outside)
    (tree / "e").unlink()
    (tree / "e").symlink_to("f")
    assert not store.delete("d/x")
    assert not store.delete("e")
    assert (outside / "x").read_bytes() == b"precious"
    assert (tree / "e").is_symlink()
    (tree / "k").mkdir()
    (tree / "k" / "link").symlink_to(outside)
    with pytest.raises(KeyConflictError):
        store["k"] = b"1"
    assert (outside / "empty" / "folder").is_dir()
    store.clear()
    assert sorted(os.listdir(tree)) == [".git", "d", "e", "k"]
    assert (outside / "x").read_bytes() == b"precious"


def test_a_blob_that_a_person_deleted_can_be_deleted(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store.put_many({"d/x": b"1", "e": b"2"})
    (tmp_path / "d" / "x").unlink()
    assert not store.delete("d/x")
    check(tmp_path)
    assert list(store.at("HEAD")) == ["e"]


def test_what_is_ignored_is_so_whatever_was_tracked_before(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["kept.log"] = b"1"
    store[".gitignore"] = b"*.log\n"
    with pytest.raises(InvalidKeyError, match="ignore"):
        store["other.log"] = b"1"
    del store["kept.log"]
    with pytest.raises(InvalidKeyError, match="ignore"):
        store["kept.log"] = b"2"
    check(tmp_path)


def test_a_hook_that_empties_the_message_refuses_the_commit(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["a"] = b"1"
    hook = tmp_path / ".git" / "hooks" / "commit-msg"
    hook.write_text('#!/bin/sh\n: > "$1"\n')
    hook.chmod(0o755)
    # What a person is writing in an editor meanwhile.
    edited = tmp_path / ".git" / "COMMIT_EDITMSG"
    edited.write_text("a long story")
    with pytest.raises(UnsupportedOperation, match="message"):
        store["b"] = b"1"
    assert edited.read_text() == "a long story"
    assert list(store) == ["a"]
    check(tmp_path)


@pytest.mark.parametrize("wanted", ["true", "yes", None])
def test_commits_are_signed_where_git_is_told_to(tmp_path: Path, wanted: str | None) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")]
    subprocess.run(command, check=True, timeout=60)
    tree = tmp_path / "tree"
    store = made(tree, author="Bob <bob@example.org>")
    git(tree, "config", "gpg.format", "ssh")
    git(tree, "config", "user.signingkey", str(tmp_path / "key"))
    if wanted is None:
        with (tree / ".git" / "config").open("a") as file:
            file.write("[commit]\n\tgpgsign\n")
    else:
        git(tree, "config", "commit.gpgsign", wanted)
    store["ü"] = b"1"
    said = git(tree, "cat-file", "commit", "HEAD")
    assert "BEGIN SSH SIGNATURE" in said
    assert said.splitlines()[1].startswith("author Bob <bob@example.org> ")
    assert store.history()[0].message == "Add ü"
    git(tree, "config", "user.signingkey", str(tmp_path / "nowhere"))
    with pytest.raises(StoreUnavailableError, match="sign"):
        store["b"] = b"1"
    assert list(store) == ["ü"]
    check(tree)


def test_a_damaged_repository_is_not_taken_for_the_one_above(tmp_path: Path) -> None:
    with GitStore(tmp_path) as outer:
        outer["a"] = b"1"
    inner = tmp_path / "inner"
    (inner / ".git/objects/00").mkdir(parents=True)
    (inner / ".git/objects/00/1").touch()
    with pytest.raises(StoreUnavailableError, match="isn't a work tree"):
        GitStore(inner, init=True)
    assert os.listdir(inner / ".git") == ["objects"]
    check(tmp_path)


@pytest.mark.parametrize("name", ["a\nb", "\u2028\x85", "-x", " 'q' \"", "\udc80"], ids=ascii)
def test_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    with GitStore(tmp_path / name) as store:
        store["a/b"] = b"1"
        assert store["a/b"] == store.at("HEAD")["a/b"] == b"1"
    git(tmp_path / name, "worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    with GitStore(tmp_path / "linked") as linked:
        linked["c"] = b"2"
        assert list(linked) == ["a/b", "c"]
    check(tmp_path / name)


def test_a_child_is_not_held_by_what_its_parent_was_doing(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["a"] = b"1"
    assert store.at("HEAD")["a"] == b"1"
    ready, go = threading.Event(), threading.Event()

    def hold() -> None:
        def wait() -> None:
            with store._repository.objects._check._lock:
                ready.set()
                go.wait(60)

        store._run_locked(wait)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(60)

    def work() -> None:
        store["child"] = b"2"
        assert store.at("HEAD")["a"] == b"1"

    child = forked(work)
    go.set()
    thread.join()
    succeeds(child)
    assert list(store) == ["a", "child"]
    check(tmp_path)


def test_reads_beside_a_checkout_see_whole_blobs(tmp_path: Path) -> None:
    """A blob that is on both branches is there all the while, and is one of the two."""
    store = GitStore(tmp_path)
    both = {f"k/{number}": b"1" * 20_000 for number in range(40)}
    store.put_many(both)
    git(tmp_path, "branch", "other")
    store.put_many(dict.fromkeys(both, b"2" * 20_000))
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            for key in both:
                data = store[key]
                assert data in (b"1" * 20_000, b"2" * 20_000), len(data)
            assert list(store) == sorted(both)

    def switch() -> None:
        try:
            for name in ("other", "main") * 10:
                git(tmp_path, "switch", "-q", name)
        finally:
            done.set()

    race(read, switch)
    check(tmp_path)


def test_a_person_who_takes_the_lock_keeps_writers_away(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["a"] = b"1"
    git(tmp_path, "branch", "other")
    store["a"] = b"2"
    put = threading.Thread(target=lambda: store.put("b", b"3"))
    with (tmp_path / ".git" / "holdall" / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        put.start()
        git(tmp_path, "switch", "-q", "other")
        git(tmp_path, "merge", "-q", "main")
        assert "b" not in store
    put.join()
    assert dict(store.items()) == {"a": b"2", "b": b"3"}
    check(tmp_path)


@pytest.mark.parametrize("handle", ["same", "new"])
def test_a_git_that_is_overtaken_takes_nothing_out_of_the_index(tmp_path: Path, handle: str) -> None:
    """`git commit` reads the index, lets others change it, locks it, and writes what it has read."""
    store = GitStore(tmp_path)
    store.put_many({"changed": b"1", "deleted": b"1", "deep/kept": b"1", "staged": b"1", "edited": b"1"})
    (tmp_path / "staged").write_bytes(b"2")
    git(tmp_path, "add", "staged")
    git(tmp_path, "write-tree")
    index = tmp_path / ".git" / "index"
    read = index.read_bytes()
    assert b"TREE" in read
    store["changed"] = b"2"
    store["new/x"] = b"1"
    del store["deleted"]
    store["edited"] = b"2"
    (tmp_path / "edited").write_bytes(b"a person's")
    index.with_name("index.lock").write_bytes(read)
    index.with_name("index.lock").rename(index)
    with GitStore(tmp_path) as fresh:
        asked = fresh if handle == "new" else store
        assert "new/x" in asked
        assert "deleted" not in asked
        assert list(asked) == ["changed", "deep/kept", "edited", "new/x", "staged"]
        asked["new/x"] = b"2"
        assert (asked["changed"], asked["edited"]) == (b"2", b"a person's")
    check(tmp_path, "MM edited\nM  staged\n")


@pytest.mark.parametrize("handle", ["same", "new"])
def test_a_git_that_is_overtaken_and_commits_that_costs_no_blob(tmp_path: Path, handle: str) -> None:
    """The next `git commit` takes the index that the one before wrote back for what is meant."""
    store = GitStore(tmp_path)
    store.put_many({"changed": b"1", "deleted": b"1"})
    index = tmp_path / ".git" / "index"
    read = index.read_bytes()
    store["changed"] = b"2"
    store["new/x"] = store["new/y"] = b"1"
    del store["deleted"]
    index.with_name("index.lock").write_bytes(read)
    index.with_name("index.lock").rename(index)
    (tmp_path / "hand").write_bytes(b"1")
    git(tmp_path, "add", "hand")
    git(tmp_path, "commit", "-qm", "by hand")
    assert git(tmp_path, "ls-tree", "-r", "--name-only", "HEAD").split() == ["changed", "deleted", "hand"]
    with GitStore(tmp_path) as fresh:
        asked = fresh if handle == "new" else store
        assert dict(asked.items()) == {"changed": b"2", "hand": b"1", "new/x": b"1", "new/y": b"1"}
        asked["new/x"] = b"2"
        assert asked["new/x"] == b"2"
        assert "deleted" not in asked
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "the rest")
    check(tmp_path)


@pytest.mark.parametrize("committed", [True, False])
def test_what_a_person_takes_out_of_the_index_stays_out(
    tmp_path: Path, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GitStore(tmp_path)
    with monkeypatch.context() as patch:
        # So long ago that no git can still hold the index of before.
        patch.setattr(commits, "now", lambda: f"{int(time.time()) - 60} +0000")
        store.put_many({"kept": b"1", "secret": b"2"})
    git(tmp_path, "rm", "-q", "--cached", "secret")
    if committed:
        git(tmp_path, "commit", "-qm", "by hand")
    for asked in (store, GitStore(tmp_path)):
        assert list(asked) == ["kept"]
        with pytest.raises(KeyConflictError):
            asked["secret"] = b"3"
        asked["kept"] = os.urandom(8)
        assert "secret" not in asked
    assert (tmp_path / "secret").read_bytes() == b"2"
    assert "secret" not in git(tmp_path, "ls-files").split()


def test_what_a_person_does_meanwhile_costs_no_blob(tmp_path: Path) -> None:
    """Commands of git by chance, beside two writers: those that fail because a writer was faster leave all
    as it was, and what was acknowledged is there."""
    rng = random.Random()
    stores = [GitStore(tmp_path), GitStore(tmp_path)]
    stores[0]["counter"] = b"0"
    acknowledged: dict[str, bytes] = {}
    done = threading.Event()

    def write(store: GitStore, name: str) -> None:
        number = 0
        while not done.is_set() or number < 20:
            key, data = f"{name}/{number % 7}", os.urandom(number % 3000)
            if number % 5 == 4:
                store.delete(key)
                acknowledged.pop(key, None)
            elif number % 5 == 3:
                store.put_many({key: data, f"{name}/more": data})
                acknowledged.update({key: data, f"{name}/more": data})
            else:
                store[key] = data
                acknowledged[key] = data
            store.modify("counter", lambda old: b"%d" % (int(old) + 1))
            number += 1
            counts[name] = number

    def person() -> None:
        commands = [
            *(["gc", "-q"], ["status"], ["pack-refs", "--all"], ["repack", "-adq"], ["add", "."]),
            *(["commit", "-qam", "by hand"], ["commit", "-q", "--amend", "--no-edit"], ["branch", "-f", "b"]),
            *(["reflog", "expire", "--all"], ["worktree", "prune"], ["diff", "--stat"], ["fsck"]),
        ]
        try:
            for number in range(40):
                name = f"hand-{number}"
                (tmp_path / name).write_bytes(b"by hand")
                for command in (rng.choice(commands), ["add", name], ["commit", "-qm", name]):
                    git(tmp_path, *command, good=False)
        finally:
            done.set()

    counts: dict[str, int] = {}
    race(lambda: write(stores[0], "one"), lambda: write(stores[1], "two"), person)
    found = {key: data for key, data in stores[0].items() if key.startswith(("one/", "two/"))}
    assert found == acknowledged
    assert stores[1]["counter"] == b"%d" % sum(counts.values())
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "the rest")
    assert {f"hand-{number}" for number in range(40)} <= set(stores[0])
    check(tmp_path)


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_locks_of_a_writer_killed_before_it_began_are_given_back_by_opening(tmp_path: Path) -> None:
    GitStore(tmp_path)["a"] = b"1"
    killed = (
        "import os, sys\n"
        "from holdall.stores.git import GitStore\n"
        "from holdall.stores.git.journal import Journal\n"
        "Journal.write = lambda *_: os.kill(os.getpid(), 9)\n"
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


@pytest.mark.parametrize(
    ("part", "step"), [(Repository, "_write_index"), (Refs, "move")], ids=["index", "branch"]
)
def test_what_fails_half_way_is_finished_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: type, step: str
) -> None:
    store = GitStore(tmp_path)
    store.put_many({"a": b"1", "b": b"1", "c": b"1"})
    for call in (lambda: store.put_many({"a": b"2", "new/x": b"2"}), lambda: store.delete("b")):
        with monkeypatch.context() as broken:
            broken.setattr(part, step, _full)
            with pytest.raises(StoreUnavailableError, match=r"full; .* the next call finishes it"):
                call()
        assert not (tmp_path / ".git/index.lock").exists()
        assert store["new/x"] == b"2"
    assert dict(store.items()) == {"a": b"2", "new/x": b"2", "c": b"1"}
    check(tmp_path)
    assert subjects(tmp_path)[0] == "Delete b"


def test_a_disk_that_turns_read_only_half_way_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def turned(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    store = GitStore(tmp_path)
    store["a"] = b"1"
    with monkeypatch.context() as broken:
        broken.setattr(Refs, "move", turned)
        with pytest.raises(ReadOnlyError, match=r"Read-only file system; .* the next call finishes it"):
            store["a"] = b"2"
    assert store["a"] == b"2"


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
    assert sorted(os.listdir(tmp_path / ".git/holdall")) == [
        "head.lock",
        "index",
        "index.lock",
        "journal",
        "lock",
        "ref",
        "ref.lock",
    ]


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
    for _ in range(effort(25, 8)):
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
