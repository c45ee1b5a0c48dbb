"""The conformance suite against an independent server: ministack."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import ClassVar

import pytest

from ackpt.backends.registry import open_backend
from ackpt.testing import BackendConformance
from ackpt.testing.law import MakeBackend
from ackpt.testing.laws_condition import ConditionLaws
from tests.backends import ministack

EQUAL_BYTES = {
    "test_every_write_makes_a_new_version": "an ETag is made of the bytes",
    "test_a_copy_knows_the_same_bytes_written_again": "an ETag is made of the bytes",
    "test_if_version_knows_the_same_bytes_written_again": "an ETag is made of the bytes",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack.running(tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture
def bucket(store: str) -> str:
    name = f"bucket-{uuid.uuid4()}"
    ministack.make_bucket(store, name)
    return name


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


class TestConditions(BackendConformance):
    cannot: ClassVar[Mapping[str, str]] = EQUAL_BYTES

    @pytest.fixture
    def make_backend(self, store: str, bucket: str) -> MakeBackend:
        return lambda: open_backend(f"s3://{bucket}/run?endpoint={store}")


class TestSingleWriter(ConditionLaws):
    """What `conditional_writes=false` changes: conditions are compared before, not by the store."""

    cannot: ClassVar[Mapping[str, str]] = EQUAL_BYTES

    @pytest.fixture
    def make_backend(self, store: str, bucket: str) -> MakeBackend:
        return lambda: open_backend(f"s3://{bucket}/run?endpoint={store}&conditional_writes=false")
