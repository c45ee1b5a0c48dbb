"""Preemption: what the notice decides, and real processes that get it at bad moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ackpt.engine.preemption import Notice, Pace, Preemption
from ackpt.errors import InvalidOptionError
from ackpt.events import Committed, Failed
from tests.engine.preempted import GRACE_SECS

KILLED = 128 + signal.SIGTERM


def committed(size: int, secs: float, *, already: bool = False) -> Committed:
    return Committed(
        step=1,
        target="x",
        prefix="ckpt-1",
        size=size,
        stall_secs=0,
        stage_secs=0,
        upload_secs=secs,
        already=already,
    )


def test_the_pace_is_that_of_the_last_save_that_was_sent() -> None:
    pace = Pace()
    assert pace.may_end_within(0.1, size=10**12)  # hope
    assert not pace.may_end_within(0.0, size=1)
    pace = pace.after(committed(1000, 2.0))
    assert pace.bytes_per_sec == 500
    for uneventful in (
        committed(10**9, 0.001, already=True),
        committed(0, 1.0),
        Failed(step=1, target="x", error=OSError()),
    ):
        assert pace.after(uneventful) == pace
    assert pace.may_end_within(2.0, size=1000)
    assert not pace.may_end_within(1.9, size=1000)


@pytest.mark.parametrize(
    "times",
    [
        {"grace_secs": 2.0},
        {"grace_secs": -1.0},
        {"grace_secs": float("inf")},
        {"save_after_secs": -1.0},
        {"reserve_secs": float("nan")},
    ],
)
def test_times_that_make_no_sense_are_refused(times: dict[str, float]) -> None:
    with pytest.raises(InvalidOptionError, match="preemption"):
        Preemption(**times)


async def test_the_time_runs_from_the_first_notice() -> None:
    now = 100.0
    notice = Notice(Preemption(grace_secs=10, reserve_secs=2), "x", clock=lambda: now)
    assert not notice.preempted
    assert notice.left_secs == float("inf")
    notice.give(signal.SIGTERM)
    now = 105.0
    notice.give()
    assert notice.preempted
    assert notice.left_secs == 3
    assert notice.signal_number == signal.SIGTERM
    now = 109.0
    assert notice.left_secs == 0
    notice.withdraw()


Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, root: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(mode: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.preempted", mode, str(tmp_path / "run")],
            cwd=root,
            env={**os.environ, "ACKPT_STAGING_DIR": str(tmp_path / "staging")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def steps(tmp_path: Path) -> list[int]:
    return sorted(
        int(path.name.split(".")[0].rpartition("-")[2]) for path in tmp_path.glob("run/*.manifest.json")
    )


def say_so(process: subprocess.Popen[str], times: int = 1) -> tuple[str, int, float]:
    """Send the signal once the process is ready; return what it printed then, its status, and its time."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    noticed = time.monotonic()
    for _ in range(times):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    said, _ = process.communicate(timeout=60)
    return said, process.returncode, time.monotonic() - noticed


def test_the_state_at_the_notice_is_committed_and_the_process_leaves(start: Start, tmp_path: Path) -> None:
    said, status, _ = say_so(start("steady"))
    assert (said, status) == ("Committed\n", KILLED)
    assert steps(tmp_path) == [1, 3]


@pytest.mark.parametrize("times", [1, 3])
def test_a_notice_while_a_save_is_being_staged_keeps_that_save(
    times: int, start: Start, tmp_path: Path
) -> None:
    said, status, _ = say_so(start("staging"), times)
    assert (said, status) == ("Committed\n", KILLED)
    assert steps(tmp_path) in ([1, 2, 3], [1, 3])  # 3 may take the place of 2


def test_what_cannot_be_sent_in_time_is_parked_at_once_and_the_next_start_commits_it(
    start: Start, tmp_path: Path
) -> None:
    said, status, secs = say_so(start("slow"))
    assert (said, status) == ("Parked\n", KILLED)
    assert secs < GRACE_SECS - 1.0  # it did not wait for what was hopeless
    assert steps(tmp_path) == [1]
    resumed = start("resume")
    assert resumed.communicate(timeout=60)[0] == ""
    assert resumed.returncode == 0
    assert steps(tmp_path) == [1, 3]


def test_a_training_that_does_not_stop_is_ended_when_the_grace_is_over(start: Start, tmp_path: Path) -> None:
    said, status, secs = say_so(start("hang"))
    assert (said, status) == ("", KILLED)
    assert secs >= GRACE_SECS - 0.5
    assert steps(tmp_path) == [1]


def test_a_notice_while_the_run_is_being_opened_is_heard(start: Start) -> None:
    said, status, secs = say_so(start("start"))
    assert (said, status) == ("", KILLED)
    assert secs >= GRACE_SECS - 0.5


def test_a_handler_that_was_there_before_is_called_when_the_work_is_done(
    start: Start, tmp_path: Path
) -> None:
    said, status, _ = say_so(start("handler"))
    assert (said, status) == ("Committed\nmine\nwent on\n", 0)
    assert steps(tmp_path) == [1, 3]


def test_after_a_call_of_ones_own_the_program_goes_on(start: Start, tmp_path: Path) -> None:
    said, _ = start("call").communicate(timeout=60)
    assert said == "ready\nCommitted\nwent on\n"
    assert steps(tmp_path) == [1, 3]


def test_a_worker_of_a_data_loader_that_is_ended_is_no_notice(start: Start) -> None:
    process = start("fork")
    said, _ = process.communicate(timeout=60)
    assert (said, process.returncode) == (f"{-signal.SIGTERM} False\n", 0)
