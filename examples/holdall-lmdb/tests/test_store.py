"""The store passes the suite that every store of holdall passes."""

import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from holdall_lmdb import LmdbStore

from holdall import InvalidArgumentError, Store, StoreError, StoreUnavailableError
from holdall.testing import StoreSuite


class TestLmdbStore(StoreSuite):
    def make(self, place: Path) -> Store:
        return LmdbStore(place / "blobs")


def test_a_database_that_is_full_keeps_what_it_has(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, map_size=1 << 20)
    store["a"] = b"kept"
    with pytest.raises(StoreUnavailableError, match="larger map_size"):
        store["b"] = bytes(3 << 20)
    assert dict(store) == {"a": b"kept"}


def test_long_keys_are_listed_in_order(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    keys = ["k" * length + end for length in (478, 479, 511, 512, 700) for end in ("", "a", "b/c", "\u00e9")]
    store.put_many(dict.fromkeys(keys, b""))
    assert list(store) == sorted(keys)
    assert list(store.iterate_keys("\ud800")) == []
    assert list(store.iterate_keys("k" * 512)) == [key for key in sorted(keys) if key.startswith("k" * 512)]


def test_more_than_a_page_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall_lmdb.store._PAGE", 4)
    store = LmdbStore(tmp_path)
    keys = [f"{number:02}" for number in range(10)]
    store.put_many(dict.fromkeys(keys, b""))
    assert list(store) == keys
    assert list(store.iterate_keys("0")) == keys


def test_the_draft_of_a_killed_writer_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LmdbStore(tmp_path)
    database = store._database()
    with database.env.begin(write=True) as txn:
        for number in range(3):
            txn.put(b"%016d%04d" % (7, number), b"x", db=database.chunks)
        txn.put(b"%016d" % 7, b"0.0", db=database.drafts)
    store.close()
    swept = LmdbStore(tmp_path)._database()
    assert swept is not database
    with swept.env.begin() as txn:
        assert [txn.stat(table)["entries"] for table in (swept.drafts, swept.chunks)] == [0, 0]


def test_a_close_ends_no_transaction_of_other_threads(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    store["large"] = bytes(3 << 20)
    pieces = store.chunks("large")
    next(pieces)
    begun = threading.Barrier(4)

    def use() -> None:
        begun.wait()
        with suppress(StoreError):
            while True:
                store["a"] = store["large"][:1000]

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait()
    store.close()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert sum(map(len, pieces)) == 2 << 20
    assert len(LmdbStore(tmp_path)["large"]) == 3 << 20


def test_deleted_blobs_leave_room_at_once(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, map_size=1 << 20)
    for _ in range(3):
        store["a"] = bytes(900_000)
        del store["a"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_ends_no_read_of_its_parent(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    store["large"] = data = os.urandom(8 << 20)
    pieces = store.chunks("large")
    read = [next(pieces)]
    child = os.fork()
    if not child:
        code = 1
        try:
            for use in (lambda: next(pieces), lambda: store["large"], lambda: LmdbStore(tmp_path)["large"]):
                with pytest.raises(StoreUnavailableError, match="fork when there is none"):
                    use()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    for number in range(4):
        store["large"] = bytes([number]) * (8 << 20)
    assert b"".join([*read, *pieces]) == data


def test_what_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = LmdbStore(tmp_path / "file")
    for call in (lambda: list(store), lambda: "a" in store, lambda: store.delete("a")):
        with pytest.raises(StoreUnavailableError, match="Not a directory"):
            call()


@pytest.mark.parametrize("size", [0, -1, 1 << 70, "64", 1.5])
def test_a_size_is_above_zero(tmp_path: Path, size: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="map_size"):
        LmdbStore(tmp_path, map_size=size)


def test_a_folder_that_is_made_anew_is_another_database(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "one")
    store["a"] = b"1"
    shutil.rmtree(tmp_path / "one")
    assert dict(LmdbStore(tmp_path / "one")) == {}
    with LmdbStore(tmp_path / "one") as again:
        again["b"] = b"2"
        assert dict(again) == {"b": b"2"}
    with LmdbStore(tmp_path / "one") as again:
        assert dict(again) == {"b": b"2"}
