"""Deletions of many objects in one request: a batch of the JSON API.

https://cloud.google.com/storage/docs/batch
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ackpt.backends.gs.endpoint import Endpoint
from ackpt.backends.gs.errors import read_refusal, translate
from ackpt.backends.gs.objects import Objects
from ackpt.backends.http.batch import Answer, answers, batch
from ackpt.backends.http.message import Request
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.http.session import Session
from ackpt.backends.http.spoken import Spoken
from ackpt.errors import (
    BucketNotFoundError,
    NotFoundError,
    StorageError,
    TransientError,
    UnsupportedError,
)

DELETE_LIMIT: Final = 100
""""You should not include more than 100 calls in a single batch request" (…/storage/docs/batch)."""

_LONG_SECS: Final = 300.0
"""The time for the answer to begin: a store may go through the keys one by one."""

_NOT_SPOKEN: Final = frozenset({400, 404, 405, 501})
_LOST_TOKEN: Final = 401


class Deletions:
    """Delete objects of one bucket whose names begin with `base`; errors tell keys."""

    def __init__(self, session: Session, endpoint: Endpoint, base: str, objects: Objects) -> None:
        self._session = session
        self._endpoint = endpoint
        self._base = base
        self._objects = objects
        self._spoken = Spoken(endpoint.base, "batches of requests", "objects are deleted one by one")

    async def delete(self, keys: Sequence[str]) -> dict[str, StorageError]:
        """Delete the objects; return those that were not, each with its error. Absent is success.

        Raises:
            UnsupportedError: the endpoint does not know batches; nothing was deleted.
            BucketNotFoundError: there is no bucket.
        """
        found = await self._send(keys)
        lost = [key for key, answer in found.items() if answer.status == _LOST_TOKEN]
        if lost:
            # The token ended meanwhile: a deletion of its own renews it, and then they all go again.
            await self._objects.delete(lost[0])
            found |= await self._send(lost)
        errors: dict[str, StorageError] = {}
        for key in keys:
            try:
                await self._settle(key, found.get(key))
            except BucketNotFoundError:
                raise
            except StorageError as error:
                errors[key] = error
        return errors

    async def _settle(self, key: str, answer: Answer | None) -> None:
        """Raise what an answer says, unless that is success."""
        purpose = Purpose(action="delete", bucket=self._endpoint.bucket, key=key)
        if answer is None:
            raise TransientError(f"{purpose}: the answer says nothing about it", key=key)
        if answer.status >= 300:
            error = translate(purpose, read_refusal(answer.status, answer.headers, answer.body))
            if not isinstance(error, NotFoundError):
                raise error
            await self._objects.check_bucket(key)

    async def _send(self, keys: Sequence[str]) -> dict[str, Answer]:
        purpose = Purpose(action="delete objects of", bucket=self._endpoint.bucket, subject=Subject.BUCKET)
        requests = [
            Request(method="DELETE", url=self._endpoint.object(self._base + key), purpose=purpose)
            for key in keys
        ]
        with self._spoken.tried():
            reply = await self._session.send(
                Request(
                    method="POST",
                    url=self._endpoint.batch(),
                    purpose=purpose,
                    content=batch(requests),
                    ok=frozenset({200}) | _NOT_SPOKEN,
                    timeout_secs=_LONG_SECS,
                )
            )
            if reply.status != 200:
                refusal = read_refusal(reply.status, reply.headers, reply.body)
                raise UnsupportedError(f"{purpose}: {refusal}; this endpoint takes no batches")
            parts = answers(reply)
            if parts is None:
                raise UnsupportedError(
                    f"{purpose}: expected the answers to a batch, got {reply.body[:80]!r}; does the endpoint "
                    "speak the Cloud Storage JSON API?"
                )
        return {
            keys[part.number]: part for part in parts if part.number is not None and part.number < len(keys)
        }
