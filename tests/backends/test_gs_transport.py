"""How bytes travel to `gs://`: blocks that are reused, connections kept, TLS, proxies, keys of all kinds."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_writer import StreamWriter
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ackpt.backends import open_backend
from ackpt.backends.base import Body
from ackpt.backends.http.environment import proxy_for
from ackpt.backends.http.payload import BlocksPayload
from ackpt.errors import InvalidOptionError, LocalFileError, NotFoundError, StorageError
from ackpt.options import KiB, MiB
from tests.backends.gs_support import PART, body_of, data_of, keys, open_gs, read, send
from tests.servers.gcs import GCSServer


class ReusingBody(Body):
    """Give every block in the same buffer, as the contract of `Body` allows."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    async def crc32c(self) -> int:
        return await body_of(self._data).crc32c()

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        buffer = bytearray(128 * KiB)
        for start in range(0, len(self._data), len(buffer)):
            block = self._data[start : start + len(buffer)]
            buffer[: len(block)] = block
            yield memoryview(buffer)[: len(block)]
            buffer[:] = bytes(len(buffer))

    async def read(self) -> bytes:
        return self._data


@pytest.mark.parametrize("upload", ["multipart", "resumable"])
async def test_a_buffer_used_for_every_block_arrives_unharmed(
    gs_server: GCSServer, gs_bucket: str, upload: str
) -> None:
    data = data_of(9 * MiB + 17)
    async with open_gs(gs_server, gs_bucket, upload=upload) as backend:
        with gs_server.limited(30 * MiB):
            await backend.put("object", ReusingBody(data))
            begun = await backend.create_upload("large")
            await begun.complete([await begun.put_part(1, ReusingBody(data))])
        assert await read(backend, "object") == data
        assert await read(backend, "large") == data


async def test_the_transport_holds_nothing_when_the_next_block_is_asked_for() -> None:
    """The rule that makes reuse safe from Python 3.12 on, where transports keep views of what they hold."""
    seen: list[int] = []
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4 * KiB):
            pass
        writer.close()
        await writer.wait_closed()
        served.set()

    sizes = [128 * KiB] * 30 + [1, 60 * KiB, 65 * KiB] * 10

    async def blocks() -> AsyncGenerator[bytes | memoryview, None]:
        for size in sizes:
            yield bytes(size)
            assert protocol.transport is not None
            seen.append(protocol.transport.get_write_buffer_size())

    loop = asyncio.get_running_loop()
    with socket.socket() as listening, socket.socket() as ours:
        # Small buffers in the kernel, or it would take all and the transport never hold anything.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * KiB)
        listening.bind(("127.0.0.1", 0))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * KiB)
        async with await asyncio.start_server(serve, sock=listening, limit=32 * KiB):
            ours.setblocking(False)
            await loop.sock_connect(ours, listening.getsockname())
            transport, protocol = await loop.create_connection(lambda: BaseProtocol(loop), sock=ours)
            payload = BlocksPayload(blocks, sum(sizes), content_type="x/y", stall_secs=10)
            await payload.write(StreamWriter(protocol, loop))
            transport.close()
            await served.wait()
    assert seen == [0] * len(sizes)


async def test_a_body_that_fails_after_its_last_byte_stores_nothing(
    gs_server: GCSServer, gs_bucket: str
) -> None:
    class Changed(ReusingBody):
        async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
            async for block in super().__aiter__():
                yield block
            raise LocalFileError("the staged file has changed")

    async with open_gs(gs_server, gs_bucket) as backend:
        upload = await backend.create_upload("large")
        for size in (1, 1000, 128 * KiB, 3 * MiB):
            with pytest.raises(LocalFileError, match="has changed"):
                await upload.put_part(1, Changed(data_of(size)))
        with pytest.raises(LocalFileError, match="has changed"):
            await backend.put("object", Changed(data_of(3 * MiB)))
        assert list(await upload.parts()) == []
        assert await keys(backend) == []


@pytest.mark.parametrize(("announced", "given"), [(1000, 900), (1000, 1100), (3 * MiB, 2 * MiB)])
async def test_a_body_of_another_size_stores_nothing(
    gs_server: GCSServer, gs_bucket: str, announced: int, given: int
) -> None:
    class Liar(ReusingBody):
        @property
        def size(self) -> int:
            return announced

    async with open_gs(gs_server, gs_bucket) as backend:
        upload = await backend.create_upload("large")
        with pytest.raises(StorageError, match=f"a body of {announced} bytes gave"):
            await upload.put_part(1, Liar(data_of(given)))
        assert list(await upload.parts()) == []


async def test_requests_share_a_connection_and_have_a_length(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        upload = await backend.create_upload("large")
        for number in range(1, 6):
            await backend.put(f"object-{number}", body_of(data_of(200 * KiB)))
            await upload.put_part(number, body_of(data_of(PART)))
            await read(backend, f"object-{number}")
        entries = gs_server.log()
        assert len({entry.port for entry in entries}) == 1
        assert not any(entry.chunked for entry in entries)


async def test_many_requests_at_one_time_are_not_queued_here(gs_server: GCSServer, gs_bucket: str) -> None:
    """The core bounds connections; a second queue in the session would only hide who waits for what."""
    async with open_gs(gs_server, gs_bucket) as backend:
        gs_server.fault("objects.insert", "slow", count=150, seconds=0.3)
        await asyncio.gather(*(backend.put(f"object-{n}", body_of(b"x")) for n in range(150)))
        assert len({entry.port for entry in gs_server.log("objects.insert")}) == 150


@pytest.mark.parametrize("path", ["", "a/deep/path", "with space", "grüße", "100%", "q?x=1&y"])
async def test_any_path_is_a_prefix_of_names(gs_server: GCSServer, gs_bucket: str, path: str) -> None:
    async with open_gs(gs_server, gs_bucket, path=path) as backend:
        await backend.put("key", body_of(b"bytes"))
        upload = await backend.create_upload("large")
        await upload.complete(await send(upload, [b"large"]))
        base = f"{path}/" if path else ""
        assert gs_server.names(gs_bucket) == [f"{base}key", f"{base}large"]
        assert await keys(backend) == ["key", "large"]
        assert await read(backend, "large") == b"large"


@pytest.mark.parametrize("letter", ["k", "/", " ", "%", "é", "😀"])
async def test_a_key_of_1024_bytes_works_and_a_longer_one_is_refused(
    gs_server: GCSServer, gs_bucket: str, letter: str
) -> None:
    async with open_gs(gs_server, gs_bucket, path="") as backend:
        key = "k" * (1024 % len(letter.encode())) + letter * (1024 // len(letter.encode()))
        assert len(key.encode()) == 1024
        await backend.put(key, body_of(b"bytes"))
        assert await read(backend, key) == b"bytes"
        assert (await backend.head(key)).key == key
        assert await keys(backend) == [key]
        await backend.delete(key)
        with pytest.raises(StorageError, match="1 to 1024 bytes") as caught:
            await backend.put(key + "k", body_of(b"bytes"))
        assert not isinstance(caught.value, NotFoundError)


async def test_a_folder_object_of_other_tools_is_not_listed(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket, path="") as whole, open_gs(gs_server, gs_bucket) as backend:
        await whole.put("run/", body_of(b""))
        await whole.put("running", body_of(b"a neighbour"))
        await backend.put("key", body_of(b"bytes"))
        assert await keys(backend) == ["key"]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Make a certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ackpt test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[GCSServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with GCSServer(tls=context) as server:
        server.create_bucket("bucket")
        yield server


@pytest.mark.parametrize("driver", ["google-cloud-storage", "gcsfs"])
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
async def test_drivers_trust_the_authorities_that_the_environment_names(
    tls_server: GCSServer, certificate: Path, monkeypatch: pytest.MonkeyPatch, variable: str, driver: str
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    untrusting = open_backend(f"gs://bucket/run?endpoint={tls_server.url}&anonymous=true&driver={driver}")
    with pytest.raises(StorageError, match=r"certificate of https.* REQUESTS_CA_BUNDLE") as caught:
        await untrusting.put("key", body_of(b"bytes"))
    assert type(caught.value) is StorageError
    await untrusting.aclose()
    monkeypatch.setenv(variable, str(certificate))
    backend = open_backend(f"gs://bucket/run?endpoint={tls_server.url}&anonymous=true&driver={driver}")
    await backend.put("key", body_of(b"bytes"))
    assert await read(backend, "key") == b"bytes"
    await backend.aclose()


@pytest.mark.parametrize("driver", ["google-cloud-storage", "gcsfs"])
async def test_authorities_that_cannot_be_read_are_named(
    tls_server: GCSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    backend = open_backend(f"gs://bucket/run?endpoint={tls_server.url}&anonymous=true&driver={driver}")
    with pytest.raises(StorageError, match="cannot be read.*REQUESTS_CA_BUNDLE") as caught:
        await backend.put("key", body_of(b"bytes"))
    assert type(caught.value) is StorageError
    await backend.aclose()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
async def test_tls_trusts_the_authorities_that_the_environment_names(
    tls_server: GCSServer, certificate: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(certificate))
    data = data_of(6 * MiB + 5)
    async with open_gs(tls_server, "bucket") as backend:
        upload = await backend.create_upload("large")
        await upload.complete(
            [await upload.put_part(1, ReusingBody(data)), await upload.put_part(2, ReusingBody(data))]
        )
        assert await read(backend, "large") == data + data


async def test_a_certificate_that_is_not_trusted_says_what_to_do(tls_server: GCSServer) -> None:
    async with open_gs(tls_server, "bucket") as backend:
        with pytest.raises(StorageError, match=r"certificate of https.* SSL_CERT_FILE") as caught:
            await backend.head("key")
        assert type(caught.value) is StorageError


async def test_requests_go_through_the_proxy_of_the_environment(
    gs_server: GCSServer, gs_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
        async with open_gs(gs_server, gs_bucket, endpoint="http://storage.example.com") as backend:
            with pytest.raises(StorageError):
                await backend.head("key")
        monkeypatch.setenv("no_proxy", "storage.example.com")
        assert proxy_for("http://storage.example.com") is None
    assert lines[0].startswith(b"GET http://storage.example.com/storage/v1/b/")
    assert b"Proxy-Authorization: Basic " in lines[0]


def test_a_proxy_that_is_no_url_is_refused_without_telling_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:secret@:port")
    with pytest.raises(InvalidOptionError, match="no URL") as caught:
        proxy_for("https://storage.googleapis.com")
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("https_proxy", "proxy:3128")
    assert str(proxy_for("https://storage.googleapis.com")) == "http://proxy:3128"
