"""The line between a trainer and its uploader process: JSON documents over a socket, one a line.

Both sides ask and both answer; a `tell` wants no answer.

    {"ask": name, "id": n, …}   {"id": n, "answer": {…}}   {"id": n, "error": {…}}
    {"tell": name, …}           {"cancel": n}
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from socket import socket
from typing import Any

from ackpt.engine.agent.words import read_error, write_error
from ackpt.errors import UploaderError
from ackpt.options import MiB

_log = logging.getLogger(__name__)

Document = dict[str, Any]
Answer = Callable[[str, Document], Awaitable[Document]]
Hear = Callable[[str, Document], None]

LIMIT_BYTES = 256 * MiB
"""The longest line: the manifest of a checkpoint of a million objects."""

SILENCE_SECS = 30.0
"""A side that says nothing, twice in a row for so long, is taken for lost; see `listen_for_life`."""

_CANCEL_SECS = 10.0
_FLUSH_SECS = 5.0


class LineLostError(UploaderError):
    """Report that the other side has gone; on this side of the line alone."""


class Line:
    """Be one end of a line, from `open` to `aclose`; on one event loop."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answer: Answer, hear: Hear
    ) -> None:
        """Answer what is asked by `answer`, and pass on to `hear` what is told, in order."""
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._hear = hear
        self._asked: dict[int, asyncio.Future[Document]] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._number = 0
        self._lost = False
        self.silent = False
        self._silence_secs: float | None = None
        self._reading = asyncio.create_task(self._read(), name="ackpt line")

    @classmethod
    async def open(cls, connection: socket, *, answer: Answer, hear: Hear) -> Line:
        """Open the line over a connected socket, of which a fork of this process has no copy."""
        os.register_at_fork(after_in_child=partial(_close, weakref.ref(connection)))
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=LIMIT_BYTES)
        return cls(reader, writer, answer=answer, hear=hear)

    @property
    def lost(self) -> bool:
        """Tell whether the other side has gone."""
        return self._lost

    def tell(self, name: str, /, **fields: object) -> None:
        """Tell the other side, if it is still there."""
        self._write({"tell": name, **fields})

    async def ask(self, name: str, /, **fields: object) -> Document:
        """Ask the other side, and return its answer.

        Cancelled, it cancels the work over there, and waits for its end, within limits.

        Raises:
            LineLostError: the other side has gone, or goes.
            AckptError: what the other side raised.
        """
        if self._lost:
            raise LineLostError("the uploader process has gone")
        self._number += 1
        number = self._number
        future: asyncio.Future[Document] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        self._write({"ask": name, "id": number, **fields})
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._write({"cancel": number})
            await asyncio.wait([future], timeout=_CANCEL_SECS)
            raise
        finally:
            del self._asked[number]
            if future.done() and not future.cancelled():
                future.exception()  # seen, whoever waits for it

    def listen_for_life(self, secs: float = SILENCE_SECS) -> None:
        """Take the other side for lost when it is silent for long; it has to tell something now and then."""
        self._silence_secs = secs

    async def gone(self) -> None:
        """Wait until the other side has gone, and what it had asked has ended."""
        await asyncio.wait([self._reading])

    async def aclose(self) -> None:
        """Send what is left to send, and hang up; idempotent."""
        self._lost = True
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_FLUSH_SECS):
                await self._writer.drain()
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._writer.close()

    async def drop(self) -> None:
        """Answer no more: cancel what is being done for the other side, and wait for its end."""
        self._lost = True
        tasks = list(self._answering.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def hang_up(self) -> None:
        """Say that nothing more comes, and go on listening."""
        self._lost = True
        if self._writer.can_write_eof() and not self._writer.is_closing():
            self._writer.write_eof()

    def _write(self, document: Document) -> None:
        if not self._lost:
            self._writer.write(json.dumps(document).encode() + b"\n")

    async def _read(self) -> None:
        try:
            while line := await self._next():
                self._take(json.loads(line))
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.debug("the line is cut: %s", error)
        finally:
            self._lost = True
            for future in self._asked.values():
                if not future.done():
                    future.set_exception(LineLostError("the uploader process has gone"))
            await self.drop()

    async def _next(self) -> bytes:
        for _ in range(2):  # the first time it may be this process that was held up
            try:
                async with asyncio.timeout(self._silence_secs):
                    return await self._reader.readline()
            except TimeoutError:
                continue
        self.silent = True
        raise TimeoutError(f"no sign of life for {2 * (self._silence_secs or 0):g} s")

    def _take(self, document: Document) -> None:
        if "ask" in document:
            number = int(document["id"])
            task = asyncio.create_task(self._give(number, str(document["ask"]), document))
            self._answering[number] = task
            task.add_done_callback(partial(self._answered, number))
        elif "tell" in document:
            self._hear(str(document["tell"]), document)
        elif "cancel" in document:
            if (asked := self._answering.get(int(document["cancel"]))) is not None:
                asked.cancel()
        elif (future := self._asked.get(int(document["id"]))) is not None and not future.done():
            if "error" in document:
                future.set_exception(read_error(document["error"]))
            else:
                future.set_result(document["answer"])

    async def _give(self, number: int, name: str, document: Document) -> None:
        try:
            self._write({"id": number, "answer": await self._answer(name, document)})
        except Exception as error:
            self._write({"id": number, "error": write_error(error)})

    def _answered(self, number: int, task: asyncio.Task[None]) -> None:
        del self._answering[number]
        if task.cancelled():
            self._write({"id": number, "error": write_error(UploaderError("it was cancelled"))})


def _close(connection: weakref.ref[socket]) -> None:
    alive = connection()
    if alive is not None:
        alive.close()
