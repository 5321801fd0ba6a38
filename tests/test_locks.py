"""Locks and counters under what happens to their holders."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest
from tests.effort import effort
from tests.forks import forked, succeeds
from tests.interrupts import interrupting

from holdall import (
    Can,
    ExpiringStore,
    FilesystemStore,
    Info,
    InvalidArgumentError,
    LockHeldError,
    LockLostError,
    MemoryStore,
    SerializationError,
    SqliteStore,
    Store,
    StoreUnavailableError,
    UnsupportedOperation,
    get_store,
)
from holdall.errors import InvalidKeyError, InvalidTypeError
from holdall.locks import Lock, record
from holdall.store import Attributes, Body, Expect
from holdall.testing.running import race, wait_until


def test_the_blob_is_small_json_that_stays_when_the_lock_is_released() -> None:
    store = MemoryStore()
    with store.lock("job", ttl=5) as lock:
        held = json.loads(store["job"])
        token = lock.token
    assert sorted(held) == ["format", "holder", "renewals", "token", "ttl", "version"]
    assert (held["format"], held["version"], held["ttl"]) == ("holdall-lock", 1, 5)
    assert sorted(held["holder"]) == ["host", "id", "pid", "processes", "since"]
    assert json.loads(store["job"]) == {**held, "holder": None}
    assert lock.token == token
    assert not lock.lost
    with pytest.raises(LockLostError, match="released"):
        lock.check()


def test_a_lock_that_forgets_leaves_no_blob() -> None:
    store = MemoryStore()
    with Lock(store, "job", forget=True) as first:
        assert list(store) == ["job"]
    assert list(store) == []
    with Lock(store, "job", forget=True) as second:
        assert second.token > first.token


def test_a_lock_is_not_reentrant_and_can_be_used_again() -> None:
    store = MemoryStore()
    lock = store.lock("job", wait=0)
    with pytest.raises(LockLostError, match="isn't held"):
        _ = lock.token
    with lock:
        first = lock.token
        with pytest.raises(InvalidArgumentError, match="held already"), lock:
            """It is held."""
        with pytest.raises(LockHeldError, match="at the first try: by process"), store.lock("job", wait=0):
            """It is held."""
        assert not lock.lost
    with lock:
        assert lock.token == first + 1


@pytest.mark.parametrize(
    "blob",
    [
        *(b"", b"17", b"[]", b"{}", b"\xff", b"[" * 5000, b" " * 9000),
        b'{"format": "holdall-lock", "version": 1}',
        b'{"format": "holdall-lock", "version": 2}',
        b'{"format": "holdall-lock", "version": 1, "token": "1", "holder": null, "ttl": 1, "renewals": 0}',
    ],
)
def test_what_is_no_lock_is_left_as_it_is(blob: bytes) -> None:
    store = MemoryStore({"job": blob})
    with pytest.raises(SerializationError) as caught, store.lock("job"):
        """It isn't a lock."""
    assert caught.value.key == "job"
    assert store["job"] == blob


def test_with_and_async_with_arent_mixed_up() -> None:
    async def wrong(lock: Any) -> None:
        async with lock:
            """It isn't one of a coroutine."""

    store = MemoryStore()
    asynchronous: Any = store.aio.lock("job")
    with pytest.raises(TypeError, match="async with store"), asynchronous:
        """It is one of a coroutine."""
    with pytest.raises(TypeError, match=r"async with store\.aio\.lock"):
        asyncio.run(wrong(store.lock("job")))
    assert list(store) == []


def test_a_lock_goes_to_another_process_unheld(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "a.db").lock("job", ttl=60, wait=0) as lock:
        other = pickle.loads(pickle.dumps(lock))
        with pytest.raises(LockHeldError), other:
            """The first holds it."""
        lock.check()
    with other:
        assert other.token == lock.token + 1


def test_a_store_of_values_hands_on() -> None:
    values = get_store("memory://", serialization_mode="json")
    with values.lock("job") as lock:
        assert values["job"]["token"] == lock.token
    assert values.counter("hits").increment() == values["hits"] == 1


def test_wrong_arguments() -> None:
    store = MemoryStore()
    for options in ({"ttl": 0}, {"ttl": -1}, {"wait": -1}, {"ttl": float("nan")}):
        with pytest.raises(InvalidArgumentError):
            store.lock("job", **options)
    wrong: list[dict[str, Any]] = [{"ttl": None}, {"ttl": "30"}, {"wait": "3"}, {"wait": True}]
    for options in wrong:
        with pytest.raises(InvalidTypeError):
            store.lock("job", **options)
    for call in (store.lock, store.counter):
        with pytest.raises(InvalidKeyError):
            call("/job")
    for by in (1.0, "1", True, None):
        with pytest.raises(InvalidTypeError):
            store.counter("hits").increment(by)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidArgumentError, match="1,000 digits"):
        store.counter("hits").increment(10**1000)
    assert list(store) == []


def test_a_counter_reads_what_people_write() -> None:
    store = MemoryStore({"hits": b" +41\n"})
    assert store.counter("hits").increment() == 42
    assert store.counter("absent").value == 0
    for blob in (b"", b"1_0", "\u0661".encode(), b"1.0", b"0x1", b"1" * 1001):
        store["hits"] = blob
        with pytest.raises(SerializationError, match="whole number"):
            _ = store.counter("hits").value
        with pytest.raises(SerializationError, match="whole number"):
            store.counter("hits").reset()
        assert store["hits"] == blob


def hold(store: Store, key: str, ttl: float, say: int) -> None:
    """Take a lock, write its token to a pipe, and hold it until this process is killed."""
    with store.lock(key, ttl=ttl) as lock:
        os.write(say, b"%d" % lock.token)
        time.sleep(60)


@contextmanager
def holder(store: Store, ttl: float) -> Generator[tuple[int, int]]:
    """A process that holds a lock, and its token."""
    read, write = os.pipe()
    pid = forked(lambda: hold(store, "job", ttl, write))
    try:
        yield pid, int(os.read(read, 100))
    finally:
        os.close(read)
        os.close(write)
        kill(pid)


def kill(pid: int) -> None:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_holder_that_was_killed_on_this_host_is_replaced_at_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a.db")
    with holder(store, 1e6) as (pid, token):
        with pytest.raises(LockHeldError) as caught, store.lock("job", wait=0.01):
            """It is held."""
        assert (caught.value.pid, caught.value.host) == (pid, os.uname().nodename)
        assert isinstance(caught.value, TimeoutError)
        kill(pid)
        with store.lock("job", wait=60) as lock:
            assert lock.token == token + 1


def test_a_holder_that_was_killed_elsewhere_is_replaced_after_its_ttl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "a.db")
    with holder(store, 0.3) as (pid, token):
        monkeypatch.setattr(record, "processes", lambda: "another/host")
        kill(pid)
        # One try can't know how long the holder has been silent; the same lock finds out in several.
        lock = store.lock("job", wait=0)
        with pytest.raises(LockHeldError), lock:
            """It looks held."""
        time.sleep(0.31)
        with lock:
            assert lock.token == token + 1


def test_a_holder_that_stood_still_for_its_ttl_finds_out(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a.db")
    said, say = os.pipe()

    def work() -> None:
        with pytest.raises(LockLostError), store.lock("job", ttl=0.2) as lock:  # noqa: PT012
            os.kill(os.getpid(), signal.SIGSTOP)
            assert lock.lost
            with pytest.raises(LockLostError) as caught:
                lock.check()
            assert caught.value.key == "job"
            os.write(say, b"lost")
        assert lock.lost

    pid = forked(work)
    os.waitpid(pid, os.WUNTRACED)
    with store.lock("job", wait=60) as lock:
        os.kill(pid, signal.SIGCONT)
        succeeds(pid)
        assert os.read(said, 10) == b"lost"
        lock.check()
    os.close(said)
    os.close(say)


def test_a_holder_that_stood_still_goes_on_if_nobody_took_the_lock() -> None:
    store = MemoryStore()
    with store.lock("job", ttl=0.03) as lock:
        unpatched = store._write
        store._write = refuse  # type: ignore[method-assign]
        wait_until(lambda: lock.lost)
        with pytest.raises(LockLostError) as caught:
            lock.check()
        assert isinstance(caught.value.__cause__, StoreUnavailableError)
        store._write = unpatched  # type: ignore[method-assign]
        lock.check()
        assert not lock.lost


def refuse(*_: object) -> NoReturn:
    raise StoreUnavailableError("the server is away")


def test_the_end_of_a_block_while_the_store_is_away(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    with store.lock("job", ttl=60):
        unpatched, store._write = store._write, refuse  # type: ignore[method-assign]
    assert "can't release the lock 'job'" in caplog.text
    store._write = unpatched  # type: ignore[method-assign]
    del store["job"]
    with pytest.raises(LockLostError) as caught, store.lock("job", ttl=0.02) as lock:  # noqa: PT012
        store._write = refuse  # type: ignore[method-assign]
        wait_until(lambda: lock.lost)
    assert isinstance(caught.value.__cause__, StoreUnavailableError)


def test_a_renewal_whose_answer_is_lost_loses_nothing() -> None:
    class Losing(MemoryStore):
        lose = False

        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            info = super()._write(key, body, expect, attributes)
            if self.lose:
                self.lose = False
                refuse()
            return info

    store = Losing()
    with store.lock("job", ttl=0.06) as lock:
        store.lose = True
        wait_until(lambda: not store.lose and json.loads(store["job"])["renewals"] > 2)
        lock.check()
    # So does an answer to the put that took it, which the next try of the same lock finds out.
    store.lose = True
    lock = store.lock("job", wait=0)
    with pytest.raises(StoreUnavailableError), lock:
        """It may be held."""
    assert json.loads(store["job"])["holder"] is not None
    with pytest.raises(LockHeldError), store.lock("job", wait=timedelta()):
        """It looks held."""
    with lock:
        lock.check()


def test_a_waiting_thread_that_is_interrupted_leaves_the_lock_to_the_thread_that_took_it() -> None:
    """They share one object by mistake."""
    store = MemoryStore()
    shared, first = store.lock("job"), store.lock("job")
    taken, done = threading.Event(), threading.Event()

    def take() -> None:
        with shared:
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=take)

    def interrupted() -> float:
        # The one who waits is stopped right after the other thread has taken it.
        first.__exit__(None, None, None)
        thread.start()
        assert taken.wait(60)
        raise KeyboardInterrupt

    first.__enter__()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "pause", interrupted)
        with pytest.raises(KeyboardInterrupt):
            shared.__enter__()
        assert not shared.lost
        with pytest.raises(LockHeldError), store.lock("job", wait=0):
            pass
        done.set()
        thread.join()


def test_threads_that_share_one_object_dont_share_the_lock() -> None:
    store = MemoryStore()
    for _ in range(20):
        lock = store.lock("job", ttl=60)
        taken: list[int] = []

        def work(lock: Lock = lock, taken: list[int] = taken) -> None:
            try:
                lock.__enter__()
                taken.append(lock.token)
            except InvalidArgumentError:
                return

        race(*[work] * 4)
        assert len(taken) == 1
        lock.check()
        lock.end()


def test_a_lock_that_is_read_from_an_old_copy_is_lost() -> None:
    class Old(MemoryStore):
        copies: dict[str, Any] | None = None

        def _read(self, key: str, start: int, stop: int | None) -> Any:
            if self.copies is None:
                return super()._read(key, start, stop)
            info, data = self.copies[key]
            return info, iter([data])

    store = Old()
    with pytest.raises(LockLostError), store.lock("job", ttl=60) as lock:  # noqa: PT012
        store.copies = {"job": (store.info("job"), store["job"])}
        MemoryStore.put(store, "job", b"another's")
    assert lock.lost


def test_a_store_that_lacks_one_of_what_a_lock_needs_cant_hold_one() -> None:
    store = MemoryStore({"job": b"not a lock"})
    store.can &= ~Can.SWAP
    with pytest.raises(UnsupportedOperation, match="hold a lock, which needs compare-and-swap"):
        store.lock("job").try_once()
    assert store["job"] == b"not a lock"


def test_a_lock_outlives_no_blob_that_expires() -> None:
    store = ExpiringStore(MemoryStore(), ttl=60)
    with pytest.raises(UnsupportedOperation, match="expire here after 60 seconds"), store.lock("job", ttl=90):
        """It would go while it is held."""
    with store.lock("job", ttl=30, wait=0) as lock:
        assert not lock.lost


def test_no_thread_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    store = MemoryStore()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(StoreUnavailableError, match="can't start new thread"), store.lock("job", ttl=1e6):
            """Nobody would renew it."""
    with store.lock("job", wait=0) as lock:
        assert not lock.lost


def test_a_lock_that_is_deleted_or_replaced_is_lost() -> None:
    store = MemoryStore()
    for spoil in (lambda: store.delete("job"), lambda: store.put("job", b"x"), lambda: store.clear()):
        store.clear()
        with pytest.raises(LockLostError), store.lock("job"):
            spoil()
    assert list(store) == []
    with pytest.raises(ValueError, match="the block's own") as caught, store.lock("job"):  # noqa: PT012
        store.clear()
        raise ValueError("the block's own")
    assert "the lock was lost" in caught.value.__notes__[0]


def test_the_thread_ends_with_the_block_and_renews_meanwhile() -> None:
    def renewing() -> int:
        return sum(thread.name == "holdall-lock" and thread.is_alive() for thread in threading.enumerate())

    store = MemoryStore()
    before = renewing()
    with store.lock("job", ttl=0.06) as lock:
        wait_until(lambda: json.loads(store["job"])["renewals"] > 3)
        assert not lock.lost
        assert renewing() == before + 1
    assert renewing() == before


def test_a_child_of_a_fork_does_not_hold_the_lock(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a.db")

    def child(lock: Lock) -> None:
        assert lock.lost
        with pytest.raises(LockLostError, match="forked"):
            lock.check()
        with pytest.raises(LockLostError, match="forked"):
            lock.end()
        with pytest.raises(LockHeldError), store.lock("job", wait=0):
            """The parent holds it."""

    with store.lock("job", ttl=60) as lock:
        succeeds(forked(lambda: child(lock)))
        lock.check()


def test_an_interrupt_at_any_moment_leaves_no_lock() -> None:
    store = MemoryStore()

    def work() -> None:
        with store.lock("job", ttl=1e6):
            store["x"] = b"1"

    with interrupting() as interrupts:
        for _ in range(effort(1000, 200)):
            interrupts.during(work, 3e-4)
            # It is released at once, or by its thread as soon as nobody has it.
            with store.lock("job", wait=30):
                """Nobody holds it."""
    assert interrupts.count > 20
    # A thread that an interrupt kept from starting is listed too, and has no number.
    threads = [each for each in threading.enumerate() if each.name == "holdall-lock" and each.ident]
    wait_until(lambda: not any(each.is_alive() for each in threads))


def test_an_interpreter_ends_while_a_lock_is_held(tmp_path: Path) -> None:
    code = (
        "from holdall import FilesystemStore\n"
        "lock = FilesystemStore('store').lock('job', ttl=60)\n"
        "lock.__enter__()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    with FilesystemStore(tmp_path / "store").lock("job", wait=0) as lock:
        assert not lock.lost


def test_many_wait_for_one_lock() -> None:
    store = MemoryStore()
    turns: list[int] = []

    def work() -> None:
        with store.lock("job", ttl=60) as lock:
            turn = len(turns)
            time.sleep(0.0001)
            assert len(turns) == turn
            turns.append(lock.token)

    race(*[work] * 50)
    assert len(turns) == 50
    assert turns == sorted(set(turns))


def test_a_wall_clock_that_is_wrong_matters_only_after_a_deletion(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    with store.lock("job") as lock:
        first = lock.token
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with store.lock("job") as lock:
        assert lock.token == first + 1
        with pytest.raises(LockHeldError), store.lock("job", wait=0.01):
            """It is held."""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_coroutine_releases(backend: str, tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)

    async def main() -> None:
        with anyio.move_on_after(0.01):
            async with store.aio.lock("job", ttl=1e6):
                await anyio.sleep_forever()
        # One that is cancelled while it is taken is released by a thread.
        async with store.aio.lock("job", wait=30) as lock:
            await lock.check()
            # Those that wait take no thread: a hundred of them leave the holder's calls room.
            async with anyio.create_task_group() as group:
                for _ in range(100):
                    group.start_soon(wait_for_it)
                await anyio.sleep(0.02)
                await store.aio.put("x", b"1")
                group.cancel_scope.cancel()
        for _ in range(20):
            with anyio.move_on_after(0.0005):
                async with store.aio.lock("job", ttl=1e6):
                    """It may be cancelled while it is taken."""
        async with store.aio.lock("job", wait=30) as lock:
            assert not lock.lost

    async def wait_for_it() -> None:
        async with store.aio.lock("job", wait=60):
            """It is held."""

    anyio.run(main, backend=backend)


def test_a_lock_made_before_a_fork_is_another_in_the_child(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    lock = store.lock("job", wait=0)

    is_held, hold = os.pipe()

    def child() -> None:
        os.read(is_held, 1)
        with pytest.raises(LockHeldError), lock:
            pass

    pid = forked(child)
    with lock:
        os.write(hold, b".")
        succeeds(pid)
    os.close(is_held)
    os.close(hold)


def test_a_child_takes_a_lock_whose_mutex_a_thread_of_the_parent_had(tmp_path: Path) -> None:
    lock = FilesystemStore(tmp_path).lock("job", wait=0)

    def child() -> None:
        with lock:
            pass

    with lock._mutex:
        pid = forked(child)
    succeeds(pid)


def test_who_waits_in_vain_leaves_the_lock_of_a_thread_with_the_same_object() -> None:
    store = MemoryStore()
    lock = store.lock("job", wait=0)
    with lock:
        # As a thread that tried just before this one took it.
        lock.try_once = lambda: False  # type: ignore[method-assign]
        with pytest.raises(LockHeldError):
            lock.__enter__()
        with pytest.raises(LockHeldError), store.lock("job", wait=0):
            pass


def test_a_coroutine_that_was_cancelled_waits_anew() -> None:
    store = MemoryStore()

    async def main() -> None:
        with store.lock("job"):
            lock = store.aio.lock("job", wait=60)
            with suppress(TimeoutError):
                await asyncio.wait_for(lock.__aenter__(), 0.05)
            assert lock._lock._begun is None

    asyncio.run(main())
