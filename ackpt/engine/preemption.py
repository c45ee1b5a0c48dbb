"""Preemption: what is done with saves in the seconds between a notice and the end of the machine."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from ackpt.errors import InvalidOptionError
from ackpt.events import Committed, Event

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preemption:
    """Say how much time there is after a notice, and what a notice is.

    `grace_secs` is the time from the notice to the end of the process, which comes by then in any
    case; of it `reserve_secs` are left for the process to leave. The state at the notice is saved
    if the last save is older than `save_after_secs`. `signals` are caught while a run is open.
    Google Cloud gives 30 s (https://cloud.google.com/compute/docs/instances/preemptible), Kubernetes
    30 s by default (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/).

    Raises:
        InvalidOptionError: no time, or a reserve that leaves none.
    """

    grace_secs: float = 25.0
    reserve_secs: float = 3.0
    save_after_secs: float = 10.0
    signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)

    def __post_init__(self) -> None:
        times = (self.grace_secs, self.reserve_secs, self.save_after_secs)
        if not all(math.isfinite(each) and each >= 0 for each in times):
            raise InvalidOptionError(f"preemption: expected times in seconds from 0 up, got {times}")
        if self.reserve_secs >= self.grace_secs:
            raise InvalidOptionError(
                f"preemption: expected a grace_secs above reserve_secs={self.reserve_secs:g}, "
                f"got {self.grace_secs:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Know how fast saves have been sent; a subscriber keeps it up to date. Pure.

    `bytes_per_sec` is that of the last save that was sent, None before there was one.
    """

    bytes_per_sec: float | None = None

    def after(self, event: Event) -> Pace:
        """Return the pace after `event`."""
        if isinstance(event, Committed) and not event.already and event.size and event.upload_secs > 0:
            return replace(self, bytes_per_sec=event.size / event.upload_secs)
        return self

    def may_end_within(self, secs: float, *, size: int) -> bool:
        """Tell whether `size` bytes can be there `secs` from now.

        While the pace is not known, hope.
        """
        if self.bytes_per_sec is None:
            return secs > 0
        return size / self.bytes_per_sec <= secs


class Notice:
    """Be the notice of one run: given once, on the loop; then the time runs.

    `preempted` may be read from any thread.
    """

    def __init__(
        self, policy: Preemption, target: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.policy = policy
        self.signal_number: int | None = None
        self._target = target
        self._clock = clock
        self._given = asyncio.Event()
        self._given_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    @property
    def preempted(self) -> bool:
        """Tell whether the notice has been given."""
        return self._given.is_set()

    @property
    def left_secs(self) -> float:
        """Return the time left for work, the reserve not counted; 0 when it is over."""
        over = self._given_at + self.policy.grace_secs - self.policy.reserve_secs
        return max(0.0, over - self._clock())

    async def unless_given(self, work: Coroutine[Any, Any, None], timeout: float | None) -> bool:
        """Do `work` until it is done, the time is over, or the notice is given; tell whether it was done."""
        tasks = asyncio.create_task(work), asyncio.create_task(self._given.wait())
        try:
            await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].done()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def give(self, number: int | None = None) -> None:
        """Take the notice, by a signal or by a call; a second one changes nothing: the time runs already."""
        if self.preempted:
            return
        self.signal_number = number
        self._given_at = self._clock()
        self._given.set()
        self._timer = asyncio.get_running_loop().call_later(self.policy.grace_secs, self._expire)
        _log.warning(
            "%s: training and its saves to %s end within %g s",
            "preempt() was called" if number is None else f"{signal.Signals(number).name} came",
            self._target,
            self.policy.grace_secs,
        )

    def withdraw(self) -> None:
        """Stop the time: the work has ended within it."""
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        """End the process: its training is in a step, or in a request, that takes longer."""
        _log.warning(
            "the grace of %g s is over and the training has not stopped: the process ends now; what is "
            "staged for %s is finished by the next start",
            self.policy.grace_secs,
            self._target,
        )
        os._exit(128 + (self.signal_number or signal.SIGTERM))
