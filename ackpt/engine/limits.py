"""`ackpt.Limits`: what all runs that share it may use together, whatever threads they are in."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Protocol, TypedDict

from ackpt.engine.threads.guard import new_guard
from ackpt.errors import InvalidOptionError
from ackpt.options import MiB
from ackpt.transfer.budget import Shared
from ackpt.transfer.pool import Pool
from ackpt.transfer.rate import RateLimit

CONNECTIONS: Final = 64
MEMORY_BYTES: Final = 1024 * MiB


class Quotas(TypedDict):
    """Be one share of the limits, as it is told to another process: the arguments of `Limits`."""

    max_bytes_per_sec: float | None
    connections: int
    memory_bytes: int


class Elsewhere(Protocol):
    """Be a run that another process sends."""

    def hear_quotas(self, quotas: Quotas) -> None:
        """Pass on what its share is from now on; from any thread, at once."""


class Limits:
    """Bound what runs use together: bytes a second, connections, and memory; first come, first served.

    Give the same object to several hooks, checkpointers and restores (`limits=`), and they share it;
    those that are given none share one that the process has, with the defaults. A run's own bounds
    (the URL options `max_bytes_per_sec`, `concurrency` and `memory`) hold besides.

    A run that is sent by a process of its own (`uploader="process"`) has an equal share there, and
    all that are sent by this process have one share together: the sum is never more.
    In a fork the object is as new, and bounds what runs are made there: processes do not share it.
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
        self._limit = _read_rate(max_bytes_per_sec)
        self._connections = connections
        self._memory_bytes = memory_bytes
        self._guard = new_guard()
        self._shared = Shared(
            connections=Pool(connections, guard=new_guard()),
            memory=Pool(memory_bytes, guard=new_guard()),
            rate=RateLimit(self._limit, guard=new_guard()),
        )
        self._here: weakref.WeakSet[object] = weakref.WeakSet()
        self._elsewhere: weakref.WeakSet[Elsewhere] = weakref.WeakSet()
        os.register_at_fork(after_in_child=partial(_begin_anew, weakref.ref(self)))

    @classmethod
    def default(cls) -> Limits:
        """Return those of the process, which hold for all runs that are given none."""
        return _OF_THE_PROCESS

    def __repr__(self) -> str:
        return (
            f"Limits(max_bytes_per_sec={self._limit}, connections={self._connections}, "
            f"memory_bytes={self._memory_bytes})"
        )

    @property
    def max_bytes_per_sec(self) -> float | None:
        """Return the bytes that may travel in a second, None for no bound; set it at any time.

        From any thread; what is under way feels it within a second, in other processes, too.
        """
        return self._limit

    @max_bytes_per_sec.setter
    def max_bytes_per_sec(self, value: float | None) -> None:
        limit = _read_rate(value)
        with self._changing():
            self._limit = limit

    @property
    def connections(self) -> int:
        """Return how many requests may move bytes at one time."""
        return self._connections

    @property
    def memory_bytes(self) -> int:
        """Return how many bytes may be held for them."""
        return self._memory_bytes

    def join(self, run: object) -> Shared:
        """Take in a run that is sent by this process, until `leave`; return what it has a share in."""
        if run not in self._here:
            with self._changing():
                self._here.add(run)
        return self._shared

    def join_elsewhere(self, run: Elsewhere) -> None:
        """Take in a run that another process sends, until `leave`; it is told of its share, now and later."""
        with self._changing():
            self._elsewhere.add(run)

    def leave(self, run: object) -> None:
        """Let go of a run; idempotent."""
        if run in self._here or run in self._elsewhere:
            with self._changing():
                self._here.discard(run)
                self._elsewhere.discard(run)  # type: ignore[arg-type]

    def take_over(self, quotas: Quotas) -> None:
        """Be what another process has told of its own, in the process that sends for it."""
        with self._changing():
            self._limit = quotas["max_bytes_per_sec"]
            self._connections = quotas["connections"]
            self._memory_bytes = quotas["memory_bytes"]

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change something, and let everybody have the share that is theirs then."""
        self._guard.acquire()
        try:
            yield
            self._share_out()
        finally:
            self._guard.release()

    def _share_out(self) -> None:
        quotas = self._share()
        self._shared.rate.change(quotas["max_bytes_per_sec"])
        self._shared.connections.capacity = quotas["connections"]
        self._shared.memory.capacity = quotas["memory_bytes"]
        for run in self._elsewhere:
            run.hear_quotas(quotas)

    def _share(self) -> Quotas:
        sharers = max(1, len(self._elsewhere) + bool(self._here))
        return {
            "max_bytes_per_sec": None if self._limit is None else self._limit / sharers,
            "connections": max(1, self._connections // sharers),
            "memory_bytes": max(1, self._memory_bytes // sharers),
        }

    def _begin_anew(self) -> None:
        self._guard = new_guard()
        self._here.clear()
        self._elsewhere.clear()
        for each in (self._shared.connections, self._shared.memory, self._shared.rate):
            each.begin_anew(new_guard())
        self._share_out()


def read_quotas(words: Mapping[str, Any]) -> Quotas:
    """Read a share as another process has told it.

    Raises:
        KeyError, TypeError, ValueError: it told something else.
    """
    limit = words["max_bytes_per_sec"]
    return {
        "max_bytes_per_sec": _read_rate(None if limit is None else float(limit)),
        "connections": max(1, int(words["connections"])),
        "memory_bytes": max(1, int(words["memory_bytes"])),
    }


def _begin_anew(limits: weakref.ref[Limits]) -> None:
    alive = limits()
    if alive is not None:
        alive._begin_anew()


def _read_rate(value: float | None) -> float | None:
    """Check a limit before anything is changed by it."""
    RateLimit(value)
    return value


_OF_THE_PROCESS: Final = Limits()
