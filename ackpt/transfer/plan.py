"""Which parts an object is sent or fetched in: a pure decision, with no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from ackpt.backends.base import PartLimits
from ackpt.errors import InvalidOptionError, UnsupportedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Name one part: its number (from 1) and its bytes, `start` to `stop` (half-open)."""

    number: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self.stop - self.start


def plan_parts(size: int, part_bytes: int, limits: PartLimits | None = None) -> tuple[Part, ...]:
    """Cut an object of `size` bytes into parts of about `part_bytes`, bent to the store's `limits`.

    The parts are in order, touch each other, and cover the object; all but the last have the same
    size, which is at least `part_bytes` where the limits make it larger (too many parts, below
    the minimum, not a multiple of the granularity) and less only where they force it down.
    An object that needs no cut is one part, an empty one too.

    Raises:
        InvalidOptionError: a negative size, or no part size.
        UnsupportedError: no part size within `limits` holds an object of this size.
    """
    raise NotImplementedError
