"""Deletion of a checkpoint, in an order in which no reader sees a committed one with holes.

A tombstone is written first, so that a deletion that was cut short can be finished: it holds the
manifest's text, and so names exactly what was ours.
"""

from __future__ import annotations

from contextlib import aclosing
from functools import partial

from ackpt.backends.base import Backend
from ackpt.checkpoint.catalog import read_object
from ackpt.checkpoint.commit import find_committed
from ackpt.checkpoint.manifest import SUFFIX, Manifest
from ackpt.transfer.body import BytesBody
from ackpt.transfer.fan_out import fan_out

TOMBSTONE_SUFFIX = ".deleted.json"

_AT_ONCE = 8


async def delete_checkpoint(backend: Backend, manifest: Manifest) -> None:
    """Delete a committed checkpoint: tombstone, manifest, index, the other objects, tombstone.

    The caller has made sure that the state file points elsewhere.
    """
    tombstone = manifest.prefix + TOMBSTONE_SUFFIX
    await backend.put(tombstone, BytesBody(manifest.to_json()))
    await _bury(backend, manifest, tombstone)


async def finish_deletions(backend: Backend, *, name: str) -> list[str]:
    """Finish the deletions that an earlier process began; return the prefixes.

    Raises:
        CorruptCheckpointError: a tombstone cannot be trusted; nothing it names was touched.
    """
    async with aclosing(backend.list(f"{name}-")) as objects:
        tombstones = [info.key async for info in objects if info.key.endswith(TOMBSTONE_SUFFIX)]
    prefixes = []
    for tombstone in sorted(tombstones):
        prefix = tombstone.removesuffix(TOMBSTONE_SUFFIX)
        buried = Manifest.from_json(await read_object(backend, tombstone), key=prefix + SUFFIX)
        there = await find_committed(backend, step=buried.step, prefix=prefix)
        if there is None or there == buried:
            await _bury(backend, buried, tombstone)
            prefixes.append(prefix)
        else:  # the step was saved again after the deletion had begun: that one stays
            await backend.delete(tombstone)
    return prefixes


async def _bury(backend: Backend, manifest: Manifest, tombstone: str) -> None:
    await backend.delete(manifest.key)
    index = f"{manifest.prefix}.index"
    await backend.delete(index)
    others = [each.key for each in manifest.objects if each.key != index]
    await fan_out([partial(backend.delete, key) for key in others], limit=_AT_ONCE)
    await backend.delete(tombstone)
