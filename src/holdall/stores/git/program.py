"""The program `git`: run for what needs it, and kept running for what is asked often."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, BinaryIO, TypeVar, cast

from holdall.errors import StoreUnavailableError
from holdall.forks import begin_anew
from holdall.ranges import CHUNK
from holdall.stores.oserrors import typed

T = TypeVar("T")

_GRACE = 0.25
"""Seconds that a program has to end by itself."""
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
    """Runs git in a folder, with these variables in its environment.

    A command on the network may take `timeout` seconds, any other five minutes. If `durable` is set, what a
    command writes is on the disk when it ends.
    """

    def __init__(self, folder: str, timeout: float, durable: bool, **variables: str) -> None:
        self.folder = folder
        self.timeout = timeout
        self.held: tuple[int, ...] = ()
        """File descriptors whose locks hold until each command ends, even if this process is killed."""
        self._variables = variables
        # By itself git leaves loose objects to the system.
        self._options = ("-c", "core.fsync=all") if durable else ()

    def run(self, *arguments: str, data: bytes | BinaryIO | None = None, **more: str) -> bytes:
        """Run a command; return its output.

        Args:
            data: Its standard input.
            more: Variables for its environment.

        Raises:
            StoreUnavailableError: It failed, or took too long; with what git printed.
        """
        code, output, errors = self.call(*arguments, data=data, network=False, **more)
        if code:
            raise StoreUnavailableError(f"git {arguments[0]}: {errors or _describe_end(code)}")
        return output

    def call(
        self, *arguments: str, data: bytes | BinaryIO | None = None, network: bool = False, **more: str
    ) -> tuple[int, bytes, str]:
        """The exit code of a command, what it prints, and what it says on standard error."""
        given = data if data is None or isinstance(data, bytes) else None
        source = subprocess.DEVNULL if data is None else subprocess.PIPE if isinstance(data, bytes) else data
        variables = {**self._variables, **more}
        command = (*self._options, *arguments)
        process = _start(self.folder, command, source, subprocess.PIPE, self.held, **variables)
        limit = self.timeout if network else 300.0
        try:
            with typed(f"run git {arguments[0]}"):
                output, errors = process.communicate(given, limit)
        except subprocess.TimeoutExpired:
            raise StoreUnavailableError(
                f"git {arguments[0]} took longer than {limit:g} seconds and was ended"
            ) from None
        finally:
            _end(process)
        return process.returncode, output, errors.decode(errors="replace").strip()

    def streaming(self, *arguments: str) -> Iterator[bytes]:
        """Run a command; yield its output in pieces. An error of the command is raised after the last one."""
        with typed(f"run git {arguments[0]}"), tempfile.TemporaryFile() as errors:
            process = _start(self.folder, arguments, subprocess.DEVNULL, errors, (), **self._variables)
            try:
                source = cast(BinaryIO, process.stdout)
                while piece := source.read(CHUNK):
                    yield piece
                code = process.wait()
            finally:
                _end(process)
            if code:
                errors.seek(0)
                text = errors.read().decode(errors="replace").strip()
                raise StoreUnavailableError(f"git {arguments[0]}: {text or _describe_end(code)}")


def _describe_end(code: int) -> str:
    return f"it was killed by signal {-code}" if code < 0 else f"it ended with exit code {code}"


def _start(
    folder: str,
    arguments: Sequence[str],
    source: int | BinaryIO,
    errors: int | IO[bytes],
    held: tuple[int, ...],
    **more: str,
) -> subprocess.Popen[bytes]:
    """Start git. No interrupt loses a program that runs already: a signal reaches Python's main thread alone,
    and as soon as the system has started a program, before anyone knows of it; so another thread starts it.
    """

    def start() -> subprocess.Popen[bytes]:
        # In a session of its own, so that the helpers that git starts can be ended with it.
        return subprocess.Popen(
            ["git", "-C", folder, *arguments],
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(**more),
            start_new_session=True,
            pass_fds=held,
        )

    try:
        if threading.current_thread() is not threading.main_thread():
            return start()
        return _in_a_thread(start)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and error.filename == "git":
            raise StoreUnavailableError("the program git isn't installed, or isn't on the PATH") from error
        raise StoreUnavailableError(f"the program git can't be run: {error}") from error


def _in_a_thread(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    made: list[subprocess.Popen[bytes] | BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def work() -> None:
        try:
            made.append(start())
        except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
            made.append(error)
        finally:
            done.release()

    try:
        try:
            _thread.start_new_thread(work, ())
        except RuntimeError:
            return start()  # no thread can be started, as when the interpreter ends
        done.acquire()
        process = made[0]
    except OSError:
        raise
    except BaseException:
        while not made:
            time.sleep(0.0005)  # the thread runs, and starts a program in a few milliseconds
        if isinstance(made[0], subprocess.Popen):
            _end(made[0])
        raise
    if isinstance(process, BaseException):
        raise process
    return process


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        process.send_signal(number)  # its session isn't there yet, or not any more


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program, and what it started, if it still runs, and forget its pipes."""
    for end in (process.stdin, process.stdout, process.stderr):
        if end is not None:
            try:
                end.close()
            except OSError:
                continue  # the program no longer reads the rest
    # Without its pipes it ends soon. A git that is asked to end first removes its lock files, but for a
    # moment after it made one; a git that is killed leaves them for ever.
    for number, patience in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, 20 * _GRACE)):
        if _has_ended(process, patience):
            return
        _signal(process, number)
    _has_ended(process, threading.TIMEOUT_MAX)


def _has_ended(process: subprocess.Popen[bytes], patience: float) -> bool:
    """Return whether a program has ended, after some seconds at most.

    `Popen.wait` and `Popen.poll` take a lock that an interrupt leaves locked if it comes just then; the next
    call would wait for it without end.
    """
    deadline, pause = time.monotonic() + patience, 0.0001
    while process.returncode is None:
        try:
            ended, status = os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            # An interrupt came before the exit code was noted.
            process.returncode = 0
            break
        if ended:
            process.returncode = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    return True


class Pipe:
    """A git that is kept running and asked one thing after another: a thread at a time, a process each."""

    def __init__(self, folder: str, *arguments: str) -> None:
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._state: object = None
        self.begin()
        begin_anew(self, Pipe.begin)

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
            state: The state that the program has read; if it changes, a new program is started.

        Raises:
            StoreUnavailableError: The program ended.
        """
        with self._lock:
            if self._process is not None and (self._process.poll() is not None or state != self._state):
                self._stop()
            if self._process is None:
                self._state = state
                self._process = _start(self._folder, self._arguments, subprocess.PIPE, subprocess.DEVNULL, ())
            try:
                sink, source = self._process.stdin, self._process.stdout
                assert sink is not None
                assert source is not None
                sink.write(question)
                sink.flush()
                return answer(cast(BinaryIO, source))
            except (OSError, EOFError) as error:
                self._stop()
                raise StoreUnavailableError(
                    f"git {self._arguments[0]} ended before it had answered: `git fsck` shows whether the "
                    "repository is damaged"
                ) from error
            except BaseException:
                # The rest of an answer would be taken for the next one.
                self._stop()
                raise

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def close(self) -> None:
        """End the program."""
        with self._lock:
            self._stop()

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None:
            self._stop()
