"""A store in a file system of fsspec: the disk, memory, and OpenSSH's SFTP server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.again import Again
from tests.servers.sftp import SftpServer, sftp_server

from holdall.store import Store
from holdall.stores.fsspec import FsspecStore
from holdall.testing import StoreSuite


@pytest.fixture(scope="module")
def server() -> Iterator[SftpServer]:
    # A handle that stays open keeps the connections that all others share.
    with sftp_server() as server, FsspecStore(server.url("/tmp"), **server.options):
        yield server


class TestLocal(StoreSuite):
    reduced = True
    respells = True

    def make(self, place: Path) -> Store:
        return FsspecStore(f"file://{place}")


class TestMemory(Again):
    interruptible = False  # Python drops one in the finalizer of a file of fsspec that is replaced
    persistent = False

    def make(self, place: Path) -> Store:
        return FsspecStore(f"memory://{place}")


class TestSftp(Again):
    server: SftpServer

    @pytest.fixture(autouse=True)
    def _at(self, server: SftpServer) -> None:
        self.server = server

    def make(self, place: Path) -> Store:
        # A literal password isn't pickled.
        password = self.server.known_hosts.with_name("password")
        password.write_text(str(self.server.options["password"]))
        options: dict[str, Any] = {**self.server.options, "password": f"file:{password}"}
        return FsspecStore(self.server.url(place), **options)
