"""Pairing the blobs of two stores, and comparing the blobs of a pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias, cast

from holdall.arguments import check_type
from holdall.blob import place_of
from holdall.errors import BlobNotFoundError, InvalidArgumentError, StoreError
from holdall.keys import matcher, scan_range
from holdall.spans import Span, span_of, within
from holdall.store import Can, Info, LeftOut, Store

Globs: TypeAlias = str | Iterable[str] | None
"""One glob of keys, or several."""
Noted: TypeAlias = Callable[[bool, LeftOut], object]
"""Called with what a listing leaves out, and whether the source's does."""

Compare: TypeAlias = (
    Literal["auto", "size", "modified", "content", "etag"] | Callable[[Info, Info], object] | str
)
Judge: TypeAlias = Callable[[Info, Info], bool | None]
"""Return whether two blobs are equal; None if only their contents can show it."""


class Difference(NamedTuple):
    """A key whose blobs differ, or can't be compared, or a path that a store leaves out of its listing."""

    kind: Literal["source", "target", "differs", "failed", "left out"]
    """`source` or `target`: only that store has the key. `differs`: both have it, with different bytes.
    `failed`: one of the two blobs can't be read. `left out`: something there isn't a blob, such as a symbolic
    link, or a blob lies at or under such a path; a transfer neither copies nor deletes it."""
    key: str
    """The key; of what was left out its path, which needn't be a valid key."""
    source: Info | None
    target: Info | None
    error: Exception | None = None
    """Why it failed."""
    left_out: str | None = None
    """Which store left it out, and what it is: `source: symbolic link`."""


class Selection:
    """The keys to transfer, the same in both stores: the arguments are those of `copy_store`."""

    def __init__(
        self,
        prefix: str | Span,
        glob: Globs,
        where: Callable[[Info], object] | None,
        exclude: Globs = None,
    ) -> None:
        check_type(where, Callable | None, "where must be a function of an Info")
        self.globs = _check_globs("glob", glob)
        self.excluded = _check_globs("exclude", exclude)
        matches: Callable[[str], object] | None = None
        span = span_of(prefix)
        if glob is None or len(self.globs) == 1:
            self.prefix, start, matches = scan_range(span.prefix, self.globs[0] if self.globs else None)
        else:
            self.prefix, start, _ = scan_range(span.prefix, None)
            matches = _any_of(self.globs)
        self.span = Span(self.prefix, max(start, span.after), span.until)
        self.includes = matches
        # As in rsync, the name of a folder means all that is in it.
        names = [name.rstrip("/") for name in self.excluded]
        self.excludes = _any_of([*names, *(f"{name}/**" for name in names)]) if names else None
        self.where = where

    def selects(self, key: str) -> bool:
        """Return whether a key is selected, by the key itself."""
        return (
            self.span.covers(key)
            and (self.includes is None or bool(self.includes(key)))
            and (self.excludes is None or not self.excludes(key))
        )

    def scan(
        self, store: Store, left: Callable[[LeftOut], object], *, outline: bool = False
    ) -> Iterator[Info]:
        """Yield the blobs of a store whose keys are selected; call `left` with each entry that the listing
        leaves out, unless it is excluded. With `outline` sizes and ETags may be missing."""
        includes, excludes = self.includes, self.excludes
        last = ""
        for entry in _left_out_above(store, self.span):
            left(entry)
        if outline and type(store)._outline is not Store._outline:
            entries = within(store._outline(self.span.prefix, self.span.after), self.span.until)
        else:
            entries = _survey(store, self.span)
        for info in entries:
            if store._closed:
                raise store._closed_error()
            if isinstance(info, LeftOut):
                if excludes is None or not excludes(info.path.rstrip("/")):
                    left(info)
                continue
            key = info._key
            if key <= last:
                # Two lists can only be merged in order; otherwise keys would seem to be missing, and their
                # blobs would be deleted.
                raise StoreError(f"{store!r} lists {key!r} past {last!r}, which is out of order")
            last = key
            if (includes is None or includes(key)) and (excludes is None or not excludes(key)):
                yield info


def _survey(store: Store, span: Span) -> Iterator[Info | LeftOut]:
    """Yield what `Store._survey` yields of a span, in the same order."""
    if store._far:
        # Threads, and what they need, are for stores whose every call waits for a server.
        from holdall.transfer.ahead import survey_ahead

        return survey_ahead(store, span)
    return within(store._survey(span.prefix, span.after), span.until)


def above(path: str) -> Iterator[str]:
    """Return the folders of a path, from the outermost, and the path itself.

    >>> list(above("a/b/c"))
    ['a', 'a/b', 'a/b/c']
    """
    slash = path.find("/")
    while slash >= 0:
        yield path[:slash]
        slash = path.find("/", slash + 1)
    yield path


def _folders_before(span: Span) -> Iterator[str]:
    """Yield each path that isn't listed in a span, though keys under it may be.

    >>> list(_folders_before(Span("a/b", "a/b-c", None)))
    ['a', 'a/b', 'a/b-c']
    """
    yield from list(above(span.prefix))[:-1]
    for end in range(len(span.prefix), len(span.after) + 1):
        # Where "a" is a folder, "a-b" sorts between its name and the keys in it.
        if end and span.after[end : end + 1] <= "/":
            yield span.after[:end]


def _left_out_above(store: Store, span: Span) -> Iterator[LeftOut]:
    """Yield what a store leaves out at a folder of the span: blobs under a link are never listed."""
    if type(store)._survey is Store._survey:
        return
    for folder in _folders_before(span):
        for entry in store._survey(folder, ""):
            path = place_of(entry)
            if isinstance(entry, LeftOut) and path.rstrip("/") == folder:
                yield entry
                return
            # A folder may be listed where the keys in it sort, not where its name does.
            if path > folder + "/":
                break


def _check_globs(name: str, globs: Globs) -> list[str]:
    if globs is None:
        return []
    try:
        found = [globs] if isinstance(globs, str) else list(globs)
    except TypeError:
        found = [cast(str, globs)]
    for glob in found:
        check_type(glob, str, f"{name} must be one or more globs, each a str")
        # A folder that is excluded may be written with its slash. Any other glob that can match nothing is a
        # mistake: a copy would have blobs that it shouldn't, or lack blobs that it should have.
        segments = (glob.rstrip("/") if name == "exclude" else glob).split("/")
        if not {"", ".", ".."}.isdisjoint(segments):
            more = (
                f"; for all in a folder write {glob + '**'!r}" if len(glob) > 1 and not segments[-1] else ""
            )
            raise InvalidArgumentError(
                f"{name} {glob!r} matches no key: a key neither starts nor ends with '/', nor has a segment "
                f"that is empty, '.' or '..'{more}"
            )
    return found


def _any_of(globs: list[str]) -> Callable[[str], object]:
    tests = [matcher(glob) for glob in globs]
    if len(tests) == 1:
        return tests[0]
    return lambda key: any(test(key) for test in tests)


def pairs(
    source: Store, target: Store, selection: Selection, noted: Noted, *, outline: bool = False
) -> Iterator[tuple[Info | None, Info | None]]:
    """Yield the blobs of both stores, side by side, in key order; `noted` is called with what is left out.
    With `outline` sizes and ETags of the source may be missing, if nothing needs them."""
    where = selection.where
    both = _merge_listings(source, target, selection, noted, outline and where is None)
    if where is None:
        return both
    # One of the two Infos decides, so that a key is selected in both stores or in neither.
    return (pair for pair in both if where(cast(Info, pair[0] or pair[1])))


def _merge_listings(
    source: Store, target: Store, selection: Selection, noted: Noted, outline: bool
) -> Iterator[tuple[Info | None, Info | None]]:
    if Can.LIST not in target.can:
        for info in selection.scan(source, lambda entry: noted(True, entry)):
            yield info, _find_info(target, info.key)
        return
    targets = selection.scan(target, lambda entry: noted(False, entry))
    other = next(targets, None)
    # Where the target is empty, there is nothing to compare with.
    sources = selection.scan(source, lambda entry: noted(True, entry), outline=outline and other is None)
    one = next(sources, None)
    while one is not None and other is not None:
        mine, yours = one._key, other._key
        if mine == yours:
            yield one, other
            one, other = next(sources, None), next(targets, None)
        elif mine < yours:
            yield one, None
            one = next(sources, None)
        else:
            yield None, other
            other = next(targets, None)
    while one is not None:
        yield one, None
        one = next(sources, None)
    while other is not None:
        yield None, other
        other = next(targets, None)


def _find_info(store: Store, key: str) -> Info | None:
    try:
        return store._info(key)
    except BlobNotFoundError:
        return None


def judge(compare: Compare) -> Judge:
    """Return the function that `compare=` names."""
    if callable(compare):
        return lambda source, target: bool(compare(source, target))
    if isinstance(compare, str) and compare in _judges:
        return _judges[compare]
    raise InvalidArgumentError(f"compare must be one of {', '.join(_judges)}, or a function, not {compare!r}")


def _by_content(source: Info, target: Info) -> bool | None:
    return None if source._size == target._size else False


def _by_time(source: Info, target: Info) -> bool | None:
    if source._size != target._size:
        return False
    one, other = source._modified, target._modified
    if isinstance(one, float) and isinstance(other, float):
        # Most stores give seconds: comparing them makes no datetime of each.
        return other >= one
    return target.modified >= source.modified


_judges: dict[str, Judge] = {
    "auto": _by_content,
    "size": lambda source, target: source._size == target._size,
    "modified": _by_time,
    "content": _by_content,
    "etag": lambda source, target: source.etag == target.etag,
}
