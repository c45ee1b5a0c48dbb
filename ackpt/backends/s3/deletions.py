"""Deletions of many objects in one request.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from ackpt.backends.http import xml
from ackpt.backends.http.message import Content, Reply
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.http.spoken import Spoken
from ackpt.backends.s3.bucket import Ask, Bucket
from ackpt.backends.s3.documents import expected
from ackpt.backends.s3.errors import named_refusal, read_refusal, translate
from ackpt.backends.s3.objects import Objects
from ackpt.errors import NotFoundError, StorageError, UnsupportedError

DELETE_LIMIT: Final = 1000
""""The request can contain a list of up to 1,000 keys" (…/API_DeleteObjects.html)."""

_LONG_SECS: Final = 300.0
"""The time for the answer to begin: a store may go through the keys one by one."""

_NOT_IN_XML: Final = re.compile("[\x00-\x1f\ufffe\uffff]")
"""What XML cannot hold, and what its readers take for something else: a line's end for another one
(https://www.w3.org/TR/xml/#charsets, https://www.w3.org/TR/xml/#sec-line-ends)."""

_ANSWERS: Final = frozenset({200, 400, 404, 405, 411, 412, 415, 501})
_UNKNOWN: Final = frozenset(
    {
        "",
        "InvalidRequest",
        "MalformedPOSTRequest",
        "MalformedXML",
        "MethodNotAllowed",
        "MissingContentLength",
        "NotImplemented",
        "PreconditionFailed",
    }
)
"""How stores refuse a request that they do not know: Amazon's own words for a POST of a form without one
are among them (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html)."""


class Deletions:
    """Delete objects of one bucket, by their keys, many in one request."""

    def __init__(self, bucket: Bucket, objects: Objects) -> None:
        self._bucket = bucket
        self._objects = objects
        self._spoken = Spoken(
            f"s3://{bucket.name}", "deletions of many objects", "they are deleted one by one"
        )

    async def delete(self, keys: Sequence[str]) -> dict[str, StorageError]:
        """Delete the objects; return those that were not, each with its error. Absent is success.

        A key that XML cannot hold as it is goes in a request of its own: in the document it could
        become another object's.

        Raises:
            UnsupportedError: the store does not know such requests; nothing was deleted.
        """
        base = self._bucket.base
        plain = [key for key in keys if _is_plain(base + key)]
        errors = await self._together(plain) if plain else {}
        for key in keys:
            if not _is_plain(base + key):
                try:
                    await self._objects.delete(key)
                except StorageError as error:
                    errors[key] = error
        return errors

    async def _together(self, keys: Sequence[str]) -> dict[str, StorageError]:
        purpose = self._bucket.purpose("delete objects of", subject=Subject.BUCKET)
        names = {self._bucket.base + key: key for key in keys}
        document = _document(names)
        with self._spoken.tried():
            reply = await self._bucket.send(
                Ask(
                    purpose=purpose,
                    method="POST",
                    query={"delete": ""},
                    # One of the checksums is demanded; this one by every store, newer ones by some.
                    headers={"content-md5": _md5(document)},
                    content=Content.of(document, "application/xml"),
                    ok=_ANSWERS,
                    timeout_secs=_LONG_SECS,
                )
            )
            root = _read(reply, purpose)
        errors: dict[str, StorageError] = {}
        for element in [] if root is None else xml.children(root, "Error"):
            key = names.get(xml.text(element, "Key") or "")
            error = self._error(element, key)
            if key is None:
                raise error
            if not isinstance(error, NotFoundError):
                errors[key] = error
        return errors

    def _error(self, element: ET.Element, key: str | None) -> StorageError:
        refusal = named_refusal(xml.text(element, "Code") or "", xml.text(element, "Message") or "")
        return translate(self._bucket.purpose("delete", key), refusal)


def _read(reply: Reply, purpose: Purpose) -> ET.Element | None:
    """Return the answer's document, None where there is nothing to say.

    "If all keys are successfully deleted when you're using quiet mode, Amazon S3 returns an empty
    response" (https://docs.aws.amazon.com/AmazonS3/latest/userguide/delete-multiple-objects.html).

    Raises:
        StorageError: the document is an error; the subclass says which.
        UnsupportedError: the answer is that of a store that does not know the request.
    """
    if reply.status == 200:
        return expected(reply, "DeleteResult", purpose) if reply.body else None
    refusal = read_refusal(reply.status, reply.headers, reply.body)
    error = translate(purpose, refusal)
    if refusal.code in _UNKNOWN and not isinstance(error, UnsupportedError):
        raise UnsupportedError(f"{purpose}: {refusal}; this store cannot do that") from error
    raise error


def _is_plain(name: str) -> bool:
    return _NOT_IN_XML.search(name) is None


def _document(names: Iterable[str]) -> bytes:
    """Write the names, in quiet mode: what was deleted is not listed in the answer."""
    listed = "".join(f"<Object><Key>{escape(name)}</Key></Object>" for name in names)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>{listed}</Delete>'
    ).encode()


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
