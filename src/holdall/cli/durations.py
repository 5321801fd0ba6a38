"""Spans of time as people write them: 90, 90s, 5m, 1h30m, 7d."""

from __future__ import annotations

import re
from contextlib import suppress

from holdall.cli.errors import UsageFault

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_duration(text: str) -> float:
    """Return the seconds that a text means; raise UsageFault if it isn't a span of time.

    >>> parse_duration("90"), parse_duration("5m"), parse_duration("1h30m")
    (90.0, 300.0, 5400.0)
    """
    with suppress(ValueError):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?[smhdw])+", text):
        raise UsageFault(
            f"a span of time is a number of seconds, or numbers with units as in 1h30m or 7d, not {text!r}"
        )
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhdw])", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
