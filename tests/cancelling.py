"""Cancellation at every await there is: all tasks of a loop are counted each time they wait."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from ackpt.testing import Fault, Request


class Awaits:
    """Count how often tasks wait that are made inside; call `then` at the one asked for, from 1 on."""

    def __init__(self, at: int) -> None:
        self.then: Callable[[], object] = bool
        self.reached = False
        self._left = at
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Awaits:
        self._loop.set_task_factory(self._make_task)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.set_task_factory(None)
        self._left = -1

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(self._run(coroutine), loop=loop, **options)

    async def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await self._counted(coroutine)

    @types.coroutine
    def _counted(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waited_for = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            self._tick()
            try:
                value, error = (yield waited_for), None
            except BaseException as raised:
                error = raised

    def _tick(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.reached = True
            self.then()


class Waits(Fault):
    """Wait for a turn of the loop before and after the effect, as a request over a socket does."""

    async def before(self, request: Request) -> None:
        await asyncio.sleep(0)

    async def after(self, request: Request) -> None:
        await asyncio.sleep(0)
