"""A checkpoint that TensorFlow itself wrote: files and a state file, with no manifest to vouch for them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import aclosing

from ackpt.backends.base import Backend, ObjectInfo
from ackpt.checkpoint import state_file
from ackpt.checkpoint.catalog import read_object
from ackpt.checkpoint.manifest import check_key
from ackpt.checkpoint.state_file import StateFile
from ackpt.errors import CorruptCheckpointError, NotFoundError

_SHARD = re.compile(r"\.data-([0-9]{5})-of-([0-9]{5})")


async def named_prefixes(backend: Backend) -> list[str]:
    """Return the prefixes that the state file names, the newest first; none where there is no state file.

    Their folders are left out: a run may have been moved since.

    Raises:
        CorruptCheckpointError: there is a state file, and it names no checkpoint.
    """
    try:
        state = StateFile.from_text(await read_object(backend, state_file.KEY))
    except NotFoundError:
        return []
    if state is None:
        raise CorruptCheckpointError(f"the state file {state_file.KEY!r} names no checkpoint")
    paths = [state.latest, *reversed(state.all)]
    return list(dict.fromkeys(os.path.basename(path) for path in paths))


async def find_files(backend: Backend, prefix: str) -> list[ObjectInfo]:
    """Return the objects of the checkpoint `prefix`, which nothing but their names vouches for.

    Raises:
        CorruptCheckpointError: it is not there, not whole, or names anything outside of the run.
    """
    found: list[ObjectInfo] = []
    try:
        if prefix in ("", ".", ".."):
            raise ValueError("expected a plain name")
        check_key(f"{prefix}.index", prefix)
        async with aclosing(backend.list(f"{prefix}.")) as objects:
            async for info in objects:
                check_key(info.key, prefix)
                found.append(info)
    except ValueError as error:
        raise CorruptCheckpointError(
            f"the state file names {prefix!r}, which is not safe to read: {error}"
        ) from error
    missing = _missing(prefix, [info.key for info in found])
    if missing:
        raise CorruptCheckpointError(f"the state file names {prefix}, of which {missing} is not there")
    return found


def _missing(prefix: str, keys: Sequence[str]) -> str | None:
    """Return what a whole checkpoint has and `keys` do not."""
    if f"{prefix}.index" not in keys:
        return f"{prefix}.index"
    shards = [match.groups() for key in keys if (match := _SHARD.fullmatch(key.removeprefix(prefix)))]
    if not shards:
        return f"{prefix}.data"
    for _, count in shards:
        for number in range(int(count)):
            if (f"{number:05}", count) not in shards:
                return f"{prefix}.data-{number:05}-of-{count}"
    return None
