"""What the server of a bucket really does with conditions and ranges."""

from __future__ import annotations

import logging
import re
import secrets
from itertools import islice
from typing import Any, NamedTuple

from holdall.errors import StoreError, UnsupportedOperation
from holdall.stores.bucket.calls import call, iterate
from holdall.stores.bucket.deleting import delete_any, delete_version
from holdall.stores.bucket.driver import driver
from holdall.stores.bucket.endpoints import endpoint_of
from holdall.stores.bucket.errors import lacks_bucket, refuses_credentials, status_of

_log = logging.getLogger("holdall")


class Findings(NamedTuple):
    """What a server does with conditions and ranges."""

    create: bool = True
    """A put where nothing may be is refused where something is."""
    swap: bool = True
    """A put over a version is refused where another version is, and only there."""
    delete: bool = True
    """So is a delete of a version."""
    range: bool = True
    """A part is answered with just this part."""
    quoted: bool = True
    """An ETag in a condition has its quotes. Ceph's gateway in Debian 12 takes it without them only."""
    ordered: bool = True
    """A listing is in order of its names, as S3 documents. SeaweedFS lists folder by folder."""
    starts: bool = True
    """A listing begins past the name that it is given. Azurite begins at the first."""
    settled: bool = True
    """It was tried by puts. That none is taken may be a passing fault, and other credentials may put."""


_KNOWN = (
    *(".amazonaws.com", ".amazonaws.com.cn", ".storage.googleapis.com"),
    *(".blob.core.windows.net", ".dfs.core.windows.net"),
)
"""The ends of the names of hosts that document all of it."""
_found: dict[tuple[str, str, str], Findings] = {}
_DATA = b"0123456789"
_MARK = ".holdall-probe-"
_PROBE = re.compile(rf"(?:.*/)?{re.escape(_MARK)}[0-9a-f]{{32}}(?:-[./]a)?", re.DOTALL)


def is_probe(name: str) -> bool:
    """Return whether an object is one that a probe makes for a moment; listings hide it.

    >>> is_probe("logs/.holdall-probe-" + "0" * 32), is_probe("logs/a")
    (True, False)
    """
    # Each name of a listing is asked for.
    return _MARK in name and _PROBE.fullmatch(name) is not None


def known(client: Any) -> Findings | None:
    """Return what `find_out` returns without a request; None if it would make some."""
    place = _place(client)
    if place not in _found and (place[1] == "" or f".{place[1].partition(':')[0]}".endswith(_KNOWN)):
        return _found.setdefault(place, Findings())
    return _found.get(place)


def find_out(client: Any) -> Findings:
    """Return what the server of a client's bucket does, by a dozen requests that are made once in a process.

    Known clouds aren't asked. Where the client may not write, or no put is taken, the conditions count as
    ignored until it is asked again. What is lacking is said once, in a warning.

    Args:
        client: A store of obstore.

    Raises:
        obstore.exceptions.BaseError: The server doesn't answer, or the bucket doesn't exist.
        StoreUnavailableError: The server doesn't answer.
    """
    found = known(client)
    if found is not None:
        return found
    kind, host, bucket = place = _place(client)
    errors = driver().exceptions
    name = f".holdall-probe-{secrets.token_hex(16)}"
    try:
        _look(client, name)
        if _takes_puts(client, name):
            ordered, starts = _lists(client, name)
            found = _try_all(client, name)._replace(ordered=ordered, starts=starts)
    except (errors.PermissionDeniedError, errors.UnauthenticatedError) as error:
        if refuses_credentials(error):
            raise
        _log.debug("the bucket %r at %s can't be written: %s", bucket, host, type(error).__name__)
    except Exception:
        _remove(client, name)
        raise
    # An interrupt doesn't wait for another request: what it leaves is small and hidden.
    _remove(client, name)
    if found is None:
        _log.debug("the bucket %r at %s takes no puts", bucket, host)
        return _find_without_puts(client)
    lost = [what for what, flag in zip(_LACKS, found, strict=False) if not flag]
    # Of two threads that ask at once, the first one to know says so.
    if _found.setdefault(place, found) is found and lost:
        _log.warning("the bucket %r at %s (%s) %s", bucket, host, kind, "; ".join(lost))
    return _found[place]


def _look(client: Any, name: str) -> None:
    """Raise if the bucket doesn't exist: SeaweedFS would make it for the first put."""
    try:
        call("get", client, name)
    except FileNotFoundError as error:
        if lacks_bucket(error):
            raise
    except driver().exceptions.PermissionDeniedError as error:
        # One that may write but not list is refused what isn't there.
        if refuses_credentials(error):
            raise


def _takes_puts(client: Any, name: str) -> bool:
    """Return whether a server takes puts at all, and put one. A server that only reads answers 405, 501, or
    as rclone does 500, which once may be a fault."""
    for _ in range(3):
        try:
            call("put", client, name, _DATA)
            return True
        except driver().exceptions.GenericError as error:
            if status_of(error) not in (405, 500, 501):
                raise
    return False


def _lists(client: Any, name: str) -> tuple[bool, bool]:
    """Return whether a listing is in order, and whether it begins where it is asked to. The object that was
    put is removed."""
    before, *pair = names = [name, f"{name}-.a", f"{name}-/a"]
    try:
        for each in pair:
            call("put", client, each, _DATA)
        none: list[dict[str, Any]] = []
        page = next(iterate(driver().list(client, offset=f"{before}-", chunk_size=3)), none)
        found = [meta["path"] for meta in page]
        starts = all(path > before for path in found)
        # Azure documents its order, and a page that begins elsewhere doesn't show it.
        ordered = type(client).__name__ == "AzureStore" or found[:2] == pair
    except driver().exceptions.InvalidPathError:
        # Another name in the bucket can't be parsed.
        ordered = starts = True
    except Exception:
        for each in pair:
            _remove(client, each)
        raise
    for each in names:
        _remove(client, each)
    return ordered, starts


_LACKS = (
    "can't create only where nothing is (expect=ABSENT)",
    "can't compare and swap (expect=etag)",
    "can't delete on condition",
    "doesn't answer ranges exactly",
)


def _place(client: Any) -> tuple[str, str, str]:
    """Return the kind of a client, the host that it was given (empty for the cloud's), and its bucket."""
    config: dict[str, Any] = client.config
    host = endpoint_of(client).partition("://")[2].partition("/")[0]
    bucket = str(config.get("bucket") or config.get("container_name"))
    return type(client).__name__.removesuffix("Store"), host, bucket


def _try_all(client: Any, name: str) -> Findings:
    first = _put(client, name, "create")
    if first is None:
        # It was refused by a server that takes no condition at all, or its answer was lost once.
        first = call("put", client, name, _DATA)
    create = _refuses(client, name, "create")
    exact = _is_exact(client, name)
    # A swap by both forms of the first tag; one of them must hold.
    first = call("head", client, name) if not create else first
    quoted, second = True, _put(client, name, _mode(first, True))
    if second is None:
        quoted, second = False, _put(client, name, _mode(first, False))
    if second is None:
        return Findings(create, False, False, exact)
    swap = _refuses(client, name, _mode(first, quoted))
    now = second if swap else call("head", client, name)
    delete = swap and _deletes(client, name, first, now, quoted)
    return Findings(create, swap, delete, exact, quoted)


def _mode(meta: Any, quoted: bool) -> dict[str, str]:
    tag = str(meta["e_tag"])
    mode = {"e_tag": tag if quoted else tag.strip('"')}
    # obstore refuses a version of None.
    return {**mode, "version": meta["version"]} if meta.get("version") is not None else mode


def _put(client: Any, name: str, mode: Any) -> Any | None:
    """Put on a condition that holds; return None where it is refused."""
    errors = driver().exceptions
    try:
        return call("put", client, name, _DATA + secrets.token_bytes(8), mode=mode)
    except (errors.AlreadyExistsError, errors.PreconditionError, errors.NotSupportedError):
        return None
    except Exception as error:
        if not _REFUSED.search(str(error)):
            raise
        return None


_REFUSED = re.compile(r"status code: (?:400|405|412|501)\b")


def _refuses(client: Any, name: str, mode: Any) -> bool:
    """Put on a condition that doesn't hold; return whether it is refused for this reason."""
    errors = driver().exceptions
    try:
        call("put", client, name, _DATA + secrets.token_bytes(8), mode=mode)
    except (errors.AlreadyExistsError, errors.PreconditionError):
        return True
    except errors.NotSupportedError:
        return False
    except Exception as error:
        if not _REFUSED.search(str(error)):
            raise
        return "status code: 412" in str(error)
    return False


def _is_exact(client: Any, name: str) -> bool:
    try:
        return len(call("get_range", client, name, start=3, end=5)) == 2
    except Exception as error:
        if "non-partial" not in str(error):
            raise
        return False


def _find_without_puts(client: Any) -> Findings:
    """Return what the objects that are there already show: whether they are listed in order, and whether a
    part of one is answered with just this part."""
    found = Findings(create=False, swap=False, delete=False, settled=False)
    none: list[dict[str, Any]] = []
    errors = driver().exceptions
    try:
        page = next(iterate(driver().list(client)), none)
    except (FileNotFoundError, errors.BaseError):
        return found  # it doesn't list
    sizes = {meta["path"]: meta["size"] for meta in page}
    ordered = type(client).__name__ == "AzureStore" or list(sizes) == sorted(sizes)
    found = found._replace(ordered=ordered, starts=ordered)
    long = (name for name, size in sizes.items() if size > 5)
    try:
        return found._replace(range=all(_is_exact(client, name) for name in islice(long, 1)))
    except (FileNotFoundError, errors.PermissionDeniedError, errors.UnauthenticatedError):
        return found  # it may list, and not read


def _deletes(client: Any, name: str, stale: Any, now: Any, quoted: bool) -> bool:
    def tag(meta: Any) -> str:
        mode = _mode(meta, quoted)
        return mode["version"] if type(client).__name__ == "GCSStore" else mode["e_tag"]

    try:
        # A stale delete that is answered as if it had deleted nothing may still have deleted.
        if delete_version(client, name, tag(stale)) is not False:
            return False
        call("head", client, name)
        return delete_version(client, name, tag(now)) is True
    except (FileNotFoundError, UnsupportedOperation):
        return False


def _remove(client: Any, name: str) -> None:
    try:
        delete_any(client, name)
    except (FileNotFoundError, StoreError, driver().exceptions.BaseError) as error:
        # What can't be deleted is hidden; the probe's own error says more.
        _log.debug("a probe's object couldn't be deleted: %s", type(error).__name__)
