"""What TensorFlow and the file system raise while a snapshot is made or written, as our errors."""

from __future__ import annotations

import errno

import tensorflow as tf

from ackpt.errors import AckptError, SnapshotError, StorageFullError

SESSION_LOST = (tf.errors.AbortedError, tf.errors.UnavailableError)
"""Errors that are not ours to translate: `MonitoredSession` makes a new session when it sees them."""


def translate(error: Exception, *, step: int, doing: str) -> AckptError:
    """Return the error to raise instead of `error`, for `step`; `doing` is what was going on.

    An error of ours is returned as it is.
    """
    if isinstance(error, AckptError):
        return error
    if _is_full(error):
        return StorageFullError(
            f"no room left while {doing} of step {step} ({reason(error)}); "
            "make room in the staging folder, or choose another with staging_dir"
        )
    if _is_closed(error):
        return SnapshotError(
            f"the session was closed while {doing} of step {step} was under way; "
            "expected it to stay open until the step is staged",
            step=step,
        )
    return SnapshotError(f"{doing} of step {step} failed: {type(error).__name__}: {reason(error)}", step=step)


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # TensorFlow's local file system maps ENOSPC and EDQUOT to this, see IOErrorToStatus in
    # https://github.com/tensorflow/tensorflow/blob/v2.15.1/third_party/xla/third_party/tsl/tsl/platform/errors.cc
    return isinstance(error, tf.errors.ResourceExhaustedError)


def _is_closed(error: Exception) -> bool:
    # The Python session raises RuntimeError when it has been closed before the call, the C++ one
    # Cancelled when it is closed during it.
    if isinstance(error, tf.errors.CancelledError):
        return True
    return isinstance(error, RuntimeError) and "closed Session" in str(error)


def reason(error: Exception) -> str:
    """Return the line that tells why: in a session's error it stands before the names of the nodes."""
    message = str(error.message if isinstance(error, tf.errors.OpError) else error)
    before = message.partition("[[{{")[0]
    lines = [line.strip() for line in before.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
