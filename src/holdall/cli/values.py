"""Values on a command line: what a serialization mode reads is printed, and what it is to write is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

from holdall.cli.completion import complete_key
from holdall.cli.errors import UsageFault
from holdall.cli.options import Force, StoreOption
from holdall.cli.output import Output, for_terminal
from holdall.cli.parameters import Parameter
from holdall.cli.places import open_to_read
from holdall.errors import SerializationError
from holdall.keys import check_key
from holdall.store import Info, Store


def complete_mode(incomplete: str) -> list[str]:
    """Return the serialization modes that start with what was typed."""
    from holdall.values.modes import MODES
    from holdall.values.registry import serializers

    names = dict.fromkeys([*MODES, *(each.name for each in serializers)])
    return [name for name in names if name.startswith(incomplete)]


Mode = Annotated[
    str | None,
    Parameter(
        "--serialization-mode",
        "-m",
        metavar="MODE",
        complete=complete_mode,
        help="How the value is kept: raw, auto, json, pickle, typed, or a serializer such as yaml.",
    ),
]


def read_value(store: Store, key: str, mode: str) -> bytes:
    """Return a value as it is printed: bytes as they are, text in UTF-8, anything else as a line of JSON."""
    from holdall.values.store import ValueStore

    value = ValueStore(store, mode).get(check_key(key), raise_on_nonexist=True)
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else _json_of(key)(value)


def _json_of(key: str) -> Callable[[Any], bytes]:
    """Return what makes a line of JSON of a value; it raises UsageFault if JSON can't hold that."""
    from holdall.values.json import JsonSerializer

    encode = JsonSerializer().encode

    def as_line(value: Any) -> bytes:
        if isinstance(value, bytes):
            # Bytes have a form in JSON, but nobody expects it of a line.
            raise SerializationError("a line isn't text; -m raw prints lines as they are", key=key)
        try:
            return b"".join((*encode(value), b"\n"))
        except SerializationError as error:
            raise UsageFault(
                f"{key!r} can't be printed: {error.message}; leave --serialization-mode out for its bytes"
            ) from error

    return as_line


def put_value(store: Store, key: str, body: bytes | Iterable[bytes], mode: str, **options: Any) -> Info:
    """Put a value that is given as bytes; see `_parse`.

    Raises:
        UsageFault: The mode can't hold it.
    """
    from holdall.values.store import ValueStore

    values = ValueStore(store, mode)
    value = _parse(body if isinstance(body, bytes) else b"".join(body), mode)
    try:
        return values.put(key, value, **options)
    except SerializationError as error:
        raise UsageFault(f"--serialization-mode {mode} can't hold this value: {error.message}") from error


def _parse(data: bytes, mode: str) -> Any:
    """Return the value that what was typed, or read from a file, stands for.

    In modes `raw` and `text` it is the bytes or the text themselves. In `auto` it is JSON, if it can be, and
    else text or bytes. In any other mode it is JSON.

    Raises:
        UsageFault: It isn't JSON, where it has to be.
    """
    from holdall.values.json import JsonSerializer

    try:
        if mode in ("raw", "bytes"):
            return data
        if mode == "text":
            return data.decode()
        return JsonSerializer().decode(data)
    except (SerializationError, UnicodeDecodeError) as error:
        if mode == "auto":
            try:
                return data.decode()
            except UnicodeDecodeError:
                return data
        said = error.message if isinstance(error, SerializationError) else "it isn't UTF-8"
        form = "text in UTF-8" if mode == "text" else "JSON"
        raise UsageFault(f"--serialization-mode {mode} takes the value as {form}: {said}") from error


_BY_END = {"csv": "csv", "jsonl": "json", "ndjson": "json"}


def stream(
    key: Annotated[str, Parameter(metavar="KEY", complete=complete_key, help="Which blob.")],
    mode: Annotated[
        str | None,
        Parameter(
            "--serialization-mode",
            "-m",
            metavar="MODE",
            complete=complete_mode,
            help="How a line is read: auto, json, csv or raw. Without it, csv for a KEY that ends in .csv, "
            "json for .jsonl and .ndjson, otherwise auto.",
        ),
    ] = None,
    no_header: Annotated[
        bool, Parameter("--no-header", help="The first row of CSV doesn't name the columns.")
    ] = False,
    force: Force = False,
    store: StoreOption = None,
) -> None:
    """Print a blob line by line, each line as JSON.

    It is read in pieces, so that it may be larger than memory. In mode auto a line that is JSON is printed
    as it is, and any other line as a JSON string; in mode json any other line is an error, which gives its
    number. A row of CSV becomes an object with the names of the first row, or with --no-header a list. -m raw
    prints lines as they are.

    Examples:
      holdall stream events.jsonl | jq .user
      holdall stream people.csv --store s3://bucket
    """
    from holdall.values.store import ValueStore

    if mode is None:
        mode = _BY_END.get(key.rpartition(".")[2].lower(), "auto")
    if no_header and mode != "csv":
        raise UsageFault("--no-header is for CSV: add --serialization-mode csv")
    output = Output()
    with open_to_read(store) as source:
        lines = ValueStore(source).stream(check_key(key), serialization_mode=mode, raise_on_nonexist=True)
        if mode == "csv" and not no_header:
            lines = _name_columns(lines, key)
        elif mode == "raw" and output.terminal:
            lines = (piece for line in lines for piece in for_terminal(iter([line]), key, output, force))
        as_line = _with_end if mode == "raw" else _json_of(key)
        for value in lines:
            output.write(as_line(value))


def _with_end(line: Any) -> bytes:
    return line + b"\n"


def _name_columns(rows: Iterator[list[str]], key: str) -> Iterator[dict[str, str]]:
    """Yield rows as objects, whose names are those of the first row."""
    names = next(rows, list[str]())
    if len(set(names)) < len(names):
        raise SerializationError("two columns have the same name; add --no-header for rows as lists", key=key)
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) != len(names):
            fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
            raise SerializationError(
                f"row {number:,} has {fields}, and the first row has {len(names)}; --no-header prints rows "
                "as lists",
                key=key,
            )
        yield dict(zip(names, row, strict=True))
