"""What a run needs is looked for before it begins, so that no row stays empty for want of a package."""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile

from benchmarks import faces
from benchmarks.contenders import (
    BUCKET,
    CATALOG,
    DICTS,
    DOOR,
    FACES,
    GIT,
    HTTP,
    MEDIA,
    PEER,
    SQL,
    VALKEY,
    Contender,
    Field,
)

# What pip installs for each peer; anystore's SQLite takes SQLAlchemy, which comes with an extra.
PACKAGES = {
    "anystore": "anystore[sql]",
    "blob_dict": "blob-dict",
    "buckets": "s3fs cloudpathlib[s3] boto3 anystore",
    "diskcache_community": "diskcache-community",
    "psycopg": "psycopg[binary,pool]",
    "valkey": "valkey[libvalkey]",
}


def missing(field: Field, parts: list[str], peers: bool) -> list[str]:
    """What these parts lack, one sentence each, with what installs it.

    Args:
        field: The contenders, whose missing peers are among it; each that is there is tried with one blob.
        parts: What is to be measured.
        peers: Whether other libraries are measured, too.
    """
    found: list[str] = []
    if BUCKET in parts:
        found += _imported("obstore") + _imported("boto3")
    if peers and any(part in (*MEDIA, BUCKET) for part in parts):
        found += [_sentence(name, why) for name, why in field.missing.items()]
        for kind in field.classes:
            why = _tried(kind) if kind.kind == PEER and kind.medium in {*MEDIA} & {*parts} else None
            if why is not None:
                found.append(_sentence(kind.__module__.rpartition(".")[2].removesuffix("_peer"), why))
    if peers and VALKEY in parts:
        found += _imported("valkey")
    if peers and DICTS in parts and sys.version_info >= (3, 12):  # what blob-dict needs
        found += _imported("blob_dict")
    if not {VALKEY, DICTS}.isdisjoint(parts) and not (
        shutil.which("valkey-server") or shutil.which("redis-server")
    ):
        found.append("valkey-server or redis-server isn't installed: apt-get install redis-server")
    if SQL in parts:
        found += _imported("psycopg")
    if HTTP in parts:
        found += _imported("httpx2")
    if CATALOG in parts:
        for name in ("blosc2", *(("diskcache_community", "hashstash") if peers else ())):
            found += _imported(name)
    if DOOR in parts:
        for name in (
            "msgspec",
            *(("anystore", "diskcache_community", "joblib", "hashstash") if peers else ()),
        ):
            found += _imported(name)
    if FACES in parts:
        for name in dict.fromkeys(name for names in faces.FACES.values() for name in names):
            found += _imported(name)
    if GIT in parts and not shutil.which("git"):
        found.append("git isn't installed: apt-get install git")
    return found


def _tried(kind: type[Contender]) -> str | None:
    """Why a peer can't keep a blob, or None: some import what they need at their first call."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            contender = kind(f"{folder}/tried")
            contender.call("put")("key", b"blob")
            contender.call("get")("key")
            contender.close()
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is why
            return f"{kind.name} fails: {type(error).__name__}: {error}"
    return None


def _imported(name: str) -> list[str]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        return [_sentence(name, f"{type(error).__name__}: {error}")]
    return []


def _sentence(name: str, why: str) -> str:
    return f"{name}: {why}; pip install '{PACKAGES.get(name, name)}'"
