"""What an error of psycopg means: one of holdall's errors, which says what to do."""

from __future__ import annotations

from typing import Any

from holdall.errors import IntegrityError, KeyConflictError, ReadOnlyError, StoreError, StoreUnavailableError
from holdall.stores.sql.connecting import driver


class LostError(StoreUnavailableError):
    """The connection was lost in mid-call: it is unknown whether a change was made."""


class SilentError(LostError):
    """The server hangs: another call would wait as long."""


class NoTableError(StoreUnavailableError):
    """The table of the store doesn't exist."""


class AgainError(StoreUnavailableError):
    """The server undid the transaction because of another one; the same call may succeed now."""


_FOREIGN = "has a table {table} of another program or a newer version of holdall; choose another with table="
_STATES: dict[str, tuple[type[StoreError], str]] = {
    "42P01": (NoTableError, "doesn't have the table {table}; the first put makes it"),
    "3F000": (
        StoreUnavailableError,
        "doesn't have the schema of the table {table}; make it, or name another",
    ),
    "42703": (KeyConflictError, _FOREIGN),
    "42P10": (KeyConflictError, _FOREIGN),
    "42501": (
        StoreUnavailableError,
        "doesn't let this user do it; GRANT SELECT, INSERT, UPDATE, DELETE on {table} and {table}_chunks",
    ),
    "25006": (ReadOnlyError, "takes no writes (a standby, or default_transaction_read_only is on)"),
    "53100": (StoreUnavailableError, "has a full disk; nothing was changed; free some space"),
    "53200": (StoreUnavailableError, "is out of memory; nothing was changed"),
    "53300": (
        StoreUnavailableError,
        "has too many connections; close some, or raise max_connections",
    ),
    "57014": (
        StoreUnavailableError,
        "ended the call after its statement_timeout; nothing was changed; raise statement_timeout",
    ),
    "55P03": (
        StoreUnavailableError,
        "waited longer than lock_timeout for another client's transaction; nothing was changed; try again",
    ),
    "25P03": (LostError, "ended an idle transaction (idle_in_transaction_session_timeout)"),
    "40001": (AgainError, "undid this call because of another client's; nothing was changed; try again"),
    "40P01": (AgainError, "undid this call because of a deadlock; nothing was changed; try again"),
    "0A000": (AgainError, "changed the table meanwhile; nothing was changed; try again"),
    "26000": (
        StoreUnavailableError,
        "lost a prepared statement, as a connection pooler causes; open the store with prepare=False",
    ),
    "42P05": (
        StoreUnavailableError,
        "has another client's prepared statement, as a connection pooler causes; pass prepare=False",
    ),
    "XX001": (IntegrityError, "found the table {table} damaged; restore a backup"),
    "XX002": (IntegrityError, "found an index of the table {table} damaged; REINDEX it"),
}

_WORDS: tuple[tuple[str, str], ...] = (
    (
        "no password supplied",
        "asks for a password; give it in the URI, or as password=, PGPASSWORD or ~/.pgpass",
    ),
    ("password authentication failed", "refuses this user and password; check both"),
    ("no pg_hba.conf entry", "doesn't let this user in from here; see its pg_hba.conf, and sslmode="),
    ("authentication failed", "refuses this user; check user= and how pg_hba.conf lets it in"),
    ("role ", "doesn't know this user; check the user in the URI"),
    ("database ", "doesn't have this database; check its name in the URI, or make it with createdb"),
    ("permission denied for database", "doesn't let this user connect to the database; GRANT CONNECT on it"),
    ("too many clients", "has too many connections; close some, or raise max_connections"),
    ("remaining connection slots", "has too many connections; close some, or raise max_connections"),
    ("starting up", "is starting up; try again soon"),
    ("shutting down", "is shutting down; try again soon"),
    ("in recovery", "is in recovery; try again soon"),
    ("certificate", "can't be trusted, or asks for a certificate; see sslmode=, sslrootcert= and sslcert="),
    ("SSL", "doesn't agree on TLS; see sslmode="),
    ("Too many open files", "can't be connected to, since too many files are open (ulimit -n)"),
)


def translate(error: BaseException, name: str, table: str, *, lost: bool = False) -> StoreError:
    """Return the StoreError for an error that the server, or the connection to it, raised in a call."""
    state: str | None = getattr(error, "sqlstate", None)
    diag: Any = getattr(error, "diag", None)
    if state in _STATES and not (lost and _STATES[state][0] is AgainError):
        kind, says = _STATES[state]
        # A full disk may be an error of the disk's, and a permission one of a sequence or schema's.
        detail = f" ({diag.message_primary})" if diag is not None and diag.message_primary else ""
        return kind(f"the server at {name} {says.format(table=table)}{detail}")
    text = getattr(diag, "message_primary", None) or str(error).strip().partition("\n")[0]
    if lost:
        kind = SilentError if isinstance(error, driver().errors.ConnectionTimeout) else LostError
        return kind(f"the connection to {name} was lost in mid-call ({text})")
    return StoreUnavailableError(f"the server at {name} replied: {text}")


def unreachable(error: BaseException, name: str) -> StoreError:
    """Return the StoreError for a connection that couldn't be made."""
    text = str(error).strip()
    for words, says in _WORDS:
        if words in text and (words not in ("role ", "database ") or "does not exist" in text):
            return StoreUnavailableError(f"the server at {name} {says}")
    # A line that begins with a tab is a hint of libpq, which says less.
    lines = [line for line in text.splitlines() if not line.startswith("\t")]
    reason = lines[-1] if lines else type(error).__name__
    return StoreUnavailableError(
        f"no server can be reached at {name}; is it up, and are host and port right? ({reason})"
    )
