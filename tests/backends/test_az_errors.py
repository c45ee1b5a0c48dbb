"""What Azure may refuse, and what becomes of it."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest

from ackpt.backends.az.errors import read_refusal, translate
from ackpt.backends.base import IfAbsent, IfVersion
from ackpt.backends.http.purpose import Purpose
from ackpt.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BucketNotFoundError,
    ChecksumMismatchError,
    ConditionFailedError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    StorageFullError,
    ThrottledError,
    TransientError,
    UnsupportedError,
    explain,
)
from ackpt.testing.laws_key import DISTINCT_KEYS, ODD_KEYS
from tests.backends.az_support import body_of, data_of, keys, open_az, read, send
from tests.servers.azure import AzureServer
from tests.servers.azure.records import Blob


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "Crc64Mismatch", ChecksumMismatchError),
        (400, "Md5Mismatch", ChecksumMismatchError),
        (400, "InvalidBlobOrBlock", StorageError),
        (400, "InvalidBlockList", NotFoundError),
        (400, "InvalidResourceName", UnsupportedError),
        (400, "InvalidHeaderValue", StorageError),
        (401, "InvalidAuthenticationInfo", AuthenticationError),
        (401, "NoAuthenticationInformation", AuthenticationError),
        (401, "", AuthenticationError),
        (403, "AuthenticationFailed", AuthenticationError),
        (403, "AuthorizationFailure", PermissionDeniedError),
        (403, "KeyBasedAuthenticationNotPermitted", PermissionDeniedError),
        (403, "AuthorizationPermissionMismatch", PermissionDeniedError),
        (403, "", PermissionDeniedError),
        (404, "BlobNotFound", NotFoundError),
        (404, "ContainerNotFound", BucketNotFoundError),
        (405, "UnsupportedHttpVerb", UnsupportedError),
        (409, "BlobArchived", StorageError),
        (409, "BlobImmutableDueToPolicy", PermissionDeniedError),
        (409, "BlobUsesCustomerSpecifiedEncryption", StorageError),
        (409, "ContainerBeingDeleted", BucketNotFoundError),
        (409, "InvalidBlobType", StorageError),
        (409, "PublicAccessNotPermitted", PermissionDeniedError),
        (409, "SnapshotsPresent", PermissionDeniedError),
        (412, "LeaseIdMissing", StorageError),
        (412, "SourceConditionNotMet", NotFoundError),
        (413, "RequestBodyTooLarge", StorageError),
        (429, "", ThrottledError),
        (500, "InternalError", TransientError),
        (500, "OperationTimedOut", TransientError),
        (500, "FeatureNotSupported", UnsupportedError),
        (501, "APINotImplemented", UnsupportedError),
        (502, "", TransientError),
        (503, "ServerBusy", ThrottledError),
        (503, "", ThrottledError),
        (507, "", StorageFullError),
    ],
)
def test_the_code_decides(status: int, code: str, expected: type[StorageError]) -> None:
    purpose = Purpose(action="put", bucket="container", key="object")
    error = translate(
        purpose, read_refusal(status, {"x-ms-error-code": code}, b"<html>a proxy's page</html>")
    )
    assert type(error) is expected
    assert error.key == "object"
    assert str(error)[0].islower()


@pytest.mark.parametrize(
    ("status", "code"), [(409, "BlobAlreadyExists"), (412, "ConditionNotMet"), (412, "TargetConditionNotMet")]
)
def test_a_broken_condition_is_one_whatever_the_code(status: int, code: str) -> None:
    refusal = read_refusal(status, {"x-ms-error-code": code}, b"")
    absent = Purpose(action="put", bucket="container", key="object", condition=IfAbsent())
    assert type(translate(absent, refusal)) is AlreadyExistsError
    version = Purpose(action="put", bucket="container", key="object", condition=IfVersion("0x1"))
    assert type(translate(version, refusal)) is ConditionFailedError


async def test_a_busy_store_tells_how_long_to_wait(az_server: AzureServer, az_container: str) -> None:
    az_server.fault("PutBlob", "status", retry_after="7")
    async with open_az(az_server.url, az_container) as backend:
        with pytest.raises(TransientError) as caught:
            await backend.put("object", body_of(b"bytes"))
        assert caught.value.retry_after_secs == 7


async def test_a_missing_container_says_how_to_make_it(az_server: AzureServer) -> None:
    async with open_az(az_server.url, "nowhere") as backend:
        for request in (
            backend.head("object"),
            backend.put("object", body_of(b"bytes")),
            backend.delete("object"),
            backend.create_upload("object"),
            read(backend, "object"),
            keys(backend),
        ):
            with pytest.raises(BucketNotFoundError, match="az storage container create --name nowhere"):
                await request


async def test_an_account_that_is_none_is_named(
    monkeypatch: pytest.MonkeyPatch, az_server: AzureServer
) -> None:
    async with open_az("http://nosuchaccount.blob.invalid", "container", account="nosuchaccount") as backend:
        with pytest.raises(TransientError) as caught:
            await backend.head("object")
    assert "is there a storage account 'nosuchaccount'?" in explain(caught.value)


async def test_a_wrong_key_is_refused_and_not_told(
    az_server: AzureServer, az_container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_KEY", "d3Jvbmc=")
    async with open_az(az_server.url, az_container) as backend:
        for request in (backend.head("object"), backend.put("object", body_of(b"bytes"))):
            with pytest.raises(AuthenticationError) as caught:
                await request
            assert "d3Jvbmc" not in explain(caught.value)
            assert "SharedKey" not in explain(caught.value)
        with pytest.raises(AuthenticationError, match=f"^list container '{az_container}': "):
            await keys(backend)


async def test_a_clock_that_is_off_is_called_so(az_server: AzureServer, az_container: str) -> None:
    az_server.app.clock_ahead = timedelta(hours=2)
    async with open_az(az_server.url, az_container) as backend:
        with pytest.raises(AuthenticationError, match="this machine's clock is wrong: the store's says"):
            await backend.put("object", body_of(b"bytes"))


async def test_a_signature_that_has_expired_is_called_so(
    az_server: AzureServer, az_container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    sas = az_server.sas(life=timedelta(hours=-1))
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", sas)
    async with open_az(az_server.url, az_container) as backend:
        with pytest.raises(AuthenticationError, match="signature has expired") as caught:
            await backend.put("object", body_of(b"bytes"))
        assert sas.rpartition("sig=")[2] not in explain(caught.value)


async def test_a_signature_that_only_reads_reads(
    az_server: AzureServer, az_container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    az_server.put(az_container, "run/object", Blob(data=b"bytes"))
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", az_server.sas("rl"))
    async with open_az(az_server.url, az_container) as backend:
        assert await read(backend, "object") == b"bytes"
        assert await keys(backend) == ["object"]
        with pytest.raises(PermissionDeniedError, match="Storage Blob Data Contributor") as caught:
            await backend.put("object", body_of(b"other"))
        assert "no credentials were sent" not in str(caught.value)


async def test_nobody_reads_what_is_public_alone(az_server: AzureServer, az_container: str) -> None:
    az_server.create_container("public", public=True)
    for name in ("public", az_container):
        az_server.put(name, "run/object", Blob(data=b"bytes"))
    async with open_az(az_server.url, "public", anonymous="true") as backend:
        assert await read(backend, "object") == b"bytes"
        with pytest.raises(AuthenticationError):
            await backend.put("object", body_of(b"other"))
    async with open_az(az_server.url, az_container, anonymous="true") as backend:
        with pytest.raises(AuthenticationError, match="no credentials were sent"):
            await backend.head("object")
    assert not [entry for entry in az_server.log() if "authorization" in entry.headers]


async def test_an_immutable_blob_is_neither_replaced_nor_deleted(az_server: AzureServer) -> None:
    az_server.create_container("immutable", immutable=True)
    async with open_az(az_server.url, "immutable") as backend:
        await backend.put("object", body_of(b"bytes"))
        for request in (backend.put("object", body_of(b"other")), backend.delete("object")):
            with pytest.raises(PermissionDeniedError, match="use a container without them"):
                await request
        assert await read(backend, "object") == b"bytes"


async def test_a_name_that_another_kind_of_blob_has_is_left_to_it(
    az_server: AzureServer, az_container: str
) -> None:
    az_server.put(az_container, "run/object", Blob(data=b"pages", kind="PageBlob"))
    async with open_az(az_server.url, az_container) as backend:
        with pytest.raises(StorageError, match="no block blob"):
            await backend.put("object", body_of(b"bytes"))
        upload = await backend.create_upload("object")
        with pytest.raises(StorageError, match="no block blob"):
            await upload.put_part(1, body_of(b"bytes"))
        await upload.abort()
    assert az_server.blob(az_container, "run/object").data == b"pages"


async def test_odd_keys_are_kept_but_for_a_backslash(az_server: AzureServer, az_container: str) -> None:
    odd = sorted({*ODD_KEYS, *DISTINCT_KEYS, "a//b", "control\x01character", "k" * 1020} - {"back\\slash"})
    async with open_az(az_server.url, az_container) as backend:
        for key in odd:
            await backend.put(key, body_of(key.encode()))
        for key in odd:
            assert await read(backend, key) == key.encode()
        assert sorted(await keys(backend)) == odd
        for key in ("back\\slash", "a/../b", ".", "./b", ""):
            with pytest.raises(UnsupportedError):
                await backend.put(key, body_of(b"bytes"))
            with pytest.raises(UnsupportedError):
                await backend.head(key)


async def test_a_name_that_is_too_long_is_refused(az_server: AzureServer, az_container: str) -> None:
    async with open_az(az_server.url, az_container) as backend:
        with pytest.raises(UnsupportedError, match="1,024 characters"):
            await backend.put("k" * 1021, body_of(b"bytes"))
        with pytest.raises(UnsupportedError, match="may have 994 characters, this one has 1024"):
            await backend.create_upload("k" * 1020)


async def test_every_page_of_a_list_comes(az_server: AzureServer, az_container: str) -> None:
    az_server.change(page=3)
    for number in range(10):
        az_server.put(az_container, f"run/object-{number}", Blob(data=b"x"))
    async with open_az(az_server.url, az_container) as backend:
        assert await keys(backend) == [f"object-{number}" for number in range(10)]
    assert len(az_server.log("ListBlobs")) == 4


async def test_a_read_that_breaks_off_is_transient(az_server: AzureServer, az_container: str) -> None:
    data = data_of(300_000)
    async with open_az(az_server.url, az_container) as backend:
        await backend.put("object", body_of(data))
        az_server.fault("GetBlob", "truncate")
        with pytest.raises(TransientError):
            await read(backend, "object")
        assert await read(backend, "object") == data


async def test_a_completion_without_an_answer_is_transient_and_then_done(
    az_server: AzureServer, az_container: str
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        upload = await backend.create_upload("object")
        receipts = await send(upload, [b"one", b"two"])
        az_server.fault("PutBlockList", "reset_after")
        with pytest.raises(TransientError):
            await upload.complete(receipts)
        with pytest.raises(NotFoundError):
            await upload.complete(receipts)
        with pytest.raises(AlreadyExistsError):
            await upload.complete(receipts, condition=IfAbsent())
        assert await read(backend, "object") == b"onetwo"
        with suppress(NotFoundError):
            await upload.abort()
        assert await read(backend, "object") == b"onetwo"
        assert az_server.names(az_container) == ["run/object"]
