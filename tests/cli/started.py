"""Run `holdall` in forks of a process that has imported it: that takes longer than most commands."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import importlib
import os
import pickle
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import holdall

HANGS = 50
"""Seconds after which a command has hung."""
HELPERS = ("typer.rich_utils", "pydantic.main")
"""What the command imports to show its help, or what is wrong with its arguments."""
SERVE = "import sys; from tests.cli.started import serve; serve(int(sys.argv[1]))"


class Started:
    """A process that runs commands as `python -m holdall` does, each in a child with pipes of its own.

    Args:
        env: The variables of that process: those that Python reads when it starts hold for every command.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._given = self._read_at_start(env)
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(HANGS + 10)
        paths = os.pathsep.join([str(Path(__file__).parents[2]), env.get("PYTHONPATH", "")])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(theirs.fileno())],
                env={**env, "PYTHONPATH": paths},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._pool = ThreadPoolExecutor(2)

    @staticmethod
    def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in env.items() if name.startswith(("PYTHON", "LANG", "LC_"))}

    def fits(self, env: Mapping[str, str]) -> bool:
        """Whether a Python that starts with these variables would be like this one."""
        return self._read_at_start(env) == self._given

    def run(
        self, args: Sequence[str | bytes], env: Mapping[str, str], cwd: Path, stdin: bytes | None
    ) -> tuple[int, bytes, bytes]:
        """Run a command; return its exit code and what it wrote to standard output and standard error."""
        source, feed = os.pipe() if stdin is not None else (os.open(os.devnull, os.O_RDONLY), -1)
        output, out = os.pipe()
        errors, err = os.pipe()
        written = [self._pool.submit(read_to_end, each) for each in (output, errors)]
        socket.send_fds(self._socket, [b"!"], [source, out, err])
        self._socket.sendall(pickle.dumps(([os.fsdecode(each) for each in args], dict(env), str(cwd))))
        for fd in (source, out, err):
            os.close(fd)
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError), open(feed, "wb", buffering=0) as pipe:
                remaining = memoryview(stdin)
                while remaining:
                    remaining = remaining[pipe.write(remaining) :]
        code = int(self._socket.recv(16))
        return code, *(each.result(60) for each in written)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(60)
        self._pool.shutdown()


def read_to_end(fd: int) -> bytes:
    with open(fd, "rb") as pipe:
        return pipe.read()


def serve(fd: int) -> None:
    for folder in ("cli", "cli.catalog", "catalog", "stores", "transfer"):
        for module in Path(holdall.__file__).parent.joinpath(*folder.split(".")).glob("[a-z]*.py"):
            importlib.import_module(f"holdall.{folder}.{module.stem}")
    for module in HELPERS:
        importlib.import_module(module)
    gc.freeze()
    with socket.socket(fileno=fd) as requests:
        request = take(requests)
    if request is not None:
        args, env, cwd = request
        # A command that hangs shows where, and doesn't hold up those after it.
        faulthandler.dump_traceback_later(HANGS, exit=True)
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        sys.argv[1:] = args
        end(run_holdall())


def run_holdall() -> object:
    """Return the exit code of the command."""
    try:
        runpy.run_module("holdall", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return ended.code
    return None


def end(code: object) -> None:
    """End this process as Python does, with a warning of what was left open, but without freeing all that is
    imported here: that takes longer than most commands."""
    if not isinstance(code, int):
        sys.exit(code)
    threading._shutdown()
    atexit._run_exitfuncs()
    gc.collect()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(code)  # Python reports it
    os._exit(code)


def take(requests: socket.socket) -> tuple[list[str], dict[str, str], str] | None:
    """Return a request in a child that is to carry it out, and None in the parent once no more come."""
    while True:
        message, fds, *_ = socket.recv_fds(requests, 1, 3)
        if not message:
            return None
        with requests.makefile("rb", buffering=0) as file:
            request = pickle.load(file)
        child = os.fork()
        for number, fd in enumerate(fds):
            if not child:
                os.dup2(fd, number)
            os.close(fd)
        if not child:
            return request
        _, status = os.waitpid(child, 0)
        requests.sendall(b"%d" % os.waitstatus_to_exitcode(status))
