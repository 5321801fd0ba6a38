"""Children of forks."""

import os
import signal
import sys
import traceback
from collections.abc import Callable


def forked(task: Callable[[], object]) -> int:
    """Begin a task in a child of a fork, that is killed after a minute; the child's process."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(60)
        task()
        code = 0
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def become_nobody() -> None:
    """Give up the rights of root, for whom the modes of files mean nothing."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def succeeds(pid: int) -> None:
    """Wait for a child, whose task must have raised nothing."""
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
