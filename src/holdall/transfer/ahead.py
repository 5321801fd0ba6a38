"""Listing a store whose every call waits for a server: several of its spans side by side."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from itertools import islice
from queue import SimpleQueue

from holdall.blob import Info, LeftOut, place_of
from holdall.spans import Span, within
from holdall.store import Store
from holdall.threads import start

_FIRST = 4000
"""The entries that are listed one after the other: most stores have no more, and needn't be split."""
_SPANS = 32
_AT_ONCE = 8
_PAGE = 500
_PAGES = 16
"""The pages of each span that wait to be taken, at most."""


def survey_ahead(store: Store, span: Span) -> Iterator[Info | LeftOut]:
    """Yield what `Store._survey` yields of a span, in the same order; once there are many keys, several
    threads list them ahead."""
    entries = within(store._survey(span.prefix, span.after), span.until)
    last = None
    for last in islice(entries, _FIRST):
        yield last
    following = next(entries, None)
    if last is None or following is None:
        return
    ahead = _Ahead(store)
    try:
        yield from ahead.entries(store.split(_SPANS, span._replace(after=place_of(last))))
    finally:
        ahead.stop()


class _Ahead:
    """Lists spans on threads, some ahead of the one that is taken."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stopped = False
        self._listings = deque[_Listing]()

    def entries(self, spans: list[Span]) -> Iterator[Info | LeftOut]:
        left = iter(spans)
        while True:
            for span in islice(left, _AT_ONCE - len(self._listings)):
                listing = _Listing(span)
                self._listings.append(listing)
                start(threading.Thread(target=self._list, args=(listing,), name="holdall-list", daemon=True))
            if not self._listings:
                return
            listing = self._listings[0]
            while isinstance(page := listing.pages.get(), list):
                yield from page
                listing.room.put(None)
            if page is not None:
                raise page
            self._listings.popleft()

    def _list(self, listing: _Listing) -> None:
        span, end = listing.span, None
        try:
            entries = within(self._store._survey(span.prefix, span.after), span.until)
            while not self._stopped and (page := list(islice(entries, _PAGE))):
                listing.pages.put(page)
                listing.room.get()
        except BaseException as error:  # noqa: BLE001 - it is raised by the thread that takes the entries
            end = error
        listing.pages.put(end)

    def stop(self) -> None:
        """Let the threads end; one that waits for its server is left behind."""
        self._stopped = True
        for listing in self._listings:
            listing.room.put(None)


class _Listing:
    """A span that a thread lists. An interrupt leaves a `SimpleQueue` as it is, unlike a `Queue`."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.pages = SimpleQueue[list[Info | LeftOut] | BaseException | None]()
        """What is listed, then how it ended."""
        self.room = SimpleQueue[None]()
        """An item for each page that may be listed ahead."""
        for _ in range(_PAGES):
            self.room.put(None)
