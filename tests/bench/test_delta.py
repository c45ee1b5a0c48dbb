"""Of a model that is frozen but for a tenth, at most 15 % of the bytes leave the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_at_most_15_percent_of_a_mostly_frozen_model_is_sent() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "delta.py"), "--smoke"],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["results"]
    assert found["everything"]["received_bytes"] >= found["everything"]["checkpoint_bytes"]
    assert found["unchanged copied"]["share"] <= 0.15
    assert found["unchanged copied"]["copied_bytes"] == 18 * 2**20
    assert all(way["restored_equal"] for way in found.values())
