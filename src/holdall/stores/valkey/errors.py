"""What an error of a client library means: one of holdall's errors, which says what to do."""

from __future__ import annotations

from typing import Protocol

from holdall.errors import ReadOnlyError, StoreError, StoreUnavailableError
from holdall.stores.tls import why_unreachable


class LostError(StoreUnavailableError):
    """The connection was lost after the request was sent: it is unknown whether it was carried out."""


class LateError(LostError):
    """No answer came in time: the request may still be carried out, even after later ones."""


class DeniedError(StoreUnavailableError):
    """The server doesn't let this user do it."""


class Drivers(Protocol):
    """The module of a client's exceptions: those of redis-py and valkey-py have the same names."""

    ConnectionError: type[Exception]
    TimeoutError: type[Exception]
    ResponseError: type[Exception]


_CLUSTER = "belongs to a cluster; pass cluster=True (?cluster=1)"
_DOWN = "belongs to a cluster that is down"

# For each class of error: what it says, and the code or the words of such a reply, for a client library that
# lacks the class. The classes alone don't suffice: valkey-py has those of a cluster only in the client of a
# cluster, and neither library has one for what a script may not do.
_REPLIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "BusyLoadingError": ("is still loading its data; try again soon", ("LOADING",)),
    "BusyError": (
        "waits for another program's script to end; try again soon (SCRIPT KILL ends it)",
        ("BUSY",),
    ),
    "AuthenticationError": (
        "asks for another password or user; give it as user:password@ or password=",
        ("NOAUTH", "WRONGPASS", "error: unauthenticated"),
    ),
    "AuthenticationWrongNumberOfArgsError": ("takes no user names; give a password only", ()),
    "NoPermissionError": (
        "doesn't let this user do it; see its ACL",
        ("NOPERM", "can't run this command", "can't access at least one of the keys"),
    ),
    "OutOfMemoryError": ("is full; see maxmemory in its configuration", ("OOM",)),
    "MaxClientsError": (
        "has too many clients; see maxclients in its configuration",
        ("max number of clients",),
    ),
    "MisconfError": (
        "can't write to its disk, and takes no writes until it can; see its log, and its disk",
        ("MISCONF",),
    ),
    "NoReplicasError": (
        "has too few replicas to take a write; see min-replicas-to-write in its configuration",
        ("NOREPLICAS",),
    ),
    "ReadOnlyError": ("is a replica, which takes no writes; connect to its primary", ("READONLY",)),
    "MovedError": (_CLUSTER, ("MOVED",)),
    "AskError": (_CLUSTER, ("ASK",)),
    "ClusterCrossSlotError": (_CLUSTER, ("CROSSSLOT",)),
    "ClusterDownError": (_DOWN, ("CLUSTERDOWN",)),
    "MasterDownError": (_DOWN, ("MASTERDOWN",)),
    "TryAgainError": (
        "belongs to a cluster that is being rearranged; try again soon",
        ("TRYAGAIN", "access a non local key"),
    ),
    "NoClusterError": ("doesn't belong to a cluster; leave cluster= out", ("cluster support disabled",)),
}


def kind_of(error: BaseException) -> str:
    """Return the name of the class of an error reply, also where the client library lacks that class."""
    text, kind = str(error), type(error).__name__
    if kind in _REPLIES:
        return kind
    code = text.partition(" ")[0]
    for name, (_, signs) in _REPLIES.items():
        if any(sign == code or (" " in sign and sign in text) for sign in signs):
            return name
    return kind


def is_reply(error: BaseException) -> bool:
    """Whether the server said it, whatever its class: a server may refuse a connection with a reply."""
    return kind_of(error) in _REPLIES


def translate(error: BaseException, name: str, kind: str | None = None) -> StoreError:
    """Return the StoreError for an error reply of a server; `kind` replaces what `kind_of` returns."""
    kind = kind or kind_of(error)
    says = _REPLIES[kind][0] if kind in _REPLIES else f"replied: {error}"
    made = {"ReadOnlyError": ReadOnlyError, "NoPermissionError": DeniedError}.get(kind, StoreUnavailableError)
    return made(f"the server at {name} {says}")


def unreachable(error: BaseException, name: str, drivers: Drivers) -> StoreError:
    """Return the StoreError for a connection that couldn't be made."""
    if isinstance(error, drivers.ResponseError) or is_reply(error):
        return translate(error, name)
    text = why_unreachable(error, name)
    if text is None and isinstance(error, drivers.TimeoutError):
        text = (
            f"the server at {name} doesn't answer; is it up, is the network, and do both ends agree "
            "on TLS (rediss://)? timeout= says how long to wait"
        )
    elif text is None:
        text = (
            f"no server can be reached at {name}; is it up, are host and port right, "
            "and does it ask for TLS (rediss://)?"
        )
    return StoreUnavailableError(text)
