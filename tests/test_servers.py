"""The servers of the tests themselves."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from tests.servers.postgresql import PostgresServer
from tests.servers.valkey import ValkeyServer
from tests.servers.web import nginx

with PostgresServer() as server, ValkeyServer(), TemporaryDirectory() as folder, nginx(Path(folder)):
    print(server.folder, flush=True)
    sys.stdin.read()
"""


def test_servers_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    paths = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    ) as process:

        def alive() -> list[int]:
            found = list[int]()
            for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
                with contextlib.suppress(ProcessLookupError):
                    if os.getsid(pid) == process.pid:
                        found.append(pid)
            return found

        assert process.stdout is not None
        folder = process.stdout.readline().decode().strip()
        assert len(alive()) >= 4
        process.kill()
    deadline = time.monotonic() + 60
    while alive():
        assert time.monotonic() < deadline, "servers outlive the process that started them"
        time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)
