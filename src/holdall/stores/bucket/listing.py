"""Objects by the string prefix of their names, in order, foreign ones too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import Any

from holdall.errors import StoreUnavailableError, UnsupportedOperation
from holdall.keys import MAX_KEY_BYTES
from holdall.stores.bucket.calls import iterate
from holdall.stores.bucket.clouds import AZURE
from holdall.stores.bucket.driver import driver
from holdall.stores.bucket.pages import pages

_PAGE = 1000
_FOLDERS = 10_000
"""How many folders are remembered at most."""
_LAST = "\U0010ffff"
_PAST = re.compile("[\U00010000-\U0010ffff]")
_AWKWARD = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def listed(client: Any, prefix: str, after: str, ordered: bool, own: set[str]) -> Iterator[dict[str, Any]]:
    """Yield what is known of the objects whose names start with a string prefix and sort past `after`, in
    order of their code points: dicts of `path`, `size`, `e_tag`, `version` and `last_modified`.

    obstore matches whole segments, drops a slash at either end of a name, and raises for a page with a name
    that has an empty segment. From the first page on where this may have happened, pages are asked for by
    requests of our own; `own` remembers the folder, whose next listing begins with these. Where the server
    lists in an order of its own, all are held in memory and sorted.
    """
    folder = prefix[: prefix.rfind("/") + 1]
    known = _sendable(folder.rstrip("/"))
    if known != folder.rstrip("/"):
        # No valid name lies below, but others may.
        folder = known[: known.rfind("/") + 1]
    if not ordered:
        yield from _list_sorted(client, folder, prefix, after)
        return
    found = _list_as_served(client, folder, prefix, after, own)
    if type(client).__name__ == AZURE.kind:
        found = in_code_points(found)
    last = after
    for meta in found:
        name = meta["path"]
        if not name.startswith(prefix):
            if name > prefix:
                return
        elif name > last:
            yield meta
            last = name
        elif name < last and name > after:
            raise StoreUnavailableError(
                f"the server lists out of order: {name!r} came after {last!r}; its listing may be incomplete"
            )


def _list_sorted(client: Any, folder: str, prefix: str, after: str) -> Iterator[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    try:
        for page in iterate(_stream(client, folder, None)):
            found |= {meta["path"]: meta for meta in page}
    except driver().exceptions.InvalidPathError:
        found = {meta["path"]: meta for meta in pages(client, prefix, "")}
    names = sorted([name for name in found if name.startswith(prefix) and name > after])
    yield from map(found.__getitem__, names)


def in_code_points(found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield objects in order of the code points of their names, which come in that of UTF-16: there the
    characters past U+FFFF sort before those from U+E000. Names with such characters are held meanwhile.

    >>> names = ["a", "b\U00010000", "b\ue000", "c"]
    >>> [meta["path"] for meta in in_code_points({"path": name} for name in names)] == sorted(names)
    True
    """
    held: list[tuple[str, list[dict[str, Any]]]] = []
    for meta in found:
        name = meta["path"]
        while held and not name.startswith(held[-1][0]):
            yield from _sort(held.pop()[1])
        past = _PAST.search(name)
        if past is None:
            yield meta
            continue
        stem = name[: past.start()]
        if not held or held[-1][0] != stem:
            held.append((stem, []))
        held[-1][1].append(meta)
    while held:
        yield from _sort(held.pop()[1])


def _sort(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda meta: meta["path"])


def _list_as_served(
    client: Any, folder: str, prefix: str, after: str, own: set[str]
) -> Iterator[dict[str, Any]]:
    """Yield objects in the order of their server, with their true names."""
    azure = type(client).__name__ == AZURE.kind
    offset = offset_before(prefix, after)
    start = max(after, offset or "")
    last = "" if azure else start
    stream = iterate(_stream(client, folder, offset))
    shows = True
    while folder not in own:
        page: Any = None
        try:
            page = next(stream, None)
            if page is None:
                return
        except driver().exceptions.InvalidPathError:
            pass
        if page is None or (shows and not _is_plain(page, last, azure)):
            rest = pages(client, prefix, start if azure else last)
            try:
                first = next(rest, None)
            except UnsupportedOperation:
                if page is None:
                    raise
                shows = False
            else:
                if len(own) < _FOLDERS:
                    own.add(folder)
                for meta in chain([first] if first is not None else [], rest):
                    # On Azure a request of our own can't begin in the middle.
                    if not azure or not last or _utf16(meta["path"]) > _utf16(last):
                        yield meta
                return
        yield from page
        last = page[-1]["path"] if page else last
    yield from pages(client, prefix, start)


def _is_plain(page: Any, last: str, azure: bool) -> bool:
    """Return whether obstore dropped no slash of the names in a page: the folder `logs/`, which a program
    marked by an empty object, would be a blob `logs`. An empty object or a wrong order may come of it."""
    if not all(meta["size"] for meta in page):
        return False
    return azure or all(one < other for one, other in pairwise([last, *(meta["path"] for meta in page)]))


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


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
