"""holdall in five minutes, on real files: `make demo`, or `python demo/demo.py FOLDER`."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from holdall import (
    ChecksumStore,
    CompressedStore,
    ConcurrencyError,
    FilesystemStore,
    SqliteStore,
    Store,
    ZipStore,
    sync_stores,
)

PROJECT = Path(__file__).resolve().parent.parent
OUTPUT = Path("demo-output")
CHANGED = "README.md"

console = Console(highlight=False)


def main(folder: Path = PROJECT, output: Path = OUTPUT) -> int:
    """Run the demo; 0 if every byte came back."""
    shutil.rmtree(output, ignore_errors=True)
    files = read_files(folder)
    if CHANGED not in files:
        console.print(f"{folder} has no {CHANGED}, which this demo changes")
        return 2
    digests = {key: sha256(data) for key, data in files.items()}

    heading(f"Take a folder: {len(files)} files, {human(total(files))}")
    say(f"from {folder}")

    # A store is a mapping from keys to bytes. Both are made by their first write.
    database = SqliteStore(output / "files.db")
    archive = ZipStore(output / "files.zip", compression="deflated")
    heading("Put it into two stores")
    rows = [("SQLite", *put_all(database, files)), ("zip", *put_all(archive, files))]
    show(("store", "blobs", "time", "rate", ""), rows)

    # Closed is closed; a URI opens the same store again.
    with (
        Store.from_uri(f"sqlite:///{output}/files.db") as database,
        Store.from_uri(f"zip://{output}/files.zip") as archive,
    ):
        heading("Read one blob as a file")
        read_as_file(database, CHANGED)

        heading("Change one, if nobody else has")
        new = compare_and_swap(database, CHANGED)
        changed = digests | {CHANGED: sha256(new)}

        heading("List one level")
        show(("key", "blobs", "size"), levels(database))

        heading("Verify every digest (SHA-256)")
        wrong = verify(database, changed) + verify(archive, digests)
        for name, store in (("SQLite", database), ("zip", archive)):
            say(f"{name}: {len(store)} blobs read back")
        for fault in wrong:
            say(f"[bold red]wrong[/] {fault}")
        say("[bold red]some are wrong[/]" if wrong else "[green]all are right[/]")

        heading("Back it up: a folder of compressed blobs, each with its checksum")
        wrong += back_up(database, output / "backup", changed)

    heading("On the disk")
    show(("file", "size"), [(str(path), human(size_of(path))) for path in sorted(output.iterdir())])

    heading("Try next")
    for command in next_commands(output):
        console.print(f"  {command}", style="cyan", soft_wrap=True, markup=False)
    console.print()
    return 1 if wrong else 0


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their relative paths; hidden ones and what was made here are left out."""
    files: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        made = any(part.startswith(".") or part in ("__pycache__", OUTPUT.name) for part in parts)
        if path.is_file() and not path.is_symlink() and not made:
            files["/".join(parts)] = path.read_bytes()
    return files


def put_all(store: Store, files: Mapping[str, bytes]) -> tuple[str, str, str, str]:
    """Put all files at once, close the store, and tell how fast that went."""
    start = time.perf_counter()
    with store:
        store.put_many(files)
    seconds = time.perf_counter() - start
    return (
        str(len(files)),
        f"{seconds * 1000:.0f} ms",
        f"{human(total(files) / seconds)}/s",
        f"{len(files) / seconds:,.0f} blobs/s",
    )


def read_as_file(store: Store, key: str) -> None:
    """A blob opens as any file does: text or bytes, line by line, from any position."""
    with store.open(key, "r") as file:
        say(f"{key}, first line: [cyan]{escape(file.readline().strip())}[/]")
    with store.open(key) as file:
        file.seek(store.info(key).size // 2)
        say(f"{key}, four bytes from its middle: [cyan]{escape(repr(file.read(4)))}[/]")


def compare_and_swap(store: Store, key: str) -> bytes:
    """Change a blob only if it is still the one that was read; the bytes that are there now."""
    before = store.info(key)
    new = store[key] + b"\nChanged by the demo, in the store only.\n"
    after = store.put(key, new, expect=before.etag)
    say(f"{key}: ETag {before.etag} -> {after.etag}, {human(before.size)} -> {human(after.size)}")
    try:
        store.put(key, b"from somebody who read it earlier", expect=before.etag)
    except ConcurrencyError as error:
        say(f"a put with the old ETag is refused: [yellow]{type(error).__name__}[/]: {error}")
        return new
    raise AssertionError("a stale ETag was taken")


def levels(store: Store) -> list[tuple[str, str, str]]:
    """The blobs and folders at the top, as a directory shows them."""
    rows: list[tuple[str, str, str]] = []
    for child in store.children():
        found = list(store.list(child)) if isinstance(child, str) else [child]
        name = child if isinstance(child, str) else child.key
        rows.append((name, str(len(found)), human(sum(info.size for info in found))))
    return rows


def verify(store: Store, digests: Mapping[str, str]) -> list[str]:
    """What isn't as it was put: each blob is read in chunks, never whole."""
    wrong = [f"{key}: isn't expected" for key in store if key not in digests]
    for key, expected in digests.items():
        if key not in store:
            wrong.append(f"{key}: isn't there")
            continue
        digest = hashlib.sha256()
        for chunk in store.chunks(key):
            digest.update(chunk)
        if digest.hexdigest() != expected:
            wrong.append(f"{key}: other bytes than were put")
    return wrong


def back_up(store: Store, folder: Path, digests: Mapping[str, str]) -> list[str]:
    """Make a stack of layers equal to a store, twice; what came out wrong."""
    # Layers are stores made of stores: what is put here is compressed, then summed, then a file.
    backup = CompressedStore(ChecksumStore(FilesystemStore(folder)), codec="gzip")
    journal = folder.with_suffix(".journal")
    for words in ("first", "again"):
        report = sync_stores(store, backup, journal=journal)
        counts = f"{report.copied} copied, {report.skipped} equal"
        say(f"{words}: {counts}, {human(report.bytes)} in {report.seconds:.2f} s")
        if report.failures:
            return [f"{key}: {error}" for key, error in report.failures.items()]
    return verify(backup, digests)


def next_commands(output: Path) -> list[str]:
    """What to type next, from the folder where the demo was started."""
    program = Path(sys.executable).with_name("holdall")
    holdall = program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program
    uri = f"sqlite:///{output}/files.db"
    return [
        f"{holdall} --store {uri} keys --long",
        f"{holdall} --store {uri} get {CHANGED}",
        f"{holdall} --store zip://{output}/files.zip tree --depth 2",
        f"{holdall} diff zip://{output}/files.zip {uri}",
        f"{holdall} --help",
        f"unzip -l {output}/files.zip",
    ]


def heading(text: str) -> None:
    """What comes next."""
    console.print(f"\n[bold]{text}[/]")


def say(text: str) -> None:
    """One thing that was done."""
    console.print(Padding(text, (0, 0, 0, 2), expand=False))


def show(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A plain table, its numbers to the right."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def sha256(data: bytes) -> str:
    """What tells two blobs apart."""
    return hashlib.sha256(data).hexdigest()


def total(files: Mapping[str, bytes]) -> int:
    """How many bytes there are."""
    return sum(map(len, files.values()))


def human(size: float) -> str:
    """A number of bytes, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
