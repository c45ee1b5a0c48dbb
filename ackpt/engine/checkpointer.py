"""The async core: opens a run, admits save requests, and accounts for every one of them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ackpt.checkpoint.fence import Claim
from ackpt.checkpoint.manifest import make_prefix, read_step
from ackpt.checkpoint.metrics import read_metrics
from ackpt.checkpoint.retention import KeepAll, Retention
from ackpt.checkpoint.staging import StagingFolder, staging_folder
from ackpt.engine.admission import Admission
from ackpt.engine.agent.remote import RemoteRun
from ackpt.engine.agent.shared_folder import SharedFolder
from ackpt.engine.announce import Announcer, Subscriber
from ackpt.engine.errands import Errands
from ackpt.engine.failure import FailurePolicy, FailureTally, Tolerate
from ackpt.engine.limits import Limits
from ackpt.engine.listeners import CheckpointListener
from ackpt.engine.overlap import Coalesce, Overlap, blocks
from ackpt.engine.pipeline import ABORT_SECS, Pipeline
from ackpt.engine.policies import Uploader, check_policies
from ackpt.engine.preemption import Notice, Preemption
from ackpt.engine.request import SaveRequest
from ackpt.engine.run import OwnRun, Run
from ackpt.engine.store import Store
from ackpt.errors import ClosedError
from ackpt.events import Committed, Event, Outcome
from ackpt.snapshot.base import Snapshot
from ackpt.snapshot.directory import DirectorySnapshot, Source

_log = logging.getLogger(__name__)

_HASTY_SECS = 0.5
"""What cleaning up in the store may take of the time that a preemption leaves for the process to go."""


class Checkpointer:
    """Save the checkpoints of one run to `target`, asynchronously; lives on one event loop.

    Use it with `async with`, or `start` and `aclose` it. Every request ends in exactly one
    `Outcome`; listeners and subscribers see it, too. One saver at a time holds a run's staging
    folder.
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        *,
        name: str = "ckpt",
        overlap: Overlap = Coalesce(),
        failure: FailurePolicy = Tolerate(3),
        retention: Retention = KeepAll(),
        staging_dir: str | os.PathLike[str] | None = None,
        preemption: Preemption | None = None,
        fallback: str | os.PathLike[str] | None = None,
        uploader: Uploader = "thread",
        limits: Limits | None = None,
        listeners: Sequence[CheckpointListener] = (),
    ) -> None:
        """Check everything that can be checked without I/O.

        `name` begins every checkpoint's prefix (`<name>-<step>`). `staging_dir` is the folder below
        which this run stages in a folder of its own (see `ackpt.checkpoint.staging.staging_folder`).
        With the `uploader` "process" this process only stages: another one, which outlives it, sends.
        `limits` is shared with whoever is given the same; without it those of the process hold.

        Raises:
            InvalidURLError, UnknownSchemeError, InvalidOptionError, MissingDependencyError.
        """
        make_prefix(name, 0)
        check_policies(
            overlap=overlap,
            failure=failure,
            retention=retention,
            preemption=preemption,
            uploader=uploader,
            limits=limits,
            listeners=listeners,
        )
        self._name = name
        self._store = Store(target, limits)
        self._overlap = overlap
        folder = staging_folder(self._store.url, staging_dir)
        self._staging = StagingFolder(folder, target=self._store.name)
        self._announcer = Announcer(listeners, failure, self._publish)
        self._dispatcher = self._announcer.dispatcher
        self._errands = Errands()
        own = OwnRun(
            self._store,
            self._staging,
            name=name,
            retention=retention,
            fallback=fallback,
            errands=self._errands,
            before_state=self._let_go,
            publish=self._publish,
            limits=limits,
        )
        self._run: Run = own
        if uploader == "process":
            self._staging = shared = SharedFolder(folder, target=self._store.name)
            self._run = remote = RemoteRun(
                own,
                shared,
                target=target,
                name=name,
                retention=retention,
                fallback=fallback,
                listeners=self._dispatcher,
                let_go=self._let_go,
                publish=self._publish,
                limits=Limits.default() if limits is None else limits,
            )
            self._announcer.subscribe(remote.hear_event)
        self._pipeline: Pipeline | None = None
        self._admission = Admission(overlap, target=self._store.name, publish=self._publish)
        self._closed = False
        self._ended = asyncio.Event()
        self._claim: Claim | None = None
        self.notice = Notice(preemption or Preemption(), self._store.name)

    @property
    def target(self) -> str:
        """Return the run's URL, without its options."""
        return self._store.name

    @property
    def tally(self) -> FailureTally:
        """Return how many saves in a row have failed, and what follows from it; from any thread."""
        return self._announcer.tally

    @property
    def may_block(self) -> bool:
        """Tell whether `submit` may have to wait."""
        return blocks(self._overlap)

    def prefix_of(self, step: int) -> str:
        """Return the prefix of the checkpoint of `step`: `<name>-<step>`.

        Raises:
            InvalidOptionError: a negative step.
        """
        return make_prefix(self._name, step)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber` with every event from now on, on the event loop; it must be quick.

        What it raises is logged, and touches nothing else.
        """
        self._announcer.subscribe(subscriber)

    async def start(self) -> None:
        """Take the staging folder, read what is committed, and finish what an earlier process left.

        What is left and cannot be finished now stays there, with a warning.

        Raises:
            StagingLockedError: another saver works on this run.
            StagingError: the staging folder cannot be used.
            UploaderError: there is to be an uploader process, and it cannot be started.
            BucketNotFoundError, PermissionDeniedError, StorageError: the store cannot be read.
        """
        if self._pipeline is not None:
            return
        await self._run.lock()
        self._dispatcher.start()
        try:
            pipeline = Pipeline(
                self._store, self._staging, self._run, overlap=self._overlap, publish=self._publish
            )
            self._claim = await self._run.open(pipeline)
        except BaseException:
            await self._dispatcher.aclose()
            await self._run.aclose()
            raise
        self._pipeline = pipeline
        self._run.begin()

    async def submit(
        self, snapshot: Snapshot, *, stall_secs: float = 0.0, metrics: Mapping[str, float] | None = None
    ) -> asyncio.Future[Outcome]:
        """Hand over a snapshot; return when it has been taken, with its outcome to come.

        The snapshot belongs to the checkpointer from here on, and is released whatever happens.
        Returns at once, unless the overlap policy blocks. The future never raises: a failed save
        is an outcome.

        Raises:
            InvalidOptionError: a step or a metric that is no figure.
            ClosedError: not started, or closed.
        """
        try:
            request = SaveRequest(
                step=read_step(snapshot.step),
                prefix=self.prefix_of(snapshot.step),
                snapshot=snapshot,
                metrics=read_metrics(metrics),
                stall_secs=stall_secs,
                claim=self._running()[1],
                outcome=asyncio.get_running_loop().create_future(),
            )
            await self._admission.take(request, lambda: self._running()[0])
        except BaseException:
            await asyncio.to_thread(snapshot.release)
            raise
        return request.outcome

    async def save(self, source: Source, *, step: int, metrics: Mapping[str, float] | None = None) -> Outcome:
        """Save a folder, or a list of files, as the checkpoint of `step`, and return its outcome.

        The files have to stay as they are until they are staged.

        Raises:
            SnapshotError: nothing to save there.
            ClosedError: not started, or closed.
        """
        snapshot = await asyncio.to_thread(DirectorySnapshot, source, step=step)
        return await (await self.submit(snapshot, metrics=metrics))

    async def upload_file(self, path: Path, key: str) -> None:
        """Put a file that belongs to the run and to no checkpoint under `key`, over what is there.

        Raises:
            StorageError, StagingError: it could not be sent.
        """
        await self._run.upload_file(path, key)

    async def run_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run work that belongs to no save; `wait` waits for it, and a failure is a warning."""
        await self._errands.start(coroutine, what=f"work beside the saves of {self.target}")

    @property
    def staging(self) -> bool:
        """Tell whether a save is not wholly in the staging folder yet; from any thread."""
        return self._pipeline is not None and any(not each.staged for each in self._pipeline.pending)

    def check_start(self, step: int) -> None:
        """Raise StepConflictError where a training that begins at `step` was most likely not restored."""
        self._run.check_start(step)

    def set_retention(self, policy: Retention) -> None:
        """Retain by `policy` from the next commit on; from any thread."""
        self._run.set_retention(policy)

    def check(self) -> None:
        """Raise if the failure policy says that the trainer has to know now; cheap, from any thread.

        Raises:
            SaveFailedError: too many saves in a row have failed.
        """
        error = self.tally.due()
        if error is not None:
            raise error

    def preempt(self) -> None:
        """Take notice that the process is about to be ended: from now on the grace runs.

        `aclose` then commits what can be committed in that time, and parks the rest. A process that
        is still there when it is over is ended.
        """
        self.notice.give()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until every save has ended and every listener been told; tell whether that is so.

        A notice of preemption ends the wait.
        """
        return await self.notice.unless_given(self._settled(), timeout)

    async def _let_go(self, prefix: str) -> None:
        """Wait until the listeners that hold the state file have been told of all that came before."""
        if self._pipeline is not None and self._dispatcher.holds_state:
            await self._pipeline.concluded_before(prefix)
            await self._dispatcher.let_go()

    async def _settled(self) -> None:
        while self._pipeline is not None and self._pipeline.pending:
            await self._pipeline.drain(None)
        await self._errands.settled()
        await self._run.settled()
        await self._dispatcher.drain()

    async def aclose(self, timeout: float | None = None) -> bool:
        """Refuse new work, finish what is under way, and tell whether all of it ended in time.

        What is late is parked in the staging folder where it is staged, and fails where it is not.
        Idempotent.
        """
        if self._pipeline is None or self._closed:
            return True
        self._closed = True
        self._admission.moved()
        clean = False
        try:
            clean = await self.wait(timeout)
            if not clean and self.notice.preempted:
                clean = await self._use_grace(self._pipeline)
        finally:
            try:
                await self._pipeline.cut_short(
                    abort_secs=_HASTY_SECS if self.notice.preempted else ABORT_SECS
                )
                await self._errands.aclose()
                await self._dispatcher.aclose()
            finally:
                try:
                    await self._run.aclose()
                finally:
                    self.notice.withdraw()
                    self._ended.set()
        return clean

    async def cut_off(self) -> None:
        """End now, whatever is under way, a close that was interrupted too: parked, or failed."""
        if self._pipeline is None or not self._closed:
            await self.aclose(0)
            return
        await self._pipeline.cut_short()
        await self._ended.wait()

    async def _use_grace(self, pipeline: Pipeline) -> bool:
        """Stage what is pinned; then wait for it, if it can be committed in the time that is left."""
        try:
            async with asyncio.timeout(self.notice.left_secs):
                while any(not request.staged for request in pipeline.pending):
                    await self._admission.next_move()
            left_secs = self.notice.left_secs
            if not pipeline.may_end_within(left_secs, self._announcer.pace):
                _log.warning("there is no time to send what is staged in %.0f s; it is parked", left_secs)
                return False
            async with asyncio.timeout(left_secs):
                await self._settled()
        except TimeoutError:
            return False
        return True

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish what is under way; raise if the last save failed and nothing else is being raised.

        Raises:
            SaveFailedError: the last save failed.
        """
        await self.aclose()
        final = self.tally.final()
        if error is None and final is not None:
            raise final

    def _running(self) -> tuple[Pipeline, Claim]:
        if self._pipeline is None or self._claim is None or self._closed:
            state = "closed" if self._closed else "not started"
            raise ClosedError(f"the checkpointer for {self._store.name} is {state}; no save was taken")
        return self._pipeline, self._claim

    def _publish(self, event: Event) -> None:
        self._admission.moved()
        self._announcer.tell(event)
        if isinstance(event, Committed) and self._pipeline is not None:
            self._run.committed()
