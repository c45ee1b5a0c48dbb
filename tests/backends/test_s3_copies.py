"""Copies on `s3://` of objects that are too large for one request, and what a failed one leaves."""

from __future__ import annotations

import pytest

from ackpt.backends.base import IfAbsent, ObjectInfo
from ackpt.backends.s3 import S3Backend, copies
from ackpt.errors import AlreadyExistsError, NotFoundError, TransientError
from ackpt.transfer.checksum import crc32c
from tests.backends.s3_support import PART, body_of, data_of, open_s3, read, send
from tests.servers.s3 import S3Server

PIECES = [data_of(PART, 1), data_of(PART, 2), b"the end"]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 5 MiB be what Amazon's limit of 5 GiB is."""
    monkeypatch.setattr(copies, "_LARGE_BYTES", PART)
    monkeypatch.setattr(copies, "_PART_BYTES", PART)


async def put_large(backend: S3Backend) -> ObjectInfo:
    upload = await backend.create_upload("source")
    return await upload.complete(await send(upload, PIECES))


async def test_a_large_object_is_copied_in_parts(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        info = await backend.copy(await put_large(backend), "copy")
        assert await read(backend, "copy") == b"".join(PIECES)
        assert info.crc32c == crc32c(b"".join(PIECES))
    ranges = [entry.headers["x-amz-copy-source-range"] for entry in s3_server.log("UploadPartCopy")]
    assert ranges == [
        f"bytes=0-{PART - 1}",
        f"bytes={PART}-{2 * PART - 1}",
        f"bytes={2 * PART}-{2 * PART + 6}",
    ]
    assert s3_server.log("CopyObject") == []


async def test_a_large_copy_is_held_to_its_condition(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        source = await put_large(backend)
        await backend.put("copy", body_of(b"there"))
        with pytest.raises(AlreadyExistsError):
            await backend.copy(source, "copy", condition=IfAbsent())
        assert await read(backend, "copy") == b"there"
    assert s3_server.open_uploads(s3_bucket) == []


async def test_a_copy_that_fails_half_way_leaves_nothing(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        source = await put_large(backend)
        s3_server.fault("UploadPartCopy", "late_error")
        with pytest.raises(TransientError, match="SlowDown"):
            await backend.copy(source, "copy")
        assert s3_server.names(s3_bucket) == ["run/source"]
        assert s3_server.open_uploads(s3_bucket) == []


async def test_a_copy_that_fails_after_200_is_an_error(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        source = await backend.put("source", body_of(b"bytes"))
        s3_server.fault("CopyObject", "late_error", status=500, code="InternalError")
        with pytest.raises(TransientError, match="copy to copy from source"):
            await backend.copy(source, "copy")
        assert s3_server.names(s3_bucket) == ["run/source"]


async def test_a_store_that_refuses_checksums_copies_without(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        source = await backend.put("source", body_of(b"bytes"))
        s3_server.change(checksums=False, refuses_checksums=True)
        for key in ("one", "two"):
            await backend.copy(source, key)
    assert [entry.status for entry in s3_server.log("CopyObject")] == [501, 200, 200]


async def test_a_source_replaced_while_it_is_copied_is_not_mixed(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        source = await put_large(backend)
        await backend.put("source", body_of(b"another"))
        with pytest.raises(NotFoundError, match="another version") as caught:
            await backend.copy(source, "copy")
        assert caught.value.key == "source"
    assert s3_server.names(s3_bucket) == ["run/source"]
    assert s3_server.open_uploads(s3_bucket) == []


async def test_an_empty_object_is_copied_under_a_condition(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        source = await backend.put("source", body_of(b""))
        assert (await backend.copy(source, "copy", condition=IfAbsent())).size == 0
        with pytest.raises(AlreadyExistsError):
            await backend.copy(source, "copy", condition=IfAbsent())
