"""The kit on a path of a cloud, whose client was taken over, where it runs at full effort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cloudpathlib import GSClient, GSPath
from tests.again import Combined
from tests.servers.buckets import ask_once
from tests.servers.gcs import bucket_for, gcs_alone

from holdall import PathStore, Store


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    """A server, which the default client finds, here and in the processes of a test."""
    with pytest.MonkeyPatch.context() as patch, gcs_alone() as url:
        patch.setenv("STORAGE_EMULATOR_HOST", url)
        patch.setattr(GSClient, "_default_client", None)
        yield url


class TestPath(Combined):
    """A `BucketStore` on Google's emulator, with the settings of a path's client."""

    url: str

    @pytest.fixture(autouse=True)
    def _at(self, google: str, monkeypatch: pytest.MonkeyPatch) -> None:
        ask_once(monkeypatch, self)
        self.url = google

    def make(self, place: Path) -> Store:
        return PathStore(GSPath(f"gs://{bucket_for(self.url, place)}"))
