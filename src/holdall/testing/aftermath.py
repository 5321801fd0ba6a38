"""Check what killed and interrupted writers left, against what they said."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from holdall.store import Store
from holdall.testing.samples import hash_bytes


def settle(
    store: Store, known: dict[str, str | None], pending: dict[str, str | None], late: dict[str, str | None]
) -> None:
    """Check the blobs that were under way, and make what happened to them known. `check_after_kill` looks at
    all blobs."""
    for key, digest in pending.items():
        data = store.get(key)
        found = data if data is None else hash_bytes(data)
        assert found in (known.get(key), digest, late.get(key)), (
            f"{key!r} is neither the old nor the new blob"
        )
        late.pop(key, None)
        known[key] = found
        if found != digest:
            late[key] = digest


def note(
    words: Iterable[Any], known: dict[str, str | None], late: dict[str, str | None]
) -> dict[str, str | None]:
    """Note what a writer said that was acknowledged, in `known`; returns what was under way at its end."""
    pending: dict[str, str | None] = {}
    for word in words:
        if word == "done":
            known |= pending
            for key in pending:
                late.pop(key, None)
            pending = {}
        else:
            pending = word
    return pending


def check_after_kill(
    store: Store, known: dict[str, str | None], pending: dict[str, str | None], late: dict[str, str | None]
) -> None:
    """Check every blob that was acknowledged by its digest, and make what the last writer left known.

    A server may yet carry out what a writer asked of it just before the kill: `late` is what the writer
    before this one asked for and nobody has seen; it becomes what this one did.
    """
    looks = 0
    while True:
        looks += 1
        infos = {info.key: info for info in store.list()}
        held = {key: data for key in {*infos, *known, *pending} if (data := store.get(key)) is not None}
        sizes = {key: info.size for key, info in infos.items()}
        differ = sizes.items() ^ {key: len(data) for key, data in held.items()}.items()
        if not differ or looks == 10 or not {key for key, _ in differ} <= {*pending, *late}:
            break
    assert list(infos) == sorted(infos)
    assert infos.keys() == held.keys(), "a killed writer left something that listing shows, and get doesn't"
    for key, data in held.items():
        assert infos[key].size == len(data)
    for key in {*held, *known, *pending}:
        found = hash_bytes(held[key]) if key in held else None
        allowed = {known.get(key), *(asked[key] for asked in (pending, late) if key in asked)}
        assert found in allowed, f"{key!r} is neither what was acknowledged nor what was under way"
    if len(pending) == 2 and None in pending.values():
        # A move: the target is whole before the source goes.
        target, source = sorted(pending, key=lambda key: pending[key] is None)
        if pending[target] is not None:
            assert source in held or hash_bytes(held[target]) == pending[target], "a move lost the blob"
    for key in {*pending, *late}:
        known[key] = hash_bytes(held[key]) if key in held else None
    late.clear()
    late |= {key: digest for key, digest in pending.items() if known[key] != digest}
