"""TensorFlow's saver listeners as a coroutine listener: told on a worker, heard by the trainer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

from ackpt.engine.listeners import CheckpointListener
from ackpt.events import Committed

SaverListener: TypeAlias = tf.compat.v1.train.CheckpointSaverListener


class SaverListeners(CheckpointListener):
    """Call `after_save` of TensorFlow's listeners when a checkpoint of this session is committed.

    On a worker thread, one checkpoint after another, without a limit in time (they may evaluate).
    Their wish to stop, and what they raise, is kept for the trainer's next step.
    TensorFlow calls them before anything newer is saved, and so they take the newest checkpoint
    for the one that they are told of: while one is at work no newer one shows in the state file.
    """

    timeout_secs = None

    def __init__(self, listeners: Sequence[SaverListener]) -> None:
        self._listeners = listeners
        self.holds_state = bool(listeners)
        self._sessions: dict[int, tf.compat.v1.Session] = {}
        self._error: Exception | None = None
        self.stop_requested = False

    def expect(self, step: int, session: tf.compat.v1.Session) -> None:
        """Take note that `step` of `session` is being saved; on the trainer thread."""
        if self._listeners:
            self._sessions[step] = session

    def raise_error(self) -> None:
        """Raise what a listener raised, once; on the trainer thread."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def on_committed(self, event: Committed) -> None:
        """Call the listeners, if it is a checkpoint of this session (and not an earlier process's)."""
        session = self._sessions.get(event.step)
        # what was to be saved before this one will not be committed any more
        self._sessions = {step: each for step, each in self._sessions.items() if step > event.step}
        if session is not None:
            await asyncio.to_thread(self._after_save, session, event.step)

    def forget(self) -> None:
        """Let go of the sessions; no listener is called any more."""
        self._sessions = {}

    def _after_save(self, session: tf.compat.v1.Session, step: int) -> None:
        # the default graph is a thread's own, and listeners are used to find theirs there
        with session.graph.as_default():
            for listener in self._listeners:
                try:
                    if listener.after_save(session, step):
                        self.stop_requested = True
                except Exception as error:
                    # as with TensorFlow's hook it ends the training: kept until the trainer asks
                    self._error = self._error or error
                    raise
