"""Reads that the main thread has made by another one."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from asyncio import events
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.forks import forked, succeeds
from tests.interrupts import interrupted_at

from holdall.stores.bucket.calls import _Wait
from holdall.stores.bucket.driver import driver
from holdall.workers import aside


def test_its_outcome() -> None:
    assert aside(threading.get_ident) != threading.get_ident()
    # The same thread makes the next call.
    assert aside(threading.get_ident) == aside(threading.get_ident)
    with pytest.raises(StopIteration):
        aside(lambda: next(iter(())))
    with pytest.raises(KeyError, match="absent") as caught:
        aside(lambda: {}["absent"])
    assert caught.traceback[-1].name == "<lambda>"
    assert aside(lambda: aside(lambda: 1)) == 1


def test_an_interrupt_ends_the_wait() -> None:
    main, go, ended = threading.main_thread().ident, threading.Event(), threading.Event()
    assert main is not None

    def call() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        go.wait()
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        aside(call)
    assert not ended.is_set()
    # Meanwhile others are made.
    assert aside(lambda: 1) == 1
    go.set()
    ended.wait()


def test_an_interrupt_at_any_call_leaves_no_loop_in_the_thread() -> None:
    """Else asyncio would say for ever that a loop is running."""

    kept: list[KeyboardInterrupt] = []
    moment = 1
    while (came := interrupted_at(moment, lambda: _Wait(None).run(int))) is not None:
        kept.append(came)
        moment += 1
        assert events._get_running_loop() is None
    assert moment > 5


def test_a_forked_child_has_threads_of_its_own() -> None:
    aside(int)

    def child() -> None:
        assert aside(lambda: 1) == 1

    succeeds(forked(child))


def test_threads_of_a_forked_child_load_one_copy_of_obstore() -> None:
    driver()

    def child() -> None:
        begin = threading.Barrier(4)

        def load(_: int) -> object:
            begin.wait()
            return driver()

        with ThreadPoolExecutor(4) as pool:
            assert len(set(map(id, pool.map(load, range(4))))) == 1

    succeeds(forked(child))


ENDING = """
import atexit, signal, sys, threading, _thread
from holdall.workers import aside

def call():
    _thread.interrupt_main()
    threading.Event().wait()

class Late:
    def __del__(self, aside=aside, write=sys.stdout.write):
        write(str(aside(lambda: 2)))

try:
    aside(call)
except KeyboardInterrupt:
    pass
atexit.register(lambda: print(aside(lambda: 1)))
sys.modules["late"] = Late()
"""


def test_the_end_of_the_interpreter() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENDING], capture_output=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"1\n2", b"", 0)
