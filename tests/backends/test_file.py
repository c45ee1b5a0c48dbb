"""The file backend keeps every law, and those of durable local files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ackpt.backends import open_backend
from ackpt.testing import BackendConformance
from ackpt.testing.law import MakeBackend


class TestFile(BackendConformance):
    @pytest.fixture
    def make_backend(self, tmp_path: Path) -> MakeBackend:
        return lambda: open_backend(tmp_path / "not" / "there yet")
