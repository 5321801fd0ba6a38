"""The options that many commands share, and the store that they name."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import typer

from holdall.cli.completion import complete_key, complete_store
from holdall.cli.errors import UsageFault, describe, warn
from holdall.errors import StoreError
from holdall.opening import from_uri
from holdall.store import ABSENT, ANY, Expect, Store
from holdall.uri import reference

__all__ = [
    "IfAbsent",
    "IfMatch",
    "Json",
    "Key",
    "KeyPrefix",
    "Keys",
    "Prefix",
    "StoreOption",
    "address",
    "check_prefix",
    "expectation",
    "is_store",
    "open_at",
    "open_store",
    "store_name",
]

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        "-s",
        metavar="URI",
        autocompletion=complete_store,
        help="The store: a path, a URI such as sqlite:///file.db, or a name of holdall.toml. "
        "Without it, HOLDALL_URI.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Key = Annotated[str, typer.Argument(metavar="KEY", autocompletion=complete_key, help="Which blob.")]
Keys = Annotated[list[str], typer.Argument(metavar="KEY", autocompletion=complete_key, help="Which blobs.")]


def check_prefix(prefix: str) -> str:
    """Refuse a prefix that no key can start with: it is most often meant for a store."""
    *folders, _ = prefix.split("/")
    if not {"", ".", ".."}.isdisjoint(folders):
        raise UsageFault(
            f"no key starts with {prefix!r}: write a folder as in logs/, with no '/' or './' before it; a "
            "store is named by --store, or where STORE, SOURCE or TARGET stands"
        )
    return prefix


Prefix = Annotated[
    str,
    typer.Argument(
        metavar="PREFIX",
        autocompletion=complete_key,
        callback=check_prefix,
        show_default=False,
        help="Only keys that start with these characters, such as logs/.",
    ),
]
KeyPrefix = Annotated[
    str,
    typer.Option(
        "--prefix",
        "-p",
        callback=check_prefix,
        show_default=False,
        help="Only keys that start with this.",
    ),
]
IfAbsent = Annotated[
    bool, typer.Option("--if-absent", help="Only where there is no blob yet; otherwise exit with 3.")
]
IfMatch = Annotated[
    str | None,
    typer.Option(
        "--if-match",
        metavar="ETAG",
        show_default=False,
        help="Only over the blob that has this ETag (see 'holdall info'); otherwise exit with 3.",
    ),
]


def expectation(if_absent: bool, if_match: str | None) -> Expect:
    """Return what `Store.put` must expect."""
    if if_absent and if_match is not None:
        raise UsageFault("--if-absent and --if-match exclude each other")
    if if_absent:
        return ABSENT
    return ANY if if_match is None else if_match


@contextmanager
def open_store(context: typer.Context, uri: str | None) -> Generator[Store]:
    """Open the store that the command line names, and close it whatever happens.

    A close that fails is an error.
    """
    with open_at(store_name(context, uri)) as store:
        yield store


@contextmanager
def open_at(place: str) -> Generator[Store]:
    """Open the store at a URI, a path or a configured name, and close it whatever happens."""
    store = from_uri(address(place))
    try:
        yield store
    except BaseException:
        try:
            store.close()
        except StoreError as second:
            warn(describe(second))
        raise
    store.close()


def address(text: str) -> str:
    """Return the URI or path that a command line means by a store; a bare name may be in `holdall.toml`."""
    if not text.startswith((".", "~")) and not {"/", ":"} & set(text):
        # Even what can't be a name: a file that names a store so is refused, and no such folder is made.
        from holdall import config

        path = config.find()
        if path is not None:
            stores = config.load(path)
            if text in stores:
                return f"{text}:"
            from difflib import get_close_matches

            near = get_close_matches(text, stores.names(), 1)
            if near and not os.path.lexists(text):
                raise UsageFault(
                    f"there is no folder {text!r}, and {path} names no such store; did you mean "
                    f"{near[0]!r}? A new folder is './{text}'"
                )
    return text


def is_store(text: str) -> bool:
    """Return whether this can only be a store, where a key may be given too.

    No key has an empty segment, or one of dots; a configured store takes precedence over a key with a colon.
    """
    if "://" in text or text in (".", "..") or text.startswith(("/", "./", "../")):
        return True
    named = reference(text)
    if named is None:
        return False
    from holdall import config

    path = config.find()
    return path is not None and named.name in config.load(path)


def store_name(context: typer.Context, uri: str | None) -> str:
    """Return the URI, path or configured name that the command line or HOLDALL_URI gives."""
    uri = uri or context.obj or os.environ.get("HOLDALL_URI")
    if not uri:
        raise UsageFault(
            "no store was named: give --store URI (such as ./data or sqlite:///file.db), or set HOLDALL_URI"
        )
    return uri
