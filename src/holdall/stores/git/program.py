"""The program `git`: run for what needs it, and kept running for what is asked often."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import IO, BinaryIO, TypeVar, cast

from holdall.errors import StoreUnavailableError
from holdall.ranges import CHUNK

__all__ = ["Git", "Pipe", "environment"]

T = TypeVar("T")

# What `git rev-parse --local-env-vars` lists: set for one repository, as in a hook, it would lead to another.
_LOCAL = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
)


def environment(**more: str) -> dict[str, str]:
    """The environment that git is run in: no other repository's, English, no question to a terminal."""
    found = {name: value for name, value in os.environ.items() if name not in _LOCAL}
    # Git's own switch says nothing to Git Credential Manager, which opens windows.
    found.setdefault("GCM_INTERACTIVE", "never")
    found.update(LC_ALL="C", GIT_TERMINAL_PROMPT="0", GIT_EDITOR=":", GIT_OPTIONAL_LOCKS="0", **more)
    return found


class Git:
    """Runs git in a folder.

    Args:
        folder: The work tree.
        timeout: How many seconds a command may take that touches the network; others get five minutes.
        durable: Whether what a command writes is on the disk when it ends.
        variables: For its environment.
    """

    def __init__(self, folder: str, timeout: float, durable: bool, **variables: str) -> None:
        self.folder = folder
        self.timeout = timeout
        self._variables = variables
        # By itself git leaves loose objects to the system.
        self._options = ("-c", "core.fsync=all") if durable else ()

    def run(
        self,
        *arguments: str,
        data: bytes | BinaryIO | None = None,
        good: Sequence[int] = (0,),
        network: bool = False,
        **more: str,
    ) -> bytes:
        """What a command prints.

        Args:
            arguments: After `git`.
            data: Its standard input.
            good: The exit codes that are no error.
            network: Whether it may wait for another host.
            more: Variables for its environment.

        Raises:
            StoreUnavailableError: It failed, or took too long; with what git said.
        """
        code, printed, said = self.call(*arguments, data=data, network=network, **more)
        if code not in good:
            raise StoreUnavailableError(f"git {arguments[0]}: {said or f'ended with {code}'}")
        return printed

    def call(
        self, *arguments: str, data: bytes | BinaryIO | None = None, network: bool = False, **more: str
    ) -> tuple[int, bytes, str]:
        """The exit code of a command, what it prints, and what it says on standard error."""
        given = data if data is None or isinstance(data, bytes) else None
        source = subprocess.DEVNULL if data is None else subprocess.PIPE if isinstance(data, bytes) else data
        # In a session of its own, so that the helpers that git starts can be ended with it.
        with _started(
            self.folder, (*self._options, *arguments), source, subprocess.PIPE, **{**self._variables, **more}
        ) as process:
            try:
                printed, said = process.communicate(given, self.timeout if network else 300.0)
            except subprocess.TimeoutExpired:
                _end(process)
                process.communicate()
                raise StoreUnavailableError(
                    f"git {arguments[0]} took longer than {self.timeout:g} seconds and was ended"
                ) from None
            except BaseException:
                _end(process)
                raise
        return process.returncode, printed, said.decode(errors="replace").strip()

    def streaming(self, *arguments: str) -> Iterator[bytes]:
        """What a command prints, in pieces.

        Raises:
            StoreUnavailableError: It failed, as shows when all that it printed was given.
        """
        with (
            tempfile.TemporaryFile() as errors,
            _started(self.folder, arguments, subprocess.DEVNULL, errors, **self._variables) as process,
        ):
            source = cast(BinaryIO, process.stdout)
            try:
                while piece := source.read(CHUNK):
                    yield piece
                code = process.wait()
            finally:
                _end(process)
            if code:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip()
                raise StoreUnavailableError(f"git {arguments[0]}: {said or f'ended with {code}'}")


def _started(
    folder: str, arguments: Sequence[str], source: int | BinaryIO, errors: int | IO[bytes], **more: str
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            ["git", "-C", folder, *arguments],
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(**more),
            start_new_session=True,
        )
    except OSError as error:
        raise _not_run(error) from error


def _not_run(error: OSError) -> StoreUnavailableError:
    if isinstance(error, FileNotFoundError):
        return StoreUnavailableError("the program git is not installed, or not on the PATH")
    return StoreUnavailableError(f"the program git can't be run: {error.strerror}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # it ended by itself


_pipes: weakref.WeakSet[Pipe] = weakref.WeakSet()


def _after_fork() -> None:
    for pipe in list(_pipes):
        pipe.begin()


os.register_at_fork(after_in_child=_after_fork)


class Pipe:
    """A git that is kept running and asked one thing after another: a thread at a time, a process each.

    Args:
        folder: The work tree.
        arguments: After `git`.
    """

    def __init__(self, folder: str, *arguments: str) -> None:
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._state: object = None
        self.begin()
        _pipes.add(self)

    def begin(self) -> None:
        """Begin without a program; one that runs is the parent's, before a fork."""
        self._lock = threading.Lock()
        process, self._process = self._process, None
        if process is not None:
            process.returncode = 0

    def ask(self, question: bytes, answer: Callable[[BinaryIO], T], state: object = None) -> T:
        """Send a line, and let a function read what comes back.

        Args:
            question: Whole, with its end.
            answer: Reads all of the answer, no more and no less.
            state: What the program has read once for all; if it is another, a new one is started.

        Raises:
            StoreUnavailableError: The program ended.
        """
        with self._lock:
            if self._process is not None and (self._process.poll() is not None or state != self._state):
                self._stop()
            if self._process is None:
                self._state = state
                self._process = _piped(self._folder, self._arguments)
            try:
                sink, source = self._process.stdin, self._process.stdout
                assert sink is not None
                assert source is not None
                sink.write(question)
                sink.flush()
                return answer(cast(BinaryIO, source))
            except (OSError, EOFError) as error:
                self._stop()
                raise StoreUnavailableError(f"git {self._arguments[0]} ended unexpectedly") from error
            except BaseException:
                # What is left of an answer would be taken for the next one.
                self._stop()
                raise

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for end in (process.stdin, process.stdout):
                if end is not None:
                    try:
                        end.close()
                    except OSError:
                        continue  # what was not sent yet has nobody to read it
            process.wait()

    def close(self) -> None:
        """End the program."""
        with self._lock:
            self._stop()

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None:
            self._stop()


def _piped(folder: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            ["git", "-C", folder, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise _not_run(error) from error
