"""Calls of many keys of a cloud are made several at once, and keep every promise of one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from holdall.errors import StoreError, StoreUnavailableError
from holdall.stores.bucket.abreast import AT_ONCE, KeyCall, abreast
from holdall.workers import Workers

MIB = 1 << 20


def jobs(call: Callable[[str], object], keys: str, size: int = 0) -> Iterator[KeyCall[object]]:
    return (KeyCall(key, size, lambda key=key: call(key)) for key in keys)


class Crowd:
    """Counts how many are in it, and how many there were at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = self.most = self.calls = 0

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.calls += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1


def test_several_are_under_way_and_results_are_in_order() -> None:
    # Each waits for all of them.
    barrier = threading.Barrier(AT_ONCE, timeout=60)

    def call(key: str) -> str:
        barrier.wait()
        return key.upper()

    keys = "abcdefghij" * 3
    assert list(
        abreast(KeyCall(f"{key}{number}", 0, lambda key=key: call(key)) for number, key in enumerate(keys))
    ) == [*keys.upper()]


def test_no_more_than_so_many_and_no_more_than_so_much() -> None:
    for size, most in ((0, AT_ONCE), (4 * MIB, 4), (9 * MIB, 1), (100 * MIB, 1)):
        crowd = Crowd()

        def call(key: str) -> str:
            with crowd:  # noqa: B023
                return key

        keys = [str(number) for number in range(60)]
        assert list(abreast(KeyCall(key, size, lambda key=key: call(key)) for key in keys)) == keys
        assert crowd.calls == 60
        assert 1 <= crowd.most <= most


def test_two_of_one_key_are_done_one_after_the_other() -> None:
    crowds = {"a": Crowd(), "b": Crowd()}
    done: list[tuple[str, int]] = []

    def call(key: str, number: int) -> None:
        with crowds[key]:
            done.append((key, number))

    list(abreast(KeyCall(key, 0, lambda k=key, n=n: call(k, n)) for n in range(50) for key in "ab"))
    assert [crowd.most for crowd in crowds.values()] == [1, 1]
    assert [number for key, number in done if key == "a"] == list(range(50))


def test_what_is_alone_is_done_here_and_after_all_before_it() -> None:
    crowd, here = Crowd(), threading.get_ident()
    seen: list[object] = []

    def stream() -> str:
        seen.append((crowd.inside, crowd.calls, threading.get_ident() == here))
        return "stream"

    def call() -> str:
        with crowd:
            return "short"

    given = list(
        abreast(
            [
                *[KeyCall(str(n), 0, call) for n in range(9)],
                KeyCall("s", 0, stream, alone=True),
                KeyCall("t", 0, call),
            ]
        )
    )
    assert given == ["short"] * 9 + ["stream", "short"]
    assert seen == [(0, 9, True)]


def test_once_one_failed_no_other_begins_and_all_are_named() -> None:
    begun: list[str] = []
    together = threading.Barrier(4, timeout=60)

    def call(key: str) -> str:
        begun.append(key)
        if key in "abcd":
            # All four are under way when the first of them fails.
            together.wait()
        if key in "bcd":
            raise StoreUnavailableError(f"away {key}")
        return key

    given: list[object] = []
    with pytest.raises(StoreUnavailableError) as caught:
        given.extend(abreast(jobs(call, "abcdefghijklmnopqrstuvwxyz")))
    assert caught.value.key == "b"
    assert str(caught.value) == "'b': away b (and so did 'c', 'd')"
    assert len(begun) <= AT_ONCE + 1


def test_what_was_done_beside_a_failure_is_told() -> None:
    def call(key: str) -> str:
        if key == "b":
            raise StoreError("no")
        return key

    given: list[object] = []
    results = abreast(jobs(call, "abcde"))
    with pytest.raises(StoreError, match="'b': no"):
        given.extend(results)
    assert given == ["a", "c", "d", "e"]


def test_items_that_fail_half_way() -> None:
    def items() -> Iterator[KeyCall[str]]:
        yield KeyCall("a", 0, lambda: "a")
        yield KeyCall("b", 0, lambda: "b")
        raise ZeroDivisionError

    given: list[str] = []
    with pytest.raises(ZeroDivisionError):
        given.extend(abreast(items()))
    assert given == ["a", "b"]


def test_an_interrupt_while_a_thread_starts_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        thread.start()
        started.append(thread)
        if len(started) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("holdall.workers.start", start)
    monkeypatch.setattr("holdall.workers._IDLE", 0.1)
    workers = Workers()
    monkeypatch.setattr("holdall.stores.crew.shared", lambda: workers)
    with pytest.raises(KeyboardInterrupt):
        list(abreast(jobs(str, "abcdefgh")))
    for thread in started:
        thread.join(60)
        assert not thread.is_alive()


def test_who_stops_half_way_leaves_nothing_under_way() -> None:
    crowd = Crowd()

    def call(key: str) -> str:
        with crowd:
            return key

    results = abreast(jobs(call, "abcdefghijklmnopqrstuvwxyz"))
    assert next(results) == "a"
    results.close()  # type: ignore[attr-defined]
    calls = crowd.calls
    assert crowd.inside == 0
    assert calls < 26
