"""Retention: what each policy keeps, and what no policy can delete."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackpt.checkpoint.retention import (
    Candidate,
    KeepAll,
    KeepBest,
    KeepEvery,
    KeepInterval,
    KeepLast,
    Retention,
    to_delete,
)
from ackpt.errors import InvalidOptionError

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class KeepNothing(Retention):
    """Be the worst policy that somebody could write."""

    def keep(self, candidates: Sequence[Candidate]) -> frozenset[int]:
        return frozenset()


def candidate(step: int, *, secs: float = 0.0, pinned: bool = False, **metrics: float) -> Candidate:
    return Candidate(step=step, created=EPOCH + timedelta(seconds=secs), metrics=metrics, pinned=pinned)


@st.composite
def runs(draw: st.DrawFn) -> list[Candidate]:
    """Draw the committed checkpoints of a run, in any order, on a clock that may jump back."""
    steps = draw(st.lists(st.integers(0, 60), unique=True, max_size=12))
    return [
        candidate(
            step,
            secs=draw(st.integers(-5000, 5000)),
            pinned=draw(st.booleans()),
            **draw(st.dictionaries(st.sampled_from("ab"), st.floats(), max_size=2)),
        )
        for step in steps
    ]


simple = st.one_of(
    st.builds(KeepLast, st.integers(1, 6)),
    st.builds(KeepEvery, st.integers(1, 20)),
    st.builds(KeepInterval, st.floats(1, 10_000)),
    st.builds(KeepBest, st.integers(1, 4), st.sampled_from("abc"), st.sampled_from(["min", "max"])),
    st.just(KeepAll()),
    st.just(KeepNothing()),
)
policies = st.recursive(simple, lambda each: st.builds(lambda a, b: a | b, each, each), max_leaves=4)


@given(policies, runs())
def test_neither_the_newest_nor_a_pinned_one_is_ever_deleted(policy: Retention, run: list[Candidate]) -> None:
    doomed = to_delete(policy, run)
    assert doomed == sorted(set(doomed))
    assert max((each.step for each in run), default=None) not in doomed
    assert not {each.step for each in run if each.pinned} & set(doomed)


@given(policies, runs(), st.randoms())
def test_the_order_in_which_checkpoints_are_listed_does_not_matter(
    policy: Retention, run: list[Candidate], random: st.DataObject
) -> None:
    shuffled = list(run)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert to_delete(policy, shuffled) == to_delete(policy, run)


@given(simple, simple, runs())
def test_a_union_deletes_what_both_would_delete(
    one: Retention, other: Retention, run: list[Candidate]
) -> None:
    both = set(to_delete(one, run)) & set(to_delete(other, run))
    assert to_delete(one | other, run) == sorted(both)
    assert to_delete(one | other, run) == to_delete(other | one, run)


@given(policies, runs())
def test_what_is_left_is_kept_when_it_is_looked_at_again(policy: Retention, run: list[Candidate]) -> None:
    doomed = to_delete(policy, run)
    left = [each for each in run if each.step not in doomed]
    assert to_delete(policy, left) == []


stable = st.one_of(
    st.builds(KeepLast, st.integers(1, 6)),
    st.builds(KeepEvery, st.integers(1, 20)),
    st.builds(KeepInterval, st.floats(1, 10_000)),
    st.builds(KeepBest, st.integers(1, 4), st.just("a"), st.sampled_from(["min", "max"])),
)


@given(
    st.recursive(stable, lambda each: st.builds(lambda a, b: a | b, each, each), max_leaves=3),
    runs(),
    st.sets(st.integers(0, 12)),
)
def test_a_restart_or_a_late_sweep_changes_nothing_in_the_end(
    policy: Retention, run: list[Candidate], sweeps: set[int]
) -> None:
    """Deleting after each commit, or after some, or only once, leaves the same checkpoints.

    On a clock that goes forward, and for saves in order of their steps; what a policy once dropped
    it would not have kept later.
    """
    clock = sorted(each.created for each in run)
    ordered = [
        Candidate(step=each.step, created=time, metrics=each.metrics)
        for each, time in zip(sorted(run, key=lambda c: c.step), clock, strict=True)
    ]
    left: list[Candidate] = []
    for number, each in enumerate(ordered):
        left.append(each)
        if number in sweeps or number == len(ordered) - 1:
            doomed = to_delete(policy, left)
            left = [c for c in left if c.step not in doomed]
    doomed = to_delete(policy, ordered)
    assert [c.step for c in left] == [c.step for c in ordered if c.step not in doomed]


def deleted(policy: Retention, *candidates: Candidate) -> list[int]:
    return to_delete(policy, candidates)


def test_keep_last_keeps_the_highest_steps() -> None:
    assert deleted(KeepLast(2), *map(candidate, (30, 10, 20, 40))) == [10, 20]
    assert deleted(KeepLast(9), *map(candidate, (30, 10))) == []


def test_keep_every_keeps_multiples_and_the_newest() -> None:
    assert deleted(KeepEvery(10), *map(candidate, (0, 5, 10, 15, 20, 25))) == [5, 15]


def test_keep_interval_keeps_the_last_of_every_interval_of_the_wall_clock() -> None:
    hour = 3600.0
    run = [candidate(step, secs=step * 1500) for step in range(8)]  # hours 0 0 0 1 1 2 2 2
    assert deleted(KeepInterval(hour), *run) == [0, 1, 3, 5, 6]


def test_keep_interval_counts_from_the_epoch_whatever_the_zone_and_the_first_checkpoint() -> None:
    hour = 3600.0
    late = [candidate(1, secs=hour - 1), candidate(2, secs=hour + 1), candidate(3, secs=hour + 2)]
    assert deleted(KeepInterval(hour), *late) == [2]
    assert deleted(KeepInterval(hour), *late[1:]) == [2]


def test_keep_best_keeps_the_lowest_or_the_highest_and_of_equals_the_newer() -> None:
    run = [
        candidate(step, loss=loss) for step, loss in enumerate([0.5, 0.1, 0.3, 0.1, math.nan, math.inf, 0.9])
    ] + [candidate(7)]
    assert deleted(KeepBest(1, "loss"), *run) == [0, 1, 2, 4, 5, 6]
    assert deleted(KeepBest(2, "loss"), *run) == [0, 2, 4, 5, 6]
    assert deleted(KeepBest(2, "loss", "max"), *run) == [0, 1, 2, 3, 4]
    assert deleted(KeepBest(9, "other"), *run) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "make",
    [
        lambda: KeepLast(0),
        lambda: KeepLast(-1),
        lambda: KeepEvery(0),
        lambda: KeepInterval(0),
        lambda: KeepInterval(-1),
        lambda: KeepInterval(math.nan),
        lambda: KeepInterval(math.inf),
        lambda: KeepBest(0, "loss"),
        lambda: KeepBest(1, "loss", "best"),  # type: ignore[arg-type]
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_at_once(make: object) -> None:
    with pytest.raises(InvalidOptionError, match="Keep"):
        make()  # type: ignore[operator]
