"""joblib.Memory over our stores."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest

import holdall.interop.joblib  # noqa: F401 - registers the backend
from holdall import FilesystemStore, InvalidArgumentError, MemoryStore, SqliteStore, Store, ZipStore


@pytest.fixture(params=["memory", "files", "sqlite", "zip"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    makers = {"memory": MemoryStore, "files": FilesystemStore, "sqlite": SqliteStore, "zip": ZipStore}
    with makers[request.param](*(() if request.param == "memory" else (tmp_path / "store",))) as made:
        yield made


def memory_over(store: Store | str, **options: object) -> joblib.Memory:
    return joblib.Memory("cache", backend="holdall", backend_options={"store": store}, verbose=0, **options)


def test_a_result_is_computed_once(store: Store) -> None:
    calls: list[int] = []

    def squares(count: int) -> np.ndarray:
        calls.append(count)
        return np.arange(count) ** 2

    cached = memory_over(store).cache(squares)
    large = 300_000  # more than is read at once
    for count in (3, large, 3, large):
        assert np.array_equal(cached(count), np.arange(count) ** 2)
    assert calls == [3, large]
    assert cached.check_call_in_cache(3)
    assert not cached.check_call_in_cache(4)
    assert all(key.startswith("cache/joblib/") for key in store)
    cached.clear(warn=False)
    assert not cached.check_call_in_cache(3)
    cached(3)
    assert calls == [3, large, 3]


def test_reduce_size(store: Store) -> None:
    store["cache/other"] = b"not joblib's"
    memory = memory_over(store)
    cached = memory.cache(abs)
    for number in range(5):
        cached(-number)
    assert len(memory.store_backend.get_items()) == 5
    memory.reduce_size(items_limit=2)
    assert len(memory.store_backend.get_items()) == 2
    assert cached.check_call_in_cache(-4)
    memory.reduce_size(bytes_limit=0)
    assert memory.store_backend.get_items() == []
    cached(-4)
    memory.clear(warn=False)
    assert list(store) == ["cache/other"]


def test_a_compressed_result(store: Store) -> None:
    cached = memory_over(store, compress=3).cache(np.zeros)
    assert np.array_equal(cached(10_000), np.zeros(10_000))
    (size,) = [info.size for info in store.list() if info.key.endswith("output.pkl")]
    assert size < 1000
    assert np.array_equal(cached(10_000), np.zeros(10_000))


@pytest.mark.parametrize("options", [{}, {"stor": "x"}, {"store": "memory://", "extra": 1}])
def test_wrong_options(options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError, match="backend_options has 'store', 'compress'"):
        joblib.Memory("cache", backend="holdall", backend_options=options)
    with pytest.raises(InvalidArgumentError, match="mmap_mode"):
        joblib.Memory("cache", backend="holdall", backend_options={"store": MemoryStore()}, mmap_mode="r")


PROGRAM = """
    import sys, joblib, holdall.interop.joblib
    import numpy as np
    memory = joblib.Memory("cache", backend="holdall", backend_options={"store": sys.argv[1]}, verbose=0)
    cached = memory.cache(np.arange)
    print(cached(200_000).sum())
"""


@pytest.mark.parametrize("scheme", ["", "sqlite:///", "zip://"])
def test_processes_at_once_leave_one_whole_result(tmp_path: Path, scheme: str) -> None:
    uri = f"{scheme}{tmp_path / 'store'}"
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), uri]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert {process.communicate(timeout=60)[0] for process in running} == {f"{sum(range(200_000))}\n"}
    with Store.from_uri(uri) as store:
        assert sorted(key.rpartition("/")[2] for key in store) == [
            "func_code.py",
            "metadata.json",
            "output.pkl",
        ]
        assert memory_over(store).cache(np.arange).check_call_in_cache(200_000)
