"""Retention at work: what is committed, read from the store once and followed, and deleted behind saves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial

from ackpt.backends.base import Backend
from ackpt.checkpoint.catalog import Entry, list_entries, load_manifest
from ackpt.checkpoint.commit import catch_up_state
from ackpt.checkpoint.delete import delete_checkpoint, finish_deletions
from ackpt.checkpoint.fence import Claim, check_claim
from ackpt.checkpoint.hold import held
from ackpt.checkpoint.manifest import Manifest
from ackpt.checkpoint.retention import Candidate, Retention, to_delete
from ackpt.errors import CorruptCheckpointError, NotFoundError, StepConflictError
from ackpt.transfer.fan_out import fan_out

_log = logging.getLogger(__name__)

_READS_AT_ONCE = 16


class Retainer:
    """Know the committed checkpoints of one run and delete those its policy does not keep.

    On one event loop. What cannot be read is not known here, and so never deleted. Nor is anything
    beyond the newest step of this writer's own: where a training goes on from an older checkpoint,
    what it commits must not give way to what was committed before.
    """

    def __init__(self, policy: Retention, *, name: str) -> None:
        self.policy = policy
        self._name = name
        self.is_loaded = False
        self._known: dict[int, Manifest] = {}
        self._held: frozenset[str] = frozenset()
        self._own_newest: int | None = None
        self._deleting: str | None = None
        self._deleted = asyncio.Condition()

    async def load(self, backend: Backend) -> None:
        """Finish deletions that were cut short, then read what is committed.

        Raises:
            StorageError: the store cannot be listed or read.
        """
        await finish_deletions(backend, name=self._name)
        entries = await list_entries(backend, name=self._name)

        async def read(entry: Entry) -> Manifest | None:
            try:
                return await load_manifest(backend, entry)
            except NotFoundError:
                return None
            except CorruptCheckpointError as error:
                _log.warning("%s; retention leaves it alone", error)
                return None

        manifests = await fan_out((partial(read, entry) for entry in entries), limit=_READS_AT_ONCE)
        self._known = {each.step: each for each in manifests if each is not None}
        self._held = await held(backend)
        self.is_loaded = True

    @property
    def newest(self) -> int | None:
        """Return the highest committed step, None where there is none."""
        return max(self._known, default=None)

    @property
    def last(self) -> Manifest | None:
        """Return the newest committed checkpoint that is not being deleted, None where there is none."""
        return next((each for each in reversed(self.manifests) if each.prefix != self._deleting), None)

    @property
    def manifests(self) -> list[Manifest]:
        """Return what is committed, oldest first."""
        return [self._known[step] for step in sorted(self._known)]

    def forget(self, manifest: Manifest) -> None:
        """Take note that a checkpoint is gone."""
        self._known.pop(manifest.step, None)

    def check_start(self, step: int) -> None:
        """Make sure that a training that begins to save at `step` goes on from where this run is.

        Raises:
            StepConflictError: it is behind what is committed, and at no committed step: most likely it
                was not restored.
        """
        if self._own_newest is None:
            check_start(step, self._known)

    def kept_with(self, manifest: Manifest) -> list[str]:
        """Return the prefixes that stay once `manifest` is committed, oldest first."""
        known = {**self._known, manifest.step: manifest}
        doomed: frozenset[int] = frozenset()
        try:
            doomed = frozenset(self._doomed(known, max(manifest.step, self._own_newest or 0), self._held))
        except Exception:
            _log.exception("the retention policy raised; nothing is taken from the state file")
        return [known[step].prefix for step in sorted(known) if step not in doomed]

    async def catch_up_state(self, backend: Backend) -> None:
        """Finish the last commit of a process that died before it had moved TensorFlow's state file.

        Raises:
            StorageError: the state file cannot be read or written.
        """
        manifest = None if self.newest is None else self._known[self.newest]
        if manifest is not None and manifest.is_tensorflow:
            await catch_up_state(backend, manifest.prefix, self.kept_with(manifest))

    def add(self, manifest: Manifest, *, own: bool = True) -> None:
        """Take note of a commit; it is not this writer's `own` where an earlier process staged it."""
        self._known[manifest.step] = manifest
        if own:
            self._own_newest = max(manifest.step, self._own_newest or 0)

    async def delete_outdated(
        self, backend: Backend, claim: Claim, on_deleted: Callable[[Manifest], None]
    ) -> None:
        """Delete what the policy does not keep, oldest first, one checkpoint at a time.

        What is pinned, or being read, stays.

        Raises:
            FencedError: a newer writer has taken over the run; what to keep is its to say.
            StorageError: a deletion failed; it and the ones after it are tried again after the next commit.
        """
        if self._doomed(self._known, self._own_newest, frozenset()):  # also where a hold has ended since
            self._held = await held(backend)
        for step in self._doomed(self._known, self._own_newest, self._held):
            manifest = self._known[step]
            await check_claim(backend, claim)
            if manifest.prefix in self._held or await held(backend, manifest.prefix):
                continue
            self._deleting = manifest.prefix
            try:
                await delete_checkpoint(backend, manifest)
            finally:
                self._deleting = None
                async with self._deleted:
                    self._deleted.notify_all()
            del self._known[step]
            on_deleted(manifest)

    async def settled(self, prefix: str) -> None:
        """Wait while `prefix` is being deleted: a save of the same step must not run into it."""
        async with self._deleted:
            await self._deleted.wait_for(lambda: self._deleting != prefix)

    def _doomed(
        self, known: Mapping[int, Manifest], newest: int | None, spared: Collection[str]
    ) -> list[int]:
        """Return the steps to delete among those up to `newest` (None: all), not those `spared`."""
        return to_delete(
            self.policy,
            [
                Candidate(step=m.step, created=m.created, metrics=m.metrics, pinned=m.prefix in spared)
                for m in known.values()
                if newest is None or m.step <= newest
            ],
        )


def check_start(step: int, committed: Collection[int]) -> None:
    """Make sure that a training that begins at `step` goes on from where a run is; pure.

    Raises:
        StepConflictError: it is behind what is `committed`, and at no such step.
    """
    newest = max(committed, default=None)
    if newest is not None and step < newest and step not in committed:
        raise StepConflictError(
            f"step {step} is behind step {newest}, which is committed already: restore the run before "
            "training on (ackpt.restore), or use another target",
            step=step,
        )
