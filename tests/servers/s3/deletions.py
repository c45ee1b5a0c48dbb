"""Deletions of many objects: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""

from __future__ import annotations

import base64
import binascii
from hashlib import md5
from xml.etree import ElementTree as ET

from aiohttp import web

from tests.servers.s3.calls import Call
from tests.servers.s3.features import Features
from tests.servers.s3.objects import NAMESPACE, Objects, document
from tests.servers.s3.problems import Problem, invalid

_LIMIT = 1000


class Deletions:
    """Answer requests that delete many objects."""

    def __init__(self, features: Features, objects: Objects) -> None:
        self._features = features
        self._objects = objects

    def delete(self, call: Call) -> web.Response:
        """Delete each; an error of one is told in the document, and the others are deleted all the same."""
        if not self._features.bulk:
            raise Problem(
                405, "MethodNotAllowed", "The specified method is not allowed against this resource."
            )
        _check_sum(call)
        names, quiet = _read(call.data)
        root = ET.Element("DeleteResult", xmlns=NAMESPACE)
        for name in names:
            try:
                self._objects.remove(call.bucket, name)
            except Problem as problem:
                error = ET.SubElement(root, "Error")
                fields = {"Key": name, "Code": problem.code, "Message": problem.message}
                for field, text in fields.items():
                    ET.SubElement(error, field).text = text
            else:
                if not quiet:
                    ET.SubElement(ET.SubElement(root, "Deleted"), "Key").text = name
        return document(root)


def _check_sum(call: Call) -> None:
    """Want a checksum of the document.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html#API_DeleteObjects_RequestSyntax
    """
    given = call.headers.get("Content-MD5")
    if given is None:
        if call.crc32c is None:
            raise invalid("Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
        return
    try:
        digest = base64.b64decode(given, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 16:
        raise Problem(400, "InvalidDigest", "The Content-MD5 you specified is not valid.")
    if digest != md5(call.data).digest():
        raise Problem(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")


def _read(data: bytes) -> tuple[list[str], bool]:
    """Read the document; anything that the documentation does not name makes it malformed."""
    malformed = Problem(
        400,
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
    )
    try:
        root = ET.fromstring(data)
    except ET.ParseError:
        raise malformed from None
    space = f"{{{NAMESPACE}}}"
    if root.tag != f"{space}Delete":
        raise malformed
    names, quiet = [], False
    for element in root:
        if element.tag == f"{space}Quiet" and element.text in ("true", "false"):
            quiet = element.text == "true"
        elif element.tag == f"{space}Object" and [child.tag for child in element] == [f"{space}Key"]:
            name = element[0].text or ""
            if not name:
                raise malformed
            names.append(name)
        else:
            raise malformed
    if not 1 <= len(names) <= _LIMIT:
        raise malformed
    return names, quiet
