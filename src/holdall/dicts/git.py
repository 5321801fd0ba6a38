"""Blobs in a work tree of git, with their versions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from holdall.dicts.base import B, BlobDict
from holdall.errors import BlobNotFoundError, InvalidArgumentError, InvalidKeyError
from holdall.layers.compressed import CompressedStore
from holdall.store import Store

if TYPE_CHECKING:
    from holdall.stores.git import Revision

Version: TypeAlias = str | int | datetime | timedelta
"""Which version of a blob in git: a revision, a number, a moment, or how long ago."""


class GitBlobDict(BlobDict[B]):
    """A blob dict in a work tree of git; every put and delete is a commit.

    A key may be a pair whose second part names a version of the blob: a revision as git spells it (a str,
    such as `HEAD~2`, a tag or a hash), an int that counts the blob's own versions as a sequence is indexed (0
    is the first, -1 the last), a datetime (the last version before it), or a timedelta (that long ago).

    Args:
        path: The folder of the work tree; None is the current one. If it lacks a repository, the first put
            makes one.
        user_name: The author's name; None is as git is configured.
        user_email: The author's address, which goes with the name.
        use_remote: Whether it syncs with the remote.
        use_remote_frequence: The greatest age of what was pulled from the remote, in seconds or as a
            timedelta.
        compression: As in `BlobDict`.
        blob_class: As in `BlobDict`.
        blob_class_args: As in `BlobDict`.

    >>> import tempfile
    >>> from holdall.blobs import StrBlob
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with GitBlobDict(folder, user_name="Ada", user_email="ada@example.org") as d:
    ...         d["plan.txt"] = StrBlob("first")
    ...         d["plan.txt"] = StrBlob("second")
    ...         d["plan.txt"].as_str(), d["plan.txt", "HEAD~1"].as_str(), d["plan.txt", 0].as_str()
    ('second', 'first', 'first')
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        user_name: str | None = None,
        user_email: str | None = None,
        use_remote: bool = False,
        use_remote_frequence: float | timedelta = 60.0,
        compression: bool | str = False,
        blob_class: type[B] | None = None,
        blob_class_args: Mapping[str, Any] | None = None,
    ) -> None:
        from holdall.stores.git import GitStore

        if (user_name is None) != (user_email is None):
            raise InvalidArgumentError("user_name and user_email go together; leave out both, or neither")
        author = None if user_name is None else f"{user_name} <{user_email}>"
        interval = use_remote_frequence
        seconds = interval.total_seconds() if isinstance(interval, timedelta) else interval
        place = "." if path is None else path
        git = GitStore(place, author=author, remote=use_remote, pull_interval=seconds)
        super().__init__(git, compression=compression, blob_class=blob_class, blob_class_args=blob_class_args)
        self._owned = self._git = git

    def create(self) -> None:
        """Make the repository, if it isn't there."""
        self._git._make_repository()

    def __getitem__(self, key: str | tuple[str, Version], /) -> B:
        if not isinstance(key, tuple):
            return super().__getitem__(key)
        blob = self._version(key)
        if blob is None:
            raise BlobNotFoundError(f"no such version: {key[1]!r}", key=key[0])
        return blob

    def get(self, key: str | tuple[str, Version], /, default: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the blob, or that version of it, or the default where there is none."""
        if not isinstance(key, tuple):
            return super().get(key, default)
        blob = self._version(key)
        return default if blob is None else blob

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, tuple):
            return super().__contains__(key)
        try:
            return self._version(cast("tuple[str, Version]", key)) is not None
        except InvalidKeyError:
            return False

    def _version(self, pair: tuple[str, Version]) -> B | None:
        if len(pair) != 2:
            raise InvalidKeyError(f"a key and its version are a pair, not {len(pair)} values")
        key, version = pair
        commit = self._commit(key, version)
        if commit is None:
            return None
        # Blobs that were put through this dict's layers are read through them.
        store: Store = self._git.at(commit)
        if isinstance(self._store, CompressedStore):
            store = CompressedStore(store)
        data = store.get(key)
        return None if data is None else self._decode(key, data, None)

    def _commit(self, key: str, version: Version) -> str | None:
        """Return the commit that a version names."""
        if isinstance(version, str):
            return version
        history = self._git.history(key)
        if isinstance(version, int) and not isinstance(version, bool):
            # The history begins with the newest commit; one that deleted the blob isn't a version of it.
            history = [each for each in history if key in self._git.at(each.commit)]
            index = -1 - version
            return history[index].commit if -len(history) <= index < len(history) else None
        if not isinstance(version, datetime | timedelta):
            raise InvalidArgumentError(
                f"a version is a str, an int, a datetime or a timedelta, not {type(version).__name__}",
                key=key,
            )
        moment = _moment(version)
        return next((each.commit for each in history if each.modified < moment), None)

    def history(self, key: str) -> list[Revision]:
        """Yield the commits that changed a key, the newest first: who, when and what."""
        return self._git.history(key)


def _moment(version: datetime | timedelta) -> datetime:
    """Return a moment, or the one that long ago, in UTC; the nearest that there is, if it is out of range."""
    try:
        return (datetime.now(UTC) - version if isinstance(version, timedelta) else version).astimezone(UTC)
    except (OverflowError, ValueError):
        first = version > timedelta(0) if isinstance(version, timedelta) else version.year == 1
        return (datetime.min if first else datetime.max).replace(tzinfo=UTC)
