"""The command that copies one blob, file or stream to another, wherever both are: io."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Annotated, NamedTuple

from holdall.blob import PLAIN, attributes_of
from holdall.cli.errors import UsageFault
from holdall.cli.options import Force
from holdall.cli.output import Output
from holdall.cli.parameters import Parameter
from holdall.cli.places import read_from
from holdall.cli.progress import Meter
from holdall.cli.reading import is_standard_output, write_file
from holdall.cli.stores import is_store, open_at, spoken
from holdall.cli.writing import chunks_of, input_of, size_of
from holdall.errors import naming
from holdall.pieces import pieces_of
from holdall.store import ANY, Can, Info, mode_of

_has_one_slash = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/(?!/)").match


class _Source(NamedTuple):
    chunks: Callable[[], Iterator[bytes]]
    size: int | None
    info: Info | None
    """Of a blob."""


def io(
    source: Annotated[
        str,
        Parameter("--source", "-i", metavar="FILE", help="What is read: a file, the URI of a blob, or - ."),
    ] = "-",
    target: Annotated[
        str,
        Parameter("--output", "-o", metavar="FILE", help="What is written, likewise."),
    ] = "-",
    force: Force = False,
) -> None:
    """Copy one blob, file or stream to another, between any two stores.

    The URI of a blob is that of its store with the key behind it: s3://bucket/KEY, https://host/KEY, NAME:KEY
    for a store of holdall.toml, and sqlite:///data.db#KEY for the others. Anything else is a file, and - is
    standard input or output. The target is written whole or not at all. A blob keeps its content type, its
    metadata, and the time at which it expires, where both stores can.

    Examples:
      holdall io -i ./data.csv -o s3://my_bucket/data.csv
      holdall io -i https://example.org/files/a.pdf -o sqlite:///docs.db#a.pdf
      mysqldump shop | holdall io -o backup:shop.sql
    """
    if not (source and target):
        raise UsageFault("--source and --output are a file, a URI or -, but one of those given is empty")
    if source == target:
        raise UsageFault("nothing to do: give -i or -o, or two that differ")
    with ExitStack() as stack:
        read = _open_source(source, stack)
        if _is_blob(target):
            _put(read, target, stack)
        elif is_standard_output(target):
            Output().write_chunks(read.chunks(), spoken(source), force)
        else:
            most = None if read.info is None else mode_of(read.info)
            write_file(target, f"io {target}", read.size, most, read.chunks)


def _is_blob(text: str) -> bool:
    """Return whether this is the URI of a blob; otherwise it is a file."""
    if _has_one_slash(text) and not os.path.isdir(os.path.dirname(text)):
        raise UsageFault(f"{text!r} has one slash behind its colon: a URI has two, and a file is './{text}'")
    return "://" in text or (is_store(text) and not text.startswith(("/", ".")))


def _open_source(text: str, stack: ExitStack) -> _Source:
    if not _is_blob(text):
        file = stack.enter_context(input_of(text, asked=True, name="--source"))
        return _Source(partial(chunks_of, file), size_of(file), None)
    from holdall.resource import split_uri

    place, key = split_uri(text)
    store = stack.enter_context(read_from(place))
    info = store.info(key)
    return _Source(partial(store.chunks, key), info.size, info)


def _put(read: _Source, text: str, stack: ExitStack) -> None:
    from holdall.resource import split_uri

    place, key = split_uri(text)
    target = stack.enter_context(open_at(place))
    key = target._checked(key)
    with naming(key), Meter(f"io {key}", read.size) as meter:
        target._need(Can.WRITE, "put")
        attributes = PLAIN if read.info is None else attributes_of(read.info, target.can)
        target._write(key, pieces_of(meter.through(read.chunks())), ANY, attributes)
