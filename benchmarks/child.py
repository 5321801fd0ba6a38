"""One measurement in a process of its own: how long it takes, and how far its memory rises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.contenders import MIB, find


class ChildFailed(Exception):
    """The child's last words."""


def run(job: dict[str, Any]) -> dict[str, float]:
    """Do a job in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", json.dumps(job)],
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ChildFailed(lines[-1])
    return json.loads(done.stdout.splitlines()[-1])


def memory(field: str) -> float:
    """A field of `/proc/self/status`, in MiB."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    raise LookupError(field)


def reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def pieces(count: int) -> Iterator[bytes]:
    """Fresh pieces of 1 MiB, so that a library that holds them holds memory."""
    seed = os.urandom(MIB - 8)
    for number in range(count):
        yield number.to_bytes(8) + seed


def work(job: dict[str, Any]) -> dict[str, float]:
    contender = find(*job["contender"])(job["folder"])
    mib = job.get("mib", 0)
    if job["act"] in ("put", "get"):
        # A small one first, so that what is loaded at first use is not counted.
        write, read = contender.write, contender.read
        assert write is not None
        assert read is not None
        if job["act"] == "put" and contender.medium != "zip" and not hasattr(contender, "stream_size"):
            write("warm", pieces(1))
            for _ in read("warm"):
                pass
    reset_peak()
    before, begin = memory("VmRSS"), time.perf_counter()
    if job["act"] == "put":
        if hasattr(contender, "stream_size"):
            contender.stream_size = mib * MIB
        write("stream", pieces(mib))
        seconds = time.perf_counter() - begin
        peak = memory("VmHWM")
    elif job["act"] == "get":
        size = sum(len(piece) for piece in read("stream"))
        seconds = time.perf_counter() - begin
        peak = memory("VmHWM")
        if size != mib * MIB:
            raise ValueError(f"{size} bytes came back")
    elif job["act"] == "fill":
        put_many, count = contender.call("put_many"), job["count"]
        for start in range(0, count, 10_000):
            keys = (f"run-{number // 10_000:03}/key-{number:07}" for number in range(start, start + 10_000))
            put_many(dict.fromkeys(keys, b"x"))
        seconds, peak = time.perf_counter() - begin, memory("VmHWM")
    else:
        found = sum(1 for _ in contender.call("keys")(""))
        seconds, peak = time.perf_counter() - begin, memory("VmHWM")
        if found != job["count"]:
            raise ValueError(f"{found} keys were listed")
    contender.close()
    return {"seconds": seconds, "extra": max(peak - before, 0.0)}


if __name__ == "__main__":
    print(json.dumps(work(json.loads(sys.argv[1]))))
