"""What a `gs://` URL can say, and what becomes of it."""

from __future__ import annotations

import base64

import pytest

from ackpt.backends.gs.endpoint import Endpoint
from ackpt.backends.gs.options import GSOptions
from ackpt.backends.registry import open_backend
from ackpt.errors import InvalidOptionError, StorageError
from ackpt.options import read_options
from tests.backends.gs_support import PART, body_of, data_of, open_gs, read, send
from tests.servers.gcs import GCSServer

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(32)).decode()
KMS = "projects/p/locations/l/keyRings/r/cryptoKeys/k"


def options(**given: str) -> GSOptions:
    return read_options(GSOptions, given, where="gs://bucket/run")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"endpoint": "storage.example.com"}, "a URL such as"),
        ({"endpoint": "ftp://host"}, "a URL such as"),
        ({"endpoint": "http://user:password@host"}, "a URL such as"),
        ({"endpoint": "http://host/path"}, "a URL such as"),
        ({"endpoint": "http://host:port"}, "a URL such as"),
        ({"universe_domain": "no domain"}, "a domain such as googleapis.com"),
        ({"anonymous": "yes"}, "true or false"),
        ({"credentials": ""}, "the path of a key file"),
        ({"storage_class": "COLD"}, "one of STANDARD, NEARLINE, COLDLINE, ARCHIVE"),
        ({"predefined_acl": "public"}, "one of authenticatedRead"),
        ({"kms_key": "key"}, "a key's name such as projects/"),
        ({"timeout": "0"}, "more than 0 s"),
        ({"timeout": "soon"}, "a duration such as"),
        ({"upload": "compose"}, "one of multipart, resumable"),
        ({"anonymous": "true", "credentials": "key.json"}, "give one kind"),
        ({"anonymous": "true", "impersonate": "a@b"}, "give one kind"),
        ({"kms_key": KMS, "encryption_key_env": "KEY"}, "give one of them"),
        ({"storageclass": "COLDLINE"}, "did you mean 'storage_class'"),
    ],
)
def test_a_wrong_option_is_refused_at_once(given: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidOptionError, match=words) as caught:
        options(**given)
    assert "password" not in str(caught.value)


def test_opening_does_no_io_and_takes_transfer_options() -> None:
    backend = open_backend("gs://no-such-bucket/run?part_size=8MiB&storage_class=COLDLINE&timeout=5s")
    assert type(backend).__name__ == "GSBackend"


@pytest.mark.parametrize(
    ("given", "emulator", "base", "emulated"),
    [
        ({}, None, "https://storage.googleapis.com", False),
        ({"universe_domain": "example.cloud"}, None, "https://storage.example.cloud", False),
        ({}, "http://localhost:9023", "http://localhost:9023", True),
        ({}, "localhost:9023", "http://localhost:9023", True),
        ({}, "https://emulator/", "https://emulator", True),
        ({"endpoint": "https://private:8443"}, "http://localhost:9023", "https://private:8443", False),
    ],
)
def test_the_endpoint_is_option_then_emulator_then_universe(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], emulator: str | None, base: str, emulated: bool
) -> None:
    if emulator is not None:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
    endpoint = Endpoint.find(options(**given), "bucket")
    assert (endpoint.base, endpoint.emulated) == (base, emulated)


def test_an_emulator_that_is_no_url_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://host/path?x")
    with pytest.raises(InvalidOptionError, match="STORAGE_EMULATOR_HOST: expected a URL such as"):
        open_backend("gs://bucket/run")


async def test_the_emulator_s_variable_is_enough(
    gs_server: GCSServer, gs_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs_server.url)
    backend = open_backend(f"gs://{gs_bucket}/run")
    try:
        await backend.put("key", body_of(b"bytes"))
        assert await read(backend, "key") == b"bytes"
    finally:
        await backend.aclose()


@pytest.mark.parametrize("upload", ["multipart", "resumable"])
async def test_objects_are_written_as_the_options_say(
    gs_server: GCSServer, gs_bucket: str, upload: str
) -> None:
    given = {"storage_class": "NEARLINE", "predefined_acl": "projectPrivate", "kms_key": KMS}
    async with open_gs(gs_server, gs_bucket, upload=upload, **given) as backend:
        await backend.put("small", body_of(b"bytes"))
        begun = await backend.create_upload("large")
        await begun.complete(await send(begun, [data_of(PART), b"end"]))
    for key in ("small", "large"):
        metadata = gs_server.resource(gs_bucket, f"run/{key}")
        assert metadata["storageClass"] == "NEARLINE"
        assert metadata["kmsKeyName"] == KMS
        assert metadata["acl"].replace("-p", "P") == "projectPrivate"
        assert metadata["contentType"] == "application/octet-stream"


@pytest.mark.parametrize("upload", ["multipart", "resumable"])
async def test_a_customer_supplied_key_is_needed_for_the_bytes(
    gs_server: GCSServer, gs_bucket: str, monkeypatch: pytest.MonkeyPatch, upload: str
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    async with open_gs(gs_server, gs_bucket, upload=upload, encryption_key_env="MY_KEY") as backend:
        small = await backend.put("small", body_of(b"bytes"))
        begun = await backend.create_upload("large")
        large = await begun.complete(await send(begun, [data_of(PART), b"end"]))
        assert await read(backend, "small") == b"bytes"
        assert await read(backend, "large") == data_of(PART) + b"end"
        assert (await backend.head("small")).crc32c == small.crc32c is not None
        assert (await backend.head("large")).crc32c == large.crc32c is not None
    monkeypatch.setenv("MY_KEY", OTHER_KEY)
    async with (
        open_gs(gs_server, gs_bucket, encryption_key_env="MY_KEY") as wrong,
        open_gs(gs_server, gs_bucket) as without,
    ):
        for backend in (wrong, without):
            with pytest.raises(StorageError, match="EncryptionKey") as caught:
                await read(backend, "small")
            assert KEY not in str(caught.value)


@pytest.mark.parametrize("value", [None, "", "short", base64.b64encode(b"16 bytes of key!").decode()])
def test_a_key_that_is_none_is_refused_without_telling_it(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(InvalidOptionError, match="MY_KEY") as caught:
        open_backend("gs://bucket/run?encryption_key_env=MY_KEY")
    assert not value or value not in str(caught.value)
