"""The run as its store has it: opened, claimed, sent to and retained by this process."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from ackpt.checkpoint.fence import Claim, claim_run, read_claim
from ackpt.checkpoint.manifest import Manifest
from ackpt.checkpoint.retention import Retention
from ackpt.checkpoint.staged import StagedFile
from ackpt.checkpoint.staging import StagingFolder
from ackpt.engine.agent.call import dismiss
from ackpt.engine.errands import Errands
from ackpt.engine.fallback import OUTAGES, Fallback
from ackpt.engine.heartbeat import Heartbeat
from ackpt.engine.limits import Limits
from ackpt.engine.pipeline import Pipeline
from ackpt.engine.recover import adopt_leftovers, finish_leftovers, stage_copy
from ackpt.engine.request import SaveRequest
from ackpt.engine.retain import Retainer
from ackpt.engine.route import Direct, Route, WithFallback
from ackpt.engine.send import Sent
from ackpt.engine.store import Store
from ackpt.errors import StagingLockedError, explain
from ackpt.events import Deleted, Event
from ackpt.transfer.upload import upload_object

_log = logging.getLogger(__name__)


class Run(Protocol):
    """Do for a checkpointer what is to be done in the store; on one event loop. It is a `Route`, too."""

    async def lock(self) -> None:
        """Take the staging folder; see `StagingFolder.lock` for what is raised."""

    async def open(self, pipeline: Pipeline) -> Claim:
        """Finish what an earlier process left, and claim the run, in whose name saves are staged.

        Raises:
            BucketNotFoundError, PermissionDeniedError, StorageError: the store cannot be read.
        """

    async def send(self, request: SaveRequest, on_progress: Callable[[int], None]) -> Sent:
        """Upload, verify and commit; see `Sender.send` for what is raised."""

    def begin(self) -> None:
        """Begin what is done beside the saves, once the pipeline takes saves."""

    def committed(self) -> None:
        """Do what follows a commit, behind the saves."""

    def check_start(self, step: int) -> None:
        """Raise StepConflictError where a training that begins at `step` was most likely not restored."""

    def set_retention(self, policy: Retention) -> None:
        """Retain by `policy` from the next commit on; from any thread."""

    async def upload_file(self, path: Path, key: str) -> None:
        """Put a file that belongs to no checkpoint under `key`, over what is there."""

    async def settled(self) -> None:
        """Wait until nothing is being done beside the saves."""

    async def aclose(self) -> None:
        """Let go of the store, the claim's lease and the staging folder."""


class OwnRun:
    """Do it in this process."""

    def __init__(
        self,
        store: Store,
        staging: StagingFolder,
        *,
        name: str,
        retention: Retention,
        fallback: str | os.PathLike[str] | None,
        errands: Errands,
        before_state: Callable[[str], Awaitable[None]],
        publish: Callable[[Event], None],
        limits: Limits | None = None,
    ) -> None:
        """Check what can be checked without I/O.

        Raises:
            InvalidURLError, UnknownSchemeError, InvalidOptionError, MissingDependencyError: `fallback`.
        """
        self._store = store
        self._staging = staging
        self._name = name
        self._errands = errands
        self._publish = publish
        self.retainer = Retainer(retention, name=name)
        self._route: Route = Direct(store, self.retainer, before_state)
        self._fallback: Fallback | None = None
        if fallback is not None:
            self._fallback = Fallback(
                fallback,
                instead_of=store,
                retention=retention,
                name=name,
                before_state=before_state,
                limits=limits,
            )
            self._route = WithFallback(self._route, self._fallback)
        self._pipeline: Pipeline | None = None
        self._claim: Claim | None = None
        self._heartbeat: Heartbeat | None = None

    async def lock(self) -> None:
        """Take the staging folder, if need be from an uploader process without a trainer.

        Raises:
            StagingLockedError, StagingError: as `StagingFolder.lock`.
        """
        try:
            await asyncio.to_thread(self._staging.lock)
        except StagingLockedError:
            if not await dismiss(self._staging.folder):
                raise
            await asyncio.to_thread(self._staging.lock)

    async def open(self, pipeline: Pipeline) -> Claim:
        """Finish what an earlier process left, as far as it can be, and claim the run.

        Raises:
            BucketNotFoundError, PermissionDeniedError, StorageError: the store cannot be read.
        """
        await self._load()
        writer = uuid.uuid4().hex
        self._beat(writer)
        await finish_leftovers(
            pipeline,
            self._staging,
            name=self._name,
            newest=self.retainer.newest,
            claim=await read_claim(self._store.reliable()),
        )
        await adopt_leftovers(self._staging, name=self._name, writer=writer)
        claim = await claim_run(self._store.reliable(), writer=writer)
        await self.retainer.catch_up_state(self._store.reliable())
        self._take(pipeline, claim)
        return claim

    async def go_on(self, pipeline: Pipeline, claim: Claim) -> None:
        """Go on for a process that held the run under `claim`, and has what is staged in its hands.

        A store that is down just now is no error, or the saves that come when it is back would have
        nobody to send them: it is read before the next of them, and until then they fail, or go to
        the fallback.
        """
        try:
            await self.retainer.load(self._store.reliable())
        except OUTAGES as error:
            if self._fallback is not None:
                self._fallback.note_outage(error)
            else:
                _log.warning("%s cannot be read: %s", self._store.name, explain(error))
        if self._fallback is not None:
            try:
                await self._fallback.start()
            except OUTAGES as error:
                _log.warning("%s cannot be read, too: %s", self._fallback.store.name, explain(error))
        self._beat(claim.writer)
        self._take(pipeline, claim)

    async def _load(self) -> None:
        await self.retainer.load(self._store.reliable())
        if self._fallback is not None:
            await self._fallback.start()

    def _take(self, pipeline: Pipeline, claim: Claim) -> None:
        self._pipeline, self._claim = pipeline, claim

    def _beat(self, writer: str) -> None:
        self._heartbeat = Heartbeat(self._store, writer=writer)
        self._heartbeat.start()

    async def send(self, request: SaveRequest, on_progress: Callable[[int], None]) -> Sent:
        """Send to the store, or to the fallback."""
        return await self._route.send(request, on_progress)

    def begin(self) -> None:
        """Copy what the fallback has taken to where it belongs."""
        if self._pipeline is None or self._claim is None:
            return
        if self._fallback is not None and not self._fallback.is_empty:
            take = partial(stage_copy, self._pipeline, self._staging, claim=self._claim)
            errand = self._fallback.give_back(take)
            self._errands.start_in_turn(errand, what=f"copying back from {self._fallback.store.name}")

    def committed(self) -> None:
        """Delete behind the saves: one sweep at a time, each seeing all commits before it."""
        if self._claim is None:
            return
        sweep = self.retainer.delete_outdated(self._store.reliable(), self._claim, self._publish_deleted)
        self._errands.start_in_turn(sweep, what=f"retention of {self._store.name} (it tries again)")
        if self._fallback is not None:
            self._errands.start_in_turn(
                self._fallback.retain(), what=f"retention of {self._fallback.store.name} (it tries again)"
            )
        self.begin()

    def check_start(self, step: int) -> None:
        """Raise StepConflictError where a training that begins at `step` was most likely not restored."""
        self.retainer.check_start(step)

    def set_retention(self, policy: Retention) -> None:
        """Retain by `policy` from the next commit on; from any thread."""
        self.retainer.policy = policy

    async def upload_file(self, path: Path, key: str) -> None:
        """Put a file under `key`, over what is there.

        Raises:
            StorageError, StagingError: it could not be sent.
        """
        size = (await asyncio.to_thread(path.stat)).st_size
        file = StagedFile(key=key, path=path, size=size)
        await upload_object(self._store.backend, file, self._store.transfer())

    async def settled(self) -> None:
        """Wait until no errand is under way."""
        await self._errands.settled()

    async def aclose(self) -> None:
        """End the lease, close the stores, and let go of the staging folder; idempotent."""
        try:
            await self.leave_store()
        finally:
            self._staging.unlock()

    async def leave_store(self) -> None:
        """End the lease, and close the stores; idempotent."""
        if self._heartbeat is not None:
            await self._heartbeat.aclose()
        await self._store.aclose()
        if self._fallback is not None:
            await self._fallback.store.aclose()

    def _publish_deleted(self, manifest: Manifest) -> None:
        self._publish(Deleted(step=manifest.step, target=self._store.name, prefix=manifest.prefix))
