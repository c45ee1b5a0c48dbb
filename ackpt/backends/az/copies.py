"""Copies inside the store: exactly one version of a blob, of any size, under a condition or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ackpt.backends.az.blobs import condition_headers, etag, quoted
from ackpt.backends.az.blocks import block_id, new_mark
from ackpt.backends.az.container import Ask, Container
from ackpt.backends.az.errors import refused
from ackpt.backends.az.upload import Uploads
from ackpt.backends.base import Condition, ObjectInfo
from ackpt.backends.http.undo import undo
from ackpt.errors import NotFoundError, StorageError
from ackpt.options import MiB

_WHOLE_BYTES: Final = 256 * MiB
"""What one request copies at most: https://learn.microsoft.com/rest/api/storageservices/copy-blob-from-url"""

_BLOCK_BYTES: Final = 256 * MiB
_MAX_BLOCKS: Final = 50_000
_LONG_SECS: Final = 600.0


class Copies:
    """Copy blobs of one container; an error about the source tells the source's key.

    Copy Blob is not used: it may end later, and shows an empty blob until then.
    """

    def __init__(self, container: Container, uploads: Uploads) -> None:
        self._container = container
        self._blobs = uploads.blobs
        self._blocks = uploads.blocks
        self._uploads = uploads

    async def copy(self, source: ObjectInfo, key: str, condition: Condition | None) -> ObjectInfo:
        """Copy in one request, or block by block what is too large for that."""
        copy = self._copy_blocks if source.size > _WHOLE_BYTES else self._copy_whole
        return await copy(source, key, condition)

    async def _copy_whole(self, source: ObjectInfo, key: str, condition: Condition | None) -> ObjectInfo:
        """Copy with metadata, and so with the checksum that is kept there.

        https://learn.microsoft.com/rest/api/storageservices/copy-blob-from-url
        """
        purpose = self._container.purpose(f"copy to {key} from", source.key)
        settings = self._container.settings
        reply = await self._container.send(
            Ask(
                purpose=purpose,
                method="PUT",
                name=self._container.base + key,
                headers={
                    **await self._container.source(source.key),
                    "x-ms-requires-sync": "true",
                    **_of_version(source),
                    **settings.making,
                    **settings.sealing,
                    **condition_headers(condition),
                },
                ok=frozenset({202, 409, 412}),
                timeout_secs=_LONG_SECS,
            )
        )
        if reply.status != 202:
            await self._check_source(source)
            raise refused(replace(purpose, key=key, condition=condition), reply)
        if reply.headers.get("x-ms-copy-status", "success") != "success":
            raise StorageError(f"{purpose}: the copy has not ended, and the request has", key=key)
        info = await self._blobs.head(key)
        version = etag(reply.headers, purpose)
        return info if info.version == version else ObjectInfo(key=key, size=source.size, version=version)

    async def _copy_blocks(self, source: ObjectInfo, key: str, condition: Condition | None) -> ObjectInfo:
        """Stage the source block by block, and join them under the condition."""
        known = await self._check_source(source)
        mark = new_mark()
        size = max(_BLOCK_BYTES, -(-source.size // _MAX_BLOCKS))
        blocks = []
        try:
            for number, start in enumerate(range(0, source.size, size), 1):
                blocks.append(block_id(mark, number))
                stop = min(start + size, source.size)
                await self._blocks.copy(key, blocks[-1], source, start, stop, _of_version(source))
            return await self._uploads.join(
                key, blocks, size=source.size, condition=condition, crc32c=known.crc32c
            )
        except BaseException:
            await undo(self._uploads.drop(key))
            raise

    async def _check_source(self, source: ObjectInfo) -> ObjectInfo:
        """Describe the source; a refusal does not always tell whether it speaks of it or of the copy.

        Raises:
            NotFoundError: it is not there, or no longer in that version.
        """
        found = await self._blobs.head(source.key)
        if found.version != source.version:
            raise NotFoundError(
                f"{source.key}: expected the ETag {source.version}, found {found.version}", key=source.key
            )
        return found


def _of_version(source: ObjectInfo) -> dict[str, str]:
    return {"x-ms-source-if-match": quoted(source.version)}
