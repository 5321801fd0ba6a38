"""A Valkey or Redis server on loopback, and a cluster of three, for as long as a test needs them."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.servers.ports import free_port
from tests.servers.programs import bound

_DEADLINE = 60.0
# A server that is killed while it rewrites its file may refuse to read it again (7.0), so it never rewrites.
_DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0")


def program(name: str = "server") -> str:
    for family in ("valkey", "redis"):
        found = shutil.which(f"{family}-{name}")
        if found:
            return found
    raise RuntimeError(f"neither valkey-{name} nor redis-{name} is installed: apt-get install redis-server")


class ValkeyServer:
    """One server in a temporary folder.

    Args:
        options: More of its command line.
        durable: Whether it keeps all that it acknowledged through a kill.
        tls: A certificate, its key and the authority's certificate: it listens with TLS only.
    """

    def __init__(self, *options: str, durable: bool = False, tls: tuple[str, str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="valkey-")
        self.port = free_port()
        self.options = [
            *("--bind", "127.0.0.1", "--dir", self._folder.name, "--save", ""),
            *("--logfile", f"{self._folder.name}/log", "--daemonize", "no"),
            *("--repl-diskless-sync-delay", "0"),
            *(_DURABLE if durable else ("--appendonly", "no")),
        ]
        if tls is None:
            self.options += ["--port", str(self.port)]
        else:
            certificate, key, authority = tls
            self.options += ["--port", "0", "--tls-port", str(self.port), "--tls-cert-file", certificate]
            self.options += [
                "--tls-key-file",
                key,
                "--tls-ca-cert-file",
                authority,
                "--tls-auth-clients",
                "no",
            ]
        self.options += options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        path = Path(self._folder.name, "log")
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, wait: bool = True) -> None:
        before = len(self.log)
        self._process = subprocess.Popen(
            bound([program(), *self.options]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if not wait:
            return
        deadline = time.monotonic() + _DEADLINE
        while "Ready to accept connections" not in self.log[before:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server doesn't start: {self.log[-500:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self.kill()
        self._folder.cleanup()

    def __enter__(self) -> ValkeyServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def valkey_cluster(
    size: int = 3, replicas: bool = False, node_timeout: int = 5000
) -> Iterator[list[ValkeyServer]]:
    """Servers that share the slots among them.

    Args:
        size: How many.
        replicas: Whether each has a replica; these follow in the list, in the same order.
        node_timeout: Milliseconds after which the others take one for dead.
    """
    import redis

    with contextlib.ExitStack() as stack:
        options = "--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout)
        total = 2 * size if replicas else size
        servers = [stack.enter_context(ValkeyServer(*options)) for _ in range(total)]
        clients: list[Any] = [
            stack.enter_context(redis.Redis(host="127.0.0.1", port=server.port, protocol=2))
            for server in servers
        ]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < size:
                low, high = 16384 * number // size, 16384 * (number + 1) // size - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high)
        for number, client in enumerate(clients):
            for server in servers[number + 1 :]:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)
        for client in clients:
            _wait(lambda client=client: b"cluster_known_nodes:%d" % total in _raw(client))
        for primary, client in zip(clients, clients[size:], strict=False):
            name = primary.execute_command("CLUSTER", "MYID").decode()
            _wait(lambda client=client, name=name: _replicates(client, name))
            _wait(lambda client=client: client.info("replication").get("master_link_status") == "up")
        for client in clients:
            _wait(lambda client=client: b"cluster_state:ok" in _raw(client))
        yield servers


def _wait(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError("the cluster doesn't come up")
        time.sleep(0.05)


def _replicates(client: Any, primary: str) -> bool:
    import redis

    try:
        client.execute_command("CLUSTER", "REPLICATE", primary)
    except redis.ResponseError:
        # It doesn't know yet that the other one is a primary.
        return False
    return True


def _raw(client: Any) -> bytes:
    connection = client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    connection.send_command("CLUSTER", "INFO")
    try:
        return connection.read_response(disable_decoding=True)
    finally:
        connection.disconnect()
