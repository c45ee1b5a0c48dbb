"""The servers that backends are tested against: one for all tests, a fresh bucket for each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.servers.gcs import GCSServer


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
