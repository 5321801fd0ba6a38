"""The options of a file system, some of which are secrets that no repr, pickle or message shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from holdall.errors import UnsupportedOperation
from holdall.stores.password import Password

_secret = re.compile(r"pass|secret|token|key|cred|auth|sas|cookie|header|client", re.IGNORECASE).search
_HARMLESS: Final = frozenset(("key_filename", "look_for_keys", "host_key_policy", "auth_timeout", "author"))


class Hidden:
    """The value of an option that is a secret, or that may hold one.

    >>> Hidden("secret")
    '***'
    """

    __slots__ = ("_given",)

    def __init__(self, given: object) -> None:
        self._given: Any = Password(given) if isinstance(given, str | Password) else given

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> Any:
        raise UnsupportedOperation(
            "a password, and any other option that may be a secret, is never pickled; to open the store in "
            "another process, give a reference that is read there: password='env:NAME' for an environment "
            "variable, or 'file:PATH'"
        )

    @property
    def setting(self) -> object:
        """What opens the store again: a reference as it is, the secret itself out of sight."""
        if isinstance(self._given, Password):
            reference = self._given.setting
            return reference if isinstance(reference, str) else self
        return self

    def value(self) -> Any:
        """The secret; a reference is read now."""
        return self._given.value() if isinstance(self._given, Password) else self._given


def hide(options: Mapping[str, object]) -> dict[str, object]:
    """Return the options with each that may be a secret out of sight.

    >>> hide({"password": "secret", "port": 22})
    {'password': '***', 'port': 22}
    """
    return {name: _hide(name, value) for name, value in options.items()}


def _hide(name: str, value: object) -> object:
    if value is None or isinstance(value, bool | Hidden) or name in _HARMLESS or not _secret(name):
        return value
    return Hidden(value)


def settings_of(options: Mapping[str, object]) -> dict[str, object]:
    """Return what a pickle holds of the options."""
    return {name: value.setting if isinstance(value, Hidden) else value for name, value in options.items()}


def values_of(options: Mapping[str, object]) -> dict[str, Any]:
    """Return the options as the file system takes them."""
    return {name: value.value() if isinstance(value, Hidden) else value for name, value in options.items()}


def secrets_of(options: Mapping[str, object]) -> list[str]:
    """Return the secrets that a message mustn't show."""
    found: list[str] = []
    for value in options.values():
        if isinstance(value, Hidden):
            secret: Any = value.value()
            # The first of a pair is a username.
            parts = cast("list[object]", secret[1:] if isinstance(secret, list | tuple) else [secret])
            found += [each for each in parts if isinstance(each, str) and each]
    return found
