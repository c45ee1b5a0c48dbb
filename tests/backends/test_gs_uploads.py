"""Large objects on `gs://`: parts aside and the move, sessions, resuming, and the choice between them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from ackpt.backends.base import IfAbsent, IfVersion, SequentialUpload
from ackpt.backends.gs.aside import split_aside
from ackpt.backends.gs.multipart import MultipartUpload, Ticket
from ackpt.backends.gs.passage import GRANULARITY, Passage
from ackpt.backends.gs.resumable import ResumableUpload
from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import (
    AlreadyExistsError,
    ChecksumMismatchError,
    ConditionFailedError,
    NotFoundError,
    StorageError,
    TransientError,
    UnsupportedError,
    UploadCompletedError,
)
from ackpt.options import KiB, MiB, TransferOptions
from ackpt.transfer.checksum import crc32c
from ackpt.transfer.context import Transfer
from ackpt.transfer.upload import upload_object
from tests.backends.gs_support import PART, body_of, data_of, keys, open_gs, read, send, until
from tests.servers.gcs import GCSServer


class TestMultipart:
    async def test_a_lost_reply_to_the_joining_costs_nothing(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        async with open_gs(gs_server, gs_bucket) as backend:
            upload = await backend.create_upload("large")
            pieces = [data_of(PART), data_of(1000, 1)]
            receipts = await send(upload, pieces)
            gs_server.fault("multipart.complete", "reset_after")
            with pytest.raises(TransientError):
                await upload.complete(receipts, condition=IfAbsent())
            assert await keys(backend) == [], "the object aside is no object"
            await upload.complete(receipts, condition=IfAbsent())
            assert await read(backend, "large") == b"".join(pieces)
            assert gs_server.names(gs_bucket) == ["run/large"]

    async def test_a_lost_reply_to_the_move_leaves_the_object(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        async with open_gs(gs_server, gs_bucket) as backend:
            upload = await backend.create_upload("large")
            receipts = await send(upload, [b"bytes"])
            gs_server.fault("objects.move", "reset_after")
            with pytest.raises(TransientError):
                await upload.complete(receipts)
            with pytest.raises(NotFoundError):
                await upload.complete(receipts)
            assert await read(backend, "large") == b"bytes"

    async def test_a_condition_that_does_not_hold_leaves_all_to_be_completed(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        async with open_gs(gs_server, gs_bucket) as backend:
            old = await backend.put("large", body_of(b"old"))
            upload = await backend.create_upload("large")
            receipts = await send(upload, [b"new"])
            with pytest.raises(AlreadyExistsError, match="large: expected no object"):
                await upload.complete(receipts, condition=IfAbsent())
            with pytest.raises(ConditionFailedError, match="expected generation 5"):
                await upload.complete(receipts, condition=IfVersion("5"))
            with pytest.raises(ConditionFailedError):
                await upload.complete(receipts, condition=IfVersion("no generation"))
            assert await read(backend, "large") == b"old"
            await upload.complete(receipts, condition=IfVersion(old.version))
            assert await read(backend, "large") == b"new"

    async def test_abort_after_the_joining_drops_the_object_aside(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        async with open_gs(gs_server, gs_bucket) as backend:
            upload = await backend.create_upload("large")
            receipts = await send(upload, [b"bytes"])
            gs_server.fault("objects.move", "status", status=500)
            with pytest.raises(TransientError):
                await upload.complete(receipts)
            await upload.abort()
            assert gs_server.names(gs_bucket) == []

    async def test_a_crash_before_the_move_is_listed_as_an_upload_and_swept(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        async with open_gs(gs_server, gs_bucket) as backend:
            upload = await backend.create_upload("folder/large")
            receipts = await send(upload, [b"bytes"])
            gs_server.fault("objects.move", "reset_before")
            with pytest.raises(TransientError):
                await upload.complete(receipts)
        async with open_gs(gs_server, gs_bucket) as other:
            assert await keys(other) == []
            (left,) = [info async for info in other.list_uploads("folder/")]
            assert left.key == "folder/large"
            await (await other.open_upload(left.key, left.upload_id)).abort()
            assert gs_server.names(gs_bucket) == []
            assert [info async for info in other.list_uploads()] == []

    async def test_a_resume_after_such_a_crash_goes_on_with_the_move(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        async with open_gs(gs_server, gs_bucket) as backend:
            upload = await backend.create_upload("large")
            receipts = await send(upload, [b"bytes"])
            gs_server.fault("objects.move", "reset_before")
            with pytest.raises(TransientError):
                await upload.complete(receipts)
            again = await backend.open_upload("large", upload.id)
            with pytest.raises(UploadCompletedError, match="put together already"):
                await again.parts()
            await again.complete([replace(each, token="") for each in receipts], condition=IfAbsent())
            assert await read(backend, "large") == b"bytes"
            assert gs_server.names(gs_bucket) == ["run/large"]
            with pytest.raises(NotFoundError):
                await backend.open_upload("large", upload.id)

    async def test_a_file_whose_upload_died_before_the_move_is_not_sent_again(
        self, gs_server: GCSServer, gs_bucket: str, tmp_path: Path
    ) -> None:
        file = StagedFile(key="large", path=tmp_path / "large", size=PART + 1000)
        file.path.write_bytes(data_of(file.size))
        ids: list[str] = []

        async def journal(upload_id: str) -> None:
            ids.append(upload_id)

        once = Transfer.start(TransferOptions(attempts=1, part_bytes=PART))
        async with open_gs(gs_server, gs_bucket) as backend:
            gs_server.fault("objects.move", "reset_before")
            with pytest.raises(TransientError):
                await upload_object(
                    backend, file, once, condition=IfAbsent(), keep_upload=True, on_upload=journal
                )
        gs_server.clear_log()
        async with open_gs(gs_server, gs_bucket) as other:
            info = await upload_object(other, file, once, condition=IfAbsent(), upload_id=ids[0])
            assert info.crc32c == crc32c(data_of(file.size))
            assert gs_server.log("multipart.put_part") == []
            assert await keys(other) == ["large"]

    async def test_an_object_of_another_size_is_never_seen(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        """Another writer with the same id put a part in between: what was joined is not what was sent."""
        async with open_gs(gs_server, gs_bucket) as backend:
            upload = await backend.create_upload("large")
            (receipt,) = await send(upload, [b"bytes"])
            longer = type(receipt)(number=1, size=99, token=receipt.token)
            with pytest.raises(StorageError, match="sent 99 bytes, the store has 5; they were deleted"):
                await upload.complete([longer])
            assert gs_server.names(gs_bucket) == []

    async def test_others_uploads_are_not_listed(self, gs_server: GCSServer, gs_bucket: str) -> None:
        url = f"{gs_server.url}/{gs_bucket}/run%2Ftheirs?uploads"
        async with aiohttp.ClientSession() as session, session.post(url) as response:
            assert response.status == 200
        async with open_gs(gs_server, gs_bucket) as backend:
            mine = await backend.create_upload("mine")
            listed = [info async for info in backend.list_uploads()]
            assert [(info.key, info.upload_id) for info in listed] == [("mine", mine.id)]

    async def test_all_pages_of_uploads_and_parts_come(self, gs_server: GCSServer, gs_bucket: str) -> None:
        async with open_gs(gs_server, gs_bucket) as backend:
            for number in range(1005):
                await backend.create_upload(f"many/{number % 7}")
            assert len([info async for info in backend.list_uploads("many/")]) == 1005
            upload = await backend.create_upload("large")
            for number in range(1, 1004):
                await upload.put_part(number, body_of(b"x"))
            assert [part.number for part in await upload.parts()] == list(range(1, 1004))

    async def test_a_cancelled_beginning_leaves_nothing_open(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        async with open_gs(gs_server, gs_bucket) as backend:
            await backend.put("first", body_of(b"the connection is open"))
            gs_server.fault("multipart.initiate", "slow", seconds=0.2)
            task = asyncio.create_task(backend.create_upload("large"))
            await until(lambda: gs_server.under_way("multipart.initiate") != [])
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert gs_server.log("multipart.initiate")
            assert gs_server.open_uploads(gs_bucket) == []

    async def test_a_key_too_long_for_a_name_aside_is_refused(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        async with open_gs(gs_server, gs_bucket, path="") as backend:
            longest = "k" * 994
            upload = await backend.create_upload(longest)
            await upload.complete(await send(upload, [b"bytes"]))
            with pytest.raises(UnsupportedError, match="may have 994 bytes, this one has 995"):
                await backend.create_upload(longest + "k")

    async def test_a_name_like_one_aside_is_refused(self, gs_server: GCSServer, gs_bucket: str) -> None:
        name = Ticket.new().aside("key")
        assert split_aside(name) is not None
        async with open_gs(gs_server, gs_bucket) as backend:
            with pytest.raises(UnsupportedError, match="kept for uploads"):
                await backend.put(name, body_of(b"bytes"))
            with pytest.raises(UnsupportedError, match="kept for uploads"):
                await backend.create_upload(name)

    async def test_an_id_of_something_else_is_not_found(self, gs_server: GCSServer, gs_bucket: str) -> None:
        async with open_gs(gs_server, gs_bucket) as backend:
            for upload_id in ("", "nonsense", "0123456789abcdef:nonsense"):
                with pytest.raises(NotFoundError):
                    await backend.open_upload("large", upload_id)


class TestResumable:
    async def test_a_broken_part_goes_on_where_the_store_is(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        """The client goes away in the middle: the store keeps whole multiples, and no byte comes twice."""
        async with open_gs(gs_server, gs_bucket, upload="resumable") as backend:
            upload = await backend.create_upload("large")
            data = data_of(32 * MiB)
            with gs_server.limited(8 * MiB):
                task = asyncio.create_task(upload.put_part(1, body_of(data)))
                await until(lambda: sum(gs_server.under_way("resumable.put")) > 2 * MiB)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            gs_server.clear_log()
            receipt = await upload.put_part(1, body_of(data))
            again = gs_server.log("resumable.put")[-1]
            begin = int((again.content_range or "").split()[1].split("-")[0])
            assert begin >= 1 * MiB
            assert begin % GRANULARITY == 0
            assert again.received == len(data) - begin
            await upload.complete([receipt])
            assert await read(backend, "large") == data

    async def test_another_process_sends_only_what_the_store_lacks(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        pieces = [data_of(700 * KiB, seed) for seed in range(5)]
        async with open_gs(gs_server, gs_bucket, upload="resumable") as backend:
            first = await backend.create_upload("large")
            await send(first, pieces[:3])
        gs_server.clear_log()
        async with open_gs(gs_server, gs_bucket, upload="resumable") as other:
            upload = await other.open_upload("large", first.id)
            assert list(await upload.parts()) == []
            info = await upload.complete(await send(upload, pieces))
            assert await read(other, "large") == b"".join(pieces)
            stored = 3 * 700 * KiB // GRANULARITY * GRANULARITY
            assert sum(entry.received for entry in gs_server.log("resumable.put")) == info.size - stored

    async def test_a_lost_reply_to_the_end_is_settled_by_asking(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        async with open_gs(gs_server, gs_bucket, upload="resumable") as backend:
            for number, size in enumerate([1000, GRANULARITY + 1]):
                upload = await backend.create_upload(f"large-{number}")
                receipts = await send(upload, [data_of(size)])
                gs_server.fault("resumable.put", "reset_after")
                with pytest.raises(TransientError):
                    await upload.complete(receipts, condition=IfAbsent())
                info = await upload.complete(receipts, condition=IfAbsent())
                assert info.version == (await backend.head(f"large-{number}")).version
                with pytest.raises(NotFoundError):
                    await upload.complete(receipts)

    async def test_an_empty_object_and_one_of_whole_multiples_are_finished(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        """No bytes are left for the last request, which then only says how many there were."""
        async with open_gs(gs_server, gs_bucket, upload="resumable") as backend:
            for key, pieces in {"empty": [], "whole": [data_of(2 * GRANULARITY)]}.items():
                upload = await backend.create_upload(key)
                receipts = await send(upload, pieces)
                gs_server.fault("resumable.put", "status", status=503)
                with pytest.raises(TransientError):
                    await upload.complete(receipts, condition=IfAbsent())
                await upload.complete(receipts, condition=IfAbsent())
                assert await read(backend, key) == b"".join(pieces)

    async def test_damaged_bytes_never_become_an_object(self, gs_server: GCSServer, gs_bucket: str) -> None:
        async with open_gs(gs_server, gs_bucket, upload="resumable") as backend:
            for size in (1 * MiB, 1 * MiB + 100):
                upload = await backend.create_upload("large")
                gs_server.fault("resumable.put", "corrupt", after_bytes=1000)
                receipts = await send(upload, [data_of(size)])
                with pytest.raises(ChecksumMismatchError, match="arrived damaged and were not stored"):
                    await upload.complete(receipts)
                assert await keys(backend) == []

    async def test_an_expired_session_is_not_found(self, gs_server: GCSServer, gs_bucket: str) -> None:
        async with open_gs(gs_server, gs_bucket, upload="resumable") as backend:
            upload = await backend.create_upload("large")
            receipts = await send(upload, [data_of(1 * MiB)])
            assert gs_server.expire_uploads() >= 1
            for call in (upload.put_part(2, body_of(b"x")), upload.parts(), upload.complete(receipts)):
                with pytest.raises(NotFoundError, match="completed, aborted or has expired"):
                    await call
            with pytest.raises(NotFoundError):
                await backend.open_upload("large", upload.id)
            await upload.abort()

    async def test_parts_out_of_order_are_refused_at_once(self, gs_server: GCSServer, gs_bucket: str) -> None:
        async with open_gs(gs_server, gs_bucket, upload="resumable") as backend:
            upload = await backend.create_upload("large")
            assert isinstance(upload, SequentialUpload)
            with pytest.raises(UnsupportedError, match="expected part 1, got 2"):
                await upload.put_part(2, body_of(b"x"))
            results = await asyncio.gather(
                upload.put_part(1, body_of(data_of(1 * MiB))),
                upload.put_part(1, body_of(data_of(1 * MiB))),
                return_exceptions=True,
            )
            assert isinstance(results[1], UnsupportedError)
            with pytest.raises(UnsupportedError, match="with other bytes"):
                await upload.put_part(1, body_of(data_of(1 * MiB, 1)))
            with pytest.raises(UnsupportedError, match="completed from all its parts"):
                await upload.complete([])

    async def test_odd_keys_go_through_sessions(self, gs_server: GCSServer, gs_bucket: str) -> None:
        async with open_gs(gs_server, gs_bucket, upload="resumable") as backend:
            for key in ("with space", "percent%20 100%", "q?a=1&b#c+d", "grüße/日本語/😀", "a//b", "../c"):
                upload = await backend.create_upload(key)
                again = await backend.open_upload(key, upload.id)
                await again.complete(await send(again, [key.encode()]))
                assert await read(backend, key) == key.encode()


class TestPassage:
    @pytest.mark.parametrize("stored", [0, GRANULARITY, 2 * GRANULARITY, 3 * GRANULARITY])
    @pytest.mark.parametrize("sizes", [(1,), (GRANULARITY,), (700_000,), (5, 5, GRANULARITY, 300_000, 1)])
    async def test_every_byte_is_sent_once_or_held(self, stored: int, sizes: tuple[int, ...]) -> None:
        whole = data_of(sum(sizes))
        sent, begin, tail, crc = b"", 0, b"", 0
        at = stored = min(stored, len(whole) // GRANULARITY * GRANULARITY)
        for size in sizes:
            body = body_of(whole[begin : begin + size])
            passage = Passage(body, begin=begin, stored=at, tail=tail, crc=crc)
            for _ in range(2):  # a repeat gives the same
                given = b"".join([bytes(block) async for block in passage.blocks()])
                assert len(given) == passage.size
            sent += given
            assert (at + len(given)) % GRANULARITY == 0
            at, begin, tail, crc = at + len(given), passage.end, passage.tail, passage.crc
            assert len(tail) < GRANULARITY
        assert whole[:stored] + sent + tail[len(tail) - (len(whole) - at) :] == whole


class TestChoice:
    async def test_an_endpoint_without_multipart_gets_sessions_and_one_line(
        self, gs_server: GCSServer, gs_bucket: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        gs_server.speak_xml(False)
        caplog.set_level(logging.INFO, "ackpt")
        async with open_gs(gs_server, gs_bucket) as backend:
            uploads = await asyncio.gather(*(backend.create_upload(f"large-{n}") for n in range(3)))
            assert all(isinstance(upload, ResumableUpload) for upload in uploads)
            assert [info async for info in backend.list_uploads()] == []
            await uploads[0].complete(await send(uploads[0], [data_of(PART), data_of(7)]))
            assert await keys(backend) == ["large-0"]
        lines = [each for each in caplog.records if each.name.startswith("ackpt")]
        assert [(each.levelname, "resumable" in each.getMessage()) for each in lines] == [("INFO", True)]

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (404, "Not Found"),
            (405, ""),
            (501, '{"error": {"code": 501, "message": "no"}}'),
            (400, "<html/>"),
            (501, "<Error><Code>NotImplemented</Code></Error>"),
            (200, "{}"),
        ],
    )
    async def test_many_answers_mean_that_it_is_not_spoken(
        self, gs_server: GCSServer, gs_bucket: str, status: int, body: str
    ) -> None:
        async with open_gs(gs_server, gs_bucket) as backend:
            gs_server.fault("multipart.initiate", "status", status=status, body=body)
            assert isinstance(await backend.create_upload("large"), ResumableUpload)

    @pytest.mark.parametrize(("status", "expected"), [(503, TransientError), (403, StorageError)])
    async def test_a_failure_does_not_mean_that_it_is_not_spoken(
        self, gs_server: GCSServer, gs_bucket: str, status: int, expected: type[Exception]
    ) -> None:
        async with open_gs(gs_server, gs_bucket) as backend:
            gs_server.fault("multipart.initiate", "status", status=status)
            with pytest.raises(expected):
                await backend.create_upload("large")
            assert isinstance(await backend.create_upload("large"), MultipartUpload)

    async def test_multipart_where_it_is_not_spoken_is_unsupported(
        self, gs_server: GCSServer, gs_bucket: str
    ) -> None:
        gs_server.speak_xml(False)
        async with open_gs(gs_server, gs_bucket, upload="multipart") as backend:
            with pytest.raises(UnsupportedError, match="upload=resumable"):
                await backend.create_upload("large")
