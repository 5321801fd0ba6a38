"""What the calls of a mapping and of `open` take, checked."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from holdall.blob import HasKeys
from holdall.errors import InvalidArgumentError, InvalidTypeError

_FOREVER: Final = 10**12
_LONGEST_WAIT: Final = 2_000_000
"""Seconds; sockets and threads wait for 24 days at most."""


def pairs_of(items: object) -> Iterator[tuple[str, Any]]:
    """Yield the pairs of what `put_many` was given, as `dict.update` takes it.

    Raises:
        InvalidTypeError: This isn't a mapping or an iterable of pairs.
        InvalidArgumentError: What should be a pair has another length.

    >>> list(pairs_of({"a": 1})), list(pairs_of([["b", 2]]))
    ([('a', 1)], [('b', 2)])
    """
    if isinstance(items, Mapping):
        return iter(cast("Mapping[str, Any]", items).items())
    return _pairs_in(items)


def _pairs_in(items: object) -> Iterator[tuple[str, Any]]:
    if hasattr(items, "keys") and hasattr(items, "__getitem__"):
        # The protocol of dict.update, which dbm and many clients have without being a Mapping.
        duck = cast(HasKeys, items)
        keys = cast(object, duck.keys())
        if not isinstance(keys, Iterable):
            raise InvalidTypeError(f"the keys() of {type(items).__name__} returned {type(keys).__name__}")
        for key in cast("Iterable[str]", keys):
            yield key, duck[key]
        return
    if not isinstance(items, Iterable):
        kind = type(items).__name__
        raise InvalidTypeError(f"expected a mapping or pairs of key and data, not {kind}")
    for pair in cast("Iterable[object]", items):
        yield _pair_of(pair)


def _pair_of(pair: object) -> tuple[str, Any]:
    if type(pair) is not tuple:
        if not isinstance(pair, Iterable) or isinstance(
            pair, str | bytes | bytearray | memoryview | Mapping | Set
        ):
            kind = type(cast(object, pair)).__name__
            raise InvalidTypeError(f"expected a mapping or pairs of key and data, and got one {kind}")
        pair = tuple(cast("Iterable[object]", pair))
    if len(cast("tuple[object, ...]", pair)) != 2:
        length = len(cast("tuple[object, ...]", pair))
        raise InvalidArgumentError(f"expected pairs of key and data, and got one of length {length}")
    return cast("tuple[str, Any]", pair)


def check_type(value: object, kind: Any, expected: str, *, hint: str = "", key: str | None = None) -> None:
    """Refuse a value that isn't of a type, or of one of several, as in `isinstance`.

    >>> check_type(5, str, "a glob must be a str")
    Traceback (most recent call last):
    holdall.errors.InvalidTypeError: a glob must be a str, not int
    """
    if not isinstance(value, kind):
        more = f"; {hint}" if hint else ""
        raise InvalidTypeError(f"{expected}, not {type(value).__name__}{more}", key=key)


def check_count(value: object, what: str, *, key: str | None = None) -> None:
    """Refuse what isn't a whole number from 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidTypeError(f"{what} must be an int of at least 1, not {value!r}", key=key)
    if value < 1:
        raise InvalidArgumentError(f"{what} must be an int of at least 1, not {value!r:.50}", key=key)


def check_choice(value: object, what: str, choices: Iterable[str]) -> None:
    """Refuse what isn't one of some words."""
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise InvalidArgumentError(f"{what} must be one of {', '.join(map(repr, known))}, not {value!r}")


def check_many(keys: object, call: str) -> Iterable[str]:
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        kind = type(cast(object, keys)).__name__
        raise InvalidTypeError(f"{call}_many takes an iterable of keys, not {kind}; {call}(key) is for one")
    return cast("Iterable[str]", keys)


def check_mode(key: str, mode: object, encoding: str | None, errors: str | None, newline: str | None) -> str:
    letters = set(mode) if isinstance(mode, str) else set[str]()
    action = letters & {"r", "w", "x", "a"}
    if (
        not isinstance(mode, str)
        or len(action) != 1
        or letters - {"r", "w", "x", "a", "b", "t"}
        or len(letters) != len(mode)
        or {"b", "t"} <= letters
    ):
        kind = InvalidArgumentError if isinstance(mode, str) else InvalidTypeError
        message = f"a mode must be 'r', 'w', 'x' or 'a', with 'b' or 't', not {mode!r}"
        if "+" in letters and not letters - set("rwxabt+"):
            message += "; a blob is replaced, not changed in place"
        if isinstance(mode, str) and set(key) <= set("rwxbt"):
            message += f"; did you mean open({mode!r}, {key!r})?"
        raise kind(message, key=key)
    if "b" in letters:
        if (encoding, errors, newline) != (None, None, None):
            raise InvalidArgumentError(
                "encoding, errors and newline are for text; leave out the 'b' of the mode", key=key
            )
    elif (encoding, errors, newline) != (None, None, None):
        try:
            # What Python refuses is refused before anything is opened.
            io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, newline=newline)
            if errors is not None:
                codecs.lookup_error(errors)
        except TypeError as error:
            raise InvalidTypeError(f"can't open text with these options: {error}", key=key) from None
        except (ValueError, LookupError) as error:
            raise InvalidArgumentError(f"can't open text with these options: {error}", key=key) from None
    return action.pop()


_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_VALUE: Final = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
_LARGEST: Final = 2048


def check_metadata(metadata: object) -> dict[str, str] | None:
    """Return a copy of a blob's metadata, None if it is empty; refuse what some cloud wouldn't keep as it is.

    >>> check_metadata({"owner": "ana"}), check_metadata({})
    ({'owner': 'ana'}, None)
    """
    if not isinstance(metadata, Mapping):
        raise InvalidTypeError(f"metadata must be a mapping of str to str, not {type(metadata).__name__}")
    checked: dict[str, str] = {}
    for name, value in cast("Mapping[object, object]", metadata).items():
        if not isinstance(name, str) or not isinstance(value, str):
            kinds = f"{type(name).__name__} to {type(value).__name__}"
            raise InvalidTypeError(f"metadata must be a mapping of str to str, and has one of {kinds}")
        if not _NAME.fullmatch(name):
            raise InvalidArgumentError(
                f"a name in metadata must have only a-z, 0-9 and _, from a letter on, not {name!r:.80}"
            )
        if not _VALUE.fullmatch(value):
            raise InvalidArgumentError(
                f"the value of {name!r:.80} in metadata must be printable ASCII without spaces at its ends, "
                f"not {value!r:.80}; encode it, as with urllib.parse.quote"
            )
        checked[name] = value
    size = sum(map(len, checked)) + sum(map(len, checked.values()))
    if size > _LARGEST:
        raise InvalidArgumentError(f"metadata must have at most {_LARGEST:,} bytes in all, not {size:,}")
    return checked or None


def check_seconds(value: object, what: str, most: int = _FOREVER) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTypeError(
            f"{what} must be a number of seconds or a timedelta, not {type(value).__name__}"
        )
    # An int may be too large for a float, and for a message.
    if not 0 < value <= most:
        raise InvalidArgumentError(
            f"{what} must be more than 0 and at most {most:,} seconds, not {value!r:.40}"
        )
    return float(value)


def check_expiry(ttl: object, expires: object) -> datetime:
    """Return when a blob expires that is written now with a ttl, or until a moment; one of the two is given.

    >>> from datetime import UTC
    >>> check_expiry(None, datetime(2999, 1, 1, tzinfo=UTC)).year
    2999
    """
    now = datetime.now(UTC)
    if ttl is None:
        if not isinstance(expires, datetime):
            raise InvalidTypeError(f"expires must be an aware datetime, not {type(expires).__name__}")
        if expires.tzinfo is None or expires.utcoffset() is None:
            raise InvalidArgumentError("expires must be an aware datetime, as datetime.now(UTC) returns")
        if expires <= now:
            raise InvalidArgumentError(f"expires must be a moment to come, not {expires.isoformat()}")
        return expires
    if expires is not None:
        raise InvalidArgumentError("ttl and expires both say when the blob expires; give one of them")
    seconds = check_seconds(ttl, "a ttl")
    try:
        return now + timedelta(seconds=seconds)
    except OverflowError:
        raise InvalidArgumentError(f"a ttl of {seconds:g} seconds is past the year 9999") from None


def check_wait(timeout: object) -> None:
    """Check the timeout of a store, which keeps it as it is, so that it must be a number."""
    if isinstance(timeout, timedelta):
        raise InvalidTypeError(
            "a timeout must be a number of seconds, not timedelta: give its total_seconds()"
        )
    check_seconds(timeout, "a timeout", _LONGEST_WAIT)
