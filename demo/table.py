"""The table at the end: what became of every save, from the diary and from the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_HEADINGS = ("step", "bytes", "stall ms", "stage s", "upload s", "outcome")


def rows(lines: Sequence[dict[str, Any]], committed: Sequence[int]) -> list[tuple[str, ...]]:
    """Return one row for each step that a save was begun for, in order."""
    staged = {line["step"]: line for line in lines if line["event"] == "Staged"}
    done = {line["step"]: line for line in lines if line["event"] == "Committed" and not line["already"]}
    failed = {line["step"]: line for line in lines if line["event"] == "Failed"}
    found = []
    for step in sorted({*staged, *done, *failed, *committed}):
        if step in done:
            line = done[step]
            times = (
                f"{line['stall_secs'] * 1e3:.1f}",
                f"{line['stage_secs']:.2f}",
                f"{line['upload_secs']:.2f}",
            )
            found.append((str(step), f"{line['size']:,}", *times, "committed"))
            continue
        line = staged.get(step, {})
        size = f"{line['size']:,}" if line else "-"
        time = f"{line['stage_secs']:.2f}" if line else "-"
        found.append((str(step), size, "-", time, "-", _outcome(step, failed, committed)))
    return found


def _outcome(step: int, failed: dict[int, dict[str, Any]], committed: Sequence[int]) -> str:
    if step in committed:
        return "killed on its way, committed by the next process"
    if step in failed:
        return f"failed: {failed[step]['error']}"
    return "gave way to a newer one"


def text(found: Sequence[tuple[str, ...]]) -> str:
    """Write the rows in columns."""
    table = [_HEADINGS, *found]
    widths = [max(len(row[i]) for row in table) for i in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join([cell.rjust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)] + [row[-1]])
        for row in table
    )
