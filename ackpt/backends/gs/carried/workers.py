"""A bounded pool of worker threads for a library whose calls block, and a body as a file for them."""

from __future__ import annotations

import asyncio
import contextvars
import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import partial
from typing import Final, Generic, TypeVar

from ackpt.backends.base import Body
from ackpt.errors import ClosedError
from ackpt.options import MiB

T = TypeVar("T")

WORKERS: Final = 32
"""Requests that are on their way at one time; what a run may ask for beyond that waits its turn."""

_LEAVE_SECS: Final = 5.0
"""How long a cancelled caller waits for a request that is on its way, before it is left to its timeout."""
_BODY_SECS: Final = 600.0
_PIECE_BYTES: Final = 1 * MiB
"""What is handed over to a worker at a time: a hop for every block would cost too much."""
_PIECES_AHEAD: Final = 2


class Workers:
    """Run blocking calls; the threads are the pool's own, so that bodies find the loop's own ones free."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    async def run(self, call: Callable[[], T]) -> T:
        """Run a call.

        Cancelled, it takes a call that has not begun out of the queue; one that is on its way it
        waits for, but not for long: then the call ends by its own timeout, and nobody is told.

        Raises:
            ClosedError: the pool is closed.
        """
        work = self.start(call)
        try:
            return await work.result()
        except asyncio.CancelledError:
            await work.leave()
            raise

    async def send(self, body: Body, call: Callable[[BodyFile], T]) -> T:
        """Run a call that reads `body` as a file, which is filled from here while it runs.

        A body that fails, or a caller that is cancelled, breaks the file off: the call then ends
        with an error, and what it has sent so far is no object.
        """
        file = BodyFile(asyncio.get_running_loop())
        work = self.start(partial(call, file))
        try:
            await file.fill(body, work)
            return await work.result()
        except BaseException:
            file.break_off()
            await work.leave()
            raise

    def start(self, call: Callable[[], T]) -> Work[T]:
        """Hand a call to a worker, with the caller's context."""
        if self._closed:
            raise ClosedError("the backend is closed")
        if self._pool is None:
            self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="ackpt gs")
        return Work(self._pool.submit(contextvars.copy_context().run, call))

    def close(self) -> None:
        """Take no more calls; threads end with the call they are at."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


class Work(Generic[T]):
    """Be one call in a worker, as its caller sees it."""

    def __init__(self, submitted: Future[T]) -> None:
        self._submitted = submitted
        self._future = asyncio.wrap_future(submitted)
        self._future.add_done_callback(_settle)

    async def result(self) -> T:
        """Wait for the call's end; the call goes on when this is cancelled."""
        return await asyncio.shield(self._future)

    @property
    def ended(self) -> bool:
        """Tell whether the call has ended."""
        return self._future.done()

    def when_ended(self, tell: Callable[[], None]) -> None:
        """Call `tell` on the loop when the call has ended."""
        self._future.add_done_callback(lambda _: tell())

    async def leave(self) -> None:
        """Take the call out of the queue, or wait a little for its end."""
        if not self._submitted.cancel():
            await asyncio.wait({self._future}, timeout=_LEAVE_SECS)


class BodyFile:
    """Be a body as a file: a worker reads it while the loop fills it, a few pieces ahead."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(_PIECES_AHEAD)
        self._held = b""
        self._position = 0
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, fewer only at the end; for the worker.

        Raises:
            BrokenOffError: no more will come.
        """
        found = bytearray()
        while size < 0 or len(found) < size:
            if not self._held and not self._next():
                break
            taken = self._held if size < 0 else self._held[: size - len(found)]
            self._held = self._held[len(taken) :]
            found += taken
        self._position += len(found)
        return bytes(found)

    def tell(self) -> int:
        """Return how many bytes were read; for the worker."""
        return self._position

    async def fill(self, body: Body, work: Work[T]) -> None:
        """Hand over all bytes, unless the call ends before that.

        The last piece waits for the body's end: a body may find out after its last block that its
        file has changed, and as long as bytes are missing there is no object.
        """
        work.when_ended(self._room.release)
        held = bytearray()
        async with aclosing(body.__aiter__()) as blocks:
            async for block in blocks:
                if len(held) >= _PIECE_BYTES:
                    if not await self._give(bytes(held), work):
                        return
                    held.clear()
                held += block
        for piece in (bytes(held), b""):
            if not await self._give(piece, work):
                return

    def break_off(self) -> None:
        """End the file with an error; the worker that reads it is not kept waiting."""
        self._pieces.put(None)

    def _next(self) -> bool:
        """Take the next piece; False at the end."""
        if self._ended:
            return False
        try:
            piece = self._pieces.get(timeout=_BODY_SECS)
        except queue.Empty as error:
            raise BrokenOffError(f"the body gave nothing for {_BODY_SECS:g} s") from error
        if piece is None:
            raise BrokenOffError("the body was broken off")
        with suppress(RuntimeError):  # the loop is closed: then nobody waits there
            self._loop.call_soon_threadsafe(self._room.release)
        self._held, self._ended = piece, not piece
        return bool(piece)

    async def _give(self, piece: bytes, work: Work[T]) -> bool:
        await self._room.acquire()  # limited by the call's end, which makes room
        if not work.ended:
            self._pieces.put(piece)
        return not work.ended


class BrokenOffError(Exception):
    """Tell a worker that its caller has given up."""


def _settle(future: asyncio.Future[T]) -> None:
    if not future.cancelled():
        future.exception()  # told to whoever waits; nobody may be left
