"""A saver that tells all it knows: it prints every event, and of every error all that Python can say."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

from ackpt import BackgroundCheckpointer
from ackpt.checkpoint.staged import StagedFile
from ackpt.events import Event, Failed, Progressed
from ackpt.options import MiB
from ackpt.snapshot.base import Snapshot


class State(Snapshot):
    """Be a checkpoint with one file of three parts."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Write file after file."""
        for name, size in {"data-00000-of-00001": 11 * MiB, "index": 100}.items():
            path = folder / f"{prefix}.{name}"
            path.write_bytes(b"%08d" % self.step * (size // 8))
            yield StagedFile(key=path.name, path=path, size=path.stat().st_size)

    def release(self) -> None:
        """Let go of nothing."""


def tell(event: Event) -> None:
    """Print an event, and what of an error it carries."""
    if not isinstance(event, Progressed):
        print(repr(event), str(event))
    if isinstance(event, Failed):
        tell_error(event.error)


def tell_error(error: BaseException) -> None:
    """Print an error in all ways, with all that led to it."""
    print("".join(traceback.format_exception(error)))
    seen: BaseException | None = error
    while seen is not None:
        print(repr(seen), str(seen), vars(seen))
        seen = seen.__cause__ or seen.__context__


def save(url: str, staging: Path, step: int, secs: float | None = None) -> None:
    """Save a step; with `secs` close after so many, whatever is under way."""
    checkpointer = BackgroundCheckpointer(url, name="model.ckpt", staging_dir=staging)
    checkpointer.subscribe(tell)
    try:
        checkpointer.start()
        pending = checkpointer.submit(State(step))
        if secs is None:
            pending.result()
        checkpointer.close(secs)
        print(repr(checkpointer), repr(pending), vars(checkpointer))
        checkpointer.raise_if_failed()
    except Exception as error:
        tell_error(error)
