"""Starting threads, and the threads that calls share."""

import sys
import threading

import pytest

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
        left = moment

        def profile(frame: object, event: str, *_: object) -> None:
            nonlocal left
            # Python looks for signals after a call of C, not before it.
            left -= event != "c_call"
            if not left:
                sys.setprofile(None)
                raise KeyboardInterrupt

        workers, before = Workers(), threading.enumerate()
        # It is idle by then, and is taken again.
        workers.submit(int).wait()
        try:
            sys.setprofile(profile)
            workers.submit(int)
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        workers.close()
        for thread in set(threading.enumerate()) - set(before):
            thread.join(30)
            assert not thread.is_alive(), moment
        return not left

    moment = 1
    while interrupted(moment):
        moment += 1
    assert moment > 5
