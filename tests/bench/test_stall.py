"""The script that measures the stall runs, and its table is complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_stall_is_told_of_every_hook() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "stall.py"), "--quick"],
        capture_output=True,
        text=True,
        timeout=115,
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout.splitlines()[-1])["results"].values()
    assert set(found) >= {"none", "tf sync", "ackpt"}
    assert found["none"]["stall_ms"] == 0
    assert all(found[hook]["stall_ms"] > 0 for hook in ("tf sync", "ackpt"))
    assert all(each["step_ms"] > 0 for each in found.values())
