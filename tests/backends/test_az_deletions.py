"""Deletions of many blobs on `az://`: a batch, who may send it, what its parts answer, stores without."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ackpt.errors import (
    BucketNotFoundError,
    PermissionDeniedError,
    ThrottledError,
    TransientError,
    UnsupportedError,
)
from ackpt.transfer.deletion import delete_all
from ackpt.transfer.reliable import reliable
from ackpt.transfer.retry import Retry
from tests.backends.az_support import body_of, open_az
from tests.servers.azure import AzureServer

KEYS = [f"object-{number}" for number in range(25)]


async def fill(backend: Any, *more: str) -> None:
    for key in [*KEYS, *more]:
        await backend.put(key, body_of(b"bytes"))


@pytest.mark.parametrize("by", ["key", "signature"])
async def test_many_are_one_request(
    az_server: AzureServer, az_container: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "signature":
        monkeypatch.delenv("AZURE_STORAGE_KEY")
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", az_server.sas())
    async with open_az(az_server.url, az_container) as backend:
        await fill(backend, "kept", "grüße & 100% +\ttab")
        az_server.clear_log()
        assert await backend.delete_many([*KEYS, "grüße & 100% +\ttab"]) == {}
    assert [(entry.operation, entry.status) for entry in az_server.log()] == [("BlobBatch", 202)]
    assert az_server.names(az_container) == ["run/kept"]


async def test_one_that_may_not_be_deleted_is_told_and_the_others_go(
    az_server: AzureServer, az_container: str, retry: Retry
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        await fill(backend)
        az_server.app.containers[az_container].held.add("run/object-7")
        errors = await backend.delete_many(KEYS)
        assert list(errors) == ["object-7"]
        assert isinstance(errors["object-7"], PermissionDeniedError)
        assert "immutability policy" in str(errors["object-7"])
        assert errors["object-7"].key == "object-7"
        assert az_server.names(az_container) == ["run/object-7"]
        with pytest.raises(PermissionDeniedError, match="immutability policy"):
            await delete_all(reliable(backend, retry), KEYS)


async def test_only_those_that_failed_in_passing_are_asked_for_again(
    az_server: AzureServer, az_container: str, retry: Retry
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        await fill(backend)
        for number in (3, 7):
            az_server.fault(f"BlobBatch.run/object-{number}", "status", retry_after="0")
        errors = await backend.delete_many(KEYS)
        assert {key: type(error) for key, error in errors.items()} == {
            "object-3": ThrottledError,
            "object-7": ThrottledError,
        }
        await delete_all(reliable(backend, retry), list(errors))
    assert az_server.names(az_container) == []
    assert len(az_server.log("BlobBatch")) == 2


async def test_a_store_without_batches_is_asked_once(
    az_server: AzureServer, az_container: str, caplog: pytest.LogCaptureFixture, retry: Retry
) -> None:
    az_server.change(batches=False)
    async with open_az(az_server.url, az_container) as backend:
        with caplog.at_level(logging.INFO, logger="ackpt"):
            for _ in range(3):
                await fill(backend)
                with pytest.raises(UnsupportedError):
                    await backend.delete_many(KEYS)
                await delete_all(reliable(backend, retry), KEYS)
                assert az_server.names(az_container) == []
    assert len(az_server.log("BlobBatch")) == 1
    assert caplog.text.count("deleted one by one") == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "InvalidQueryParameterValue"),
        (403, "AuthorizationPermissionMismatch"),
        (404, "ResourceNotFound"),
        (405, "UnsupportedHttpVerb"),
        (501, "APINotImplemented"),
    ],
)
async def test_a_store_that_does_not_take_it_has_none(
    az_server: AzureServer, az_container: str, status: int, code: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        await fill(backend)
        az_server.fault("BlobBatch", "status", status=status, code=code)
        with pytest.raises(UnsupportedError):
            await backend.delete_many(KEYS)
        assert len(az_server.names(az_container)) == len(KEYS)


async def test_more_than_a_batch_takes_is_refused_as_a_whole(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        await fill(backend)
        with pytest.raises(UnsupportedError, match="ExceedsMaxBatchRequestCount"):
            await backend.delete_many([*KEYS, *(f"absent-{number}" for number in range(232))])
        assert len(az_server.names(az_container)) == len(KEYS)


@pytest.mark.parametrize("action", ["status", "reset_after", "reset_before"])
async def test_a_refusal_for_now_is_no_lack_of_them(
    az_server: AzureServer, az_container: str, action: Any
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        await fill(backend)
        az_server.fault("BlobBatch", action)
        with pytest.raises(TransientError):
            await backend.delete_many(KEYS)
        assert await backend.delete_many(KEYS) == {}
    assert az_server.names(az_container) == []


async def test_an_absent_container_is_told(az_server: AzureServer) -> None:
    async with open_az(az_server.url, "nowhere") as backend:
        with pytest.raises(BucketNotFoundError):
            await backend.delete_many(KEYS)
