"""Objects by the string prefix of their names, in order, foreign ones too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise, takewhile
from typing import Any

from holdall.errors import StoreUnavailableError, UnsupportedOperation
from holdall.keys import MAX_KEY_BYTES
from holdall.stores.bucket.calls import iterate
from holdall.stores.bucket.clouds import AZURE, S3
from holdall.stores.bucket.driver import driver
from holdall.stores.bucket.pages import pages

__all__ = ["listed", "offset_before"]

_PAGE = 1000
_LAST = "\U0010ffff"
_PAST = re.compile("[\U00010000-\U0010ffff]")
_AWKWARD = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def listed(client: Any, prefix: str, after: str, ordered: bool) -> Iterator[dict[str, Any]]:
    """Yield what is known of the objects whose names start with a string prefix and sort past `after`, in
    order of their code points: dicts of `path`, `size`, `e_tag`, `version` and `last_modified`.

    obstore matches whole segments, and raises for a page with a name that has an empty one. The objects of
    that page are asked for by a request of our own. Where the server lists in an order of its own, all are
    held in memory and sorted.
    """
    folder = prefix[: prefix.rfind("/") + 1]
    known = _sendable(folder.rstrip("/"))
    if known != folder.rstrip("/"):
        # No valid name lies below, but others may.
        folder = known[: known.rfind("/") + 1]
    offset = offset_before(prefix, after)
    if not ordered:
        yield from _sorted(client, folder, prefix, after)
        return
    if type(client).__name__ == S3.kind:
        found = _checked_all(client, folder, offset, prefix, after)
    elif type(client).__name__ == AZURE.kind:
        found = in_code_points(_anew(client, folder, offset, prefix, after, _utf16))
    else:
        found = _anew(client, folder, offset, prefix, after, str)
    last = after
    try:
        for told in found:
            name = told["path"]
            if not name.startswith(prefix):
                if name > prefix:
                    return
            elif name > last:
                yield told
                last = name
            elif name < last and name > after:
                raise StoreUnavailableError(
                    f"the server lists out of order: {name!r} came after {last!r}; its listing may be "
                    "incomplete"
                )
    except driver().exceptions.InvalidPathError:
        found = pages(client, prefix, max(last, offset or ""))
        for told in in_code_points(found) if type(client).__name__ == AZURE.kind else found:
            if told["path"] > last:
                yield told


def _sorted(client: Any, folder: str, prefix: str, after: str) -> Iterator[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    try:
        for page in iterate(_stream(client, folder, None)):
            found |= {told["path"]: told for told in page}
    except driver().exceptions.InvalidPathError:
        found = {told["path"]: told for told in pages(client, prefix, "")}
    for name in sorted(found):
        if name.startswith(prefix) and name > after:
            yield found[name]


def _checked_all(
    client: Any, folder: str, offset: str | None, prefix: str, after: str
) -> Iterator[dict[str, Any]]:
    last = max(after, offset or "")
    for page in iterate(_stream(client, folder, offset)):
        for told in _checked(client, page, prefix, last):
            yield told
            last = max(last, told["path"])


def in_code_points(found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield objects in order of the code points of their names, which come in that of UTF-16: there the
    characters past U+FFFF sort before those from U+E000. Names with such characters are held meanwhile.

    >>> names = ["a", "b\U00010000", "b\ue000", "c"]
    >>> [told["path"] for told in in_code_points({"path": name} for name in names)] == sorted(names)
    True
    """
    held: list[tuple[str, list[dict[str, Any]]]] = []
    for told in found:
        name = told["path"]
        while held and not name.startswith(held[-1][0]):
            yield from _sort(held.pop()[1])
        past = _PAST.search(name)
        if past is None:
            yield told
            continue
        stem = name[: past.start()]
        if not held or held[-1][0] != stem:
            held.append((stem, []))
        held[-1][1].append(told)
    while held:
        yield from _sort(held.pop()[1])


def _sort(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda told: told["path"])


def _anew(
    client: Any, folder: str, offset: str | None, prefix: str, after: str, order: Callable[[str], Any]
) -> Iterator[dict[str, Any]]:
    """Yield objects in the order of their server, with their true names where the client shows credentials.

    From the first page on that has an empty object, which may mark a folder (see `_checked`), all pages are
    asked for by requests of our own, since on Azure these can't begin in the middle.
    """
    last, shows = "", True
    for page in iterate(_stream(client, folder, offset)):
        if shows and not all(told["size"] for told in page):
            rest = pages(client, prefix, max(after, offset or ""))
            try:
                first = next(rest, None)
            except UnsupportedOperation:
                shows = False
            else:
                for told in chain([first] if first is not None else [], rest):
                    if not last or order(told["path"]) > order(last):
                        yield told
                return
        yield from page
        last = page[-1]["path"] if page else last


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


def _checked(client: Any, page: Any, prefix: str, after: str) -> Iterable[dict[str, Any]]:
    """Return a page with the true names of its objects.

    obstore drops a slash at either end of a name: the folder `logs/` that a program marked by an empty object
    becomes a blob `logs`. Where this may have happened, which an empty object or a wrong order show, the page
    is asked for once more.
    """
    if not page:
        return page
    names = [told["path"] for told in page]
    in_order = all(one < other for one, other in pairwise([after, *names]))
    if in_order and all(told["size"] for told in page):
        return page
    last = max(names)
    return takewhile(lambda told: told["path"].strip("/") <= last, pages(client, prefix, after))


def _stream(client: Any, folder: str, offset: str | None) -> Any:
    return driver().list(client, folder.rstrip("/") or None, offset=offset, chunk_size=_PAGE)


def offset_before(prefix: str, after: str) -> str | None:
    """Return where a listing may begin: a name that sorts before all that is wanted, and close to it; None
    for the beginning.

    >>> offset_before("", "b"), offset_before("logs/2026-", "")[:10]
    ('b', 'logs/2026,')
    """
    best = _sendable(prefix[:-1])
    if prefix:
        # Names that start with the character before the last one of the prefix sort between; most can be
        # skipped at once.
        before = ord(prefix[-1]) - 1
        if before >= 0x20 and not 0xD800 <= before <= 0xDFFF and chr(before) != "/":
            near = prefix[:-1] + chr(before)
            near += _LAST * ((MAX_KEY_BYTES - len(near.encode("utf-8", "replace"))) // 4)
            best = max(best, _sendable(near))
    return max(best, _sendable(after)) or None


def _sendable(name: str) -> str:
    """Return the start of a name, which sorts no later and which obstore and any server take."""
    name = _AWKWARD.split(name, maxsplit=1)[0]
    name = name.encode()[:MAX_KEY_BYTES].decode(errors="ignore")
    while True:
        # What obstore can't parse is cut before it.
        segments = name.split("/")
        odd = next((n for n, each in enumerate(segments) if each in ("", ".", "..")), None)
        if odd is None:
            return name
        name = "/".join(segments[:odd])
        if not name:
            return ""
