"""The five documents of what was asked for, in `requirements/`: every block runs, its import lines changed.

Each block has a supplier, named by the heading above it: it prepares what the block leaves to its reader,
yields while the block runs, and checks what is there afterwards, as the document says.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.requirements import anystore, asyncblobdict, blobstore, object_store
from tests.requirements.reader import Reader
from tests.requirements.running import FOLDER, Supplies, expects, run
from tests.requirements.servers import Servers

import holdall
from holdall.blobs import BytesBlob

ORIGINALS = {
    "anystore.md": "2fce68077bdd4c0f2e4101d57f26214dc2bb585822aa96aa8820a9aea22a4f3e",
    "asyncblobdict.md": "a6a8ec5d69d8421e25fe002bcfd21669faa4a5b8afafddc88fb646b9ea1ba5a5",
    "blob-dict.md": "4c5849c3e459c8b102dc39bc87dc1816e9951d3ad4cd56b41703f2590eb2abbb",
    "blobstore.md": "540426cc5bb4f8fafa590171fb3d6e509734d26213dc63f5a58044eb3338f5ec",
    "object-store.md": "1ad4576e7f63894f927abcd36a32cca1af9a844af9b2ca5731bb5bf456da6857",
}
"""The SHA-256 of each document as it was written, before slips of the pen were corrected."""
SUPPLIES = {
    "anystore.md": anystore.supplies,
    "asyncblobdict.md": asyncblobdict.supplies,
    "blob-dict.md": Supplies(),
    "blobstore.md": blobstore.supplies,
    "object-store.md": object_store.supplies,
}


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture
def reader(tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    for name in [
        name for name in os.environ if name.startswith(("HOLDALL_", "AWS_", "AZURE_", "PYTEST_", "XDG_"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(socket, "getaddrinfo", servers.route(socket.getaddrinfo))
    before = dict(os.environ)
    yield Reader(tmp_path)
    # What an example changed of the environment, as `load_dotenv` does, goes with it.
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("document", ORIGINALS)
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_every_block_runs(document: str, reader: Reader, servers: Servers) -> None:
    run(document, SUPPLIES[document], reader, servers)


@pytest.mark.parametrize("document", ORIGINALS)
def test_only_the_marked_slips_are_corrected(document: str) -> None:
    """Each is marked above its block: what it is now, and what it was."""
    text = re.sub(r"^<!-- noted: .*-->\n", "", (FOLDER / document).read_text(), flags=re.M)
    mark = re.compile(r"^<!-- corrected: `([^`]*)` was `([^`]*)`, .*-->\n", flags=re.M)
    while found := mark.search(text):
        now, was = found.groups()
        below = text[found.end() :]
        assert now in below.partition("\n```\n")[0], f"{document}: the block below {found[0]} hasn't that"
        text = text[: found.start()] + below.replace(now, was, 1)
    assert hashlib.sha256(text.encode()).hexdigest() == ORIGINALS[document]


def test_every_supplier_checks_what_its_block_did() -> None:
    careless = [
        supply.__name__ for each in SUPPLIES.values() for supply in each.values() if not expects(supply)
    ]
    assert not careless, f"these assert nothing behind a yield: {careless}"


def test_what_object_store_lists() -> None:
    """The prose of object-store.md: an abstract base class, its implementations, tools for several stores,
    and all of these for `asyncio`, in `aioutils`."""
    text = (FOLDER / "object-store.md").read_text()
    names = set(re.findall(r"`(\w+Store)`", text))
    assert names >= {"DictStore", "FilesystemStore", "HashdirStore", "SqliteStore", "BucketStore", "ZipStore"}
    assert holdall.ObjectStore is holdall.Store
    assert {"get", "put", "delete", "exists", "keys"} <= {*dir(holdall.ObjectStore)}
    for name in names - {"AsyncBucketStore"}:
        assert issubclass(getattr(holdall, name), holdall.ObjectStore)
        if name not in ("ObjectStore", "DictStore"):
            assert issubclass(getattr(holdall.aio, f"Async{name}"), holdall.AsyncStore)
    assert inspect.iscoroutinefunction(holdall.aio.sync_stores)
    a, b = holdall.DictStore({"x": b"1", "y": b"2"}), holdall.DictStore({"y": b"other", "z": b"3"})
    holdall.sync_stores(a, b)
    assert dict(a) == dict(b) == {"x": b"1", "y": b"2"}


def listed(heading: str) -> list[tuple[int, str]]:
    """The items of the list below a heading, with how far each is indented."""
    section = (FOLDER / "blob-dict.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [(len(found[1]), found[2]) for found in re.finditer(r"^( *)- (.*)$", section, flags=re.M)]


def test_the_calls_of_blob_dict(tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call of the list, on each kind of dict."""
    from cloudpathlib import S3Client
    from cloudpathlib.enums import FileCacheMode

    calls = [call.strip("`") for _, call in listed("Supported Blob Dict Methods")]
    assert len(calls) == 8
    servers.bucket("blob-dict")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = S3Client(
        endpoint_url=servers.s3, file_cache_mode=FileCacheMode.tmp_dir, local_cache_dir=tmp_path / "cache"
    )
    git = holdall.GitBlobDict(
        holdall.LocalPath(tmp_path / "git"), user_name="Ada", user_email="ada@example.org"
    )
    memory, path = (
        holdall.InMemoryBlobDict(ttl=60),
        holdall.PathBlobDict(holdall.LocalPath(tmp_path / "local")),
    )
    server = {"host": "127.0.0.1", "port": servers.valkey.port, "db": 1}
    for d in (
        *(memory, path, holdall.PathBlobDict(tmp_path / "plain"), git),
        holdall.PathBlobDict(client.CloudPath("s3://blob-dict/dict")),
        holdall.VulkeyBlobDict(ttl=60, client_kwargs=server),
        holdall.MultiReplicaBlobDict(
            {"cache": holdall.InMemoryBlobDict(), "storage": holdall.PathBlobDict(tmp_path / "storage")}
        ),
    ):
        names: dict[str, Any] = {
            "d": d,
            "key": "a/b.txt",
            "blob": BytesBlob(b"1"),
            "default": BytesBlob(b"2"),
        }
        done: dict[str, Any] = {}
        for call in ("d[key] = blob", *calls[:-2], calls[-1], calls[-2]):
            if call.startswith(("del", "d[key] =")):
                exec(call, names)
            elif call.startswith("for"):
                done[call] = eval(f"[key {call.rstrip(':')}]", names)
            else:
                done[call] = eval(call, names)
        assert done == {
            "len(d)": 1,
            "key in d": True,
            "d.get(key, default)": b"1",
            "d[key]": b"1",
            "for key in d:": ["a/b.txt"],
            "d.pop(key, default)": b"1",
        }
        assert len(d) == 0
        assert "a/b.txt" not in d
        assert d.get("a/b.txt", names["default"]) == d.pop("a/b.txt", names["default"]) == b"2"


def test_a_git_blob_dict_commits_and_syncs_with_its_remote(tmp_path: Path) -> None:
    """Each add, update and delete is a commit, which the remote gets, and others from there."""
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", remote], check=True)
    for name in ("mine", "theirs"):
        subprocess.run(["git", "clone", "-q", remote, tmp_path / name], check=True, capture_output=True)
    options: dict[str, Any] = {"user_name": "Ada", "user_email": "ada@example.org", "use_remote": True}

    def opened(name: str) -> holdall.GitBlobDict[Any]:
        return holdall.GitBlobDict(tmp_path / name, use_remote_frequence=0, **options)

    with opened("mine") as mine:
        mine["a"] = BytesBlob(b"1")
        mine["b"] = BytesBlob(b"2")
    # It pushes in the background, and what waits when it is closed.
    with opened("theirs") as theirs:
        assert (theirs["a"], theirs["b"]) == (b"1", b"2")
        theirs["a"] = BytesBlob(b"3")
        del theirs["b"]
    with opened("mine") as mine:
        assert (mine["a"], [*mine]) == (b"3", ["a"])
    log = ["git", "-C", remote, "log", "--format=%an: %s", "--reverse"]
    found = subprocess.run(log, capture_output=True, text=True, check=True).stdout
    assert found.splitlines() == ["Ada: Add a", "Ada: Add b", "Ada: Update a", "Ada: Delete b"]


def test_the_classes_of_blob_dict() -> None:
    """Each that a list names; the list of blobs is their hierarchy."""
    above: list[tuple[int, type]] = [(-1, object)]
    for depth, text in listed("Supported Blob Types"):
        name = re.match(r"`(\w+)`", text)
        assert name is not None
        while above[-1][0] >= depth:
            above.pop()
        kind = getattr(holdall, name[1])
        assert issubclass(kind, above[-1][1])
        above.append((depth, kind))
    text = (FOLDER / "blob-dict.md").read_text()
    for name in re.findall(r"`(\w+BlobDict|LocalPath)`", text):
        assert inspect.isclass(getattr(holdall, name))
    assert issubclass(holdall.LocalPath, Path)


def test_the_calls_of_blobstore() -> None:
    text = (FOLDER / "blobstore.md").read_text()
    found = re.findall(r"^#### `(\w+)\((.*)\)(?: -> (.*))?`$", text, flags=re.M)
    assert len(found) == 9
    for name, arguments, _ in found:
        names: dict[str, Any] = {}
        exec(f"def {name}(self, {arguments}): ...", names)
        asked, ours = (blobstore.parameters(each) for each in (names[name], getattr(holdall.BlobStore, name)))
        assert ours[: len(asked)] == asked
    # It is pure storage: nothing expires, and nothing makes room for others.
    options = {
        *inspect.signature(holdall.BlobStore).parameters,
        *inspect.signature(holdall.BlobStore.put).parameters,
    }
    assert not {"ttl", "max_bytes", "max_entries"} & options
