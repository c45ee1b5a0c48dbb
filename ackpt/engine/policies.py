"""The options of a checkpointer: which there are, and whether what was given is one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypedDict, get_args

from ackpt.checkpoint.retention import Retention
from ackpt.engine.failure import FailurePolicy
from ackpt.engine.limits import Limits
from ackpt.engine.listeners import CheckpointListener
from ackpt.engine.overlap import Overlap
from ackpt.engine.preemption import Preemption
from ackpt.errors import InvalidOptionError

Uploader = Literal["thread", "process"]
"""Who sends what is staged: the checkpointer itself (on its event loop), or a process that outlives it."""


class CheckpointerOptions(TypedDict, total=False):
    """List the options of a `Checkpointer`, for front ends that pass them on."""

    name: str
    overlap: Overlap
    failure: FailurePolicy
    retention: Retention
    staging_dir: str | os.PathLike[str] | None
    preemption: Preemption | None
    fallback: str | os.PathLike[str] | None
    uploader: Uploader
    limits: Limits | None
    listeners: Sequence[CheckpointListener]


def check_policies(
    *,
    overlap: object,
    failure: object,
    retention: object,
    preemption: object,
    uploader: object,
    limits: object,
    listeners: Sequence[object],
) -> None:
    """Make sure that every policy is one: most callers are not type-checked.

    Raises:
        InvalidOptionError: one is not (a name, a class that was not called, a number).
    """
    if not isinstance(overlap, Overlap):
        raise _refused("overlap", "ackpt.Coalesce(), ackpt.Queue(n), ackpt.Block() or ackpt.Skip()", overlap)
    if not isinstance(failure, FailurePolicy):
        raise _refused("failure", "ackpt.Tolerate(n) or ackpt.Raise()", failure)
    if not isinstance(retention, Retention):
        raise _refused("retention", "a policy such as ackpt.KeepLast(5)", retention)
    if not isinstance(preemption, Preemption | None):
        raise _refused("preemption", "ackpt.Preemption(grace_secs=…) or None", preemption)
    if uploader not in get_args(Uploader):
        raise _refused("uploader", "'thread' or 'process'", uploader)
    if not isinstance(limits, Limits | None):
        raise _refused("limits", "ackpt.Limits(…) or None", limits)
    for listener in listeners:
        if not isinstance(listener, CheckpointListener):
            raise _refused("listeners", "instances of ackpt.CheckpointListener", listener)


def _refused(name: str, expected: str, got: object) -> InvalidOptionError:
    hint = f"; call it: {got.__name__}(…)" if isinstance(got, type) else ""
    return InvalidOptionError(f"{name}: expected {expected}, got {got!r}{hint}")
