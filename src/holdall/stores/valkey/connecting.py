"""How a store connects: a URL is a client that we make, and every client is asked for its connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from holdall.errors import InvalidArgumentError, MissingDependencyError, StoreUnavailableError
from holdall.stores.password import Password
from holdall.stores.tls import context_of
from holdall.stores.valkey.errors import Drivers

PLAIN, TLS, SOCKET = ("valkey", "redis"), ("valkeys", "rediss"), "unix"


class Servers(NamedTuple):
    """What a client knows of its servers."""

    seeds: list[tuple[str, int]]
    """Host and port of the server, or of some of a cluster's. The port is 0 where the host says it all: the
    path of a socket, or the name that a Sentinel knows."""
    connect: Callable[[str, int], Any]
    """Makes a connection, which isn't open yet, to a host and port."""
    drivers: Drivers
    is_cluster: bool
    remap: Callable[[str, int], tuple[str, int]] | None
    """Maps the address that a server of a cluster reports to the one that reaches it from here."""


class _Credentials:
    """A user and a password, which is looked up for each connection; a client asks it for them."""

    def __init__(self, username: str | None, password: Password) -> None:
        self._username, self._password = username, password

    def get_credentials(self) -> tuple[str, ...]:
        password = self._password.value() or ""
        return (password,) if self._username is None else (self._username, password)


def driver() -> Any:
    """Import the client library: redis-py, otherwise valkey-py."""
    for name in ("redis", "valkey"):
        try:
            return import_module(name)
        except ImportError:
            continue
        except OSError as error:
            raise StoreUnavailableError(
                f"the client library {name} is installed, and can't be loaded: {error}"
            ) from error
    raise MissingDependencyError("ValkeyStore needs a client library: pip install 'holdall[valkey]'")


def split_url(url: str) -> tuple[str, Password]:
    """Return the URL of a server without its password, and the password.

    Raises:
        InvalidArgumentError: It isn't one, or has what the client libraries would silently leave out.
    """
    try:
        parts = urlsplit(url)
        host, port, path = parts.hostname or "", parts.port, parts.path.strip("/")
    except ValueError:
        # The URL may hold a password, which the error may repeat.
        raise InvalidArgumentError(
            "expected the URL of a server, such as valkey://user:password@host:port/database"
        ) from None
    scheme, known = parts.scheme, (*PLAIN, *TLS, SOCKET)
    if scheme not in known or "://" not in url:
        raise InvalidArgumentError(
            f"expected a URL that begins with {', '.join(f'{name}://' for name in known)}"
        )
    options = parse_qsl(parts.query, keep_blank_values=True)
    if parts.fragment or [name for name, _ in options] not in ([], ["db"]):
        raise InvalidArgumentError(
            "the URL of a ValkeyStore takes only the option 'db'; give the others as keywords. "
            "Store.from_uri takes them in the URL. A '#' or '?' in a password is written %23 or %3F"
        )
    if scheme == SOCKET and (host or port or not path):
        raise InvalidArgumentError("expected the URL of a socket, such as unix:///path/to/socket?db=0")
    if port == 0:
        raise InvalidArgumentError("the port of a server must not be 0")
    # The number of a database may be in the path, as in redis-py, or behind it.
    numbers = [text for _, text in options] + ([path] if path and scheme != SOCKET else [])
    if not all(text.isascii() and text.isdigit() for text in numbers):
        raise InvalidArgumentError(
            f"expected the number of a database after the host, as in {scheme}://localhost:6379/0"
        )
    if len({int(text) for text in numbers}) > 1:
        raise InvalidArgumentError("the URL of a server names two databases; give one")
    number = int(numbers[0]) if numbers else 0
    user = f"{quote(unquote(parts.username), safe='')}@" if parts.username else ""
    password = Password(unquote(parts.password) if parts.password else None)
    if scheme == SOCKET:
        return f"unix://{user}{quote(unquote(parts.path))}{f'?db={number}' if number else ''}", password
    host = f"[{host}]" if ":" in host else host or "localhost"
    database = f"/{number}" if number else ""
    return f"{'rediss' if scheme in TLS else 'valkey'}://{user}{host}:{port or 6379}{database}", password


def client_of(url: str, password: Password, timeout: float, tls: Mapping[str, str | None]) -> Any:
    """Make a client for the server of a URL that `split_url` returned; it isn't connected yet."""
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "protocol": 2}
    if not url.startswith(SOCKET):
        options["socket_keepalive"] = True
    if url.startswith("rediss:"):
        context_of(tls)
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": tls["tls_ca"]}
        options |= {"ssl_certfile": tls["tls_certificate"], "ssl_keyfile": tls["tls_key"]}
    elif any(tls.values()):
        raise InvalidArgumentError("certificates are for TLS: begin the URL with rediss://")
    # The scheme that both libraries know.
    client = driver().from_url(url.replace("valkey:", "redis:", 1), **options)
    settings = client.connection_pool.connection_kwargs
    username = settings.pop("username", None)
    if username or password.setting is not None:
        settings["credential_provider"] = _Credentials(username, password)
    return client


def url_of(scheme: str, location: str, db: int | None = None) -> str:
    """A URL again, of what was decoded: the host follows the last '@', since none can be in it; the path of a
    socket follows the first '@/'."""
    if scheme != SOCKET:
        userinfo, at, rest = location.rpartition("@")
    elif location.startswith("/"):
        userinfo, at, rest = "", "", quote(location)
    else:
        userinfo, at, path = location.partition("@/")
        at, rest = at[:1], quote(at[1:] + path)
    user, colon, password = userinfo.partition(":")
    query = "" if db is None else f"?db={db}"
    return f"{scheme}://{quote(user, safe='')}{colon}{quote(password, safe='')}{at}{rest}{query}"


def servers_of(client: Any, cluster: bool, timeout: float) -> Servers:
    """Look up where a client of redis-py or valkey-py connects to, and how. `cluster` is set if the server of
    another client belongs to a cluster; the timeout is for a client that would wait for a dead server without
    end."""
    modules = [kind.__module__.split(".")[:2] for kind in type(client).__mro__]
    package = next((name for name, *_ in modules if name in ("redis", "valkey")), "")
    nodes: Any = getattr(client, "nodes_manager", None)
    pool: Any = getattr(client, "connection_pool", None)
    if not package or (nodes is None and pool is None) or [package, "asyncio"] in modules:
        hint = "; of a Sentinel pass master_for(...)" if "sentinel" in type(client).__module__ else ""
        raise InvalidArgumentError(
            "the server must be a URL, or a synchronous client of redis-py or valkey-py, "
            f"not {type(client).__name__}{hint}"
        )
    if nodes is not None:
        known = client.get_nodes()
        seeds = [(node.host, node.port) for node in known]
        # All nodes have the same settings but for the address.
        pool = getattr(client, f"get_{package}_connection")(known[0]).connection_pool
    else:
        at = pool.connection_kwargs
        name = getattr(pool, "service_name", None) or at.get("path")
        seeds = [(name, 0) if name else (at.get("host", "localhost"), at.get("port", 6379))]
    is_cluster = cluster or nodes is not None

    def connect(host: str, port: int) -> Any:
        settings = dict(pool.connection_kwargs)
        if not settings.get("socket_timeout"):
            settings["socket_timeout"] = timeout
        if is_cluster:
            settings |= {"host": host, "port": port}
        return pool.connection_class(**settings)

    drivers: Any = import_module(f"{package}.exceptions")
    return Servers(seeds, connect, drivers, is_cluster, getattr(nodes, "remap_host_port", None))
