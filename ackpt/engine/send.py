"""Sending of one request: upload its files as they are staged, verify them in the store, commit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from ackpt.backends.base import Backend, Condition, CopyingBackend, IfAbsent, IfVersion, ObjectInfo
from ackpt.checkpoint.catalog import read_object
from ackpt.checkpoint.commit import advance_state, conflict, find_committed, put_manifest
from ackpt.checkpoint.fence import check_claim
from ackpt.checkpoint.intent import declare, intent_key, read_seal, withdraw
from ackpt.checkpoint.manifest import Manifest, ManifestObject
from ackpt.checkpoint.seal import Seal
from ackpt.checkpoint.staged import StagedFile
from ackpt.checkpoint.sweep import abort_uploads
from ackpt.checkpoint.tensor_index import same_tensors
from ackpt.engine.proof import check_commit, check_sent, list_objects, tell_fenced
from ackpt.engine.request import SaveRequest
from ackpt.engine.reuse import WORTH_BYTES, candidates, digest_of_file, same_bytes
from ackpt.engine.store import Store
from ackpt.errors import (
    ConditionFailedError,
    CorruptCheckpointError,
    DamagedFileError,
    StepConflictError,
    StorageError,
)
from ackpt.transfer.checksum import crc32c_of_file
from ackpt.transfer.context import Transfer
from ackpt.transfer.fan_out import task_group
from ackpt.transfer.read_back import read_back
from ackpt.transfer.reliable import reliable
from ackpt.transfer.upload import upload_object

_log = logging.getLogger(__name__)

_FILES_AT_ONCE = 64
"""Files in hand at one time; the budget bounds what moves, this only the tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Say what came of a sending: the manifest, where it was committed, and whether it was there before."""

    manifest: Manifest
    target: str
    already: bool
    upload_secs: float
    copied: int = 0
    """Bytes that were copied inside the store and not sent."""


class Sender:
    """Send the checkpoints of one run to its store."""

    def __init__(self, store: Store, before_state: Callable[[str], Awaitable[None]]) -> None:
        """Send to `store`; `before_state` is awaited, with the committed prefix, before the state moves."""
        self._store = store
        self._before_state = before_state

    async def send(
        self,
        request: SaveRequest,
        *,
        kept: Callable[[Manifest], Sequence[str]],
        on_progress: Callable[[int], None],
        base: Manifest | None = None,
    ) -> Sent:
        """Upload, verify and commit `request`, whose files may still be arriving.

        `kept` says which prefixes the state file lists once the given manifest is committed.
        `on_progress` is called with the bytes newly acknowledged (negative: to be sent again).
        What `base`, a committed checkpoint, holds with the same SHA-256 is copied inside the store,
        where the backend can; whatever hinders that, it is sent.

        Raises:
            StepConflictError: the step is committed with other content, or not ours to write.
            FencedError: a newer writer has taken over the run.
            CorruptCheckpointError: the store does not hold what was sent to it, or what says who may.
            DamagedFileError: what was staged is not what lies there now.
            StorageError, StagingError: what stopped an object, after the retries.
        """
        transfer = self._store.transfer()
        backend = reliable(self._store.backend, transfer.retry)
        try:
            return await self._send(request, transfer, backend, kept=kept, on_progress=on_progress, base=base)
        except (StepConflictError, CorruptCheckpointError, ConditionFailedError):
            await tell_fenced(backend, request)  # it may be another writer that has come between
            raise

    async def _send(
        self,
        request: SaveRequest,
        transfer: Transfer,
        backend: Backend,
        *,
        kept: Callable[[Manifest], Sequence[str]],
        on_progress: Callable[[int], None],
        base: Manifest | None,
    ) -> Sent:
        started = time.monotonic()
        manifest = await find_committed(backend, step=request.step, prefix=request.prefix)
        already = manifest is not None
        copied = 0
        resumed = already
        there = await list_objects(backend, request.prefix)
        if manifest is not None:
            await _check_same(backend, request, manifest)
            await check_claim(backend, request.claim)
            await self._repair(request, transfer, manifest, there)
        else:
            resumed = intent_key(request.prefix) in there
            ours = not there or resumed
            if ours:
                seal = await read_seal(backend, request.prefix) if resumed else None
                request.unseal(seal or Seal.new())
                await declare(backend, prefix=request.prefix, writer=request.claim.writer, seal=request.seal)
            sending = _Sending(
                backend=self._store.backend,
                request=request,
                transfer=transfer,
                there=there,
                ours=ours,
                on_progress=on_progress,
                base=base,
            )
            objects = await sending.upload_all()
            check_sent(request, objects, await list_objects(backend, request.prefix))
            await check_claim(backend, request.claim)
            manifest = await put_manifest(backend, _manifest(request, objects, sending))
            copied = sending.copied
        request.committed = manifest
        async with task_group() as group:
            group.create_task(check_commit(backend, request, manifest))
            group.create_task(_end_sending(backend, request.prefix, uploads=bool(request.uploads) or resumed))
        if manifest.is_tensorflow:
            await self._before_state(manifest.prefix)
            await advance_state(backend, manifest.prefix, kept(manifest))
        return Sent(
            manifest=manifest,
            target=self._store.name,
            already=already,
            upload_secs=time.monotonic() - started,
            copied=copied,
        )

    async def _repair(
        self,
        request: SaveRequest,
        transfer: Transfer,
        manifest: Manifest,
        there: Mapping[str, ObjectInfo],
    ) -> None:
        """Put back what the store has lost of a committed checkpoint, where we have the very same bytes."""
        lost = {each.key: each for each in manifest.objects if each.key not in there}
        if not lost:
            return
        async for file in request.files:
            wanted = lost.get(file.key)
            if wanted is None or wanted.size != file.size:
                continue
            if await asyncio.to_thread(crc32c_of_file, file.path) == wanted.crc32c:
                _log.warning("%s had been lost; it is put back", file.key)
                await upload_object(self._store.backend, file, transfer, condition=IfAbsent())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sending:
    """Be the upload of one request's files; `there` is what lies under its prefix, `ours` who put it."""

    backend: Backend
    request: SaveRequest
    transfer: Transfer
    there: Mapping[str, ObjectInfo]
    ours: bool
    on_progress: Callable[[int], None]
    base: Manifest | None = None
    adopted: set[str] = field(default_factory=set)
    """The keys of what somebody else had put there before, with the same bytes."""
    digests: dict[str, str] = field(default_factory=dict)
    """The SHA-256 of what was read for it, by key."""
    copies: dict[str, int] = field(default_factory=dict)
    """The sizes of what was copied, by key."""

    @property
    def copied(self) -> int:
        """Return the bytes that were copied inside the store."""
        return sum(self.copies.values())

    async def upload_all(self) -> list[ObjectInfo]:
        """Upload the data files as they come, at once; each index only when all before it are up."""
        slots = asyncio.Semaphore(_FILES_AT_ONCE)
        tasks: list[asyncio.Task[ObjectInfo | None]] = []

        async def upload(file: StagedFile) -> ObjectInfo | None:
            try:
                found = self.there.get(file.key)
                if found is not None:
                    return await self._upload_over(file, found)
                return await self._bring(file)
            finally:
                slots.release()

        async with task_group() as group:
            async for file in self.request.files:
                if file.key == f"{self.request.prefix}.index" and tasks:
                    await asyncio.wait(tasks)
                await slots.acquire()
                tasks.append(group.create_task(upload(file)))
        return [info for info in (task.result() for task in tasks) if info is not None]

    async def _bring(self, file: StagedFile) -> ObjectInfo:
        """Have one file in the store: by a copy of what is committed with the same bytes, or sent."""
        backend = reliable(self.backend, self.transfer.retry)
        if (
            not isinstance(backend, CopyingBackend)
            or not self.transfer.options.copy_unchanged
            or file.size < WORTH_BYTES
        ):
            return await self._upload(file, IfAbsent())
        among = candidates(self.base, file)
        if among:  # a tenth of what a digest costs, and nearly always enough to tell that a file has changed
            crc = await asyncio.to_thread(crc32c_of_file, file.path)
            among = [each for each in among if each.crc32c == crc]
        if not among:
            async with task_group() as group:  # the digest is for the next checkpoint, and holds up nothing
                digest = group.create_task(asyncio.to_thread(digest_of_file, file.path))
                sent = group.create_task(self._upload(file, IfAbsent()))
            self.digests[file.key] = digest.result()
            return sent.result()
        self.digests[file.key] = await asyncio.to_thread(digest_of_file, file.path)
        source = same_bytes(among, self.digests[file.key])
        if source is None:
            return await self._upload(file, IfAbsent())
        return await self._copy(backend, source, file)

    async def _copy(self, backend: CopyingBackend, source: ObjectInfo, file: StagedFile) -> ObjectInfo:
        """Copy exactly the version that was committed, and send the file where that cannot be done.

        Also where the store seems to be down: it may be its copies alone, and else the sending tells.
        """
        try:
            info = await backend.copy(source, file.key, condition=IfAbsent())
        except StorageError as error:
            _log.debug("%s cannot be copied from %s, and is sent: %s", file.key, source.key, error)
            return await self._upload(file, IfAbsent())
        if info.size != file.size or info.crc32c not in (None, source.crc32c):
            _log.debug("the copy of %s differs from it: %s is sent", source.key, file.key)
            return await self._upload(file, IfVersion(info.version))
        self.copies[file.key] = file.size
        self.on_progress(file.size)
        return replace(info, crc32c=source.crc32c)

    async def _upload_over(self, file: StagedFile, there: ObjectInfo) -> ObjectInfo | None:
        """Upload one file whose key is taken, by a writer that never committed or by TensorFlow's own.

        The same bytes are taken as they are. Other bytes are written over where an intent says that
        they are ours; a graph description (`.meta`) of somebody else's stays out of the checkpoint.
        """
        crc = await asyncio.to_thread(crc32c_of_file, file.path)
        if there.size == file.size:
            backend = reliable(self.backend, self.transfer.retry)
            found = there.crc32c
            if found is None:
                found = await read_back(backend, there.key, self.transfer.budget)
            if found == crc:
                self.on_progress(file.size)
                if not self.ours:
                    self.adopted.add(there.key)
                return replace(there, crc32c=crc)
        if self.ours:
            return await self._upload(file, IfVersion(there.version))
        if file.key == f"{self.request.prefix}.meta":
            return None
        raise StepConflictError(
            f"{there.key} is there already with other content ({there.size} bytes; this save has "
            f"{file.size}), and was not written by ackpt; it was left as it is, and step "
            f"{self.request.step} is not saved: restore from it before training on, or use another target",
            step=self.request.step,
        )

    async def _upload(self, file: StagedFile, condition: Condition) -> ObjectInfo:
        if file.crc32c is not None:
            await self._check_staged(file)
        return await upload_object(
            self.backend,
            file,
            self.transfer,
            condition=condition,
            upload_id=self.request.uploads.get(file.key),
            keep_upload=True,
            on_upload=partial(self.request.record, file.key),
            on_progress=self.on_progress,
        )

    async def _check_staged(self, file: StagedFile) -> None:
        """Compare a file that an earlier process staged with what it wrote down of it."""
        found = await asyncio.to_thread(crc32c_of_file, file.path)
        if found != file.crc32c:
            raise DamagedFileError(
                f"{file.path}: expected crc32c {file.crc32c:08x} as it was staged, found {found:08x}; the "
                f"local disk has damaged it, and step {self.request.step} is not saved"
            )


def _manifest(request: SaveRequest, objects: Sequence[ObjectInfo], sending: _Sending) -> Manifest:
    return Manifest(
        step=request.step,
        prefix=request.prefix,
        created=datetime.now(UTC),
        run=request.claim.run,
        attempt=request.claim.attempt,
        writer=request.claim.writer,
        metrics=request.metrics,
        objects=tuple(
            ManifestObject(
                key=each.key,
                size=each.size,
                crc32c=_crc(each),
                version=each.version,
                adopted=each.key in sending.adopted,
                digest=sending.digests.get(each.key),
            )
            for each in objects
        ),
    )


async def _check_same(backend: Backend, request: SaveRequest, manifest: Manifest) -> None:
    """Make sure that the staged files hold what is committed: TensorFlow saves again after a restore.

    Of a TensorFlow checkpoint the tensors count, and not how they are cut into shards.
    """
    staged = {file.key: file async for file in request.files}
    mine = {
        key: (file.size, await asyncio.to_thread(crc32c_of_file, file.path)) for key, file in staged.items()
    }
    if manifest.same_content(mine):
        return
    index = staged.get(f"{request.prefix}.index")
    if index is not None and manifest.is_tensorflow:
        committed = await read_object(backend, index.key)
        try:
            if same_tensors(committed, await asyncio.to_thread(index.path.read_bytes)):
                return
        except ValueError as error:
            _log.debug("%s cannot be compared by its tensors: %s", index.key, error)
    raise conflict(manifest, sum(size for size, _ in mine.values()))


async def _end_sending(backend: Backend, prefix: str, *, uploads: bool) -> None:
    """Take the intent back; before that, where there may have been `uploads`, drop those nobody knows.

    A process that dies, or a reply that is lost, leaves such. What cannot be reached is left for a
    sweep, and so is the intent, which leads it there.
    """
    try:
        if uploads:
            await abort_uploads(backend, prefix)
        await withdraw(backend, prefix)
    except StorageError as error:
        _log.debug("what is left of the sending of %s stays for a sweep: %s", prefix, error)


def _crc(info: ObjectInfo) -> int:
    assert info.crc32c is not None, "upload_object always sets it"
    return info.crc32c
