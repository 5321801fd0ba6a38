"""The small Google server answers obstore as Google documents that it does."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, PreconditionError
from obstore.store import GCSStore
from tests.servers.gcs import GcsServer, gcs, service_account


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with gcs("bucket") as server:
        yield server


def client_of(server: GcsServer) -> Any:
    return GCSStore(
        "bucket", service_account_key=service_account(server.url), client_options={"allow_http": True}
    )


def ask(server: GcsServer, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
    request = urllib.request.Request(f"{server.url}{path}", body, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_conditions_are_of_generations(server: GcsServer) -> None:
    client = client_of(server)
    first = client.put("a", b"one")
    with pytest.raises(AlreadyExistsError):
        client.put("a", b"two", mode="create")
    client.put("a", b"two", mode=first)
    with pytest.raises(PreconditionError):
        client.put("a", b"three", mode=first)
    path = "/storage/v1/b/bucket/o/a?ifGenerationMatch="
    assert ask(server, "DELETE", path + first["version"]) == 412
    assert ask(server, "DELETE", path + client.head("a")["version"]) == 204
    assert ask(server, "DELETE", path + "0") == 404


def test_a_multipart_upload_takes_no_condition(server: GcsServer) -> None:
    client = client_of(server)
    client.put("a/ü +&", io.BytesIO(b"z" * (11 << 20)), use_multipart=True, chunk_size=5 << 20)
    assert client.head("a/ü +&")["size"] == 11 << 20
    assert not server.uploads
    headers = {"x-goog-if-generation-match": "0"}
    assert ask(server, "POST", "/bucket/b?uploads", b"", **headers) == 400


def test_a_listing_is_in_pages(server: GcsServer) -> None:
    client = client_of(server)
    for number in range(1001):
        server.keep("bucket", f"a/{number:04}", b"", {}, None)
    assert sum(len(page) for page in client.list("a")) == 1001
    assert len(server.requests) == 2
    found = client.list_with_delimiter()
    assert (found["common_prefixes"], found["objects"]) == (["a"], [])
    assert [m["path"] for page in client.list(offset="a/0998") for m in page] == ["a/0999", "a/1000"]


def test_ranges_and_copies(server: GcsServer) -> None:
    client = client_of(server)
    client.put("a", b"hello")
    assert bytes(client.get_range("a", start=1, end=3)) == b"el"
    obstore.copy(client, "a", "b")
    with pytest.raises(AlreadyExistsError):
        obstore.copy(client, "a", "b", overwrite=False)


def test_a_batch_answers_each_call_by_itself(server: GcsServer) -> None:
    client_of(server).put("a", b"hello")
    calls = [
        f"--x\r\nContent-Type: application/http\r\nContent-ID: <{n}>\r\n\r\n"
        f"DELETE /storage/v1/b/bucket/o/{name} HTTP/1.1\r\n\r\n\r\n"
        for n, name in enumerate(["a", "b"])
    ]
    body = ("".join(calls) + "--x--").encode()
    request = urllib.request.Request(f"{server.url}/batch/storage/v1", body, method="POST")
    request.add_header("Content-Type", "multipart/mixed; boundary=x")
    with urllib.request.urlopen(request) as answer:
        text = answer.read().decode()
    assert "HTTP/1.1 204" in text
    assert "HTTP/1.1 404" in text


def test_one_that_may_only_read(server: GcsServer) -> None:
    server.read_only = True
    with pytest.raises(PermissionDeniedError):
        client_of(server).put("a", b"hello")
