"""Calls of obstore that an interrupt ends, and a stop of the async call that they belong to.

A call that an event loop runs hands obstore's coroutine to the loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from holdall.blob import Piece
from holdall.stopping import Stop, Stopped, current
from holdall.stores.bucket.driver import asynchronous, driver
from holdall.stores.bucket.waking import begin, watch
from holdall.workers import aside

_LOOK = 0.1
"""Seconds between two looks for an interrupt."""
_PATIENCE = 0.15
"""Seconds that an interrupted upload has to remove its parts."""

_READS = frozenset({"get", "head", "sign"})

# obstore's blocking calls end with their request, whatever signal comes. Signals interrupt the main thread
# only: what changes nothing it has called by another thread, which takes some 20 us more, and goes on after
# the interrupt. Where a write or an async call may be stopped, obstore's coroutines are called instead, which
# take some 100 us more; a loop of asyncio in a thread of its own takes 250 us more.


def call(function: str, *arguments: Any, **options: Any) -> Any:
    """Call a function of obstore, and return what it returns.

    Raises:
        Stopped: The async call that runs this was cancelled.
    """
    module = driver()
    stop = current.get()
    if stop is None and (function in _READS or threading.get_ident() != threading.main_thread().ident):
        return aside(partial(getattr(module, function), *arguments, **options))
    if stop is not None and stop.in_loop():
        return stop.pause(begin, getattr(module, f"{function}_async"), *arguments, **options)
    return _Wait(stop).run(getattr(module, f"{function}_async"), *arguments, **options)


def get(client: Any, name: str, most: int) -> tuple[Any, Any]:
    """Get an object, and its bytes if it has at most `most`; otherwise None for them."""
    if current.get() is None:

        def both() -> tuple[Any, Any]:
            found = driver().get(client, name)
            return found, found.bytes() if found.range[1] <= most else None

        return aside(both)
    found = call("get", client, name)
    return found, read(found) if found.range[1] <= most else None


def read(found: Any) -> Any:
    """Return the bytes of an answer."""
    stop = current.get()
    if stop is None:
        return aside(found.bytes)
    if stop.in_loop():
        return stop.pause(begin, found.bytes_async)
    return _Wait(stop).run(found.bytes_async)


def iterate(stream: Any) -> Iterator[Any]:
    """Yield what a stream of obstore yields, which can be iterated in both ways."""
    while True:
        stop = current.get()
        try:
            if stop is None:
                found = aside(lambda: next(stream))
            elif stop.in_loop():
                found = stop.pause(begin, stream.__anext__)
            else:
                found = _Wait(stop).run(stream.__anext__)
        except (StopIteration, StopAsyncIteration):
            return
        yield found


def upload(client: Any, name: str, pieces: Iterator[Piece], size: int, **options: Any) -> Any:
    """Put an object in parts of a size, whose pieces this thread draws as obstore asks for them.

    If a part can't be drawn, or an interrupt comes, obstore removes the parts that it has uploaded; after an
    interrupt it has a moment for it.
    """
    wait = _Wait(current.get())
    parts = _Parts(wait, _join_to(pieces, size))
    return wait.run(driver().put_async, client, name, parts, use_multipart=True, chunk_size=size, **options)


def _join_to(pieces: Iterator[Piece], size: int) -> Iterator[memoryview]:
    """Yield the same bytes in parts of a size, each in memory of its own that goes back to the system."""
    from mmap import mmap

    part, at = mmap(-1, size), 0
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            taken = rest[: size - at]
            part[at : at + len(taken)] = taken
            at += len(taken)
            rest = rest[len(taken) :]
            if at == size:
                yield memoryview(part)
                part, at = mmap(-1, size), 0
    if at:
        yield memoryview(part)[:at]


class _Wait:
    """As much of an event loop as obstore's futures need, for one call: the thread that made the call waits
    for its outcome, and runs what obstore's threads hand to it."""

    def __init__(self, stop: Stop | None) -> None:
        self._stop = stop
        self._handed: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._wake = threading.Lock()
        self._wake.acquire()
        self.parts: _Parts | None = None
        self._left = False
        """Whether the thread that made the call has left: what is handed to it is run where it is handed."""

    def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a coroutine function of obstore, and wait for what it returns."""
        from asyncio import events

        future: Any = None
        made: Any = None
        # A caller in a notebook has a loop that runs.
        outer = events._get_running_loop()
        try:
            # Set in the `try` itself, and not by a context manager: an interrupt that comes between two calls
            # would leave the thread with a loop, and no other could ever run in it.
            try:
                events._set_running_loop(self)  # pyright: ignore[reportArgumentType]
                made = function(*arguments, **options)
                if not hasattr(made, "add_done_callback"):
                    return made
                future = made
                watch(future)
                if self._stop is not None:
                    self._stop.then(self._notice)
                while not future.done():
                    # A signal that comes just before the wait doesn't end it: Python looks again after it.
                    self._wake.acquire(timeout=_LOOK)
                    self._step()
                    if self._stop is not None and self._stop.is_set() and not future.done():
                        raise Stopped
            finally:
                events._set_running_loop(outer)
        except BaseException as error:
            if future is not None and not future.done():
                self._leave(future, error)
            raise
        finally:
            if self._stop is not None:
                self._stop.forget(self._notice)
        try:
            return future.result()
        finally:
            # An exception's traceback leads to this frame.
            del future, made

    def _leave(self, future: Any, error: BaseException) -> None:
        """End a call whose outcome nobody waits for: cancelled, it closes its connection."""
        if self.parts is not None:
            self.parts.fail(error)
            self._wait_for_parts(future)
            # Cancelled, it would leave its parts. It goes on to remove them, on obstore's threads.
            self._left = True
            self._step()
        else:
            future.cancel()

    def _wait_for_parts(self, future: Any) -> None:
        from asyncio import events

        outer = events._get_running_loop()
        try:
            events._set_running_loop(self)  # pyright: ignore[reportArgumentType]
            while not future.done() and self._wake.acquire(timeout=_PATIENCE):
                self._step()
        finally:
            events._set_running_loop(outer)

    def _notice(self) -> None:
        self.call_soon_threadsafe(int)

    def _step(self) -> None:
        while self._handed:
            try:
                function, arguments = self._handed.popleft()
            except IndexError:
                # Another thread took it.
                return
            function(*arguments)

    # Futures, and obstore, call the next ones of a loop.

    def create_future(self) -> Any:
        from asyncio import Future

        make: Any = Future
        return make(loop=self)

    def call_soon(self, function: Callable[..., object], *arguments: Any, context: Any = None) -> None:
        function(*arguments)

    def call_soon_threadsafe(
        self, function: Callable[..., object], *arguments: Any, context: Any = None
    ) -> None:
        self._handed.append((function, arguments))
        if self._left:
            self._step()
        try:
            self._wake.release()
        except RuntimeError:
            # It was woken already.
            return

    def create_task(self, coroutine: Any, **_: Any) -> Any:
        """Refuse a credential provider that is a plain function and returned a coroutine."""
        coroutine.close()
        raise asynchronous()

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """The error of a call that was left is nobody's."""


class _Parts:
    """The parts of an upload as an async iterator, which obstore's threads ask and the caller's thread feeds:
    a body may take its time, or belong to its thread."""

    def __init__(self, wait: _Wait, parts: Iterator[memoryview]) -> None:
        self._wait, self._parts = wait, parts
        self._failed: BaseException | None = None
        wait.parts = self

    def __aiter__(self) -> _Parts:
        return self

    def __anext__(self) -> Any:
        future = self._wait.create_future()
        self._wait.call_soon_threadsafe(self._feed, future)
        return future

    def _feed(self, future: Any) -> None:
        if future.cancelled():
            return
        if self._failed is not None:
            future.set_exception(_LeftError())
            return
        try:
            part = next(self._parts, None)
        except Exception as error:  # noqa: BLE001 - obstore raises it again, once its parts are removed
            future.set_exception(error)
            return
        except BaseException:
            future.set_exception(_LeftError())
            raise
        if part is None:
            future.set_exception(StopAsyncIteration())
        else:
            future.set_result(part)

    def fail(self, error: BaseException) -> None:
        """Have the next part fail."""
        self._failed = error


class _LeftError(Exception):
    """The caller of an upload has left."""
