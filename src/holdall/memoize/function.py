"""A function whose results are kept in a store."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    NamedTuple,
    ParamSpec,
    TypeVar,
    cast,
    overload,
)
from weakref import ref

from holdall.errors import InvalidArgumentError, InvalidTypeError, MissingDependencyError
from holdall.forks import begin_anew
from holdall.memoize.canonical import FormlessError, class_form
from holdall.memoize.entry import Entries, RaisedError, created_of
from holdall.memoize.flights import Flight, Flights, blocked, lead, leading
from holdall.memoize.keys import Keys
from holdall.memoize.shelf import LOCKS, Shelf
from holdall.store import _MISSING as MISSING
from holdall.threads import start

if TYPE_CHECKING:
    from holdall.locks import Lock

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

_log = logging.getLogger("holdall.memoize")
_LEASE: Final = 30.0
"""Seconds without a renewal after which the one who computes a call loses its lock."""


class CacheInfo(NamedTuple):
    """What a cached function has kept.

    Attributes:
        hits: How many calls found their result, in this process.
        misses: How many computed it.
        entries: How many results are kept, by all processes.
        bytes: Their size in the store.
        max_entries: The limits, as they were given.
        max_bytes: The same.
        ttl: The same, in seconds.
        store: Where the results are: the repr of the store, or `the memory of this process`.
        shared: Whether one call is computed once at a time among all processes, or only in this one, since
            the store can't lock.
    """

    hits: int
    misses: int
    entries: int
    bytes: int
    max_entries: int | None
    max_bytes: int | None
    ttl: float | None
    store: str
    shared: bool


class Options(NamedTuple):
    """What `cached` was given."""

    store: object
    ttl: float | None
    max_bytes: int | None
    max_entries: int | None
    key: Callable[..., Any] | None
    ignore: str | Iterable[str]
    version: Any
    refresh_after: float | None
    strict: bool
    errors: tuple[type[Exception], ...]


class Cached(Generic[P, R]):
    """A function whose results are kept; `cached` makes it.

    It is called as the function is. As an attribute of a class it is a method.

    >>> from holdall import cached
    >>> @cached
    ... def square(x):
    ...     return x * x
    >>> square(3), square(3), square.cache_info().hits
    (9, 9, 1)
    """

    __wrapped__: Callable[P, R]
    __name__: str
    __qualname__: str

    _MOST: Final = 8
    """How many results of it are refreshed at once in this process."""

    def __init__(self, function: Callable[P, R], options: Options) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._options = options
        self._keys = Keys(function, options.key, options.ignore, options.version)
        self._shelf = Shelf(
            options.store, self._keys.folder, options.ttl, options.max_bytes, options.max_entries
        )
        self._entries = Entries(trusted=self._shelf.private)
        self._strict = options.strict
        self._refresh_after = options.refresh_after
        self._class: ref[type[Any]] | None = None
        """Of a method, the class that declares it."""
        self._hits = self._misses = 0
        self._generation = 0
        """What is computed from before an invalidation isn't kept after it."""
        self._warned: set[str] = set()
        self._begin()
        begin_anew(cast(Any, self), _begin_anew)

    def _begin(self) -> None:
        self._flights = Flights()
        self._refreshing: set[str] = set()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._class is None:
            return self._call_with(args, kwargs, None)
        return self._call_with(args, kwargs, self._owner_in(args))

    def _owner_in(self, args: tuple[Any, ...]) -> Any:
        """Return the object of a method that is called on its class, as `Class.method(object)`."""
        kind = None if self._class is None else self._class()
        return args[0] if kind is not None and args and isinstance(args[0], kind) else None

    def _call_with(self, args: tuple[Any, ...], kwargs: dict[str, Any], owner: Any) -> Any:
        key: str | None = None
        if not kwargs:
            keys = self._keys
            try:
                key = keys.quick(args, None if owner is None else keys.owner_form(owner))
            except (FormlessError, RecursionError):
                """The general way says of which argument."""
        if key is None:
            key = self._keys.of(args, kwargs, owner)
        return self._answer(key, args, kwargs)

    def _answer(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what is kept of a call, or compute it."""
        data = self._look(key)
        if data is not None:
            if self._refresh_after is not None and self._is_old(data):
                self._begin_refresh(key, args, kwargs)
            found = self._read(key, data)
            if found is not MISSING:
                return found
        return self._compute(key, args, kwargs)

    def _look(self, key: str) -> bytes | None:
        """Return what is kept of a call."""
        try:
            return self._shelf.get(key)
        # A store of another package may raise anything.
        except Exception as error:  # noqa: BLE001
            self._fail("can't be read", error)
            return None

    def _read(self, key: str, data: bytes) -> Any:
        """Return the value of what is kept, or `MISSING` if it can't be read; or raise what was raised."""
        try:
            found = self._entries.decode(key, data)
            self._hits += 1
            return found
        except RaisedError as kept:
            error = cast(BaseException, kept.__cause__)
            self._hits += 1
        # A serializer of another package may raise anything.
        except Exception as error:  # noqa: BLE001
            what = f"a kept result of {self._keys.name} can't be read, so it is computed again"
            self._warn("unreadable", what, error)
            return MISSING
        raise error

    def _compute(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute a call, or wait for whoever computes it already."""
        while True:
            mine = Flight()
            try:
                flight = self._flights.enter(key, mine)
                if flight is mine:
                    with lead(mine):
                        return self._lead(key, mine, args, kwargs)
            finally:
                self._flights.leave(key, mine)
            with blocked(flight) as ends:
                if not ends:
                    return self._run(args, kwargs)
                flight.wait()
            found = self._outcome(key, flight)
            if found is not MISSING:
                return found

    def _outcome(self, key: str, flight: Flight) -> Any:
        """Return what was computed; `MISSING` if that was interrupted."""
        if flight.error is not None:
            raise flight.error
        return MISSING if flight.data is None else self._read(key, flight.data)

    def _lead(self, key: str, mine: Flight, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        generation = self._generation
        lock = self._lock(key)
        try:
            found = self._take_lock(key, lock, mine)
            if found is not MISSING:
                return found
            try:
                value = self._run(args, kwargs)
            except Exception as error:
                mine.error = error
                if isinstance(error, self._options.errors):
                    self._keep(key, mine, error, generation, raised=True)
                raise
            self._keep(key, mine, value, generation)
            return value
        finally:
            self._release(lock)

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._misses += 1
        return self._check_result(self._function(*args, **kwargs))

    def _check_result(self, value: Any) -> Any:
        """Refuse a result that can be used once only."""
        if inspect.isgenerator(value) or inspect.isasyncgen(value):
            raise InvalidTypeError(
                f"{self._keys.name} returned a generator, which can be read once only: return a list"
            )
        if isinstance(value, Awaitable):
            if inspect.iscoroutine(cast(object, value)):
                cast(Any, value).close()
            raise InvalidTypeError(
                f"{self._keys.name} returned something to await, and isn't a coroutine function: decorate "
                "the function that is declared by 'async def'"
            )
        return value

    def _lock(self, key: str) -> Lock | None:
        """Return the lock of a call, not held yet; None if the store can't lock."""
        try:
            if self._shelf.can_lease():
                from holdall.locks import Lock

                return Lock(self._shelf.store, LOCKS + key, ttl=_LEASE, forget=True)
        # A store of another package may raise anything.
        except Exception as error:  # noqa: BLE001
            self._fail("can't be locked", error)
        return None

    def _take_lock(self, key: str, lock: Lock | None, mine: Flight) -> Any:
        """Take the lock, and return the result if another has kept it meanwhile, otherwise `MISSING`."""
        while lock is not None:
            try:
                if lock.try_once():
                    break
                pause = lock.pause()
            except Exception as error:  # noqa: BLE001
                self._fail("can't be locked", error)
                break
            time.sleep(pause)
            found = self._again(key, mine)
            if found is not MISSING:
                return found
        return self._again(key, mine)

    def _try(self, lock: Lock | None) -> bool:
        """Return whether to refresh: nobody else does, as far as can be known."""
        try:
            return lock is None or lock.try_once()
        # Such as that the interpreter is about to end, where no thread that renews the lock can be started.
        except Exception as error:  # noqa: BLE001
            _log.debug("the lock of a refresh of %s: %s", self._keys.name, error)
            return True

    def _again(self, key: str, mine: Flight) -> Any:
        """Look for a result that was kept since the first look."""
        data = self._look(key)
        if data is None or self._is_old(data):
            return MISSING
        found = self._read(key, data)
        if found is not MISSING:
            mine.data = data
        return found

    def _release(self, lock: Lock | None) -> None:
        if lock is not None:
            try:
                lock.end()
            except Exception as error:  # noqa: BLE001
                # Another may have computed it too; both results are right.
                _log.debug("the lock of a call of %s: %s", self._keys.name, error)

    def _keep(self, key: str, mine: Flight, value: Any, generation: int, *, raised: bool = False) -> None:
        """Keep a result; a failure costs the cache, not the call."""
        try:
            data = self._entries.encode(key, value, raised=raised)
        # A serializer of another package may raise anything.
        except Exception as error:  # noqa: BLE001
            self._warn("unkept", f"a result of {self._keys.name} can't be kept", error)
            return
        if not raised:
            mine.data = data
        if generation != self._generation:
            return
        try:
            if not self._shelf.put(key, data):
                _log.debug("a result of %s has %d bytes, more than max_bytes", self._keys.name, len(data))
            if generation != self._generation:
                # It was invalidated after the look above, and maybe before the put.
                self._shelf.delete(key)
        # A store of another package may raise anything.
        except Exception as error:  # noqa: BLE001
            self._fail("can't be written", error)

    def _fail(self, what: str, error: Exception) -> None:
        """Report that the store fails, unless the failure isn't the store's."""
        if isinstance(error, (InvalidArgumentError, MissingDependencyError, RecursionError)):
            # The URI is wrong, what the store needs isn't installed, or the function calls itself for ever.
            raise error
        self._warn("store", f"the store of {self._keys.name} {what}, so calls are computed without it", error)

    def _warn(self, kind: str, what: str, error: Exception) -> None:
        """Raise an error if that was asked for; otherwise warn the first time."""
        if self._strict:
            raise error
        if kind in self._warned:
            _log.debug("%s: %r", what, error)
            return
        self._warned.add(kind)
        warnings.warn(f"{what}: {error}", RuntimeWarning, stacklevel=_depth())

    def _is_old(self, data: bytes) -> bool:
        return self._refresh_after is not None and time.time() - created_of(data) >= self._refresh_after

    def _begin_refresh(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Compute a result again in the background, unless somebody does."""
        if key in self._refreshing or key in self._flights or len(self._refreshing) >= self._MOST:
            return
        self._refreshing.add(key)
        context = copy_context()
        try:
            # The interpreter waits for it at its end.
            start(
                threading.Thread(
                    target=context.run,
                    args=(self._refresh, key, args, kwargs),
                    name="holdall-refresh",
                    daemon=False,
                )
            )
        except BaseException:
            self._refreshing.discard(key)
            raise

    def _refresh(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mine = Flight()
        lock: Lock | None = None
        leading.set(())
        try:
            if self._flights.enter(key, mine) is not mine:
                return
            lock = self._lock(key)
            if not self._try(lock) or self._again(key, mine) is not MISSING:
                return
            generation = self._generation
            with lead(mine):
                value = self._run(args, kwargs)
            self._keep(key, mine, value, generation)
        except Exception as error:  # noqa: BLE001 - there is nobody to raise it to
            mine.error = error if isinstance(error, Exception) else None
            _log.warning("a result of %s can't be refreshed", self._keys.name, exc_info=True)
        finally:
            try:
                self._release(lock)
            finally:
                self._refreshing.discard(key)
                self._flights.leave(key, mine)

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key of the blob in which the result of a call is kept, without calling the function.

        Raises:
            InvalidTypeError: An argument lacks a canonical form.
        """
        return self._shelf.prefix + self._keys.of(args, kwargs, self._owner_in(args))

    def invalidate(self, *args: Any, **kwargs: Any) -> int:
        """Forget the result of a call, or without arguments all results of this function, of all versions.

        What this process computes meanwhile isn't kept.

        Args:
            *args: The arguments of the call.
            **kwargs: The same.

        Returns:
            How many results were there.

        Raises:
            StoreError: The store fails.
        """
        return self._invalidate(args, kwargs, self._owner_in(args))

    def _invalidate(self, args: tuple[Any, ...], kwargs: dict[str, Any], owner: Any) -> int:
        self._generation += 1
        if len(args) == (owner is not None) and not kwargs:
            self._flights.drop()
            return self._shelf.clear()
        key = self._keys.of(args, kwargs, owner)
        self._flights.drop(key)
        return int(self._shelf.delete(key))

    def cache_info(self) -> CacheInfo:
        """Return what is kept. It lists all results of the function.

        Raises:
            StoreError: The store fails.
        """
        infos = self._shelf.entries()
        shelf = self._shelf
        return CacheInfo(
            self._hits, self._misses, len(infos), sum(info.size for info in infos), shelf.max_entries,
            shelf.max_bytes, shelf.ttl, shelf.place, shelf.can_lease(),
        )  # fmt: skip

    def __set_name__(self, owner: type[Any], name: str) -> None:
        # A function that a class only refers to isn't its method.
        if self.__qualname__ == f"{owner.__qualname__}.{self.__name__}":
            self._class = ref(owner)
        # Before a fork, so that the children agree about a class within a function.
        class_form(owner)

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Cached[P, R]: ...
    @overload
    def __get__(
        self: Cached[Concatenate[S, Q], R], instance: S, owner: type[Any] | None = None
    ) -> BoundCached[Q, R]: ...
    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        return self if instance is None else BoundCached(self, instance)

    def __repr__(self) -> str:
        return f"<cached {self._keys.name} in {self._shelf.place}>"

    def __reduce__(self) -> str:
        # By its name, as a function.
        return self.__qualname__


def _begin_anew(function: Any) -> None:
    function._begin()


class BoundCached(Generic[P, R]):
    """A method of one object, or of a class, whose results are kept."""

    def __init__(self, function: Cached[..., R], owner: Any) -> None:
        self.__func__ = function
        self.__self__ = owner

    @property
    def __wrapped__(self) -> Callable[P, R]:
        return MethodType(self.__func__.__wrapped__, self.__self__)

    @property
    def __name__(self) -> str:
        return self.__func__.__name__

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.__func__.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        owner = self.__self__
        return self.__func__._call_with((owner, *args), kwargs, owner)

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """As `Cached.key_for`."""
        function, owner = self.__func__, self.__self__
        return function._shelf.prefix + function._keys.of((owner, *args), kwargs, owner)

    def invalidate(self, *args: Any, **kwargs: Any) -> int:
        """As `Cached.invalidate`: without arguments, the results of all objects."""
        owner = self.__self__
        return self.__func__._invalidate((owner, *args), kwargs, owner)

    def cache_info(self) -> CacheInfo:
        """As `Cached.cache_info`: of all objects."""
        return self.__func__.cache_info()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, BoundCached)
            and self.__func__ is cast(Any, other).__func__
            and self.__self__ is cast(Any, other).__self__
        )

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __repr__(self) -> str:
        return f"<method {self.__func__!r} of {type(self.__self__).__qualname__}>"

    def __reduce__(self) -> tuple[object, ...]:
        return cast(Any, getattr), (self.__self__, self.__func__.__name__)


class CachedClassMethod:
    """A class method whose results are kept. Python's own would hand the class on as an argument."""

    def __init__(self, function: Cached[..., Any]) -> None:
        self.__func__ = function

    def __set_name__(self, owner: type[Any], name: str) -> None:
        class_form(owner)

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> BoundCached[..., Any]:
        return BoundCached(self.__func__, type(instance) if owner is None else owner)


def _depth() -> int:
    """Return how many frames of this package lie above the user's."""
    frame, depth = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").startswith("holdall.memoize"):
        frame, depth = frame.f_back, depth + 1
    return depth
