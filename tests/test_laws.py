"""The page of the laws fits what the classes declare, and leaves none of them out."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from ackpt.testing.suite import Suite
from tests.backends.columns import COLUMNS

ROOT = Path(__file__).parent.parent
RESULTS = json.loads((ROOT / "docs" / "reference" / "laws.json").read_text())
AGAIN = "run `make laws`"

_CLASS = re.compile(r"^class (\w+)\((.*\b(?:BackendConformance|Scenarios)\b.*)\):", re.MULTILINE)


def classes(column: str) -> list[type[Suite]]:
    found = []
    for place in COLUMNS[column]:
        module, _, name = place.partition(":")
        found.append(getattr(importlib.import_module(module), name))
    return found


@pytest.mark.parametrize("column", COLUMNS)
def test_the_results_fit_what_is_declared(column: str) -> None:
    results = RESULTS.get(column, {})
    declared = {name: kind.cannot.get(name) for kind in classes(column) for name in kind.laws()}
    assert declared.keys() <= results.keys(), AGAIN
    for name, reason in declared.items():
        said = f"cannot, because {reason}"
        assert (results[name] == said) is (reason is not None), f"{column}, {name}: {AGAIN}"


def test_every_column_is_on_the_page() -> None:
    assert list(RESULTS) == list(COLUMNS), AGAIN


def test_every_backend_that_passes_a_suite_has_a_column() -> None:
    listed = {place for places in COLUMNS.values() for place in places}
    defined = {
        f"tests.backends.{path.stem}:{name}"
        for path in (ROOT / "tests" / "backends").glob("*.py")
        for name, _ in _CLASS.findall(path.read_text())
    }
    assert defined - listed == set(), f"give it a line in tests/backends/columns.py, and {AGAIN}"
    assert listed <= defined, "a column of a class that is not there"
