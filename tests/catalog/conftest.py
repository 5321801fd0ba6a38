"""What the tests of the catalogue share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the keys that sign pickles in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
        patch.delenv("HOLDALL_PICKLE_KEY", raising=False)
        yield
