"""Replicas are compared, and made equal."""

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import pytest
from tests.replicas import MIB, Faulty, same

from holdall import (
    IntegrityError,
    InvalidArgumentError,
    MemoryStore,
    StoreUnavailableError,
)
from holdall.layers.fanout import FanoutStore
from holdall.layers.layer import Transparent
from holdall.store import Attributes, Body, Expect, Info, Piece


def unequal() -> FanoutStore:
    first = MemoryStore({"same": b"0", "differs": b"old", "first": b"1"})
    return FanoutStore([first, MemoryStore({"same": b"0", "differs": b"new", "second": b"2"})])


def test_verify_tells_what_differs() -> None:
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("old", "new", "1", "2")}
    assert [(each.key, each.digests) for each in unequal().verify()] == [
        ("differs", {"0": digests["old"], "1": digests["new"]}),
        ("first", {"0": digests["1"], "1": None}),
        ("second", {"0": None, "1": digests["2"]}),
    ]
    assert [each.key for each in unequal().verify("f")] == ["first"]


def test_verify_tells_who_does_not_answer() -> None:
    first, second = Faulty(), Faulty()
    store = FanoutStore([first, second])
    store.update({"a": b"1", "b": b"2"})
    first.bad = {"read"}
    assert [(each.key, list(each.digests), list(each.failures)) for each in store.verify()] == [
        ("a", ["1"], ["0"]),
        ("b", ["1"], ["0"]),
    ]
    first.bad = {"scan"}
    with pytest.raises(StoreUnavailableError, match="'0': StoreUnavailableError"):
        list(store.verify())


def test_repair_by_source_order() -> None:
    store = unequal()
    report = store.repair()
    assert report.mended == {"differs": {"1": "copied"}, "first": {"1": "copied"}, "second": {"0": "copied"}}
    assert report
    assert same(store)
    assert dict(store.items()) == {"same": b"0", "differs": b"old", "first": b"1", "second": b"2"}
    assert store.repair().mended == {}


def test_repair_by_time() -> None:
    store = unequal()
    assert store.repair("newest").mended["differs"] == {"0": "copied"}
    assert same(store)
    assert store["differs"] == b"new"


def test_repair_by_a_function() -> None:
    store = unequal()
    asked: dict[str, dict[str, int | None]] = {}

    def rule(key: str, replicas: Any) -> str:
        asked[key] = {name: info and info.size for name, info in replicas.items()}
        return "1"

    assert store.repair(rule).mended == {
        "differs": {"0": "copied"},
        "first": {"0": "deleted"},
        "second": {"0": "copied"},
    }
    assert asked == {"differs": {"0": 3, "1": 3}, "first": {"0": 1, "1": None}, "second": {"0": None, "1": 1}}
    assert same(store)
    assert sorted(store) == ["differs", "same", "second"]
    for wrong in ("last", None, 1):
        with pytest.raises(InvalidArgumentError):
            store.repair(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="isn't a replica"):
        unequal().repair(lambda key, replicas: "2")


def test_repair_keeps_attributes() -> None:
    store = FanoutStore([MemoryStore(), MemoryStore()])
    info = store.replicas["0"].put("a", b"1", ttl=600, content_type="text/plain", metadata={"b": "c"})
    store.repair()
    copied = store.replicas["1"].info("a")
    assert copied.metadata == {"b": "c"}
    assert (copied.content_type, copied.expires) == ("text/plain", info.expires)


def test_repair_never_overwrites_a_newer_write() -> None:
    store = unequal()
    calls: list[str] = []

    def rule(key: str, replicas: Any) -> str:
        calls.append(key)
        if len(calls) == 1:
            # A writer comes after the replicas were compared: through another handle, to every replica.
            FanoutStore(list(store.replicas.values()))["differs"] = b"newest"
        return "0"

    store.repair(rule)
    assert store["differs"] == b"newest"
    assert same(store)


def test_repair_tells_what_it_could_not_mend() -> None:
    first, second, third = Faulty(), MemoryStore({"a": b"1", "b": b"2"}), Faulty()
    store = FanoutStore([first, second, third])
    third.bad = {"write"}
    report = store.repair()
    assert not report
    assert report.mended == {"a": {"0": "copied"}, "b": {"0": "copied"}}
    assert {key: list(each) for key, each in report.failures.items()} == {"a": ["2"], "b": ["2"]}
    third.bad = {"scan", "info"}
    report = store.repair()
    assert list(report.unlisted) == ["2"]
    third.bad.clear()
    assert store.repair()
    assert same(store)


def test_repair_streams() -> None:
    import tracemalloc

    piece = random.Random(4).randbytes(MIB)
    thin = Thin(piece)
    store = FanoutStore([MemoryStore({"a": piece * 32}), thin])
    tracemalloc.start()
    report = store.repair(prefix="a")
    assert tracemalloc.get_traced_memory()[1] < 5 * MIB
    tracemalloc.stop()
    assert report.mended == {"a": {"1": "copied"}}
    assert not report.failures
    assert thin.info("a").size == 32 * MIB
    assert not list(store.verify())


def test_repair_tells_of_a_replica_that_keeps_something_else() -> None:
    thin = Thin(b"what was not given")
    store = FanoutStore([MemoryStore({"a": b"12", "b": b""}), thin])
    report = store.repair()
    assert isinstance(report.failures["a"]["1"], IntegrityError)
    assert report.mended["b"] == {"1": "copied"}


class Thin(Transparent):
    """A replica that keeps the size of what it is given, and gives a piece again and again instead."""

    def __init__(self, piece: bytes) -> None:
        super().__init__(MemoryStore())
        self.piece = piece

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        size = sum(len(piece) for piece in body)
        return super()._write(key, (b"%d" % size,), expect, attributes).replace(size=size)

    def _info(self, key: str) -> Info:
        info, pieces = super()._read(key, 0, None)
        return info.replace(size=int(b"".join(pieces)))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        assert (start, stop) == (0, None)
        info = self._info(key)
        return info, (self.piece[: info.size - at] for at in range(0, info.size, len(self.piece)))
