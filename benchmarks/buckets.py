"""Clients of S3, each with its own keys in the bucket of one server: ours and bare obstore."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

import holdall
from benchmarks.contenders import BARE, BUCKET, HOLDALL, MIB, Contender

BUCKET_NAME = "bench"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class Bucket(Contender):
    """Its place is the address of the server, with a prefix of keys as its path."""

    medium = BUCKET

    def __init__(self, folder: str) -> None:
        os.environ.update(CREDENTIALS)
        url = urlsplit(folder)
        self.endpoint, self.prefix = f"{url.scheme}://{url.netloc}", url.path.strip("/")
        self.begin()

    def begin(self) -> None:
        raise NotImplementedError

    def place(self, key: str) -> str:
        return f"{self.prefix}/{key}"


class Ours(Bucket):
    name, kind, promise = "holdall BucketStore", HOLDALL, "WLS"

    def begin(self) -> None:
        store = self.store = holdall.BucketStore(
            f"s3://{BUCKET_NAME}/{self.prefix}", endpoint=self.endpoint, region="us-east-1"
        )
        self.put, self.get, self.exists, self.write = store.put, store.get, store.exists, store.put
        self.read, self.keys = store.chunks, store.iterate_keys

    def close(self) -> None:
        self.store.close()


class Obstore(Bucket):
    name, kind, promise = "obstore", BARE, "WL"

    def begin(self) -> None:
        options: Any = {"allow_http": True}
        self.store = S3Store(BUCKET_NAME, prefix=self.prefix, endpoint=self.endpoint, client_options=options)
        self.put = partial(obstore.put, self.store)

    def get(self, key: str) -> bytes:
        return obstore.get(self.store, key).bytes().to_bytes()

    def exists(self, key: str) -> bool:
        return bool(obstore.head(self.store, key))

    def keys(self, prefix: str) -> Iterator[str]:
        for batch in obstore.list(self.store, prefix.rstrip("/") or None, chunk_size=1000):
            for meta in batch:
                yield meta["path"]

    def write(self, key: str, pieces: Iterator[bytes]) -> None:
        obstore.put(self.store, key, pieces)

    def read(self, key: str) -> Iterator[Any]:
        return iter(obstore.get(self.store, key).stream(min_chunk_size=MIB))


CONTENDERS: list[type[Contender]] = [Ours, Obstore]
