"""The drivers of `gs://` beyond the laws: options, bodies, and what the drivers see of each other."""

from __future__ import annotations

import asyncio
import json
import sys
import tracemalloc
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ackpt.backends import open_backend
from ackpt.backends.base import Backend, Body, IfAbsent, MultipartBackend
from ackpt.backends.gs import GSBackend
from ackpt.errors import (
    AuthenticationError,
    BucketNotFoundError,
    ClosedError,
    InvalidOptionError,
    MissingDependencyError,
    NotFoundError,
    PermissionDeniedError,
    TransientError,
)
from ackpt.options import MiB
from ackpt.transfer.body import BytesBody
from ackpt.url import StorageURL
from tests.backends.gs_support import body_of, data_of, keys, read, send
from tests.servers.gcs import GCSServer

DRIVERS = ("google-cloud-storage", "gcsfs")


def open_driver(server: GCSServer, bucket: str, driver: str | None, **options: str) -> MultipartBackend:
    given = {"endpoint": server.url, "anonymous": "true", **options}
    if driver is not None:
        given["driver"] = driver
    query = "&".join(f"{name}={value}" for name, value in given.items())
    backend = open_backend(f"gs://{bucket}/run?{query}")
    assert isinstance(backend, MultipartBackend)
    return backend


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def backend(
    gs_server: GCSServer, gs_bucket: str, driver: str
) -> AsyncGenerator[MultipartBackend, None]:
    backend = open_driver(gs_server, gs_bucket, driver)
    yield backend
    await backend.aclose()


class ZerosBody(Body):
    """Give zeros without holding them."""

    def __init__(self, size: int) -> None:
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    async def crc32c(self) -> int:
        from crc32c import crc32c

        value = 0
        async for block in self:
            value = crc32c(block, value)
        return value

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        block = memoryview(bytes(128 << 10))
        for start in range(0, self._size, len(block)):
            yield block[: min(len(block), self._size - start)]
            await asyncio.sleep(0)

    async def read(self) -> bytes:
        return bytes(self._size)


async def test_a_large_body_is_never_held_whole(backend: MultipartBackend) -> None:
    await backend.put("first", body_of(b"imports and clients are not counted"))
    tracemalloc.start()
    try:
        info = await backend.put("object", ZerosBody(96 * MiB))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert info.size == 96 * MiB
    assert peak < 48 * MiB, f"{peak / MiB:.0f} MiB"


async def test_more_parts_than_one_request_composes(
    backend: MultipartBackend, gs_server: GCSServer, gs_bucket: str
) -> None:
    pieces = [data_of(100 + number, number) for number in range(70)]
    upload = await backend.create_upload("object")
    info = await upload.complete(await send(upload, pieces), condition=IfAbsent())
    assert await read(backend, "object") == b"".join(pieces)
    assert info.crc32c == await body_of(b"".join(pieces)).crc32c()
    assert len(gs_server.log("objects.compose")) == 4
    assert gs_server.names(gs_bucket) == ["run/object"]


async def test_each_request_is_sent_once(backend: MultipartBackend, gs_server: GCSServer) -> None:
    await backend.put("object", body_of(b"bytes"))
    for operation in ("objects.insert", "objects.get", "objects.list"):
        gs_server.clear_log()
        gs_server.fault(operation, "status", status=503, retry_after="7")
        with pytest.raises(TransientError) as caught:
            if operation == "objects.insert":
                await backend.put("other", body_of(b"bytes"))
            elif operation == "objects.get":
                await backend.head("object")
            else:
                await keys(backend)
        assert caught.value.retry_after_secs == 7
        assert len(gs_server.log(operation)) == 1


async def test_a_reset_connection_is_a_transient_error(
    backend: MultipartBackend, gs_server: GCSServer
) -> None:
    gs_server.fault("objects.insert", "reset_before", after_bytes=10)
    with pytest.raises(TransientError, match="put object: the connection to"):
        await backend.put("object", BytesBody(data_of(1 * MiB)))
    await backend.put("object", BytesBody(b"bytes"))


async def test_a_body_damaged_on_its_way_is_refused(backend: MultipartBackend, gs_server: GCSServer) -> None:
    gs_server.fault("objects.insert", "corrupt", after_bytes=3000)
    with pytest.raises(TransientError, match="damaged"):
        await backend.put("object", BytesBody(data_of(100_000)))
    with pytest.raises(NotFoundError):
        await backend.head("object")


async def test_a_missing_bucket_is_told(gs_server: GCSServer, driver: str) -> None:
    backend = open_driver(gs_server, "no-such-bucket", driver)
    for call in (backend.head("object"), backend.put("object", body_of(b"")), keys(backend)):
        with pytest.raises(BucketNotFoundError, match="no-such-bucket"):
            await call
    await backend.aclose()


async def test_refused_credentials_are_told(backend: MultipartBackend, gs_server: GCSServer) -> None:
    gs_server.require("another token")
    with pytest.raises(AuthenticationError, match="log in again"):
        await backend.head("object")


async def test_the_requester_pays(gs_server: GCSServer, driver: str) -> None:
    bucket = gs_server.create_bucket(f"pays-{driver}", billing={"requesterPays": True})
    poor = open_driver(gs_server, bucket, driver)
    with pytest.raises(PermissionDeniedError, match="billing_project"):
        await poor.put("object", body_of(b"bytes"))
    await poor.aclose()
    rich = open_driver(gs_server, bucket, driver, billing_project="project")
    upload = await rich.create_upload("object")
    await upload.complete(await send(upload, [b"one", b"two"]))
    assert await keys(rich) == ["object"]
    await rich.aclose()


async def test_a_storage_class_is_that_of_parts_and_object(
    gs_server: GCSServer, gs_bucket: str, driver: str
) -> None:
    backend = open_driver(gs_server, gs_bucket, driver, storage_class="NEARLINE")
    upload = await backend.create_upload("object")
    await upload.complete(await send(upload, [b"one", b"two"]))
    assert gs_server.resource(gs_bucket, "run/object")["storageClass"] == "NEARLINE"
    await backend.aclose()


@pytest.mark.parametrize("driver", [*DRIVERS, None], ids=str)
async def test_a_netrc_takes_no_tokens_place(
    gs_server: GCSServer, gs_bucket: str, driver: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    backend = open_driver(gs_server, gs_bucket, driver)
    await backend.put("object", body_of(b"bytes"))
    assert await read(backend, "object") == b"bytes"
    assert not [entry for entry in gs_server.log() if entry.authorized]
    await backend.aclose()


async def test_a_closed_backend_says_so(backend: MultipartBackend) -> None:
    await backend.put("object", body_of(b"bytes"))
    await backend.aclose()
    with pytest.raises(ClosedError):
        await backend.head("object")


async def test_the_sweep_of_our_own_driver_removes_an_upload_of_another(
    backend: MultipartBackend, gs_server: GCSServer, gs_bucket: str
) -> None:
    upload = await backend.create_upload("folder/object")
    await send(upload, [b"one", b"two"])
    ours = open_driver(gs_server, gs_bucket, None)
    assert await keys(ours) == []
    (found,) = [info async for info in ours.list_uploads()]
    assert found.key == "folder/object"
    with pytest.raises(NotFoundError):
        await ours.open_upload(found.key, upload.id)
    await (await ours.open_upload(found.key, found.upload_id)).abort()
    assert gs_server.names(gs_bucket) == []
    await ours.aclose()


async def test_parts_that_outlived_their_upload_can_be_swept(
    backend: MultipartBackend, gs_server: GCSServer, gs_bucket: str
) -> None:
    upload = await backend.create_upload("object")
    receipts = await send(upload, [b"one", b"two"])
    gs_server.fault("objects.list", "status", status=503)
    await upload.complete(receipts)
    assert len(gs_server.names(gs_bucket)) == 3
    (left,) = [info async for info in backend.list_uploads()]
    await (await backend.open_upload(left.key, left.upload_id)).abort()
    assert gs_server.names(gs_bucket) == ["run/object"]


async def test_parts_that_may_not_be_deleted_are_told_of_once(
    backend: MultipartBackend, gs_server: GCSServer, gs_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = json.dumps({"error": {"message": "locked", "errors": [{"reason": "retentionPolicyNotMet"}]}})
    gs_server.fault("objects.delete", "status", status=403, body=refusal, count=100)
    for key in ("one", "two"):
        upload = await backend.create_upload(key)
        await upload.complete(await send(upload, [b"first", b"second"]))
    assert await keys(backend) == ["one", "two"]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert f"gs://{gs_bucket}: the parts of uploads may not be deleted" in told[0]
    assert "retention policy" in told[0]


@pytest.mark.parametrize("option", ["upload=resumable", "upload=multipart"])
def test_how_large_objects_go_is_the_drivers_own_matter(driver: str, option: str) -> None:
    with pytest.raises(InvalidOptionError, match=f"driver={driver}"):
        open_backend(f"gs://bucket/run?driver={driver}&{option}")


@pytest.mark.parametrize(
    "option",
    [
        "predefined_acl=private",
        "kms_key=projects/p/locations/l/keyRings/r/cryptoKeys/k",
        "encryption_key_env=KEY",
    ],
)
def test_options_that_a_composition_would_lose_are_refused(option: str) -> None:
    with pytest.raises(InvalidOptionError, match=f"{option.partition('=')[0]}.*google-cloud-storage"):
        open_backend(f"gs://bucket/run?driver=google-cloud-storage&{option}")


async def test_gcsfs_sends_keys_and_access(
    gs_server: GCSServer, gs_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    backend = open_driver(
        gs_server, gs_bucket, "gcsfs", encryption_key_env="KEY", predefined_acl="bucketOwnerRead"
    )
    upload = await backend.create_upload("object")
    info = await upload.complete(await send(upload, [b"one", b"two"]))
    assert (info.size, await read(backend, "object")) == (6, b"onetwo")
    assert gs_server.resource(gs_bucket, "run/object")["acl"] == "bucketOwnerRead"
    await backend.aclose()


def test_an_unknown_driver_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="gcsfs, google-cloud-storage"):
        open_backend("gs://bucket/run?driver=gsutil")


def test_a_driver_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, package in {"gcsfs": "gcsfs", "google-cloud-storage": "google.cloud.storage"}.items():
        module = f"ackpt.backends.gs.carried.{name.replace('-', '_')}"
        monkeypatch.delitem(sys.modules, module, raising=False)
        for loaded in [each for each in sys.modules if each == package or each.startswith(f"{package}.")]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingDependencyError, match=rf"ackpt\[{name}\]"):
            open_backend(f"gs://bucket/run?driver={name}")


def test_our_own_backend_is_no_other_driver() -> None:
    with pytest.raises(InvalidOptionError, match="open_backend"):
        GSBackend.from_url(StorageURL.parse("gs://bucket/run?driver=gcsfs"))


def test_no_driver_is_imported_unasked() -> None:
    backend: Backend = open_backend("gs://bucket/run?anonymous=true")
    assert isinstance(backend, GSBackend)
