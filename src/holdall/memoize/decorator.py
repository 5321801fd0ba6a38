"""`cached`: keeps the results of a function."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from types import MethodType
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from holdall.arguments import check_count, check_seconds, check_type
from holdall.errors import InvalidArgumentError, InvalidTypeError
from holdall.memoize.function import Cached, CachedClassMethod, Options
from holdall.store import Store

P = ParamSpec("P")
R = TypeVar("R")


class _Holder(Protocol):
    """What has a store below, such as a `ValueStore`."""

    @property
    def store(self) -> Store: ...


class _Decorator(Protocol):
    def __call__(self, function: Callable[P, R], /) -> Cached[P, R]: ...


@overload
def cached(store: Callable[P, R], /) -> Cached[P, R]: ...
@overload
def cached(
    store: Store | _Holder | str | os.PathLike[str] | None = None,
    *,
    ttl: float | timedelta | None = None,
    max_bytes: int | None = None,
    max_entries: int | None = None,
    key: Callable[..., Any] | None = None,
    ignore: str | Iterable[str] = (),
    version: Any = None,
    refresh_after: float | timedelta | None = None,
    strict: bool = False,
    errors: type[Exception] | tuple[type[Exception], ...] = (),
) -> _Decorator: ...
def cached(
    store: Any = None,
    *,
    ttl: float | timedelta | None = None,
    max_bytes: int | None = None,
    max_entries: int | None = None,
    key: Callable[..., Any] | None = None,
    ignore: str | Iterable[str] = (),
    version: Any = None,
    refresh_after: float | timedelta | None = None,
    strict: bool = False,
    errors: type[Exception] | tuple[type[Exception], ...] = (),
) -> Any:
    """Keep the results of a function, a method or a coroutine function, for calls with the same arguments.

    Args:
        store: Where: a store, a `ValueStore`, or a URI or path, which is opened at the first call. Without
            one, the memory of this process.
        ttl: How long a result is good, in seconds or as a timedelta; None for ever.
        max_bytes: How many bytes the results of this function may have in the store.
        max_entries: How many there may be. Of both limits, those go first that weren't used for longest.
        key: A function that is called with the same arguments, and returns what stands for them: a str, a
            number, a tuple, ...
        ignore: The name of a parameter that doesn't change the result, or several.
        version: A str or a number. Results of another version aren't found. A change of the function's source
            changes no key: change the version.
        refresh_after: Seconds, or a timedelta, after which a result is computed again in the background,
            while calls still get the old one.
        strict: Whether an error of the store is raised. Otherwise the first one is a warning, and the
            function is called.
        errors: The exceptions that are kept as results are; by default none is.

    Raises:
        InvalidArgumentError: An argument can't be right, or this can't be cached: a generator function, a
            class, a lambda.

    >>> from holdall import MemoryStore, cached
    >>> store = MemoryStore()
    >>> @cached(store, ttl=3600, ignore="verbose")
    ... def add(a, b=1, *, verbose=False):
    ...     print("adding")
    ...     return a + b
    >>> add(1), add(1, 1), add(a=1, verbose=True)
    adding
    (2, 2, 2)
    >>> add.invalidate(1)
    1
    """
    if isinstance(store, (classmethod, staticmethod)) or (callable(store) and not hasattr(store, "store")):
        return _decorate(store, Options(None, None, None, None, None, (), None, None, False, ()))
    for name, limit in (("max_bytes", max_bytes), ("max_entries", max_entries)):
        if limit is not None:
            check_count(limit, name)
    lifetime, refresh = _times(ttl, refresh_after)
    check_type(strict, bool, "strict must be True or False")
    kept = _kinds(errors)
    if key is not None and not isinstance(ignore, str) and tuple(ignore):
        raise InvalidArgumentError("give key or ignore, not both: what key returns stands for all")
    options = Options(store, lifetime, max_bytes, max_entries, key, ignore, version, refresh, strict, kept)
    return functools.partial(_decorate, options=options)


def _times(ttl: Any, refresh_after: Any) -> tuple[float | None, float | None]:
    lifetime = None if ttl is None else check_seconds(ttl, "ttl")
    refresh = None if refresh_after is None else check_seconds(refresh_after, "refresh_after")
    if lifetime is not None and refresh is not None and refresh >= lifetime:
        raise InvalidArgumentError(
            "refresh_after must be less than ttl, after which a result is gone, not "
            f"{refresh:g} with a ttl of {lifetime:g} seconds"
        )
    return lifetime, refresh


def _kinds(errors: Any) -> tuple[type[Exception], ...]:
    kept = cast("tuple[Any, ...]", errors if isinstance(errors, tuple) else (errors,))
    for each in kept:
        if not (isinstance(each, type) and issubclass(each, Exception)):
            raise InvalidTypeError(
                f"errors must be a class of Exception, or a tuple of them, not {each!r:.60}"
            )
    return kept


def _decorate(function: Any, options: Options) -> Any:
    if isinstance(function, staticmethod):
        return staticmethod(_decorate(cast(Any, function).__func__, options))
    if isinstance(function, classmethod):
        return CachedClassMethod(_decorate(cast(Any, function).__func__, options))
    if isinstance(function, MethodType):
        return _decorate(function.__func__, options).__get__(function.__self__)
    name = getattr(function, "__qualname__", None)
    if isinstance(function, Cached) or isinstance(getattr(function, "__func__", None), Cached):
        raise InvalidTypeError(f"{name} is cached already; put all in one @cached(...)")
    if not callable(function):
        raise InvalidTypeError(f"cached decorates a function, not {function!r:.60}")
    if isinstance(function, type):
        raise InvalidTypeError(f"{name} is a class; decorate a function that makes its objects")
    if not isinstance(name, str) or not isinstance(getattr(function, "__module__", None), str):
        raise InvalidTypeError(
            f"{name or repr(function):.60} lacks the name of a module, or one of its own, that tells its "
            "results from others: decorate a function that is declared by 'def', and call it there; where "
            "exec declares it, give its globals a '__name__'"
        )
    if name.endswith("<lambda>"):
        raise InvalidTypeError(
            "a lambda lacks a name that tells its results from those of another one: declare it by 'def'"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidTypeError(
            f"{name} is a generator function, whose result can be read once only: return a list, or a tuple"
        )
    if inspect.iscoroutinefunction(function):
        from holdall.memoize.coroutine import CachedCoroutine

        return CachedCoroutine(function, options)
    return Cached(function, options)
