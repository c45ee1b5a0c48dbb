"""The route of a save: to its store, or, while that is down, to the fallback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from ackpt.engine.fallback import OUTAGES, Fallback
from ackpt.engine.request import SaveRequest
from ackpt.engine.retain import Retainer
from ackpt.engine.send import Sender, Sent
from ackpt.engine.store import Store
from ackpt.errors import explain


class Route(Protocol):
    """Send a request, and say what came of it and where."""

    async def send(self, request: SaveRequest, on_progress: Callable[[int], None]) -> Sent:
        """Upload, verify and commit; see `Sender.send` for what is raised."""


class Direct:
    """Send to the run's own store."""

    def __init__(
        self, store: Store, retainer: Retainer, before_state: Callable[[str], Awaitable[None]]
    ) -> None:
        self._store = store
        self._retainer = retainer
        self._sender = Sender(store, before_state)

    async def send(self, request: SaveRequest, on_progress: Callable[[int], None]) -> Sent:
        """Send, within the time that a save may take, and behind a deletion of the same step."""
        await self._retainer.settled(request.prefix)
        try:
            async with self._store.save_time(request.step):
                if not self._retainer.is_loaded:  # it was down when this process took over
                    await self._retainer.load(self._store.reliable())
                if not request.resumed:
                    self._retainer.check_start(request.step)
                return await self._sender.send(
                    request,
                    kept=self._retainer.kept_with,
                    on_progress=on_progress,
                    base=self._retainer.last,
                )
        finally:
            if request.committed is not None:  # also where what comes behind the commit has failed
                self._retainer.add(request.committed, own=not request.resumed)


class WithFallback:
    """Send to the run's own store, and where that is down to the fallback."""

    def __init__(self, direct: Direct, fallback: Fallback) -> None:
        self._direct = direct
        self._fallback = fallback

    async def send(self, request: SaveRequest, on_progress: Callable[[int], None]) -> Sent:
        """Send; where both fail it is the error of the one asked first, with a note on the other."""
        if await self._fallback.is_needed():
            try:
                return await self._fallback.take(request, on_progress)
            except OUTAGES as error:
                error.add_note(
                    f"this was {self._fallback.store.name}, since the run's own store is still down"
                )
                raise
        try:
            return await self._direct.send(request, on_progress)
        except OUTAGES as error:
            self._fallback.note_outage(error)
            request.sent = 0
            try:
                return await self._fallback.take(request, on_progress)
            except OUTAGES as second:
                error.add_note(f"the fallback failed, too: {explain(second)}")
            raise
