"""A store in Valkey or Redis: one string a blob, and a sorted set of the keys."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar, overload
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from zlib import crc32

from holdall.errors import (
    BlobExistsError,
    BlobNotFoundError,
    ConcurrencyError,
    IntegrityError,
    InvalidArgumentError,
    KeyConflictError,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
)
from holdall.ranges import CHUNK, span
from holdall.store import ABSENT, ANY, PLAIN, Attributes, Body, Can, Expect, Info, Piece, Store
from holdall.stores.valkey import scripts
from holdall.stores.valkey.head import (
    FIXED,
    GLANCE,
    LONGEST,
    Head,
    extra_of,
    fixed,
    is_plain,
    milliseconds,
    parse,
)
from holdall.stores.valkey.keylist import KeyList
from holdall.stores.valkey.link import (
    Again,
    Cluster,
    LateError,
    Link,
    LostError,
    NoScriptError,
    Part,
    Single,
    driver,
    packed,
    slot_of,
)
from holdall.stores.valkey.password import Password
from holdall.stores.valkey.scripts import FOREIGN

__all__ = ["ValkeyStore", "open_socket", "open_tls"]

T = TypeVar("T")

_WHOLE = 4 * CHUNK
"""The largest blob that is one string; a larger one is cut in chunks."""
_SMALL = 16_384
_BATCH = 1000
"""The number of keys that a script is given at once."""
_PAGE = 500
"""The number of keys of a server that are listed at once: the server does nothing else during that time."""
_SHARDS = 64
"""The number of shards of a store in a cluster; each is on one server."""
_GUARD = 15 * 60
"""Seconds after which the chunks of a dead writer are deleted."""
_LONGEST = 2_000_000
"""Seconds; a socket waits for 24 days at most."""
_TRIES = 20
"""How often a read begins again because the blob was replaced during it."""

_PLAIN, _TLS, _SOCKET = ("valkey", "redis"), ("valkeys", "rediss"), "unix"


class _ReplacedError(ConcurrencyError):
    """The chunks of a blob went while they were read, since it was replaced or deleted."""


class _Address(NamedTuple):
    tls: bool
    host: str
    port: int
    database: int
    username: str | None
    password: Password
    path: str | None = None
    """Of a socket on this host, instead of host and port."""

    def url(self) -> str:
        user = f"{quote(self.username, safe='')}@" if self.username else ""
        if self.path is not None:
            database = f"?db={self.database}" if self.database else ""
            return f"{_SOCKET}://{user}{quote(self.path)}{database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        database = f"/{self.database}" if self.database else ""
        return f"{'rediss' if self.tls else 'valkey'}://{user}{host}:{self.port}{database}"


class ValkeyStore(Store):
    """A store in Valkey or Redis (6.2 or later). It leaves alone whatever else the server holds.

    Args:
        server: `valkey://user:password@host:port/database`, or `redis://`; `rediss://` or `valkeys://` for
            TLS; `unix:///path/to/socket?db=0`. Or a client of redis-py or valkey-py, also a cluster's or a
            Sentinel's `master_for`: the store opens its own connections with the client's settings, and
            leaves the client open.
        prefix: The start of the names of all that it keeps in the server. Other names aren't touched.
        password: Replaces the one in the URL. In both places `env:NAME` means the password in an
            environment variable, and `file:PATH` the first line of a file. Only such a reference can be
            pickled, and the process that unpickles it looks the password up; with a literal password,
            pickling raises `UnsupportedOperation`.
        cluster: Whether the server belongs to a cluster; the store then finds the other servers.
        timeout: Seconds to wait for a connection, and for an answer; the timeouts of a client that is
            passed in take precedence.
        tls_ca: A file of certificates to trust (PEM) instead of the system's.
        tls_certificate: This client's certificate (PEM), for a server that asks for one.
        tls_key: Its key (PEM).

    Threads and forked processes may share the store. Blobs expire in the server, by its clock. A blob of more
    than 4 MiB is cut into chunks. The server's configuration decides which acknowledged writes survive its
    crash: with `appendonly yes` and `appendfsync always` all do.

    Raises:
        MissingDependencyError: Neither redis-py nor valkey-py is installed.
        InvalidArgumentError: An argument isn't valid, or a password refers to a missing variable or file.

    >>> ValkeyStore("valkey://app:secret@db.example.org/2", prefix="app:")
    ValkeyStore('valkey://app@db.example.org:6379/2', prefix='app:', password='***')
    """

    can = (
        Can.WRITE
        | Can.DELETE
        | Can.LIST
        | Can.RANGE
        | Can.CREATE
        | Can.SWAP
        | Can.EXPIRE
        | Can.COPY
        | Can.BULK
        | Can.ATTRIBUTES
    )
    schemes = (*_PLAIN, *_TLS, _SOCKET)
    _secrets = frozenset({"password"})

    def __init__(
        self,
        server: Any = "valkey://localhost:6379",
        *,
        prefix: str = "holdall:",
        password: str | Password | None = None,
        cluster: bool = False,
        timeout: float = 30.0,
        tls_ca: str | None = None,
        tls_certificate: str | None = None,
        tls_key: str | None = None,
    ) -> None:
        if not isinstance(prefix, str) or not prefix or "{}" in prefix:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(
                "the prefix of a ValkeyStore must be a str such as 'app:', without '{}'"
            )
        if not _is_text(prefix):
            raise InvalidArgumentError("the prefix of a ValkeyStore must not contain lone surrogates")
        # From here on no traceback shows it.
        secret = None if password is None else Password(password)
        password = None
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= _LONGEST:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"the timeout must be more than 0 and at most {_LONGEST:,} seconds")
        self._prefix = prefix
        self._timeout = timeout
        self._client: Any = None
        tls = {"tls_ca": tls_ca, "tls_certificate": tls_certificate, "tls_key": tls_key}
        self._options: dict[str, object] = {"timeout": timeout, **tls}
        if isinstance(server, str):
            address = _parsed(server)
            server = address.url()
            if secret is not None:
                address = address._replace(password=secret)
            if not address.tls and any(tls.values()):
                raise InvalidArgumentError("certificates are for TLS: begin the URL with rediss://")
            if cluster and (address.database or address.path):
                raise InvalidArgumentError("a cluster is found by host and port, and has only database 0")
            if any(tls.values()):
                _check_files(tls_ca, tls_certificate, tls_key)
            self._address: _Address | None = address
            self._cluster, remap = cluster, None
            connect, seeds, drivers = _own(address, timeout, tls)
        else:
            if secret is not None or any(tls.values()):
                raise InvalidArgumentError("a client that is passed in has its own password and certificates")
            self._address, self._client = None, server
            connect, seeds, drivers, self._cluster, remap = _injected(server, timeout)
            if cluster and not self._cluster:
                raise InvalidArgumentError("for cluster=True pass a URL, a RedisCluster or a ValkeyCluster")
        base = prefix.encode()
        tags = [b"{%d}" % shard for shard in range(_SHARDS)] if self._cluster else [b""]
        self._shards = len(tags)
        self._blobs = [base + tag + b"b:" for tag in tags]
        self._chunks = [base + tag + b"c:" for tag in tags]
        self._indexes = [(base + tag + b"keys", base + tag + b"expiring") for tag in tags]
        if self._cluster:
            slots = [slot_of(index) for index, _ in self._indexes]
            self._link: Link = Cluster(connect, seeds, drivers, slots, timeout, remap)
            self.can = type(self).can & ~Can.COPY
        else:
            host, port = seeds[0]
            self._link = Single(lambda: connect(host, port), f"{host}:{port}" if port else host, drivers)
        self._list = KeyList(self._link, base, self._indexes, self._blobs)
        # The constant part of a small plain put.
        self._requests = [
            (
                packed(b"EVALSHA", scripts.PUT.digest, b"3", *index, *[b""] * 7)[0][
                    : -7 * len(b"$0\r\n\r\n")
                ],
                b"\r\n$%d\r\n%b\r\n$1\r\n0\r\n" % (len(chunks), chunks),
            )
            for index, chunks in zip(self._indexes, self._chunks, strict=True)
        ]

    @classmethod
    def _from_uri(
        cls,
        location: str,
        *,
        prefix: str = "holdall:",
        db: int | None = None,
        password: str | None = None,
        cluster: bool = False,
        timeout: float = 30.0,
    ) -> ValkeyStore:
        return cls(
            _url("valkey", location, db), prefix=prefix, password=password, cluster=cluster, timeout=timeout
        )

    def _settings(self) -> dict[str, object]:
        if self._address is None:
            raise UnsupportedOperation(
                "a ValkeyStore over a client that was passed in can't be pickled; open it by its URL"
            )
        return {
            "server": self._address.url(),
            "prefix": self._prefix,
            "password": self._address.password.setting,
            "cluster": self._cluster,
            **self._options,
        }

    def _close(self) -> None:
        self._link.close()

    # --- names ---

    def _place(self, key: str) -> tuple[int, bytes, bytes]:
        """The shard of a key, its name in the index, and that of its blob."""
        member = key.encode()
        shard = crc32(member) % self._shards if self._shards > 1 else 0
        return shard, member, self._blobs[shard] + member

    # --- reading ---

    @overload
    def get(self, key: str, default: None = None) -> bytes | None: ...
    @overload
    def get(self, key: str, default: bytes) -> bytes: ...
    @overload
    def get(self, key: str, default: T) -> bytes | T: ...
    def get(self, key: str, default: Any = None) -> Any:
        key = self._checked(key)
        try:
            shard, _, name = self._place(key)
            value: bytes | None = self._link.ask(
                shard, [b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(name), name)]
            )
            if value is None:
                return default
            if is_plain(value):
                return value[FIXED:]
            head = parse(value)
            if head is None:
                return default
            if not head.chunk:
                return value[head.end :]
            return self._again(lambda: super(ValkeyStore, self).get(key, default))
        except BlobNotFoundError:
            return default
        except StoreError as error:
            error.key = key
            raise

    get.__doc__ = Store.get.__doc__

    def get_range(self, key: str, start: int, stop: int | None = None) -> bytes:
        return self._again(lambda: super(ValkeyStore, self).get_range(key, start, stop))

    get_range.__doc__ = Store.get_range.__doc__

    def _again(self, read: Callable[[], T]) -> T:
        """Read a blob; begin again while writers replace it."""
        for _ in range(_TRIES):
            try:
                return read()
            except _ReplacedError:
                continue
        return read()

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        shard, _, name = self._place(key)
        if start == 0 and stop is None:
            value: bytes | None = self._link.ask(shard, packed(b"GET", name))
            head = None if value is None else parse(value)
            if value is None or head is None:
                raise BlobNotFoundError(key=key)
            if not head.chunk:
                return head.info(key), _sliced(value, head.end)
        else:
            ends = b"%d" % _clamped(start), b"" if stop is None else b"%d" % _clamped(stop)
            reply: list[bytes] | None = self._link.run(shard, scripts.RANGE, (name,), ends)
            head = None if reply is None else parse(reply[0])
            if reply is None or head is None:
                raise BlobNotFoundError(key=key)
            if not head.chunk:
                span(start, stop, head.size)
                return head.info(key), _sliced(reply[1], 0)
        low, high = span(start, stop, head.size)
        return head.info(key), self._chunked(shard, key, name, head, low, high)

    def _chunked(self, shard: int, key: str, name: bytes, head: Head, low: int, high: int) -> Iterator[Piece]:
        chunks, at = self._chunks[shard] + head.etag.encode(), low
        while at < high:
            number, begin = divmod(at, head.chunk)
            end = min(head.chunk, begin + high - at)
            if begin == 0 and end in (head.chunk, head.size - at):
                piece = self._link.ask(shard, packed(b"HGET", chunks, b"%d" % number))
            else:
                part = b"%d" % number, b"%d" % (begin + 1), b"%d" % end
                piece = self._link.run(shard, scripts.PART, (chunks,), part)
            if piece is None or len(piece) != end - begin:
                raise self._torn(shard, key, name, head)
            yield piece
            at += end - begin

    def _torn(self, shard: int, key: str, name: bytes, head: Head) -> StoreError:
        """Why a chunk isn't there."""
        value = self._link.ask(shard, packed(b"GETRANGE", name, b"0", b"%d" % (FIXED - 1)))
        now = parse(value or b"")
        if now is None and head.expires and head.expires <= time.time() * 1000:
            return BlobNotFoundError(key=key)
        if now is None or now.etag != head.etag:
            return _ReplacedError(
                "the blob was replaced while it was read; read it again",
                key=key,
                expected=head.etag,
                actual=None if now is None else now.etag,
            )
        return IntegrityError(
            "the server dropped some of its chunks; check whether it evicts keys (its maxmemory-policy)",
            key=key,
        )

    def _info(self, key: str) -> Info:
        shard, _, name = self._place(key)
        last = GLANCE
        while True:
            value = self._link.ask(shard, packed(b"GETRANGE", name, b"0", b"%d" % (last - 1)))
            head = parse(value or b"")
            if head is None:
                raise BlobNotFoundError(key=key)
            if head.end <= last:
                return head.info(key)
            last = head.end

    # --- writing ---

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        if attributes is not PLAIN:
            _check(attributes)
        if expect is ANY and isinstance(body, tuple) and len(body) == 1:
            data = body[0]
            if type(data) is bytes and len(data) < _SMALL:
                info = self._write_small(key, data, attributes)
                if info is not None:
                    return info
        shard, _, _ = place = self._place(key)
        etag = _new_etag()
        expires = milliseconds(attributes.expires)
        pieces: list[Piece] = []
        size = sent = 0
        chunks = self._chunks[shard] + etag.encode()
        try:
            for piece in body:
                size += len(piece)
                pieces.append(piece)
                if size - sent * CHUNK > _WHOLE or (sent and size - sent * CHUNK >= CHUNK):
                    sent, pieces = self._send(shard, chunks, pieces, sent)
                elif type(piece) is not bytes:
                    # The caller's buffer is good until the next piece is asked for.
                    pieces[-1] = bytes(piece)
            if sent and pieces:
                self._send(shard, chunks, pieces, sent, all_of_it=True)
        except LostError:
            # The server can't be reached; the chunks expire.
            raise
        except BaseException:
            # The first of them may be there before `sent` says so.
            if size > _WHOLE:
                self._forget(shard, chunks)
            raise
        count_of = -(-size // CHUNK) if sent else 0
        head = Head(
            etag, time.time_ns() // 1000, expires, size, CHUNK if sent else 0, attributes.content_type
        )
        value = [head.packed(), *([] if sent else pieces)]
        self._put(key, place, value, expect, expires, chunks if sent else None, count_of)
        return head.info(key)

    def _write_small(self, key: str, data: bytes, attributes: Attributes) -> Info | None:
        """Write a small blob, faster than `_write`; return None if `_write` must do it."""
        shard, member, name = self._place(key)
        etag, modified = _new_etag(), time.time_ns() // 1000
        expires, kind = milliseconds(attributes.expires), attributes.content_type
        head, at = fixed(etag, modified, len(data), expires, extra_of(kind)), b"%d" % expires
        begin, end = self._requests[shard]
        request = b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b%b\r\n$0\r\n\r\n$%d\r\n%b%b" % (
            *(begin, len(name), name, len(member), member),
            *(len(head) + len(data), head, data, len(at), at, end),
        )
        try:
            if self._link.ask(shard, [request], Again.LOST) != 1:
                return None
        except NoScriptError:
            return None
        except LostError as lost:
            raise _open(lost) from lost
        until = expires / 1000 if expires else None
        return Info(key, len(data), etag, modified / 1_000_000, kind, until)

    def _send(
        self, shard: int, chunks: bytes, pieces: list[Piece], sent: int, all_of_it: bool = False
    ) -> tuple[int, list[Piece]]:
        """Send whole chunks; return the number of chunks so far and the bytes that are left."""
        held: list[Piece] = []
        length = 0
        for piece in pieces:
            view = memoryview(piece)
            while length + len(view) >= CHUNK:
                held.append(view[: CHUNK - length])
                view = view[CHUNK - length :]
                self._send_one(shard, chunks, sent, held)
                sent, held, length = sent + 1, [], 0
            if view:
                held.append(view)
                length += len(view)
        if all_of_it and held:
            self._send_one(shard, chunks, sent, held)
            return sent + 1, []
        # A view would keep the whole piece that it is the end of.
        return sent, [bytes(piece) for piece in held]

    def _send_one(self, shard: int, chunks: bytes, number: int, pieces: list[Piece]) -> None:
        arguments: tuple[Part, ...] = b"%d" % number, pieces, b"%d" % (_GUARD * 1000)
        self._link.run(shard, scripts.CHUNK, (chunks,), arguments, Again.LOST)

    def _forget(self, shard: int, chunks: bytes) -> None:
        """Drop chunks that are not published, and surely won't be."""
        try:
            self._link.ask(shard, packed(b"UNLINK", chunks))
        except StoreError:
            # They expire.
            pass

    def _put(
        self,
        key: str,
        place: tuple[int, bytes, bytes],
        value: list[Piece],
        expect: Expect,
        expires: int,
        chunks: bytes | None,
        count_of: int,
    ) -> None:
        shard, member, name = place
        keys = *self._indexes[shard], name, *(() if chunks is None else (chunks,))
        arguments = (
            *(member, value, _condition(expect), b"%d" % expires),
            *(self._chunks[shard], b"%d" % count_of),
        )
        again = Again.LOST if expect is ANY else Again.NEVER
        lost: LostError | None = None
        while True:
            try:
                reply = self._link.run(shard, scripts.PUT, keys, arguments, again)
            except LostError as error:
                if expect is ANY or lost is not None or isinstance(error, LateError):
                    raise _open(error) from error
                # The script knows its own ETag again, if the first request was carried out.
                lost = error
                continue
            if reply == 1:
                return
            if lost is not None and isinstance(reply, bytes):
                raise StoreUnavailableError(
                    f"{lost.message}, and the blob isn't what was expected: the client can't know whether "
                    "this put was stored before somebody else's; read it again"
                ) from lost
            if chunks is not None:
                # After an error instead of a reply they may be published; if not, they expire.
                self._forget(shard, chunks)
            self._refuse(reply, expect, key)

    def _refuse(self, reply: Any, expect: Expect, key: str | None) -> None:
        if type(reply) is bytes:
            actual = reply.decode() or None
            if expect is ABSENT:
                raise BlobExistsError(key=key, actual=actual)
            raise ConcurrencyError(key=key, expected=str(expect), actual=actual)
        if reply is None or reply == FOREIGN:
            raise KeyConflictError(
                f"another program keeps a value in the server under the name of this blob, or of the list of "
                f"keys; choose another prefix than {self._prefix!r}",
                key=key,
            )
        raise StoreUnavailableError(
            "the server lost chunks of this blob while it was written; put it again", key=key
        )

    def _delete(self, key: str, expect: Expect) -> bool:
        shard, member, name = self._place(key)
        arguments = _condition(expect), self._chunks[shard], member
        keys = *self._indexes[shard], name
        reply = self._sure(
            lambda: self._link.run(shard, scripts.DELETE, keys, arguments, Again.NEVER), _deleted
        )
        if isinstance(reply, bytes):
            self._refuse(reply, expect, key)
        if expect is not ANY and not reply:
            raise ConcurrencyError(key=key, expected=str(expect))
        return bool(reply)

    def _sure(self, call: Callable[[], Any], is_sure: Callable[[Any], bool]) -> Any:
        """Make a call whose result must be right: it is repeated if the connection is lost, unless the
        second answer leaves open what the first one was."""
        try:
            return call()
        except LateError as late:
            # The request may still wait somewhere, and a second one wouldn't show what became of it.
            raise _open(late) from late
        except LostError as lost:
            reply = call()
            if not is_sure(reply):
                raise StoreUnavailableError(
                    f"{lost.message}; it is done, but the client can't know by whom; read it again"
                ) from lost
            return reply

    # --- listing ---

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        for page in self._pages(prefix, after):
            heads = self._heads(page, GLANCE)
            for key, head in heads:
                if head.end > GLANCE:
                    try:
                        yield self._info(key)
                    except BlobNotFoundError:
                        continue
                else:
                    yield head.info(key)

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        for page in self._pages(prefix, after):
            for key, _ in self._heads(page, FIXED):
                yield key

    def _pages(self, prefix: str, after: str) -> Iterator[list[bytes]]:
        """The index, page by page in order; the server is never asked for more than a page at once."""
        low, start = prefix.encode("utf-8", "surrogatepass"), after.encode("utf-8", "surrogatepass")
        cursor = b"(" + start if start and start >= low else b"[" + low
        # No byte of UTF-8 is 255.
        end = b"(" + low + b"\xff" if low else b"+"
        page, seals = 32, self._list.requests()
        while True:
            limit = max(page // self._shards, 8)
            tail = cursor, end, b"LIMIT", b"0", b"%d" % limit
            asked = [
                (shard, packed(b"ZRANGEBYLEX", index, *tail))
                for shard, (index, _) in enumerate(self._indexes)
            ]
            replies: list[list[bytes]] = []
            answers = self._link.ask_many([*asked, *seals])
            for reply in answers[: len(asked)]:
                if reply is None:
                    self._refuse(FOREIGN, ANY, None)
                replies.append(reply or [])
            if seals:
                seals = []
                if self._list.check(answers[len(asked) :]):
                    continue
            # If a shard has more, entries past its last one can't be yielded yet.
            bounds = [members[-1] for members in replies if len(members) == limit]
            bound = min(bounds, default=None)
            members = sorted(
                member for reply in replies for member in reply if bound is None or member <= bound
            )
            yield self._list.without_seals(members)
            if bound is None:
                return
            cursor = b"(" + bound
            page = min(page * 4, _PAGE * self._shards)

    def _heads(self, members: list[bytes], length: int) -> Iterator[tuple[str, Head]]:
        """Return the infos of a page of blobs without the expired ones, which leave the index."""
        keys = self._decoded(members)
        replies = self._grouped(
            keys,
            lambda _, members: (b"%d" % (length - 1), *members),
            scripts.HEADS,
            lambda reply: reply or [],
            Again.ALWAYS,
        )
        for key in keys:
            head = parse(replies.get(key, b""))
            if head is not None:
                yield key, head

    def _decoded(self, members: list[bytes]) -> list[str]:
        try:
            return [member.decode() for member in members]
        except UnicodeDecodeError:
            # Not one of our keys.
            self._refuse(FOREIGN, ANY, None)
            raise

    def _grouped(
        self,
        keys: Iterable[str],
        arguments: Callable[[int, list[bytes]], Sequence[bytes]],
        script: scripts.Script,
        replied: Callable[[Any], Iterable[Any]],
        again: Again = Again.LOST,
    ) -> dict[str, Any]:
        """Return what a script returns for each of many keys, shard by shard."""
        groups: dict[int, tuple[list[str], list[bytes], list[bytes]]] = {}
        for key in keys:
            shard, member, name = self._place(key)
            group = groups.setdefault(shard, ([], [], []))
            group[0].append(key)
            group[1].append(member)
            group[2].append(name)
        calls = [
            (shard, (*self._indexes[shard], *names), arguments(shard, members))
            for shard, (_, members, names) in groups.items()
        ]
        if not calls:
            return {}
        found: dict[str, Any] = {}
        replies = self._link.run_many(script, calls, again)
        for (own, _, _), reply in zip(groups.values(), replies, strict=True):
            found.update(zip(own, replied(reply), strict=False))
        return found

    # --- many at once ---

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        distinct = iter(dict.fromkeys(keys))
        # Start with few keys: their sizes aren't known yet.
        size = _BATCH // 4
        while batch := list(islice(distinct, size)):
            total = 0
            for key, value in self._got(batch):
                if value is not None and is_plain(value):
                    total += len(value)
                    yield key, value[FIXED:]
                    continue
                head = None if value is None else parse(value)
                if value is None or head is None:
                    continue
                total += len(value)
                if not head.chunk:
                    yield key, value[head.end :]
                    continue
                data = self.get(key)
                if data is not None:
                    total += len(data)
                    yield key, data
            # Large blobs come in replies of some MiB, not in one of gigabytes.
            size = max(1, min(_BATCH, len(batch) * _WHOLE // max(total, 1)))

    def _got(self, keys: list[str]) -> Iterator[tuple[str, bytes | None]]:
        if self._shards == 1:
            blobs = self._blobs[0]
            names = [blobs + key.encode() for key in keys]
            return zip(keys, self._link.ask(0, packed(b"MGET", *names)), strict=True)
        groups: dict[int, tuple[list[str], list[bytes]]] = {}
        for key in keys:
            shard, _, name = self._place(key)
            group = groups.setdefault(shard, ([], []))
            group[0].append(key)
            group[1].append(name)
        asked = [(shard, packed(b"MGET", *names)) for shard, (_, names) in groups.items()]
        replies = self._link.ask_many(asked)
        found: dict[str, bytes | None] = {}
        for (own, _), reply in zip(groups.values(), replies, strict=True):
            found.update(zip(own, reply, strict=True))
        return iter([(key, found[key]) for key in keys])

    def _put_many(self, items: Iterable[tuple[str, Body]], attributes: Attributes) -> Iterator[Info]:
        _check(attributes)
        expires = milliseconds(attributes.expires)
        kind = attributes.content_type
        extra = extra_of(kind)
        until = expires / 1000 if expires else None
        modified = time.time_ns() // 1000
        batch: dict[str, tuple[Info, bytes]] = {}
        size = 0
        for key, body in items:
            if isinstance(body, tuple) and len(body) == 1 and len(body[0]) < CHUNK:
                data = body[0]
                etag, length = _new_etag(), len(data)
                value = b"".join((fixed(etag, modified, length, expires, extra), data))
                batch[key] = Info(key, length, etag, modified / 1_000_000, kind, until), value
                size += length
                if len(batch) < _BATCH and size < 4 * CHUNK:
                    continue
                yield from self._put_batch(batch, expires)
                batch, size, modified = {}, 0, time.time_ns() // 1000
            else:
                # It may be long, and its body may use this store: the earlier ones come first.
                yield from self._put_batch(batch, expires)
                batch, size = {}, 0
                try:
                    yield self._write(key, body, ANY, attributes)
                except StoreError as error:
                    error.key = key
                    raise
        yield from self._put_batch(batch, expires)

    def _put_batch(self, batch: dict[str, tuple[Info, bytes]], expires: int) -> Iterator[Info]:
        at = b"%d" % expires

        def arguments(shard: int, members: list[bytes]) -> Sequence[bytes]:
            listed: list[bytes] = [at, self._chunks[shard]]
            for member in members:
                listed.append(member)
                listed.append(batch[member.decode()][1])
            return listed

        def replied(reply: Any) -> Iterable[Any]:
            if reply != 1:
                self._refuse(FOREIGN, ANY, next(iter(batch)))
            return ()

        try:
            self._grouped(batch, arguments, scripts.PUT_MANY, replied)
        except LostError as lost:
            raise _open(lost) from lost
        for info, _ in batch.values():
            yield info

    def _delete_many(self, keys: Iterable[str]) -> int:
        total = 0
        rest = iter(keys)
        while batch := list(islice(rest, _BATCH)):
            groups: dict[int, list[str]] = {}
            for key in batch:
                groups.setdefault(self._place(key)[0], []).append(key)
            for shard, own in groups.items():
                names = [self._place(key) for key in own]
                arguments = b"", self._chunks[shard], *(member for _, member, _ in names)
                named = *self._indexes[shard], *(name for _, _, name in names)

                def call(shard: int = shard, named: Any = named, arguments: Any = arguments) -> Any:
                    return self._link.run(shard, scripts.DELETE, named, arguments, Again.NEVER)

                total += self._sure(call, lambda reply, own=own: reply == len(own))
        return total

    def _clear(self) -> None:
        for page in self._pages("", ""):
            keys = self._decoded(page)
            self._grouped(
                keys,
                lambda shard, members: (b"", self._chunks[shard], *members),
                scripts.DELETE,
                lambda _: (),
            )
        self._list.unseal()

    def reindex(self) -> int:
        """Make the list of keys anew from the blobs in the server, and report how many blobs it lacked.

        A listing that finds the list lost calls this itself. Call it if only a part of the list was lost. It
        searches the whole server, in small steps.

        Raises:
            StoreUnavailableError: The server can't be reached, or doesn't let this user search (`+scan`).
        """
        if self._closed:
            raise self._closed_error()
        return self._list.restore()

    # --- inside the server ---

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        if self._shards > 1:
            return self._again(lambda: super(ValkeyStore, self)._copy(source, target, expect))
        return self._again(lambda: self._copied(source, target, expect))

    def _copied(self, source: str, target: str, expect: Expect) -> Info:
        _, _, origin = self._place(source)
        _, member, name = place = self._place(target)
        etag, modified = _new_etag(), time.time_ns() // 1000
        arguments = member, _condition(expect), etag.encode(), modified.to_bytes(8, "big"), self._chunks[0]
        keys = origin, name, *self._indexes[0]
        reply = self._sure(
            lambda: self._link.run(0, scripts.COPY, keys, arguments, Again.NEVER),
            lambda reply: isinstance(reply, bytes),
        )
        if reply is None:
            raise BlobNotFoundError(key=source)
        head = self._taken(reply, expect, target)
        if not head.chunk:
            return head.info(target)
        chunks, own = self._chunks[0] + head.etag.encode(), self._chunks[0] + etag.encode()
        new = head._replace(etag=etag, modified=modified)
        number = -(-head.size // head.chunk)
        try:
            for index in range(number):
                part = b"%d" % index, b"%d" % (_GUARD * 1000)
                if not self._link.run(0, scripts.COPY_CHUNK, (chunks, own), part, Again.LOST):
                    raise self._torn(0, source, origin, head)
        except LostError:
            raise
        except BaseException:
            self._forget(0, own)
            raise
        self._put(target, place, [new.packed()], expect, head.expires, own, number)
        return new.info(target)

    def _taken(self, reply: Any, expect: Expect, target: str) -> Head:
        """The head that COPY and MOVE return, or the error."""
        head = parse(reply) if isinstance(reply, bytes) else None
        if head is None:
            self._refuse(reply if isinstance(reply, int) else reply[0], expect, target)
        assert head is not None
        return head

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        if self._shards > 1:
            return self._again(lambda: super(ValkeyStore, self)._move(source, target, expect))
        _, old, origin = self._place(source)
        _, new, name = self._place(target)
        keys = origin, name, *self._indexes[0]
        arguments = old, new, _condition(expect), self._chunks[0]
        reply = self._sure(
            lambda: self._link.run(0, scripts.MOVE, keys, arguments, Again.NEVER),
            lambda reply: isinstance(reply, bytes),
        )
        if reply is None:
            raise BlobNotFoundError(key=source)
        head = self._taken(reply, expect, target)
        return head.info(target)


def open_tls(
    location: str,
    *,
    prefix: str = "holdall:",
    db: int | None = None,
    password: str | None = None,
    cluster: bool = False,
    timeout: float = 30.0,
    tls_ca: str | None = None,
    tls_certificate: str | None = None,
    tls_key: str | None = None,
) -> ValkeyStore:
    """The store that a URI of the scheme `rediss` names: as `valkey`, over TLS."""
    return ValkeyStore(
        _url("rediss", location, db),
        prefix=prefix,
        password=password,
        cluster=cluster,
        timeout=timeout,
        tls_ca=tls_ca,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
    )


def open_socket(
    location: str,
    *,
    prefix: str = "holdall:",
    db: int | None = None,
    password: str | None = None,
    timeout: float = 30.0,
) -> ValkeyStore:
    """The store that a URI of the scheme `unix` names: as `valkey`, by a socket on this host."""
    return ValkeyStore(_url(_SOCKET, location, db), prefix=prefix, password=password, timeout=timeout)


def _new_etag() -> str:
    # Nothing is counted in this process: of a machine that is cloned as it runs, both copies would count on
    # from the same number.
    return os.urandom(8).hex()


def _check(attributes: Attributes) -> None:
    kind = attributes.content_type
    if kind is not None and len(kind.encode("utf-8", "surrogatepass")) > LONGEST:
        raise InvalidArgumentError(f"in a ValkeyStore a content_type must have at most {LONGEST} UTF-8 bytes")


def _is_text(given: object) -> bool:
    if not isinstance(given, str):
        return False
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True


def _condition(expect: Expect) -> bytes:
    if expect is ANY:
        return b""
    if expect is ABSENT:
        return b"-"
    return b"=" + str(expect).encode("utf-8", "surrogatepass")


def _open(lost: LostError) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"{lost.message}, and the client can't know whether it was done; read it before you repeat it"
    )


def _deleted(reply: Any) -> bool:
    return isinstance(reply, int) and reply > 0


def _clamped(end: int) -> int:
    """An end of a range that a number of Lua can hold."""
    return max(-(1 << 52), min(end, 1 << 52))


def _sliced(value: bytes, start: int) -> Iterator[Piece]:
    if len(value) - start <= CHUNK:
        if len(value) > start:
            yield value[start:]
        return
    view = memoryview(value)
    for at in range(start, len(value), CHUNK):
        yield view[at : at + CHUNK]


def _url(scheme: str, location: str, db: int | None = None) -> str:
    """A URL again, of what was decoded: the host follows the last '@', since none can be in it; the path of a
    socket follows the first '@/'."""
    if scheme != _SOCKET:
        userinfo, at, rest = location.rpartition("@")
    elif location.startswith("/"):
        userinfo, at, rest = "", "", quote(location)
    else:
        userinfo, at, path = location.partition("@/")
        at, rest = at[:1], quote(at[1:] + path)
    user, colon, password = userinfo.partition(":")
    query = "" if db is None else f"?db={db}"
    return f"{scheme}://{quote(user, safe='')}{colon}{quote(password, safe='')}{at}{rest}{query}"


def _parsed(url: str) -> _Address:
    try:
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        port = parts.port
        host = parts.hostname
    except ValueError:
        # The URL may hold a password, which the error of urlsplit may repeat.
        raise InvalidArgumentError(
            "expected the URL of a server, such as valkey://user:password@host:port/database"
        ) from None
    known = (*_PLAIN, *_TLS, _SOCKET)
    if scheme not in known:
        raise InvalidArgumentError(
            f"expected a URL that begins with {', '.join(f'{name}://' for name in known)}"
        )
    options = parse_qsl(parts.query, keep_blank_values=True)
    if parts.fragment or [name for name, _ in options] not in ([], ["db"]):
        raise InvalidArgumentError(
            "the URL of a ValkeyStore takes only the option 'db'; give the others as keywords. "
            "Store.from_uri takes them in the URL. A '#' or '?' in a password is written %23 or %3F"
        )
    # The number of a database may be in the path, as in redis-py, or behind it.
    numbers = [text for _, text in options]
    if scheme != _SOCKET and parts.path.strip("/"):
        numbers.append(parts.path.strip("/"))
    for text in numbers:
        if not (text.isascii() and text.isdigit()):
            raise InvalidArgumentError(
                f"expected the number of a database after the host, as in {scheme}://localhost:6379/0"
            )
    if len({int(text) for text in numbers}) > 1:
        raise InvalidArgumentError("the URL of a server names two databases; give one")
    database = int(numbers[0]) if numbers else 0
    if port == 0:
        raise InvalidArgumentError("the port of a server must not be 0")
    username = unquote(parts.username) if parts.username else None
    password = Password(unquote(parts.password) if parts.password else None)
    if scheme == _SOCKET:
        if host or port or not parts.path.strip("/"):
            raise InvalidArgumentError("expected the URL of a socket, such as unix:///path/to/socket?db=0")
        return _Address(False, "localhost", 0, database, username, password, unquote(parts.path))
    return _Address(scheme in _TLS, host or "localhost", port or 6379, database, username, password)


def _check_files(authority: str | None, certificate: str | None, key: str | None) -> None:
    """Read the files of TLS as each connection will."""
    if key is not None and certificate is None:
        raise InvalidArgumentError("tls_key is the key of tls_certificate; give both")
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authority is not None:
            context.load_verify_locations(authority)
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(
            f"tls_ca={authority!r} must be a file of certificates (PEM): {error}"
        ) from error
    try:
        if certificate is not None:
            # Without a password OpenSSL would ask for it at the terminal.
            context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(
            f"tls_certificate={certificate!r} and tls_key={key!r} must hold a certificate and its key "
            f"(PEM, without a password): {error}"
        ) from error


def _own(
    address: _Address, timeout: float, tls: dict[str, str | None]
) -> tuple[Callable[[str, int], Any], list[tuple[str, int]], Any]:
    """How to connect, where to, and the exceptions of the library."""
    library = driver()
    options: dict[str, Any] = {
        "db": address.database,
        "username": address.username,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "protocol": 2,
    }
    if address.tls:
        options |= {
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": tls["tls_ca"],
            "ssl_certfile": tls["tls_certificate"],
            "ssl_keyfile": tls["tls_key"],
        }
    if address.path is not None:
        del options["socket_keepalive"]
        options["path"] = address.path

        def connect_here(host: str, port: int) -> Any:
            return library.UnixDomainSocketConnection(**options, password=address.password.value())

        return connect_here, [(address.path, 0)], library.exceptions
    kind = library.SSLConnection if address.tls else library.Connection

    def connect(host: str, port: int) -> Any:
        return kind(host=host, port=port, **options, password=address.password.value())

    return connect, [(address.host, address.port)], library.exceptions


def _injected(
    client: Any, timeout: float
) -> tuple[
    Callable[[str, int], Any],
    list[tuple[str, int]],
    Any,
    bool,
    Callable[[str, int], tuple[str, int]] | None,
]:
    """The same of a client that was passed in, whether it is a cluster's, and how it maps addresses."""
    modules = [kind.__module__ for kind in type(client).__mro__]
    package = next(
        (root for root in (name.partition(".")[0] for name in modules) if root in ("redis", "valkey")), None
    )
    nodes, pool = getattr(client, "nodes_manager", None), getattr(client, "connection_pool", None)
    if (
        package is None
        or (nodes is None and pool is None)
        or any(name.startswith(f"{package}.asyncio") for name in modules)
    ):
        hint = "; of a Sentinel pass master_for(...)" if "sentinel" in type(client).__module__ else ""
        raise InvalidArgumentError(
            "the server must be a URL, or a synchronous client of redis-py or valkey-py, "
            f"not {type(client).__name__}{hint}"
        )
    library = driver(package)

    def patient(settings: dict[str, Any]) -> dict[str, Any]:
        # A client without a timeout would wait for a dead server for ever.
        return settings if settings.get("socket_timeout") else {**settings, "socket_timeout": timeout}

    if nodes is not None:
        seeds = [(node.host, node.port) for node in client.get_nodes()]
        settings = patient(client.get_connection_kwargs())
        single = library.Redis if package == "redis" else library.Valkey
        pools: dict[tuple[str, int], Any] = {}

        def connect_to(host: str, port: int) -> Any:
            made = pools.get((host, port))
            if made is None:
                made = pools[host, port] = single(host=host, port=port, **settings).connection_pool
            return made.connection_class(**made.connection_kwargs)

        return connect_to, seeds, library.exceptions, True, nodes.remap_host_port
    assert pool is not None
    kind = pool.connection_class

    def connect(host: str, port: int) -> Any:
        return kind(**patient(pool.connection_kwargs))

    at = pool.connection_kwargs
    name = getattr(pool, "service_name", None) or at.get("host") or at.get("path") or "localhost"
    seeds = [(name, 0 if hasattr(pool, "service_name") or at.get("path") else at.get("port", 6379))]
    return connect, seeds, library.exceptions, False, None
