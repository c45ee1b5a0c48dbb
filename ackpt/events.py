"""What happens to a save, as values: logs, listeners and telemetry are subscribers to these.

Every save request ends in exactly one `Outcome`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Name the step, and the run's URL (without its options), that something happened to."""

    step: int
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged(Event):
    """Say that the checkpoint lies in the staging folder: a crash of the process loses nothing.

    `size` is in bytes; `stage_secs` is how long the writing took.
    """

    size: int
    stage_secs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed(Event):
    """Say that the store has acknowledged more of the checkpoint's bytes: `sent` of `size`.

    Comes with every object and every part; `size` is what is staged so far. `sent` becomes less
    when an object has to be sent again. `connections` is how many the store may be used with at a
    time just now (0: not known).
    """

    sent: int
    size: int
    connections: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed(Event):
    """Say that the checkpoint is durable in the store, verified, and visible to readers.

    `prefix` is the checkpoint's name below the target (`model.ckpt-1000`); `size` is in bytes;
    `stall_secs` is what the trainer thread paid, `stage_secs` the writing to the staging folder,
    `upload_secs` the time from the first byte sent to the commit; `already` tells that the
    same content had been committed before and nothing was sent; `copied` of the bytes were copied
    inside the store, since the checkpoint before held the same, and so were not sent.
    """

    prefix: str
    size: int
    stall_secs: float
    stage_secs: float
    upload_secs: float
    already: bool = False
    copied: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded(Event):
    """Say that a newer request took this one's place before its bytes were sent."""

    by_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(Event):
    """Say that the request was not taken, since the save of `busy_step` was still under way."""

    busy_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """Say that the save failed, and of what; what was committed before is as it was.

    `staged` tells that the checkpoint lies whole in the staging folder and can be resumed.
    """

    error: Exception
    staged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked(Event):
    """Say that the save was left in the staging folder for a later process to finish."""

    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted(Event):
    """Say that retention removed the checkpoint of this step."""

    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerFailed(Event):
    """Say that a listener raised or took too long; the save is not touched by it."""

    listener: str
    error: Exception


Outcome = Committed | Superseded | Skipped | Failed | Parked
