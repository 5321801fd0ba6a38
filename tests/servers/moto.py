"""S3 as moto speaks it, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.ports import free_port
from tests.servers.programs import bound

_DEADLINE = 60.0

# moto looks at a condition and then acts, without a lock around both: of two who delete one version both may
# be told that it was theirs. Here it answers one request after the other. At each request it looks for its
# own modules on the disk, and parses the time of each object that it lists: here it does that once. And it
# takes the name of a bucket such as `my_bucket` for a service and its region.
_PROGRAM = """
import functools, sys, threading
import moto.backends, moto.core.serialize
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

modules = list(moto.backends.list_of_moto_modules())
moto.backends.list_of_moto_modules = lambda: modules
moto.core.serialize.parse_to_aware_datetime = functools.lru_cache(moto.core.serialize.parse_to_aware_datetime)
DomainDispatcherApplication.get_service_from_path = lambda self, path: (None, None)
lock, app = threading.Lock(), DomainDispatcherApplication(create_backend_app)

def answer(environment, start):
    with lock:
        return list(app(environment, start))

run_simple("127.0.0.1", int(sys.argv[1]), answer, threaded=True)
"""


@contextmanager
def moto() -> Iterator[str]:
    """The address of a server that is empty, takes any credentials, and ends with this."""
    port = free_port()
    command = [sys.executable, "-c", _PROGRAM, str(port)]
    with subprocess.Popen(bound(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process)
            yield url
        finally:
            process.kill()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _DEADLINE
    while True:
        if process.poll() is not None:
            raise RuntimeError("moto ended at once: pip install 'moto[server,s3]'")
        try:
            with urllib.request.urlopen(f"{url}/moto-api/", timeout=5):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise RuntimeError("moto doesn't answer") from error
            time.sleep(0.05)
