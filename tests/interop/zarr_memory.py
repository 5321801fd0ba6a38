"""A plug-in of pytest that replaces zarr's memory store by a `ZarrStore`, for zarr's own tests.

`REPLACED_REPORT` names the file to report to. With `REPLACED_FEW`, of each test only that many are run, which
differ most in their parameters; with `REPLACED_CORRUPTING`, every read is corrupted.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import zarr.storage
import zarr.storage._common
import zarr.storage._memory
from zarr.core.buffer import Buffer, cpu

import holdall
from holdall.interop.zarr import ZarrStore
from holdall.testing import Corrupting

_FEW = int(os.environ.get("REPLACED_FEW", "0"))
_CORRUPTING = bool(os.environ.get("REPLACED_CORRUPTING"))
_OTHERS = {"local", "zip", "fsspec"}

_outcomes: Counter[str] = Counter()
_failed: list[str] = []
_corrupting: list[Corrupting] = []
"""The stores of the test that runs."""
_dicts: dict[int, tuple[dict[str, Any], holdall.Store]] = {}
"""The store that stands for a dict that a test passes, and the dict, so that no other one gets its id."""


class _Buffers(MutableMapping[str, Buffer]):
    """What a store holds, as zarr's own holds it."""

    def __init__(self, store: holdall.Store) -> None:
        self.store = store

    def __getitem__(self, key: str) -> Buffer:
        return cpu.Buffer.from_bytes(self.store[key])

    def __setitem__(self, key: str, value: Buffer) -> None:
        self.store[key] = value.to_bytes()

    def __delitem__(self, key: str) -> None:
        del self.store[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.store)

    def __len__(self) -> int:
        return len(self.store)


class MemoryStore(ZarrStore):
    """Takes the arguments of zarr's own."""

    made = 0

    def __init__(self, store_dict: Any = None, *, read_only: bool = False) -> None:
        MemoryStore.made += 1
        super().__init__(_store_of(store_dict), read_only=read_only)

    @property
    def _store_dict(self) -> _Buffers:
        return _Buffers(self.store)

    async def set(self, key: str, value: Buffer, byte_range: object = None) -> None:
        assert byte_range is None
        await super().set(key, value)


def _store_of(given: Any) -> holdall.Store:
    if isinstance(given, _Buffers | holdall.Store):
        # `with_read_only` passes the store itself.
        return given.store if isinstance(given, _Buffers) else given
    if id(given) in _dicts:
        return _dicts[id(given)][1]
    store: holdall.Store = holdall.MemoryStore(
        {key: value.to_bytes() for key, value in (given or {}).items()}
    )
    if _CORRUPTING:
        store = Corrupting(store, rate=1)
        _corrupting.append(store)
    if given is not None:
        _dicts[id(given)] = given, store
    return store


for _module in (zarr.storage, zarr.storage._common, zarr.storage._memory):
    _module.MemoryStore = MemoryStore  # type: ignore[misc]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of other stores, and those that need a graphics card."""
    tests: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        given = getattr(getattr(item, "callspec", None), "params", {}).values()
        others = any(getattr(value, "store", value) in _OTHERS for value in given if _is_plain(value))
        if not others and item.get_closest_marker("gpu") is None:
            tests[item.nodeid.partition("[")[0]].append(item)
    for same in tests.values():
        if 0 < _FEW < len(same):
            same[:] = [same[(len(same) - 1) * at // max(1, _FEW - 1)] for at in range(_FEW)]
    kept = {id(item) for same in tests.values() for item in same}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]


def _is_plain(value: object) -> bool:
    return isinstance(getattr(value, "store", value), str)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    before = MemoryStore.made
    _outcomes["run"] += 1
    failed = len(_failed)
    try:
        return (yield)
    finally:
        if MemoryStore.made > before:
            _outcomes["with a store"] += 1
            _outcomes["with a store, passed"] += len(_failed) == failed
            if any(store.damaged for store in _corrupting):
                _outcomes["corrupted"] += 1
                _outcomes["corrupted, failed"] += len(_failed) > failed
            _corrupting.clear()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _failed.append(report.nodeid)
    if report.when == "call" or report.outcome == "skipped":
        _outcomes[report.outcome] += 1


def pytest_sessionfinish() -> None:
    report = {"stores": MemoryStore.made, "failures": _failed, **_outcomes}
    Path(os.environ["REPLACED_REPORT"]).write_text(json.dumps(report))
