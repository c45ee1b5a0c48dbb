"""What a user of `s3://` sees when the store refuses, breaks off, or is something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from ackpt.backends.base import Condition, IfAbsent, IfVersion
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.http.refusal import Refusal
from ackpt.backends.s3 import S3Backend
from ackpt.backends.s3.errors import read_refusal, translate
from ackpt.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BucketNotFoundError,
    ChecksumMismatchError,
    ClosedError,
    ConditionFailedError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    StorageFullError,
    ThrottledError,
    TransientError,
    UnsupportedError,
)
from ackpt.options import MiB
from tests.backends.s3_support import PART, body_of, data_of, keys, open_s3, read, send
from tests.servers.s3 import S3Server

PURPOSE = Purpose(action="put", bucket="bucket", key="key")

REQUESTS: dict[str, Callable[[S3Backend], Coroutine[Any, Any, object]]] = {
    "PutObject": lambda backend: backend.put("key", body_of(b"bytes")),
    "GetObject": lambda backend: read(backend, "key"),
    "HeadObject": lambda backend: backend.head("key"),
    "DeleteObject": lambda backend: backend.delete("key"),
    "ListObjectsV2": lambda backend: keys(backend),
    "CreateMultipartUpload": lambda backend: backend.create_upload("key"),
}


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (301, "PermanentRedirect", StorageError),
        (400, "AuthorizationHeaderMalformed", StorageError),
        (400, "BadDigest", ChecksumMismatchError),
        (400, "EntityTooSmall", StorageError),
        (400, "ExpiredToken", AuthenticationError),
        (400, "IncompleteBody", TransientError),
        (400, "InvalidRequest", StorageError),
        (400, "KMS.DisabledException", PermissionDeniedError),
        (400, "KeyTooLongError", UnsupportedError),
        (400, "RequestTimeout", TransientError),
        (400, "XAmzContentChecksumMismatch", ChecksumMismatchError),
        (401, "", PermissionDeniedError),
        (403, "", PermissionDeniedError),
        (403, "AccessDenied", PermissionDeniedError),
        (403, "InvalidAccessKeyId", AuthenticationError),
        (403, "InvalidObjectState", StorageError),
        (403, "QuotaExceeded", StorageFullError),
        (403, "RequestTimeTooSkewed", AuthenticationError),
        (403, "SignatureDoesNotMatch", AuthenticationError),
        (404, "NoSuchBucket", BucketNotFoundError),
        (404, "NoSuchKey", NotFoundError),
        (404, "NoSuchUpload", NotFoundError),
        (405, "MethodNotAllowed", UnsupportedError),
        (408, "", TransientError),
        (409, "ConditionalRequestConflict", TransientError),
        (409, "OperationAborted", TransientError),
        (412, "PreconditionFailed", NotFoundError),
        (418, "", StorageError),
        (429, "", ThrottledError),
        (500, "InternalError", TransientError),
        (501, "NotImplemented", UnsupportedError),
        (502, "", TransientError),
        (503, "SlowDown", ThrottledError),
        (503, "", ThrottledError),
        (507, "XMinioStorageFull", StorageFullError),
    ],
)
def test_a_refusal_becomes_the_error_that_a_caller_acts_on(
    status: int, code: str, expected: type[StorageError]
) -> None:
    error = translate(PURPOSE, Refusal(status=status, code=code, message="why"))
    assert type(error) is expected
    assert error.key == "key"
    assert "key" in str(error) or "bucket" in str(error)


def test_what_is_missing_without_a_word_is_what_the_request_is_about() -> None:
    refusal = Refusal(status=404)
    about = {subject: Purpose(action="ask", bucket="b", key="k", subject=subject) for subject in Subject}
    assert type(translate(about[Subject.BUCKET], refusal)) is BucketNotFoundError
    assert type(translate(about[Subject.OBJECT], refusal)) is NotFoundError
    assert "expired" in str(translate(about[Subject.UPLOAD], refusal))


@pytest.mark.parametrize(
    ("condition", "status", "code", "expected"),
    [
        (IfAbsent(), 412, "PreconditionFailed", AlreadyExistsError),
        (IfVersion("v"), 412, "PreconditionFailed", ConditionFailedError),
        (IfVersion("v"), 404, "NoSuchKey", ConditionFailedError),
        (IfVersion("v"), 404, "NoSuchUpload", NotFoundError),
        (IfAbsent(), 404, "NoSuchBucket", BucketNotFoundError),
        (IfAbsent(), 409, "ConditionalRequestConflict", TransientError),
    ],
)
def test_a_condition_that_does_not_hold(
    condition: Condition, status: int, code: str, expected: type[StorageError]
) -> None:
    purpose = Purpose(action="put", bucket="bucket", key="key", condition=condition)
    assert type(translate(purpose, Refusal(status=status, code=code))) is expected


def test_an_error_with_status_200_is_read_as_the_status_it_should_have() -> None:
    document = "<Error><Code>{}</Code><Message>why</Message></Error>"
    read = {code: read_refusal(200, {}, document.format(code).encode()) for code in ("NoSuchUpload", "Odd")}
    assert [refusal.status for refusal in read.values()] == [404, 500]


def test_a_page_that_is_no_error_document_is_read_as_its_status() -> None:
    for body in (b"", b"<html>502</html>", b"<Error", b"{}"):
        assert read_refusal(502, {}, body) == Refusal(status=502)


@pytest.mark.parametrize("operation", REQUESTS)
async def test_a_store_that_is_busy_says_when_to_come_again(
    s3_server: S3Server, s3_bucket: str, operation: str
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await backend.put("key", body_of(b"bytes"))
        s3_server.fault(operation, "status", retry_after="7")
        with pytest.raises(TransientError) as caught:
            await REQUESTS[operation](backend)
        assert caught.value.retry_after_secs == 7.0
        await REQUESTS[operation](backend)


@pytest.mark.parametrize("operation", REQUESTS)
async def test_a_bucket_that_is_not_there_is_named(s3_server: S3Server, operation: str) -> None:
    async with open_s3(s3_server.url, "nowhere") as backend:
        with pytest.raises(BucketNotFoundError, match="'nowhere' does not exist"):
            await REQUESTS[operation](backend)


async def test_an_absent_object_is_asked_for_once_when_the_bucket_is_known(
    s3_server: S3Server, s3_bucket: str
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await backend.put("there", body_of(b"bytes"))
        s3_server.clear_log()
        with pytest.raises(NotFoundError):
            await backend.head("key")
        assert len(s3_server.log()) == 1


@pytest.mark.parametrize("version", ["", "a b", 'a"b', "a\r\nx-amz-acl: public-read", "ü"])
async def test_a_version_that_is_no_etag_is_nobody_s(
    s3_server: S3Server, s3_bucket: str, version: str
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        info = await backend.put("key", body_of(b"bytes"))
        with pytest.raises(ConditionFailedError):
            await backend.put("key", body_of(b"other"), condition=IfVersion(version))
        with pytest.raises(NotFoundError):
            await backend.copy(replace(info, version=version), "copy")
        assert s3_server.names(s3_bucket) == ["run/key"]
        assert await read(backend, "key") == b"bytes"


@pytest.mark.parametrize("size", [100, 3 * MiB])
async def test_bytes_damaged_on_the_way_are_not_stored(
    s3_server: S3Server, s3_bucket: str, size: int
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        s3_server.fault("PutObject", "corrupt")
        with pytest.raises(ChecksumMismatchError):
            await backend.put("key", body_of(data_of(size)))
        assert s3_server.names(s3_bucket) == []


async def test_a_part_damaged_on_the_way_is_not_kept(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        upload = await backend.create_upload("key")
        first = await upload.put_part(1, body_of(data_of(PART)))
        s3_server.fault("UploadPart", "corrupt")
        with pytest.raises(ChecksumMismatchError):
            await upload.put_part(2, body_of(data_of(PART, 2)))
        assert await upload.parts() == [first]


@pytest.mark.parametrize("action", ["reset_before", "reset_after"])
async def test_a_connection_that_breaks_is_transient(
    s3_server: S3Server, s3_bucket: str, action: Any
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        s3_server.fault("PutObject", action, count=2)
        with pytest.raises(TransientError, match="connection to http://127.0.0.1"):
            await backend.put("key", body_of(b"bytes"))
        assert (s3_server.names(s3_bucket) == []) == (action == "reset_before")


async def test_an_object_that_breaks_off_is_transient(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await backend.put("key", body_of(data_of(MiB)))
        s3_server.fault("GetObject", "truncate")
        with pytest.raises(TransientError):
            await read(backend, "key")


async def test_a_refusal_in_the_middle_of_a_body_is_told(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        s3_server.fault("PutObject", "refuse", status=403, code="AccessDenied")
        with pytest.raises((PermissionDeniedError, TransientError)):
            await backend.put("key", body_of(data_of(3 * MiB)))
        assert s3_server.names(s3_bucket) == []


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(500, "InternalError", TransientError), (412, "PreconditionFailed", AlreadyExistsError)],
)
async def test_a_completion_that_fails_after_200_is_an_error(
    s3_server: S3Server, s3_bucket: str, status: int, code: str, expected: type[StorageError]
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        upload = await backend.create_upload("key")
        receipts = await send(upload, [b"bytes"])
        s3_server.fault("CompleteMultipartUpload", "late_error", status=status, code=code)
        with pytest.raises(expected):
            await upload.complete(receipts, condition=IfAbsent())
        assert s3_server.names(s3_bucket) == []
        await upload.complete(receipts, condition=IfAbsent())
        assert await read(backend, "key") == b"bytes"


async def test_a_completion_that_takes_its_time_is_waited_for(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        upload = await backend.create_upload("key")
        s3_server.fault("CompleteMultipartUpload", "slow")
        info = await upload.complete(await send(upload, [b"bytes"]))
        assert (await backend.head("key")).version == info.version


async def test_a_completion_that_ends_without_a_word_is_transient_and_can_be_asked_for_again(
    s3_server: S3Server, s3_bucket: str
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        upload = await backend.create_upload("key")
        receipts = await send(upload, [b"bytes"])
        s3_server.fault("CompleteMultipartUpload", "late_end")
        with pytest.raises(TransientError, match="ended before it said"):
            await upload.complete(receipts)
        info = await upload.complete(receipts)
        assert (await backend.head("key")).version == info.version


async def test_parts_that_are_too_small_are_named_by_the_store(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        upload = await backend.create_upload("key")
        with pytest.raises(StorageError, match="EntityTooSmall"):
            await upload.complete(await send(upload, [b"small", b"small"]))
        assert s3_server.names(s3_bucket) == []


async def test_a_store_that_ignores_ranges_is_found_out(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await backend.put("key", body_of(b"bytes"))
        s3_server.change(ranges=False)
        with pytest.raises(UnsupportedError, match="range"):
            await read(backend, "key", 2, 4)


async def test_keys_as_long_as_can_be_work_and_longer_ones_are_named(
    s3_server: S3Server, s3_bucket: str
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        longest = "ü" * 510  # 1,020 bytes, and "run/" before them
        await backend.put(longest, body_of(b"bytes"))
        assert await keys(backend) == [longest]
        with pytest.raises(UnsupportedError, match="1,024 bytes"):
            await backend.put(longest + "x", body_of(b"bytes"))


async def test_whoever_asks_pays_where_the_url_says_so(s3_server: S3Server) -> None:
    bucket = s3_server.create_bucket("payers", requester_pays=True)
    async with open_s3(s3_server.url, bucket) as backend:
        with pytest.raises(PermissionDeniedError):
            await backend.put("key", body_of(b"bytes"))
    async with open_s3(s3_server.url, bucket, requester_pays="true") as backend:
        await backend.put("key", body_of(b"bytes"))
        upload = await backend.create_upload("large")
        await upload.complete(await send(upload, [b"bytes"]))
        assert sorted(await keys(backend)) == ["key", "large"]
        await backend.delete("key")


async def test_a_bucket_with_locks_takes_objects_of_every_size(s3_server: S3Server) -> None:
    """Where objects are locked the store wants a checksum with each."""
    bucket = s3_server.create_bucket("locked", object_lock=True)
    async with open_s3(s3_server.url, bucket) as backend:
        await backend.put("small", body_of(b"bytes"))
        await backend.put("large", body_of(data_of(3 * MiB)))


async def test_a_server_of_another_kind_is_named() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="<html>hello</html>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with open_s3(url, "bucket", anonymous="true", region="us-east-1") as backend:
            with pytest.raises(UnsupportedError, match="expected a ListBucketResult.*speak S3's API"):
                await keys(backend)
            with pytest.raises(StorageError, match="no ETag"):
                await backend.put("key", body_of(b"bytes"))
    finally:
        await runner.cleanup()


async def test_nobody_there_is_transient() -> None:
    async with open_s3("http://127.0.0.1:1", "bucket", anonymous="true", region="us-east-1") as backend:
        with pytest.raises(TransientError, match="connection to http://127.0.0.1:1 failed"):
            await backend.head("key")


async def test_after_aclose_every_request_is_a_closed_error(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await backend.put("key", body_of(b"bytes"))
        await backend.aclose()
        for request in REQUESTS.values():
            with pytest.raises(ClosedError):
                await request(backend)


async def test_a_wait_for_an_answer_has_a_limit() -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        options = {"anonymous": "true", "region": "us-east-1", "timeout": "100ms"}
        async with open_s3(url, "bucket", **options) as backend:
            with pytest.raises(TransientError, match="no progress"):
                await backend.put("key", body_of(b"bytes"))
        async with asyncio.timeout(10):
            await gone.wait()
