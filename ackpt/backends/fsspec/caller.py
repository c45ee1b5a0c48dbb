"""Blocking calls on worker threads: many at a time, or one after another where a filesystem needs that."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

P = ParamSpec("P")
T = TypeVar("T")

_LEAVE_SECS: Final = 30.0
_FREE: Final = frozenset({"file", "local", "memory"})
"""Filesystems that any thread may use at any time, besides those that are asynchronous inside."""


def one_at_a_time(filesystem: AbstractFileSystem) -> bool:
    """Tell whether a filesystem's calls must not overlap.

    One that keeps a single connection mostly reads its answers from whatever thread asks: two of
    them take each other's, and wait for ever (paramiko's SFTPClient; ftplib).
    """
    protocols = filesystem.protocol
    names = [protocols] if isinstance(protocols, str) else protocols
    return not filesystem.async_impl and _FREE.isdisjoint(names)


class Caller:
    """Run blocking calls on workers."""

    def __init__(self) -> None:
        self.stuck = False
        """Whether a call was left behind on the only connection, which it may keep for ever."""
        self._single: ThreadPoolExecutor | None = None

    @property
    def queued(self) -> bool:
        """Tell whether one call runs after another."""
        return self._single is not None

    def queue_up(self) -> None:
        """Run one call after another from now on."""
        if self._single is not None:
            return
        self._single = ThreadPoolExecutor(1, thread_name_prefix="ackpt fsspec")

    async def __call__(self, call: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Run a call; when cancelled, wait for its end: nothing works behind our back.

        But not for ever: a call that does not end is left behind, and those after it get another worker.
        """
        run = partial(contextvars.copy_context().run, call, *arguments, **options)
        work = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(self._single, run))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work], timeout=_LEAVE_SECS)
            if not work.done():
                work.add_done_callback(_settle)
                if self._single is not None:
                    self.close()
                    self.queue_up()
                    self.stuck = True
            elif not work.cancelled():
                work.exception()  # it is the cancellation that counts
            raise

    def close(self) -> None:
        """Let the worker end, after what it is at."""
        single, self._single = self._single, None
        if single is not None:
            single.shutdown(wait=False)


def _settle(work: asyncio.Future[T]) -> None:
    if not work.cancelled():
        work.exception()  # nobody waits for it any more
