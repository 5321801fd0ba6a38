"""Every code block of README.md and docs/ is run, in order, one folder and one namespace a page.

A block is run by its language:

- `python`: executed; or, where it has `>>>` prompts, compared as a doctest.
- `console`: each `$ command` is run by bash, its output compared with what is printed below it.
- `text`: not run; it is for pictures and tables.
- any language with `title="NAME"` behind it: written to the file NAME. The entry points of a `pyproject.toml`
  are made known, as if pip had installed the page's folder.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import numpy as np
import pandas as pd
import pydantic
import pytest
from azure.storage.blob import BlobServiceClient
from PIL import Image
from tests.effort import effort
from tests.packages import install
from tests.servers.azurite import azurite
from tests.servers.gcs import gcs, service_account
from tests.servers.moto import moto
from tests.servers.postgresql import PostgresServer
from tests.servers.valkey import ValkeyServer

import holdall
from holdall import (
    BucketStore,
    Can,
    FilesystemStore,
    GitStore,
    HashdirStore,
    HttpStore,
    MemoryStore,
    SqliteStore,
    SqlStore,
    Store,
    ValkeyStore,
    ZipStore,
)
from holdall.catalog.content import Formats
from holdall.cli.app import _COMMANDS
from holdall.config import stack
from holdall.layers.layer import Layer
from holdall.stores.fsspec.sftp import Sftp
from holdall.stores.spelling import spell
from holdall.values import serializers

ROOT = Path(__file__).resolve().parent.parent
API = sorted((ROOT / "docs/api").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted({*(ROOT / "docs").rglob("*.md")} - {*API})]
STORES: list[type[Store]] = [
    *(MemoryStore, FilesystemStore, HashdirStore, SqliteStore, ZipStore, GitStore, ValkeyStore),
]
NO_CODE = ["comparison.md", "formats.md"]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    language: str
    title: str | None
    line: int
    """Of its first line of code, counted from 0."""
    text: str


def blocks(page: Path) -> Iterator[Block]:
    fence: re.Match[str] | None = None
    held: list[str] = []
    lines = page.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if fence is None:
            fence = re.match(r'( *)```(\S*)(?: title="([^"\s]+)")?\s*$', line)
            assert fence or "```" not in line, f"{page.name}:{number + 1}: what fence is this? {line}"
            held = []
        elif line.strip() == "```":
            yield Block(fence[2], fence[3], number - len(held), "".join(held))
            fence = None
        else:
            held.append(line)
    assert fence is None, f"{page.name}: a block is not closed"


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for a page, from which its modules are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (("NO_COLOR", "1"), ("COLUMNS", "80"), ("LC_ALL", "C.UTF-8")):
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if name.startswith(("HOLDALL_", "PYTEST_"))]:
        monkeypatch.delenv(name)
    # Nor do the suites that a page runs have to prove more than that its stores pass them.
    monkeypatch.setenv("HOLDALL_KIT", effort("full", "quick"))
    # A pytest that a page runs imports no plug-ins, which take as long as many tests; and it has folders of
    # its own: it would sweep those of the runs before this one.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", str(tmp_path_factory.mktemp("pytest")))
    # What a page registers, no later test knows.
    monkeypatch.setattr(serializers, "_members", tuple(serializers))
    return tmp_path


VALKEY = "localhost:6379"


@pytest.fixture
def valkey() -> Iterator[str]:
    """Where the server is that the pages find at its usual port."""
    with ValkeyServer() as server:
        yield f"127.0.0.1:{server.port}"


DATABASE = "postgresql://app@db.example.org/models"


@pytest.fixture
def database() -> Iterator[str]:
    """The server that the pages find under that name."""
    with PostgresServer() as server:
        yield server.url


@contextmanager
def cloud_of(page: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve what the page of a cloud shows, where the environment leads to."""
    credentials = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    match page.name:
        case "s3.md" | "many-machines.md" | "catalog.md":
            with moto() as url:
                for name, value in (credentials | {"AWS_ENDPOINT_URL": url}).items():
                    patch.setenv(name, value)
                patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
                boto3.client("s3").create_bucket(Bucket="my-bucket")
                yield
        case "azure.md":
            with azurite() as text:
                patch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
                BlobServiceClient.from_connection_string(text).create_container("my-container")
                yield
        case "google-cloud.md":
            with gcs("my-bucket") as server:
                patch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", service_account(server.url))
                patch.setenv("GOOGLE_BASE_URL", server.url)
                yield
        case _:
            yield


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_runs(
    page: Path, folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cloud_of(page, monkeypatch):
        run_page(page, folder, request)


def run_page(page: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    found = list(blocks(page))
    for name, fixture in ((VALKEY, "valkey"), (DATABASE, "database")):
        if any(name in block.text and block.language != "text" for block in found):
            there = request.getfixturevalue(fixture)
            found = [block._replace(text=block.text.replace(name, there)) for block in found]
    assert found or page.name in NO_CODE, f"{page.name} has no code"
    for block in found:
        where = f"{page.name}:{block.line + 1}"
        if block.title is not None:
            (folder / block.title).write_text(block.text)
            if block.title == "pyproject.toml":
                project = tomllib.loads(block.text)["project"]
                install(folder, project["name"], project["version"], project["entry-points"])
        elif block.language == "python" and block.text.lstrip().startswith(">>>"):
            check_session(block, namespace, where)
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, str(page), "exec"), namespace)
        elif block.language == "console":
            check_console(block, folder, where)
        else:
            assert block.language == "text", f"{where}: nobody runs {block.language or 'a bare block'}"
    if page.name == "blobs.md":
        # What the page shows is what it draws.
        with Image.open(page.parent / "sunset.png") as shown:
            assert shown.tobytes() == namespace["picture"].tobytes()


def check_session(block: Block, namespace: dict[str, Any], where: str) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, namespace, where, where, block.line)
    test.globs = namespace
    said: list[str] = []
    failed = doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(
        test, out=said.append, clear_globs=False
    )[0]
    assert not failed, "".join(said)


def check_console(block: Block, folder: Path, where: str) -> None:
    assert block.text.startswith("$ "), f"{where}: a console block begins with '$ '"
    state = shlex.quote(str(folder / ".exported"))
    for text in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        command, _, expected = text.partition("\n")
        while command.endswith("\\"):
            more, _, expected = expected.partition("\n")
            command = f"{command[:-1]} {more.strip()}"
        # What one command exports, the next ones see, as in a terminal.
        script = (
            f"set -o pipefail; [ ! -f {state} ] || . {state}\n"
            f"{command}\ncode=$?; export -p > {state}; exit $code"
        )
        run = subprocess.run(
            ["bash", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert run.returncode == 0, f"{where}: $ {command}\n{run.stdout}"
        got = run.stdout if not run.stdout or run.stdout.endswith("\n") else run.stdout + "\n"
        assert doctest.OutputChecker().check_output(expected, got, FLAGS), (
            f"{where}: $ {command}\nexpected:\n{expected}\ngot:\n{run.stdout}"
        )


def typed_code(block: Block) -> str:
    """The code of a block as a module has it, without what is shown to raise: that is wrong on purpose."""
    if not block.text.lstrip().startswith(">>>"):
        return block.text
    lines: list[str] = []
    for example in doctest.DocTestParser().get_examples(block.text):
        if example.exc_msg is not None:
            continue
        is_value = isinstance(ast.parse(example.source).body[-1], ast.Expr) and example.want
        lines.append(f"_ = ({example.source.rstrip()}\n)\n" if is_value else example.source)
    return "".join(lines)


FACES = """
from typing import Any, assert_type
from holdall import AsyncStore, BlobDict, BytesBlob, GitBlobDict, InMemoryBlobDict, JsonDictBlob, MemoryStore
from holdall import MultiReplicaBlobDict, PathBlobDict, StrBlob, ValkeyBlobDict

texts = PathBlobDict("x", blob_class=StrBlob)
assert_type(texts, PathBlobDict[StrBlob])
assert_type(texts["a"].as_str(), str)
assert_type(texts.get("a"), StrBlob | None)
assert_type(texts.pop("a", 5), StrBlob | int)
assert_type(list(texts.values()), list[StrBlob])
assert_type(texts.popitem(), tuple[str, StrBlob])
assert_type(PathBlobDict("x"), PathBlobDict[Any])
assert_type(BlobDict(MemoryStore(), blob_class=JsonDictBlob)["a"].as_dict(), dict[str, Any])
assert_type(GitBlobDict("x", blob_class=StrBlob)["a", -1], StrBlob)
assert_type(ValkeyBlobDict(blob_class=StrBlob)["a"], StrBlob)
declared: InMemoryBlobDict[StrBlob] = InMemoryBlobDict({"a": StrBlob("")}, blob_class=StrBlob)
assert_type(MultiReplicaBlobDict({"a": declared, "b": texts})["a"], StrBlob)
declared["a"] = BytesBlob(b"")  # pyright: ignore[reportArgumentType]


async def main(store: AsyncStore) -> None:
    assert_type(await store.get("a"), bytes | None)
    assert_type(await store.get("a", b""), bytes)
    assert_type(await store.pop("a", 5), bytes | int)
    assert_type(await store["a"], bytes)
    async with store.open("a") as file:
        assert_type(await file.read(), bytes)
    async with store.open("a", "r") as text:
        assert_type(await text.read(), str)
    "a" in store  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
"""


def test_every_snippet_passes_a_strict_type_checker(tmp_path: Path) -> None:
    """All pages at once, a module each: the checker takes longer to begin than to check."""
    for number, page in enumerate(PAGES):
        # A page may import or define a name twice, for a reader who begins in the middle.
        # A session shows values within a `with` too.
        off = ("UnusedImport", "DuplicateImport", "Redeclaration", "UnusedExpression")
        module = ["# pyright: " + ", ".join(f"report{name}=false" for name in off)]
        # These have no types.
        is_untyped = any(
            name in page.read_text() for name in ("moviepy", "import fsspec", "import redis", "import joblib")
        )
        kinds = ("Member", "Variable", "Argument") if is_untyped else ()
        module += [*(f", reportUnknown{kind}Type=false" for kind in kinds), "\n"]
        for block in blocks(page):
            if block.language == "python" and block.title is not None:
                (tmp_path / block.title).write_text(block.text)
            elif block.language == "python":
                module += [f"# {page.name}:{block.line + 1}\n", typed_code(block), "\n"]
        (tmp_path / f"page_{number}_{page.stem.replace('-', '_')}.py").write_text("".join(module))
    (tmp_path / "faces.py").write_text(FACES)
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "reportMissingTypeStubs": False}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    "page", [*PAGES, *API, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if page.name == "CHANGELOG.md" and "://" in target:
            continue  # to what the form of the file is named after
        assert "://" not in target, f"{page.name}: a link out of the project: {target}"
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name}: {target} leads nowhere"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.M)
            anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in anchors, f"{page.name}: {target} leads to no heading"


def table(page: Path, first: str) -> list[list[str]]:
    """The rows of the table whose first heading is `first`."""
    lines = iter(page.read_text().splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            rows = [line]
            next(lines)
            for row in lines:
                if not row.startswith("|"):
                    break
                rows.append(row)
            return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    raise AssertionError(f"{page.name} has no table of {first}")


def test_the_table_of_capabilities_is_true() -> None:
    rows = table(ROOT / "docs/stores.md", "`can`")
    can = {store.__name__: store.can for store in (*STORES, SqlStore)}
    can |= {"BucketStore": BucketStore("s3://bucket").can, "HttpStore": HttpStore.can}
    can["FsspecStore"] = Sftp.can
    assert rows[0] == ["`can`", *(f"`{name}`" for name in can)]
    expected = [
        [f"`{flag.name}`", *("yes" if flag in each else "no" for each in can.values())] for flag in Can
    ]
    assert rows[1:] == expected


def test_the_table_of_escapes_is_true() -> None:
    rows = table(ROOT / "docs/promises.md", "key")[1:]
    assert len(rows) >= 6
    for key, path in rows:
        literal = key.strip("`").replace("\\|", "|")
        assert spell(literal) == path.strip("`")


def test_the_table_of_formats_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    rows = table(ROOT / "docs/catalog.md", "type")[1:]
    values: list[Any] = [
        b"x", "x", {"a": (1, None)}, np.arange(3.0), np.zeros(2, [("a", "i4")]), {"w": np.zeros(3)},
        pd.DataFrame({"a": [1]}), Settings(rate=1), Image.new("RGB", (1, 1)), np.float64(1),
    ]  # fmt: skip
    assert len(rows) == len(values)
    for row, value in zip(rows, values, strict=True):
        made = Formats().encode(value)
        assert f"`{made.format}`" in row[1] or row[1].startswith("as in"), row
        assert f"`{made.extension}`" in row[2], row


class Settings(pydantic.BaseModel):
    rate: int


def test_the_page_of_the_command_line_shows_each_command() -> None:
    page = ROOT / "docs/command-line.md"
    shown = "".join(block.text for block in blocks(page) if block.language == "console")
    missing = [name for name in _COMMANDS if not re.search(rf"\bholdall (?:--\S+ \S+ )?{name}\b", shown)]
    assert missing == []


LAYERS = sorted(
    name
    for name in holdall.__all__
    if inspect.isclass(getattr(holdall, name)) and issubclass(getattr(holdall, name), Layer)
)
BLOB_DICTS = sorted(
    {getattr(holdall, name).__name__ for name in holdall.__all__ if name.endswith("BlobDict")}
)
TRANSFERS = ["copy_store", "diff_stores", "move_store", "sync_stores", "verify_store"]


@pytest.mark.parametrize(
    ("name", "page"),
    [(name, "caching.md" if name == "CachingStore" else "composing.md") for name in LAYERS]
    + [(name, "backup-and-sync.md") for name in TRANSFERS]
    + [("GitStore", "git.md"), ("ValkeyStore", "valkey.md"), ("FsspecStore", "fsspec.md")]
    + [(store.__name__, "stores.md") for store in STORES[:5]]
    + [(name, "blob-dicts.md") for name in BLOB_DICTS],
)
def test_every_option_is_told_of(name: str, page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert f"{name}(" in text
    code = " ".join(
        [*re.findall(r"`([^`\n]+)`", text), *(block.text for block in blocks(ROOT / "docs" / page))]
    )
    for option in inspect.signature(getattr(holdall, name)).parameters:
        assert re.search(rf"\b{option}\b", code), f"docs/{page} doesn't tell of {option}= of {name}"


def test_every_key_of_a_stack_is_told_of_in_its_order() -> None:
    text = (ROOT / "docs/composing.md").read_text()
    section = text[text.index("## Name a stack") :]
    told = re.findall(r"^\| `(\w+)` \|", section, flags=re.M)
    assert tuple(told) == (*stack.BASES, *stack.LAYERS)
