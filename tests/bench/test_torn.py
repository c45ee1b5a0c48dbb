"""The script that counts torn checkpoints runs, and finds none of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_no_checkpoint_of_ours_is_torn() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "torn.py"), "--quick"],
        capture_output=True,
        text=True,
        timeout=115,
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout.splitlines()[-1])["results"].values()
    assert found["ackpt"]["checkpoints"] > 0
    assert found["ackpt"]["torn"] == 0
    assert found["tf sync"]["checkpoints"] > 0
