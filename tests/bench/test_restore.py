"""The script of restores runs; what it fetches is verified on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_a_restore_costs_is_told_for_every_load_and_link() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "restore.py"), "--smoke", "--only", "ackpt"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["results"]
    assert set(found) == {f"{load}, {link}" for load in ("big", "checkpoint") for link in ("plain", "tls")}
    for ways in found.values():
        assert ways["ackpt"]["wall"] > 0
        assert 0 <= ways["ackpt"]["memory"] < 32
