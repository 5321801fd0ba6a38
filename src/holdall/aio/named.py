"""Names that open a store and give its calls as coroutines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import wraps
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Self, TypeVar, cast

from holdall.aio.store import AsyncStore, store_below
from holdall.layers.caching import CacheMode, CachingStore
from holdall.layers.fanout import FanoutStore
from holdall.store import Store
from holdall.stores.bucket import BucketStore
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.git import GitStore
from holdall.stores.hashdir import HashdirStore
from holdall.stores.http import HttpStore
from holdall.stores.memory import MemoryStore
from holdall.stores.path import PathStore
from holdall.stores.sql import SqlStore
from holdall.stores.sqlite import SqliteStore
from holdall.stores.valkey import ValkeyStore
from holdall.stores.zip import ZipStore

__all__ = [
    "AsyncBucketStore",
    "AsyncCachingStore",
    "AsyncFanoutStore",
    "AsyncFilesystemStore",
    "AsyncGitStore",
    "AsyncHashdirStore",
    "AsyncHttpStore",
    "AsyncMemoryStore",
    "AsyncPathStore",
    "AsyncSqlStore",
    "AsyncSqliteStore",
    "AsyncValkeyStore",
    "AsyncZipStore",
]

S = TypeVar("S", bound=Store)
P = ParamSpec("P")


def _over(kind: Callable[P, Store]) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Return what makes a constructor one with the arguments of a store's, which makes the view over it."""

    @wraps(kind.__init__)  # type: ignore[misc]
    def init(self: Any, /, *args: P.args, **options: P.kwargs) -> None:
        AsyncStore.__init__(self, kind(*args, **options))

    return lambda _: init


class _View(AsyncStore, Generic[S]):
    """An async store that knows the kind of the store under it."""

    @property
    def store(self) -> S:
        """The store under it."""
        return cast(S, self._store)


class AsyncFilesystemStore(_View[FilesystemStore]):
    """`FilesystemStore`, with the same arguments, as an `AsyncStore`."""

    @_over(FilesystemStore)
    def __init__(self) -> None: ...


class AsyncHashdirStore(_View[HashdirStore]):
    """`HashdirStore`, with the same arguments, as an `AsyncStore`."""

    @_over(HashdirStore)
    def __init__(self) -> None: ...


class AsyncSqliteStore(_View[SqliteStore]):
    """`SqliteStore`, with the same arguments, as an `AsyncStore`."""

    @_over(SqliteStore)
    def __init__(self) -> None: ...


class AsyncMemoryStore(_View[MemoryStore]):
    """`MemoryStore`, with the same arguments, as an `AsyncStore`.

    >>> import asyncio
    >>> asyncio.run(AsyncMemoryStore({"a": b"1"}).get("a"))
    b'1'
    """

    @_over(MemoryStore)
    def __init__(self) -> None: ...


class AsyncZipStore(_View[ZipStore]):
    """`ZipStore`, with the same arguments, as an `AsyncStore`."""

    @_over(ZipStore)
    def __init__(self) -> None: ...


class AsyncGitStore(_View[GitStore]):
    """`GitStore`, with the same arguments, as an `AsyncStore`."""

    @_over(GitStore)
    def __init__(self) -> None: ...


class AsyncValkeyStore(_View[ValkeyStore]):
    """`ValkeyStore`, with the same arguments, as an `AsyncStore`."""

    @_over(ValkeyStore)
    def __init__(self) -> None: ...


class AsyncSqlStore(_View[SqlStore]):
    """`SqlStore`, with the same arguments, as an `AsyncStore`."""

    @_over(SqlStore)
    def __init__(self) -> None: ...


class AsyncHttpStore(_View[HttpStore]):
    """`HttpStore`, with the same arguments, as an `AsyncStore`."""

    @_over(HttpStore)
    def __init__(self) -> None: ...


class AsyncPathStore(_View[PathStore]):
    """`PathStore`, with the same arguments, as an `AsyncStore`."""

    @_over(PathStore)
    def __init__(self) -> None: ...


class AsyncBucketStore(_View[BucketStore]):
    """`BucketStore` as an `AsyncStore`, over a client that is already there, or by a URI.

    Args:
        client: A client, as `BucketStore.from_client` takes it, such as one of aiobotocore, boto3 or obstore;
            it stays open. Or a URI, as `BucketStore` takes it.
        bucket: The bucket, where the client doesn't name one.
        prefix: What the names of all objects start with.
        options: With a URI: the other arguments of `BucketStore`.

    Raises:
        InvalidArgumentError: As in `BucketStore`; or an argument doesn't go with the others.

    >>> store = AsyncBucketStore("s3://bucket/models", endpoint="http://127.0.0.1:8333", anonymous=True)
    >>> store.store
    BucketStore('s3://bucket/models', endpoint='http://127.0.0.1:8333', anonymous=True)
    """

    def __init__(self, client: Any, bucket: str | None = None, prefix: str = "", **options: Any) -> None:
        super().__init__(BucketStore(client, bucket, prefix, **options))

    @classmethod
    def from_client(cls, client: Any, bucket: str | None = None, prefix: str = "") -> Self:
        """Return a store on a client, as `BucketStore.from_client` does."""
        return cls(client, bucket, prefix)


class AsyncFanoutStore(_View[FanoutStore]):
    """`FanoutStore` as an `AsyncStore`.

    Args:
        children: The replicas, as stores or as async stores. They stay open.

    The other arguments are those of `FanoutStore`.

    >>> import asyncio
    >>> from holdall import MemoryStore
    >>> near, far = MemoryStore(), AsyncMemoryStore()
    >>> asyncio.run(AsyncFanoutStore([near, far]).put("a", b"1")).size, near["a"]
    (1, b'1')
    """

    def __init__(
        self,
        children: Sequence[Store | AsyncStore] | Mapping[str, Store | AsyncStore],
        *,
        read: Literal["first"] = "first",
        write: Literal["all"] | int = "all",
        timeout: float | None = None,
        fill: bool = False,
    ) -> None:
        plain: Any = children
        if isinstance(children, Mapping):
            plain = {name: store_below(child) for name, child in children.items()}
        elif isinstance(children, list | tuple):
            plain = [store_below(child) for child in children]
        super().__init__(FanoutStore(plain, read=read, write=write, timeout=timeout, fill=fill))


class AsyncCachingStore(_View[CachingStore]):
    """`CachingStore` as an `AsyncStore`.

    Args:
        store: The source, as a store or as an async store. It stays open.
        cache: Where the copies are kept, as a store or as an async store. It stays open.

    The other arguments are those of `CachingStore`.

    >>> import asyncio
    >>> store = AsyncCachingStore(AsyncMemoryStore({"a": b"1"}), AsyncMemoryStore())
    >>> asyncio.run(store.get("a")), store.store.stats().misses
    (b'1', 1)
    """

    def __init__(
        self,
        store: Store | AsyncStore,
        cache: Store | AsyncStore,
        mode: CacheMode | Literal["none", "write-through", "write-back"] = CacheMode.WRITE_THROUGH,
        *,
        fresh: float | timedelta | Literal["etag", "immutable"] = "etag",
        max_bytes: int | None = None,
        sync_on_close: bool = True,
        jobs: int = 8,
    ) -> None:
        super().__init__(
            CachingStore(
                store_below(store),
                store_below(cache),
                mode,
                fresh=fresh,
                max_bytes=max_bytes,
                sync_on_close=sync_on_close,
                jobs=jobs,
            )
        )
