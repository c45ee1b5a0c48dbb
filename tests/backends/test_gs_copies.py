"""Copies inside `gs://`: many requests, keys and classes, and refusals that look alike."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from ackpt.backends.base import IfAbsent, IfVersion
from ackpt.errors import (
    AlreadyExistsError,
    BucketNotFoundError,
    ChecksumMismatchError,
    ConditionFailedError,
    NotFoundError,
    StorageError,
    TransientError,
    UnsupportedError,
)
from ackpt.options import MiB
from tests.backends.gs_support import body_of, data_of, keys, open_gs, read
from tests.servers.gcs import GCSServer

DATA = data_of(3 * MiB + 17)


async def test_a_copy_that_takes_many_requests_goes_on_with_its_token(
    gs_server: GCSServer, gs_bucket: str
) -> None:
    async with (
        open_gs(gs_server, gs_bucket) as backend,
        open_gs(gs_server, gs_bucket, storage_class="NEARLINE") as near,
    ):
        source = await backend.put("object", body_of(DATA))
        info = await near.copy(source, "copy", condition=IfAbsent())
        assert await read(backend, "copy") == DATA
        assert info == await backend.head("copy")
        assert info.crc32c == source.crc32c
        assert [entry.status for entry in gs_server.log("objects.rewrite")] == [200] * 4
        assert gs_server.resource(gs_bucket, "run/copy")["storageClass"] == "NEARLINE"


async def test_a_copy_of_one_class_takes_one_request_and_moves_no_bytes(
    gs_server: GCSServer, gs_bucket: str
) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        source = await backend.put("object", body_of(DATA))
        gs_server.clear_log()
        await backend.copy(source, "copy")
        log = gs_server.log()
        assert [entry.operation for entry in log] == ["objects.rewrite"]
        assert log[0].received < 1000


async def test_a_copy_whose_source_changes_between_two_requests_is_not_made(
    gs_server: GCSServer, gs_bucket: str
) -> None:
    async with (
        open_gs(gs_server, gs_bucket) as backend,
        open_gs(gs_server, gs_bucket, storage_class="NEARLINE") as near,
    ):
        source = await backend.put("object", body_of(DATA))
        send = near._copies._session.send
        calls = 0

        async def meanwhile(request):  # type: ignore[no-untyped-def]
            nonlocal calls
            if "rewriteTo" in str(request.url):
                calls += 1
                if calls == 3:
                    await backend.put("object", body_of(DATA))
            return await send(request)

        near._copies._session.send = meanwhile  # type: ignore[method-assign]
        with pytest.raises(NotFoundError, match=rf"expected generation {source.version}"):
            await near.copy(source, "copy")
        assert (calls, await keys(backend)) == (3, ["object"])


async def test_a_token_that_has_expired_is_worth_another_try(gs_server: GCSServer, gs_bucket: str) -> None:
    async with (
        open_gs(gs_server, gs_bucket) as backend,
        open_gs(gs_server, gs_bucket, storage_class="NEARLINE") as near,
    ):
        source = await backend.put("object", body_of(DATA))
        send = near._copies._session.send
        expired = 0

        async def late(request):  # type: ignore[no-untyped-def]
            nonlocal expired
            if "rewriteToken=" in str(request.url) and not expired:
                expired = gs_server.expire_rewrites()
            return await send(request)

        near._copies._session.send = late  # type: ignore[method-assign]
        with pytest.raises(TransientError, match="begin anew"):
            await near.copy(source, "copy")
        await near.copy(source, "copy")
        assert await read(backend, "copy") == DATA


async def test_a_condition_on_the_source_and_one_on_the_copy_are_told_apart(
    gs_server: GCSServer, gs_bucket: str
) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        stale = await backend.put("object", body_of(b"old"))
        source = await backend.put("object", body_of(b"now"))
        there = await backend.put("there", body_of(b"there"))
        for condition in [IfAbsent(), IfVersion(source.version), IfVersion(there.version), None]:
            with pytest.raises(NotFoundError) as gone:
                await backend.copy(stale, "there", condition=condition)
            assert gone.value.key == "object"
        with pytest.raises(AlreadyExistsError) as exists:
            await backend.copy(source, "there", condition=IfAbsent())
        with pytest.raises(ConditionFailedError) as failed:
            await backend.copy(source, "there", condition=IfVersion(source.version))
        assert exists.value.key == failed.value.key == "there"


async def test_a_version_of_another_store_is_no_generation(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        source = await backend.put("object", body_of(b"bytes"))
        with pytest.raises(NotFoundError, match="no generation"):
            await backend.copy(replace(source, version="an-etag"), "copy")


async def test_a_copy_from_a_missing_bucket_says_so(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket) as backend, open_gs(gs_server, "no-such-bucket") as nowhere:
        source = await backend.put("object", body_of(b"bytes"))
        with pytest.raises(BucketNotFoundError, match="no-such-bucket"):
            await nowhere.copy(source, "copy")


async def test_a_copy_that_is_not_the_source_is_deleted(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        source = await backend.put("object", body_of(b"bytes"))
        gs_server.fault("objects.rewrite", "wrong_checksum")
        with pytest.raises(ChecksumMismatchError):
            await backend.copy(source, "copy")
        assert await keys(backend) == ["object"]


async def test_a_copy_is_written_as_a_put_is(gs_server: GCSServer, gs_bucket: str) -> None:
    key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    async with (
        open_gs(gs_server, gs_bucket) as plain,
        open_gs(gs_server, gs_bucket, predefined_acl="projectPrivate", kms_key=key) as backend,
    ):
        await backend.copy(await plain.put("object", body_of(b"bytes")), "copy")
        await backend.put("put", body_of(b"bytes"))
        copied = gs_server.resource(gs_bucket, "run/copy")
        assert copied == gs_server.resource(gs_bucket, "run/put")
        assert (copied["kmsKeyName"], copied["acl"]) == (key, "projectPrivate")


async def test_a_copy_reads_and_writes_with_the_customers_key(
    gs_server: GCSServer, gs_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", base64.b64encode(b"k" * 32).decode())
    async with (
        open_gs(gs_server, gs_bucket, encryption_key_env="MY_KEY") as backend,
        open_gs(gs_server, gs_bucket) as without,
    ):
        source = await backend.put("object", body_of(DATA))
        await backend.copy(source, "copy", condition=IfAbsent())
        assert await read(backend, "copy") == DATA
        for copy_to in ["copy", "other"]:
            with pytest.raises(StorageError):
                await without.copy(source, copy_to)
        assert await read(backend, "copy") == DATA


@pytest.mark.parametrize("key", ["", "object.ackpt-upload-0123456789abcdef"])
async def test_a_copy_to_a_name_that_is_none_is_refused(
    gs_server: GCSServer, gs_bucket: str, key: str
) -> None:
    async with open_gs(gs_server, gs_bucket) as backend:
        source = await backend.put("object", body_of(b"bytes"))
        with pytest.raises(UnsupportedError):
            await backend.copy(source, key)
