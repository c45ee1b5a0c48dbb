"""How many connections are used at a time: the decision alone, without a clock and without I/O.

More are tried while more carry more, and fewer are used when the store asks for fewer. The store is
looked at in rounds, of a length that the caller chooses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

START: Final = 8
"""How many are used at first, bounds permitting: what was measured to fill most links."""

_BACK_OFF: Final = 0.7
"""What is left after a refusal, as a factor (CUBIC's: RFC 9438, section 4.6)."""

_WORTH: Final = 0.25
"""What a further connection must bring to be kept, of what one of those before it brings."""

_STEP: Final = 0.25
_FIRST_REST: Final = 4
_LONGEST_REST: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """Hold what is known of a store; every event makes another one.

    `level` is how many connections may be used now, always from `lower` to `upper`.
    """

    lower: int
    upper: int
    level: int
    settling: bool = True
    """The level has just changed: this round shows something of both, and is not judged."""
    trial: tuple[int, float] | None = None
    """The level before the one that is being tried, and what it carried."""
    doubted: bool = False
    """The trial has had one poor round, which may be chance: parts that end together."""
    ceiling: int | None = None
    """The level at which the store refused last."""
    ramping: bool = True
    rest: int = 0
    """Rounds until something is tried again; after each failure twice as many (`next_rest`)."""
    next_rest: int = _FIRST_REST

    @classmethod
    def start(cls, *, lower: int, upper: int) -> Self:
        """Begin at `START`, or at the bound that is nearest to it."""
        return cls(lower=lower, upper=upper, level=max(lower, min(START, upper)))

    def after_round(self, bytes_per_sec: float) -> Concurrency:
        """Decide after a round in which all connections were in use, and carried this much together."""
        if self.settling:
            return replace(self, settling=False)
        if self.trial is not None:
            return self._judge(*self.trial, bytes_per_sec)
        if self.ceiling is not None and self.level < self.ceiling - 1:
            # Known to be fine: half of the way at a time, as TCP's BIC does.
            return self._at(self.level + max(1, (self.ceiling - 1 - self.level) // 2))
        if self.rest:
            return replace(self, rest=self.rest - 1)
        return self._try_more(bytes_per_sec)

    def after_refusal(self) -> Concurrency:
        """Decide when the store has refused a request since there were too many.

        Once for all requests that were under way together: one cause, one answer.
        """
        lower = min(self.level - 1, int(self.level * _BACK_OFF))
        fewer = self._at(max(self.lower, lower))
        return replace(fewer._rested(), ceiling=self.level)

    def _judge(self, before: int, carried: float, bytes_per_sec: float) -> Concurrency:
        if bytes_per_sec < carried * (1 + (self.level / before - 1) * _WORTH):
            return self._at(before)._rested() if self.doubted else replace(self, doubted=True)
        kept = replace(self, trial=None, doubted=False, rest=0, next_rest=_FIRST_REST)
        if self.ceiling is not None and self.level >= self.ceiling:
            kept = replace(kept, ceiling=None)
        return kept._try_more(bytes_per_sec)

    def _try_more(self, bytes_per_sec: float) -> Concurrency:
        if self.level == self.upper:
            return self
        step = self.level if self.ramping else max(1, int(self.level * _STEP))
        more = self._at(min(self.upper, self.level + step))
        return replace(more, trial=(self.level, bytes_per_sec))

    def _at(self, level: int) -> Concurrency:
        return replace(self, level=level, settling=True, trial=None, doubted=False)

    def _rested(self) -> Concurrency:
        longer = min(2 * self.next_rest, _LONGEST_REST)
        return replace(self, ramping=False, rest=self.next_rest, next_rest=longer)
