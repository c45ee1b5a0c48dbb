"""The uploader process: it holds the staging folder, serves a trainer, and finishes what one leaves."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ackpt.checkpoint.staging import StagingFolder
from ackpt.engine.agent.call import VERSION
from ackpt.engine.agent.desk import Desk
from ackpt.engine.agent.place import NAME, is_own, listen
from ackpt.engine.agent.wire import LIMIT_BYTES, Document, Line
from ackpt.engine.limits import Limits
from ackpt.engine.log import log_event
from ackpt.engine.restore import finish_in
from ackpt.engine.store import Store
from ackpt.errors import AckptError, StagingError, StagingLockedError, UploaderError

_log = logging.getLogger(__name__)

NICENESS = 5
"""The trainer's threads come first where both want a core."""

_SIGN_SECS = 5.0
_NOTICE_SECS = 1.0


class Agent:
    """Serve one trainer at a time at the staging folder `folder`; on one event loop.

    It leaves when its trainer has said goodbye or been gone for `grace_secs`, and what was staged
    has been finished, or tried to. One that is to `stay` leaves only when it is told to, by SIGTERM; with
    a trainer it then leaves with it, and what is not sent stays staged.
    """

    def __init__(
        self, folder: Path, *, target: str | None = None, grace_secs: float = 10.0, stay: bool = False
    ) -> None:
        """Name the folder; `target` is the URL of its run, for what lies there before a trainer comes."""
        self._staging = StagingFolder(folder)
        self._target = target
        self._limits = Limits()
        self._grace_secs = grace_secs
        self._stay = stay
        self._alone = asyncio.Event()
        self._alone.set()
        self._turn = asyncio.Lock()
        self._moved = asyncio.Event()
        self._over = False
        self._told = False
        self._serving: set[asyncio.Task[None]] = set()
        self._callers: set[_Caller] = set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until it is over; `ready` is called when a trainer may come.

        Raises:
            StagingLockedError: a saver, or another such process, works on this run.
            StagingError: the staging folder cannot be used.
        """
        await asyncio.to_thread(self._staging.lock)
        try:
            try:
                listening = await asyncio.to_thread(listen, self._staging.folder)
            except OSError as error:
                raise StagingError(
                    f"an uploader process cannot listen in the staging folder {self._staging.folder} "
                    f"({error.strerror}); expected a local file system: set staging_dir"
                ) from error
            # not `start_unix_server`, which would clean up behind the socket by the path it was bound to
            server = await asyncio.start_server(self._serve, sock=listening, limit=LIMIT_BYTES)
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self._end)
            os.nice(NICENESS)
            ready()
            if self._target is not None:
                async with self._turn:
                    await self.finish()
            await self._wait()
            server.close()
            (self._staging.folder / NAME).unlink(missing_ok=True)
            for task in self._serving:
                task.cancel()
            if self._serving:
                await asyncio.wait(self._serving)
        finally:
            self._staging.unlock()
        for caller in list(self._callers):
            await caller.aclose()

    def _end(self) -> None:
        """Leave at the signal, or with the trainer: one that has little time left needs it more than ever."""
        self._told, self._stay = True, False
        if self._alone.is_set():
            self._leave()

    def _leave(self) -> None:
        self._over = True
        self._moved.set()

    async def _wait(self) -> None:
        while not self._over:
            self._moved.clear()
            try:
                async with asyncio.timeout(None if self._stay else self._grace_secs):
                    await self._moved.wait()
            except TimeoutError:
                if self._alone.is_set() and not self._turn.locked():
                    return

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_own(writer.get_extra_info("socket")):
            writer.close()
            return
        caller = _Caller(self, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._callers.add(caller)
        self._serving.add(task)
        try:
            await caller.served()
        finally:
            self._serving.discard(task)
            if not self._over:  # or the other side would find the folder still locked
                await caller.aclose()
                self._callers.discard(caller)

    async def attach(self, caller: _Caller, document: Document) -> Desk:
        """Take `caller` for the trainer, once what an earlier one left is finished, or tried to be.

        Raises:
            StagingLockedError: there is a trainer.
            UploaderError: it is of another version.
            InvalidURLError, InvalidOptionError, MissingDependencyError: its options are of no use here.
        """
        if document["version"] != VERSION:
            raise UploaderError(
                f"the uploader process of {self._staging.folder} speaks version {VERSION}, this trainer "
                f"{document['version']}: stop it (SIGTERM), and let the trainer start its own"
            )
        free = await self._is_alone()
        if self._over:
            raise UploaderError(f"the uploader process of {self._staging.folder} is leaving")
        if not free:
            raise StagingLockedError(
                f"another saver is using the staging folder {self._staging.folder}; a run takes one saver at "
                "a time: close the other one, or give this one a target of its own"
            )
        desk = Desk(self._staging, lambda: caller.line, document, self._limits)
        self._alone.clear()
        self._target = desk.target
        try:
            async with self._turn:
                return desk
        except BaseException:
            self._alone.set()
            raise

    async def lose(self, desk: Desk, *, goodbye: bool) -> None:
        """Finish what the trainer at `desk` has left behind."""
        async with self._turn:
            try:
                await desk.aclose()
            finally:  # whatever it met, of a backend perhaps: the run is free for the next trainer
                self._alone.set()
            if not self._told and not self._over:
                await self.finish()
        if self._told or (goodbye and not self._stay):
            self._over = True
        self._moved.set()

    async def answer(self, name: str) -> Document:
        """Answer somebody who is not the trainer: `finish` what is staged, or `leave`.

        Raises:
            StagingLockedError: it is to leave, and there is a trainer, or is to stay.
        """
        if not await self._is_alone() or (name == "leave" and self._stay):
            if name == "finish":
                return {"busy": True}
            raise StagingLockedError(f"the staging folder {self._staging.folder} is in use")
        async with self._turn:
            await self.finish()
        if name == "leave":
            self._leave()
        return {}

    async def _is_alone(self) -> bool:
        """Tell whether there is no trainer, now or in a moment: the end of a killed one is on its way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_NOTICE_SECS):
                await self._alone.wait()
        return self._alone.is_set()

    async def finish(self) -> None:
        """Commit what lies staged; what fails stays there, for a trainer's start."""
        target = self._target or self._staging.target
        if target is None:
            return
        try:
            store = Store(target, self._limits)
            try:
                await finish_in(store, self._staging, log_event)
            finally:
                await store.aclose()
        except AckptError as error:
            _log.warning("what is staged in %s cannot be finished now: %s", self._staging.folder, error)


class _Caller:
    """Be one connection: of the trainer, or of somebody with a question."""

    def __init__(self, agent: Agent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._agent = agent
        self._desk: Desk | None = None
        self._goodbye = False
        self._news: _News | None = None
        self.line = Line(reader, writer, answer=self._answer, hear=self._hear)

    async def served(self) -> None:
        """Serve until the line is cut; then see to what is left."""
        signs = asyncio.create_task(self._give_signs(), name="signs of life")
        try:
            await self.line.gone()
        finally:
            signs.cancel()
            await asyncio.wait([signs])
            await self.leave()

    async def leave(self) -> None:
        """Close the desk, if there is one; idempotent."""
        desk, self._desk = self._desk, None
        await self.line.drop()
        if self._news is not None:
            logging.getLogger("ackpt").removeHandler(self._news)
        if desk is not None:
            await self._agent.lose(desk, goodbye=self._goodbye)

    async def aclose(self) -> None:
        """Hang up."""
        await self.line.aclose()

    async def _answer(self, name: str, document: Document) -> Document:
        if name == "attach":
            self._desk = await self._agent.attach(self, document)
            self._news = _News(self.line)
            logging.getLogger("ackpt").addHandler(self._news)
            return {}
        if self._desk is None:
            return await self._agent.answer(name)
        return await self._desk.answer(name, document)

    def _hear(self, name: str, document: Document) -> None:
        if name == "bye":
            self._goodbye = True
        elif self._desk is not None:
            self._desk.hear(name, document)

    async def _give_signs(self) -> None:
        while True:
            self.line.tell("alive")
            await asyncio.sleep(_SIGN_SECS)


class _News(logging.Handler):
    """Pass on to the trainer's log what its user should know."""

    def __init__(self, line: Line) -> None:
        super().__init__(logging.WARNING)
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line.tell("log", level=record.levelno, message=record.getMessage())
