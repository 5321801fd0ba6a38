"""The commands that sum up: du and tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from holdall.cli.options import Json, Prefix, StoreOption, opened
from holdall.cli.output import Output, amount, dumps, human
from holdall.cli.progress import Meter
from holdall.store import Info, Store

__all__ = ["du", "tree"]


def du(context: typer.Context, prefix: Prefix = "", json: Json = False, store: StoreOption = None) -> None:
    """Sum up sizes, folder by folder.

    There is a line for each blob and each folder one level below PREFIX, and one for all.

    Examples:
      holdall du
      holdall du reports/ --json
    """
    output = Output()
    with opened(context, store) as source, Meter("du", blobs=True) as meter:
        total = count = 0
        for name, blobs, size in _groups(source, prefix, meter):
            total += size
            count += blobs
            meter.hide()
            if json:
                output.line(dumps({"name": name, "blobs": blobs, "size": size}))
            else:
                output.line(_row(size, blobs, name))
        if json:
            output.line(dumps({"name": None, "blobs": count, "size": total}))
        else:
            output.line(_row(total, count, "total"))


def _row(size: int, blobs: int, name: str) -> str:
    return f"{human(size):>9}  {amount(blobs, 'blob'):>15}  {name}"


def _groups(store: Store, prefix: str, meter: Meter) -> Iterator[tuple[str, int, int]]:
    """The children of a prefix, each with how many blobs it has and how many bytes.

    Keys come in order, so that those of one folder come together.
    """
    folder, blobs, size = "", 0, 0
    for info in store.list(prefix):
        if folder and not info.key.startswith(folder):
            yield folder, blobs, size
            folder = ""
        if not folder:
            slash = info.key.find("/", len(prefix))
            if slash < 0:
                yield info.key, 1, info.size
                continue
            folder, blobs, size = info.key[: slash + 1], 0, 0
        blobs += 1
        size += info.size
        meter.advance()
    if folder:
        yield folder, blobs, size


def tree(
    context: typer.Context,
    prefix: Prefix = "",
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth", "-d", "-L", metavar="N", min=1, show_default=False, help="Only so many levels."
        ),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Print keys as a tree, with sizes.

    With --depth, the last line counts what was printed.

    Examples:
      holdall tree
      holdall tree reports/ --depth 2
    """
    output = Output()
    with opened(context, store) as source:
        folder = prefix[: prefix.rfind("/") + 1]
        output.line(folder or ".")
        folders = blobs = size = 0
        for line, child in _lines(source, prefix, len(folder), "", depth):
            output.line(line)
            if isinstance(child, str):
                folders += 1
            else:
                blobs += 1
                size += child.size
        output.line("")
        output.line(f"{amount(folders, 'folder')}, {amount(blobs, 'blob')}, {human(size)}")


def _lines(
    store: Store, prefix: str, start: int, indent: str, depth: int | None
) -> Iterator[tuple[str, str | Info]]:
    children = store.children(prefix)
    child = next(children, None)
    while child is not None:
        # Only who knows the next one knows whether this is the last.
        following = next(children, None)
        branch, below = ("├── ", "│   ") if following is not None else ("└── ", "    ")
        if isinstance(child, str):
            yield f"{indent}{branch}{child[start:]}", child
            if depth is None or depth > 1:
                rest = None if depth is None else depth - 1
                yield from _lines(store, child, len(child), indent + below, rest)
        else:
            yield f"{indent}{branch}{child.key[start:]}  ({human(child.size)})", child
        child = following
