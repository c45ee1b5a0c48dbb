"""Deletions of many blobs in one request: a batch.

https://learn.microsoft.com/rest/api/storageservices/blob-batch
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ackpt.backends.az.blobs import Blobs
from ackpt.backends.az.container import Ask, Container
from ackpt.backends.az.errors import read_refusal, refused, translate
from ackpt.backends.http.batch import Answer, answers
from ackpt.backends.http.purpose import Purpose
from ackpt.backends.http.spoken import Spoken
from ackpt.errors import (
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    TransientError,
    UnsupportedError,
)

DELETE_LIMIT: Final = 256
""""Each batch request supports a maximum of 256 subrequests" (…/blob-batch#request-body)."""

_LONG_SECS: Final = 300.0
"""The time for the answer to begin: a store may go through the keys one by one."""

_REFUSED: Final = frozenset({400, 403, 404, 405, 501})
_LOST_TOKEN: Final = 401


class Deletions:
    """Delete blobs of one container, by their keys, many in one request."""

    def __init__(self, container: Container, blobs: Blobs) -> None:
        self._container = container
        self._blobs = blobs
        self._spoken = Spoken(
            f"az://{container.name}", "batches of deletions", "blobs are deleted one by one"
        )

    async def delete(self, keys: Sequence[str]) -> dict[str, StorageError]:
        """Delete the blobs; return those that were not, each with its error. Absent is success.

        Raises:
            UnsupportedError: the store does not know batches, or not from us; nothing was deleted.
        """
        purpose = self._container.purpose("delete blobs of")
        found = await self._send(keys, purpose)
        lost = [key for key, answer in found.items() if answer.status == _LOST_TOKEN]
        if lost:
            # The token ended meanwhile: a deletion of its own renews it, and then they all go again.
            await self._blobs.delete(lost[0])
            found |= await self._send(lost, purpose)
        errors: dict[str, StorageError] = {}
        for key in keys:
            try:
                await self._settle(key, found.get(key))
            except StorageError as error:
                errors[key] = error
        return errors

    async def _settle(self, key: str, answer: Answer | None) -> None:
        """Raise what an answer says, unless that is success."""
        purpose = self._container.purpose("delete", key)
        if answer is None:
            raise TransientError(f"{purpose}: the answer says nothing about it", key=key)
        if answer.status >= 300:
            error = translate(purpose, read_refusal(answer.status, answer.headers, answer.body))
            if not isinstance(error, NotFoundError):
                raise error

    async def _send(self, keys: Sequence[str], purpose: Purpose) -> dict[str, Answer]:
        asks = [
            Ask(
                purpose=self._container.purpose("delete", key),
                method="DELETE",
                name=self._container.base + key,
            )
            for key in keys
        ]
        with self._spoken.tried():
            reply = await self._container.send_batch(
                asks, purpose, ok=frozenset({202}) | _REFUSED, timeout_secs=_LONG_SECS
            )
            if reply.status != 202:
                raise _as_unknown(refused(purpose, reply))
            parts = answers(reply)
            if parts is None:
                raise UnsupportedError(
                    f"{purpose}: expected the answers to a batch, got {reply.body[:80]!r}; does the endpoint "
                    "speak Azure's API?"
                )
            for part in parts:
                if part.number is None:
                    # One part for all of them: the batch as a whole was not understood.
                    refusal = read_refusal(part.status, part.headers, part.body)
                    raise _as_unknown(translate(purpose, refusal))
        return {
            keys[part.number]: part for part in parts if part.number is not None and part.number < len(keys)
        }


def _as_unknown(error: StorageError) -> StorageError:
    """Return the error of a batch that a store does not know, or does not let us send, as what it is.

    A shared access signature may allow deletions and no batches; whether it does is told, if not,
    by the error of a deletion of its own.
    """
    if type(error) in (StorageError, NotFoundError, PermissionDeniedError):
        unknown = UnsupportedError(f"{error}; no batches here")
        unknown.__cause__ = error
        return unknown
    return error
