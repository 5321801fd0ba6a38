"""The plug-in of `examples/` as its users have it: built, installed, and used by its names alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.effort import effort

EXAMPLE = Path(__file__).parent.parent / "examples/holdall-lmdb"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, built as a wheel and unpacked by pip, without a network."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(folder), str(EXAMPLE)]
    subprocess.run(command, check=True, timeout=120)
    assert (folder / "holdall_lmdb/store.py").exists()
    return folder


def run(
    installed: Path, folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, where the package is installed."""
    # What else is known here came from the path too, as in an editable installation.
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOLDALL_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**kept, "PYTHONPATH": path, "XDG_CONFIG_HOME": str(folder / "settings"), **environment},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_it_passes_its_own_tests(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(EXAMPLE / "pyproject.toml", tmp_path)
    arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/files")
    done = run(
        installed,
        tmp_path,
        *arguments,
        HOLDALL_KIT=effort("full", "quick"),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )
    last = done.stdout.splitlines()[-1]
    # Nothing failed, and nothing was skipped.
    passed = re.fullmatch(r"(\d+) passed in .*", last)
    assert passed, last
    assert int(passed[1]) > 200


USE = """
import sys
from fractions import Fraction
import holdall
holdall.Store.from_uri("memory://").close()
assert not [name for name in sys.modules if name.startswith(("holdall_lmdb", "lmdb"))]

with holdall.get_store("lmdb://shares", serialization_mode="typed") as shares:
    shares["ada"] = Fraction(3, 4)
    assert shares["ada"] == Fraction(3, 4)
with holdall.get_store("lmdb://shares") as shares:
    shares.put("bob.fraction", Fraction(1, 4), serialization_mode="fraction")
with holdall.Store.from_uri("slow:") as store:
    assert type(store).__name__ == "RateLimitedStore"
    assert store["bob.fraction"] == b"1/4"
assert holdall.Resource("lmdb://shares#ada", serialization_mode="typed").get() == Fraction(3, 4)
"""


def test_it_is_used_by_its_names(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "holdall.toml").write_text("""
[stores.slow]
uri = "lmdb://shares?map_size=1048576"
rate_limit = 1000
""")
    run(installed, tmp_path, "-W", "error", "-c", USE)
    listed = run(installed, tmp_path, "-m", "holdall", "--store", "lmdb://shares", "ls")
    assert listed.stdout.splitlines() == ["ada", "bob.fraction"]
    found = json.loads(run(installed, tmp_path, "-m", "holdall", "doctor", "slow:", "--json").stdout)
    assert [(each["kind"], each["name"], each["error"]) for each in found["plugins"]] == [
        *(("layer", "rate_limit", None), ("serializer", "fraction", None), ("store", "lmdb", None)),
    ]
    assert found["stores"][0]["error"] is None
