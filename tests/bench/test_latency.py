"""The script of the long-distance link runs, and what it calls a share is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_share_of_a_link_is_told_both_ways_and_what_a_store_refuses_side_by_side() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "latency.py"), "--smoke"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])["results"]
    found = results["2"]
    for what in ("upload", "restore"):
        assert found[f"{what}_share"] == pytest.approx(found[what] / 40)
        # what is on its way when the clock stops, and the first burst, are little; nothing beats the link
        assert 0 < found[f"{what}_share"] < 1.05
    assert found["refused"] == 0
    fixed, adaptive = results["throttled"]["fixed"], results["throttled"]["adaptive"]
    assert 0 < adaptive["refused"] < fixed["refused"] + 4  # few parts: how often fixed ones meet is chance
    assert adaptive["upload"] > 0 < fixed["upload"]
