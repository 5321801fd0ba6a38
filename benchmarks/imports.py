"""What an import costs: processor time of a new interpreter, user and system."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile

from benchmarks.machine import installed
from benchmarks.table import Table

LINES = {
    "a bare interpreter": "pass",
    "import holdall": "import holdall",
    "its MemoryStore": "import holdall; holdall.MemoryStore",
    "its FilesystemStore": "import holdall; holdall.FilesystemStore",
    "its SqliteStore": "import holdall; holdall.SqliteStore",
    "its ZipStore": "import holdall; holdall.ZipStore",
}


def children_seconds() -> float:
    """The processor time of the processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def imports(table: Table, rounds: int) -> Table:
    table.names = list(LINES)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with tempfile.TemporaryDirectory() as compiled:
        for number in range(-1, rounds):
            for name, line in LINES.items():
                before = children_seconds()
                subprocess.run([sys.executable, "-c", line], check=True, cwd=root, env=installed(compiled))
                if number >= 0:
                    table.add(name, "ms", (children_seconds() - before) * 1e3)
    return table
