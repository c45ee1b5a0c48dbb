"""Failure policies: when a failed save reaches the trainer. Pure; the checkpointer keeps the tally."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ackpt.errors import FencedError, InvalidOptionError, SaveFailedError, explain
from ackpt.events import Committed, Failed, Outcome


@dataclass(frozen=True, slots=True)
class Raise:
    """Raise in the trainer at its next step after any failed save."""


@dataclass(frozen=True, slots=True)
class Tolerate:
    """Let `count` consecutive saves fail (0 or more); raise in the trainer at the next one."""

    count: int

    def __post_init__(self) -> None:
        if type(self.count) is not int or self.count < 0:
            raise InvalidOptionError(f"Tolerate: expected a whole number from 0 up, got {self.count!r}")


FailurePolicy = Raise | Tolerate


@dataclass(frozen=True, slots=True)
class FailureTally:
    """Count consecutive failed saves; whatever the policy, the last save's failure is an error at the end."""

    policy: FailurePolicy
    consecutive: int = 0
    last: Failed | None = None

    def after(self, outcome: Outcome) -> FailureTally:
        """Return the tally after `outcome`; a commit clears it, other outcomes leave it."""
        match outcome:
            case Failed():
                return replace(self, consecutive=self.consecutive + 1, last=outcome)
            case Committed():
                return replace(self, consecutive=0, last=None)
        return self

    def due(self) -> SaveFailedError | None:
        """Return the error that the trainer has to see now, if any; a lost run is never tolerated."""
        fenced = self.last is not None and isinstance(self.last.error, FencedError)
        tolerated = 0 if fenced or isinstance(self.policy, Raise) else self.policy.count
        return self.final() if self.consecutive > tolerated else None

    def final(self) -> SaveFailedError | None:
        """Return the error of the last save, if it failed: what `end()` raises."""
        if self.last is None:
            return None
        times = "" if self.consecutive == 1 else f" ({self.consecutive} saves in a row have failed)"
        kept = "; it lies staged and the next start goes on with it" if self.last.staged else ""
        said = explain(self.last.error)
        error = SaveFailedError(
            f"saving step {self.last.step} to {self.last.target} failed{times}: {said}{kept}",
            step=self.last.step,
        )
        error.__cause__ = self.last.error
        return error
