"""The commands on a catalogue."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import psycopg
import pytest
from tests.cli.conftest import COMMAND, Holdall, Terminal
from tests.servers.postgresql import PostgresServer

from holdall import BlobStore


class Catalog:
    """Runs `holdall catalog` on one catalogue."""

    def __init__(self, holdall: Holdall, backend: str) -> None:
        self.holdall = holdall
        self.backend = backend
        self.folder = holdall.cwd / "models"
        holdall.env["HOLDALL_CATALOG"] = "./models"
        holdall.env["XDG_CONFIG_HOME"] = str(holdall.cwd / "settings")

    def __call__(self, *args: str, stdin: bytes | None = None, code: int = 0) -> str:
        return self.holdall("catalog", *args, stdin=stdin, code=code).decode()

    def error(self, *args: str, code: int, stdin: bytes | None = None) -> str:
        return self.holdall.error("catalog", *args, code=code, stdin=stdin)

    def json(self, *args: str, code: int = 0) -> Any:
        return json.loads(self(*args, "--json", code=code))

    def open(self) -> BlobStore:
        return BlobStore(self.folder, backend=self.backend)


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return path.name


@pytest.fixture
def empty(holdall: Holdall, request: pytest.FixtureRequest) -> Catalog:
    """A catalogue that isn't there yet."""
    return Catalog(holdall, getattr(request, "param", "sqlite"))


@pytest.fixture
def catalog(empty: Catalog) -> Catalog:
    """A catalogue with three checkpoints in two versions, and a large one."""
    with BlobStore(empty.folder, backend=empty.backend, keep=True) as store:
        for epoch, loss in enumerate((0.5, 0.25, 0.125)):
            store.put({"epoch": epoch}, f"run/{epoch}", {"loss": loss, "tag": "2.1"})
        store.put(np.random.default_rng(1).random(10_000), "weights", {"stage": "train"}, inputs=["run/1"])
        store.put({"epoch": 20}, "run/2", {"loss": 0.0625})
    return empty


@pytest.fixture
def both(holdall: Holdall, request: pytest.FixtureRequest) -> Catalog:
    return Catalog(holdall, request.param)


@pytest.mark.parametrize("empty", ["json", "sqlite"], indirect=True)
def test_what_was_put_is_what_python_gets_and_what_get_writes(empty: Catalog) -> None:
    cwd = empty.holdall.cwd
    array = io.BytesIO()
    np.save(array, np.arange(6.0).reshape(2, 3))
    files = {"bytes": b"\0\1", "text": "é\n".encode(), "json": b'{"a": [1, null]}', "npy": array.getvalue()}
    for kind, data in files.items():
        args = ("put", kind, write(cwd / "file", data), "--as", kind, f"kind={kind}", "size=1.5")
        assert empty(*args, "--create", "--backend", empty.backend) == ""
    with empty.open() as store:
        assert [store.get(kind) for kind in ("bytes", "text", "json")] == [b"\0\1", "é\n", {"a": [1, None]}]
        assert np.array_equal(store.get("npy"), np.arange(6.0).reshape(2, 3))
        assert store.entry("npy").metadata == {"kind": "npy", "size": 1.5}
    assert empty.holdall("catalog", "get", "bytes") == b"\0\1"
    assert json.loads(empty("get", "json")) == {"a": [1, None]}
    empty("get", "npy", "--output", "array.b2nd")
    with empty.open() as store, store.open("npy") as file:
        assert (cwd / "array.b2nd").read_bytes() == file.read()
    assert empty.json("put", "again", "file", "--as", "npy")["is_shared"]
    assert empty("put", "piped", "-", stdin=b"x") == ""
    assert empty("ls") == "again\nbytes\njson\nnpy\npiped\ntext\n"


def test_a_plain_file_is_stored_as_it_is_unless_it_is_to_be_compressed(empty: Catalog) -> None:
    name = write(empty.holdall.cwd / "file", b"line\n" * 100_000)
    empty("put", "plain", name, "--create", "--backend", "sqlite")
    empty("put", "piped", "-", stdin=b"other\n" * 100_000)
    empty("put", "packed", write(empty.holdall.cwd / "other", b"third\n" * 100_000), "--compression", "lz4")
    with empty.open() as store:
        entries = {key: store.entry(key) for key in store}
    assert {key: each and each.codec for key, each in entries.items()} == {
        "plain": "",
        "piped": "",
        "packed": "lz4",
    }


def test_a_frame_comes_from_a_parquet_file(empty: Catalog) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    frame.to_parquet(empty.holdall.cwd / "f.parquet")
    empty("put", "frame", "f.parquet", "--as", "parquet", "--create", "--backend", "sqlite")
    with empty.open() as store:
        assert store.get("frame").equals(frame)


COMMANDS = (
    "ls", "show a", "put a file", "get a", "rm a", "find", "tag a b=1", "alias a b", "alias",
    "history a", "usage", "verify", "verify --repair", "collect --yes",
    "migrate --to other", "export x.zip", "import file",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistyped_folder_makes_nothing(empty: Catalog, command: str) -> None:
    cwd = empty.holdall.cwd
    write(cwd / "file", b"x")
    (cwd / "empty").mkdir()
    before = sorted(cwd.rglob("*"))
    assert "there is no folder './models'" in empty.error(*command.split(), code=4)
    assert "has no catalogue" in empty.error(*command.split(), "-C", "empty", code=4)
    assert "has no catalogue" in empty.error(*command.split(), "-C", "empty", "--backend", "json", code=4)
    assert sorted(cwd.rglob("*")) == before


def test_where_the_catalogue_is(catalog: Catalog) -> None:
    with_it = dict(catalog.holdall.env)
    del catalog.holdall.env["HOLDALL_CATALOG"]
    assert "HOLDALL_CATALOG" in catalog.error("ls", code=2)
    assert catalog("ls", "--catalog", "models") == catalog("-C", "models", "ls") != ""
    assert catalog("--catalog", "nowhere", "ls", "-C", "models") != ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalog.holdall.env, "HOME", str(catalog.holdall.cwd))
        assert catalog("ls", "-C", "~/models") != ""
    assert "no catalogue was named" in catalog.error("ls", "-C", "", code=2)
    assert "the folder of" in catalog.error("ls", "-C", "models/cache_metadata.db", code=2)
    assert "--backend" in catalog.error("ls", "-C", "sqlite:///models", code=2)
    assert "json, sqlite" in catalog.error("ls", "-C", "models", "--backend", "mysql", code=2)
    assert "cache_metadata.db: leave" in catalog.error("ls", "-C", "models", "--backend", "json", code=2)
    assert "--catalog" in catalog.holdall.error("-s", "x", "catalog", "ls", code=2)
    catalog.holdall.env.update(with_it)
    catalog.holdall.env["HOLDALL_CATALOG_BACKEND"] = "json"
    assert "leave --backend json out" in catalog.error("ls", code=2)
    catalog.holdall.env["HOLDALL_CATALOG_BACKEND"] = ""
    assert catalog("ls") != ""


def test_find(catalog: Catalog) -> None:
    def keys(*args: str) -> list[str]:
        return catalog("find", *args).split()

    assert keys() == ["run/0", "run/1", "run/2", "weights"]
    assert keys("metadata.loss<0.5") == ["run/1", "run/2"]
    assert keys("metadata.loss <= 0.5", "key!=run/1") == ["run/0", "run/2"]
    assert keys('metadata.tag="2.1"') == keys("metadata.tag^=2") == ["run/0", "run/1"]
    assert keys("type=dict", "--order-by", "-metadata.loss", "--limit", "1") == ["run/0"]
    assert keys("--order-by", "metadata.loss", "--limit=1") == ["run/2"]
    assert keys("key^=run/", "--after", "run/1") == ["run/2"]
    assert keys("--where", '{"not": {"metadata.loss": {"exists": true}}}') == ["weights"]
    assert keys("created>=2020-01-01", "size>500") == ["weights"]
    assert keys("updated<2020-01-01T00:00:00Z") == []
    assert keys("version=2") == ["run/2"]
    (line,) = catalog("find", "key=run/2", "--long").splitlines()
    assert line.endswith('v2  dict  run/2  {"loss": 0.0625}')
    assert catalog.json("find", "key=run/2")["metadata"] == {"loss": 0.0625}


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("metadata.loss", "isn't a condition"),
        ("metadata.loss=<0.1", "isn't a condition"),
        ("metadata.loss=>0.1", "isn't a condition"),
        ("metadata.loss~0.1", "isn't a condition"),
        ("<0.1", "isn't a condition"),
        ("loss<0.1", "did you mean 'metadata.loss'"),
        ("metadta.loss<0.1", "did you mean 'metadata.loss'"),
        ("run.loss<0.1", "did you mean 'metadata.run.loss'"),
        ("metadata.loss<", "lacks a value after <"),
        ("metadata.loss>= ", "lacks a value after >="),
        ("metadata.loss<x y", ""),
        ("size>big", ""),
        ("created>yesterday", "ISO 8601"),
        ("metadata.loss<NaN", "nan"),
        ("metadata.loss<null", "takes a number or a str"),
    ],
)
def test_what_is_no_condition(catalog: Catalog, condition: str, said: str) -> None:
    if said:
        assert said in catalog.error("find", condition, code=2)
        assert said in catalog.error("export", "x.zip", condition, code=2)
        assert not (catalog.holdall.cwd / "x.zip").exists()
    else:
        assert catalog("find", condition) == ""


def test_a_condition_that_nothing_can_match_is_warned_of(catalog: Catalog) -> None:
    def warned(*args: str) -> str:
        output, errors = catalog.holdall.both("catalog", "find", *args)
        assert output == b""
        return errors

    assert warned("metadata.los<1") == "holdall: no entry has metadata.los\n"
    assert "write 'metadata.tag=\"2.1\"'" in warned("metadata.tag=2.1")
    assert warned("metadata.loss=7") == ""
    for where in ("[]", "{", '{"metadata.loss": {"=<": 1}}', '{"loss": 1}'):
        catalog.error("find", "--where", where, code=2)


def test_show(catalog: Catalog) -> None:
    shown = catalog("show", "weights")
    for part in ("numpy.ndarray", "b2nd, lz4, by blosc2", "run/1@1", '  stage: "train"', "kB ("):
        assert part in shown
    assert catalog.json("show", "run/2@1")["metadata"] == {"loss": 0.125, "tag": "2.1"}
    assert catalog("show", "weights", "--lineage") == "weights (version 1)\n  run/1 (version 1)\n"
    assert catalog.error("show", "weight", code=1) == "'weight': it isn't in the catalogue"
    assert catalog.error("show", "weights@2", code=1) == "'weights': it has no version 2"


def test_tag_merges_json(catalog: Catalog) -> None:
    catalog("tag", "run/0", "deployed=true", "who=alice", "none=null", "empty=", 'deep={"a": [1]}', "n=x=y")
    wanted = {"deployed": True, "who": "alice", "none": None, "empty": "", "deep": {"a": [1]}, "n": "x=y"}
    assert catalog.json("tag", "run/0", 'tag="3"')["metadata"] == {"loss": 0.5, "tag": "3", **wanted}
    for wrong in ("loss", "=1", "deep.a=2", "loss=NaN"):
        catalog.error("tag", "run/0", "who=bob", wrong, code=2)
    catalog.error("tag", "run/0", "a=1", "a=2", code=2)
    catalog.error("tag", "run", "a=1", code=1)
    assert "newest version" in catalog.error("tag", "run/2@1", "a=1", code=1)
    catalog.error("tag", "run/0", "a=1", "--if-match", "0", code=3)
    with catalog.open() as store:
        assert store.entry("run/0").metadata == {"loss": 0.5, "tag": "3", **wanted}


def test_versions_and_aliases(catalog: Catalog) -> None:
    file = write(catalog.holdall.cwd / "file", b"new")
    assert catalog.json("put", "run/2", file)["version"] == 3
    assert catalog("history", "run/2").count("\n") == 3
    catalog("alias", "prod", "run/2@1")
    assert catalog("alias", "prod") == "run/2@1\n"
    assert catalog("alias") == "prod  run/2@1\n"
    assert catalog.json("alias") == {"alias": "prod", "key": "run/2", "version": 1}
    assert catalog("history", "run/2").splitlines()[2].endswith("  prod")
    assert json.loads(catalog("get", "run/2@1")) == {"epoch": 2}
    assert catalog.error("get", "prod", code=1) == "'prod': this is an alias of run/2@1, not a key"
    assert "'prod' (version 1)" in catalog.error("rm", "run/2", code=3)
    catalog.error("rm", "run/2@1", code=3)
    catalog("alias", "prod", "run/1")
    assert "comes first" in catalog.error("alias", "run/1", "prod", code=1)
    catalog("put", "run/2", file, "--keep", "1", "--compression", "none", "x=1")
    catalog("rm", "run/2")
    assert "'run/2'" in catalog.error("rm", "run/2", "run/0", code=1)
    assert catalog("ls") == "run/1\nweights\n"
    catalog("alias", "--delete", "prod")
    catalog.error("alias", "--delete", "prod", code=1)
    catalog.error("alias", "prod", code=1)
    catalog.error("alias", "--delete", code=2)
    catalog.error("alias", "--delete", "prod", "run/1", code=2)
    catalog.error("history", "run/2", code=1)


def test_a_put_on_a_condition(catalog: Catalog) -> None:
    file = write(catalog.holdall.cwd / "file", b"new")
    etag = catalog.json("show", "run/0")["etag"]
    catalog.error("put", "run/0", file, "--if-absent", code=3)
    catalog("put", "run/0", file, "--if-match", etag)
    catalog.error("put", "run/0", file, "a=1", "--if-match", etag, code=3)
    catalog.error("put", "run/9", file, "--input", "nothing", code=1)
    catalog("put", "run/9", file, "--input", "run/2@1", "--input", "run/0")
    assert [each["key"] for each in catalog.json("show", "run/9")["inputs"]] == ["run/2", "run/0"]


def test_arguments_in_a_wrong_order_and_wrong_files(catalog: Catalog) -> None:
    file = write(catalog.holdall.cwd / "file", b"\xff{")
    assert "the key comes first" in catalog.error("put", file, "model", code=2)
    assert "no such file" in catalog.error("put", "model", "nothing", code=2)
    assert "isn't NAME=VALUE" in catalog.error("put", "model", file, "loss", code=2)
    for kind in ("text", "json", "npy", "parquet"):
        assert f"'file' isn't {kind}" in catalog.error("put", "model", file, "--as", kind, code=2)
    assert "--as takes" in catalog.error("put", "model", file, "--as", "csv", code=2)
    assert "compression" in catalog.error("put", "model", file, "--compression", "zip", code=2)
    assert "from 1 to 9" in catalog.error("put", "model", file, "--level", "10", code=2)
    assert "'a\\x07'" in catalog.error("put", "a\7", file, code=2)
    assert "Did you mean" in catalog.error("pit", "model", file, code=2)
    assert "there is no file 'x.zip'" in catalog.error("import", "x.zip", code=2)
    assert "can't be read" in catalog.error("import", file, code=4)
    assert catalog("ls") == "run/0\nrun/1\nrun/2\nweights\n"


def test_verify_says_what_is_wrong(catalog: Catalog) -> None:
    assert "checked: all is well" in catalog("verify")
    assert "checked: all is well" in catalog("verify", "--digests")
    (file,) = (catalog.folder / "blobs").rglob("*.b2nd")
    file.write_bytes(b"x" + file.read_bytes())
    write(file.with_name(f"{'a' * 64}-99"), b"unknown")
    said = catalog("verify", code=1)
    assert "damaged  weights@1\n" in said
    assert "1 damaged, 1 unknown\n" in said
    assert catalog.json("verify", "--repair", code=1)["repaired"] == [
        f"{file.parent.name}/{'a' * 64}-99",
        f"{file.parent.name}/{file.name}",
    ]
    assert catalog.json("verify", code=1)["missing"] == ["weights@1"]
    assert "its bytes are gone" in catalog.error("get", "weights", code=4)
    catalog("rm", "weights")
    assert "all is well" in catalog("verify")


def test_collect_only_counts_unless_told(catalog: Catalog) -> None:
    catalog("rm", "weights")
    assert catalog("collect").startswith("0 blobs (0 B) would be deleted")
    assert "share" in catalog.error("collect", "--grace", "0", "--max-share", "0.1", "--yes", code=3)
    once = catalog.json("collect", "--grace", "0", "--max-share", "1")
    assert once == {"blobs": 1, "bytes": once["bytes"], "kept": 0, "dry_run": True}
    assert list((catalog.folder / "blobs").rglob("*.b2nd")) != []
    assert "deleted" in catalog("collect", "--grace", "0", "--max-share", "1", "--yes")
    assert list((catalog.folder / "blobs").rglob("*.b2nd")) == []
    assert "span of time" in catalog.error("collect", "--grace", "1 day", code=2)
    assert catalog.json("collect", "--max-share", "20%") == catalog.json("collect", "--max-delete", "0.2")
    assert "--max-delete" in catalog.error("collect", "--max-delete", "20", code=2)
    catalog.error("collect", "--max-share", "2", code=2)


def test_usage(catalog: Catalog) -> None:
    lines = catalog("usage").splitlines()
    assert lines[1].split()[-1] == "run/"
    assert lines[-1].split()[0] == "5"
    rows = [json.loads(line) for line in catalog("usage", "--depth", "2", "--json").splitlines()]
    assert [row["name"] for row in rows if row["by"] == "prefix"] == ["run/0", "run/1", "run/2", "weights"]
    assert rows[-1]["entries"] == 5


@pytest.mark.parametrize(("empty", "to"), [("json", "sqlite"), ("sqlite", "json")], indirect=["empty"])
def test_migrate_in_its_folder(catalog: Catalog, to: str) -> None:
    before = catalog("find", "--json")
    output, errors = catalog.holdall.both("catalog", "migrate", "--to-backend", to)
    assert output.startswith(b"5 versions written")
    assert "delete its file" in errors
    assert "give --backend json or --backend sqlite" in catalog.error("ls", code=2)
    after = catalog("find", "--json", "--backend", to)
    assert [without_etag(line) for line in after.splitlines()] == [
        without_etag(line) for line in before.splitlines()
    ]
    again = catalog.holdall.both("catalog", "migrate", "--backend", catalog.backend, "--to-backend", to)[0]
    assert again.startswith(b"0 versions written, 5 were there")
    assert "all is well" in catalog("verify", "--backend", to)


def without_etag(line: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(line).items() if name != "etag"}


def test_migrate_to_a_folder_and_a_store(catalog: Catalog) -> None:
    assert "say where to" in catalog.error("migrate", code=2)
    assert "same catalogue" in catalog.error("migrate", "--to", "models", code=2)
    catalog("migrate", "--to", "copy")
    assert "all is well" in catalog("verify", "-C", "copy")
    assert catalog("history", "run/2", "-C", "copy").count("\n") == 2
    args = ("--to", "other", "--to-backend", "json", "--to-blobs", "./bytes/")
    assert catalog.json("migrate", *args)["entries"] == 5
    assert "all is well" in catalog("verify", "-C", "other", "--blobs", "./bytes/")
    assert "missing  weights@1" in catalog("verify", "-C", "other", code=1)


def test_a_catalogue_in_postgresql(catalog: Catalog) -> None:
    with PostgresServer() as server:
        args = ("--to-backend", server.url, "--to", "bytes")
        assert catalog.json("migrate", *args)["entries"] == 5
        catalog.holdall.env["HOLDALL_CATALOG_BACKEND"] = server.url
        assert catalog("ls", "-C", "bytes") == "run/0\nrun/1\nrun/2\nweights\n"
        assert catalog("find", "metadata.loss<0.2", "-C", "bytes") == "run/2\n"
        assert "all is well" in catalog("verify", "-C", "bytes")
        assert catalog("ls", "--blobs", "./bytes/blobs") == catalog("ls", "-C", "bytes")
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE mistyped")
            other = server.url.replace("/postgres", "/mistyped")
            for command in ("ls", "tag a b=1", "verify --repair", "rm a"):
                said = catalog.error(*command.split(), "--backend", other, code=4)
                assert "there is no catalogue in" in said
        with psycopg.connect(other) as connection:
            tables = connection.execute("SELECT * FROM pg_tables WHERE tablename LIKE 'holdall%'").fetchall()
        assert tables == []
    assert "no server can be reached" in catalog.error("ls", "-C", "bytes", code=4)


def test_export_and_import(catalog: Catalog) -> None:
    catalog("alias", "best", "run/2@1")
    assert catalog("export", "some.zip", "key^=run/") == "3 entries written\n"
    with ZipFile(catalog.holdall.cwd / "some.zip") as archive:
        assert len(json.loads(archive.read("catalog.json"))["entries"]) == 4
    assert catalog.json("export", "all.parquet") == {"entries": 4}
    assert "--format" in catalog.error("export", "x.csv", code=2)
    assert "--format" in catalog.error("export", "x.zip", "--format", "csv", code=2)
    assert "4 versions written" in catalog("import", "some.zip", "-C", "copy", "--create")
    assert catalog("import", "some.zip", "-C", "copy").startswith("0 versions written, 4 were there")
    assert catalog("alias", "best", "-C", "copy") == "run/2@1\n"
    _, errors = catalog.holdall.both("catalog", "export", "none.zip", "key=x")
    assert "no entry matches" in errors
    for name in ("none/x.zip", "none/x.parquet"):
        said = catalog.error("export", name, code=4)
        assert said == f"the export can't be written to {name!r}: No such file or directory"


def test_a_closed_standard_input_is_said(catalog: Catalog) -> None:
    done = subprocess.run(
        f"{' '.join(COMMAND)} catalog put a - <&-",
        shell=True,
        env=catalog.holdall.env,
        cwd=catalog.holdall.cwd,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, b"holdall: standard input is closed; give a file\n")


def test_binary_bytes_are_not_for_a_terminal(catalog: Catalog, terminal: Terminal) -> None:
    process = catalog.holdall.start("catalog", "get", "weights", stdout=terminal.slave, stderr=terminal.slave)
    terminal.until(lambda seen: "--output FILE" in seen)
    assert process.wait(60) == 2
    process = catalog.holdall.start("catalog", "get", "run/0", stdout=terminal.slave, stderr=terminal.slave)
    terminal.until(lambda seen: '"epoch"' in seen)
    assert process.wait(60) == 0


def test_a_reader_that_ends_is_no_fault(catalog: Catalog) -> None:
    line = f"{' '.join(COMMAND)} catalog get weights | head -c 1 >&2; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line],
        env=catalog.holdall.env,
        cwd=catalog.holdall.cwd,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, len(done.stderr)) in ((141, 1), (0, 1))


def test_a_full_disk_leaves_the_catalogue_as_it_was(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(1 << 20))
    before = catalog("find", "--json")
    fill = (
        "mount -t tmpfs -o size=512k none models && cp -r copy/. models && "
        '{ "$@"; echo "$?"; "$0" -m holdall catalog find --json; "$0" -m holdall catalog verify >&2; }'
    )
    subprocess.run(["cp", "-r", "models", "copy"], cwd=tmp_path, check=True)
    done = subprocess.run(
        [
            "unshare",
            "-Urm",
            "sh",
            "-c",
            fill,
            COMMAND[0],
            *COMMAND,
            "catalog",
            "put",
            "large",
            "large",
            "--compression",
            "none",
        ],
        env=catalog.holdall.env,
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.decode() == f"4\n{before}", done.stderr
    assert b"holdall: 'large': the disk or a quota is full" in done.stderr
    assert b"all is well" in done.stderr, done.stderr


def test_a_command_loads_nothing_that_it_does_not_need(catalog: Catalog) -> None:
    code = (
        "import sys, holdall.cli\n"
        "assert holdall.cli.main(['catalog', 'ls']) == 0\n"
        "names = {'typer', 'asyncio', 'numpy', 'pyarrow', 'holdall.transfer', 'holdall.catalog.jsonfile'}\n"
        "sys.stderr.write(' '.join(names & set(sys.modules)))"
    )
    done = subprocess.run(
        [COMMAND[0], "-c", code],
        env=catalog.holdall.env,
        cwd=catalog.holdall.cwd,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_deletes_and_what_points_print_json(catalog: Catalog) -> None:
    assert catalog.json("alias", "prod", "run/2@1") == {"alias": "prod", "key": "run/2", "version": 1}
    output, errors = catalog.holdall.both("catalog", "rm", "run/0", "none", "--json", code=1)
    assert [json.loads(line)["deleted"] for line in output.splitlines()] == [1, 0]
    assert "'none'" in errors
    assert catalog("ls", "--prefix", "run/") == "run/1\nrun/2\n" == catalog("ls", "run/")


def test_an_earlier_version_is_restored(catalog: Catalog) -> None:
    first = catalog.json("show", "run/2@1")["metadata"]
    assert catalog("restore", "run/2@1") == "run/2@3\n"
    assert catalog.json("show", "run/2")["metadata"] == first
    assert catalog.json("restore", "run/2@2")["version"] == 4
    assert "write run/2@3" in catalog.error("restore", "run/2", code=2)
    assert "no version 9" in catalog.error("restore", "run/2@9", code=1)
    catalog.error("restore", "run/2@1", "--if-match", "x", code=3)


def test_the_bytes_of_a_lease_stay_while_the_program_runs(catalog: Catalog) -> None:
    holdall = f"{COMMAND[0]} -m holdall catalog"
    script = f"{holdall} rm weights && {holdall} collect --grace 0 --max-delete 1 --yes"
    assert "kept" in catalog("lease", "weights", "--", "sh", "-c", f"{script} --json; exit 5", code=5)
    assert json.loads(catalog("collect", "--grace", "0", "--max-delete", "1", "--json"))["blobs"] == 1
    assert "'none'" in catalog.error("lease", "none", "--", "true", code=1)
    assert "name a program" in catalog.error("lease", "run/1", code=2)


@pytest.mark.parametrize("empty", ["json", "sqlite"], indirect=True)
def test_indexes(catalog: Catalog) -> None:
    if catalog.backend == "json":
        assert "has no indexes" in catalog.error("index", "metadata.loss", code=2)
    else:
        assert catalog("index", "metadata.loss") == ""
    assert catalog("index") == ("metadata.loss\n" if catalog.backend == "sqlite" else "")
    assert catalog("index", "--delete", "metadata.loss") == catalog("index") == ""
    assert "--delete takes" in catalog.error("index", "--delete", code=2)
