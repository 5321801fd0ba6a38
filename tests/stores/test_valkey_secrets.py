"""The password of a Valkey server: where it may come from, and where it never shows."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from tests.servers.valkey import ValkeyServer

import valkey
from holdall import (
    InvalidArgumentError,
    ReadOnlyError,
    Store,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
    ValkeyStore,
)
from holdall.stores.valkey.errors import translate

SECRET = "s3cr@t/?#%"


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer("--requirepass", SECRET) as server:
        yield server


def _get(store: Store) -> bytes:
    return store["a"]


def test_a_reference_goes_to_another_process(
    server: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VALKEY_SECRET", SECRET)
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\r\nanother line\n")
    at = f"127.0.0.1:{server.port}"
    stores = [
        ValkeyStore(server.url, password="env:VALKEY_SECRET"),
        ValkeyStore(server.url, password=f"file:{file}"),
        ValkeyStore(f"valkey://default:env:VALKEY_SECRET@{at}"),
        Store.from_uri(f"valkey://default:env:VALKEY_SECRET@{at}"),
        Store.from_uri(f"valkey://{at}?password=env:VALKEY_SECRET"),
    ]
    for store in stores:
        store["a"] = b"1"
        pickled = pickle.dumps(store)
        assert SECRET.encode() not in pickled
        assert pickle.loads(pickled)["a"] == b"1"
        assert SECRET not in repr(store)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_get, stores[:2]) == [b"1", b"1"]
    pickled = pickle.dumps(stores[0])
    monkeypatch.delenv("VALKEY_SECRET")
    with pytest.raises(InvalidArgumentError, match="VALKEY_SECRET isn't set"):
        pickle.loads(pickled)
    file.unlink()
    with pytest.raises(InvalidArgumentError, match="can't be read"):
        ValkeyStore(server.url, password=f"file:{file}")


def test_a_changed_password_is_read_for_the_next_connection(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VALKEY_SECRET", "wrong")
    with ValkeyStore(server.url, password="env:VALKEY_SECRET") as store:
        with pytest.raises(StoreUnavailableError, match="password"):
            store.get("a")
        monkeypatch.setenv("VALKEY_SECRET", SECRET)
        store["a"] = b"1"


def test_a_password_itself_is_shown_nowhere(server: ValkeyServer) -> None:
    quoted = "s3cr%40t%2F%3F%23%25"
    for store in (
        ValkeyStore(server.url, password=SECRET),
        ValkeyStore(f"valkey://:{quoted}@127.0.0.1:{server.port}"),
    ):
        for layer in (store, store / "folder"):
            with pytest.raises(UnsupportedOperation, match="env:NAME"):
                pickle.dumps(layer)
        assert SECRET not in repr(store)
        assert SECRET not in repr(vars(store))
        assert SECRET not in repr(store._settings())
        # In this process the settings open it again.
        assert type(store)(**store._settings()).put("a", b"1").size == 1  # pyright: ignore[reportArgumentType]
        connection = store._link._server._connect()
        assert SECRET not in repr(vars(connection))
    for url, options in (
        ("rediss://localhost", {"password": SECRET}),
        (f"rediss://user:{quoted}@localhost", {}),
    ):
        try:
            ValkeyStore(url, **options, tls_ca="/no/such/file")
        except InvalidArgumentError as error:
            shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
            ours = shown[shown.rindex("valkey/store.py") :]
            assert SECRET not in ours
            assert quoted not in ours


def test_too_many_open_files_are_reported(server: ValkeyServer) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ValkeyStore(server.url, password=SECRET) as store:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
        held: list[int] = []
        try:
            with suppress(OSError):
                while True:
                    held.append(os.open("/dev/null", os.O_RDONLY))
            with pytest.raises(StoreUnavailableError, match="too many files"):
                store.get("a")
        finally:
            for descriptor in held:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        store["a"] = b"1"


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        ("MISCONF Errors writing to the AOF file", StoreUnavailableError, "disk"),
        ("NOREPLICAS Not enough good replicas to write.", StoreUnavailableError, "min-replicas-to-write"),
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreUnavailableError, "maxmemory"),
        ("NOAUTH Authentication required.", StoreUnavailableError, "password="),
        ("WRONGPASS invalid username-password pair", StoreUnavailableError, "password="),
        ("NOPERM this user has no permissions", StoreUnavailableError, "ACL"),
        ("LOADING Redis is loading the dataset in memory", StoreUnavailableError, "try again"),
        ("MOVED 3999 127.0.0.1:6381", StoreUnavailableError, "cluster=True"),
        ("READONLY You can't write against a read only replica.", ReadOnlyError, "primary"),
        ("ERR something new", StoreUnavailableError, "something new"),
    ],
)
def test_what_a_server_replies_says_what_to_do(reply: str, kind: type[StoreError], says: str) -> None:
    for library in (redis, valkey):
        # As the client libraries parse it: by its first word, where they know it.
        error = translate(library.ResponseError(reply), "db.example.org:6379")
        assert type(error).__mro__[0] in (kind, *kind.__subclasses__())
        assert says in str(error)
        assert "db.example.org:6379" in str(error)
