"""The catalog: which checkpoints a run has, read from the store and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass

from ackpt.backends.base import Backend
from ackpt.checkpoint.manifest import SUFFIX, Manifest, split_prefix


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Entry:
    """Name a committed checkpoint that a listing showed; its manifest has not been read."""

    step: int
    prefix: str

    @property
    def key(self) -> str:
        """Return the key of its manifest."""
        return self.prefix + SUFFIX


async def list_entries(backend: Backend, *, name: str | None = None) -> list[Entry]:
    """Return the committed checkpoints, oldest first; only those called `name`, if given.

    Raises:
        StorageError: the store cannot be listed.
    """
    async with aclosing(backend.list(f"{name}-" if name is not None else "")) as objects:
        entries = entries_among([info.key async for info in objects])
    return [entry for entry in entries if name in (None, split_prefix(entry.prefix)[0])]


def entries_among(keys: Iterable[str]) -> list[Entry]:
    """Return the committed checkpoints that a listing's keys show, oldest first."""
    return sorted(entry for entry in map(_entry, keys) if entry is not None)


async def load_manifest(backend: Backend, entry: Entry) -> Manifest:
    """Read the manifest of `entry`.

    Raises:
        NotFoundError: it has been deleted since the listing.
        CorruptCheckpointError: it cannot be trusted.
    """
    return Manifest.from_json(await read_object(backend, entry.key), key=entry.key)


async def read_object(backend: Backend, key: str) -> bytes:
    """Return a small object whole.

    Raises:
        NotFoundError: there is none.
    """
    async with aclosing(backend.get(key)) as blocks:
        return b"".join([block async for block in blocks])


def _entry(key: str) -> Entry | None:
    if "/" in key or not key.endswith(SUFFIX):
        return None
    prefix = key.removesuffix(SUFFIX)
    try:
        return Entry(step=split_prefix(prefix)[1], prefix=prefix)
    except ValueError:  # an object of somebody else's that only looks like a manifest
        return None
