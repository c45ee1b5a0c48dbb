"""A training that is preempted, in a process of its own: `python -m tests.engine.preempted MODE FOLDER`.

Prints `ready` when the signal may come, and the outcome of the save that follows it.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import ackpt
from ackpt.backends.base import Backend
from ackpt.backends.file import FileBackend
from ackpt.checkpoint.staged import StagedFile
from ackpt.snapshot.base import Snapshot
from ackpt.testing import FaultScript, On, Request, Slow, inject
from ackpt.url import StorageURL

GRACE_SECS = 4.0


class State(Snapshot):
    """Be state that takes a while to write."""

    def __init__(self, step: int, size: int = 1000, secs: float = 0.0) -> None:
        self.step = step
        self._size = size
        self._secs = secs

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        time.sleep(self._secs)
        key = f"{prefix}.index"
        (folder / key).write_bytes(b"x" * self._size)
        yield StagedFile(key=key, path=folder / key, size=self._size)

    def release(self) -> None:
        return None


def slow(url: StorageURL) -> Backend:
    """Open a folder behind a line that takes half a second for every checkpoint file."""
    line = On(fault=Slow(0.5), operation="put", key="*.index", times=None)
    return inject(FileBackend(f"/{url.path}"), FaultScript(line))


class Stuck(Slow):
    """Say when it has begun."""

    async def before(self, request: Request) -> None:
        print("ready", flush=True)
        await super().before(request)


def stuck(url: StorageURL) -> Backend:
    """Open a folder whose listing takes for ever."""
    line = On(fault=Stuck(60.0), operation="list", times=None)
    return inject(FileBackend(f"/{url.path}"), FaultScript(line))


def main(mode: str, folder: str) -> None:
    """Train until told to stop."""
    ackpt.register_backend("slow", slow)
    ackpt.register_backend("stuck", stuck)
    if mode == "handler":
        signal.signal(signal.SIGTERM, lambda number, frame: print("mine", flush=True))
    target = {"slow": f"slow://x{folder}", "resume": f"slow://x{folder}", "start": f"stuck://x{folder}"}
    policy = ackpt.Preemption(grace_secs=GRACE_SECS, reserve_secs=1.0)
    with ackpt.BackgroundCheckpointer(target.get(mode, folder), preemption=policy) as checkpointer:
        if mode == "resume":
            return
        if mode == "fork":
            worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            worker.start()
            worker.terminate()
            worker.join(30)
            print(worker.exitcode, checkpointer.preempted, flush=True)
            return
        checkpointer.submit(State(1)).result(30)
        if mode == "staging":
            checkpointer.submit(State(2, secs=1.0))
        print("ready", flush=True)
        if mode == "call":
            checkpointer.preempt()
        while not checkpointer.preempted:
            time.sleep(0.01)
        if mode == "hang":
            time.sleep(60)
        # a second's worth of bytes, or hours' worth, at the pace of the first save
        pending = checkpointer.submit(State(3, size=10_000_000 if mode == "slow" else 1000))
        checkpointer.close()
        print(type(pending.result()).__name__, flush=True)
    print("went on", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
