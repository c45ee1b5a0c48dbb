"""Requests of resumable uploads, each with its statuses; no state, no policy.

https://cloud.google.com/storage/docs/resumable-uploads and, for each request,
https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import json
from typing import Final

from yarl import URL

from ackpt.backends.gs.checksum import HASH_HEADER
from ackpt.backends.gs.endpoint import Endpoint
from ackpt.backends.gs.objects import ObjectSettings
from ackpt.backends.gs.xml_api import upload_purpose
from ackpt.backends.http.crc32c import encode
from ackpt.backends.http.message import Content, Reply, Request
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.http.session import Session
from ackpt.errors import StorageError

_STATUSES: Final = frozenset({200, 201, 308})


class ResumableApi:
    """Send the requests of resumable sessions of one bucket; a session is known by its URI.

    The URI lets anybody who has it write the object
    (https://cloud.google.com/storage/docs/resumable-uploads#session-uris): it is in no error or log.
    """

    def __init__(self, session: Session, endpoint: Endpoint, settings: ObjectSettings) -> None:
        self._session = session
        self._endpoint = endpoint
        self._settings = settings

    async def start(self, name: str, key: str) -> URL:
        """Begin a session: …/performing-resumable-uploads#initiate-session."""
        purpose = Purpose(
            action="begin an upload of", bucket=self._endpoint.bucket, key=key, subject=Subject.BUCKET
        )
        resource = json.dumps({"name": name, **self._settings.resource()}).encode()
        url = self._endpoint.upload(uploadType="resumable", name=name, **self._settings.query())
        reply = await self._session.send(
            Request(
                method="POST",
                url=url,
                headers=self._settings.key_headers,
                purpose=purpose,
                content=Content.of(resource, "application/json; charset=UTF-8"),
                ok=frozenset({200, 201}),
            )
        )
        location = reply.headers.get("Location")
        if not location:
            raise StorageError(f"{purpose}: the answer has no Location", key=key)
        return url.join(URL(location, encoded=True))

    async def send(
        self, uri: URL, key: str, *, content_range: str, content: Content | None, crc: int | None = None
    ) -> Reply:
        """Send bytes, or with none a question: …/performing-resumable-uploads#status-check."""
        checksum = {} if crc is None else {HASH_HEADER: f"crc32c={encode(crc)}"}
        return await self._session.send(
            Request(
                method="PUT",
                url=uri,
                headers={"Content-Range": content_range, **checksum, **self._settings.key_headers},
                purpose=upload_purpose("upload", self._endpoint.bucket, key),
                content=content,
                ok=_STATUSES,
                authorize=self._endpoint.owns(uri),
            )
        )

    async def cancel(self, uri: URL, key: str) -> None:
        """Cancel a session, which answers 499, or that it is gone: …#cancel-upload."""
        purpose = upload_purpose("abort", self._endpoint.bucket, key)
        ok = frozenset({200, 204, 404, 410, 499})
        await self._session.send(
            Request(method="DELETE", url=uri, purpose=purpose, ok=ok, authorize=self._endpoint.owns(uri))
        )
