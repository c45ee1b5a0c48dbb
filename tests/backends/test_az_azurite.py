"""The conformance suite against an independent server: Microsoft's emulator, Azurite."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import ClassVar

import pytest

from ackpt.backends.registry import open_backend
from ackpt.testing import BackendConformance
from ackpt.testing.law import MakeBackend
from tests.backends import az_support
from tests.backends.az_support import make_container, url_of
from tests.servers import azurite


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with azurite.running() as url:
        yield url


@pytest.fixture
def container(store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    az_support.isolate(monkeypatch)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "UseDevelopmentStorage=true")
    name = f"container-{uuid.uuid4()}"
    make_container(store, name)
    return name


class TestLaws(BackendConformance):
    cannot: ClassVar[Mapping[str, str]] = {
        "test_odd_keys_are_kept_as_they_are": "Azure takes a backslash for a slash",
        "test_uploads_to_one_key_are_apart": "joining the blocks of one drops those of the other",
    }

    @pytest.fixture
    def make_backend(self, store: str, container: str) -> MakeBackend:
        return lambda: open_backend(url_of(store, container))
