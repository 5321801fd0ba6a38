"""The server that a client of obstore asks, and what else it reads of the environment without showing it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from holdall.errors import InvalidArgumentError
from holdall.stores.bucket.clouds import AZURE, GOOGLE, Cloud, cloud_of

_loopback = re.compile(r"(?:(?:.+\.)?localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?", re.IGNORECASE).fullmatch

_server = re.compile(
    r"https?://(?:[^\s/?#@:\[\]]+|\[[\da-f:.]+\])(?::(\d{1,5}))?(?:/[^\s?#]*)?", re.IGNORECASE
).fullmatch


def check_endpoint(url: str) -> None:
    """Refuse what isn't the URL of a server: obstore would take the names of objects for parts of a query, or
    panic."""
    found = _server(url)
    if found is None or int(found[1] or 1) > 65535:
        raise InvalidArgumentError(
            "an endpoint (endpoint=, or in the environment) must be a URL such as https://host:port, without "
            f"a user, a query (?) or a fragment (#), not {re.sub('//.*@', '//...@', url)!r}"
        )


def endpoint_of(client: Any) -> str:
    """Return the URL of the server that a client of obstore was given; empty for that of the cloud.

    The client reads the environment too, and shows nothing of what it found there.
    """
    return endpoint_in(cloud_of(client), client.config)


def endpoint_in(cloud: Cloud, config: dict[str, Any]) -> str:
    """Return the same by the settings that a client has, or will have."""
    if cloud is GOOGLE:
        given = config.get("base_url") or os.environ.get("GOOGLE_BASE_URL")
        return str(given or service_account(config).get("gcs_base_url") or "")
    if cloud is AZURE:
        given = config.get("endpoint") or variable("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
        emulated = config.get("use_emulator") or variable("AZURE_STORAGE_USE_EMULATOR", "AZURE_USE_EMULATOR")
        # Where obstore looks for Azurite.
        azurite = "http://127.0.0.1:10000" if str(emulated).lower() in ("true", "1", "yes", "on") else ""
        return str(given or azurite)
    return str(config.get("endpoint") or variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"))


def is_loopback(host: str) -> bool:
    """Return whether a host, maybe with a port, is this machine by its name.

    >>> is_loopback("127.0.0.1:9000"), is_loopback("bucket.localhost"), is_loopback("127.example.org")
    (True, True, False)
    """
    return _loopback(host) is not None


def variable(*names: str) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def service_account(config: dict[str, Any]) -> dict[str, Any]:
    """Return the key of a service account that a client was given; an empty one if it wasn't."""
    text = config.get("service_account_key") or variable("GOOGLE_SERVICE_ACCOUNT_KEY")
    path = config.get("service_account") or variable("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH")
    try:
        return json.loads(text or Path(path).read_text()) if text or path else {}
    except (OSError, ValueError):
        # Without a key that can be read obstore itself makes no request.
        return {}
