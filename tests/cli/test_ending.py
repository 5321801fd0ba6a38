"""The command as people run it, without the settings of these tests: then it ends at once when it is done."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.packages import install


def test_all_of_it_is_written_first(usual: Any, tmp_path: Path) -> None:
    data = os.urandom(5 << 20)
    usual("put", "big", stdin=data)
    assert usual("get", "big") == data
    for number in range(300):
        (tmp_path / "store" / f"{number:0200}").write_bytes(b"")
    assert usual("keys").decode().split() == [*(f"{number:0200}" for number in range(300)), "big"]
    assert usual("sync", "store", "copy", code=0) is not None
    assert len(os.listdir(tmp_path / "copy")) == 301


def test_the_exit_code_is_told(usual: Any) -> None:
    usual("put", "a", "1")
    usual("exists", "a")
    usual("exists", "b", code=1)
    assert "b" in usual.error("get", "b", code=1)
    usual.error("put", code=2)
    usual.error("put", "a", "2", "--if-absent", code=3)
    assert usual.error("keys", code=4, uri="/dev/null")


def test_output_that_can_not_be_written_is_an_error(usual: Any) -> None:
    usual("put", "a", "1")
    with open("/dev/full", "wb") as full:
        process = usual.start("keys", stdout=full, stderr=subprocess.PIPE)
    _, errors = process.communicate()
    assert process.returncode == 4
    assert errors.count(b"\n") == 1


def test_what_is_to_be_done_at_the_end_of_the_process_is(usual: Any, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(
        "import atexit, holdall\n"
        "class LateStore(holdall.MemoryStore):\n"
        "    @classmethod\n"
        "    def _from_uri(cls, location):\n"
        "        atexit.register(open, 'was-here', 'w')\n"
        "        return cls({'a': b'1'})\n"
    )
    install(tmp_path, "late", "1.0", {"holdall.stores": {"late": "late:LateStore"}})
    usual.env["PYTHONPATH"] = str(tmp_path)
    assert usual("keys", uri="late://x") == b"a\n"
    assert (tmp_path / "was-here").exists()


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_while_an_object_goes_is_not_lost(
    usual: Any, tmp_path: Path, number: str, code: int
) -> None:
    """Python drops what is raised in a `__del__`."""
    (tmp_path / "dropping.py").write_text(
        "import os, signal, time, holdall\n"
        "class Going:\n"
        "    def __del__(self):\n"
        f"        os.kill(os.getpid(), signal.{number})\n"
        "        os.stat('.')\n"
        "class DroppingStore(holdall.MemoryStore):\n"
        "    @classmethod\n"
        "    def _from_uri(cls, location):\n"
        "        Going()\n"
        "        time.sleep(60)\n"
        "        return cls()\n"
    )
    install(tmp_path, "dropping", "1.0", {"holdall.stores": {"dropping": "dropping:DroppingStore"}})
    usual.env["PYTHONPATH"] = str(tmp_path)
    assert usual.both("keys", uri="dropping://x", code=code) == (b"", "")
