"""The staging folder of a trainer, while another process has its lock and sends what lies there."""

from __future__ import annotations

from ackpt.checkpoint.staging import StagedSave, StagingFolder


class SharedFolder(StagingFolder):
    """Be the staging folder of a trainer whose uploader process holds the lock, and tidies up."""

    alone = False
    """The uploader process has been given up."""

    def lock(self) -> None:
        """Make the folder; the other process has the lock."""
        self.make()
        self.note_target()

    def saves(self) -> list[StagedSave]:
        """Return nothing that others have left, while the other process sees to that."""
        return super().saves() if self.alone else []

    def left(self) -> bool:
        """Tell whether something lies there."""
        return bool(super().saves())
