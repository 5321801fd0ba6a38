"""The servers that the reader of the documents has."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import boto3
from tests.servers.azurite import azurite
from tests.servers.moto import moto
from tests.servers.valkey import ValkeyServer


class Servers:
    """The servers that the reader has: each starts when it is first asked for."""

    def __init__(self, stack: ExitStack) -> None:
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
