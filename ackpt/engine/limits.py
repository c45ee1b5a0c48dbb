"""`ackpt.Limits`: what all runs that share it may use together, whatever threads they are in."""

from __future__ import annotations

from typing import Final

from ackpt.engine.sharing import Sharing
from ackpt.errors import InvalidOptionError
from ackpt.options import MiB

CONNECTIONS: Final = 64
MEMORY_BYTES: Final = 1024 * MiB


class Limits:
    """Bound what runs use together: bytes a second, connections, and memory; first come, first served.

    Give the same object to several hooks, checkpointers and restores (`limits=`), and they share it;
    those that are given none share one that the process has (`default`). A run's own bounds (the
    URL options `max_bytes_per_sec`, `concurrency` and `memory`) hold besides.

    A run that is sent by a process of its own (`uploader="process"`) has an equal share there, and
    all that are sent by this process have one share together: the sum is never more, but that each has
    one connection at least.
    In a fork the object is as new, and bounds the runs that are made there: a process shares nothing
    with the one it was forked from.
    """

    def __init__(
        self,
        *,
        max_bytes_per_sec: float | None = None,
        connections: int = CONNECTIONS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """Set the bounds; None is no bound.

        `connections` bounds the requests that move bytes at one time, `memory_bytes` the bytes held
        for them (a body that a backend wants in one piece, and is larger, is held alone).

        Raises:
            InvalidOptionError: a bound that lets nothing through.
        """
        for name, value in {"connections": connections, "memory_bytes": memory_bytes}.items():
            if not isinstance(value, int) or value < 1:
                raise InvalidOptionError(f"{name}: expected a whole number from 1 up, got {value!r}")
        self.sharing = Sharing(
            {
                "max_bytes_per_sec": max_bytes_per_sec,
                "connections": connections,
                "memory_bytes": memory_bytes,
            }
        )

    @classmethod
    def default(cls) -> Limits:
        """Return those of the process, which hold for all runs that are given none."""
        return _OF_THE_PROCESS

    @property
    def max_bytes_per_sec(self) -> float | None:
        """Return the bytes that may travel in a second, None for no bound; set it at any time.

        From any thread; what is under way feels it within a second, in other processes, too.
        """
        return self.sharing.quotas["max_bytes_per_sec"]

    @max_bytes_per_sec.setter
    def max_bytes_per_sec(self, value: float | None) -> None:
        self.sharing.change({**self.sharing.quotas, "max_bytes_per_sec": value})

    @property
    def connections(self) -> int:
        """Return how many requests may move bytes at one time."""
        return self.sharing.quotas["connections"]

    @property
    def memory_bytes(self) -> int:
        """Return how many bytes may be held for them."""
        return self.sharing.quotas["memory_bytes"]

    def __repr__(self) -> str:
        bounds = ", ".join(f"{name}={value}" for name, value in self.sharing.quotas.items())
        return f"Limits({bounds})"


_OF_THE_PROCESS: Final = Limits()
