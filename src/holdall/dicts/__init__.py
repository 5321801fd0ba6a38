"""Dicts whose values are typed blobs, over any store."""

from __future__ import annotations

from holdall.dicts.base import BlobDict
from holdall.dicts.git import GitBlobDict
from holdall.dicts.git import Version as Version
from holdall.dicts.memory import InMemoryBlobDict
from holdall.dicts.path import LocalPath, PathBlobDict
from holdall.dicts.replicas import MultiReplicaBlobDict
from holdall.dicts.valkey import ValkeyBlobDict, VulkeyBlobDict

__all__ = [
    "BlobDict",
    "GitBlobDict",
    "InMemoryBlobDict",
    "LocalPath",
    "MultiReplicaBlobDict",
    "PathBlobDict",
    "ValkeyBlobDict",
    "VulkeyBlobDict",
]
