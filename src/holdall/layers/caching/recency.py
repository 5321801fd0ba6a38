"""The entries of a cache: their sizes, and the order in which they were used."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from secrets import token_hex

from holdall.errors import BlobNotFoundError, StoreError
from holdall.layers.caching.entry import CLEAN, DIRTY, is_entry, is_record, micros
from holdall.store import ANY, Store

_LOG = "recency-"
"""Names of what keeps the order of use: parts of a log, each named by its time."""
_is_log = re.compile(rf"{_LOG}([0-9a-f]{{16}})-[0-9a-f]{{8}}").fullmatch
_NAME = 20
"""The bytes of a name in the log."""
_TOUCHES = 128
"""The number of uses that are sorted and written to the log together: a kill forgets twice as many."""
_PARTS = 64
"""The number of parts of a log before they are merged."""
_SHARE = 16
"""Other processes write to the cache too: it is counted anew when this share of it was written here."""


class Recency:
    """The entries of a cache in the order of their use, and a bound on their bytes."""

    def __init__(
        self, cache: Store, most: int, failed: Callable[[str, StoreError], None], evicted: Callable[[], None]
    ) -> None:
        self._cache, self._most, self._failed, self._evicted = cache, most, failed, evicted
        self.reset()

    def reset(self) -> None:
        """Forget what is known, as after a fork: it is counted anew."""
        self._lock = threading.RLock()
        self._order: OrderedDict[str, int] = OrderedDict()
        self._records: dict[str, int] = {}
        self._total = 0
        self._added = 0
        self.used: list[str] = []
        """Names of entries that were used since the order was brought up to date."""
        self._noted: list[str] = []
        """Names to be written to the log."""
        self._parts = 0
        """The number of parts that were written since the log was last merged."""
        self._noting = 0
        """The number of names in them."""
        self._counted = False
        self.limit = 1
        """The number of uses that are gathered before the order is updated: none before the first count."""

    def doubt(self) -> None:
        """Count anew at the next use, since the contents are unknown."""
        with self._lock:
            self._counted, self.limit = False, 1

    @property
    def bytes(self) -> int:
        """Return the number of bytes that entries and records take."""
        with self._lock:
            self._count()
            return self._total

    def touch(self, name: str) -> None:
        """Note that an entry was used."""
        # Appending needs no lock; the order is brought up to date when it is needed.
        used = self.used
        used.append(name)
        if len(used) >= self.limit:
            self.settle()

    def settle(self) -> None:
        """Update the order of use."""
        with self._lock:
            self._count()
            self._settle()

    def _settle(self) -> None:
        used, move = self.used, self._order.move_to_end
        number = len(used)
        # Of one that was used more than once, the last time counts.
        names = list(dict.fromkeys(reversed(used[:number])))[::-1]
        del used[:number]
        for name in names:
            try:
                move(name)
            except KeyError:
                continue
        self._noted += names
        if len(self._noted) >= _TOUCHES:
            self._write_noted()
            # Where nothing is added, nothing is counted anew, and the log would grow for ever. The order is
            # not written more often than it was changed.
            if self._counted and self._parts > _PARTS and self._noting > len(self._order):
                self._recount()

    def fits(self, size: int) -> bool:
        """Return whether an entry of this size fits at all."""
        return size <= self._most

    def reserve(self, name: str, size: int) -> bool:
        """Make room for an entry, or a record, before it is written; return False if there is none."""
        with self._lock:
            self._count()
            if self._added * _SHARE > self._most:
                self._recount()
            if not self._counted:
                return False
            self._set(name, size)
            self._added += size
            return self._shrink(name)

    def set(self, name: str, size: int) -> None:
        """Note that an entry or record of this size is there."""
        with self._lock:
            if self._counted:
                self._set(name, size)
                self._shrink(name)

    def _set(self, name: str, size: int) -> None:
        self._settle()
        if name.startswith(DIRTY):
            self._total += size - self._records.get(name, 0)
            self._records[name] = size
        else:
            self._total += size - self._order.get(name, 0)
            self._order[name] = size
            self._order.move_to_end(name)
            self._noted.append(name)

    def forget(self, name: str) -> None:
        """Note that an entry or record is gone."""
        with self._lock:
            self._total -= self._order.pop(name, 0) + self._records.pop(name, 0)

    def _shrink(self, spared: str) -> bool:
        """Remove the least recently used entries until the rest is within the limit."""
        failing: dict[str, int] = {}
        while self._total > self._most:
            name = next((each for each in self._order if each != spared and each not in failing), None)
            if name is None:
                return False
            try:
                self._cache._delete(name, ANY)
            except StoreError as error:
                self._failed("evict", error)
                failing[name] = 0
                if len(failing) >= 3:
                    return False
                continue
            self._total -= self._order.pop(name, 0)
            self._evicted()
        return True

    def _count(self) -> None:
        if not self._counted:
            self._recount()

    def _recount(self) -> None:
        """List the cache, and read the order of use from the log."""
        self.flush()
        try:
            found = [info for info in self._cache._scan("", "") if _is_ours(info.key)]
        except StoreError as error:
            self._failed("list", error)
            return
        logs = [info.key for info in found if _is_log(info.key)]
        self._records = {info.key: info.size for info in found if is_record(info.key)}
        entries = {info.key: info for info in found if is_entry(info.key)}
        used = {name: (micros(info.modified), 0) for name, info in entries.items()}
        for log in logs:
            match = _is_log(log)
            moment = int(match[1], 16) if match else 0
            for place, name in enumerate(self._part(log)):
                # A note may be older than the entry, which was written again since.
                used[name] = max(used.get(name, (0, 0)), (moment, place))
        self._order = OrderedDict(
            (name, entries[name].size) for name in sorted(entries, key=used.__getitem__)
        )
        self._total = sum(self._order.values()) + sum(self._records.values())
        self._added, self._counted, self.limit = 0, True, _TOUCHES
        self._shrink("")
        self._parts, self._noting = len(logs), 0
        if len(logs) > _PARTS and self._write_part(list(self._order)):
            self._forget_parts(logs)
            self._parts = 1

    def _part(self, log: str) -> list[str]:
        try:
            data = b"".join(self._cache._read(log, 0, None)[1])
        except BlobNotFoundError:
            return []
        except StoreError as error:
            self._failed("read the order of use", error)
            return []
        return [CLEAN + data[at : at + _NAME].hex() for at in range(0, len(data) // _NAME * _NAME, _NAME)]

    def _write_part(self, names: list[str]) -> bool:
        data = b"".join([bytes.fromhex(name[len(CLEAN) :]) for name in names])
        try:
            self._cache._put(f"{_LOG}{micros():016x}-{token_hex(4)}", data)
        except StoreError as error:
            self._failed("write the order of use", error)
            return False
        return True

    def _forget_parts(self, logs: list[str]) -> None:
        for log in logs:
            try:
                self._cache._delete(log, ANY)
            except StoreError as error:
                self._failed("delete the order of use", error)

    def flush(self) -> None:
        """Write the uses since the last flush to the log."""
        with self._lock:
            self._settle()
            self._write_noted()

    def _write_noted(self) -> None:
        noted, self._noted = self._noted, []
        if noted:
            latest = list(dict.fromkeys(reversed(noted)))
            self._parts += 1
            self._noting += len(latest)
            self._write_part(latest[::-1])


def _is_ours(name: str) -> bool:
    return bool(is_entry(name) or is_record(name) or _is_log(name))
