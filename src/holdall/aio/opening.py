"""From a URI to an async store."""

from __future__ import annotations

import os
from typing import Any

from holdall.aio.store import AsyncStore, Opening
from holdall.aio.waiting import on_thread
from holdall.store import Store

__all__ = ["open"]


def open(uri: str | os.PathLike[str], /, **options: Any) -> Opening[AsyncStore]:  # noqa: A001 - the name users call
    """Open the store that a URI, a path, or a name of `holdall.toml` names, as `Store.from_uri` does.

    Args:
        uri: Such as `./data`, `sqlite:///file.db`, or the `name:` of a stack in `holdall.toml`.
        options: Its options as keywords.

    Raises:
        InvalidArgumentError: The scheme or an option is unknown; the message lists those known.

    >>> import asyncio, holdall.aio
    >>> async def main():
    ...     async with holdall.aio.open("memory://") as store:
    ...         await store.put("a", b"1")
    ...         return await store.get("a")
    >>> asyncio.run(main())
    b'1'
    """

    async def begin() -> AsyncStore:
        return AsyncStore(await on_thread(lambda: Store.from_uri(uri, **options), undo=Store.close))

    return Opening(begin)
