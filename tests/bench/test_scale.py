"""The script of growth runs, and its tables are complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_growth_is_told_of_runs_parts_and_savers() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "scale.py"), "--smoke"],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["results"]
    assert {what: set(sizes) for what, sizes in found.items()} == {
        "memory": {"20", "200"},
        "parts": {"10", "100"},
        "runs": {"2", "8"},
    }
    # a loop each, and at least one worker; what else there is depends on what waits for whom
    assert 2 * 8 <= found["runs"]["8"]["threads"] < 16 * 8
