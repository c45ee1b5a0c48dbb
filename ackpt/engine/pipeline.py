"""The pipeline: one save is staged at a time and one is sent at a time, each in order of the requests.

A save is sent while its last files are still being staged; the next one may be staged while it
travels, so that pinned memory is let go of early.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial

from ackpt.backends.base import MultipartBackend
from ackpt.checkpoint.intent import read_seal
from ackpt.checkpoint.journal import JournalState
from ackpt.checkpoint.manifest import split_prefix
from ackpt.checkpoint.staging import StagingFolder
from ackpt.engine.overlap import Overlap, Phase, outdated
from ackpt.engine.preemption import Pace
from ackpt.engine.request import SaveRequest
from ackpt.engine.route import Route
from ackpt.engine.send import Sent
from ackpt.engine.stage import stage
from ackpt.engine.store import Store
from ackpt.errors import (
    AckptError,
    ClosedError,
    DamagedFileError,
    FencedError,
    StepConflictError,
    UnsupportedError,
)
from ackpt.events import Committed, Event, Failed, Outcome, Parked, Progressed, Staged, Superseded
from ackpt.transfer.fan_out import task_group

_log = logging.getLogger(__name__)

HOPELESS = (StepConflictError, DamagedFileError, FencedError, UnsupportedError)
"""What no later try would mend: the staged files are not kept for one."""

ABORT_SECS = 30.0


class Pipeline:
    """Take admitted requests to their outcomes; on one event loop.

    `pending` holds the requests without an outcome, oldest first. `publish` is called with every
    event, the outcome last.
    """

    def __init__(
        self,
        store: Store,
        staging: StagingFolder,
        route: Route,
        *,
        overlap: Overlap,
        publish: Callable[[Event], None],
    ) -> None:
        self._store = store
        self._staging = staging
        self._route = route
        self._overlap = overlap
        self._publish = publish
        self._abort_secs = ABORT_SECS
        self._staging_turn = asyncio.Lock()
        self._sending_turn = asyncio.Lock()
        self._work: dict[SaveRequest, asyncio.Task[Sent]] = {}
        self._tasks: dict[SaveRequest, asyncio.Task[None]] = {}

    @property
    def pending(self) -> list[SaveRequest]:
        """Return the requests that have no outcome yet, oldest first."""
        return list(self._tasks)

    def start(self, request: SaveRequest) -> None:
        """Begin to work on `request`; its `outcome` is set when it has ended."""
        staging = any(each.phase in (Phase.WAITING, Phase.STAGING) for each in self._tasks)
        if request.phase is Phase.WAITING and not staging:
            request.phase = Phase.STAGING  # its turn is now, not when its task first runs
        work = asyncio.create_task(self._save(request), name=f"save {request.prefix}")
        self._work[request] = work
        self._tasks[request] = asyncio.create_task(self._run(request, work))

    async def concluded_before(self, prefix: str) -> None:
        """Wait until every request that was started before that of `prefix` has its outcome, published."""
        earlier = []
        for each, task in self._tasks.items():
            if each.prefix == prefix:
                break
            earlier.append(task)
        if earlier:
            await asyncio.wait(earlier)

    def supersede(self, request: SaveRequest, by_step: int) -> None:
        """End a request of which nothing has been sent, in favour of a newer one."""
        if request.superseded_by is None:
            request.superseded_by = by_step
            self._work[request].cancel()

    async def drain(self, timeout: float | None) -> bool:
        """Wait until no request is pending, at most `timeout` seconds; tell whether that is so."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout)
        return not self._tasks

    def may_end_within(self, secs: float, pace: Pace) -> bool:
        """Tell whether all that is pending, and staged, can be sent within `secs` at this pace."""
        return pace.may_end_within(secs, size=sum(each.size - each.sent for each in self._tasks))

    async def cut_short(self, *, abort_secs: float = ABORT_SECS) -> None:
        """End every pending request now: parked where it is staged, failed where it is not.

        What no resume needs is aborted within `abort_secs`, or left for a sweep.
        """
        self._abort_secs = abort_secs
        for work in self._work.values():
            work.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def _run(self, request: SaveRequest, work: asyncio.Task[Sent]) -> None:
        """Wait for the work's end, and conclude; apart from it, since work may be cancelled unbegun."""
        await asyncio.wait([work])
        if work.cancelled():
            outcome = self._interrupted(request)
        elif (error := work.exception()) is None:
            outcome = self._committed(request, work.result())
        elif isinstance(error, Exception):
            outcome = self._failed(request, error)
        else:  # not an error but the end of the process (or its simulation): nothing is tidied behind it
            self._forget(request)
            request.outcome.set_exception(error)
            return
        await self._conclude(request, outcome)

    async def _save(self, request: SaveRequest) -> Sent:
        async with task_group() as group:
            group.create_task(self._stage(request))
            sending = group.create_task(self._send(request))
        sent = sending.result()
        if isinstance(sent, Exception):
            raise sent
        return sent

    async def _stage(self, request: SaveRequest) -> None:
        if not request.staged:
            async with self._staging_turn:
                if request.phase is Phase.WAITING:
                    request.phase = Phase.STAGING
                await stage(request, self._staging)
                if request.phase is Phase.STAGING:
                    request.phase = Phase.STAGED
        self._publish(
            Staged(
                step=request.step, target=self._store.name, size=request.size, stage_secs=request.stage_secs
            )
        )
        older = self.pending[: self.pending.index(request)]
        for index in outdated(self._overlap, [each.phase for each in older]):
            self.supersede(older[index], request.step)

    async def _send(self, request: SaveRequest) -> Sent | Exception:
        """Send, and return an error rather than raise it: staging goes on, so that it can be resumed."""
        await request.begun.wait()
        async with self._sending_turn:
            request.phase = Phase.SENDING
            request.sent = 0
            try:
                return await self._route.send(request, partial(self._progressed, request))
            except Exception as error:
                return error

    def _progressed(self, request: SaveRequest, size: int) -> None:
        request.sent += size
        self._publish(
            Progressed(
                step=request.step,
                target=self._store.name,
                sent=request.sent,
                size=request.size,
                connections=request.connections or self._store.connections,
            )
        )

    async def _conclude(self, request: SaveRequest, outcome: Outcome) -> None:
        """Clean up behind `request` and set its outcome, whatever the clean-up meets."""
        try:
            await request.release()
            await request.close_journal()
            await self._tidy(request, outcome)
        except Exception as error:
            _log.warning("cleaning up after step %d failed: %s", request.step, error)
        finally:
            self._forget(request)
            self._publish(outcome)
            if not request.outcome.done():
                request.outcome.set_result(outcome)

    def _forget(self, request: SaveRequest) -> None:
        del self._tasks[request]
        del self._work[request]

    async def _tidy(self, request: SaveRequest, outcome: Outcome) -> None:
        """Keep what can be resumed, and of that only the newest; remove the rest."""
        kept = isinstance(outcome, Parked) or (isinstance(outcome, Failed) and outcome.staged)
        if request.save is not None and not kept:
            if not isinstance(outcome, Committed):
                await self.abort(request.uploads)
            await asyncio.to_thread(request.save.remove)
        if kept or isinstance(outcome, Committed):
            await self.discard_before(request.prefix)

    async def discard_before(self, prefix: str) -> None:
        """Remove what lies staged of steps before that of `prefix`, and is no longer worth finishing."""
        pending = {each.prefix for each in self.pending}
        for save in await asyncio.to_thread(self._staging.saves):
            state = await asyncio.to_thread(save.read)
            if state is None or state.prefix in pending or not _precedes(state.prefix, prefix):
                continue
            await self.abort_leftover(state)
            await asyncio.to_thread(save.remove)

    async def abort_leftover(self, state: JournalState) -> None:
        """Abort the uploads of a save that is not worth finishing, as `abort` does."""
        await self.abort(state.uploads, sealed_by=state.prefix)

    async def abort(self, uploads: Mapping[str, str], *, sealed_by: str | None = None) -> None:
        """Abort uploads that will not be resumed; what cannot be reached in time is left for a sweep.

        Ids that are sealed are opened with the seal of the checkpoint `sealed_by`.
        """
        backend = self._store.backend
        if not uploads or not isinstance(backend, MultipartBackend):
            return
        try:
            async with asyncio.timeout(self._abort_secs):
                if sealed_by is not None:
                    seal = await read_seal(backend, sealed_by)
                    uploads = {} if seal is None else seal.open_all(uploads)
                for key, upload_id in uploads.items():
                    await (await backend.open_upload(key, upload_id)).abort()
        except (AckptError, TimeoutError) as error:
            _log.debug("an upload that is no longer needed could not be aborted: %s", error)

    def _committed(self, request: SaveRequest, sent: Sent) -> Committed:
        return Committed(
            step=request.step,
            target=sent.target,
            prefix=request.prefix,
            size=sent.manifest.size,
            stall_secs=request.stall_secs,
            stage_secs=request.stage_secs,
            upload_secs=sent.upload_secs,
            already=sent.already,
            copied=sent.copied,
        )

    def _failed(self, request: SaveRequest, error: Exception) -> Failed:
        hopeless = isinstance(error, HOPELESS)
        return Failed(
            step=request.step,
            target=self._store.name,
            error=error,
            staged=request.staged and not hopeless,
        )

    def _interrupted(self, request: SaveRequest) -> Outcome:
        if request.superseded_by is not None:
            return Superseded(step=request.step, target=self._store.name, by_step=request.superseded_by)
        if request.committed is not None:  # cut short behind the commit
            target = self._store.name
            sent = Sent(manifest=request.committed, target=target, already=False, upload_secs=0.0)
            return self._committed(request, sent)
        if request.staged and request.save is not None:
            return Parked(step=request.step, target=self._store.name, folder=str(request.save.folder))
        error = ClosedError(
            f"step {request.step} was still being staged when the checkpointer had to close; it is not saved"
        )
        return Failed(step=request.step, target=self._store.name, error=error)


def _precedes(prefix: str, other: str) -> bool:
    """Tell whether `prefix` is an earlier step of the same name as `other`."""
    (name, step), (other_name, other_step) = split_prefix(prefix), split_prefix(other)
    return name == other_name and step < other_step
