"""What the transfers of one save (or restore) share: how bytes travel, within what, and until when."""

from __future__ import annotations

from dataclasses import dataclass

from ackpt.options import TransferOptions
from ackpt.transfer.budget import Budget, Shared
from ackpt.transfer.clock import REAL, clock
from ackpt.transfer.rate import RateLimit
from ackpt.transfer.retry import Deadline, Retry


def make_budget(options: TransferOptions, *, shared: Shared | None = None, name: str = "the store") -> Budget:
    """Make the budget of one run, with a share in what the process has."""
    return Budget(
        connections=options.connections,
        least_connections=options.least_connections,
        memory_bytes=options.memory_bytes,
        rate=RateLimit(options.max_bytes_per_sec) if options.max_bytes_per_sec else None,
        shared=shared,
        name=name,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Hold the collaborators of `upload_object` and `download_object`.

    `budget` is that of the run, and has a share in that of the process; `retry`, and the deadline
    in it, belong to one save, so that the progress of any object renews the time of all.
    """

    options: TransferOptions
    budget: Budget
    retry: Retry

    @classmethod
    def start(cls, options: TransferOptions, budget: Budget | None = None) -> Transfer:
        """Make the transfer of one save that starts now, in `budget` or in one of its own."""
        if budget is None:
            budget = make_budget(options)
        now = clock.get(REAL)
        retry = Retry(
            attempts=options.attempts,
            deadline=Deadline(options.retry_secs, clock=now.time),
            stall_secs=options.stall_secs,
            sleep=now.sleep,
        )
        return cls(options=options, budget=budget, retry=retry)
