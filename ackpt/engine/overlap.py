"""Overlap policies: what becomes of a save request that comes while another save is under way.

Pure: `admit` looks at the pending saves and returns what to do; the checkpointer does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ackpt.errors import InvalidOptionError


class Phase(Enum):
    """Say how far a pending save has come."""

    WAITING = "waiting"
    """Pinned, not yet being written."""
    STAGING = "staging"
    """Being written to the staging folder; nothing sent."""
    STAGED = "staged"
    """In the staging folder, whole; nothing sent."""
    SENDING = "sending"
    """On its way to the store (perhaps while its last shards are being staged)."""


@dataclass(frozen=True, slots=True)
class Coalesce:
    """Let the newest waiting request take the place of an older waiting one; never block, never skip."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Let up to `size` requests (from 1 up) wait behind the one under way; then block the trainer."""

    size: int

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 1:
            raise InvalidOptionError(f"Queue: expected a whole number from 1 up, got {self.size!r}")


@dataclass(frozen=True, slots=True)
class Block:
    """Block the trainer until the save under way has ended."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Drop the new request, visibly, while a save is under way."""


Overlap = Coalesce | Queue | Block | Skip


@dataclass(frozen=True, slots=True)
class Start:
    """Take the request; the saves in `superseded` (indexes) end now, in its favour."""

    superseded: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again when a pending save has ended or moved on."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Skip the request, because of the pending save `busy` (index)."""

    busy: int


def admit(policy: Overlap, pending: Sequence[Phase]) -> Start | Wait | Refuse:
    """Decide about a new request, given the phases of the pending ones, oldest first."""
    match policy:
        case Coalesce():
            return Start(tuple(i for i, phase in enumerate(pending) if phase is Phase.WAITING))
        case Queue(size):
            return Wait() if len(pending) > size else Start()
        case Block():
            return Wait() if pending else Start()
        case Skip():
            return Refuse(len(pending) - 1) if pending else Start()


def outdated(policy: Overlap, older: Sequence[Phase]) -> tuple[int, ...]:
    """Return which of the `older` pending saves (indexes) a save that is now staged makes needless."""
    if not isinstance(policy, Coalesce):
        return ()
    return tuple(i for i, phase in enumerate(older) if phase is not Phase.SENDING)


def blocks(policy: Overlap) -> bool:
    """Tell whether the policy may make a request wait before it is taken."""
    return isinstance(policy, Queue | Block)
