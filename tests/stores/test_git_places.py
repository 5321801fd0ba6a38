"""Where a git store's repository is and how it is made; and what lies in a work tree that isn't a blob."""

import logging
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdall import (
    ABSENT,
    BlobNotFoundError,
    ConcurrencyError,
    FilesystemStore,
    IntegrityError,
    InvalidArgumentError,
    InvalidKeyError,
    KeyConflictError,
    MemoryStore,
    PrefixStore,
    StoreError,
    StoreUnavailableError,
    copy_store,
    sync_stores,
)
from holdall.stores.git import GitStore

ANN = "Ann <ann@example.org>"


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


def git(folder: Path, *arguments: str, good: bool = True) -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not good, done.stderr
    return done.stdout


def check(folder: Path, status: str = "") -> None:
    """The work tree is clean, or as it is said to be, and the repository is sound."""
    assert git(folder, "status", "--porcelain") == status
    git(folder, "fsck", "--strict")


def test_opening_and_reading_make_nothing(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "tree"
    store = GitStore(place)
    assert (list(store), store.get("a"), "a" in store, len(store), bool(store)) == ([], None, False, 0, False)
    assert (store.history(), store.history("a"), store.delete("a"), list(store.left_out())) == (
        [],
        [],
        False,
        [],
    )
    store.clear()
    store.delete_many(["a", "b"])
    for call in (lambda: store["a"], lambda: store.info("a"), lambda: store.open("a")):
        with pytest.raises(BlobNotFoundError):
            call()
    with pytest.raises(InvalidArgumentError, match="commit"):
        store.at("HEAD")
    with pytest.raises(StoreError):
        store.put("a", b"1", expect="an-etag")
    shutil.rmtree(tmp_path / "deep", ignore_errors=True)
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_the_first_put_makes_the_repository_and_other_handles_find_it(tmp_path: Path) -> None:
    one, two = GitStore(tmp_path / "tree"), GitStore(tmp_path / "tree")
    assert list(two) == []
    one["a"] = b"1"
    assert (two["a"], list(two)) == (b"1", ["a"])
    two["b"] = b"2"
    assert dict(one.items()) == {"a": b"1", "b": b"2"}
    check(tmp_path / "tree")


def test_a_remote_needs_a_repository(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="git clone"):
        GitStore(tmp_path / "tree", remote=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["sub", "sub/deep", ".git/x"])
def test_inside_another_work_tree_it_is_refused_unless_asked_for(tmp_path: Path, below: str) -> None:
    GitStore(tmp_path)["a"] = b"1"
    with pytest.raises(StoreUnavailableError, match="init=True"):
        GitStore(tmp_path / below)
    assert not (tmp_path / below).exists()
    with GitStore(tmp_path / below, init=True) as inner:
        inner["b"] = b"2"
        assert (list(inner), inner.history()[0].message) == (["b"], "Add b")
    with GitStore(tmp_path / below) as again:
        assert again["b"] == b"2"


def test_many_processes_open_a_new_one_at_once(tmp_path: Path) -> None:
    place = tmp_path / "tree"
    code = "import sys; from holdall import GitStore; GitStore(sys.argv[1])[sys.argv[2]] = b'1'"
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(place), f"k{number}"]) for number in range(4)
    ]
    assert [child.wait(120) for child in children] == [0] * 4
    assert list(GitStore(place)) == [f"k{number}" for number in range(4)]
    assert sorted(os.listdir(place)) == [".git", *(f"k{number}" for number in range(4))]
    check(place)


def test_threads_make_one_repository(tmp_path: Path) -> None:
    stores = [GitStore(tmp_path / "tree") for _ in range(3)]
    threads = [
        threading.Thread(target=store.put, args=(f"k{number}", b"1")) for number, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0]) == 3
    check(tmp_path / "tree")


@pytest.mark.parametrize("left", [[], ["config", "hooks/a"], ["HEAD", "refs/", "objects/info/", "config"]])
def test_a_git_init_that_was_killed_is_finished(tmp_path: Path, left: list[str]) -> None:
    """What a `git init` makes first, in the order in which it does."""
    (tmp_path / "whole").mkdir()
    git(tmp_path / "whole", "init", "-q")
    half = tmp_path / "tree" / ".git"
    half.mkdir(parents=True)
    for name in left:
        if name.endswith("/"):
            (half / name).mkdir(parents=True)
        else:
            (half / name).parent.mkdir(exist_ok=True)
            (half / name).write_bytes(
                b"" if name == "hooks/a" else (tmp_path / "whole/.git" / name).read_bytes()
            )
    with GitStore(tmp_path / "tree") as store:
        assert list(store) == []
        store["a"] = b"1"
        assert store["a"] == b"1"
    check(tmp_path / "tree")


def test_a_killed_maker_leaves_nothing_that_the_next_one_stumbles_over(tmp_path: Path) -> None:
    """Killed, and its git with it, just before the repository has its place."""
    killed = (
        "import os, sys\n"
        "from holdall import GitStore\n"
        "os.rename = lambda *_, **__: os.kill(os.getpid(), 9)\n"
        "GitStore(sys.argv[1])['a'] = b'1'\n"
    )
    place = tmp_path / "tree"
    assert subprocess.run([sys.executable, "-c", killed, str(place)], check=False).returncode == -9
    with GitStore(place) as store:
        assert list(store) == []
        store["a"] = b"2"
    assert sorted(os.listdir(place)) == [".git", "a"]
    check(place)


def test_what_stops_the_making_leaves_nothing(tmp_path: Path, home: Path) -> None:
    before = (home / ".gitconfig").read_text()
    (home / ".gitconfig").write_text(before.replace("main", "..not a branch.."))
    place = tmp_path / "a" / "tree"
    place.parent.mkdir()
    store = GitStore(place)
    with pytest.raises(StoreUnavailableError, match="git init"):
        store["a"] = b"1"
    assert list(place.parent.iterdir()) == []
    (home / ".gitconfig").write_text(before)
    store["a"] = b"1"
    assert list(store) == ["a"]
    check(place)


def test_a_repository_that_was_removed_or_replaced_takes_no_more_writes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for replace in (False, True):
        store = GitStore(tree)
        store["a"] = b"1"
        os.rename(tree, tmp_path / f"away-{replace}")
        if replace:
            GitStore(tree)["other"] = b"1"
        for call in (
            lambda: store.put("b", b"2"),  # noqa: B023
            lambda: store.delete("a"),  # noqa: B023
            lambda: store.put_many({"c": b""}),  # noqa: B023
        ):
            with pytest.raises(StoreUnavailableError, match="open the store again"):
                call()
        assert tree.exists() == replace
        with GitStore(tree) as again:
            again["b"] = b"3"
            assert list(again) == (["b", "other"] if replace else ["b"])
        shutil.rmtree(tree)


def test_another_users_repository_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    GitStore(tmp_path)["a"] = b"1"
    # Git's own switch for its tests, as there may be no second user here.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(StoreUnavailableError, match=r"git config --global --add safe\.directory"):
        GitStore(tmp_path)
    git(tmp_path, "config", "--global", "--add", "safe.directory", str(tmp_path))
    assert GitStore(tmp_path)["a"] == b"1"


def test_an_empty_listing_over_untracked_files_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "holdall")
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        (tmp_path / "tree" / name).touch()
    store = GitStore(tmp_path / "tree")
    assert list(store) == list(store) == []
    assert [record.getMessage() for record in caplog.records if "2 files" in record.getMessage()] != []
    assert len(caplog.records) == 1
    git(tmp_path / "tree", "init", "-q")
    with GitStore(tmp_path / "tree") as store:
        assert list(store) == list(store) == []
    assert len(caplog.records) == 2
    assert "git add" in caplog.records[1].getMessage()
    with GitStore(tmp_path / "new") as store:
        assert list(store) == []
    assert len(caplog.records) == 2


def conflict(tree: Path, how: str) -> GitStore:
    """A repository in which `f` is in conflict."""
    git(tree, "init", "-q", "-b", "main")
    for name in "abcdef":
        (tree / name).write_text(name)
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "first")
    if how == "stash":
        (tree / "f").write_text("mine")
        git(tree, "stash")
        (tree / "f").write_text("theirs")
        git(tree, "commit", "-qam", "theirs")
        git(tree, "stash", "pop", good=False)
        return GitStore(tree)
    git(tree, "switch", "-qc", "other")
    (tree / "f").write_text("theirs")
    git(tree, "commit", "-qam", "theirs")
    git(tree, "switch", "-q", "main")
    if how == "deleted":
        (tree / "f").unlink()
    else:
        (tree / "f").write_text("mine")
    git(tree, "commit", "-qam", "mine")
    command = {"merge": "merge", "rebase": "rebase", "pick": "cherry-pick", "deleted": "merge"}[how]
    git(tree, command, "other", good=False)
    return GitStore(tree)


@pytest.mark.parametrize("how", ["stash", "merge", "rebase", "pick", "deleted"])
def test_what_is_in_conflict_is_a_blob_while_its_file_is_there(tmp_path: Path, how: str) -> None:
    store = conflict(tmp_path, how)
    file = (tmp_path / "f").read_bytes()
    backup = MemoryStore({name: name.encode() for name in "abcdef"})
    assert (store["f"], store.get("f"), "f" in store) == (file, file, True)
    with store.open("f") as opened:
        assert (store.info("f").size, opened.read()) == (len(file), file)
    assert list(store) == list("abcdef")
    assert sync_stores(store, backup).deleted == 0
    assert backup["f"] == file
    calls: list[Callable[[], object]] = [
        *(lambda: store.put("f", b"x"), lambda: store.delete("f"), lambda: store.move("f", "g")),
        *(lambda: store.put("f", b"x", expect=ABSENT), lambda: store.put_many({"f": b"x", "g": b""})),
        *(lambda: store.move("a", "f"), lambda: store.delete_many(["a", "f"])),
    ]
    before = git(tmp_path, "status", "--porcelain")
    for call in calls:
        with pytest.raises(StoreError):
            call()
    assert git(tmp_path, "status", "--porcelain") == before
    assert (tmp_path / "f").read_bytes() == file


def test_a_conflict_without_a_file_is_never_absent(tmp_path: Path) -> None:
    store = conflict(tmp_path, "merge")
    backup = MemoryStore({name: name.encode() for name in "abcdef"})
    (tmp_path / "f").unlink()
    for call in (lambda: store["f"], lambda: store.get("f"), lambda: "f" in store, lambda: store.info("f")):
        with pytest.raises(StoreUnavailableError, match="conflict"):
            call()
    assert [(each.path, each.kind) for each in store.left_out()] == [("f", "conflict that isn't resolved")]
    git(tmp_path, "merge", "--abort")
    assert (store["f"], list(store.left_out())) == (b"mine", [])
    sync_stores(store, backup)
    assert backup["f"] == b"mine"


@pytest.mark.parametrize("jobs", [None, 4])
def test_a_sync_of_many_small_files_makes_few_commits(tmp_path: Path, jobs: int | None) -> None:
    source = FilesystemStore(tmp_path / "source")
    source.put_many({f"{number % 7}/{number}": b"%d" % number for number in range(1200)})
    below = GitStore(tmp_path / "target", author=ANN)
    target = PrefixStore(below, "data")
    journal = tmp_path / "journal"
    assert sync_stores(source, target, jobs=jobs, journal=journal).copied == 1200
    assert dict(target) == dict(source)
    assert len(below.history()) == 2
    assert sync_stores(source, target, jobs=jobs, journal=journal).skipped == 1200
    check(tmp_path / "target")


def test_what_git_refuses_is_left_out_of_the_commits_of_a_sync(tmp_path: Path) -> None:
    source = MemoryStore(
        {f"{number}.txt": b"%d" % number for number in range(200)} | {"5.tmp": b"", "a": b""}
    )
    target = GitStore(tmp_path, author=ANN)
    target[".gitignore"] = b"*.tmp\n"
    report = copy_store(source, target)
    assert list(report.failures) == ["5.tmp"]
    assert isinstance(report.failures["5.tmp"], InvalidKeyError)
    assert (report.copied, len(target)) == (201, 202)
    assert len(target.history()) <= 10
    check(tmp_path)


def test_a_conflict_elsewhere_stops_no_commit_and_is_kept(tmp_path: Path) -> None:
    store = conflict(tmp_path, "stash")
    store["a"] = b"new"
    del store["b"]
    assert git(tmp_path, "status", "--porcelain") == "UU f\n"
    assert git(tmp_path, "show", ":2:f") == "theirs"
    git(tmp_path, "add", "f")
    assert store.put("f", b"resolved").size == 8
    git(tmp_path, "stash", "drop")
    check(tmp_path)


def odd(tree: Path) -> dict[str, str]:
    """Let git track what isn't a blob; the kind of each."""
    git(tree, "init", "-q", "-b", "main")
    (tree / "link").symlink_to("a")
    (tree / "folder").symlink_to("..")
    (tree / "a").write_text("a")
    Path(os.fsdecode(os.fsencode(tree) + b"/bad\xff")).write_text("x")
    (tree / "%41").write_text("hidden?")
    git(tree, "init", "-q", "module")
    git(tree / "module", "commit", "-q", "--allow-empty", "-m", "empty")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "odd")
    return {
        "link": "symbolic link",
        "folder": "symbolic link",
        "module": "submodule",
        os.fsdecode(b"bad\xff"): "name that can't be a key",
    }


@pytest.mark.parametrize("at", [False, True])
def test_what_git_tracks_and_is_no_blob_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, at: bool
) -> None:
    kinds = odd(tmp_path)
    git_store = GitStore(tmp_path)
    store = git_store.at("HEAD") if at else git_store
    caplog.set_level(logging.WARNING, "holdall")
    assert list(store) == sorted(set(store)) == ["%41", "a"]
    assert {each.path: each.kind for each in store.left_out()} == kinds
    assert [each.path for each in store.left_out("fo")] == ["folder"]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    for kind in kinds.values():
        assert sum(kind in each for each in said) == 1
    for key in ("link", "module", "folder/x"):
        assert store.get(key) is None


def test_what_lies_in_a_blobs_place_is_left_out(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    names = ["fifo", "folder", "in/side", "link", "socket", "x"]
    store.put_many(dict.fromkeys(names, b"1"))
    for name in names:
        (tmp_path / name).unlink()
    (tmp_path / "in").rmdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "in").symlink_to("folder")
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
    finally:
        os.chdir(here)
    assert list(store) == []
    assert {each.path: each.kind for each in store.left_out()} == {
        "fifo": "named pipe",
        "folder": "folder where git tracks a file",
        "in/side": "symbolic link",
        "link": "symbolic link",
        "socket": "socket",
    }
    for name in names[:-1]:
        assert (store.get(name), name in store) == (None, False)
        with pytest.raises(BlobNotFoundError):
            store[name]
        if name != "folder":
            with pytest.raises(KeyConflictError):
                store[name] = b"2"
            with pytest.raises(KeyConflictError):
                store.setdefault(name, b"2")
    assert stat.S_ISFIFO((tmp_path / "fifo").lstat().st_mode)


def test_every_odd_entry_of_the_index_is_a_blob(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    (tmp_path / ".gitignore").write_text("*.log\n")
    store.put_many({name: name.encode() for name in ("assumed", "skipped", "sparse", "edited")})
    (tmp_path / "kept.log").write_text("kept.log")
    (tmp_path / "later").write_text("later")
    git(tmp_path, "add", "--force", "kept.log")
    git(tmp_path, "add", "--intent-to-add", "later")
    git(tmp_path, "update-index", "--assume-unchanged", "assumed")
    git(tmp_path, "update-index", "--skip-worktree", "skipped", "sparse")
    (tmp_path / "sparse").unlink()
    names = ["assumed", "edited", "kept.log", "later", "skipped", "sparse"]
    (tmp_path / "assumed").write_text("changed")
    assert list(store) == names
    assert dict(store.items()) == {**{name: name.encode() for name in names}, "assumed": b"changed"}
    assert list(store.left_out()) == []
    for name in names:
        store[name] = b"new"
    assert {store.at("HEAD")[name] for name in names} == {b"new"}
    git(tmp_path, "fsck", "--strict")


def test_an_index_that_is_gone_is_no_empty_store(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["a"] = b"1"
    (tmp_path / ".git/index").unlink()
    for call in (lambda: list(store), lambda: store.get("a"), lambda: store.put("b", b"2")):
        with pytest.raises(IntegrityError, match="git reset"):
            call()
    git(tmp_path, "reset", "-q")
    assert dict(store.items()) == {"a": b"1"}
    check(tmp_path)


def modes(folder: Path) -> dict[str, int]:
    return {name.name: stat.S_IMODE(name.lstat().st_mode) for name in folder.iterdir() if name.is_file()}


def test_what_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    before = os.umask(0o027)
    try:
        store.put_many({"private": b"1", "run": b"1", "new": b"1"})
        assert modes(tmp_path) == {"private": 0o640, "run": 0o640, "new": 0o640}
        (tmp_path / "private").chmod(0o600)
        (tmp_path / "run").chmod(0o700)
        git(tmp_path, "commit", "-qam", "executable")
        store["private"] = b"2"
        store.put_many({"run": b"2", "new": b"2"})
        with store.open("private", "w") as file:
            file.write("3")
        store.move("new", "run")
    finally:
        os.umask(before)
    assert modes(tmp_path) == {"private": 0o600, "run": 0o700}
    assert git(tmp_path, "ls-files", "--stage", "run").startswith("100755")
    check(tmp_path)


def test_what_is_replaced_keeps_its_group(tmp_path: Path) -> None:
    """As root, or in a folder whose new files get its group, a new file has another one."""
    store = GitStore(tmp_path)
    store.put_many({"a": b"1", "run": b"1", "other": b"1"})
    for name, mode in (("a", 0o640), ("run", 0o750)):
        os.chown(tmp_path / name, 12345, 23456)
        (tmp_path / name).chmod(mode)
    git(tmp_path, "commit", "-qam", "executable")
    store["a"] = b"2"
    store.put_many({"run": b"2", "other": b"2"})
    for name, mode in (("a", 0o640), ("run", 0o750)):
        found = (tmp_path / name).stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, mode)
    check(tmp_path)


def test_temporary_files_and_the_journal_are_private(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store.put_many({"new": b"1", "old": b"1"})
    (tmp_path / "old").chmod(0o600)
    seen: list[int] = []

    def body() -> Iterator[bytes]:
        for piece in (b"1", b"2"):
            seen.extend(
                stat.S_IMODE(name.stat().st_mode) for name in (tmp_path / ".git/holdall").glob("draft-*")
            )
            yield piece

    store["old"] = body()  # type: ignore[assignment]
    store["newer"] = body()  # type: ignore[assignment]
    assert seen == [0o600] * 4
    assert modes(tmp_path / ".git/holdall")["journal"] == 0o600
    assert modes(tmp_path) == {"new": modes(tmp_path)["newer"], "newer": modes(tmp_path)["new"], "old": 0o600}


def test_a_shared_repository_has_a_shared_journal(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--shared=group")
    before = os.umask(0o002)
    try:
        GitStore(tmp_path)["a"] = b"1"
    finally:
        os.umask(before)
    assert modes(tmp_path / ".git/holdall")["journal"] == 0o660


@pytest.mark.parametrize("what", ["put", "put new", "delete", "move", "read", "list"])
def test_a_folder_that_becomes_a_link_in_a_call_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The folder is swapped just before each call of the system that names something below it."""
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    calls: dict[str, Callable[[GitStore], object]] = {
        "put": lambda store: store.put("d/e/s", b"ours"),
        "put new": lambda store: store.put("d/e/new", b"ours"),
        "delete": lambda store: store.delete("d/e/s"),
        "move": lambda store: store.move("d/e/s", "d/e/t"),
        "read": lambda store: store.get("d/e/s"),
        "list": lambda store: list(store.list("d/")),
    }
    names = ["open", "stat", "lstat", "unlink", "rename", "rmdir", "mkdir", "chmod"]
    (outside / "e").mkdir(parents=True)
    (outside / "e" / "s").write_bytes(b"SECRET")
    (outside / "empty").mkdir()
    store = GitStore(tree)
    real = {name: getattr(os, name) for name in names}
    moment, swapped = 0, True
    while swapped:
        if (tree / "d").is_symlink():
            (tree / "d").unlink()
            shutil.rmtree(tmp_path / "was", ignore_errors=True)
        store.delete_many(["d/e/new", "d/e/t"])
        store.put_many({"d/e/s": b"%d" % (moment % 10), "x": b""})
        swapped = False
        left = moment

        def swap() -> None:
            nonlocal left, swapped
            left -= 1
            if left == -1:
                swapped = True
                if (tree / "d").is_dir():
                    real["rename"](tree / "d", tmp_path / "was")
                os.symlink(outside, tree / "d")

        with monkeypatch.context() as patch:
            for name in names:

                def call(*args: object, name: str = name, **more: object) -> object:
                    swap()
                    return real[name](*args, **more)

                patch.setattr(os, name, call)
            result: object = None
            try:
                result = calls[what](store)
            except StoreError:
                result = None
        assert result != b"SECRET"
        if what == "list":
            assert all(info.size == 1 for info in result or [])  # type: ignore[attr-defined, union-attr]
        assert sorted(os.listdir(outside)) == ["e", "empty"]
        assert {name: (outside / "e" / name).read_bytes() for name in os.listdir(outside / "e")} == {
            "s": b"SECRET"
        }
        moment += 1
    assert moment > 1


def test_coarse_times_of_the_work_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.utime

    def utime(path: str | int, *, ns: tuple[int, int] | None = None) -> None:
        if ns is None:
            real(path)
        else:
            real(path, ns=(ns[0] // 10**9 * 10**9, ns[1] // 10**9 * 10**9))

    monkeypatch.setattr(os, "utime", utime)
    store, other = (GitStore(tmp_path, author=ANN) for _ in range(2))
    for number in range(4):
        put = store.put("k", b"%d" % number)
        assert put == store.info("k") == other.info("k")
        swapped = other.put("k", b"%d" % (number + 10), expect=put.etag)
        assert swapped == store.info("k")
        with pytest.raises(ConcurrencyError):
            store.put("k", b"lost", expect=put.etag)
    store.put_many({"k": b"1", "l": b"2"})
    assert store.info("l") == other.info("l")
