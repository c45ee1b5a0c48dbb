"""Coroutine listeners: told of every event that concerns them, in order, isolated from each other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from ackpt.errors import ListenerError
from ackpt.events import Committed, Deleted, Event, Failed, ListenerFailed, Staged

_log = logging.getLogger(__name__)

_CLOSE_SECS = 5.0


class CheckpointListener:
    """Be told, on the event loop, what becomes of saves; override what you need.

    A listener gets its events one after another. It must not block the loop: blocking work goes
    through `asyncio.to_thread`. What it raises, and taking longer than `timeout_secs` (None: no
    limit), is logged and published as `ListenerFailed`; saves and other listeners go on.
    """

    timeout_secs: float | None = 60.0
    holds_state: bool = False
    """While it is told of a commit no newer checkpoint shows in the state file; saves wait for it there."""

    async def on_staged(self, event: Staged) -> None:
        """Take note that a checkpoint lies in the staging folder."""

    async def on_committed(self, event: Committed) -> None:
        """Take note that a checkpoint is durable and visible."""

    async def on_failed(self, event: Failed) -> None:
        """Take note that a save failed."""

    async def on_deleted(self, event: Deleted) -> None:
        """Take note that retention removed a checkpoint."""


class Dispatcher:
    """Deliver events to listeners, each through a queue and a task of its own; on one event loop."""

    def __init__(
        self, listeners: Sequence[CheckpointListener], publish: Callable[[ListenerFailed], None]
    ) -> None:
        self._listeners = listeners
        self._publish = publish
        self._queues: list[asyncio.Queue[Event]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deliver; within the running loop."""
        for listener in self._listeners:
            queue: asyncio.Queue[Event] = asyncio.Queue()
            self._queues.append(queue)
            name = f"listener {type(listener).__qualname__}"
            self._tasks.append(asyncio.create_task(self._deliver(listener, queue), name=name))

    def send(self, event: Event) -> None:
        """Queue `event` for every listener."""
        for queue in self._queues:
            queue.put_nowait(event)

    @property
    def holds_state(self) -> bool:
        """Tell whether there is a listener that holds the state file."""
        return any(each.holds_state for each in self._listeners)

    async def let_go(self) -> None:
        """Wait until every listener that holds the state has been told everything sent so far."""
        for listener, queue in zip(self._listeners, self._queues, strict=False):
            if listener.holds_state:
                await queue.join()

    async def drain(self) -> None:
        """Wait until every listener has been told everything sent so far."""
        for queue in self._queues:
            await queue.join()

    async def aclose(self) -> None:
        """Stop delivering; a listener in the middle of an event is cancelled. Idempotent."""
        tasks, self._tasks = self._tasks, []
        self._queues.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_CLOSE_SECS)
            for task in late:
                _log.warning("%s does not end although it was cancelled; it is left alone", task.get_name())

    async def _deliver(self, listener: CheckpointListener, queue: asyncio.Queue[Event]) -> None:
        while True:
            event = await queue.get()
            try:
                call = _method(listener, event)
                if call is not None:
                    await self._tell(listener, event, call)
            finally:
                queue.task_done()

    async def _tell(
        self, listener: CheckpointListener, event: Event, call: Callable[[], Awaitable[None]]
    ) -> None:
        name = type(listener).__qualname__
        try:
            async with asyncio.timeout(listener.timeout_secs) as limit:
                await call()
        except BaseException as error:  # an exit that a listener asks for would end the loop, and all saves
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                raise
            what = type(event).__name__.lower()
            late = isinstance(error, TimeoutError) and limit.expired()
            reason = f"took longer than {listener.timeout_secs:g} s" if late else f"raised {error!r}"
            if isinstance(error, TypeError) and "await" in str(error):
                reason += " (is it an `async def`?)"
            failed = ListenerError(f"listener {name} {reason} at step {event.step} ({what})", step=event.step)
            failed.__cause__ = error
            _log.warning("%s; the save is not touched by it", failed, exc_info=None if late else error)
            self._publish(ListenerFailed(step=event.step, target=event.target, listener=name, error=failed))


def _is_being_cancelled() -> bool:
    """Tell a cancellation of ours from one that a listener raises: it awaited what somebody cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _method(listener: CheckpointListener, event: Event) -> Callable[[], Awaitable[None]] | None:
    match event:
        case Staged():
            return lambda: listener.on_staged(event)
        case Committed():
            return lambda: listener.on_committed(event)
        case Failed():
            return lambda: listener.on_failed(event)
        case Deleted():
            return lambda: listener.on_deleted(event)
    return None
