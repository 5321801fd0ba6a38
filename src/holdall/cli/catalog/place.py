"""The catalogue that a command line names: from its options to an open `BlobStore`, which must be there."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from holdall.cli import stores
from holdall.cli.completion import offered, typed_start
from holdall.cli.errors import UsageFault
from holdall.cli.parameters import Parameter
from holdall.errors import BlobNotFoundError, StoreUnavailableError

if TYPE_CHECKING:
    from holdall.catalog import BlobStore, Entry

_FILES: Final = {"json": "cache_metadata.json", "sqlite": "cache_metadata.db"}
NO_ENTRY: Final = "it isn't in the catalogue"
_SERVERS: Final = ("postgresql://", "postgres://")

CatalogOption = Annotated[
    str | None,
    Parameter(
        "--catalog",
        "-C",
        metavar="FOLDER",
        help="The folder of the catalogue. Without it, HOLDALL_CATALOG.",
    ),
]


class Place(NamedTuple):
    """Which catalogue; all commands take these options."""

    catalog: CatalogOption = None
    backend: Annotated[
        str | None,
        Parameter(
            "--backend",
            metavar="KIND",
            help="Where the metadata is: json, sqlite, or postgresql://... Without it, "
            "HOLDALL_CATALOG_BACKEND, or what the folder has.",
        ),
    ] = None
    blobs: Annotated[
        str | None,
        Parameter(
            "--blobs",
            metavar="URI",
            help="The store of the bytes, where Python was given one: a URI, a path, or a configured name. "
            "Without it, HOLDALL_CATALOG_BLOBS, or the folder.",
        ),
    ] = None


Create = Annotated[bool, Parameter("--create", help="Make the catalogue if there is none.")]


def open_catalog(place: Place, *, create: bool = False, **options: Any) -> AbstractContextManager[BlobStore]:
    """Open the catalogue that the options or the environment name, and always close it.

    To Python a folder without a catalogue is an empty one. Here its name was mistyped.

    Args:
        create: Whether a catalogue that isn't there is made, by the first put.
        options: Of `BlobStore`.

    Raises:
        StoreUnavailableError: There is none, and it isn't to be made.
    """
    return open_at(named_place(place), create=create, **options)


def named_place(place: Place) -> Place:
    """Return which catalogue is meant: what the options leave out, the environment says."""
    usual = [os.environ.get(f"HOLDALL_CATALOG{name}") or None for name in ("", "_BACKEND", "_BLOBS")]
    # An empty name, as of a variable that isn't set, must not mean another catalogue.
    return Place(*(given if given is not None else other for given, other in zip(place, usual, strict=True)))


@contextmanager
def open_at(
    place: Place, *, create: bool = False, beside: bool = False, **options: Any
) -> Generator[BlobStore]:
    """As `open_catalog`, whatever the environment says.

    Args:
        beside: Whether it may be made in a folder that has another kind of catalogue.
    """
    from holdall.catalog import BlobStore

    backend = place.backend
    is_server = backend is not None and backend.startswith(_SERVERS)
    if not is_server:
        backend = _kind_in(_folder_of(place.catalog), backend, create, beside)
    elif place.blobs is None:
        _folder_of(place.catalog)
    if place.blobs == "":
        raise UsageFault("--blobs needs a store: a URI, a path, or a configured name")
    with ExitStack() as stack:
        blobs = None if place.blobs is None else stack.enter_context(stores.open_at(place.blobs))
        store = BlobStore(place.catalog or ".blobstore", backend, blob_backend=blobs, **options)
        with stores.closed_at_end(store):
            if is_server and not create:
                _check_there(store)
            yield store


def _folder_of(name: str | None) -> str:
    if not name:
        raise UsageFault(
            "no catalogue was named: give --catalog FOLDER (such as ./models), or set HOLDALL_CATALOG"
        )
    if "://" in name:
        raise UsageFault(
            f"--catalog takes a folder, not {name!r}: name a database by --backend, and a store for the "
            "bytes by --blobs"
        )
    name = os.path.expanduser(name)
    if os.path.basename(name) in _FILES.values() and not os.path.isdir(name):
        raise UsageFault(f"--catalog takes the folder of {name!r}: {os.path.dirname(name) or '.'}")
    return name


def _kind_in(folder: str, wanted: str | None, create: bool, beside: bool) -> str:
    """Return which kind of catalogue a folder has: that of its file."""
    if wanted is not None and wanted not in _FILES:
        raise UsageFault(f"--backend takes json, sqlite, or postgresql://host/database, not {wanted!r}")
    found = [kind for kind, name in _FILES.items() if os.path.lexists(os.path.join(folder, name))]
    if wanted in found:
        return wanted
    if wanted is None and len(found) == 1:
        return found[0]
    if wanted is None and found:
        raise UsageFault(
            f"{folder!r} has a catalogue in {_FILES['json']} and one in {_FILES['sqlite']}: give --backend "
            "json or --backend sqlite, and delete the file of the one that isn't used any more"
        )
    if found and not beside:
        raise UsageFault(f"{folder!r} has a catalogue in {_FILES[found[0]]}: leave --backend {wanted} out")
    if not create:
        if os.path.isdir(folder):
            raise StoreUnavailableError(
                f"the folder {folder!r} has no catalogue: no file {' and no '.join(_FILES.values())}"
            )
        raise StoreUnavailableError(
            f"there is no folder {folder!r}, where the catalogue would be: check the spelling, and whether "
            "its disk is mounted"
        )
    return wanted or "json"


def _check_there(store: BlobStore) -> None:
    """Raise StoreUnavailableError if a database has no catalogue: another one was meant."""
    from holdall.catalog.postgresql import PostgresqlBackend

    backend = store._backend
    if isinstance(backend, PostgresqlBackend) and not backend.exists():
        raise StoreUnavailableError(f"there is no catalogue in {backend!r}: check the name of the database")


def find_entry(store: BlobStore, text: str) -> Entry:
    """Return the entry that a command line names: KEY, or KEY@VERSION where no key is all of it.

    Raises:
        BlobNotFoundError: There is none.
    """
    found = store.entry(text)
    if found is not None:
        return found
    key, _, number = text.rpartition("@")
    if key and number.isascii() and number.isdecimal() and int(number):
        found = store.entry(key, version=int(number))
        if found is not None:
            return found
        raise BlobNotFoundError(f"it has no version {int(number)}", key=key)
    aliased = store.resolve(text)
    if aliased is not None:
        raise BlobNotFoundError(f"this is an alias of {aliased.key}@{aliased.version}, not a key", key=text)
    raise BlobNotFoundError(NO_ENTRY, key=text)


def complete_entry(ctx: Any, incomplete: str) -> list[str]:
    """Return the first keys that start with what was typed, or none if anything is wrong.

    Typer passes its context by the name `ctx`.
    """
    try:
        place = Place(*(ctx.params.get(name) for name in Place._fields))
        with open_catalog(place) as store:
            return offered(store.list(typed_start(incomplete)))
    except Exception:  # noqa: BLE001 - a traceback would be printed in the middle of the user's line
        return []
