"""The script of the time to durable runs, and its table is complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_time_to_durable_is_told_of_every_target() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "durable.py"), "--smoke"],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["results"]
    assert set(found) == {"file", "gs, 150 MiB/s"}
    for times in found.values():
        assert all(secs > 0 for secs in times.values())
        assert times["over_slower"] == times["ackpt"] / max(times["staging"], times["uploading"])
    # 16 MiB over a link of 150 MiB/s, of which the server gives the first burst at once
    assert found["gs, 150 MiB/s"]["ackpt"] > 0.05
