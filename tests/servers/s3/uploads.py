"""Multipart uploads: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html"""

from __future__ import annotations

import re
from hashlib import md5
from xml.etree import ElementTree as ET

from aiohttp import web
from crc32c import crc32c

from tests.servers.s3.calls import Call
from tests.servers.s3.conditions import check_key, check_write, key_of
from tests.servers.s3.features import Features
from tests.servers.s3.objects import (
    NAMESPACE,
    Objects,
    checksum_elements,
    document,
    encoded,
    kept_headers,
    listed_name,
)
from tests.servers.s3.problems import Problem, invalid, no_such_upload
from tests.servers.s3.records import Part, Stored, Upload, part_of

_MIN_PART_BYTES = 5 << 20
_COPY_RANGE_BYTES = 5 << 20
_TAG = f"{{{NAMESPACE}}}"


class Uploads:
    """Answer the requests about uploads."""

    def __init__(self, features: Features, objects: Objects) -> None:
        self._features = features
        self._objects = objects

    def create(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html"""
        algorithm = call.headers.get("x-amz-checksum-algorithm")
        if algorithm not in (None, "CRC32C"):
            raise invalid("Checksum algorithm provided is unsupported by this test server")
        upload = Upload(
            name=call.name,
            checksums=self._features.checksums and algorithm is not None,
            composite=call.headers.get("x-amz-checksum-type", "COMPOSITE") == "COMPOSITE",
            headers=kept_headers(call),
            key_md5=key_of(call.headers),
        )
        if upload.checksums and not upload.composite and not self._features.full_object:
            raise invalid("The FULL_OBJECT checksum type cannot be used with the crc32c checksum algorithm.")
        call.bucket.uploads[upload.id] = upload
        root = ET.Element("InitiateMultipartUploadResult", xmlns=NAMESPACE)
        ET.SubElement(root, "UploadId").text = upload.id
        response = document(root)
        if upload.checksums:
            response.headers["x-amz-checksum-algorithm"] = "CRC32C"
            response.headers["x-amz-checksum-type"] = upload.kind
        return response

    def put_part(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html"""
        upload, number = self._find(call), _number(call)
        check_key(key_of(call.headers), upload.key_md5)
        if upload.checksums and call.crc32c is None:
            raise invalid("Checksum Type mismatch occurred, expected checksum Type: crc32c, actual: null")
        part = Part(data=call.data, crc32c=call.crc32c if upload.checksums else None)
        upload.parts[number] = part
        response = web.Response(headers={"ETag": f'"{part.etag}"'})
        if part.crc32c is not None:
            response.headers["x-amz-checksum-crc32c"] = encoded(part.crc32c)
        return response

    def copy_part(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html"""
        upload, number = self._find(call), _number(call)
        check_key(key_of(call.headers), upload.key_md5)
        _, source = self._objects.source(call)
        data = source.data
        text = call.headers.get("x-amz-copy-source-range")
        if text is not None:
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", text)
            if match is None or int(match[2]) >= len(data):
                raise Problem(400, "InvalidArgument", "The x-amz-copy-source-range value is not valid")
            if len(data) <= _COPY_RANGE_BYTES:
                raise invalid("The specified copy source is not supported as a byte-range copy source")
            data = data[int(match[1]) : int(match[2]) + 1]
        part = part_of(data)
        if not upload.checksums:
            part.crc32c = None
        upload.parts[number] = part
        root = ET.Element("CopyPartResult", xmlns=NAMESPACE)
        ET.SubElement(root, "ETag").text = f'"{part.etag}"'
        if part.crc32c is not None:
            ET.SubElement(root, "ChecksumCRC32C").text = encoded(part.crc32c)
        return document(root)

    def list_parts(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html"""
        upload = self._find(call)
        after = int(call.query.get("part-number-marker", "0"))
        numbers = sorted(number for number in upload.parts if number > after)
        page = numbers[: self._features.page]
        root = ET.Element("ListPartsResult", xmlns=NAMESPACE)
        if upload.checksums:
            ET.SubElement(root, "ChecksumAlgorithm").text = "CRC32C"
            ET.SubElement(root, "ChecksumType").text = upload.kind
        ET.SubElement(root, "IsTruncated").text = "true" if len(page) < len(numbers) else "false"
        if page:
            ET.SubElement(root, "NextPartNumberMarker").text = str(page[-1])
        for number in page:
            part = upload.parts[number]
            item = ET.SubElement(root, "Part")
            ET.SubElement(item, "PartNumber").text = str(number)
            ET.SubElement(item, "ETag").text = f'"{part.etag}"'
            ET.SubElement(item, "Size").text = str(len(part.data))
            if part.crc32c is not None:
                ET.SubElement(item, "ChecksumCRC32C").text = encoded(part.crc32c)
        return document(root)

    def complete(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html

        A second completion is answered as the first was, while the upload's id is remembered.
        """
        upload_id = call.query["uploadId"]
        if call.bucket.completed.get(upload_id, ("", ""))[0] == call.name:
            return _completed(call.bucket.completed[upload_id][1], None, None)
        upload = self._find(call)
        check_key(key_of(call.headers), upload.key_md5)
        if call.request.content_type == "application/x-www-form-urlencoded":
            raise invalid("Content-Type must not be application/x-www-form-urlencoded")
        chosen = _chosen(call, upload)
        data = b"".join(part.data for part in chosen)
        if call.headers.get("x-amz-mp-object-size", str(len(data))) != str(len(data)):
            raise invalid("The provided 'x-amz-mp-object-size' header does not match what was computed")
        kind = call.headers.get("x-amz-checksum-type")
        if kind is not None and (not upload.checksums or kind != upload.kind):
            raise Problem(400, "BadDigest", "The checksum type does not match that of the upload.")
        check_write(call.headers, call.bucket.objects.get(call.name), self._features.conditions)
        digests = b"".join(md5(part.data).digest() for part in chosen)
        etag = f"{md5(digests).hexdigest()}-{len(chosen)}"
        value = crc32c(data) if upload.checksums and not upload.composite else None
        composite = _composite(chosen) if upload.checksums and upload.composite else None
        call.bucket.objects[call.name] = Stored(
            data=data,
            etag=etag,
            crc32c=value,
            composite=composite,
            headers=upload.headers,
            key_md5=upload.key_md5,
        )
        del call.bucket.uploads[upload_id]
        call.bucket.completed[upload_id] = (call.name, etag)
        return _completed(etag, value, composite)

    def abort(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html"""
        self._find(call)
        del call.bucket.uploads[call.query["uploadId"]]
        return web.Response(status=204)

    def list(self, call: Call) -> web.Response:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html"""
        after = (call.query.get("key-marker", ""), call.query.get("upload-id-marker", ""))
        prefix = call.query.get("prefix", "")
        found = sorted(
            (upload for upload in call.bucket.uploads.values() if upload.name.startswith(prefix)),
            key=lambda upload: (upload.name, upload.id),
        )
        found = [upload for upload in found if (upload.name, upload.id) > after]
        page = found[: self._features.page]
        root = ET.Element("ListMultipartUploadsResult", xmlns=NAMESPACE)
        if "encoding-type" in call.query:
            ET.SubElement(root, "EncodingType").text = "url"
        ET.SubElement(root, "IsTruncated").text = "true" if len(page) < len(found) else "false"
        if page:
            ET.SubElement(root, "NextKeyMarker").text = listed_name(page[-1].name, call)
            ET.SubElement(root, "NextUploadIdMarker").text = page[-1].id
        for upload in page:
            item = ET.SubElement(root, "Upload")
            ET.SubElement(item, "UploadId").text = upload.id
            ET.SubElement(item, "Key").text = listed_name(upload.name, call)
            ET.SubElement(item, "Initiated").text = upload.moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return document(root)

    def _find(self, call: Call) -> Upload:
        upload = call.bucket.uploads.get(call.query["uploadId"])
        if upload is None or upload.name != call.name:
            raise no_such_upload()
        return upload


def _number(call: Call) -> int:
    text = call.query.get("partNumber", "")
    if not text.isdigit() or not 1 <= int(text) <= 10_000:
        message = "Part number must be an integer between 1 and 10000, inclusive"
        raise Problem(400, "InvalidArgument", message)
    return int(text)


def _chosen(call: Call, upload: Upload) -> list[Part]:
    """Return the parts that a completion names; their order, ETags, checksums and sizes must be right."""
    try:
        root = ET.fromstring(call.data)
    except ET.ParseError:
        raise Problem(400, "MalformedXML", "The XML you provided was not well-formed") from None
    named = root.findall(f"{_TAG}Part")
    if root.tag != f"{_TAG}CompleteMultipartUpload" or not named:
        raise Problem(400, "MalformedXML", "The XML you provided did not validate against our schema")
    chosen: list[Part] = []
    last = 0
    for item in named:
        number = int(item.findtext(f"{_TAG}PartNumber", ""))
        if number <= last:
            raise Problem(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        part, last = upload.parts.get(number), number
        if part is None or item.findtext(f"{_TAG}ETag", "").strip('"') != part.etag:
            raise Problem(400, "InvalidPart", "One or more of the specified parts could not be found.")
        if part.crc32c is not None:
            told = item.findtext(f"{_TAG}ChecksumCRC32C")
            if told is None:
                message = (
                    f"The complete request must include the checksum for each part; missing for {number}"
                )
                raise invalid(message)
            if told != encoded(part.crc32c):
                raise Problem(400, "InvalidPart", "One or more of the specified parts could not be found.")
        chosen.append(part)
    if any(len(part.data) < _MIN_PART_BYTES for part in chosen[:-1]):
        message = "Your proposed upload is smaller than the minimum allowed object size."
        raise Problem(400, "EntityTooSmall", message)
    return chosen


def _composite(parts: list[Part]) -> str:
    """Return the checksum of the parts' checksums, with their number.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    """
    values = [part.crc32c for part in parts if part.crc32c is not None]
    return f"{encoded(crc32c(b''.join(value.to_bytes(4, 'big') for value in values)))}-{len(parts)}"


def _completed(etag: str, value: int | None, composite: str | None) -> web.Response:
    root = ET.Element("CompleteMultipartUploadResult", xmlns=NAMESPACE)
    ET.SubElement(root, "ETag").text = f'"{etag}"'
    checksum_elements(root, value)
    if composite is not None:
        ET.SubElement(root, "ChecksumCRC32C").text = composite
        ET.SubElement(root, "ChecksumType").text = "COMPOSITE"
    return document(root)
