"""The credentials that are sent to the server: of the arguments, of the URL, or of the file `.netrc`."""

from __future__ import annotations

import base64
import logging
import os

from holdall.errors import InvalidArgumentError
from holdall.stores.password import Password

_log = logging.getLogger("holdall")


class Credentials:
    """Where the credentials come from. A reference to a password is read for each request.

    Args:
        host: The server's, without a port.
        username: Of basic authentication (RFC 7617).
        password: The same.
        token: Of bearer authentication (RFC 6750).
        netrc: Whether the file `.netrc` is asked if nothing else is given.
    """

    def __init__(
        self, host: str, username: str | None, password: Password | None, token: Password | None, netrc: bool
    ) -> None:
        if token is not None and (username is not None or password is not None):
            raise InvalidArgumentError("give a token, or a username and a password, not both")
        if password is not None and username is None:
            raise InvalidArgumentError("a password needs a username; a token is given as token=")
        if username is not None and (":" in username or not _is_text(username)):
            raise InvalidArgumentError("a username has no ':', and is a str that UTF-8 can spell")
        self._host, self._username, self._password, self._token = host, username, password, token
        self._netrc = netrc and token is None and password is None
        self._found: tuple[tuple[str, str] | None] | None = None

    def __repr__(self) -> str:
        return "Credentials('***')"

    def header(self) -> str | None:
        """Return the value of the header `Authorization`; None for no credentials."""
        if self._token is not None:
            token = self._token.value() or ""
            if not token.isascii() or not token.isprintable():
                raise InvalidArgumentError("a token has printable ASCII characters only")
            return f"Bearer {token}"
        username, password = self._username, None if self._password is None else self._password.value()
        if self._netrc:
            if self._found is None:
                # Once, since each request asks.
                self._found = (_look_up(self._host, username),)
            username, password = self._found[0] or (username, password)
        if username is None:
            return None
        pair = f"{username}:{password or ''}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def _is_text(text: str) -> bool:
    return text.isprintable() or not any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in text)


def _look_up(host: str, username: str | None) -> tuple[str, str] | None:
    """Look a host up in the file that the environment variable `NETRC` names, otherwise in `~/.netrc`."""
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    if not os.path.isfile(path):
        return None
    from netrc import NetrcParseError, netrc

    try:
        found = netrc(path).authenticators(host)
    except (NetrcParseError, OSError, UnicodeDecodeError) as error:
        # Its text may hold a password.
        _log.warning("%s can't be read (%s); no credentials are taken from it", path, type(error).__name__)
        return None
    if found is None or (username is not None and username != found[0]):
        return None
    return found[0] or "", found[2] or ""
