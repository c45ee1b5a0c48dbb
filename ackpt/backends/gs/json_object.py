"""The JSON API's answers: one JSON object each."""

from __future__ import annotations

import json

from ackpt.backends.http.message import Reply
from ackpt.backends.http.purpose import Purpose
from ackpt.errors import StorageError


def json_object(reply: Reply, purpose: Purpose) -> dict[str, object]:
    """Read an answer's body.

    Raises:
        StorageError: it is no JSON object.
    """
    try:
        fields = json.loads(reply.body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise StorageError(
            f"{purpose}: expected a JSON object, got {reply.body[:80]!r}; does the endpoint speak the "
            "Cloud Storage JSON API?",
            key=purpose.key,
        )
    return fields
