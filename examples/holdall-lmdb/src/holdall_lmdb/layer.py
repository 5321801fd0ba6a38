"""A layer that limits how often the store below is called."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from holdall import Attributes, Info, InvalidArgumentError, Store
from holdall.arguments import check_type
from holdall.forks import begin_anew
from holdall.layers.layer import Transparent
from holdall.store import Body, Expect, Piece

__all__ = ["RateLimitedStore"]


class RateLimitedStore(Transparent):
    """At most `rate` calls a second reach the store below; the others wait for their turn.

    Each handle counts for itself. A listing, a read or a write is one call, however long it is.

    Args:
        store: The store below, such as a bucket whose provider refuses more calls.
        rate: Calls per second, such as 50 or 0.5.
    """

    def __init__(self, store: Store, rate: float) -> None:
        super().__init__(store)
        check_type(rate, (int, float), "rate must be a number of calls a second")
        if not rate > 0:
            raise InvalidArgumentError(f"rate is the number of calls a second, above 0, not {rate!r}")
        self._rate = rate
        self._turn = 0.0
        # It waits, so no event loop may run its calls, even over a store in memory.
        self.inline = False
        self._begin()
        # A thread of the parent may hold the lock when it forks; the child makes its own.
        begin_anew(self, RateLimitedStore._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "rate": self._rate}

    def _wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._turn)
            self._turn = turn + 1 / self._rate
        if turn > now:
            time.sleep(turn - now)

    # Every other call is made of these five.

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        self._wait()
        return super()._read(key, start, stop)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self._wait()
        return super()._write(key, body, expect, attributes)

    def _delete(self, key: str, expect: Expect) -> bool:
        self._wait()
        return super()._delete(key, expect)

    def _info(self, key: str) -> Info:
        self._wait()
        return super()._info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        self._wait()
        return super()._scan(prefix, after)
