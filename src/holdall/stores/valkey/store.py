"""A store in Valkey or Redis: one string a blob, and a sorted set of the keys."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from holdall.arguments import check_wait
from holdall.blob import ATOMIC
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    UnsupportedOperation,
)
from holdall.ranges import CHUNK, span
from holdall.store import ANY, PLAIN, Attributes, Body, Can, Expect, Info, LeftOut, Piece, Put, Store
from holdall.stores.password import Password
from holdall.stores.rereading import outcome_unknown, read_again
from holdall.stores.valkey import scripts
from holdall.stores.valkey.chunks import WHOLE, Chunks, Upload
from holdall.stores.valkey.connecting import PLAIN as PLAIN_SCHEMES
from holdall.stores.valkey.connecting import SOCKET, TLS, client_of, servers_of, split_url, url_of
from holdall.stores.valkey.errors import LostError
from holdall.stores.valkey.head import (
    FIXED,
    GLANCE,
    BlobHead,
    check_kind,
    extra_of,
    fixed,
    is_plain,
    milliseconds,
    new_etag,
    parse,
)
from holdall.stores.valkey.keylist import KeyList
from holdall.stores.valkey.link import Retry, packed
from holdall.stores.valkey.many import Batches
from holdall.stores.valkey.outcomes import condition, ensure, refuse
from holdall.stores.valkey.shards import Place, Shards

_SMALL = 16_384


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

    can = ATOMIC | Can.EXPIRE | Can.COPY | Can.BULK | Can.ATTRIBUTES
    schemes = (*PLAIN_SCHEMES, *TLS, SOCKET)
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
        _check_prefix(prefix)
        # From here on no traceback shows it.
        secret = None if password is None else Password(password)
        password = None
        check_wait(timeout)
        tls = {"tls_ca": tls_ca, "tls_certificate": tls_certificate, "tls_key": tls_key}
        self._reopens: dict[str, object] | None = None
        """The arguments that open the store again, unless a client was passed in."""
        if isinstance(server, str):
            server, literal = split_url(server)
            secret = literal if secret is None else secret
            if cluster and (server.startswith(SOCKET) or server.count("/") > 2):
                raise InvalidArgumentError(
                    "a cluster has only database 0; give a URL with a host and no database"
                )
            self._reopens = {"server": server, "prefix": prefix, "password": secret.setting}
            self._reopens |= {"cluster": cluster, "timeout": timeout, **tls}
            server = client_of(server, secret, timeout, tls)
        elif secret is not None or any(tls.values()):
            raise InvalidArgumentError(
                "a client that is passed in has its own password and certificates; leave these arguments out"
            )
        elif cluster and not hasattr(server, "nodes_manager"):
            raise InvalidArgumentError("for cluster=True pass a URL, a RedisCluster or a ValkeyCluster")
        self._shards = Shards(prefix, servers_of(server, cluster, timeout), timeout)
        self._link = self._shards.link
        if self._shards.count > 1:
            self.can = type(self).can & ~Can.COPY
        self._chunks, self._list = Chunks(self._shards), KeyList(self._shards)
        self._batches = Batches(self._shards)
        # The constant part of a small plain put.
        self._requests = [
            (
                packed(b"EVALSHA", scripts.PUT.digest, b"3", *index, *[b""] * 7)[0][
                    : -7 * len(b"$0\r\n\r\n")
                ],
                b"\r\n$%d\r\n%b\r\n$1\r\n0\r\n" % (len(chunks), chunks),
            )
            for index, chunks in zip(self._shards.indexes, self._shards.chunks, strict=True)
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
            url_of("valkey", location, db), prefix=prefix, password=password, cluster=cluster, timeout=timeout
        )

    def _settings(self) -> dict[str, object]:
        if self._reopens is None:
            raise UnsupportedOperation(
                "a ValkeyStore over a client that was passed in can't be pickled; open it by its URL"
            )
        return self._reopens

    def _close(self) -> None:
        self._link.close()

    def _place(self, key: str) -> Place:
        return self._shards.place(key)

    def _get(self, key: str) -> bytes | None:
        shard, _, name = self._place(self._checked(key))
        value: bytes | None = self._link.ask(shard, [b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(name), name)])
        if value is None:
            return None
        if is_plain(value):
            return value[FIXED:]
        head = parse(value)
        if head is None:
            return None
        if not head.chunk:
            return value[head.end :]
        return read_again(lambda: super(ValkeyStore, self)._get(key))

    def _get_range(self, key: str, start: int, stop: int | None) -> bytes:
        return read_again(lambda: super(ValkeyStore, self)._get_range(key, start, stop))

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        shard, _, name = place = self._place(key)
        if start == 0 and stop is None:
            value: bytes | None = self._link.ask(shard, packed(b"GET", name))
            head = None if value is None else parse(value)
            if value is None or head is None:
                raise BlobNotFoundError(key=key)
            if not head.chunk:
                return head.info(key), _slice(value, head.end)
        else:
            ends = b"%d" % _clamp(start), b"" if stop is None else b"%d" % _clamp(stop)
            reply: list[bytes] | None = self._link.run(shard, scripts.RANGE, (name,), ends)
            head = None if reply is None else parse(reply[0])
            if reply is None or head is None:
                raise BlobNotFoundError(key=key)
            if not head.chunk:
                span(start, stop, head.size)
                return head.info(key), _slice(reply[1], 0)
        low, high = span(start, stop, head.size)
        return head.info(key), self._chunks.read(key, place, head, low, high)

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

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        if attributes is not PLAIN:
            check_kind(attributes)
        if expect is ANY and isinstance(body, tuple) and len(body) == 1:
            data = body[0]
            if type(data) is bytes and len(data) < _SMALL:
                info = self._write_small(key, data, attributes)
                if info is not None:
                    return info
        shard, _, _ = place = self._place(key)
        etag, expires = new_etag(), milliseconds(attributes.expires)
        chunks = self._chunks.name(shard, etag)
        upload = Upload(self._link, shard, chunks)
        try:
            upload.send(body)
        except LostError:
            # The server can't be reached; the chunks expire.
            raise
        except BaseException:
            # The first of them may be there before `sent` says so.
            if upload.size > WHOLE:
                self._chunks.forget(shard, chunks)
            raise
        chunk = CHUNK if upload.sent else 0
        head = BlobHead(etag, time.time_ns() // 1000, expires, upload.size, chunk, attributes.content_type)
        self._publish(key, place, head, [upload.rest], expect, upload.sent)
        return head.info(key)

    def _write_small(self, key: str, data: bytes, attributes: Attributes) -> Info | None:
        """Write a small blob, faster than `_write`; return None if `_write` must do it."""
        shard, member, name = self._place(key)
        etag, modified = new_etag(), time.time_ns() // 1000
        expires, kind = milliseconds(attributes.expires), attributes.content_type
        head, at = fixed(etag, modified, len(data), expires, extra_of(kind)), b"%d" % expires
        begin, end = self._requests[shard]
        request = b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b%b\r\n$0\r\n\r\n$%d\r\n%b%b" % (
            *(begin, len(name), name, len(member), member),
            *(len(head) + len(data), head, data, len(at), at, end),
        )
        try:
            if self._link.ask(shard, [request], Retry.LOST) != 1:
                return None
        except LostError as lost:
            raise outcome_unknown(lost) from lost
        until = expires / 1000 if expires else None
        return Info(key, len(data), etag, modified / 1_000_000, kind, until)

    def _publish(
        self,
        key: str,
        place: Place,
        head: BlobHead,
        pieces: list[Piece],
        expect: Expect,
        count_of_chunks: int,
    ) -> None:
        """Make a blob of a head, and of the bytes that follow it or are in chunks."""
        shard, member, name = place
        chunks = (self._chunks.name(shard, head.etag),) if count_of_chunks else ()
        keys = *self._shards.indexes[shard], name, *chunks
        arguments = (
            *(member, [head.packed(), *pieces], condition(expect), b"%d" % head.expires),
            *(self._shards.chunks[shard], b"%d" % count_of_chunks),
        )
        # The script knows its own ETag again, if an earlier request was carried out.
        reply = ensure(
            lambda: self._link.run(shard, scripts.PUT, keys, arguments, Retry.NEVER),
            lambda reply: not isinstance(reply, bytes),
        )
        if reply != 1:
            for unpublished in chunks:
                # After an error instead of a reply they may be published; if not, they expire.
                self._chunks.forget(shard, unpublished)
            refuse(reply, expect, self._shards.prefix, key)

    def _delete(self, key: str, expect: Expect) -> bool:
        shard, member, name = self._place(key)
        arguments = condition(expect), self._shards.chunks[shard], member
        keys = *self._shards.indexes[shard], name
        reply = ensure(
            lambda: self._link.run(shard, scripts.DELETE, keys, arguments, Retry.NEVER),
            lambda reply: isinstance(reply, int) and reply > 0,
        )
        if isinstance(reply, bytes):
            refuse(reply, expect, self._shards.prefix, key)
        if expect is not ANY and not reply:
            raise ConcurrencyError(key=key, expected=str(expect))
        return bool(reply)

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        for key, head in self._list.heads(prefix, after, GLANCE):
            if isinstance(head, str):
                yield LeftOut(key, head)
            elif head.end > GLANCE:
                try:
                    yield self._info(key)
                except BlobNotFoundError:
                    continue
            else:
                yield head.info(key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (each for each in self._survey(prefix, after) if isinstance(each, Info))

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        for key, head in self._list.heads(prefix, after, FIXED):
            if isinstance(head, BlobHead):
                yield key

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        return self._batches.get(keys, self.get)

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        def write(key: str, body: Body, attributes: Attributes) -> Info:
            return self._write(key, body, ANY, attributes)

        return self._batches.put(items, write)

    def _delete_many(self, keys: Iterable[str]) -> int:
        return self._batches.delete(keys)

    def _clear(self) -> None:
        for page in self._list.pages("", ""):
            self._shards.run(
                scripts.DELETE,
                page,
                lambda group: (b"", self._shards.chunks[group.shard], *group.members),
                Retry.LOST,
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

    def _touch(self, key: str, expires: datetime | None) -> Info:
        shard, member, name = self._place(key)
        modified, until = (time.time_ns() // 1000).to_bytes(8, "big"), milliseconds(expires)
        at = b"%d" % until if until else b""
        arguments = member, modified, at, until.to_bytes(8, "big"), self._shards.chunks[shard]
        keys = *self._shards.indexes[shard], name
        # To do it twice is to do it once.
        reply = ensure(
            lambda: self._link.run(shard, scripts.TOUCH, keys, arguments, Retry.NEVER), lambda reply: True
        )
        head = None if reply is None else parse(reply)
        if head is None:
            raise BlobNotFoundError(key=key)
        return head.info(key)

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        if Can.COPY not in self.can:
            return read_again(lambda: super(ValkeyStore, self)._copy(source, target, expect))
        return read_again(lambda: self._copy_bytes(source, target, expect))

    def _copy_bytes(self, source: str, target: str, expect: Expect) -> Info:
        origin, place = self._place(source), self._place(target)
        etag, modified = new_etag(), time.time_ns() // 1000
        prefix = self._shards.chunks[0]
        arguments = place[1], condition(expect), etag.encode(), modified.to_bytes(8, "big"), prefix
        head = self._run_between(scripts.COPY, source, target, arguments, expect)
        if not head.chunk:
            return head.info(target)
        new, chunks = head._replace(etag=etag, modified=modified), self._chunks.name(0, etag)
        try:
            count = self._chunks.copy(source, origin, head, chunks)
        except LostError:
            raise
        except BaseException:
            self._chunks.forget(0, chunks)
            raise
        self._publish(target, place, new, [], expect, count)
        return new.info(target)

    def _run_between(
        self, script: scripts.Script, source: str, target: str, arguments: tuple[bytes, ...], expect: Expect
    ) -> BlobHead:
        """Run COPY or MOVE, and return the head that it returns."""
        keys = self._place(source)[2], self._place(target)[2], *self._shards.indexes[0]
        reply = ensure(
            lambda: self._link.run(0, script, keys, arguments, Retry.NEVER),
            lambda reply: isinstance(reply, bytes),
        )
        if reply is None:
            raise BlobNotFoundError(key=source)
        head = parse(reply) if isinstance(reply, bytes) else None
        if head is None:
            refuse(reply if isinstance(reply, int) else reply[0], expect, self._shards.prefix, target)
        return head

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        if Can.COPY not in self.can:
            return read_again(lambda: super(ValkeyStore, self)._move(source, target, expect))
        members = self._place(source)[1], self._place(target)[1]
        arguments = *members, condition(expect), self._shards.chunks[0]
        return self._run_between(scripts.MOVE, source, target, arguments, expect).info(target)


def _check_prefix(prefix: object) -> None:
    if not isinstance(prefix, str) or not prefix or "{}" in prefix:
        raise InvalidArgumentError("the prefix of a ValkeyStore must be a str such as 'app:', without '{}'")
    if any("\ud800" <= character <= "\udfff" for character in prefix):
        raise InvalidArgumentError("the prefix of a ValkeyStore must not contain lone surrogates")


def _clamp(end: int) -> int:
    """An end of a range that a number of Lua can hold."""
    return max(-(1 << 52), min(end, 1 << 52))


def _slice(value: bytes, start: int) -> Iterator[Piece]:
    if len(value) - start <= CHUNK:
        if len(value) > start:
            yield value[start:]
        return
    view = memoryview(value)
    for at in range(start, len(value), CHUNK):
        yield view[at : at + CHUNK]
