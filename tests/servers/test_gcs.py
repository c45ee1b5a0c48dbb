"""The test server is strict where the service is: a client that relies on less must fail here."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
from crc32c import crc32c

from tests.servers.gcs import GCSServer

PART = 5 << 20
GRAIN = 256 << 10


@pytest.fixture(scope="module")
def server() -> Iterator[GCSServer]:
    with GCSServer() as server:
        server.create_bucket("bucket")
        yield server


@pytest.fixture
async def client(server: GCSServer) -> AsyncIterator[aiohttp.ClientSession]:
    server.reset()
    async with aiohttp.ClientSession(server.url) as client:
        yield client


def crc(data: bytes) -> str:
    return base64.b64encode(crc32c(data).to_bytes(4, "big")).decode()


async def ask(
    client: aiohttp.ClientSession, method: str, path: str, data: bytes = b"", **headers: str
) -> tuple[int, str, Mapping[str, str]]:
    """Send a request; an underscore in a header's name is a dash."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = client.request(method, path, data=BytesIO(data), headers=given, allow_redirects=False)
    async with request as response:
        return response.status, await response.text(), response.headers


async def insert(
    client: aiohttp.ClientSession, name: str, data: bytes, query: str = "", **headers: str
) -> int:
    path = f"/upload/storage/v1/b/bucket/o?uploadType=media&name={name}{query}"
    return (await ask(client, "POST", path, data, **headers))[0]


async def begin(client: aiohttp.ClientSession, name: str) -> str:
    _, text, _ = await ask(client, "POST", f"/bucket/{name}?uploads")
    return text.partition("<UploadId>")[2].partition("<")[0]


async def put_part(client: aiohttp.ClientSession, name: str, upload: str, number: int, data: bytes) -> str:
    status, _, headers = await ask(
        client, "PUT", f"/bucket/{name}?partNumber={number}&uploadId={upload}", data
    )
    assert status == 200
    assert headers["x-goog-hash"] == f"crc32c={crc(data)}"
    return headers["ETag"]


def listed(*parts: tuple[int, str]) -> bytes:
    rows = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in parts)
    return f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()


async def test_a_wrong_checksum_is_refused_and_stores_nothing(client: aiohttp.ClientSession) -> None:
    for header in (f"crc32c={crc(b'other')}", "md5=1B2M2Y8AsgTpgAmY7PhCfg==", "crc32c=short", "sha1=x"):
        assert await insert(client, "object", b"bytes", x_goog_hash=header) == 400
    assert (await ask(client, "GET", "/storage/v1/b/bucket/o/object"))[0] == 404
    assert await insert(client, "object", b"bytes", x_goog_hash=f"crc32c={crc(b'bytes')}") == 200


async def test_preconditions_are_kept(client: aiohttp.ClientSession) -> None:
    assert await insert(client, "conditional", b"1", "&ifGenerationMatch=0") == 200
    assert await insert(client, "conditional", b"2", "&ifGenerationMatch=0") == 412
    assert await insert(client, "conditional", b"2", "&ifGenerationMatch=1") == 412
    assert await insert(client, "conditional", b"2", "&ifGenerationMatch=x") == 400
    _, text, _ = await ask(client, "GET", "/storage/v1/b/bucket/o/conditional")
    assert (
        await insert(client, "conditional", b"3", f"&ifGenerationMatch={json.loads(text)['generation']}")
        == 200
    )


async def test_completion_is_strict(client: aiohttp.ClientSession) -> None:
    upload = await begin(client, "large")
    small = await put_part(client, "large", upload, 1, b"too small to be first")
    last = await put_part(client, "large", upload, 2, b"end")
    path = f"/bucket/large?uploadId={upload}"
    for body, code in [
        (listed((1, small), (2, last)), "EntityTooSmall"),
        (listed((2, last), (1, small)), "InvalidPartOrder"),
        (listed((1, last)), "InvalidPart"),
        (listed((3, last)), "InvalidPart"),
        (listed(), "MalformedCompleteMultipartUpload"),
        (b"no xml", "MalformedCompleteMultipartUpload"),
    ]:
        status, text, _ = await ask(client, "POST", path, body)
        assert (status, f"<Code>{code}</Code>" in text) == (400, True), text
    big = await put_part(client, "large", upload, 1, bytes(PART))
    assert (await ask(client, "POST", path, listed((1, big), (2, last))))[0] == 200
    assert (await ask(client, "POST", path, listed((1, big), (2, last))))[0] == 404


async def test_multipart_requests_take_no_preconditions(client: aiohttp.ClientSession) -> None:
    status, _, _ = await ask(client, "POST", "/bucket/x?uploads", x_goog_if_generation_match="0")
    assert status == 400


@pytest.mark.parametrize("number", ["0", "10001", "x"])
async def test_part_numbers_have_bounds(client: aiohttp.ClientSession, number: str) -> None:
    upload = await begin(client, "large")
    status, _, _ = await ask(client, "PUT", f"/bucket/large?partNumber={number}&uploadId={upload}", b"x")
    assert status == 400


async def test_sessions_are_strict(client: aiohttp.ClientSession) -> None:
    path = "/upload/storage/v1/b/bucket/o?uploadType=resumable&name=session"
    _, _, headers = await ask(client, "POST", path)
    uri = headers["Location"].partition("127.0.0.1")[2].partition("/")[2]

    async def put(data: bytes, content_range: str, **more: str) -> tuple[int, str | None]:
        status, _, headers = await ask(client, "PUT", f"/{uri}", data, Content_Range=content_range, **more)
        return status, headers.get("Range")

    assert await put(b"", "bytes */*") == (308, None)
    assert await put(bytes(GRAIN + 1), f"bytes 0-{GRAIN}/*") == (400, None), "no multiple of 256 KiB"
    assert await put(bytes(GRAIN), f"bytes 0-{GRAIN - 1}/*") == (308, f"bytes=0-{GRAIN - 1}")
    assert await put(bytes(GRAIN), f"bytes 0-{GRAIN - 1}/*") == (400, None), "bytes that it has already"
    assert (await put(bytes(GRAIN), f"bytes {2 * GRAIN}-{3 * GRAIN - 1}/*"))[0] == 503, "a gap"
    assert (await put(b"xyz", f"bytes {GRAIN}-{GRAIN + 1}/*"))[0] == 400, "a range that does not fit"
    assert (await put(b"", "nonsense"))[0] == 400
    end = f"bytes {GRAIN}-{GRAIN + 2}/{GRAIN + 3}"
    assert (await put(b"end", end, x_goog_hash=f"crc32c={crc(b'other')}"))[0] == 400
    assert await put(b"", "bytes */*") == (308, f"bytes=0-{GRAIN - 1}"), "a refused end changes nothing"
    assert (await put(b"end", end, x_goog_hash=f"crc32c={crc(bytes(GRAIN) + b'end')}"))[0] == 200
    assert (await put(b"", "bytes */*"))[0] == 200
    assert (await ask(client, "DELETE", f"/{uri}"))[0] == 404
    _, _, headers = await ask(client, "POST", path)
    uri = headers["Location"].partition("127.0.0.1")[2].partition("/")[2]
    assert (await ask(client, "DELETE", f"/{uri}"))[0] == 499


async def test_a_length_is_required(server: GCSServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    request = "POST /upload/storage/v1/b/bucket/o?uploadType=media&name=x HTTP/1.1\r\nHost: x\r\n"
    writer.write(f"{request}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n".encode())
    assert (await reader.readline()).split()[1] == b"411"
    writer.close()
    await writer.wait_closed()


async def test_names_and_buckets_have_rules(client: aiohttp.ClientSession) -> None:
    for name in ("", "..", ".", "a%0Ab", "k" * 1025):
        assert await insert(client, name, b"x") == 400, name
    for bucket, status in [("UPPER", 400), ("x", 400), ("bucket", 409), ("new-bucket", 200)]:
        body = json.dumps({"name": bucket}).encode()
        assert (await ask(client, "POST", "/storage/v1/b?project=p", body))[0] == status
    assert (await ask(client, "GET", "/storage/v1/b/new-bucket"))[0] == 200
    assert (await ask(client, "GET", "/storage/v1/b/absent"))[0] == 404


async def test_tokens_are_checked_where_wanted(server: GCSServer, client: aiohttp.ClientSession) -> None:
    server.require("right")
    assert await insert(client, "x", b"x") == 401
    assert await insert(client, "x", b"x", Authorization="Bearer wrong") == 401
    assert await insert(client, "x", b"x", Authorization="Bearer right") == 200
    status, text, _ = await ask(client, "POST", "/bucket/x?uploads")
    assert (status, "<Code>AuthenticationRequired</Code>" in text) == (401, True)


@contextmanager
def process_of_its_own(root: Path, folder: Path) -> Iterator[str]:
    """Run the server as a command, and end it as a shell would."""
    command = [sys.executable, "-m", "tests.servers.gcs", "--bucket", "bucket", "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            assert process.wait(10) == 0


async def test_a_process_of_its_own_keeps_everything_in_its_folder(tmp_path: Path, root: Path) -> None:
    uploads = []
    for turn in range(2):
        with process_of_its_own(root, tmp_path) as url:
            async with aiohttp.ClientSession(url) as client:
                if turn == 0:
                    assert await insert(client, "object", b"bytes") == 200
                    uploads.append(await begin(client, "large"))
                    await put_part(client, "large", uploads[0], 1, b"part")
                _, text, _ = await ask(client, "GET", "/storage/v1/b/bucket/o/object?alt=media")
                assert text == "bytes"
                _, text, _ = await ask(client, "GET", f"/bucket/large?uploadId={uploads[0]}")
                assert "<Size>4</Size>" in text
                fault = json.dumps({"operation": "objects.get", "action": "status", "status": 418}).encode()
                assert (await ask(client, "POST", "/_admin/faults", fault))[0] == 200
                assert (await ask(client, "GET", "/storage/v1/b/bucket/o/object"))[0] == 418
                _, text, _ = await ask(client, "GET", "/_admin/log")
                assert json.loads(text)[-1]["status"] == 418
                _, text, _ = await ask(client, "GET", "/_admin/uploads")
                assert json.loads(text) == {"multipart": ["large"], "resumable": []}


async def rewrite(
    client: aiohttp.ClientSession, source: str, to: str, query: str = "", fields: str = "{}", **headers: str
) -> tuple[int, dict[str, object]]:
    path = f"/storage/v1/b/bucket/o/{source}/rewriteTo/b/bucket/o/{to}?{query}"
    status, text, _ = await ask(client, "POST", path, fields.encode(), **headers)
    return status, json.loads(text)


async def test_a_rewrite_of_one_class_is_done_at_once_and_keeps_the_metadata(
    client: aiohttp.ClientSession,
) -> None:
    near = json.dumps({"storageClass": "NEARLINE"})
    assert await insert(client, "standard", b"bytes") == 200
    assert (await rewrite(client, "standard", "source", fields=near))[1]["done"] is True
    status, said = await rewrite(client, "source", "copy", "ifGenerationMatch=0")
    assert (status, said["done"], said["totalBytesRewritten"]) == (200, True, "5")
    assert "rewriteToken" not in said
    _, text, _ = await ask(client, "GET", "/storage/v1/b/bucket/o/copy")
    assert said["resource"] == json.loads(text)
    assert json.loads(text)["storageClass"] == "NEARLINE"
    assert (await ask(client, "DELETE", "/storage/v1/b/bucket/o/source"))[0] == 204
    assert (await ask(client, "GET", "/storage/v1/b/bucket/o/copy?alt=media"))[1] == "bytes"


async def test_a_rewrite_to_another_class_goes_on_with_its_token_and_no_other(
    client: aiohttp.ClientSession,
) -> None:
    near = json.dumps({"storageClass": "NEARLINE"})
    assert await insert(client, "large", bytes((2 << 20) + 1)) == 200
    _, said = await rewrite(client, "large", "near", fields=near)
    assert (said["done"], said["totalBytesRewritten"]) == (False, str(1 << 20))
    assert (await ask(client, "GET", "/storage/v1/b/bucket/o/near"))[0] == 404
    token = f"rewriteToken={said['rewriteToken']}"
    for wrong in [
        rewrite(client, "large", "other", token, fields=near),
        rewrite(client, "large", "near", token),
        rewrite(client, "large", "near", token + "&ifGenerationMatch=0", fields=near),
        rewrite(client, "large", "near", token + "x", fields=near),
    ]:
        assert (await wrong)[0] == 400
    assert (await rewrite(client, "large", "near", token, fields=near))[1]["done"] is False
    assert (await rewrite(client, "large", "near", token, fields=near))[1]["done"] is True
    assert (await rewrite(client, "large", "near", token, fields=near))[0] == 400, "the token is used up"


async def test_a_rewrite_token_expires(client: aiohttp.ClientSession, server: GCSServer) -> None:
    near = json.dumps({"storageClass": "NEARLINE"})
    assert await insert(client, "large", bytes((2 << 20) + 1)) == 200
    _, said = await rewrite(client, "large", "late", fields=near)
    server.expire_rewrites()
    token = f"rewriteToken={said['rewriteToken']}"
    assert (await rewrite(client, "large", "late", token, fields=near))[0] == 410


async def test_a_rewrite_is_strict(client: aiohttp.ClientSession) -> None:
    assert await insert(client, "source", b"bytes") == 200
    for query, status in [
        ("ifSourceGenerationMatch=1", 412),
        ("ifGenerationMatch=1", 412),
        ("sourceGeneration=1", 404),
        ("ifSourceGenerationMatch=x", 400),
        ("predefinedAcl=private", 400),
        ("destinationPredefinedAcl=everybody", 400),
    ]:
        assert (await rewrite(client, "source", "strict", query))[0] == status, query
    near = json.dumps({"storageClass": "NEARLINE"})
    assert (await rewrite(client, "source", "strict", "maxBytesRewrittenPerCall=1000", near))[0] == 400
    assert (await rewrite(client, "absent", "strict"))[0] == 404
    assert (await rewrite(client, "source", "x" * 1025))[0] == 400
    assert (await ask(client, "GET", "/storage/v1/b/bucket/o/strict"))[0] == 404
