"""The number of connections: less when the store refuses, more while that helps, and within its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackpt.transfer.concurrency import START, Concurrency

bounds = st.tuples(st.integers(1, 200), st.integers(1, 200)).map(sorted)
rates = st.floats(0, 1e10)
events = st.lists(st.none() | rates, max_size=200)


def play(concurrency: Concurrency, events: list[float | None]) -> Concurrency:
    """Let rounds (what was carried) and refusals (None) follow each other."""
    for event in events:
        concurrency = concurrency.after_refusal() if event is None else concurrency.after_round(event)
    return concurrency


def run(concurrency: Concurrency, rounds: int, *, room: int = 10**6, most: int = 10**6) -> list[int]:
    """Return the levels on a link with `room` for so many, to a store that refuses more than `most`."""
    levels = []
    for _ in range(rounds):
        levels.append(concurrency.level)
        if concurrency.level > most:
            concurrency = concurrency.after_refusal()
        else:
            concurrency = concurrency.after_round(20e6 * min(concurrency.level, room))
    return levels


@given(bounds=bounds, events=events)
def test_the_level_never_leaves_its_bounds(bounds: list[int], events: list[float | None]) -> None:
    lower, upper = bounds
    concurrency = Concurrency.start(lower=lower, upper=upper)
    for event in events:
        concurrency = play(concurrency, [event])
        assert lower <= concurrency.level <= upper


@given(bounds=bounds, events=events)
def test_a_refusal_makes_it_less_by_a_factor(bounds: list[int], events: list[float | None]) -> None:
    lower, upper = bounds
    before = play(Concurrency.start(lower=lower, upper=upper), events)
    after = before.after_refusal()
    assert after.level == lower or after.level <= 0.7 * before.level
    assert after.level >= min(lower, before.level // 2)


@given(bounds=bounds, events=events)
def test_it_comes_back_when_nothing_is_refused_and_more_carry_more(
    bounds: list[int], events: list[float | None]
) -> None:
    lower, upper = bounds
    shaken = play(Concurrency.start(lower=lower, upper=upper), events)
    assert run(shaken, 600)[-1] == upper


@given(most=st.integers(1, 40), upper=st.integers(1, 60))
def test_what_is_refused_is_little_and_what_is_used_is_nearly_all_that_is_taken(
    most: int, upper: int
) -> None:
    levels = run(Concurrency.start(lower=1, upper=upper), 400, most=most)
    late = levels[100:]
    assert sum(level > most for level in late) <= len(late) * 0.06
    fair = min(most, upper)
    assert sum(min(level, fair) for level in late) >= 0.85 * fair * len(late)


def test_the_round_in_which_the_level_changed_is_not_judged() -> None:
    trying = play(Concurrency.start(lower=1, upper=100), [1e6, 1e6])
    assert trying.level > START
    assert trying.after_round(0.0).level == trying.level
    assert play(trying, [0.0, 0.0, 1.3e6]).level > trying.level


def test_a_trial_is_given_up_after_two_poor_rounds_and_not_after_one() -> None:
    trying = play(Concurrency.start(lower=1, upper=100), [1e6, 1e6, 1e6])
    assert play(trying, [1e6]).level == trying.level
    assert play(trying, [1e6, 1e6]).level == START


def test_a_ceiling_that_is_passed_is_none_any_more() -> None:
    refused = Concurrency.start(lower=1, upper=8).after_refusal()
    assert refused.ceiling == 8
    back = play(refused, [20e6 * n for n in range(1, 60)])
    assert (back.level, back.ceiling) == (8, None)


@pytest.mark.parametrize("upper", [16, 32, 64])
def test_it_grows_fast_while_more_carry_more(upper: int) -> None:
    assert upper in run(Concurrency.start(lower=1, upper=upper), 8)


@given(room=st.integers(1, 40))
def test_it_does_not_grow_where_the_link_is_full(room: int) -> None:
    levels = run(Concurrency.start(lower=1, upper=200), 400, room=room)
    assert max(levels[200:]) <= max(START, 2 * room) * 1.25
    assert sorted(levels[200:])[100] <= max(START, 2 * room)


def test_a_full_link_is_tried_less_and_less_often() -> None:
    levels = run(Concurrency.start(lower=1, upper=200), 400, room=8)
    assert sum(level > 8 for level in levels[:100]) > sum(level > 8 for level in levels[300:])


@pytest.mark.parametrize(("lower", "upper", "level"), [(1, 4, 4), (1, 200, START), (20, 200, 20), (8, 8, 8)])
def test_it_starts_at_a_sensible_level(lower: int, upper: int, level: int) -> None:
    assert Concurrency.start(lower=lower, upper=upper).level == level
