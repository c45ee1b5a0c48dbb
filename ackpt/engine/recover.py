"""What an earlier process left in the staging folder: finish what is worth it, clear away the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from ackpt.checkpoint.fence import Claim
from ackpt.checkpoint.journal import Journal, JournalState
from ackpt.checkpoint.manifest import Manifest, split_prefix
from ackpt.checkpoint.staged import StagedFile
from ackpt.checkpoint.staging import StagedSave, StagingFolder, staging_errors
from ackpt.engine.fallback import Fetch
from ackpt.engine.overlap import Phase
from ackpt.engine.pipeline import Pipeline
from ackpt.engine.request import SaveRequest
from ackpt.events import Outcome

_log = logging.getLogger(__name__)

Leftover = tuple[StagedSave, JournalState]


async def finish_leftovers(
    pipeline: Pipeline, staging: StagingFolder, *, name: str, newest: int | None, claim: Claim | None
) -> None:
    """Commit what lies staged for the checkpoints called `name`, and remove what is of no use.

    `newest` is the highest committed step and `claim` who holds the run now: staged work of a
    writer that has been replaced since is not committed. What fails again stays where it is, with
    a warning.

    Raises:
        StagingError, StorageFullError: what lies there cannot be read, written to or removed.
    """
    leftovers = await _read(staging, name)
    chosen = to_finish(leftovers, newest, claim)
    for save, state in leftovers:
        if (save, state) not in chosen:
            if state is not None:
                _log_discarded(state, newest, claim)
                await pipeline.abort_leftover(state)
            await asyncio.to_thread(save.remove)
    for save, state in chosen:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        with staging_errors(f"{state.prefix} cannot be finished", save.folder):
            request = await asyncio.to_thread(_open, save, replace(state, claim=claim or state.claim), future)
        _log.warning("step %d was staged by an earlier process and is being finished", state.step)
        pipeline.start(request)
        await request.outcome


async def adopt_leftovers(staging: StagingFolder, *, name: str, writer: str) -> None:
    """Let what could not be finished be finished later by `writer`, who is about to claim the run.

    That is written down before the claim: a process that dies between the two loses nothing.

    Raises:
        StagingError, StorageFullError: it cannot be written down.
    """
    for save, state in await _read(staging, name):
        if state is not None:
            with staging_errors(f"{state.prefix} cannot be taken over", save.folder):
                await asyncio.to_thread(_add_heir, save, writer)


async def stage_copy(
    pipeline: Pipeline,
    staging: StagingFolder,
    manifest: Manifest,
    fetch: Fetch,
    *,
    claim: Claim,
) -> Outcome:
    """Save once more what is committed elsewhere; `fetch` brings its files into a folder.

    Raises:
        StorageError, StagingError: it cannot be fetched, or staged.
    """
    save, journal = await asyncio.to_thread(
        staging.new, step=manifest.step, prefix=manifest.prefix, metrics=manifest.metrics, claim=claim
    )
    try:
        try:
            await fetch(manifest, save.files)
            await asyncio.to_thread(_journal, journal, save, manifest)
        finally:
            journal.close()
        state = await asyncio.to_thread(save.read)
        assert state is not None, "it was journalled just now"
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        request = await asyncio.to_thread(_open, save, state, future)
    except BaseException:
        await asyncio.to_thread(save.remove)
        raise
    pipeline.start(request)
    return await request.outcome


def to_finish(
    leftovers: Sequence[tuple[StagedSave, JournalState | None]], newest: int | None, claim: Claim | None
) -> list[Leftover]:
    """Return the leftovers worth finishing, oldest first: whole, newer than `newest`, of the same claim.

    Where somebody has deleted the claim, and not the run, those of the latest one count. Of two of
    one step the first in the list counts.
    """
    if claim is None and newest is None:
        return []  # the run is gone, and what was staged for it with it
    latest = max((state.claim.attempt for _, state in leftovers if state and state.claim), default=0)
    chosen: dict[int, Leftover] = {}
    for save, state in leftovers:
        if state is None or not state.staged or state.claim is None:
            continue
        if not _is_held(state, claim) or (claim is None and state.claim.attempt < latest):
            continue
        if newest is None or state.step > newest:
            chosen.setdefault(state.step, (save, state))
    return [chosen[step] for step in sorted(chosen)]


def _is_held(state: JournalState, claim: Claim | None) -> bool:
    """Tell whether the writer that holds the run by `claim` may commit what is staged."""
    return claim is None or state.claim == claim or claim.writer in state.heirs


async def _read(staging: StagingFolder, name: str) -> list[tuple[StagedSave, JournalState | None]]:
    saves = await asyncio.to_thread(staging.saves)
    found = [(save, await asyncio.to_thread(save.read)) for save in saves]
    return [(save, state) for save, state in found if state is None or split_prefix(state.prefix)[0] == name]


def _log_discarded(state: JournalState, newest: int | None, claim: Claim | None) -> None:
    if state.damaged:
        _log.warning(
            "what lies staged of step %d is damaged (its journal, or a file that it tells of); it is removed",
            state.step,
        )
    elif not state.staged:
        _log.info("step %d was not wholly staged when its process ended; it is removed", state.step)
    elif newest is not None and state.step <= newest:
        _log.debug(
            "step %d is not newer than what is committed; what lies staged of it is removed", state.step
        )
    elif claim is None and newest is None:
        _log.warning("step %d was staged for a run of which nothing is left; it is removed", state.step)
    elif _is_held(state, claim):
        _log.debug("step %d was staged more than once; a copy is removed", state.step)
    else:
        _log.warning(
            "step %d was staged by a writer that another one has replaced since; it is removed", state.step
        )


def _open(save: StagedSave, state: JournalState, outcome: asyncio.Future[Outcome]) -> SaveRequest:
    """Make the request that finishes `save`: nothing to pin, nothing to stage, open uploads known."""
    assert state.claim is not None
    request = SaveRequest(
        step=state.step,
        prefix=state.prefix,
        snapshot=None,
        metrics=MappingProxyType(dict(state.metrics)),
        stall_secs=0.0,
        claim=state.claim,
        outcome=outcome,
        resumed=True,
        phase=Phase.STAGED,
        sealed_uploads=state.uploads,
        save=save,
        journal=save.open_journal(),
        staged=True,
        size=sum(file.size for file in state.files),
    )
    for file in state.files:
        request.files.add(file)
    request.files.end()
    request.begun.set()
    return request


def _journal(journal: Journal, save: StagedSave, manifest: Manifest) -> None:
    for each in manifest.objects:
        journal.add_file(StagedFile(key=each.key, path=save.files / each.key, size=each.size))
    journal.mark_staged(save.files)


def _add_heir(save: StagedSave, writer: str) -> None:
    journal = save.open_journal()
    try:
        journal.add_heir(writer)
    finally:
        journal.close()
