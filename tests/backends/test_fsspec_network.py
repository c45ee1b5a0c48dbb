"""The conformance suite on filesystems of fsspec that are behind a network: S3's and SFTP's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import ClassVar

import pytest

from ackpt.backends import open_backend
from ackpt.testing import BackendConformance, Scenarios
from ackpt.testing.law import MakeBackend
from tests.backends import ministack, s3_support
from tests.backends.test_scenarios import NO_CHECKSUMS


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack.running(tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture
def s3_place(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the URL of an empty place, whose key is in the environment."""
    s3_support.isolate(monkeypatch)
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
