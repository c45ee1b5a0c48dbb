"""What the demonstration promises, it shows: real processes, really killed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        find_spec("tensorflow_estimator") is None, reason="newer TensorFlow has no estimators"
    ),
]


def _run(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=390,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("target", ["file", "gs"])
def test_a_run_that_is_killed_in_the_middle_of_a_save_reaches_its_goal(
    target: str, root: Path, tmp_path: Path
) -> None:
    where = ["--gs"] if target == "gs" else ["--url", f"file://{tmp_path}/bucket"]
    said = _run(root, "demo", *where, "--folder", str(tmp_path))
    assert "killed in the middle of saving step" in said
    assert "killed on its way, committed by the next process" in said
    assert "accuracy at step" in said


def test_kills_at_random_moments_lose_no_committed_checkpoint(root: Path, tmp_path: Path) -> None:
    said = _run(root, "demo.kill_many", "--times", "3", "--folder", str(tmp_path / "kill"))
    assert "3 kills, 0 not as promised" in said
