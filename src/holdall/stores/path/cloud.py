"""A store in a `CloudPath`: what all clouds of cloudpathlib have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar, cast

from holdall.errors import InvalidArgumentError, UnsupportedOperation
from holdall.ranges import CHUNK
from holdall.stores.path.abreast import Job, abreast
from holdall.stores.path.failures import failed
from holdall.stores.path.store import PathStore

__all__ = ["PART", "_Cloud", "is_text"]

T = TypeVar("T")

PART = 5 * CHUNK
"""The least part of a multipart upload that S3 takes, and what may be held of any body in memory."""


class _Cloud(PathStore):
    """The common part of all clouds of cloudpathlib: a bucket, a folder in it, and a client."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._bucket, _, folder = str(path).removeprefix(path.cloud_prefix).partition("/")
        if not self._bucket:
            raise InvalidArgumentError(f"{str(path)!r} doesn't name a bucket")
        self._root = f"{folder.strip('/')}/" if folder.strip("/") else ""
        self._client: Any = path.client

    def __reduce__(self) -> tuple[object, ...]:
        kind = cast(Any, type(self._client))
        if kind.get_default_client() is not self._client:
            raise UnsupportedOperation(
                "a path with a client of its own can't go to another process; make it the default one, "
                "here and there, with client.set_as_default_client()"
            )
        return super().__reduce__()

    def _call(self, what: str, function: Callable[[], T]) -> T:
        """Call a client; its errors are ours."""
        try:
            return function()
        except Exception as error:
            raise failed(error, what, self._bucket) from error

    def _remove_all(self, names: Iterable[str]) -> None:
        for _ in abreast(Job(name, 0, partial(self._remove, name)) for name in names):
            pass

    def _remove(self, name: str) -> None:
        """Delete what has a name, if it is there."""
        raise NotImplementedError

    def _kind(self, name: str, key: str) -> dict[str, str]:
        """The media type of what is put, as an argument of this name."""
        guess = self._client.content_type_method
        kind, encoding = guess(key) if guess is not None else (None, None)
        # A reader of a blob with a content encoding would get other bytes than were put.
        return {name: kind} if kind is not None and encoding is None else {}


def is_text(prefix: str) -> bool:
    """Whether a key can begin so: one with a lone surrogate can't be sent."""
    return prefix.isascii() or not re.search("[\ud800-\udfff]", prefix)
