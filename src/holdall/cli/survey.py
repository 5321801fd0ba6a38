"""The commands that show folders: ls, du and tree."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Annotated

from holdall.cli.errors import UsageFault
from holdall.cli.options import Json, KeyPrefix, Prefix, StoreOption, one_prefix
from holdall.cli.output import Output, amount, as_json, dumps, human, timestamp
from holdall.cli.parameters import Parameter
from holdall.cli.places import open_to_read
from holdall.cli.progress import Meter
from holdall.errors import BlobNotFoundError
from holdall.store import Info, Store


def ls(
    start: Prefix = "",
    prefix: KeyPrefix = "",
    long: Annotated[
        bool, Parameter("--long", "-l", help="Print size and time in UTC before the name.")
    ] = False,
    json: Json = False,
    store: StoreOption = None,
) -> None:
    """List one folder: its blobs and the folders in it.

    A folder ends in /. PREFIX may be the start of a name, as in logs/2026-. See keys for every key.

    Examples:
      holdall ls
      holdall ls reports/ --long
    """
    if long and json:
        raise UsageFault("--long and --json exclude each other")
    prefix = one_prefix(start, prefix)
    output = Output()
    shown = prefix.rfind("/") + 1
    found = False
    with open_to_read(store) as source:
        # A folder named without its slash is most often meant as the folder.
        if prefix and not prefix.endswith("/") and next(source.iterate_keys(prefix + "/"), None) is not None:
            children: Iterator[str | Info] = source.children(prefix + "/")
            shown = len(prefix) + 1
        else:
            children = source.children(prefix)
        for child in children:
            found = True
            if json:
                output.line(_child_as_json(child))
            elif isinstance(child, str):
                output.line(f"{'':>9}  {'':20}  {child[shown:]}" if long else child[shown:])
            elif long:
                output.line(f"{human(child.size):>9}  {timestamp(child.modified)}  {child.key[shown:]}")
            else:
                output.line(child.key[shown:])
    if prefix and not found:
        raise BlobNotFoundError("no key starts with this", key=prefix)


def du(start: Prefix = "", prefix: KeyPrefix = "", json: Json = False, store: StoreOption = None) -> None:
    """Sum up sizes by folder.

    There is a line for each blob and each folder one level below PREFIX, and one for the total.

    Examples:
      holdall du
      holdall du reports/ --json
    """
    prefix = one_prefix(start, prefix)
    output = Output()
    with open_to_read(store) as source, Meter("du", blobs=True) as meter:
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


def _child_as_json(child: str | Info) -> str:
    return dumps({"folder": child} if isinstance(child, str) else as_json(child))


def _row(size: int, blobs: int, name: str) -> str:
    return f"{human(size):>9}  {amount(blobs, 'blob'):>15}  {name}"


def _groups(store: Store, prefix: str, meter: Meter) -> Iterator[tuple[str, int, int]]:
    """Yield the children of a prefix, each with the number of its blobs and of their bytes."""

    def child(info: Info) -> str:
        slash = info.key.find("/", len(prefix))
        return info.key if slash < 0 else info.key[: slash + 1]

    for name, infos in groupby(store.list(prefix), child):
        blobs = size = 0
        for info in infos:
            blobs += 1
            size += info.size
            meter.advance()
        yield name, blobs, size


def tree(
    start: Prefix = "",
    prefix: KeyPrefix = "",
    depth: Annotated[
        int | None, Parameter("--depth", "-d", "-L", metavar="N", least=1, help="Print only N levels.")
    ] = None,
    json: Json = False,
    store: StoreOption = None,
) -> None:
    """Print keys as a tree, with sizes.

    With --depth, the last line counts what was printed. With --json there is an object for each line of the
    tree, as in ls.

    Examples:
      holdall tree
      holdall tree reports/ --depth 2
    """
    prefix = one_prefix(start, prefix)
    output = Output()
    with open_to_read(store) as source:
        folder = prefix[: prefix.rfind("/") + 1]
        if json:
            for _, child in _lines(source, prefix, len(folder), "", depth):
                output.line(_child_as_json(child))
            return
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
        # The branch of the last child differs, so the next one is fetched first.
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
