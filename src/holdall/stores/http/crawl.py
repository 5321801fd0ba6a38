"""A walk through the folders that a server lists, in the order of keys, which lists folders ahead of need."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar, cast

from holdall.blob import NOT_A_KEY, Info, LeftOut
from holdall.errors import StoreUnavailableError
from holdall.keys import is_key
from holdall.stores.crew import Crew
from holdall.stores.http.pages import Found, Page
from holdall.workers import Call

T = TypeVar("T")

Lister = Callable[[str], Page | str | None]
"""Lists a folder; returns why it is left out, or None if it isn't there."""
Asker = Callable[[str], Info | LeftOut]


class Listed(NamedTuple):
    """A file of a listing."""

    key: str
    found: Found | None


class _Level:
    def __init__(self, steps: list[tuple[str, str]], above: str, page: Page) -> None:
        self.steps, self.above, self.page = steps, above, page
        self.at = 0


class Crawl:
    """One walk.

    Args:
        page: Lists a folder.
        most: How many requests it makes at a time.
    """

    def __init__(self, page: Lister, most: int) -> None:
        self._page, self._most = page, most
        self._crew = Crew(most)
        self._process = os.getpid()
        self._pending: dict[str, Call[Page | str | None]] = {}

    def entries(self, prefix: str, after: str) -> Iterator[Listed | LeftOut]:
        """Yield the files whose keys start with a prefix and sort past a key, and what is left out."""
        try:
            yield from self._walk(prefix, after)
        finally:
            self._crew.dismiss()

    def infos(self, prefix: str, after: str, ask: Asker) -> Iterator[Info | LeftOut]:
        """Do the same with the info of each file; `ask` asks for one that the listing doesn't give."""
        try:
            yield from self._in_turn(self._entry(entry, ask) for entry in self._walk(prefix, after))
        finally:
            self._crew.dismiss()

    def children(self, prefix: str, ask: Asker, holds_any: Callable[[str], bool]) -> Iterator[str | Info]:
        """Yield the files and the folders of one folder, as `Store.children` does."""
        start = prefix[: prefix.rfind("/") + 1]
        page = self._page(start) if not start or is_key(start[:-1]) else None
        if not isinstance(page, Page):
            return
        level = self._level(start, page, prefix[len(start) :], "")
        try:
            for found in self._in_turn(
                self._child(start, name, page, ask, holds_any) for name, kind in level.steps if not kind
            ):
                if isinstance(found, str | Info):
                    yield found
        finally:
            self._crew.dismiss()

    def _child(
        self, above: str, name: str, page: Page, ask: Asker, holds_any: Callable[[str], bool]
    ) -> Call[str | Info | LeftOut | None] | str | Info | LeftOut | None:
        key = above + name
        if name.endswith("/"):
            return self._crew.submit(lambda: key if holds_any(key) else None)
        return self._entry(Listed(key, page.files[name]), ask)

    def _entry(self, entry: Listed | LeftOut, ask: Asker) -> Call[Any] | Info | LeftOut:
        """Return the info of a file of a listing, or ask for it."""
        if isinstance(entry, LeftOut):
            return entry
        if entry.found is None:
            return self._crew.submit(lambda: ask(entry.key))
        return Info(entry.key, entry.found.size, entry.found.etag, entry.found.modified)

    def _in_turn(self, results: Iterator[Call[T] | T]) -> Iterator[T]:
        """Yield results in their order; more of them are under way the more are asked for."""
        begun: deque[Call[T] | T] = deque()
        ahead = 1
        while True:
            begun.extend(islice(results, ahead - len(begun)))
            if not begun:
                return
            first = begun.popleft()
            yield self._result(cast("Call[T]", first)) if isinstance(first, Call) else first
            ahead = min(2 * ahead, self._most)

    def _result(self, call: Call[T]) -> T:
        self._check()
        return call.result()

    def _check(self) -> None:
        if self._process != os.getpid():
            raise StoreUnavailableError("this listing was begun before a fork; begin another in the child")

    def _walk(self, prefix: str, after: str) -> Iterator[Listed | LeftOut]:
        start = prefix[: prefix.rfind("/") + 1]
        if start and not is_key(start[:-1]):
            return
        first = self._page(start)
        if isinstance(first, str):
            # Of the base itself, this was an error.
            if start[:-1] > after:
                yield LeftOut(start[:-1], first)
            return
        if first is None:
            return
        stack = [self._level(start, first, prefix[len(start) :], after)]
        while stack:
            self._check()
            level = stack[-1]
            if level.at == len(level.steps):
                stack.pop()
                continue
            name, kind = level.steps[level.at]
            level.at += 1
            key = level.above + name
            if kind:
                yield LeftOut(key, kind)
            elif not name.endswith("/"):
                yield Listed(key, level.page.files[name])
            else:
                page = self._list(key, stack)
                if isinstance(page, str):
                    yield LeftOut(key[:-1], page)
                elif page is not None:
                    stack.append(self._level(key, page, "", after))

    def _list(self, folder: str, stack: list[_Level]) -> Page | str | None:
        call = self._pending.pop(folder, None)
        if call is None and self._most == 1:
            return self._page(folder)
        if call is None:
            call = self._crew.submit(lambda: self._page(folder))
        # The folders that come next, of the innermost level first.
        for level in reversed(stack):
            for name, kind in level.steps[level.at : level.at + self._most]:
                if len(self._pending) >= self._most - 1:
                    return call.result()
                above = level.above + name
                if not kind and name.endswith("/") and above not in self._pending:
                    self._pending[above] = self._crew.submit(lambda above=above: self._page(above))
        return call.result()

    def _level(self, above: str, page: Page, rest: str, after: str) -> _Level:
        steps: list[tuple[str, str]] = []
        for name in (*page.files, *page.folders):
            path = above + name
            is_folder = name.endswith("/")
            if not (name.startswith(rest) and (path > after or (is_folder and after.startswith(path)))):
                continue
            valid = is_key(path.removesuffix("/"))
            steps.append((name, "") if valid else (name.removesuffix("/"), NOT_A_KEY))
        for name, kind in page.odd.items():
            if name.startswith(rest) and above + name > after:
                steps.append((name, kind))
        return _Level(sorted(steps), above, page)
