"""Where and on what the figures were taken, without any path or address."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version

PEERS = (
    "blob-dict",
    "diskcache",
    "diskcache-community",
    "hashstash",
    "joblib",
    "msgspec",
    "zict",
    "obstore",
    "fsspec",
    "anystore",
    "minimalkv",
    "opendal",
    "blosc2",
    "s3fs",
    "zarr",
)


def processor() -> str:
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def file_system(folder: str) -> str:
    """The type of the file system that holds a folder."""
    best, kind = "", "unknown"
    real = os.path.realpath(folder)
    with open("/proc/mounts") as file:
        for line in file:
            _, mount, name, *_ = line.split()
            inside = real == mount or real.startswith(mount.rstrip("/") + "/")
            if inside and len(mount) >= len(best):
                best, kind = mount, name
    return kind


def facts(places: dict[str, str]) -> list[tuple[str, str]]:
    load = os.getloadavg()[0]
    return [
        ("processor", f"{processor()}, {os.cpu_count()} cores"),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("Python", f"{platform.python_implementation()} {sys.version.split()[0]}"),
        ("SQLite", sqlite3.sqlite_version),
        *((place, file_system(folder)) for place, folder in places.items()),
        ("load before the run", f"{load:.2f}"),
    ]


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def installed(folder: str) -> dict[str, str]:
    """The environment of Python programs whose modules are compiled, as an installer leaves them: here in a
    folder, by the first that runs."""
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": folder}
