"""Whole objects: put, get, describe, list, delete, copy."""

from __future__ import annotations

import base64
from email.utils import format_datetime
from hashlib import md5
from urllib.parse import quote_plus, unquote
from xml.etree import ElementTree as ET

from aiohttp import web
from crc32c import crc32c

from tests.servers.s3.calls import Call
from tests.servers.s3.conditions import check_key, check_source, check_write, key_of
from tests.servers.s3.features import Features
from tests.servers.s3.problems import Problem, invalid, no_such_key
from tests.servers.s3.records import Bucket, Stored

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_COPY_LIMIT_BYTES = 5 << 30


class Objects:
    """Answer the requests about objects."""

    def __init__(self, features: Features) -> None:
        self._features = features

    def put(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"""
        bucket = call.bucket
        check_write(call.headers, bucket.objects.get(call.name), self._features.conditions)
        if bucket.object_lock and call.crc32c is None and "Content-MD5" not in call.headers:
            raise invalid("Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests")
        kept = call.crc32c if self._features.checksums else None
        stored = Stored(
            data=call.data,
            etag=md5(call.data).hexdigest(),
            crc32c=kept,
            headers=kept_headers(call),
            key_md5=key_of(call.headers),
        )
        bucket.objects[call.name] = stored
        return web.Response(headers={"ETag": f'"{stored.etag}"', **checksum_headers(stored.crc32c)})

    def get(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html"""
        stored = self._find(call.bucket, call.name)
        check_key(key_of(call.headers), stored.key_md5)
        headers = _described(stored)
        span = call.range(len(stored.data)) if self._features.ranges else None
        if span is None:
            return web.Response(body=stored.data, headers=headers)
        headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{len(stored.data)}"
        return web.Response(status=206, body=stored.data[span[0] : span[1]], headers=headers)

    def head(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html"""
        stored = self._find(call.bucket, call.name)
        check_key(key_of(call.headers), stored.key_md5)
        headers = {**_described(stored), "Content-Length": str(len(stored.data))}
        if call.headers.get("x-amz-checksum-mode") == "ENABLED":
            headers.update(checksum_headers(stored.crc32c))
            if stored.composite is not None:
                headers["x-amz-checksum-crc32c"] = stored.composite
                headers["x-amz-checksum-type"] = "COMPOSITE"
        return web.Response(headers=headers)

    def delete(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html"""
        self.remove(call.bucket, call.name)
        return web.Response(status=204)

    def remove(self, bucket: Bucket, name: str) -> None:
        """Delete an object; absent is success.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html
        """
        if name in bucket.held:
            raise Problem(403, "AccessDenied", "Access Denied because object protected by object lock.")
        if bucket.busy.get(name, 0):
            bucket.busy[name] -= 1
            raise Problem(500, "InternalError", "We encountered an internal error. Please try again.")
        bucket.objects.pop(name, None)

    def list(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""
        if call.query["list-type"] != "2":
            raise invalid("this test server knows version 2 alone")
        prefix, after = call.query.get("prefix", ""), call.query.get("continuation-token", "")
        if after:
            after = base64.b64decode(after).decode()
        names = sorted(
            (name for name in call.bucket.objects if name.startswith(prefix) and name > after),
            key=lambda name: name.encode(),
        )
        page = names[: self._features.page]
        root = ET.Element("ListBucketResult", xmlns=NAMESPACE)
        ET.SubElement(root, "IsTruncated").text = "true" if len(page) < len(names) else "false"
        if "encoding-type" in call.query:
            ET.SubElement(root, "EncodingType").text = "url"
        for name in page:
            stored = call.bucket.objects[name]
            item = ET.SubElement(root, "Contents")
            ET.SubElement(item, "Key").text = listed_name(name, call)
            ET.SubElement(item, "LastModified").text = stored.moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
            ET.SubElement(item, "ETag").text = f'"{stored.etag}"'
            ET.SubElement(item, "Size").text = str(len(stored.data))
        if len(page) < len(names):
            token = base64.b64encode(page[-1].encode()).decode()
            ET.SubElement(root, "NextContinuationToken").text = token
        return document(root)

    def copy(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""
        name, source = self.source(call)
        if len(source.data) > _COPY_LIMIT_BYTES:
            raise invalid("The specified copy source is larger than the maximum allowable size")
        if name == call.name:
            raise invalid("This copy request is illegal because it is trying to copy an object to itself")
        check_write(call.headers, call.bucket.objects.get(call.name), self._features.conditions)
        kept = source.crc32c
        if self._features.checksums and call.headers.get("x-amz-checksum-algorithm") == "CRC32C":
            kept = crc32c(source.data)
        stored = Stored(
            data=source.data,
            etag=md5(source.data).hexdigest(),
            crc32c=kept,
            headers=kept_headers(call),
            key_md5=key_of(call.headers),
        )
        call.bucket.objects[call.name] = stored
        root = ET.Element("CopyObjectResult", xmlns=NAMESPACE)
        ET.SubElement(root, "ETag").text = f'"{stored.etag}"'
        checksum_elements(root, stored.crc32c)
        return document(root)

    def source(self, call: Call) -> tuple[str, Stored]:
        """Return what `x-amz-copy-source` names; of this bucket alone."""
        bucket, _, name = unquote(call.headers["x-amz-copy-source"]).removeprefix("/").partition("/")
        if bucket != call.bucket.name:
            raise invalid("this test server copies inside a bucket alone")
        source = self._find(call.bucket, name)
        check_source(call.headers, source)
        check_key(key_of(call.headers, source=True), source.key_md5)
        return name, source

    def _find(self, bucket: Bucket, name: str) -> Stored:
        stored = bucket.objects.get(name)
        if stored is None:
            raise no_such_key()
        return stored


def kept_headers(call: Call) -> dict[str, str]:
    """Return the headers that say how an object is kept."""
    names = (
        "x-amz-storage-class",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
    )
    return {name: call.headers[name] for name in names if name in call.headers}


def checksum_headers(value: int | None) -> dict[str, str]:
    """Tell the checksum of all bytes."""
    if value is None:
        return {}
    return {"x-amz-checksum-crc32c": encoded(value), "x-amz-checksum-type": "FULL_OBJECT"}


def checksum_elements(element: ET.Element, value: int | None) -> None:
    """Tell the checksum of all bytes."""
    if value is not None:
        ET.SubElement(element, "ChecksumCRC32C").text = encoded(value)
        ET.SubElement(element, "ChecksumType").text = "FULL_OBJECT"


def encoded(value: int) -> str:
    """Write a checksum."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def listed_name(name: str, call: Call) -> str:
    """Write a name into a document, encoded where that is asked for: a space becomes a plus."""
    return quote_plus(name, safe="/") if call.query.get("encoding-type") == "url" else name


def document(root: ET.Element) -> web.Response:
    """Answer with a document."""
    body = b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root)
    return web.Response(body=body, headers={"Content-Type": "application/xml"})


def _described(stored: Stored) -> dict[str, str]:
    moment = format_datetime(stored.moment, usegmt=True)
    return {"ETag": f'"{stored.etag}"', "Last-Modified": moment, "Accept-Ranges": "bytes", **stored.headers}
