"""What an error of obstore means: one of holdall's, which names host and bucket, and says what to set."""

from __future__ import annotations

import re
from typing import NamedTuple

from holdall.errors import BlobNotFoundError, InvalidArgumentError, StoreError, StoreUnavailableError
from holdall.stores.bucket.clouds import Cloud


class BucketPlace(NamedTuple):
    """Where a bucket is, for messages."""

    cloud: Cloud
    host: str
    bucket: str

    def __str__(self) -> str:
        return f"the bucket {self.bucket!r} at {self.host}"


class ChangedError(StoreError):
    """The object is another version than the request expects, or there is none."""


class PresentError(StoreError):
    """There is an object where the request expects none."""


class PartError(StoreError):
    """The range is outside the object, or the server takes none of this kind."""


class UnknownError(StoreUnavailableError):
    """The server failed, or didn't answer: it may have done what it was asked."""


_status = re.compile(r"status code: (\d{3})|\(status[^\d]*(\d{3})\)").search
_code = re.compile(r"<Code>([^<]*)</Code>", re.IGNORECASE).search
_DETAIL = 200


def status_of(error: BaseException) -> int:
    """Return the status of the answer that an error of obstore names; 0 if there was none."""
    found = _status(str(error))
    return int(found[1] or found[2]) if found else 0


def lacks_bucket(error: BaseException) -> bool:
    """Return whether a server said that the bucket doesn't exist."""
    text = str(error)
    found = _code(text)
    return (found is not None and found[1] in _NO_BUCKET) or "bucket does not exist" in text


def refuses_credentials(error: BaseException) -> bool:
    """Return whether a server refused who asked, and not what was asked for."""
    found = _code(str(error))
    code = found[1] if found else ""
    return code.startswith(_WRONG_KEYS) or code in _EXPIRED or code in _SKEWED


def translate(error: Exception, what: str, place: BucketPlace) -> Exception:
    """Return the error of the contract for one of obstore's.

    Args:
        error: What obstore raised.
        what: What it was asked to do: `read`, `write`, ...
        place: Where.
    """
    if isinstance(error, StoreError):
        return error
    if lacks_bucket(error):
        return StoreUnavailableError(f"{place} doesn't exist; make it first, or check its name")
    if isinstance(error, FileNotFoundError):
        return BlobNotFoundError()
    kind, text = type(error).__name__, str(error)
    status, found = status_of(error), _code(text)
    code = found[1] if found else ""
    if code.startswith("Lease"):
        return StoreUnavailableError(f"{place} can't {what}: another client holds a lease on it ({code})")
    if code == "BlobArchived":
        return StoreUnavailableError(f"{place} can't {what}: the object is archived; move it to another tier")
    if kind == "PreconditionError" or (status == 412 and kind != "AlreadyExistsError"):
        return ChangedError(f"{place}: the object is another one by now")
    if kind == "AlreadyExistsError":
        return PresentError(f"{place}: an object is there")
    if status == 416 or kind == "NotSupportedError" or "non-partial" in text:
        return PartError(f"{place} can't {what} this part")
    refusal = _refusal(code, status, text, place, what)
    if refusal is not None:
        return refusal
    if kind in ("ValueError", "UnknownConfigurationKeyError", "InvalidPathError"):
        return InvalidArgumentError(f"{place} can't {what}: {_short(text)}")
    if "error sending request" in text or "HTTP error" in text or "error trying to connect" in text:
        return UnknownError(
            f"no answer from {place.host} when asked to {what} in the bucket {place.bucket!r}; is the server "
            f"up, and are host, port and scheme right (endpoint=)?{_cause(text)}"
        )
    if status >= 500 or status == 429:
        return UnknownError(f"{place} couldn't {what}: the server answered {status} {code}".rstrip())
    if status and not found and status != 404:
        return StoreUnavailableError(
            f"{place} answered {status} when asked to {what}, in a form that isn't {place.cloud.name}'s; is "
            "it an object storage (endpoint=)?"
        )
    if "eader missing from response" in text:
        return StoreUnavailableError(
            f"{place} answers as no {place.cloud.name} does when asked to {what}; is it an object storage "
            "(endpoint=)?"
        )
    return StoreUnavailableError(f"{place} can't {what}: {_short(text)}")


_WRONG_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed", "InvalidSecurity")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "InvalidBucketName")
_SKEWED = ("RequestTimeTooSkewed", "RequestInTheFuture")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired")
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")


def _refusal(code: str, status: int, text: str, place: BucketPlace, what: str) -> StoreError | None:
    if _lacks_credentials(text):
        return StoreUnavailableError(
            f"no credentials for {place}; looked for {place.cloud.chain}; for a public bucket give "
            "anonymous=True"
        )
    if code in _SKEWED:
        return StoreUnavailableError(
            f"{place} refuses the time of this machine, whose clock is off; set it (NTP)"
        )
    if code in _EXPIRED:
        return StoreUnavailableError(f"the credentials for {place} have expired; renew them")
    if code in _ELSEWHERE or status == 301 or "redirect without LOCATION" in text:
        region = re.search(r"<Region>([^<]+)</Region>|expecting '([^']+)'", text)
        where = f", which is {region[1] or region[2]}" if region else ""
        return StoreUnavailableError(f"{place} is in another region{where}; set region=")
    if code.startswith(_WRONG_KEYS) or status == 401:
        return StoreUnavailableError(
            f"{place} doesn't accept the credentials ({code or status}); looked for {place.cloud.chain}"
        )
    if status == 403:
        return StoreUnavailableError(
            f"no permission to {what} in {place} ({code or 'Forbidden'}); look at the policy of the bucket "
            f"and at the credentials: {place.cloud.chain}"
        )
    return None


def _lacks_credentials(text: str) -> bool:
    metadata = ("169.254.169.254", "169.254.170.2", "metadata.google.internal", "/latest/api/token")
    return any(host in text for host in metadata) or "MissingCredentials" in text


def _short(text: str) -> str:
    """The first line of an error of obstore, whose others show its inner values, without any signature."""
    line = text.partition("\n")[0]
    return re.sub(r"\?[^\s]*", "", line)[:_DETAIL]


def _cause(text: str) -> str:
    for sign, meaning in (
        ("Connection refused", "the connection was refused"),
        ("dns error", "the name of the host isn't known"),
        ("certificate", "its certificate can't be trusted"),
        ("operation timed out", "it took too long"),
        ("TimedOut", "it took too long"),
        ("URL scheme is not allowed", "it must be https://, or say endpoint='http://...'"),
    ):
        if sign in text:
            return f" ({meaning})"
    return ""
