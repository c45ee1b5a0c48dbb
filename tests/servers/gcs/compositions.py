"""Objects put together of others inside the service.

https://cloud.google.com/storage/docs/composite-objects and
https://cloud.google.com/storage/docs/json_api/v1/objects/compose
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.servers.gcs.blobs import BlobFolder
from tests.servers.gcs.catalog import Catalog, Preconditions, StoredObject, check_name
from tests.servers.gcs.exchange import Exchange, Hashes, customer_key
from tests.servers.gcs.json_api import parse_object
from tests.servers.gcs.problems import Problem, invalid, no_object
from tests.servers.gcs.resources import ACLS, answer, resource, store, writable

LIMIT = 32
"""…/composite-objects#considerations: "You can combine between 1 and 32 objects in a single … request"."""


class Compositions:
    """Answer compositions."""

    def __init__(self, catalog: Catalog, blobs: BlobFolder) -> None:
        self._catalog = catalog
        self._blobs = blobs

    async def compose(self, exchange: Exchange) -> web.StreamResponse:
        """Make an object of the sources' bytes; it has a crc32c and no MD5."""
        fields = parse_object(await exchange.read())
        check_name(exchange.name)
        self._catalog.bucket(exchange.bucket)
        key = customer_key(exchange.headers)
        sources = [self._source(exchange, each, key) for each in _listed(fields)]
        query = exchange.query
        if "predefinedAcl" in query or query.get("destinationPredefinedAcl", "private") not in ACLS:
            raise invalid("destinationPredefinedAcl: expected one of the predefined ACLs")
        conditions = Preconditions.of(query)
        conditions.check(self._catalog.generation(exchange.bucket, exchange.name))
        metadata = writable(fields.get("destination", {}))
        classes = {each.metadata.get("storageClass", "STANDARD") for each in sources}
        if classes != {metadata.get("storageClass", "STANDARD")}:
            raise invalid("All component objects must have the same storage class as the composite object")
        given = {"acl": query.get("destinationPredefinedAcl"), "kmsKeyName": query.get("kmsKeyName")}
        metadata |= {name: value for name, value in given.items() if value is not None}
        twins = tuple(self._blobs.twin(blob) for each in sources for blob in each.blobs)
        try:
            stored = await store(
                self._catalog,
                self._blobs,
                bucket=exchange.bucket,
                name=exchange.name,
                parts=twins,
                given=Hashes(crc32c=fields.get("destination", {}).get("crc32c")),
                conditions=conditions,
                metadata=metadata,
                key_sha256=key,
                md5=False,
            )
        except BaseException:
            self._blobs.discard([blob.id for blob in twins])
            raise
        return answer(resource(stored, key_sha256=key))

    def _source(self, exchange: Exchange, asked: dict[str, Any], key: str | None) -> StoredObject:
        name, generation = asked.get("name"), asked.get("generation")
        if not isinstance(name, str):
            raise invalid("sourceObjects[].name: required")
        found = self._catalog.get(exchange.bucket, name)
        if generation is not None and str(generation) != str(found.generation):
            raise no_object(exchange.bucket, name)
        match = asked.get("objectPreconditions", {}).get("ifGenerationMatch")
        Preconditions(match=None if match is None else int(match)).check(found.generation)
        if found.key_sha256 != key:
            reason = "resourceIsEncryptedWithCustomerEncryptionKey"
            raise Problem(400, "ResourceIsEncryptedWithCustomerEncryptionKey", reason, "wrong or no key")
        return found


def _listed(fields: dict[str, Any]) -> list[dict[str, Any]]:
    listed = fields.get("sourceObjects")
    if not isinstance(listed, list) or not 1 <= len(listed) <= LIMIT:
        raise invalid(f"sourceObjects: The number of source components must be between 1 and {LIMIT}")
    return listed
