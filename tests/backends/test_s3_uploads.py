"""Large objects on `s3://`: one pass over each part, stores that lack something, pages, resuming."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from ackpt.backends.base import Body, IfAbsent, IfVersion
from ackpt.backends.s3.chunked import CHUNK_BYTES, chunked
from ackpt.errors import (
    AlreadyExistsError,
    ChecksumMismatchError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    UnsupportedError,
)
from ackpt.options import KiB, MiB
from ackpt.transfer.body import BytesBody
from ackpt.transfer.checksum import crc32c
from tests.backends.s3_support import PART, body_of, data_of, keys, open_s3, read, send
from tests.servers.s3 import S3Server

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OTHER_KEY = "YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk="


class CountedBody(Body):
    """Count the passes over the bytes."""

    def __init__(self, data: bytes) -> None:
        self._inner = BytesBody(data)
        self._known = False
        self.passes = 0

    @property
    def size(self) -> int:
        return self._inner.size

    async def crc32c(self) -> int:
        if not self._known:
            self.passes += 1
        self._known = True
        return await self._inner.crc32c()

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        self.passes += 1
        async with aclosing(self._inner.__aiter__()) as blocks:
            async for block in blocks:
                yield block
        self._known = True

    async def read(self) -> bytes:
        self.passes += 1
        self._known = True
        return await self._inner.read()


@pytest.mark.parametrize("size", [0, 1, 100, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * MiB])
async def test_a_framed_body_has_the_size_it_announces(size: int) -> None:
    content, headers = chunked(body_of(data_of(size)))
    async with aclosing(content.blocks()) as blocks:
        framed = b"".join([bytes(block) async for block in blocks])
    assert len(framed) == content.size
    assert headers["x-amz-decoded-content-length"] == str(size)


class WrongBody(CountedBody):
    """Announce another size than that of the bytes."""

    @property
    def size(self) -> int:
        return 100


@pytest.mark.parametrize("size", [99, 101])
async def test_a_body_of_another_size_than_announced_is_not_stored(
    s3_server: S3Server, s3_bucket: str, size: int
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        upload = await backend.create_upload("key")
        with pytest.raises(StorageError, match="a body of 100 bytes gave"):
            await upload.put_part(1, WrongBody(bytes(size)))
        assert await upload.parts() == []


async def test_a_part_costs_one_pass_over_its_bytes(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        upload = await backend.create_upload("key")
        body = CountedBody(data_of(PART))
        receipt = await upload.put_part(1, body)
        assert (body.passes, receipt.crc32c) == (1, crc32c(data_of(PART)))
    (entry,) = s3_server.log("UploadPart")
    assert entry.headers["x-amz-trailer"] == "x-amz-checksum-crc32c"
    assert "transfer-encoding" not in entry.headers


async def test_a_small_object_costs_one_pass_over_its_bytes(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        body = CountedBody(data_of(100 * KiB))
        await backend.put("key", body)
        assert body.passes == 1


async def test_an_object_of_parts_has_the_checksum_of_all_its_bytes(
    s3_server: S3Server, s3_bucket: str
) -> None:
    pieces = [data_of(PART, 1), data_of(PART, 2), b"the end"]
    async with open_s3(s3_server.url, s3_bucket) as backend:
        upload = await backend.create_upload("key")
        info = await upload.complete(await send(upload, pieces))
        assert info.crc32c == (await backend.head("key")).crc32c == crc32c(b"".join(pieces))
        assert len(s3_server.log("HeadObject")) == 1, "asked for what was told already"


async def test_a_store_without_trailers_gets_checksums_in_front_and_is_not_asked_again(
    s3_server: S3Server, s3_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    s3_server.change(trailers=False)
    pieces = [data_of(PART, seed) for seed in range(3)]
    with caplog.at_level(logging.INFO, logger="ackpt"):
        async with open_s3(s3_server.url, s3_bucket) as backend:
            for key in ("one", "two"):
                upload = await backend.create_upload(key)
                info = await upload.complete(await send(upload, pieces))
                assert info.crc32c == crc32c(b"".join(pieces))
    assert len([entry for entry in s3_server.log("UploadPart") if entry.status != 200]) == 1
    assert caplog.text.count("takes no checksum behind a part") == 1


async def test_a_store_without_checksums_of_all_bytes_keeps_those_of_the_parts(
    s3_server: S3Server, s3_bucket: str
) -> None:
    s3_server.change(full_object=False)
    pieces = [data_of(PART), b"the end"]
    async with open_s3(s3_server.url, s3_bucket) as backend:
        for key in ("one", "two"):
            upload = await backend.create_upload(key)
            receipts = await send(upload, pieces)
            assert [receipt.crc32c for receipt in receipts] == [crc32c(piece) for piece in pieces]
            info = await upload.complete(receipts)
            assert (info.size, info.crc32c) == (PART + 7, None)
            s3_server.fault("UploadPart", "corrupt")
            with pytest.raises(ChecksumMismatchError):
                await (await backend.create_upload(key)).put_part(1, body_of(pieces[0]))
    assert [entry.status for entry in s3_server.log("CreateMultipartUpload")] == [400, 200, 200, 200, 200]


@pytest.mark.parametrize("refuses", [True, False])
async def test_a_store_without_checksums_is_found_out_and_told_once(
    s3_server: S3Server, s3_bucket: str, caplog: pytest.LogCaptureFixture, refuses: bool
) -> None:
    s3_server.change(checksums=False, refuses_checksums=refuses)
    pieces = [data_of(PART), b"the end"]
    async with open_s3(s3_server.url, s3_bucket) as backend:
        for key in ("one", "two"):
            assert (await backend.put(f"small-{key}", body_of(b"bytes"))).crc32c is None
            upload = await backend.create_upload(key)
            receipts = await send(upload, pieces)
            assert [receipt.crc32c for receipt in receipts] == [None, None]
            info = await upload.complete(receipts)
            assert (info.size, info.crc32c) == (PART + 7, None)
            assert await read(backend, key) == b"".join(pieces)
    assert len([entry for entry in s3_server.log() if entry.status == 501]) == (3 if refuses else 0)
    assert not [entry for entry in s3_server.log("UploadPart") if "x-amz-trailer" in entry.headers]
    assert caplog.text.count("keeps no crc32c") == 1


async def test_a_store_that_refuses_conditions_says_what_to_do(s3_server: S3Server, s3_bucket: str) -> None:
    s3_server.change(conditions="refused")
    async with open_s3(s3_server.url, s3_bucket) as backend:
        with pytest.raises(UnsupportedError, match="give conditional_writes=false"):
            await backend.put("key", body_of(b"bytes"), condition=IfAbsent())
        upload = await backend.create_upload("large")
        with pytest.raises(UnsupportedError, match="give conditional_writes=false"):
            await upload.complete(await send(upload, [b"bytes"]), condition=IfAbsent())
        assert s3_server.names(s3_bucket) == []
        assert (await backend.put("key", body_of(b"bytes"))).crc32c is not None


async def test_a_store_that_ignores_conditions_is_found_out(s3_server: S3Server, s3_bucket: str) -> None:
    """It would let two writers overwrite each other, and say that all is well."""
    s3_server.change(conditions="ignored")
    async with open_s3(s3_server.url, s3_bucket) as backend:
        with pytest.raises(UnsupportedError, match=r"If-None-Match out of account.*conditional_writes"):
            await backend.put("key", body_of(b"bytes"), condition=IfAbsent())
        assert await read(backend, "key") == b"bytes"


async def test_a_store_that_heeds_conditions_is_asked_for_proof_once(
    s3_server: S3Server, s3_bucket: str
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        for key in ("one", "two"):
            await backend.put(key, body_of(b"bytes"), condition=IfAbsent())
    assert [entry.status for entry in s3_server.log("PutObject")] == [200, 412, 200]


async def test_without_conditional_writes_conditions_are_compared_before(
    s3_server: S3Server, s3_bucket: str
) -> None:
    s3_server.change(conditions="refused")
    async with open_s3(s3_server.url, s3_bucket, conditional_writes="false") as backend:
        upload = await backend.create_upload("key")
        info = await upload.complete(await send(upload, [b"bytes"]), condition=IfAbsent())
        with pytest.raises(AlreadyExistsError):
            await backend.put("key", body_of(b"other"), condition=IfAbsent())
        await backend.put("key", body_of(b"newer"), condition=IfVersion(info.version))
        again = await backend.create_upload("key")
        with pytest.raises(AlreadyExistsError):
            await again.complete(await send(again, [b"late"]), condition=IfAbsent())
        with pytest.raises(AlreadyExistsError):
            await backend.copy(await backend.head("key"), "key", condition=IfAbsent())
        assert await read(backend, "key") == b"newer"


async def test_pages_of_objects_uploads_and_parts_all_come(s3_server: S3Server, s3_bucket: str) -> None:
    s3_server.change(page=2)
    names = ["a b", "a+b", "a%20b", "grüße", "ü/\x01\x7f", "q?x=1&y", "<tag>"]
    async with open_s3(s3_server.url, s3_bucket) as backend:
        for name in names:
            await backend.put(name, body_of(b"bytes"))
            await backend.create_upload(name)
            await backend.create_upload(name)
        assert sorted(await keys(backend)) == sorted(names)
        assert sorted([info.key async for info in backend.list_uploads()]) == sorted(names * 2)
        upload = await backend.create_upload("parts")
        for number in (7, 1, 3, 9, 4):
            await upload.put_part(number, body_of(b"part %d" % number))
        parts = await upload.parts()
        assert [part.number for part in parts] == [1, 3, 4, 7, 9]
        assert all(part.crc32c == crc32c(b"part %d" % part.number) for part in parts)


async def test_an_upload_of_another_process_goes_on_with_checksums(
    s3_server: S3Server, s3_bucket: str
) -> None:
    pieces = [data_of(PART, 1), data_of(PART, 2), b"the end"]
    async with open_s3(s3_server.url, s3_bucket) as backend:
        begun = await backend.create_upload("key")
        await begun.put_part(1, body_of(pieces[0]))
    async with open_s3(s3_server.url, s3_bucket) as backend:
        upload = await backend.open_upload("key", begun.id)
        await upload.put_part(3, body_of(pieces[2]))
        await upload.put_part(2, body_of(pieces[1]))
        info = await upload.complete(await upload.parts())
        assert info.crc32c == crc32c(b"".join(pieces))
        assert await read(backend, "key") == b"".join(pieces)
    assert all("x-amz-trailer" in entry.headers for entry in s3_server.log("UploadPart"))


async def test_an_upload_cancelled_while_it_begins_leaves_none(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await backend.put("warm", body_of(b"bytes"))
        for waits in range(1, 12):
            task = asyncio.create_task(backend.create_upload(f"key-{waits}"))
            for _ in range(waits):
                await asyncio.sleep(0)
            task.cancel()
            try:
                upload = await task
            except asyncio.CancelledError:
                continue
            await upload.abort()  # it had begun before it could be cancelled
        assert s3_server.open_uploads(s3_bucket) == []


async def test_an_upload_that_is_gone_is_not_found(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        with pytest.raises(NotFoundError, match="expired"):
            await backend.open_upload("key", "no-such-id")


async def test_objects_are_written_as_the_url_says(s3_server: S3Server, s3_bucket: str) -> None:
    options = {"storage_class": "INTELLIGENT_TIERING", "kms_key": "alias/checkpoints"}
    async with open_s3(s3_server.url, s3_bucket, **options) as backend:
        info = await backend.put("small", body_of(b"bytes"))
        upload = await backend.create_upload("large")
        await upload.complete(await send(upload, [b"bytes"]))
        await backend.copy(info, "copy")
    for name in ("small", "large", "copy"):
        assert s3_server.stored(s3_bucket, f"run/{name}").headers == {
            "x-amz-storage-class": "INTELLIGENT_TIERING",
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id": "alias/checkpoints",
        }


async def test_a_key_of_one_s_own_goes_with_every_request_that_needs_it(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", OTHER_KEY)
    pieces = [data_of(PART), b"the end"]
    async with open_s3(s3_server.url, s3_bucket, encryption_key_env="OWN_KEY") as backend:
        info = await backend.put("small", body_of(b"bytes"))
        assert await read(backend, "small", 1, 3) == b"yt"
        upload = await backend.create_upload("large")
        await send(upload, pieces)
        await upload.complete(await upload.parts())
        assert await read(backend, "large") == b"".join(pieces)
        await backend.copy(info, "copy")
        await backend.copy(info, "other copy", condition=IfAbsent())
        assert await read(backend, "other copy") == b"bytes"
    async with open_s3(s3_server.url, s3_bucket, encryption_key_env="OTHER_KEY") as backend:
        with pytest.raises(PermissionDeniedError):
            await backend.head("small")
    async with open_s3(s3_server.url, s3_bucket) as backend:
        with pytest.raises(StorageError, match="Server Side Encryption"):
            await backend.head("small")
