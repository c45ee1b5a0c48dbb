"""The laws of looking at the global step, against TensorFlow's hook, which looks after every run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackpt.hook.trigger import FIRST_LOOKS, MOST_RUNS, Trigger, runs_until_look


class Clock:
    """Be a clock that moves when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def _train(advances: Sequence[int], every: int, *, per_run: int = 1) -> tuple[list[int], int]:
    """Run with these advances of the step; return the steps saved at, and the number of looks."""
    trigger = Trigger(every_steps=every, every_secs=None)
    trigger.expect(per_run)
    step = due = looks = 0
    saves = [0]
    trigger.saved(0)
    due = every
    for advance in advances:
        step += advance
        if not trigger.may_be_due():
            continue
        looks += 1
        trigger.looked(step)
        if step >= due:
            trigger.saved(step)
            saves.append(step)
            due = step + every
    return saves, looks


def _train_looking_always(advances: Sequence[int], every: int) -> list[int]:
    step, saves = 0, [0]
    for advance in advances:
        step += advance
        if step >= saves[-1] + every:
            saves.append(step)
    return saves


@given(st.integers(1, 300), st.integers(1, 500), st.integers(1, 600))
def test_runs_of_one_length_are_saved_just_when_tensorflow_saves_them(
    per_run: int, every: int, runs: int
) -> None:
    advances = [per_run] * runs
    assert _train(advances, every)[0] == _train_looking_always(advances, every)


@given(st.lists(st.integers(5, 9), min_size=10, max_size=400), st.integers(1, 500))
def test_runs_of_similar_length_are_saved_just_when_tensorflow_saves_them(
    advances: list[int], every: int
) -> None:
    assert _train(advances, every)[0] == _train_looking_always(advances, every)


@given(st.lists(st.integers(0, 64), max_size=400), st.integers(1, 500))
def test_whatever_runs_do_that_were_announced_nothing_is_late(advances: list[int], every: int) -> None:
    assert _train(advances, every, per_run=64)[0] == _train_looking_always(advances, every)


def test_a_sudden_leap_is_noticed_within_the_most_runs() -> None:
    advances = [1] * 1000 + [10**6] + [1] * MOST_RUNS
    saves, _ = _train(advances, 10**5)
    assert saves[1] <= 1000 + 10**6 + MOST_RUNS


def test_the_first_runs_are_looked_at_one_by_one() -> None:
    saves, _ = _train([100] * 30, 1000)
    assert saves == [0, 1000, 2000, 3000]


def test_hardly_any_run_is_looked_at_when_a_save_is_far_off() -> None:
    _, looks = _train([1] * 10_000, 1000)
    assert looks < 200


@pytest.mark.parametrize(
    ("remaining", "per_run", "runs"), [(0, 1, 1), (-5, 1, 1), (10, 1, 5), (10, 5, 1), (10**9, 1, MOST_RUNS)]
)
def test_the_look_is_half_way_and_never_far(remaining: int, per_run: int, runs: int) -> None:
    assert runs_until_look(remaining, per_run) == runs


def test_a_save_by_time_looks_at_nothing_before_its_time() -> None:
    clock = Clock()
    trigger = Trigger(every_steps=None, every_secs=60, clock=clock)
    trigger.saved(0)
    assert not any(trigger.may_be_due() for _ in range(1000))
    clock.now += 60
    assert trigger.may_be_due()
    trigger.looked(5)
    trigger.saved(5)
    assert not trigger.may_be_due()


def test_runs_that_do_not_advance_teach_nothing() -> None:
    trigger = Trigger(every_steps=1000, every_secs=None)
    trigger.saved(0)
    for _ in range(FIRST_LOOKS + 5):
        assert trigger.may_be_due()
        trigger.looked(0)
