"""A TensorFlow training that gets notice of preemption: in a step, between two, and by a call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hook.preempted import GRACE_SECS
from tests.hook.training import steps_in

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, root: Path) -> Start:
    def begin(mode: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.hook.preempted", mode, str(tmp_path / "run")],
            cwd=root,
            env={
                **os.environ,
                "ACKPT_STAGING_DIR": str(tmp_path / "staging"),
                "TF_CPP_MIN_LOG_LEVEL": "2",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    return begin


def test_training_stops_saves_its_last_step_and_leaves(start: Start, tmp_path: Path) -> None:
    with start("steady") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert (said, process.returncode) == ("the last hook ended\n", 128 + signal.SIGTERM)
    first, last = steps_in(tmp_path / "run")
    assert first == 0
    assert last >= 5


def test_a_step_that_does_not_end_is_left_when_the_grace_is_over(start: Start, tmp_path: Path) -> None:
    with start("hang") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)  # so that the trainer is in TensorFlow, where no Python handler runs
        noticed = time.monotonic()
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=50)
    assert (said, process.returncode) == ("", 128 + signal.SIGTERM)
    assert time.monotonic() - noticed >= GRACE_SECS - 0.5
    assert steps_in(tmp_path / "run") == [0]


def test_a_call_of_ones_own_stops_the_training_and_the_program_goes_on(start: Start, tmp_path: Path) -> None:
    with start("call") as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    last = steps_in(tmp_path / "run")[-1]
    assert said.splitlines()[-1] == f"went on after {last}"


def test_two_hooks_both_save_their_last_step(start: Start, tmp_path: Path) -> None:
    with start("two") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert (said, process.returncode) == ("the last hook ended\n", 128 + signal.SIGTERM)
    assert steps_in(tmp_path / "run-1") == steps_in(tmp_path / "run-2")
    assert steps_in(tmp_path / "run-1")[-1] >= 5


def test_two_hooks_that_get_no_notice_leave_the_signals_as_they_were(start: Start) -> None:
    with start("two-quiet") as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.splitlines() == ["ready", "the last hook ended", "went on after 8", "SIG_DFL -1"]
