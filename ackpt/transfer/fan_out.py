"""Fan-out: several calls or tasks at once, with one plain error out of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


async def fan_out(calls: Iterable[Callable[[], Awaitable[T]]], *, limit: int) -> list[T]:
    """Run all `calls`, at most `limit` at a time, and return their results in order.

    `calls` is consumed as places become free, so it may be long. At the first error the others are
    cancelled and awaited, and that error is raised as it is, not in a group.
    """
    slots = asyncio.Semaphore(limit)
    tasks: list[asyncio.Task[T]] = []

    async def run(call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        finally:
            slots.release()

    async with task_group() as group:
        for call in calls:
            await slots.acquire()
            tasks.append(group.create_task(run(call)))
    return [task.result() for task in tasks]


@asynccontextmanager
async def task_group() -> AsyncGenerator[asyncio.TaskGroup, None]:
    """Be an `asyncio.TaskGroup` that raises the first error as it is, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from error.__cause__  # its own cause, in place of the group
