"""Blob dicts against those of blob-dict, the library whose names they take; it needs Python 3.12 or later."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from benchmarks import valkey
from benchmarks.table import Table

COLUMNS = ["put", "get"]
KINDS = ("PathBlobDict", "GitBlobDict", "ValkeyBlobDict")

Made = tuple[Any, Callable[[bytes], Any]]
"""A dict, and what makes a blob of bytes."""


def _ours(kind: str, folder: str, port: int) -> Made:
    import holdall

    made: Any
    if kind == "PathBlobDict":
        made = holdall.PathBlobDict(folder)
    elif kind == "GitBlobDict":
        made = holdall.GitBlobDict(folder, user_name="Ann", user_email="ann@example.org")
    else:
        made = holdall.ValkeyBlobDict(f"valkey://127.0.0.1:{port}", ttl=3600)
    return made, holdall.BytesBlob


def _theirs(kind: str, folder: str, port: int) -> Made:
    blob = importlib.import_module("blob_dict.blob").BytesBlob
    path = importlib.import_module("blob_dict.dict.path")
    made: Any
    if kind == "PathBlobDict":
        made = path.PathBlobDict(path.LocalPath(folder))
    elif kind == "GitBlobDict":
        git = importlib.import_module("blob_dict.dict.git")
        made = git.GitBlobDict(path.LocalPath(folder), user_name="Ann", user_email="ann@example.org")
    else:
        module = importlib.import_module("blob_dict.dict.valkey")
        made = module.ValkeyBlobDict(
            ttl=timedelta(hours=1), client_kwargs={"host": "127.0.0.1", "port": port}
        )
    return made, blob


def dicts(table: Table, folder: str, count: int, rounds: int, peers: bool) -> None:
    """Fill a table with the microseconds of a put of a new blob of 1 KiB, and of a get of it."""
    data = os.urandom(1024)
    contenders = {"holdall": _ours}
    if sys.version_info < (3, 12):
        table.notes.append(
            "blob-dict needs Python 3.12: RESULTS-blob-dict.md was measured there, by `--only dicts`"
        )
    elif peers:
        contenders["blob-dict"] = _theirs
        table.notes.append(
            "blob-dict writes in place, and starts git for each commit; a put of it is whole in Valkey only"
        )
    table.names = [f"{name} {kind}" for kind in KINDS for name in contenders]
    with valkey.server(folder) as port:
        for number in range(rounds):
            for kind in KINDS:
                # A commit of theirs costs as much as hundreds of other calls.
                turns = max(1, count // 20) if kind == "GitBlobDict" else count
                names = list(contenders)
                for name in names[number % 2 :] + names[: number % 2]:
                    shown = f"{name} {kind}"
                    place = f"{folder}/{name}-{kind}-{number}"
                    os.makedirs(place)
                    try:
                        made, blob = contenders[name](kind, place, port)
                    except Exception as error:  # noqa: BLE001 - a peer that can't be opened is a result
                        for column in COLUMNS:
                            table.fail(shown, column, f"{type(error).__name__}: {error}")
                        continue
                    keys = [f"run-{index % 10}/{number}-{index:05}" for index in range(turns)]
                    value = blob(data)
                    begin = time.perf_counter()
                    for key in keys:
                        made[key] = value
                    table.add(shown, COLUMNS[0], (time.perf_counter() - begin) / turns * 1e6)
                    begin = time.perf_counter()
                    for key in keys:
                        made[key].as_bytes()
                    table.add(shown, COLUMNS[1], (time.perf_counter() - begin) / turns * 1e6)
