"""Retention: pure policies that say which committed checkpoints to keep.

A policy sees what is committed and returns the steps it wants kept; policies combine with `|`.
The newest checkpoint and pinned ones are kept whatever a policy says.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ackpt.errors import InvalidOptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Describe a committed checkpoint to a policy; `created` carries its time zone."""

    step: int
    created: datetime
    metrics: Mapping[str, float] = field(default_factory=dict)
    pinned: bool = False


class Retention(ABC):
    """Say which checkpoints to keep; no I/O, no state, same answer for the same list."""

    __slots__ = ()

    @abstractmethod
    def keep(self, candidates: Sequence[Candidate]) -> frozenset[int]:
        """Return the steps to keep of `candidates`, which come in order of their steps."""

    def __or__(self, other: Retention) -> Retention:
        """Keep what either policy keeps."""
        return KeepEither(self, other)


@dataclass(frozen=True, slots=True)
class KeepEither(Retention):
    """Keep what either of two policies keeps."""

    first: Retention
    second: Retention

    def keep(self, candidates: Sequence[Candidate]) -> frozenset[int]:
        """Return the union of what both keep."""
        return self.first.keep(candidates) | self.second.keep(candidates)


@dataclass(frozen=True, slots=True)
class KeepAll(Retention):
    """Keep every checkpoint."""

    def keep(self, candidates: Sequence[Candidate]) -> frozenset[int]:
        """Return all steps."""
        return frozenset(each.step for each in candidates)


@dataclass(frozen=True, slots=True)
class KeepLast(Retention):
    """Keep the newest `count` checkpoints, from 1 up (`max_to_keep` of a TensorFlow saver)."""

    count: int

    def __post_init__(self) -> None:
        _at_least("KeepLast", self.count, 1)

    def keep(self, candidates: Sequence[Candidate]) -> frozenset[int]:
        """Return the highest `count` steps."""
        return frozenset(each.step for each in candidates[-self.count :])


@dataclass(frozen=True, slots=True)
class KeepEvery(Retention):
    """Keep every checkpoint whose step is a multiple of `steps`, from 1 up."""

    steps: int

    def __post_init__(self) -> None:
        _at_least("KeepEvery", self.steps, 1)

    def keep(self, candidates: Sequence[Candidate]) -> frozenset[int]:
        """Return the multiples of `steps`."""
        return frozenset(each.step for each in candidates if each.step % self.steps == 0)


@dataclass(frozen=True, slots=True)
class KeepInterval(Retention):
    """Keep the last checkpoint of every interval of `secs` seconds on the wall clock.

    Intervals count from the Unix epoch, so the answer does not depend on when a process started
    (`keep_checkpoint_every_n_hours` of a TensorFlow saver counts from its construction and forgets
    at a restart).
    """

    secs: float

    def __post_init__(self) -> None:
        if not isinstance(self.secs, int | float) or not self.secs > 0 or math.isinf(self.secs):
            raise InvalidOptionError(f"KeepInterval: expected seconds above 0, got {self.secs!r}")

    def keep(self, candidates: Sequence[Candidate]) -> frozenset[int]:
        """Return the steps after which the next checkpoint lies in another interval."""
        intervals = [math.floor(each.created.timestamp() / self.secs) for each in candidates]
        return frozenset(
            each.step
            for each, mine, following in zip(candidates, intervals, intervals[1:], strict=False)
            if mine != following
        )


@dataclass(frozen=True, slots=True)
class KeepBest(Retention):
    """Keep the `count` checkpoints with the best `metric`; those without it are not kept by this.

    `mode` says whether a lower (`min`) or a higher (`max`) figure is better; of equals the newer.
    """

    count: int
    metric: str
    mode: Literal["min", "max"] = "min"

    def __post_init__(self) -> None:
        _at_least("KeepBest", self.count, 1)
        if self.mode not in ("min", "max"):
            raise InvalidOptionError(f"KeepBest: expected mode 'min' or 'max', got {self.mode!r}")

    def keep(self, candidates: Sequence[Candidate]) -> frozenset[int]:
        """Return the steps of the best `count`; a NaN is never among them."""
        sign = 1 if self.mode == "min" else -1
        scored = [
            (sign * each.metrics[self.metric], -each.step)
            for each in candidates
            if not math.isnan(each.metrics.get(self.metric, math.nan))
        ]
        return frozenset(-step for _, step in sorted(scored)[: self.count])


def to_delete(policy: Retention, candidates: Sequence[Candidate]) -> list[int]:
    """Return the steps to delete, oldest first: never the newest, never a pinned one."""
    ordered = sorted(candidates, key=lambda each: each.step)
    kept = {*policy.keep(ordered), *(each.step for each in ordered[-1:])}
    return [each.step for each in ordered if each.step not in kept and not each.pinned]


def _at_least(name: str, value: int, least: int) -> None:
    if type(value) is not int or value < least:
        raise InvalidOptionError(f"{name}: expected a whole number from {least} up, got {value!r}")
