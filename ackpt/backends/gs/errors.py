"""From HTTP to the errors of ackpt: answers with a status, and transport that failed; in one place."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from xml.etree import ElementTree as ET

import aiohttp

from ackpt.backends.base import Condition, IfAbsent, IfVersion
from ackpt.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BucketNotFoundError,
    ChecksumMismatchError,
    ConditionFailedError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    StorageFullError,
    TransientError,
    UnsupportedError,
)

_MESSAGE_CHARS = 300


class Subject(Enum):
    """Name what is missing when a request is answered with 404 and no code that says it."""

    BUCKET = "bucket"
    OBJECT = "object"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """Say what a request is for, in the words of an error: `action` is a verb ("put", "list")."""

    action: str
    bucket: str
    key: str | None = None
    subject: Subject = Subject.OBJECT
    condition: Condition | None = None

    def __str__(self) -> str:
        return f"{self.action} {self.key if self.key is not None else f'gs://{self.bucket}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Hold what an answer with an error status says.

    `code` is the XML API's name of the error or the JSON API's reason; empty where the body is
    neither's error document (a proxy's page, another server's).
    """

    status: int
    code: str = ""
    message: str = ""
    retry_after_secs: float | None = None

    def __str__(self) -> str:
        return ", ".join(part for part in (f"HTTP {self.status}", self.code, self.message) if part)


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Understand an answer.

    The documents: https://cloud.google.com/storage/docs/json_api/v1/status-codes and
    https://cloud.google.com/storage/docs/xml-api/reference-status
    """
    code, message = _from_json(body) or _from_xml(body) or ("", "")
    return Refusal(
        status=status,
        code=code,
        message=" ".join(message.split())[:_MESSAGE_CHARS],
        retry_after_secs=parse_retry_after(headers.get("Retry-After"), datetime.now(UTC)),
    )


def parse_retry_after(text: str | None, now: datetime) -> float | None:
    """Read `Retry-After`, seconds or a date (RFC 9110, section 10.2.3); None for neither."""
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def translate(purpose: Purpose, refusal: Refusal) -> StorageError:
    """Choose the error for a refused request."""
    key, what = purpose.key, f"{purpose}: {refusal}"
    match refusal.status:
        case 400 if _is_checksum(refusal):
            return ChecksumMismatchError(f"{what}; the bytes arrived damaged and were not stored", key=key)
        case 401:
            return AuthenticationError(
                f"{what}; the credentials are refused: log in again (gcloud auth application-default login), "
                "or point 'credentials' or GOOGLE_APPLICATION_CREDENTIALS to a valid key file",
                key=key,
            )
        case 403 if refusal.code in ("rateLimitExceeded", "userRateLimitExceeded"):
            return TransientError(what, key=key, retry_after_secs=refusal.retry_after_secs)
        case 403 if refusal.code in ("quotaExceeded", "StorageQuotaExceeded"):
            return StorageFullError(what, key=key)
        case 403 if refusal.code in ("retentionPolicyNotMet", "objectUnderActiveHold"):
            return PermissionDeniedError(
                f"{what}; objects here may not be replaced, renamed or deleted: use a bucket without a "
                "retention policy and holds",
                key=key,
            )
        case 403:
            return PermissionDeniedError(
                f"{what}; the account needs roles/storage.objectUser on the bucket", key=key
            )
        case 404 | 410:
            return _not_found(purpose, refusal)
        case 405 | 501:
            return UnsupportedError(f"{what}; this endpoint cannot do that", key=key)
        case 412 if purpose.condition is not None:
            return condition_failed(purpose.condition, key or "", found="another one")
        case 400 if "userproject" in f"{refusal.code} {refusal.message}".lower().replace(" ", ""):
            return PermissionDeniedError(
                f"{what}; the requester pays here: give the URL option billing_project", key=key
            )
        case 408 | 429:
            return TransientError(what, key=key, retry_after_secs=refusal.retry_after_secs)
        case status if status >= 500:
            return TransientError(what, key=key, retry_after_secs=refusal.retry_after_secs)
    return StorageError(what, key=key)


def condition_failed(condition: Condition, key: str, *, found: str) -> ConditionFailedError:
    """Make the error for a condition that does not hold; nothing was written."""
    match condition:
        case IfAbsent():
            return AlreadyExistsError(
                f"{key}: expected no object, found {found}; it was left as it is", key=key
            )
        case IfVersion(version):
            return ConditionFailedError(
                f"{key}: expected generation {version}, found {found} or none; it was left as it is", key=key
            )


@contextmanager
def transport_errors(purpose: Purpose, endpoint: str, timeout_secs: float) -> Iterator[None]:
    """Translate what a connection may fail with; the endpoint is told, never a request's URL.

    A resumable session's URL is a credential, and some of aiohttp's messages hold the URL: the cause
    that is chained is then the one below them.
    """
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        raise StorageError(
            f"{purpose}: the certificate of {endpoint} is not trusted ({error.certificate_error}); name your "
            "own authority's in SSL_CERT_FILE or REQUESTS_CA_BUNDLE",
            key=purpose.key,
        ) from error
    except TimeoutError as error:
        raise TransientError(
            f"{purpose}: no progress with {endpoint} for {timeout_secs:g} s", key=purpose.key
        ) from _without_url(error)
    except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
        raise TransientError(
            f"{purpose}: the connection to {endpoint} failed ({_reason(error)})", key=purpose.key
        ) from _without_url(error)


def _not_found(purpose: Purpose, refusal: Refusal) -> StorageError:
    match refusal.code, purpose.subject:
        case ("NoSuchBucket", _) | ("notFound" | "", Subject.BUCKET):
            return bucket_not_found(purpose.bucket, key=purpose.key)
        case ("NoSuchUpload", _) | (_, Subject.UPLOAD):
            return NotFoundError(
                f"{purpose}: the upload was completed, aborted or has expired ({refusal})", key=purpose.key
            )
    return NotFoundError(f"{purpose}: there is no such object ({refusal})", key=purpose.key)


def bucket_not_found(bucket: str, *, key: str | None = None) -> BucketNotFoundError:
    """Make the error for a missing bucket."""
    return BucketNotFoundError(
        f"bucket {bucket!r} does not exist; correct the URL, or make it: "
        f"gcloud storage buckets create gs://{bucket}",
        key=key,
    )


def _is_checksum(refusal: Refusal) -> bool:
    """Tell a refusal for a checksum: the XML API has codes for it, the JSON API only words.

    "Provided CRC32C … doesn't match calculated CRC32C …", reason "invalid"
    (https://github.com/googleapis/python-storage/issues/1541).
    """
    if refusal.code in ("BadDigest", "CrcMismatch"):
        return True
    return refusal.code == "invalid" and "doesn't match calculated" in refusal.message


def _from_json(body: bytes) -> tuple[str, str] | None:
    try:
        error = json.loads(body)["error"]
        reasons = [each["reason"] for each in error.get("errors", []) if "reason" in each]
        return str(reasons[0]) if reasons else str(error.get("status", "")), str(error.get("message", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _from_xml(body: bytes) -> tuple[str, str] | None:
    try:
        root = ET.fromstring(body)
    except ET.ParseError:
        return None
    fields = {child.tag.rpartition("}")[2]: child.text or "" for child in root}
    if root.tag.rpartition("}")[2] != "Error" or "Code" not in fields:
        return None
    # `Details` often says more: which checksum, which permission.
    return fields["Code"], f"{fields.get('Message', '')} {fields.get('Details', '')}"


def _without_url(error: BaseException | None) -> BaseException | None:
    """Return the first error of a chain of causes that names no URL."""
    while error is not None and "://" in str(error):
        error = error.__cause__
    return error


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return str(error.os_error)
    below = _without_url(error)
    return (str(below) if below is not None else "") or type(error).__name__
