"""Connection strings of Azure.

https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string
"""

from __future__ import annotations

from holdall.errors import InvalidArgumentError

_EMULATOR = {
    "account_name": "devstoreaccount1",
    # The key of every emulator, which isn't a secret.
    "account_key": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "endpoint": "http://127.0.0.1:10000/devstoreaccount1",
}


def parse_connection(text: str) -> dict[str, str]:
    """Return the account, its key or signature, and its endpoint, as obstore names them.

    Raises:
        InvalidArgumentError: This isn't a connection string. The message doesn't show it, since it holds a
            key.

    >>> parse_connection("AccountName=a;AccountKey=a2V5;EndpointSuffix=core.windows.net")["endpoint"]
    'https://a.blob.core.windows.net'
    """
    split = [part.partition("=") for part in text.split(";") if part.strip()]
    parts = {name.strip().lower(): value for name, _, value in split}
    if parts.get("usedevelopmentstorage", "").lower() == "true":
        return dict(_EMULATOR)
    endpoint, account = parts.get("blobendpoint", "").rstrip("/"), parts.get("accountname", "")
    if endpoint and not account:
        # That of an emulator comes after its host.
        host, _, path = endpoint.partition("://")[2].partition("/")
        account = path or host.partition(".")[0]
    key, signature = parts.get("accountkey"), parts.get("sharedaccesssignature")
    if not account or not (key or signature):
        raise InvalidArgumentError(
            "this isn't a connection string of Azure Blob Storage, such as "
            "'AccountName=...;AccountKey=...;EndpointSuffix=core.windows.net'"
        )
    scheme = parts.get("defaultendpointsprotocol", "https")
    suffix = parts.get("endpointsuffix", "core.windows.net")
    found = {"account_name": account, "endpoint": endpoint or f"{scheme}://{account}.blob.{suffix}"}
    return found | ({"account_key": key} if key else {"sas_key": (signature or "").lstrip("?")})
