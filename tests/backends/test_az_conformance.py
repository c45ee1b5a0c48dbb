"""The laws against the strict server, which computes, compares and tells checksums, and checks who asks.

The whole suite runs against an emulator, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from ackpt.backends.registry import open_backend
from ackpt.testing import Scenarios
from ackpt.testing.law import MakeBackend
from ackpt.testing.laws_condition import ConditionLaws
from ackpt.testing.laws_copy import CopyLaws
from ackpt.testing.laws_delete_many import ManyDeletionLaws
from ackpt.testing.laws_integrity import IntegrityLaws
from ackpt.testing.laws_key import KeyLaws
from ackpt.testing.laws_parts import PartLaws
from ackpt.testing.laws_upload import UploadLaws
from tests.backends.az_support import url_of
from tests.servers.azure import AzureServer


class TestStrict(KeyLaws, IntegrityLaws, ConditionLaws, UploadLaws, PartLaws, CopyLaws, ManyDeletionLaws):
    cannot: ClassVar[Mapping[str, str]] = {
        "test_odd_keys_are_kept_as_they_are": "Azure takes a backslash for a slash",
        "test_uploads_to_one_key_are_apart": "joining the blocks of one drops those of the other",
    }

    @pytest.fixture
    def make_backend(self, az_server: AzureServer, az_container: str) -> MakeBackend:
        return lambda: open_backend(url_of(az_server.url, az_container))


class TestSaves(Scenarios):
    @pytest.fixture
    def make_backend(self, az_server: AzureServer, az_container: str) -> MakeBackend:
        return lambda: open_backend(url_of(az_server.url, az_container))
