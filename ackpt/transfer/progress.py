"""How far one object has come, told as it goes."""

from __future__ import annotations

from collections.abc import Callable


class Progress:
    """Count the bytes of one object that have arrived, and report every change."""

    __slots__ = ("_done", "_report")

    def __init__(self, report: Callable[[int], None] | None) -> None:
        self._report = report
        self._done = 0

    def add(self, size: int) -> None:
        """Report `size` more bytes."""
        self._done += size
        if self._report is not None:
            self._report(size)

    def take_back(self) -> None:
        """Report that all of it must be done again: a negative number."""
        if self._done:
            self.add(-self._done)
