"""The laws of shard planning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackpt.errors import InvalidOptionError
from ackpt.snapshot.shards import plan_shards

sizes = st.lists(st.none() | st.integers(0, 1000))


@given(sizes, st.integers(1, 1000))
def test_every_tensor_is_in_exactly_one_shard(sizes: list[int | None], shard_bytes: int) -> None:
    shards = plan_shards(sizes, shard_bytes)
    assert sorted(index for shard in shards for index in shard) == list(range(len(sizes)))


@given(sizes, st.integers(1, 1000))
def test_only_a_shard_of_one_tensor_is_larger_than_asked_for(
    sizes: list[int | None], shard_bytes: int
) -> None:
    for shard in plan_shards(sizes, shard_bytes):
        known = [size for index in shard if (size := sizes[index]) is not None]
        assert len(shard) == 1 or (len(known) == len(shard) and sum(known) <= shard_bytes)


@given(sizes, st.integers(1, 1000))
def test_shards_come_in_the_order_of_their_first_tensors(sizes: list[int | None], shard_bytes: int) -> None:
    shards = plan_shards(sizes, shard_bytes)
    assert shards == sorted(shards)
    assert all(list(shard) == sorted(shard) for shard in shards)


def test_a_huge_tensor_does_not_break_up_the_shard_around_it() -> None:
    assert plan_shards([10, 5000, 10, None, 10], 100) == [(0, 2, 4), (1,), (3,)]


def test_no_tensors_make_no_shards() -> None:
    assert plan_shards([], 100) == []


def test_a_shard_size_below_one_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="at least 1 byte, got 0"):
        plan_shards([1], 0)
