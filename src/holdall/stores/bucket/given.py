"""A client that a user holds, taken over: its settings and credentials in a client of obstore."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, cast

from holdall.errors import InvalidArgumentError, InvalidTypeError, UnsupportedOperation
from holdall.stores.bucket.driver import asynchronous, driver, is_asynchronous
from holdall.stores.bucket.google import anonymous_account

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_RETRY: Any = {"max_retries": 10, "retry_timeout": timedelta(minutes=1)}
_REFRESH = timedelta(minutes=5)
"""How long credentials that may be renewed hold: the client that they come from renews them in time."""


def taken_over(client: Any, bucket: str | None = None) -> Any:
    """Return a client of obstore for a bucket, with the endpoint, the region, the TLS and the credentials of
    another client.

    Credentials that expire stay in the hands of the client that is given, which is asked again every few
    minutes. It stays open.

    Args:
        client: A store of obstore for S3, Google or Azure; a client, resource or session of boto3; a client
            of aiobotocore; a `google.cloud.storage.Client`; a `BlobServiceClient` or `ContainerClient` of
            Azure; a `CloudPath` or a `UPath`; or a file system of s3fs, gcsfs or adlfs.
        bucket: The name of the bucket or container; None where the client names it.

    Raises:
        InvalidTypeError: The client is none of these.
        InvalidArgumentError: No bucket is named, or the client names another.
        UnsupportedOperation: The credentials can't be taken over.
        MissingDependencyError: obstore isn't installed.
    """
    driver()
    if hasattr(client, "cloud_prefix"):
        named = str(client).removeprefix(client.cloud_prefix).partition("/")[0]
        held = client.client
        if client.cloud_prefix == "s3://":
            return _of_boto(held.client, _one_name(named, bucket), held._extra_args)
        inner = held.service_client if hasattr(held, "service_client") else held.client
        return taken_over(inner, _one_name(named, bucket))
    kind, module = type(client).__name__, type(client).__module__
    if module.partition(".")[0] == "upath":
        from holdall.stores.path.store import system_of

        return taken_over(system_of(client), _one_name(client.path.strip("/").partition("/")[0], bucket))
    if kind in ("S3Store", "GCSStore", "AzureStore"):
        config: dict[str, Any] = client.config
        _one_name(config.get("bucket") or config.get("container_name"), bucket)
        if is_asynchronous(client.credential_provider):
            raise asynchronous()
        return client
    if module.partition(".")[0] in ("s3fs", "gcsfs", "adlfs") and hasattr(client, "storage_options"):
        return _of_filesystem(client, _one_name(None, bucket))
    if module.startswith("boto3.resources") and hasattr(client, "meta"):
        return _of_boto(client.meta.client, _one_name(None, bucket))
    if module == "boto3.session":
        return _of_boto(client.client("s3"), _one_name(None, bucket))
    if module in ("botocore.client", "aiobotocore.client") and kind == "S3":
        return _of_boto(client, _one_name(None, bucket))
    if module.startswith("google.cloud.storage") and kind == "Client":
        url: str = client._connection.API_BASE_URL
        return _of_google(client._credentials, url, _one_name(None, bucket))
    if module.startswith("azure.storage.blob") and kind in ("BlobServiceClient", "ContainerClient"):
        return _of_azure(client, _one_name(getattr(client, "container_name", None), bucket))
    raise InvalidTypeError(
        "expected a client of obstore, boto3, aiobotocore, google-cloud-storage or azure-storage-blob, a "
        f"CloudPath, a UPath, or a file system of s3fs, gcsfs or adlfs, got {module}.{kind}"
    )


def _one_name(named: str | None, bucket: str | None) -> str:
    if bucket is not None and named is not None and bucket != named:
        raise InvalidArgumentError(f"the client is of the bucket {named!r}, not of {bucket!r}")
    found = bucket if bucket is not None else named
    if not found:
        raise InvalidArgumentError("expected the name of a bucket, since the client doesn't name one")
    return found


def _options(url: str, verify: Any = True) -> dict[str, Any]:
    # The machine's bundle wasn't chosen for this client, and obstore trusts the machine's certificates too.
    of_machine = [os.environ.get(name) for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")]
    if isinstance(verify, str) and url.startswith("https://") and verify not in of_machine:
        raise UnsupportedOperation(
            "a client with its own file of certificates can't be taken over; "
            "set SSL_CERT_FILE, and give a client with verify=True"
        )
    # The time of a whole request isn't limited: a large object takes long.
    options: dict[str, Any] = {"connect_timeout": "30s", "read_timeout": "30s", "timeout": "7days"}
    if url.startswith("http://"):
        options["allow_http"] = True
    if verify is False:
        options["allow_invalid_certificates"] = True
    return options


_EXTRA = {
    "RequestPayer": "request_payer",
    "ServerSideEncryption": "server_side_encryption",
    "SSEKMSKeyId": "sse_kms_key_id",
    "BucketKeyEnabled": "sse_bucket_key_enabled",
}
"""What is sent to S3 with each request, by the names of boto3 and of obstore."""


def _of_boto(client: Any, bucket: str, extra: Mapping[str, Any] = _NOTHING) -> Any:
    """Take over a client of boto3 or aiobotocore, and arguments that go with its requests."""
    from obstore.store import S3Store

    # The client is an object of it.
    unsigned = cast(Any, sys.modules["botocore"]).UNSIGNED

    meta = client.meta
    url: str = meta.endpoint_url
    settings: dict[str, Any] = {"region": meta.region_name or "us-east-1"}
    style = cast("dict[str, Any]", meta.config.s3 or {}).get("addressing_style")
    host = url.partition("://")[2].rstrip("/")
    if host not in ("s3.amazonaws.com", f"s3.{meta.region_name}.amazonaws.com"):
        if style == "virtual":
            # Where this is said to obstore, the endpoint names the bucket too.
            scheme = url.partition("://")[0]
            settings |= {"endpoint": f"{scheme}://{bucket}.{host}", "virtual_hosted_style_request": True}
        else:
            settings |= {"endpoint": url, "virtual_hosted_style_request": False}
    elif "." not in bucket and style != "path":
        settings["virtual_hosted_style_request"] = True
    for name, value in extra.items():
        if name not in _EXTRA:
            raise UnsupportedOperation(
                f"{name} of the client can't be taken over, only {', '.join(_EXTRA)}; leave it out, or set a "
                "default for the whole bucket"
            )
        settings[_EXTRA[name]] = True if name == "RequestPayer" else value
    # Neither library has a public name for these two.
    signer, verify = client._request_signer, client._endpoint.http_session._verify
    if meta.config.signature_version is unsigned:
        settings["skip_signature"] = True
    else:
        settings["credential_provider"] = _aws_provider(signer._credentials)
    return S3Store(bucket, client_options=cast(Any, _options(url, verify)), retry_config=_RETRY, **settings)


def _aws_provider(credentials: Any) -> Callable[[], dict[str, Any]]:
    if credentials is None:
        raise UnsupportedOperation(
            "the client has no credentials to take over; give it some, or signature_version=UNSIGNED"
        )
    kinds: Any = sys.modules["botocore.credentials"]
    renewed = isinstance(credentials, kinds.RefreshableCredentials)
    if renewed and type(credentials).__module__.startswith("aiobotocore"):
        raise UnsupportedOperation(
            "credentials of aiobotocore that are renewed belong to its event loop; give a boto3 session"
        )

    def provide() -> dict[str, Any]:
        frozen: Any = credentials.get_frozen_credentials() if renewed else credentials
        settings = {"access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key}
        token = frozen.token
        return {**settings, "token": token, "expires_at": datetime.now(UTC) + _REFRESH if renewed else None}

    return provide


def _of_google(credentials: Any, url: str, bucket: str) -> Any:
    """Take over credentials of google-auth, or None for none, for the server at a URL."""
    from google.auth.credentials import AnonymousCredentials
    from obstore.store import GCSStore

    url = url.rstrip("/")
    settings: dict[str, Any] = {}
    if credentials is None or isinstance(credentials, AnonymousCredentials):
        settings["service_account_key"] = anonymous_account(url)
    else:
        settings["credential_provider"] = _google_provider(credentials)
        if not url.endswith("//storage.googleapis.com"):
            settings["base_url"] = url
    return GCSStore(bucket, client_options=cast(Any, _options(url)), retry_config=_RETRY, **settings)


def _google_provider(credentials: Any) -> Callable[[], dict[str, Any]]:
    def provide() -> dict[str, Any]:
        from google.auth.transport.requests import Request

        if not credentials.valid:
            credentials.refresh(Request())
        # Its moment is in UTC, and doesn't say so.
        expiry = credentials.expiry
        return {"token": credentials.token, "expires_at": expiry and expiry.replace(tzinfo=UTC)}

    return provide


def _of_azure(client: Any, container: str, credential: Any = None) -> Any:
    """Take over a client of Azure, with another credential than its own if one is given."""
    from obstore.store import AzureStore

    # The URL may hold a signature after its path, and the name of a container.
    url: str = client.primary_endpoint.partition("?")[0].rstrip("/")
    if hasattr(client, "container_name"):
        url = url.removesuffix(f"/{client.container_name}")
    settings: dict[str, Any] = {"account_name": client.account_name, "endpoint": url}
    credential = client.credential if credential is None else credential
    if credential is None:
        signature = client.primary_endpoint.partition("?")[2]
        settings |= {"sas_key": signature} if "sig=" in signature else {"skip_signature": True}
    elif hasattr(credential, "account_key"):
        settings["account_key"] = credential.account_key
    elif hasattr(credential, "signature"):
        settings["sas_key"] = credential.signature.lstrip("?")
    elif is_asynchronous(getattr(credential, "get_token", None)):
        raise UnsupportedOperation(
            "an asynchronous credential of Azure belongs to its event loop; give the client the one of the "
            "same name in azure.identity"
        )
    elif hasattr(credential, "get_token"):
        settings["credential_provider"] = _azure_provider(credential)
    else:
        kind = type(credential).__name__
        raise UnsupportedOperation(f"a {kind} of Azure can't be taken over; give an account key or a token")
    return AzureStore(container, client_options=cast(Any, _options(url)), retry_config=_RETRY, **settings)


def _azure_provider(credential: Any) -> Callable[[], dict[str, Any]]:
    def provide() -> dict[str, Any]:
        token = credential.get_token("https://storage.azure.com/.default")
        return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, UTC)}

    return provide


def _of_filesystem(system: Any, bucket: str) -> Any:
    """Return a client of obstore for a bucket, with the settings and the credentials of a file system.

    Raises:
        UnsupportedOperation: They can't be taken over.
    """
    library = type(system).__module__.partition(".")[0]
    return {"s3fs": _of_s3fs, "gcsfs": _of_gcsfs, "adlfs": _of_adlfs}[library](system, bucket)


def _of_s3fs(system: Any, bucket: str) -> Any:
    extra = {**system.s3_additional_kwargs, **system.req_kw}
    if system.session is not None and not system._session_is_owned:
        return _of_boto(system.connect(), bucket, extra)
    # Its own client belongs to an event loop; this one finds credentials in the same places.
    # s3fs has imported these.
    botocore: Any = sys.modules["botocore"]
    names = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "aws_session_token": "token"}
    own = {name: getattr(system, held) for name, held in names.items()} | {
        "endpoint_url": system.endpoint_url
    }
    options: dict[str, Any] = {"use_ssl": system.use_ssl, **{n: v for n, v in own.items() if v is not None}}
    options |= system.client_kwargs
    settings: dict[str, Any] = dict(system.config_kwargs)
    if system.anon:
        options = {name: value for name, value in options.items() if name not in names}
        settings["signature_version"] = botocore.UNSIGNED
    session, config = botocore.session.Session(**system.kwargs), botocore.config.Config(**settings)
    return _of_boto(session.create_client("s3", config=config, **options), bucket, extra)


def _of_gcsfs(system: Any, bucket: str) -> Any:
    return _of_google(system.credentials.credentials, str(system._location), bucket)


def _of_adlfs(system: Any, container: str) -> Any:
    return _of_azure(system.service_client, container, system.sync_credential)
