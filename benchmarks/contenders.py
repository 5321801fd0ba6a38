"""What is compared: one uniform face over a store of holdall, the bare calls, or a peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

MIB = 1 << 20

FILES, SQLITE, MEMORY, ZIP = "files", "sqlite", "memory", "zip"
MEDIA = (MEMORY, FILES, SQLITE, ZIP)
LAYERS, SYNC, GIT, VALKEY, DICTS = "layers", "sync", "git", "valkey", "dicts"
BUCKET, SQL, HTTP, CATALOG, DOOR, FACES = "bucket", "sql", "http", "catalog", "door", "faces"
IMPORT = "import"
PARTS = (*MEDIA, LAYERS, SYNC, GIT, VALKEY, DICTS, BUCKET, SQL, HTTP, CATALOG, DOOR, FACES, IMPORT)
"""What a run may be limited to."""

HOLDALL, BARE, PEER = "holdall", "bare", "peer"

Call = Callable[..., Any]


class Absent(Exception):
    """This contender has no such call; the text says why."""


class Contender:
    """One store of one library in one folder.

    A call that it has is an attribute set by `__init__`; one that it hasn't stays None, and `lacks` says why.
    """

    name: ClassVar[str]
    medium: ClassVar[str]
    kind: ClassVar[str] = PEER
    promise: ClassVar[str] = ""
    """`W` whole or not at all, `L` live: sees what others write, `S` compare-and-swap."""
    note: ClassVar[str] = ""
    limit: ClassVar[int] = 1 << 30
    """The most keys that its calls are timed with, where more would take all day; with fewer than a thousand
    it isn't filled for a listing."""
    nested: ClassVar[bool] = True
    """Whether a key may have folders."""
    plain: ClassVar[bool] = False
    """Whether a folder of plain files is a store of this one, so that it lists what others filled."""
    whole: ClassVar[bool] = False
    """Whether a stream is held whole in memory."""

    put: Call | None = None
    get: Call | None = None
    miss: Call | None = None
    exists: Call | None = None
    info: Call | None = None
    overwrite: Call | None = None
    delete: Call | None = None
    put_many: Call | None = None
    get_many: Call | None = None
    keys: Callable[[str], Iterable[object]] | None = None
    write: Callable[[str, Iterator[bytes]], object] | None = None
    read: Callable[[str], Iterable[Any]] | None = None

    lacks: ClassVar[dict[str, str]] = {}

    def __init__(self, folder: str) -> None:
        raise NotImplementedError

    def call(self, name: str) -> Call:
        found = getattr(self, name)
        if found is None and name == "overwrite":
            found = self.put if "overwrite" not in self.lacks else None
        if found is None:
            raise Absent(self.lacks.get(name, "no such call"))
        return found

    def close(self) -> None:
        """Free what it holds."""


@dataclass
class Field:
    """The contenders of one run."""

    classes: list[type[Contender]]
    missing: dict[str, str]
    """The peers that could not be imported, and why."""

    def of(self, medium: str) -> list[type[Contender]]:
        return [contender for contender in self.classes if contender.medium == medium]


def every(peers: bool = True) -> Field:
    """All contenders that can be imported: holdall's first, then the bare calls, then the peers."""
    from benchmarks import bare, ours

    classes = [*ours.CONTENDERS, *bare.CONTENDERS]
    missing: dict[str, str] = {}
    try:
        classes += import_module("benchmarks.buckets").CONTENDERS
    except ImportError as error:
        missing["obstore"] = f"{type(error).__name__}: {error}"
    for name in ("obstore", "opendal", "diskcache", "zict", "fsspec", "minimalkv", "anystore", "buckets"):
        if not peers:
            continue
        try:
            module = import_module(f"benchmarks.peers.{name}_peer")
        except Exception as error:  # noqa: BLE001 - whatever a peer does at import is its own reason
            missing[name] = f"{type(error).__name__}: {error}"
        else:
            classes += module.CONTENDERS
    return Field(classes, missing)


def find(where: str, name: str) -> type[Contender]:
    """The class of this name in one module, whose libraries alone are imported."""
    return getattr(import_module(where), name)


def absent(errors: type[BaseException] | tuple[type[BaseException], ...], get: Call) -> Call:
    """A get that answers None where the library raises."""

    def miss(key: str) -> object:
        try:
            return get(key)
        except errors:
            return None

    return miss


class Pieces:
    """A binary file that gives an iterator's pieces, for libraries that stream from files only."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            rest, self._rest = self._rest + b"".join(self._pieces), b""
            return rest
        while len(self._rest) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def file_chunks(file: Any) -> Iterator[bytes]:
    with file:
        while piece := file.read(MIB):
            yield piece
