"""The script of the interference runs, and its table is complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_steps_cost_beside_a_save_is_told_of_every_way() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "interference.py"), "--smoke"],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["results"]
    assert set(found) >= {"none", "mover", "ackpt thread", "ackpt process"}
    assert all(each["quiet_ms"] > 0 for each in found.values())
    assert found["none"]["moved_bytes"] == 0
    assert found["mover"]["moved_bytes"] == 16 * 2**20
    assert found["mover"]["over_mover"] == 1
    for way in ("ackpt thread", "ackpt process"):
        # a checkpoint is its tensors, and an index
        assert 16 * 2**20 < found[way]["moved_bytes"] < 16 * 2**20 + 10_000
        assert found[way]["travelling_inflation"] > 0
        assert found[way]["over_mover"] > 0
    if "tf async" in found:
        assert found["tf async"]["over_tf"] == 1
        assert all(found[way]["over_tf"] > 0 for way in ("ackpt thread", "ackpt process"))
