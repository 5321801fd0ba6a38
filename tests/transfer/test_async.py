"""The same calls as coroutines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdall.aio.transfer import copy_store, diff_stores, move_store, sync_stores, verify_store
from holdall.errors import DeleteRefusedError
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.memory import MemoryStore
from holdall.testing import Slow
from holdall.transfer import Plan, Report


def test_each_call() -> None:
    async def main() -> None:
        source, target = MemoryStore({"a": b"1", "b": b"2"}), MemoryStore({"b": b"x", "c": b""})
        found = [(each.kind, each.key) async for each in diff_stores(source.aio, target)]
        assert found == [("source", "a"), ("differs", "b"), ("target", "c")]
        plan = await sync_stores(source, target.aio, dry_run=True)
        assert isinstance(plan, Plan)
        assert [action.kind for action in plan] == ["copy", "copy", "delete"]
        with pytest.raises(DeleteRefusedError):
            await sync_stores(source, target, max_delete=0)
        report = await copy_store(source.aio, target.aio)
        assert isinstance(report, Report)
        assert report.copied == 2
        assert (await verify_store(target)).checked == 3
        moved = await move_store(source, target)
        assert isinstance(moved, Report)
        assert moved.deleted == 2

    asyncio.run(main())


def test_a_cancelled_transfer_stops_and_can_be_taken_up(tmp_path: Path) -> None:
    source = FilesystemStore(tmp_path / "source")
    source.update({f"{index:03}": b"x" for index in range(400)})
    below = MemoryStore()
    target = Slow(below, 0.002)
    target._scan = below._scan  # type: ignore[method-assign]

    async def main() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int, size: int, key: str) -> None:
            if done == 20:
                loop.call_soon_threadsafe(begun.set)

        task = asyncio.create_task(
            copy_store(source, target, journal=tmp_path / "j", progress=progress, jobs=1)
        )
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 20 <= len(below) < 400
        report = await copy_store(source, target, journal=tmp_path / "j", jobs=16)
        assert isinstance(report, Report)
        assert report.resumed >= 20
        assert report.ok
        assert len(below) == 400

    asyncio.run(main())
