"""Restore: fetch the newest checkpoint that is whole into a local folder, verified, file by file."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ackpt.backends.base import Backend
from ackpt.checkpoint import state_file
from ackpt.checkpoint.catalog import Entry, list_entries, load_manifest
from ackpt.checkpoint.foreign import find_files, named_prefixes
from ackpt.checkpoint.hold import reading
from ackpt.checkpoint.journal import fsync_path
from ackpt.checkpoint.manifest import split_prefix
from ackpt.checkpoint.state_file import StateFile
from ackpt.errors import (
    ChecksumMismatchError,
    CorruptCheckpointError,
    NotFoundError,
)
from ackpt.transfer.context import Transfer
from ackpt.transfer.download import download_object
from ackpt.transfer.fan_out import fan_out
from ackpt.transfer.local import local_errors
from ackpt.transfer.reliable import reliable

_log = logging.getLogger(__name__)

_FILES_AT_ONCE = 64

_DAMAGE = (CorruptCheckpointError, ChecksumMismatchError, NotFoundError)
"""What makes a checkpoint be passed over; every other error ends the restore."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    key: str
    size: int
    crc32c: int | None


async def restore_checkpoint(
    backend: Backend, folder: Path, transfer: Transfer, *, step: int | None = None
) -> Path | None:
    """Fetch the newest checkpoint that is whole, or the one of `step`, into `folder`.

    Returns its prefix there (`folder/model.ckpt-1000`), None where the run has no checkpoint. Every
    file appears whole and verified, or not at all; files that are there already are kept. For a
    TensorFlow checkpoint the folder's state file is pointed at it, last. A damaged checkpoint is
    passed over with a warning, for the next older one, unless `step` asks for it.

    A run without a single manifest, but with TensorFlow's state file, was written by TensorFlow
    itself: its newest whole checkpoint is fetched with a warning that nothing vouches for it.

    Raises:
        NotFoundError: `step` is not committed.
        CorruptCheckpointError: checkpoints are there, and none of them is whole.
        StorageError: the store cannot be read.
        LocalFileError, StorageFullError: the folder cannot be written.
    """
    store = reliable(backend, transfer.retry)
    entries = await list_entries(store)
    if step is not None:
        return await _restore_step(backend, store, folder, transfer, entries, step)
    if not entries:
        return await _restore_foreign(backend, store, folder, transfer)
    damaged: list[str] = []
    for entry in reversed(entries):
        try:
            return await _restore_entry(backend, store, folder, transfer, entry)
        except _DAMAGE as error:
            damaged.append(f"{entry.prefix}: {error}")
            _log.warning("%s is damaged and is passed over for an older one: %s", entry.prefix, error)
    raise CorruptCheckpointError(
        f"none of the {len(entries)} committed checkpoints is whole ({'; '.join(damaged)}); "
        "training would start from nothing: repair one of them, or use another target"
    )


async def _restore_step(
    backend: Backend,
    store: Backend,
    folder: Path,
    transfer: Transfer,
    entries: Sequence[Entry],
    step: int,
) -> Path:
    for entry in entries:
        if entry.step == step:
            return await _restore_entry(backend, store, folder, transfer, entry)
    known = ", ".join(str(entry.step) for entry in entries[-10:]) or "none"
    raise NotFoundError(f"step {step} is not committed; the newest committed steps are: {known}")


async def _restore_entry(
    backend: Backend, store: Backend, folder: Path, transfer: Transfer, entry: Entry
) -> Path:
    async with reading(backend, entry.prefix):
        manifest = await load_manifest(store, entry)
        wanted = [_Wanted(key=each.key, size=each.size, crc32c=each.crc32c) for each in manifest.objects]
        await _compare(store, manifest.prefix, wanted)
        return await _fetch(
            backend, folder, transfer, manifest.prefix, wanted, tensorflow=manifest.is_tensorflow
        )


async def _compare(store: Backend, prefix: str, wanted: Sequence[_Wanted]) -> None:
    """Compare the sizes with those in the store, before room is made for a single byte."""
    async with aclosing(store.list(prefix)) as objects:
        there = {info.key: info.size async for info in objects}
    for each in wanted:
        if there.get(each.key, -1) < each.size:
            found = f"{there[each.key]} bytes" if each.key in there else "nothing"
            raise CorruptCheckpointError(f"{each.key}: expected {each.size} bytes, the store has {found}")


async def _restore_foreign(backend: Backend, store: Backend, folder: Path, transfer: Transfer) -> Path | None:
    """Fetch the newest whole checkpoint that TensorFlow's state file names."""
    damaged: list[str] = []
    try:
        for prefix in await named_prefixes(store):
            try:
                files = await find_files(store, prefix)
                wanted = [_Wanted(key=each.key, size=each.size, crc32c=each.crc32c) for each in files]
                _log.warning("%s was not written by ackpt: no manifest vouches for it", prefix)
                return await _fetch(backend, folder, transfer, prefix, wanted, tensorflow=True)
            except _DAMAGE as error:
                damaged.append(str(error))
                _log.warning("%s is damaged and is passed over for an older one: %s", prefix, error)
    except CorruptCheckpointError as error:
        damaged.append(str(error))
    if not damaged:
        return None
    raise CorruptCheckpointError(
        f"the run has a state file of TensorFlow's own and no whole checkpoint ({'; '.join(damaged)}); "
        "training would start from nothing: repair the run, or use another target"
    )


async def _fetch(
    backend: Backend,
    folder: Path,
    transfer: Transfer,
    prefix: str,
    wanted: Sequence[_Wanted],
    *,
    tensorflow: bool,
) -> Path:
    await asyncio.to_thread(_make_folders, {folder / os.path.dirname(each.key) for each in wanted} | {folder})
    calls = [
        partial(
            download_object,
            backend,
            each.key,
            folder / each.key,
            transfer,
            size=each.size,
            crc32c=each.crc32c,
        )
        for each in wanted
    ]
    await fan_out(calls, limit=_FILES_AT_ONCE)
    if tensorflow:
        await asyncio.to_thread(_point_state_at, folder, prefix)
    return folder / prefix


def _make_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        with local_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)


def _point_state_at(folder: Path, prefix: str) -> None:
    _warn_of_newer(folder, prefix)
    temporary = folder / f".{state_file.KEY}.{os.getpid()}"
    with local_errors(folder / state_file.KEY):
        try:
            temporary.write_bytes(StateFile(prefix, (prefix,)).to_text())
            fsync_path(temporary)
            temporary.rename(folder / state_file.KEY)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_path(folder)


def _warn_of_newer(folder: Path, prefix: str) -> None:
    """Tell when the folder had something newer, which training will no longer start from."""
    try:
        before = StateFile.from_text((folder / state_file.KEY).read_bytes())
        there = 0 if before is None else split_prefix(os.path.basename(before.latest))[1]
    except (OSError, ValueError):
        return
    if there > split_prefix(prefix)[1]:
        _log.warning(
            "%s was at step %d, and its state file now points to the restored %s: what was trained beyond "
            "that is not started from",
            folder,
            there,
            prefix,
        )
