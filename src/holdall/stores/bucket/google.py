"""The bearer tokens of Google, for the calls that obstore lacks: it shows none that it gets itself."""

from __future__ import annotations

import json
import threading
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from holdall.errors import StoreUnavailableError, UnsupportedOperation
from holdall.stopping import away
from holdall.stores.bucket.endpoints import service_account, variable

_SCOPES: Final = ("https://www.googleapis.com/auth/devstorage.read_write",)

_lock = threading.Lock()
_found: dict[str, Any] = {}
"""Credentials of google-auth, by where they come from: each is asked for a token once an hour."""


def anonymous_account(url: str) -> str:
    """Return the key of an account that sends a server no credentials. Without it obstore asks for a token at
    each write, `skip_signature` or not."""
    keys = {"client_email": "", "private_key": "", "private_key_id": ""}
    return json.dumps({"gcs_base_url": url, "disable_oauth": True, **keys})


def google_token(client: Any) -> str | None:
    """Return the bearer token of a client of obstore for Google; None if its server wants none.

    Where the client finds its credentials by itself, google-auth finds the same ones.

    Raises:
        UnsupportedOperation: google-auth isn't installed.
        StoreUnavailableError: There are no credentials, or Google gives no token for them.
    """
    config: dict[str, Any] = client.config
    if config.get("bearer_token"):
        return str(config["bearer_token"])
    if client.credential_provider is not None:
        return str(away(client.credential_provider)["token"])
    if _wants_none(config):
        return None
    if not _has_library():
        raise UnsupportedOperation(
            "this call of Google needs a token, and obstore shows none of its own: pip install "
            "'holdall[google]', or give the client a credential_provider"
        )
    return str(away(lambda: _own_token(config)))


def has_token(client: Any) -> bool:
    """Return whether `google_token` knows where to get one."""
    config: dict[str, Any] = client.config
    known = config.get("bearer_token") or client.credential_provider is not None or _wants_none(config)
    return bool(known) or _has_library()


def _wants_none(config: dict[str, Any]) -> bool:
    anonymous = str(config.get("skip_signature", "")).lower() == "true"
    return anonymous or bool(service_account(config).get("disable_oauth"))


def _has_library() -> bool:
    try:
        return find_spec("google.auth") is not None and find_spec("requests") is not None
    except ImportError:
        return False


def _own_token(config: dict[str, Any]) -> str:
    auth: Any = import_module("google.auth")
    request: Any = import_module("google.auth.transport.requests").Request()
    key = service_account(config)
    path = config.get("application_credentials") or variable("GOOGLE_APPLICATION_CREDENTIALS")
    place = json.dumps([key, path])
    try:
        with _lock:
            credentials = _found.get(place)
            if credentials is None:
                if key:
                    accounts: Any = import_module("google.oauth2.service_account")
                    credentials = accounts.Credentials.from_service_account_info(key, scopes=_SCOPES)
                elif path:
                    credentials, _ = auth.load_credentials_from_file(path, scopes=_SCOPES)
                else:
                    credentials, _ = auth.default(scopes=_SCOPES)
                _found[place] = credentials
            if not credentials.valid:
                credentials.refresh(request)
            return credentials.token
    except (auth.exceptions.GoogleAuthError, ValueError, OSError) as error:
        raise StoreUnavailableError(
            f"Google gives no token for this call: {error}; set GOOGLE_APPLICATION_CREDENTIALS, or log in by "
            "gcloud auth application-default login"
        ) from error
