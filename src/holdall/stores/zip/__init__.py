"""A store in one zip archive that any unzip reads, with a journal next to it."""

from holdall.stores.zip.store import ZipStore

__all__ = ["ZipStore"]
