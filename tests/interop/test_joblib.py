"""joblib.Memory over our stores."""

from __future__ import annotations

import asyncio
import errno
import io
import linecache
import os
import pickle
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import joblib
import numpy as np
import pytest
from joblib._store_backends import CacheWarning
from tests.interop.corrupted import FirstByte, noticed
from tests.servers.moto import moto
from tests.servers.valkey import ValkeyServer

import holdall.interop.joblib  # noqa: F401 - registers the backend
from holdall import (
    ChecksumStore,
    FilesystemStore,
    InvalidArgumentError,
    MemoryStore,
    ReadOnlyError,
    ReadOnlyStore,
    SqliteStore,
    Store,
    ZipStore,
)
from holdall.layers.layer import Transparent
from holdall.store import Attributes, Body, Expect, Info
from holdall.testing import Corrupting, Counting


@pytest.fixture(params=["memory", "files", "sqlite", "zip"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    makers = {"memory": MemoryStore, "files": FilesystemStore, "sqlite": SqliteStore, "zip": ZipStore}
    with makers[request.param](*(() if request.param == "memory" else (tmp_path / "store",))) as made:
        yield made


def memory_over(store: Store | str, location: str | Path = "cache", **options: object) -> joblib.Memory:
    backend_options = {"store": store}
    return joblib.Memory(location, backend="holdall", backend_options=backend_options, verbose=0, **options)


class Calls:
    """Functions that note each call of theirs, as joblib knows none of the rest of them."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def of(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def noted(value: Any) -> Any:
            self.made.append(value)
            return function(value)

        return noted


def names(store: Store) -> list[str]:
    return sorted(key.rpartition("/")[2] for key in store)


def test_a_result_is_computed_once(store: Store) -> None:
    calls = Calls()
    cached = memory_over(store).cache(calls.of(lambda count: np.arange(count) ** 2))
    large = 300_000  # more than is read at once
    for count in (3, large, 3, large):
        assert np.array_equal(cached(count), np.arange(count) ** 2)
    assert calls.made == [3, large]
    assert cached.check_call_in_cache(3)
    assert not cached.check_call_in_cache(4)
    assert all(key.startswith("cache/joblib/") for key in store)
    cached.clear(warn=False)
    assert not cached.check_call_in_cache(3)
    cached(3)
    assert calls.made == [3, large, 3]


def test_results_of_many_kinds(store: Store) -> None:
    check_results(store, False)


@pytest.mark.parametrize("compress", [1, ("gzip", 1)])
def test_compressed_results_of_many_kinds(compress: object) -> None:
    check_results(MemoryStore(), compress)


def check_results(store: Store, compress: object) -> None:
    """Small and large ones, with arrays and without, are what was computed."""
    results: list[Any] = [
        None,
        {"name": "ArrayWrapper"},  # as joblib's own class for arrays is called
        b"x" * (1 << 17),
        os.urandom(3 << 20),
        ["a" * 1000] * 1000,
        {"one": np.arange(20_000), "two": np.ones((3, 2), order="F")},
        np.array([{"a": 1}, None], dtype=object),
        [
            np.asfortranarray(np.arange(30_000.0).reshape(100, 300)),
            np.arange(5, dtype=">i8"),
            np.array(["2026-11-29"], "M8[D]"),
            np.empty((0, 3)),
            np.array(1.5),
            np.zeros(3, [("a", "i4"), ("b", "f8")]),
            np.array(["ab", "c"]),
        ],
    ]
    calls = Calls()
    cached = memory_over(store, compress=compress).cache(calls.of(lambda at: results[at]))
    for at in (*range(len(results)), *range(len(results))):
        np.testing.assert_equal(cached(at), results[at])
    assert calls.made == [*range(len(results))]


def test_reduce_size(store: Store) -> None:
    others = ["cache/joblib", "cache/joblib2/x", "cache/other"]
    for key in others if not isinstance(store, FilesystemStore) else others[1:]:
        store[key] = b"not joblib's"
    kept = sorted(store)
    memory = memory_over(store)
    cached = memory.cache(abs)
    for number in range(5):
        cached(-number)
    assert len(memory.store_backend.get_items()) == 5
    memory.reduce_size(items_limit=2)
    assert len(memory.store_backend.get_items()) == 2
    assert cached.check_call_in_cache(-4)
    memory.reduce_size(age_limit=timedelta(hours=1))
    assert len(memory.store_backend.get_items()) == 2
    memory.reduce_size(age_limit=timedelta(0))
    assert memory.store_backend.get_items() == []
    cached(-4)
    memory.reduce_size(bytes_limit="1G")
    assert cached.check_call_in_cache(-4)
    memory.reduce_size(bytes_limit=0)
    assert memory.store_backend.get_items() == []
    cached(-4)
    memory.clear(warn=False)
    assert sorted(store) == kept


def test_a_compressed_result(store: Store) -> None:
    cached = memory_over(store, compress=3).cache(np.zeros)
    assert np.array_equal(cached(10_000), np.zeros(10_000))
    (size,) = [info.size for info in store.list() if info.key.endswith("output.pkl")]
    assert size < 1000
    assert np.array_equal(cached(10_000), np.zeros(10_000))


def test_a_hit_looks_once_and_reads_once() -> None:
    store = Counting(MemoryStore())
    cached = memory_over(store).cache(abs)
    cached(-1)
    before = dict(store.calls)
    assert cached(-1) == 1
    made = {call: count - before[call] for call, count in store.calls.items()}
    assert made == {"info": 1, "read": 1, "write": 0, "delete": 0, "scan": 0}


@pytest.mark.parametrize("options", [{}, {"stor": "x"}, {"store": "memory://", "extra": 1}])
def test_wrong_options(options: dict[str, object]) -> None:
    says = "backend_options has 'store', 'compress', not" if options else "give it as backend_options="
    with pytest.raises(InvalidArgumentError, match=says):
        joblib.Memory("cache", backend="holdall", backend_options=options)
    with pytest.raises(InvalidArgumentError, match="mmap_mode"):
        joblib.Memory("cache", backend="holdall", backend_options={"store": MemoryStore()}, mmap_mode="r")


def test_locations() -> None:
    for location, folder in [
        ("./cache", "cache/joblib"),
        ("/srv//cache/", "srv/cache/joblib"),
        ("", "joblib"),
        (Path("results"), "results"),  # joblib adds nothing to a Path
    ]:
        store = MemoryStore()
        memory_over(store, location).cache(abs)(-1)
        assert {key[: len(folder) + 1] for key in store} == {folder + "/"}
    for location in ("../cache", Path(), "a\nb"):
        with pytest.raises(InvalidArgumentError, match="the location of Memory"):
            memory_over(MemoryStore(), location)


def test_mmap_mode_of_one_function() -> None:
    cached = memory_over(MemoryStore()).cache(np.arange, mmap_mode="r")
    assert [type(cached(3)) for _ in range(2)] == [np.ndarray] * 2


def test_coroutines() -> None:
    calls: list[int] = []

    async def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    cached = memory_over(MemoryStore()).cache(double)
    assert [asyncio.run(cached(2)), asyncio.run(cached(2)), calls] == [4, 4, [2]]


def test_a_callback_checks_results() -> None:
    store, calls = MemoryStore(), Calls()
    seen: list[dict[str, Any]] = []

    def check(metadata: Any) -> bool:
        seen.append(dict(metadata))
        return len(seen) == 1

    cached = memory_over(store).cache(calls.of(abs), cache_validation_callback=check)
    assert [cached(-1) for _ in range(3)] == [1, 1, 1]
    assert len(calls.made) == 2
    assert seen[0]["input_args"] == {"value": "-1"}
    assert {"duration", "time"} < seen[0].keys()
    # A process was killed before it wrote the metadata.
    expiring = memory_over(store).cache(
        calls.of(abs), cache_validation_callback=joblib.expires_after(hours=1)
    )
    expiring(-2)
    for key in [key for key in store if key.endswith("metadata.json")]:
        del store[key]
    assert expiring(-2) == 2
    assert calls.made.count(-2) == 1


def test_a_shelved_result() -> None:
    store = MemoryStore()
    cached = memory_over(store).cache(abs)
    shelved = cached.call_and_shelve(-1)
    assert (shelved.get(), cached.call_and_shelve(-1).get()) == (1, 1)
    store.clear()
    with pytest.raises(KeyError):
        shelved.get()


def test_functions_are_pickled_with_their_store(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "store.db") as store:
        cached = memory_over(store).cache(abs)
        shelved = cached.call_and_shelve(-1)
        other, found = pickle.loads(pickle.dumps((cached, shelved)))
        assert other.check_call_in_cache(-1)
        assert found.get() == 1
        other.store_backend.store.close()
        found.store_backend.store.close()


def test_a_changed_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook, whose cells are run again."""
    name = "/tmp/ipykernel_1/2.py"
    store = MemoryStore()
    found: list[int] = []
    for factor in (2, 2, 3):
        module = ModuleType("__main__")
        source = f"def times(number): return number * {factor}"
        monkeypatch.setitem(linecache.cache, name, (len(source), None, [source + "\n"], name))
        exec(compile(source, name, "exec"), module.__dict__)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib warns of collisions of names
            found.append(memory_over(store).cache(module.times)(1))
    assert found == [2, 2, 3]
    assert names(store) == ["func_code.py", "metadata.json", "output.pkl"]


def test_a_result_that_is_not_pickled(store: Store) -> None:
    calls = Calls()
    cached = memory_over(store).cache(calls.of(lambda size: [b"x" * size, lambda: 1]))
    for size in (1, 1 << 20):
        for _ in range(2):
            with pytest.warns(CacheWarning, match="the result isn't kept"):
                assert cached(size)[0] == b"x" * size
    assert len(calls.made) == 4
    assert names(store) == ["func_code.py"]


def test_an_old_result_is_not_taken_for_the_one_that_could_not_be_kept() -> None:
    store = MemoryStore()
    values: list[Any] = [1, lambda: 1]
    cached = memory_over(store).cache(lambda: values.pop(0))
    cached()
    before = dict(store.items())
    with pytest.warns(CacheWarning, match="the result isn't kept"):
        cached.call()
    assert dict(store.items()) == before
    assert not cached.store_backend._lost  # or it would grow for as long as the process runs
    cached.clear(warn=False)
    values.append(3)
    cached()
    assert names(store) == ["func_code.py", "metadata.json", "output.pkl"]


class Full(Transparent):
    """A store whose disk is full, once `full` is set."""

    full = False

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super()._write(key, body, expect, attributes)


def test_a_full_disk() -> None:
    store = Full(MemoryStore())
    cached = memory_over(store).cache(np.arange)
    cached(3)
    store.full = True
    before = list(store)
    for size in (4, 1_000_000):
        with pytest.warns(CacheWarning, match="No space left"):
            assert len(cached(size)) == size
    assert list(store) == before
    assert len(cached(3)) == 3


def test_a_store_that_is_only_read() -> None:
    below = MemoryStore()
    memory_over(below).cache(abs)(-1)
    memory = memory_over(ReadOnlyStore(below))
    cached = memory.cache(abs)
    assert cached(-1) == 1
    with pytest.warns(CacheWarning, match="read-only"):
        assert cached(-2) == 2
    with pytest.raises(ReadOnlyError):
        memory.clear(warn=False)
    with pytest.raises(ReadOnlyError):
        # Whether results of it are there, and of which source, isn't known.
        memory.cache(lambda value: value)(-1)


@pytest.mark.filterwarnings("ignore")  # of joblib, of what it can't load
def test_they_notice_a_store_that_corrupts_every_read() -> None:
    for test in (test_a_result_is_computed_once, test_results_of_many_kinds):
        store = FirstByte(MemoryStore())
        with noticed(store):
            test(store)


def test_damaged_results_are_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaging = Corrupting(SqliteStore(tmp_path / "store.db"), rate=1)
    calls = Calls()
    cached = memory_over(ChecksumStore(damaging)).cache(calls.of(lambda size: np.arange(size)))
    said: list[str] = []
    monkeypatch.setattr(cached, "warn", said.append)
    sizes = (10, 100_000, 1_000_000)  # one call, one stream of a piece, one of several
    for size in sizes:
        cached(size)
        for _ in range(8):
            assert np.array_equal(cached(size), np.arange(size))
    assert calls.made == [size for size in sizes for _ in range(9)]
    assert len(said) == 24
    assert "IntegrityError" in said[0]
    damaging.close()


@pytest.mark.parametrize("store", ["files", "sqlite"], indirect=True)
def test_a_large_result_that_is_cut_short_is_a_key_error_as_in_joblib(store: Store) -> None:
    array = np.asfortranarray(np.arange(6000.0).reshape(10, 600))
    kept = memory_over(store).cache(lambda: [b"x" * 200_000, array]).call_and_shelve()
    found = kept.get()[1]
    assert np.array_equal(found, array)
    assert found.flags.f_contiguous
    (key,) = [key for key in store if key.endswith("output.pkl")]
    whole = store[key]
    start = whole.index(array.tobytes("F"))
    padding = whole[:start].rindex(bytes([len(whole[:start]) - len(whole[:start].rstrip(b"\xff"))]))
    for length in (start + array.nbytes - 1, start, start - 1, padding):
        store[key] = whole[:length]
        with pytest.raises(KeyError, match="corrupted"):
            kept.get()


def test_a_large_result_of_a_store_that_has_files_of_another_kind(tmp_path: Path) -> None:
    class Plain(FilesystemStore):
        def _open_read(self, key: str) -> BinaryIO:
            return io.BytesIO(self[key])

    for compress in (False, 1):
        store = Plain(tmp_path / str(compress))
        cached = memory_over(store, compress=compress).cache(lambda: np.random.default_rng().random(50_000))
        assert np.array_equal(cached(), cached())


def test_a_damaged_source() -> None:
    """Whether the results are of the present one isn't known, so they are deleted."""
    below = MemoryStore()
    store = ChecksumStore(below)
    cached = memory_over(store).cache(Calls().of(abs))
    cached(-1)
    (key,) = [key for key in below if key.endswith("func_code.py")]
    below[key] = below[key][:-1] + b"\xff"
    again = memory_over(store).cache(Calls().of(abs))
    with pytest.warns(CacheWarning, match="damaged, so its results are deleted"):
        assert again(-2) == 2
    assert not again.check_call_in_cache(-1)
    assert again.check_call_in_cache(-2)


PROGRAM = """
    import os, sys, joblib, holdall.interop.joblib
    import numpy as np

    computed = []

    def squares(count):
        computed.append(count)
        return np.arange(count) ** 2

    class Killer:
        def __reduce__(self):
            os.kill(os.getpid(), 9)

    def killed(size):
        return [b"x" * size, Killer()]

    for uri in sys.argv[2:]:
        joblib.memory._FUNCTION_HASHES.clear()  # else it notes the source in the first store only
        options = {"store": uri}
        memory = joblib.Memory("cache", backend="holdall", backend_options=options, verbose=0)
        if sys.argv[1] == "kill":
            memory.cache(killed)(1 << 20)
        assert memory.cache(squares)(200_000).sum() == sum(n * n for n in range(200_000))
    print(len(computed))
"""


@pytest.fixture
def uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with ExitStack() as stack:
        valkey = stack.enter_context(ValkeyServer())
        endpoint = stack.enter_context(moto())
        import boto3

        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="joblib")
        yield [
            str(tmp_path / "files"),
            f"sqlite:///{tmp_path}/store.db",
            f"zip://{tmp_path}/store.zip",
            f"git+file://{tmp_path}/notes",
            valkey.url,
            f"s3://joblib/cache?endpoint={endpoint}&region=us-east-1",
        ]


def test_processes_at_once_leave_one_whole_result(tmp_path: Path, uris: list[str]) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))

    def start(what: str, places: list[str]) -> subprocess.Popen[str]:
        command = [sys.executable, str(program), what, *places]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    running = [start("compute", uris) for _ in range(4)]
    computed = [int(process.communicate(timeout=120)[0]) for process in running]
    assert sum(computed) >= len(uris)
    assert [process.returncode for process in running] == [0] * 4
    for uri in uris:
        with Store.from_uri(uri) as store:
            assert names(store) == ["func_code.py", "metadata.json", "output.pkl"], uri
    again = start("compute", uris)
    assert int(again.communicate(timeout=60)[0]) == 0
    # One that is killed while it writes leaves nothing of a result.
    killed = start("kill", uris[:1])
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    with Store.from_uri(uris[0]) as store:
        assert names(store) == ["func_code.py", "func_code.py", "metadata.json", "output.pkl"]
