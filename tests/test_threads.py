"""Starting threads."""

import threading

import pytest

from holdall.threads import start


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
