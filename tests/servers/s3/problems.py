"""Refusals, as the service words them: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree as ET

from aiohttp import web


class Problem(Exception):
    """Be an answer with an error document."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str = "",
        headers: Mapping[str, str] | None = None,
        **fields: str,
    ) -> None:
        super().__init__(f"{status} {code} {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.fields = fields

    def document(self) -> bytes:
        """Write the error document."""
        root = ET.Element("Error")
        fields = {"Code": self.code, "Message": self.message or self.code, **self.fields, "RequestId": "1"}
        for name, text in fields.items():
            ET.SubElement(root, name).text = text
        return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root)

    def response(self, method: str) -> web.Response:
        """Answer; a HEAD has no document."""
        headers = {"Content-Type": "application/xml", **self.headers}
        return web.Response(
            status=self.status, body=None if method == "HEAD" else self.document(), headers=headers
        )


def no_such_key() -> Problem:
    """Make the refusal for an absent object."""
    return Problem(404, "NoSuchKey", "The specified key does not exist.")


def no_such_upload() -> Problem:
    """Make the refusal for an absent upload."""
    return Problem(404, "NoSuchUpload", "The specified upload does not exist.")


def invalid(message: str) -> Problem:
    """Make the refusal for a malformed request."""
    return Problem(400, "InvalidRequest", message)
