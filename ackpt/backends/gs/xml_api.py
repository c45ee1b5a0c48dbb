"""Requests of the XML API for multipart uploads, and their documents; no state, no policy.

https://cloud.google.com/storage/docs/multipart-uploads
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from ackpt.backends.base import Body, PartReceipt
from ackpt.backends.gs.checksum import HASH_HEADER, from_headers
from ackpt.backends.gs.endpoint import Endpoint
from ackpt.backends.gs.errors import read_refusal, translate
from ackpt.backends.gs.objects import ObjectSettings
from ackpt.backends.http import xml
from ackpt.backends.http.message import Content, Reply, Request
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.http.refusal import Refusal
from ackpt.backends.http.session import Session
from ackpt.errors import StorageError, UnsupportedError

_COMPLETE_SECS: Final = 600.0
"""The time for the answer to a completion, which "can take several minutes".

https://cloud.google.com/storage/docs/xml-api/post-object-complete
"""

# The XML API's names: https://cloud.google.com/storage/docs/xml-api/reference-headers#xgoogacl
_ACLS: Final = {
    "authenticatedRead": "authenticated-read",
    "bucketOwnerFullControl": "bucket-owner-full-control",
    "bucketOwnerRead": "bucket-owner-read",
    "private": "private",
    "projectPrivate": "project-private",
    "publicRead": "public-read",
}

_NOT_SPOKEN: Final = frozenset({400, 404, 405, 501})


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedUpload:
    """Describe one unfinished multipart upload of the bucket."""

    name: str
    upload_id: str
    created: datetime | None


class XmlApi:
    """Send the XML API's multipart requests about one bucket; names are whole, not keys."""

    def __init__(
        self,
        session: Session,
        endpoint: Endpoint,
        settings: ObjectSettings,
        *,
        billing_project: str | None,
    ) -> None:
        self._session = session
        self._endpoint = endpoint
        self._settings = settings
        # https://cloud.google.com/storage/docs/requester-pays#using
        self._headers = {} if billing_project is None else {"x-goog-user-project": billing_project}

    async def initiate(self, name: str, purpose: Purpose) -> str | None:
        """Begin an upload and return its id; None where the endpoint does not know such uploads.

        https://cloud.google.com/storage/docs/xml-api/post-object-multipart
        """
        settings = self._settings
        given = {
            "Content-Type": "application/octet-stream",
            "x-goog-storage-class": settings.storage_class,
            "x-goog-acl": None if settings.predefined_acl is None else _ACLS[settings.predefined_acl],
            "x-goog-encryption-kms-key-name": settings.kms_key,
        }
        headers = {name: value for name, value in given.items() if value is not None}
        reply = await self._session.send(
            Request(
                method="POST",
                url=self._endpoint.xml(name, uploads=""),
                headers={**headers, **self._key_headers()},
                purpose=purpose,
                ok=frozenset({200}) | _NOT_SPOKEN,
            )
        )
        root = xml.parse(reply.body)
        if reply.status == 200 and root is not None and xml.tag(root) == "InitiateMultipartUploadResult":
            return xml.required(root, "UploadId", purpose)
        refusal = read_refusal(reply.status, reply.headers, reply.body)
        if _speaks(root, refusal):
            raise translate(purpose, refusal)
        return None

    async def put_part(
        self, name: str, upload_id: str, number: int, body: Body, purpose: Purpose
    ) -> PartReceipt:
        """Send a part; the receipt's checksum is what the store says it got.

        https://cloud.google.com/storage/docs/xml-api/put-object-multipart
        """
        reply = await self._session.send(
            Request(
                method="PUT",
                url=self._endpoint.xml(name, partNumber=str(number), uploadId=upload_id),
                headers=self._key_headers(),
                purpose=purpose,
                content=Content(blocks=body.__aiter__, size=body.size),
            )
        )
        etag = reply.headers.get("ETag")
        if etag is None:
            raise StorageError(f"{purpose}: the answer has no ETag", key=purpose.key)
        stored = from_headers(reply.headers.getall(HASH_HEADER, []))
        return PartReceipt(number=number, size=body.size, token=etag, crc32c=stored)

    async def list_parts(self, name: str, upload_id: str, purpose: Purpose) -> list[PartReceipt]:
        """Return all parts, by number; the store lists no checksums.

        https://cloud.google.com/storage/docs/xml-api/get-object-multipart
        """
        receipts: list[PartReceipt] = []
        marker: dict[str, str] = {}
        while True:
            url = self._endpoint.xml(name, uploadId=upload_id, **marker)
            request = Request(method="GET", url=url, headers=self._headers, purpose=purpose)
            root = _expected(await self._session.send(request), "ListPartsResult", purpose)
            for part in xml.children(root, "Part"):
                receipts.append(
                    PartReceipt(
                        number=int(xml.required(part, "PartNumber", purpose)),
                        size=int(xml.required(part, "Size", purpose)),
                        token=xml.required(part, "ETag", purpose),
                    )
                )
            if xml.text(root, "IsTruncated") != "true":
                return receipts
            marker = {"part-number-marker": xml.required(root, "NextPartNumberMarker", purpose)}

    async def complete(
        self, name: str, upload_id: str, receipts: Sequence[PartReceipt], purpose: Purpose
    ) -> None:
        """Make the object of these parts, in order of their numbers; replaces what has the name.

        "Preconditions are not supported in the requests"
        (https://cloud.google.com/storage/docs/multipart-uploads#considerations).
        https://cloud.google.com/storage/docs/xml-api/post-object-complete
        """
        root = ET.Element("CompleteMultipartUpload")
        for receipt in sorted(receipts, key=lambda receipt: receipt.number):
            part = ET.SubElement(root, "Part")
            ET.SubElement(part, "PartNumber").text = str(receipt.number)
            ET.SubElement(part, "ETag").text = receipt.token
        reply = await self._session.send(
            Request(
                method="POST",
                url=self._endpoint.xml(name, uploadId=upload_id),
                headers=self._key_headers(),
                purpose=purpose,
                content=Content.of(ET.tostring(root), "application/xml"),
                timeout_secs=_COMPLETE_SECS,
            )
        )
        _expected(reply, "CompleteMultipartUploadResult", purpose)

    async def abort(self, name: str, upload_id: str, purpose: Purpose) -> None:
        """Drop an upload and its parts.

        https://cloud.google.com/storage/docs/xml-api/delete-multipart

        Raises:
            NotFoundError: it was completed or aborted.
        """
        url = self._endpoint.xml(name, uploadId=upload_id)
        ok = frozenset({200, 204})
        await self._session.send(
            Request(method="DELETE", url=url, headers=self._headers, purpose=purpose, ok=ok)
        )

    async def list_uploads(self, prefix: str, purpose: Purpose) -> AsyncGenerator[ListedUpload, None]:
        """Iterate over the unfinished uploads to names that begin with `prefix`; none where not spoken.

        Names come percent-encoded: XML cannot hold every character that a name can.
        https://cloud.google.com/storage/docs/xml-api/get-bucket-uploads
        """
        query = {"uploads": "", "prefix": prefix, "encoding-type": "url"}
        while True:
            reply = await self._session.send(
                Request(
                    method="GET",
                    url=self._endpoint.xml(**query),
                    headers=self._headers,
                    purpose=purpose,
                    ok=frozenset({200}) | _NOT_SPOKEN,
                )
            )
            root = xml.parse(reply.body)
            if reply.status != 200 or root is None or xml.tag(root) != "ListMultipartUploadsResult":
                refusal = read_refusal(reply.status, reply.headers, reply.body)
                if _speaks(root, refusal):
                    raise translate(purpose, refusal)
                return
            encoded = xml.text(root, "EncodingType") == "url"
            for upload in xml.children(root, "Upload"):
                name, initiated = xml.required(upload, "Key", purpose), xml.text(upload, "Initiated")
                yield ListedUpload(
                    name=unquote(name) if encoded else name,
                    upload_id=xml.required(upload, "UploadId", purpose),
                    created=datetime.fromisoformat(initiated) if initiated else None,
                )
            if xml.text(root, "IsTruncated") != "true":
                return
            marker = xml.required(root, "NextKeyMarker", purpose)
            query["key-marker"] = unquote(marker) if encoded else marker
            query["upload-id-marker"] = xml.text(root, "NextUploadIdMarker") or ""

    def _key_headers(self) -> Mapping[str, str]:
        return {**self._settings.key_headers, **self._headers}


def upload_purpose(action: str, bucket: str, key: str) -> Purpose:
    """Name a request about one upload."""
    return Purpose(action=action, bucket=bucket, key=key, subject=Subject.UPLOAD)


def _speaks(root: ET.Element | None, refusal: Refusal) -> bool:
    """Tell a refusal of the XML API from an endpoint that has none, which answers in other words."""
    return root is not None and xml.tag(root) == "Error" and refusal.code not in (
        "NotImplemented",
        "MethodNotAllowed",
    )  # fmt: skip


def _expected(reply: Reply, tag: str, purpose: Purpose) -> ET.Element:
    """Return the document, which must be a `tag`; an `Error` may come with status 200, as in S3."""
    root = xml.parse(reply.body)
    if root is not None and xml.tag(root) == tag:
        return root
    refusal = read_refusal(500, reply.headers, reply.body)
    if refusal.code:
        raise translate(purpose, refusal)
    raise UnsupportedError(
        f"{purpose}: expected a {tag}, got {reply.body[:80]!r}; does the endpoint speak the XML API?",
        key=purpose.key,
    )
