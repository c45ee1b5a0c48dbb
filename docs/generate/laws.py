"""The page of the laws: from the sentences of the suites, and from results that the tests wrote down."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from ackpt.testing import BackendConformance, Scenarios
from ackpt.testing.law import Laws, is_law
from docs.generate.markdown import join, table

Results = Mapping[str, Mapping[str, str]]

_TITLES = {
    "ObjectLaws": "Objects",
    "KeyLaws": "Keys",
    "IntegrityLaws": "What may go wrong on the way",
    "ConditionLaws": "Conditions",
    "UploadLaws": "Uploads",
    "PartLaws": "Parts in any order",
    "CopyLaws": "Copies",
    "ManyDeletionLaws": "Deletions of many objects",
    "Scenarios": "Whole saves through faults",
}
_NOTE = "<!-- Written by `make laws` from the results of the tests. -->"
_KEPT = "✓"
_NOT_PLAYED = "-"


def page(results: Path) -> str:
    """Describe every law, and which backend and driver keeps it.

    Raises:
        LookupError: there is no result for a law.
    """
    columns: Results = json.loads(results.read_text())
    reasons = _Reasons()
    tables = [part for kind in _kinds() for part in _group(kind, columns, reasons)]
    return join(
        [
            "# The laws, and which backend keeps them",
            _NOTE,
            "Every backend and driver of ours passes the suites of `ackpt.testing`, which "
            "[a backend of yours](../tutorial/write-a-backend.md) can pass, too.\n"
            "This page is made from what the tests found.\n"
            f"{_KEPT} means that the law is kept; a number leads to the reason why it cannot be.",
            *tables,
            "## Reasons",
            reasons.listed(),
        ]
    )


def _kinds() -> list[type[Laws]]:
    return [kind for kind in (*BackendConformance.__bases__, Scenarios) if kind.__name__ in _TITLES]


def _group(kind: type[Laws], columns: Results, reasons: _Reasons) -> Iterator[str]:
    yield f"## {_TITLES[kind.__name__]}"
    laws = {name: value.__doc__ or "" for name, value in vars(kind).items() if is_law(value)}
    played = {column for column, results in columns.items() if not laws.keys().isdisjoint(results)}
    rows = [
        (
            sentence.strip(),
            *(
                reasons.cell(_result(columns, column, name)) if column in played else _NOT_PLAYED
                for column in columns
            ),
        )
        for name, sentence in laws.items()
    ]
    yield table(("law", *columns), rows)


def _result(columns: Results, column: str, name: str) -> str:
    try:
        return columns[column][name]
    except KeyError:
        raise LookupError(f"nobody knows whether {column} keeps {name}: run `make laws`") from None


class _Reasons:
    """Number the reasons in the order in which they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def cell(self, result: str) -> str:
        if result == "pass":
            return _KEPT
        reason = result.removeprefix("cannot, because ")
        number = self._numbers.setdefault(reason, len(self._numbers) + 1)
        return f"[{number}](#reasons)"

    def listed(self) -> str:
        return "\n".join(f"{number}. cannot, because {reason}" for reason, number in self._numbers.items())
