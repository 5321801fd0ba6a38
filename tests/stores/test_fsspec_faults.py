"""A store in a file system of fsspec: what servers refuse, what others leave there, and secrets."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.servers import web
from tests.servers.sftp import PASSWORD, SftpServer, sftp_server

from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    InvalidArgumentError,
    InvalidTypeError,
    KeyConflictError,
    MissingDependencyError,
    ReadOnlyError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.store import ABSENT, Can, LeftOut, Store
from holdall.stores.fsspec import FsspecStore, driver
from holdall.stores.fsspec import store as module

MIB = 1 << 20
fsspec: Any = import_module("fsspec")


@pytest.fixture(scope="module")
def server() -> Iterator[SftpServer]:
    with sftp_server() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture(params=["sftp", "file"])
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[FsspecStore]:
    if request.param == "file":
        opened = FsspecStore(f"file://{folder}")
    else:
        server: SftpServer = request.getfixturevalue("server")
        opened = connect(server, folder)
    with opened:
        yield opened


def connect(server: SftpServer, folder: object, **changes: Any) -> FsspecStore:
    return FsspecStore(server.url(folder), **{**server.options, **changes})


def drafts(folder: Path) -> list[str]:
    held = folder / ".holdall~fsspec"
    return os.listdir(held) if held.exists() else []


def test_what_each_can(store: FsspecStore, folder: Path) -> None:
    assert store.can == Can.LIST | Can.RANGE | Can.WRITE | Can.DELETE | Can.CREATE
    assert FsspecStore("memory://a").can == store.can | Can.SWAP | Can.CONDITIONAL_DELETE
    assert not list(folder.iterdir())


def test_others_see_plain_files(store: FsspecStore, folder: Path) -> None:
    store["a/b.txt"] = b"1"
    store["a/c:d"] = b"2"
    assert (folder / "a/b.txt").read_bytes() == b"1"
    (folder / "e:f").write_bytes(b"3")
    (folder / "d" / "x").mkdir(parents=True)
    assert dict(store) == {"a/b.txt": b"1", "a/c:d": b"2", "e:f": b"3"}
    store["e:f"] = b"4"
    assert (folder / "e:f").read_bytes() == b"4"
    store["d"] = b"the empty folders are gone"
    assert store.delete("a/b.txt")
    assert store.delete("a/c:d")
    assert not (folder / "a").exists()
    assert drafts(folder) == []


def test_what_is_no_blob_is_left_out_and_left_alone(
    store: FsspecStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store["there"] = b"1"
    os.symlink("there", folder / "link")
    os.mkfifo(folder / "pipe")
    (folder / "line\nbreak").touch()
    os.close(os.open(os.fsencode(folder) + b"/bad\xff", os.O_CREAT))
    with caplog.at_level(logging.WARNING, "holdall"):
        assert list(store) == ["there"]
        assert [str(child) for child in store.children()] == [str(store.info("there"))]
    assert len(caplog.records) == 3
    assert {each.path.encode("utf-8", "backslashreplace")[:4] for each in store.left_out()} == {
        b"bad\\",
        b"line",
        b"link",
        b"pipe",
    }
    assert LeftOut("link", "symbolic link") in list(store.left_out())
    for key in ("link", "pipe"):
        assert store.get(key) is None
        assert key not in store
        assert store.delete(key) is False
        for write in (
            lambda key=key: store.put(key, b"x"),
            lambda key=key: store.put(key, iter([bytes(MIB)] * 3)),
            lambda key=key: store.move("there", key),
        ):
            with pytest.raises(KeyConflictError, match="neither follows nor replaces"):
                write()
    with pytest.raises(KeyConflictError):
        store["pipe/below"] = b"x"
    assert (folder / "link").is_symlink()
    assert store["there"] == b"1"


def test_a_folder_or_a_blob_in_the_way(store: FsspecStore, folder: Path) -> None:
    store["a/b"] = b"1"
    for key in ("a", "a/b/c"):
        with pytest.raises(KeyConflictError, match="use another key"):
            store[key] = b"2"
        with pytest.raises(KeyConflictError):
            store.put(key, iter([bytes(MIB)] * 3))
    with pytest.raises(BlobExistsError):
        store.put("a/b", b"2", expect=ABSENT)
    assert dict(store) == {"a/b": b"1"}
    assert drafts(folder) == []
    (folder / "a" / "b").unlink()
    (folder / "a").rmdir()
    (folder / "a").touch()
    assert store.get("a/b") is None


def test_permission_bits_stay(store: FsspecStore, folder: Path) -> None:
    store["a"] = b"1"
    os.chmod(folder / "a", 0o640)
    store["a"] = b"2"
    assert (folder / "a").stat().st_mode & 0o777 == 0o640


def test_drafts_of_dead_writers_are_swept(store: FsspecStore, folder: Path) -> None:
    held = folder / ".holdall~fsspec"
    held.mkdir()
    old, new = held / "new-dead", held / "new-alive"
    for path, age in ((old, 4000), (new, 60)):
        path.write_bytes(b"half")
        stamp = time.time() - age
        os.utime(path, (stamp, stamp))
    store["a"] = b"1"
    assert drafts(folder) == ["new-alive"]
    assert dict(store) == {"a": b"1"}
    store.clear()
    assert not store


def test_a_killed_writer_leaves_the_old_blob(server: SftpServer, folder: Path) -> None:
    reference = f"file:{server.known_hosts}.pw"
    Path(reference[5:]).write_text(PASSWORD)
    with connect(server, folder, password=reference) as store:
        store["a"] = b"old"
        program = (
            "import os, pickle, sys\n"
            "store = pickle.load(sys.stdin.buffer)\n"
            "def body():\n"
            "    for _ in range(3): yield bytes(1 << 20)\n"
            "    os.kill(os.getpid(), 9)\n"
            "store.put('a', body())\n"
        )
        ended = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(store), check=False)
        assert ended.returncode == -9
        assert dict(store) == {"a": b"old"}
    (left,) = drafts(folder)
    stamp = time.time() - 4000
    os.utime(folder / ".holdall~fsspec" / left, (stamp, stamp))
    with connect(server, folder) as store:
        store["b"] = b""
    assert drafts(folder) == []


def test_a_write_whose_draft_is_gone(store: FsspecStore, folder: Path) -> None:
    store["a"] = b"old"

    def body() -> Iterator[bytes]:
        yield bytes(3 * MIB)
        for name in drafts(folder):
            (folder / ".holdall~fsspec" / name).unlink()

    with pytest.raises(StoreUnavailableError, match="try again"):
        store.put("a", body())
    assert dict(store) == {"a": b"old"}


def test_a_server_that_is_away_and_comes_back(tmp_path: Path) -> None:
    with sftp_server() as server, FsspecStore(server.url(tmp_path / "in"), **server.options) as store:
        store["a"] = bytes(3 * MIB)
        stream = store.chunks("a")
        assert next(stream)
        server.stop()
        for call in (
            lambda: store["a"],
            lambda: store.put("a", b"2"),
            lambda: list(store),
            lambda: store.delete("a"),
            lambda: list(stream),
        ):
            with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{server.port}"):
                call()
        server.start()
        assert store["a"] == bytes(3 * MIB)
        store["a"] = b"2"
        assert dict(store) == {"a": b"2"}
    assert drafts(tmp_path / "in") == []


def test_what_a_server_refuses(server: SftpServer, folder: Path) -> None:
    for options, said in (
        ({"password": "wrong"}, "refuses the login"),
        ({"known_hosts": os.devnull}, "isn't in known_hosts"),
        ({"known_hosts": "/nowhere"}, "isn't there"),
    ):
        with connect(server, folder, **options) as store:
            for call in (lambda: store.get("a"), lambda: store.can, lambda: list(store)):
                with pytest.raises(StoreUnavailableError, match=said):
                    call()
    other = server.known_hosts.with_name("others")
    with sftp_server() as stranger:
        other.write_text(stranger.known_hosts.read_text().replace(str(stranger.port), str(server.port)))
    with (
        connect(server, folder, known_hosts=str(other)) as store,
        pytest.raises(StoreUnavailableError, match="isn't the one in known_hosts"),
    ):
        store.get("a")
    with connect(server, folder, known_hosts=os.devnull, host_key_policy="auto_add") as store:
        assert store.get("a") is None
    for url, said in (
        ("sftp://me@nowhere.invalid/x", "no such host"),
        ("sftp://me@127.0.0.1:1/x", "check host and port"),
    ):
        with FsspecStore(url, **server.options) as store, pytest.raises(StoreUnavailableError, match=said):
            store.get("a")


def test_a_server_that_says_nothing(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"sftp://me@127.0.0.1:{silent.getsockname()[1]}/x"
        with FsspecStore(url, password="x", timeout=0.3) as store, pytest.raises(StoreUnavailableError):
            store.get("a")


def test_no_permission(server: SftpServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A test that runs as root finds no file that it may not read.
    with connect(server, folder) as store:
        store["a"] = b"1"
        inner: Any = store
        for name, call in (
            ("open", lambda: store["a"]),
            ("start", lambda: store.put("a", b"2")),
            ("remove", lambda: store.delete("a")),
        ):

            def refuse(*_: object) -> None:
                raise OSError(13, "Permission denied")

            with monkeypatch.context() as patch:
                patch.setattr(inner._medium, name, refuse)
                with pytest.raises(StoreUnavailableError, match="no permission to"):
                    call()
        assert dict(store) == {"a": b"1"}


def test_an_interrupt_ends_the_wait(server: SftpServer, folder: Path) -> None:
    import signal

    with connect(server, folder) as store:
        store["a"] = b"old"
        pieces = iter([bytes(MIB)] * 3)

        def body() -> Iterator[bytes]:
            yield from pieces
            signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            store.put("a", body())
        assert store["a"] == b"old"
        assert drafts(folder) == []


def test_a_child_of_a_fork_has_connections_of_its_own(server: SftpServer, folder: Path) -> None:
    with connect(server, folder) as store:
        store["a"] = bytes(5 * MIB)
        stream = store.chunks("a")
        read = [next(stream)]
        child = os.fork()
        if not child:
            status = 1
            try:
                stream.close()  # type: ignore[attr-defined]
                store["child"] = store["a"][:10]
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        read.extend(stream)
        assert b"".join(read) == bytes(5 * MIB)
        assert store["child"] == bytes(10)


def test_secrets_are_never_shown(server: SftpServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTP_PASSWORD", PASSWORD)
    with connect(server, folder, password="env:SFTP_PASSWORD") as store:
        store["a"] = b"1"
        again = pickle.loads(pickle.dumps(store))
        assert again["a"] == b"1"
        assert PASSWORD.encode() not in pickle.dumps(store)
        again.close()
    secret = "very-secret"
    address = f"me:{secret}@127.0.0.1:1/x"
    for make in (
        lambda: FsspecStore(f"sftp://{address}"),
        lambda: FsspecStore("sftp://me@127.0.0.1:1/x", password=secret),
        lambda: FsspecStore("sftp://me@127.0.0.1:1/x", passphrase=secret),
        lambda: FsspecStore(f"webdav://{address}"),
        lambda: FsspecStore(f"ftp://{address}"),
        lambda: Store.from_uri(f"sftp://{address}"),
        lambda: Store.from_uri(f"sftp://me@127.0.0.1:1/x?password={secret}"),
    ):
        opened = make()
        assert secret not in repr(opened)
        with pytest.raises(UnsupportedOperation, match="never pickled"):
            pickle.dumps(opened)
        with pytest.raises(StoreUnavailableError) as caught:
            opened.get("a")
        assert secret not in "".join(traceback.format_exception(caught.value))
        opened.close()
    for wrong in (f"sftp://me:{secret}@host:x/", f"sftp://me:{secret}%@host/", f"sftp://me:{secret}@/x"):
        with pytest.raises(InvalidArgumentError) as refused:
            FsspecStore(wrong)
        assert secret not in str(refused.value)


def test_mistakes_of_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: Any = FsspecStore
    for arguments, options in (
        (("/a/path",), {}),
        (("nosuch://x",), {}),
        (("zip://x::file://y",), {}),
        (("sftp:///no/host",), {}),
        ((None,), {}),
        ((fsspec.filesystem("memory"),), {"password": "x"}),
        (("sftp://me@h/x",), {"username": "you"}),
        (("sftp://h/x",), {"host": "other"}),
        (("memory://a", 1), {}),
        (("memory://a",), {"atomic_move": "yes"}),
        (("zip://a",), {"fo": "x", "atomic_move": True}),
    ):
        with pytest.raises(InvalidArgumentError):
            wrong(*arguments, **options)
    with pytest.raises(InvalidTypeError, match="file system of fsspec"):
        wrong(5)
    with (
        FsspecStore("sftp://h/x", nosuch=1) as store,
        pytest.raises(InvalidArgumentError, match="nosuch"),
    ):
        store.get("a")
    with pytest.raises(MissingDependencyError, match="smbprotocol"):
        FsspecStore("smb://host/share")
    for scheme in ("nosuch", "s3a", "abfss"):
        with pytest.raises(InvalidArgumentError, match=f"unknown scheme '{scheme}'"):
            Store.from_uri(f"{scheme}://x")
    monkeypatch.setattr(driver, "import_module", _missing)
    monkeypatch.setattr(module, "driver", driver.driver)
    with pytest.raises(MissingDependencyError, match=r"pip install 'holdall\[fsspec\]'"):
        Store.from_uri("sftp://host/x")


def _missing(name: str) -> Any:
    raise ImportError(name)


def test_by_uri(server: SftpServer, folder: Path) -> None:
    options = "&".join(f"{name}={value}" for name, value in server.options.items()).replace(" ", "%20")
    with Store.from_uri(f"{server.url(folder)}/a%20b?{options}&timeout=20&prefix=p") as store:
        store["x"] = b"1"
        assert isinstance(store._store, FsspecStore)  # type: ignore[attr-defined]
    assert (folder / "a b/p/x").read_bytes() == b"1"


def test_files_of_a_zip_are_only_read(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("in/a", b"0123456789")
        archive.writestr("in/b/c", b"2")
        archive.writestr("d", b"3")
    fs = fsspec.filesystem("zip", fo=str(tmp_path / "x.zip"))
    with FsspecStore(fs, "in") as store:
        check_read_only(store, "only be read")
        assert dict(store) == {"a": b"0123456789", "b/c": b"2"}
        assert store.get_range("a", 2, 4) == b"23"
    with FsspecStore(fs) as store:
        assert list(store) == ["d", "in/a", "in/b/c"]


def check_read_only(store: Store, why: str) -> None:
    assert store.can == Can.LIST | Can.RANGE
    for call in (lambda: store.put("new", b""), lambda: store.delete("a"), store.clear):
        with pytest.raises(ReadOnlyError, match=why):
            call()


def test_rclone_over_webdav_and_sftp_is_only_read(folder: Path) -> None:
    (folder / "b").mkdir()
    (folder / "a").write_bytes(b"0123456789")
    (folder / "b/c d").write_bytes(bytes(3 * MIB))
    login = ("--user", "me", "--pass", "secret")
    options: dict[str, Any] = {"host_key_policy": "auto_add", "look_for_keys": False, "allow_agent": False}
    for kind, more in (("webdav", {}), ("sftp", options)):
        with (
            web.rclone(folder, kind, *login) as port,
            FsspecStore(f"{kind}://me:secret@127.0.0.1:{port}/", **more) as store,
        ):
            check_read_only(store, "MOVE of WebDAV" if kind == "webdav" else "isn't OpenSSH's")
            assert dict(store) == {"a": b"0123456789", "b/c d": bytes(3 * MIB)}
            assert store.get_range("a", -3) == b"789"
            assert [str(getattr(child, "key", child)) for child in store.children()] == ["a", "b/"]
            assert list(store.list()) == [store.info("a"), store.info("b/c d")]
            (folder / "a").write_bytes(b"changed")
            assert store["a"] == b"changed"
            (folder / "a").write_bytes(b"0123456789")
            for key in ("b", "absent", "a/b"):
                assert store.get(key) is None
                with pytest.raises(BlobNotFoundError):
                    store.info(key)
        with (
            web.rclone(folder, kind, *login) as port,
            FsspecStore(f"{kind}://me:wrong@127.0.0.1:{port}/", **more) as store,
            pytest.raises(StoreUnavailableError, match="refuses the login"),
        ):
            store.get("a")


def test_on_the_users_word_it_writes(folder: Path) -> None:
    class Mine(fsspec.get_filesystem_class("file")):  # type: ignore[misc]
        """A subclass may do things in another way, so that it isn't known."""

    fs = Mine()
    with FsspecStore(fs, str(folder)) as store:
        check_read_only(store, "atomic_move=True")
    with FsspecStore(fs, str(folder), atomic_move=True) as store:
        assert store.can == Can.LIST | Can.RANGE | Can.WRITE | Can.DELETE
        store["a/b"] = b"1"
        store["a/b"] = bytes(3 * MIB)
        store.move("a/b", "c")
        assert dict(store) == {"c": bytes(3 * MIB)}
        with pytest.raises(UnsupportedOperation):
            store.put("d", b"", expect=ABSENT)
    assert drafts(folder) == []


def test_threads_that_read_streams_together(server: SftpServer, folder: Path) -> None:
    """Each has a connection, and what is dropped half-way disturbs no other."""
    with connect(server, folder) as store:
        store.update({str(number): bytes([number]) * (3 * MIB) for number in range(4)})
        failures: list[BaseException] = []

        def read(number: int) -> None:
            try:
                for turn in range(4):
                    chunks = store.chunks(str(number))
                    if turn % 2:
                        assert next(chunks) == bytes([number]) * MIB
                        del chunks
                    else:
                        assert b"".join(chunks) == bytes([number]) * (3 * MIB)
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


def test_an_error_of_a_driver_is_the_cause(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FsspecStore(f"file://{folder}") as store:
        inner: Any = store

        def fail(*_: object) -> None:
            raise ZeroDivisionError("of a driver")

        monkeypatch.setattr(inner._medium, "look", fail)
        calls: list[Callable[[], object]] = [lambda: store.get("a"), lambda: store.put("a", b"")]
        for call in calls:
            with pytest.raises(StoreError, match="of a driver") as caught:
                call()
            assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_webdav_server_that_its_user_vouches_for(folder: Path) -> None:
    with (
        web.rclone(folder, "webdav", "--user", "me", "--pass", "secret") as port,
        FsspecStore(f"webdav://me:secret@127.0.0.1:{port}/new/deep", atomic_move=True) as store,
    ):
        assert store.can == Can.LIST | Can.RANGE | Can.WRITE | Can.DELETE
        store["a/b"] = b"1"
        store["a/b"] = b"22"
        store.move("a/b", "c")
        store["d"] = bytes(3 * MIB)
        assert dict(store) == {"c": b"22", "d": bytes(3 * MIB)}
        with pytest.raises(KeyConflictError):
            store["c/e"] = b""
        assert store.delete("c")
        assert list(store) == ["d"]
    assert drafts(folder / "new/deep") == []


def test_a_link_in_the_path_of_the_store_is_followed(server: SftpServer, folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    for store in (connect(server, f"{folder}/link/new"), FsspecStore(f"file://{folder}/link/other")):
        with store:
            store["a/b"] = b"1"
            assert dict(store) == {"a/b": b"1"}
    assert sorted(os.listdir(folder / "real")) == ["new", "other"]
    (folder / "file").touch()
    with (
        connect(server, f"{folder}/file/in") as store,
        pytest.raises(StoreUnavailableError, match="a part of the store's path"),
    ):
        store["a"] = b""


def test_a_folder_goes_with_all_that_is_in_it(server: SftpServer, folder: Path) -> None:
    (folder / "kept").mkdir()
    (folder / "kept/file").touch()
    with connect(server, folder / "gone") as store:
        store["a/b"] = b"1"
        os.symlink(folder / "kept", folder / "gone/link")
        os.mkfifo(folder / "gone/a/pipe")
        inner: Any = store
        inner._delete_folder()
        inner._delete_folder()
    assert os.listdir(folder) == ["kept"]
    assert (folder / "kept/file").exists()


def test_a_folder_that_another_writer_made_and_that_is_gone_again(
    store: FsspecStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server says of a folder that exists no more than that it wasn't made."""
    inner: Any = store
    make, failures = inner._medium.make_folder, [OSError("Failure"), OSError("Failure")]

    def fail_first(fs: Any, path: str) -> None:
        if path.endswith("/a") and failures:
            raise failures.pop()
        make(fs, path)

    monkeypatch.setattr(inner._medium, "make_folder", fail_first)
    store["a/b"] = b"1"
    assert (folder / "a/b").read_bytes() == b"1"
    assert not failures
    failures += [OSError("No space left")] * 99
    with pytest.raises(StoreUnavailableError, match="No space left"):
        store["c/a/b"] = b"1"
    assert list(store) == ["a/b"]


def test_what_is_passed_in_and_pickled(tmp_path: Path) -> None:
    alone = fsspec.filesystem("memory", global_store=False, skip_instance_cache=True)
    with FsspecStore(alone, "in") as store:
        store["a"] = b"1"
        assert alone.cat("/in/a") == b"1"
        assert not list(FsspecStore("memory://in"))
        with pytest.raises(UnsupportedOperation, match="a copy of its files"):
            pickle.dumps(store)
    with FsspecStore(fsspec.filesystem("file"), str(tmp_path)) as store:
        store["a"] = b"1"
        with pickle.loads(pickle.dumps(store)) as again:
            assert dict(again) == {"a": b"1"}


def test_options_in_a_table(server: SftpServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SFTP_PASSWORD", PASSWORD)
    Path("holdall.toml").write_text(
        f'[stores.far]\nuri = "{server.url(folder)}/in"\n[stores.far.options]\nlook_for_keys = false\n'
        f'allow_agent = false\npassword = "env:SFTP_PASSWORD"\nknown_hosts = "{server.known_hosts}"\n'
    )
    with Store.from_uri("far:") as store:
        store["a"] = b"1"
    assert (folder / "in/a").read_bytes() == b"1"


@pytest.mark.parametrize("step", ["link", "remove"])
def test_a_create_whose_answer_is_lost_is_no_conflict(
    store: FsspecStore, folder: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store["warm"] = b""
    medium, lost = store._medium, [True]
    act = getattr(medium, step)

    def act_and_lose(*args: Any) -> None:
        if step == "link":
            act(*args)
        if lost:
            lost.clear()
            raise OSError("the answer was lost")
        if step == "remove":
            act(*args)

    monkeypatch.setattr(medium, step, act_and_lose)
    assert store.put("a", b"mine", expect=ABSENT).etag == store.info("a").etag
    assert store["a"] == b"mine"
    assert os.listdir(folder / ".holdall~fsspec") == []
    with pytest.raises(BlobExistsError):
        store.put("a", b"other", expect=ABSENT)
