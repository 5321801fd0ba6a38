"""Check what killed and interrupted writers left, against what they reported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from holdall.store import Store
from holdall.testing.samples import hash_bytes


def settle(
    store: Store, known: dict[str, str | None], pending: dict[str, str | None], late: dict[str, str | None]
) -> None:
    """Check the blobs that were being written, and note what happened to them. `check_after_kill` checks all
    blobs."""
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
    """Note in `known` what a writer reports as done; return what it was writing at its end."""
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
    """Check every acknowledged blob by its digest, and note what the last writer left.

    A server may carry out a request after the kill of the writer that made it: `late` holds the requests of
    the writer before this one whose effect nobody has seen. It then holds those of this one.
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
    assert infos.keys() == held.keys(), "a killed writer left something that a listing shows and get doesn't"
    for key, data in held.items():
        assert infos[key].size == len(data)
    for key in {*held, *known, *pending}:
        found = hash_bytes(held[key]) if key in held else None
        allowed = {known.get(key), *(asked[key] for asked in (pending, late) if key in asked)}
        assert found in allowed, f"{key!r} is neither what was acknowledged nor what was under way"
    if len(pending) == 2 and None in pending.values():
        # A move: the target is whole before the source is deleted.
        target, source = sorted(pending, key=lambda key: pending[key] is None)
        if pending[target] is not None:
            assert source in held or hash_bytes(held[target]) == pending[target], "a move lost the blob"
    for key in {*pending, *late}:
        known[key] = hash_bytes(held[key]) if key in held else None
    late.clear()
    late |= {key: digest for key, digest in pending.items() if known[key] != digest}
