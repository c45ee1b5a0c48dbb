"""A training-like process, to be killed: `python -m tests.crash.trainer URL FOLDER GOAL`.

Goes on from the newest checkpoint and saves every step up to GOAL, one after another. Prints
`begun` before it touches the run, and keeps a diary of what it was told. Exits with 3 where
something that it was promised does not hold.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import ackpt
from ackpt import BackgroundCheckpointer, KeepLast, Queue
from ackpt.checkpoint.staged import StagedFile
from ackpt.events import Committed, Event, Outcome, Staged
from ackpt.options import KiB, MiB
from ackpt.snapshot.base import Snapshot

PART_BYTES = 5 * MiB
OPTIONS = f"anonymous=true&part_size={PART_BYTES}&concurrency=1"


def content(step: int) -> dict[str, bytes]:
    """Make the files of the checkpoint of `step`: one of three parts, and three small ones."""
    block = hashlib.shake_128(b"%d" % step).digest(64 * KiB)
    return {
        "data-00000-of-00002": block * (11 * MiB // len(block)),
        "data-00001-of-00002": block * 4,
        "index": block[:500],
        "meta": b"graph",
    }


class State(Snapshot):
    """Be the state of a training at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Write file after file."""
        for name, data in content(self.step).items():
            path = folder / f"{prefix}.{name}"
            path.write_bytes(data)
            yield StagedFile(key=path.name, path=path, size=len(data))

    def release(self) -> None:
        """Let go of nothing."""


class Diary:
    """Keep what a process was told; a line is there as soon as it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, event: Event) -> None:
        """Take note of what is staged or has ended."""
        if isinstance(event, Staged | Outcome):
            self.note(type(event).__name__, event.step)

    def note(self, what: str, step: int) -> None:
        """Write a line."""
        os.write(self._fd, json.dumps({"what": what, "step": step}).encode() + b"\n")

    def highest(self, what: str) -> int:
        """Return the highest step of which `what` was noted, 0 where none was."""
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return max((line["step"] for line in lines if line["what"] == what), default=0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def main(url: str, folder: Path, goal: int) -> int:
    """Train."""
    diary = Diary(folder / "diary.jsonl")
    staging = folder / "staging"
    staged = diary.highest("Staged")
    print("begun", flush=True)
    prefix = ackpt.restore(url, folder / "model", staging_dir=staging)
    step = 0 if prefix is None else int(prefix.rpartition("-")[2])
    diary.note("Restored", step)
    if step < staged:
        print(f"step {staged} was staged, and step {step} restored")
        return 3
    for name, data in content(step).items() if prefix is not None else ():
        if Path(f"{prefix}.{name}").read_bytes() != data:
            print(f"{prefix}.{name} has other bytes")
            return 3
    checkpointer = BackgroundCheckpointer(
        url, name="model.ckpt", staging_dir=staging, retention=KeepLast(2), overlap=Queue(1)
    )
    checkpointer.subscribe(diary)
    with checkpointer:
        while step < goal:
            step += 1
            outcome = checkpointer.submit(State(step)).result()
            if not isinstance(outcome, Committed):
                print(f"step {step} was not saved: {outcome}")
                return 3
    diary.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
