"""Files over SFTP, by paramiko.

Times here are whole seconds. So that no two versions of a blob look alike, a put sets the time of the last
access, which this protocol has too, to a random moment that is years ahead, where no read changes it. It is a
part of the ETag.
"""

from __future__ import annotations

import os
import random
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator
from functools import cache, partial
from importlib import import_module
from typing import Any

from holdall.blob import Can
from holdall.errors import UnsupportedOperation
from holdall.ranges import CHUNK
from holdall.stores.fsspec.driver import class_of
from holdall.stores.fsspec.errors import ChangedError
from holdall.stores.fsspec.media import FILE, FOLDER, LINK, Found, Medium, Reader

_YEAR = 366 * 86_400
_LAST = (1 << 31) - 1
"""Some file systems have no later time."""
_PART = 1 << 15
"""No server refuses a request of this size."""
_AHEAD = 64
"""How many requests are under way, as many as OpenSSH's own client sends."""

_LISTED_AHEAD = 8
_KEEP_ALIVE = 60
"""Seconds after which an idle connection says that it is used, so that no firewall forgets it."""

_chance = random.SystemRandom()


class Sftp(Medium):
    """A server of SFTP. It is written to if it is one that renames by one call of its system: OpenSSH's, or
    one that speaks its extensions."""

    can = Can.LIST | Can.RANGE | Can.WRITE | Can.DELETE | Can.CREATE
    why = (
        "the server isn't OpenSSH's, and others needn't replace a file in one step; if you know that this "
        "one does, open it with atomic_move=True"
    )

    def __init__(self, moves: bool = False) -> None:
        super().__init__(moves)
        self._trusts = moves

    def close(self, fs: Any) -> None:
        fs.client.close()

    def disown(self, fs: Any) -> None:
        # Its finalizers would write to the parent's connection, or wait for a lock that nobody frees.
        channel, transport = fs.ftp.get_channel(), fs.client.get_transport()
        channel.lock, fs.ftp._lock = threading.Lock(), threading.Lock()
        channel.closed = True
        if transport is not None:
            transport.active = False

    def is_alive(self, fs: Any) -> bool:
        transport = fs.client.get_transport()
        return transport is not None and transport.is_active() and not fs.ftp.get_channel().closed

    def ask(self, fs: Any) -> tuple[Can, str]:
        own = self._is_openssh(fs)
        if not own and not self._trusts:
            return Can.LIST | Can.RANGE, self.why
        return (self.can if own else self.can & ~Can.CREATE), ""

    def _is_openssh(self, fs: Any) -> bool:
        transport = fs.client.get_transport()
        if str(transport.remote_version).startswith("SSH-2.0-OpenSSH"):
            return True
        try:
            # OpenSSH's server answers this since 8.5.
            fs.ftp._request(200, "limits@openssh.com")
        except OSError:
            return False
        return True

    def found(self, info: Any) -> Found:
        mode: int = info.st_mode or 0
        kind = FILE if stat.S_ISREG(mode) else FOLDER if stat.S_ISDIR(mode) else "special file"
        kind = LINK if stat.S_ISLNK(mode) else kind
        modified, read, size = int(info.st_mtime or 0), int(info.st_atime or 0), int(info.st_size or 0)
        mark = f"{read:x}-" if read > modified + _YEAR // 2 else ""
        return Found(kind, size, f"{modified:x}-{mark}{size:x}", float(modified), stat.S_IMODE(mode))

    def look(self, fs: Any, path: str) -> Found | None:
        try:
            return self.found(fs.ftp.lstat(path))
        except FileNotFoundError:
            return None

    def names(self, fs: Any, folder: str) -> list[tuple[str, Found]]:
        # Not by its listdir, which fails at a name that isn't UTF-8.
        paramiko: Any = import_module("paramiko")
        words, ftp, entries = _words(), fs.ftp, list[tuple[str, Found]]()
        try:
            handle = ftp._request(words.CMD_OPENDIR, folder or ".")[1].get_binary()
        except FileNotFoundError:
            return []
        asked: deque[int] = deque()
        ended = False
        while asked or not ended:
            while not ended and len(asked) < _LISTED_AHEAD:
                asked.append(ftp._async_request(type(None), words.CMD_READDIR, handle))
            try:
                answer = ftp._read_response(asked.popleft())[1]
            except EOFError:
                ended = True
                continue
            for _ in range(answer.get_int()):
                name = os.fsdecode(answer.get_string())
                answer.get_string()
                attributes = paramiko.SFTPAttributes._from_msg(answer)
                if name not in (".", ".."):
                    entries.append((name, self.found(attributes)))
        ftp._async_request(type(None), words.CMD_CLOSE, handle)
        return entries

    def open(self, fs: Any, path: str) -> Reader | None:
        words, ftp = _words(), fs.ftp
        plain = import_module("paramiko").SFTPAttributes()
        # Not together with the open, at which the server would wait if this is a pipe.
        found = self.look(fs, path)
        if found is None or found.kind != FILE:
            return None
        try:
            handle = ftp._request(words.CMD_OPEN, path, words.SFTP_FLAG_READ, plain)[1].get_binary()
        except FileNotFoundError:
            return None
        looked = ftp._async_request(type(None), words.CMD_FSTAT, handle)
        first = ftp._async_request(type(None), words.CMD_READ, handle, words.int64(0), _PART)
        found = self._read_attributes(ftp, looked)
        try:
            data: bytes = ftp._read_response(first)[1].get_string()
        except EOFError:
            data = b""
        close = partial(ftp._async_request, type(None), words.CMD_CLOSE, handle)
        return Reader(found, lambda low, high: _pieces(ftp, handle, data, low, high), close)

    def _read_attributes(self, ftp: Any, request: int) -> Found:
        return self.found(import_module("paramiko").SFTPAttributes._from_msg(ftp._read_response(request)[1]))

    def start(self, fs: Any, target: str, path: str) -> tuple[Found | None, Any]:
        words, ftp = _words(), fs.ftp
        flags = words.SFTP_FLAG_WRITE | words.SFTP_FLAG_CREATE | words.SFTP_FLAG_EXCL
        plain = import_module("paramiko").SFTPAttributes()
        looked = ftp._async_request(type(None), words.CMD_LSTAT, target)
        opened = ftp._async_request(type(None), words.CMD_OPEN, path, flags, plain)
        try:
            found = self._read_attributes(ftp, looked)
        except FileNotFoundError:
            found = None
        file = _Upload(ftp, ftp._read_response(opened)[1].get_binary())
        if found is not None and found.kind == FILE:
            plain.st_mode = found.mode
            file.ask(words.CMD_FSETSTAT, file.handle, plain)
        return found, file

    def settle(self, file: Any) -> None:
        # Another request would take the answers that are due.
        file.confirm(0)

    def seal(self, fs: Any, file: Any, path: str) -> Found:
        words = _words()
        now = int(time.time())
        token = _chance.randrange(now + _YEAR, max(_LAST, now + 2 * _YEAR))
        times = import_module("paramiko").SFTPAttributes()
        times.st_atime, times.st_mtime = token, now
        file.ask(words.CMD_FSETSTAT, file.handle, times)
        looked = fs.ftp._async_request(type(None), words.CMD_FSTAT, file.handle)
        closed = fs.ftp._async_request(type(None), words.CMD_CLOSE, file.handle)
        file.handle = None
        file.confirm(0)
        answer = import_module("paramiko").SFTPAttributes._from_msg(fs.ftp._read_response(looked)[1])
        fs.ftp._read_response(closed)
        if answer.st_size != file.size:
            raise OSError(f"the server has {answer.st_size} bytes of {file.size}")
        if (answer.st_atime, answer.st_mtime) != (token, now) and not self._trusts:
            raise UnsupportedOperation(
                "the file system of the server doesn't keep the times of files, by which versions of a blob "
                "are told apart; nothing was stored"
            )
        return self.found(answer)

    def abandon(self, file: Any) -> None:
        file.abandon()

    def replace(self, fs: Any, old: str, new: str) -> None:
        fs.ftp.posix_rename(old, new)

    def link(self, fs: Any, old: str, new: str) -> None:
        # A plain rename does the same in OpenSSH, but looks first on a disk without hard links.
        fs.ftp._request(200, "hardlink@openssh.com", old, new)

    def remove(self, fs: Any, path: str) -> None:
        fs.ftp.remove(path)

    def make_folder(self, fs: Any, path: str) -> None:
        fs.ftp.mkdir(path)

    def remove_folder(self, fs: Any, path: str) -> None:
        fs.ftp.rmdir(path)


class _Upload:
    """A file that is written in parts, some of which are under way."""

    def __init__(self, ftp: Any, handle: Any) -> None:
        self._ftp, self.handle = ftp, handle
        self.size = 0
        self._asked: deque[int] = deque()

    def ask(self, *request: Any) -> None:
        """Send a request, whose answer is looked at later."""
        self._asked.append(self._ftp._async_request(type(None), *request))

    def write(self, data: Any) -> None:
        words, view = _words(), memoryview(data)
        for at in range(0, len(view), _PART):
            part = bytes(view[at : at + _PART])
            self.ask(words.CMD_WRITE, self.handle, words.int64(self.size), part)
            self.size += len(part)
            self.confirm(_AHEAD)

    def confirm(self, most: int) -> None:
        """Wait for answers until at most so many are due."""
        while len(self._asked) > most:
            self._ftp._read_response(self._asked.popleft())

    def abandon(self) -> None:
        """Close the file; the answers that are due come before the next one."""
        if self.handle is not None:
            self._ftp._request(_words().CMD_CLOSE, self.handle)


def _words() -> Any:
    """The numbers of the protocol."""
    return import_module("paramiko.sftp")


def _pieces(ftp: Any, handle: Any, first: bytes, low: int, high: int) -> Iterator[bytes]:
    """Yield the bytes of an open file, of which the first are there, with some requests under way."""
    words, asked = _words(), deque[tuple[int, int]]()
    held = bytearray(first[low:high])
    at = low + len(held)
    if at == high:
        yield bytes(held)
        return
    while at < high or asked:
        while at < high and len(asked) < _AHEAD:
            size = min(_PART, high - at)
            request = ftp._async_request(type(None), words.CMD_READ, handle, words.int64(at), size)
            asked.append((request, size))
            at += size
        request, size = asked.popleft()
        try:
            data = ftp._read_response(request)[1].get_string()
        except EOFError:
            data = b""
        if len(data) != size:
            raise ChangedError("another program changed the file while it was read")
        held += data
        if len(held) >= CHUNK or not (at < high or asked):
            yield bytes(held)
            held.clear()


@cache
def session_class() -> Any:
    """The file system of fsspec, with the host keys that ssh knows, and with deadlines."""
    paramiko: Any = import_module("paramiko")
    policies = {
        "auto_add": paramiko.AutoAddPolicy,
        "reject": paramiko.RejectPolicy,
        "warning": paramiko.WarningPolicy,
    }

    class Session(class_of("sftp")):
        """A session of its own connection."""

        def _connect(self) -> None:
            options: dict[str, Any] = {**self.ssh_kwargs}
            for name in ("host_key_policy", "use_listings_cache", "skip_instance_cache"):
                options.pop(name, None)
            policy, known = options.pop("policy", "reject"), options.pop("known_hosts", None)
            timeout = float(options.pop("timeout", 30.0))
            for name in ("banner_timeout", "auth_timeout"):
                options.setdefault(name, timeout)
            self.client = paramiko.SSHClient()
            try:
                self.client.load_system_host_keys(known)
                self.client.set_missing_host_key_policy(
                    policies[policy]() if isinstance(policy, str) else policy
                )
                self.client.connect(self.host, timeout=timeout, **options)
                self.client.get_transport().set_keepalive(_KEEP_ALIVE)
                self.ftp = self.client.open_sftp()
                self.ftp.get_channel().settimeout(timeout)
            except BaseException:
                self.client.close()
                raise

    return Session
