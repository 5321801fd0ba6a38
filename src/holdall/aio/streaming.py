"""A body that a coroutine makes and a thread writes."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from holdall.aio.waiting import on_thread, on_trio
from holdall.aio.workers import Cancel, spare, streams
from holdall.stopping import Stopped
from holdall.store import Data

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

_AHEAD = 2
"""The number of pieces that are drawn before the thread takes them."""

_within: contextvars.ContextVar[bool] = contextvars.ContextVar("holdall_within", default=False)
_logger = logging.getLogger("holdall.aio")


async def put_stream(source: AsyncIterable[Buffer], put: Callable[[Data], T]) -> T:
    """Put an async iterable: a task draws its pieces, at most two ahead, and a thread writes them."""
    channel: SimpleQueue[tuple[Buffer] | BaseException | None] = SimpleQueue()
    if on_trio():
        from holdall.aio.trio import beside, make_room
    else:
        beside, make_room = _beside, _make_room
    take, give = make_room(_AHEAD)

    def pieces() -> Iterator[Buffer]:
        while (piece := channel.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            give()
            yield piece[0]

    async def pump() -> None:
        _within.set(True)
        iterator = aiter(source)
        try:
            while True:
                await take()
                channel.put((await anext(iterator),))
        except StopAsyncIteration:
            channel.put(None)
        except BaseException as error:  # noqa: BLE001 - the put raises it, once it has dropped what it wrote
            channel.put(error)
        finally:
            await _close(iterator)

    def call() -> Awaitable[T]:
        workers = spare if _within.get() else streams
        return on_thread(lambda: put(pieces()), Cancel.STOP, workers, on_stop=lambda: channel.put(Stopped()))

    return await beside(pump, call)


async def _close(iterator: Any) -> None:
    close = getattr(iterator, "aclose", None)
    if close is not None:
        try:
            await close()
        except Exception:
            _logger.warning("the source of a put raised when it was closed", exc_info=True)


async def _beside(pump: Callable[[], Awaitable[None]], call: Callable[[], Awaitable[T]]) -> T:
    async def run() -> None:
        await pump()

    task = asyncio.ensure_future(run())
    try:
        return await call()
    finally:
        task.cancel()
        await asyncio.wait([task])


def _make_room(count: int) -> tuple[Callable[[], Awaitable[Any]], Callable[[], None]]:
    """Return what takes one of `count` tokens, and what gives one back from a thread."""
    tokens, loop = asyncio.Semaphore(count), asyncio.get_running_loop()

    def give() -> None:
        try:
            loop.call_soon_threadsafe(tokens.release)
        except RuntimeError:
            """The loop was closed: nobody takes it."""

    return tokens.acquire, give
