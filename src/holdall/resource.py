"""One value by one URI: the store and the key in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Final, Self

from holdall.errors import InvalidArgumentError, InvalidTypeError
from holdall.keys import check_key
from holdall.opening import get_store
from holdall.paths import checked_path
from holdall.settings import expand
from holdall.store import ANY, Expect, Info
from holdall.uri import _decode, _is_of_fsspec, reference
from holdall.values.mapping import MISSING
from holdall.values.store import ValueStore

__all__ = ["Resource"]

BUCKETS: Final = ("s3", "gs", "gcs", "az", "abfs", "r2")
_FOLDERS: Final = ("file", "http", "https")
_uri = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^?#]*)(\?[^#]*)?(?:#(.*))?", re.DOTALL).fullmatch


class Resource:
    """One URI, with its store opened and its key bound.

    How a URI is split depends on its scheme:

    | URI | store | key |
    | --- | --- | --- |
    | `data/a/b.txt`, a `Path`, `file:///data/a/b.txt` | the folder `data/a` | `b.txt` |
    | `s3://bucket/a/b.txt`, and `gs`, `gcs`, `az`, `abfs`, `r2` | the bucket | `a/b.txt` |
    | `https://host/a/b.txt`, `http` | `https://host/a/` | `b.txt` |
    | `sftp://host/a/b.txt`, and other schemes of fsspec | `sftp://host/a` | `b.txt` |
    | `models:a/b.txt`, a store of `holdall.toml` | `models:` | `a/b.txt` |
    | `sqlite:///x.db#a/b.txt`, and all other schemes | what is before `#` | `a/b.txt` |

    Options are in the query, as in `Store.from_uri`: `s3://bucket/a.txt?region=eu-west-1`, or
    `sqlite:///x.db?durable=1#a.txt`. The key is percent-decoded, except that of a path.

    Args:
        uri: Where the value is.
        serialization_mode: As in `get_store`.
        options: As in `get_store`.

    Raises:
        InvalidArgumentError: The URI names no key; the message says how to write it.
        InvalidKeyError: What it names can't be a key.

    >>> note = Resource("memory://pad#notes/today")
    >>> note.put("all is well").size, note.get(), note.exists(), note.delete()
    (11, 'all is well', True, True)
    """

    def __init__(
        self, uri: str | os.PathLike[str], *, serialization_mode: str | None = None, **options: Any
    ) -> None:
        place, self._key = split_uri(uri)
        # Variables are filled in already; and of a Path the folder is one too, never the name of a store.
        where = place.replace("${", "$${") if isinstance(uri, str) else Path(place)
        self._store = get_store(where, serialization_mode=serialization_mode, **options)

    @property
    def store(self) -> ValueStore:
        """The store of the value."""
        return self._store

    @property
    def key(self) -> str:
        """The key of the value in the store."""
        return self._key

    def __repr__(self) -> str:
        # A debugger shows one whose constructor failed.
        if not hasattr(self, "_store"):
            return "Resource(...)"
        return f"<Resource {self._key!r} in {self._store.store!r}>"

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, default: Any = MISSING, **options: Any) -> Any:
        """Return the value; see `ValueStore.get`."""
        return self._store.get(self._key, default, **options)

    def put(self, value: Any, **options: Any) -> Info:
        """Store a value; see `ValueStore.put`."""
        return self._store.put(self._key, value, **options)

    def pop(self, default: Any = MISSING, **options: Any) -> Any:
        """Delete the value and return it; see `ValueStore.pop`."""
        return self._store.pop(self._key, default, **options)

    def delete(self, **options: Any) -> bool:
        """Delete the value; return True if it was there."""
        return self._store.delete(self._key, **options)

    def exists(self) -> bool:
        """Return whether there is a value."""
        return self._store.exists(self._key)

    def info(self) -> Info:
        """Return what is known of the blob without reading it."""
        return self._store.info(self._key)

    def checksum(self, algorithm: str = "sha256") -> str:
        """Return the digest of the bytes in hexadecimal; see `Store.checksum`."""
        return self._store.checksum(self._key, algorithm)

    def touch(self, **options: Any) -> Info:
        """Renew the time at which the blob was written; see `Store.touch`."""
        return self._store.touch(self._key, **options)

    def local(self, *, write: bool = False, expect: Expect = ANY) -> AbstractContextManager[Path]:
        """Return a context manager that gives the blob as a real file; see `Store.local`."""
        return self._store.local(self._key, write=write, expect=expect)

    def stream(self, **options: Any) -> Iterator[Any]:
        """Yield the blob line by line; see `ValueStore.stream`."""
        return self._store.stream(self._key, **options)

    def open(self, mode: str = "rb", **options: Any) -> IO[Any]:
        """Open the bytes of the value as a file; see `Store.open`."""
        return self._store.open(self._key, mode, **options)


def split_uri(uri: str | os.PathLike[str]) -> tuple[str, str]:
    """Split a URI into that of a store, whose variables are filled in, and a key; see `Resource`.

    Raises:
        InvalidArgumentError: It names no key.

    >>> split_uri("s3://bucket/a/b.txt?region=eu-west-1"), split_uri("data/a/b.txt")
    (('s3://bucket?region=eu-west-1', 'a/b.txt'), ('data/a', 'b.txt'))
    """
    if not isinstance(uri, str):
        if isinstance(uri, bytes) or not hasattr(uri, "__fspath__"):
            raise InvalidTypeError(f"a URI is a str, and a path a str or a Path; got {type(uri).__name__}")
        return _split_path(checked_path(uri))
    uri = expand(uri)
    named = reference(uri)
    if named is not None:
        query = "" if named.query is None else f"?{named.query}"
        return _check_place(f"{named.name}:{query}", named.folder, f"{named.name}:KEY")
    match = _uri(uri)
    if match is None:
        return _split_path(uri)
    scheme, location, query, key = match[1].lower(), match[2], match[3] or "", match[4]
    what = f"{scheme}://"
    if scheme in BUCKETS or scheme in _FOLDERS or _is_of_fsspec(scheme):
        # A '#' belongs to the name there.
        whole, mark, query = uri[len(what) :].partition("?")
        if scheme in BUCKETS:
            place, _, key = whole.partition("/")
            usage = f"{what}BUCKET/KEY"
        else:
            place, slash, key = whole.rpartition("/")
            place += slash if not place.strip("/") or scheme in ("http", "https") else ""
            place = place or "." if scheme == "file" else place
            usage = f"{what}.../FOLDER/NAME"
            if scheme in ("http", "https") and not place.strip("/"):
                key = ""
        return _check_place(f"{what}{place}{mark}{query}", _decode(key, what), usage)
    usage = f"{what}...#KEY"
    if key is not None and "?" in key:
        raise InvalidArgumentError(
            f"the options of a URI come before the '#' of its key: write {what}...?OPTION=VALUE#KEY, or %3F "
            "for a '?' in the key"
        )
    return _check_place(f"{what}{location}{query}", _decode(key or "", what), usage)


def _split_path(path: str) -> tuple[str, str]:
    folder, key = os.path.split(path)
    return _check_place(folder or ".", key, "FOLDER/NAME")


def _check_place(place: str, key: str, usage: str) -> tuple[str, str]:
    if not key or key.endswith("/") or key in (".", ".."):
        # Not the URI, which may hold a password.
        raise InvalidArgumentError(f"this URI names a store, or a folder of it, and no key: write {usage}")
    return place, check_key(key)
