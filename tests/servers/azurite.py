"""Azure's blob storage as Azurite speaks it, in a process of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.ports import free_port
from tests.servers.programs import bound

_DEADLINE = 60.0
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key that every Azurite has; it is no secret."""


@contextmanager
def azurite() -> Iterator[str]:
    """The connection string of a server that is empty, and ends with this."""
    program = shutil.which("azurite-blob")
    if program is None:
        raise RuntimeError("these tests need Azurite on the PATH: npm install -g azurite")
    port = free_port()
    command = [
        *(program, "--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry"),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
        # By default it closes a connection that is idle for 5 seconds, now and then just as a request comes.
        *("--blobKeepAliveTimeout", "600"),
    ]
    with subprocess.Popen(bound(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(port, process)
            address = f"http://127.0.0.1:{port}/devstoreaccount1"
            yield (
                "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
                f"AccountKey={_KEY};BlobEndpoint={address};"
            )
        finally:
            process.kill()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _DEADLINE
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"Azurite ended at once, with {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise RuntimeError("Azurite doesn't answer") from error
            time.sleep(0.05)
