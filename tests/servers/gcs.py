"""Google Cloud Storage: a small server of the calls of its XML and JSON APIs that a `BucketStore` makes.

The emulators that can be installed take nothing that obstore writes: they lack the XML API. This one holds
objects in memory, and refuses what Google documents that it refuses: a generation that isn't the present one
(412), a condition on a multipart upload (400), a part that isn't the last with fewer than 5 MiB (400), and a
name that isn't a name of an object (400).

XML: https://cloud.google.com/storage/docs/xml-api/reference-methods.
JSON: https://cloud.google.com/storage/docs/json_api/v1/objects.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.servers.buckets import name_for
from tests.servers.programs import bound

_XML = re.compile(r"/(?P<bucket>[^/?]+)(?:/(?P<name>[^?]*))?\Z")
_JSON = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)\Z")
_LEAST_PART = 5 << 20


def service_account(url: str) -> str:
    """The key of a service account that leads obstore to a server, without a request for a token."""
    account = {"gcs_base_url": url, "disable_oauth": True}
    return json.dumps({**account, "client_email": "", "private_key": "", "private_key_id": ""})


def make_bucket(url: str, name: str) -> None:
    """Make a bucket, if there is none of this name."""
    request = urllib.request.Request(
        f"{url}/storage/v1/b?project=testing",
        json.dumps({"name": name}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        urllib.request.urlopen(request).close()
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 409:
                raise


def bucket_for(url: str, place: Path) -> str:
    """Return the name of the bucket of a folder, which is made."""
    make_bucket(url, name_for(place))
    return name_for(place)


class _Object(NamedTuple):
    data: bytes
    generation: int
    modified: datetime
    headers: dict[str, str]

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


class _RefusedError(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class GcsServer(ThreadingHTTPServer):
    """Buckets in memory, in this process.

    Attributes:
        requests: The method and the path of every request.
        read_only: Whether it refuses every write, as to a user who may only read.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.buckets: dict[str, dict[str, _Object]] = {}
        self.uploads: dict[str, tuple[dict[str, str], dict[int, bytes]]] = {}
        self.requests: list[tuple[str, str]] = []
        self.read_only = False
        self.generation = 1_700_000_000_000_000

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def keep(
        self, bucket: str, name: str, data: bytes, headers: dict[str, str], wanted: str | None
    ) -> _Object:
        if not name or len(name.encode()) > 1024 or re.search("[\r\n]", name) or name in (".", ".."):
            raise _RefusedError(400, "InvalidObjectName")
        with self.lock:
            objects = self.buckets[bucket]
            self.check(objects.get(name), wanted)
            self.generation += 1
            made = objects[name] = _Object(data, self.generation, datetime.now(UTC), headers)
            return made

    def check(self, found: _Object | None, wanted: str | None) -> None:
        if wanted is not None and not wanted.isdecimal():
            raise _RefusedError(400, "InvalidArgument")
        if wanted is not None and int(wanted) != (found.generation if found else 0):
            raise _RefusedError(412, "PreconditionFailed")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: GcsServer

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *args: object) -> None:
        """Nobody reads it."""

    def _serve(self) -> None:
        body = self._body()
        path, _, query = self.path.partition("?")
        self.server.requests.append((self.command, self.path))
        self.query = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        try:
            if self.server.read_only and self.command not in ("GET", "HEAD"):
                raise _RefusedError(403, "AccessDenied")
            if path == "/batch/storage/v1":
                self._batch(body)
            elif path == "/storage/v1/b" and self.command == "POST":
                self._make_bucket(json.loads(body)["name"])
            elif found := _JSON.match(path):
                self._json(self.command, unquote(found["bucket"]), unquote(found["name"]), self.query)
            elif found := _XML.match(path):
                self._xml(unquote(found["bucket"]), unquote(found["name"] or ""), body)
            else:
                raise _RefusedError(404, "NotFound")
        except _RefusedError as error:
            text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{error.code}</Code></Error>"
            self._answer(error.status, text.encode(), {"Content-Type": "application/xml"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        fields = headers or {}
        for name, value in fields.items():
            self.send_header(name, value)
        if "Content-Length" not in fields and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _xml(self, bucket: str, name: str, body: bytes) -> None:
        if bucket not in self.server.buckets:
            raise _RefusedError(404, "NoSuchBucket")
        query = self.query
        if not name:
            if "delete" in query or self.command != "GET":
                raise _RefusedError(400, "InvalidArgument")
            self._list(bucket)
        elif self.command == "POST" and "uploads" in query:
            self._begin(bucket, name)
        elif "uploadId" in query:
            self._part(bucket, name, body)
        elif self.command in ("GET", "HEAD"):
            self._read(self._found(bucket, name))
        elif self.command == "PUT":
            self._put(bucket, name, body)
        elif self.command == "DELETE":
            self._json("DELETE", bucket, name, {})
        else:
            raise _RefusedError(400, "InvalidArgument")

    def _found(self, bucket: str, name: str) -> _Object:
        found = self.server.buckets[bucket].get(name)
        if found is None:
            raise _RefusedError(404, "NoSuchKey")
        return found

    def _kept(self) -> dict[str, str]:
        """The headers of a request that are kept with an object."""
        names = (
            "content-type",
            "cache-control",
            "content-disposition",
            "content-language",
            "x-goog-storage-class",
        )
        fields = [(name.lower(), value) for name, value in self.headers.items()]
        return {name: value for name, value in fields if name in names or name.startswith("x-goog-meta-")}

    def _told(self, found: _Object) -> dict[str, str]:
        return {
            "content-type": "application/octet-stream",
            **found.headers,
            "ETag": found.etag,
            "x-goog-generation": str(found.generation),
            "Last-Modified": format_datetime(found.modified, usegmt=True),
            "Accept-Ranges": "bytes",
        }

    def _read(self, found: _Object) -> None:
        headers, data = self._told(found), found.data
        if (etag := self.headers.get("If-Match")) not in (None, "*", found.etag):
            raise _RefusedError(412, f"PreconditionFailed: {etag}")
        size, status = len(data), 200
        if wanted := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            start, stop = wanted.groups()
            low = int(start) if start else max(0, size - int(stop))
            high = min(size, int(stop) + 1) if start and stop else size
            if low >= high:
                raise _RefusedError(416, "InvalidRange")
            headers["Content-Range"] = f"bytes {low}-{high - 1}/{size}"
            data, status = data[low:high], 206
        self._answer(status, data, {**headers, "Content-Length": str(len(data))})

    def _put(self, bucket: str, name: str, body: bytes) -> None:
        wanted, headers = self.headers.get("x-goog-if-generation-match"), self._kept()
        if source := self.headers.get("x-goog-copy-source"):
            _, bucket_from, name_from = f"/{source.lstrip('/')}".split("/", 2)
            found = self._found(bucket_from, unquote(name_from))
            made = self.server.keep(bucket, name, found.data, found.headers, wanted)
            text = f"<CopyObjectResult><ETag>{made.etag}</ETag></CopyObjectResult>".encode()
            self._answer(200, text, {"x-goog-generation": str(made.generation)})
            return
        digest = self.headers.get("Content-MD5")
        if digest not in (None, base64.b64encode(hashlib.md5(body).digest()).decode()):
            raise _RefusedError(400, "BadDigest")
        made = self.server.keep(bucket, name, body, headers, wanted)
        self._answer(200, b"", {"ETag": made.etag, "x-goog-generation": str(made.generation)})

    def _begin(self, bucket: str, name: str) -> None:
        self._refuse_condition()
        upload = uuid.uuid4().hex
        self.server.uploads[upload] = self._kept(), {}
        text = f"<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{escape(name)}</Key>"
        self._answer(200, f"{text}<UploadId>{upload}</UploadId></InitiateMultipartUploadResult>".encode())

    def _refuse_condition(self) -> None:
        if any(field.lower().startswith(("x-goog-if-", "if-")) for field in self.headers):
            raise _RefusedError(400, "InvalidArgument")

    def _part(self, bucket: str, name: str, body: bytes) -> None:
        upload = self.query["uploadId"]
        if upload not in self.server.uploads:
            raise _RefusedError(404, "NoSuchUpload")
        headers, parts = self.server.uploads[upload]
        if self.command == "PUT":
            parts[int(self.query["partNumber"])] = body
            self._answer(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        elif self.command == "DELETE":
            del self.server.uploads[upload]
            self._answer(204)
        elif self.command == "POST":
            self._refuse_condition()
            # The names of the elements may have a name space.
            numbers = [
                int(element.text or "0")
                for element in ElementTree.fromstring(body).iter()
                if element.tag.rpartition("}")[2] == "PartNumber"
            ]
            if any(number not in parts for number in numbers) or not numbers:
                raise _RefusedError(400, "InvalidPart")
            if any(len(parts[number]) < _LEAST_PART for number in numbers[:-1]):
                raise _RefusedError(400, "EntityTooSmall")
            made = self.server.keep(bucket, name, b"".join([parts[n] for n in numbers]), headers, None)
            del self.server.uploads[upload]
            text = f"<CompleteMultipartUploadResult><ETag>{made.etag}</ETag></CompleteMultipartUploadResult>"
            self._answer(200, text.encode(), {"x-goog-generation": str(made.generation)})
        else:
            raise _RefusedError(400, "InvalidArgument")

    def _list(self, bucket: str) -> None:
        query = self.query
        prefix, mark = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        with self.server.lock:
            objects = dict(self.server.buckets[bucket])
        # Names sort as their UTF-8 does.
        names = sorted(n for n in objects if n.startswith(prefix) and n > after)
        most, entries, last = int(query.get("max-keys", 1000)), list[str](), ""
        folders = dict[str, None]()
        spell = quote if query.get("encoding-type") == "url" else str
        for name in names:
            end = name.find(mark, len(prefix)) if mark else -1
            folder = name[: end + len(mark)] if end >= 0 else ""
            if folder in folders or (folder and after.startswith(folder)):
                last = name
                continue
            if len(entries) + len(folders) == most:
                break
            last = name
            if folder:
                folders[folder] = None
                continue
            found = objects[name]
            entries.append(
                f"<Contents><Key>{escape(spell(name))}</Key><Generation>{found.generation}</Generation>"
                f"<LastModified>{found.modified:%Y-%m-%dT%H:%M:%S.%f}Z</LastModified>"
                f"<ETag>{found.etag}</ETag><Size>{len(found.data)}</Size></Contents>"
            )
        truncated = bool(names) and last != names[-1]
        text = [f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(entries)}</KeyCount>"]
        text += [f"<IsTruncated>{str(truncated).lower()}</IsTruncated>", *entries]
        text += ["<EncodingType>url</EncodingType>"] if spell is quote else []
        text += [f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders]
        text += [f"<NextContinuationToken>{escape(last)}</NextContinuationToken>"] if truncated else []
        self._answer(200, f"<ListBucketResult>{''.join(text)}</ListBucketResult>".encode())

    def _make_bucket(self, name: str) -> None:
        if name in self.server.buckets:
            raise _RefusedError(409, "conflict")
        self.server.buckets[name] = {}
        self._answer(200, json.dumps({"name": name}).encode(), {"Content-Type": "application/json"})

    def _json(self, method: str, bucket: str, name: str, query: dict[str, str]) -> None:
        status, body = self._act(method, bucket, name, query)
        self._answer(status, body, {"Content-Type": "application/json"})

    def _act(self, method: str, bucket: str, name: str, query: dict[str, str]) -> tuple[int, bytes]:
        with self.server.lock:
            objects = self.server.buckets.get(bucket)
            if objects is None or name not in objects:
                raise _RefusedError(404, "NoSuchBucket" if objects is None else "NoSuchKey")
            found = objects[name]
            self.server.check(found, query.get("ifGenerationMatch"))
            if method == "DELETE":
                del objects[name]
                return 204, b""
        if method != "GET":
            raise _RefusedError(400, "invalid")
        told: dict[str, Any] = {"name": name, "bucket": bucket, "size": str(len(found.data))}
        told |= {"generation": str(found.generation), "updated": found.modified.isoformat()}
        return 200, json.dumps(told).encode()

    def _batch(self, body: bytes) -> None:
        """Answer a `multipart/mixed` of up to a hundred calls, each by itself.

        https://cloud.google.com/storage/docs/batch
        """
        mark = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])
        if mark is None:
            raise _RefusedError(400, "badRequest")
        parts = [p for p in body.split(b"--" + mark[1].encode()) if p.strip() not in (b"", b"--")]
        if len(parts) > 100:
            raise _RefusedError(400, "badRequest")
        answers = list[str]()
        for part in islice(parts, 100):
            text = part.decode()
            call = re.search(r"(GET|DELETE) (/storage/v1/\S+)", text)
            number = re.search(r"(?i)content-id: *<?([^>\r\n]+)", text)
            if call is None:
                raise _RefusedError(400, "badRequest")
            path, _, query = call[2].partition("?")
            place = _JSON.match(path)
            if place is None:
                raise _RefusedError(400, "badRequest")
            options = {name: values[0] for name, values in parse_qs(query).items()}
            try:
                status, _ = self._act(call[1], unquote(place["bucket"]), unquote(place["name"]), options)
            except _RefusedError as error:
                status = error.status
            head = "Content-Type: application/http\r\n"
            head += f"Content-ID: <response-{number[1] if number else ''}>\r\n\r\n"
            answers.append(
                f"--answer\r\n{head}HTTP/1.1 {status} {quote('OK')}\r\nContent-Length: 0\r\n\r\n\r\n"
            )
        text = "".join(answers) + "--answer--\r\n"
        self._answer(200, text.encode(), {"Content-Type": "multipart/mixed; boundary=answer"})


@contextmanager
def gcs_alone() -> Iterator[str]:
    """The address of a server in a process of its own, without buckets."""
    program = (
        "from tests.servers.gcs import GcsServer as S; s = S(); print(s.url, flush=True); s.serve_forever()"
    )
    command = [sys.executable, "-c", program]
    root = Path(__file__).parents[2]
    with subprocess.Popen(bound(command), cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def gcs(*buckets: str) -> Iterator[GcsServer]:
    """A server with these buckets, which are empty."""
    with GcsServer() as server:
        server.buckets = {name: {} for name in buckets}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
