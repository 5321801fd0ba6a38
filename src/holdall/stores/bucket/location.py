"""What the URI of a bucket says."""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import unquote

from holdall.errors import InvalidArgumentError, InvalidKeyError
from holdall.keys import check_key
from holdall.stores.bucket.clouds import AZURE, GOOGLE, S3, Cloud

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "r2")
_login = re.compile(r"([^:/@]+):(.+?)@(.*)", re.DOTALL).fullmatch
"""A secret may hold a slash, as those of Amazon do."""
_KINDS: dict[str, Cloud] = {"s3": S3, "r2": S3, "gs": GOOGLE, "gcs": GOOGLE, "az": AZURE, "abfs": AZURE}


class Location(NamedTuple):
    """A parsed URI, without its secret."""

    cloud: Cloud
    bucket: str
    root: str
    """What the names of all objects start with: empty, or it ends in `/`."""
    scheme: str
    key: str | None
    secret: str | None
    account: str | None


def parse(uri: object, decoded: bool = False) -> Location:
    """Parse `s3://bucket/prefix`, which may have `key:secret@` before the bucket.

    For Azure, `abfs://container@account/prefix` names the account, as Hadoop does.

    Raises:
        InvalidArgumentError: It isn't such a URI; the message doesn't show it, since it may hold a secret.
    """
    scheme, mark, rest = uri.partition("://") if isinstance(uri, str) else ("", "", "")
    scheme = scheme.lower()
    if not mark or scheme not in _KINDS:
        raise InvalidArgumentError(
            "expected the URI of a bucket, such as s3://bucket/prefix; its scheme is one of "
            f"{', '.join(SCHEMES)}"
        )
    cloud = _KINDS[scheme]
    read = str if decoded else unquote
    login = _login(rest)
    key = secret = account = None
    if login is not None:
        key, secret, rest = read(login[1]), read(login[2]), login[3]
    bucket, _, folder = rest.partition("/")
    if cloud is AZURE and "@" in bucket:
        bucket, _, host = bucket.partition("@")
        account = read(host.partition(".")[0])
    bucket, folder = read(bucket), read(folder).removesuffix("/")
    if not bucket or any(each in bucket for each in "/\\?#@ "):
        raise InvalidArgumentError(
            f"expected the name of a bucket after {scheme}://, as in {scheme}://bucket/prefix"
        )
    return Location(cloud, bucket, check_root(folder), scheme, key, secret, account)


def check_root(folder: str) -> str:
    if not folder:
        return ""
    try:
        return f"{check_key(folder)}/"
    except InvalidKeyError as error:
        raise InvalidArgumentError(
            f"the prefix {folder!r} can't begin the keys of a bucket: {error.message}"
        ) from None


def r2_endpoint(account: str | None) -> str:
    """Return where the buckets of an account of Cloudflare R2 are."""
    account = account or os.environ.get("CLOUDFLARE_ACCOUNT_ID") or os.environ.get("R2_ACCOUNT_ID")
    if not account:
        raise InvalidArgumentError(
            "r2:// needs the account of Cloudflare: give account= (?account=...), or set "
            "CLOUDFLARE_ACCOUNT_ID"
        )
    return f"https://{account}.r2.cloudflarestorage.com"
