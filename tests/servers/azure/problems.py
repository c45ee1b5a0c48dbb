"""Refusals, as the service words them.

https://learn.microsoft.com/rest/api/storageservices/status-and-error-codes2
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree as ET

from aiohttp import web


class Problem(Exception):
    """Be an answer with an error document, and the error's code in a header."""

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
        self.message = message or code
        self.headers = dict(headers or {})
        self.fields = fields

    def response(self, method: str) -> web.Response:
        """Answer; a HEAD has no document."""
        root = ET.Element("Error")
        for name, text in {"Code": self.code, "Message": self.message, **self.fields}.items():
            ET.SubElement(root, name).text = text
        return web.Response(
            status=self.status,
            body=None if method == "HEAD" else ET.tostring(root, "utf-8", xml_declaration=True),
            headers={"Content-Type": "application/xml", "x-ms-error-code": self.code, **self.headers},
        )


def blob_not_found() -> Problem:
    """Make the refusal for an absent blob."""
    return Problem(404, "BlobNotFound", "The specified blob does not exist.")


def condition_not_met() -> Problem:
    """Make the refusal for a condition that does not hold."""
    return Problem(
        412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."
    )


def malformed(name: str) -> Problem:
    """Make the refusal for a header that cannot be understood."""
    return Problem(
        400,
        "InvalidHeaderValue",
        "The value for one of the HTTP headers is not in the correct format.",
        HeaderName=name,
    )
