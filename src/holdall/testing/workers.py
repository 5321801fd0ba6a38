"""Other processes that use a store, and are killed."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from holdall.errors import StoreError
from holdall.store import Store
from holdall.testing.helped import get_tested
from holdall.testing.roles import ROLES, get_through
from holdall.testing.running import DEADLINE, fork, run_within, wait_for, wait_until


class _Interpreter:
    """A single-threaded interpreter that forks workers: one for all tests of this process, since its start
    takes longer than most orders."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            paths = os.pathsep.join(path for path in sys.path if path)
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from holdall.testing import workers; workers.serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": paths},
            )
        return self._process

    def ask(self, role: str, *order: Any) -> list[int]:
        """Have `_carry_out` called; return the exit code of each worker."""
        process = self._start()
        source, sink = process.stdin, process.stdout
        assert source is not None
        assert sink is not None
        timer = threading.Timer(DEADLINE + 10, process.kill)
        timer.start()
        try:
            pickle.dump(order, source)
            source.flush()
            return pickle.load(sink)
        except (EOFError, BrokenPipeError):
            self.end()
            raise AssertionError(f"the workers of the role {role} hang or died") from None
        finally:
            timer.cancel()
            timer.join()

    def end(self) -> None:
        """End the interpreter and free its pipes."""
        process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()


_interpreter = _Interpreter()
atexit.register(_interpreter.end)


class Workers:
    """Worker processes, each with a store from a pickle."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._pickled, self._modules = pickle.dumps(store), [type(get_tested(store)).__module__]
        self._folder = folder
        self._count = 0

    def warm(self) -> None:
        """Import the modules that a worker imports before it writes, so that each worker begins sooner."""
        own, self._modules = self._modules, self.run("warm", [0])[0][0]
        self.run("warm", [])
        self._modules = own

    def run(
        self,
        role: str,
        seeds: Iterable[int],
        *,
        kill: float | None = None,
        opened: bool = True,
        wait: bool = True,
        folder: Path | None = None,
    ) -> list[list[Any]]:
        """Run a worker for each seed, in a folder; return what each reported.

        Args:
            kill: Seconds after which the workers are killed; None waits for them.
            opened: Whether these seconds begin when each worker has reported something, or when it starts.
            wait: Whether to wait until the workers have ended, or only until they run.
        """
        journals: list[str] = []
        for _ in (seeds := list(seeds)):
            self._count += 1
            journals.append(str(self._folder / f"journal-{self._count}"))
        work = functools.partial(_work, role, self._pickled, dict(os.environ), str(folder or os.getcwd()))
        works = [functools.partial(work, *each) for each in zip(seeds, journals, strict=True)]
        starts = journals if opened else []
        codes = _interpreter.ask(role, sys.path[:], self._modules, works, starts, kill, wait)
        if not wait:
            return []
        expected = 0 if kill is None else -signal.SIGKILL
        assert codes == [expected] * len(seeds), f"the workers of the role {role} ended with {codes}"
        said: list[list[Any]] = []
        for journal in journals:
            with open(journal, "a+") as file:
                file.seek(0)
                said.append([json.loads(line) for line in file])
            os.unlink(journal)
        return said


def serve() -> None:
    """Carry out orders, as the interpreter that `_Interpreter` starts, until its input ends."""
    # Ended workers that nobody waits for stay as zombies; the kernel would also reap those that are waited
    # for. So this loop reaps them between two orders.
    while True:
        try:
            order = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_carry_out(*order), sys.stdout.buffer)
        sys.stdout.buffer.flush()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _carry_out(
    paths: list[str],
    modules: list[str],
    works: list[Callable[[int, int], None]],
    starts: list[str],
    kill: float | None,
    wait: bool,
) -> list[int]:
    sys.path[:] = paths
    for module in modules:
        if module not in sys.modules:
            # Not every name in sys.modules can be imported: some packages add others. A failure here loses
            # nothing: a worker that needs the module imports it, and reports the error.
            with contextlib.suppress(Exception):
                importlib.import_module(module)
    start, go = os.pipe()
    workers = [fork(functools.partial(work, start, go)) for work in works]
    os.close(start)
    os.close(go)
    if kill is not None:
        wait_until(lambda: all(os.path.exists(path) and os.path.getsize(path) for path in starts))
        time.sleep(kill)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
    return [wait_for(worker) for worker in workers] if wait else []


def _work(
    role: str,
    pickled: bytes,
    environment: dict[str, str],
    folder: str,
    seed: int,
    journal: str,
    start: int,
    go: int,
) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)  # a worker must not hold the interpreter's pipes, or its end would go unseen
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # What was written to a file survives a kill, so that at most the last word is lost.
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store = cast(Store, pickle.loads(pickled))
    os.close(go)
    os.read(start, 1)
    ROLES[role](store, seed, lambda word: os.write(file, json.dumps(word).encode() + b"\n"))
    store.close()


def _miss(key: str, pickled: bytes, environment: dict[str, str], start: int, go: int) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with contextlib.suppress(StoreError):
        blob: object = pickle.loads(pickled)[key]
        raise AssertionError(f"another process found {blob!r}")


class Witness:
    """Another user of the same blobs, who must be able to read and write at any time: a process, or a thread
    if the store is in this process only."""

    def __init__(self, store: Store, other: Store, folder: Path, persistent: bool) -> None:
        self._other = other
        self._pipes: tuple[int, int] | None = None
        if not persistent:
            return
        for name in ("asked", "answers"):
            os.mkfifo(folder / name)
        # An open for reading and writing doesn't wait for the other end.
        self._pipes = os.open(folder / "asked", os.O_RDWR), os.open(folder / "answers", os.O_RDWR)
        Workers(store, folder).run("answer", [0], wait=False, folder=folder)

    def get_through(self, alive: bytes) -> None:
        """Fail unless the witness reads what was acknowledged last, and can write."""
        if self._pipes is None:
            run_within(functools.partial(get_through, self._other, alive))
            return
        asked, answers = self._pipes
        os.write(asked, alive.hex().encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            # Unlike select(), poll() takes a descriptor of any number.
            poll = select.poll()
            poll.register(answers, select.POLLIN)
            assert poll.poll(DEADLINE * 1000), "another process can't get through"
            answer += os.read(answers, 1 << 16)
        assert not json.loads(answer), f"another process failed:\n{json.loads(answer)}"

    def __enter__(self) -> Witness:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes or ():
            os.close(pipe)


def persists(store: Store, place: Path) -> bool:
    """Return whether another process sees what is put here."""
    store["seen"] = b"here"
    try:
        return bool(Workers(store, place.parent).run("look", [0])[0])
    except AssertionError:
        return False


def refuses(store: Store, key: str) -> bool:
    """Return whether another process gets a StoreError, and no blob, from a pickle of this store."""
    work = functools.partial(_miss, key, pickle.dumps(store), dict(os.environ))
    return _interpreter.ask("miss", sys.path[:], [type(store).__module__], [work], [], None, True) == [0]
