"""Part plans: they cover the object, keep the limits, and fail only where nothing fits."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackpt.backends.base import PartLimits
from ackpt.errors import InvalidOptionError, UnsupportedError
from ackpt.options import GiB, KiB, MiB
from ackpt.transfer.plan import Part, plan_parts

S3 = PartLimits(min_part_bytes=5 * MiB, max_part_bytes=5 * GiB, max_parts=10_000)


@st.composite
def small_limits(draw: st.DrawFn) -> PartLimits:
    least = draw(st.integers(1, 40))
    return PartLimits(
        min_part_bytes=least,
        max_part_bytes=draw(st.integers(least, 60)),
        max_parts=draw(st.integers(1, 12)),
        granularity_bytes=draw(st.integers(1, 9)),
    )


def fits(size: int, limits: PartLimits) -> bool:
    """Say by trying everything whether any part size holds the object."""
    if size <= limits.max_part_bytes:
        return True
    return any(
        step % limits.granularity_bytes == 0 and -(-size // step) <= limits.max_parts
        for step in range(limits.min_part_bytes, limits.max_part_bytes + 1)
    )


def assert_covers(plan: tuple[Part, ...], size: int) -> None:
    assert plan[0].start == 0
    assert plan[-1].stop == size
    assert [part.number for part in plan] == list(range(1, len(plan) + 1))
    assert all(a.stop == b.start for a, b in itertools.pairwise(plan))
    assert all(part.size > 0 for part in plan) or len(plan) == 1
    assert len({part.size for part in plan[:-1]} | {plan[0].size}) == 1
    assert plan[-1].size <= plan[0].size


@given(size=st.integers(0, 5000), part_bytes=st.integers(1, 600))
def test_without_limits_all_parts_but_the_last_have_the_size_asked_for(size: int, part_bytes: int) -> None:
    plan = plan_parts(size, part_bytes)
    assert_covers(plan, size)
    assert plan[0].size == min(part_bytes, size)


@given(size=st.integers(0, 900), part_bytes=st.integers(1, 80), limits=small_limits())
def test_a_plan_keeps_every_limit_and_fails_only_where_nothing_fits(
    size: int, part_bytes: int, limits: PartLimits
) -> None:
    if not fits(size, limits):
        with pytest.raises(UnsupportedError, match="split it"):
            plan_parts(size, part_bytes, limits)
        return
    plan = plan_parts(size, part_bytes, limits)
    assert_covers(plan, size)
    assert len(plan) <= limits.max_parts
    for part in plan[:-1]:
        assert limits.min_part_bytes <= part.size <= limits.max_part_bytes
        assert part.size % limits.granularity_bytes == 0
    assert plan[-1].size <= limits.max_part_bytes


def test_an_empty_object_is_one_empty_part() -> None:
    assert plan_parts(0, 8 * MiB, S3) == (Part(number=1, start=0, stop=0),)


def test_parts_grow_when_there_would_be_too_many() -> None:
    plan = plan_parts(10_000 * 32 * MiB + 1, 32 * MiB, S3)
    assert len(plan) <= 10_000
    assert plan[0].size == 32 * MiB + 1


def test_parts_are_rounded_up_to_the_granularity() -> None:
    limits = PartLimits(min_part_bytes=1, max_part_bytes=GiB, max_parts=10_000, granularity_bytes=256 * KiB)
    assert plan_parts(10 * MiB, MiB + 1, limits)[0].size == MiB + 256 * KiB


@pytest.mark.parametrize(("size", "part_bytes"), [(-1, 1), (1, 0)])
def test_nonsense_is_refused(size: int, part_bytes: int) -> None:
    with pytest.raises(InvalidOptionError):
        plan_parts(size, part_bytes)
