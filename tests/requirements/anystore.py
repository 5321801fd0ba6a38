"""What the blocks of anystore.md leave to their reader, and what they do."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import IO

import pytest
from tests.requirements.reader import Reader
from tests.requirements.running import Supplies
from tests.requirements.servers import Servers

import holdall
from holdall import BlobNotFoundError, ValueStore, get_store, virtual

supplies = Supplies()
PDF = b"%PDF-1.7\n\xff\x00"


@supplies("Configure store")
def _a_store_of_files(reader: Reader, _: Servers) -> Generator[None]:
    reader.write({"data/files/some/file.bin": PDF})
    yield
    store = reader["store"]
    assert type(store) is ValueStore
    assert store.get("some/file.bin") == PDF, "keys are file paths, and values the contents"
    # The environment says the same.
    os.environ.update(HOLDALL_URI="./data/files", HOLDALL_SERIALIZATION_MODE="raw")
    with get_store() as configured:
        assert configured.get("some/file.bin") == PDF
        assert configured.serialization_mode == "raw"


@supplies("List and retrieve contents")
def _keys_by_glob_and_by_prefix(reader: Reader, _: Servers) -> Generator[None]:
    names = ["a.pdf", "b/c/d.pdf", "b/e.txt", "b/f.pdf.gz", "srcs/g.txt"]
    names += ["txt_files/src/h.txt", "txt_files/src2.txt", "txt_files/other.txt", "src/i.txt"]
    reader.write({f"data/files/{name}": "x" for name in names})
    yield
    assert reader.printed.split() == ["a.pdf", "b/c/d.pdf", "txt_files/src/h.txt", "txt_files/src2.txt"]


@supplies("List and retrieve contents", 2)
def _keys_by_the_command(reader: Reader, _: Servers) -> Generator[None]:
    yield
    assert reader.text("files.txt") == "a.pdf\n", "* stays within a folder"
    yield
    assert reader.text("files.txt") == "src/i.txt\nsrcs/g.txt\n"


@supplies("List and retrieve contents", 3)
def _text_and_json(reader: Reader, _: Servers) -> Generator[None]:
    reader.write({"data/files/path/file.txt": "zwölf", "data/files/data.json": '{"a": [1, null]}'})
    yield
    assert reader["content"] == "zwölf"
    assert reader["store"].get("path/file.txt") == "zwölf".encode(), "without the mode it is bytes"
    assert reader["data"] == {"a": [1, None]}


@supplies("List and retrieve contents", 4)
def _lines_of_json(reader: Reader, _: Servers) -> Generator[None]:
    reader.write({"data/files/data.jsonl": '{"a": 1}\n[2]\r\n"zwölf"\n3'})
    yield
    assert reader.yielded == [{"a": 1}, [2], "zwölf", 3]


@supplies("Write (small) files")
def _a_small_file(reader: Reader, _: Servers) -> Generator[None]:
    yield
    assert reader.text("data/files/data.txt") == "hello world"


@supplies("Write (small) files", 2)
def _a_result_in_a_bucket(reader: Reader, servers: Servers) -> Generator[None]:
    os.environ.update(AWS_ENDPOINT_URL=servers.s3, AWS_DEFAULT_REGION="us-east-1")
    os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing")
    bucket = servers.bucket("bucket")
    reader.names["calculate_data"] = lambda: {"rows": 2, "ok": True}
    yield
    body = bucket.Object("dataset/index.json").get()["Body"].read()
    assert body == b'{"rows":2,"ok":true}'
    assert [each.key for each in bucket.objects.all()] == ["dataset/index.json"]


@supplies("Get a file handler")
def _rows_of_a_bucket(reader: Reader, servers: Servers) -> Generator[None]:
    reader.names["bucket"] = bucket = servers.bucket("my_bucket")
    bucket.put_object(Key="path/to/file.csv", Body=b'a,b\n1,"two, ""three"""\n')
    yield
    assert reader.yielded == [["a", "b"], ["1", 'two, "three"']]
    with reader["store"].open("path/to/file.csv") as file:
        assert file.read(4) == b"a,b\n", "as open() does, by default it opens a binary file"
        assert file.seekable()


@supplies("Write data")
def _a_file_of_a_bucket(reader: Reader, _: Servers) -> Generator[None]:
    reader.names["content"] = PDF
    yield
    assert reader["bucket"].Object("file.pdf").get()["Body"].read() == PDF


@supplies("Delete a file")
def _two_files_less(reader: Reader, _: Servers) -> Generator[None]:
    reader["bucket"].put_object(Key="file2.pdf", Body=PDF)
    yield
    assert reader.printed == f"{PDF!r}\n"
    assert [each.key for each in reader["bucket"].objects.all()] == ["path/to/file.csv"]
    assert reader["store"].delete("file.pdf") is False
    with pytest.raises(BlobNotFoundError):
        reader["store"].pop("file2.pdf")


@supplies("Copy contents from and to stores")
def _the_files_of_a_website(reader: Reader, servers: Servers) -> Generator[None]:
    reader.write({"www/files/a.txt": "a", "www/files/b/c d/é.pdf": PDF, "www/not/it.txt": "x"})
    # nginx runs as root or as the reader, and serves no folder that only the other may enter.
    os.environ["SSL_CERT_FILE"] = str(servers.website(reader.folder / "www", "example.org"))
    yield
    assert reader.files(below="downloads") == ["a.txt", "b/c d/é.pdf"]
    assert (reader.folder / "downloads/b/c d/é.pdf").read_bytes() == PDF


@supplies("Copy contents from and to stores", 2)
def _texts_in_redis(reader: Reader, servers: Servers) -> Generator[None]:
    reader.write({"local_data/foo/content.txt": "zwölf", "local_data/a.txt": "a", "local_data/b.bin": PDF})
    servers.ports["localhost", 6379] = servers.valkey.port
    yield
    assert sorted(reader["target"]) == ["a.txt", "foo/content.txt"]
    with holdall.ValkeyStore(servers.valkey.url) as other:
        assert other.get("foo/content.txt") == "zwölf".encode()


@supplies("Copy contents from and to stores", 3)
def _a_text_of_redis(reader: Reader, _: Servers) -> Generator[None]:
    yield
    assert reader.returned == "zwölf"
    assert reader["fh"].closed


@supplies("Process remote files locally")
def _remote_files_here(reader: Reader, _: Servers) -> Generator[None]:
    for name in ("one.pdf", "two.pdf", "folder/three.pdf", "four.txt"):
        reader["bucket"].put_object(Key=name, Body=PDF + name.encode())
    seen: list[Path] = []

    def process_pdf(file: IO[bytes]) -> None:
        seen.append(Path(file.name))
        # As another program reads it, and as this one does.
        assert seen[-1].read_bytes() == file.read() == PDF + seen[-1].name.encode()

    reader.names["process_pdf"] = process_pdf
    yield
    assert [path.name for path in seen] == ["one.pdf", "two.pdf"]
    assert not any(path.exists() for path in seen), "it is cleaned up at the end of the context"
    assert holdall.open_virtual is virtual.open_virtual
