"""The JSON API's answers: one JSON object each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from ackpt.backends.base import ObjectInfo
from ackpt.backends.http.crc32c import decode
from ackpt.backends.http.message import Reply
from ackpt.backends.http.purpose import Purpose
from ackpt.errors import StorageError


def json_object(reply: Reply, purpose: Purpose) -> dict[str, object]:
    """Read an answer's body.

    Raises:
        StorageError: it is no JSON object.
    """
    return read_object(reply.body, purpose)


def read_object(body: bytes, purpose: Purpose) -> dict[str, object]:
    """Read a JSON object; raises as `json_object`."""
    try:
        fields = json.loads(body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise StorageError(
            f"{purpose}: expected a JSON object, got {body[:80]!r}; does the endpoint speak the "
            "Cloud Storage JSON API?",
            key=purpose.key,
        )
    return fields


def read_page(page: Mapping[str, object], purpose: Purpose) -> list[ObjectInfo]:
    """Read a page of a listing; the keys are whole names.

    https://cloud.google.com/storage/docs/json_api/v1/objects/list#response

    Raises:
        StorageError: it is malformed; as if it had no objects would be the wrong answer.
    """
    items = page.get("items", [])
    if not isinstance(items, list):
        raise StorageError(f"{purpose}: the store's listing is malformed: {str(items)[:80]}")
    infos = []
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            raise StorageError(f"{purpose}: the store lists an object without a name: {str(item)[:80]}")
        infos.append(read_resource(name, item))
    return infos


def read_resource(key: str, fields: Mapping[str, object]) -> ObjectInfo:
    """Read an object's resource.

    https://cloud.google.com/storage/docs/json_api/v1/objects#resource

    Raises:
        StorageError: it lacks what every object has.
    """
    try:
        updated, crc = fields.get("updated"), fields.get("crc32c")
        return ObjectInfo(
            key=key,
            size=int(str(fields["size"])),
            version=str(fields["generation"]),
            crc32c=decode(crc) if isinstance(crc, str) else None,
            modified=datetime.fromisoformat(updated) if isinstance(updated, str) else None,
        )
    except (KeyError, ValueError) as error:
        raise StorageError(f"{key}: the store's description of it is malformed: {fields}", key=key) from error
