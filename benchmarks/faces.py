"""The faces: other libraries over a store of holdall, against the same library over its own.

Each face is a module `benchmarks.faces_NAME` with one function, `measure(ground: Ground)`. It makes its
tables, fills them, and says with `Table.goal` what must be reached.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.table import Table

if TYPE_CHECKING:
    from benchmarks.contenders import Call

FACES: dict[str, tuple[str, ...]] = {
    "fsspec": ("fsspec",),
    "joblib": ("joblib", "numpy"),
    "zarr": ("zarr", "numpy", "obstore"),
}
"""Each face, and the packages that its benchmark imports."""


@dataclass
class Ground:
    """What the benchmark of a face stands on."""

    table: Callable[[str, str, list[str]], Table]
    """Begin a table, by its title, its unit and its columns."""
    folder: Callable[[], str]
    """Make an empty folder."""
    place: str
    """Where that is, for titles and goals: `tmpfs` or `disk`."""
    first: bool
    """Whether it is the first place, where what doesn't lie in folders is measured as well."""
    calls: int
    """How many calls of a small blob make a sample."""
    rounds: int
    peers: bool
    """Whether other libraries than the one with the face are measured."""
    closing: ExitStack = field(default_factory=ExitStack)
    """What ends with the run."""
    _server: str = ""

    def bucket(self) -> str:
        """Return the address of a bucket on SeaweedFS, `http://HOST:PORT/BUCKET`, the same at each call.

        The credentials are in the environment.
        """
        if not self._server:
            network = import_module("benchmarks.network")
            self._server = self.closing.enter_context(network.bucket_server())
        return self._server

    def samples(self, table: Table, names: Iterable[str]) -> Iterator[tuple[Table, str]]:
        """Yield each of the names in each round, in an order that turns, with the table for its figures.

        The first round warms up: its table is thrown away.
        """
        table.names = [*names]
        # What is imported by now stays: else each collection of garbage looks at all of it again.
        gc.collect()
        gc.freeze()
        for number in range(self.rounds + 1):
            kept = table if number else Table("", "", "", "", "", [])
            by = number % len(table.names)
            for name in (*table.names[by:], *table.names[:by]):
                yield kept, name


def clock(
    table: Table,
    name: str,
    column: str,
    calls: Iterable[Call],
    timer: Callable[[], float] = time.process_time,
) -> None:
    """Note the microseconds of a call: of the processor, or of another timer where a server does the work."""
    ready = list(calls)
    gc.collect()
    gc.disable()
    begin = timer()
    for call in ready:
        call()
    spent = timer() - begin
    gc.enable()
    table.add(name, column, spent / len(ready) * 1e6)


def measure(ground: Ground) -> None:
    """Measure all faces."""
    with ground.closing:
        for name in FACES:
            import_module(f"benchmarks.faces_{name}").measure(ground)
    gc.unfreeze()
