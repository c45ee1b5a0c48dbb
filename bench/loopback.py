"""A store on loopback that throws away what it is sent, and gives what lies in a folder; to measure clients.

    python -m bench.loopback FOLDER [CERTIFICATE KEY]

Speaks as much of Google Cloud Storage's two APIs and of S3's as the clients in `bench/uploads.py` and
`bench/downloads.py` need, and remembers nothing: an object's name tells its size and its CRC-32C
(`name_of`), and a part's checksum is what its request declares. So the server computes no checksums.

It must not be what bounds a client. Plain bodies are dropped in the kernel: `recv` with MSG_TRUNC copies
nothing (https://man7.org/linux/man-pages/man7/tcp.7.html). TLS is served by as many processes as there are
cores. What a client fetches goes from the page cache by `sendfile`, or from a mapping through TLS.
TLS 1.3 takes the cipher that Google's and Amazon's servers choose for a client with AES in hardware,
AES-128-GCM; OpenSSL would choose AES-256.
"""

from __future__ import annotations

import base64
import json
import mmap
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from bench.certificates import Certificates

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "bench"

_HEAD_BYTES = 64 * 1024
_DROP_BYTES = 1024 * 1024
_FIRST_BYTES = 2048
_LAST_BYTES = 256
_SEND_BYTES = 128 * 1024
_NAME = re.compile(r"-(\d+)B-([0-9a-f]{8})\b")
_CIPHERS = """openssl_conf = all
[all]
ssl_conf = servers
[servers]
system_default = one
[one]
Ciphersuites = TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384
"""


def name_of(label: str, size: int, crc32c: int) -> str:
    """Name an object so that the server can describe it."""
    return f"{label}-{size}B-{crc32c:08x}"


def declared(name: str) -> tuple[int, int]:
    """Read an object's size and CRC-32C out of its name; zeros where it tells none."""
    found = _NAME.search(name)
    return (0, 0) if found is None else (int(found[1]), int(found[2], 16))


@dataclass(frozen=True, slots=True)
class Call:
    """Hold a request: its body is thrown away, but for its first and last bytes."""

    method: str
    base: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    first: bytes
    last: bytes

    def asks(self, name: str) -> str | None:
        """Return a parameter of the query."""
        return self.query.get(name, [None])[0]  # type: ignore[list-item]


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold an answer; `span` are bytes of a file, which are sent in place of `body`."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] | None = None
    file: Path | None = None
    start: int = 0
    stop: int = 0


class Connection:
    """Serve the requests that come over one connection, one after the other."""

    def __init__(self, folder: Path, connection: socket.socket) -> None:
        self._folder = folder
        self._connection = connection
        self._plain = not isinstance(connection, ssl.SSLSocket)
        self._buffer = bytearray(_DROP_BYTES)
        self._held = b""

    def serve(self) -> None:
        """Answer until the client is gone."""
        with self._connection:
            try:
                while (call := self._read()) is not None:
                    self._send(call, answer(call, self._folder))
            except OSError:
                return

    def _read(self) -> Call | None:
        while b"\r\n\r\n" not in self._held:
            more = self._connection.recv(_HEAD_BYTES)
            if not more:
                return None
            self._held += more
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        first_line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first_line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("expect", "").lower() == "100-continue":
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in headers.get("transfer-encoding", ""):
            first, last = self._drop_chunks()
        else:
            first, last = self._drop(int(headers.get("content-length", "0")))
        split = urlsplit(target)
        query = parse_qs(split.query, keep_blank_values=True)
        base = f"{'http' if self._plain else 'https'}://{headers.get('host')}"
        return Call(method, base, unquote(split.path), query, headers, first, last)

    def _drop(self, size: int) -> tuple[bytes, bytes]:
        """Throw away a body; return what it begins and ends with."""
        first = self._take(min(size, _FIRST_BYTES))
        left = size - len(first)
        self._skip(max(0, left - _LAST_BYTES))
        last = self._take(min(left, _LAST_BYTES))
        return first, last or first

    def _drop_chunks(self) -> tuple[bytes, bytes]:
        first = last = b""
        while True:
            size = int(self._line().split(b";")[0], 16)
            if not size:
                while self._line():
                    pass
                return first, last
            begins, ends = self._drop(size)
            first, last = first or begins, (last + ends)[-2 * _LAST_BYTES :]
            self._line()

    def _line(self) -> bytes:
        while b"\r\n" not in self._held:
            more = self._connection.recv(_HEAD_BYTES)
            if not more:
                raise ConnectionError
            self._held += more
        line, _, self._held = self._held.partition(b"\r\n")
        return line

    def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            more = self._connection.recv(size - len(self._held))
            if not more:
                raise ConnectionError
            self._held += more
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def _skip(self, size: int) -> None:
        held = min(size, len(self._held))
        self._held = self._held[held:]
        size -= held
        while size:
            if self._plain:
                got = self._connection.recv_into(self._buffer, min(size, _DROP_BYTES), socket.MSG_TRUNC)
            else:
                got = self._connection.recv_into(self._buffer, min(size, _DROP_BYTES))
            if not got:
                raise ConnectionError
            size -= got

    def _send(self, call: Call, given: Answer) -> None:
        length = given.stop - given.start if given.file is not None else len(given.body)
        headers = {"Content-Length": str(length), "Connection": "keep-alive", **(given.headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {given.status} Answer\r\n{lines}\r\n".encode()
        if given.file is None or call.method == "HEAD":
            self._connection.sendall(head + (b"" if call.method == "HEAD" else given.body))
            return
        self._connection.sendall(head)
        with given.file.open("rb") as file:
            if self._plain:
                self._connection.sendfile(file, given.start, given.stop - given.start)
                return
            with (
                mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping,
                memoryview(mapping) as view,
            ):
                for start in range(given.start, given.stop, _SEND_BYTES):
                    with view[start : min(start + _SEND_BYTES, given.stop)] as block:
                        self._connection.sendall(block)


def answer(call: Call, folder: Path) -> Answer:
    """Choose: Google's JSON API is known by its path, the rest is XML as Google and S3 speak it."""
    if "/storage/v1/b" in call.path or call.path.startswith("/resumable/"):
        return _json_api(call, folder)
    return _xml_api(call, folder)


def _json_api(call: Call, folder: Path) -> Answer:
    inside, _, after = call.path.partition(f"/b/{BUCKET}/o")
    name = after.removeprefix("/").partition("/rewriteTo/")[0].partition("/moveTo/")[0]
    if call.path.startswith("/resumable/"):
        return _resumable(call, call.path.removeprefix("/resumable/"))
    if call.method == "POST" and inside.startswith(("/upload", "/resumable")):
        name = call.asks("name") or _named(call.first)
        if call.asks("uploadType") == "resumable":
            return Answer(headers={"Location": f"{call.base}/resumable/{name}"})
        return _resource(name)
    if call.method == "GET" and not name:
        if after:
            return Answer(body=b'{"kind": "storage#objects"}', headers=_JSON)
        return Answer(body=json.dumps({"name": BUCKET, "locationType": "region"}).encode(), headers=_JSON)
    if call.method == "GET" and (call.asks("alt") == "media" or inside.startswith("/download")):
        return _bytes(call, folder, name)
    if call.method == "DELETE":
        return Answer(status=204)
    return _resource(name) if _NAME.search(name) else Answer(status=404, body=b"{}", headers=_JSON)


def _resumable(call: Call, name: str) -> Answer:
    """Take one request of a resumable upload: https://cloud.google.com/storage/docs/performing-resumable-uploads."""
    span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", call.headers.get("content-range", ""))
    if span is None or (span[2] is not None and span[3] != "*" and int(span[2]) + 1 == int(span[3])):
        return _resource(name)
    if span[2] is None:
        return _resource(name) if span[3] != "*" else Answer(status=308)
    return Answer(status=308, headers={"Range": f"bytes=0-{span[2]}"})


_JSON = {"Content-Type": "application/json; charset=UTF-8"}


def _resource(name: str) -> Answer:
    size, crc = _described(name)
    fields = {
        "kind": "storage#object",
        "id": f"{BUCKET}/{name}/1",
        "name": name,
        "bucket": BUCKET,
        "generation": "1",
        "metageneration": "1",
        "size": str(size),
        "crc32c": crc,
        "etag": "CAE=",
        "contentType": "application/octet-stream",
        "storageClass": "STANDARD",
        "timeCreated": "2026-01-01T00:00:00.000Z",
        "updated": "2026-01-01T00:00:00.000Z",
    }
    return Answer(body=json.dumps(fields).encode(), headers=_JSON)


def _xml_api(call: Call, folder: Path) -> Answer:
    name = call.path.removeprefix(f"/{BUCKET}").removeprefix("/")
    if call.method == "GET" and not name:
        return Answer(body=_document("ListBucketResult", IsTruncated="false", KeyCount="0"), headers=_XML)
    if call.method == "POST" and "uploads" in call.query:
        body = _document("InitiateMultipartUploadResult", Bucket=BUCKET, Key=name, UploadId="1")
        kept = {
            header: value for header, value in call.headers.items() if header.startswith("x-amz-checksum-")
        }
        return Answer(body=body, headers={**_XML, **kept})
    if call.method == "POST" and "uploadId" in call.query:
        _, crc = _described(name)
        body = _document(
            "CompleteMultipartUploadResult",
            Location=f"/{BUCKET}/{name}",
            Bucket=BUCKET,
            Key=name,
            ETag='"1"',
            ChecksumCRC32C=crc,
            ChecksumType="FULL_OBJECT",
        )
        return Answer(body=body, headers={**_XML, "x-goog-hash": f"crc32c={crc}"})
    if call.method == "PUT":
        return Answer(headers={"ETag": '"1"', "x-goog-generation": "1", **_checksums(call, name)})
    if call.method == "DELETE":
        return Answer(status=204)
    return _bytes(call, folder, name)


_XML = {"Content-Type": "application/xml"}


def _checksums(call: Call, name: str) -> dict[str, str]:
    """Return the checksums that a put has declared, in its header or behind its bytes."""
    found = {}
    if "x-goog-hash" in call.headers:
        found["x-goog-hash"] = call.headers["x-goog-hash"]
    for header, value in call.headers.items():
        if re.fullmatch(r"x-amz-checksum-(crc\w+|sha\w+)", header):
            found[header] = value
    for header, value in re.findall(rb"(x-amz-checksum-\w+):([\w+/=]+)", call.last):
        found[header.decode()] = value.decode()
    return found


def _bytes(call: Call, folder: Path, name: str) -> Answer:
    """Give an object's bytes, or a range of them; they lie in the load's folder under its name."""
    # A load's folder is what its objects' names begin with.
    path = folder / name.partition("-")[0] / name
    if not name or not path.is_file():
        return Answer(status=404, body=_document("Error", Code="NoSuchKey"), headers=_XML)
    size, crc = _described(name)
    headers = {
        "Content-Type": "application/octet-stream",
        "ETag": '"1"',
        "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "Accept-Ranges": "bytes",
        "x-goog-generation": "1",
        "x-goog-metageneration": "1",
        "x-goog-stored-content-length": str(size),
        "x-goog-hash": f"crc32c={crc}",
    }
    span = re.fullmatch(r"bytes=(\d+)-(\d*)", call.headers.get("range", ""))
    if span is None:
        return Answer(headers=headers, file=path, stop=size)
    start, stop = int(span[1]), min(size, int(span[2]) + 1 if span[2] else size)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Answer(status=206, headers=headers, file=path, start=start, stop=stop)


def _described(name: str) -> tuple[int, str]:
    """Read an object's size and CRC-32C out of its name, the latter in base64."""
    size, crc = declared(name)
    return size, base64.b64encode(crc.to_bytes(4, "big")).decode()


def _named(first: bytes) -> str:
    """Read the name in the metadata that a body begins with."""
    found = re.search(rb'"name":\s*"([^"]*)"', first)
    return "" if found is None else found[1].decode()


def _document(tag: str, **fields: str) -> bytes:
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    # Google's client looks for elements in the namespace that S3's documents have.
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<?xml version="1.0" encoding="UTF-8"?><{tag} xmlns="{space}">{inside}</{tag}>'.encode()


def run(folder: Path, certificate: str | None, key: str | None) -> None:
    """Serve in one process for each core, a thread a connection, until it is killed or alone."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    print(listening.getsockname()[1], flush=True)
    for _ in range((os.cpu_count() or 1) - 1 if context else 0):
        if not os.fork():
            break
    threading.Thread(target=_end_with_the_client, daemon=True).start()
    while True:
        connection, _ = listening.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(folder, connection, context), daemon=True).start()


def _end_with_the_client() -> None:
    """End when whoever started this is gone, however that came."""
    os.read(0, 1)
    os._exit(0)


def _serve(folder: Path, connection: socket.socket, context: ssl.SSLContext | None) -> None:
    try:
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
    except OSError:
        connection.close()
        return
    Connection(folder, connection).serve()


@contextmanager
def server(folder: Path, certificates: Certificates | None = None) -> Iterator[str]:
    """Run one in a process group of its own, with TLS where there are certificates; give its endpoint."""
    with tempfile.TemporaryDirectory(prefix="ackpt-loopback-") as scratch:
        settings = Path(scratch, "openssl.cnf")
        settings.write_text(_CIPHERS)
        files = [] if certificates is None else [str(certificates.server), str(certificates.key)]
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.loopback", str(folder), *files],
            cwd=ROOT,
            env={**os.environ, "OPENSSL_CONF": str(settings)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield f"{'http' if certificates is None else 'https'}://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=30)


if __name__ == "__main__":
    run(Path(sys.argv[1]), *(sys.argv[2:4] or (None, None)))
