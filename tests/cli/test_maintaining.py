"""keygen, rotate and repair."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from holdall import FilesystemStore, MemoryStore, SqliteStore
from holdall.layers.encrypted import EncryptedStore


def test_keygen_makes_keys_that_stores_take(holdall: Any, tmp_path: Path) -> None:
    keys = {holdall("keygen", uri="").decode().strip() for _ in range(3)}
    assert len(keys) == 3
    for key in keys:
        EncryptedStore(MemoryStore(), bytes.fromhex(key))["a"] = b"1"
    holdall("keygen", "--output", "k.key", uri="")
    assert os.stat(tmp_path / "k.key").st_mode & 0o777 == 0o600
    EncryptedStore(MemoryStore(), f"file:{tmp_path}/k.key")["a"] = b"1"
    before = (tmp_path / "k.key").read_bytes()
    assert "new file" in holdall.error("keygen", "-o", "k.key", code=2, uri="")
    assert (tmp_path / "k.key").read_bytes() == before
    holdall.error("keygen", "-o", "no/such/folder", code=2, uri="")


def test_repair_makes_replicas_equal(holdall: Any, tmp_path: Path) -> None:
    (tmp_path / "holdall.toml").write_text(
        '[stores.both]\nreplicas = ["./one", "sqlite:///two.db"]\n[stores.plain]\nuri = "./one"\n'
    )
    FilesystemStore(tmp_path / "one")["a"] = b"1"
    assert b"1 key mended" in holdall("repair", "both:")
    assert SqliteStore(tmp_path / "two.db")["a"] == b"1"
    assert json.loads(holdall("repair", "both:", "--json"))["mended"] == {}
    assert "isn't replicated" in holdall.error("repair", "plain:", code=2)
    assert "--rule" in holdall.error("repair", "both:", "--rule", "last", code=2)
    assert b"0 keys mended" in holdall("repair", "-s", "both:")


def test_rotate_encrypts_under_the_current_key(holdall: Any, tmp_path: Path) -> None:
    for name in ("old", "new"):
        holdall("keygen", "--output", f"{name}.key", uri="")
    toml = tmp_path / "holdall.toml"
    toml.write_text('[stores.vault]\nuri = "./vault"\nencrypt = { keys = { old = "file:old.key" } }\n')
    for key in ("a", "b"):
        holdall("put", "-s", "vault:", key, "private")
    both = '{ old = "file:old.key", new = "file:new.key" }'
    toml.write_text(
        f'[stores.vault]\nuri = "./vault"\nencrypt = {{ keys = {both}, current = "new" }}\n'
        '[stores.plain]\nuri = "./one"\n'
    )
    assert holdall("rotate", "vault:") == b"2 blobs rotated, 0 were current\n"
    assert json.loads(holdall("rotate", "-s", "vault:", "--json")) == {
        "rotated": 0,
        "current": 2,
        "failures": {},
    }
    toml.write_text(toml.read_text().replace(both, '{ new = "file:new.key" }'))
    assert holdall("get", "-s", "vault:", "a") == b"private"
    (tmp_path / "one").mkdir()
    assert "isn't encrypted" in holdall.error("rotate", "plain:", code=2)
