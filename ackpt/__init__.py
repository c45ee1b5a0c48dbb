"""Get a training run's checkpoints into cloud storage without the training noticing, and never lose one.

The public names load what they need when they are first used: `import ackpt` imports nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ackpt.backends import open_backend, register_backend
    from ackpt.backends.base import Backend, BulkDeletingBackend, CopyingBackend, MultipartBackend
    from ackpt.checkpoint.retention import (
        Candidate,
        KeepAll,
        KeepBest,
        KeepEvery,
        KeepInterval,
        KeepLast,
        Retention,
    )
    from ackpt.engine.background import BackgroundCheckpointer, PendingSave
    from ackpt.engine.checkpointer import Checkpointer
    from ackpt.engine.failure import Raise, Tolerate
    from ackpt.engine.limits import Limits
    from ackpt.engine.listeners import CheckpointListener
    from ackpt.engine.overlap import Block, Coalesce, Queue, Skip
    from ackpt.engine.preemption import Preemption
    from ackpt.engine.restore import restore
    from ackpt.errors import AckptError
    from ackpt.hook import AsyncCheckpointSaverHook

__all__ = [
    "AckptError",
    "AsyncCheckpointSaverHook",
    "Backend",
    "BackgroundCheckpointer",
    "Block",
    "BulkDeletingBackend",
    "Candidate",
    "CheckpointListener",
    "Checkpointer",
    "Coalesce",
    "CopyingBackend",
    "KeepAll",
    "KeepBest",
    "KeepEvery",
    "KeepInterval",
    "KeepLast",
    "Limits",
    "MultipartBackend",
    "PendingSave",
    "Preemption",
    "Queue",
    "Raise",
    "Retention",
    "Skip",
    "Tolerate",
    "open_backend",
    "register_backend",
    "restore",
]

_HOMES = {
    "ackpt.backends": ("open_backend", "register_backend"),
    "ackpt.backends.base": ("Backend", "BulkDeletingBackend", "CopyingBackend", "MultipartBackend"),
    "ackpt.checkpoint.retention": (
        "Candidate",
        "KeepAll",
        "KeepBest",
        "KeepEvery",
        "KeepInterval",
        "KeepLast",
        "Retention",
    ),
    "ackpt.engine.background": ("BackgroundCheckpointer", "PendingSave"),
    "ackpt.engine.checkpointer": ("Checkpointer",),
    "ackpt.engine.failure": ("Raise", "Tolerate"),
    "ackpt.engine.limits": ("Limits",),
    "ackpt.engine.listeners": ("CheckpointListener",),
    "ackpt.engine.overlap": ("Block", "Coalesce", "Queue", "Skip"),
    "ackpt.engine.preemption": ("Preemption",),
    "ackpt.engine.restore": ("restore",),
    "ackpt.errors": ("AckptError",),
    "ackpt.hook": ("AsyncCheckpointSaverHook",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ackpt' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
