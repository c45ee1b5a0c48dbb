"""A trainer to be killed: `python -m tests.engine.agent.trainer URL STAGING STEP [FALLBACK]`.

Saves one checkpoint by an uploader process, which it stops beforehand, and tells when it is staged.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import ackpt
from ackpt.events import Event, Staged
from tests.engine.agent.runs import agent_pid
from tests.engine.runs import Pinned


def main() -> None:
    """Save, and wait to be killed."""
    url, staging, step, *fallback = sys.argv[1:]

    def tell(event: Event) -> None:
        if isinstance(event, Staged):
            print("staged", flush=True)

    checkpointer = ackpt.BackgroundCheckpointer(
        url, staging_dir=staging, uploader="process", fallback=fallback[0] if fallback else None
    )
    checkpointer.subscribe(tell)
    checkpointer.start()
    pid = agent_pid(staging)
    print(pid, flush=True)
    os.kill(pid, signal.SIGSTOP)
    checkpointer.submit(Pinned(int(step)))
    time.sleep(60)


if __name__ == "__main__":
    main()
