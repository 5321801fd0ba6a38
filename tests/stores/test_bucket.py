"""What is special to a store in a bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.servers.ceph import CREDENTIALS
from tests.servers.moto import moto

from holdall.store import Store
from holdall.stores.bucket import BucketStore
from holdall.testing import StoreSuite


def client_of(url: str) -> Any:
    return boto3.client("s3", endpoint_url=url)


@pytest.fixture(scope="module", autouse=True)
def credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def server(credentials: None) -> Iterator[str]:
    with moto() as url:
        yield url


@cache
def bucket(url: str, place: Path) -> str:
    """A bucket for each folder."""
    name = hashlib.sha256(str(place).encode()).hexdigest()[:32]
    client_of(url).create_bucket(Bucket=name)
    return name


class TestS3(StoreSuite):
    reduced = True
    url: str

    @pytest.fixture(autouse=True)
    def _at(self, server: str) -> None:
        self.url = server

    def make(self, place: Path) -> Store:
        return BucketStore(f"s3://{bucket(self.url, place)}", endpoint=self.url)
