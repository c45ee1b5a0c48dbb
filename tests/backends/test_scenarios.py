"""Whole saves through faults, on every backend."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from ackpt.backends import open_backend
from ackpt.testing import Scenarios
from ackpt.testing.law import MakeBackend
from tests.backends.s3_support import url_of
from tests.backends.test_gs_conformance import maker
from tests.servers.gcs import GCSServer
from tests.servers.s3 import S3Server


class TestMemory(Scenarios):
    every_request = True

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        url = f"memory://{uuid.uuid4()}/run"
        return lambda: open_backend(url)


class TestFile(Scenarios):
    @pytest.fixture
    def make_backend(self, tmp_path: Path) -> MakeBackend:
        return lambda: open_backend(tmp_path / "bucket")


class TestGSMultipart(Scenarios):
    @pytest.fixture
    def make_backend(self, gs_server: GCSServer, gs_bucket: str) -> MakeBackend:
        return maker(gs_server, gs_bucket)


class TestGSResumable(Scenarios):
    @pytest.fixture
    def make_backend(self, gs_server: GCSServer, gs_bucket: str) -> MakeBackend:
        return maker(gs_server, gs_bucket, upload="resumable")


class TestS3(Scenarios):
    @pytest.fixture
    def make_backend(self, s3_server: S3Server, s3_bucket: str) -> MakeBackend:
        return lambda: open_backend(url_of(s3_server.url, s3_bucket))


NO_CHECKSUMS = {"test_a_corrupted_part_is_noticed": "a filesystem of fsspec tells no checksums"}


class TestFsspecLocal(Scenarios):
    cannot: ClassVar[Mapping[str, str]] = NO_CHECKSUMS

    @pytest.fixture
    def make_backend(self, tmp_path: Path) -> MakeBackend:
        return lambda: open_backend(f"fsspec+file://{tmp_path}/run")


class TestFsspecMemory(Scenarios):
    cannot: ClassVar[Mapping[str, str]] = NO_CHECKSUMS

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        name = uuid.uuid4()
        return lambda: open_backend(f"fsspec+memory:///{name}/run")
