"""Copies inside the store: exactly one version of an object, of any size, under a condition or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from ackpt.backends.base import Condition, ObjectInfo
from ackpt.backends.http import xml
from ackpt.backends.http.undo import undo
from ackpt.backends.s3.bucket import Ask, Bucket
from ackpt.backends.s3.checksums import ALGORITHM_HEADER, from_document
from ackpt.backends.s3.documents import expected
from ackpt.backends.s3.multipart import begin
from ackpt.backends.s3.objects import quoted
from ackpt.backends.s3.upload_api import CopySource, UploadApi
from ackpt.errors import UnsupportedError
from ackpt.options import GiB

_LARGE_BYTES: Final = 5 * GiB
"""What one request copies at most: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""

_PART_BYTES: Final = 1 * GiB
_MAX_PARTS: Final = 10_000
_LONG_SECS: Final = 600.0


class Copies:
    """Copy objects of one bucket; an error about the source tells the source's key.

    Amazon's CopyObject takes a condition on what it writes; many stores that speak its API take the
    header and do not heed it. A multipart upload's completion is where commits stand on a condition
    anyway, so a copy under one is an upload whose part is copied.
    """

    def __init__(self, bucket: Bucket, api: UploadApi) -> None:
        self._bucket = bucket
        self._api = api

    async def copy_whole(self, source: ObjectInfo, key: str) -> ObjectInfo:
        """Copy in one request, over whatever is there; up to 5 GiB.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
        """
        abilities = self._bucket.abilities
        if abilities.checksums:
            try:
                # A checksum is computed where the source has none of all its bytes, and copied otherwise.
                return await self._copy(source, key, {ALGORITHM_HEADER: "CRC32C"})
            except UnsupportedError:
                info = await self._copy(source, key, {})
                abilities.give_up_checksums()
                return info
        return await self._copy(source, key, {})

    async def copy_in_parts(self, source: ObjectInfo, key: str, condition: Condition | None) -> ObjectInfo:
        """Copy by a multipart upload, completed under the condition; dropped when it fails."""
        upload_id, kind = await begin(self._api, self._bucket.abilities, key)
        try:
            size = max(_PART_BYTES, -(-source.size // _MAX_PARTS))
            headers = self._source(source)
            receipts = []
            for number, start in enumerate(range(0, max(source.size, 1), size), 1):
                stop = min(start + size, source.size)
                # "You can copy a range only if the source object is greater than 5 MB."
                part = CopySource(key=source.key, headers=headers)
                if source.size > size:
                    part = replace(part, start=start, stop=stop)
                receipts.append(await self._api.copy_part(key, upload_id, number, part, stop - start))
            return await self._api.complete(key, upload_id, receipts, condition, kind)
        except BaseException:
            await undo(self._api.abort(key, upload_id))
            raise

    async def _copy(self, source: ObjectInfo, key: str, headers: Mapping[str, str]) -> ObjectInfo:
        purpose = self._bucket.purpose(f"copy to {key} from", source.key)
        settings = self._bucket.settings
        reply = await self._bucket.send(
            Ask(
                purpose=purpose,
                method="PUT",
                name=self._bucket.base + key,
                headers={**self._source(source), **settings.writing, **settings.key, **headers},
                timeout_secs=_LONG_SECS,
            )
        )
        root = expected(reply, "CopyObjectResult", purpose)
        etag = xml.required(root, "ETag", purpose).strip('"')
        return ObjectInfo(key=key, size=source.size, version=etag, crc32c=from_document(root))

    def _source(self, source: ObjectInfo) -> dict[str, str]:
        name = f"{self._bucket.name}/{self._bucket.base}{source.key}"
        return {
            "x-amz-copy-source": quote(name, safe="/"),
            "x-amz-copy-source-if-match": quoted(source.version),
            **self._bucket.settings.source_key,
        }


def is_large(source: ObjectInfo) -> bool:
    """Tell whether one request does not suffice to copy an object."""
    return source.size > _LARGE_BYTES
