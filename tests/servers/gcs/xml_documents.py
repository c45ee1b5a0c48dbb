"""The XML documents of multipart uploads, written and read.

https://cloud.google.com/storage/docs/xml-api/reference-methods
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote
from xml.etree import ElementTree as ET

from aiohttp import web

from tests.servers.gcs.problems import invalid

# The namespace that the service uses for these documents (googleapis/python-storage, _upload.py).
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def initiate_result(bucket: str, name: str, upload_id: str) -> web.Response:
    """Answer a begun upload."""
    root = ET.Element("InitiateMultipartUploadResult", xmlns=_NAMESPACE)
    _add(root, Bucket=bucket, Key=name, UploadId=upload_id)
    return _answer(root)


def complete_result(base: str, bucket: str, name: str, etag: str) -> web.Response:
    """Answer a completed upload."""
    root = ET.Element("CompleteMultipartUploadResult", xmlns=_NAMESPACE)
    _add(root, Location=f"{base}/{bucket}/{quote(name, safe='')}", Bucket=bucket, Key=name, ETag=etag)
    return _answer(root)


def list_parts_result(
    bucket: str,
    name: str,
    upload_id: str,
    parts: Sequence[tuple[int, str, str, int]],
    *,
    after: int,
    limit: int,
    more: bool,
) -> web.Response:
    """Answer with one page of an upload's parts: number, time, ETag, size."""
    root = ET.Element("ListPartsResult", xmlns=_NAMESPACE)
    _add(root, Bucket=bucket, Key=name, UploadId=upload_id, StorageClass="STANDARD")
    _add(root, PartNumberMarker=after, NextPartNumberMarker=parts[-1][0] if parts else 0)
    _add(root, MaxParts=limit, IsTruncated="true" if more else "false")
    for number, modified, etag, size in parts:
        _add(ET.SubElement(root, "Part"), PartNumber=number, LastModified=modified, ETag=etag, Size=size)
    return _answer(root)


def list_uploads_result(
    bucket: str,
    uploads: Sequence[tuple[str, str, str]],
    *,
    prefix: str,
    limit: int,
    more: bool,
    encode: bool,
) -> web.Response:
    """Answer with one page of unfinished uploads: name, id, time."""

    def written(name: str) -> str:
        return quote(name, safe="") if encode else name

    root = ET.Element("ListMultipartUploadsResult", xmlns=_NAMESPACE)
    _add(root, Bucket=bucket, Prefix=written(prefix), MaxUploads=limit)
    if encode:
        _add(root, EncodingType="url")
    _add(root, IsTruncated="true" if more else "false")
    if more:
        _add(root, NextKeyMarker=written(uploads[-1][0]), NextUploadIdMarker=uploads[-1][1])
    for name, upload_id, initiated in uploads:
        upload = ET.SubElement(root, "Upload")
        _add(upload, Key=written(name), UploadId=upload_id, StorageClass="STANDARD", Initiated=initiated)
    return _answer(root)


def read_complete(data: bytes) -> list[tuple[int, str]]:
    """Read the list of parts, as (number, ETag), that an upload is to be completed from.

    Raises:
        Problem: 400, this is no such list, or an empty one.
    """
    problem = invalid("The XML you provided was not well-formed.", "MalformedCompleteMultipartUpload")
    try:
        root = ET.fromstring(data)
    except ET.ParseError:
        raise problem from None
    if root.tag.rpartition("}")[2] != "CompleteMultipartUpload" or not len(root):
        raise problem
    chosen: list[tuple[int, str]] = []
    for part in root:
        fields = {child.tag.rpartition("}")[2]: child.text or "" for child in part}
        if not fields.get("PartNumber", "").isdigit() or not fields.get("ETag"):
            raise problem
        chosen.append((int(fields["PartNumber"]), fields["ETag"]))
    return chosen


def _add(parent: ET.Element, **fields: str | int) -> None:
    for name, value in fields.items():
        ET.SubElement(parent, name).text = str(value)


def _answer(root: ET.Element) -> web.Response:
    text = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return web.Response(body=text, content_type="application/xml", charset="utf-8")
