"""Mistakes in the order of things, to be planted: the search for broken promises has to find each."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from unittest.mock import patch

from ackpt.backends.base import Backend, IfAbsent, IfVersion, ObjectInfo
from ackpt.checkpoint import delete, journal
from ackpt.checkpoint.commit import advance_state, put_manifest
from ackpt.checkpoint.journal import Journal
from ackpt.checkpoint.manifest import Manifest
from ackpt.checkpoint.staged import StagedFile
from ackpt.engine import retain, send
from ackpt.transfer import upload_parts

Plant = Callable[[], AbstractContextManager[object]]


async def _bury_data_first(backend: Backend, manifest: Manifest, tombstone: str) -> None:
    for each in manifest.objects:
        await backend.delete(each.key)
    await backend.delete(manifest.key)
    await backend.delete(tombstone)


async def _state_before_manifest(backend: Backend, manifest: Manifest) -> Manifest:
    await advance_state(backend, manifest.prefix, [manifest.prefix])
    return await put_manifest(backend, manifest)


async def _upload_without_order(self: send._Sending) -> list[ObjectInfo]:
    files = [file async for file in self.request.files]
    return await asyncio.gather(*(self._upload(file, IfAbsent()) for file in reversed(files)))


def _append_without_sync(self: Journal, record: Mapping[str, object]) -> None:
    os.write(self._fd, json.dumps(record).encode() + b"\n")


async def _upload_again(self: send._Sending, file: StagedFile, there: ObjectInfo) -> ObjectInfo:
    return await self._upload(file, IfVersion(there.version))


@contextmanager
def _what_is_there_not_recognised() -> Iterator[None]:
    with (
        patch.object(upload_parts, "holds", _nothing),
        patch.object(send._Sending, "_upload_over", _upload_again),
    ):
        yield


async def _nothing(*args: object, **options: object) -> None:
    return None


ORDER_IN_THE_STORE: dict[str, Plant] = {
    "data deleted before manifest": lambda: patch.object(delete, "_bury", _bury_data_first),
    "state before manifest": lambda: patch.object(send, "put_manifest", _state_before_manifest),
    "index before data": lambda: patch.object(send._Sending, "upload_all", _upload_without_order),
    "state never caught up": lambda: patch.object(retain, "catch_up_state", _nothing),
    "lost completion reply not recognised": _what_is_there_not_recognised,
    "lost uploads left open": lambda: patch.object(send, "abort_uploads", _nothing),
}

ORDER_ON_THE_DISK: dict[str, Plant] = {
    "files not synced": lambda: patch.object(journal, "fsync_path", lambda path: None),
    "records not synced": lambda: patch.object(Journal, "_append", _append_without_sync),
}
