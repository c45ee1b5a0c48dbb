"""The conformance suite against the strict server: by multipart uploads, and by resumable ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from ackpt.backends.base import Backend
from ackpt.backends.registry import open_backend
from ackpt.testing import BackendConformance
from ackpt.testing.law import MakeBackend
from tests.servers.gcs import GCSServer


def maker(server: GCSServer, bucket: str, **options: str) -> MakeBackend:
    query = "&".join(f"{name}={value}" for name, value in {"anonymous": "true", **options}.items())
    url = f"gs://{bucket}/run?endpoint={server.url}&{query}"

    def make() -> Backend:
        return open_backend(url)

    return make


class TestMultipart(BackendConformance):
    @pytest.fixture
    def make_backend(self, gs_server: GCSServer, gs_bucket: str) -> MakeBackend:
        return maker(gs_server, gs_bucket)


class TestResumable(BackendConformance):
    cannot: ClassVar[Mapping[str, str]] = {
        "test_list_uploads_finds_the_unfinished": "the API lists no sessions, which end after a week",
        "test_an_upload_takes_odd_keys": "the law looks for its upload in a list, and there is none",
        "test_of_many_completions_one_wins": "a session takes its precondition when it begins",
    }

    @pytest.fixture
    def make_backend(self, gs_server: GCSServer, gs_bucket: str) -> MakeBackend:
        return maker(gs_server, gs_bucket, upload="resumable")
