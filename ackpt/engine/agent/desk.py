"""The desk at which an uploader process serves one trainer: its run, and the saves that it hands over."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from ackpt.checkpoint.fence import Claim
from ackpt.checkpoint.manifest import check_key, make_prefix, split_prefix
from ackpt.checkpoint.staged import StagedFile
from ackpt.checkpoint.staging import StagedSave, StagingFolder
from ackpt.engine.agent.wire import Document, Line, LineLostError
from ackpt.engine.agent.words import read_policy, write_event
from ackpt.engine.errands import Errands
from ackpt.engine.limits import Limits
from ackpt.engine.overlap import Phase, Queue
from ackpt.engine.pipeline import HOPELESS, Pipeline
from ackpt.engine.request import SaveRequest
from ackpt.engine.run import OwnRun
from ackpt.engine.send import Sent
from ackpt.engine.sharing import read_quotas
from ackpt.engine.store import Store
from ackpt.errors import UploaderError
from ackpt.events import Event

_log = logging.getLogger(__name__)


class Desk:
    """Do in the store what one trainer asks for; on one event loop, from `attach` to `aclose`."""

    def __init__(
        self, staging: StagingFolder, line: Callable[[], Line], document: Document, limits: Limits
    ) -> None:
        """Take the trainer's options: `target`, `name`, `retention`, `fallback`, `holds_state`, `limits`.

        `limits` of this process become the trainer's, and stay so when it has gone.

        Raises:
            InvalidURLError, UnknownSchemeError, InvalidOptionError, MissingDependencyError: they are
                of no use in this process.
        """
        self.target = str(document["target"])
        self._line = line
        self._staging = staging
        self._limits = limits
        limits.sharing.change(read_quotas(document["limits"]))
        self._store = Store(self.target, limits)
        self._errands = Errands()
        self._turn = asyncio.Lock()
        self._handed: dict[int, _Handed] = {}
        self._holds_state = bool(document["holds_state"])
        fallback = document["fallback"]
        self._run = OwnRun(
            self._store,
            staging,
            name=str(document["name"]),
            retention=read_policy(document["retention"]),
            fallback=None if fallback is None else str(fallback),
            errands=self._errands,
            before_state=self._let_go,
            publish=self._publish,
            limits=limits,
        )
        self._pipeline = Pipeline(self._store, staging, self, overlap=Queue(1), publish=self._publish)

    async def send(self, request: SaveRequest, on_progress: Callable[[int], None]) -> Sent:
        """Send in turn: what the trainer hands over, what an earlier one left, what a fallback gives back."""
        async with self._turn:
            return await self._run.send(request, on_progress)

    async def answer(self, name: str, document: Document) -> Document:
        """Do what the trainer asks.

        Raises:
            AckptError: what came of it.
        """
        match name:
            case "open":
                claim = await self._run.open(self._pipeline)
                steps = [each.step for each in self._run.retainer.manifests]
                return {"claim": claim.to_document(), "steps": steps}
            case "go_on":
                await self._run.go_on(self._pipeline, Claim.from_document(document["claim"]))
            case "send":
                return await self._send(int(document["save"]))
            case "upload":
                await self._run.upload_file(Path(document["path"]), str(document["key"]))
            case "settled":
                await self._run.settled()
            case _:
                raise UploaderError(f"the uploader process knows no {name!r}")
        return {}

    def hear(self, name: str, document: Document) -> None:
        """Take note of what the trainer tells.

        Raises:
            KeyError, TypeError, ValueError: it is not what a trainer tells.
        """
        match name:
            case "save":
                self._handed[int(document["save"])] = _Handed.read(document, self._staging.folder)
            case "file":
                handed = self._handed.get(int(document["save"]))
                if handed is not None:
                    handed.add(str(document["key"]), int(document["size"]))
            case "ended":
                handed = self._handed.get(int(document["save"]))
                if handed is not None:
                    handed.request.files.end()
            case "staged":
                handed = self._handed.get(int(document["save"]))
                if handed is not None:
                    self._errands.start(handed.journal_uploads(), what="journalling uploads")
            case "begin":
                self._run.begin()
            case "committed":
                self._run.committed()
            case "limits":
                self._limits.sharing.change(read_quotas(document))
            case "retention":
                self._run.set_retention(read_policy(document["policy"]))

    async def aclose(self) -> None:
        """End what is under way, and let go of the run, but not of the staging folder; idempotent."""
        await self._pipeline.cut_short()
        await self._errands.aclose()
        await self._run.leave_store()

    async def _send(self, number: int) -> Document:
        handed = self._handed[number]
        request = handed.request
        try:
            sent = await self.send(request, partial(self._progressed, number))
        except asyncio.CancelledError:
            if request.committed is not None:  # cut short behind the commit
                manifest = request.committed.to_json().decode()
                self._line().tell("committed", save=number, manifest=manifest)
            elif not request.staged:
                await self._pipeline.abort(request.uploads)
            raise
        except HOPELESS:
            await self._pipeline.abort(request.uploads)
            raise
        finally:
            del self._handed[number]
            request.outcome.cancel()
            await request.close_journal()
        await self._pipeline.discard_before(request.prefix)
        return {
            "manifest": sent.manifest.to_json().decode(),
            "target": sent.target,
            "already": sent.already,
            "upload_secs": sent.upload_secs,
            "copied": sent.copied,
        }

    def _progressed(self, number: int, size: int) -> None:
        self._line().tell("progressed", save=number, size=size, connections=self._store.connections)

    def _publish(self, event: Event) -> None:
        self._line().tell("event", **write_event(event))

    async def _let_go(self, prefix: str) -> None:
        """Wait for the listeners in the trainer's process that hold the state file."""
        if self._holds_state:
            try:
                await self._line().ask("let_go", prefix=prefix)
            except LineLostError:
                _log.debug("the trainer has gone: nobody holds the state file")


@dataclass(frozen=True, slots=True)
class _Handed:
    """Hold one save that the trainer hands over, perhaps while it is being staged."""

    request: SaveRequest

    @classmethod
    def read(cls, document: Document, staging: Path) -> _Handed:
        name, step = split_prefix(str(document["prefix"]))
        folder = str(document["folder"])
        if os.sep in folder or folder in ("", ".", ".."):
            raise ValueError(f"no folder of a save: {folder!r}")
        save = StagedSave(staging / folder)
        uploads = document["uploads"]
        request = SaveRequest(
            step=step,
            prefix=make_prefix(name, step),
            snapshot=None,
            metrics=MappingProxyType({str(k): float(v) for k, v in document["metrics"].items()}),
            stall_secs=0.0,
            claim=Claim.from_document(document["claim"]),
            outcome=asyncio.get_running_loop().create_future(),
            resumed=bool(document["resumed"]),
            phase=Phase.STAGING,
            sealed_uploads={str(key): str(sealed) for key, sealed in uploads.items()},
            save=save,
        )
        return cls(request)

    def add(self, key: str, size: int) -> None:
        check_key(key, self.request.prefix)
        assert self.request.save is not None
        self.request.files.add(StagedFile(key=key, path=self.request.save.files / key, size=size))

    async def journal_uploads(self) -> None:
        """Journal uploads from now on: the trainer has written all it had to write there."""
        request = self.request
        assert request.save is not None
        request.staged = True
        async with request.journal_turn:
            if request.outcome.done():  # it has been sent meanwhile
                return
            request.journal = await asyncio.to_thread(request.save.open_journal)
            for key in list(request.uploads):
                await request.journal_upload(key)
