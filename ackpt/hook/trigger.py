"""When to look at the global step: seldom while a save is far off, after every run when it is near.

Asking the session for its step costs as much as a small training step, and no step tells how many
it will be: a run may advance many (iterations per loop, other workers).
"""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_LOOKS = 3
"""How many runs that advance are looked at one by one, to learn how far a run goes."""

MOST_RUNS = 100
"""How many runs go by without a look at most: a save is never later than this, at 1 % of a run each."""


def runs_until_look(remaining: int, per_run: int) -> int:
    """Return after how many more runs to look, `remaining` steps before a save is due.

    `per_run` is the farthest that a run is known to go. Half of what it allows, so that a save is
    late, and by no more than `MOST_RUNS` runs, only if runs suddenly go more than twice as far as
    they ever did; near the save every run is looked at.
    """
    return max(1, min(MOST_RUNS, remaining // (2 * max(1, per_run))))


class Trigger:
    """Count runs, and tell after which of them a save may be due; on the trainer thread.

    Give one of `every_steps` and `every_secs`.
    """

    def __init__(
        self,
        *,
        every_steps: int | None,
        every_secs: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_steps = every_steps
        self._every_secs = every_secs
        self._clock = clock
        self._per_run = 1
        self._learning = FIRST_LOOKS
        self._step = 0
        self._due_step = 0
        self._due_time = 0.0
        self._runs = 0
        self._look_after = 1

    def expect(self, steps_per_run: int) -> None:
        """Take note that a run advances so many steps, at least."""
        self._per_run = max(self._per_run, steps_per_run)

    def saved(self, step: int) -> None:
        """Take note that a save was triggered at `step`, as the session tells it."""
        if self._every_steps is not None:
            self._due_step = step + self._every_steps
        if self._every_secs is not None:
            self._due_time = self._clock() + self._every_secs
        self._saw(step)

    def may_be_due(self) -> bool:
        """Count a run, and tell whether to look at the session's step now; then call `looked`."""
        if self._every_secs is not None:
            return self._clock() >= self._due_time
        self._runs += 1
        return self._runs >= self._look_after

    def looked(self, step: int) -> None:
        """Take note of the session's step after the run that was just counted."""
        if self._runs and step > self._step:
            self._per_run = max(self._per_run, -(-(step - self._step) // self._runs))
            self._learning = max(0, self._learning - 1)
        self._saw(step)

    def _saw(self, step: int) -> None:
        self._step = step
        self._runs = 0
        self._look_after = 1 if self._learning else runs_until_look(self._due_step - step, self._per_run)
