"""Buckets and containers, one for each folder that a test is given."""

from __future__ import annotations

import hashlib
from pathlib import Path


def name_for(place: Path) -> str:
    """The name of the bucket of a folder, which every cloud takes."""
    return hashlib.sha256(str(place).encode()).hexdigest()[:32]
