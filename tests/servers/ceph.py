"""S3 as Ceph's gateway speaks it, over an object store in memory."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.servers.ports import free_port
from tests.servers.programs import bound

_DEADLINE = 90.0
_UNREADY = "problem getting command descriptions from mon"
_PROGRAMS = ("monmaptool", "ceph-mon", "ceph-osd", "ceph", "radosgw", "radosgw-admin")

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""What the server takes for its user."""

# One replica, no authentication between the daemons, and decisions of the monitor without the usual second.
_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true
run dir = {folder}
crash dir = {folder}
keyring = {folder}/keyring
admin socket =
pid file =
log file =
mon cluster log file =
mon data = {folder}/mon
mon data avail crit = 0
mon data avail warn = 0
mon allow pool size one = true
paxos propose interval = 0.02
paxos min wait = 0.01
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush update on start = false
osd class update on start = false
osd class load list = *
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway} tcp_nodelay=1
rgw run sync thread = false
rgw enable gc threads = false
rgw enable lc threads = false
"""


@contextmanager
def ceph() -> Iterator[str]:
    """The address of a server that is empty, and ends with this."""
    if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
        raise RuntimeError(
            f"these tests need {', '.join(missing)}: apt-get install radosgw ceph-mon ceph-osd ceph-common"
        )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ceph-")))
        mon = gateway = free_port()
        while gateway == mon:
            gateway = free_port()
        for name in ("mon", "osd", "rgw"):
            (folder / name).mkdir()
        (folder / "keyring").touch()
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        (folder / "ceph.conf").write_text(
            _CONFIGURATION.format(fsid=fsid, folder=folder, mon=mon, gateway=gateway)
        )

        def run(program: str, *arguments: str) -> None:
            command = [program, "-c", str(folder / "ceph.conf"), *arguments]
            end = time.monotonic() + _DEADLINE
            while True:
                done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE, check=False)
                if not done.returncode:
                    return
                # A monitor that has just begun may refuse whoever asks it.
                if _UNREADY not in done.stderr or time.monotonic() > end:
                    raise RuntimeError(f"{' '.join(command)} failed: {done.stderr or done.stdout}")
                time.sleep(0.2)

        def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context((folder / f"{program}.log").open("wb"))
            process = subprocess.Popen(
                bound([program, "-c", str(folder / "ceph.conf"), *arguments, "-f"]),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        place = f"[v1:127.0.0.1:{mon}]"
        run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", place, str(folder / "monmap"))
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"))
        start("ceph-mon", "-i", "a")
        run("ceph", "osd", "new", osd)
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        run("ceph", "osd", "crush", "add", "osd.0", "1.0", "host=a", "root=default")
        start("ceph-osd", "-i", "0")
        url = f"http://127.0.0.1:{gateway}"
        _wait(url, start("radosgw", "-n", "client.rgw"), folder / "radosgw.log")
        keys = (
            f"--access-key={CREDENTIALS['AWS_ACCESS_KEY_ID']}",
            f"--secret-key={CREDENTIALS['AWS_SECRET_ACCESS_KEY']}",
        )
        run("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=u", "--display-name=u", *keys)
        yield url


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _DEADLINE
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"Ceph's gateway ended at once: {log.read_text()[-500:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise RuntimeError(f"Ceph's gateway doesn't answer: {log.read_text()[-500:]}") from error
            time.sleep(0.05)
