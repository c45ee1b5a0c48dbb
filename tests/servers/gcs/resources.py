"""What an object's metadata says, and how the object comes to be from uploaded bytes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from tests.servers.gcs.blobs import Blob, BlobFolder
from tests.servers.gcs.catalog import Catalog, Preconditions, StoredObject
from tests.servers.gcs.exchange import Hashes
from tests.servers.gcs.problems import crc_mismatch, invalid, md5_mismatch

STORAGE_CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")
"""https://cloud.google.com/storage/docs/storage-classes"""

ACLS = (
    "authenticatedRead",
    "bucketOwnerFullControl",
    "bucketOwnerRead",
    "private",
    "projectPrivate",
    "publicRead",
)
"""https://cloud.google.com/storage/docs/json_api/v1/objects/insert#parameters"""


def resource(found: StoredObject, *, key_sha256: str | None = None) -> dict[str, Any]:
    """Return the JSON API's object resource.

    The checksums of an object under a customer-supplied key are there only for who brings the key
    (https://cloud.google.com/storage/docs/encryption/customer-supplied-keys#metadata).
    """
    fields: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{found.bucket}/{found.name}/{found.generation}",
        "bucket": found.bucket,
        "name": found.name,
        "generation": str(found.generation),
        "metageneration": "1",
        "storageClass": "STANDARD",
        **found.metadata,
        "size": str(found.size),
        "etag": found.etag,
        "timeCreated": found.created,
        "updated": found.created,
    }
    if found.key_sha256 == key_sha256:
        fields["crc32c"] = found.crc32c
        if found.md5 is not None:
            fields["md5Hash"] = found.md5
    if found.key_sha256 is not None:
        fields["customerEncryption"] = {"encryptionAlgorithm": "AES256", "keySha256": found.key_sha256}
    return fields


def answer(fields: dict[str, Any], status: int = 200) -> web.Response:
    """Write a JSON document."""
    return web.Response(status=status, text=json.dumps(fields), content_type="application/json")


def writable(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a client's object resource that are kept as they come.

    Raises:
        Problem: 400, a storage class that is none.
    """
    names = ("contentType", "storageClass", "metadata")
    kept: dict[str, Any] = {name: fields[name] for name in names if name in fields}
    if kept.get("storageClass", "STANDARD") not in STORAGE_CLASSES:
        raise invalid(f"Invalid storage class: {kept['storageClass']!r}")
    return kept


async def store(
    catalog: Catalog,
    blobs: BlobFolder,
    *,
    bucket: str,
    name: str,
    parts: tuple[Blob, ...],
    given: Hashes,
    conditions: Preconditions,
    metadata: dict[str, Any],
    key_sha256: str | None,
    md5: bool = True,
) -> StoredObject:
    """Check the bytes against the checksums given with them, and make them the live object.

    A mismatch stores nothing: https://cloud.google.com/storage/docs/data-validation.

    Raises:
        Problem: 400 for a checksum, 412 for a precondition; the blobs are left to the caller.
    """
    digest = await asyncio.to_thread(blobs.digest, parts, md5=md5)
    if given.crc32c not in (None, digest.crc32c):
        raise crc_mismatch(str(given.crc32c), digest.crc32c)
    if given.md5 not in (None, digest.md5):
        raise md5_mismatch(str(given.md5), digest.md5)
    new = StoredObject(
        bucket=bucket,
        name=name,
        generation=0,
        size=sum(part.size for part in parts),
        crc32c=digest.crc32c,
        md5=digest.md5,
        blobs=parts,
        created="",
        metadata=metadata,
        key_sha256=key_sha256,
    )
    return catalog.put(new, conditions)
