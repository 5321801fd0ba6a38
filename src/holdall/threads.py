"""Starting a thread so that an interrupt comes out as itself."""

from __future__ import annotations

import threading


def start(thread: threading.Thread) -> None:
    """Start a thread.

    `Thread.start` waits with a condition. A KeyboardInterrupt in it can release the condition's lock twice,
    and then comes out as a RuntimeError.

    >>> start(threading.Thread(target=list))
    """
    try:
        thread.start()
    except RuntimeError as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
