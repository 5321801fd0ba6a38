"""From an exception to an exit code and one line on standard error."""

from __future__ import annotations

import re
import sys

from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    DeleteRefusedError,
    InvalidArgumentError,
    KeyConflictError,
    LockHeldError,
    LockLostError,
    ProtectedError,
    ReadOnlyError,
    StoreError,
    UnsupportedOperation,
)

NOT_FOUND = DIFFERENT = 1
USAGE = 2
CONFLICT = 3
UNAVAILABLE = 4
BUG = 70
"""EX_SOFTWARE of sysexits.h: the fault is holdall's."""
INTERRUPTED = 130
"""As a shell has it for a process that Ctrl-C ended; also what answering no gives."""
BROKEN_PIPE = 141
"""As a shell has it for a process that SIGPIPE ended, such as `cat`."""


class UsageFault(Exception):
    """The command makes no sense as it was given; the message says how to correct it."""


class Refusal(Exception):
    """What is there now must not be changed; the message says what else to do."""


class OutputError(Exception):
    """Standard output can't be written. Its cause is the `OSError`."""


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error."""
    match error:
        case BlobNotFoundError():
            return NOT_FOUND
        case UsageFault() | InvalidArgumentError() | UnsupportedOperation() | ReadOnlyError():
            return USAGE
        case Refusal() | ConcurrencyError() | KeyConflictError() | DeleteRefusedError() | ProtectedError():
            return CONFLICT
        case LockHeldError() | LockLostError():
            return CONFLICT
        case OutputError(__cause__=BrokenPipeError()):
            return BROKEN_PIPE
        case StoreError() | OSError() | OutputError():
            return UNAVAILABLE
        case _:
            # Typer has usage errors of its own, and so does click, which some versions of typer bring.
            return USAGE if hasattr(error, "format_message") else BUG


def describe(error: BaseException) -> str:
    """Return the text of an error for people."""
    if isinstance(error, UsageFault | Refusal | StoreError):
        return str(error)
    if isinstance(error, OutputError):
        return f"can't write to standard output: {_reason(error.__cause__)}"
    if isinstance(error, OSError):
        name = f"{error.filename!r}: " if error.filename is not None else ""
        return name + _reason(error)
    message = getattr(error, "format_message", None)
    if message is not None:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "holdall"
        text = str(message())
        text = text[:1].lower() + text[1:]
        taken = getattr(getattr(context, "command", None), "params", ())
        if any(each.name == "program" for each in taken):
            return f"{text.rstrip('.')}; write -- before the program and its options; see {path} --help"
        takes = any(each.param_type_name == "argument" for each in taken)
        option = str(getattr(error, "option_name", ""))
        if takes and type(error).__name__ == "NoSuchOption" and not option.startswith("--"):
            text = f"{text.rstrip('.')}; write -- before an argument that begins with -"
        elif taken and not takes and "unexpected extra argument" in text:
            text = f"{text.rstrip('.')}: it takes options only, such as {taken[0].opts[0]}"
        return f"{text} See {path} --help" if text.endswith("?") else f"{text.rstrip('.')}; see {path} --help"
    return f"a bug in holdall: {type(error).__name__}: {error} (set HOLDALL_DEBUG=1 to see where)"


# No key has two slashes next to each other, so that this is a URI at any place.
_find_login = re.compile(r"(\w[\w+.-]*://)[^\s/?#'\"]*@")


def warn(text: str) -> None:
    """Print one line on standard error, without the passwords of URIs: a URI in a wrong place is quoted."""
    line = _find_login.sub(r"\1", " ".join(text.split()))
    try:
        sys.stderr.write(f"holdall: {line}\n")
        sys.stderr.flush()
    except OSError:
        # Standard error is closed or full; the exit code remains.
        return


def _reason(error: BaseException | None) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return str(error)
