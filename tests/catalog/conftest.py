"""What the tests of the catalogue share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdall import BlobStore


@pytest.fixture(autouse=True, scope="session")
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the keys that sign pickles in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
        patch.delenv("HOLDALL_PICKLE_KEY", raising=False)
        yield


@pytest.fixture(params=["json", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., BlobStore]]:
    """Make handles on one catalogue, on each backend of metadata."""
    made: list[BlobStore] = []

    def open_one(**options: Any) -> BlobStore:
        made.append(BlobStore(tmp_path / "store", **{"backend": request.param, **options}))
        return made[-1]

    yield open_one
    for each in made:
        each.close()
