"""PgBouncer in transaction mode before a PostgreSQL server, for as long as a test needs it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.servers.ports import free_port
from tests.servers.postgresql import PostgresServer
from tests.servers.programs import bound
from tests.servers.web import running

_SETTINGS = """
[databases]
postgres = user=holdall host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"""


@contextlib.contextmanager
def pgbouncer(server: PostgresServer) -> Iterator[str]:
    """Yield the URL of a pooler with three connections to the server."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise RuntimeError("pgbouncer isn't installed: apt-get install pgbouncer")
    folder, port = Path(server.folder, "pooler"), free_port()
    folder.mkdir()
    settings = folder / "settings"
    settings.write_text(_SETTINGS.format(server=server.port, port=port, folder=folder))
    as_user: list[str] = []
    if os.getuid() == 0:
        # It refuses to run as root.
        shutil.chown(folder, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
    with running([*as_user, *bound([program, str(settings)], "TERM")], port):
        yield f"postgresql://holdall@127.0.0.1:{port}/postgres"
    shutil.rmtree(folder)
