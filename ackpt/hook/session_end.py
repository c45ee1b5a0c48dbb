"""What becomes of pinned state when a session is closed and nobody tells the hook.

TensorFlow does not call `end` when training raises, and closing the session loses what is pinned in
it. But a `MonitoredSession` closes its session only when the threads that are registered with its
coordinator have ended (or after its `stop_grace_period_secs`). A `SessionGuard` is registered there
and counts as alive until everything is staged.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import tensorflow as tf

from ackpt.snapshot.tensorflow_errors import SESSION_LOST

_log = logging.getLogger(__name__)


class SessionGuard:
    """Be what a coordinator asks of a thread; `is_alive` is called on the trainer thread.

    https://github.com/tensorflow/tensorflow/blob/v2.15.1/tensorflow/python/training/coordinator.py
    """

    name = "ackpt, which is staging a checkpoint"

    def __init__(
        self,
        coordinator: tf.train.Coordinator,
        *,
        staging: Callable[[], bool],
        settle: Callable[[], None],
        leave: Callable[[], None],
    ) -> None:
        """Guard a session; `staging` tells whether it is still needed.

        When it is no longer, and is being closed, one of two is called: `settle` when another session
        is going to follow, `leave` when not (also behind `end`, where there is nothing left to do).
        """
        self._coordinator = coordinator
        self._staging = staging
        self._settle = settle
        self._leave = leave
        self._told = False

    def is_alive(self) -> bool:
        """Tell whether the session is still needed; when it is not and is being closed, act on it."""
        if self._staging():
            return True
        if self._coordinator.should_stop() and not self._told:
            self._told = True
            # a session that was lost is closed while that error is being handled
            followed = isinstance(sys.exception(), SESSION_LOST)
            try:
                (self._settle if followed else self._leave)()
            except Exception as error:
                # what closes the session must not be replaced by this
                _log.warning("saves under way when the session was closed: %s", error)
        return False
