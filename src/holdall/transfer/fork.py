"""A copy of this process, which plans one half of a transfer while this one plans the other."""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from holdall.transfer.spread import Stopped
from holdall.transfer.work import portable

__all__ = ["Fork", "can_fork"]

_LENGTH = struct.Struct("<I")


def can_fork() -> bool:
    """Return whether a copy of this process would be complete: it would lack other threads, and what they
    hold."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


class Fork:
    """The results of a call in a copy of this process, which begins the call at once.

    It is a context manager, and at its end the copy is gone. If the copy dies before it has sent all results,
    the iteration ends there, and `whole` stays False.

    Args:
        call: Returns the iterable to send. It must change nothing, and use nothing that two processes can't
            share.
        stop: Ends the waiting when it is set.

    Raises:
        OSError: The system can't start another process.
    """

    def __init__(self, call: Callable[[], Iterable[object]], stop: threading.Event) -> None:
        self.whole = False
        """Whether all results have arrived."""
        self._stop = stop
        self._in, out = os.pipe()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self._in)
            os.close(out)
            raise
        if self._pid:
            os.close(out)
            return
        try:
            os.setpgid(0, 0)  # Ctrl-C is for the process that waits for this one
            os.close(self._in)
            _tell(call, out)
        finally:
            # Nothing here is this one's to flush, to close or to delete.
            os._exit(0)

    def __enter__(self) -> Fork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._in)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def __iter__(self) -> Iterator[Any]:
        """Yield the results as they arrive.

        Raises:
            Stopped: `stop` was set.
            Exception: What the call raised there.
        """
        while (head := self._exactly(_LENGTH.size)) is not None:
            (length,) = _LENGTH.unpack(head)
            message = self._exactly(length)
            if message is None:
                return
            found, error, ended = pickle.loads(message)
            if ended:
                self.whole = True
                return
            if error is not None:
                raise error
            yield found

    def _exactly(self, count: int) -> bytes | None:
        held = bytearray()
        ready = select.poll()
        ready.register(self._in, select.POLLIN)
        while len(held) < count:
            while not ready.poll(100):
                if self._stop.is_set():
                    raise Stopped
            piece = os.read(self._in, count - len(held))
            if not piece:
                return None
            held += piece
        return bytes(held)


def _tell(call: Callable[[], Iterable[object]], out: int) -> None:
    def send(found: object, error: Exception | None = None, ended: bool = False) -> None:
        message = pickle.dumps((found, error, ended))
        view = memoryview(_LENGTH.pack(len(message)) + message)
        while view:
            view = view[os.write(out, view) :]

    try:
        try:
            for found in call():
                send(found)
        except BrokenPipeError:
            return
        except Exception as error:  # noqa: BLE001 - it is raised in the process that asked
            send(None, portable(error, getattr(error, "key", None) or ""))
        else:
            send(None, ended=True)
    except BrokenPipeError:
        return  # nobody waits for it any more
