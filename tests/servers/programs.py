"""Programs of servers that come in packages of Python."""

from __future__ import annotations

import importlib.metadata
import shutil


def program_of(package: str, name: str) -> str:
    """Return where a package has put a program, or where the PATH has it."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = next((str(file.locate()) for file in files if file.name == name), None) or shutil.which(name)
    if found is None:
        raise RuntimeError(f"these tests need {name}: pip install {package}")
    return found
