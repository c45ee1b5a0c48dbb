"""One save request on its way through the engine; lives on the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from ackpt.checkpoint.fence import Claim
from ackpt.checkpoint.journal import Journal
from ackpt.checkpoint.manifest import Manifest
from ackpt.checkpoint.seal import Seal
from ackpt.checkpoint.staged import StagedFile
from ackpt.checkpoint.staging import StagedSave
from ackpt.engine.overlap import Phase
from ackpt.events import Outcome
from ackpt.snapshot.base import Snapshot

_log = logging.getLogger(__name__)


class FileStream:
    """Pass a checkpoint's files from the stager to the sender, each as soon as it is finished."""

    def __init__(self) -> None:
        self._files: list[StagedFile] = []
        self._ended = False
        self._changed = asyncio.Event()

    def add(self, file: StagedFile) -> None:
        """Add a finished file."""
        self._files.append(file)
        self._changed.set()

    def end(self) -> None:
        """Say that no more files come."""
        self._ended = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[StagedFile]:
        """Iterate from the first file, waiting for more until the end; for one reader."""
        position = 0
        while True:
            while position < len(self._files):
                yield self._files[position]
                position += 1
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()


@dataclass(slots=True, kw_only=True, eq=False)
class SaveRequest:
    """Hold what is known of one request; `snapshot` is None for one that an earlier process staged."""

    step: int
    prefix: str
    snapshot: Snapshot | None
    metrics: Mapping[str, float]
    stall_secs: float
    claim: Claim
    """The claim on the run under which it may be committed."""
    outcome: asyncio.Future[Outcome]
    resumed: bool = False
    """An earlier process staged it."""
    phase: Phase = Phase.WAITING
    superseded_by: int | None = None
    files: FileStream = field(default_factory=FileStream)
    uploads: dict[str, str] = field(default_factory=dict)
    """Uploads that were begun, by this process or an earlier one: key to upload id."""
    sealed_uploads: Mapping[str, str] = field(default_factory=dict)
    """Uploads of an earlier process, as its journal tells them, until `unseal`."""
    seal: Seal | None = None
    """What the ids of uploads are sealed with in the journal; None: they are not journalled."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when staging has begun (or is not needed)."""
    save: StagedSave | None = None
    journal: Journal | None = None
    journal_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    staged: bool = False
    """The staging folder holds the whole checkpoint, journalled."""
    stage_secs: float = 0.0
    size: int = 0
    sent: int = 0
    """Bytes that the store has acknowledged."""
    connections: int = 0
    """How many the uploader process may use now, as it tells; 0: it is sent by this process."""
    committed: Manifest | None = None
    """Set with the commit, which stands whatever comes after it."""

    def unseal(self, seal: Seal) -> None:
        """Take `seal` for the journal, and open with it what an earlier process has sealed."""
        self.seal = seal
        self.uploads.update(seal.open_all(self.sealed_uploads))

    async def record(self, key: str, upload_id: str) -> None:
        """Journal an upload that was begun, so far as the disk takes it.

        One that is full is no reason not to send: it is the commit that makes room there.
        """
        self.uploads[key] = upload_id
        async with self.journal_turn:
            await self.journal_upload(key)

    async def journal_upload(self, key: str) -> None:
        """Write an upload down; the caller has the journal's turn."""
        if self.journal is None or self.seal is None:
            return
        try:
            await asyncio.to_thread(self.journal.add_upload, key, self.seal.close(self.uploads[key]))
        except OSError as error:
            self.seal = None
            _log.warning(
                "the uploads of step %d cannot be written down any more (%s): if this process dies, they "
                "begin anew",
                self.step,
                error.strerror,
            )

    async def close_journal(self) -> None:
        """Close the journal; idempotent."""
        async with self.journal_turn:
            journal, self.journal = self.journal, None
            if journal is not None:
                await asyncio.to_thread(journal.close)

    async def release(self) -> None:
        """Let go of the snapshot; once, however often it is called."""
        snapshot, self.snapshot = self.snapshot, None
        if snapshot is not None:
            await asyncio.to_thread(snapshot.release)
