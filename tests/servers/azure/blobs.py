"""Whole blobs: put, get, describe, list, delete, copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree as ET

from aiohttp import web

from tests.servers.azure import crc64
from tests.servers.azure.calls import Call
from tests.servers.azure.problems import Problem, blob_not_found, condition_not_met, malformed
from tests.servers.azure.records import Blob, Features

CRC64 = "x-ms-content-crc64"
_COPY_BYTES = 256 << 20


class Blobs:
    """Answer the requests about blobs."""

    def __init__(self, features: Features) -> None:
        self._features = features

    def put(self, call: Call) -> web.Response:
        """https://learn.microsoft.com/rest/api/storageservices/put-blob"""
        if call.headers.get("x-ms-blob-type") != "BlockBlob":
            raise malformed("x-ms-blob-type")
        told = checked(call, self._features)
        check_write(call)
        blob = made(call, call.data)
        call.container.commit(call.name, blob)
        return web.Response(status=201, headers={**described(blob), **told})

    def get(self, call: Call) -> web.Response:
        """https://learn.microsoft.com/rest/api/storageservices/get-blob"""
        blob = find(call)
        span = call.range("x-ms-range", len(blob.data)) or call.range("Range", len(blob.data))
        if span is None:
            return web.Response(body=blob.data, headers=described(blob))
        headers = {**described(blob), "Content-Range": f"bytes {span[0]}-{span[1] - 1}/{len(blob.data)}"}
        return web.Response(status=206, body=blob.data[span[0] : span[1]], headers=headers)

    def head(self, call: Call) -> web.Response:
        """https://learn.microsoft.com/rest/api/storageservices/get-blob-properties"""
        blob = find(call)
        return web.Response(headers={**described(blob), "Content-Length": str(len(blob.data))})

    def delete(self, call: Call) -> web.Response:
        """Delete a blob, or blocks that no blob has been made of.

        https://learn.microsoft.com/rest/api/storageservices/delete-blob; `If-None-Match: *` is left out
        of account, as the service does: https://github.com/apache/opendal/issues/8176
        """
        blob = call.there
        if blob is None:
            if call.container.blocks.pop(call.name, None) is None:
                raise blob_not_found()
            return web.Response(status=202)
        _check_held(call)
        version, date = call.headers.get("If-Match"), call.headers.get("If-Unmodified-Since")
        if version is not None and version != f'"{blob.etag}"':
            raise condition_not_met()
        if date is not None and blob.modified > parsedate_to_datetime(date):
            raise condition_not_met()
        del call.container.blobs[call.name]
        call.container.blocks.pop(call.name, None)
        return web.Response(status=202)

    def list(self, call: Call) -> web.Response:
        """https://learn.microsoft.com/rest/api/storageservices/list-blobs"""
        prefix, after = call.query.get("prefix", ""), call.query.get("marker", "")
        blobs = call.container.blobs
        names = sorted(name for name in blobs if name.startswith(prefix) and name > after)
        root = ET.Element("EnumerationResults", ContainerName=call.container.name)
        listed = ET.SubElement(root, "Blobs")
        for name in names[: self._features.page]:
            _list_blob(listed, name, blobs[name], metadata="metadata" in call.query.get("include", ""))
        more = names[: self._features.page][-1] if len(names) > self._features.page else ""
        ET.SubElement(root, "NextMarker").text = more
        return document(root)

    def copy(self, call: Call) -> web.Response:
        """https://learn.microsoft.com/rest/api/storageservices/copy-blob-from-url"""
        if call.headers.get("x-ms-requires-sync") != "true":
            raise Problem(400, "UnsupportedHeader", "this test server copies synchronously alone")
        if call.data or any(name.startswith("x-ms-encryption-key") for name in call.headers):
            raise Problem(
                400, "UnsupportedHeader", "One of the HTTP headers specified in the request is not supported."
            )
        blob = source(call)
        if len(blob.data) > _COPY_BYTES:
            raise Problem(409, "CannotVerifyCopySource", "The source is larger than 256 MiB.")
        check_write(call)
        blob = replace(made(call, blob.data), metadata=_metadata(call) or blob.metadata)
        call.container.commit(call.name, blob)
        return web.Response(status=202, headers={**described(blob), "x-ms-copy-status": "success"})


def find(call: Call) -> Blob:
    """Return the blob, for whoever brings the key that it was written with."""
    blob = call.there
    if blob is None:
        raise blob_not_found()
    if blob.key_sha256 != call.headers.get("x-ms-encryption-key-sha256"):
        raise Problem(
            409,
            "BlobUsesCustomerSpecifiedEncryption",
            "The blob is encrypted with customer specified encryption.",
        )
    return blob


def source(call: Call) -> Blob:
    """Return the blob that `x-ms-copy-source` names; of this container alone."""
    path = unquote(urlsplit(call.headers["x-ms-copy-source"]).path)
    _, _, container, name = path.split("/", 3)
    if container != call.container.name:
        raise Problem(400, "InvalidHeaderValue", "this test server copies inside a container alone")
    blob = call.container.blobs.get(name)
    if blob is None or blob.key_sha256 is not None:
        raise Problem(404, "CannotVerifyCopySource", "The specified blob does not exist.")
    version = call.headers.get("x-ms-source-if-match")
    if version is not None and version != f'"{blob.etag}"':
        raise Problem(412, "SourceConditionNotMet", "The source condition specified is not met.")
    return blob


def checked(call: Call, features: Features) -> dict[str, str]:
    """Compare the body's checksum with the one announced, and tell it.

    https://learn.microsoft.com/rest/api/storageservices/put-block#request-headers
    """
    announced = call.headers.get(CRC64)
    if features.crc64 == "refused" and announced is not None:
        raise Problem(500, "FeatureNotSupported", f"{CRC64} header is not supported")
    if features.crc64 != "compared":
        return {}
    value = crc64.header(call.data)
    if announced not in (None, value):
        raise Problem(400, "Crc64Mismatch", "The CRC64 value specified in the request did not match.")
    return {CRC64: value}


def check_write(call: Call) -> None:
    """Hold a write to its condition.

    https://learn.microsoft.com/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations
    """
    blob = call.there
    if call.headers.get("If-None-Match") == "*" and blob is not None:
        raise Problem(409, "BlobAlreadyExists", "The specified blob already exists.")
    version = call.headers.get("If-Match")
    if version is not None and (blob is None or version != f'"{blob.etag}"'):
        raise condition_not_met()
    if blob is not None:
        if blob.kind != "BlockBlob":
            raise Problem(409, "InvalidBlobType", "The blob type is invalid for this operation.")
        _check_held(call)


def made(call: Call, data: bytes) -> Blob:
    """Make a blob as a request's headers say."""
    names = ("x-ms-access-tier", "x-ms-encryption-scope")
    return Blob(
        data=data,
        metadata=_metadata(call),
        kept={name: call.headers[name] for name in names if name in call.headers},
        key_sha256=call.headers.get("x-ms-encryption-key-sha256"),
    )


def described(blob: Blob) -> Mapping[str, str]:
    """Tell of a blob in headers."""
    return {
        "ETag": f'"{blob.etag}"',
        "Last-Modified": format_datetime(blob.modified, usegmt=True),
        "x-ms-blob-type": blob.kind,
        **{f"x-ms-meta-{name}": value for name, value in blob.metadata.items()},
    }


def document(root: ET.Element) -> web.Response:
    """Answer with a document."""
    return web.Response(
        body=ET.tostring(root, "utf-8", xml_declaration=True), headers={"Content-Type": "application/xml"}
    )


def _check_held(call: Call) -> None:
    """https://learn.microsoft.com/azure/storage/blobs/immutable-policy-configure-container-scope"""
    if call.container.immutable or call.name in call.container.held:
        raise Problem(
            409,
            "BlobImmutableDueToPolicy",
            "This operation is not permitted as the blob is immutable due to a policy.",
        )


def _metadata(call: Call) -> dict[str, str]:
    return {
        name.lower().removeprefix("x-ms-meta-"): value
        for name, value in call.headers.items()
        if name.lower().startswith("x-ms-meta-")
    }


def _list_blob(listed: ET.Element, name: str, blob: Blob, *, metadata: bool) -> None:
    item = ET.SubElement(listed, "Blob")
    element = ET.SubElement(item, "Name")
    element.text = name
    if any(ord(each) < 32 or each in "\ufffe\uffff" for each in name):
        # From version 2021-02-12 on: https://learn.microsoft.com/rest/api/storageservices/list-blobs#remarks
        element.text = quote(name, safe="")
        element.set("Encoded", "true")
    properties = ET.SubElement(item, "Properties")
    ET.SubElement(properties, "Last-Modified").text = format_datetime(blob.modified, usegmt=True)
    ET.SubElement(properties, "Etag").text = blob.etag
    ET.SubElement(properties, "Content-Length").text = str(len(blob.data))
    ET.SubElement(properties, "BlobType").text = blob.kind
    if metadata:
        kept = ET.SubElement(item, "Metadata")
        for key, value in blob.metadata.items():
            ET.SubElement(kept, key).text = value
