"""From a URI to an async store."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

from holdall.aio.store import AsyncStore
from holdall.aio.waiting import on_thread
from holdall.aio.workers import Cancel
from holdall.store import Store

__all__ = ["open"]


class OpeningStore:
    """What `open` returns: to be awaited, or entered by `async with`, which closes the store at its end."""

    def __init__(self, uri: str | os.PathLike[str], options: dict[str, Any]) -> None:
        self._uri, self._options = uri, options
        self._store: AsyncStore | None = None

    async def _open(self) -> AsyncStore:
        opened = await on_thread(
            lambda: Store.from_uri(self._uri, **self._options), Cancel.STOP, undo=Store.close
        )
        self._store = AsyncStore(opened)
        return self._store

    def __await__(self) -> Generator[Any, Any, AsyncStore]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncStore:
        return await self._open()

    async def __aexit__(self, *_: object) -> None:
        if self._store is not None:
            await self._store.close()


def open(uri: str | os.PathLike[str], /, **options: Any) -> OpeningStore:  # noqa: A001 - the name users call
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
    return OpeningStore(uri, options)
