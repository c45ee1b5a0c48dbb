"""The script of long-running health runs, loses nothing and leaves nothing, and would notice growth."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from bench.health import ALLOWED, complaints

ROOT = Path(__file__).resolve().parents[2]


def test_a_few_hundred_saves_with_faults_lose_nothing_and_grow_by_nothing() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "health.py"), "--smoke"],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["results"]["memory"]["outcomes"] == {"Committed": 500}
    assert found["results"]["server"]["outcomes"] == {"Committed": 60}
    assert sum(found["results"]["server"]["faults"].values()) > 20


def test_what_is_lost_left_or_grown_is_complained_of() -> None:
    healthy = {
        "outcomes": {"Committed": 3},
        "committed_events": 3,
        "failures": [],
        "grown": dict.fromkeys(asdict(ALLOWED), 0),
        "left": {"checkpoints": ["ckpt-1", "ckpt-2"], "others": [], "uploads": []},
    }
    assert complaints(healthy, 3) == []
    sick: list[dict[str, object]] = [
        {"outcomes": {"Committed": 2, "Failed": 1}},
        {"committed_events": 2},
        {"grown": {**asdict(ALLOWED), "threads": ALLOWED.threads + 1}},
        {"left": {"checkpoints": ["ckpt-2"], "others": [], "uploads": []}},
        {"left": {"checkpoints": ["ckpt-1", "ckpt-2"], "others": [], "uploads": ["ckpt-1/large"]}},
    ]
    for each in sick:
        assert len(complaints({**healthy, **each}, 3)) == 1, each
