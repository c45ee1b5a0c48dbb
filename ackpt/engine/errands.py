"""Errands: work that belongs to no save, done behind the saves, whose failure is a warning."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from ackpt.errors import AckptError

_log = logging.getLogger(__name__)

Errand = Coroutine[Any, Any, None]


class Errands:
    """Run the errands of one run, and know which are under way; on one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: asyncio.Task[None] | None = None

    def start(self, errand: Errand, *, what: str) -> asyncio.Task[None]:
        """Start an errand; `what` names it in the warning if it fails."""
        task = asyncio.create_task(_run(errand, what), name=what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: errand.close())  # one that was cancelled before it began
        return task

    def start_in_turn(self, errand: Errand, *, what: str) -> None:
        """Start an errand that is done when those that were started so before it have ended."""
        earlier = self._last

        async def follow() -> None:
            if earlier is not None and not earlier.done():
                await asyncio.wait([earlier])
            await errand

        self._last = self.start(follow(), what=what)
        self._last.add_done_callback(lambda _: errand.close())

    async def settled(self) -> None:
        """Wait until none is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Cancel those that are under way, and wait for them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _run(errand: Errand, what: str) -> None:
    try:
        await errand
    except AckptError as error:
        _log.warning("%s failed: %s", what, error)
    except Exception:
        _log.exception("%s failed", what)
