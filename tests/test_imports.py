"""Imports that no Ctrl-C leaves half done."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from holdall.imports import load_whole
from holdall.values.packages import needed


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package during whose import a Ctrl-C comes."""
    (tmp_path / "half_imported.py").write_text(
        "import os, signal\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "for _ in range(1000): os.stat('.')\n"
        "whole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "half_imported"
    sys.modules.pop("half_imported", None)


def test_an_interrupt_comes_once_the_package_is_whole(package: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        needed(package, None, "a test")
    assert sys.modules[package].whole
    assert signal.getsignal(signal.SIGINT) is before


def test_a_handler_of_the_program_is_called(package: str) -> None:
    called: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: called.append(number))
    try:
        assert load_whole(package).whole
    finally:
        signal.signal(signal.SIGINT, before)
    assert called == [signal.SIGINT]


def test_one_that_is_ignored_stays_so(package: str) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert load_whole(package).whole
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
