"""Locks between the processes (and threads) of one host, which the kernel takes back on death."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ackpt.errors import TransientError

LOCK_SECS: Final = 30.0
"""How long a lock is waited for; it is held for renames, and longest while an upload completes."""

_LOOK_AGAIN_SECS: Final = 0.002


@contextmanager
def locked(path: str, what: str) -> Iterator[int]:
    """Hold the lock on the file at `path` (made where absent); give its descriptor. Blocks the thread.

    Raises:
        TransientError: somebody else has held it all the time.
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        wait_for_lock(descriptor, what)
        try:
            yield descriptor
        finally:
            unlock(descriptor)
    finally:
        os.close(descriptor)


def wait_for_lock(descriptor: int, what: str) -> None:
    """Lock an open file for this descriptor alone.

    Raises:
        TransientError: somebody else has held it all the time.
    """
    until = time.monotonic() + LOCK_SECS
    while not try_lock(descriptor):
        # By asking again rather than in the kernel: a thread that waits there cannot give up.
        if time.monotonic() > until:
            raise TransientError(f"{what}: another writer has held the lock for {LOCK_SECS:.0f} s; try later")
        time.sleep(_LOOK_AGAIN_SECS)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file if nobody else has it locked; tell whether that was done."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Let go of a lock; closing is not enough while a forked child has the descriptor too."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
