"""The demo does what it says, on a copy of a few files and in a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from holdall import ChecksumStore, CompressedStore, FilesystemStore, SqliteStore, Store, ZipStore

DEMO = Path(__file__).resolve().parent.parent / "demo" / "demo.py"
FILES = {
    "README.md": b"# A project\n\nSome [text] here.\n",
    "data/empty": b"",
    "data/large.bin": bytes(range(256)) * 10_000,
    "names/a b:c.txt": "naïve".encode(),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for key, data in (FILES | {".hidden/x": b"-", "__pycache__/x.pyc": b"-", "demo-output/x": b"-"}).items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def run(source: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, str(DEMO), str(source)],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_the_demo(source: Path, tmp_path: Path) -> None:
    stale = tmp_path / "demo-output" / "of-an-earlier-run"
    stale.parent.mkdir()
    stale.write_bytes(b"")
    done = run(source, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not stale.exists()
    for said in (
        "4 files, 2.6 MB",
        "# A project",
        "ConcurrencyError",
        "all are right",
        "data/",
        "4 copied, 0 equal",
    ):
        assert said in done.stdout
    assert "\x1b" not in done.stdout, "colours without a terminal"
    assert sorted(path.name for path in stale.parent.iterdir()) == [
        "backup",
        "backup.journal",
        "files.db",
        "files.zip",
    ]

    with SqliteStore(tmp_path / "demo-output" / "files.db") as store:
        assert set(store) == set(FILES)
        assert store["README.md"] == FILES["README.md"] + b"\nChanged by the demo, in the store only.\n"
        assert store["data/large.bin"] == FILES["data/large.bin"]
    backup = CompressedStore(
        ChecksumStore(FilesystemStore(tmp_path / "demo-output" / "backup")), codec="gzip"
    )
    assert dict(backup.items()) == FILES | {
        "README.md": FILES["README.md"] + b"\nChanged by the demo, in the store only.\n"
    }
    with zipfile.ZipFile(tmp_path / "demo-output" / "files.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
    assert (source / "README.md").read_bytes() == FILES["README.md"]


def test_what_it_says_to_try_next_works(source: Path, tmp_path: Path) -> None:
    # As `make demo` runs it, with the output below the folder it is started in.
    said = run(source, tmp_path).stdout
    commands = re.findall(r"^  (\S.*)$", said[said.index("Try next") :], flags=re.M)
    assert len(commands) == 6
    for command in commands:
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        different = " diff " in command
        assert (done.returncode, done.stderr) == (int(different), ""), command
        assert "README.md" in done.stdout or "A project" in done.stdout or "Usage" in done.stdout, command


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("holdall_demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_wrong_digest_is_an_error(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    demo = load()
    whole = demo.put_all

    def tampered(store: Store, files: dict[str, bytes]) -> object:
        broken = {**files, "data/empty": b"not empty"} if isinstance(store, ZipStore) else files
        return whole(store, broken)

    monkeypatch.setattr(demo, "put_all", tampered)
    assert demo.main(source) == 1
    assert "data/empty" in capsys.readouterr().out


def test_verify_tells_each_fault(tmp_path: Path) -> None:
    demo = load()
    digests = {key: demo.sha256(data) for key, data in FILES.items()}
    with SqliteStore(tmp_path / "x.db") as store:
        store.put_many(FILES)
        assert demo.verify(store, digests) == []
        store["more"] = b""
        del store["data/empty"]
        store["README.md"] = b"x"
        assert sorted(fault.partition(":")[0] for fault in demo.verify(store, digests)) == [
            "README.md",
            "data/empty",
            "more",
        ]
