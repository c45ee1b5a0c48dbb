"""Blocks, tickets and checksums: what is kept, what is dropped, and what is believed."""

from __future__ import annotations

import asyncio
import base64
import logging

import pytest
from crc32c import crc32c

from ackpt.backends.az import copies
from ackpt.backends.az.backend import CopyingAzBackend
from ackpt.backends.az.checksums import decode_crc64, encode_crc64
from ackpt.backends.base import IfAbsent, IfVersion
from ackpt.errors import (
    AlreadyExistsError,
    ChecksumMismatchError,
    ConditionFailedError,
    NotFoundError,
    StorageError,
    TransientError,
    UnsupportedError,
)
from ackpt.options import MiB
from ackpt.testing.bodies import LyingBody
from tests.backends.az_support import body_of, data_of, keys, open_az, read, send
from tests.servers.azure import AzureServer
from tests.servers.azure.crc64 import by_the_book, header
from tests.servers.azure.records import Blob

LARGE = 2 * MiB


def test_the_checksum_is_the_one_in_the_books() -> None:
    data = data_of(1000)
    assert by_the_book(b"123456789") == 0xAE8B14860A799888
    assert decode_crc64(encode_crc64(data)) == by_the_book(data)
    assert encode_crc64(data) == header(data)
    assert decode_crc64("AAAA") is None
    assert decode_crc64("no base64!") is None


async def test_small_objects_are_announced_with_a_checksum(az_server: AzureServer, az_container: str) -> None:
    async with open_az(az_server.url, az_container) as backend:
        az_server.fault("PutBlob", "corrupt")
        with pytest.raises(ChecksumMismatchError):
            await backend.put("object", body_of(b"bytes"))
        assert az_server.names(az_container) == []


async def test_a_large_object_that_arrives_damaged_is_never_seen(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        await backend.put("object", body_of(b"old"))
        az_server.fault("PutBlock", "corrupt")
        with pytest.raises(ChecksumMismatchError):
            await backend.put("object", body_of(data_of(LARGE)))
        assert await read(backend, "object") == b"old"
        await backend.put("object", body_of(data_of(LARGE)))
        assert await read(backend, "object") == data_of(LARGE)


async def test_a_damaged_part_is_not_told_until_it_is_put_again(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        upload = await backend.create_upload("object")
        az_server.fault("PutBlock", "corrupt")
        with pytest.raises(ChecksumMismatchError, match="part 1 arrived damaged"):
            await upload.put_part(1, body_of(b"one"))
        assert await upload.parts() == []
        receipts = await send(upload, [b"one", b"two"])
        assert len(await upload.parts()) == 2
        await upload.complete(receipts)
        assert await read(backend, "object") == b"onetwo"


async def test_what_the_store_has_confirmed_is_kept_with_the_object(
    az_server: AzureServer, az_container: str
) -> None:
    pieces = [data_of(300_000, seed=seed) for seed in range(3)]
    async with open_az(az_server.url, az_container) as backend:
        upload = await backend.create_upload("object")
        info = await upload.complete(await send(upload, pieces))
        expected = crc32c(b"".join(pieces))
        assert info.crc32c == expected
        assert (await backend.head("object")).crc32c == expected
        assert [found.crc32c async for found in backend.list()] == [expected]
        assert isinstance(backend, CopyingAzBackend)
        assert (await backend.copy(info, "copy")).crc32c == expected
        # The store is known to compare by now.
        assert (await backend.put("small", body_of(b"bytes"))).crc32c == crc32c(b"bytes")
        assert (await backend.head("small")).crc32c == crc32c(b"bytes")
    assert set(az_server.blob(az_container, "run/object").metadata) == {"ackptcrc32c"}


@pytest.mark.parametrize("crc64", ["ignored", "refused"])
async def test_where_nothing_is_confirmed_nothing_is_kept(
    az_server: AzureServer, az_container: str, crc64: str, caplog: pytest.LogCaptureFixture
) -> None:
    az_server.change(crc64=crc64)
    with caplog.at_level(logging.WARNING):
        async with open_az(az_server.url, az_container) as backend:
            for number in range(3):
                assert (await backend.put(f"object-{number}", body_of(b"bytes"))).crc32c is None
            assert (await backend.put("large", body_of(data_of(LARGE)))).crc32c is None
            upload = await backend.create_upload("parts")
            assert (await upload.complete(await send(upload, [b"one"]))).crc32c is None
            assert {found.crc32c async for found in backend.list()} == {None}
    assert len(caplog.records) == 1
    assert "compared by size alone" in caplog.text
    assert not any(blob.metadata for blob in az_server.app.containers[az_container].blobs.values())


async def test_parts_of_an_earlier_process_are_taken_over_without_a_checksum(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as first, open_az(az_server.url, az_container) as second:
        upload = await first.create_upload("object")
        await send(upload, [b"one", b"two"])
        resumed = await second.open_upload("object", upload.id)
        parts = list(await resumed.parts())
        assert [(part.number, part.size, part.crc32c) for part in parts] == [(1, 3, None), (2, 3, None)]
        last = await resumed.put_part(3, body_of(b"three"))
        assert last.crc32c == crc32c(b"three")
        info = await resumed.complete([*parts, last])
        assert (info.size, info.crc32c) == (11, None)
        assert await read(second, "object") == b"onetwothree"


async def test_a_part_that_came_with_two_contents_has_no_checksum(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        for number in range(2):
            upload = await backend.create_upload("object")
            receipts = [*await send(upload, [b"one"]), *await send(upload, [b"two"])]
            info = await upload.complete([receipts[number]])
            assert info.crc32c is None
            assert await read(backend, "object") == b"two"


@pytest.mark.parametrize("size", [1000, LARGE])
async def test_bytes_that_are_not_those_announced_make_no_object(
    az_server: AzureServer, az_container: str, size: int
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        with pytest.raises(ChecksumMismatchError, match="was read with crc32c"):
            await backend.put("object", LyingBody(data_of(size)))
        assert await keys(backend) == []
    assert az_server.staged(az_container) == {}


async def test_an_upload_is_a_ticket_beside_the_key_which_is_no_object(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        upload = await backend.create_upload("object")
        await send(upload, [b"one"])
        assert az_server.names(az_container) == [f"run/object.ackpt-upload-{upload.id}"]
        assert await keys(backend) == []
        for request in (backend.head, backend.delete, backend.create_upload):
            with pytest.raises(UnsupportedError, match="kept for uploads"):
                await request(f"object.ackpt-upload-{upload.id}")


async def test_a_beginning_that_is_cancelled_anywhere_leaves_no_ticket(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        await backend.put("warm", body_of(b"x"))
        for waits in range(12):
            task = asyncio.create_task(backend.create_upload("object"))
            for _ in range(waits):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                await task.result().abort()
            assert az_server.names(az_container) == ["run/warm"]


async def test_an_abort_drops_what_was_staged_and_the_ticket(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        upload = await backend.create_upload("object")
        await send(upload, [b"one", b"two"])
        assert az_server.staged(az_container) == {"run/object": 2}
        await upload.abort()
    assert az_server.staged(az_container) == {}
    assert az_server.names(az_container) == []


async def test_an_abort_leaves_what_another_upload_has_staged(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        one, two = await backend.create_upload("object"), await backend.create_upload("object")
        await send(one, [b"one"])
        receipts = await send(two, [b"two"])
        await one.abort()
        await two.complete(receipts)
        assert await read(backend, "object") == b"two"


async def test_an_abort_spares_an_object_that_appears_meanwhile(
    az_server: AzureServer, az_container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        upload = await backend.create_upload("object")
        await send(upload, [b"one"])
        looked = backend._blobs.head

        async def then_appears(key: str) -> object:
            try:
                return await looked(key)
            finally:
                az_server.put(az_container, "run/object", Blob(data=b"another writer's"))

        monkeypatch.setattr(backend._blobs, "head", then_appears)
        await upload.abort()
    assert az_server.names(az_container) == ["run/object"]


async def test_a_completion_drops_the_other_uploads_and_they_say_so(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        one, two = await backend.create_upload("object"), await backend.create_upload("object")
        mine, theirs = await send(one, [b"one"]), await send(two, [b"two"])
        info = await one.complete(mine)
        assert await two.parts() == []
        with pytest.raises(NotFoundError, match="what was staged is gone"):
            await two.complete(theirs)
        with pytest.raises(AlreadyExistsError):
            await two.complete(theirs, condition=IfAbsent())
        with pytest.raises(ConditionFailedError):
            await two.complete(theirs, condition=IfVersion("0x1"))
        with pytest.raises(NotFoundError):
            await two.complete(theirs, condition=IfVersion(info.version))
        assert await read(backend, "object") == b"one"
        await two.complete(await send(two, [b"sent again"]))
        assert await read(backend, "object") == b"sent again"


async def test_blocks_that_are_gone_are_told_from_a_broken_condition(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        there = await backend.put("there", body_of(b"bytes"))
        for key, condition, expected in (
            ("there", IfAbsent(), AlreadyExistsError),
            ("there", IfVersion("0x1"), ConditionFailedError),
            ("there", IfVersion(there.version), NotFoundError),
            ("absent", IfVersion("0x1"), ConditionFailedError),
            ("absent", IfAbsent(), NotFoundError),
        ):
            upload = await backend.create_upload(key)
            receipts = await send(upload, [b"one"])
            # Which of the two a store looks at first is not documented.
            az_server.fault("PutBlockList", "status", status=400, code="InvalidBlockList")
            with pytest.raises(StorageError) as caught:
                await upload.complete(receipts, condition=condition)
            assert type(caught.value) is expected
            assert caught.value.key == key
            await upload.abort()


async def test_a_large_put_whose_bytes_another_write_dropped_can_be_tried_again(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        az_server.fault("PutBlockList", "status", status=400, code="InvalidBlockList")
        with pytest.raises(TransientError, match="another write dropped"):
            await backend.put("object", body_of(data_of(LARGE)))


async def test_an_upload_that_another_tool_left_is_named_as_the_reason(
    az_server: AzureServer, az_container: str
) -> None:
    az_server.stage(az_container, "run/object", base64.b64encode(b"another tool's").decode(), b"bytes")
    async with open_az(az_server.url, az_container) as backend:
        upload = await backend.create_upload("object")
        with pytest.raises(StorageError, match="another tool may have left an unfinished upload"):
            await upload.put_part(1, body_of(b"one"))
        await upload.abort()
        await upload.abort()
        other = await backend.create_upload("object")
        await other.complete(await send(other, [b"one"]))
        assert await read(backend, "object") == b"one"


async def test_a_ticket_that_cannot_be_deleted_is_left_to_the_sweep(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        upload = await backend.create_upload("object")
        receipts = await send(upload, [b"one"])
        az_server.fault("DeleteBlob", "status")
        await upload.complete(receipts)
        assert await read(backend, "object") == b"one"
        left = [info async for info in backend.list_uploads()]
        assert [(info.key, info.upload_id) for info in left] == [("object", upload.id)]
        await (await backend.open_upload("object", upload.id)).abort()
        assert await read(backend, "object") == b"one"
    assert az_server.names(az_container) == ["run/object"]


async def test_an_object_too_large_for_one_request_is_copied_block_by_block(
    az_server: AzureServer, az_container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_WHOLE_BYTES", 1000)
    monkeypatch.setattr(copies, "_BLOCK_BYTES", 400)
    data = data_of(1001)
    async with open_az(az_server.url, az_container) as backend:
        assert isinstance(backend, CopyingAzBackend)
        await backend.put("warm", body_of(b"x"))
        source = await backend.put("object", body_of(data))
        info = await backend.copy(source, "copy", condition=IfAbsent())
        assert (info.size, info.crc32c) == (1001, crc32c(data))
        assert await read(backend, "copy") == data
        assert len(az_server.log("PutBlockFromURL")) == 3
        with pytest.raises(AlreadyExistsError):
            await backend.copy(source, "copy", condition=IfAbsent())
        await backend.put("object", body_of(data))
        with pytest.raises(NotFoundError) as caught:
            await backend.copy(source, "other")
        assert caught.value.key == "object"
    assert az_server.names(az_container) == ["run/copy", "run/object", "run/warm"]


async def test_a_copy_that_breaks_off_leaves_nothing_staged(
    az_server: AzureServer, az_container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_WHOLE_BYTES", 1000)
    monkeypatch.setattr(copies, "_BLOCK_BYTES", 400)
    async with open_az(az_server.url, az_container) as backend:
        assert isinstance(backend, CopyingAzBackend)
        source = await backend.put("object", body_of(data_of(1001)))
        az_server.fault("PutBlockList", "status")
        with pytest.raises(TransientError):
            await backend.copy(source, "copy")
    assert az_server.staged(az_container) == {}
