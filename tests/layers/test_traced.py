"""A store that reports what is done with it."""

import gc
import logging
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import StatusCode

from holdall import (
    ABSENT,
    BlobExistsError,
    BlobNotFoundError,
    Can,
    Info,
    InvalidArgumentError,
    MemoryStore,
    MissingDependencyError,
    SqliteStore,
    Store,
    StoreUnavailableError,
)
from holdall.layers import traced
from holdall.layers.layer import Transparent
from holdall.layers.traced import TracedStore
from holdall.store import Attributes, Body, Expect
from holdall.testing import Counting, Flaky, StoreSuite


class _Sink(SpanProcessor):
    """Keeps spans that have ended, while somebody wants them."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] | None = None

    def on_end(self, span: ReadableSpan) -> None:
        if self.spans is not None:
            self.spans.append(span)


_sink = _Sink()
_reader = InMemoryMetricReader()


@pytest.fixture(scope="session")
def providers() -> None:
    # A process has one provider of each, for good.
    provider = TracerProvider()
    provider.add_span_processor(_sink)
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([_reader]))


@pytest.fixture(autouse=True)
def logger(providers: None) -> Iterator[logging.Logger]:
    logger = logging.getLogger("holdall.trace")
    handler = logging.NullHandler()
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    logger.propagate = True
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def spans() -> Iterator[list[ReadableSpan]]:
    """The spans that have ended during the test."""
    _sink.spans = []
    yield _sink.spans
    _sink.spans = None


class TestTracedOverMemory(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        return TracedStore(MemoryStore(name=str(place)))


def told(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of a span, without those that every span has."""
    attributes = dict(span.attributes or {})
    assert attributes.pop("holdall.operation") == span.name.removeprefix("holdall.")
    assert attributes.pop("holdall.store") == "MemoryStore"
    return {name.removeprefix("holdall."): value for name, value in attributes.items()}


def only(spans: list[ReadableSpan]) -> ReadableSpan:
    (span,) = spans
    spans.clear()
    return span


def test_one_span_a_call(spans: list[ReadableSpan]) -> None:
    store = TracedStore(MemoryStore())

    def traced(call: Callable[[], object]) -> list[tuple[str, dict[str, Any]]]:
        spans.clear()
        call()
        gc.collect()
        assert all(span.status.status_code is StatusCode.UNSET for span in spans)
        return [(span.name.removeprefix("holdall."), told(span)) for span in spans]

    def write() -> None:
        with store.open("file", "wb") as file:
            file.write(b"123")
            file.write(b"45")

    assert traced(lambda: store.put("a/b", b"1234")) == [("write", {"key": "a/b", "bytes": 4})]
    assert traced(lambda: store.put("a/c", iter([b"12", b"3"]))) == [("write", {"key": "a/c", "bytes": 3})]
    read = ("read", {"key": "a/b", "bytes": 4, "found": True})
    assert traced(lambda: store["a/b"]) == [read]
    assert traced(lambda: list(store.chunks("a/b", 1))) == [read]
    assert traced(lambda: store.open("a/b").read()) == [read]
    assert traced(lambda: store.get_range("a/b", 1, 3)) == [("read", {**read[1], "bytes": 2})]
    assert traced(lambda: store.get("x")) == [("read", {"key": "x", "bytes": 0, "found": False})]
    assert traced(lambda: store.info("a/b")) == [("info", {"key": "a/b", "found": True})]
    assert traced(lambda: "x" in store) == [("info", {"key": "x", "found": False})]
    assert traced(lambda: list(store.iterate_keys())) == [("list", {"count": 2})]
    assert traced(lambda: list(store.list("a/"))) == [("list", {"prefix": "a/", "count": 2})]
    assert traced(lambda: list(store.children())) == [("list", {"count": 1})]
    assert traced(lambda: store.get_many(["a/b", "x", "a/c"])) == [("get_many", {"bytes": 7, "count": 2})]
    assert traced(lambda: store.put_many({"m": b"12", "n": b"3"})) == [("put_many", {"bytes": 3, "count": 2})]
    assert traced(lambda: store.delete_many(["m", "x", "n"])) == [("delete_many", {"count": 2})]
    copied = {"key": "a/b", "target": "d", "bytes": 4}
    assert traced(lambda: store.copy("a/b", "d")) == [("copy", copied)]
    assert traced(lambda: store.move("a/b", "d")) == [("move", copied)]
    assert traced(lambda: store.delete("d")) == [("delete", {"key": "d", "found": True})]
    assert traced(lambda: store.delete("d")) == [("delete", {"key": "d", "found": False})]
    assert traced(write) == [("write", {"key": "file", "bytes": 5})]
    assert [name for name, _ in traced(lambda: store.pop("file"))] == ["read", "delete"]
    assert traced(store.clear) == [("clear", {})]


def test_a_stream_ends_its_span_when_it_ends_or_is_dropped(spans: list[ReadableSpan]) -> None:
    data = bytes(3 << 20)
    store = TracedStore(MemoryStore({"a": data, "b": b""}))
    pieces = store.chunks("a")
    assert spans == []
    assert len(next(pieces)) == 1 << 20
    assert spans == []
    list(pieces)
    assert told(only(spans))["bytes"] == len(data)
    pieces = store.chunks("a")
    next(pieces)
    del pieces
    assert told(only(spans))["bytes"] == 1 << 20
    # Even one that was never begun.
    _, pieces = store._read("a", 0, None)
    assert spans == []
    del pieces
    assert told(only(spans))["bytes"] == 0
    listing = store.iterate_keys()
    assert next(listing) == "a"
    assert spans == []
    del listing
    assert told(only(spans)) == {"count": 1}
    assert store
    assert told(only(spans)) == {"count": 1}
    file = store.open("a")
    file.read(10)
    assert spans == []
    file.close()
    assert only(spans).name == "holdall.read"


def test_a_file_that_is_not_stored(spans: list[ReadableSpan]) -> None:
    store = TracedStore(MemoryStore())
    with pytest.raises(ZeroDivisionError), store.open("a", "wb") as file:
        raise ZeroDivisionError(file.write(b"x"))
    assert told(only(spans)) == {"key": "a", "bytes": 0}
    assert "a" not in store
    spans.clear()
    file = store.open("a", "xb")
    store["a"] = b""
    with pytest.raises(BlobExistsError):
        file.close()
    assert spans[-1].status.status_code is StatusCode.ERROR


class _Inner(Transparent):
    """Says which span is current in each call and at each piece."""

    def __init__(self, store: Store, seen: list[Any]) -> None:
        super().__init__(store)
        self._seen = seen

    def _note(self) -> None:
        self._seen.append(trace.get_current_span().get_span_context().span_id)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Any]]:
        self._note()
        info, pieces = super()._read(key, start, stop)

        def noted() -> Iterator[Any]:
            for piece in pieces:
                self._note()
                yield piece

        return info, noted()

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        self._note()
        return super()._write(key, body, expect, attributes)


def test_what_happens_below_belongs_to_the_span(spans: list[ReadableSpan]) -> None:
    seen: list[int] = []
    store = TracedStore(_Inner(MemoryStore(), seen))
    tracer = trace.get_tracer("a program")
    with tracer.start_as_current_span("outer") as outer:
        store["a"] = bytes(2 << 20)
        assert trace.get_current_span() is outer
        pieces = store.chunks("a")
        next(pieces)
        assert trace.get_current_span() is outer
        list(pieces)
    write, read, _ = spans
    assert seen == [write.context.span_id] + [read.context.span_id] * 3
    assert write.parent is not None
    assert read.parent is not None
    assert write.parent.span_id == read.parent.span_id == outer.get_span_context().span_id
    assert (write.instrumentation_scope.name, write.instrumentation_scope.version) == ("holdall", "0.1.0")


def test_an_error_is_recorded_without_what_others_said(spans: list[ReadableSpan]) -> None:
    store = TracedStore(Flaky(MemoryStore({"a": b"1"}), rate=1), name="MemoryStore")
    with pytest.raises(StoreUnavailableError):
        _ = store["a"]
    span = only(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert told(span)["error.type"] == "holdall.errors.StoreUnavailableError"
    (event,) = span.events
    attributes = dict(event.attributes or {})
    assert event.name == "exception"
    assert attributes["exception.type"] == "holdall.errors.StoreUnavailableError"
    assert attributes["exception.message"] in ("before", "halfway")
    assert "faults.py" in str(attributes["exception.stacktrace"])

    def body() -> Iterator[bytes]:
        yield b"1"
        raise ValueError("password=hunter2")

    calm = TracedStore(MemoryStore())
    with pytest.raises(ValueError, match="hunter2"):
        calm.put("a", body())
    span = only(spans)
    assert told(span)["error.type"] == "ValueError"
    assert "hunter2" not in span.to_json()
    calm["a"] = b"1"
    spans.clear()
    with pytest.raises(BlobExistsError):
        calm.put("a", b"2", expect=ABSENT)
    assert told(only(spans))["error.type"] == "holdall.errors.BlobExistsError"
    # A miss elsewhere, on the way to a write, is no miss of this blob.
    with pytest.raises(BlobNotFoundError):
        calm.put("b", (MemoryStore()["absent"] for _ in range(1)))
    assert only(spans).status.status_code is StatusCode.ERROR


def test_a_listing_that_fails_on_the_way(spans: list[ReadableSpan]) -> None:
    store = TracedStore(Flaky(MemoryStore({"a": b"", "b": b""}), rate=1, seed=3), name="MemoryStore")
    for _ in range(6):
        with pytest.raises(StoreUnavailableError):
            list(store.list())
    assert {span.status.status_code for span in spans} == {StatusCode.ERROR}
    assert {told(span)["count"] for span in spans if "holdall.count" in (span.attributes or {})} <= {0, 1}
    assert len(spans) == 6


def test_without_keys_no_key_is_told(
    spans: list[ReadableSpan], caplog: pytest.LogCaptureFixture, logger: logging.Logger
) -> None:
    logger.setLevel(logging.DEBUG)
    logger.addHandler(caplog.handler)

    def use(store: Store) -> None:
        store.put("top-secret/a", b"1")
        store.copy("top-secret/a", "top-secret/b")
        store.move("top-secret/b", "top-secret/c")
        _ = store["top-secret/a"], store.info("top-secret/a"), store.get("top-secret/none")
        _ = list(store.list("top-secret/")), store.get_many(["top-secret/a"])
        with pytest.raises(BlobExistsError):
            store.put("top-secret/a", b"", expect=ABSENT)
        with pytest.raises(BlobNotFoundError):
            store.copy("top-secret/none", "x")
        store.clear()

    quiet = TracedStore(MemoryStore(), keys=False)
    use(quiet)
    assert "top-secret" not in "".join(span.to_json() for span in spans)
    assert all("exception.message" not in (event.attributes or {}) for span in spans for event in span.events)
    quiet._telemetry = None
    use(quiet)
    loud = TracedStore(MemoryStore())
    assert "top-secret" not in caplog.text
    assert "operation=put" not in caplog.text
    assert len(caplog.records) == 11
    spans.clear()
    use(loud)
    assert "top-secret/b" in "".join(span.to_json() for span in spans)
    logger.removeHandler(caplog.handler)


class _Signing(Transparent):
    @property
    def can(self) -> Can:  # type: ignore[override]
        return self._store.can | Can.SIGN

    def _sign(self, key: str, method: str, seconds: float) -> str:
        return f"https://example.com/{key}?signature=hunter2"


def test_a_signed_url_is_not_told(spans: list[ReadableSpan]) -> None:
    store = TracedStore(_Signing(MemoryStore()), name="MemoryStore")
    assert store.sign("a").endswith("hunter2")
    span = only(spans)
    assert told(span) == {"key": "a"}
    assert "hunter2" not in span.to_json()


def measured() -> dict[tuple[str, str], Any]:
    """The points of the metrics of the store called `measured`, by metric and operation."""
    data = _reader.get_metrics_data()
    assert data is not None
    points: dict[tuple[str, str], Any] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    labels: Mapping[str, Any] = point.attributes or {}
                    if labels["holdall.store"] == "measured":
                        assert labels.keys() <= {"holdall.store", "holdall.operation", "error.type"}
                        kind = labels.get("error.type", "").rpartition(".")[2]
                        points[f"{metric.name} {metric.unit} {kind}".strip(), labels["holdall.operation"]] = (
                            point
                        )
    return points


def test_the_metrics() -> None:
    store = TracedStore(MemoryStore(), name="measured")
    for _ in range(3):
        store["a"] = b"12345"
    _ = store["a"], store.get("absent"), store.get_many(["a"]), store.put_many({"b": b"12", "c": b""})
    for _ in range(2):
        with pytest.raises(BlobExistsError):
            store.put("a", b"123", expect=ABSENT)
    points = measured()
    duration = points["holdall.operation.duration s", "write"]
    assert duration.count == 3
    assert 0 < duration.sum < 10
    assert duration.explicit_bounds[0] == 0.00001
    assert points["holdall.operation.duration s", "read"].count == 2
    assert points["holdall.operation.duration s BlobExistsError", "write"].count == 2
    assert points["holdall.bytes.written By", "write"].value == 15
    assert points["holdall.bytes.written By", "put_many"].value == 2
    assert points["holdall.bytes.read By", "read"].value == 5
    assert points["holdall.bytes.read By", "get_many"].value == 5
    assert points["holdall.errors {error} BlobExistsError", "write"].value == 2
    assert ("holdall.errors {error}", "read") not in points


def test_it_can_all_that_is_below(tmp_path: Path) -> None:
    memory = MemoryStore({"a": b"1"})
    with SqliteStore(tmp_path / "x.sqlite") as table:
        for below in (memory, table, Counting(memory), _Signing(memory)):
            store = TracedStore(below)
            assert (store.can, store.inline) == (below.can, below.inline)


def test_a_wrong_name() -> None:
    with pytest.raises(InvalidArgumentError, match="the name must be a str"):
        TracedStore(MemoryStore(), name=1)  # type: ignore[arg-type]


def test_it_goes_with_its_settings(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.sqlite") as below:
        store = TracedStore(below, name="uploads", keys=False)
        store["a"] = b"1"
        with pickle.loads(pickle.dumps(store)) as again:
            assert again._settings() == {"store": again._store, "name": "uploads", "keys": False}
            assert again["a"] == b"1"


def test_a_call_is_a_line_of_log(caplog: pytest.LogCaptureFixture, logger: logging.Logger) -> None:
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.DEBUG)
    store = TracedStore(Flaky(MemoryStore(), rate=0), name="up loads")
    store._telemetry = None
    store["a b"] = b"1234"
    _ = store["a b"], store.get("c"), list(store.list("a")), store.get_many(["a b"])
    store.copy("a b", "d")
    store._store._rate = 1  # type: ignore[attr-defined]
    with pytest.raises(StoreUnavailableError):
        store.info("a b")
    logger.removeHandler(caplog.handler)
    shown = [
        (record.levelno, " ".join(w for w in record.getMessage().split(" ") if "seconds=" not in w))
        for record in caplog.records
    ]
    assert shown == [
        (logging.DEBUG, f"operation={line}")
        for line in (
            "write store='up loads' key='a b' bytes=4 outcome=ok",
            "read store='up loads' key='a b' bytes=4 outcome=ok",
            "read store='up loads' key='c' bytes=0 outcome=miss",
            "list store='up loads' prefix='a' count=1 bytes=0 outcome=ok",
            "get_many store='up loads' count=1 bytes=4 outcome=ok",
            "copy store='up loads' key='a b' target='d' bytes=4 outcome=ok",
            "info store='up loads' key='a b' bytes=0 outcome=holdall.errors.StoreUnavailableError",
        )
    ]


def test_nothing_is_made_of_a_call_that_nobody_logs(logger: logging.Logger) -> None:
    logger.setLevel(logging.INFO)
    store = TracedStore(MemoryStore({"a": b"1"}))
    store._telemetry = None
    _, pieces = store._read("a", 0, None)
    assert type(pieces) is type(iter(()))
    assert store._call("read", key="a") is traced._NOT_REPORTED


def test_without_the_package_it_logs() -> None:
    program = """
import sys, logging
sys.modules["opentelemetry"] = None
from holdall import MemoryStore
from holdall.layers.traced import TracedStore
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s %(message)s")
store = TracedStore(MemoryStore())
store["a"] = b"12"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "holdall.trace operation=write store='MemoryStore' key='a' bytes=2 seconds="
    )


def test_a_package_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    class Meter:
        def create_histogram(self, name: str, unit: str = "", description: str = "") -> None:
            pytest.fail("older versions know no advisory boundaries")

    monkeypatch.setattr(metrics, "get_meter", lambda *_: Meter())
    traced._telemetry.cache_clear()
    try:
        with pytest.raises(MissingDependencyError, match=r"holdall\[trace\]"):
            TracedStore(MemoryStore())
    finally:
        traced._telemetry.cache_clear()


def test_with_the_package_and_no_provider_nothing_happens() -> None:
    program = """
import logging, sys
from holdall import MemoryStore
from holdall.layers.traced import TracedStore
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
store = TracedStore(MemoryStore())
store["a"] = b"12"
assert (store["a"], list(store), store.get("b")) == (b"12", ["a"], None)
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
store["a"]
print([span.name for span in exporter.get_finished_spans()])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['holdall.read']\n"


@pytest.mark.parametrize("logged", [False, True], ids=["spans", "logging"])
def test_what_is_reported_is_what_happened(
    logged: bool, spans: list[ReadableSpan], logger: logging.Logger
) -> None:
    rng = random.Random(17)
    calm = MemoryStore()
    below = Flaky(calm, rate=0.1)
    store = TracedStore(below, name="MemoryStore")
    if logged:
        logger.setLevel(logging.DEBUG)
        store._telemetry = None
    keys = [f"key/{number}" for number in range(6)]
    failed = 0
    for number in range(10_000):
        key, target = rng.sample(keys, 2)
        data = b"%d" % number
        before = {name: calm.get(name) for name in keys}
        after = dict(before)
        touched: list[str] = []
        action = rng.choice(
            ("put", "stream", "put many", "delete", "copy", "move", "get", "list", "pop", "file")
        )
        spans.clear()
        error: Exception | None = None
        try:
            match action:
                case "put" | "stream":
                    touched, after[key] = [key], data
                    store.put(key, data if action == "put" else iter([data[:1], data[1:]]))
                case "file":
                    touched, after[key] = [key], data
                    with store.open(key, "wb") as file:
                        file.write(data)
                case "put many":
                    touched = [key, target]
                    after |= dict.fromkeys(touched, data)
                    store.put_many(dict.fromkeys(touched, data))
                case "delete":
                    touched, after[key] = [key], None
                    assert store.delete(key) is (before[key] is not None)
                case "copy":
                    touched, after[target] = [target], before[key]
                    store.copy(key, target)
                case "move":
                    touched, after[target], after[key] = [key, target], before[key], None
                    store.move(key, target)
                case "pop":
                    touched, after[key] = [key], None
                    assert store.pop(key, None) == before[key]
                case "get":
                    assert store.get(key) == before[key]
                case _:
                    assert list(store) == [name for name in keys if before[name] is not None]
        except (StoreUnavailableError, BlobNotFoundError) as caught:
            error = caught
        held = {name: calm.get(name) for name in keys}
        if error is None:
            assert held == after, (number, action)
        elif isinstance(error, BlobNotFoundError):
            assert before[key] is None
            assert held == before
        else:
            failed += 1
            assert all(held[name] in (before[name], after[name]) for name in keys)
            assert all(held[name] == before[name] for name in keys if name not in touched)
        if not logged:
            wrong = [span for span in spans if span.status.status_code is StatusCode.ERROR]
            assert len(wrong) == isinstance(error, StoreUnavailableError), (number, action, error)
            assert spans
    assert failed > 500
