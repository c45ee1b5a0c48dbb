"""What killed processes left in our own folder, and its removal; never what somebody alive uses."""

from __future__ import annotations

import os
from contextlib import suppress

from ackpt.backends._file.locks import try_lock, unlock
from ackpt.backends._file.place import JOURNAL, PUT, UPLOAD


def sweep(home: str) -> None:
    """Remove temporary files that nobody has locked, and folders of uploads that have no journal.

    Unfinished uploads stay: they can be gone on with, and are the core's to abort.
    """
    with os.scandir(home) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        path = os.path.join(home, name)
        if name.startswith(PUT):
            _remove_if_dead(path)
        elif name.startswith(UPLOAD) and not os.path.lexists(os.path.join(path, JOURNAL)):
            with suppress(PermissionError):
                remove_folder(path)


def remove(path: str) -> None:
    """Remove a file; absent is success."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def remove_folder(path: str) -> None:
    """Remove a flat folder; absent is success, also while somebody else removes it."""
    with suppress(FileNotFoundError):
        with os.scandir(path) as entries:
            files = [entry.path for entry in entries]
        for file in files:
            remove(file)
        os.rmdir(path)


def _remove_if_dead(path: str) -> None:
    with suppress(FileNotFoundError, PermissionError):  # somebody else's is theirs to remove
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if try_lock(descriptor):
                remove(path)
                unlock(descriptor)
        finally:
            os.close(descriptor)
