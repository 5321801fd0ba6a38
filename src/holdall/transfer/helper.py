"""Another process of this machine, which does part of a transfer between folders."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from holdall.store import Store
from holdall.transfer.plan import Rules, Step
from holdall.transfer.spread import Stopped
from holdall.transfer.work import Outcome, Worker, portable

__all__ = ["Helper", "serve"]

_log = logging.getLogger("holdall.transfer")

# What can be imported here can be there, whatever became of sys.path meanwhile.
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from holdall.transfer.helper import serve; serve()"
_LENGTH = struct.Struct("<I")
_AHEAD = 3
_GRACE = 10.0


class Helper:
    """A process that does the steps that it is given while this one does others.

    It is started at once and is ready about 100 ms later. If it can't be started, or dies, this process does
    its steps. It ends with its standard input, and so with this process.

    Args:
        source: From where; it goes there by pickle.
        target: To where.
        rules: How.
        stop: Ends all when it is set.
    """

    def __init__(self, source: Store, target: Store, rules: Rules, stop: threading.Event) -> None:
        self._again = Worker(source, target, rules, stop)
        self._stop = stop
        self._flying: deque[list[Step]] = deque()
        self._arrived: deque[bytes] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            order = pickle.dumps((source, target, rules))
            self._process = subprocess.Popen(
                # -P: nothing is imported from the folder that happens to be the current one.
                [sys.executable, "-P", "-X", f"utf8={sys.flags.utf8_mode}", "-c", _PROGRAM, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                # Ctrl-C is for this process, which then stops the other.
                process_group=0,
            )
            os.set_blocking(self._in, False)
            self._send(order)
        except Exception as error:  # noqa: BLE001 - whatever stores and their pickles raise: it goes on here
            self._give_up(error)

    @property
    def _in(self) -> int:
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin.fileno()

    @property
    def _out(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def hand(self, unit: list[Step]) -> bool:
        """Give it some steps, if it has little to do yet."""
        if self._process is None or len(self._flying) >= _AHEAD:
            return False
        try:
            self._send(pickle.dumps([tuple(step) for step in unit]))
        except (OSError, EOFError) as error:
            self._give_up(error)
            return False
        self._flying.append(unit)
        return True

    def collect(self, took: Callable[[list[Outcome]], object]) -> None:
        """Receive the outcomes of the steps that it has done since."""
        while self._flying and self._ready(0.0):
            took(self._next())

    def drain(self, took: Callable[[list[Outcome]], object]) -> None:
        """Wait until it has done all steps, and receive their outcomes.

        Raises:
            Stopped: The transfer was stopped.
        """
        while self._flying:
            if self._stop.is_set():
                raise Stopped
            if self._ready(0.1):
                took(self._next())

    def close(self) -> None:
        """End it. It finishes its current step if that takes only a moment, and otherwise leaves it
        undone."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._flying:
            process.terminate()
        with process:
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()

    def _send(self, message: bytes) -> None:
        view = memoryview(_LENGTH.pack(len(message)) + message)
        both = select.poll()
        both.register(self._in, select.POLLOUT)
        both.register(self._out, select.POLLIN)
        while view:
            ready = dict(both.poll())
            # What it has to tell comes first: it reads nothing until that is taken.
            if self._out in ready:
                self._arrived.append(_received(self._out))
            elif self._in in ready:
                view = view[os.write(self._in, view) :]

    def _ready(self, seconds: float) -> bool:
        if self._process is None or self._arrived:
            return True
        out = select.poll()
        out.register(self._out, select.POLLIN)
        return bool(out.poll(seconds * 1000))

    def _next(self) -> list[Outcome]:
        unit = self._flying.popleft()
        if self._arrived or self._process is not None:
            try:
                message = self._arrived.popleft() if self._arrived else _received(self._out)
                found: list[tuple[Any, ...]] = pickle.loads(message)
                return [Outcome(step, *rest) for step, rest in zip(unit, found, strict=True)]
            except (OSError, EOFError) as error:
                self._give_up(error)
        return self._again(unit)

    def _give_up(self, error: Exception) -> None:
        _log.warning("the transfer goes on in one process, since the other one failed: %r", error)
        if self._process is not None:
            self._process.kill()
        self.close()


def serve() -> None:
    """Run as that process: read steps, do them, and send their outcomes."""
    stop = threading.Event()

    def end(signum: int, frame: object) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    source, target, rules = pickle.loads(_received(0))
    # What was imported stays: the collector needn't look at it again and again.
    gc.freeze()
    worker = Worker(source, target, rules, stop)
    try:
        while True:
            steps = [Step(*fields) for fields in pickle.loads(_received(0))]
            outcomes = [
                tuple(outcome._replace(error=outcome.error and portable(outcome.error, outcome.step.key)))[1:]
                for outcome in worker(steps)
            ]
            message = pickle.dumps(outcomes)
            view = memoryview(_LENGTH.pack(len(message)) + message)
            while view:
                view = view[os.write(1, view) :]
    except (EOFError, BrokenPipeError, Stopped):
        source.close()
        target.close()
        # The other process waits, and to take an interpreter down costs as much as a hundred files.
        os._exit(0)


def _received(fd: int) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(fd, _LENGTH.size))
    return _exactly(fd, length)


def _exactly(fd: int, count: int) -> bytes:
    held = bytearray()
    while len(held) < count:
        piece = os.read(fd, count - len(held))
        if not piece:
            raise EOFError("the other process has ended")
        held += piece
    return bytes(held)
