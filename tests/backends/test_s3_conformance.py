"""The laws of keys, copies and integrity against the strict server.

It wants every signature, checksum and size right; the whole suite runs against an emulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from ackpt.backends.registry import open_backend
from ackpt.testing.law import MakeBackend
from ackpt.testing.laws_copy import CopyLaws
from ackpt.testing.laws_delete_many import ManyDeletionLaws
from ackpt.testing.laws_integrity import IntegrityLaws
from ackpt.testing.laws_key import KeyLaws
from tests.backends.s3_support import url_of
from tests.servers.s3 import S3Server


class TestStrict(KeyLaws, IntegrityLaws, CopyLaws, ManyDeletionLaws):
    cannot: ClassVar[Mapping[str, str]] = {
        "test_a_copy_knows_the_same_bytes_written_again": "an ETag is made of the bytes",
    }

    @pytest.fixture
    def make_backend(self, s3_server: S3Server, s3_bucket: str) -> MakeBackend:
        return lambda: open_backend(url_of(s3_server.url, s3_bucket))
