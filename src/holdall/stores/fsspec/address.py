"""From a URL to the class of a file system, its options, and a path in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from holdall.errors import InvalidArgumentError
from holdall.stores.fsspec.driver import SERVERS, class_of
from holdall.stores.fsspec.options import Hidden, hide

_url = re.compile(r"([A-Za-z][A-Za-z0-9+.\-_]*)://(.*)", re.DOTALL).fullmatch
_escape = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_WEBDAV = {"webdav": "http", "dav": "http", "webdavs": "https", "davs": "https"}


class Address(NamedTuple):
    """Where a store is."""

    url: str
    """Without a password."""
    place: str
    """What messages call it: the scheme, the user and the host."""
    kind: Any
    """The class of the file system."""
    options: dict[str, object]
    """Its arguments, with secrets out of sight."""
    root: str
    """A path of the file system."""
    password: object
    """What the URL or the arguments say, out of sight."""


def parse(url: str, options: Mapping[str, object], username: str | None, password: object) -> Address:
    """Parse a URL.

    Args:
        url: Percent-encoded; it may hold a username and a password.
        options: Other arguments of the file system.
        username: Instead of the one in the URL.
        password: The same.

    Raises:
        InvalidArgumentError: It can't be opened.
        MissingDependencyError: A package isn't installed.
    """
    found = _url(url)
    if found is None or "::" in url:
        raise InvalidArgumentError(
            "expected a URL such as sftp://host/folder, or a file system of fsspec; for a chain of URLs, "
            "give the file system and the path that fsspec.core.url_to_fs returns"
        )
    scheme, rest = found[1].lower(), found[2]
    if "\0" in rest or _escape(rest):
        # No message shows the text, which may hold a password.
        raise InvalidArgumentError(
            f"{scheme}://: a '%' without two hexadecimal digits, or a NUL; write %25 for a percent sign"
        )
    if scheme in SERVERS:
        return _of_server(scheme, rest, options, username, password)
    kind = class_of(scheme)
    given: dict[str, object] = dict(options)
    if username is not None:
        given["username"] = username
    if password is not None:
        given["password"] = password
    clear = re.sub(r"\A([^/@]*):[^/@]*@", r"\1:***@", rest)
    if clear != rest and scheme in ("file", "local", "memory"):
        clear = rest
    decoded = unquote(f"{scheme}://{rest}")
    taken: dict[str, object] = dict(kind._get_kwargs_from_urls(decoded))
    return Address(
        f"{scheme}://{clear}",
        f"{scheme}://{clear}",
        kind,
        hide({**taken, **given}),
        str(kind._strip_protocol(decoded)),
        password,
    )


def _of_server(
    scheme: str, rest: str, options: Mapping[str, object], username: str | None, password: object
) -> Address:
    authority, slash, path = rest.partition("/")
    user, at, where = authority.rpartition("@")
    host, port = _split(scheme, where)
    if at:
        name, colon, secret = user.partition(":")
        if (username is not None and name) or (password is not None and colon):
            raise InvalidArgumentError("credentials are given twice: in the URL, and as arguments")
        username = unquote(name) or username
        password = Hidden(unquote(secret)) if colon else password
    kind = class_of(scheme)
    for name in ("host", "base_url", "port", "username", "user"):
        if name in options and (name != "port" or port is not None):
            raise InvalidArgumentError(f"{name} is given twice: in the URL, and as an argument")
    shown = f"{quote(username, safe='')}@" if username else ""
    origin = f"{scheme}://{shown}{where}"
    given = hide(options)
    if scheme in _WEBDAV:
        given.setdefault("timeout", 30.0)
        given["base_url"] = f"{_WEBDAV[scheme]}://{where}"
        if username is not None:
            given["auth"] = _Pair(username, password)
    else:
        given["host"] = host
        given |= {} if port is None else {"port": port}
        named = "user" if scheme in ("hdfs", "arrow_hdfs", "webhdfs") else "username"
        given |= {} if username is None else {named: username}
        given |= {} if password is None else {"password": password}
    return Address(f"{origin}{slash}{path}", origin, kind, given, unquote(f"{slash}{path}"), password)


class _Pair(Hidden):
    """A username and a password, which may be a reference."""

    __slots__ = ("_secret",)

    def __init__(self, username: str, secret: Any) -> None:
        super().__init__((username, None))
        self._secret = secret

    def value(self) -> Any:
        return self._given[0], self._secret.value() if isinstance(self._secret, Hidden) else ""


def _split(scheme: str, where: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@/]+)(?::([0-9]+))?", where)
    if found is None or (found[2] and not 0 < int(found[2]) < 65536):
        raise InvalidArgumentError(
            f"expected {scheme}://host/folder, or {scheme}://user@host:port/folder: its host or port is "
            "missing, or isn't valid"
        )
    return found[1].strip("[]"), int(found[2]) if found[2] else None
