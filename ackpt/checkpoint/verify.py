"""Verification: does the store still hold what the manifests promise?"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from ackpt.backends.base import Backend, ObjectInfo
from ackpt.checkpoint.catalog import Entry, entries_among, load_manifest
from ackpt.checkpoint.manifest import ManifestObject
from ackpt.errors import CorruptCheckpointError, NotFoundError, StorageError, explain
from ackpt.transfer.checksum import crc32c


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Say what is wrong with one committed checkpoint: nothing, where `problems` is empty.

    `checked_bytes` is how much was read to know (0 where metadata told).
    """

    step: int
    prefix: str
    size: int
    problems: tuple[str, ...]
    checked_bytes: int = 0


async def verify_run(backend: Backend, *, deep: bool = False) -> AsyncGenerator[Verdict, None]:
    """Check every committed checkpoint, newest first.

    Sizes and checksums are compared as the store reports them; with `deep` every byte is read, too.

    Raises:
        StorageError: the store cannot be read.
    """
    async with aclosing(backend.list()) as objects:
        there = {info.key: info async for info in objects}
    for entry in reversed(entries_among(there)):
        yield await _verify_entry(backend, entry, there, deep=deep)


async def _verify_entry(
    backend: Backend, entry: Entry, there: Mapping[str, ObjectInfo], *, deep: bool
) -> Verdict:
    try:
        manifest = await load_manifest(backend, entry)
    except (CorruptCheckpointError, NotFoundError) as error:
        return Verdict(step=entry.step, prefix=entry.prefix, size=0, problems=(str(error),))
    problems = []
    checked = 0
    for wanted in manifest.objects:
        problem = _compare(wanted, there.get(wanted.key))
        if problem is None and deep:
            checked += wanted.size
            problem = await _read_through(backend, wanted)
        if problem is not None:
            problems.append(problem)
    return Verdict(
        step=entry.step,
        prefix=entry.prefix,
        size=manifest.size,
        problems=tuple(problems),
        checked_bytes=checked,
    )


def _compare(wanted: ManifestObject, found: ObjectInfo | None) -> str | None:
    if found is None:
        return f"{wanted.key} is missing"
    if found.size != wanted.size:
        return f"{wanted.key} has {found.size} bytes, expected {wanted.size}"
    if found.crc32c not in (None, wanted.crc32c):
        return f"{wanted.key} has crc32c {found.crc32c:08x}, expected {wanted.crc32c:08x}"
    return None


async def _read_through(backend: Backend, wanted: ManifestObject) -> str | None:
    value = size = 0
    try:
        async with aclosing(backend.get(wanted.key)) as blocks:
            async for block in blocks:
                value = crc32c(block, value)
                size += len(block)
    except NotFoundError:
        return f"{wanted.key} is missing"
    except StorageError as error:  # of this object; a store that is down says so at the next manifest, too
        return f"{wanted.key} cannot be read: {explain(error)}"
    if (size, value) != (wanted.size, wanted.crc32c):
        return (
            f"{wanted.key} reads as {size} bytes with crc32c {value:08x}, "
            f"expected {wanted.size} with {wanted.crc32c:08x}"
        )
    return None
