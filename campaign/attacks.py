"""What the attacks have in common: they visit the stores in turn until their time is up, and count."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from campaign.stores import Make

Attack: TypeAlias = Callable[[Make, Path, int], int]
"""Attacks a store in an empty folder, with a number that no other visit has; returns how often it did.

It raises AssertionError for a broken promise."""


class Tally:
    """How often each store was attacked, and what broke."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    def run(self, stores: dict[str, Make], attack: Attack, seconds: float) -> Tally:
        """Visit each store at least once, and go on until the time is up."""
        end = time.monotonic() + seconds
        visit = 0
        while visit < len(stores) or time.monotonic() < end:
            name = list(stores)[visit % len(stores)]
            with tempfile.TemporaryDirectory(prefix="campaign-", ignore_cleanup_errors=True) as folder:
                place = Path(folder) / "place"
                place.mkdir()
                try:
                    self.counts[name] += attack(stores[name], place, visit)
                except Exception:  # noqa: BLE001 - every kind of failure is a finding
                    self.faults.append(f"{self.name}, {name}, visit {visit}:\n{traceback.format_exc()}")
            visit += 1
        return self
