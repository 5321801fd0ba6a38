"""A client that a user holds, taken over: its settings and credentials in a client of obstore."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from inspect import iscoroutinefunction
from typing import Any, cast

from holdall.errors import InvalidArgumentError, InvalidTypeError, UnsupportedOperation

__all__ = ["taken_over"]

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
            Azure; or a `CloudPath`.
        bucket: The name of the bucket or container; None where the client names it.

    Raises:
        InvalidTypeError: The client is none of these.
        InvalidArgumentError: No bucket is named, or the client names another.
        UnsupportedOperation: The credentials can't be taken over.
    """
    if hasattr(client, "cloud_prefix"):
        named = str(client).removeprefix(client.cloud_prefix).partition("/")[0]
        held = client.client
        inner = held.service_client if hasattr(held, "service_client") else held.client
        return taken_over(inner, _one_name(named, bucket))
    kind, module = type(client).__name__, type(client).__module__
    if kind in ("S3Store", "GCSStore", "AzureStore"):
        config: dict[str, Any] = client.config
        _one_name(config.get("bucket") or config.get("container_name"), bucket)
        return client
    if module.startswith("boto3.resources") and hasattr(client, "meta"):
        return _of_boto(client.meta.client, _one_name(None, bucket))
    if module == "boto3.session":
        return _of_boto(client.client("s3"), _one_name(None, bucket))
    if module in ("botocore.client", "aiobotocore.client") and kind == "S3":
        return _of_boto(client, _one_name(None, bucket))
    if module.startswith("google.cloud.storage") and kind == "Client":
        return _of_google(client, _one_name(None, bucket))
    if module.startswith("azure.storage.blob") and kind in ("BlobServiceClient", "ContainerClient"):
        return _of_azure(client, _one_name(getattr(client, "container_name", None), bucket))
    raise InvalidTypeError(
        "expected a client of obstore, boto3, aiobotocore, google-cloud-storage or azure-storage-blob, or a "
        f"CloudPath, got a {module}.{kind}"
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
    options: dict[str, Any] = {"connect_timeout": "30s"}
    if url.startswith("http://"):
        options["allow_http"] = True
    if verify is False:
        options["allow_invalid_certificates"] = True
    return options


# --- S3 ---


def _of_boto(client: Any, bucket: str) -> Any:
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
    # Neither library has a public name for these two.
    signer, verify = client._request_signer, client._endpoint.http_session._verify
    if meta.config.signature_version is unsigned:
        settings["skip_signature"] = True
    else:
        settings["credential_provider"] = _aws_provider(signer._credentials)
    return S3Store(bucket, client_options=cast(Any, _options(url, verify)), **settings)


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
        told = {"access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key}
        token = frozen.token
        return {**told, "token": token, "expires_at": datetime.now(UTC) + _REFRESH if renewed else None}

    return provide


# --- Google ---


def _of_google(client: Any, bucket: str) -> Any:
    import json

    from google.auth.credentials import AnonymousCredentials
    from obstore.store import GCSStore

    url: str = client._connection.API_BASE_URL.rstrip("/")
    settings: dict[str, Any] = {}
    if isinstance(client._credentials, AnonymousCredentials):
        # Without this key obstore asks for a token at each write, `skip_signature` or not.
        account = {"gcs_base_url": url, "disable_oauth": True}
        account |= {"client_email": "", "private_key": "", "private_key_id": ""}
        settings["service_account_key"] = json.dumps(account)
    else:
        settings["credential_provider"] = _google_provider(client._credentials)
        if not url.endswith("//storage.googleapis.com"):
            settings["base_url"] = url
    return GCSStore(bucket, client_options=cast(Any, _options(url)), **settings)


def _google_provider(credentials: Any) -> Callable[[], dict[str, Any]]:
    def provide() -> dict[str, Any]:
        from google.auth.transport.requests import Request

        if not credentials.valid:
            credentials.refresh(Request())
        # Its moment is in UTC, and doesn't say so.
        expiry = credentials.expiry
        return {"token": credentials.token, "expires_at": expiry and expiry.replace(tzinfo=UTC)}

    return provide


# --- Azure ---


def _of_azure(client: Any, container: str) -> Any:
    from obstore.store import AzureStore

    # The URL may hold a signature after its path, and the name of a container.
    url: str = client.primary_endpoint.partition("?")[0].rstrip("/")
    if hasattr(client, "container_name"):
        url = url.removesuffix(f"/{client.container_name}")
    settings: dict[str, Any] = {"account_name": client.account_name, "endpoint": url}
    credential = client.credential
    if credential is None:
        signature = client.primary_endpoint.partition("?")[2]
        settings |= {"sas_key": signature} if "sig=" in signature else {"skip_signature": True}
    elif hasattr(credential, "account_key"):
        settings["account_key"] = credential.account_key
    elif hasattr(credential, "signature"):
        settings["sas_key"] = credential.signature.lstrip("?")
    elif iscoroutinefunction(getattr(credential, "get_token", None)):
        raise UnsupportedOperation(
            "an asynchronous credential of Azure belongs to its event loop; give the client the one of the "
            "same name in azure.identity"
        )
    elif hasattr(credential, "get_token"):
        settings["credential_provider"] = _azure_provider(credential)
    else:
        kind = type(credential).__name__
        raise UnsupportedOperation(f"a {kind} of Azure can't be taken over; give an account key or a token")
    return AzureStore(container, client_options=cast(Any, _options(url)), **settings)


def _azure_provider(credential: Any) -> Callable[[], dict[str, Any]]:
    def provide() -> dict[str, Any]:
        token = credential.get_token("https://storage.azure.com/.default")
        return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, UTC)}

    return provide
