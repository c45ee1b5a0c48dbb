"""Which tensors go into which data file of a checkpoint; pure."""

from __future__ import annotations

from collections.abc import Sequence

from ackpt.errors import InvalidOptionError


def plan_shards(sizes: Sequence[int | None], shard_bytes: int) -> list[tuple[int, ...]]:
    """Group tensors, by index, into shards of at most `shard_bytes` bytes each.

    A tensor that is larger, or whose size is not known beforehand (None), is a shard of its own.
    The others fill shards in the order given; shards come in the order of their first tensors.

    Raises:
        InvalidOptionError: `shard_bytes` is below 1.
    """
    if shard_bytes < 1:
        raise InvalidOptionError(f"shard_bytes: expected at least 1 byte, got {shard_bytes}")
    shards: list[list[int]] = []
    filling: list[int] = []
    filled = 0
    for index, size in enumerate(sizes):
        if size is None or size > shard_bytes:
            shards.append([index])
            continue
        if not filling or filled + size > shard_bytes:
            filling, filled = [], 0
            shards.append(filling)
        filling.append(index)
        filled += size
    return [tuple(shard) for shard in shards]
