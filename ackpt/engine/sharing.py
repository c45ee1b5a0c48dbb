"""Who shares limits: runs that this process sends, and runs that other processes send for it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypedDict

from ackpt.engine.threads.guard import new_guard
from ackpt.transfer.budget import Shared
from ackpt.transfer.pool import Pool
from ackpt.transfer.rate import RateLimit


class Quotas(TypedDict):
    """Say how much there is: of all, or of one share, as it is told to another process."""

    max_bytes_per_sec: float | None
    connections: int
    memory_bytes: int


class Elsewhere(Protocol):
    """Be a run that another process sends."""

    def hear_quotas(self, quotas: Quotas) -> None:
        """Pass on what its share is from now on; from any thread, at once."""


class Sharing:
    """Share `quotas` out: equal shares to runs elsewhere, and one to all runs of this process together.

    All methods may be called from any thread. In a fork it is as new.
    """

    def __init__(self, quotas: Quotas) -> None:
        """Begin without a run.

        Raises:
            InvalidOptionError: a rate that lets nothing through.
        """
        self._quotas = quotas
        self._guard = new_guard()
        self.here = Shared(
            connections=Pool(quotas["connections"], guard=new_guard()),
            memory=Pool(quotas["memory_bytes"], guard=new_guard()),
            rate=RateLimit(quotas["max_bytes_per_sec"], guard=new_guard()),
        )
        self._runs_here: weakref.WeakSet[object] = weakref.WeakSet()
        self._runs_elsewhere: weakref.WeakSet[Elsewhere] = weakref.WeakSet()
        os.register_at_fork(after_in_child=partial(_begin_anew, weakref.ref(self)))

    @property
    def quotas(self) -> Quotas:
        """Return how much there is of all."""
        return self._quotas

    def change(self, quotas: Quotas) -> None:
        """Share out something else.

        Raises:
            InvalidOptionError: a rate that lets nothing through; nothing has changed.
        """
        RateLimit(quotas["max_bytes_per_sec"])
        with self._changing():
            self._quotas = quotas

    def join(self, run: object) -> Shared:
        """Take in a run that is sent by this process, until `leave`; return what it has a share in."""
        with self._changing():
            self._runs_here.add(run)
        return self.here

    def join_apart(self, run: object) -> Shared:
        """Take in a run whose caller holds up an event loop until it is done: with bounds for it alone.

        What that loop's tasks hold is not given back before, so that a wait for it would never end.
        The bytes a second, which come with time alone, are those of all.
        """
        share, rate = self._share(), self.join(run).rate
        return Shared(connections=Pool(share["connections"]), memory=Pool(share["memory_bytes"]), rate=rate)

    def join_elsewhere(self, run: Elsewhere) -> None:
        """Take in a run that another process sends, until `leave`; it is told of its share, now and later."""
        with self._changing():
            self._runs_elsewhere.add(run)

    def leave(self, run: object) -> None:
        """Let go of a run; idempotent."""
        with self._changing():
            self._runs_here.discard(run)
            self._runs_elsewhere.discard(run)  # type: ignore[arg-type]

    @property
    def sharers(self) -> int:
        """Return among how many it is shared out."""
        return len(self._runs_elsewhere) + bool(self._runs_here)

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
        share = self._share()
        self.here.rate.change(share["max_bytes_per_sec"])
        self.here.connections.capacity = share["connections"]
        self.here.memory.capacity = share["memory_bytes"]
        for run in self._runs_elsewhere:
            run.hear_quotas(share)

    def _share(self) -> Quotas:
        limit, sharers = self._quotas["max_bytes_per_sec"], max(1, self.sharers)
        return {
            "max_bytes_per_sec": None if limit is None else limit / sharers,
            "connections": max(1, self._quotas["connections"] // sharers),
            "memory_bytes": max(1, self._quotas["memory_bytes"] // sharers),
        }

    def _begin_anew(self) -> None:
        self._guard = new_guard()
        self._runs_here.clear()
        self._runs_elsewhere.clear()
        self.here.connections.begin_anew(new_guard())
        self.here.memory.begin_anew(new_guard())
        self.here.rate.begin_anew(new_guard())
        self._share_out()


def read_quotas(words: Mapping[str, Any]) -> Quotas:
    """Read quotas as another process has told them.

    Raises:
        KeyError, TypeError, ValueError: it told something else.
    """
    limit = words["max_bytes_per_sec"]
    return {
        "max_bytes_per_sec": None if limit is None else float(limit),
        "connections": max(1, int(words["connections"])),
        "memory_bytes": max(1, int(words["memory_bytes"])),
    }


def _begin_anew(sharing: weakref.ref[Sharing]) -> None:
    alive = sharing()
    if alive is not None:
        alive._begin_anew()
