"""The clients of obstore that stores ask: one a process and settings."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from holdall.errors import InvalidArgumentError
from holdall.forks import begin_anew, in_child
from holdall.stores.bucket.clouds import AZURE, GOOGLE, S3, Cloud, cloud_of
from holdall.stores.bucket.connection import parse_connection
from holdall.stores.bucket.driver import driver
from holdall.stores.bucket.endpoints import check_endpoint, endpoint_in, endpoint_of
from holdall.stores.bucket.errors import BucketPlace
from holdall.stores.bucket.google import anonymous_account


class Clients(NamedTuple):
    """The clients of one bucket in one process."""

    client: Any
    """What retries."""
    once: Any
    """What asks once: the answer to a second conditional put would say what the first one did."""
    bulk: Any
    """What deletes many objects by one request, where there is one. On S3 the others delete each by its own,
    whose URL can spell what XML can't."""
    cloud: Cloud
    place: BucketPlace
    waiting: dict[tuple[str, int], Any]
    """Those that `sending` returned."""

    def sending(self, by: str, size: int) -> Any:
        """Return a client like one of these, for requests that together send `size` bytes. To the HTTP client
        of obstore, the time to send a request counts as time between two bytes of its answer: this client
        waits for as much longer as a slow line may take."""
        known = by, size // _SLOWEST
        if known not in self.waiting:
            self.waiting[known] = _rebuilt(getattr(self, by), {}, None, known[1])
        return self.waiting[known]


_SLOWEST = 1 << 17
"""Bytes that a slow line sends in a second."""


class Options(NamedTuple):
    """The settings of a bucket, but for its secret."""

    region: str | None = None
    endpoint: str | None = None
    """The URL of the server; None for the cloud's own."""
    anonymous: bool = False
    """Whether requests are sent without credentials."""
    account: str | None = None
    """For Azure."""
    key: str | None = None
    """The id of an access key."""
    timeout: float = 30.0
    """Seconds to wait for a connection, and between two bytes; retries go on for twice as long."""


class Settings:
    """What clients are made of: equal settings share them.

    Args:
        cloud: The kind of storage.
        bucket: Its name, or that of a container.
        options: The other settings.
        secret: Returns the secret that belongs to the key.
        given: A client of obstore to use instead of all these.
    """

    def __init__(
        self,
        cloud: Cloud,
        bucket: str,
        options: Options = Options(),  # noqa: B008 - it can't be changed
        secret: Callable[[], str | None] = lambda: None,
        *,
        given: Any = None,
    ) -> None:
        self.cloud, self.bucket, self._given = cloud, bucket, given
        self._options, self._secret = options, secret
        self.held: Clients | None = None
        """The clients of this process, once they are made, which takes a moment."""
        begin_anew(self, Settings._after_fork)

    def _after_fork(self) -> None:
        # To free what a fork inherited would wait for threads of the parent.
        _inherited.append(self.held)
        self.held = None

    def clients(self) -> Clients:
        """Return the clients of this process."""
        held = self.held
        if held is None:
            driver()
            held = self.held = self._make_clients()
        return held

    def _make_clients(self) -> Clients:
        if self._given is not None:
            return self._around(_rebuilt(self._given, {**_SINGLE[self.cloud.kind]}, None))
        secret = self._secret()
        known = (os.getpid(), self.cloud.kind, self.bucket, self._options, secret, _environment())
        found = _shared.get(known)
        if found is None:
            config = _CONFIGS[self.cloud.kind](self._options, secret) | _SINGLE[self.cloud.kind]
            client = _new(self.cloud, self.bucket, config, self._options.timeout)
            found = _shared.setdefault(known, self._around(client))
        return found

    def _around(self, client: Any) -> Clients:
        once, bulk = _rebuilt(client, {}, 0), _rebuilt(client, _BULK[self.cloud.kind], None)
        return Clients(client, once, bulk, self.cloud, _place(client), {})


_SINGLE: dict[str, dict[str, Any]] = {
    S3.kind: {"disable_bulk_delete": True},
    GOOGLE.kind: {},
    AZURE.kind: {},
}
_control = re.compile(r"[\0-\x1f\x7f]").search
_is_credential = re.compile(
    r"AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|(DEFAULT_)?REGION)|AZURE_(STORAGE_)?ACCOUNT_NAME"
).fullmatch
_BULK = {**_SINGLE, S3.kind: {"disable_bulk_delete": False}}

_shared: dict[tuple[Any, ...], Clients] = {}
_inherited: list[Any] = []


@in_child
def _forget() -> None:
    _inherited.append(dict(_shared))
    _shared.clear()


def _environment() -> tuple[tuple[str, str], ...]:
    """What obstore reads of the environment when a client is made."""
    names = ("AWS_", "AZURE_", "GOOGLE_")
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(names)))


def _new(cloud: Cloud, bucket: str, config: dict[str, Any], timeout: float) -> Any:
    url = endpoint_in(cloud, config)
    if url:
        check_endpoint(url)
    _check_line({name: value for name, value in _environment() if _is_credential(name)} | config)
    wait = f"{max(int(timeout * 1000), 1)}ms"
    # The time of a whole request isn't limited: a large object takes long.
    options: dict[str, Any] = {"connect_timeout": wait, "read_timeout": wait, "timeout": "7days"}
    if url.lower().startswith("http://"):
        options["allow_http"] = True
    retry = {"max_retries": 10, "retry_timeout": timedelta(seconds=2 * timeout)}
    try:
        # A class of obstore's extension itself, since the one that obstore.store makes of it is of the first
        # copy of the extension.
        make = getattr(driver()._store, cloud.kind)
        return make(bucket, config=config, client_options=options, retry_config=retry)
    except (ValueError, driver().exceptions.BaseError) as error:
        message = str(error).partition("\n")[0]
        if "Account must be specified" in message:
            raise InvalidArgumentError(
                f"the storage account of the container {bucket!r} isn't known: give account=, or set "
                "AZURE_STORAGE_ACCOUNT_NAME or AZURE_STORAGE_CONNECTION_STRING"
            ) from None
        raise InvalidArgumentError(
            f"can't open the bucket {bucket!r} on {cloud.name} with these settings: {message:.200}"
        ) from None


def _check_line(settings: dict[str, Any]) -> None:
    """Refuse what can't stand in a header of HTTP, such as the end of a line: obstore would panic."""
    for name, value in settings.items():
        # The JSON of a service account may have several lines.
        if name != "service_account_key" and isinstance(value, str) and _control(value):
            raise InvalidArgumentError(
                f"{name} holds a line break or another control character: take it out, as with .strip()"
            )


def _rebuilt(client: Any, changes: dict[str, Any], retries: int | None, seconds: int = 0) -> Any:
    """Return another client with the settings of one, in the copy of obstore that this process uses. It waits
    some seconds longer for an answer."""
    make = getattr(driver()._store, type(client).__name__)
    retry: Any = dict(client.retry_config or {})
    if retries is not None:
        retry["max_retries"] = retries
    config: dict[str, Any] = client.config
    options: dict[str, Any] = dict(client.client_options or {})
    wait = re.fullmatch(r"(\d+)(m?s)", str(options.get("read_timeout")))
    if wait is not None and seconds:
        options["read_timeout"] = f"{int(wait[1]) * (1 if wait[2] == 'ms' else 1000) + seconds * 1000}ms"
    return make(
        prefix=client.prefix,
        config={**config, **changes},
        client_options=options or None,
        retry_config=retry or None,
        credential_provider=client.credential_provider,
    )


def _place(client: Any) -> BucketPlace:
    config: dict[str, Any] = client.config
    cloud = cloud_of(client)
    host = endpoint_of(client).partition("://")[2].partition("/")[0]
    if not host:
        host = {S3: "s3.amazonaws.com", GOOGLE: "storage.googleapis.com"}.get(cloud) or (
            f"{config.get('account_name', '?')}.blob.core.windows.net"
        )
    return BucketPlace(cloud, host, str(config.get("bucket") or config.get("container_name")))


def _config_of_s3(options: Options, secret: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if options.region is not None:
        config["region"] = options.region
    if options.endpoint is not None:
        config["endpoint"] = options.endpoint
    if options.anonymous:
        config["skip_signature"] = True
    elif options.key is not None:
        config |= {"access_key_id": options.key, "secret_access_key": secret or ""}
    elif not os.environ.get("AWS_ACCESS_KEY_ID"):
        config |= _profile(options.region)
    return config


def _profile(region: str | None) -> dict[str, Any]:
    """Return the keys of a profile (AWS_PROFILE, or `default`), which obstore doesn't look for."""
    path = os.path.expanduser(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
    name = os.environ.get("AWS_PROFILE") or "default"
    if not os.path.exists(path):
        return _without_profile(path)
    from configparser import ConfigParser, Error

    parser = ConfigParser(interpolation=None)
    try:
        parser.read(path)
    except Error:
        # The text of the error shows a line of the file.
        raise InvalidArgumentError(f"{path!r} isn't a file of credentials that can be read") from None
    if not parser.has_section(name):
        return _without_profile(path)
    names = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
    }
    section = parser[name]
    config = {ours: section[theirs] for theirs, ours in names.items() if theirs in section}
    if region is None and "region" in section:
        config["region"] = section["region"]
    return config


def _without_profile(path: str) -> dict[str, Any]:
    """Refuse a named profile that the file lacks: other credentials aren't what the user asked for."""
    if name := os.environ.get("AWS_PROFILE"):
        raise InvalidArgumentError(
            f"AWS_PROFILE names the profile {name!r}, and {path!r} lacks keys for it; correct the name; for "
            "a profile with SSO or a role, pass a boto3 session to BucketStore.from_client"
        )
    return {}


def _config_of_google(options: Options, secret: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if options.anonymous:
        account = anonymous_account(options.endpoint or "https://storage.googleapis.com")
        return {"service_account_key": account, "skip_signature": True}
    if options.endpoint is not None:
        config["base_url"] = options.endpoint
    if secret is not None and secret.lstrip().startswith("{"):
        config["service_account_key"] = secret
    elif secret is not None:
        if not os.path.isfile(secret):
            # It isn't shown, since it may be a secret.
            raise InvalidArgumentError(
                "secret= of Google Cloud Storage must be the JSON of a service account's key, or the path of "
                "its file; no file has this path"
            )
        config["service_account"] = secret
    return config


def _config_of_azure(options: Options, secret: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {}
    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if text and options.account is None and secret is None:
        config |= parse_connection(text)
    if options.account is not None or options.key is not None:
        config["account_name"] = options.account if options.account is not None else options.key
    if options.endpoint is not None:
        config["endpoint"] = options.endpoint
    if options.anonymous:
        config["skip_signature"] = True
    elif secret is not None:
        config["sas_key" if "sig=" in secret else "account_key"] = secret.lstrip("?")
    return config


_CONFIGS = {S3.kind: _config_of_s3, GOOGLE.kind: _config_of_google, AZURE.kind: _config_of_azure}
