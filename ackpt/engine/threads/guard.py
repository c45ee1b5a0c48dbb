"""What holds threads apart, for those who may not know of threads."""

from __future__ import annotations

import threading

from ackpt.transfer.pool import Guard


def new_guard() -> Guard:
    """Make a lock; it is held for a few instructions at a time, and never across an await."""
    return threading.Lock()
