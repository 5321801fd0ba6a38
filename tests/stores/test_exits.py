"""A process that ends while daemon threads are in the middle of calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

AT_WORK = """
import os, sys, threading
from holdall import Store

store, started, own = Store.from_uri(sys.argv[1]), threading.Semaphore(0), os.getpid()

def work(name):
    store[f"{own}/{name}/first"] = b"1"
    started.release()
    while True:
        store[f"{own}/{name}/a"] = b"1"
        del store[f"{own}/{name}/a"]
        list(store.list(f"{own}/{name}/"))

for name in "abcd":
    threading.Thread(target=work, args=(name,), daemon=True).start()
for name in "abcd":
    started.acquire()
"""

# Its thread is stopped while it closes its connection. It has globals of its own, so that those of the
# program, with the store, are dropped at the end.
CLOSING = """
import sys, threading
from holdall import SqliteStore
from holdall.stores.sqlite.connections import closing

store, held = SqliteStore(sys.argv[1]), threading.Event()
store["a"] = b"1"
scope = {"closing": closing, "held": held, "Event": threading.Event}
exec("def close():\\n with closing:\\n  held.set()\\n  Event().wait()", scope)
threading.Thread(target=scope["close"], daemon=True).start()
held.wait()
"""


def start(program: str, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program, *args], stderr=subprocess.PIPE)


def end(process: subprocess.Popen[bytes]) -> tuple[bytes, int]:
    """Return what a process wrote to standard error, and its exit code."""
    with process:
        try:
            return process.communicate(timeout=60)[1], process.returncode
        finally:
            process.kill()


URIS = ("{}/s", "hashdir://{}/s", "sqlite:///{}/s.db", "zip://{}/s.zip", "git+file://{}/s?init=true")


@pytest.mark.parametrize("uri", URIS)
def test_daemon_threads_at_work_keep_no_process_alive(uri: str, tmp_path: Path) -> None:
    for process in [start(AT_WORK, uri.format(tmp_path)) for _ in range(3)]:
        assert end(process) == (b"", 0)


def test_a_thread_that_was_stopped_while_it_closed_a_connection(tmp_path: Path) -> None:
    assert end(start(CLOSING, str(tmp_path / "a.db"))) == (b"", 0)
