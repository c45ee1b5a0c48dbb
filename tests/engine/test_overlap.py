"""Overlap policies, as the table that they are."""

from __future__ import annotations

from itertools import product

import pytest

from ackpt.engine.overlap import (
    Block,
    Coalesce,
    Overlap,
    Phase,
    Queue,
    Refuse,
    Skip,
    Start,
    Wait,
    admit,
    blocks,
    outdated,
)
from ackpt.errors import InvalidOptionError

W, G, D, S = Phase.WAITING, Phase.STAGING, Phase.STAGED, Phase.SENDING
PENDING = [phases for count in range(4) for phases in product((W, G, D, S), repeat=count)]


@pytest.mark.parametrize(
    ("policy", "pending", "decision"),
    [
        (Coalesce(), [], Start()),
        (Coalesce(), [S], Start()),
        (Coalesce(), [S, G], Start()),
        (Coalesce(), [S, D], Start()),
        (Coalesce(), [G, W], Start((1,))),
        (Coalesce(), [S, G, W], Start((2,))),
        (Coalesce(), [S, W, W], Start((1, 2))),
        (Queue(1), [], Start()),
        (Queue(1), [S], Start()),
        (Queue(1), [G], Start()),
        (Queue(1), [S, D], Wait()),
        (Queue(1), [G, W], Wait()),
        (Queue(2), [S, D], Start()),
        (Queue(2), [S, D, W], Wait()),
        (Block(), [], Start()),
        (Block(), [S], Wait()),
        (Block(), [G], Wait()),
        (Block(), [W], Wait()),
        (Skip(), [], Start()),
        (Skip(), [S], Refuse(0)),
        (Skip(), [S, G], Refuse(1)),
        (Skip(), [W], Refuse(0)),
    ],
)
def test_a_new_request_is_admitted_as_the_policy_says(
    policy: Overlap, pending: list[Phase], decision: Start | Wait | Refuse
) -> None:
    assert admit(policy, pending) == decision


def test_with_nothing_under_way_every_policy_starts_and_only_coalesce_gives_a_place_away() -> None:
    for policy, pending in product((Coalesce(), Queue(1), Queue(3), Block(), Skip()), PENDING):
        decision = admit(policy, pending)
        if not pending:
            assert decision == Start()
        if isinstance(decision, Start) and decision.superseded:
            assert isinstance(policy, Coalesce)
            assert {pending[index] for index in decision.superseded} == {W}
        if isinstance(decision, Wait):
            assert blocks(policy)


def test_a_staged_save_makes_older_ones_needless_of_which_nothing_has_been_sent() -> None:
    for older in PENDING:
        assert [older[index] for index in outdated(Coalesce(), older)] == [p for p in older if p is not S]
        for policy in (Queue(1), Block(), Skip()):
            assert outdated(policy, older) == ()


def test_only_queue_and_block_may_make_the_trainer_wait() -> None:
    policies = (Coalesce(), Queue(1), Block(), Skip())
    assert [blocks(policy) for policy in policies] == [False, True, True, False]


@pytest.mark.parametrize("size", [0, -1])
def test_a_queue_without_a_place_is_refused(size: int) -> None:
    with pytest.raises(InvalidOptionError, match="Queue: expected a whole number from 1 up"):
        Queue(size)
