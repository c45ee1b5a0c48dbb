"""The fallback: a second store that takes saves while the first is down, and gives them back after that."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from ackpt.checkpoint.delete import delete_checkpoint
from ackpt.checkpoint.fence import KEY as CLAIM_KEY
from ackpt.checkpoint.fence import Claim, check_claim, claim_run
from ackpt.checkpoint.hold import held
from ackpt.checkpoint.manifest import Manifest
from ackpt.checkpoint.retention import Retention
from ackpt.engine.limits import Limits
from ackpt.engine.request import SaveRequest
from ackpt.engine.retain import Retainer
from ackpt.engine.send import Sender, Sent
from ackpt.engine.store import Store
from ackpt.errors import (
    InvalidOptionError,
    NotFoundError,
    SaveTimeoutError,
    StepConflictError,
    StorageError,
    explain,
)
from ackpt.events import Committed, Failed, Outcome
from ackpt.transfer.download import download_object
from ackpt.transfer.reliable import reliable
from ackpt.transfer.retry import Deadline, Retry

_log = logging.getLogger(__name__)

_PROBE_SECS = 10.0

Fetch = Callable[[Manifest, Path], Awaitable[None]]
"""Bring the files of a checkpoint into a folder, verified, under their keys."""

OUTAGES = (StorageError, SaveTimeoutError)
"""What the fallback is for; a conflict, or a newer writer, is no outage."""


class Fallback:
    """Take saves that `first` cannot; on one event loop.

    It is a run of its own, with a claim and a retention, that any reader can restore from.
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        *,
        instead_of: Store,
        retention: Retention,
        name: str,
        before_state: Callable[[str], Awaitable[None]],
        limits: Limits | None = None,
    ) -> None:
        """Check what can be checked without I/O.

        Raises:
            InvalidURLError, UnknownSchemeError, InvalidOptionError, MissingDependencyError.
        """
        self.store = Store(target, limits)
        if self.store.name == instead_of.name:
            raise InvalidOptionError(
                f"fallback: expected another place than the run's own, got {instead_of.name} twice"
            )
        self._first = instead_of
        self._sender = Sender(self.store, before_state)
        self._retainer = Retainer(retention, name=name)
        self._claim: Claim | None = None
        self._refused: set[int] = set()
        self._given: set[int] = set()
        self._down = False

    async def start(self) -> None:
        """Read what it holds, and take it over from the writer before.

        Raises:
            BucketNotFoundError, PermissionDeniedError, StorageError: it cannot be used.
        """
        await self._retainer.load(self.store.reliable())
        self._claim = await claim_run(self.store.reliable(), writer=uuid.uuid4().hex)

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to give back that has not been refused."""
        return all(each.step in self._refused for each in self._retainer.manifests)

    def note_outage(self, error: Exception) -> None:
        """Take note of what the first store failed of just now."""
        self._down = True
        _log.warning(
            "%s is down (%s): saves go to %s until it is back",
            self._first.name,
            explain(error),
            self.store.name,
        )

    async def is_needed(self) -> bool:
        """Tell whether the first store is still down; asks it, once, where it was before."""
        if self._down:
            once = Retry(attempts=1, deadline=Deadline(0.0), stall_secs=_PROBE_SECS)
            try:
                await reliable(self._first.backend, once).head(CLAIM_KEY)
            except NotFoundError:
                pass  # an answer, too
            except StorageError as error:
                _log.debug("%s is still down: %s", self._first.name, error)
                return True
            self._down = False
            _log.warning("%s is back", self._first.name)
        return False

    async def take(self, request: SaveRequest, on_progress: Callable[[int], None]) -> Sent:
        """Commit `request` here.

        Raises:
            As `Sender.send`.
        """
        if self._claim is None:  # it was down, too, when this process took over
            await self.start()
        assert self._claim is not None
        await self._retainer.settled(request.prefix)
        mine = replace(request, claim=self._claim, uploads={}, journal=None)
        sent = await self._sender.send(
            mine,
            kept=self._retainer.kept_with,
            on_progress=on_progress,
            base=self._retainer.last,
        )
        self._retainer.add(sent.manifest)
        return sent

    async def retain(self) -> None:
        """Delete what the policy does not keep here; raises as `Retainer.delete_outdated`."""
        if self._claim is not None:
            await self._retainer.delete_outdated(self.store.reliable(), self._claim, self._retainer.forget)

    async def give_back(self, take: Callable[[Manifest, Fetch], Awaitable[Outcome]]) -> None:
        """Have what is here taken, oldest first, and delete what is committed there; the rest stays.

        What is pinned here, or being read, stays until after a later commit.

        Raises:
            FencedError: a newer writer has taken over the fallback.
            StorageError: a deletion failed; it is tried again after the next commit.
        """
        if self._claim is None:
            return  # it could be read, and not be claimed; the next save that needs it tries again
        for manifest in self._retainer.manifests:
            if self._down or manifest.step in self._refused:
                continue
            if manifest.step not in self._given:
                outcome = await take(manifest, self._fetch)
                if isinstance(outcome, Failed) and isinstance(outcome.error, StepConflictError):
                    self._refused.add(manifest.step)
                if not isinstance(outcome, Committed) or outcome.target != self._first.name:
                    continue
                self._given.add(manifest.step)
            backend = self.store.reliable()
            await check_claim(backend, self._claim)
            if not await held(backend, manifest.prefix):
                await delete_checkpoint(backend, manifest)
                self._retainer.forget(manifest)
                self._given.discard(manifest.step)

    async def _fetch(self, manifest: Manifest, folder: Path) -> None:
        """Bring the files of a checkpoint into `folder`, verified, under their keys.

        Raises:
            StorageError, StagingError: it cannot be read, or not written.
        """
        transfer = self.store.transfer()
        for each in manifest.objects:
            path = folder / each.key
            await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
            await download_object(
                self.store.backend, each.key, path, transfer, size=each.size, crc32c=each.crc32c
            )
