"""Deletions of many objects on `gs://`: a batch, what its parts answer, endpoints without batches."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from ackpt.errors import (
    AuthenticationError,
    BucketNotFoundError,
    PermissionDeniedError,
    TransientError,
    UnsupportedError,
)
from ackpt.transfer.deletion import delete_all
from ackpt.transfer.reliable import reliable
from ackpt.transfer.retry import Retry
from tests.backends.gs_support import body_of, open_gs
from tests.servers.gcs import GCSServer

KEYS = [f"object-{number}" for number in range(25)]


async def fill(backend: Any, *more: str) -> None:
    for key in [*KEYS, *more]:
        await backend.put(key, body_of(b"bytes"))


async def test_many_are_one_request(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        await fill(backend, "kept")
        gs_server.clear_log()
        assert await backend.delete_many(KEYS) == {}
    assert [(entry.operation, entry.status) for entry in gs_server.log()] == [("batch", 200)]
    assert gs_server.names(gs_bucket) == ["run/kept"]


async def test_the_requester_pays_for_each(gs_server: GCSServer) -> None:
    bucket = gs_server.create_bucket("bucket-of-requesters", billing={"requesterPays": True})
    async with open_gs(gs_server, bucket, billing_project="project") as backend:
        await fill(backend)
        assert await backend.delete_many(KEYS) == {}
    assert gs_server.names(bucket) == []


async def test_one_that_may_not_be_deleted_is_told_and_the_others_go(
    gs_server: GCSServer, gs_bucket: str
) -> None:
    error = {"code": 403, "message": "held", "errors": [{"reason": "objectUnderActiveHold"}]}
    async with open_gs(gs_server, gs_bucket) as backend:
        await fill(backend)
        gs_server.fault(
            "batch.objects.delete", "status", skip=7, status=403, body=json.dumps({"error": error})
        )
        errors = await backend.delete_many(KEYS)
        assert list(errors) == ["object-7"]
        assert isinstance(errors["object-7"], PermissionDeniedError)
        assert "without a retention policy and holds" in str(errors["object-7"])
        assert errors["object-7"].key == "object-7"
    assert gs_server.names(gs_bucket) == ["run/object-7"]


async def test_only_those_that_failed_in_passing_are_asked_for_again(
    gs_server: GCSServer, gs_bucket: str, retry: Retry
) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        await fill(backend)
        gs_server.fault("batch.objects.delete", "status", skip=5, count=2, status=503, retry_after="0")
        gs_server.fault("batch.objects.delete", "status", skip=20, status=429)
        errors = await backend.delete_many(KEYS)
        assert all(isinstance(error, TransientError) for error in errors.values())
        assert len(errors) == len(gs_server.names(gs_bucket)) == 3
        await delete_all(reliable(backend, retry), list(errors))
    assert gs_server.names(gs_bucket) == []
    assert len(gs_server.log("batch")) == 2


async def test_a_token_that_ends_inside_a_batch_is_renewed(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        await fill(backend)
        gs_server.fault("batch.objects.delete", "status", skip=5, count=9, status=401)
        gs_server.clear_log()
        assert await backend.delete_many(KEYS) == {}
        assert [entry.operation for entry in gs_server.log()] == ["batch", "objects.delete", "batch"]
        await fill(backend)
        gs_server.fault("batch.objects.delete", "status", count=50, status=401)
        errors = await backend.delete_many(KEYS)
        assert all(isinstance(error, AuthenticationError) for error in errors.values())
        assert len(errors) == 25


async def test_an_endpoint_without_batches_is_asked_once(
    gs_server: GCSServer, gs_bucket: str, caplog: pytest.LogCaptureFixture, retry: Retry
) -> None:
    gs_server.speak_batches(False)
    async with open_gs(gs_server, gs_bucket) as backend:
        with caplog.at_level(logging.INFO, logger="ackpt"):
            for _ in range(3):
                await fill(backend)
                with pytest.raises(UnsupportedError):
                    await backend.delete_many(KEYS)
                await delete_all(reliable(backend, retry), KEYS)
                assert gs_server.names(gs_bucket) == []
    # The server takes an unknown path for one of the XML API.
    assert len([entry for entry in gs_server.log() if entry.status == 404]) == 1
    assert caplog.text.count("deleted one by one") == 1


@pytest.mark.parametrize("status", [200, 400, 405, 501])
async def test_an_endpoint_that_takes_it_for_something_else_has_none(
    gs_server: GCSServer, gs_bucket: str, status: int
) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        gs_server.fault("batch", "status", status=status, body="{}")
        said = "expected the answers to a batch" if status == 200 else f"HTTP {status}"
        with pytest.raises(UnsupportedError, match=said):
            await backend.delete_many(KEYS)


@pytest.mark.parametrize(
    "fault", [{"action": "status", "status": 503}, {"action": "reset_after"}, {"action": "reset_before"}]
)
async def test_a_refusal_for_now_is_no_lack_of_them(
    gs_server: GCSServer, gs_bucket: str, fault: dict[str, Any]
) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        await fill(backend)
        gs_server.fault("batch", **fault)
        with pytest.raises(TransientError):
            await backend.delete_many(KEYS)
        assert await backend.delete_many(KEYS) == {}
    assert gs_server.names(gs_bucket) == []


async def test_an_absent_bucket_is_told(gs_server: GCSServer) -> None:
    async with open_gs(gs_server, "nowhere") as backend:
        with pytest.raises(BucketNotFoundError):
            await backend.delete_many(KEYS)
