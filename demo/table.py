"""The table at the end: what became of every save, from the diary and from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]

_HEADINGS = ("step", "bytes", "stall ms", "stage s", "upload s", "outcome")


def rows(lines: Sequence[Line], committed: Sequence[int]) -> list[tuple[str, ...]]:
    """Return one row for each step that a save was begun for, in order."""
    staged = {line["step"]: line for line in lines if line["event"] == "Staged"}
    done = {line["step"]: line for line in lines if line["event"] == "Committed" and not line["already"]}
    found: list[tuple[str, ...]] = []
    for step in sorted({*staged, *done, *committed}):
        line = {**staged.get(step, {}), **done.get(step, {})}
        found.append(
            (
                str(step),
                f"{line['size']:,}" if "size" in line else "-",
                _seconds(line, "stall_secs", 1e3, 1),
                _seconds(line, "stage_secs", 1.0, 2),
                _seconds(line, "upload_secs", 1.0, 2),
                _outcome(step, lines, committed),
            )
        )
    return found


def text(found: Sequence[tuple[str, ...]]) -> str:
    """Write the rows in columns."""
    table = [_HEADINGS, *found]
    widths = [max(len(row[i]) for row in table) for i in range(len(_HEADINGS) - 1)]
    return "\n".join(
        "  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]])
        for row in table
    )


def _seconds(line: Line, name: str, factor: float, digits: int) -> str:
    return f"{line[name] * factor:.{digits}f}" if name in line else "-"


def _outcome(step: int, lines: Sequence[Line], committed: Sequence[int]) -> str:
    mine = [line for line in lines if line.get("step") == step]
    deleted = any(line["event"] == "Deleted" for line in mine)
    if step in committed or deleted:
        told = any(line["event"] == "Committed" and not line["already"] for line in mine)
        outcome = "committed" if told else "killed on its way, committed by the next process"
        return outcome if step in committed else f"{outcome}, since deleted"
    failed = [line["error"] for line in mine if line["event"] == "Failed"]
    return f"failed: {failed[-1]}" if failed else "gave way to a newer one"
