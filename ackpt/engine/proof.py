"""Proof: does the store show what was sent, and is the run still this writer's?"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing

from ackpt.backends.base import Backend, ObjectInfo
from ackpt.checkpoint.fence import check_claim
from ackpt.checkpoint.manifest import Manifest, ManifestObject
from ackpt.engine.request import SaveRequest
from ackpt.errors import CorruptCheckpointError, FencedError, StorageError

_log = logging.getLogger(__name__)


async def list_objects(backend: Backend, prefix: str) -> dict[str, ObjectInfo]:
    """Return what lies under `prefix`, and not under a longer one that merely starts with it."""
    async with aclosing(backend.list(prefix)) as objects:
        return {o.key: o async for o in objects if o.key.startswith((f"{prefix}.", f"{prefix}/"))}


def check_sent(request: SaveRequest, sent: Sequence[ObjectInfo], there: dict[str, ObjectInfo]) -> None:
    """Compare what was sent with what the store lists, just before the commit.

    Raises:
        CorruptCheckpointError: something is gone, or another.
    """
    for each in sent:
        found = there.get(each.key)
        same = (
            found is not None
            and (found.size, found.version) == (each.size, each.version)
            and found.crc32c in (None, each.crc32c)
        )
        if not same:
            raise CorruptCheckpointError(
                f"{each.key} changed in the store before step {request.step} could be committed: expected "
                f"{each.size} bytes of version {each.version}, found "
                + (f"{found.size} bytes of version {found.version}" if found else "nothing")
                + "; is another writer using this target?",
                step=request.step,
            )


async def tell_fenced(backend: Backend, request: SaveRequest) -> None:
    """Find out whether it was another writer that came between, as far as the store can be asked.

    Raises:
        FencedError: a newer writer has taken the run over.
    """
    try:
        await check_claim(backend, request.claim)
    except (StorageError, CorruptCheckpointError) as error:
        _log.debug("who writes the run of step %d cannot be found out: %s", request.step, error)


async def check_commit(backend: Backend, request: SaveRequest, manifest: Manifest) -> None:
    """Look once more, behind the commit: a process may be stopped for hours right before it.

    A manifest of what another writer, or a sweep, has removed meanwhile is taken back.

    Raises:
        FencedError: a newer writer has taken the run over, and the state file is its to move.
    """
    try:
        await tell_fenced(backend, request)
    except FencedError:
        there = await list_objects(backend, request.prefix)
        if not all(_is_there(each, there) for each in manifest.objects):
            await backend.delete(manifest.key)
        raise


def _is_there(wanted: ManifestObject, there: Mapping[str, ObjectInfo]) -> bool:
    found = there.get(wanted.key)
    return found is not None and (found.size, found.version) == (wanted.size, wanted.version)
