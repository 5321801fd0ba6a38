"""What became of a call that changes something, also where its answer was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from holdall.errors import BlobExistsError, ConcurrencyError, KeyConflictError, StoreUnavailableError
from holdall.store import ABSENT, ANY, Expect
from holdall.stores.rereading import outcome_unknown
from holdall.stores.valkey.errors import LateError, LostError
from holdall.stores.valkey.scripts import FOREIGN


def condition(expect: Expect) -> bytes:
    """Spell what must be there now, as the scripts compare it."""
    if expect is ANY:
        return b""
    if expect is ABSENT:
        return b"-"
    return b"=" + str(expect).encode("utf-8", "surrogatepass")


def ensure(call: Callable[[], Any], is_sure: Callable[[Any], bool]) -> Any:
    """Make a call whose result must be right: it is repeated if the connection is lost, unless the second
    answer leaves open what the first one was."""
    lost: LostError | None = None
    while True:
        try:
            reply = call()
        except LostError as error:
            # Case 1: the answer is late. The request may still wait somewhere, and a second one wouldn't show
            # what became of it. Case 2: the connection was lost twice.
            if lost is not None or isinstance(error, LateError):
                raise outcome_unknown(error) from error
            lost = error
            continue
        if lost is not None and not is_sure(reply):
            raise StoreUnavailableError(
                f"{lost.message}, and the client can't know whether it was done by this call or by another "
                "client; read it again"
            ) from lost
        return reply


def refuse(reply: Any, expect: Expect, prefix: str, key: str | None) -> NoReturn:
    """Raise the error for what a script returned instead of 1.

    Raises:
        BlobExistsError: A blob is there, though none was expected.
        ConcurrencyError: Another blob than the expected one is there, or none.
        KeyConflictError: Another program's value has the name.
        StoreUnavailableError: Chunks of the blob are gone.
    """
    if type(reply) is bytes:
        actual = reply.decode() or None
        if expect is ABSENT:
            raise BlobExistsError(key=key, actual=actual)
        raise ConcurrencyError(key=key, expected=str(expect), actual=actual)
    if reply is None or reply == FOREIGN:
        raise KeyConflictError(
            "another program, or a newer version of holdall, keeps a value in the server under the name of "
            f"this blob, or of the list of keys; choose another prefix than {prefix!r}, or upgrade holdall",
            key=key,
        )
    raise StoreUnavailableError(
        "the server lost chunks of this blob while it was written; put it again", key=key
    )
