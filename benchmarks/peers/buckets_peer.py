"""Clients of S3: boto3, s3fs, cloudpathlib, anystore."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
from anystore import get_store
from cloudpathlib import S3Client
from cloudpathlib.enums import FileCacheMode
from fsspec.config import conf as fsspec_settings
from s3fs import S3FileSystem

from benchmarks.buckets import BUCKET_NAME, Bucket
from benchmarks.contenders import MIB, Contender, Pieces, file_chunks


class Boto(Bucket):
    name, promise = "boto3", "WL"

    def begin(self) -> None:
        self.client: Any = boto3.client("s3", endpoint_url=self.endpoint)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET_NAME, Key=self.place(key), Body=data)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET_NAME, Key=self.place(key))["Body"].read()

    def exists(self, key: str) -> bool:
        return bool(self.client.head_object(Bucket=BUCKET_NAME, Key=self.place(key)))

    def keys(self, prefix: str) -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=BUCKET_NAME, Prefix=self.place(prefix)):
            for entry in page.get("Contents", ()):
                yield entry["Key"]

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        self.client.upload_fileobj(Pieces(pieces), BUCKET_NAME, self.place(key))

    def read(self, key: str) -> Iterator[bytes]:
        body = self.client.get_object(Bucket=BUCKET_NAME, Key=self.place(key))["Body"]
        return body.iter_chunks(MIB)


class S3fs(Bucket):
    name, promise = "s3fs", "WL"

    def begin(self) -> None:
        self.files: Any = S3FileSystem(
            endpoint_url=self.endpoint, use_listings_cache=False, skip_instance_cache=True
        )

    def put(self, key: str, data: bytes) -> None:
        self.files.pipe_file(f"{BUCKET_NAME}/{self.place(key)}", data)

    def get(self, key: str) -> bytes:
        return self.files.cat_file(f"{BUCKET_NAME}/{self.place(key)}")

    def exists(self, key: str) -> bool:
        return self.files.exists(f"{BUCKET_NAME}/{self.place(key)}")

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(self.files.find(f"{BUCKET_NAME}/{self.place(prefix)}"))

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        with self.files.open(f"{BUCKET_NAME}/{self.place(key)}", "wb") as file:
            for piece in pieces:
                file.write(piece)

    def read(self, key: str) -> Iterator[bytes]:
        return file_chunks(self.files.open(f"{BUCKET_NAME}/{self.place(key)}", "rb"))


class Cloudpathlib(Bucket):
    name, promise = "cloudpathlib", "WL"
    note = "a blob passes through a file on disk, each way"

    def begin(self) -> None:
        client = S3Client(endpoint_url=self.endpoint, file_cache_mode=FileCacheMode.close_file)
        self.root: Any = client.CloudPath(f"s3://{BUCKET_NAME}/{self.prefix}")

    def put(self, key: str, data: bytes) -> None:
        (self.root / key).write_bytes(data)

    def get(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def exists(self, key: str) -> bool:
        return (self.root / key).exists()

    def keys(self, prefix: str) -> Iterator[str]:
        return map(str, (self.root / prefix.rstrip("/")).rglob("*"))

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        with (self.root / key).open("wb") as file:
            for piece in pieces:
                file.write(piece)

    def read(self, key: str) -> Iterator[bytes]:
        return file_chunks((self.root / key).open("rb"))


class Anystore(Bucket):
    name, promise = "anystore S3", "WL"
    note = "over s3fs"

    def begin(self) -> None:
        # What it passes on to s3fs goes to each of its calls, too, which take no endpoint.
        fsspec_settings["s3"] = {"endpoint_url": self.endpoint}
        place = f"s3://{BUCKET_NAME}/{self.prefix}"
        store: Any = get_store(place, serialization_mode="raw", raise_on_nonexist=False)
        self.store = store
        self.put, self.get, self.exists = store.put, store.get, store.exists

    def keys(self, prefix: str) -> Iterator[str]:
        return self.store.iterate_keys(prefix=prefix.rstrip("/") or None)

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        with self.store.open(key, "wb") as file:
            for piece in pieces:
                file.write(piece)

    def read(self, key: str) -> Iterator[bytes]:
        return file_chunks(self.store.open(key, "rb"))


CONTENDERS: list[type[Contender]] = [Boto, S3fs, Cloudpathlib, Anystore]
