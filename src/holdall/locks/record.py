"""What the blob of a lock says: JSON, of the format `holdall-lock`, version 1.

`token` is the fencing number of who has the lock, or had it last. `holder` is null once the lock is released.
Otherwise it has `id`, which differs at each time that the lock is taken, and `host`, `pid` and `since` for
people. `processes` names the numbering that `pid` belongs to: a process with the same one can find out
whether the holder is gone. `ttl` is how many seconds the holder may be silent, and `renewals` counts its
renewals.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, cast

from holdall.blob import Info, Piece
from holdall.errors import SerializationError
from holdall.forks import processes
from holdall.pieces import join_pieces

FORMAT: Final = "holdall-lock"
VERSION: Final = 1
_LARGEST: Final = 4096


class Holder(NamedTuple):
    """Who has a lock."""

    id: str
    host: str
    pid: int
    since: str
    processes: str = ""

    def is_gone(self) -> bool:
        """Return whether its process has ended for certain; False where that can't be known."""
        if not self.processes or self.processes != processes():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            # It is another user's; or it isn't the number of a process.
            return False
        return False


class Record(NamedTuple):
    """What the blob of a lock says."""

    token: int
    ttl: float
    holder: Holder | None
    renewals: int = 0

    def encode(self) -> bytes:
        """Return the bytes of the blob."""
        holder = None if self.holder is None else self.holder._asdict()
        fields = {"token": self.token, "holder": holder, "ttl": self.ttl, "renewals": self.renewals}
        return (json.dumps({"format": FORMAT, "version": VERSION, **fields}) + "\n").encode()


def new_holder(known: str | None = None) -> Holder:
    """Return this process, with an id of its own unless it has one."""
    since = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Holder(known or os.urandom(8).hex(), os.uname().nodename, os.getpid(), since, processes())


def decode(info: Info, pieces: Iterator[Piece]) -> Record:
    """Return what a blob says.

    Raises:
        SerializationError: It isn't a lock.
    """
    if info.size > _LARGEST:
        raise _refuse(f"is a blob of {info.size:,} bytes")
    data = join_pieces(pieces)
    try:
        said: object = json.loads(data)
    except (ValueError, RecursionError):
        raise _refuse(f"begins with {data[:20]!r}") from None
    fields = cast("dict[str, Any]", said if isinstance(said, dict) else {})
    if fields.get("format") != FORMAT:
        raise _refuse(f"begins with {data[:20]!r}")
    if fields.get("version") != VERSION:
        raise SerializationError(
            f"this lock is of version {fields.get('version')!r:.20}, and this holdall knows version "
            f"{VERSION}: install a newer holdall"
        )
    try:
        held: Any = fields["holder"]
        holder = None if held is None else Holder(**held)
        record = Record(fields["token"], fields["ttl"], holder, fields["renewals"])
    except (KeyError, TypeError):
        raise _refuse("lacks a field of a lock, or has one too many") from None
    numbers = (record.token, record.renewals, 0 if holder is None else holder.pid)
    texts = () if holder is None else (holder.id, holder.host, holder.since, holder.processes)
    if (
        any(type(each) is not int or each < 0 for each in numbers)
        or not isinstance(record.ttl, int | float)
        or not record.ttl > 0
        or not all(isinstance(each, str) for each in texts)
    ):
        raise _refuse("has a field of the wrong type")
    return record


def _refuse(what: str) -> SerializationError:
    return SerializationError(
        f"expected a lock here, and what is here {what}; it was left as it is: use another key for the lock"
    )
