"""What an earlier process left in the staging folder: which of it to finish, and as what request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import MappingProxyType

from ackpt.checkpoint.journal import JournalState
from ackpt.checkpoint.staging import StagedSave
from ackpt.engine.overlap import Phase
from ackpt.engine.request import SaveRequest

Leftover = tuple[StagedSave, JournalState | None]


def to_finish(
    leftovers: Sequence[Leftover], newest_committed: int | None
) -> list[tuple[StagedSave, JournalState]]:
    """Return the leftovers worth finishing, oldest first: whole, and newer than what is committed.

    Of two of one step the first in the list counts.
    """
    chosen: dict[int, tuple[StagedSave, JournalState]] = {}
    for save, state in leftovers:
        if state is None or not state.staged:
            continue
        if newest_committed is None or state.step > newest_committed:
            chosen.setdefault(state.step, (save, state))
    return [chosen[step] for step in sorted(chosen)]


def make_request(save: StagedSave, state: JournalState) -> SaveRequest:
    """Make the request that finishes `save`: nothing to pin, nothing to stage, open uploads known."""
    request = SaveRequest(
        step=state.step,
        prefix=state.prefix,
        snapshot=None,
        metrics=MappingProxyType(dict(state.metrics)),
        stall_secs=0.0,
        outcome=asyncio.get_running_loop().create_future(),
        phase=Phase.STAGED,
        uploads=dict(state.uploads),
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
