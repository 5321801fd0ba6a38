"""The calls of Google that obstore lacks get a token where the client found its credentials by itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from holdall import BucketStore, Can, StoreUnavailableError, UnsupportedOperation
from holdall.stores.bucket import google


class _Tokens(BaseHTTPRequestHandler):
    """Google's server of tokens: it gives each signed request another one."""

    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        server: Any = self.server
        server.asked.append(asked["assertion"][0])
        status, said = server.answers.pop(0)
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(google, "_found", {})
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Tokens)
    server.asked, server.answers = [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def key_of(server: Any) -> str:
    """The key of a service account, as the console of Google gives it."""
    private = rsa.generate_private_key(65537, 2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return json.dumps(
        {
            "type": "service_account",
            "client_email": "robot@project.iam.gserviceaccount.com",
            "private_key": pem,
            "private_key_id": "1",
            "token_uri": f"http://127.0.0.1:{server.server_address[1]}/token",
        }
    )


def client_of(server: Any) -> Any:
    from obstore.store import GCSStore

    return GCSStore("bucket", config={"service_account_key": key_of(server)})


def test_a_service_account_gets_one_token_an_hour(tokens: Any) -> None:
    client = client_of(tokens)
    tokens.answers = [
        (200, {"access_token": "one", "expires_in": 3600}),
        (200, {"access_token": "two", "expires_in": 3600}),
    ]
    assert google.google_token(client) == "one"
    assert google.google_token(client) == "one"
    (credentials,) = google._found.values()
    credentials.expiry = credentials.expiry.replace(year=2020)
    assert google.google_token(client) == "two"
    assert len(tokens.asked) == 2


def test_a_refused_account_says_what_to_set(tokens: Any) -> None:
    client = client_of(tokens)
    tokens.answers = [(401, {"error": "invalid_grant"})]
    with pytest.raises(StoreUnavailableError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        google.google_token(client)
    assert "PRIVATE KEY" not in str(caught.value)


def test_without_the_library_a_bucket_says_that_it_deletes_on_no_condition(
    tokens: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_it = BucketStore.from_client(client_of(tokens))
    assert Can.CONDITIONAL_DELETE in with_it.can
    monkeypatch.setattr(google, "find_spec", lambda _: None)
    store = BucketStore.from_client(client_of(tokens))
    assert Can.CONDITIONAL_DELETE not in store.can
    assert Can.SWAP in store.can
    with pytest.raises(UnsupportedOperation, match=r"holdall\[google\]"):
        google.google_token(client_of(tokens))
