"""Where a store connects to: a URL of PostgreSQL, without its password, as libpq's parameters."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any
from urllib.parse import quote

from holdall.errors import InvalidArgumentError, MissingDependencyError
from holdall.stores.password import Password

SCHEMES = ("postgresql", "postgres")
_SECRETS = ("oauth_client_secret", "scram_client_key", "scram_server_key")


def driver() -> Any:
    """Import psycopg."""
    try:
        return import_module("psycopg")
    except ImportError as error:
        raise MissingDependencyError("SqlStore needs psycopg 3: pip install 'holdall[postgresql]'") from error


def split_url(url: str) -> tuple[dict[str, str], Password | None]:
    """Return the parameters of libpq that a URL holds, without the password, and the password.

    Raises:
        InvalidArgumentError: It isn't a URL of PostgreSQL.
    """
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        raise InvalidArgumentError("expected a URL such as postgresql://user:password@host:5432/database")
    psycopg = driver()
    try:
        parameters: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        # The text of the error may hold the password.
        raise InvalidArgumentError(
            "expected a URL such as postgresql://user:password@host:5432/database, with options that libpq "
            "knows, such as ?sslmode=require; write '@', '/', ':', '?' and '%' in a password as "
            "%40, %2F, %3A, %3F and %25"
        ) from None
    if "sslpassword" in parameters:
        raise InvalidArgumentError("sslpassword isn't taken; give a key without a password as sslkey=")
    for name in _SECRETS:
        if name in parameters:
            raise InvalidArgumentError(
                f"{name} isn't taken, since the URL of a store is shown and pickled; write it into libpq's "
                "service file, and give the name of the service as service="
            )
    secret = parameters.pop("password", None)
    for name in ("host", "hostaddr", "dbname", "user", "port"):
        if "\0" in str(parameters.get(name, "")):
            raise InvalidArgumentError("a URL of PostgreSQL has no NUL")
    return {name: str(value) for name, value in parameters.items()}, Password(secret) if secret else None


def check_options(names: Iterable[str]) -> None:
    """Refuse an option that libpq doesn't know."""
    known = {each.keyword.decode() for each in driver().pq.Conninfo.get_defaults()}
    for name in names:
        if name not in known:
            raise InvalidArgumentError(
                f"postgresql:// has no option {name!r}; known are table, password, timeout, prepare, and "
                "libpq's parameters, such as sslmode"
            )


def url_of(parameters: dict[str, str]) -> str:
    """Return the URL that holds these parameters.

    >>> url_of({"host": "db.example.org", "user": "app", "dbname": "blobs", "sslmode": "require"})
    'postgresql://app@db.example.org/blobs?sslmode=require'
    """
    rest = dict(parameters)
    user = quote(rest.pop("user"), safe="") + "@" if "user" in rest else ""
    host = ""
    given = rest.get("host", "")
    if given and not given.startswith(("/", "@")) and "," not in given:
        host = f"[{rest.pop('host')}]" if ":" in given else rest.pop("host")
        if "port" in rest:
            host += f":{rest.pop('port')}"
    path = f"/{quote(rest.pop('dbname'), safe='')}" if "dbname" in rest else ""
    query = "&".join(f"{name}={quote(value, safe='/,:')}" for name, value in rest.items())
    return f"postgresql://{user}{host}{path}{f'?{query}' if query else ''}"


def place_name(parameters: dict[str, str]) -> str:
    """Return how a message names the server and the database."""
    host = parameters.get("host") or parameters.get("hostaddr") or "localhost"
    return f"{host}:{parameters.get('port', '5432')}/{parameters.get('dbname') or parameters.get('user', '')}"
