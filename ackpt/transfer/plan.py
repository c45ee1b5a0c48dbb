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
    size: `part_bytes`, made larger where the limits ask for it (too many parts, below the minimum,
    not a multiple of the granularity) and smaller only where the maximum does.
    An object that needs no cut is one part, an empty one too.

    Raises:
        InvalidOptionError: a negative size, or a part size below 1.
        UnsupportedError: no part size within `limits` holds an object of this size.
    """
    if size < 0 or part_bytes < 1:
        raise InvalidOptionError(
            f"parts: expected a size from 0 and a part size from 1 byte, got {size} and {part_bytes}"
        )
    step = part_bytes if limits is None else _bend(size, part_bytes, limits)
    if size <= step:
        return (Part(number=1, start=0, stop=size),)
    return tuple(
        Part(number=number, start=start, stop=min(start + step, size))
        for number, start in enumerate(range(0, size, step), start=1)
    )


def _bend(size: int, part_bytes: int, limits: PartLimits) -> int:
    """Return the part size within `limits` that is nearest to `part_bytes`."""
    unit = limits.granularity_bytes
    largest = limits.max_part_bytes // unit * unit
    fewest = -(-size // limits.max_parts)
    step = -(-max(part_bytes, limits.min_part_bytes, fewest) // unit) * unit
    if step <= largest:
        return step
    if size <= limits.max_part_bytes:
        return limits.max_part_bytes  # one part: it is the last, which the granularity does not bind
    if largest < max(limits.min_part_bytes, fewest):
        raise UnsupportedError(
            f"an object of {size} bytes does not fit in {limits.max_parts} parts of at most "
            f"{limits.max_part_bytes} bytes; split it into smaller objects (more shards)"
        )
    return largest
