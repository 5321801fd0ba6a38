"""What the project has promised to reach, and whether this run reached it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from benchmarks import catalog, door, git, network, valkey
from benchmarks.alone import ALONE
from benchmarks.bare import PlainSqlite
from benchmarks.contenders import (
    FILES,
    GIT,
    LAYERS,
    MEMORY,
    PEER,
    SQLITE,
    SYNC,
    VALKEY,
    Contender,
)
from benchmarks.layers import BASE, TRANSPARENT
from benchmarks.rounds import SMALL
from benchmarks.syncing import COLUMNS, HOLDALL, MODIFIED
from benchmarks.table import Table

FS, DB, RAM = "holdall FilesystemStore", "holdall SqliteStore", "holdall MemoryStore"


@dataclass
class Line:
    what: str
    goal: str
    measured: str
    reached: bool | None
    """None: not measured in this run."""


class Verdict:
    def __init__(self, tables: list[Table], classes: list[type[Contender]]) -> None:
        self.tables = tables
        self.classes = classes
        self.lines: list[Line] = []
        self.weaker: list[str] = []

    def table(self, section: str, medium: str, place: str) -> Table | None:
        for table in self.tables:
            if (table.section, table.medium, table.place) == (section, medium, place):
                return table
        return None

    def add(self, what: str, goal: str, measured: str | None, reached: bool = False) -> None:
        if measured is None:
            self.lines.append(Line(what, goal, "not in this run", None))
        else:
            self.lines.append(Line(what, goal, measured, reached))

    def at_most(
        self, medium: str, name: str, column: str, limit: float, section: str = "small", words: str = ""
    ) -> None:
        table = self.table(section, medium, "tmpfs")
        ratio = table.ratio(name, column) if table else None
        shown = None if ratio is None else f"{ratio:.2f}x"
        self.add(f"{medium}: {column}{words}", f"<= {limit}x the bare call", shown, (ratio or 0) <= limit)

    def make(self) -> list[Line]:
        self.at_most(FILES, FS, "get", 1.3)
        self.at_most(FILES, FS, "put", 1.3)
        self.at_most(SQLITE, DB, "get", 1.5)
        self.at_most(SQLITE, DB, "put", 1.3)
        self.plain_table()
        self.memory()
        for medium, name in ((FILES, FS), (SQLITE, DB)):
            for column in ("miss", "exists"):
                self.at_most(medium, name, column, 1.6)
        for column, limit in (("put", 1.5), ("delete", 2.0)):
            self.at_most(FILES, FS, column, limit, "nested", ", keys in folders")
        self.bulk()
        self.listing()
        self.peers()
        self.imports()
        self.held()
        self.layers()
        self.codecs()
        self.hits()
        self.syncs()
        self.git()
        self.valkey()
        self.bucket()
        self.sql()
        self.http()
        for promises in (catalog.promises, door.promises):
            for line in promises(self.tables):
                self.add(*line)
        self.faces()
        return self.lines

    def plain_table(self) -> None:
        table = self.table("small", SQLITE, "tmpfs")
        for column in ("put", "overwrite"):
            ratio = table.ratio(DB, column, PlainSqlite.name) if table else None
            shown = None if ratio is None else f"{ratio:.2f}x"
            goal = "<= 1.5x a plain table without our settings"
            self.add(f"SQLite: {column}", goal, shown, (ratio or 0) <= 1.5)

    def memory(self) -> None:
        table = self.table("small", MEMORY, "memory")
        spent, ratio = (table.median(RAM, "get"), table.ratio(RAM, "get")) if table else (None, None)
        shown = None if spent is None or ratio is None else f"{spent:.2f} us, {ratio:.1f}x"
        reached = spent is not None and ratio is not None and (spent <= 0.2 or ratio <= 2)
        self.add("memory: get", "<= 0.2 us, or 2x a method that looks a dict up", shown, reached)

    def bulk(self) -> None:
        table = self.table("small", SQLITE, "tmpfs")
        one, many = (table.median(DB, "put"), table.median(DB, "put_many")) if table else (None, None)
        if one is None or many is None:
            self.add("SQLite: put_many", ">= 8x the speed of single puts", None)
        else:
            self.add(
                "SQLite: put_many", ">= 8x the speed of single puts", f"{one / many:.1f}x", one / many >= 8
            )

    def listing(self) -> None:
        for section, words in (("list", "flat keys"), ("list nested", "keys in folders")):
            table = self.table(section, FILES, "tmpfs")
            for column in ("all", "prefix"):
                ratio = table.ratio(FS, column) if table else None
                self.add(
                    f"files: list, {words}, {column}",
                    ">= 0.6x the speed of a scandir walk",
                    None if ratio is None else f"{1 / ratio:.2f}x",
                    ratio is not None and 1 / ratio >= 0.6,
                )

    def peers(self) -> None:
        """A peer has the same promise if it writes whole and sees others' writes; in memory, where all write
        whole, if it also has compare-and-swap."""
        for medium, name, place in ((MEMORY, RAM, "memory"), (FILES, FS, "tmpfs"), (SQLITE, DB, "tmpfs")):
            table = self.table("small", medium, place)
            goal = "none faster on any row of 1 KiB"
            rivals = [kind for kind in self.classes if kind.medium == medium and kind.kind == PEER]
            equals = [kind for kind in rivals if self.equal(kind)]
            measured = [k for k in equals if table and any(table.median(k.name, c) for c in SMALL)]
            if table is None or not measured:
                self.add(f"{medium}: peers with the same promise", goal, None)
                continue
            faster: list[str] = []
            for kind in rivals:
                won = [
                    f"{column} {ratio:.2f}x"
                    for column in SMALL
                    if (ratio := table.ratio(name, column, kind.name)) is not None and ratio > 1
                ]
                if won and kind in equals:
                    faster.append(f"{kind.name} ({', '.join(won)})")
                elif won:
                    self.weaker.append(
                        f"{kind.name}, whose promise is weaker ({kind.note or 'see below'}): "
                        f"{name} takes {', '.join(won)} its time"
                    )
            names = ", ".join(kind.name for kind in measured)
            self.add(
                f"{medium}: peers with the same promise ({names})",
                goal,
                "; ".join(faster) or "none",
                not faster,
            )

    @staticmethod
    def equal(kind: type[Contender]) -> bool:
        return ("S" if kind.medium == MEMORY else "L") in kind.promise and "W" in kind.promise

    def imports(self) -> None:
        table = self.table("import", "import", "")
        spent = table.median("import holdall", "ms") if table else None
        bare = table.median("a bare interpreter", "ms") if table else None
        if spent is None or bare is None:
            self.add("import holdall", "< 60 ms more CPU than a bare interpreter", None)
        else:
            more = spent - bare
            self.add(
                "import holdall", "< 60 ms more CPU than a bare interpreter", f"{more:.0f} ms", more < 60
            )

    def held(self) -> None:
        table = self.table("long", "long", "tmpfs")
        for name in (DB, FS):
            held = table.median(name, "MiB held") if table else None
            count = table.median(name, "keys") if table else None
            what = f"{name}: listing {count:,.0f} keys" if count else f"{name}: long listing"
            shown = None if held is None else f"{held:.1f} MiB"
            self.add(what, "< 50 MiB of extra memory", shown, held is not None and held < 50)

    def layers(self) -> None:
        table = self.table("layers", LAYERS, "memory")
        for column in ("get", "put"):
            self.adds(table, "RoutedStore", column, 5)
        for medium, place in ((MEMORY, "memory"), (FILES, "tmpfs"), (SQLITE, "tmpfs")):
            table = self.table("transparent", medium, place)
            for name in TRANSPARENT:
                self.adds(table, name, "get", 0.4, f" of {medium}")
            self.adds(table, TRANSPARENT[0], "put", 1, f" of {medium}")

    def adds(self, table: Table | None, name: str, column: str, limit: float, words: str = "") -> None:
        added = table.added(name, column) if table else None
        shown = None if added is None else f"{added:.2f} us"
        self.add(
            f"{name}: {column}{words}", f"<= {limit} us more than the store", shown, (added or 0) <= limit
        )

    def codecs(self) -> None:
        """What a layer that encodes adds to a get, in times of the codec alone."""
        table = self.table("layers", LAYERS, "memory")
        for name, codec in ALONE.items():
            spent, base, bare = (
                table.samples.get((row, "get"), []) if table else [] for row in (name, BASE, codec)
            )
            times = [(a - b) / c for a, b, c in zip(spent, base, bare, strict=True)]
            shown = f"{median(times):.2f}x" if times else None
            goal = f"<= the store's get plus 1.3x {codec}"
            self.add(f"{name}: get", goal, shown, bool(times) and median(times) <= 1.3)

    def hits(self) -> None:
        for medium, name in ((FILES, "FilesystemStore"), (SQLITE, "SqliteStore")):
            table = self.table("hits", medium, "tmpfs")
            ratio = table.ratio('a hit, fresh: "immutable"', "get") if table else None
            shown = None if ratio is None else f"{ratio:.2f}x"
            what = f"a cache hit, immutable, the cache a {name}"
            self.add(what, "<= 1.3x the bare cache store", shown, (ratio or 0) <= 1.3)

    def syncs(self) -> None:
        for place in ("tmpfs", "disk"):
            table = self.table("sync", SYNC, place)
            for column in COLUMNS:
                # What is there is to be compared alike, by size and time.
                name = HOLDALL if column == COLUMNS[0] else MODIFIED
                ratio = table.ratio(name, column) if table else None
                shown = None if ratio is None else f"{ratio:.2f}x its time"
                what = f"{name} of 20,000 files, {column}, {place}"
                self.add(what, "as fast as rclone, or faster", shown, (ratio or 0) <= 1)
            table = self.table("resume", SYNC, place)
            share = table.median(HOLDALL, "copied again, % of all") if table else None
            shown = None if share is None else f"{share:.2f} %"
            self.add(f"a killed sync run again, {place}", "< 1 % copied again", shown, (share or 0) < 1)

    def git(self) -> None:
        table, sizes = (
            next((table for table in self.tables if table.section == section), None)
            for section in (GIT, f"{GIT} sizes")
        )

        def times(column: str, other: str) -> float | None:
            return table.ratio(git.HOLDALL, column, other) if table else None

        more = times(git.COMMITS, git.GIT)
        shown = None if more is None else f"{more:.1f}x"
        self.add("GitStore: commits a second", ">= 4x git add and git commit", shown, (more or 0) >= 4)
        larger = sizes.ratio(git.sized(git.MANY), sizes.columns[0]) if sizes else None
        shown = None if larger is None else f"{larger:.2f}x"
        what = f"GitStore: a commit where there are {git.MANY:,} files"
        self.add(what, f"<= 1.5x one where there are {git.FEW}", shown, (larger or 0) <= 1.5)
        reads = times(git.CURRENT, git.FILES)
        shown = None if reads is None else f"{1 / reads:.2f}x"
        self.add("GitStore: a read of what is there", "<= 1.6x bare files", shown, (reads or 0) >= 1 / 1.6)
        old = table.median(git.HOLDALL, git.OLD) if table else None
        shown = None if old is None else f"{old:,.0f}"
        self.add("GitStore: reads of old revisions", ">= 2,000 a second", shown, (old or 0) >= 2000)

    def valkey(self) -> None:
        single, many = (
            next((table for table in self.tables if table.section == section), None)
            for section in (VALKEY, f"{VALKEY} many")
        )
        for column in valkey.COLUMNS:
            ratio = single.ratio(valkey.OURS, column) if single else None
            shown = None if ratio is None else f"{ratio:.2f}x"
            self.add(f"ValkeyStore: {column}", "<= 1x bare redis-py with hiredis", shown, (ratio or 9) <= 1)
        for column in valkey.MANY_COLUMNS:
            ratio = many.ratio(valkey.OURS, column) if many else None
            shown = None if ratio is None else f"{ratio:.2f}x"
            self.add(f"ValkeyStore: {column} of 1,000", "<= 1.3x a bare pipeline", shown, (ratio or 9) <= 1.3)

    def _section(self, section: str) -> Table | None:
        return next((table for table in self.tables if table.section == section), None)

    def bucket(self) -> None:
        for section, columns in (
            ("bucket", network.CALLS),
            ("in flight", network.IN_FLIGHT),
            ("bucket stream", ["put ms", "get ms"]),
        ):
            table = self._section(section)
            for column in columns:
                ratio = table.ratio(network.OURS, column) if table else None
                shown = None if ratio is None else f"{ratio:.2f}x"
                self.add(f"BucketStore: {column}", "<= 1.15x bare obstore", shown, (ratio or 9) <= 1.15)
                if table is not None:
                    faster = _faster(table, column)
                    measured = ", ".join(faster) or "none"
                    self.add(f"BucketStore: {column}, peers", "none faster", measured, not faster)
        table = self._section("bucket stream")
        for column in ("put MiB held", "get MiB held"):
            held = table.median(network.OURS, column) if table else None
            shown = None if held is None else f"{held:.0f} MiB"
            self.add(f"BucketStore: {column}", "<= 64 MiB", shown, (held or 999) <= 64)
        table = self._section("coroutines")
        for column in network.COROUTINES:
            ratio = table.ratio(network.OUR_ASYNC, column) if table else None
            shown = None if ratio is None else f"{ratio:.2f}x"
            self.add(f"AsyncStore: {column}", "<= 1.25x obstore's coroutines", shown, (ratio or 9) <= 1.25)

    def sql(self) -> None:
        table = self._section("sql")
        for column in network.SQL_CALLS:
            ratio = table.ratio(network.SQL_OURS, column) if table else None
            shown = None if ratio is None else f"{ratio:.2f}x"
            self.add(f"SqlStore: {column}", "<= 1.3x one prepared statement", shown, (ratio or 9) <= 1.3)

    def faces(self) -> None:
        for table in self.tables:
            for goal in table.goals:
                ratio = table.ratio(goal.name, goal.column, goal.other)
                shown = None if ratio is None else f"{ratio:.2f}x"
                self.add(goal.what, goal.words, shown, (ratio or 9) <= goal.limit)

    def http(self) -> None:
        table = self._section("http")
        for name in (network.HTTP_OURS, network.HTTP_COPY):
            ratio = table.ratio(name, network.HTTP_CALLS[0]) if table else None
            shown = None if ratio is None else f"{ratio:.2f}x"
            self.add(f"{name}: a crawl", ">= 0.5x the speed of bare requests", shown, (ratio or 0) >= 0.5)


def _faster(table: Table, column: str) -> list[str]:
    """Return the peers that take less time than BucketStore."""
    ours = table.median(network.OURS, column) or 0
    peers = [name for name in table.names if name not in (network.OURS, network.BARE)]
    return [name for name in peers if (table.median(name, column) or ours) < ours]
