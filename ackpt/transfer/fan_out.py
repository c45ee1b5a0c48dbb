"""The one fan-out primitive: many calls at once, bounded, with one plain error out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
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

    try:
        async with asyncio.TaskGroup() as group:
            for call in calls:
                await slots.acquire()
                tasks.append(group.create_task(run(call)))
    except BaseExceptionGroup as errors:
        error = first_error(errors)
        raise error from error.__cause__  # its own cause, in place of the group
    return [task.result() for task in tasks]


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first single exception of a group, however deep it lies."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
