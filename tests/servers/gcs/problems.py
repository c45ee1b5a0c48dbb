"""Refusals, as values: what either API answers when it does not do as it was asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from xml.sax.saxutils import escape

from aiohttp import web


class Problem(Exception):
    """Refuse a request. `code` is the XML API's name, `reason` the JSON API's.

    https://cloud.google.com/storage/docs/xml-api/reference-status
    https://cloud.google.com/storage/docs/json_api/v1/status-codes
    """

    def __init__(
        self, status: int, code: str, reason: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.reason = reason
        self.message = message
        self.headers = dict(headers or {})

    def as_json(self) -> web.Response:
        """Write the JSON API's error document."""
        error = {"message": self.message, "domain": "global", "reason": self.reason}
        body = {"error": {"code": self.status, "message": self.message, "errors": [error]}}
        return web.Response(
            status=self.status, text=json.dumps(body), content_type="application/json", headers=self.headers
        )

    def as_xml(self) -> web.Response:
        """Write the XML API's error document."""
        text = (
            "<?xml version='1.0' encoding='UTF-8'?><Error>"
            f"<Code>{escape(self.code)}</Code><Message>{escape(self.message)}</Message></Error>"
        )
        return web.Response(
            status=self.status, text=text, content_type="application/xml", headers=self.headers
        )


def invalid(message: str, code: str = "InvalidArgument") -> Problem:
    """Refuse a request that breaks a rule."""
    return Problem(400, code, "invalid", message)


def no_bucket() -> Problem:
    """Refuse a request to a bucket that is not there."""
    return Problem(404, "NoSuchBucket", "notFound", "The specified bucket does not exist.")


def no_object(bucket: str, name: str) -> Problem:
    """Refuse a request for an object that is not there."""
    return Problem(404, "NoSuchKey", "notFound", f"No such object: {bucket}/{name}")


def no_upload() -> Problem:
    """Refuse a request to a multipart upload that is not there (any more)."""
    return Problem(404, "NoSuchUpload", "notFound", "The requested upload was not found.")


def condition_failed() -> Problem:
    """Refuse a request whose precondition does not hold."""
    return Problem(
        412,
        "PreconditionFailed",
        "conditionNotMet",
        "At least one of the pre-conditions you specified did not hold.",
    )


def unauthorized() -> Problem:
    """Refuse a request with no bearer token, or a wrong one."""
    return Problem(
        401,
        "AuthenticationRequired",
        "authError",
        "Invalid Credentials",
        {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"'},
    )


def crc_mismatch(provided: str, calculated: str) -> Problem:
    """Refuse bytes whose CRC-32C is not the one given with them."""
    return Problem(
        400,
        "CrcMismatch",
        "invalid",
        f'Provided CRC32C "{provided}" doesn\'t match calculated CRC32C "{calculated}".',
    )


def md5_mismatch(provided: str, calculated: str | None) -> Problem:
    """Refuse bytes whose MD5 is not the one given with them."""
    return Problem(
        400,
        "BadDigest",
        "invalid",
        f'Provided MD5 hash "{provided}" doesn\'t match calculated MD5 hash "{calculated}".',
    )


def length_required() -> Problem:
    """Refuse an upload that does not say its length."""
    return Problem(411, "MissingContentLength", "required", "You must provide the Content-Length header.")
