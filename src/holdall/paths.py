"""What a path of the local disk may be: the one check that every store on a disk makes of its path."""

from __future__ import annotations

import os
import re

from holdall.errors import InvalidArgumentError, InvalidTypeError

_LONGEST = 4096
"""No system takes a longer path; Linux's PATH_MAX."""

_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://").match
# pathlib makes one slash of two.
_collapsed = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/").match


def checked_path(path: object, what: str = "a folder") -> str:
    """A path as a str, if it can be one.

    Args:
        path: What the caller gave.
        what: What should be there, for messages.

    Raises:
        InvalidArgumentError: It is empty, can't be spelled on a disk, or is a URI.
        InvalidTypeError: It isn't a str or a Path.

    >>> from pathlib import Path
    >>> checked_path(Path("data")), checked_path("./s3:")
    ('data', './s3:')
    >>> checked_path("s3://bucket")
    Traceback (most recent call last):
    holdall.errors.InvalidArgumentError: expected the path of a folder, got a URI (s3://...); ...
    """
    try:
        given = os.fspath(path)  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType]
    except TypeError:
        given = None
    if not isinstance(given, str):
        raise InvalidTypeError(f"expected the path of {what}, a str or a Path, got {type(path).__name__}")
    found = _scheme(given) or (None if isinstance(path, str) else _collapsed(given))
    if found is not None:
        # Not the rest of it, where a password may be.
        scheme = found[0].partition(":")[0]
        raise InvalidArgumentError(
            f"expected the path of {what}, got a URI ({scheme}://...); Store.from_uri opens URIs, and "
            f"'./{scheme}:...' is a path"
        )
    checked_text(given, f"the path of {what}")
    return given


def checked_text(text: str, what: str) -> None:
    """Refuse what no system takes as a path.

    Raises:
        InvalidArgumentError: It is empty, too long, or has a NUL or a lone surrogate.
    """
    why = None
    if not text:
        why = "it is empty"
    elif "\0" in text:
        why = "it has a NUL"
    else:
        try:
            # What isn't UTF-8 on a disk comes as surrogates that go back to the same bytes; others don't.
            if len(os.fsencode(text)) > _LONGEST:
                why = f"it is longer than {_LONGEST:,} bytes"
        except UnicodeEncodeError:
            why = "it has a lone surrogate"
    if why is not None:
        # Not all of it: a URI may hold a password.
        shown = "this" if "://" in text else ascii(text if len(text) < 80 else f"{text[:40]}...")
        raise InvalidArgumentError(f"{shown} can't be {what}: {why}")
