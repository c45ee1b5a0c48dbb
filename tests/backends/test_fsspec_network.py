"""The conformance suite on filesystems of fsspec that are behind a network: S3's and SFTP's."""

from __future__ import annotations

import asyncio
import functools
import traceback
import uuid
from collections.abc import Iterator, Mapping
from typing import ClassVar

import aiohttp
import fsspec.config
import pytest
from botocore.loaders import JSONFileLoader

from ackpt.backends import open_backend
from ackpt.errors import AuthenticationError, BucketNotFoundError, StorageError, TransientError
from ackpt.options import MiB
from ackpt.testing import BackendConformance, Scenarios
from ackpt.testing.law import MakeBackend
from ackpt.transfer.body import BytesBody
from tests.backends import ministack, s3_support
from tests.backends.gs_support import keys, read
from tests.servers.sftp import PASSWORD, USER, SFTPServer

_load = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))


def read_once(self: JSONFileLoader, path: str) -> object:
    return _load(path)


NO_CHECKSUMS = {"test_a_corrupted_part_is_noticed": "a filesystem of fsspec tells no checksums"}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack.running(tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture
def s3_place(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the URL of an empty place, whose key is in the environment.

    Every backend makes a client of its own, for which botocore reads a megabyte of JSON: once, here.
    """
    s3_support.isolate(monkeypatch)
    monkeypatch.setattr(JSONFileLoader, "load_file", read_once)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    name = f"bucket-{uuid.uuid4()}"
    ministack.make_bucket(s3, name)
    return f"fsspec+s3://{name}/run?fs.endpoint_url={s3}"


class TestS3(BackendConformance):
    many_objects = 60  # seven requests each; a listing of more than a page is a test of its own, below
    cannot: ClassVar[Mapping[str, str]] = {
        "test_every_write_makes_a_new_version": "an ETag is made of the bytes",
        "test_if_version_knows_the_same_bytes_written_again": "an ETag is made of the bytes",
    }

    @pytest.fixture
    def make_backend(self, s3_place: str) -> MakeBackend:
        return lambda: open_backend(s3_place)


class TestS3Saves(Scenarios):
    cannot: ClassVar[Mapping[str, str]] = NO_CHECKSUMS

    @pytest.fixture
    def make_backend(self, s3_place: str) -> MakeBackend:
        return lambda: open_backend(s3_place)


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SFTPServer]:
    with SFTPServer(tmp_path_factory.mktemp("sftp")) as server:
        yield server


@pytest.fixture
def sftp_place(sftp: SFTPServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the URL of an empty place, whose password is in fsspec's configuration."""
    login = {"username": USER, "password": PASSWORD, "allow_agent": False, "look_for_keys": False}
    monkeypatch.setitem(fsspec.config.conf, "sftp", login)
    return f"fsspec+sftp://127.0.0.1/{uuid.uuid4()}/run?fs.port={sftp.port}"


SECONDS = "SFTP tells times in whole seconds, and nothing else that a write would change"


class TestSFTP(BackendConformance):
    many_objects = 60  # a listing has no pages
    cannot: ClassVar[Mapping[str, str]] = {
        "test_every_write_makes_a_new_version": SECONDS,
        "test_if_version_replaces_that_version": SECONDS,
        "test_if_version_leaves_another_version": SECONDS,
        "test_if_version_knows_the_same_bytes_written_again": SECONDS,
    }

    @pytest.fixture
    def make_backend(self, sftp_place: str) -> MakeBackend:
        return lambda: open_backend(sftp_place)


class TestSFTPSaves(Scenarios):
    cannot: ClassVar[Mapping[str, str]] = NO_CHECKSUMS

    @pytest.fixture
    def make_backend(self, sftp_place: str) -> MakeBackend:
        return lambda: open_backend(sftp_place)


async def test_a_connection_that_was_lost_is_opened_anew(sftp: SFTPServer, sftp_place: str) -> None:
    backend = open_backend(sftp_place)
    calls = {
        "put": lambda: backend.put("key", BytesBody(b"bytes")),
        "head": lambda: backend.head("key"),
        "list": lambda: keys(backend),
        "get": lambda: read(backend, "key"),
        "delete": lambda: backend.delete("other"),
    }
    for call in calls.values():
        await call()
        sftp.drop_connections()
        with pytest.raises(TransientError, match="connection to fsspec\\+sftp:.* is lost"):
            await call()
        await call()
    assert await keys(backend) == ["key"]
    await backend.aclose()


@pytest.mark.parametrize("size", [1, 8 * MiB])
async def test_a_connection_that_stalls_keeps_nobody_for_ever(
    sftp: SFTPServer, sftp_place: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("ackpt.backends.fsspec.caller._LEAVE_SECS", 0.2)
    backend = open_backend(sftp_place)
    await backend.put("key", BytesBody(b"bytes"))
    for call in (backend.put("key", BytesBody(bytes(size))), read(backend, "key"), keys(backend)):
        sftp.stall_connections()
        async with asyncio.timeout(60):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await call
            assert await read(backend, "key") == b"bytes"
    sftp.stall_connections()
    async with asyncio.timeout(60):
        await backend.aclose()


async def test_calls_that_lose_one_connection_share_the_next(sftp: SFTPServer, sftp_place: str) -> None:
    backend = open_backend(sftp_place)
    await backend.put("key", BytesBody(b"bytes"))
    sftp.drop_connections()
    lost = await asyncio.gather(*(backend.head("key") for _ in range(5)), return_exceptions=True)
    assert all(isinstance(error, TransientError) for error in lost if isinstance(error, BaseException))
    assert [info.size for info in await asyncio.gather(*(backend.head("key") for _ in range(5)))] == [5] * 5
    await backend.aclose()


async def test_an_error_of_a_connection_that_lives_is_no_passing_one(sftp_place: str) -> None:
    backend = open_backend(sftp_place)
    with pytest.raises(StorageError) as caught:
        await backend.put("k" * 256, BytesBody(b"bytes"))
    assert type(caught.value) is StorageError
    await backend.aclose()


async def test_a_wrong_password_is_told(
    sftp: SFTPServer, sftp_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf["sftp"], "password", "another secret")
    backend = open_backend(sftp_place)
    with pytest.raises(AuthenticationError) as caught:
        await backend.head("key")
    assert "another secret" not in "".join(traceback.format_exception(caught.value))
    await backend.aclose()


async def test_a_bucket_that_is_not_there_is_told_by_a_put(s3: str, s3_place: str) -> None:
    bucket = s3_place.removeprefix("fsspec+s3://").partition("/")[0]
    backend = open_backend(s3_place.replace(bucket, "no-such-bucket"))
    with pytest.raises(BucketNotFoundError, match="no-such-bucket"):
        await backend.put("key", BytesBody(b"bytes"))
    await backend.aclose()


async def test_a_listing_over_s3_of_more_than_a_page(s3: str, s3_place: str) -> None:
    bucket = s3_place.removeprefix("fsspec+s3://").partition("/")[0]
    names = [f"many/{number:04d}" for number in range(1_050)]
    async with aiohttp.ClientSession() as client:
        for key in names:
            async with client.put(f"{s3}/{bucket}/run/{key}", data=b"x") as response:
                assert response.status == 200
    backend = open_backend(s3_place)
    assert sorted([info.key async for info in backend.list("many/")]) == names
    await backend.aclose()
