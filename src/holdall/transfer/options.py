"""The arguments that transfers share, as types."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias, TypedDict

from holdall.spans import Span
from holdall.store import Info
from holdall.transfer.compare import Compare, Globs

Where: TypeAlias = Callable[[Info], object]
Progress: TypeAlias = Callable[[int, int, int, str], object]


class Options(TypedDict, total=False):
    """The keyword arguments of `copy_store` and `move_store`, except `dry_run`, which decides the result."""

    prefix: str | Span
    glob: Globs
    exclude: Globs
    where: Where | None
    compare: Compare
    verify: bool
    replace_unreadable: bool
    jobs: int | None
    journal: str | os.PathLike[str] | None
    progress: Progress | None
    executor: Any


class SyncOptions(Options, total=False):
    """Those of `sync_stores`."""

    delete: bool
    max_delete: float
