"""The conformance suite, and whole saves through faults, by the client libraries of others."""

from __future__ import annotations

import pytest

from ackpt.testing import BackendConformance, Scenarios
from ackpt.testing.law import MakeBackend
from tests.backends.test_gs_conformance import maker
from tests.servers.gcs import GCSServer


class TestCloudStorage(BackendConformance):
    @pytest.fixture
    def make_backend(self, gs_server: GCSServer, gs_bucket: str) -> MakeBackend:
        return maker(gs_server, gs_bucket, driver="google-cloud-storage")


class TestCloudStorageSaves(Scenarios):
    @pytest.fixture
    def make_backend(self, gs_server: GCSServer, gs_bucket: str) -> MakeBackend:
        return maker(gs_server, gs_bucket, driver="google-cloud-storage")


class TestGcsfs(BackendConformance):
    @pytest.fixture
    def make_backend(self, gs_server: GCSServer, gs_bucket: str) -> MakeBackend:
        return maker(gs_server, gs_bucket, driver="gcsfs")


class TestGcsfsSaves(Scenarios):
    @pytest.fixture
    def make_backend(self, gs_server: GCSServer, gs_bucket: str) -> MakeBackend:
        return maker(gs_server, gs_bucket, driver="gcsfs")
