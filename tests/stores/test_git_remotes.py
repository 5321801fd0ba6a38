"""A store of git and its remotes: by path, by `git daemon`, over HTTP; alone, beside others, and offline."""

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.git import daemon, http
from tests.servers.proxy import Proxy

from holdall import ConcurrencyError, InvalidArgumentError, StoreUnavailableError
from holdall.stores.git import GitStore
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
        deadline = time.monotonic() + 30
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
        with pytest.raises(StoreUnavailableError, match="nobody committed"):
            two.sync()
        assert two["a"] == b"mine"
        git(tmp_path / "two", "checkout", "-q", "a")
        assert two["a"] == b"2"
        check(tmp_path / "two")


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
            begun = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="longer than"):
                one.sync()
            assert time.monotonic() - begun < 20
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
