"""What an exported zip file says of its entries, which is checked before anything of it is written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Final
from zipfile import ZipFile

from holdall.catalog.metadata import check_entry_key, check_object, check_text
from holdall.catalog.row import Alias, Blob, Row
from holdall.errors import (
    IntegrityError,
    InvalidArgumentError,
    InvalidTypeError,
    StoreError,
    StoreUnavailableError,
)
from holdall.paths import replacing

_NAME: Final = "catalog.json"
_FORMAT: Final = 1
_TITLE: Final = "holdall catalog export"
_MOST: Final = 1 << 62
_LAST: Final = 253_402_300_799_999_999
"""The end of the year 9999, in microseconds since the epoch."""
_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch
_is_extension = re.compile(r"(\.[A-Za-z0-9]{1,20}){0,3}").fullmatch


@dataclass(frozen=True, slots=True)
class Exported:
    """One version of an entry, its blob, and the name of the file with the bytes."""

    row: Row
    blob: Blob
    file: str


@contextmanager
def exported_to(path: str | os.PathLike[str]) -> Generator[BinaryIO]:
    """Open a file for an export, which comes to its path whole, or not at all."""
    try:
        with replacing(os.fspath(path)) as file:
            yield file
    except StoreError:
        raise  # some are an OSError too
    except OSError as error:
        raise StoreUnavailableError(
            f"the export can't be written to {os.fspath(path)!r}: {error.strerror or error}"
        ) from error


def entry_to_dict(row: Row, blob: Blob, file: str) -> dict[str, Any]:
    """Return one version as the manifest has it."""
    said = asdict(row)
    del said["blob"], said["sequence"]
    return {**said, "file": file, "crc": blob.crc, "extension": blob.extension}


def write_manifest(archive: ZipFile, entries: list[dict[str, Any]], aliases: Iterable[Alias]) -> None:
    """Write the manifest of a zip file."""
    keys = {each["key"] for each in entries}
    manifest = {
        "holdall": _TITLE,
        "format": _FORMAT,
        "aliases": {each.name: [each.key, each.version] for each in aliases if each.key in keys},
        "entries": entries,
    }
    archive.writestr(_NAME, json.dumps(manifest, indent=1, ensure_ascii=False))


def read_manifest(archive: ZipFile) -> tuple[list[Exported], list[Alias]]:
    """Return the versions and the aliases of a zip file.

    Raises:
        IntegrityError: It isn't an export, a newer version wrote it, or something in it isn't valid.
    """
    try:
        said: Any = json.loads(archive.read(_NAME))
        if said["holdall"] != _TITLE:
            raise ValueError(said["holdall"])
        if _check_integer(said["format"], "format", 1, _MOST) > _FORMAT:
            raise IntegrityError(
                f"this export has the format {said['format']}, and this version of holdall reads up to "
                f"{_FORMAT}; install a newer one"
            )
        entries = [_entry(each) for each in said["entries"]]
        versions = {(each.row.key, each.row.version) for each in entries}
        if len(versions) != len(entries):
            raise InvalidArgumentError("a version comes twice")
        for each in entries:
            archive.getinfo(each.file)
        aliases = [
            Alias(check_entry_key(name), key, version, 0) for name, (key, version) in said["aliases"].items()
        ]
        for alias in aliases:
            if (alias.key, alias.version) not in versions:
                raise InvalidArgumentError(f"the alias {alias.name!r} points at what isn't in it")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"{archive.filename!r} isn't an export of a catalogue, or it was changed: {error!r}"
        ) from error
    return entries, aliases


def _entry(said: Any) -> Exported:
    digest, extension = said["digest"], said["extension"]
    if not isinstance(digest, str) or not _is_digest(digest):
        raise InvalidArgumentError(f"{digest!r:.80} isn't a digest")
    if not isinstance(extension, str) or not _is_extension(extension):
        raise InvalidArgumentError(f"{extension!r:.80} isn't the end of a name")
    kind, form, codec, library = (
        _check_str(said[each], each) for each in ("type", "format", "codec", "library")
    )
    size, crc = (
        _check_integer(said["size"], "size", 0, _MOST),
        _check_integer(said["crc"], "crc", 0, 0xFFFFFFFF),
    )
    created, updated = (_check_integer(said[each], each, 0, _LAST) for each in ("created", "updated"))
    inputs = tuple(
        (check_entry_key(key), _check_integer(version, "version", 1, _MOST), _check_str(digest, "digest"))
        for key, version, digest in said["inputs"]
    )
    key, version = check_entry_key(said["key"]), _check_integer(said["version"], "version", 1, _MOST)
    if said["metadata"] is None:
        raise InvalidTypeError("metadata must be an object")
    metadata = check_object(said["metadata"])
    row = Row(
        key, version, 0, 0, digest, size, kind, form, codec, library, created, updated, metadata, inputs
    )  # fmt: skip
    blob = Blob(0, digest, size, crc, extension, kind, form, codec, library)
    return Exported(row, blob, _check_str(said["file"], "file"))


def _check_integer(value: Any, name: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InvalidArgumentError(f"{name} is {value!r:.40}")
    return value


def _check_str(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidTypeError(f"{name} must be a str, not {value!r:.40}")
    check_text(value, name, InvalidArgumentError)
    return value
