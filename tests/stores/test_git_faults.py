"""A git store under faults: calls of the system that fail, interrupts, full disks, damage."""

import errno
import fcntl
import gc
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.forks import forked, succeeds
from tests.interrupts import interrupting

from holdall import IntegrityError, Store, StoreError, StoreUnavailableError
from holdall.stores.git import GitStore
from holdall.stores.git.program import Pipe

ANN = "Ann <ann@example.org>"
LOCKS = ("index.lock", "HEAD.lock", "refs/heads/main.lock")


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
    return subprocess.run(
        ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True
    ).stdout


def check(folder: Path) -> None:
    """The work tree is clean, the repository sound, and nothing is locked."""
    assert git(folder, "status", "--porcelain") == ""
    git(folder, "fsck", "--strict")
    assert [lock for lock in LOCKS if (folder / ".git" / lock).exists()] == []


BEFORE = {"d/o": b"1", "x": b"1"}
CALLS: dict[str, tuple[Callable[[Store], object], dict[str, bytes]]] = {
    "new": (lambda store: store.put("d/n", b"2"), {**BEFORE, "d/n": b"2"}),
    "old": (lambda store: store.put("d/o", b"2"), {**BEFORE, "d/o": b"2"}),
    "many": (lambda store: store.put_many({"d/o": b"2", "e/m": b"2"}), {"d/o": b"2", "e/m": b"2", "x": b"1"}),
    "delete": (lambda store: store.delete("d/o"), {"x": b"1"}),
    "move": (lambda store: store.move("d/o", "f/t"), {"f/t": b"1", "x": b"1"}),
    "get": (lambda store: store.get("d/o"), BEFORE),
    "list": (lambda store: list(store.list()), BEFORE),
}
SYSTEM = (
    *(
        "open",
        "stat",
        "lstat",
        "unlink",
        "rename",
        "rmdir",
        "mkdir",
        "chmod",
        "write",
        "writev",
        "pwrite",
        "ftruncate",
    ),
    *("utime", "link", "fsync", "fchmod", "fstat", "listdir", "read", "pread", "close"),
)
WRITING = ("open", "write", "writev", "pwrite", "mkdir", "link", "rename", "fsync")


@pytest.mark.parametrize("lasts", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("what", CALLS)
def test_whatever_fails_a_call_is_done_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, lasts: bool
) -> None:
    """One call of the system after another fails."""
    call, after = CALLS[what]
    store, other = GitStore(tmp_path, durable=True), GitStore(tmp_path)
    real = {name: getattr(os, name) for name in SYSTEM}
    moment, hit = 0, True
    while hit:
        store.delete_many([key for key in store if key not in BEFORE])
        store.put_many(BEFORE)
        hit, left = False, moment

        def fails(name: str, *args: object, **more: object) -> object:
            nonlocal hit, left
            result = real["close"](*args) if name == "close" else None
            left -= 1
            if left == -1 or (lasts and left < 0 and name in WRITING):
                hit = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return result if name == "close" else real[name](*args, **more)

        error: StoreError | None = None
        with monkeypatch.context() as patch:
            for name in SYSTEM:
                patch.setattr(os, name, partial(fails, name))
            try:
                call(store)
            except StoreError as caught:
                error = caught
        found = dict(other.items())
        assert dict(store.items()) == found
        if error is None:
            assert found == after
        elif "begun" in error.message:
            assert found in (BEFORE, after)
        else:
            assert found == BEFORE
        moment += 17 if lasts else 7  # each one would take minutes
    assert moment > 7
    store["last"] = b""
    check(tmp_path)


class Stopped(BaseException):
    """What an interrupt raises."""


# A file that was opened just as the interrupt came is closed when it is forgotten, and Python says so.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*FileIO:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("hook", [False, True])
def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, hook: bool) -> None:
    store, other = GitStore(tmp_path, author=ANN), GitStore(tmp_path, author=ANN)
    store["a"] = b"0"
    if hook:
        script = tmp_path / ".git/hooks/reference-transaction"
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
    known: dict[str, bytes] = {}
    data = b""
    steps: list[tuple[Callable[[], object], Callable[[], dict[str, bytes]]]] = [
        (lambda: store.put("a", data), lambda: {**known, "a": data}),
        (lambda: store.put_many({"d/x": data, "d/y": data}), lambda: {**known, "d/x": data, "d/y": data}),
        (lambda: store.delete("d/x"), lambda: {key: known[key] for key in known if key != "d/x"}),
        (lambda: list(store.at("HEAD")), lambda: known),
    ]
    with interrupting(Stopped) as interrupts:
        for number in range(40 if hook else 150):
            data = b"%d" % number
            known = dict(other.items())
            step, after = steps[number % 4]
            if interrupts.during(step, 0.03 if hook else 0.004):
                assert dict(other.items()) == after()
            else:
                assert [lock for lock in LOCKS if (tmp_path / ".git" / lock).exists()] == []
                with (tmp_path / ".git/holdall/lock").open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                assert (tmp_path / ".git/holdall/journal").read_bytes()[:1] == b"-"
                assert dict(other.items()) in (known, after())
            other["b"] = data
    assert interrupts.count > 4
    check(tmp_path)


def test_a_lock_that_an_interrupt_left_in_subprocess_keeps_nobody_waiting(tmp_path: Path) -> None:
    store = GitStore(tmp_path, author=ANN)
    store["a"] = b"1"
    assert store.at("HEAD")["a"] == b"1"
    pipes = [each for each in gc.get_objects() if isinstance(each, Pipe) and each._process is not None]
    pipes = [pipe for pipe in pipes if pipe._folder == str(tmp_path)]
    assert pipes
    for pipe in pipes:
        # `Popen.poll` takes it, and an interrupt between that and its `try` leaves it so.
        pipe._process._waitpid_lock.acquire()  # type: ignore[union-attr]
    closing = threading.Thread(target=lambda: [pipe.close() for pipe in pipes], daemon=True)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()
    assert store.at("HEAD")["a"] == b"1"


def test_without_file_descriptors_every_error_is_typed(tmp_path: Path) -> None:
    store = GitStore(tmp_path, author=ANN)
    store.put_many({"a": b"1", "d/b": b"2"})

    def work() -> None:
        most = max(map(int, os.listdir("/proc/self/fd"))) + 24
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        calls: list[Callable[[GitStore], object]] = [
            lambda each: each.get("a"),
            lambda each: each.get("nope"),
            lambda each: each.info("d/b"),
            lambda each: each.put("a", b"2"),
            lambda each: list(each.list()),
            lambda each: each.open("a").close(),
            lambda each: each.exists("x"),
            lambda each: each.history(),
            lambda each: each.at("HEAD")["a"],
            lambda each: list(each.at("HEAD")),
            lambda each: each.revert("a", "HEAD"),
            lambda each: each.move("a", "c"),
            lambda _: GitStore(tmp_path),
            lambda _: GitStore(tmp_path / "new", init=True).put("a", b"1"),
        ]
        failed = 0
        for room in range(6):
            held: list[int] = []
            fresh = GitStore(tmp_path, author=ANN)
            try:
                while True:
                    held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                for fd in held[:room]:
                    os.close(fd)
            for each in calls:
                try:
                    each(fresh)
                except StoreError:
                    failed += 1
            for fd in held[room:]:
                os.close(fd)
            fresh.close()
            with GitStore(tmp_path, author=ANN) as again:
                again["a"] = b"%d" % room
                assert again["a"] == b"%d" % room
        assert failed > 20

    succeeds(forked(work))


def test_a_git_that_is_killed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = GitStore(tmp_path / "tree")
    store["a"] = b"1"
    (tmp_path / "git").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(StoreUnavailableError, match="signal 9"):
        store.history()
    with pytest.raises(StoreUnavailableError, match="git cat-file"):
        store.at("HEAD")
    with pytest.raises(StoreUnavailableError, match="signal 9"):
        GitStore(tmp_path / "tree")


def test_a_lock_that_a_killed_git_left_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdall.stores.git.locks._WAIT", 0.0)
    store = GitStore(tmp_path)
    store["a"] = b"1"
    (tmp_path / ".git/index.lock").touch()
    with pytest.raises(StoreUnavailableError, match=r"index\.lock.*delete that file"):
        store["a"] = b"2"
    assert store["a"] == b"1"
    (tmp_path / ".git/index.lock").unlink()
    store["a"] = b"3"
    check(tmp_path)


PARTS = [
    *("index", "HEAD", "refs/heads/main", "packed-refs", "config", "holdall/journal", "object"),
]


@pytest.mark.parametrize("part", PARTS)
def test_damage_is_never_a_bare_error(tmp_path: Path, part: str) -> None:
    tree = tmp_path / "tree"
    with GitStore(tree) as store:
        store.put_many({"a": b"1", "d/b": b"2", "d/c": b"3" * 100})
    if part == "packed-refs":
        git(tree, "pack-refs", "--all")
    objects = [path for path in (tree / ".git/objects").glob("??/*") if path.is_file()]
    rng = random.Random(1)
    path = tree / ".git" / part
    found = 0
    for number in range(40):
        if part == "object":
            path = objects[number % len(objects)]
        whole = path.read_bytes()
        damaged = bytearray(whole)
        if number < 4:
            del damaged[[0, 1, len(whole) // 2, len(whole) - 1][number] :]
        else:
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.chmod(0o644)
        path.write_bytes(damaged)
        store: GitStore | None = None
        calls: list[Callable[[GitStore], object]] = [
            lambda each: each.get("a"),
            lambda each: dict(each.items()),
            lambda each: dict(each.at("HEAD").items()),
            lambda each: each.history("a"),
            lambda each: each.put("a", b"1"),
            lambda each: each.delete("nope"),
        ]
        try:
            store = GitStore(tree)
        except StoreError:
            found += 1
        if store is not None:
            for call in calls:
                try:
                    call(store)
                except StoreError:
                    found += 1
            store.close()
        shutil.rmtree(tree / ".git/holdall", ignore_errors=True)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(whole)
    assert found > 5 or part in ("config", "holdall/journal")


def test_a_damaged_index_says_how_to_make_another(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["a"] = b"1"
    index = tmp_path / ".git/index"
    content = bytearray(index.read_bytes())
    content[30] ^= 1
    index.write_bytes(content)
    with pytest.raises(IntegrityError, match="git reset"):
        list(store)
    index.unlink()
    git(tmp_path, "reset", "-q")
    assert dict(store.items()) == {"a": b"1"}


def test_impossible_times_are_the_nearest_ones(tmp_path: Path) -> None:
    store = GitStore(tmp_path)
    store["a"] = b"1"
    tree = git(tmp_path, "rev-parse", "HEAD^{tree}").strip()
    commit = f"tree {tree}\nauthor A <a> 99999999999999 +0000\ncommitter A <a> 99999999999999 +0000\n\nfar\n"
    oid = subprocess.run(
        ["git", "-C", tmp_path, "hash-object", "-t", "commit", "-w", "--stdin"],
        input=commit.encode(),
        capture_output=True,
        check=True,
    ).stdout.strip()
    git(tmp_path, "update-ref", "HEAD", oid.decode())
    assert store.history()[0].modified.year in (1970, 9999)
    past = store.at("HEAD")
    assert past.info("a").modified.year in (1970, 9999)
    os.utime(tmp_path / "a", (1 << 35, 1 << 35))
    assert store.info("a").modified.year <= 9999


def test_a_process_that_is_killed_as_it_makes_a_repository_with_its_git(tmp_path: Path) -> None:
    """As a power failure does, at any moment."""
    code = "import holdall, sys; print(flush=True); holdall.GitStore(sys.argv[1])['a'] = b'1'"
    rng = random.Random()
    for number in range(6):
        place = tmp_path / f"tree-{number}"
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(place)], start_new_session=True, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        try:
            child.wait(rng.uniform(0, 0.02))
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
        with GitStore(place) as store:
            store["b"] = b"1"
            assert store["b"] == b"1"
        check(place)


def test_a_git_that_goes_on_after_its_process_was_killed_leaves_nothing(
    tmp_path: Path,
) -> None:
    place, programs, go = tmp_path / "tree", tmp_path / "programs", tmp_path / "go"
    programs.mkdir()
    slow = programs / "git"
    real = shutil.which("git")
    slow.write_text(
        f"""#!/bin/sh
case "$*" in *" init "*) echo $$ > {tmp_path}/begun; while [ ! -e {go} ]; do sleep 0.01; done;; esac
exec {real} "$@"
"""
    )
    slow.chmod(0o755)
    code = "import holdall, sys; holdall.GitStore(sys.argv[1])['a'] = b'1'"
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    child = subprocess.Popen([sys.executable, "-c", code, str(place)], env=environment)
    while not (tmp_path / "begun").exists():
        assert child.poll() is None
    child.kill()
    child.wait()
    store = GitStore(place)
    thread = threading.Thread(target=store.put, args=("b", b"1"))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive(), "it doesn't wait for the git of the killed process"
    go.touch()
    thread.join()
    assert store["b"] == b"1"
    store.close()
    check(place)
    assert sorted(os.listdir(place)) == [".git", "b"]


def test_only_what_dead_writers_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream may last longer than an hour, or the clock be wrong."""
    store = GitStore(tmp_path)
    store["a"] = b"1"
    monkeypatch.setattr("holdall.stores.git.drafts._STALE", -1.0)
    own = tmp_path / ".git/holdall"

    def items() -> Iterator[tuple[str, bytes]]:
        yield "b", b"2"
        GitStore(tmp_path).close()
        yield "c", b"3"
        GitStore(tmp_path).close()

    store.put_many(items())
    assert dict(store.items()) == {"a": b"1", "b": b"2", "c": b"3"}
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(f'{os.getpid():x}')"],
        capture_output=True,
        text=True,
        check=True,
    )
    (own / f"draft-{dead.stdout.strip()}-1-2").touch()
    GitStore(tmp_path).close()
    assert list(own.glob("draft-*")) == []
    check(tmp_path)
