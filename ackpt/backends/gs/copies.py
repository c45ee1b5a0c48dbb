"""Copies inside the store by the JSON API: exactly one generation, over as many requests as it takes."""

from __future__ import annotations

import json
from typing import Final

from ackpt.backends.base import Condition, ObjectInfo
from ackpt.backends.gs.encryption import source_key_headers
from ackpt.backends.gs.endpoint import Endpoint
from ackpt.backends.gs.errors import condition_failed
from ackpt.backends.gs.json_object import json_object
from ackpt.backends.gs.objects import FIELDS, Objects, ObjectSettings, condition_query
from ackpt.backends.http.message import Content, Request
from ackpt.backends.http.purpose import Purpose
from ackpt.backends.http.session import Session
from ackpt.errors import NotFoundError, StorageError, TransientError

_ANSWER_SECS: Final = 120.0
"""The time for one answer: "Any timeout logic that you set in conjunction with using this method should
be at least 30 seconds" (https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite).
"""


class Copies:
    """Copy objects of one bucket whose names begin with `base`; errors tell keys."""

    def __init__(
        self, session: Session, endpoint: Endpoint, base: str, settings: ObjectSettings, objects: Objects
    ) -> None:
        self._session = session
        self._endpoint = endpoint
        self._base = base
        self._settings = settings
        self._objects = objects
        keys = settings.key_headers
        self._headers = {**keys, **source_key_headers(keys)}

    async def copy(self, source: ObjectInfo, key: str, condition: Condition | None) -> ObjectInfo:
        """Rewrite `source` to `key`; an object appears with the last request, whole.

        The copy is written as a put writes it (class, access, encryption). A change of these takes
        the store some time: then it answers with a token, to be sent with the next request.
        https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite

        Raises:
            NotFoundError: the source is not there, or no longer in that generation.
            AlreadyExistsError, ConditionFailedError: `condition` does not hold; nothing changed.
        """
        if not (source.version.isascii() and source.version.isdigit()):
            raise _another(source, "which is no generation")
        query = {
            "fields": f"done,rewriteToken,resource({FIELDS})",
            "ifSourceGenerationMatch": source.version,
            **condition_query(condition, key),
            **self._settings.copy_query(),
        }
        while True:
            fields = await self._call(source, key, condition, query)
            if fields.get("done") is True:
                break
            query["rewriteToken"] = _token(fields, key)
        resource = fields.get("resource")
        info = self._objects.info(key, resource if isinstance(resource, dict) else {})
        await self._objects.check(info, size=source.size, crc32c=source.crc32c)
        return info

    async def _call(
        self, source: ObjectInfo, key: str, condition: Condition | None, query: dict[str, str]
    ) -> dict[str, object]:
        purpose = Purpose(action=f"copy to {key} from", bucket=self._endpoint.bucket, key=source.key)
        request = Request(
            method="POST",
            url=self._endpoint.rewrite(self._base + source.key, self._base + key, **query),
            headers=self._headers,
            purpose=purpose,
            ok=frozenset({200, 412}),
            content=Content.of(json.dumps(self._settings.resource()).encode(), "application/json"),
            timeout_secs=_ANSWER_SECS,
        )
        try:
            reply = await self._session.send(request)
        except NotFoundError as error:
            await self._check_source(source)
            raise TransientError(
                f"{purpose}: the copy was begun too long ago; begin anew", key=key
            ) from error
        if reply.status != 412:
            return json_object(reply, purpose)
        await self._check_source(source)
        # The source is as it was asked for, and a generation never comes back: it is about the copy.
        if condition is None:
            raise StorageError(f"{purpose}: the store refuses a condition that was not made", key=key)
        raise condition_failed(condition, key, found="another one")

    async def _check_source(self, source: ObjectInfo) -> None:
        """Find out of what a refusal speaks: a condition about the source and one about the copy look alike.

        Raises:
            NotFoundError: the source is not there, or no longer in that generation.
            BucketNotFoundError: there is no bucket.
        """
        found = await self._objects.head(source.key)
        if found.version != source.version:
            raise _another(source, f"found {found.version}")


def _another(source: ObjectInfo, found: str) -> NotFoundError:
    return NotFoundError(f"{source.key}: expected generation {source.version}, {found}", key=source.key)


def _token(fields: dict[str, object], key: str) -> str:
    token = fields.get("rewriteToken")
    if not isinstance(token, str) or not token:
        raise StorageError(f"{key}: the store says neither that the copy is done nor how to go on", key=key)
    return token
