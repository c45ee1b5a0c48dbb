"""The memory backend keeps every law, and a few of its own."""

from __future__ import annotations

from uuid import uuid4

import pytest

from ackpt.backends import open_backend
from ackpt.testing import BackendConformance
from ackpt.testing.law import MakeBackend


class TestMemory(BackendConformance):
    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        url = f"memory://{uuid4()}/run"
        return lambda: open_backend(url)
