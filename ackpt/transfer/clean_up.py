"""Clean-up that runs to its end, also while its caller is being cancelled, but never for long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def clean_up(
    work: Callable[[], Awaitable[None]], *, secs: float, after: BaseException, what: str
) -> None:
    """Await `work()` for at most `secs`, because of `after`, which the caller raises next.

    A clean-up that fails, or is too slow, becomes a note of `after` ("the upload of … was not
    aborted: …"; `what` is the beginning of that sentence), and does not take its place.

    Raises:
        asyncio.CancelledError: the caller was cancelled meanwhile; the clean-up has ended all the same.
    """

    async def bounded() -> None:
        try:
            async with asyncio.timeout(secs):
                await work()
        except TimeoutError:
            after.add_note(f"{what} within {secs:g} s")
        except Exception as error:
            after.add_note(f"{what}: {error!r}")

    task = asyncio.create_task(bounded())
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    await task
    if cancelled is not None:
        raise cancelled
