"""A store in Valkey or Redis whose server, network or credentials fail."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import pickle
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from tests.servers.certificates import KEY
from tests.servers.ports import free_port
from tests.servers.proxy import Proxy
from tests.servers.valkey import ValkeyServer, valkey_cluster

from holdall.errors import (
    BlobExistsError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    KeyConflictError,
    MissingDependencyError,
    ReadOnlyError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from holdall.store import ABSENT, Store
from holdall.stores.valkey import ValkeyStore, connecting, link, open_tls, scripts
from holdall.testing import race
from holdall.testing.running import wait_until

MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def raw(server: ValkeyServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port, protocol=2) as raw:
        raw.flushall()
        yield raw


@pytest.fixture
def proxy(server: ValkeyServer, raw: redis.Redis) -> Iterator[Proxy]:
    with contextlib.closing(Proxy(server.port)) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: Proxy) -> Iterator[ValkeyStore]:
    with ValkeyStore(f"valkey://127.0.0.1:{proxy.port}") as store:
        yield store


def proxy_url(proxy: Proxy) -> str:
    return f"valkey://127.0.0.1:{proxy.port}"


def once(way: str, holds: bytes = b"") -> Callable[[str, bytes], bool]:
    """Cut the first run of bytes that goes this way and holds this."""
    lock, done = threading.Lock(), [False]

    def cut(this: str, data: bytes) -> bool:
        with lock:
            # Where the script was unknown, nothing was carried out.
            if done[0] or this != way or holds not in data or b"NOSCRIPT" in data:
                return False
            done[0] = True
            return True

    return cut


def test_no_server() -> None:
    port = free_port()
    with ValkeyStore(f"valkey://127.0.0.1:{port}", timeout=5) as store:
        calls: list[Callable[[], object]] = [
            lambda: store["key"],
            lambda: store.put("key", b"x"),
            lambda: store.put("key", bytes(9 * MIB)),
            lambda: store.put("key", b"x", expect=ABSENT),
            lambda: store.delete("key"),
            lambda: list(store),
            lambda: store.put_many({"key": b"x"}),
            lambda: store.get_many(["key"]),
            lambda: store.delete_many(["key"]),
            lambda: store.copy("key", "new"),
            lambda: store.clear(),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{port}; is it up"):
                call()
    with (
        ValkeyStore(f"valkey://127.0.0.1:{port}", cluster=True, timeout=1) as store,
        pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{port}"),
    ):
        store.get("key")
    with (
        ValkeyStore("valkey://no-such-host.invalid", timeout=5) as store,
        pytest.raises(StoreUnavailableError, match=r"no-such-host\.invalid:6379"),
    ):
        store.get("key")
    for host in ("a..b", "x" * 300):
        with ValkeyStore(f"valkey://{host}") as store, pytest.raises(StoreUnavailableError, match=host):
            store.get("key")


def test_a_server_that_starts_again() -> None:
    with ValkeyServer(durable=True) as server, ValkeyStore(server.url) as store:
        info = store.put("key", b"before")
        race(*[lambda: store.get("key")] * 4)
        for number in range(6):
            server.kill()
            if number % 2:
                with pytest.raises(StoreUnavailableError):
                    store.get("key")
            server.start()
            match number:
                case 0:
                    assert store["key"] == b"before"
                case 1:
                    assert store.put("new", b"1", expect=ABSENT).size == 1
                case 2:
                    info = store.put("key", b"after", expect=info.etag)
                case 3:
                    assert store.delete("new") is True
                case 4:
                    assert store.put_many({"a": b"1", "b": b"2"}).keys() == {"a", "b"}
                case _:
                    assert list(store) == ["a", "b", "key"]


def test_a_server_that_is_killed_loses_nothing_that_was_acknowledged() -> None:
    with ValkeyServer(durable=True) as server:
        known: list[dict[str, set[str | None]]] = [{} for _ in range(3)]
        stop = threading.Event()
        failures = [0]

        def digest(data: bytes) -> str:
            return hashlib.sha256(data).hexdigest()

        def write(name: int) -> None:
            rng = random.Random(name)
            with ValkeyStore(server.url, timeout=20) as store:
                while not stop.is_set():
                    key = f"{name}/{rng.randrange(6)}"
                    data = rng.randbytes(rng.choice((10, 5000, 300_000, 9 * MIB)))
                    before = known[name].get(key, {None})
                    try:
                        match rng.randrange(5):
                            case 0:
                                known[name][key] = before | {None}
                                store.delete(key)
                                known[name][key] = {None}
                            case 1:
                                known[name][key] = before | {digest(data)}
                                store.put_many({key: data})
                                known[name][key] = {digest(data)}
                            case _:
                                known[name][key] = before | {digest(data)}
                                store.put(key, data)
                                known[name][key] = {digest(data)}
                    except StoreUnavailableError:
                        failures[0] += 1
                        time.sleep(0.01)

        def kill() -> None:
            rng = random.Random()
            try:
                for _ in range(8):
                    time.sleep(0.15 + rng.random() * 0.1)
                    server.kill()
                    server.start()
            finally:
                stop.set()

        race(kill, *[lambda name=name: write(name) for name in range(3)])
        assert failures[0] > 0, "no call was under way when the server was killed"
        with ValkeyStore(server.url) as store:
            listed = set(store)
            for writer in known:
                for key, possible in writer.items():
                    data = store.get(key)
                    assert (None if data is None else digest(data)) in possible, key
                    assert (key in listed) is (data is not None)
            assert listed == store.get_many(listed).keys()


def test_a_connection_that_is_lost_before_the_answer(
    proxy: Proxy, store: ValkeyStore, raw: redis.Redis
) -> None:
    """Each call is carried out by the server, and its answer is lost."""
    first = store.put("key", b"0")

    def lose() -> None:
        proxy.cut = once("reply")

    lose()
    assert store["key"] == b"0"
    lose()
    assert store.put("key", b"1").etag == store.info("key").etag
    assert store["key"] == b"1"
    lose()
    created = store.put("new", b"created", expect=ABSENT)
    assert store.info("new") == created, "a create that was carried out is told to have failed"
    lose()
    swapped = store.put("new", b"swapped", expect=created.etag)
    assert store.info("new") == swapped
    # What was there before can't be told from what came after this put was stored.
    for expect in (ABSENT, first.etag):
        lose()
        with pytest.raises(StoreUnavailableError, match="can't know"):
            store.put("new", b"x", expect=expect)
        assert store.info("new") == swapped
    lose()
    assert len(store.put_many({f"many/{number}": b"x" for number in range(100)})) == 100
    lose()
    assert list(store)[:2] == ["key", "many/0"]
    lose()
    assert store.put("large", bytes(9 * MIB)).size == 9 * MIB
    lose()
    assert store["large"] == bytes(9 * MIB)
    for call in (lambda: store.delete("key"), lambda: store.delete("new", expect=swapped.etag)):
        lose()
        with pytest.raises(StoreUnavailableError, match="read it again"):
            call()
    assert not store.exists("key")
    lose()
    with pytest.raises(StoreUnavailableError, match="read it again"):
        store.delete_many(["many/0", "many/1"])
    assert len(store) == 99
    store.put_many({"a": b"a"})
    lose()
    with pytest.raises(StoreUnavailableError, match="read it again"):
        store.move("a", "b")
    assert store["b"] == b"a"
    assert "a" not in store
    lose()
    assert store.copy("b", "c").etag == store.info("c").etag
    lose()
    store.clear()
    assert raw.keys() == []


def test_a_conditional_put_whose_answer_is_lost_and_that_was_overwritten(
    proxy: Proxy, server: ValkeyServer, store: ValkeyStore
) -> None:
    with ValkeyStore(server.url) as direct:
        etag = store.put("key", b"0").etag
        fired = once("reply")

        def cut(way: str, data: bytes) -> bool:
            if fired(way, data):
                assert direct["key"] == b"mine"
                direct["key"] = b"theirs"
                return True
            return False

        proxy.cut = cut
        with pytest.raises(StoreUnavailableError, match="can't know"):
            store.put("key", b"mine", expect=etag)
        assert store["key"] == b"theirs"


def test_a_request_that_is_cut_short(proxy: Proxy, store: ValkeyStore) -> None:
    store["key"] = b"before"
    for size in (100, 200_000, 3 * MIB, 10 * MIB):
        data = random.Random(size).randbytes(size)
        for call in (
            lambda data=data: store.put("key", data),
            lambda data=data: store.put("key", data, expect=store.info("key").etag),
            lambda data=data: store.put("key", iter([data[:50], data[50:]])),
        ):
            proxy.cut = once("request", b"EVAL")
            call()
            assert store["key"] == data


@pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])
def test_a_large_blob_that_is_stored_while_its_answers_are_lost(
    proxy: Proxy, server: ValkeyServer, store: ValkeyStore, conditional: bool
) -> None:
    """A put that fails may have been carried out: the blob is whole, then or before."""
    with ValkeyStore(server.url) as direct:
        direct["other"] = bytes(9 * MIB)
        before = direct.put("key", b"before")
        lost = [0]
        sent = threading.Event()

        def cut(way: str, data: bytes) -> bool:
            if way == "request":
                # What publishes the blob has its head.
                if b"hdl1" in data:
                    sent.set()
                return False
            if not sent.is_set() or lost[0] == 2 or b"NOSCRIPT" in data:
                return False
            lost[0] += 1
            sent.clear()
            return True

        proxy.cut = cut
        with pytest.raises(StoreUnavailableError, match="can't know"):
            store.put("key", bytes(9 * MIB), **({"expect": before.etag} if conditional else {}))
        assert lost[0] == 2
        assert direct["key"] == bytes(9 * MIB)


def scripts_run(raw: redis.Redis) -> int:
    """Return the number of scripts that the server has run."""
    stats: Any = raw.info("commandstats")
    return stats.get("cmdstat_evalsha", {}).get("calls", 0)


def test_a_request_that_comes_late_is_never_told_to_be_done(
    proxy: Proxy, server: ValkeyServer, raw: redis.Redis
) -> None:
    """A network may keep a request, and carry it to the server when its client has long gone on: a second one
    that was acknowledged in its place would let it undo what others put meanwhile."""
    with ValkeyStore(server.url) as direct, ValkeyStore(proxy_url(proxy), timeout=1) as store:
        direct.put_many({"key": b"0", "source": b"s"})
        direct.delete("none")
        direct.copy("source", "copied")
        direct.move("copied", "moved")
        direct.put("key", b"1")
        etag = direct.info("key").etag
        for call in (
            lambda: store.put("key", b"late"),
            lambda: store.put("key", b"late", expect=etag),
            lambda: store.put("new", b"late", expect=ABSENT),
            lambda: store.put("key", iter([b"late", b""])),
            lambda: store.put_many({"key": b"late"}),
            lambda: store.delete("key"),
            lambda: store.delete_many(["key"]),
            lambda: store.copy("source", "key"),
            lambda: store.move("source", "key"),
        ):
            assert store.exists("key")
            held, released, before = threading.Event(), threading.Event(), scripts_run(raw)

            def hold(data: bytes, held: threading.Event = held, released: threading.Event = released) -> Any:
                if b"EVALSHA" not in data or held.is_set():
                    return None
                held.set()
                return released

            proxy.hold = hold
            with pytest.raises(StoreUnavailableError, match="can't know"):
                call()
            assert held.is_set()
            released.set()
            proxy.hold = lambda data: None
            deadline = time.monotonic() + 60
            while scripts_run(raw) == before:
                assert time.monotonic() < deadline, "the request was never carried out"
            direct.put_many({"key": b"1", "source": b"s"})


def test_a_chunk_that_comes_twice_does_not_let_the_blob_expire(
    server: ValkeyServer, raw: redis.Redis
) -> None:
    with ValkeyStore(server.url) as store:
        info = store.put("key", bytes(9 * MIB))
        long = store.put("long", bytes(9 * MIB), ttl=100_000)
        for etag, lives in ((info.etag, -1), (long.etag, 99_000)):
            name = f"holdall:c:{etag}"
            raw.execute_command("EVAL", scripts.CHUNK.source, 1, name, "0", bytes(MIB), "900000")
            assert (raw.ttl(name) == -1) if lives == -1 else (raw.ttl(name) > lives)


def test_a_connection_that_lay_idle_is_not_trusted(
    proxy: Proxy, server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall forgets a connection, and tells neither end."""
    with ValkeyStore(proxy_url(proxy), timeout=60) as store:
        store["key"] = b"x"
        proxy.hold = lambda data: threading.Event() if proxy.connections == 1 else None
        monkeypatch.setattr(link, "_STALE", 0.0)
        monkeypatch.setattr(link, "_CHECKED", 0.0)
        store["key"] = b"y"
        assert proxy.connections == 2
        assert store["key"] == b"y"


def test_a_network_that_fails_now_and_then(proxy: Proxy, server: ValkeyServer) -> None:
    rng, lock = random.Random(5), threading.Lock()

    def cut(way: str, data: bytes) -> bool:
        with lock:
            return rng.random() < 0.03

    values = [bytes([number]) * size for number, size in enumerate((10, 3000, 200_000, MIB, 9 * MIB))]
    failed: list[StoreError] = []

    def work(seed: int) -> None:
        own = random.Random(seed)
        with ValkeyStore(f"valkey://127.0.0.1:{proxy.port}", timeout=20) as store:
            for _ in range(120):
                key = f"{own.randrange(5)}"
                try:
                    match own.randrange(7):
                        case 0 | 1:
                            store[key] = own.choice(values)
                        case 2:
                            assert store.get(key) in (None, *values)
                        case 3:
                            store.put_many({key: own.choice(values[:3]), "many": values[0]})
                        case 4:
                            assert all(value in values for value in store.get_many([key, "many"]).values())
                        case 5:
                            store.delete(key)
                        case _:
                            assert all(info.size in map(len, values) for info in store.list())
                except (StoreUnavailableError, ConcurrencyError) as error:
                    failed.append(error)

    proxy.cut = cut
    race(*[lambda seed=seed: work(seed) for seed in range(3)])
    assert proxy.connections > 6, "nothing was cut"
    with ValkeyStore(server.url) as direct:
        assert all(value in values for value in direct.values())
        assert set(direct) == direct.get_many(direct).keys()


def test_a_counter_over_a_network_that_fails(proxy: Proxy, server: ValkeyServer) -> None:
    rng, lock = random.Random(9), threading.Lock()

    def cut(way: str, data: bytes) -> bool:
        with lock:
            return rng.random() < 0.05

    counted = [0]
    unsure = [0]

    def count() -> None:
        with ValkeyStore(f"valkey://127.0.0.1:{proxy.port}", timeout=20) as store:
            for _ in range(60):
                try:
                    store.modify("count", lambda old: b"%d" % (int(old) + 1), default=b"0")
                    with lock:
                        counted[0] += 1
                except StoreUnavailableError:
                    with lock:
                        unsure[0] += 1

    proxy.cut = cut
    race(*[count] * 3)
    with ValkeyStore(server.url) as direct:
        assert counted[0] <= int(direct["count"]) <= counted[0] + unsure[0]


def _connect(hasty: Store) -> None:
    """Read until a busy machine answers in time."""

    def answered() -> bool:
        with contextlib.suppress(StoreUnavailableError):
            hasty.get("key")
            return True
        return False

    wait_until(answered)


def test_a_server_that_does_not_answer_in_time(server: ValkeyServer, raw: redis.Redis) -> None:
    with ValkeyStore(server.url, timeout=0.2) as store:
        _connect(store)
        server.pause()
        try:
            for call in (lambda: store["key"], lambda: store.delete("key"), lambda: list(store)):
                with pytest.raises(StoreUnavailableError, match="timeout="):
                    call()
        finally:
            server.resume()
    with ValkeyStore(server.url) as store:
        # A late answer to one request must never be taken for that to another.
        store["a"], store["b"] = b"a", b"b"
        assert (store["a"], store["b"]) == (b"a", b"b")


def test_late_answers_are_not_mixed_up(proxy: Proxy, server: ValkeyServer, raw: redis.Redis) -> None:
    with ValkeyStore(server.url) as direct:
        direct.put_many({f"{number}": b"%d" % number for number in range(20)})
    with ValkeyStore(f"valkey://127.0.0.1:{proxy.port}", timeout=0.1) as store:
        late = 0
        for number in range(20):
            proxy.delay = 0.3 if number % 5 == 0 else 0.0
            try:
                assert store[f"{number}"] == b"%d" % number
            except StoreUnavailableError:
                late += 1
        assert late >= 4


def certificates(folder: Path) -> tuple[str, str, str]:
    """A certificate for loopback, its key, and the authority that signed it."""
    authority, key, certificate = folder / "ca.pem", folder / "key.pem", folder / "cert.pem"
    request, extension = folder / "request.pem", folder / "extension"
    extension.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    subject = ["-subj", "/CN=holdall test", "-days", "2"]
    for command in (
        [
            "req",
            "-x509",
            *KEY,
            "-keyout",
            f"{folder}/ca.key",
            "-out",
            f"{authority}",
            # Python asks for it from 3.13 on.
            "-addext",
            "keyUsage=critical,keyCertSign",
            *subject,
        ],
        ["req", *KEY, "-keyout", f"{key}", "-out", f"{request}", *subject[:2]],
        [
            *("x509", "-req", "-in", f"{request}", "-CA", f"{authority}", "-CAkey", f"{folder}/ca.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", f"{extension}", "-out", f"{certificate}"),
        ],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return str(certificate), str(key), str(authority)


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key, authority = certificates(tmp_path)
    with ValkeyServer("--requirepass", "s3cret", tls=(certificate, key, authority)) as server:
        url = f"rediss://:s3cret@127.0.0.1:{server.port}"
        monkeypatch.setenv("SECRET", "s3cret")
        by_reference = url.replace("s3cret", "env:SECRET")
        with ValkeyStore(by_reference, tls_ca=authority, timeout=10) as store:
            store["key"] = b"x"
            store["large"] = os.urandom(9 * MIB)
            assert store["key"] == b"x"
            with pytest.raises(BlobExistsError):
                store.put("key", b"y", expect=ABSENT)
            assert store.delete("key") is True
            with pickle.loads(pickle.dumps(store)) as again:
                assert again["large"] == store["large"]
            server.kill()
            server.start()
            assert store.put("key", b"new", expect=ABSENT).size == 3
        with open_tls(f":s3cret@localhost:{server.port}", tls_ca=authority) as store:
            assert store["key"] == b"new"
        other = tmp_path / "other"
        other.mkdir()
        for untrusted in (
            ValkeyStore(url, timeout=5),
            ValkeyStore(url, tls_ca=certificates(other)[2], timeout=5),
        ):
            with untrusted, pytest.raises(StoreUnavailableError, match="tls_ca="):
                untrusted.get("key")
        for wrong in (
            ValkeyStore(url, timeout=5),
            ValkeyStore(f"valkey://:s3cret@127.0.0.1:{server.port}", timeout=5),
        ):
            with wrong, pytest.raises(StoreUnavailableError) as caught:
                wrong.get("key")
            assert f"127.0.0.1:{server.port}" in str(caught.value)
            assert "s3cret" not in str(caught.value)


def test_a_server_that_asks_for_certificates(tmp_path: Path) -> None:
    certificate, key, authority = certificates(tmp_path)
    with ValkeyServer("--tls-auth-clients", "yes", tls=(certificate, key, authority)) as server:
        url = f"rediss://127.0.0.1:{server.port}"
        options = {"tls_ca": authority, "tls_certificate": certificate, "tls_key": key}
        with ValkeyStore(url, **options) as store:
            store["key"] = b"x"
            with pickle.loads(pickle.dumps(store)) as again:
                assert again["key"] == b"x"
        query = "&".join(f"{name}={quote(value)}" for name, value in options.items())
        with Store.from_uri(f"{url}?{query}") as store:
            assert store["key"] == b"x"
        with ValkeyStore(url, tls_ca=authority, timeout=5) as store, pytest.raises(StoreUnavailableError):
            store.get("key")
    encrypted = tmp_path / "encrypted.pem"
    subprocess.run(
        ["openssl", "ec", "-in", key, "-aes128", "-passout", "pass:s3cret", "-out", str(encrypted)],
        check=True,
        capture_output=True,
    )
    for wrong in (
        {"tls_ca": f"{tmp_path}/absent.pem"},
        {"tls_ca": key},
        {"tls_ca": str(tmp_path)},
        {"tls_certificate": authority, "tls_key": key},
        {"tls_certificate": certificate, "tls_key": str(encrypted)},
        {"tls_key": key},
    ):
        with pytest.raises(InvalidArgumentError, match="tls_"):
            ValkeyStore(url, **wrong)


@pytest.mark.parametrize(
    "rule",
    [
        *("-set", "-zadd", "-unlink", "-zrem", "-eval -evalsha", "-getrange", "-pexpire", "+@read -@write"),
        "resetkeys ~holdall:b:* ~holdall:keys ~holdall:expiring",
    ],
)
def test_a_user_who_may_do_only_some_of_it(server: ValkeyServer, raw: redis.Redis, rule: str) -> None:
    """A call fails with nothing changed, or does the whole."""
    raw.execute_command(f"ACL SETUSER some on >pass ~* +@all {rule}")
    large = bytes(5 * MIB)
    with (
        ValkeyStore(server.url) as all_of_it,
        ValkeyStore(server.url.replace("//", "//some:pass@")) as store,
    ):
        calls: list[tuple[Callable[[], object], dict[str, bytes | None]]] = [
            (lambda: store.put("new", b"x"), {"new": b"x"}),
            (lambda: store.put("new", b"x", ttl=60), {"new": b"x"}),
            (lambda: store.put("small", b"x"), {"small": b"x"}),
            (lambda: store.put("large", b"x"), {"large": b"x"}),
            (lambda: store.put("small", large), {"small": large}),
            (lambda: store.put("brief", b"x"), {"brief": b"x"}),
            (lambda: store.put_many({"new": b"x", "large": b"x"}), {"new": b"x", "large": b"x"}),
            (lambda: store.copy("small", "large"), {"large": b"before"}),
            (lambda: store.move("small", "large"), {"large": b"before", "small": None}),
            (lambda: store.delete("small"), {"small": None}),
            (lambda: store.delete("large"), {"large": None}),
        ]
        for call, changes in calls:
            all_of_it.clear()
            before = {"small": b"before", "large": large, "brief": b"brief"}
            all_of_it.put_many(before)
            all_of_it.put("brief", b"brief", ttl=600)
            after = {key: value for key, value in {**before, **changes}.items() if value is not None}
            told = ""
            try:
                call()
                expected = after
            except StoreUnavailableError as error:
                told = str(error)
                expected = before
            assert "ACL" in told or expected is after
            assert dict(all_of_it.items()) == expected
        all_of_it.clear()
        if rule not in ("-eval -evalsha", "-getrange"):
            all_of_it["gone"] = b"x"
            raw.delete("holdall:b:gone")
            assert list(store) == []
    raw.execute_command("ACL DELUSER some")


def test_the_documented_rights_are_enough() -> None:
    page = Path(__file__).parents[2] / "docs" / "valkey.md"
    listed = re.findall(r"\+[a-z|]+", page.read_text().partition("## What a user of the server may do")[2])
    assert len(listed) > 20
    readable = listed[: listed.index("+set")]
    with ValkeyServer() as server:
        at = server.url.removeprefix("valkey://")
        with redis.Redis(port=server.port) as raw:
            raw.execute_command("ACL", "SETUSER", "app", "on", ">pass", "~app:*", *listed)
            raw.execute_command("ACL", "SETUSER", "reader", "on", ">pass", "~app:*", *readable)
            large = os.urandom(5 * MIB)
            with ValkeyStore(f"valkey://app:pass@{at}", prefix="app:") as store:
                info = store.put("a", b"0123", ttl=60)
                store.put("a", b"4567", expect=info.etag, content_type="x" * 300)
                store.put_many({"b": b"1", "c": b"2"}, ttl=60)
                store["large"] = large
                store.copy("large", "copied")
                store.move("copied", "moved")
                store["moved"] = b""
                assert store.delete("b") is True
                assert store.delete_many(["c"]) == 1
                with ValkeyStore(f"valkey://reader:pass@{at}", prefix="app:") as reader:
                    assert list(reader) == ["a", "large", "moved"]
                    assert [info.size for info in reader.list()] == [4, 5 * MIB, 0]
                    assert reader.get_many(["a"]) == {"a": b"4567"}
                    assert reader.get_range("large", 10, 20) == large[10:20]
                    assert reader["large"] == large
                    with pytest.raises(StoreUnavailableError, match="ACL"):
                        reader["a"] = b""
                store.clear()
            assert raw.keys() == []


def test_passwords() -> None:
    with ValkeyServer("--requirepass", "s3cr@t/") as server:
        with redis.Redis(port=server.port, password="s3cr@t/", protocol=2) as raw:
            raw.execute_command("ACL SETUSER app on >pass ~app:* +@all")
        at = f"127.0.0.1:{server.port}"
        with ValkeyStore(f"valkey://:s3cr%40t%2F@{at}") as store:
            store["key"] = b"x"
        with ValkeyStore(f"valkey://{at}", password="s3cr@t/") as store:
            assert store["key"] == b"x"
        with ValkeyStore._from_uri(f":s3cr@t/@{at}") as store:
            assert store["key"] == b"x"
        with ValkeyStore(f"valkey://app:pass@{at}", prefix="app:") as store:
            store.put_many({"a": b"1", "large": bytes(9 * MIB)})
            assert list(store) == ["a", "large"]
            store.clear()
        with (
            ValkeyStore(f"valkey://app:pass@{at}") as store,
            pytest.raises(StoreUnavailableError, match="ACL"),
        ):
            store.get("key")
        for url in (f"valkey://{at}", f"valkey://:wrong@{at}", f"valkey://user:wrong@{at}"):
            with ValkeyStore(url) as store:
                for call in (
                    lambda store=store: store.get("key"),
                    lambda store=store: store.put("key", b"x"),
                ):
                    with pytest.raises(StoreUnavailableError, match="password") as caught:
                        call()
                    assert "wrong" not in str(caught.value)


def test_a_server_that_is_full() -> None:
    options = "--maxmemory", "8mb", "--maxmemory-policy", "noeviction"
    with ValkeyServer(*options) as server, ValkeyStore(server.url) as store:
        store["key"] = b"before"
        stored = 0
        with contextlib.suppress(StoreUnavailableError):
            while stored < 100:
                store.put(f"fill/{stored}", bytes(MIB))
                stored += 1
        assert 0 < stored < 100
        for size in (MIB, 12 * MIB):
            with pytest.raises(StoreUnavailableError, match="maxmemory"):
                store.put("key", bytes(size))
            assert store["key"] == b"before"
        assert len(store) == 1 + stored
        store.clear()
        store["key"] = b"after"


def test_a_replica() -> None:
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(ValkeyServer())
        replica = stack.enter_context(ValkeyServer("--replicaof", f"127.0.0.1 {primary.port}"))
        writer = stack.enter_context(ValkeyStore(primary.url))
        reader = stack.enter_context(ValkeyStore(replica.url))
        writer["key"] = b"x"
        deadline = time.monotonic() + 60
        while reader.get("key") is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(ReadOnlyError, match="replica"):
            reader["key"] = b"y"
        assert list(reader) == ["key"]
        assert reader.get_range("key", 0) == b"x"
        # What is gone leaves the list of keys, where it may be written to.
        with redis.Redis(port=primary.port) as raw:
            raw.delete("holdall:b:key")
            assert raw.wait(1, 60_000) == 1
        assert list(reader) == []
        assert len(reader) == 0


def test_a_server_that_evicts_keys(server: ValkeyServer) -> None:
    """Any of them may go: a blob is there whole, or not, or its loss is told."""
    options = "--maxmemory", "24mb", "--maxmemory-policy", "allkeys-random"
    with ValkeyServer(*options) as server, ValkeyStore(server.url) as store:
        dropped = 0
        for number in range(40):
            key = f"{number % 20}"
            data = key.encode() * (5 * MIB if number % 5 == 0 else 50_000)
            with contextlib.suppress(StoreUnavailableError):
                store.put(key, data)
            for other in range(20):
                try:
                    found = store.get(f"{other}")
                except IntegrityError:
                    dropped += 1
                    store.delete(f"{other}")
                    continue
                assert found is None or (found and not found.strip(f"{other}".encode()))
        with redis.Redis(port=server.port) as raw:
            assert raw.info("stats")["evicted_keys"] > 0
            # The list of keys is one of them; what is put again is listed again.
            raw.config_set("maxmemory", 0)
            raw.delete("holdall:keys")
        for number in range(20):
            store.put(f"{number}", b"again")
        assert len(store) == 20
        with redis.Redis(port=server.port) as raw:
            raw.delete("holdall:keys")
        store.put_many({f"{number}": b"again" for number in range(20)})
        assert len(store) == 20


def test_a_list_of_keys_that_is_another_programs(server: ValkeyServer, raw: redis.Redis) -> None:
    for spoil in (
        lambda: raw.set("holdall:keys", "theirs"),
        lambda: raw.sadd("holdall:keys", "theirs"),
        lambda: raw.zadd("holdall:keys", {b"\xff\xfe": 0}),
    ):
        raw.flushall()
        spoil()
        with ValkeyStore(server.url) as store:
            for call in (lambda: list(store), lambda: list(store.list()), store.clear):
                with pytest.raises(KeyConflictError, match="another prefix"):
                    call()
    raw.flushall()
    for name in ("holdall:keys", "holdall:expiring"):
        raw.set(name, "theirs")
        with ValkeyStore(server.url) as store:
            for put in (
                lambda: store.put("key", b"x", ttl=60),
                lambda: store.put_many({"key": b"x"}, ttl=60),
                lambda: store.put("key", bytes(5 * MIB), ttl=60),
            ):
                with pytest.raises(KeyConflictError, match="another prefix"):
                    put()
                assert store.get("key") is None
        raw.delete(name)


def test_a_server_that_is_busy_or_paused(server: ValkeyServer, raw: redis.Redis) -> None:
    told: list[str] = []
    with ValkeyStore(server.url, timeout=20) as store:
        store["key"] = b"x"
        raw.config_set("busy-reply-threshold", 20)

        def loop() -> None:
            with redis.Redis(port=server.port, socket_timeout=60) as client, contextlib.suppress(Exception):
                client.eval("while true do end", 0)

        def ask() -> None:
            deadline = time.monotonic() + 60
            try:
                while not told:
                    try:
                        store.get("key")
                    except StoreUnavailableError as error:
                        told.append(str(error))
                    assert time.monotonic() < deadline
            finally:
                raw.script_kill()

        race(loop, ask)
        assert "another program's script" in told[0]
        assert store["key"] == b"x"
        raw.execute_command("CLIENT PAUSE 60000 WRITE")
        with ValkeyStore(server.url, timeout=0.2) as hasty:
            _connect(hasty)
            with pytest.raises(StoreUnavailableError, match="timeout="):
                hasty.put("key", b"y")
        raw.execute_command("CLIENT UNPAUSE")
        assert store["key"] == b"x", "a put whose client gave up was carried out"


def test_a_server_that_loads_its_data() -> None:
    options = "--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"
    with ValkeyServer(*options) as server, ValkeyStore(server.url) as store:
        store.put_many({f"{number}": bytes(1000) for number in range(400)})
        with redis.Redis(port=server.port) as raw:
            raw.save()
        server.kill()
        server.start(wait=False)
        told = ""
        deadline = time.monotonic() + 60
        while True:
            try:
                assert store["0"] == bytes(1000)
                break
            except StoreUnavailableError as error:
                told += str(error)
            assert time.monotonic() < deadline
        assert "still loading" in told
        assert len(store) == 400


def test_scripts_that_the_server_forgot(server: ValkeyServer, raw: redis.Redis) -> None:
    with ValkeyStore(server.url) as store:
        for call in (
            lambda: store.put("key", b"0123456789"),
            lambda: store.put_many({"a": b"1"}),
            lambda: list(store.list()),
            lambda: store.get_range("key", 2),
            lambda: store.copy("key", "copied"),
            lambda: store.move("copied", "moved"),
            lambda: store.put("large", bytes(9 * MIB)),
            lambda: store.get_range("large", 5, 9),
            lambda: store.delete("key"),
            lambda: store.delete_many(["a"]),
            lambda: store.clear(),
        ):
            raw.script_flush()
            call()
        assert raw.keys() == []


def test_a_cluster_that_loses_a_server() -> None:
    with valkey_cluster() as servers:
        keys = [f"{number}" for number in range(60)]
        with ValkeyStore(servers[0].url, cluster=True, timeout=3) as store:
            store.put_many(dict.fromkeys(keys, b"x"))
            with pickle.loads(pickle.dumps(store)) as again:
                assert len(again) == 60
            servers[2].kill()
            failed = [key for key in keys if not _reads(store, key)]
            assert 0 < len(failed) < 60
            with pytest.raises(StoreUnavailableError):
                list(store)
            servers[1].kill()
            servers[0].kill()
            with pytest.raises(StoreUnavailableError):
                store.get(keys[0])


def _reads(store: ValkeyStore, key: str) -> bool:
    try:
        return store.get(key) == b"x"
    except StoreUnavailableError:
        return False


def _child(store: ValkeyStore, number: int) -> None:
    for turn in range(50):
        store[f"{number}/{turn}"] = b"%d" % turn
        assert store[f"{number}/{turn}"] == b"%d" % turn


def test_forked_processes_have_connections_of_their_own(server: ValkeyServer, raw: redis.Redis) -> None:
    with ValkeyStore(server.url) as store:
        store["before"] = b"x"
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=_child, args=(store, number)) for number in range(3)]
        for child in children:
            child.start()
        _child(store, 9)
        for child in children:
            child.join(60)
            assert child.exitcode == 0
        assert len(store) == 201
        assert len({info.etag for info in store.list()}) == 201


def test_a_store_that_is_closed_while_it_is_used(server: ValkeyServer, raw: redis.Redis) -> None:
    store = ValkeyStore(server.url)
    store["key"] = b"x"
    clients = len(raw.client_list())

    def use() -> None:
        with contextlib.suppress(StoreClosedError):
            while True:
                assert store["key"] == b"x"

    def close() -> None:
        time.sleep(0.1)
        store.close()

    race(*[use] * 4, close)
    deadline = time.monotonic() + 60
    while len(raw.client_list()) >= clients:
        assert time.monotonic() < deadline, "a closed store keeps its connections"


def test_a_client_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with ValkeyStore("valkey://localhost"):
        pass
    monkeypatch.setitem(sys.modules, "valkey", None)
    with pytest.raises(MissingDependencyError, match=r"holdall\[valkey\]"):
        ValkeyStore("valkey://localhost")
    with pytest.raises(MissingDependencyError):
        connecting.driver()


def test_importing_the_store_imports_no_client() -> None:
    program = "import sys, holdall.stores.valkey; print(any(n in sys.modules for n in ('redis', 'valkey')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
