"""Checks of the arguments of a git store."""

from __future__ import annotations

import os

from holdall.arguments import check_wait
from holdall.errors import InvalidArgumentError
from holdall.paths import checked_path


def check_options(
    path: str | os.PathLike[str],
    author: str | None,
    remote: bool | str,
    pull_interval: float | None,
    push: str | None,
    timeout: float,
) -> str:
    """Check the arguments of `GitStore`; return the path."""
    given = checked_path(path)
    if author is not None and not _is_person(author):
        raise InvalidArgumentError(f"author must be 'Name <mail>', not {author!r}")
    if push not in ("background", "now", None):
        raise InvalidArgumentError(f"push must be 'background', 'now' or None, not {push!r}")
    if not isinstance(remote, bool | str) or remote == "":
        raise InvalidArgumentError(f"remote must be the name of a remote, True or False, not {remote!r}")
    if pull_interval is not None and not (isinstance(pull_interval, int | float) and pull_interval >= 0):
        raise InvalidArgumentError(f"pull_interval must be 0 seconds or more, or None, not {pull_interval!r}")
    check_wait(timeout)
    return given


def _is_person(author: object) -> bool:
    if not isinstance(author, str) or any(char in author for char in "\n\0"):
        return False
    name, opening, mail = author.partition("<")
    return bool(name.strip() and opening and mail.endswith(">") and not set("<>") & {*name, *mail[:-1]})
