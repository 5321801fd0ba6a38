"""Calls of a cloud, several at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from typing import Generic, NamedTuple, TypeVar

from holdall.errors import StoreError, naming
from holdall.ranges import CHUNK
from holdall.stores.crew import Crew
from holdall.workers import Call

T = TypeVar("T")

AT_ONCE = 10
"""The number of calls at a time: each has a connection."""
_HELD = 16 * CHUNK
"""The bytes that they may hold in memory together; one alone may hold more."""


class KeyCall(NamedTuple, Generic[T]):
    """A call for one key."""

    key: str
    size: int
    """The number of bytes that it holds."""
    call: Callable[[], T]
    alone: bool = False
    """Whether it is called by the thread that asks, once all earlier ones are done."""


def abreast(jobs: Iterable[KeyCall[T]]) -> Iterator[T]:
    """The results of jobs, in order. Two of one key are done one after the other.

    After a failure no other is begun. Those under way are waited for, and yield their results; then the
    first error is raised, whose key is its job's, and whose message names the other keys that failed.

    >>> list(abreast(KeyCall(key, 1, key.upper) for key in "abc"))
    ['A', 'B', 'C']
    """
    begun: deque[tuple[KeyCall[T], Call[T]]] = deque()
    held = 0
    crew = Crew(AT_ONCE)
    try:
        for job in jobs:
            while begun and (
                job.alone
                or len(begun) == AT_ONCE
                or held + job.size > _HELD
                or any(job.key == earlier.key for earlier, _ in begun)
            ):
                held -= begun[0][0].size
                yield _first(begun)
            call = crew.prepare(job.call)
            begun.append((job, call))
            held += job.size
            if job.alone:
                call.run(copy_context())
                call.end()
            else:
                crew.begin(call)
        while begun:
            yield _first(begun)
    except Exception as error:
        failed: list[str] = []
        for job, call in begun:
            if call.error() is None:
                yield call.result()
            else:
                failed.append(job.key)
        if failed and isinstance(error, StoreError):
            error.message += f" (and so did {', '.join(map(repr, failed))})"
        raise
    except GeneratorExit:
        raise
    except BaseException:
        # An interrupt doesn't wait for what is under way, where that can be stopped.
        crew.stop()
        raise
    finally:
        # Also when the caller stops iterating half-way, nothing stays under way.
        crew.dismiss()
        for _, call in begun:
            if call.begun:
                call.wait()


def _first(begun: deque[tuple[KeyCall[T], Call[T]]]) -> T:
    job, call = begun[0]
    call.wait()
    begun.popleft()
    with naming(job.key):
        return call.result()
