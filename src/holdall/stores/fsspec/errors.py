"""The errors of the contract for those of drivers."""

from __future__ import annotations

import errno
import socket
from typing import Any

from holdall.errors import StoreError, StoreUnavailableError
from holdall.stores.oserrors import translate

_LOGIN = frozenset(
    ("AuthenticationException", "PasswordRequiredException", "BadAuthenticationType", "LogonFailure")
)
_LOST = frozenset(("NoValidConnectionsError", "SSHException", "ConnectError"))
_SERVED = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG))


class ChangedError(StoreError):
    """The blob was replaced between two requests."""


def failed(error: Exception, what: str, place: str, secrets: list[str]) -> StoreError:
    """Return the error of the contract for one of a driver; its cause, unless that shows a secret, is set."""
    if isinstance(error, StoreError):
        return error
    text = str(error)
    made = _error_of(error, what, place, text)
    shows = [secret for secret in secrets if secret in text or secret in str(error.__context__ or "")]
    for secret in shows:
        made.message = made.message.replace(secret, "***")
    made.key = None
    made.__cause__ = None if shows else error
    made.__suppress_context__ = True
    return made


def _error_of(error: Exception, what: str, place: str, text: str) -> StoreError:
    name = type(error).__name__
    if name in _LOGIN or _status(error) == 401 or (name == "error_perm" and text.startswith("530")):
        return StoreUnavailableError(
            f"{place} refuses the login; check username= and password=, or the key (key_filename=)"
        )
    if name == "BadHostKeyException":
        return StoreUnavailableError(
            f"the host key of {place} isn't the one in known_hosts: the server was set up anew, or this is "
            "another server; compare the keys before you change known_hosts"
        )
    if "not found in known_hosts" in text:
        return StoreUnavailableError(
            f"the host key of {place} isn't in known_hosts; add it (ssh-keyscan prints it), give the file as "
            "known_hosts=, or trust any server with host_key_policy='auto_add'"
        )
    if isinstance(error, socket.gaierror):
        return StoreUnavailableError(f"no such host: {place} ({text}); check its name, and the network")
    if isinstance(error, PermissionError) or _status(error) == 403:
        return StoreUnavailableError(
            f"no permission to {what} at {place}: check the user, and the owner and mode of the file and of "
            "the store's folder"
        )
    if isinstance(error, TimeoutError):
        return StoreUnavailableError(f"{place} doesn't answer; check host, port and network, and timeout=")
    if isinstance(error, ConnectionError | EOFError) or name in _LOST or text == "Socket is closed":
        return StoreUnavailableError(
            f"{place} can't be reached, or closed the connection ({name}: {text}); check host and port, and "
            "whether the server runs"
        )
    if isinstance(error, OSError) and error.errno in _SERVED:
        return translate(error, what)
    return StoreUnavailableError(f"{place} can't {what} ({name}: {text})")


def _status(error: Any) -> object:
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None) or getattr(error, "status_code", None)
