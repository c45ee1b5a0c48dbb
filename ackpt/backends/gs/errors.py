"""What Cloud Storage's refusals mean, in the errors of ackpt; in one place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from ackpt.backends.base import Condition, IfAbsent, IfVersion
from ackpt.backends.http.purpose import Purpose, Subject
from ackpt.backends.http.refusal import Dialect, Refusal
from ackpt.backends.http.xml import error_fields
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
    ThrottledError,
    TransientError,
    UnsupportedError,
)


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Understand an answer: the code is the XML API's name of the error or the JSON API's reason.

    The documents: https://cloud.google.com/storage/docs/json_api/v1/status-codes and
    https://cloud.google.com/storage/docs/xml-api/reference-status
    """
    code, message = _from_json(body) or _from_xml(body) or ("", "")
    return Refusal.of(status, headers, code, message)


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
            return ThrottledError(what, key=key, retry_after_secs=refusal.retry_after_secs)
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
        case 429 | 503:
            return ThrottledError(what, key=key, retry_after_secs=refusal.retry_after_secs)
        case 408:
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
    fields = error_fields(body)
    if fields is None or "Code" not in fields:
        return None
    # `Details` often says more: which checksum, which permission.
    return fields["Code"], f"{fields.get('Message', '')} {fields.get('Details', '')}"


DIALECT: Final = Dialect(read=read_refusal, translate=translate)
