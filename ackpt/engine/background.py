"""The synchronous face: a checkpointer on an event loop in a thread of its own, for any framework."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from ackpt.checkpoint.metrics import read_metrics
from ackpt.checkpoint.retention import Retention
from ackpt.engine.announce import Subscriber
from ackpt.engine.checkpointer import Checkpointer
from ackpt.engine.policies import CheckpointerOptions
from ackpt.engine.threads.loop import LoopThread
from ackpt.engine.threads.signals import SignalCatcher
from ackpt.errors import ClosedError, CloseTimeoutError, ForkedProcessError, WrongThreadError
from ackpt.events import Outcome
from ackpt.snapshot.base import Snapshot
from ackpt.snapshot.directory import DirectorySnapshot, Source

IO_WORKERS = 8
_CUT_OFF_SECS = 30.0


class PendingSave:
    """Be a save under way; from any thread."""

    def __init__(self, step: int, future: Future[Outcome], thread: LoopThread) -> None:
        self.step = step
        self._future = future
        self._thread = thread

    def done(self) -> bool:
        """Tell whether the save has its outcome."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> Outcome:
        """Wait for the outcome, at most `timeout` seconds, and return it; a failed save is one, too.

        Raises:
            CloseTimeoutError: there is none yet; the save goes on.
            ClosedError: the checkpointer was closed before it had taken the save.
            WrongThreadError: there is none yet, and a listener asks on the loop's own thread.
        """
        if not self._future.done():
            self._thread.check_thread()
        try:
            return self._future.result(timeout)
        except TimeoutError:
            raise CloseTimeoutError(
                f"step {self.step} has no outcome after {timeout} s; it is still under way"
            ) from None
        except CancelledError:
            raise ClosedError(
                f"step {self.step} was handed over too late: the checkpointer is closed"
            ) from None


class BackgroundCheckpointer:
    """Save the checkpoints of one run to `target` from any thread, while that thread goes on.

    Use it with `with`, or `start` and `close` it. Options are those of `Checkpointer`.
    `exit_grace_secs` is how long a process that ends without `close` waits for saves under way;
    after that they are parked for the next start. With `preemption` its signals are caught from
    `start` to `close`; whoever trains looks at `preempted` and stops.
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        *,
        exit_grace_secs: float = 60.0,
        **options: Unpack[CheckpointerOptions],
    ) -> None:
        """Check everything that can be checked without I/O; no thread is started yet.

        Raises:
            InvalidURLError, UnknownSchemeError, InvalidOptionError, MissingDependencyError.
        """
        self._core = Checkpointer(target, **options)
        self._preemption = options.get("preemption")
        self._catcher: SignalCatcher | None = None
        self._may_block = self._core.may_block
        self._exit_grace_secs = exit_grace_secs
        self._thread: LoopThread | None = None
        self._closed = False

    @property
    def target(self) -> str:
        """Return the run's URL, without its options."""
        return self._core.target

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber` with every event, on the loop's thread; before `start`. It must be quick."""
        self._core.subscribe(subscriber)

    def start(self) -> None:
        """Start the loop's thread, open the run, and finish what an earlier process left; idempotent.

        One that could not start is closed.

        Raises:
            StagingLockedError, StagingError: the staging folder is in use, or of no use.
            BucketNotFoundError, PermissionDeniedError, StorageError: the store cannot be read.
            ClosedError: it was closed.
            WrongThreadError: it is to catch signals, and this is not the main thread.
        """
        if self._closed:
            raise ClosedError(f"the checkpointer for {self.target} is closed; make a new one")
        if self._thread is not None:
            return
        self._thread = LoopThread(name=f"ackpt {self.target}", workers=IO_WORKERS, on_exit=self._on_exit)
        try:
            if self._preemption is not None:
                self._catcher = SignalCatcher(self._preemption.signals, self._thread, self._core.notice.give)
            self._thread.call(self._core.start())
        except BaseException:
            self._release_signals()
            self._thread.stop()
            self._thread, self._closed = None, True
            raise

    def submit(
        self, snapshot: Snapshot, *, stall_secs: float = 0.0, metrics: Mapping[str, float] | None = None
    ) -> PendingSave:
        """Hand over a snapshot; it belongs to the checkpointer from here on.

        `stall_secs` is what making it cost the caller. Blocks only where the overlap policy does.

        Raises:
            InvalidOptionError: a negative step, or a metric that is no figure.
            ClosedError: not started, or closed.
            ForkedProcessError: called in a fork of the process that started it.
            WrongThreadError: it may block, and was called by a listener on the loop's own thread.
        """
        begun = False

        async def take() -> asyncio.Future[Outcome]:
            nonlocal begun
            begun = True
            return await self._core.submit(snapshot, stall_secs=stall_secs, metrics=metrics)

        async def save() -> Outcome:
            return await (await take())

        def release_unbegun(_: object = None) -> None:
            if not begun:
                snapshot.release()

        try:
            thread = self._running()
            self._core.prefix_of(snapshot.step)
            metrics = read_metrics(metrics)
            future = thread.submit(_outcome(thread.call(take())) if self._may_block else save())
        except BaseException:
            release_unbegun()
            raise
        future.add_done_callback(release_unbegun)
        return PendingSave(snapshot.step, future, thread)

    def save(self, source: Source, *, step: int, metrics: Mapping[str, float] | None = None) -> PendingSave:
        """Save a folder, a file, or a list of files as the checkpoint of `step`.

        The files have to stay as they are until they are staged.

        Raises:
            SnapshotError: nothing to save there.
            ClosedError, ForkedProcessError: as `submit`.
        """
        return self.submit(DirectorySnapshot(source, step=step), metrics=metrics)

    def upload_file(self, path: str | os.PathLike[str], key: str) -> Future[None]:
        """Put a file that belongs to the run and to no checkpoint under `key`, over what is there.

        Raises (in the future): StorageError, StagingError.
        """
        return self._running().submit(self._core.upload_file(Path(path), key))

    def start_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run `coroutine` on the loop, behind the saves; what it raises is logged as a warning."""
        self._running().submit(self._core.run_task(coroutine))

    @property
    def staging(self) -> bool:
        """Tell whether a save that was taken is not wholly in the staging folder yet; from any thread."""
        return self._core.staging

    def check_start(self, step: int) -> None:
        """Make sure that a training that begins at `step` goes on from where the run is.

        Raises:
            StepConflictError: it is behind what is committed, and was most likely not restored.
        """
        self._core.check_start(step)

    def set_retention(self, policy: Retention) -> None:
        """Retain by `policy` from the next commit on."""
        self._core.set_retention(policy)

    def check(self) -> None:
        """Raise if the failure policy says that the trainer has to know now; cheap enough for every step.

        Raises:
            SaveFailedError: too many saves in a row have failed.
        """
        self._core.check()

    @property
    def preempted(self) -> bool:
        """Tell whether a notice of preemption has come, so that training has to stop; from any thread."""
        return self._core.notice.preempted

    def preempt(self) -> None:
        """Give notice of preemption, as a signal does; from any thread, and from a signal's handler.

        What can be committed within the grace is; the rest is parked. A process that has not
        closed the checkpointer when the grace is over is ended.

        Raises:
            ClosedError: not started, or closed.
        """
        self._running().call_soon(self._core.preempt)

    def redeliver_signal(self) -> None:
        """Let the signal that gave notice, if one did, do what it would have done; after `close`.

        Raises:
            SystemExit: it would have ended the process.
        """
        catcher, self._catcher = self._catcher, None
        number = self._core.notice.signal_number
        if catcher is not None and number is not None:
            catcher.redeliver(number)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every save has ended and every listener been told, or a notice of preemption comes.

        Raises:
            CloseTimeoutError: not within `timeout` seconds; the work goes on.
        """
        if not self._running().call(self._core.wait(timeout)) and not self.preempted:
            raise CloseTimeoutError(f"saves to {self.target} are still under way after {timeout} s")

    def close(self, timeout: float | None = None) -> bool:
        """Finish what is under way, end the thread, and tell whether all work ended in time; idempotent.

        What is late is parked for the next start where it is staged, and fails where it is not.

        Raises:
            ForkedProcessError: called in a fork of the process that started it.
            WrongThreadError: called by a listener or a subscriber, on the loop's own thread.
        """
        thread = self._thread
        clean = True
        if thread is not None:
            try:
                clean = thread.call(self._core.aclose(timeout))
            except (WrongThreadError, ForkedProcessError):
                raise
            except ClosedError:  # the process is on its way out, and the thread has closed it already
                clean = True
            except BaseException:  # Ctrl-C: what is under way is cut short, and still has its outcome
                self._cut_off(thread)
                raise
            finally:
                self._release_signals()
            thread.stop()
        self._thread, self._closed = None, True
        return clean

    def _cut_off(self, thread: LoopThread) -> None:
        self._thread, self._closed = None, True
        try:
            with suppress(CancelledError, TimeoutError):
                thread.submit(self._core.cut_off()).result(_CUT_OFF_SECS)
        finally:
            thread.stop()

    def raise_if_failed(self) -> None:
        """Raise if the last save failed, whatever the failure policy tolerates.

        Raises:
            SaveFailedError: it did.
        """
        final = self._core.tally.final()
        if final is not None:
            raise final

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish what is under way; raise if the last save failed and nothing else is being raised.

        Raises:
            SaveFailedError: the last save failed.
            SystemExit: a signal gave notice of preemption, and would have ended the process.
        """
        self.close()
        if error is None:
            self.raise_if_failed()
            self.redeliver_signal()

    def _running(self) -> LoopThread:
        if self._thread is None:
            state = "closed" if self._closed else "not started"
            raise ClosedError(f"the checkpointer for {self.target} is {state}")
        return self._thread

    def _release_signals(self) -> None:
        if self._catcher is not None:
            self._catcher.release()

    async def _on_exit(self) -> None:
        await self._core.aclose(self._exit_grace_secs)


async def _outcome(future: asyncio.Future[Outcome]) -> Outcome:
    return await future
