"""One bucket, asked: its clients, the errors of the contract, and what its server does."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Iterator
from contextlib import AbstractContextManager
from time import monotonic, perf_counter
from typing import Any, Literal

from holdall.blob import Piece
from holdall.errors import BlobNotFoundError, ConcurrencyError, StoreError
from holdall.ranges import CHUNK
from holdall.stopping import away
from holdall.stores.bucket.calls import call, get, iterate, read, upload
from holdall.stores.bucket.client import Clients, Settings
from holdall.stores.bucket.clouds import GOOGLE, Cloud, tag_of
from holdall.stores.bucket.deleting import delete_any
from holdall.stores.bucket.driver import driver
from holdall.stores.bucket.endpoints import is_loopback
from holdall.stores.bucket.errors import translate
from holdall.stores.bucket.listing import listed
from holdall.stores.bucket.probe import Findings, find_out, known
from holdall.stores.bucket.signing import signed_url
from holdall.stores.bucket.waking import begin

AGAIN = 60.0
"""Seconds until a server that took no put is asked again."""
_QUICK = 4 * CHUNK
"""What is copied in a moment."""
_NEAR = 0.002
"""Seconds: with a window of some MiB, a connection brings a GiB in the second from where an answer is back
sooner. The clouds' own answers take longer."""


class _Translated(AbstractContextManager[None]):
    """A block whose errors of obstore become those of the contract."""

    __slots__ = "_access", "_what"

    def __init__(self, access: Access, what: str) -> None:
        self._access, self._what = access, what

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, StoreError) or not isinstance(error, Exception):
            return
        if isinstance(error, FileNotFoundError | ValueError | driver().exceptions.BaseError):
            raise translate(error, self._what, self._access.clients().place) from error


class _Asking(_Translated):
    """Such a block that asks the server for an object, or puts one."""

    __slots__ = ("_begun",)

    def __enter__(self) -> None:
        self._begun = perf_counter()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._access.note_answer(perf_counter() - self._begun)
        else:
            super().__exit__(kind, error, trace)


class Access:
    """The requests of a store."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._findings: Findings | None = None
        self._again = 0.0
        """When findings that aren't settled are too old, on the monotonic clock."""
        self._has_looked = False
        """Whether it was looked up if the findings are known without a request."""
        self._bucket_exists = False
        self._soonest = math.inf
        """Seconds until the soonest answer."""
        self._listed_by_us: set[str] = set()

    @property
    def cloud(self) -> Cloud:
        return self.settings.cloud

    def clients(self) -> Clients:
        return self.settings.clients()

    def takes_ranges(self) -> bool:
        """Return whether the server is known to answer a part with just this part, without asking it."""
        if not self._has_looked:
            self._has_looked = True
            self._findings = self._findings or known(self.clients().once)
        return self._findings is not None and self._findings.range

    def findings(self) -> Findings:
        """Return what the server does with conditions; see `find_out`."""
        if self._findings is None or not (self._findings.settled or monotonic() < self._again):
            with self.errors("try conditions"):
                self._findings = find_out(self.clients().once)
            self._again = monotonic() + AGAIN
        return self._findings

    def errors(self, what: str) -> AbstractContextManager[None]:
        """Translate the errors of obstore."""
        return _Translated(self, what)

    def asking(self, what: str) -> AbstractContextManager[None]:
        """Translate the errors of requests for an object; if there is none, the bucket exists."""
        return _Asking(self, what)

    def note_answer(self, seconds: float) -> None:
        """Note that the server answered a request for an object, or a put, after some seconds."""
        self._bucket_exists = True
        if seconds < self._soonest:
            self._soonest = seconds

    def is_near(self) -> bool:
        """Return whether the server is so near that one connection to it fills the line: it is on this
        machine, or has answered as soon."""
        # The first answer of a client includes what is made for it.
        return (0 if is_loopback(self.clients().place.host) else self._soonest) < _NEAR

    def ask(
        self, what: str, function: str, *arguments: Any, by: str = "client", size: int = 0, **options: Any
    ) -> Any:
        """Call a function of obstore by one of the clients. `size` is that of what is sent, where it is
        large."""
        clients = self.clients()
        own = clients.sending(by, size) if size else getattr(clients, by)
        with self.asking(what):
            return call(function, own, *arguments, **options)

    def begin(self, function: str, *arguments: Any, **options: Any) -> Awaitable[Any]:
        """Call a coroutine function of obstore in the event loop that runs, in a block of `asking`."""
        return begin(getattr(driver(), function), self.clients().client, *arguments, **options)

    def delete(self, name: str) -> None:
        """Delete an object by one request, which isn't repeated.

        Raises:
            BlobNotFoundError: There was none, and the server says so.
        """
        with self.errors("delete"):
            delete_any(self.clients().once, name)

    def upload(
        self, name: str, pieces: Iterator[Piece], size: int, at_once: int, attributes: dict[str, str]
    ) -> Any:
        """Put an object in parts of a size, some at once."""
        clients = self.clients()
        own = clients.sending("client", size * at_once)
        failed: list[Exception] = []

        def drawn() -> Iterator[Piece]:
            try:
                yield from pieces
            except Exception as error:
                failed.append(error)
                raise

        try:
            options: Any = {"attributes": attributes, "max_concurrency": at_once}
            return away(lambda: upload(own, name, drawn(), size, **options))
        except Exception as error:
            if failed:
                raise failed.pop() from None
            if not isinstance(error, FileNotFoundError | ValueError | driver().exceptions.BaseError):
                raise
            raise translate(error, "write", clients.place) from error

    def get(self, name: str, most: int) -> tuple[Any, bytes | None]:
        """Get an object, and its bytes if it has at most `most`; otherwise None for them.

        Raises:
            BlobNotFoundError: There is none.
        """
        with self.asking("read"):
            found, held = get(self.clients().client, name, most)
        return found, None if held is None else _copy_bytes(held)

    def whole(self, found: Any) -> bytes:
        """Return the bytes of an answer."""
        return _copy_bytes(self.held(found))

    def held(self, found: Any) -> memoryview:
        """Return the bytes of an answer in the memory of obstore."""
        with self.errors("read"):
            return memoryview(read(found))

    def stream(self, found: Any, size: int) -> Iterator[Piece]:
        """Yield the bytes of an answer in pieces of some size."""
        with self.errors("read"):
            for piece in iterate(found.stream(min_chunk_size=size)):
                yield memoryview(piece)

    def head(self, name: str) -> Any:
        """Return what is known of an object.

        Raises:
            BlobNotFoundError: There is none.
        """
        try:
            return self.ask("read", "head", name)
        except BlobNotFoundError:
            self.check_bucket(name)
            raise

    def condition(self, name: str, tag: str) -> str:
        """Return what a request compares, so that it changes only the version of an ETag: the ETag as the
        server takes it; on Google the generation, which isn't listed, and so must be asked for.

        Raises:
            ConcurrencyError: It is another version by now, or there is none.
        """
        if self.cloud is not GOOGLE:
            return f'"{tag}"' if self.findings().quoted else tag
        try:
            found = self.head(name)
        except BlobNotFoundError:
            raise ConcurrencyError(expected=tag) from None
        if tag_of(found) != tag:
            raise ConcurrencyError(expected=tag, actual=tag_of(found))
        return str(found["version"])

    def described(self, name: str) -> tuple[Any, dict[str, str]]:
        """Return what is known of an object, and its attributes.

        Raises:
            BlobNotFoundError: There is none.
        """
        try:
            found = self.ask("read", "get", name, options={"head": True})
        except BlobNotFoundError:
            self.check_bucket(name)
            raise
        return found.meta, found.attributes

    def check_bucket(self, name: str) -> None:
        """Check that there is the bucket, once: the answer to a HEAD without an object doesn't say it."""
        if self._bucket_exists:
            return
        try:
            self.ask("read", "get", name)
        except BlobNotFoundError:
            self._bucket_exists = True

    def list(self, prefix: str, after: str) -> Iterator[dict[str, Any]]:
        with self.errors("list"):
            ordered = self.findings().ordered
            yield from listed(self.clients().client, prefix, after, ordered, self._listed_by_us)

    def sign(self, method: Literal["GET", "PUT", "HEAD", "DELETE"], name: str, valid: Any) -> str:
        with self.errors("sign"):
            return signed_url(self.clients().client, method, name, valid)


def _copy_bytes(held: Any) -> bytes:
    return bytes(held) if len(held) <= _QUICK else away(lambda: bytes(held))
