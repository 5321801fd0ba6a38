"""A password, or where it is: what no repr, traceback or pickle shows."""

from __future__ import annotations

import os
from typing import Any

from holdall.errors import InvalidArgumentError, UnsupportedOperation
from holdall.keys import is_utf8

_LONGEST = 1 << 16


class Password:
    """The password of a server as it was given: itself, or a reference that is read for each connection.

    Args:
        given: The password; `env:NAME` for that of an environment variable; `file:PATH` for the first line
            of a file; None for none.

    Raises:
        InvalidArgumentError: It isn't a str, or what it refers to isn't there.

    >>> Password("secret")
    Password('***')
    """

    __slots__ = ("_given",)

    def __init__(self, given: object) -> None:
        self._given: object = given._given if isinstance(given, Password) else given
        self.value()

    def __repr__(self) -> str:
        return "Password('***')" if self._given is not None else "Password(None)"

    @property
    def setting(self) -> str | Password | None:
        """What opens the store again: a reference as it is, the password itself out of sight."""
        given = self._given
        if given is None:
            return None
        return given if isinstance(given, str) and _is_reference(given) else self

    def __reduce__(self) -> Any:
        raise UnsupportedOperation(
            "a password is never pickled; to open the store in another process, give a "
            "reference that is read there: password='env:NAME' for an environment variable, or 'file:PATH'"
        )

    def value(self) -> str | None:
        """The password itself."""
        given = self._given
        if given is None:
            return None
        if not isinstance(given, str) or not is_utf8(given):
            raise InvalidArgumentError("a password must be a str that UTF-8 can spell")
        if not _is_reference(given):
            return given
        kind, _, name = given.partition(":")
        if kind == "env":
            if name not in os.environ:
                raise InvalidArgumentError(
                    f"the environment variable {name} isn't set; it must hold the password of the server"
                )
            text = os.environ[name]
        else:
            text = _first_line(name)
        if not is_utf8(text):
            raise InvalidArgumentError(f"what {given} refers to isn't a password: UTF-8 can't spell it")
        return text


def _is_reference(given: str) -> bool:
    return given.startswith(("env:", "file:"))


def _first_line(path: str) -> str:
    try:
        with open(os.path.expanduser(path), "rb") as file:
            data = file.read(_LONGEST)
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(
            f"the file {path!r}, which must hold the password of the server, can't be read: {error}"
        ) from error
    return data.decode("utf-8", "surrogateescape").partition("\n")[0].removesuffix("\r")
