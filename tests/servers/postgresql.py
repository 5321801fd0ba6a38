"""A PostgreSQL server on loopback, for as long as a test needs it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tests.servers.ports import free_port
from tests.servers.programs import bound

_DEADLINE = 60.0
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off")


def program(name: str) -> str:
    found = shutil.which(name) or next(
        (str(each) for each in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None
    )
    if found is None:
        raise RuntimeError(f"{name} isn't installed: apt-get install postgresql")
    return found


class PostgresServer:
    """One server in a temporary folder, which root starts as the user `postgres`.

    Args:
        settings: More of its configuration, as `name=value`.
    """

    def __init__(self, *settings: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="postgresql-", dir="/tmp")
        # The server refuses to run as root.
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
        self._as = as_user if os.getuid() == 0 else []
        if self._as:
            shutil.chown(self.folder, "postgres")
        self.data = f"{self.folder}/data"
        self.port = free_port()
        self.settings = [*_FAST, *settings]
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            *(program("initdb"), "-D", self.data, "-U", "holdall", "-A", "trust", "-N", "-E", "UTF8"),
            *("--locale=C",),
        )
        self.start()

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [*self._as, *command], cwd="/tmp", capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}{self.log[-1000:]}")

    @property
    def url(self) -> str:
        return f"postgresql://holdall@127.0.0.1:{self.port}/postgres"

    @property
    def log(self) -> str:
        path = Path(self.folder, "log")
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        return int(Path(self.data, "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        settings = ("listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}", *self.settings)
        command = [program("postgres"), "-D", self.data, "-p", str(self.port)]
        command += [part for each in settings for part in ("-c", each)]
        before = len(self.log)
        with open(f"{self.folder}/log", "ab") as log:
            self._process = subprocess.Popen(
                [*self._as, *bound(command, "QUIT")],
                cwd="/tmp",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _DEADLINE
        while "ready to accept connections" not in self.log[before:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server doesn't start: {self.log[-1000:]}")
            time.sleep(0.01)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` ends its connections, `immediate` is a crash."""
        self._run(program("pg_ctl"), "-D", self.data, "-w", "-m", mode, "stop")
        assert self._process is not None
        self._process.wait(_DEADLINE)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Stop all of its processes for a while: connections stay open, and none is answered."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        pids = [self.pid, *map(int, children)]
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        if Path(self.data, "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
