"""A store in a bucket of an object storage, by obstore."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, islice, starmap
from typing import Any

from holdall.arguments import check_wait
from holdall.blob import PLAIN, Attributes, size_of
from holdall.errors import (
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidKeyError,
    InvalidTypeError,
    StoreError,
    UnsupportedOperation,
)
from holdall.keys import MAX_KEY_BYTES
from holdall.pieces import only_piece
from holdall.ranges import CHUNK
from holdall.store import ANY, Body, Can, Expect, Info, LeftOut, Piece, Put, Store
from holdall.stores.bucket.abreast import KeyCall, abreast
from holdall.stores.bucket.access import Access
from holdall.stores.bucket.attributes import to_send
from holdall.stores.bucket.client import Options, Settings
from holdall.stores.bucket.clouds import AZURE, GOOGLE, S3, cloud_of, tag_of
from holdall.stores.bucket.deleter import Deleter
from holdall.stores.bucket.given import taken_over
from holdall.stores.bucket.google import has_token
from holdall.stores.bucket.location import SCHEMES, Location, check_root, parse, r2_endpoint
from holdall.stores.bucket.names import Names
from holdall.stores.bucket.parts import put_in_parts
from holdall.stores.bucket.probe import Findings
from holdall.stores.bucket.reading import Reader
from holdall.stores.bucket.signing import why_unsigned
from holdall.stores.bucket.writing import put_large_if, put_whole_if
from holdall.stores.password import Password

_SMALL = 4 * CHUNK
"""What is put by one request, and held in memory."""
_BATCH = 1000
_METHODS = ("GET", "PUT", "HEAD", "DELETE")


class BucketStore(Store):
    """A store in a bucket: S3 and what speaks it, Google Cloud Storage, or Azure Blob Storage.

    Args:
        uri: `s3://bucket/prefix`; `gs://` or `gcs://` for Google; `az://container/prefix`, or
            `abfs://container@account/prefix`, for Azure; `r2://` for Cloudflare R2. Keys are names below the
            prefix. `key:secret@` may stand before the bucket; it is never shown. Or a client, as
            `from_client` takes it, with its `bucket` and `prefix`, and without any other argument.
        region: The region of the bucket, for S3.
        endpoint: The URL of another server that speaks the same, such as `http://127.0.0.1:8333`.
        anonymous: Whether to send no credentials, for a public bucket.
        account: The storage account, for Azure; the account of Cloudflare, for R2.
        key: The id of an access key, for S3.
        secret: The secret of the key; the account's key or a shared access signature, for Azure; a service
            account's key (JSON) or its path, for Google. `env:NAME` means an environment variable, and
            `file:PATH` the first line of a file. A literal secret isn't pickled.
        storage_class: The class of what is put, such as `STANDARD_IA`.
        timeout: Seconds to wait for a connection, and between two bytes; failed requests are repeated for
            twice as long.

    Without `key` and `secret`, each cloud's usual places are searched: environment variables, files, web
    identity, the machine's own role. A pickle carries settings only, and the process that unpickles it
    searches again. Threads and forked processes may share the store.

    Servers other than the clouds' own are asked once what they do with conditions, and `can` says it.

    Raises:
        MissingDependencyError: obstore isn't installed.
        InvalidArgumentError: An argument isn't valid.

    >>> BucketStore("s3://AKEY:secret@bucket/models", region="eu-west-1")
    BucketStore('s3://bucket/models', region='eu-west-1', key='AKEY', secret='***')
    """

    schemes = SCHEMES
    _secrets = frozenset({"secret"})

    def __init__(
        self,
        uri: Any,
        bucket: str | None = None,
        prefix: str = "",
        *,
        region: str | None = None,
        endpoint: str | None = None,
        anonymous: bool = False,
        account: str | None = None,
        key: str | None = None,
        secret: str | Password | None = None,
        storage_class: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        if not isinstance(uri, str | Location):
            given: dict[str, object] = {"region": region, "endpoint": endpoint, "anonymous": anonymous}
            given |= {"account": account, "key": key, "secret": secret and "***"}
            given |= {"storage_class": storage_class, "timeout": timeout}
            self._take_over(uri, bucket, prefix, given)
            return
        if bucket is not None or prefix:
            raise InvalidArgumentError("the URI names the bucket and the prefix: s3://bucket/prefix")
        where = uri if isinstance(uri, Location) else parse(uri)
        key = where.key if key is None else key
        held = None if secret is None and where.secret is None else Password(secret or where.secret)
        # From here on no traceback shows it.
        secret = None
        account = where.account if account is None else account
        uri = f"{where.scheme}://{where.bucket}{'/' + where.root[:-1] if where.root else ''}"
        for name, value in (("region", region), ("endpoint", endpoint), ("account", account)):
            if value is not None and (not isinstance(value, str) or not value):
                raise InvalidTypeError(f"{name} must be a str that isn't empty, not {value!r}")
        if where.cloud is S3 and (key is None) != (held is None):
            raise InvalidArgumentError("give key= and secret= together, or neither")
        check_wait(timeout)
        self._reopens: dict[str, object] | None = {"uri": uri, "region": region, "endpoint": endpoint}
        self._reopens |= {"anonymous": anonymous, "account": account, "key": key, "secret": held}
        self._reopens |= {"storage_class": storage_class, "timeout": timeout}
        if where.scheme == "r2":
            endpoint = endpoint or r2_endpoint(account)
            region = region or "auto"
        options = Options(region, endpoint, anonymous, account, key, timeout)
        value = (lambda: None) if held is None else held.value
        settings = Settings(where.cloud, where.bucket, options, value)
        self._begin(settings, where.root, storage_class)
        settings.clients()

    def _begin(self, settings: Settings, root: str, storage_class: str | None) -> None:
        self._access = Access(settings)
        self._found_can: tuple[Findings, Can] | None = None
        self._root, self._names = root, Names(self._access, root)
        self._reader, self._deleter = Reader(self._access, self._names), Deleter(self._access)
        # Some servers guess a type where none is said.
        self._plain = {"Content-Type": settings.cloud.default_type}
        if storage_class is not None:
            self._plain["Storage-Class"] = storage_class

    @classmethod
    def from_client(cls, client: Any, bucket: str | None = None, prefix: str = "") -> BucketStore:
        """Return a store on the settings and the credentials of a client that is already there.

        Args:
            client: A store of obstore; a client, resource or session of boto3; a client of aiobotocore; a
                `google.cloud.storage.Client`; a `BlobServiceClient` or `ContainerClient` of Azure; a
                `CloudPath` or a `UPath`, whose folder `PathStore` opens; or a file system of s3fs, gcsfs or
                adlfs. It stays open.
            bucket: The bucket, where the client doesn't name one.
            prefix: What the names of all objects start with, such as `models/`.

        Raises:
            InvalidTypeError: The client is none of these.
            InvalidArgumentError: No bucket is named.
            UnsupportedOperation: The credentials of the client can't be taken over, such as those that only a
                coroutine function provides.
        """
        store = object.__new__(cls)
        store._take_over(client, bucket, prefix, {})
        return store

    def _take_over(self, client: Any, bucket: str | None, prefix: str, options: dict[str, object]) -> None:
        found = taken_over(client, bucket)
        defaults = BucketStore.__init__.__kwdefaults__ or {}
        if more := [name for name, value in options.items() if value != defaults[name]]:
            raise InvalidArgumentError(
                f"a client has settings of its own: leave out {', '.join(more)}, or give a URI"
            )
        config: dict[str, Any] = found.config
        name = str(config.get("bucket") or config.get("container_name"))
        self._reopens = None
        self._begin(Settings(cloud_of(found), name, given=found), check_root(prefix.removesuffix("/")), None)

    @property
    def can(self) -> Can:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the server does natively and atomically; a server that isn't known is asked at first use, and
        one that took no put is asked again after a minute."""
        found = self._access.findings()
        if self._found_can is None or self._found_can[0] is not found:
            self._found_can = found, self._can_by(found)
        return self._found_can[1]

    def _can_by(self, found: Findings) -> Can:
        can = Can.WRITE | Can.DELETE | Can.LIST | Can.BULK | Can.ATTRIBUTES | Can.METADATA
        can |= Can.SIGN if why_unsigned(self._access.clients().client) is None else Can(0)
        can |= Can.COPY if self._copies_inside() else Can(0)
        can |= Can.CREATE if found.create else Can(0)
        can |= Can.RANGE if found.range else Can(0)
        # Ceph's gateway, which ignores the condition of a delete, also answers losers of a swap with 500,
        # which may mean anything: such a server has neither flag.
        can |= Can.SWAP | Can.CONDITIONAL_DELETE if found.swap and found.delete else Can(0)
        if self._access.cloud is GOOGLE and not has_token(self._access.clients().client):
            can &= ~Can.CONDITIONAL_DELETE
        return can

    def _need(self, flag: Can, call: str) -> None:
        why = why_unsigned(self._access.clients().client) if flag is Can.SIGN and not self._closed else None
        if why is not None:
            raise UnsupportedOperation(f"this BucketStore can't {call}: {why}")
        super()._need(flag, call)

    @property
    def _far(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        found = self._access.findings()
        return found.ordered and found.starts and self._names.are_in_order()

    @property
    def _in_loop(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return type(self) is BucketStore and self._access.settings.held is not None

    @property
    def _knows_can(self) -> bool:
        return self._found_can is not None and self._found_can[0].settled

    def _settings(self) -> dict[str, object]:
        if self._reopens is None:
            raise UnsupportedOperation(
                "a BucketStore over a client that was passed in can't be pickled; open it by its URI"
            )
        return self._reopens

    def __reduce__(self) -> tuple[object, ...]:
        settings = self._settings()
        held = settings["secret"]
        if isinstance(held, Password):
            reference = held.setting
            settings = {**settings, "secret": reference}
            if isinstance(reference, Password):
                # The process that unpickles it finds its own credentials.
                settings |= {"key": None, "secret": None}
        return _reopen, (type(self), settings)

    def _checked(self, key: object) -> str:
        key = super()._checked(key)
        if self._root and len((self._root + key).encode()) > MAX_KEY_BYTES:
            raise InvalidKeyError(
                f"with its prefix {self._root!r} it has more than {MAX_KEY_BYTES} UTF-8 bytes", key=key
            )
        return key

    def _info_of_put(self, key: str, size: int, meta: Any, attributes: Attributes) -> Info:
        """Return the info of what was written. The server says when only if it is asked, which waits until
        somebody wants to know."""
        tag, now = tag_of(meta), datetime.now(UTC)
        if not tag:
            # Ceph doesn't return the ETag of an upload in parts.
            return self._info(key)
        kind, metadata = attributes.content_type, attributes.metadata
        return Info(key, size, tag, partial(self._moment, key, tag, now), kind, None, metadata)

    def _moment(self, key: str, tag: str, now: datetime) -> datetime:
        try:
            meta = self._access.head(self._names.of(key))
        except StoreError:
            return now
        return meta["last_modified"] if tag_of(meta) == tag else now

    def _get(self, key: str) -> bytes | None:
        return self._reader.get(self._checked(key))

    def _begin_get(self, key: str) -> Awaitable[bytes | None] | None:
        return self._reader.begin_get(self._checked(key))

    def _has(self, key: str) -> bool:
        try:
            self._access.head(self._names.of(self._checked(key)))
        except BlobNotFoundError:
            return False
        return True

    def _info(self, key: str) -> Info:
        return self._reader.info(key)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        return self._reader.read(key, start, stop)

    def _read_spans(self, key: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[Info, bytes]]:
        return abreast(
            KeyCall(f"{low}", high - low, partial(self._reader.span, key, low, high)) for low, high in spans
        )

    def _put(self, key: str, data: bytes) -> Info:
        if len(data) > _SMALL:
            return super()._put(key, data)
        name = self._names.to_write(self._checked(key))
        meta = self._access.ask("write", "put", name, data, attributes=self._plain, use_multipart=False)
        return self._info_of_put(key, len(data), meta, PLAIN)

    def _begin_put(self, key: str, data: bytes, called: str) -> Awaitable[Info] | None:
        # On Azure another object may have to be written first.
        if len(data) > _SMALL or self._access.cloud is AZURE:
            return None
        return self._put_awaited(self._checked(key), data, called)

    async def _put_awaited(self, key: str, data: bytes, called: str) -> Info:
        access, name = self._access, self._names.of(key)
        with access.asking("write"):
            meta = await access.begin("put_async", name, data, attributes=self._plain, use_multipart=False)
        tag, now = tag_of(meta), datetime.now(UTC)
        return Info(called, len(data), tag, partial(self._moment, key, tag, now))

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        options = to_send(self._access.cloud, self._plain, attributes)
        name = self._names.to_write(key)
        piece = only_piece(body, _SMALL)
        whole, pieces = (bytes(piece), iter(())) if piece is not None else _begin_body(body)
        if whole is not None:
            return self._info_of_put(
                key, len(whole), self._put_whole(name, whole, expect, options), attributes
            )
        known = size_of(body)
        if expect is not ANY:
            meta, size = put_large_if(self._access, name, pieces, known, expect, options)
            return self._info_of_put(key, size, meta, attributes)
        meta, size = put_in_parts(self._access, name, pieces, known, options)
        return self._info_of_put(key, size, meta, attributes)

    def _put_whole(self, name: str, data: bytes, expect: Expect, options: dict[str, str]) -> Any:
        if expect is not ANY:
            return put_whole_if(self._access, name, data, expect, options)
        return self._access.ask("write", "put", name, data, attributes=options, use_multipart=False)

    def _delete(self, key: str, expect: Expect) -> bool:
        name = self._names.of(key)
        return self._deleter.delete(name) if expect is ANY else self._deleter.delete_if(name, str(expect))

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        for each in self._names.listed(prefix, after):
            if isinstance(each, LeftOut):
                yield each
            else:
                key, meta = each
                yield self._reader.listed(key, meta)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        return (each for each in self._survey(prefix, after) if isinstance(each, Info))

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        return (each[0] for each in self._names.listed(prefix, after) if not isinstance(each, LeftOut))

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for key, data in abreast(KeyCall(key, CHUNK, partial(self._get_one, key)) for key in keys):
            if data is not None:
                yield key, data

    def _get_one(self, key: str) -> tuple[str, bytes | None]:
        return key, self._get(key)

    def _put_many(self, items: Iterable[Put]) -> Iterator[Info]:
        return abreast(starmap(self._put_job, items))

    def _put_job(self, key: str, body: Body, attributes: Attributes) -> KeyCall[Info]:
        if not isinstance(body, tuple):
            # A stream may take long, and may use this store: the earlier ones come first.
            return KeyCall(key, 0, partial(self._write, key, body, ANY, attributes), alone=True)
        # The caller's buffer is good until the next item is asked for.
        body = tuple([bytes(piece) for piece in body])
        return KeyCall(key, sum(map(len, body)), partial(self._write, key, body, ANY, attributes))

    def _delete_many(self, keys: Iterable[str]) -> int:
        if not self._access.cloud.silent:
            return sum(abreast(KeyCall(key, 0, partial(self._delete, key, ANY)) for key in keys))
        keys, deleted = iter(keys), 0
        while batch := list(islice(keys, _BATCH)):
            # The answer to a bulk delete doesn't say what was there.
            there = abreast(KeyCall(key, 0, partial(self._has, key)) for key in batch)
            names = [self._names.of(key) for key, found in zip(batch, there, strict=True) if found]
            self._deleter.delete_all(names)
            deleted += len(names)
        return deleted

    def _clear(self) -> None:
        keys = self._keys("", "")
        while batch := list(islice(keys, _BATCH)):
            if self._access.cloud.silent:
                self._deleter.delete_all([self._names.of(key) for key in batch])
            else:
                self._delete_many(batch)

    def _copy(self, source: str, target: str, expect: Expect) -> Info:
        found = None if expect is not ANY else self._copy_inside(source, target)
        return super()._copy(source, target, expect) if found is None else found[1]

    def _move(self, source: str, target: str, expect: Expect) -> Info:
        if expect is not ANY or Can.CONDITIONAL_DELETE not in self.can:
            return super()._move(source, target, expect)
        while found := self._copy_inside(source, target):
            tag, moved = found
            try:
                self._deleter.delete_if(self._names.of(source), tag)
                return moved
            except ConcurrencyError as error:
                # It changed since it was looked at: move the newer bytes, over those just written.
                if error.actual is None:
                    return moved
        return super()._move(source, target, expect)

    def _copy_inside(self, source: str, target: str) -> tuple[str, Info] | None:
        """Copy a blob inside the cloud; return the ETag of the source and the info of the copy. None if it
        must pass through this process.

        The answer to a copy says nothing of it, and what a HEAD finds may be another writer's by then. It is
        the copy if its ETag, which is made of the bytes, is that of the source. On Azure it never is, nor
        where the source was uploaded in parts.
        """
        if not self._copies_inside():
            return None
        meta = self._access.head(self._names.of(source))
        if "-" in meta["e_tag"]:
            return None
        self._access.ask("copy", "copy", self._names.of(source), self._names.to_write(target))
        try:
            found, attributes = self._access.described(self._names.of(target))
        except BlobNotFoundError:
            return None
        if found["e_tag"] != meta["e_tag"]:
            return None
        return tag_of(meta), self._reader.info_of(target, found, attributes)

    def _copies_inside(self) -> bool:
        """Return whether the cloud itself may copy. Its copies are of the bucket's own storage class, since
        obstore names no other."""
        return self._access.cloud is not AZURE and "Storage-Class" not in self._plain

    def _sign(self, key: str, method: str, seconds: float) -> str:
        if method not in _METHODS:
            raise InvalidArgumentError(f"a method must be one of {', '.join(_METHODS)}, not {method!r}")
        longest = self._access.cloud.longest
        if longest is not None and seconds > longest:
            raise InvalidArgumentError(
                f"on {self._access.cloud.name} a signed URL is valid for at most {longest:,} seconds"
            )
        verb: Any = method
        name = self._names.to_write(key) if method == "PUT" else self._names.of(key)
        return self._access.sign(verb, name, timedelta(seconds=max(1, round(seconds))))


def _reopen(kind: type[BucketStore], settings: dict[str, Any]) -> BucketStore:
    return kind(**settings)


def _begin_body(body: Body) -> tuple[bytes | None, Iterator[Piece]]:
    """Return a body as one if it is small; otherwise None and its pieces."""
    pieces, held = iter(body), io.BytesIO()
    for piece in pieces:
        held.write(piece)
        if held.tell() > _SMALL:
            first = iter([held.getvalue()])
            held.close()
            return None, chain(first, pieces)
    return held.getvalue(), iter(())
