"""Cancellation at every await there is: all tasks of a loop are counted each time they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

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
        return asyncio.Task(_Counted(coroutine, self._tick), loop=loop, **options)

    def _tick(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.reached = True
            self.then()


class _Counted(Coroutine[Any, Any, Any]):
    """Be another coroutine, and say each time it waits."""

    def __init__(self, inner: Coroutine[Any, Any, Any], tick: Callable[[], None]) -> None:
        self._inner = inner
        self._tick = tick

    def send(self, value: Any) -> Any:
        waited_for = self._inner.send(value)
        self._tick()
        return waited_for

    def throw(self, *error: Any) -> Any:
        waited_for = self._inner.throw(*error)
        self._tick()
        return waited_for

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()


@contextmanager
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Do what is for a worker at once, on the loop's own thread: the order is the same in every run."""
    loop = asyncio.get_running_loop()

    def run(executor: object, call: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = loop.create_future()
        try:
            loop.call_soon(_settle, future, future.set_result, call(*args))
        except BaseException as error:
            loop.call_soon(_settle, future, future.set_exception, error)
        return future

    with monkeypatch.context() as patch:
        patch.setattr(loop, "run_in_executor", run)
        yield


def _settle(future: asyncio.Future[Any], settle: Callable[[Any], None], value: object) -> None:
    if not future.done():
        settle(value)


class Waits(Fault):
    """Wait for a turn of the loop before and after the effect, as a request over a socket does."""

    async def before(self, request: Request) -> None:
        await asyncio.sleep(0)

    async def after(self, request: Request) -> None:
        await asyncio.sleep(0)
