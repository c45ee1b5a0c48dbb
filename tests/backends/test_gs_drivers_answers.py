"""The drivers of `gs://` and answers that are none: cut short, malformed, from another server."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

import pytest

from ackpt.backends.base import MultipartBackend
from ackpt.errors import StorageError, TransientError
from ackpt.options import MiB
from tests.backends.gs_support import body_of, data_of, keys, read, send
from tests.backends.test_gs_drivers import DRIVERS, open_driver
from tests.servers.gcs import GCSServer

MALFORMED = (
    "",
    "[]",
    "null",
    "{}",
    "<html>log in to the network</html>",
    '{"name": "run/object", "size": "many", "generation": "1"}',
    '{"name": "run/object", "size": "5", "generation": "1", "updated": "yesterday"}',
)


@pytest.fixture(params=[*DRIVERS, None], ids=str)
async def backend(
    request: pytest.FixtureRequest, gs_server: GCSServer, gs_bucket: str
) -> AsyncGenerator[MultipartBackend, None]:
    backend = open_driver(gs_server, gs_bucket, request.param)
    await backend.put("object", body_of(b"bytes"))
    yield backend
    await backend.aclose()


@pytest.mark.parametrize("body", MALFORMED)
async def test_a_malformed_answer_is_a_storage_error(
    backend: MultipartBackend, gs_server: GCSServer, body: str
) -> None:
    source = await backend.head("object")
    calls = {
        "objects.insert": lambda: backend.put("other", body_of(b"bytes")),
        "objects.get": lambda: backend.head("object"),
        "objects.rewrite": lambda: backend.copy(source, "copy"),
    }
    for operation, call in calls.items():
        gs_server.fault(operation, "status", status=200, body=body)
        with pytest.raises(StorageError) as caught:
            await call()
        assert type(caught.value) is StorageError, f"{operation}: {caught.value!r}"
    assert await read(backend, "object") == b"bytes"


@pytest.mark.parametrize(
    "body", ["", "[]", "null", '{"items": [{}]}', '{"items": "none"}', '{"items": ["name"]}']
)
async def test_a_malformed_page_is_a_storage_error_and_no_empty_listing(
    backend: MultipartBackend, gs_server: GCSServer, body: str
) -> None:
    gs_server.fault("objects.list", "status", status=200, body=body)
    with pytest.raises(StorageError):
        await keys(backend)
    assert await keys(backend) == ["object"]


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_an_answer_that_leads_elsewhere_is_no_success(
    backend: MultipartBackend, gs_server: GCSServer, status: int
) -> None:
    for operation in ("objects.list", "objects.delete"):
        gs_server.fault(operation, "status", status=status)
        with pytest.raises(StorageError, match=f"HTTP {status}"):
            await (keys(backend) if operation == "objects.list" else backend.delete("object"))
    assert await keys(backend) == ["object"]


@pytest.mark.parametrize("after_bytes", [0, 1000, 1 * MiB])
async def test_bytes_that_are_cut_short_are_a_transient_error(
    backend: MultipartBackend, gs_server: GCSServer, after_bytes: int
) -> None:
    data = data_of(2 * MiB)
    await backend.put("large", body_of(data))
    gs_server.fault("objects.get_media", "truncate", after_bytes=after_bytes)
    with pytest.raises(TransientError, match="get large"):
        await read(backend, "large")
    assert await read(backend, "large") == data


async def test_a_key_that_encrypts_is_in_no_log(
    gs_server: GCSServer, gs_bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    monkeypatch.setenv("KEY", key)
    backend = open_driver(gs_server, gs_bucket, "gcsfs", encryption_key_env="KEY")
    upload = await backend.create_upload("object")
    info = await upload.complete(await send(upload, [b"one", b"two"]))
    await backend.copy(info, "copy")
    assert await read(backend, "copy") == b"onetwo"
    await backend.aclose()
    assert key not in caplog.text
