"""Kills and interrupts: writers are ended at random moments, and everything acknowledged must be there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from campaign.stores import Make, suite
from holdall.testing import check_laws

_KILLS, _INTERRUPTS, _SEQUENCES = 25, 250, 8


def kill(make: Make, place: Path, visit: int) -> int:
    """Kill writing processes."""
    kit = suite(make, kills=_KILLS)
    with closing(make(place)) as store, closing(make(place)) as other:
        kit.test_killed_writers_lose_nothing_that_was_acknowledged(store, other, place)
    return _KILLS


def interrupt(make: Make, place: Path, visit: int) -> int:
    """Interrupt a writer, as Ctrl-C does."""
    kit = suite(make, interrupts=_INTERRUPTS)
    type(kit).__name__ = f"visit {visit}"  # the moments are drawn by the name
    with closing(make(place)) as store, closing(make(place)) as other:
        kit.test_an_interrupt_leaves_nothing_behind(store, other, place)
    return _INTERRUPTS


def walk(make: Make, place: Path, visit: int) -> int:
    """Drive the store and a dict through the same random steps, and compare."""
    check_laws(make, place, examples=_SEQUENCES, seed=visit)
    return _SEQUENCES * 26  # steps: a sequence has 12 to 40
