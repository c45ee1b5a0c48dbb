import pytest

import ackpt
from ackpt.testing import BackendConformance, Scenarios


class TestSQLite(BackendConformance):
    many_objects = 20  # one query lists them all: there are no pages

    @pytest.fixture
    def make_backend(self, tmp_path):
        return lambda: ackpt.open_backend(f"sqlite://test/run?folder={tmp_path}")


class TestSQLiteInTrouble(Scenarios):
    @pytest.fixture
    def make_backend(self, tmp_path):
        return lambda: ackpt.open_backend(f"sqlite://test/run?folder={tmp_path}")
