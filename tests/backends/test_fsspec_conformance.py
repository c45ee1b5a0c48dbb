"""The conformance suite on filesystems of fsspec: a local one, and one in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import pytest

from ackpt.backends import open_backend
from ackpt.testing import BackendConformance
from ackpt.testing.law import MakeBackend


class TestLocal(BackendConformance):
    @pytest.fixture
    def make_backend(self, tmp_path: Path) -> MakeBackend:
        return lambda: open_backend(f"fsspec+file://{tmp_path}/run")


class TestMemory(BackendConformance):
    cannot: ClassVar[Mapping[str, str]] = {
        "test_a_key_below_another_key_works_or_is_refused": (
            "fsspec's memory takes a file below a file, and then does not open it"
        )
    }

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        name = uuid4()
        return lambda: open_backend(f"fsspec+memory:///{name}/run")
