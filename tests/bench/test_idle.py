"""The idle script runs, and its table is complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_idle_cost_is_told_of_every_hook() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "idle.py"), "--smoke"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["over_none"]) == {"none again", "tf sync", "ackpt, by steps", "ackpt, by seconds"}
    assert found["step_us"] > 0
    assert all(each["calls_us"] > 0 for each in found["over_none"].values())
