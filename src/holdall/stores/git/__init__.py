"""A store in a git repository: a work tree whose files are the blobs, and a commit for every change."""

from holdall.stores.git.revision import GitRevision, Revision
from holdall.stores.git.store import GitStore

__all__ = ["GitRevision", "GitStore", "Revision"]
