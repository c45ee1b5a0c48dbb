"""The threads of ackpt's own, told apart from those that the process is there for."""

from __future__ import annotations

import threading


class OwnThread(threading.Thread):
    """Be a thread that serves others: it keeps the process alive, and is no reason to go on."""


def others_alive() -> bool:
    """Tell whether a thread that the process is there for is still alive: the main one, or a trainer's."""
    return any(
        not thread.daemon and not isinstance(thread, OwnThread) and thread.is_alive()
        for thread in threading.enumerate()
    )
