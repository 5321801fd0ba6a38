"""An SFTP server on loopback: OpenSSH's own `sftp-server`, behind a small SSH server of paramiko's.

`python -m tests.servers.sftp PORT KEY NAME` is that SSH server, a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import paramiko
from paramiko import common
from tests.servers.ports import free_port

USER, PASSWORD = "tester", "a secret of tests"
_DEADLINE = 60.0


class SftpServer:
    """A server that can be stopped and started again at the same port, over all files of the disk."""

    def __init__(self, folder: Path, name: str = "SSH-2.0-OpenSSH_tests") -> None:
        self.port = free_port()
        self._key, self._name = folder / "key", name
        key = paramiko.ECDSAKey.generate()
        key.write_private_key_file(str(self._key))
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key.get_name()} {key.get_base64()}\n")
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, path: object) -> str:
        return f"sftp://{USER}@127.0.0.1:{self.port}{path}"

    @property
    def options(self) -> dict[str, Any]:
        """What a client has to know."""
        return {
            "password": PASSWORD,
            "known_hosts": str(self.known_hosts),
            "look_for_keys": False,
            "allow_agent": False,
        }

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.servers.sftp", str(self.port), str(self._key), self._name]
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
        )
        deadline = time.monotonic() + _DEADLINE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the SSH server doesn't start; see its output above") from None
                time.sleep(0.02)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()


@contextlib.contextmanager
def sftp_server(name: str = "SSH-2.0-OpenSSH_tests") -> Generator[SftpServer]:
    """A server that ends with this."""
    with tempfile.TemporaryDirectory(prefix="sftp-") as folder:
        server = SftpServer(Path(folder), name)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _program() -> str:
    found = shutil.which(
        "sftp-server", path="/usr/lib/openssh:/usr/libexec/openssh:/usr/libexec:/usr/lib/ssh"
    )
    if found is None:
        raise RuntimeError("these tests need OpenSSH's sftp-server: apt-get install openssh-sftp-server")
    return found


class _Interface(paramiko.ServerInterface):
    def check_auth_password(self, username: str, password: str) -> int:
        fits = (username, password) == (USER, PASSWORD)
        return common.AUTH_SUCCESSFUL if fits else common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return common.OPEN_SUCCEEDED

    def check_channel_subsystem_request(self, channel: Any, name: str) -> bool:
        if name != "sftp":
            return False
        threading.Thread(target=_serve, args=(channel,), daemon=True).start()
        return True


def _serve(channel: Any) -> None:
    with subprocess.Popen([_program()], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        threading.Thread(target=_answer, args=(process.stdout, channel), daemon=True).start()
        with contextlib.suppress(OSError):
            while data := channel.recv(1 << 16):
                process.stdin.write(data)
                process.stdin.flush()
        with contextlib.suppress(OSError):
            process.stdin.close()


def _answer(source: Any, channel: Any) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := source.read1(1 << 16):
            channel.sendall(data)
        channel.close()


def _main(port: int, key: str, name: str) -> None:
    host_key = paramiko.ECDSAKey(filename=key)
    listener = socket.create_server(("127.0.0.1", port), backlog=100)
    # It ends with the process that started it.
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(connection)
        transport.local_version = name
        transport.add_server_key(host_key)
        # A client that is gone isn't a fault of the server.
        with contextlib.suppress(Exception):
            transport.start_server(server=_Interface())

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=talk, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    import logging

    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    _main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
