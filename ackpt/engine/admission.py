"""Admission: a new request meets the overlap policy, and starts, waits its turn, or is skipped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ackpt.engine.overlap import Overlap, Refuse, Start, admit
from ackpt.engine.pipeline import Pipeline
from ackpt.engine.request import SaveRequest
from ackpt.events import Event, Skipped


class Admission:
    """Let requests into a pipeline; on one event loop. `moved` has to be called at every event."""

    def __init__(self, overlap: Overlap, *, target: str, publish: Callable[[Event], None]) -> None:
        self._overlap = overlap
        self._target = target
        self._publish = publish
        self._moved = asyncio.Event()

    def moved(self) -> None:
        """Take note that a save has moved on, or that there will be no more."""
        self._moved.set()

    async def next_move(self) -> None:
        """Wait for the next call of `moved`."""
        self._moved.clear()
        await self._moved.wait()

    async def take(self, request: SaveRequest, pipeline: Callable[[], Pipeline]) -> None:
        """Start `request`, perhaps in favour of others, or end it as skipped; waits where the policy blocks.

        Raises:
            ClosedError: `pipeline` says that it was closed, perhaps while this waited.
        """
        while True:
            running = pipeline()
            pending = running.pending
            match admit(self._overlap, [each.phase for each in pending]):
                case Start(superseded):
                    running.start(request)
                    for index in superseded:
                        running.supersede(pending[index], request.step)
                    return
                case Refuse(busy):
                    outcome = Skipped(step=request.step, target=self._target, busy_step=pending[busy].step)
                    self._publish(outcome)
                    request.outcome.set_result(outcome)
                    await request.release()
                    return
            await self.next_move()
