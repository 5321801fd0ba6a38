"""Many short puts at once: all temporary files are made first, then they are renamed while the folder is
locked once, and a folder of several of them is opened once."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from time import time_ns

from holdall.errors import InvalidKeyError
from holdall.paths import keep_mode
from holdall.store import ANY, Info, Piece, Put
from holdall.stores.litter import remove
from holdall.stores.locks import FolderLock, release
from holdall.stores.nofollow import HERE, NEAR, NEW, close_all, move_new, open_below
from holdall.stores.shortway import ENOUGH, SHORT, look, mode_at
from holdall.stores.times import ticks

_log = logging.getLogger("holdall")

MOST = 16
"""The most blobs that are put at once. Their files aren't locked against sweepers, so it is to be brief; and
the more there are, the fewer have the memory, still warm, of files that were replaced just before."""

_NEW, _OPEN, _PRIVATE = (NEW,), (0o666,), (0o600,)


def put_in_batches(
    items: list[Put],
    lock_of: Callable[[], FolderLock | None],
    below: Callable[[str], str],
    one_by_one: Callable[[list[Put]], Iterator[Info]],
) -> Iterator[Info]:
    """Put blobs, in their order: those that can together, the others one by one.

    Args:
        items: The blobs.
        lock_of: Returns this thread's lock, or None if nothing is put the short way.
        below: Returns the path of a key below the folder.
        one_by_one: Puts blobs in the usual way.
    """
    at = 0
    while at < len(items):
        lock = lock_of()
        puts = [] if lock is None else _short_ones(items[at : at + MOST], below)
        infos = put_together(lock, puts) if lock is not None and len(puts) > 1 else []
        yield from infos
        at += len(infos)
        if len(infos) < MOST:
            rest = max(1, len(puts) - len(infos))
            yield from one_by_one(items[at : at + rest])
            at += rest


def _short_ones(items: list[Put], below: Callable[[str], str]) -> list[tuple[str, str, Piece]]:
    """The path, the key and the bytes of each up to the first that isn't put the short way."""
    puts: list[tuple[str, str, Piece]] = []
    left = SHORT
    for key, body, attributes in items:
        if not isinstance(body, tuple) or len(body) != 1 or attributes.mode is not None:
            break
        left -= len(body[0])
        if left < 0:
            break
        try:
            puts.append((below(key), key, body[0]))
        except InvalidKeyError:
            break  # it is raised when its turn comes
    return puts


def put_together(lock: FolderLock, puts: Sequence[tuple[str, str, Piece]]) -> list[Info]:
    """Put blobs, each given by its path below the folder, its key and its bytes, in their order up to the
    first that is to go another way; return the `Info` of each that was put."""
    held: list[int] = []
    drafts: list[tuple[str, str, str, int, bool]] = []
    infos: list[Info] = []
    done = 0
    try:
        try:
            _make(lock, puts, held, drafts, infos)
        except OSError as error:
            _log.debug("%r is put by itself: %s", puts[len(infos)][1], error)
        try:
            try:
                fcntl.flock(lock.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                for above, draft, name, folder, new in islice(drafts, len(infos)):
                    source = f"{lock.start}{above}{draft}"
                    if not new:
                        os.rename(source, name, dst_dir_fd=folder)
                    elif move_new(source, name, HERE, folder):
                        lock.misses = 0
                        break
                    done += 1
                fcntl.flock(lock.fd, fcntl.LOCK_UN)
            except OSError as error:
                release(lock.fd)
                _log.debug("%d blobs are put one by one: %s", len(infos) - done, error)
        except BaseException:
            # Once more if it was unlocked: see `holdall.stores.locks`.
            release(lock.fd)
            raise
        return infos[:done]
    finally:
        try:
            for _, draft, _, folder, _ in drafts[done:]:
                remove(draft, folder)
        finally:
            close_all(held)


def _make(
    lock: FolderLock,
    puts: Sequence[tuple[str, str, Piece]],
    held: list[int],
    drafts: list[tuple[str, str, str, int, bool]],
    infos: list[Info],
) -> None:
    """Make the temporary files: each is noted in `drafts`, and in `infos` once it is whole; opened folders
    are added to `held`."""
    fd, last, folder, create = -1, "", lock.fd, lock.open
    try:
        for path, key, data in puts:
            above, slash, name = path.rpartition("/")
            if above != last:
                last, folder, create = above, lock.fd, lock.open
                if slash:
                    if open_below(held, folder, above, NEAR):
                        return
                    folder = held[-1]
                    create = partial(os.open, dir_fd=folder)
            old = None if lock.misses > ENOUGH else look(lock, name, folder, ANY)
            draft, size = next(lock.drafts), len(data)
            drafts.append((above + slash, draft, name, folder, old is None))
            [fd] = map(create, (draft,), _NEW, _OPEN if old is None else _PRIVATE)
            if os.write(fd, data) != size:
                return  # the disk took a part only
            stamp = (time_ns() & ~1023) | (next(ticks) & 1023)
            os.utime(fd, ns=(stamp, stamp))
            if old is not None:
                keep_mode(fd, 0o600, old, lock.start + path)
            written, fd = fd, -1
            os.close(written)
            info = Info(key, size, stamp << 48 | size, stamp / 1e9)
            info._mode = partial(mode_at, lock.start + path, stamp)
            infos.append(info)
    finally:
        if fd >= 0:
            os.close(fd)
