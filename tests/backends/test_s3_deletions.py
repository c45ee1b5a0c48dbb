"""Deletions of many objects on `s3://`: one request, errors of single objects, stores without them."""

from __future__ import annotations

import base64
import hashlib
import logging
from typing import Any

import pytest

from ackpt.errors import (
    BucketNotFoundError,
    ChecksumMismatchError,
    PermissionDeniedError,
    StorageError,
    TransientError,
    UnsupportedError,
)
from ackpt.transfer.deletion import delete_all
from ackpt.transfer.reliable import reliable
from ackpt.transfer.retry import Retry
from tests.backends.s3_support import body_of, open_s3
from tests.servers.s3 import S3Server

KEYS = [f"object-{number}" for number in range(25)]


async def fill(backend: Any, *more: str) -> None:
    for key in [*KEYS, *more]:
        await backend.put(key, body_of(b"bytes"))


async def test_many_are_one_request_with_its_checksum(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket, requester_pays="true") as backend:
        await fill(backend, "kept")
        s3_server.clear_log()
        assert await backend.delete_many(KEYS) == {}
    (entry,) = s3_server.log()
    assert (entry.operation, entry.status) == ("DeleteObjects", 200)
    assert len(base64.b64decode(entry.headers["content-md5"])) == 16
    assert len(entry.headers["x-amz-content-sha256"]) == hashlib.sha256().digest_size * 2
    assert entry.headers["x-amz-request-payer"] == "requester"
    assert s3_server.names(s3_bucket) == ["run/kept"]


async def test_what_xml_cannot_hold_goes_by_itself(s3_server: S3Server, s3_bucket: str) -> None:
    """A reader of XML takes a carriage return for a line feed, which would be another object."""
    doomed = ["carriage\rreturn", "bell\x07", "tab\t", "end\n", "\uffff", "plain", "plain too"]
    kept = ["carriage\nreturn", "bell", "tab", "tab ", "end", "end\r"]
    async with open_s3(s3_server.url, s3_bucket, path="") as backend:
        for key in [*doomed, *kept]:
            await backend.put(key, body_of(b"bytes"))
        assert await backend.delete_many(doomed) == {}
    assert s3_server.names(s3_bucket) == sorted(kept)
    assert len(s3_server.log("DeleteObjects")) == 1
    assert [entry.name for entry in s3_server.log("DeleteObject")] == doomed[:5]


@pytest.mark.parametrize("key", ["plain", "bell\x07"])
async def test_one_that_may_not_be_deleted_is_told_and_the_others_go(
    s3_server: S3Server, s3_bucket: str, key: str, retry: Retry
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await fill(backend, key)
        s3_server.app.buckets[s3_bucket].held.add(f"run/{key}")
        errors = await backend.delete_many([*KEYS, key])
        assert list(errors) == [key]
        assert isinstance(errors[key], PermissionDeniedError)
        assert errors[key].key == key
        assert "object lock" in str(errors[key])
        assert s3_server.names(s3_bucket) == [f"run/{key}"]
        with pytest.raises(PermissionDeniedError, match="object lock"):
            await delete_all(reliable(backend, retry), [*KEYS, key])


async def test_only_those_that_failed_in_passing_are_asked_for_again(
    s3_server: S3Server, s3_bucket: str, retry: Retry
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await fill(backend)
        s3_server.app.buckets[s3_bucket].busy.update({"run/object-3": 1, "run/object-7": 2})
        errors = await backend.delete_many(KEYS)
        assert {key: type(error) for key, error in errors.items()} == {
            "object-3": TransientError,
            "object-7": TransientError,
        }
        await delete_all(reliable(backend, retry), KEYS)
    assert s3_server.names(s3_bucket) == []


async def test_a_store_without_them_is_asked_once(
    s3_server: S3Server, s3_bucket: str, caplog: pytest.LogCaptureFixture, retry: Retry
) -> None:
    s3_server.change(bulk=False)
    async with open_s3(s3_server.url, s3_bucket) as backend:
        with caplog.at_level(logging.INFO, logger="ackpt"):
            for _ in range(3):
                await fill(backend)
                with pytest.raises(UnsupportedError):
                    await backend.delete_many(KEYS)
                assert len(s3_server.names(s3_bucket)) == len(KEYS)
                await delete_all(reliable(backend, retry), KEYS)
                assert s3_server.names(s3_bucket) == []
    assert len(s3_server.log("DeleteObjects")) == 1
    assert caplog.text.count("deleted one by one") == 1
    async with open_s3(s3_server.url, s3_bucket) as another:
        with pytest.raises(UnsupportedError):
            await another.delete_many(KEYS)
    assert len(s3_server.log("DeleteObjects")) == 2


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "MalformedPOSTRequest"),
        (400, "InvalidRequest"),
        (404, ""),
        (411, "MissingContentLength"),
        (412, "PreconditionFailed"),
        (501, "NotImplemented"),
    ],
)
async def test_a_store_that_takes_it_for_something_else_has_none(
    s3_server: S3Server, s3_bucket: str, status: int, code: str
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        s3_server.fault("DeleteObjects", "status", status=status, code=code)
        with pytest.raises(UnsupportedError):
            await backend.delete_many(KEYS)


@pytest.mark.parametrize(
    ("action", "fields", "kind"),
    [
        ("status", {"status": 503, "code": "SlowDown"}, TransientError),
        ("status", {"status": 403, "code": "AccessDenied"}, PermissionDeniedError),
        ("late_error", {"status": 500, "code": "InternalError"}, TransientError),
        ("late_end", {}, TransientError),
        ("reset_after", {}, TransientError),
    ],
)
async def test_a_refusal_for_now_is_no_lack_of_them(
    s3_server: S3Server, s3_bucket: str, action: Any, fields: dict[str, Any], kind: type[StorageError]
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await fill(backend)
        s3_server.fault("DeleteObjects", action, **fields)
        with pytest.raises(kind):
            await backend.delete_many(KEYS)
        assert await backend.delete_many(KEYS) == {}
    assert s3_server.names(s3_bucket) == []


async def test_a_damaged_list_deletes_nothing(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await fill(backend)
        s3_server.fault("DeleteObjects", "corrupt")
        with pytest.raises(ChecksumMismatchError):
            await backend.delete_many(KEYS)
    assert len(s3_server.names(s3_bucket)) == len(KEYS)


async def test_an_absent_bucket_is_told(s3_server: S3Server) -> None:
    async with open_s3(s3_server.url, "nowhere") as backend:
        with pytest.raises(BucketNotFoundError):
            await backend.delete_many(KEYS)
