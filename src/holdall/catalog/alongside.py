"""Work of one call in another thread: checksums, for which Python lets other threads run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from holdall.threads import start

T = TypeVar("T")


class Alongside(Generic[T]):
    """The result of a function that another thread calls from the beginning of a `with` block on.

    Args:
        function: It is given a function that returns whether the result isn't needed any more.

    >>> with Alongside(lambda stopped: 6 * 7) as other:
    ...     other.result()
    42
    """

    def __init__(self, function: Callable[[Callable[[], bool]], T]) -> None:
        self._function = function
        self._stopped = False
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="holdall-alongside", daemon=True)

    def _run(self) -> None:
        try:
            self._results.append(self._function(lambda: self._stopped))
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            self._error = error

    def __enter__(self) -> Self:
        start(self._thread)
        return self

    @property
    def done(self) -> bool:
        """Whether the function has returned or raised."""
        return not self._thread.is_alive()

    def result(self) -> T:
        """Wait for the result, and return it, or raise what the function raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def __exit__(self, *_: object) -> None:
        self._stopped = True
