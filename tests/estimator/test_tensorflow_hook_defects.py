"""What TensorFlow's own asynchronous hook gets wrong, and ours must not: one law for each defect.

Every law is run against both hooks, and is expected to fail on TensorFlow's, strictly: should a
TensorFlow ever keep it, the test says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HOOKS = [
    "ackpt",
    pytest.param(
        "tensorflow",
        marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason="a defect of TensorFlow's hook"),
    ),
]

pytestmark = pytest.mark.parametrize("hook", HOOKS)


def facts(row: str, hook: str, tmp_path: Path, root: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.estimator.defects", row, hook, str(tmp_path / "run")],
        cwd=root,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "ACKPT_STAGING_DIR": str(tmp_path / "staging")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)  # not an AssertionError: never what is expected to fail
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_no_checkpoint_mixes_steps(hook: str, tmp_path: Path, root: Path) -> None:
    found = facts("torn", hook, tmp_path, root)
    assert found["checkpoints"] > 0
    assert found["torn"] == 0


def test_checkpoints_are_written_with_tensorflow_2_behaviour(hook: str, tmp_path: Path, root: Path) -> None:
    assert facts("nothing_written", hook, tmp_path, root)["latest"] == str(tmp_path / "run" / "model.ckpt-20")


def test_a_saver_that_fails_is_heard_of(hook: str, tmp_path: Path, root: Path) -> None:
    assert facts("lost_errors", hook, tmp_path, root)["raised"] == "SaveFailedError"


def test_a_listener_s_wish_to_stop_is_granted(hook: str, tmp_path: Path, root: Path) -> None:
    assert facts("ignored_stop", hook, tmp_path, root)["steps"] < 100


def test_every_save_is_accounted_for_while_another_is_under_way(
    hook: str, tmp_path: Path, root: Path
) -> None:
    found = facts("dropped_saves", hook, tmp_path, root)
    assert found["accounted_for"] == found["triggered"]


def test_a_step_without_a_save_costs_no_run_of_its_own(hook: str, tmp_path: Path, root: Path) -> None:
    found = facts("idle_cost", hook, tmp_path, root)
    assert found["runs"] < found["steps"] * 1.5


def test_the_graph_that_is_written_is_the_one_that_trains(hook: str, tmp_path: Path, root: Path) -> None:
    assert facts("wrong_graph", hook, tmp_path, root)["nodes"] > 0
