"""Retention at work: what is committed, read from the store once and followed, and deleted behind saves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial

from ackpt.backends.base import Backend
from ackpt.checkpoint.catalog import Entry, list_entries, load_manifest
from ackpt.checkpoint.delete import delete_checkpoint, finish_deletions
from ackpt.checkpoint.fence import Claim, check_claim
from ackpt.checkpoint.hold import held
from ackpt.checkpoint.manifest import Manifest
from ackpt.checkpoint.retention import Candidate, Retention, to_delete
from ackpt.errors import CorruptCheckpointError, NotFoundError
from ackpt.transfer.fan_out import fan_out

_log = logging.getLogger(__name__)

_READS_AT_ONCE = 16


class Retainer:
    """Know the committed checkpoints of one run and delete those its policy does not keep.

    On one event loop. What cannot be read is not known here, and so never deleted.
    """

    def __init__(self, policy: Retention, *, name: str) -> None:
        self.policy = policy
        self._name = name
        self._known: dict[int, Manifest] = {}
        self._held: frozenset[str] = frozenset()
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

    @property
    def newest(self) -> int | None:
        """Return the highest committed step, None where there is none."""
        return max(self._known, default=None)

    def kept_with(self, manifest: Manifest) -> list[str]:
        """Return the prefixes that stay once `manifest` is committed, oldest first."""
        known = {**self._known, manifest.step: manifest}
        doomed = set(self._doomed(known))
        return [known[step].prefix for step in sorted(known) if step not in doomed]

    def add(self, manifest: Manifest) -> None:
        """Take note of a commit."""
        self._known[manifest.step] = manifest

    async def delete_outdated(
        self, backend: Backend, claim: Claim, on_deleted: Callable[[Manifest], None]
    ) -> None:
        """Delete what the policy does not keep, oldest first, one checkpoint at a time.

        What is pinned, or being read, stays.

        Raises:
            FencedError: a newer writer has taken over the run; what to keep is its to say.
            StorageError: a deletion failed; it and the ones after it are tried again after the next commit.
        """
        doomed = to_delete(self.policy, _candidates(self._known, frozenset()))
        if doomed:
            self._held = await held(backend)
        for step in doomed:
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

    def _doomed(self, known: Mapping[int, Manifest]) -> list[int]:
        return to_delete(self.policy, _candidates(known, self._held))


def _candidates(known: Mapping[int, Manifest], held: frozenset[str]) -> list[Candidate]:
    return [
        Candidate(step=m.step, created=m.created, metrics=m.metrics, pinned=m.prefix in held)
        for m in known.values()
    ]
