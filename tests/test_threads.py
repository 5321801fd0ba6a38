"""Starting threads, and the threads that calls share."""

import threading

import pytest
from tests.interrupts import interrupted_at

from holdall.threads import start
from holdall.workers import Workers


class Interrupted(threading.Thread):
    """A thread whose start is interrupted where its condition's lock isn't held."""

    def start(self) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            threading.Lock().release()


def test_an_interrupt_of_a_start_comes_out_as_itself():
    with pytest.raises(KeyboardInterrupt):
        start(Interrupted())


def test_what_else_a_start_raises_does_too():
    thread = threading.Thread(target=list)
    start(thread)
    thread.join()
    with pytest.raises(RuntimeError, match="once"):
        start(thread)


def test_an_interrupt_while_a_call_begins_loses_no_thread():
    def interrupted(moment: int) -> bool:
        workers, before = Workers(), threading.enumerate()
        # It is idle by then, and is taken again.
        workers.submit(int).wait()
        came = interrupted_at(moment, lambda: workers.submit(int)) is not None
        workers.close()
        for thread in set(threading.enumerate()) - set(before):
            thread.join(30)
            assert not thread.is_alive(), moment
        return came

    moment = 1
    while interrupted(moment):
        moment += 1
    assert moment > 5
