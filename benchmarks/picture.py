"""The picture: how many times the bare call each contender takes, for put and get of 1 KiB."""

from __future__ import annotations

from benchmarks.contenders import BARE, HOLDALL, Contender
from benchmarks.table import Table

OURS, SAME, WEAKER = "#1b6ca8", "#e08e0b", "#b9bec4"


class NoPicture(Exception):
    """Why there is none."""


def draw(tables: list[Table], classes: list[type[Contender]], path: str) -> None:
    """Write the SVG (or PNG, by the path's ending).

    Raises:
        NoPicture: matplotlib is not installed, or there is nothing to draw.
    """
    try:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot
        from matplotlib.patches import Patch
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
    except ImportError as error:
        raise NoPicture(f"no picture: matplotlib is not installed ({error})") from None

    from benchmarks.verdict import Verdict

    shown = [
        t for t in tables if t.section == "small" and t.place in ("memory", "tmpfs") and t.medium != "zip"
    ]
    if not shown:
        raise NoPicture("no picture: nothing of it was measured")
    kinds = {(kind.medium, kind.name): kind for kind in classes}
    rows = [sum(kinds[t.medium, name].kind != BARE for name in t.names) for t in shown]
    matplotlib.rcParams["svg.hashsalt"] = "holdall"
    matplotlib.rcParams["svg.fonttype"] = "none"
    figure, axes = pyplot.subplots(
        len(shown),
        2,
        figsize=(11, 0.36 * sum(rows) + 0.75 * len(shown) + 1.1),
        squeeze=False,
        sharex="row",
        gridspec_kw={"height_ratios": [count + 0.8 for count in rows]},
        layout="constrained",
    )
    for line, table in enumerate(shown):
        where = "" if table.place == "memory" else f" on {table.place}"
        names = [name for name in table.names if kinds[table.medium, name].kind != BARE]
        key = {name: table.ratio(name, "get") or 1e9 for name in names}
        names.sort(key=lambda name: (kinds[table.medium, name].kind != HOLDALL, key[name]))
        top = max((table.ratio(n, c) or 1 for n in names for c in ("put", "get")), default=1)
        for axis, column in zip(axes[line], ("put", "get"), strict=True):
            for height, name in enumerate(reversed(names)):
                kind = kinds[table.medium, name]
                ratio, value = table.ratio(name, column), table.median(name, column)
                if ratio is None or value is None:
                    axis.text(1.02, height, "not measured", va="center", fontsize=8, color="#777777")
                    continue
                same = Verdict.equal(kind)
                color = OURS if kind.kind == HOLDALL else SAME if same else WEAKER
                axis.barh(height, ratio - 0.8, left=0.8, color=color, height=0.7)
                at = max(ratio, 1.0) * 1.04
                axis.text(
                    at, height, f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x", va="center", fontsize=8
                )
            axis.set_xscale("log")
            axis.set_xlim(0.8, max(top * 1.5, 4))
            ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
            axis.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if tick < max(top * 1.5, 4)]))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.axvline(1, color="#222222", linewidth=1)
            axis.set_yticks(range(len(names)), [*reversed(names)] if column == "put" else [])
            axis.tick_params(labelsize=8, length=2)
            axis.set_title(f"{table.medium}{where}: {column}", fontsize=9.5, loc="left")
            for side in ("top", "right", "left"):
                axis.spines[side].set_visible(False)
    figure.suptitle("1 KiB: how many times the bare call (1 is the bare call; less is better)", fontsize=11)
    figure.legend(
        handles=[
            Patch(color=OURS, label="holdall"),
            Patch(color=SAME, label="peer with the same promise"),
            Patch(color=WEAKER, label="peer that promises less"),
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
    )
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.endswith(".svg") else None)
    pyplot.close(figure)
