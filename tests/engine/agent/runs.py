"""Uploader processes in tests: which one it is, whether it is there, and what it has committed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from ackpt.engine.agent.place import connect, pid_of

WAIT_SECS = 30.0


def folder_of(staging: str | os.PathLike[str]) -> Path:
    """Return the one run's folder below `staging`."""
    (folder,) = Path(staging).iterdir()
    return folder


def agent_pid(staging: str | os.PathLike[str]) -> int:
    """Return the id of the process that listens there."""
    connection = connect(folder_of(staging))
    assert connection is not None, "nobody listens"
    with connection:
        return pid_of(connection)


def is_free(staging: str | os.PathLike[str]) -> bool:
    """Tell whether nobody holds the lock."""
    with open(folder_of(staging) / "lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds; for what happens in other processes."""
    over = time.monotonic() + WAIT_SECS
    while not condition():
        assert time.monotonic() < over, f"not within {WAIT_SECS:g} s: {what}"
        time.sleep(0.01)


def committed(run: Path) -> list[int]:
    """Return the steps that are committed in a local run."""
    names = [path.name for path in run.glob("*.manifest.json")]
    return sorted(int(name.removesuffix(".manifest.json").rpartition("-")[2]) for name in names)
