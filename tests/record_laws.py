"""A plug-in of pytest that writes down which laws each backend kept, for the table in the documentation.

    python -m pytest -p tests.record_laws --laws docs/reference/laws.json tests/backends

Laws that were not played stay as they were. Nothing is written when a law failed.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.backends.columns import COLUMNS

_COLUMN_OF = {where: column for column, places in COLUMNS.items() for where in places}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the file."""
    parser.addoption("--laws", type=Path, required=True, help="the file that keeps which laws were kept")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to record."""
    config.pluginmanager.register(Recorder(config.getoption("--laws")))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is in no column."""
    items[:] = [item for item in items if _column(item) is not None]


class Recorder:
    """Keep the outcome of every law, by column."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, dict[str, str]] = {}
        self._failed = False

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Take note of one law."""
        report = yield
        column = _column(item)
        self._failed = self._failed or report.failed
        if column is not None and (report.when == "call" or report.skipped):
            self._kept.setdefault(column, {})[item.name] = _said(report)
        return report

    def pytest_sessionfinish(self) -> None:
        """Write it down."""
        if self._failed or not self._kept:
            raise pytest.UsageError(f"not all laws were kept as declared: {self._path} is left as it was")
        columns = json.loads(self._path.read_text()) if self._path.exists() else {}
        for column, kept in self._kept.items():
            columns.setdefault(column, {}).update(kept)
        ordered = {name: dict(sorted(columns[name].items())) for name in COLUMNS if name in columns}
        self._path.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


def _column(item: pytest.Item) -> str | None:
    kind = getattr(item, "cls", None)
    return None if kind is None else _COLUMN_OF.get(f"{kind.__module__}:{kind.__name__}")


def _said(report: pytest.TestReport) -> str:
    """Return `pass`, or the reason of a skip or an expected failure."""
    if hasattr(report, "wasxfail"):
        return report.wasxfail.removeprefix("reason: ")
    if report.skipped:
        assert isinstance(report.longrepr, tuple)
        return report.longrepr[2].removeprefix("Skipped: ")
    return "pass"
