"""The commands that read: keys, get, cat, exists, info."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Annotated, BinaryIO

from holdall.cli.completion import complete_key
from holdall.cli.errors import NOT_FOUND, UsageFault, describe, warn
from holdall.cli.options import (
    Force,
    Json,
    Key,
    KeyPrefix,
    Keys,
    Prefix,
    StoreOption,
    check_prefix,
    one_prefix,
)
from holdall.cli.output import Output, as_json, dumps, exact, human, timestamp
from holdall.cli.parameters import Parameter
from holdall.cli.places import open_to_read
from holdall.cli.progress import Meter
from holdall.cli.values import Mode, read_value
from holdall.errors import BlobNotFoundError, StoreError
from holdall.keys import check_key
from holdall.paths import replacing
from holdall.store import Can, Info, Store, mode_of

To = Annotated[
    str | None,
    Parameter(
        "--output",
        "-o",
        metavar="FILE",
        help="Write this file, whole or not at all, instead of standard output.",
    ),
]


def keys(
    start: Prefix = "",
    prefix: KeyPrefix = "",
    exclude_prefix: Annotated[
        str,
        Parameter(
            "--exclude-prefix",
            metavar="PREFIX",
            complete=complete_key,
            check=check_prefix,
            help="No keys that start with this.",
        ),
    ] = "",
    glob: Annotated[
        str | None,
        Parameter(
            "--glob",
            "-g",
            metavar="GLOB",
            help="Only keys that match: * stays within a folder, **/ crosses any number of them.",
        ),
    ] = None,
    long: Annotated[
        bool, Parameter("--long", "-l", help="Print size, time in UTC and ETag before the key.")
    ] = False,
    json: Json = False,
    null: Annotated[bool, Parameter("--null", "-0", help="End keys with a zero byte, for xargs -0.")] = False,
    store: StoreOption = None,
) -> None:
    """List keys, one per line, in order.

    An empty store has no keys; that isn't an error. See ls for one folder at a time.

    Examples:
      holdall keys --store ./data logs/
      holdall keys --glob '**/*.pdf' --long
      holdall keys tmp/ -0 | xargs -0 holdall rm
    """
    prefix = one_prefix(start, prefix)
    if long + json + null > 1:
        raise UsageFault("--long, --json and --null exclude each other")
    if glob is not None and not {"", ".", ".."}.isdisjoint(glob.split("/")):
        raise UsageFault(f"--glob {glob!r} matches no key: write it as in logs/*.txt or **/*.txt")
    output = Output()
    with open_to_read(store) as source:
        if long or json:
            found = source.list(prefix, glob=glob)
            if exclude_prefix:
                found = (each for each in found if not each.key.startswith(exclude_prefix))
            _print_infos(found, json, output)
        else:
            end = "\0" if null else "\n"
            for key in source.iterate_keys(prefix, exclude_prefix, glob):
                output.line(key, end)
    if output.empty and set(prefix) & set("*?["):
        warn(f"no key starts with {prefix!r}, whose characters are literal; --glob takes patterns")


def _print_infos(found: Iterator[Info], json: bool, output: Output) -> None:
    # The column widens as it goes: only a whole listing, held in memory, would show its width.
    width = 0
    for each in found:
        if json:
            output.line(dumps(as_json(each)))
            continue
        width = max(width, len(each.etag))
        line = f"{human(each.size):>9}  {timestamp(each.modified)}  {each.etag:<{width}}  {each.key}"
        output.line(line)


def get(
    key: Key,
    to: To = None,
    force: Force = False,
    mode: Mode = None,
    store: StoreOption = None,
) -> None:
    """Write a blob's bytes to standard output, or to a file.

    The bytes are written as they are, in chunks, so that a blob may be larger than memory. With
    --serialization-mode the value that Python would get is written instead: text and bytes as they are,
    anything else as JSON. It is read into memory. Only pickles that you have signed are unpickled.

    Examples:
      holdall get reports/may.pdf > may.pdf
      holdall get reports/may.pdf --output may.pdf
      holdall get settings -m auto | jq .volume
    """
    if to == "":
        raise UsageFault("--output needs the name of a file")
    with open_to_read(store) as source:
        if mode not in (None, "raw"):
            data = read_value(source, key, mode)
            write_out(to, key, force, len(data), lambda: iter([data]))
        elif to is None or is_standard_output(to):
            Output().write_chunks(source.chunks(key), key, force)
        else:
            info = source.info(check_key(key))
            write_file(to, f"get {key}", info.size, mode_of(info), partial(source.chunks, key))


def write_out(
    to: str | None, key: str, force: bool, size: int | None, chunks: Callable[[], Iterator[bytes]]
) -> None:
    """Write what `get` got to a file, or to standard output."""
    if to is None or is_standard_output(to):
        Output().write_chunks(chunks(), key, force)
    else:
        write_file(to, f"get {key}", size, None, chunks)


def write_file(
    name: str, label: str, size: int | None, most: int | None, chunks: Callable[[], Iterable[bytes]]
) -> None:
    """Write a file, whole or not at all; into a pipe or a device, write what comes.

    Args:
        name: Of the file.
        label: What the progress bar says.
        size: How many bytes there are, where that is known.
        most: The permission bits that a new file may have at most.
        chunks: Returns the bytes.
    """
    if (number := _descriptor(name)) is not None:
        try:
            with open(number, "wb", closefd=False) as device:
                device.writelines(chunks())
        except StoreError:
            raise
        except OSError as error:
            raise _unwritable(name, error) from error
        return
    if os.path.isdir(name):
        raise UsageFault(f"--output {name!r} is a folder; name a file")
    # Nobody may read the file who may not read the blob.
    bits = 0o666 if most is None else 0o666 & (most | 0o600)
    file: BinaryIO | None = None
    try:
        with Meter(label, size) as meter, replacing(name, bits) as file:
            file.writelines(meter.through(chunks()))
    except StoreError:
        raise
    except OSError as error:
        if file is None:
            raise _unwritable(name, error) from error
        raise OSError(error.errno, error.strerror, name) from error  # such as a full disk


def _unwritable(name: str, error: OSError) -> UsageFault:
    return UsageFault(f"can't write {name!r}: {describe(OSError(error.errno, error.strerror))}")


def is_standard_output(name: str) -> bool:
    """Return whether --output names standard output."""
    return name == "-" or _descriptor(name) == 1


def _descriptor(name: str) -> int | None:
    """Return the descriptor that a name means, such as /dev/stdout or a shell's >(command)."""
    name = {"/dev/stdout": "/dev/fd/1", "/dev/stderr": "/dev/fd/2"}.get(name, name)
    folder, _, number = name.rpartition("/")
    return int(number) if folder in ("/dev/fd", "/proc/self/fd") and number.isdecimal() else None


def cat(keys: Keys, force: Force = False, store: StoreOption = None) -> int:
    """Write blobs to standard output, one after the other.

    A key that doesn't exist is reported, the others are written, and the exit code is 1.

    Example:
      holdall cat logs/1 logs/2 | gzip > logs.gz
    """
    output = Output()
    missing = False
    with open_to_read(store) as source:
        for key in map(check_key, keys):
            try:
                chunks = source.chunks(key)
            except BlobNotFoundError as error:
                missing = True
                warn(describe(error))
                continue
            output.write_chunks(chunks, key, force)
    return NOT_FOUND if missing else 0


def exists(
    key: Key,
    verbose: Annotated[bool, Parameter("--verbose", "-v", help="Print it too.")] = False,
    json: Json = False,
    store: StoreOption = None,
) -> int:
    """Report by the exit code whether a blob exists.

    It is 0 if the blob exists, 1 if it doesn't, and more if the store can't be read.

    Example:
      holdall exists done || make done
    """
    with open_to_read(store) as source:
        found = source.exists(key)
    if json:
        Output().line(dumps({"key": key, "exists": found}))
    elif verbose:
        Output().line(f"{key} exists" if found else f"{key} doesn't exist")
    return 0 if found else NOT_FOUND


def info(
    key: Annotated[str | None, Parameter(metavar="KEY", complete=complete_key, help="Which blob.")] = None,
    json: Json = False,
    store: StoreOption = None,
) -> None:
    """Show the size, ETag, times and content type of a blob, or what a store can do.

    The blob itself isn't read. Without KEY, the store is shown.

    Examples:
      holdall info reports/may.pdf
      etag=$(holdall info config --json | jq -r .etag)
      holdall put config --file new.json --if-match "$etag"
    """
    output = Output()
    with open_to_read(store) as source:
        if key is None:
            _print_store(source, output, json)
        else:
            _print_blob(source.info(key), output, json)


def _print_blob(found: Info, output: Output, json: bool) -> None:
    if json:
        output.line(dumps(as_json(found)))
        return
    from mimetypes import guess_type

    kind = found.content_type
    if kind is None:
        guess = guess_type(found.key)[0]
        kind = "not recorded" if guess is None else f"{guess} (guessed from the key)"
    output.line(f"key:           {found.key}")
    output.line(f"size:          {exact(found.size)}")
    output.line(f"etag:          {found.etag}")
    output.line(f"modified:      {timestamp(found.modified)}")
    output.line(f"content type:  {kind}")
    output.line(f"expires:       {'never' if found.expires is None else timestamp(found.expires)}")


def _print_store(source: Store, output: Output, json: bool) -> None:
    able = [flag.name.lower() for flag in Can if flag in source.can and flag.name]
    unable = [flag.name.lower() for flag in Can if flag not in source.can and flag.name]
    if json:
        output.line(dumps({"store": repr(source), "can": able, "cannot": unable}))
        return
    output.line(f"store:   {source!r}")
    output.line(f"can:     {', '.join(able)}")
    output.line(f"cannot:  {', '.join(unable) or 'nothing is missing'}")
