"""What a user of `gs://` sees when the store refuses, breaks off, stalls or is not there."""

from __future__ import annotations

import json
import socket
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime

import aiohttp
import pytest

from ackpt.backends.base import Condition, IfAbsent, IfVersion
from ackpt.backends.gs import GSBackend
from ackpt.backends.gs.errors import read_refusal, translate
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.http.refusal import Refusal, parse_retry_after
from ackpt.backends.http.transport_errors import transport_errors
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
from ackpt.options import KiB, MiB
from tests.backends.gs_support import PART, body_of, data_of, keys, open_gs, read
from tests.servers.gcs import GCSServer

PURPOSE = Purpose(action="put", bucket="bucket", key="key")

Call = Callable[[GSBackend], Awaitable[object]]

CALLS: dict[str, Call] = {
    "put": lambda backend: backend.put("key", body_of(b"bytes")),
    "get": lambda backend: read(backend, "key"),
    "head": lambda backend: backend.head("key"),
    "list": keys,
    "delete": lambda backend: backend.delete("key"),
    "create_upload": lambda backend: backend.create_upload("key"),
}


@pytest.mark.parametrize("upload", ["multipart", "resumable"])
@pytest.mark.parametrize("name", CALLS)
async def test_a_missing_bucket_says_so_whatever_is_asked(
    gs_server: GCSServer, name: str, upload: str
) -> None:
    async with open_gs(gs_server, "no-such-bucket", upload=upload) as backend:
        with pytest.raises(BucketNotFoundError, match=r"'no-such-bucket' does not exist; .*buckets create"):
            await CALLS[name](backend)


async def test_a_range_that_is_not_heeded_gives_no_bytes(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        await backend.put("key", body_of(b"0123456789"))
        for start, stop in ((3, None), (0, 4), (3, 5)):
            gs_server.fault("objects.get_media", "status", status=200, body="0123456789")
            with pytest.raises(StorageError, match="get key: HTTP 200"):
                async for _ in backend.get("key", start, stop):
                    pass


async def test_a_bucket_that_is_there_is_asked_about_once(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        for _ in range(3):
            with pytest.raises(NotFoundError):
                await backend.head("absent")
        assert len(gs_server.log("objects.list")) == 1


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (400, "invalid", 'Provided CRC32C "a" doesn\'t match calculated CRC32C "b".', ChecksumMismatchError),
        (400, "BadDigest", "", ChecksumMismatchError),
        (400, "CrcMismatch", "", ChecksumMismatchError),
        (400, "invalid", "Invalid argument", StorageError),
        (400, "required", "requester pays bucket but no user project provided.", PermissionDeniedError),
        (401, "authError", "", AuthenticationError),
        (403, "forbidden", "", PermissionDeniedError),
        (403, "retentionPolicyNotMet", "", PermissionDeniedError),
        (403, "rateLimitExceeded", "", ThrottledError),
        (403, "quotaExceeded", "", StorageFullError),
        (404, "notFound", "", NotFoundError),
        (404, "NoSuchKey", "", NotFoundError),
        (404, "NoSuchBucket", "", BucketNotFoundError),
        (405, "MethodNotAllowed", "", UnsupportedError),
        (408, "", "", TransientError),
        (410, "gone", "", NotFoundError),
        (412, "conditionNotMet", "", StorageError),
        (413, "uploadTooLarge", "", StorageError),
        (429, "rateLimitExceeded", "", ThrottledError),
        (500, "backendError", "", TransientError),
        (501, "NotImplemented", "", UnsupportedError),
        (503, "", "", ThrottledError),
        (504, "", "", TransientError),
    ],
)
def test_each_refusal_has_one_error(status: int, code: str, message: str, expected: type[Exception]) -> None:
    error = translate(PURPOSE, Refusal(status=status, code=code, message=message))
    assert type(error) is expected
    assert error.key == "key"
    assert str(error).startswith("put key: ") or expected is BucketNotFoundError


def test_a_404_is_about_what_was_asked_for() -> None:
    refusal = Refusal(status=404, code="notFound")
    about = {subject: Purpose(action="ask", bucket="b", key="k", subject=subject) for subject in Subject}
    assert type(translate(about[Subject.BUCKET], refusal)) is BucketNotFoundError
    assert type(translate(about[Subject.OBJECT], refusal)) is NotFoundError
    assert "expired" in str(translate(about[Subject.UPLOAD], refusal))


def test_a_failed_precondition_is_the_condition_s_error() -> None:
    refusal = Refusal(status=412, code="conditionNotMet")
    conditions: dict[Condition, type[Exception]] = {
        IfAbsent(): AlreadyExistsError,
        IfVersion("5"): ConditionFailedError,
    }
    for condition, expected in conditions.items():
        purpose = Purpose(action="put", bucket="bucket", key="key", condition=condition)
        assert type(translate(purpose, refusal)) is expected


def test_both_error_documents_are_understood() -> None:
    error = {"code": 403, "message": "no\n way", "errors": [{"reason": "forbidden", "message": "no way"}]}
    refusal = read_refusal(403, {}, json.dumps({"error": error}).encode())
    assert (refusal.code, refusal.message) == ("forbidden", "no way")
    document = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no way</Message></Error>"
    refusal = read_refusal(403, {}, document)
    assert (refusal.code, refusal.message) == ("AccessDenied", "no way")
    for body in (
        b"",
        b"<html>",
        b"<html></html>",
        b"[1]",
        b'{"error": "text"}',
        b"\xff\xfe",
        b'{"error": null}',
    ):
        assert read_refusal(502, {}, body) == Refusal(status=502)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Mon, 05 Jan 2026 12:00:30 GMT", 30.0),
        ("Mon, 05 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, datetime(2026, 1, 5, 12, 0, 0, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_throttling_is_transient_and_tells_how_long(
    gs_server: GCSServer, gs_bucket: str, status: int
) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        upload = await backend.create_upload("large")
        gs_server.fault("*", "status", count=2, status=status, retry_after="17")
        for call in (backend.put("key", body_of(b"bytes")), upload.put_part(1, body_of(b"bytes"))):
            with pytest.raises(TransientError) as caught:
                await call
            assert caught.value.retry_after_secs == 17.0
            assert not isinstance(caught.value, ChecksumMismatchError)
        assert await keys(backend) == []


@pytest.mark.parametrize("action", ["reset_before", "reset_after"])
async def test_a_reset_connection_is_transient_and_sent_once(
    gs_server: GCSServer, gs_bucket: str, action: str
) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        await backend.put("first", body_of(b"the connection is open"))
        upload = await backend.create_upload("large")
        for operation in ("objects.insert", "multipart.put_part", "objects.move"):
            gs_server.fault(operation, action)
        gs_server.clear_log()
        with pytest.raises(TransientError):
            await backend.put("key", body_of(b"bytes"))
        with pytest.raises(TransientError):
            await upload.put_part(1, body_of(b"bytes"))
        assert len(gs_server.log("objects.insert")) == len(gs_server.log("multipart.put_part")) == 1


@pytest.mark.parametrize("after_bytes", [0, 1 * MiB])
async def test_an_early_refusal_gives_the_store_s_error(
    gs_server: GCSServer, gs_bucket: str, after_bytes: int
) -> None:
    """The store answers while most of the body is still to be sent, and reads no more of it."""
    async with open_gs(gs_server, gs_bucket) as backend:
        upload = await backend.create_upload("large")
        body = body_of(data_of(16 * MiB))
        for operation in ("objects.insert", "multipart.put_part"):
            gs_server.fault(operation, "refuse", count=3, status=403, after_bytes=after_bytes)
        for _ in range(3):
            with pytest.raises(PermissionDeniedError, match="faultOnDemand"):
                await backend.put("key", body)
            with pytest.raises(PermissionDeniedError, match="FaultOnDemand"):
                await upload.put_part(1, body)


async def test_an_early_refusal_with_a_reset_is_that_or_transient(
    gs_server: GCSServer, gs_bucket: str
) -> None:
    """A reset may overtake the answer; nothing else than one of the two comes of it."""
    async with open_gs(gs_server, gs_bucket) as backend:
        gs_server.fault("objects.insert", "hang_up", count=10, status=403)
        for _ in range(10):
            with pytest.raises((PermissionDeniedError, TransientError)):
                await backend.put("key", body_of(data_of(16 * MiB)))


async def test_a_store_that_does_not_answer_is_transient(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket, timeout="200ms") as backend:
        gs_server.fault("*", "slow", count=2, seconds=1.0)
        with pytest.raises(TransientError, match=r"no progress with http.* for 0\.2 s"):
            await backend.head("key")
        with pytest.raises(TransientError, match="no progress"):
            await backend.put("key", body_of(b"bytes"))


async def test_a_store_that_takes_no_bytes_is_transient(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket, timeout="300ms") as backend:
        upload = await backend.create_upload("large")
        gs_server.fault("multipart.put_part", "slow", seconds=2.0)
        with pytest.raises(TransientError, match="no progress"):
            await upload.put_part(1, body_of(data_of(32 * MiB)))


async def test_a_slow_store_is_waited_for_while_it_takes_bytes(gs_server: GCSServer, gs_bucket: str) -> None:
    """The time limit is one of progress: a body may take longer than it."""
    async with open_gs(gs_server, gs_bucket, timeout="1s") as backend:
        upload = await backend.create_upload("large")
        with gs_server.limited(24 * MiB):
            receipt = await upload.put_part(1, body_of(data_of(40 * MiB)))
        assert receipt.size == 40 * MiB


async def test_a_truncated_read_is_transient(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        await backend.put("key", body_of(data_of(900 * KiB)))
        gs_server.fault("objects.get_media", "truncate", after_bytes=300 * KiB)
        with pytest.raises(TransientError, match="get key"):
            await read(backend, "key")


async def test_no_server_is_transient_and_names_the_endpoint(gs_server: GCSServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with open_gs(gs_server, "bucket", endpoint=endpoint) as backend:
            with pytest.raises(TransientError, match=f"head key: the connection to {endpoint} failed"):
                await backend.head("key")


async def test_something_else_than_the_api_is_named(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        gs_server.fault("*", "status", count=2, status=200, body="<html>hello</html>")
        with pytest.raises(StorageError, match=r"expected a JSON object, got b'<html>hello.*Cloud Storage"):
            await backend.head("key")
        with pytest.raises(StorageError, match="expected a JSON object"):
            await backend.put("key", body_of(b"bytes"))


async def test_a_closed_backend_refuses(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        await backend.put("key", body_of(b"bytes"))
    with pytest.raises(ClosedError, match="put key: the backend is closed"):
        await backend.put("key", body_of(b"bytes"))


@pytest.mark.parametrize("size", [1000, 3 * MiB])
async def test_an_object_damaged_on_the_way_is_not_stored(
    gs_server: GCSServer, gs_bucket: str, size: int
) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        old = await backend.put("key", body_of(b"old"))
        gs_server.fault("objects.insert", "corrupt", after_bytes=size // 2 + 300)
        with pytest.raises(ChecksumMismatchError, match=r"put key: .*arrived damaged and were not stored"):
            await backend.put("key", body_of(data_of(size)))
        assert (await backend.head("key")).version == old.version


@pytest.mark.parametrize("size", [1000, 3 * MiB])
async def test_a_part_damaged_on_the_way_does_not_count(
    gs_server: GCSServer, gs_bucket: str, size: int
) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        upload = await backend.create_upload("large")
        gs_server.fault("multipart.put_part", "corrupt", after_bytes=size // 2)
        with pytest.raises(ChecksumMismatchError, match="large: part 1 arrived damaged"):
            await upload.put_part(1, body_of(data_of(size)))
        assert list(await upload.parts()) == []
        receipt = await upload.put_part(1, body_of(data_of(size)))
        assert [part.number for part in await upload.parts()] == [1]
        await upload.complete([receipt])
        assert await read(backend, "large") == data_of(size)


async def test_a_store_that_reports_another_checksum_keeps_nothing(
    gs_server: GCSServer, gs_bucket: str
) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        gs_server.fault("objects.insert", "wrong_checksum")
        with pytest.raises(ChecksumMismatchError, match=r"key: the object arrived damaged: sent with crc32c"):
            await backend.put("key", body_of(b"bytes"))
        assert await keys(backend) == []


async def test_the_requester_pays_where_asked_to(gs_server: GCSServer) -> None:
    bucket = gs_server.create_bucket("requester-pays", billing={"requesterPays": True})
    async with open_gs(gs_server, bucket) as backend:
        for call in CALLS.values():
            with pytest.raises(PermissionDeniedError, match="give the URL option billing_project"):
                await call(backend)
    async with open_gs(gs_server, bucket, billing_project="payer") as backend:
        await backend.put("key", body_of(b"bytes"))
        upload = await backend.create_upload("large")
        await upload.complete([await upload.put_part(1, body_of(data_of(PART)))])
        assert await keys(backend) == ["key", "large"]


async def test_errors_tell_no_session_uri(gs_server: GCSServer, gs_bucket: str) -> None:
    """A session's URI lets anybody write: no message and no cause may hold it."""
    async with open_gs(gs_server, gs_bucket, upload="resumable") as backend:
        upload = await backend.create_upload("large")
        secret = upload.id.rpartition("upload_id=")[2]
        assert len(secret) > 20
        for action, fields in {
            "reset_before": {"after_bytes": 300 * KiB},
            "status": {"status": 500},
            "refuse": {"status": 400, "after_bytes": 300 * KiB},
        }.items():
            gs_server.fault("resumable.put", action, **fields)
            with pytest.raises(StorageError) as caught:
                await upload.put_part(1, body_of(data_of(2 * MiB)))
            assert secret not in "".join(traceback.format_exception(caught.value))
        gs_server.expire_uploads()
        with pytest.raises(NotFoundError) as gone:
            await upload.parts()
        assert secret not in "".join(traceback.format_exception(gone.value))


@pytest.mark.parametrize("kind", [aiohttp.ClientOSError, aiohttp.ConnectionTimeoutError, OSError])
def test_a_cause_that_holds_a_url_is_left_out(kind: type[Exception]) -> None:
    """aiohttp names the URL in what it raises when a body cannot be written, or a connection is late."""
    with (
        pytest.raises(TransientError, match="put key: .* http://endpoint") as caught,
        transport_errors(PURPOSE, "http://endpoint", 5),
    ):
        raise kind(32, "cannot write to http://endpoint/o?upload_id=secret") from BrokenPipeError("broken")
    told = "".join(traceback.format_exception(caught.value))
    assert "secret" not in told
    assert "BrokenPipeError: broken" in told


async def test_a_get_that_is_left_early_frees_its_connection(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        await backend.put("key", body_of(data_of(3 * MiB)))
        blocks: AsyncGenerator[bytes, None] = backend.get("key")
        assert await anext(blocks)
        await blocks.aclose()
        assert len(await read(backend, "key")) == 3 * MiB
