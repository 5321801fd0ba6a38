"""The functions that wait for the coroutines of a file system of fsspec, and end them at an interrupt."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

from holdall.interop.loading import load

_asyn = load("fsspec.asyn")
_Abstract: Any = load("fsspec").AbstractFileSystem
_PATIENCE = 5.0
"""For how many seconds an interrupt waits for calls that have begun. Each stops before its next
piece."""


class _Call:
    """A call that is waited for, and its parts, which fsspec does side by side, such as a file each."""

    def __init__(self) -> None:
        self.whole: asyncio.Task[Any] | None = None
        self.parts: set[asyncio.Task[Any]] = set()
        self.has_parts = self.is_left = False

    async def do_part(self, doing: Coroutine[Any, Any, Any]) -> Any:
        """Do a part, but skip it once the call was left."""
        if self.is_left:
            doing.close()
            return None
        self.has_parts = True
        task = asyncio.ensure_future(doing)
        self.parts.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if not self.is_left:
                raise
        finally:
            self.parts.discard(task)

    async def stop(self) -> None:
        """End the call, and wait until it has ended."""
        if self.whole is None:
            return
        for task in [*self.parts]:
            task.cancel()
        # One with parts ends once its parts have ended, since the others are skipped. If it were cancelled,
        # Python would warn of the coroutines that fsspec hasn't begun: they were never awaited.
        if not self.has_parts:
            self.whole.cancel()
        await asyncio.wait([self.whole])


_call: ContextVar[_Call | None] = ContextVar("_call", default=None)


def wait(fs: Any, name: str, *args: Any, **options: Any) -> Any:
    """Call a coroutine function of a file system in fsspec's event loop, and wait for its result.

    fsspec's own function lets it go on after an interrupt, and all files of a `put` would still be written.
    """
    call, loop, has_ended = _Call(), fs.loop, False

    async def run(*args: Any, **options: Any) -> Any:
        call.whole = asyncio.current_task()
        # fsspec makes the tasks for the parts in this context.
        _call.set(call)
        return None if call.is_left else await getattr(fs, name)(*args, **options)

    try:
        result = _asyn.sync(loop, run, *args, **options)
        has_ended = True
        return result
    except Exception:
        has_ended = True
        raise
    finally:
        if not has_ended:
            call.is_left = True
            stopping = asyncio.run_coroutine_threadsafe(call.stop(), loop)
            with contextlib.suppress(TimeoutError):
                stopping.result(_PATIENCE)


def on_thread(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a coroutine function that calls a function of a file system on a thread."""

    async def do(fs: Any, *args: Any, **options: Any) -> Any:
        return await fs._aio.run(getattr(fs, name), *args, **options)

    return do


def part(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Decorate a coroutine function that fsspec runs in a task of its own for each file."""

    @functools.wraps(function)
    async def do(*args: Any, **options: Any) -> Any:
        call = _call.get()
        doing = function(*args, **options)
        return await (doing if call is None else call.do_part(doing))

    return do


def add_twins(kind: type[Any]) -> None:
    """Give a class a function for each of its coroutine functions, as fsspec does for each instance."""
    for name in {*_asyn.async_methods, *dir(_asyn.AsyncFileSystem)}:
        plain = name[1:]
        default = getattr(_Abstract, plain, None)
        if name.startswith("__") or default is None or getattr(kind, plain) is not default:
            continue
        if name.startswith("_") and inspect.iscoroutinefunction(getattr(kind, name, None)):
            setattr(kind, plain, _twin(name, default))


def _twin(name: str, default: Any) -> Any:
    @functools.wraps(default)
    def twin(self: Any, *args: Any, **options: Any) -> Any:
        return wait(self, name, *args, **options)

    return twin
