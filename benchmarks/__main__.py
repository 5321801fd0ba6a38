"""The command: `python -m benchmarks [--quick] [--only PARTS] [--out DIR]`; `--help` names the parts."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import holdall
from benchmarks import (
    bare,
    catalog,
    dicts,
    door,
    faces,
    git,
    imports,
    layers,
    machine,
    needs,
    network,
    ours,
    picture,
    report,
    rounds,
    streams,
    syncing,
    valkey,
)
from benchmarks.contenders import (
    BUCKET,
    CATALOG,
    DICTS,
    DOOR,
    FACES,
    FILES,
    GIT,
    HTTP,
    IMPORT,
    LAYERS,
    MEDIA,
    MEMORY,
    MIB,
    PARTS,
    SQL,
    SQLITE,
    SYNC,
    VALKEY,
    ZIP,
    Contender,
    Field,
    every,
)
from benchmarks.table import Table

ALIASES = {"fs": FILES, "filesystem": FILES, "file": FILES, "db": SQLITE, "mem": MEMORY}


@dataclass
class Scale:
    """How much of everything."""

    keys: int = 5000
    rounds: int = 7
    disk_keys: int = 500
    disk_rounds: int = 5
    durable_keys: int = 50
    durable_rounds: int = 5
    many: int = 1000
    blobs: int = 50
    mib_rounds: int = 5
    stream: int = 256
    stream_rounds: int = 3
    listed: int = 100_000
    list_rounds: int = 3
    long_sqlite: int = 1_000_000
    long_files: int = 100_000
    import_rounds: int = 15
    layer_keys: int = 2000
    layer_rounds: int = 9
    transparent_rounds: int = 300
    synced: int = 20_000
    sync_rounds: int = 3
    sync_again: int = 3
    commits: int = 1000
    commit_rounds: int = 5
    size_rounds: int = 30
    calls: int = 2000
    call_rounds: int = 9
    bucket_calls: int = 100
    bucket_rounds: int = 9
    crawled: int = 10_000
    crawl_rounds: int = 3
    entries: int = 1_000_000
    json_entries: int = 100_000
    quoted_entries: int = catalog.MORE_ENTRIES
    catalog_calls: int = 200
    catalog_rounds: int = 9
    array_items: int = 10_000_000
    array_rounds: int = 7
    hits: int = 500
    face_calls: int = 200
    face_rounds: int = 9
    lines_mib: int = 1024


QUICK = Scale(
    keys=100,
    rounds=2,
    disk_keys=50,
    disk_rounds=1,
    durable_keys=3,
    durable_rounds=1,
    many=100,
    blobs=2,
    mib_rounds=1,
    stream=4,
    stream_rounds=1,
    listed=2000,
    list_rounds=2,
    long_sqlite=5000,
    long_files=2000,
    import_rounds=1,
    layer_keys=50,
    layer_rounds=2,
    transparent_rounds=3,
    synced=300,
    sync_rounds=1,
    sync_again=1,
    commits=50,
    commit_rounds=1,
    size_rounds=1,
    calls=20,
    call_rounds=2,
    bucket_calls=10,
    bucket_rounds=1,
    crawled=200,
    crawl_rounds=1,
    entries=100_000,
    json_entries=3000,
    quoted_entries=2000,
    catalog_calls=10,
    catalog_rounds=1,
    array_items=1_000_000,
    array_rounds=1,
    hits=10,
    face_calls=5,
    face_rounds=1,
    lines_mib=4,
)


class Run:
    def __init__(
        self, scale: Scale, parts: list[str], field: Field, places: dict[str, str], peers: bool
    ) -> None:
        self.scale = scale
        self.parts = parts
        self.media = [name for name in MEDIA if name in parts]
        self.field = field
        self.peers = peers
        self.places = places
        self.tables: list[Table] = []
        self.number = 0
        self.begun = time.monotonic()

    def folder(self, place: str) -> str:
        self.number += 1
        folder = f"{self.places[place]}/{self.number}"
        os.mkdir(folder)
        return folder

    def table(
        self, section: str, medium: str, place: str, title: str, unit: str, columns: list[str]
    ) -> Table:
        base = {MEMORY: bare.Dict, FILES: bare.Files, SQLITE: bare.Sqlite, ZIP: bare.Zip}.get(medium)
        table = Table(section, medium, place, title, unit, columns, base.name if base else "")
        self.lap()
        self.tables.append(table)
        print(f"{time.strftime('%H:%M:%S')} {title}", file=sys.stderr, flush=True)
        return table

    def lap(self) -> None:
        """What has passed since the last table began is its time."""
        now = time.monotonic()
        if self.tables:
            self.tables[-1].seconds = now - self.begun
        self.begun = now

    def all(self) -> None:
        for medium in self.media:
            places = ["tmpfs"] if medium == MEMORY else list(self.places)
            for place in places:
                self.small(medium, place)
                self.mib(medium, place)
                if medium != MEMORY:
                    self.streams(medium, place)
            self.listings(medium)
        if FILES in self.media:
            self.nested()
        self.durable()
        self.long()
        if LAYERS in self.parts:
            self.layers()
        if SYNC in self.parts:
            self.syncs()
        if GIT in self.parts:
            self.git()
        if VALKEY in self.parts:
            self.valkey()
        if DICTS in self.parts:
            self.dicts()
        if BUCKET in self.parts:
            self.bucket()
        if SQL in self.parts:
            self.sql()
        if HTTP in self.parts:
            self.http()
        if CATALOG in self.parts:
            self.catalog()
        if DOOR in self.parts:
            self.door()
        if FACES in self.parts:
            self.faces()
        if IMPORT in self.parts:
            table = self.table("import", "import", "", "Processor time of a new interpreter", "", ["ms"])
            table.bare = "a bare interpreter"
            imports.imports(table, self.scale.import_rounds)
        self.lap()

    def small(self, medium: str, place: str) -> None:
        scale = self.scale
        count, turns = scale.keys, scale.rounds
        if place == "disk":
            count, turns = scale.disk_keys, scale.disk_rounds
        where = "memory" if medium == MEMORY else place
        title = f"{medium}, {count:,} flat keys" + ("" if medium == MEMORY else f", {place}")
        table = self.table("small", medium, where, title, "us a blob", [*rounds.SMALL])
        folder = self.folder(place)
        keys = [f"key-{number:05}" for number in range(count)]
        classes = self.field.of(medium)
        rounds.small(table, classes, folder, keys, turns, scale.many)
        shutil.rmtree(folder, ignore_errors=True)

    def nested(self) -> None:
        scale, place = self.scale, "tmpfs"
        if place not in self.places:
            return
        keys = [f"run-{number % 50:02}/key-{number:05}" for number in range(scale.keys)]
        title = f"files, {len(keys):,} keys in 50 folders, {place}"
        columns = [column for column in rounds.SMALL if not column.endswith("_many")]
        table = self.table("nested", FILES, place, title, "us a blob", columns)
        table.notes.append(
            "holdall and the bare calls take a folder away with its last blob, obstore leaves it"
        )
        folder = self.folder(place)
        names = ("holdall", "bare", "obstore")
        classes = [kind for kind in self.field.of(FILES) if kind.name.startswith(names)]
        classes[classes.index(bare.Files)] = bare.FilesInFolders
        rounds.small(table, classes, folder, keys, scale.rounds)
        shutil.rmtree(folder, ignore_errors=True)

    def durable(self) -> None:
        pairs: dict[str, list[type[Contender]]] = {
            FILES: [ours.DurableFilesystem, bare.DurableFiles],
            SQLITE: [ours.DurableSqlite, bare.DurableSqlite],
        }
        if "disk" not in self.places:
            return
        for medium, classes in pairs.items():
            if medium not in self.media:
                continue
            scale = self.scale
            title = f"{medium}, durable=True against fsync, {scale.durable_keys} keys, disk"
            columns = ["put", "overwrite"]
            table = self.table("durable", medium, "disk", title, "us a blob", columns)
            folder = self.folder("disk")
            keys = [f"key-{number:05}" for number in range(scale.durable_keys)]
            rounds.small(table, classes, folder, keys, scale.durable_rounds)
            shutil.rmtree(folder, ignore_errors=True)

    def mib(self, medium: str, place: str) -> None:
        scale = self.scale
        where = "memory" if medium == MEMORY else place
        title = f"{medium}, {scale.blobs} blobs of 1 MiB" + ("" if medium == MEMORY else f", {place}")
        table = self.table("mib", medium, where, title, "us a blob", ["put", "get"])
        folder = self.folder(place)
        turns = scale.mib_rounds if place == "tmpfs" else min(scale.mib_rounds, 3)
        rounds.mib(table, self.field.of(medium), folder, scale.blobs, MIB, turns)
        shutil.rmtree(folder, ignore_errors=True)

    def streams(self, medium: str, place: str) -> None:
        scale = self.scale
        columns = ["put ms", "put MiB held", "get ms", "get MiB held"]
        title = f"{medium}, a stream of {scale.stream} MiB in pieces of 1 MiB, {place}"
        table = self.table("stream", medium, place, title, "", columns)
        folder = self.folder(place)
        classes = self.field.of(medium)
        if place == "disk":
            classes = [kind for kind in classes if kind.kind != "peer"]
        for kind in classes:
            if kind.whole:
                table.notes.append(f"{kind.name} has no streams: the value is held whole")
        turns = scale.stream_rounds if place == "tmpfs" else 1
        streams.streams(table, classes, folder, scale.stream, turns)
        shutil.rmtree(folder, ignore_errors=True)

    def listings(self, medium: str) -> None:
        scale, place = self.scale, next(iter(self.places))
        count = scale.listed
        where = "memory" if medium == MEMORY else place
        shapes = {"list nested": ("run-{0:03}/key-{1:06}", "run-007/", "keys in folders")}
        if medium == FILES:
            shapes["list"] = ("key-{1:06}", "key-007", "flat keys")
        for section, (shape, prefix, words) in shapes.items():
            keys = [shape.format(number // 1000, number) for number in range(count)]
            some = sum(key.startswith(prefix) for key in keys)
            if not some:
                prefix = keys[-1][: len(prefix)]
                some = sum(key.startswith(prefix) for key in keys)
            title = f"{medium}, {count:,} {words}, by prefix {some or count:,}"
            title += "" if medium == MEMORY else f", {place}"
            table = self.table(section, medium, where, title, "us a key listed", ["all", "prefix"])
            if medium == FILES:
                table.notes.append("holdall lists in order of the keys; the bare walk and most peers in none")
            folder = self.folder(place)
            rounds.listing(table, self.field.of(medium), folder, keys, prefix, scale.list_rounds)

    def long(self) -> None:
        counts = {SQLITE: self.scale.long_sqlite, FILES: self.scale.long_files}
        classes: list[type[Contender]] = [ours.Sqlite, ours.Filesystem]
        classes = [kind for kind in classes if kind.medium in self.media]
        if not classes:
            return
        place = next(iter(self.places))
        columns = ["keys", "seconds", "MiB held"]
        table = self.table(
            "long", "long", place, f"Long listings, {place} (files: all in one folder)", "", columns
        )
        streams.long_listings(table, classes, self.folder(place), counts)

    def layers(self) -> None:
        scale = self.scale
        title = f"Layers over a MemoryStore, {scale.layer_keys:,} flat keys"
        table = self.table("layers", LAYERS, "memory", title, "us a blob", ["put", "get"])
        table.bare = layers.BASE
        layers.over_memory(table, scale.layer_keys, scale.layer_rounds)
        place = next(iter(self.places))
        below: dict[str, tuple[str, Callable[[str], holdall.Store]]] = {
            FILES: ("FilesystemStore", holdall.FilesystemStore),
            SQLITE: ("SqliteStore", lambda folder: holdall.SqliteStore(f"{folder}/cache.db")),
            MEMORY: ("MemoryStore", lambda folder: holdall.MemoryStore()),
        }
        for medium, (name, make) in below.items():
            where = "memory" if medium == MEMORY else place
            title = f"A cache hit, the cache a {name}" + ("" if medium == MEMORY else f", {place}")
            table = self.table("hits", medium, where, title, "us a blob", ["get"])
            table.bare = f"{name}, bare"
            layers.hits(table, make, self.folder(place), scale.layer_keys, scale.layer_rounds)
            title = f"Layers that pass on keys and bytes, over a {name}"
            title += "" if medium == MEMORY else f", {place}"
            unit = "us of processor time a blob"
            table = self.table("transparent", medium, where, title, unit, ["put", "get"])
            table.bare = name
            folder = self.folder(place)
            layers.transparent(table, make(f"{folder}/below"), scale.transparent_rounds)

    def syncs(self) -> None:
        for place in self.places:
            scale = self.scale
            title = f"A folder of {scale.synced:,} files of 1 KiB made equal to another, {place}"
            columns = syncing.COLUMNS + syncing.PROCESSOR
            table = self.table("sync", SYNC, place, title, "seconds, the whole command", columns)
            table.bare = syncing.RCLONE
            folder = self.folder(place)
            less = int(place == "disk" and scale.sync_rounds > 1)
            turns, again = scale.sync_rounds - less, scale.sync_again - less
            syncing.syncs(table, folder, scale.synced, turns, again)
            title = f"A sync of {scale.synced:,} files killed at half and run again, {place}"
            columns = ["copied before the kill", "copied again", "copied again, % of all"]
            table = self.table("resume", SYNC, place, title, "files", columns)
            syncing.resume(table, folder, scale.synced)
            shutil.rmtree(folder, ignore_errors=True)

    def git(self) -> None:
        place, scale = next(iter(self.places)), self.scale
        title = f"A repository of git, {scale.commits:,} commits of 1 KiB, {place}"
        table = self.table("git", GIT, place, title, "a second", git.COLUMNS)
        git.commits(table, self.folder(place), scale.commits, scale.commit_rounds)
        title = f"A commit where there are few files and where there are many, {place}"
        table = self.table("git sizes", GIT, place, title, "us", ["a commit"])
        git.sizes(table, self.folder(place), scale.size_rounds)

    def valkey(self) -> None:
        place, scale = next(iter(self.places)), self.scale
        title = "Valkey or Redis on loopback, 1 KiB"
        table = self.table("valkey", VALKEY, "loopback", title, "us a call", valkey.COLUMNS)
        title = "Valkey or Redis on loopback, 1,000 blobs of 1 KiB at once"
        many = self.table("valkey many", VALKEY, "loopback", title, "us a blob", valkey.MANY_COLUMNS)
        valkey.calls(table, many, self.folder(place), scale.calls, scale.call_rounds, self.peers)

    def dicts(self) -> None:
        place, scale = next(iter(self.places)), self.scale
        title = f"Blob dicts, a blob of 1 KiB, {place}"
        table = self.table("dicts", DICTS, place, title, "us a call", dicts.COLUMNS)
        dicts.dicts(table, self.folder(place), scale.calls, 3, self.peers)

    def bucket(self) -> None:
        scale, on = self.scale, "SeaweedFS on loopback"
        count, turns = scale.bucket_calls, scale.bucket_rounds
        classes = self.field.of(BUCKET)
        with network.bucket_server() as place:
            title = f"A bucket, calls one by one, 1 KiB and 1 MiB; a list of {scale.crawled:,} keys; {on}"
            table = self.table("bucket", BUCKET, "loopback", title, "us a call or a key", network.CALLS)
            network.single(table, place, classes, count, turns)
            network.listings(table, place, classes, scale.crawled, scale.crawl_rounds)
            title = f"A bucket, 16 and 64 calls in flight on threads; {on}"
            table = self.table("in flight", BUCKET, "loopback", title, "us a call", network.IN_FLIGHT)
            network.in_flight(table, place, classes, count, scale.crawl_rounds)
            title = f"A bucket, calls of coroutines in flight, 1 KiB; {on}"
            table = self.table("coroutines", BUCKET, "loopback", title, "us a call", network.COROUTINES)
            network.coroutines(table, place, 20 * count, scale.crawl_rounds)
            columns = ["put ms", "put MiB held", "get ms", "get MiB held"]
            title = f"A bucket, a stream of {scale.stream} MiB in pieces of 1 MiB; {on}"
            table = self.table("bucket stream", BUCKET, "loopback", title, "", columns)
            table.bare = network.BARE
            streams.streams(table, classes, place, scale.stream, scale.stream_rounds)

    def sql(self) -> None:
        title = "PostgreSQL on loopback, 1 KiB"
        table = self.table("sql", SQL, "loopback", title, "us a call", network.SQL_CALLS)
        network.sql(table, self.scale.calls // 4, self.scale.call_rounds)

    def http(self) -> None:
        place, scale = next(iter(self.places)), self.scale
        title = f"{scale.crawled:,} files of 1 KiB that nginx lists"
        table = self.table("http", HTTP, "loopback", title, "", network.HTTP_CALLS)
        network.http(table, self.folder(place), scale.crawled, scale.crawl_rounds)

    def catalog(self) -> None:
        place, scale = next(iter(self.places)), self.scale
        folder, count, turns = self.folder(place), scale.catalog_calls, scale.catalog_rounds
        unit, few = "us of processor time a call", catalog.FEW_ENTRIES
        stores: dict[int, catalog.Ours] = {}
        tables: dict[int, Table] = {}
        for size in (few, scale.entries):
            title = f"SQLite, {size:,} entries, a small object with metadata, {place}"
            columns = [*catalog.CALLS, catalog.MANY]
            columns += [catalog.FIND, catalog.BEST] if size == scale.entries else []
            tables[size] = self.table("catalog", CATALOG, f"{size:,}", title, unit, columns)
            stores[size] = catalog.Ours(folder, "sqlite", size)
        catalog.sqlite_calls(tables, stores, folder, count, turns)
        stores.pop(scale.entries).close()
        stores[scale.quoted_entries] = catalog.Ours(folder, "sqlite", scale.quoted_entries)
        title = f"The JSON file, a small object with metadata, {place}"
        table = self.table("catalog json", CATALOG, place, title, unit, catalog.CALLS)
        sizes = (few, scale.quoted_entries, scale.json_entries)
        in_json = {size: catalog.Ours(folder, "json", size) for size in sizes}
        catalog.json_calls(table, in_json, count, turns)
        self.quoted({"sqlite": stores, "json": in_json})
        for store in (*stores.values(), *in_json.values()):
            store.close()
        shutil.rmtree(folder)
        title = f"An array of float64, {scale.array_items * 8 // 10**6} MB, {place}"
        table = self.table("catalog arrays", CATALOG, place, title, "ms", catalog.ARRAYS)
        catalog.arrays(table, self.folder(place), scale.array_items, scale.array_rounds)
        if self.peers:
            title = f"The same values without metadata, {place}"
            table = self.table("catalog peers", CATALOG, place, title, unit, catalog.PEER_COLUMNS)
            catalog.peers(table, self.folder(place), count, turns)

    def door(self) -> None:
        place, scale = next(iter(self.places)), self.scale
        folder, unit = self.folder(place), "us of processor time a call"
        stores: dict[str, holdall.Store] = {
            MEMORY: holdall.MemoryStore(),
            FILES: holdall.FilesystemStore(f"{folder}/files"),
            SQLITE: holdall.SqliteStore(f"{folder}/blobs.db"),
        }
        for medium, store in stores.items():
            title = f"Bytes of 1 KiB in the mode raw, {medium}" + ("" if medium == MEMORY else f", {place}")
            table = self.table("door raw", medium, place, title, unit, [*door.CALLS, *door.COPIES])
            door.raw(table, store, scale.calls, scale.call_rounds)
            store.close()
        title = f"Values in JSON, files, {place}"
        table = self.table("door json", FILES, place, title, unit, door.JSON_CALLS)
        door.in_json(table, f"{folder}/json", scale.calls // 10, scale.call_rounds, self.peers)
        title = f"Hits: results that are kept, {place}"
        table = self.table("door cached", SQLITE, place, title, unit, door.HITS)
        door.kept(table, f"{folder}", scale.hits, scale.call_rounds, self.peers)
        title = f"JSON Lines, {scale.lines_mib:,} MiB, {place}"
        table = self.table("door lines", FILES, place, title, "", door.STREAM_COLUMNS)
        door.lines(table, f"{folder}/lines", scale.lines_mib, scale.stream_rounds)
        title = "Processor time of a command that lists one file"
        table = self.table("door start", DOOR, place, title, "", ["ms"])
        door.start(table, f"{folder}/start", scale.import_rounds, self.peers)
        shutil.rmtree(folder)

    def faces(self) -> None:
        for place in self.places:
            first = place == next(iter(self.places))
            faces.measure(
                faces.Ground(
                    table=partial(self.table, FACES, FACES, place),
                    folder=partial(self.folder, place),
                    place=place,
                    first=first,
                    calls=self.scale.face_calls,
                    rounds=self.scale.face_rounds if first else self.scale.disk_rounds,
                    peers=self.peers,
                )
            )

    def quoted(self, stores: dict[str, dict[int, catalog.Ours]]) -> None:
        """Beside what cacheness took on another day, which is why there is a table for each size."""
        for backend, name in (("sqlite", "SQLite"), ("json", "JSON")):
            sizes = (catalog.FEW_ENTRIES, self.scale.quoted_entries)
            for size, figures in zip(sizes, catalog.QUOTED[backend].values(), strict=True):
                title = f"{name}, {size:,} entries, beside cacheness"
                columns = ["put", "get", catalog.FILTER, catalog.SCAN]
                unit = "us of processor time a call"
                table = self.table("catalog quoted", CATALOG, f"{size:,}", title, unit, columns)
                table.bare, table.names = catalog.CACHENESS, [catalog.OURS, catalog.CACHENESS]
                table.notes.append(
                    "cacheness is quoted: it was measured on a machine of this kind, by the clock"
                )
                for column, value in figures.items():
                    table.add(catalog.CACHENESS, column, value)
                count, turns = self.scale.catalog_calls, self.scale.catalog_rounds
                catalog.small_rounds(table, stores[backend][size], count, turns)
                catalog.filters(table, [(catalog.OURS, stores[backend][size])], count // 10, turns)


def _parts(text: str) -> list[str]:
    names = [ALIASES.get(name.strip(), name.strip()) for name in text.split(",")]
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return [name for name in PARTS if name in names]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description="Measure holdall against the bare calls."
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test: few keys, few rounds")
    parser.add_argument("--only", type=_parts, default=list(PARTS), help="parts: " + ",".join(PARTS))
    parser.add_argument("--no-peers", action="store_true", help="holdall and the bare calls only")
    parser.add_argument("--no-disk", action="store_true", help="tmpfs only")
    parser.add_argument(
        "--out",
        default=os.path.dirname(os.path.abspath(__file__)),
        help="the folder for RESULTS.md and results.svg",
    )
    options = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    shown = [text for text in given if not text.startswith("--out")]
    if "--out" in given:
        shown.remove(options.out)
    command = shlex.join(["python", "-m", "benchmarks", *shown])
    field = every(peers=not options.no_peers)
    lacking = needs.missing(field, options.only, not options.no_peers)
    if lacking:
        print(
            "This can't be measured; `make bench` sets up all peers, --no-peers leaves them out:",
            file=sys.stderr,
        )
        print(*(f"  {line}" for line in lacking), sep="\n", file=sys.stderr)
        return 1
    os.makedirs(options.out, exist_ok=True)
    places: dict[str, str] = {}
    begin = time.monotonic()
    try:
        if os.access("/dev/shm", os.W_OK):
            places["tmpfs"] = tempfile.mkdtemp(prefix="holdall-bench-", dir="/dev/shm")
        if not options.no_disk or not places:
            places["disk"] = tempfile.mkdtemp(
                prefix="holdall-bench-", dir=os.environ.get("TMPDIR") or os.getcwd()
            )
        facts = machine.facts(places)
        run = Run(QUICK if options.quick else Scale(), options.only, field, places, not options.no_peers)
        run.all()
    finally:
        for folder in places.values():
            shutil.rmtree(folder, ignore_errors=True)
    drawn: str | None = "results.svg"
    try:
        picture.draw(run.tables, field.classes, os.path.join(options.out, "results.svg"))
    except picture.NoPicture as error:
        print(error, file=sys.stderr)
        drawn = None
    text = report.markdown(
        run.tables,
        [kind for kind in field.classes if kind.medium in options.only],
        facts,
        machine.versions(),
        datetime.now(UTC).strftime("%Y-%m-%d"),
        time.monotonic() - begin,
        command,
        options.quick,
        set(options.only) == set(PARTS),
        drawn,
    )
    path = os.path.join(options.out, "RESULTS.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"{path} is written", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
