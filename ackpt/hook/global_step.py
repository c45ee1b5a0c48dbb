"""The session's global step, read in a fraction of what `session.run` takes."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from tensorflow.python.training import training_util


class GlobalStep:
    """Read the default graph's global step in whatever session it is asked for; on the trainer thread."""

    def __init__(self) -> None:
        """Find the step in the default graph.

        Raises:
            RuntimeError: there is none.
        """
        self._tensor = training_util._get_or_create_global_step_read()
        if self._tensor is None:
            raise RuntimeError("Global step should be created to use CheckpointSaverHook.")
        self._session: tf.compat.v1.Session | None = None
        self._read: Callable[[], int] | None = None

    def read(self, session: tf.compat.v1.Session) -> int:
        """Return the step that `session` is at."""
        if session is not self._session or self._read is None:
            # what `run` does in Python each time is done once: more than half of its time
            self._read = session.make_callable(self._tensor)
            self._session = session
        return int(self._read())
