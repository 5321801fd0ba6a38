"""What differs between the clouds."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

MIB: Final = 1 << 20


class Cloud(NamedTuple):
    """A kind of object storage."""

    kind: str
    """The class of obstore."""
    name: str
    largest: int
    """The most bytes of an object that is put by one request."""
    parts: int
    """The most parts of an upload."""
    default_type: str
    """The content type of an object that was put without one."""
    silent: bool
    """Whether a delete of an object that doesn't exist succeeds."""
    longest: int | None
    """How long a signed URL may be valid, in seconds."""
    chain: str
    """Where its credentials are looked for."""


S3: Final = Cloud(
    *("S3Store", "S3", 5 << 30, 10_000, "binary/octet-stream", True, 7 * 86_400),
    "key= and secret=, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile in ~/.aws/credentials, a web "
    "identity token, the container's, and the instance's role",
)
GOOGLE: Final = Cloud(
    *("GCSStore", "Google Cloud Storage", 5 << 40, 10_000, "application/octet-stream", False, 7 * 86_400),
    "secret=, GOOGLE_SERVICE_ACCOUNT, GOOGLE_APPLICATION_CREDENTIALS, the gcloud login, and the machine's "
    "account",
)
AZURE: Final = Cloud(
    *("AzureStore", "Azure Blob Storage", 5_000 * MIB, 50_000, "application/octet-stream", False, None),
    "key= and secret=, AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_ACCOUNT_KEY, AZURE_CLIENT_ID with a "
    "secret or a federated token, and the machine's managed identity",
)
CLOUDS: Final = {cloud.kind: cloud for cloud in (S3, GOOGLE, AZURE)}


def cloud_of(client: Any) -> Cloud:
    """Return what is special to the cloud of a client of obstore."""
    return CLOUDS[type(client).__name__]


def tag_of(meta: Any) -> str:
    """Return the ETag of what a server said of an object, without its quotes."""
    return str(meta.get("e_tag") or "").strip('"')
