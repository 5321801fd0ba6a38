"""Deletes on condition through faults of a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from obstore.store import GCSStore
from tests.servers.gcs import GcsServer, gcs, service_account
from tests.servers.scripted import Fault, Scripted, scripted

from holdall.errors import StoreUnavailableError, UnsupportedOperation
from holdall.stores.bucket import signed
from holdall.stores.bucket.deleting import delete_version


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with gcs("bucket") as server:
        server.keep("bucket", "a", b"hello", {}, None)
        yield server


@pytest.fixture
def proxy(server: GcsServer) -> Iterator[Scripted]:
    with scripted(int(server.server_address[1])) as proxy:
        yield proxy


def delete(proxy: Scripted, tag: str, fault: Fault | None = None) -> bool | None:
    proxy.script = lambda method, path, headers: fault
    client: Any = GCSStore(
        "bucket", service_account_key=service_account(proxy.url), client_options={"allow_http": True}
    )
    return delete_version(client, "a", tag)


def test_a_delete_on_condition(server: GcsServer, proxy: Scripted) -> None:
    tag = str(server.generation)
    assert delete(proxy, "1") is False
    assert delete(proxy, tag) is True
    assert delete(proxy, tag) is None


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_an_answer_that_says_nothing_is_no_conflict(proxy: Scripted, server: GcsServer, status: int) -> None:
    tag = str(server.generation)
    with pytest.raises(StoreUnavailableError, match=rf"127\.0\.0\.1:\d+ answered {status}"):
        delete(proxy, tag, Fault(status))
    assert "a" in server.buckets["bucket"]
    with pytest.raises(StoreUnavailableError, match=str(status)):
        delete(proxy, tag, Fault(status, after=True))
    assert "a" not in server.buckets["bucket"]


def test_a_connection_that_is_reset(proxy: Scripted, server: GcsServer) -> None:
    with pytest.raises(StoreUnavailableError, match="no answer from"):
        delete(proxy, str(server.generation), Fault(reset=True, after=True))


def test_a_silent_peer(proxy: Scripted, server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed, "_TIMEOUT", 0.2)
    with pytest.raises(StoreUnavailableError, match="no answer from"):
        delete(proxy, str(server.generation), Fault(silent=True))


def test_a_server_without_such_a_call(proxy: Scripted) -> None:
    with pytest.raises(UnsupportedOperation, match="takes no conditional delete"):
        delete(proxy, "1", Fault(501))


def test_a_body_that_is_cut_short(proxy: Scripted) -> None:
    with pytest.raises(StoreUnavailableError, match="no answer from"):
        delete(proxy, "1", Fault(500, b"a long story", keep=3))
