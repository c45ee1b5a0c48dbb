"""The run as an uploader process does it: this process stages, and hands over what it has staged."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from ackpt.checkpoint.fence import Claim
from ackpt.checkpoint.manifest import SUFFIX, Manifest
from ackpt.checkpoint.retention import Retention
from ackpt.engine.agent.call import VERSION
from ackpt.engine.agent.place import connect, pid_of
from ackpt.engine.agent.shared_folder import SharedFolder
from ackpt.engine.agent.start import LOG, start_agent
from ackpt.engine.agent.wire import SILENCE_SECS, Document, Line, LineLostError
from ackpt.engine.agent.words import read_event, write_policy
from ackpt.engine.limits import Limits
from ackpt.engine.listeners import Dispatcher
from ackpt.engine.pipeline import Pipeline
from ackpt.engine.request import SaveRequest
from ackpt.engine.retain import check_start
from ackpt.engine.run import OwnRun
from ackpt.engine.send import Sent
from ackpt.engine.sharing import Quotas
from ackpt.errors import (
    AckptError,
    ClosedError,
    InvalidOptionError,
    StagingLockedError,
    UploaderError,
    explain,
)
from ackpt.events import Event, Staged
from ackpt.url import StorageURL

_log = logging.getLogger(__name__)

RESTARTS = 3
"""How often a process that has died is replaced; after that this one sends by itself."""

_TRIES = 50
_PAUSE_SECS = 0.2
_LEAVE_SECS = 10.0


class RemoteRun:
    """Have a run done by an uploader process; one that dies is replaced, in the end by this process."""

    def __init__(
        self,
        own: OwnRun,
        folder: SharedFolder,
        *,
        target: str | os.PathLike[str],
        name: str,
        retention: Retention,
        fallback: str | os.PathLike[str] | None,
        listeners: Dispatcher,
        let_go: Callable[[str], Awaitable[None]],
        publish: Callable[[Event], None],
        limits: Limits,
    ) -> None:
        """Check what can be checked; `own` is what takes over when there can be no such process.

        Raises:
            InvalidOptionError: a retention policy, or a store, that only this process knows.
        """
        self._own = own
        self._folder = folder
        self._options = {
            "target": _absolute(target),
            "name": name,
            "fallback": None if fallback is None else _absolute(fallback),
        }
        self._policy = write_policy(retention)
        self._listeners = listeners
        self._let_go = let_go
        self._publish = publish
        self._limits = limits
        self._quotas: Quotas | None = None
        self._line: Line | None = None
        self._pid = 0
        self._watch: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._mending = asyncio.Lock()
        self._losses = 0
        self._here = False
        self._pipeline: Pipeline | None = None
        self._claim: Claim | None = None
        self._steps: frozenset[int] = frozenset()
        self._number = 0
        self._handed: dict[int, tuple[SaveRequest, Callable[[int], None]]] = {}

    async def lock(self) -> None:
        """Reach the process at the staging folder, or start one.

        Raises:
            StagingLockedError: it has a trainer, or a saver in another process has the folder.
            StagingError, UploaderError: it cannot be started.
        """
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._folder.lock)
        self._limits.sharing.join_elsewhere(self)
        try:
            self._take(await self._reach())
        except BaseException:
            self._limits.sharing.leave(self)
            raise

    async def open(self, pipeline: Pipeline) -> Claim:
        """Have finished what an earlier process left, and the run claimed.

        Raises:
            BucketNotFoundError, PermissionDeniedError, StorageError: the store cannot be read.
            UploaderError: the process ended.
        """
        answer = await self._running().ask("open")
        self._pipeline = pipeline
        self._claim = Claim.from_document(answer["claim"])
        self._steps = frozenset(answer["steps"])
        return self._claim

    async def send(self, request: SaveRequest, on_progress: Callable[[int], None]) -> Sent:
        """Have it sent, again by another process where one dies."""
        while not self._here:
            line = self._running()
            try:
                return await self._hand_over(line, request, on_progress)
            except LineLostError:
                await self._mend(line)
            request.sent = 0
            if request.staged and request.save is not None:
                state = await asyncio.to_thread(request.save.read)
                request.sealed_uploads = {} if state is None else state.uploads
        return await self._own.send(request, on_progress)

    def begin(self) -> None:
        """Have begun what is done beside the saves."""
        self._tell("begin")

    def committed(self) -> None:
        """Have done what follows a commit."""
        self._tell("committed")

    def check_start(self, step: int) -> None:
        """Raise StepConflictError where a training that begins at `step` was most likely not restored."""
        check_start(step, self._steps)

    def set_retention(self, policy: Retention) -> None:
        """Retain by `policy` from the next commit on; from any thread.

        Raises:
            InvalidOptionError: a policy that only this process knows.
        """
        self._policy = write_policy(policy)
        self._own.set_retention(policy)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(partial(self._tell, "retention", policy=self._policy))

    def hear_quotas(self, quotas: Quotas) -> None:
        """Have the process keep to this share of the limits from now on; from any thread."""
        self._quotas = quotas
        if self._loop is not None:
            with suppress(RuntimeError):  # what a closed loop says
                self._loop.call_soon_threadsafe(partial(self._tell, "limits", **quotas))

    def hear_event(self, event: Event) -> None:
        """Take note of an event of this process's own; a subscriber."""
        if isinstance(event, Staged):
            for number, (request, _) in self._handed.items():
                if request.step == event.step:
                    self._tell("staged", save=number)

    async def upload_file(self, path: Path, key: str) -> None:
        """Have a file put under `key`.

        Raises:
            StorageError, LocalFileError: it could not be sent.
        """
        if await self._ask("upload", path=str(await asyncio.to_thread(path.absolute)), key=key) is None:
            await self._own.upload_file(path, key)

    async def settled(self) -> None:
        """Wait until nothing is being done beside the saves."""
        if await self._ask("settled") is None:
            await self._own.settled()

    async def aclose(self) -> None:
        """Say goodbye; where nothing lies staged any more the process ends now, and else when it is sent."""
        line, self._line = self._line, None
        self._limits.sharing.leave(self)
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        if line is not None and not self._here:
            line.tell("bye")
            line.hang_up()
            if not await asyncio.to_thread(self._folder.left):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LEAVE_SECS):
                        await line.gone()
            await line.aclose()
        await self._own.aclose()

    async def _hand_over(self, line: Line, request: SaveRequest, on_progress: Callable[[int], None]) -> Sent:
        assert request.save is not None, "sending begins when staging has begun"
        self._number += 1
        number = self._number
        self._handed[number] = (request, on_progress)
        line.tell(
            "save",
            save=number,
            prefix=request.prefix,
            folder=request.save.folder.name,
            metrics=dict(request.metrics),
            claim=request.claim.to_document(),
            resumed=request.resumed,
            uploads=dict(request.sealed_uploads),
        )
        if request.staged:
            line.tell("staged", save=number)
        feeding = asyncio.create_task(_feed(line, number, request), name=f"hand over {request.prefix}")
        try:
            answer = await line.ask("send", save=number)
        finally:
            del self._handed[number]
            feeding.cancel()
            await asyncio.wait([feeding])
        return Sent(
            manifest=_manifest(request, answer),
            target=str(answer["target"]),
            already=bool(answer["already"]),
            upload_secs=float(answer["upload_secs"]),
            copied=int(answer["copied"]),
        )

    async def _reach(self) -> Line:
        """Open the line as the trainer, to a process that is there or one that is started."""
        last: AckptError | None = None
        for _ in range(_TRIES):
            if last is not None:
                await asyncio.sleep(_PAUSE_SECS)
            connection = await asyncio.to_thread(connect, self._folder.folder)
            if connection is None:
                try:
                    await asyncio.to_thread(start_agent, self._folder.folder)
                except StagingLockedError as error:  # of one that is just leaving, perhaps
                    last = error
                continue
            self._pid = pid_of(connection)
            line = await Line.open(connection, answer=self._answer, hear=self._hear)
            line.listen_for_life(SILENCE_SECS)
            try:
                options = {
                    **self._options,
                    "retention": self._policy,
                    "holds_state": self._listeners.holds_state,
                    "limits": self._quotas,
                }
                await line.ask("attach", version=VERSION, **options)
            except BaseException as error:
                await line.aclose()
                if not isinstance(error, UploaderError):
                    raise
                last = error
            else:
                return line
        assert last is not None
        raise last

    def _take(self, line: Line) -> None:
        self._line = line
        if self._quotas is not None:  # they may have changed since it was asked to attach
            line.tell("limits", **self._quotas)
        self._watch = asyncio.create_task(self._watch_over(line), name="uploader process")

    async def _watch_over(self, line: Line) -> None:
        await line.gone()
        if self._claim is not None:
            try:
                await self._mend(line)
            except AckptError as error:
                _log.warning("no uploader process: %s; the next save tries again", explain(error))

    async def _mend(self, lost: Line) -> None:
        """Replace the process behind `lost`, or give up on having one.

        Raises:
            StagingLockedError: somebody else has taken the staging folder.
        """
        async with self._mending:
            if self._line is not lost or self._claim is None or self._pipeline is None:
                return
            self._losses += 1
            if lost.silent and self._pid:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(self._pid, signal.SIGKILL)
            _log.warning(
                "the uploader process of %s has gone (see %s); what is staged is safe, and %s",
                self._folder.target,
                self._folder.folder / LOG,
                "another one is started" if self._losses <= RESTARTS else "this process sends from now on",
            )
            await lost.aclose()
            if self._losses <= RESTARTS:
                try:
                    line = await self._reach()
                    await line.ask("go_on", claim=self._claim.to_document())
                except UploaderError as error:
                    _log.warning("%s; this process sends from now on", explain(error))
                else:
                    self._take(line)
                    return
            await self._own.lock()
            await self._own.go_on(self._pipeline, self._claim)
            self._folder.alone = self._here = True
            self._limits.sharing.leave(self)

    async def _ask(self, name: str, /, **fields: object) -> Document | None:
        """Ask, whichever process it is at the end; None: it is this one."""
        while not self._here:
            line = self._running()
            try:
                return await line.ask(name, **fields)
            except LineLostError:
                await self._mend(line)
        return None

    def _tell(self, name: str, /, **fields: object) -> None:
        if self._here:
            if name == "begin":
                self._own.begin()
            elif name == "committed":
                self._own.committed()
        elif self._line is not None:
            self._line.tell(name, **fields)

    def _running(self) -> Line:
        if self._line is None:
            raise ClosedError("the uploader process was let go of")
        return self._line

    async def _answer(self, name: str, document: Document) -> Document:
        if name != "let_go":
            raise UploaderError(f"a trainer knows no {name!r}")
        await self._let_go(str(document["prefix"]))
        return {}

    def _hear(self, name: str, document: Document) -> None:
        match name:
            case "progressed" if (handed := self._handed.get(document["save"])) is not None:
                handed[0].connections = int(document["connections"])
                handed[1](int(document["size"]))
            case "committed" if (handed := self._handed.get(document["save"])) is not None:
                handed[0].committed = _manifest(handed[0], document)
            case "event":
                self._publish(read_event(document))
            case "log":
                _log.log(int(document["level"]), "uploader process: %s", document["message"])


async def _feed(line: Line, number: int, request: SaveRequest) -> None:
    """Tell of each file as soon as it is staged."""
    async for file in request.files:
        line.tell("file", save=number, key=file.key, size=file.size)
    line.tell("ended", save=number)


def _manifest(request: SaveRequest, document: Document) -> Manifest:
    key = request.prefix + SUFFIX
    return Manifest.from_json(str(document["manifest"]).encode(), key=key)


def _absolute(target: str | os.PathLike[str]) -> str:
    """Write a target with its options, so that it means the same in any process's folder."""
    text = os.fspath(target)
    if StorageURL.parse(text).scheme == "memory":
        raise InvalidOptionError(
            "uploader: expected 'thread' for a memory:// URL, which is of one process alone, got 'process'"
        )
    return text if "://" in text else str(StorageURL.parse(text))
