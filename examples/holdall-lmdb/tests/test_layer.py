"""The layer passes the suite too, and makes calls wait."""

from pathlib import Path
from typing import Any

import pytest
from holdall_lmdb import RateLimitedStore

from holdall import FilesystemStore, InvalidArgumentError, InvalidTypeError, MemoryStore, Store
from holdall.testing import StoreSuite


class TestRateLimitedStore(StoreSuite):
    reduced = True  # it keeps nothing of its own

    def make(self, place: Path) -> Store:
        return RateLimitedStore(FilesystemStore(place / "files"), rate=1e6)


def test_calls_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    store = RateLimitedStore(MemoryStore(), rate=10)
    store["a"] = b"1"
    assert store["a"] == b"1"
    assert "a" in store
    assert slept == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_is_above_zero(rate: float) -> None:
    with pytest.raises(InvalidArgumentError, match="above 0"):
        RateLimitedStore(MemoryStore(), rate)


def test_a_rate_is_a_number() -> None:
    wrong: Any = "5"
    with pytest.raises(InvalidTypeError, match="a number of calls a second, not str"):
        RateLimitedStore(MemoryStore(), wrong)
