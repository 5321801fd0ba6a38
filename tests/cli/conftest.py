"""The real command, in a process of its own, with or without a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cli.started import Started

COMMAND = (sys.executable, "-m", "holdall")
STRICT = {"PYTHONWARNINGS": "error"}


class Holdall:
    """Runs `holdall` on one store."""

    def __init__(self, uri: str, cwd: Path, started: Started | None = None) -> None:
        self.uri = uri
        self.cwd = cwd
        self.started = started
        self.env = {**os.environ, **STRICT, "HOLDALL_URI": uri, "COLUMNS": "100"}
        self.env.pop("HOLDALL_DEBUG", None)
        self._begun: list[subprocess.Popen[bytes]] = []

    def __call__(
        self, *args: str | bytes, stdin: bytes | None = None, code: int = 0, uri: str | None = None
    ) -> bytes:
        """What it writes to standard output, once the exit code is as expected."""
        output, errors = self.both(*args, stdin=stdin, code=code, uri=uri)
        if code == 0:
            assert errors == ""
        return output

    def error(self, *args: str | bytes, code: int, stdin: bytes | None = None, uri: str | None = None) -> str:
        """The one line on standard error."""
        output, errors = self.both(*args, stdin=stdin, code=code, uri=uri)
        assert output == b""
        assert errors.count("\n") == 1
        assert errors.startswith("holdall: ")
        return errors.removeprefix("holdall: ").rstrip("\n")

    def both(
        self, *args: str | bytes, stdin: bytes | None = None, code: int = 0, uri: str | None = None
    ) -> tuple[bytes, str]:
        ended, output, errors = self._run(args, stdin, uri)
        assert ended == code, (ended, errors)
        return output, errors.decode()

    def any(self, *args: str) -> tuple[str, str, int]:
        """What it writes, and its exit code, whatever that is."""
        ended, output, errors = self._run(args, None, None)
        return output.decode(), errors.decode(), ended

    def _run(
        self, args: tuple[str | bytes, ...], stdin: bytes | None, uri: str | None
    ) -> tuple[int, bytes, bytes]:
        env = self.env if uri is None else {**self.env, "HOLDALL_URI": uri}
        if self.started is not None and self.started.fits(env):
            ended, output, errors = self.started.run(args, env, self.cwd, stdin)
        else:
            given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
            done = subprocess.run(
                [*COMMAND, *args],
                env=env,
                cwd=self.cwd,
                capture_output=True,
                timeout=60,
                check=False,
                **given,
            )
            ended, output, errors = done.returncode, done.stdout, done.stderr
        assert b"Traceback" not in errors
        return ended, output, errors

    def start(self, *args: str, **options: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([*COMMAND, *args], env=self.env, cwd=self.cwd, **options)
        self._begun.append(process)
        return process

    def close(self) -> None:
        """End what a test that failed left running."""
        for process in self._begun:
            if process.poll() is None:
                with process:
                    process.kill()


@pytest.fixture(scope="session")
def started() -> Iterator[Started]:
    with contextlib.closing(Started({**os.environ, **STRICT})) as started:
        yield started


@pytest.fixture
def holdall(tmp_path: Path, started: Started) -> Iterator[Holdall]:
    """`holdall` on a store that isn't there yet."""
    with contextlib.closing(Holdall(str(tmp_path / "store"), tmp_path, started)) as made:
        yield made


@pytest.fixture
def usual(tmp_path: Path) -> Iterator[Holdall]:
    """As `holdall`, but each command starts an interpreter, which isn't asked to watch for warnings."""
    with contextlib.closing(Holdall(str(tmp_path / "store"), tmp_path)) as made:
        del made.env["PYTHONWARNINGS"]
        yield made


URIS = {
    "file": "{}/store",
    "hashdir": "hashdir://{}/store",
    "sqlite": "sqlite:///{}/store.db",
    "zip": "zip://{}/store.zip",
}


@pytest.fixture(params=sorted(URIS))
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, started: Started) -> Iterator[Holdall]:
    """`holdall` on a store of each kind that outlives a process."""
    with contextlib.closing(Holdall(URIS[request.param].format(tmp_path), tmp_path, started)) as made:
        yield made


class Terminal:
    """A pseudo terminal, and what was written to it."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.seen = ""

    def until(self, found: Callable[[str], object], seconds: float = 60) -> None:
        """Read on until what was seen satisfies the predicate."""
        end = time.monotonic() + seconds
        while not found(self.seen):
            assert time.monotonic() < end, f"only this came: {self.seen!r}"
            self.poll(0.1)

    def poll(self, seconds: float) -> None:
        """Read what comes within that time."""
        waiting = select.poll()  # select(2) takes no descriptor above 1,023
        waiting.register(self.master, select.POLLIN)
        if waiting.poll(seconds * 1000):
            try:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                return

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()
