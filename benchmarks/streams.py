"""Blobs of 256 MiB streamed in and out, and long listings: time, and memory beyond what was held before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from benchmarks import child
from benchmarks.contenders import PEER, Contender
from benchmarks.rounds import fill_folder
from benchmarks.table import Table


def streams(table: Table, classes: Sequence[type[Contender]], folder: str, mib: int, rounds: int) -> Table:
    table.names = [kind.name for kind in classes]
    for number in range(rounds):
        for kind in classes[number % len(classes) :] + classes[: number % len(classes)]:
            if kind.kind == PEER and number:
                continue  # once will do: they are slow to start, and what they hold doesn't vary
            if kind.lacks.get("write"):
                for column in table.columns:
                    table.fail(kind.name, column, kind.lacks["write"])
                continue
            place = f"{folder}/stream"
            job = {"contender": (kind.__module__, kind.__name__), "folder": place, "mib": mib}
            for act in ("put", "get"):
                try:
                    done = child.run({**job, "act": act})
                except child.ChildFailed as error:
                    if kind.kind == "holdall":
                        raise
                    table.fail(kind.name, f"{act} ms", str(error))
                    table.fail(kind.name, f"{act} MiB held", str(error))
                    break
                table.add(kind.name, f"{act} ms", done["seconds"] * 1e3)
                table.add(kind.name, f"{act} MiB held", done["extra"])
            shutil.rmtree(place, ignore_errors=True)
            shutil.rmtree(place + ".new", ignore_errors=True)
    return table


def long_listings(
    table: Table, classes: Sequence[type[Contender]], folder: str, counts: dict[str, int]
) -> Table:
    for kind in classes:
        count, place = counts[kind.medium], f"{folder}/long"
        job = {"contender": (kind.__module__, kind.__name__), "folder": place, "count": count}
        os.makedirs(place)
        table.names.append(kind.name)
        if kind.plain:
            # All in one folder, which is the most that one listing has to put in order.
            fill_folder(place, [f"key-{n:07}" for n in range(count)])
        else:
            child.run({**job, "act": "fill"})
        done = child.run({**job, "act": "list"})
        table.add(kind.name, "keys", count)
        table.add(kind.name, "seconds", done["seconds"])
        table.add(kind.name, "MiB held", done["extra"])
        shutil.rmtree(place)
    return table
