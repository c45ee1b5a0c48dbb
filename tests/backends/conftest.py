"""The servers that backends are tested against: one for all tests, a fresh bucket for each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from ackpt.transfer.retry import Deadline, Retry
from tests.backends import az_support, s3_support
from tests.servers.azure import AzureServer
from tests.servers.gcs import GCSServer
from tests.servers.s3 import S3Server
from tests.transfer.hand_clock import HandClock, longest


@pytest.fixture(scope="session")
def gs_server_of_session() -> Iterator[GCSServer]:
    with GCSServer() as server:
        yield server


@pytest.fixture
def gs_server(gs_server_of_session: GCSServer) -> GCSServer:
    """Give the server as good as new, but for other tests' buckets."""
    gs_server_of_session.reset()
    return gs_server_of_session


@pytest.fixture
def gs_bucket(gs_server: GCSServer) -> str:
    """Give the name of an empty bucket."""
    return gs_server.create_bucket(f"bucket-{uuid.uuid4()}")


@pytest.fixture
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Give a server of the test's own, and its key to the environment, which has nothing else of AWS."""
    s3_support.isolate(monkeypatch)
    with S3Server() as server:
        s3_support.set_variables(monkeypatch, server.key.environment())
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> str:
    """Give the name of an empty bucket."""
    return s3_server.create_bucket("bucket")


@pytest.fixture
def az_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureServer]:
    """Give a server of the test's own, and its key to the environment, which has nothing else of Azure."""
    az_support.isolate(monkeypatch)
    with AzureServer() as server:
        monkeypatch.setenv("AZURE_STORAGE_KEY", server.key)
        yield server


@pytest.fixture
def az_container(az_server: AzureServer) -> str:
    """Give the name of an empty container."""
    return az_server.create_container("container")


@pytest.fixture
def retry() -> Retry:
    """Give a policy that tries again without waiting."""
    clock = HandClock()
    return Retry(attempts=4, deadline=Deadline(300.0, clock=clock), sleep=clock.sleep, uniform=longest)
