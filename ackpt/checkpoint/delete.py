"""Deletion of a checkpoint, in an order in which no reader sees a committed one with holes.

A tombstone is written first, so that a deletion that was cut short can be finished: it holds the
manifest's text, and so names exactly what was ours.
"""

from __future__ import annotations

import logging
from contextlib import aclosing

from ackpt.backends.base import Backend
from ackpt.checkpoint.catalog import read_object
from ackpt.checkpoint.commit import find_committed
from ackpt.checkpoint.manifest import SUFFIX, Manifest, is_named
from ackpt.errors import CorruptCheckpointError, NotFoundError
from ackpt.transfer.body import BytesBody
from ackpt.transfer.deletion import delete_all

_log = logging.getLogger(__name__)

TOMBSTONE_SUFFIX = ".deleted.json"


async def delete_checkpoint(backend: Backend, manifest: Manifest) -> None:
    """Delete a committed checkpoint: tombstone, manifest, index, the other objects, tombstone.

    Objects that were adopted are somebody else's, and stay. The caller has made sure that the state
    file points elsewhere.
    """
    tombstone = manifest.prefix + TOMBSTONE_SUFFIX
    await backend.put(tombstone, BytesBody(manifest.to_json()))
    await _bury(backend, manifest, tombstone)


async def finish_deletions(backend: Backend, *, name: str) -> list[str]:
    """Finish the deletions that an earlier process began; return the prefixes.

    What a tombstone that cannot be trusted names is not touched, with a warning.

    Raises:
        StorageError: the store cannot be listed or written to.
    """
    prefixes = []
    for prefix in await _tombstones(backend, name):
        try:
            if await _finish(backend, prefix):
                prefixes.append(prefix)
        except NotFoundError:
            continue  # another process has finished it meanwhile
        except CorruptCheckpointError as error:
            _log.warning("the unfinished deletion %s%s is left alone: %s", prefix, TOMBSTONE_SUFFIX, error)
    return prefixes


async def _tombstones(backend: Backend, name: str) -> list[str]:
    async with aclosing(backend.list(f"{name}-")) as objects:
        keys = [info.key async for info in objects]
    found = sorted(key.removesuffix(TOMBSTONE_SUFFIX) for key in keys if key.endswith(TOMBSTONE_SUFFIX))
    return [prefix for prefix in found if is_named(prefix, name)]


async def _finish(backend: Backend, prefix: str) -> bool:
    tombstone = prefix + TOMBSTONE_SUFFIX
    buried = Manifest.from_json(await read_object(backend, tombstone), key=prefix + SUFFIX)
    there = await find_committed(backend, step=buried.step, prefix=prefix)
    if there is None or there == buried:
        await _bury(backend, buried, tombstone)
        return True
    await backend.delete(tombstone)  # the step was saved again after the deletion had begun: that one stays
    return False


async def _bury(backend: Backend, manifest: Manifest, tombstone: str) -> None:
    await backend.delete(manifest.key)
    index = f"{manifest.prefix}.index"
    mine = {each.key for each in manifest.objects if not each.adopted}
    if index in mine:
        await backend.delete(index)
    await delete_all(backend, sorted(mine - {index}))
    await backend.delete(tombstone)
