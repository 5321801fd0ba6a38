"""One computation of a call at a time: among threads, tasks, event loops and processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.effort import effort
from tests.forks import forked, succeeds
from tests.interrupts import interrupting

from holdall import FilesystemStore, MemoryStore, SqliteStore, Store, cached
from holdall.memoize import canonical, flights, keys
from holdall.memoize.flights import Flight, Flights
from holdall.memoize.shelf import Shelf
from holdall.testing.running import wait_until

ROOT = Path(__file__).parents[2]


def together(count: int, call: Any) -> list[Any]:
    """What calls in threads returned or raised."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - it is what the call gave
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


@pytest.fixture(params=["none", "memory", "sqlite", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store | None]:
    made: dict[str, Any] = {
        "none": lambda: None,
        "memory": MemoryStore,
        "sqlite": lambda: SqliteStore(tmp_path / "calls.db"),
        "files": lambda: FilesystemStore(tmp_path / "calls"),
    }
    opened = made[request.param]()
    yield opened
    if opened is not None:
        opened.close()


def test_threads_compute_a_call_once(store: Store | None) -> None:
    called: list[int] = []

    @cached(store)
    def call(x: int) -> list[int]:
        called.append(x)
        time.sleep(0.05)
        return [x]

    results = together(10, lambda: call(1))
    assert results == [[1]] * 10
    assert called == [1]
    assert len({id(each) for each in results}) == 10
    if store is not None:
        assert [key for key in store if "/lock/" in key] == []


def test_threads_that_put_invalidate_and_make_room_get_right_results(tmp_path: Path) -> None:
    @cached(SqliteStore(tmp_path / "a.db"), max_entries=12, ttl=60)
    def call(x: int) -> list[int]:
        return [x] * 20

    def work() -> bool:
        rng = random.Random()
        for _ in range(effort(150, 40)):
            x = rng.randrange(30)
            if rng.random() < 0.05:
                call.invalidate(x)
            assert call(x) == [x] * 20
        return True

    assert together(4, work) == [True] * 4
    assert call.cache_info().entries <= 12


def test_two_handles_of_one_store_compute_a_call_once(tmp_path: Path) -> None:
    called: list[int] = []

    def call(x: int) -> int:
        called.append(x)
        time.sleep(0.1)
        return x

    handles = iter([cached(SqliteStore(tmp_path / "a.db"))(call) for _ in range(3)])
    assert together(3, lambda: next(handles)(1)) == [1] * 3
    assert called == [1]


def test_threads_that_wait_get_the_error_and_none_is_kept() -> None:
    called: list[int] = []

    @cached
    def call() -> None:
        called.append(1)
        time.sleep(0.1)
        raise ValueError(len(called))

    results = together(5, call)
    assert [str(each) for each in results] == ["1"] * 5
    with pytest.raises(ValueError, match="2"):
        call()


def test_what_can_t_be_kept_is_computed_by_each() -> None:
    @cached
    def call() -> Any:
        time.sleep(0.02)
        return threading.Lock()

    with pytest.warns(RuntimeWarning, match="can't be kept"):
        results = together(3, call)
    assert len({id(each) for each in results}) == 3


def test_a_call_within_itself_is_computed_without_waiting(store: Store | None) -> None:
    @cached(store, ignore="depth")
    def call(x: int, depth: int) -> int:
        return depth if depth == 0 else call(x, depth - 1) + 1

    assert call(1, 3) == 3

    @cached(store)
    def endless(x: int) -> int:
        return endless(x)

    with pytest.raises(RecursionError):
        endless(1)


def test_calls_that_call_each_other_don_t_wait_for_ever() -> None:
    both = threading.Barrier(2)

    @cached(ignore="depth")
    def first(depth: int = 0) -> str:
        if depth:
            return "end"
        both.wait(10)
        return "first " + second(1)

    @cached(ignore="depth")
    def second(depth: int = 0) -> str:
        if depth:
            return "end"
        both.wait(10)
        return "second " + first(1)

    calls = iter([first, second])
    results = together(2, lambda: next(calls)())
    assert len(results) == 2
    assert all(isinstance(each, str) for each in results)


def test_a_call_that_is_interrupted_leaves_nothing_behind() -> None:
    store = MemoryStore()
    fails = [True]

    @cached(store)
    def call() -> int:
        if fails:
            raise KeyboardInterrupt
        return 1

    with pytest.raises(KeyboardInterrupt):
        call()
    assert list(store) == []
    fails.clear()
    assert call() == 1


def test_those_who_wait_for_a_call_that_is_interrupted_compute_it() -> None:
    inside = threading.Event()
    called: list[int] = []

    @cached
    def call() -> int:
        called.append(1)
        if len(called) == 1:
            inside.set()
            time.sleep(0.05)
            raise SystemExit
        return 1

    def interrupted() -> None:
        with contextlib.suppress(SystemExit):
            call()

    first = threading.Thread(target=interrupted)
    first.start()
    inside.wait(10)
    assert call() == 1
    first.join(10)
    assert called == [1, 1]


def test_ctrl_c_at_any_moment_leaves_no_lock(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a.db")
    number = iter(range(10**6))

    @cached(store)
    def call(x: int) -> int:
        return x

    with interrupting() as interrupts:
        for _ in range(effort(200, 40)):
            x = next(number)
            interrupts.during(lambda x=x: call(x), 1e-3)
            assert call(x) == x
    assert [key for key in store if "/lock/" in key] == []
    assert not call._flights._flights


class Workers:
    """Processes that call the functions of `work`."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        path = os.pathsep.join([str(ROOT), *sys.path])
        self._env = os.environ | {"MEMOIZE_TEST": str(folder), "MEMOIZE_STORE": uri, "PYTHONPATH": path}
        self.begun: list[subprocess.Popen[str]] = []

    def begin(self, x: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.memoize.work", str(x)]
        process = subprocess.Popen(command, env=self._env, stdout=subprocess.PIPE, text=True)
        self.begun.append(process)
        return process

    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().split() if path.exists() else []

    def go(self) -> None:
        (self.folder / "go").touch()


@pytest.fixture
def workers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workers]:
    made = Workers(tmp_path, f"sqlite:///{tmp_path}/a.db")
    yield made
    for process in made.begun:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_processes_compute_a_call_once(workers: Workers) -> None:
    begun = [workers.begin(1) for _ in range(3)]
    wait_until(lambda: bool(workers.log()))
    workers.go()
    assert [process.communicate(timeout=60)[0] for process in begun] == ["2\n"] * 3
    assert len(workers.log()) == 1


def test_another_process_takes_over_from_one_that_is_killed(workers: Workers) -> None:
    first = workers.begin(1)
    wait_until(lambda: bool(workers.log()))
    second = workers.begin(1)
    time.sleep(0.3)
    assert len(workers.log()) == 1
    first.send_signal(signal.SIGKILL)
    # Until its parent looks, a process that was killed isn't gone.
    first.wait()
    wait_until(lambda: len(workers.log()) == 2)
    workers.go()
    assert second.communicate(timeout=60)[0] == "2\n"


def test_a_child_of_a_fork_starts_without_the_calls_of_its_parent(tmp_path: Path) -> None:
    inside, go = threading.Event(), threading.Event()

    @cached(FilesystemStore(tmp_path))
    def call(x: int) -> int:
        if x == 1:
            inside.set()
            go.wait(10)
        return x

    thread = threading.Thread(target=lambda: call(1))
    thread.start()
    inside.wait(10)
    child = forked(lambda: (call(2), call(2)))
    succeeds(child)
    assert call(2) == 2
    go.set()
    thread.join()
    misses = call._misses
    child = forked(lambda: (call(1), call._misses == misses or os._exit(1)))
    succeeds(child)


def test_two_children_of_a_fork_share_what_was_captured_before(tmp_path: Path) -> None:
    thing = object()

    @cached(FilesystemStore(tmp_path))
    def call(x: int) -> int:
        assert thing
        (tmp_path.parent / f"{tmp_path.name}.{os.getpid()}").touch()
        return x

    for _ in range(2):
        succeeds(forked(lambda: call(1)))
    assert call(1) == 1
    assert len(list(tmp_path.parent.glob(f"{tmp_path.name}.*"))) == 1


def test_tasks_compute_a_call_once(store: Store | None) -> None:
    called: list[int] = []

    @cached(store)
    async def call(x: int) -> list[int]:
        called.append(x)
        await asyncio.sleep(0.05)
        return [x]

    async def main() -> list[list[int]]:
        return await asyncio.gather(*[call(1) for _ in range(10)])

    results = asyncio.run(main())
    assert results == [[1]] * 10
    assert len({id(each) for each in results}) == 10
    assert called == [1]


def test_two_event_loops_compute_a_call_once(store: Store | None) -> None:
    called: list[int] = []

    @cached(store)
    async def call(x: int) -> int:
        called.append(x)
        await asyncio.sleep(0.1)
        return x

    assert together(4, lambda: asyncio.run(call(1))) == [1] * 4  # type: ignore[arg-type]
    assert called == [1]


def test_a_cancelled_caller_leaves_the_others_their_result() -> None:
    called: list[int] = []

    @cached
    async def call() -> int:
        called.append(1)
        await asyncio.sleep(0.1)
        return 1

    async def main() -> None:
        first = asyncio.ensure_future(call())
        await asyncio.sleep(0.02)
        second = asyncio.ensure_future(call())
        await asyncio.sleep(0.02)
        first.cancel()
        assert await second == 1
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(main())
    assert called == [1]


def test_a_computation_that_nobody_waits_for_is_cancelled() -> None:
    ended: list[str] = []
    store = MemoryStore()

    @cached(store)
    async def call() -> int:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return 1

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call(), 0.05)
        for _ in range(100):
            if ended and not call._flights._flights:
                break
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert ended == ["cancelled"]
    assert list(store) == []


def test_a_loop_that_ends_lets_those_of_another_compute() -> None:
    inside = threading.Event()
    called: list[int] = []

    @cached
    async def call() -> int:
        called.append(1)
        if len(called) == 1:
            inside.set()
            await asyncio.sleep(10)
        return len(called)

    async def short() -> None:
        asyncio.ensure_future(call())  # noqa: RUF006 - it ends with the loop
        await asyncio.sleep(0.1)

    thread = threading.Thread(target=lambda: asyncio.run(short()))
    thread.start()
    inside.wait(10)
    assert asyncio.run(call()) == 2  # type: ignore[arg-type]
    thread.join(10)


def test_a_coroutine_within_itself_is_computed_without_waiting() -> None:
    @cached(ignore="depth")
    async def call(x: int, depth: int) -> int:
        if depth == 0:
            return 0
        return await asyncio.create_task(call(x, depth - 1)) + 1  # type: ignore[arg-type]

    assert asyncio.run(asyncio.wait_for(call(1, 3), 10)) == 3


def test_an_error_reaches_all_who_await() -> None:
    called: list[int] = []

    @cached
    async def call() -> None:
        called.append(1)
        await asyncio.sleep(0.02)
        raise ValueError("x")

    async def main() -> list[Any]:
        return await asyncio.gather(*[call() for _ in range(3)], return_exceptions=True)

    assert [str(each) for each in asyncio.run(main())] == ["x"] * 3
    assert called == [1]


def test_a_result_that_is_invalidated_while_it_is_put_is_not_kept() -> None:
    class Slow(MemoryStore):
        def _put(self, key: str, data: bytes) -> Any:
            if not entered.is_set():
                entered.set()
                assert go.wait(60)
            return super()._put(key, data)

    entered, go = threading.Event(), threading.Event()
    value = 1

    @cached(Slow())
    def current() -> int:
        return value

    thread = threading.Thread(target=current)
    thread.start()
    assert entered.wait(60)
    value = 2
    current.invalidate()
    go.set()
    thread.join()
    assert current() == 2


def test_a_computation_that_is_dropped_as_it_ends_ends() -> None:
    class Dropping(dict[str, Flight]):
        def get(self, key: str, default: Any = None) -> Any:
            found = super().get(key, default)
            self.clear()
            return found

    under_way, mine = Flights(), Flight()
    under_way._flights = Dropping()
    assert under_way.enter("a", mine) is mine
    under_way.leave("a", mine)
    assert mine.over


def test_uses_are_noted_while_room_is_made() -> None:
    class Racing(dict[str, float]):
        """In which another thread notes a use at each step."""

        def items(self) -> Any:
            for pair in super().items():
                yield pair
                self[f"{len(self)}"] = 1.0

    shelf = Shelf(MemoryStore(), "f/", None, None, 10)
    shelf._used, shelf._noted = Racing(a=1.0, b=2.0), Racing(a=1.0, b=2.0)
    shelf._make_room()


def test_locks_of_threads_that_are_not_in_a_child_are_made_anew() -> None:
    def child() -> None:
        class Local:
            pass

        def make(captured: int) -> Any:
            @cached
            def outer(kind: type, number: int) -> int:
                return outer(kind, number - 1) + captured if number else 0

            return outer

        assert make(2)(Local, 3) == 6

    with flights._lock, canonical._making, keys._making:
        # Python gives an RLock to the thread that has it; only a thread of its own is another.
        pids: list[int] = []
        thread = threading.Thread(target=lambda: pids.append(forked(child)))
        thread.start()
        thread.join()
    succeeds(pids[0])


def test_a_process_that_only_reads_forgets_uses_that_the_store_has(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(MemoryStore(), "f/", None, None, 100_000)
    for number in range(5000):
        shelf.store[f"{shelf.prefix}{number}"] = b"x" * 100
    now = time.time()
    for number in range(5000):
        monkeypatch.setattr(time, "time", lambda moment=now + number: moment)
        assert shelf.get(str(number))
    assert len(shelf._noted) <= 1000
    assert len(shelf._used) <= 1000
    assert shelf._used["4999"] == now + 4999
