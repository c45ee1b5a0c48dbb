"""The commit: put the manifest, only if absent, then move TensorFlow's state file, never backwards."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Sequence

from ackpt.backends.base import Backend, Condition, IfAbsent, IfVersion
from ackpt.checkpoint import state_file
from ackpt.checkpoint.catalog import Entry, load_manifest, read_object
from ackpt.checkpoint.manifest import Manifest, split_prefix
from ackpt.checkpoint.state_file import StateFile
from ackpt.errors import (
    ConditionFailedError,
    NotFoundError,
    StepConflictError,
)
from ackpt.transfer.body import BytesBody

_log = logging.getLogger(__name__)

_STATE_ATTEMPTS = 10


async def find_committed(backend: Backend, *, step: int, prefix: str) -> Manifest | None:
    """Return the manifest of `prefix` where it is committed, None where it is not.

    Raises:
        CorruptCheckpointError: there is a manifest, and it cannot be trusted.
    """
    try:
        return await load_manifest(backend, Entry(step=step, prefix=prefix))
    except NotFoundError:
        return None


async def put_manifest(backend: Backend, manifest: Manifest) -> Manifest:
    """Commit: create the manifest, and return the one that is there afterwards.

    Another writer may have committed the same content in the meantime; that is success too.

    Raises:
        StepConflictError: the step is committed with other content, which was kept.
    """
    try:
        await backend.put(manifest.key, BytesBody(manifest.to_json()), condition=IfAbsent())
    except ConditionFailedError as error:
        there = await find_committed(backend, step=manifest.step, prefix=manifest.prefix)
        if there is None:
            raise
        objects = {each.key: (each.size, each.crc32c) for each in manifest.objects}
        if not there.same_content(objects):
            raise conflict(there, manifest.size) from error
        return there
    return manifest


async def advance_state(backend: Backend, prefix: str, kept: Sequence[str]) -> None:
    """Point the state file at `prefix`, unless it points at a higher step already, that is there.

    `kept` are the prefixes to list in it, oldest first. The write is conditional on what was read,
    so of two writers neither undoes the other.

    Raises:
        ConditionFailedError: other writers moved the file again and again.
    """
    for attempt in range(1, _STATE_ATTEMPTS + 1):
        try:
            version = (await backend.head(state_file.KEY)).version
            current = StateFile.from_text(await read_object(backend, state_file.KEY))
            condition: Condition = IfVersion(version)
        except NotFoundError:
            current, condition = None, IfAbsent()
        if current is not None and await _is_dangling(backend, current, prefix):
            current = None
        wanted = state_file.next_state(current, prefix, kept)
        if wanted is None:
            return
        try:
            await backend.put(state_file.KEY, BytesBody(wanted.to_text()), condition=condition)
        except ConditionFailedError:
            if attempt == _STATE_ATTEMPTS:
                raise
        else:
            return


async def _is_dangling(backend: Backend, current: StateFile, prefix: str) -> bool:
    """Tell whether the state file points at a higher step than `prefix`, of which no index is there."""
    if current.step is None or current.step <= split_prefix(prefix)[1]:
        return False
    try:
        await backend.head(f"{posixpath.basename(current.latest)}.index")
    except NotFoundError:
        _log.warning(
            "the state file points at %s, which is not there; it now points at %s", current.latest, prefix
        )
        return True
    return False


async def catch_up_state(backend: Backend, prefix: str, kept: Sequence[str]) -> None:
    """Point the state file at `prefix`, which was committed before, if it is behind.

    A process that dies between the manifest and the state file leaves it so.
    """
    try:
        current = StateFile.from_text(await read_object(backend, state_file.KEY))
    except NotFoundError:
        current = None
    if current is None or current.step is None or current.step < split_prefix(prefix)[1]:
        await advance_state(backend, prefix, kept)


def conflict(there: Manifest, size: int) -> StepConflictError:
    """Make the error for a step that is committed with other content than the `size` bytes given."""
    return StepConflictError(
        f"step {there.step} is committed already as {there.prefix} with other content "
        f"({there.size} bytes, written {there.created.isoformat(timespec='seconds')} by {there.writer}; "
        f"this save has {size} bytes); it was kept: restore from it before training on, or use "
        "another target",
        step=there.step,
    )
