"""`AsyncCheckpointSaverHook`: TensorFlow's hook of that name, saving to any storage URL without a stall."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from typing import TypedDict, Unpack

import tensorflow as tf

from ackpt.checkpoint.retention import KeepAll, KeepInterval, KeepLast, Retention
from ackpt.checkpoint.staging import staging_folder
from ackpt.engine.background import BackgroundCheckpointer, PendingSave
from ackpt.engine.failure import FailurePolicy
from ackpt.engine.limits import Limits
from ackpt.engine.listeners import CheckpointListener
from ackpt.engine.overlap import Overlap
from ackpt.engine.policies import Uploader
from ackpt.engine.preemption import Preemption
from ackpt.errors import AckptError, FencedError, InvalidOptionError, StepConflictError
from ackpt.events import Committed, Failed
from ackpt.hook.global_step import GlobalStep
from ackpt.hook.listeners import SaverListener, SaverListeners
from ackpt.hook.session_end import SessionGuard
from ackpt.hook.summaries import Summaries
from ackpt.hook.trigger import Trigger
from ackpt.snapshot.base import Snapshot
from ackpt.snapshot.failed import FailedSnapshot
from ackpt.snapshot.meta_graph import describe_graph
from ackpt.snapshot.shards import plan_shards
from ackpt.snapshot.tensorflow_errors import SESSION_LOST
from ackpt.snapshot.tensorflow_graph import SHARD_BYTES, GraphSnapshotter
from ackpt.url import StorageURL

_log = logging.getLogger(__name__)


class HookOptions(TypedDict, total=False):
    """List the options of `ackpt.Checkpointer` that the hook takes as they are."""

    overlap: Overlap
    failure: FailurePolicy
    retention: Retention
    staging_dir: str | os.PathLike[str] | None
    preemption: Preemption | None
    fallback: str | os.PathLike[str] | None
    uploader: Uploader
    limits: Limits | None


class AsyncCheckpointSaverHook(tf.compat.v1.train.CheckpointSaverHook):  # type: ignore[misc]
    """Save a checkpoint every so many steps or seconds to any storage URL, while training goes on.

    A subclass of TensorFlow's `CheckpointSaverHook`, so that an estimator leaves out its own. For a
    `TPUEstimator` give it in `TPUEstimatorSpec(training_hooks=…)`, for an `Estimator` there or in
    `train(hooks=…)`, for a `MonitoredTrainingSession` in `hooks` (and `save_checkpoint_secs=None,
    save_checkpoint_steps=None`). All methods belong on the trainer thread. The hook may be used for
    one training after another.
    """

    def __init__(
        self,
        checkpoint_dir: str | os.PathLike[str],
        save_secs: int | None = None,
        save_steps: int | None = None,
        saver: tf.compat.v1.train.Saver | None = None,
        checkpoint_basename: str = "model.ckpt",
        scaffold: tf.compat.v1.train.Scaffold | None = None,
        listeners: Sequence[SaverListener | CheckpointListener] | None = None,
        *,
        save_graph_def: bool = True,
        shard_bytes: int = SHARD_BYTES,
        close_timeout_secs: float | None = None,
        exit_grace_secs: float = 60.0,
        **options: Unpack[HookOptions],
    ) -> None:
        """Make a hook; the arguments before the `*` are those of TensorFlow's hook.

        `checkpoint_dir` is a local path or any storage URL. `listeners` are TensorFlow's, coroutine
        listeners, or both. `save_graph_def` writes `graph.pbtxt` and a `.meta` with every checkpoint.
        `shard_bytes` is the size that data files aim at. `close_timeout_secs` bounds the wait in
        `end` (None: as long as there are retries left), `exit_grace_secs` the wait for saves under
        way when training raises, or the process ends, without `end`. `options` are those of
        `ackpt.Checkpointer`; `retention` defaults to the saver's `max_to_keep` and
        `keep_checkpoint_every_n_hours`.

        Raises:
            ValueError: not exactly one of `save_secs` and `save_steps`; or both `saver` and `scaffold`.
            InvalidURLError, UnknownSchemeError, InvalidOptionError, MissingDependencyError: the
                place, or an option, is of no use.
        """
        self._url = StorageURL.parse(checkpoint_dir)
        if "://" not in os.fspath(checkpoint_dir):
            checkpoint_dir = self._url.path  # absolute: a program may change its folder before it trains
        super().__init__(
            os.fspath(checkpoint_dir),
            save_secs=save_secs,
            save_steps=save_steps,
            saver=saver,
            checkpoint_basename=checkpoint_basename,
            scaffold=scaffold,
            listeners=list(listeners or []),
            save_graph_def=save_graph_def,
        )
        self._name = checkpoint_basename
        self._options = options
        self._every_secs = save_secs
        self._every_steps = save_steps
        self._shard_bytes = shard_bytes
        self._close_timeout_secs = close_timeout_secs
        self._exit_grace_secs = exit_grace_secs
        self._steps_per_run = 1
        self._checkpointer: BackgroundCheckpointer | None = None
        self._snapshotter: GraphSnapshotter | None = None
        self._last: PendingSave | None = None
        self._saved_at = -math.inf
        self._guarded = False
        self._noticed: BackgroundCheckpointer | None = None
        plan_shards([], shard_bytes)
        for each in self._listeners:
            if not isinstance(each, SaverListener | CheckpointListener):
                raise InvalidOptionError(
                    "listeners: expected instances of CheckpointSaverListener or ackpt.CheckpointListener, "
                    f"got {each!r}"
                )
        self._make_checkpointer([])  # what is wrong with the arguments is said now, not at the first step

    def begin(self) -> None:
        """Open the run, finish what an earlier process staged, and let the listeners begin.

        Raises:
            RuntimeError: there is no global step.
            StagingLockedError: another saver works on this run.
            StagingError, StorageError: the staging folder or the store cannot be used.
        """
        self.close()
        self._global_step = GlobalStep()
        mine = [each for each in self._listeners if isinstance(each, CheckpointListener)]
        theirs = [each for each in self._listeners if not isinstance(each, CheckpointListener)]
        self._saver_listeners = SaverListeners(theirs)
        self._summaries = Summaries(self._url, name=self._name)
        self._trigger = Trigger(every_steps=self._every_steps, every_secs=self._every_secs)
        checkpointer = self._make_checkpointer([*mine, self._summaries, self._saver_listeners])
        checkpointer.start()
        self._checkpointer = checkpointer
        try:
            self._summaries.open(checkpointer)
            for listener in theirs:
                listener.begin()
        except BaseException:
            self._leave()
            raise
        self._saver_listeners_begun = theirs

    def after_create_session(self, session: tf.compat.v1.Session, coord: tf.train.Coordinator | None) -> None:
        """Describe the graph, get ready to pin, and save the state that training starts from.

        Called again with a new session when the old one was lost.

        Raises:
            SnapshotError: the state cannot be pinned even now (a variable is not initialised, the
                saver is of no use); later on that is a failed save, and the failure policy decides.
            StepConflictError: training starts behind what is committed: it was not restored.
        """
        try:
            if self._snapshotter is None:
                self._prepare(session.graph)
            assert self._snapshotter is not None
            self._snapshotter.prepare(session)
            self._guarded = coord is not None
            if coord is not None:
                guard = SessionGuard(coord, staging=self._staging, settle=self._settle, leave=self._leave)
                coord.register_thread(guard)
            if self._running().preempted:
                if coord is not None:
                    coord.request_stop()
                return
            step = self._global_step.read(session)
            if self._last is None:
                self._running().check_start(step)
            self._trigger.expect(self._steps_per_run)
            self._save(session, step)
            self._triggered(step)
        except SESSION_LOST:
            raise
        except BaseException:
            self._leave()  # nobody closes a session that is not ready yet
            raise

    def before_run(self, run_context: tf.compat.v1.train.SessionRunContext) -> None:
        """Ask for nothing: the step is looked at only when a save may be due."""
        return None

    def after_run(
        self,
        run_context: tf.compat.v1.train.SessionRunContext,
        run_values: tf.compat.v1.train.SessionRunValues,
    ) -> None:
        """Save if it is time; stop if a listener has asked for it.

        Raises:
            SaveFailedError: the failure policy says that the trainer has to know.
            Exception: what a TensorFlow listener raised in `after_save`.
        """
        checkpointer = self._running()
        checkpointer.check()
        self._saver_listeners.raise_error()
        if checkpointer.preempted:
            run_context.request_stop()  # `end` follows, and saves
            return
        if self._saver_listeners.stop_requested:
            run_context.request_stop()
        if not self._trigger.may_be_due():
            return
        step = self._global_step.read(run_context.session)
        self._trigger.looked(step)
        if self._timer.should_trigger_for_step(step):
            self._triggered(step)
            self._save(run_context.session, step)

    def end(self, session: tf.compat.v1.Session) -> None:
        """Save the last step if that has not been done, and wait until it is committed.

        After a notice of preemption it is saved if the last save is old enough, and what cannot be
        committed within the grace is parked for the next start.

        Raises:
            SaveFailedError: the last save failed; it was tried once more before.
            Exception: what a TensorFlow listener raised in `after_save`.
            SystemExit: a signal gave notice of preemption, and would have ended the process; in a
                monitored session that is raised when it is closed, behind the `end` of all hooks.
        """
        checkpointer = self._running()
        try:
            step = self._global_step.read(session)
            if step != self._timer.last_triggered_step() and not self._saved_just_now():
                self._triggered(step)
                self._save(session, step)
            checkpointer.wait(self._close_timeout_secs)
            if not checkpointer.preempted and self._worth_another_try(step):
                self._save(session, step)
                checkpointer.wait(self._close_timeout_secs)
            self._saver_listeners.raise_error()
            for listener in self._saver_listeners_begun:
                listener.end(session, step)
        finally:
            self.close()
        checkpointer.raise_if_failed()
        if checkpointer.preempted:
            self._noticed = checkpointer
        if not self._guarded:
            self._redeliver()

    def preempt(self) -> None:
        """Give notice that the process is about to be ended; from any thread, and from a signal's handler.

        Training stops after the step under way; see `Preemption`, whose signals do the same.

        Raises:
            RuntimeError: there is no training.
        """
        self._running().preempt()

    def close(self) -> None:
        """Finish what is under way and let go of the run; `end` does it, and so does the next `begin`.

        For a training that never came to its first session; one that raises later is let go of when
        its session is closed. Idempotent.
        """
        self._close(self._close_timeout_secs)

    def _staging(self) -> bool:
        """Tell whether something is pinned in the session, or not wholly staged yet."""
        pinned = self._snapshotter is not None and self._snapshotter.staging()
        return pinned or (self._checkpointer is not None and self._checkpointer.staging)

    def _settle(self) -> None:
        """Wait for what is under way, within the grace: the next session restores what is committed."""
        self._running().wait(self._exit_grace_secs)

    def _leave(self) -> None:
        """Finish what is under way within the grace, when a session is closed without `end`."""
        self._close(self._exit_grace_secs)
        if sys.exception() is None:
            self._redeliver()

    def _redeliver(self) -> None:
        """Let the signal that gave notice do what it would have done, once all is saved."""
        noticed, self._noticed = self._noticed, None
        if noticed is not None:
            noticed.redeliver_signal()

    def _close(self, timeout: float | None) -> None:
        checkpointer, self._checkpointer = self._checkpointer, None
        if checkpointer is None:
            return
        snapshotter, self._snapshotter = self._snapshotter, None
        self._last = None
        try:
            checkpointer.close(timeout)
        finally:
            self._saver_listeners.forget()
            self._summaries.close()
            if snapshotter is not None:
                snapshotter.close()
        self._saved_at = -math.inf

    def _set_steps_per_run(self, steps_per_run: int) -> None:
        self._steps_per_run = steps_per_run

    def _make_checkpointer(self, listeners: Sequence[CheckpointListener]) -> BackgroundCheckpointer:
        return BackgroundCheckpointer(
            self._checkpoint_dir,
            exit_grace_secs=self._exit_grace_secs,
            name=self._name,
            listeners=listeners,
            **self._options,
        )

    def _prepare(self, graph: tf.Graph) -> None:
        with graph.as_default():  # a session that was lost may be made again outside of the user's `with`
            saver = self._get_saver()
            description = describe_graph(graph, saver)
            self._summaries.add_graph(graph, description, write_file=self._save_graph_def)
        self._snapshotter = GraphSnapshotter(
            saver,
            shard_bytes=self._shard_bytes,
            meta_graph=description.meta_graph.SerializeToString() if self._save_graph_def else None,
            scratch_dir=staging_folder(self._url, self._options.get("staging_dir")).parent,
        )
        if "retention" not in self._options and saver.saver_def is not None:
            self._running().set_retention(saver_retention(saver.saver_def))

    def _save(self, session: tf.compat.v1.Session, step: int) -> None:
        for listener in self._saver_listeners_begun:
            listener.before_save(session, step)
        started = time.perf_counter()
        snapshot = self._pin(session, step)
        stall_secs = time.perf_counter() - started
        self._saved_at = time.monotonic()
        self._saver_listeners.expect(step, session)
        self._last = self._running().submit(snapshot, stall_secs=stall_secs)

    def _saved_just_now(self) -> bool:
        """Tell whether, in a preemption, the last save is too fresh to be worth another."""
        policy = self._options.get("preemption") or Preemption()
        age_secs = time.monotonic() - self._saved_at
        return self._running().preempted and age_secs < policy.save_after_secs

    def _pin(self, session: tf.compat.v1.Session, step: int) -> Snapshot:
        assert self._snapshotter is not None
        try:
            return self._snapshotter.pin(session, step)
        except AckptError as error:
            if self._last is None:
                raise
            return FailedSnapshot(error, step=step)

    def _triggered(self, step: int) -> None:
        self._timer.update_last_triggered_step(step)
        self._trigger.saved(step)

    def _worth_another_try(self, step: int) -> bool:
        """Tell whether the last save is of this step, not committed, and may be with another try."""
        if self._last is None or not self._last.done():
            return False
        outcome = self._last.result(0)
        if isinstance(outcome, Failed):
            return not isinstance(outcome.error, StepConflictError | FencedError)
        return not isinstance(outcome, Committed) and outcome.step == step

    def _running(self) -> BackgroundCheckpointer:
        if self._checkpointer is None:
            raise RuntimeError("the hook has not begun; give it to an estimator or a monitored session")
        return self._checkpointer


def saver_retention(saver_def: tf.compat.v1.train.SaverDef) -> Retention:
    """Return the retention that a TensorFlow saver's options ask for; 0 of `max_to_keep` keeps all."""
    if not saver_def.max_to_keep:
        return KeepAll()
    last = KeepLast(saver_def.max_to_keep)
    hours = saver_def.keep_checkpoint_every_n_hours
    return last | KeepInterval(hours * 3600) if hours > 0 else last
