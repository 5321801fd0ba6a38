"""A metadata backend that threads and processes share, some of which are killed."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from itertools import chain
from pathlib import Path

from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.query import Query
from holdall.catalog.row import Row
from holdall.testing.running import fork, race, wait_for
from holdall.testing.suites.backends import BackendBase, new_blob, new_row, put


def _raise_counter(t: Transaction) -> int:
    """Add one to what an entry counts, as a new version of it."""
    found = t.row("counter")
    count = 1 if found is None else found.metadata["n"] + 1
    if found is not None:
        t.put_earlier(found)
        t.drop_earlier("counter", found.version - 3)
    number = t.next_number()
    t.put_blob(new_blob(number, inline=True, data=b"%d" % count))
    t.put_row(new_row("counter", count, sequence=number, blob=number, metadata={"n": count}))
    return count


def check_counter(backend: MetadataBackend, count: int) -> None:
    """Check that the entry was raised to a count, with nothing of it missing."""
    fetched = backend.fetch("counter")
    assert fetched is not None
    row, blob = fetched
    assert (row.version, row.metadata, blob.data) == (count, {"n": count}, b"%d" % count)
    earlier = [row.version for row in backend.earlier()]
    assert earlier == [*range(max(1, count - 3), count)]


class SharingTests(BackendBase):
    """A metadata backend that threads and processes share, some of which are killed."""

    def test_threads_lose_no_change(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        rounds = self._effort(30)

        def work(each: MetadataBackend) -> list[int]:
            return [each.transact(_raise_counter) for _ in range(rounds)]

        counts = race(*(functools.partial(work, each) for each in (backend, other) * 2))
        assert sorted(chain.from_iterable(counts)) == [*range(1, 4 * rounds + 1)]
        check_counter(backend, 4 * rounds)

    def test_processes_lose_no_change(self, place: Path, backend: MetadataBackend) -> None:
        rounds = self._effort(30)
        backend.transact(_raise_counter)

        def work() -> None:
            with contextlib.closing(self.make(place)) as own:
                for _ in range(rounds):
                    own.transact(_raise_counter)

        workers = [fork(work) for _ in range(3)]
        assert [wait_for(worker) for worker in workers] == [0, 0, 0]
        check_counter(backend, 3 * rounds + 1)

    def test_a_fork_may_use_what_its_parent_opened(self, backend: MetadataBackend) -> None:
        backend.transact(_raise_counter)

        def work() -> None:
            for _ in range(5):
                backend.transact(_raise_counter)

        worker = fork(work)
        work()
        assert wait_for(worker) == 0
        check_counter(backend, 11)

    def test_readers_see_whole_transactions(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        rounds = self._effort(60)
        done: list[bool] = []

        def change(count: int, t: Transaction) -> None:
            data = b"%d" % count
            t.put_blob(new_blob(1, size=len(data), inline=True, data=data, crc=count))
            for key in ("a", "b"):
                t.put_row(new_row(key, count + 1, metadata={"n": count}))

        def writer() -> None:
            try:
                for count in range(rounds):
                    backend.transact(functools.partial(change, count))
            finally:
                done.append(True)

        def reader() -> None:
            last = -1
            while not done:
                fetched = other.fetch("a")
                if fetched is not None:
                    row, blob = fetched
                    assert blob.crc == row.metadata["n"] == row.version - 1 >= last
                    assert blob.data == b"%d" % blob.crc
                    last = blob.crc
                found: tuple[Row | None, Row | None] = other.transact(lambda t: (t.row("a"), t.row("b")))
                counts = {None if row is None else row.version for row in found}
                assert len(counts) == 1

        race(writer, reader, reader)
        assert [row.version for row in other.find(Query())] == [rounds, rounds]

    def test_a_killed_writer_leaves_whole_transactions(self, place: Path, backend: MetadataBackend) -> None:
        backend.transact(_raise_counter)
        count = 1
        for turn in range(self._effort(self.kills)):
            out, into = os.pipe()

            def work(into: int = into) -> None:
                own = self.make(place)
                while True:
                    os.write(into, b"%d\n" % own.transact(_raise_counter))

            worker = fork(work)
            os.close(into)
            heard = b""
            with open(out, "rb", buffering=0) as pipe:
                while heard.count(b"\n") < 3 + turn * 2:
                    heard += pipe.read(64)
                os.kill(worker, signal.SIGKILL)
                os.waitpid(worker, 0)
                while more := pipe.read(64):
                    heard += more
            acknowledged = int(heard.split(b"\n")[-2])
            row = backend.row("counter")
            assert row is not None
            # One more may have been committed before it could be acknowledged.
            assert count < acknowledged <= row.version <= acknowledged + 1
            check_counter(backend, row.version)
            count = backend.transact(_raise_counter)
            check_counter(backend, count)

    def test_one_number_for_each_asker(self, place: Path, backend: MetadataBackend) -> None:
        def work(name: str) -> None:
            with contextlib.closing(self.make(place)) as own:
                for _ in range(10):
                    own.transact(lambda t: put(new_blob(t.next_number(), extension=name))(t))

        workers = [fork(functools.partial(work, f".{name}")) for name in range(3)]
        assert [wait_for(worker) for worker in workers] == [0, 0, 0]
        assert len(list(backend.blobs())) == 30
