"""Copies inside the service: in one request, or over several that a token holds together.

https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from tests.servers.gcs.blobs import BlobFolder
from tests.servers.gcs.catalog import Catalog, Preconditions, StoredObject, check_name
from tests.servers.gcs.exchange import Exchange, customer_key
from tests.servers.gcs.json_api import parse_object
from tests.servers.gcs.problems import Problem, invalid, no_object
from tests.servers.gcs.resources import ACLS, answer, resource, writable

PER_CALL = 1 << 20
"""Bytes of one call where more than one is needed: a mebibyte is the least that a client can ask for."""

_COPY_SOURCE = "x-goog-copy-source-encryption-"


@dataclass(slots=True, kw_only=True)
class Rewrite:
    """Hold a rewrite under way: what was asked for with the first request, and how far it is."""

    asked: dict[str, Any]
    source: StoredObject
    done: int = 0
    expired: bool = False


class Rewrites:
    """Answer rewrites."""

    def __init__(self, catalog: Catalog, blobs: BlobFolder) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._under_way: dict[str, Rewrite] = {}

    def expire(self) -> int:
        """Let all tokens be a week old; return how many there were."""
        for each in self._under_way.values():
            each.expired = True
        return len(self._under_way)

    async def rewrite(self, exchange: Exchange) -> web.StreamResponse:
        """Copy all, or as much as one call copies.

        "A rewrite completes in a single request … if the storage class of the object is not changing"
        (and location and encryption neither).
        """
        fields = parse_object(await exchange.read())
        source = self._source(exchange)
        metadata = self._metadata(exchange, fields, source)
        key = customer_key(exchange.headers)
        asked = {**exchange.query, "key": key, "metadata": metadata, "from": exchange.name, "to": exchange.to}
        token = asked.pop("rewriteToken", None)
        rewrite = self._go_on(token, asked) if token is not None else Rewrite(asked=asked, source=source)
        conditions = Preconditions.of(exchange.query)
        conditions.check(self._catalog.generation(exchange.to_bucket, exchange.to))
        at_once = metadata.get("storageClass", "STANDARD") == source.metadata.get("storageClass", "STANDARD")
        if not (at_once and key == source.key_sha256):
            rewrite.done += _per_call(exchange)
            if rewrite.done < source.size:
                return answer(self._more(token or uuid.uuid4().hex, rewrite))
        new = replace(
            source,
            bucket=exchange.to_bucket,
            name=exchange.to,
            blobs=tuple(self._blobs.twin(blob) for blob in source.blobs),
            metadata=metadata,
            key_sha256=key,
        )
        stored = self._put(new, conditions)
        self._under_way.pop(token or "", None)
        return answer(
            {
                "kind": "storage#rewriteResponse",
                "totalBytesRewritten": str(stored.size),
                "objectSize": str(stored.size),
                "done": True,
                "resource": resource(stored, key_sha256=key),
            }
        )

    def _source(self, exchange: Exchange) -> StoredObject:
        found = self._catalog.get(exchange.bucket, exchange.name)
        if exchange.query.get("sourceGeneration", str(found.generation)) != str(found.generation):
            raise no_object(exchange.bucket, exchange.name)
        Preconditions.of(exchange.query, prefix="ifSource").check(found.generation)
        # https://cloud.google.com/storage/docs/encryption/customer-supplied-keys#request_headers
        names = ("algorithm", "key", "key-sha256")
        given = {f"x-goog-encryption-{n}": exchange.headers.get(_COPY_SOURCE + n) for n in names}
        headers = {name: value for name, value in given.items() if value is not None}
        if customer_key(headers) != found.key_sha256:
            reason = "resourceIsEncryptedWithCustomerEncryptionKey"
            raise Problem(400, "ResourceIsEncryptedWithCustomerEncryptionKey", reason, "wrong or no key")
        return found

    def _metadata(self, exchange: Exchange, fields: dict[str, Any], source: StoredObject) -> dict[str, Any]:
        """Return the copy's metadata: the source's, "optionally overridden" by the request's body."""
        check_name(exchange.to)
        self._catalog.bucket(exchange.to_bucket)
        query = exchange.query
        acl = query.get("destinationPredefinedAcl")
        if acl is not None and acl not in ACLS:
            raise invalid(f"Invalid destinationPredefinedAcl: {acl!r}")
        if "predefinedAcl" in query or "kmsKeyName" in query:
            raise invalid("a rewrite's parameters begin with 'destination'")
        kept = writable(fields) if fields else dict(source.metadata)
        given = {"acl": acl, "kmsKeyName": query.get("destinationKmsKeyName")}
        return {**kept, **{name: value for name, value in given.items() if value is not None}}

    def _go_on(self, token: str, asked: dict[str, Any]) -> Rewrite:
        """Return what a token stands for.

        "If included, those fields must match the values provided in the first rewrite request"; "after
        it has expired" a token is a 410.
        """
        rewrite = self._under_way.get(token)
        if rewrite is None or rewrite.asked != asked:
            raise invalid("Invalid rewrite token.")
        if rewrite.expired:
            raise Problem(410, "Gone", "gone", "The rewrite token has expired.")
        return rewrite

    def _more(self, token: str, rewrite: Rewrite) -> dict[str, Any]:
        self._under_way[token] = rewrite
        return {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": str(rewrite.done),
            "objectSize": str(rewrite.source.size),
            "done": False,
            "rewriteToken": token,
        }

    def _put(self, new: StoredObject, conditions: Preconditions) -> StoredObject:
        try:
            return self._catalog.put(new, conditions)
        except Problem:
            self._blobs.discard([blob.id for blob in new.blobs])
            raise


def _per_call(exchange: Exchange) -> int:
    """Return how many bytes one call copies: "must be an integral multiple of 1 MiB"."""
    text = exchange.query.get("maxBytesRewrittenPerCall", str(PER_CALL))
    if not text.isdigit() or int(text) < PER_CALL or int(text) % PER_CALL:
        raise invalid(f"maxBytesRewrittenPerCall: expected a multiple of {PER_CALL}, got {text!r}")
    return int(text)
