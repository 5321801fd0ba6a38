"""RESULTS.md, from the tables of a run."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.contenders import Contender
from benchmarks.table import Table
from benchmarks.verdict import Verdict

HOW = """## How to read

A cell is the median of the rounds, and in brackets how many times the bare call it takes, as the median
of the rounds' own ratios: in each round every contender runs, call by call, in an order that turns from
round to round, so that what disturbs the machine disturbs all. Ratios hold better than figures. The first
round is thrown away, and the garbage collector is off while the clock runs, but for buckets, PostgreSQL and
HTTP, where only the first call is. Of the catalogue's small objects, of the front door and of the faces
it is processor time, unless the table says otherwise. Read the tables on tmpfs for what the software costs,
those on disk for what is left of it there.

*Promise*: **W** a put is whole or not at all, for readers and through a kill; **L** live, what other
handles and processes write is seen at once; **S** compare-and-swap by ETag, against all other writers.
"The same promise" in the table above is W and L, although among the peers on files and SQLite nobody has
S; in memory, where whole is free, it is W and S. Why a cell is
empty is said below its table.

*Bare* has the promise W and L, no key check, no error of its own, no ETag, no compare-and-swap lock: for
files open + write + close + rename, and open + fstat + read + close; for SQLite one cached statement in
its own transaction on a rowid table in WAL mode with `synchronous=NORMAL` and the very settings holdall
has; for memory a method on a dict.
"""


def figure(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _grid(rows: Iterable[list[str]]) -> list[str]:
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] + ["--:"] * (len(head) - 1)) + " |"]
    return lines + ["| " + " | ".join(row) + " |" for row in body]


def _cell(table: Table, name: str, column: str) -> str:
    value = table.median(name, column)
    if value is None:
        return ""
    ratio = None if "held" in column or column == "keys" or not table.bare else table.ratio(name, column)
    if ratio is None or name == table.bare:
        return figure(value)
    return f"{figure(value)} ({ratio:.2f})"


def _table(table: Table, promises: dict[tuple[str, str], str]) -> list[str]:
    marked = any((table.medium, name) in promises for name in table.names)
    rows = [[table.unit, *(["promise"] if marked else []), *table.columns]]
    for name in table.names:
        mark = [promises.get((table.medium, name)) or "none"] if marked else []
        shown = f"**{name}**" if name.startswith("holdall") else name
        rows.append([shown, *mark, *(_cell(table, name, column) for column in table.columns)])
    lines = [f"### {table.title}", "", *_grid(rows), ""]
    reasons: dict[tuple[str, str], list[str]] = {}
    for (name, column), why in table.reasons.items():
        reasons.setdefault((name, why), []).append(column)
    notes = [f"{name}, {', '.join(columns)}: {why}" for (name, why), columns in reasons.items()]
    notes += table.notes
    if notes:
        lines += [*(f"- {note}" for note in notes), ""]
    return lines


def markdown(
    tables: list[Table],
    classes: list[type[Contender]],
    facts: list[tuple[str, str]],
    versions: dict[str, str | None],
    date: str,
    seconds: float,
    command: str,
    quick: bool,
    whole: bool,
    picture: str | None,
) -> str:
    verdict = Verdict(tables, classes)
    lines = verdict.make()
    out = [
        "# Benchmarks: results",
        "",
        f"Written by `{command}` on {date}, in {seconds:.0f} s; not by hand.",
        "",
    ]
    if quick:
        out += ["**A quick run, to see that everything works: its figures mean little.**", ""]
    out += ["## What must be reached", ""]
    signs = {True: "yes", False: "**no**", None: ""}
    rows = [["", "goal", "measured", "reached"]]
    shown = lines if whole else [line for line in lines if line.reached is not None]
    rows += [[line.what, line.goal, line.measured, signs[line.reached]] for line in shown]
    out += [*_grid(rows), ""]
    if not whole:
        out += ["This run measured a part only; the other goals are not listed.", ""]
    if verdict.weaker:
        out += ["Faster, but promising less:", "", *(f"- {text}" for text in verdict.weaker), ""]
    if picture:
        out += [f"![Ratios to the bare call, put and get of 1 KiB]({picture})", ""]
    out += [HOW]
    promises = {(kind.medium, kind.name): kind.promise for kind in classes}
    headings = {
        "small": "Calls with 1 KiB",
        "nested": "Calls with 1 KiB",
        "durable": "Calls with 1 KiB",
        "mib": "Blobs of 1 MiB",
        "stream": "Streams",
        "list": "Listings",
        "list nested": "Listings",
        "long": "Listings",
        "layers": "Layers",
        "transparent": "Layers",
        "hits": "Layers",
        "sync": "Sync",
        "resume": "Sync",
        "git": "Git",
        "git sizes": "Git",
        "valkey": "Valkey",
        "valkey many": "Valkey",
        "dicts": "Blob dicts",
        "bucket": "Buckets",
        "in flight": "Buckets",
        "coroutines": "Buckets",
        "bucket stream": "Buckets",
        "sql": "PostgreSQL",
        "http": "HTTP",
        "catalog": "The catalogue",
        "catalog json": "The catalogue",
        "catalog quoted": "The catalogue",
        "catalog arrays": "The catalogue",
        "catalog peers": "The catalogue",
        "door raw": "The front door",
        "door json": "The front door",
        "door cached": "The front door",
        "door lines": "The front door",
        "door start": "The front door",
        "faces": "Faces: other libraries over a store",
        "import": "Import",
    }
    heading = ""
    for table in sorted(tables, key=lambda table: list(headings).index(table.section)):
        if headings[table.section] != heading:
            heading = headings[table.section]
            out += [f"## {heading}", ""]
        out += _table(table, promises)
    out += ["## The peers", ""]
    notes = [[kind.name, kind.medium, kind.promise or "none", kind.note] for kind in classes if kind.note]
    if notes:
        out += [*_grid([["", "medium", "promise", "what to know"], *notes]), ""]
    found = [f"{name} {text}" for name, text in versions.items() if text]
    out += [f"Versions: {', '.join(found) or 'none is installed'}.", ""]
    out += ["## The machine", "", *(f"- {name}: {text}" for name, text in facts), ""]
    spent: dict[str, float] = {}
    for table in tables:
        spent[headings[table.section]] = spent.get(headings[table.section], 0) + table.seconds
    out += [
        "## What the run took",
        "",
        *_grid([["", "seconds"]] + [[n, f"{s:.0f}"] for n, s in spent.items()]),
        "",
    ]
    return "\n".join(out)
