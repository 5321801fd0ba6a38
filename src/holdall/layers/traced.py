"""A store that reports its calls: as OpenTelemetry spans and metrics, or as lines of a log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache, cached_property
from importlib import import_module
from operator import attrgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Self, TypeVar, cast

from holdall.arguments import check_type
from holdall.errors import BlobNotFoundError, MissingDependencyError, StoreError
from holdall.files import BlobWriter
from holdall.layers.layer import Transparent
from holdall.store import Attributes, Body, Can, Expect, Info, LeftOut, Piece, Put, Store

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context

__all__ = ["TracedStore"]

T = TypeVar("T")

_log = logging.getLogger("holdall.trace")


class TracedStore(Transparent):
    """A store that reports each of its calls.

    With `opentelemetry-api` installed (`pip install 'holdall[trace]'`) a call is a span, and counts in three
    metrics; where they go is up to the providers that the program sets up, and without any a call costs a
    few microseconds. Without it a call is one line of the logger `holdall.trace`, level DEBUG.

    Spans are named `holdall.read`, `.write`, `.delete`, `.info`, `.list`, `.get_many`, `.put_many`,
    `.delete_many`, `.copy`, `.move`, `.clear`, `.sign`, `.digest`, `.touch` and `.local`. That of a
    stream or a listing ends when it has ended or is dropped. They have the attributes
    `holdall.operation`, `holdall.store`, `holdall.key` (and `holdall.target` or `holdall.prefix`),
    `holdall.bytes`, `holdall.count`, `holdall.found`, and `error.type`. A miss isn't an error. The
    metrics are the histogram `holdall.operation.duration` in seconds, and the counters
    `holdall.bytes.read`, `holdall.bytes.written` and `holdall.errors`.

    Blobs' bytes, signed URLs and settings are never reported, nor the messages of errors that aren't
    holdall's own, such as what the body of a put raised.

    Args:
        store: The store below.
        name: The value of `holdall.store`; by default the class of the store below.
        keys: Whether keys are reported, and messages of errors, which may name them.

    Raises:
        MissingDependencyError: The `opentelemetry-api` that is installed is older than 1.30.

    >>> from holdall import MemoryStore
    >>> store = TracedStore(MemoryStore({"a": b"1"}), name="uploads")
    >>> store["a"]
    b'1'
    """

    def __init__(self, store: Store, *, name: str | None = None, keys: bool = True) -> None:
        super().__init__(store)
        check_type(name, str | None, "the name must be a str")
        self._name = name
        self._shown = type(store).__name__ if name is None else name
        self._with_keys = bool(keys)
        self._telemetry = _telemetry()

    def _settings(self) -> dict[str, object]:
        return {"store": self._store, "name": self._name, "keys": self._with_keys}

    @cached_property
    def can(self) -> Can:
        return self._store.can

    def _call(self, operation: str, **about: str) -> _Call:
        """Begin a call; `about` is what it has to do with: key, target, prefix."""
        if self._telemetry is None and not _log.isEnabledFor(logging.DEBUG):
            return _NOT_REPORTED
        return _Call(operation, self._shown, about if self._with_keys else None, self._telemetry)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        with self._call("read", key=key) as call:
            info, pieces = self._store._read(key, start, stop)
            call.found = True
            return info, call.over(pieces, len)

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        with self._call("write", key=key) as call:
            info = self._store._write(key, body, expect, attributes)
            call.bytes = info.size
            return info

    def _delete(self, key: str, expect: Expect) -> bool:
        with self._call("delete", key=key) as call:
            call.found = deleted = self._store._delete(key, expect)
            return deleted

    def _info(self, key: str) -> Info:
        with self._call("info", key=key) as call:
            info = self._store._info(key)
            call.found = True
            return info

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        with self._call("list", prefix=prefix) as call:
            return call.over(self._store._scan(prefix, after), counted=True)

    def _get(self, key: str) -> bytes | None:
        key = self._checked(key)
        with self._call("read", key=key) as call:
            data = self._store._get(key)
            call.found = data is not None
            if data is not None:
                call.bytes = len(data)
            return data

    def _has(self, key: str) -> bool:
        key = self._checked(key)
        with self._call("info", key=key) as call:
            call.found = found = self._store._has(key)
            return found

    def _put(self, key: str, data: bytes) -> Info:
        key = self._checked(key)
        with self._call("write", key=key) as call:
            info = self._store._put(key, data)
            call.bytes = info.size
            return info

    def _read_spans(self, key: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[Info, bytes]]:
        with self._call("read", key=key) as call:
            found = self._store._read_spans(key, spans)
            return call.over(found, lambda pair: len(pair[1]), counted=True)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        with self._call("list", prefix=prefix) as call:
            return call.over(self._store._survey(prefix, after), counted=True)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        with self._call("list", prefix=prefix) as call:
            return call.over(self._store._keys(prefix, after), counted=True)

    def _children(self, prefix: str) -> Iterator[str | Info]:
        with self._call("list", prefix=prefix) as call:
            return call.over(self._store._children(prefix), counted=True)

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        with self._call("get_many") as call:
            return call.over(self._store._get_many(keys), lambda pair: len(pair[1]), counted=True)

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        with self._call("put_many") as call:
            return call.over(self._store._put_many(items), attrgetter("size"), counted=True)

    def _delete_many(self, keys: Iterable[str]) -> int:
        with self._call("delete_many") as call:
            call.count = deleted = self._store._delete_many(keys)
            return deleted

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        with self._call("copy", key=source, target=target) as call:
            info = self._store._copy(source, target, expect)
            call.bytes = info.size
            return info

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        with self._call("move", key=source, target=target) as call:
            info = self._store._move(source, target, expect)
            call.bytes = info.size
            return info

    def _open_write(self, key: str, expect: Expect, attributes: Attributes) -> BinaryIO:
        with self._call("write", key=key) as call:
            file = self._store._open_write(key, expect, attributes)
            return cast(BinaryIO, call.writing(cast(BlobWriter, file)))

    def _open_append(self, key: str) -> BinaryIO:
        with self._call("write", key=key) as call:
            file = self._store._open_append(key)
            return cast(BinaryIO, call.writing(cast(BlobWriter, file)))

    def _clear(self) -> None:
        with self._call("clear"):
            self._store._clear()

    def _sign(self, key: str, method: str, seconds: float) -> str:
        with self._call("sign", key=key):
            return self._store._sign(key, method, seconds)

    def _digest(self, key: str, algorithm: str) -> str | None:
        with self._call("digest", key=key):
            return self._store._digest(key, algorithm)

    def _touch(self, key: str, expires: datetime | None) -> Info:
        with self._call("touch", key=key):
            return self._store._touch(key, expires)

    def _local_path(self, key: str) -> str | None:
        with self._call("local", key=key):
            return self._store._local_path(key)


class _Call:
    """A call that is reported when it is over: a `with` block ends it, unless it goes on as a stream; each
    part of the stream is then such a block. A call without an operation isn't reported."""

    bytes = 0
    """The number of bytes that were read or written."""
    count: int | None = None
    """The number of blobs of the call, where there may be many."""
    found: bool | None = None
    """Whether the blob was there, where it may be absent."""

    def __init__(
        self,
        operation: str = "",
        store: str = "",
        about: dict[str, str] | None = None,
        telemetry: _Telemetry | None = None,
    ) -> None:
        self.operation, self.store, self.about = operation, store, about
        self.span = None if telemetry is None else _Span(telemetry, operation, store, about)
        self.goes_on, self.ended = False, not operation
        self.started = perf_counter()

    def __enter__(self) -> Self:
        if self.span is not None:
            self.span.enter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        if error is not None or not self.goes_on:
            self.end(None if kind is StopIteration else error)
        if self.span is not None:
            self.span.leave()

    def over(
        self, entries: Iterator[T], size_of: Callable[[T], int] | None = None, *, counted: bool = False
    ) -> Iterator[T]:
        """Return the entries; the call is over when they are."""
        if not self.operation:
            return entries
        self.goes_on = True
        if counted:
            self.count = 0
        return _Stream(self, entries, size_of)

    def writing(self, file: BlobWriter) -> BlobWriter:
        """Return the file; the call is over when it is closed."""
        if not self.operation:
            return file
        self.goes_on = True
        return _Writer(self, file)

    def end(self, error: BaseException | None = None) -> None:
        """Report the call, which is over."""
        if self.ended:
            return
        self.ended = True
        if isinstance(error, BlobNotFoundError) and self.operation not in ("write", "put_many"):
            self.found, error = False, None
        report = _log_call if self.span is None else self.span.report
        report(self, perf_counter() - self.started, error)


_NOT_REPORTED = _Call()


def _log_call(call: _Call, seconds: float, error: BaseException | None) -> None:
    words = [f"{name}={text!r}" for name, text in (call.about or {}).items() if text]
    if call.count is not None:
        words.append(f"count={call.count}")
    outcome = "miss" if call.found is False else "ok"
    if error is not None:
        outcome = _class_of(error)
    words.append(f"bytes={call.bytes} seconds={seconds:.6f} outcome={outcome}")
    _log.debug("operation=%s store=%r %s", call.operation, call.store, " ".join(words))


class _Span:
    """The span of a call, and what the metrics count of it."""

    def __init__(
        self, telemetry: _Telemetry, operation: str, store: str, about: dict[str, str] | None
    ) -> None:
        self.telemetry = telemetry
        self.labels: dict[str, str] = {"holdall.operation": operation, "holdall.store": store}
        named = {f"holdall.{name}": text for name, text in about.items() if text} if about else {}
        self.span = telemetry.tracer.start_span(f"holdall.{operation}", attributes={**self.labels, **named})
        # Without a provider there is nothing that spans below could belong to.
        self.context: Context | None = None
        if self.span is not telemetry.no_span:
            self.context = telemetry.trace.set_span_in_context(self.span)
        self.token: Token[Context] | None = None

    def enter(self) -> None:
        """Make it the parent of spans that begin in this thread."""
        if self.context is not None:
            self.token = self.telemetry.context.attach(self.context)

    def leave(self) -> None:
        """Undo `enter`."""
        if self.token is not None:
            self.telemetry.context.detach(self.token)
            self.token = None

    def report(self, call: _Call, seconds: float, error: BaseException | None) -> None:
        """End it, and count the call."""
        telemetry, labels = self.telemetry, self.labels
        if error is not None:
            labels["error.type"] = _class_of(error)
            telemetry.errors.add(1, labels)
        if self.span.is_recording():
            self._describe(call, error)
        self.span.end()
        telemetry.duration.record(seconds, labels)
        counter = telemetry.bytes.get(call.operation)
        if counter is not None and call.bytes:
            counter.add(call.bytes, labels)

    def _describe(self, call: _Call, error: BaseException | None) -> None:
        span = self.span
        if call.bytes or call.operation in self.telemetry.bytes:
            span.set_attribute("holdall.bytes", call.bytes)
        if call.count is not None:
            span.set_attribute("holdall.count", call.count)
        if call.found is not None:
            span.set_attribute("holdall.found", call.found)
        if error is None:
            return
        # As `record_exception` does, but without the messages of others, which may hold anything.
        kind = _class_of(error)
        event = {"exception.type": kind, "exception.stacktrace": _frames(error)}
        if call.about is not None and isinstance(error, StoreError):
            event["exception.message"] = error.message
        span.add_event("exception", event)
        span.set_attribute("error.type", kind)
        span.set_status(self.telemetry.trace.Status(self.telemetry.trace.StatusCode.ERROR))


class _Stream(Generic[T]):
    """The entries of a call that is over when they are, or when they are dropped."""

    # A generator that never began wouldn't notice that it is dropped.

    _call = _NOT_REPORTED
    """For a stream whose making was interrupted."""

    def __init__(self, call: _Call, entries: Iterator[T], size_of: Callable[[T], int] | None) -> None:
        self._call, self._entries, self._size_of = call, entries, size_of

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._call as call:
            entry = next(self._entries)
        if call.count is not None:
            call.count += 1
        if self._size_of is not None:
            call.bytes += self._size_of(entry)
        return entry

    def close(self) -> None:
        """Drop what is left."""
        self._entries = cast("Iterator[T]", iter(()))
        self._call.end()

    def __del__(self) -> None:
        self._call.end()


class _Writer(BlobWriter):
    """A file that is written in a call that is over at its close."""

    def __init__(self, call: _Call, file: BlobWriter) -> None:
        self._call, self._file = call, file
        self._done = False

    def write(self, buffer: Any, /) -> int:
        with self._call as call:
            written = cast(int, self._file.write(buffer))
        call.bytes += written
        return written

    def tell(self) -> int:
        return self._file.tell()

    def _publish(self) -> None:
        self._call.goes_on = False
        with self._call:
            self._file.close()

    def _drop(self) -> None:
        self._call.bytes = 0
        self._call.goes_on = False
        with self._call:
            self._file.discard()


def _class_of(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _frames(error: BaseException) -> str:
    """Return where it was raised, as a traceback shows it, but without lines of source, which it would have
    to read, and without messages."""
    return "".join(
        f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}\n'
        for frame, line in traceback.walk_tb(error.__traceback__)
    )


@cache
def _telemetry() -> _Telemetry | None:
    """Return what reports the calls of the whole process as spans; None if they are lines of log."""
    try:
        for name in ("context", "metrics", "trace"):
            import_module(f"opentelemetry.{name}")
    except ImportError:
        return None
    return _Telemetry()


class _Telemetry:
    """The tracer and the instruments, which follow the providers that the program sets."""

    def __init__(self) -> None:
        from opentelemetry import context, metrics, trace

        from holdall import __version__

        self.context, self.trace, self.no_span = context, trace, trace.INVALID_SPAN
        self.tracer = trace.get_tracer("holdall", __version__)
        meter = metrics.get_meter("holdall", __version__)
        try:
            self.duration = meter.create_histogram(
                "holdall.operation.duration",
                unit="s",
                description="The durations of a store's calls.",
                explicit_bucket_boundaries_advisory=_BUCKETS,
            )
        except TypeError:
            raise MissingDependencyError(
                "a TracedStore needs opentelemetry-api 1.30 or later: pip install --upgrade 'holdall[trace]'"
            ) from None
        self.errors = meter.create_counter(
            "holdall.errors", unit="{error}", description="Calls of a store that failed, without misses."
        )
        read = meter.create_counter(
            "holdall.bytes.read", unit="By", description="Bytes of blobs that were read."
        )
        written = meter.create_counter(
            "holdall.bytes.written", unit="By", description="Bytes of blobs that were written."
        )
        self.bytes = {"read": read, "get_many": read, "write": written, "put_many": written}


_BUCKETS = (1e-5, 1e-4, 5e-4, 1e-3, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""In seconds: from a dict's microseconds to a large blob's minute."""
