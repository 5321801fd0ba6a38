"""What the blocks of asyncblobdict.md leave to their reader, and what they do."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Generator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient
from tests.requirements.reader import Reader
from tests.requirements.running import FOLDER, Supplies
from tests.requirements.servers import Servers

import holdall
from holdall import AsyncBlobStore, CacheMode, ConcurrencyMode, LocalFileAdapter

supplies = Supplies()

ROOT = FOLDER.parent.parent
TESTS = {
    "tests/test_local.py": """
from holdall import FilesystemStore


def test_a_blob_is_a_file(tmp_path):
    FilesystemStore(tmp_path)["a"] = b"1"
    assert (tmp_path / "a").read_bytes() == b"1"
""",
    "tests/test_azure.py": """
import asyncio
import os

import pytest

from holdall import AsyncBlobStore, AzureBlobAdapter

needs_azure = pytest.mark.skipif("AZURE_CONN_STR" not in os.environ, reason="AZURE_CONN_STR isn't set")


@pytest.mark.azure
@needs_azure
def test_a_value_comes_back():
    async def main():
        adapter = AzureBlobAdapter.from_connection_string(os.environ["AZURE_CONN_STR"])
        async with AsyncBlobStore(adapter, os.environ["AZURE_CONTAINER"]) as store:
            await store.set_json("tested", {1.5})
            return await store.get_json("tested")

    assert asyncio.run(main()) == {1.5}
""",
    # A page for each file of the package would take a while.
    ".coveragerc": "[report]\ninclude = src/holdall/aio/*\n",
    "pytest.ini": "[pytest]\nmarkers = azure: needs Azure\npythonpath = src\n",
}
"""Tests of a program that uses holdall: those of the package that the document is of are its own."""


@supplies("Installation")
def _from_an_index(reader: Reader, _: Servers) -> Generator[None]:
    """The index is a folder with the wheel of this checkout; pip installs into an environment of its own."""
    source, build, python = (
        reader.folder / "sources",
        reader.folder / "build",
        reader.folder / "venv/bin/python",
    )
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # What builds the package, which an index would have too.
    build.mkdir()
    for module in ("hatchling", "editables", "packaging", "pathspec", "pluggy", "trove_classifiers"):
        found = find_spec(module)
        assert found is not None, f"these tests need {module}: pip install hatchling"
        assert found.origin is not None
        (build / module).symlink_to(Path(found.origin).parent)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(reader.folder / "index")]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    venv.create(reader.folder / "venv")
    for name, module in (("pip", f'pip --python "{python}"'), ("pytest", "pytest")):
        reader.write({f"bin/{name}": f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n'})
        (reader.folder / "bin" / name).chmod(0o755)
    os.environ["PATH"] = f"{reader.folder}/bin:{os.environ['PATH']}"
    for name, value in (
        ("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(reader.folder / "index")), ("PIP_NO_COMPILE", "1"),
        ("PIP_NO_BUILD_ISOLATION", "0"), ("PYTHONPATH", str(build)), ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ):  # fmt: skip
        os.environ[name] = value
    yield
    assert "Successfully installed holdall-" in reader.printed
    where = [str(python), "-c", "import holdall; print(holdall.__file__)"]
    found = subprocess.run(where, capture_output=True, text=True, check=True).stdout
    assert found.startswith(f"{reader.folder}/venv/lib/")


@supplies("Installation", 2)
def _from_the_sources(reader: Reader, _: Servers) -> Generator[None]:
    source = reader.folder / "sources"
    reader.write({f"sources/{name}": text for name, text in TESTS.items()})
    git = ["git", "-C", str(source), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    for name, value in (
        ("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", f"url.{source}.insteadOf"),
        ("GIT_CONFIG_VALUE_0", "https://github.com/ViLahte/holdall.git"),
    ):  # fmt: skip
        os.environ[name] = value
    yield
    assert (reader.folder / "holdall/pyproject.toml").is_file()
    yield
    assert reader.text(".cwd").strip() == str(reader.folder / "holdall")
    yield
    assert "Successfully installed holdall-" in reader.printed
    where = [str(reader.folder / "venv/bin/python"), "-c", "import holdall; print(holdall.__file__)"]
    found = subprocess.run(where, capture_output=True, text=True, check=True).stdout
    assert found.startswith(f"{reader.folder}/holdall/src/")


@supplies("Local backend example")
def _json_and_bytes_in_a_folder(reader: Reader, _: Servers) -> Generator[None]:
    yield
    held = reader.held["main"]
    assert held["loaded_config"] == held["config"]
    assert type(held["loaded_config"]["created_at"]) is datetime
    assert held["loaded_model"] == {"weights": [0.1, 0.2, 0.3], "bias": 0.5}
    assert reader.printed.splitlines() == [
        f"Loaded config: {held['config']}",
        "Loaded model: {'weights': [0.1, 0.2, 0.3], 'bias': 0.5}",
        "Keys: ['demo/config', 'demo/model.bin']",
        "Config deleted successfully.",
    ]
    assert reader.files(below="local_blob_storage") == ["demo_container/demo/model.bin"]
    assert (reader.folder / "local_blob_storage/demo_container/demo/model.bin").read_bytes() == held[
        "model_bytes"
    ]


@supplies("Azure backend example")
def _settings_of_azure(reader: Reader, servers: Servers) -> Generator[None]:
    reader.settings = {"AZURE_CONN_STR": servers.azure, "AZURE_CONTAINER": "demo-container"}
    with BlobServiceClient.from_connection_string(servers.azure) as client:
        client.create_container("demo-container")
    yield
    assert [line.partition("=")[0] for line in reader.text(".env").splitlines()] == [*reader.settings]


@supplies("Azure backend example", 2)
def _json_in_azure(reader: Reader, servers: Servers) -> Generator[None]:
    yield
    assert re.fullmatch(r"\{'created_at': datetime\.datetime\(.*\)\}\n", reader.printed)
    with BlobServiceClient.from_connection_string(servers.azure) as client:
        blob = client.get_blob_client("demo-container", "demo/config").download_blob().readall()
    assert list(json.loads(blob)) == ["created_at"]


@supplies("Syncing in `WRITE_BACK` mode")
def _a_sync(reader: Reader, _: Servers) -> Generator[None]:
    adapter = LocalFileAdapter(reader.folder / "written_back")
    etag = {"cache_mode": CacheMode.WRITE_BACK, "concurrency_mode": ConcurrencyMode.ETAG}

    async def change(store: AsyncBlobStore, value: int) -> None:
        for key in ("mine", "raced"):
            await store.set_json(key, value)

    async def race() -> None:
        """Each reads, then another one writes one of the keys."""
        reader.names["store"] = store = AsyncBlobStore(adapter, "c", **etag)
        await change(store, 0)
        assert not (reader.folder / "written_back").exists()
        await store.sync()
        await change(store, 1)
        async with AsyncBlobStore(adapter, "c") as other:
            await other.set_json("raced", "theirs")

    async def found() -> list[Any]:
        async with AsyncBlobStore(adapter, "c") as other:
            return [await other.get_json(key) for key in ("mine", "raced")]

    asyncio.run(race())
    yield
    store = reader["store"]
    assert asyncio.run(found()) == [1, "theirs"]
    with pytest.raises(holdall.SyncConflictError):
        asyncio.run(store.sync(etag_behavior="raise"))
    assert asyncio.run(found()) == [1, "theirs"]
    asyncio.run(store.sync(etag_behavior="overwrite"))
    assert asyncio.run(found()) == [1, 1]


def _passed(reader: Reader) -> str:
    return re.sub(r" in [\d.]+s", "", reader.printed.strip().splitlines()[-1].strip("= "))


@supplies("Testing")
def _tests(reader: Reader, _: Servers) -> Generator[None]:
    """Of a folder without the variables; then with them."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    del os.environ["PYTHONPATH"]
    connection = os.environ.pop("AZURE_CONN_STR")
    yield
    assert _passed(reader) == "1 passed, 1 skipped"
    os.environ["AZURE_CONN_STR"] = connection


@supplies("Testing", 2)
def _tests_but_those_of_azure(reader: Reader, _: Servers) -> Generator[None]:
    yield
    assert _passed(reader) == "1 passed, 1 deselected"


@supplies("Testing", 3)
def _tests_of_azure(reader: Reader, servers: Servers) -> Generator[None]:
    yield
    assert _passed(reader) == "1 passed, 1 deselected"
    with BlobServiceClient.from_connection_string(servers.azure) as client:
        assert client.get_blob_client("demo-container", "tested").exists()


@supplies("Testing", 4)
def _coverage(reader: Reader, _: Servers) -> Generator[None]:
    os.environ["PYTEST_ADDOPTS"] = "-p pytest_cov"
    yield
    assert "2 passed" in reader.printed
    assert "blobstore.py" in reader.text("holdall/htmlcov/index.html")
