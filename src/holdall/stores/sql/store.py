"""A store in PostgreSQL: a row a blob, and the chunks of large ones in a second table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from holdall.arguments import check_type, check_wait
from holdall.blob import ATOMIC, NOT_A_KEY, check_expected
from holdall.errors import (
    BlobNotFoundError,
    IntegrityError,
    InvalidArgumentError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.keys import is_key, is_utf8, past
from holdall.pieces import only_piece
from holdall.ranges import CHUNK, span
from holdall.store import ANY, PLAIN, Attributes, Body, Can, Expect, Info, LeftOut, Piece, Put, Store
from holdall.stores.password import Password
from holdall.stores.rereading import ReplacedError, outcome_unknown, read_again
from holdall.stores.sql.connecting import SCHEMES, check_options, place_name, split_url, url_of
from holdall.stores.sql.connections import Session, Source, check_given
from holdall.stores.sql.errors import LostError, NoTableError, SilentError
from holdall.stores.sql.rows import (
    INLINE,
    Statements,
    check_table,
    check_type_text,
    info_of,
    new_etag,
    seconds_left,
)
from holdall.stores.sql.transactions import copy_row, drop, hold, put_row, put_rows, send
from holdall.stores.sql.watching import connector

T = TypeVar("T")

_PAGE = 1000
_HELD = 4 << 20
"""The bytes of small blobs that `put_many` and `get_many` hold at once."""


class SqlStore(Store):
    """A store in a table of a PostgreSQL database (12 or later); other tables are left alone.

    Args:
        server: `postgresql://user:password@host:port/database`, with parameters of libpq such as
            `?sslmode=require`; what is left out comes from libpq's environment variables, such as PGHOST. Or
            a `psycopg.Connection` or `psycopg_pool.ConnectionPool`, which stays open.
        table: The name of the table; large blobs are in a second one, of this name with `_chunks` behind it.
            The first put makes both.
        password: Replaces the one in the URL. In both places `env:NAME` means the password in an environment
            variable, and `file:PATH` the first line of a file. Only such a reference can be pickled. Without
            one, libpq looks at PGPASSWORD and `~/.pgpass`.
        timeout: Seconds to wait for a connection. If the server sends nothing for as long during a call, it
            is asked on another connection whether it still runs.
        prepare: Whether statements are prepared in the server; false behind a connection pooler that
            doesn't know prepared statements (PgBouncer before 1.21).

    Threads and forked processes may share the store. Blobs expire by the server's clock. A blob of more than
    4 MiB is cut into chunks.

    Raises:
        MissingDependencyError: psycopg isn't installed.
        InvalidArgumentError: An argument isn't valid, or a password refers to a missing variable or file.

    >>> SqlStore("postgresql://app:secret@db.example.org/blobs", table="models")
    SqlStore('postgresql://app@db.example.org/blobs', table='models', password='***')
    """

    can = ATOMIC | Can.EXPIRE | Can.COPY | Can.BULK | Can.ATTRIBUTES
    schemes = SCHEMES
    _secrets = frozenset({"password"})

    def __init__(
        self,
        server: Any = "postgresql://",
        *,
        table: str = "holdall",
        password: str | Password | None = None,
        timeout: float = 30.0,
        prepare: bool = True,
    ) -> None:
        check_table(table)
        # From here on no traceback shows it.
        secret = None if password is None else Password(password)
        password = None
        check_wait(timeout)
        check_type(prepare, bool, "prepare must be True or False")
        self._reopens: dict[str, object] | None = None
        connect: Callable[[], Any] | None = None
        name = "the connection that was passed in"
        if isinstance(server, str):
            parameters, literal = split_url(server)
            secret = literal if secret is None else secret
            server, name = url_of(parameters), place_name(parameters)
            setting = None if secret is None else secret.setting
            self._reopens = {"server": server, "table": table, "password": setting}
            self._reopens |= {"timeout": timeout, "prepare": prepare}
            connect = connector(parameters, secret, timeout)
        else:
            check_given(server)
            if secret is not None:
                raise InvalidArgumentError("a connection that is passed in has its own password")
        self._sql = Statements(table)
        self._source = Source(connect, server, name, table, prepare)
        self._made = False

    @classmethod
    def _from_uri(
        cls,
        location: str,
        *,
        table: str = "holdall",
        password: str | None = None,
        timeout: float = 30.0,
        prepare: bool = True,
        **parameters: Any,
    ) -> SqlStore:
        check_options(parameters)
        of_url, secret = split_url(f"postgresql://{location}")
        of_url |= {name: str(value) for name, value in parameters.items() if value is not None}
        return cls(
            url_of(of_url),
            table=table,
            password=secret if password is None else password,
            timeout=timeout,
            prepare=prepare,
        )

    def _settings(self) -> dict[str, object]:
        if self._reopens is None:
            raise UnsupportedOperation(
                "a SqlStore over a connection that was passed in can't be pickled; open it by its URL"
            )
        return self._reopens

    def _close(self) -> None:
        self._source.close()

    def _ask(self, act: Callable[[Session], T], missing: T) -> T:
        """Return the result of a read; `missing` if there is no table yet."""
        try:
            return self._source.run(act)
        except NoTableError:
            return missing

    def _get(self, key: str) -> bytes | None:
        self._checked(key)
        row = self._ask(lambda session: session.one(self._sql.get, (key,)), None)
        if row is None:
            return None
        if row[1] is not None:
            return read_again(lambda: super(SqlStore, self)._get(key))
        return row[0]

    def _has(self, key: str) -> bool:
        self._checked(key)
        return self._ask(lambda session: session.one(self._sql.has, (key,)), None) is not None

    def _get_range(self, key: str, start: int, stop: int | None) -> bytes:
        return read_again(lambda: super(SqlStore, self)._get_range(key, start, stop))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        sql = self._sql
        if (start > 0 or (start == 0 and stop is not None)) and (stop is None or stop >= 0):
            length = INLINE if stop is None else max(stop - start, 0)
            part = min(start, INLINE) + 1, min(length, INLINE), key
            row = self._ask(lambda session: session.one(sql.part, part), None)
        else:
            row = self._ask(lambda session: session.one(sql.read, (key,)), None)
        if row is None:
            raise BlobNotFoundError(key=key)
        info = info_of(key, row)
        low, high = span(start, stop, info.size)
        stream, data = row[5], row[6] or b""
        if stream is not None:
            return info, self._chunks(key, info, stream, low, high)
        if len(data) == info.size != high - low:
            data = memoryview(data)[low:high]
        return info, iter((data,) if len(data) else ())

    def _chunks(self, key: str, info: Info, stream: int, low: int, high: int) -> Iterator[Piece]:
        """Yield the bytes of a blob; no transaction stays open between two of them."""
        while low < high:
            number, begin = divmod(low, CHUNK)
            length = min(CHUNK - begin, high - low)
            part = begin + 1, length, stream, number
            row = self._ask(lambda session, part=part: session.one(self._sql.chunk, part), None)
            if row is None or len(row[0]) != length:
                now = self._info(key)
                if now.etag == info.etag:
                    raise IntegrityError("a chunk of this blob is missing; restore a backup", key=key)
                raise ReplacedError(
                    "the blob was replaced while it was read; read it again",
                    key=key,
                    expected=info.etag,
                    actual=now.etag,
                )
            yield row[0]
            low += length

    def _info(self, key: str) -> Info:
        row = self._ask(lambda session: session.one(self._sql.info, (key,)), None)
        if row is None:
            raise BlobNotFoundError(key=key)
        return info_of(key, row)

    def _make(self) -> None:
        """Make the tables, unless they are there."""
        if self._made:
            return
        if not self._source.run(self._are_made):

            def make(session: Session) -> None:
                session.simple(b"SET LOCAL client_min_messages = warning")
                session.simple(self._sql.alone)
                # Another client may have made them by now. To do it again would wait for all who write in
                # them, and one of those might wait for this one.
                if not self._are_made(session):
                    for statement in self._sql.create:
                        session.simple(statement)

            self._source.transaction(make)
        else:
            # What has expired since the last handle that wrote.
            self._source.run(lambda session: session.run(self._sql.sweep, (_PAGE,)), write=True)
        self._made = True

    def _are_made(self, session: Session) -> bool:
        row = session.one(self._sql.exists)
        if row is not None and row[1] != "UTF8":
            raise StoreUnavailableError(
                f"the database at {self._source.name} keeps its text as {row[1]}; use one in UTF8"
            )
        return row is not None and bool(row[0])

    def _change(self, act: Callable[[], T]) -> T:
        """Return the result of a change that may be made twice; make the tables if they are gone."""
        self._make()
        try:
            return act()
        except NoTableError:
            self._made = False
            self._make()
            return act()

    def _run_once(self, act: Callable[[], T], missing: T) -> T:
        """Return the result of a change that makes no tables; `missing` if there are none.

        Raises:
            StoreUnavailableError: The connection was lost, so that it isn't known whether it was made.
        """
        try:
            return act()
        except NoTableError:
            return missing
        except LostError as lost:
            raise outcome_unknown(lost) from lost

    def _sure(self, key: str, etag: int, put: Callable[[], Info]) -> Info:
        """Return what a put returns; if the connection was lost, look whether it was made."""
        try:
            return put()
        except LostError as lost:
            return self._seek(key, etag, lost)

    def _seek(self, key: str, etag: int, lost: LostError) -> Info:
        """Return the info of a blob that was put, though the answer was lost. It isn't put again: the first
        request may still run, and end after another client's put."""
        with suppress(StoreError):
            info = None if isinstance(lost, SilentError) else self._info(key)
            if info is not None and info.etag == f"{etag:x}":
                return info
        raise outcome_unknown(lost) from lost

    def _put(self, key: str, data: bytes) -> Info:
        self._checked(key)
        if len(data) > INLINE:
            return super()._put(key, data)
        etag = new_etag()
        parameters = key, etag, data

        def put() -> Info | None:
            row = self._source.run(lambda session: session.one(self._sql.put, parameters), write=True)
            return None if row is None else Info(key, len(data), etag, row[0])

        try:
            info = self._change(put)
        except LostError as lost:
            return self._seek(key, etag, lost)
        return super()._put(key, data) if info is None else info

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        if attributes is not PLAIN:
            check_type_text(attributes)
        data, etag = only_piece(body, INLINE), new_etag()

        def publish(session: Session) -> Info:
            row = hold(etag, bytes(data)) if data is not None else send(session, self._sql, etag, body)
            return put_row(session, self._sql, key, row, expect, attributes)

        if data is not None:
            return self._sure(key, etag, lambda: self._change(lambda: self._source.transaction(publish)))
        self._make()
        # A body can be read once.
        return self._sure(key, etag, lambda: self._source.transaction(publish, again=False))

    def _delete(self, key: str, expect: Expect) -> bool:
        sql = self._sql

        def delete(session: Session) -> bool:
            found = session.all(sql.lock, ([key],))
            alive = bool(found) and found[0][3]
            check_expected(f"{found[0][1]:x}" if alive else None, expect, key)
            drop(session, sql, found)
            return alive

        def deleted() -> bool:
            if expect is ANY:
                row = self._source.run(lambda session: session.one(sql.delete, (key,)), write=True)
                if row is not None:
                    return row[0]
            return self._source.transaction(delete)

        found = self._run_once(deleted, None)
        if found is None:
            check_expected(None, expect, key)
        return bool(found)

    def _pages(
        self, statements: dict[str, bytes], prefix: str, after: str
    ) -> Iterator[list[tuple[Any, ...]]]:
        if "\0" in prefix or not is_utf8(prefix + after):
            return  # it begins no key
        limit, end = 32, past(prefix)
        while True:
            low, sign = (after, ">") if after and after >= prefix else (prefix, ">=")
            part = low.replace("\0", ""), end, limit
            rows = self._ask(lambda s, sign=sign, part=part: s.all(statements[sign], part), [])
            yield rows
            if len(rows) < limit:
                return
            after, limit = rows[-1][0], _PAGE

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        for rows in self._pages(self._sql.listed, prefix, after):
            for row in rows:
                if is_key(row[0]):
                    yield info_of(row[0], row[1:])
                else:
                    yield LeftOut(row[0], NOT_A_KEY)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (entry for entry in self._survey(prefix, after) if type(entry) is Info)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        for rows in self._pages(self._sql.keys, prefix, after):
            for (key,) in rows:
                if is_key(key):
                    yield key

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        listed = list(dict.fromkeys(keys))
        for at in range(0, len(listed), _PAGE):
            batch = listed[at : at + _PAGE]
            sizes = self._ask(lambda s, batch=batch: s.all(self._sql.sizes, (batch,)), [])
            group: list[str] = []
            held = 0
            for key, size in sizes:
                group.append(key)
                held += size
                if held >= _HELD:
                    yield from self._group(group)
                    group, held = [], 0
            yield from self._group(group)

    def _group(self, keys: list[str]) -> Iterator[tuple[str, bytes]]:
        if not keys:
            return
        for key, data, in_chunks in self._ask(lambda s: s.all(self._sql.get_many, (keys,)), []):
            found = self._get(key) if in_chunks else data
            if found is not None:
                yield key, found

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        listed = list(items)
        if not listed:
            return iter(())
        last = None
        for _, _, attributes in listed:
            if attributes is not last:
                check_type_text(attributes)
                last = attributes
        self._make()
        blobs = {key: (body, attributes) for key, body, attributes in listed}

        def put(session: Session) -> list[tuple[Any, ...]]:
            return put_rows(session, self._sql, blobs)

        whole = all(only_piece(body, INLINE) is not None for _, body, _ in listed)
        try:
            rows = self._source.transaction(put, again=whole)
        except LostError as lost:
            raise outcome_unknown(lost) from lost
        infos = {row[0]: info_of(row[0], row[1:]) for row in rows}
        return (infos[key] for key, _, _ in listed)

    def _delete_many(self, keys: Iterable[str]) -> int:
        listed = sorted(keys)

        def delete(session: Session) -> int:
            deleted = 0
            for at in range(0, len(listed), _PAGE):
                found = session.all(self._sql.lock, (listed[at : at + _PAGE],))
                drop(session, self._sql, found)
                deleted += sum(1 for row in found if row[3])
            return deleted

        return self._run_once(lambda: self._source.transaction(delete), 0)

    def _clear(self) -> None:
        def clear(session: Session) -> None:
            for statement in self._sql.clear:
                session.run(statement)

        self._run_once(lambda: self._source.transaction(clear), None)

    def _touch(self, key: str, expires: datetime | None) -> Info:
        parameters = seconds_left(expires), key
        row = self._run_once(
            lambda: self._source.run(lambda session: session.one(self._sql.touch, parameters), write=True),
            None,
        )
        if row is None:
            raise BlobNotFoundError(key=key)
        return info_of(key, row)

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        return self._duplicate(source, target, expect, move=False)

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        return self._duplicate(source, target, expect, move=True)

    def _duplicate(self, source: str, target: str, expect: Expect, *, move: bool) -> Info:
        etag = new_etag()

        def duplicate(session: Session) -> Info:
            return copy_row(session, self._sql, etag, source, target, expect, move=move)

        try:
            return self._sure(target, etag, lambda: self._source.transaction(duplicate))
        except NoTableError:
            raise BlobNotFoundError(key=source) from None
