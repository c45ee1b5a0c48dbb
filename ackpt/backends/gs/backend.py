"""The `gs://` backend: options, credentials and connections put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final, Self

from ackpt.backends.base import (
    Body,
    BulkDeletingBackend,
    Condition,
    CopyingBackend,
    MultipartBackend,
    ObjectInfo,
    Upload,
    UploadInfo,
)
from ackpt.backends.gs.aside import check_key, check_room, split_aside
from ackpt.backends.gs.copies import Copies
from ackpt.backends.gs.credentials import find_tokens
from ackpt.backends.gs.deletions import DELETE_LIMIT, Deletions
from ackpt.backends.gs.encryption import key_headers
from ackpt.backends.gs.endpoint import Endpoint
from ackpt.backends.gs.errors import DIALECT
from ackpt.backends.gs.multipart import (
    MULTIPART_LIMITS,
    MultipartUpload,
    Ticket,
)
from ackpt.backends.gs.objects import Objects, ObjectSettings
from ackpt.backends.gs.options import GSOptions
from ackpt.backends.gs.resumable import RESUMABLE_LIMITS, ResumableUpload, session_uri
from ackpt.backends.gs.resumable_api import ResumableApi
from ackpt.backends.gs.xml_api import XmlApi
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.http.session import Session
from ackpt.errors import (
    InvalidOptionError,
    NotFoundError,
    StorageError,
    UnsupportedError,
    UploadCompletedError,
)
from ackpt.options import read_options
from ackpt.url import StorageURL

_log = logging.getLogger(__name__)

_UNDO_SECS: Final = 1.0


class GSBackend(MultipartBackend, CopyingBackend, BulkDeletingBackend):
    """Be the objects below `gs://bucket/path`.

    A version is a generation. Conditions are the store's own preconditions, atomic for puts and
    for multipart uploads; for resumable ones see `ResumableUpload`.
    Large objects go in parallel parts by the XML API, or in order by resumable uploads where the
    endpoint has none of these, which shows at the first upload.
    The account needs roles/storage.objectUser (to create, read, list, delete and move objects):
    https://cloud.google.com/storage/docs/access-control/iam-roles
    """

    def __init__(self, bucket: str, path: str, options: GSOptions) -> None:
        """Make the backend; no I/O. Raises InvalidOptionError."""
        endpoint = Endpoint.find(options, bucket)
        settings = ObjectSettings(
            storage_class=options.storage_class,
            predefined_acl=options.predefined_acl,
            kms_key=options.kms_key,
            key_headers=key_headers(options.encryption_key_env),
        )
        self.limits = RESUMABLE_LIMITS if options.upload == "resumable" else MULTIPART_LIMITS
        self.delete_limit = DELETE_LIMIT
        self._bucket = bucket
        self._base = f"{path}/" if path else ""
        self._forced = options.upload
        self._speaks_xml = None if options.upload is None else options.upload == "multipart"
        self._endpoint = endpoint
        tokens = find_tokens(options, emulated=endpoint.emulated)
        self._session = Session(tokens, DIALECT, timeout_secs=options.timeout_secs)
        self._objects = Objects(self._session, endpoint, self._base, settings)
        self._copies = Copies(self._session, endpoint, self._base, settings, self._objects)
        self._deletions = Deletions(self._session, endpoint, self._base, self._objects)
        self._xml = XmlApi(self._session, endpoint, settings, billing_project=options.billing_project)
        self._resumable = ResumableApi(self._session, endpoint, settings)

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """Make a backend for `gs://bucket/path?option=value`; the options are those of `GSOptions`.

        Raises:
            InvalidOptionError: an option, or an environment variable that it names, is wrong; or the
                URL asks for another driver, which `open_gs` makes.
        """
        options = read_options(GSOptions, url.options, where=str(url))
        if options.driver is not None:
            raise InvalidOptionError(f"option 'driver': GSBackend is not {options.driver}; use open_backend")
        return cls(url.bucket, url.path, options)

    async def put(self, key: str, body: Body, *, condition: Condition | None = None) -> ObjectInfo:
        """Write one object in one request; see `Backend.put`.

        The request carries the checksum of the bytes, and the store refuses others.

        Raises:
            ChecksumMismatchError: the bytes arrived damaged, and were not stored.
            UnsupportedError: the key is empty, or a name kept for uploads.
        """
        check_key(key)
        return await self._objects.put(key, body, condition)

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate over an object's bytes, all of one generation; see `Backend.get`."""
        async with aclosing(self._objects.get(key, start, stop)) as blocks:
            async for block in blocks:
                yield block

    async def head(self, key: str) -> ObjectInfo:
        """Describe the object; see `Backend.head`."""
        return await self._objects.head(key)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """Iterate over the objects; see `Backend.list`. Names aside, of uploads, are left out."""
        async with aclosing(self._objects.list(prefix)) as infos:
            async for info in infos:
                if split_aside(info.key) is None:
                    yield info

    async def delete(self, key: str) -> None:
        """Delete the object; see `Backend.delete`."""
        await self._objects.delete(key)

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, StorageError]:
        """Delete up to 100 objects in one request; see `BulkDeletingBackend.delete_many`."""
        for key in keys:
            check_key(key)
        return await self._deletions.delete(keys)

    async def copy(self, source: ObjectInfo, key: str, *, condition: Condition | None = None) -> ObjectInfo:
        """Copy one generation of an object inside the store; see `CopyingBackend.copy`.

        Raises:
            NotFoundError: the source is not there, or no longer in that generation.
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
            ChecksumMismatchError: the copy has other bytes than the source had, and was deleted.
            UnsupportedError: the key is empty, or a name kept for uploads.
        """
        check_key(key)
        return await self._copies.copy(source, key, condition)

    async def create_upload(self, key: str) -> Upload:
        """Begin an upload: multipart, or resumable where that is wanted or nothing else is spoken.

        Raises:
            UnsupportedError: the key is too long for an upload, or the endpoint has no multipart
                uploads and the URL asks for them.
        """
        check_key(key)
        if self._speaks_xml is not False:
            upload = await self._begin_multipart(key)
            if upload is not None:
                self._speaks_xml = True
                return upload
            if self._forced == "multipart":
                raise UnsupportedError(
                    f"{key}: {self._endpoint.base} has no multipart uploads; leave the option 'upload' away, "
                    "or give upload=resumable",
                    key=key,
                )
            if self._speaks_xml is None:
                self._speaks_xml = False
                _log.info(
                    "%s has no multipart uploads: large objects go over resumable ones, in order",
                    self._endpoint.base,
                )
        uri = await self._resumable.start(self._base + key, key)
        return ResumableUpload(key, uri, api=self._resumable, objects=self._objects, stored=0)

    async def open_upload(self, key: str, upload_id: str) -> Upload:
        """Go on with an upload of either kind; see `MultipartBackend.open_upload`."""
        uri = session_uri(upload_id)
        if uri is not None:
            resumable = ResumableUpload(key, uri, api=self._resumable, objects=self._objects)
            await resumable.refresh()
            return resumable
        ticket = Ticket.parse(upload_id)
        if ticket is None:
            raise NotFoundError(f"{key}: the upload's id is none of this backend's", key=key)
        upload = self._multipart_upload(key, ticket)
        with suppress(UploadCompletedError):  # a crash before the move; `complete` can go on with it
            await upload.parts()
        return upload

    async def list_uploads(self, prefix: str = "") -> AsyncGenerator[UploadInfo, None]:
        """Iterate over our unfinished multipart uploads, and over objects that were left aside.

        An object aside may be one that a live writer is just about to move: a sweep goes by its age.
        Resumable sessions are not listed: the API cannot; they end by themselves after a week
        (https://cloud.google.com/storage/docs/resumable-uploads#session-uris).
        """
        if self._speaks_xml is False:
            return
        purpose = Purpose(action="list the uploads of", bucket=self._bucket, subject=Subject.BUCKET)
        async with aclosing(self._xml.list_uploads(self._base + prefix, purpose)) as uploads:
            async for listed in uploads:
                found = split_aside(listed.name.removeprefix(self._base))
                if found is not None and found[0].startswith(prefix):
                    ticket = Ticket(mark=found[1], upload_id=listed.upload_id)
                    yield UploadInfo(key=found[0], upload_id=str(ticket), created=listed.created)
        seen: set[tuple[str, str]] = set()
        async with aclosing(self._objects.list(prefix)) as infos:
            async for info in infos:
                found = split_aside(info.key)
                if found is not None and found not in seen and found[0].startswith(prefix):
                    seen.add(found)
                    ticket = Ticket(mark=found[1], upload_id="")
                    yield UploadInfo(key=found[0], upload_id=str(ticket), created=info.modified)

    async def aclose(self) -> None:
        """Close the connections; idempotent. Requests after it are a ClosedError."""
        await self._session.aclose()

    async def _begin_multipart(self, key: str) -> MultipartUpload | None:
        """Begin a multipart upload; None where the endpoint has none.

        Cancelled on the way, it still learns the upload's id and drops it: nobody else could.
        """
        check_room(self._base + key, key)
        ticket = Ticket.new()
        purpose = Purpose(action="begin an upload of", bucket=self._bucket, key=key, subject=Subject.BUCKET)
        request = asyncio.create_task(self._xml.initiate(self._base + ticket.aside(key), purpose))
        try:
            upload_id = await asyncio.shield(request)
        except asyncio.CancelledError:
            await self._undo(key, ticket, request)
            raise
        if upload_id is None:
            return None
        return self._multipart_upload(key, Ticket(mark=ticket.mark, upload_id=upload_id))

    async def _undo(self, key: str, ticket: Ticket, request: asyncio.Task[str | None]) -> None:
        """Drop an upload whose beginning was cancelled, within a time; an error leaves it to the sweep."""
        try:
            with suppress(StorageError, TimeoutError):
                async with asyncio.timeout(_UNDO_SECS):
                    upload_id = await request
                    if upload_id is not None:
                        ticket = Ticket(mark=ticket.mark, upload_id=upload_id)
                        await self._multipart_upload(key, ticket).abort()
        finally:
            request.cancel()

    def _multipart_upload(self, key: str, ticket: Ticket) -> MultipartUpload:
        return MultipartUpload(
            key, ticket, bucket=self._bucket, base=self._base, xml=self._xml, objects=self._objects
        )
