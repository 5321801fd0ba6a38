"""The servers that the reader of the documents has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
from tests.servers.azurite import azurite
from tests.servers.certificates import sign_itself
from tests.servers.moto import moto
from tests.servers.valkey import ValkeyServer
from tests.servers.web import nginx


class Servers:
    """The servers that the reader has: each starts when it is first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self.ports: dict[tuple[str, int], int] = {}
        """Where a name and a port lead, as the reader's network has it: to a port of loopback."""
        self._stack = stack
        self._s3: str | None = None
        self._azure: str | None = None
        self._valkey: ValkeyServer | None = None

    @property
    def s3(self) -> str:
        self._s3 = self._s3 or self._stack.enter_context(moto())
        return self._s3

    @property
    def azure(self) -> str:
        self._azure = self._azure or self._stack.enter_context(azurite())
        return self._azure

    @property
    def valkey(self) -> ValkeyServer:
        self._valkey = self._valkey or self._stack.enter_context(ValkeyServer())
        return self._valkey

    def bucket(self, name: str) -> Any:
        """A new bucket, as boto3 has it."""
        client = boto3.resource(
            "s3", endpoint_url=self.s3, region_name="us-east-1", aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )  # fmt: skip
        return client.create_bucket(Bucket=name)

    def website(self, folder: Path, host: str) -> Path:
        """Serve a folder by that name, with TLS; return the certificate that its users trust."""
        certificate, key = folder.with_suffix(".pem"), folder.with_suffix(".key")
        sign_itself(f"DNS:{host}", certificate, key)
        more = f'ssl_certificate "{certificate}"; ssl_certificate_key "{key}";'
        self.ports[host, 443] = self._stack.enter_context(nginx(folder, more=more, tls="ssl"))
        return certificate

    def route(self, resolve: Callable[..., Any]) -> Callable[..., Any]:
        """Return what looks names up as the reader's network does."""

        def look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            led = self.ports.get((host, int(port or 0)))
            return resolve(*((host, port) if led is None else ("127.0.0.1", led)), *args, **options)

        return look_up
