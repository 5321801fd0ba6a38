"""Buckets and containers, one for each folder that a test is given."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from holdall.stores.bucket import probe


def name_for(place: Path) -> str:
    """The name of the bucket of a folder, which every cloud takes."""
    return hashlib.sha256(str(place).encode()).hexdigest()[:32]


def ask_once(patch: pytest.MonkeyPatch, suite: object) -> None:
    """Let this process ask the server of a suite once what it does, not once for each test's bucket."""
    place = probe._place
    patch.setattr(probe, "_place", lambda client: (*place(client)[:2], type(suite).__name__))
