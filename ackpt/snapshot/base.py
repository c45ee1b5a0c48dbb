"""What a snapshot is: the state of one step, pinned on the trainer thread, written later by a worker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from ackpt.checkpoint.staged import StagedFile


class Snapshot(ABC):
    """Hold the state of one step until it has been written.

    Made on the trainer thread; `stage` and `release` are called on a worker thread.
    """

    step: int

    @abstractmethod
    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        """Write the checkpoint into `folder` (empty, ours alone), a file at a time; at most once.

        Yields each file as soon as it is finished, in the order in which they must become visible
        (data before index). Keys begin with `prefix` (`model.ckpt-1000`), and a file lies at
        `folder / key`, where a later process looks for it. Memory that a file no
        longer needs is let go before the file is yielded. Closing the iterator early (`close()`)
        stops the work; `release` still follows.

        Raises:
            SnapshotError: the state could not be read or written.
            StorageFullError: no room left in `folder`.
        """

    @abstractmethod
    def release(self) -> None:
        """Let go of everything pinned. Called exactly once, whatever the outcome; must not raise."""
