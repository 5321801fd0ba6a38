"""The attributes of objects: content type, storage class, and the metadata of users."""

from __future__ import annotations

from collections.abc import Mapping

from holdall.arguments import check_metadata
from holdall.blob import Attributes
from holdall.errors import InvalidArgumentError
from holdall.stores.bucket.clouds import AZURE, Cloud

_TAKEN = frozenset(
    [
        *("cachecontrol", "contentdisposition", "contentencoding", "contentlanguage", "contenttype"),
        "storageclass",
    ]
)
"""What obstore takes for attributes of its own."""


def to_send(cloud: Cloud, plain: dict[str, str], attributes: Attributes) -> dict[str, str]:
    """Return the attributes of a put as obstore takes them: `plain`, and those given."""
    sent = dict(plain)
    kind = attributes.content_type
    if kind is not None:
        if not kind.isprintable() or not kind.isascii() or not kind.strip():
            raise InvalidArgumentError(
                f"a content_type must be printable ASCII, as in RFC 9110, not {kind!r}"
            )
        sent["Content-Type"] = kind
    for name, value in (attributes.metadata or {}).items():
        if name.replace("_", "") in _TAKEN:
            raise InvalidArgumentError(
                f"in a bucket the name {name!r} in metadata can't be told from a header of HTTP; choose "
                "another one"
            )
        # Some servers, and proxies before them, drop headers with a low line. Azure takes no hyphen.
        sent[name if cloud is AZURE else name.replace("_", "-")] = value
    return sent


def type_of(cloud: Cloud, found: Mapping[str, str]) -> str | None:
    """Return the content type that a put was given."""
    kind = found.get("Content-Type")
    return None if kind == cloud.default_type else kind


def metadata_of(found: Mapping[str, str]) -> dict[str, str] | None:
    """Return the metadata that a put was given; what others put and no put can be given is left out."""
    metadata: dict[str, str] = {}
    for name, value in found.items():
        try:
            metadata |= check_metadata({name.lower().replace("-", "_"): value}) or {}
        except InvalidArgumentError:
            continue
    return {name: value for name, value in metadata.items() if name.replace("_", "") not in _TAKEN} or None
