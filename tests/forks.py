"""Children of forks."""

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path


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


def succeeds_as_nobody(task: Callable[[Path], object]) -> None:
    """Carry out a task in a child without the rights of root, for whom the modes of files mean nothing.

    Args:
        task: It is given a folder of its own, which is its home, too.
    """

    def work() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        os.umask(0o022)
        os.environ["HOME"] = name
        task(Path(name))

    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        succeeds(forked(work))


def succeeds(pid: int) -> None:
    """Wait for a child, whose task must have raised nothing."""
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
