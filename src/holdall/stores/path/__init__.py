"""A store in the folder of a pathlib-like object: a `CloudPath`, a `UPath`, or a local `Path`."""

from __future__ import annotations

from holdall.stores.path.store import PathStore

__all__ = ["PathStore"]
