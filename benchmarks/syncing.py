"""A folder of many small files made equal to another: whole commands, against rclone and rsync."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.machine import installed
from benchmarks.table import Table

HOLDALL, JOURNAL = "holdall sync", "holdall sync --journal"
MODIFIED = "holdall sync --compare modified"
RCLONE, RSYNC = "rclone sync", "rsync -a --delete"
COLUMNS = ["first", "nothing to do", "1 % changed"]
PROCESSOR = [f"{name}, processor" for name in COLUMNS]
"""The seconds of all processors together."""


def _holdall(*options: str) -> list[str]:
    program = "import sys; from holdall.cli import main; sys.exit(main())"
    return [sys.executable, "-c", program, "sync", "--delete", *options]


def _commands(folder: str) -> dict[str, Callable[[str, str], list[str]]]:
    journal = f"{folder}/journal.db"
    commands: dict[str, Callable[[str, str], list[str]]] = {
        HOLDALL: lambda source, target: [*_holdall(), source, target],
        MODIFIED: lambda source, target: [*_holdall("--compare", "modified"), source, target],
        JOURNAL: lambda source, target: [*_holdall("--journal", journal), source, target],
    }
    if shutil.which("rclone"):
        # Without a configuration of its own, and no questions over the network.
        commands[RCLONE] = lambda source, target: [
            *("rclone", "sync", "--config", "/dev/null", "--quiet"),
            *(source, target),
        ]
    if shutil.which("rsync"):
        commands[RSYNC] = lambda source, target: ["rsync", "-a", "--delete", source + "/", target + "/"]
    return commands


def fill(folder: str, count: int, number: int = 0) -> None:
    """Files of 1 KiB, a hundred to a folder; every hundredth has other bytes in each round."""
    for index in range(count):
        path = f"{folder}/run-{index // 100:03}/file-{index:05}"
        if number and index % 100:
            continue
        if index % 100 == 0:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(os.urandom(1016) + number.to_bytes(8, "big"))


def _timed(command: list[str], folder: str) -> tuple[float, float]:
    """Run a command, and return its seconds, and those of the processors."""
    environment = {**installed(f"{folder}/compiled"), "HOLDALL_CONFIG": ""}
    # What the one before left to be written would be written at the cost of this one.
    os.sync()
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    spent, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-200:]}")
    return spent, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def syncs(table: Table, folder: str, count: int, rounds: int, again: int) -> None:
    """Fill a table with the seconds that each program takes for the same folder, in alternated rounds.

    Args:
        table: With both kinds of columns of this module.
        folder: An empty one.
        count: How many files.
        rounds: How often each program copies all.
        again: How often it finds nothing to do, and 1 % changed, in each round: these are quick.
    """
    commands = _commands(folder)
    table.names = list(commands)
    names = list(commands)
    table.notes += [
        "what was written before is on the disk when a command begins",
        "what is copied, holdall and rclone read back and compare; rsync doesn't",
        f"what is there, rclone and rsync compare by size and time, as {MODIFIED!r} does",
        f"{HOLDALL!r} compares contents, except of pairs that its journal knows by their ETags",
        "rclone and rsync use several processors at once; holdall lists and compares on one",
        *(f"{name.split()[0]} is not installed" for name in (RCLONE, RSYNC) if name not in names),
    ]
    source = f"{folder}/source"
    fill(source, 3000)
    for _ in range(2):
        # Compiles the modules.
        _timed(commands[HOLDALL](source, f"{folder}/few"), folder)
    shutil.rmtree(f"{folder}/few")
    fill(source, count)
    changes = 0

    def add(name: str, step: int, command: list[str]) -> None:
        for columns, seconds in zip((COLUMNS, PROCESSOR), _timed(command, folder), strict=True):
            table.add(name, columns[step], seconds)

    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            target = f"{folder}/target"
            os.makedirs(target)
            command = commands[name](source, target)
            add(name, 0, command)
            for _ in range(again):
                # The files that rsync and rclone compare by time must not be of this very second.
                add(name, 1, command)
                changes += 1
                fill(source, count, changes)
                add(name, 2, command)
            shutil.rmtree(target)
            if os.path.exists(f"{folder}/journal.db"):
                os.unlink(f"{folder}/journal.db")


def resume(table: Table, folder: str, count: int) -> None:
    """Kill a sync at about half, go on, and count the files that were copied twice."""
    source, target, journal = f"{folder}/source", f"{folder}/resumed", f"{folder}/resumed.db"
    if not os.path.isdir(source):
        fill(source, count)
    os.makedirs(target)
    command = [*_holdall("--journal", journal), source, target]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and _copied(target) < count // 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = _stamps(target)
    _timed(command, folder)
    after = _stamps(target)
    again = sum(path in after and after[path] != stamp for path, stamp in before.items())
    table.names = [HOLDALL]
    table.add(HOLDALL, "copied before the kill", len(before))
    table.add(HOLDALL, "copied again", again)
    table.add(HOLDALL, "copied again, % of all", 100 * again / count)


def _copied(target: str) -> int:
    """About how many there are: whole folders of a hundred."""
    return 100 * len(os.listdir(target))


def _stamps(target: str) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for folder, _, names in os.walk(target):
        if os.path.basename(folder).startswith("."):
            continue
        for name in names:
            seen = os.stat(f"{folder}/{name}")
            found[f"{folder}/{name}"] = seen.st_ino, seen.st_mtime_ns
    return found
