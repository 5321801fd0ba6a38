"""One value by its URI: how each URI is split, and what can't be."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.servers.moto import moto

from holdall import (
    BlobNotFoundError,
    ConcurrencyError,
    InvalidArgumentError,
    InvalidKeyError,
    InvalidTypeError,
    Resource,
)
from holdall.resource import split_uri

SPLIT: list[tuple[Any, str, str]] = [
    ("data/a/b.txt", "data/a", "b.txt"),
    ("b.txt", ".", "b.txt"),
    ("./b.txt", ".", "b.txt"),
    ("/b.txt", "/", "b.txt"),
    ("a#b/c#d%20.txt", "a#b", "c#d%20.txt"),
    (Path("/data/a b.txt"), "/data", "a b.txt"),
    ("a/$${B}/c", "a/${B}", "c"),
    ("file:///data/a%20b.txt", "file:///data", "a b.txt"),
    ("file://data/a%23b.txt", "file://data", "a#b.txt"),
    ("file:///a.txt?durable=1", "file:///?durable=1", "a.txt"),
    ("file://a.txt", "file://.", "a.txt"),
    ("s3://bucket/a/b.txt", "s3://bucket", "a/b.txt"),
    ("s3://bucket/a%20b#c?region=eu-west-1", "s3://bucket?region=eu-west-1", "a b#c"),
    ("gs://bucket/b", "gs://bucket", "b"),
    ("az://box/a/b", "az://box", "a/b"),
    ("r2://box/a/b", "r2://box", "a/b"),
    ("https://host:8443/a/b%20c.txt", "https://host:8443/a/", "b c.txt"),
    ("http://host/b", "http://host/", "b"),
    ("sftp://host/a/b.txt", "sftp://host/a", "b.txt"),
    ("sqlite:///x.db#a/b", "sqlite:///x.db", "a/b"),
    ("sqlite:////tmp/x.db?table=t#a%20b", "sqlite:////tmp/x.db?table=t", "a b"),
    ("zip://x.zip#in/b.txt", "zip://x.zip", "in/b.txt"),
    ("hashdir://dir#a", "hashdir://dir", "a"),
    ("memory://pad#a/b#c%3F", "memory://pad", "a/b#c?"),
    ("redis://host/0#a", "redis://host/0", "a"),
    ("postgresql://u:p%2F@host/db?schema=s#a", "postgresql://u:p%2F@host/db?schema=s", "a"),
    ("models:a/b", "models:", "a/b"),
    ("models:a?readonly=1", "models:?readonly=1", "a"),
    ("models:a%20b%3F", "models:", "a b?"),
    ("SQLITE:///x.db#a", "sqlite:///x.db", "a"),
]


@pytest.mark.parametrize(("uri", "store", "key"), SPLIT)
def test_a_uri_is_split(uri: Any, store: str, key: str) -> None:
    assert split_uri(uri) == (store, key)


def test_variables_are_filled_in_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOLDER", "${HOME}")
    folder = str(tmp_path / "${HOME}")
    for uri in ("${FOLDER}/a", "$${HOME}/a", Path("${HOME}/a"), "file://${FOLDER}/a"):
        with Resource(uri) as resource:
            assert repr(folder) in repr(resource)
    # A Path is never the name of a store, as in get_store.
    with Resource(Path("models:x/a")) as resource:
        assert resource.store.store.put("a", b"1").size == 1
    assert (tmp_path / "models:x/a").read_bytes() == b"1"


@pytest.mark.parametrize(
    "uri",
    [
        "data/",
        ".",
        "..",
        "/",
        "",
        "a/..",
        "file:///data/",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/a/",
        "https://host",
        "https://host/",
        "https://host/a/",
        "sqlite:///x.db",
        "sqlite:///x.db#",
        "sqlite:///x.db?table=t",
        "memory://",
        "redis://:secret@host/0",
        "models:",
        "models:a/",
    ],
)
def test_a_uri_without_a_key_is_refused(uri: str) -> None:
    with pytest.raises(
        InvalidArgumentError, match="names a store, or a folder of it, and no key: write "
    ) as e:
        split_uri(uri)
    assert "secret" not in str(e.value)


def test_what_is_no_uri_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (5, None, b"a/b"):
        with pytest.raises(InvalidTypeError, match="a URI is a str, and a path a str or a Path"):
            Resource(wrong)  # type: ignore[arg-type]
    monkeypatch.delenv("UNSET_THING", raising=False)
    with pytest.raises(InvalidArgumentError, match="UNSET_THING"):
        Resource("data/${UNSET_THING}.txt")
    with pytest.raises(InvalidArgumentError, match="unknown scheme 'nope'"):
        Resource("nope://x#a")
    with pytest.raises(InvalidKeyError, match=r"'a/\.\./b'"):
        Resource("memory://#a/../b")
    with pytest.raises(InvalidArgumentError, match=r"options of a URI come before the '#'"):
        Resource("sqlite:///x.db#a?durable=1")
    with pytest.raises(InvalidArgumentError, match="'jsn'"):
        Resource("memory://#a", serialization_mode="jsn")


def use(uri: Any, **options: Any) -> None:
    with Resource(uri, serialization_mode="json", **options) as found:
        assert not found.exists()
        assert found.get() is None
        assert found.get(5) == 5
        assert found.delete() is False
        with pytest.raises(BlobNotFoundError):
            found.pop()
        info = found.put([1, "2"])
        assert found.info().size == info.size == 7
        assert found.get() == [1, "2"]
        assert found.get(serialization_mode="raw") == b'[1,"2"]'
        with found.open() as file:
            assert file.read() == b'[1,"2"]'
        with found.open("w") as file:
            file.write("1\n2")
        assert list(found.stream()) == [1, 2]
        assert found.checksum("md5") == hashlib.md5(b"1\n2").hexdigest()
        with pytest.raises(ConcurrencyError), found.local(write=True, expect="another") as path:
            path.write_text("lost")
        with found.local() as path:
            assert path.read_text() == "1\n2"
        assert found.touch().size == 3
        assert found.delete()
        assert found.put(5).size == 1
        assert found.pop() == 5


@pytest.mark.parametrize(
    "uri",
    ["{}/a/b.json", "file://{}/b.json", "sqlite:///{}/x.db#a/b", "zip://{}/x.zip#a/b", "memory://pad#a/b"],
)
def test_a_value_by_its_uri(uri: str, tmp_path: Path) -> None:
    use(uri.format(tmp_path))


def test_a_path(tmp_path: Path) -> None:
    use(tmp_path / "b.json")
    assert repr(Resource(tmp_path / "b.json")) == f"<Resource 'b.json' in FilesystemStore('{tmp_path}')>"


def test_a_blob_of_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    with moto() as url:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        boto3.client("s3").create_bucket(Bucket="bucket")
        use("s3://bucket/a/b.json")
        with Resource("s3://bucket/a b", region="us-east-1") as found:
            found.put("text")
            assert list(found.store) == ["a b"]
