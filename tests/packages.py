"""Packages that other people would install."""

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, name: str, version: str, entries: Mapping[str, Mapping[str, str]]) -> None:
    """Make known what pip would, of a package whose code lies in a folder.

    Args:
        folder: Where the code lies, which is on the path of Python.
        name: The distribution's name.
        version: Its version.
        entries: Its entry points, by group and name.
    """
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines: list[str] = []
    for group, points in entries.items():
        lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines))
