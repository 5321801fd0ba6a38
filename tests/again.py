"""The bases of suites whose stores have been through the kit in another suite, on another server or loop."""

import os

import pytest

from holdall.testing import StoreSuite


class Again(StoreSuite):
    """A suite that tries the least, unless the environment variable `HOLDALL_KIT` says otherwise."""

    reduced = True

    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if "HOLDALL_KIT" not in os.environ:
            monkeypatch.setenv("HOLDALL_KIT", "quick")


class Combined(Again):
    """A suite of parts that all have other suites, such as a setting, a server, layers: it runs only where
    `HOLDALL_KIT` is `full`."""
