"""Cutting the keys of a store into spans of about equal size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise, takewhile
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from holdall.blob import Info, LeftOut, place_of
from holdall.keys import check_prefix

Entry = TypeVar("Entry", Info, "Info | LeftOut", str)
T = TypeVar("T")

PAGE = 100
"""The number of keys of a page: a group with fewer keys is small."""
_PAGES = 16
"""The pages that are looked at for each part, at most."""
_SAMPLED = 64
"""The keys that are held for each part, at most."""
_ALONE = 32
"""The number of groups next to each other of which each has one character; the others have several."""


class Span(NamedTuple):
    """The keys that start with `prefix`, sort past `after`, and don't sort past `until`; see `Store.split`.

    >>> Span("logs/", "logs/b", "logs/d").covers("logs/c")
    True
    """

    prefix: str = ""
    after: str = ""
    until: str | None = None
    """None for no end."""

    def covers(self, key: str) -> bool:
        """Return whether a key belongs to the span."""
        return key.startswith(self.prefix) and self.after < key and (self.until is None or key <= self.until)


Spans: TypeAlias = "list[Span]"
"""What `Store.split` returns."""


def span_of(prefix: object) -> Span:
    """Return the span that a call was given, or that of a prefix."""
    return prefix if isinstance(prefix, Span) else Span(check_prefix(prefix))


def spans_between(span: Span, points: Iterable[str]) -> Spans:
    """Cut a span at points.

    >>> spans_between(Span(), ["m"])
    [Span(prefix='', after='', until='m'), Span(prefix='', after='m', until=None)]
    """
    prefix, after, until = span
    ends = [point for point in sorted(set(points)) if after < point and (until is None or point < until)]
    return [Span(prefix, low, high) for low, high in zip([after, *ends], [*ends, until], strict=True)]


def within(entries: Iterator[Entry], until: str | None) -> Iterator[Entry]:
    """Yield the entries of a listing up to the end of a span."""
    if until is None:
        return entries
    return takewhile(lambda entry: (entry if isinstance(entry, str) else place_of(entry)) <= until, entries)


def sample_points(keys: Iterable[str], n: int) -> list[str]:
    """Return at most `n` - 1 places that cut keys into parts of about equal size. All keys are listed, and a
    few held.

    >>> sample_points(map(str, range(1000, 5000)), 4)
    ['1999', '2999', '3999']
    """
    sample, stride, number = list[str](), 1, 0
    for number, key in enumerate(keys, 1):
        if number % stride == 0:
            sample.append(key)
            if len(sample) == 2 * _SAMPLED * n:
                sample, stride = sample[1::2], stride * 2
    ends = [round(at * number / n / stride) for at in range(1, n)]
    return [sample[end - 1] for end in sorted(set(ends)) if end > 0 and end * stride < number]


class _Mapped(Protocol):
    """As `map`."""

    def __call__(self, function: Callable[[_Group], T], groups: Iterable[_Group], /) -> Iterable[T]: ...


class _Group(NamedTuple):
    """Keys that come one after the other."""

    start: str
    """What they start with; they may have more in common."""
    end: str | None
    """None of them sorts past this, and all that come next do."""
    keys: list[str]
    """The first of them."""
    share: float
    """What it is guessed to hold: of the group that it is a part of, then of all keys."""


def guess_points(look: Callable[[str], list[str]], n: int, span: Span, mapped: _Mapped = map) -> list[str]:
    """Return at most `n` - 1 places that cut the keys of a span into parts of about equal size, by a look at
    some pages of keys.

    A group of a page or more is divided by the first character in which its keys differ, until it is guessed
    to hold no more than a part. Groups next to each other are guessed to hold the same, except those that are
    small. So digits, dates, random names and counters are cut well; if one of many folders holds most of the
    keys, it gets too few parts.

    Args:
        look: Returns a page of keys past a place, in order, or those that there are.
        n: The number of parts.
        span: The span to cut.
        mapped: As `map`; it may call several at once.

    >>> keys = [f"{number:05}" for number in range(10_000)]
    >>> guess_points(lambda after: [key for key in keys if key > after][:PAGE], 2, Span())
    ['05']
    """
    left = _PAGES * (n + 1)

    def look_within(after: str, end: str | None) -> list[str]:
        nonlocal left
        left -= 1
        return list(within(iter(look(after)), end)) if left >= 0 else []

    keys = look_within(span.after, span.until)
    if len(keys) < PAGE:
        return sample_points(keys, n)
    large, ends = [_Group(span.prefix, span.until, keys, 1.0)], list[tuple[str | None, float]]()
    while large:
        divided = list(mapped(lambda group: (group, list(_divide_group(look_within, group))), large))
        large = list[_Group]()
        for group, parts in divided:
            total = sum(part.share for part in parts if len(part.keys) >= PAGE) or 1.0
            for part in parts:
                share = part.share * group.share / total
                if len(part.keys) < PAGE:
                    # Its size is known, but not that of a large one, which has more than a page.
                    ends.append((part.end, share * len(part.keys) / PAGE / 4))
                elif share * n > 1 and left > 0:
                    large.append(part._replace(share=share))
                else:
                    ends.append((part.end, share))
    return _choose_ends(ends, n)


def _choose_ends(ends: list[tuple[str | None, float]], n: int) -> list[str]:
    """Choose from the ends of groups, each with its share, those that are nearest to the ends of equal
    parts."""
    ends.sort(key=lambda end: (end[0] is None, end[0]))
    total, done, chosen = sum(share for _, share in ends), 0.0, list[str]()
    for (end, share), (_, following) in pairwise(ends):
        done += share
        if end is not None and len(chosen) < n - 1 and done + following / 2 > total * (len(chosen) + 1) / n:
            chosen.append(end)
    return chosen


def _divide_group(look: Callable[[str, str | None], list[str]], group: _Group) -> Iterator[_Group]:
    """Yield the parts of a group, by the first character in which its keys differ."""
    width, keys, number = _common(look, group), group.keys, 0
    while keys:
        first, number = keys[0], number + 1
        if len(first) <= width:
            # It is the start of all others.
            yield _Group(first, first, [first], 1.0)
            keys = look(first, group.end)
            continue
        # Where there are many characters, as in Chinese, a look for each would take too long.
        reach = max(1, number - _ALONE)
        end = past_start(first[: width + 1], reach)
        if end is None or (group.end is not None and end > group.end):
            end = group.end
        same = list(within(iter(keys), end))
        yield _Group(first[: width + (reach == 1)], end, same, float(reach))
        keys = keys[len(same) :] if len(keys) < PAGE else [] if end is None else look(end, group.end)


def _common(look: Callable[[str, str | None], list[str]], group: _Group) -> int:
    """Return the number of characters that all keys of a group start with."""
    first, last = group.keys[0], group.keys[-1]
    low, step = len(group.start), 1
    high = next(
        (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first)
    )
    # Mostly they differ soon.
    while low < high:
        at = min(low + step - 1, (low + high) // 2)
        end = past_start(first[: at + 1])
        if end is not None and look(end, group.end):
            high = at
        else:
            low, step = at + 1, step * 2
    return high


def past_start(start: str, reach: int = 1) -> str | None:
    """Return a short text that all keys with this start sort before; None if there is none.

    A key that is equal to it counts as one of them, unlike with `keys.past`, which no medium takes for a key.

    >>> past_start("a/b"), past_start("a\U0010ffff")
    ('a/c', 'b')
    """
    start = start.rstrip("\U0010ffff")
    if not start:
        return None
    after = min(ord(start[-1]) + reach, 0x10FFFF)
    return start[:-1] + chr(0xE000 if 0xD800 <= after < 0xE000 else after)
