"""The snapshot of a step whose state could not be pinned: it fails the save like any later failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ackpt.checkpoint.staged import StagedFile
from ackpt.errors import AckptError
from ackpt.snapshot.base import Snapshot


class FailedSnapshot(Snapshot):
    """Hold the error, so that the failure policy decides what the trainer feels of it."""

    def __init__(self, error: AckptError, *, step: int) -> None:
        self.step = step
        self._error = error

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Raise the error."""
        raise self._error
        yield  # type: ignore[unreachable]  # makes this a generator, as every `stage` is

    def release(self) -> None:
        """Let go of nothing."""
