"""The `s3://` backend: options, credentials, connections and requests put together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Self, cast

from ackpt.backends.base import (
    Body,
    BulkDeletingBackend,
    Condition,
    CopyingBackend,
    IfAbsent,
    IfVersion,
    MultipartBackend,
    ObjectInfo,
    SingleWriter,
    Upload,
    UploadInfo,
)
from ackpt.backends.s3.bucket import Bucket
from ackpt.backends.s3.copies import Copies, is_large
from ackpt.backends.s3.deletions import DELETE_LIMIT, Deletions
from ackpt.backends.s3.errors import condition_failed
from ackpt.backends.s3.multipart import MULTIPART_LIMITS, S3Upload, begin
from ackpt.backends.s3.objects import Objects, is_etag
from ackpt.backends.s3.options import S3Options
from ackpt.backends.s3.upload_api import UploadApi, UploadKind
from ackpt.errors import (
    ConditionFailedError,
    InvalidURLError,
    NotFoundError,
    StorageError,
    TransientError,
    UnsupportedError,
)
from ackpt.options import MiB, read_options
from ackpt.url import StorageURL

_PROOF_BYTES: Final = 1 * MiB


class S3Backend(MultipartBackend, CopyingBackend, BulkDeletingBackend):
    """Be the objects below `s3://bucket/path`.

    A version is an ETag. Conditions are the store's own `If-None-Match` and `If-Match`, atomic for
    puts, multipart uploads and copies
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
    An ETag is made of the bytes: equal bytes written again are the same version.
    """

    def __init__(self, bucket: str, path: str, options: S3Options) -> None:
        """Make the backend; no I/O. Raises InvalidOptionError."""
        self.limits = MULTIPART_LIMITS
        self.delete_limit = DELETE_LIMIT
        self._bucket = Bucket(bucket, f"{path}/" if path else "", options)
        self._objects = Objects(self._bucket)
        self._api = UploadApi(self._bucket)
        self._copies = Copies(self._bucket, self._api)
        self._deletions = Deletions(self._bucket, self._objects)
        self._proven = False

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """Make a backend for `s3://bucket/path?option=value`; the options are those of `S3Options`.

        With `conditional_writes=false` it is a `SingleWriter`.

        Raises:
            InvalidOptionError: an option, or an environment variable that it names, is wrong.
            InvalidURLError: the bucket is of a kind that this backend does not speak to.
        """
        if url.bucket.endswith("--x-s3") or ":" in url.bucket:
            raise InvalidURLError(
                f"{url}: expected the name of a general purpose bucket; directory buckets and access points "
                "by their ARN are not supported (an access point's alias is)"
            )
        options = read_options(S3Options, url.options, where=str(url))
        kind = cls if options.conditional_writes else SingleWriterS3Backend
        return cast(Self, kind(url.bucket, url.path, options))

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        """Write one object in one request; see `Backend.put`.

        The request carries the checksum of the bytes, and the store refuses others.

        Raises:
            ChecksumMismatchError: the bytes arrived damaged, and were not stored.
            UnsupportedError: the key is empty, or the store knows no conditions.
        """
        _check_key(key)
        settled = await self._settle(key, condition)
        info = await self._objects.put(key, body, settled)
        if isinstance(settled, IfAbsent) and body.size <= _PROOF_BYTES and not self._proven:
            await self._prove(key, body)
        return info

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate over an object's bytes, all of one version; see `Backend.get`."""
        _check_key(key)
        async with aclosing(self._objects.get(key, start, stop)) as blocks:
            async for block in blocks:
                yield block

    async def head(self, key: str) -> ObjectInfo:
        """Describe the object; see `Backend.head`."""
        _check_key(key)
        return await self._objects.head(key)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over the objects; see `Backend.list`. The store lists no checksums."""
        async with aclosing(self._objects.list(prefix)) as infos:
            async for info in infos:
                yield info

    async def delete(self, key: str) -> None:
        """Delete the object; see `Backend.delete`."""
        _check_key(key)
        await self._objects.delete(key)

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        """Delete up to 1,000 objects in one request; see `BulkDeletingBackend.delete_many`."""
        for key in keys:
            _check_key(key)
        return await self._deletions.delete(keys)

    async def create_upload(self, key: str) -> Upload:
        """Begin a multipart upload; cancelled on the way, it leaves none."""
        _check_key(key)
        return self._upload(key, *await begin(self._api, self._bucket.abilities, key))

    async def open_upload(self, key: str, upload_id: str) -> Upload:
        """Go on with an upload; see `MultipartBackend.open_upload`."""
        _check_key(key)
        _, kind = await self._api.list_parts(key, upload_id)
        return self._upload(key, upload_id, kind)

    async def list_uploads(self, prefix: str = "") -> AsyncGenerator[UploadInfo, None]:
        """Iterate over the unfinished uploads; see `MultipartBackend.list_uploads`."""
        async with aclosing(self._api.list_uploads(prefix)) as uploads:
            async for upload in uploads:
                yield UploadInfo(key=upload.key, upload_id=upload.upload_id, created=upload.created)

    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Copy an object; see `CopyingBackend.copy`."""
        _check_key(key)
        if not is_etag(source.version):
            raise NotFoundError(f"{source.key}: {source.version!r} is no version here", key=source.key)
        settled = await self._settle(key, condition)
        if settled is None and key != source.key and not is_large(source):
            return await self._copies.copy_whole(source, key)
        return await self._copies.copy_in_parts(source, key, settled)

    async def aclose(self) -> None:
        """Close the connections; idempotent. Requests after it are a ClosedError."""
        await self._bucket.aclose()

    async def _settle(self, key: str, condition: Condition | None) -> Condition | None:
        """Return the condition that is the store's to check.

        Raises:
            ConditionFailedError: the version is no ETag, so no object has it.
        """
        if isinstance(condition, IfVersion) and not is_etag(condition.version):
            raise condition_failed(condition, key, found="another one")
        return condition

    async def _prove(self, key: str, body: Body) -> None:
        """Find out, once, whether the store heeds conditions, by a create-only put where something is.

        A store that leaves the header out of account says nothing, and two writers would overwrite
        each other. The bytes are those that have just been put, so that such a store does no harm
        here. Not for Amazon, which is known to heed them.

        Raises:
            UnsupportedError: it does not.
        """
        self._proven = True
        if await self._bucket.is_amazon():
            return
        try:
            await self._objects.put(key, body, IfAbsent())
        except ConditionFailedError:
            return
        except TransientError:
            self._proven = False
            return
        raise UnsupportedError(
            f"{key}: this store leaves If-None-Match out of account: it put an object over one that was "
            "there, so it cannot keep writers apart; give conditional_writes=false, and see to it that there "
            "is one writer at a time",
            key=key,
        )

    def _upload(self, key: str, upload_id: str, kind: UploadKind) -> S3Upload:
        abilities = self._bucket.abilities
        if not kind.parts:
            abilities.tell_none()
        return S3Upload(
            key,
            upload_id,
            kind,
            api=self._api,
            objects=self._objects,
            abilities=abilities,
            settle=self._settle,
        )


class SingleWriterS3Backend(S3Backend, SingleWriter):
    """Be a store without conditional writes: a condition is compared, and then the object is written."""

    async def _settle(self, key: str, condition: Condition | None) -> None:
        """Compare a condition with what is there.

        Raises:
            AlreadyExistsError, ConditionFailedError: it does not hold.
        """
        if condition is None:
            return
        try:
            version = (await self._objects.head(key)).version
        except NotFoundError:
            version = None
        match condition:
            case IfAbsent() if version is None:
                return
            case IfVersion(wanted) if version == wanted:
                return
        raise condition_failed(condition, key, found=f"the ETag {version}")


def _check_key(key: str) -> None:
    if not key:
        raise UnsupportedError("an object needs a name; got an empty key", key=key)
