"""What S3's refusals mean, in the errors of ackpt; in one place.

The codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

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

_REGION_HEADER: Final = "x-amz-bucket-region"
_DETAILS: Final = ("Region", "RequestTime", "ServerTime")
_DAMAGED: Final = frozenset({"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"})
_BAD_KEYS: Final = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "InvalidSecurity",
        "NotSignedUp",
    }
)
_ELSEWHERE: Final = frozenset(
    {"PermanentRedirect", "TemporaryRedirect", "Redirect", "AuthorizationHeaderMalformed"}
)
_PASSING: Final = frozenset(
    {
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
    }
)
_TOO_MANY: Final = frozenset(
    {"RequestLimitExceeded", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException"}
)
# MinIO's and Ceph's own: https://github.com/minio/minio/blob/master/cmd/api-errors.go,
# https://docs.ceph.com/en/latest/radosgw/s3/
_FULL: Final = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded"})
_STATUSES: Final = {
    "AccessDenied": 403,
    "ConditionalRequestConflict": 409,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NotImplemented": 501,
    "PreconditionFailed": 412,
    "SlowDown": 503,
    "EntityTooSmall": 400,
    "InvalidPart": 400,
    "InvalidPartOrder": 400,
    "InvalidArgument": 400,
    "InvalidRequest": 400,
    "MethodNotAllowed": 405,
    "BadDigest": 400,
}


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Understand an answer.

    An error that came with status 200, after the store had begun to answer, is read as the status
    it should have had; one that nobody foresaw as 500, as Amazon's SDKs do
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).
    """
    fields = error_fields(body) or {}
    code = fields.get("Code", "")
    if status == 200 and code:
        status = _STATUSES.get(code, 500)
    details = {name: text for name, text in fields.items() if name in _DETAILS}
    region = headers.get(_REGION_HEADER)
    if region:
        details["Region"] = region
    return Refusal.of(status, headers, code, fields.get("Message", ""), details)


def named_refusal(code: str, message: str) -> Refusal:
    """Understand an error that has no status of its own: one of several in a document."""
    return Refusal.of(_STATUSES.get(code, 500), {}, code, message)


def translate(purpose: Purpose, refusal: Refusal) -> StorageError:
    """Choose the error for a refused request: by its code, else by its status."""
    key, what = purpose.key, f"{purpose}: {refusal}"
    match refusal.code:
        case "NoSuchBucket":
            return bucket_not_found(purpose.bucket, key=key)
        case code if code in _DAMAGED:
            return ChecksumMismatchError(f"{what}; the bytes arrived damaged and were not stored", key=key)
        case code if code in _TOO_MANY:
            return ThrottledError(what, key=key, retry_after_secs=refusal.retry_after_secs)
        case code if code in _PASSING:
            return TransientError(what, key=key, retry_after_secs=refusal.retry_after_secs)
        case code if code in _FULL:
            return StorageFullError(what, key=key)
        case code if code in _BAD_KEYS:
            return AuthenticationError(
                f"{what}; the credentials are refused: renew them (aws configure, aws sso login), or name "
                "others in the environment or the URL option 'profile'",
                key=key,
            )
        case "RequestTimeTooSkewed":
            return AuthenticationError(
                f"{what}; this machine's clock is wrong: it says {refusal.details.get('RequestTime', '?')}, "
                f"the store's {refusal.details.get('ServerTime', '?')}; set it, and keep it set by NTP",
                key=key,
            )
        case code if code in _ELSEWHERE:
            return _elsewhere(what, purpose, refusal)
        case "InvalidObjectState":
            return StorageError(
                f"{what}; the object is archived: restore it first, or keep checkpoints in another class",
                key=key,
            )
        case "KeyTooLongError":
            return UnsupportedError(f"{what}; a key may have 1,024 bytes, with the URL's path", key=key)
        case code if code.startswith("KMS."):
            return PermissionDeniedError(f"{what}; the KMS key cannot be used", key=key)
    return _by_status(what, purpose, refusal)


def condition_failed(condition: Condition, key: str, *, found: str) -> ConditionFailedError:
    """Make the error for a condition that does not hold; nothing was written."""
    match condition:
        case IfAbsent():
            return AlreadyExistsError(
                f"{key}: expected no object, found {found}; it was left as it is", key=key
            )
        case IfVersion(version):
            return ConditionFailedError(
                f"{key}: expected the ETag {version}, found {found} or none; it was left as it is", key=key
            )


def bucket_not_found(bucket: str, *, key: str | None = None) -> BucketNotFoundError:
    """Make the error for a missing bucket."""
    return BucketNotFoundError(
        f"bucket {bucket!r} does not exist; correct the URL, or make it: aws s3 mb s3://{bucket}", key=key
    )


def _by_status(what: str, purpose: Purpose, refusal: Refusal) -> StorageError:
    key = purpose.key
    match refusal.status:
        case 200 | 206:
            return UnsupportedError(f"{what}; this store answers a range with something else", key=key)
        case 301 | 307:
            return _elsewhere(what, purpose, refusal)
        case 401 | 403:
            return PermissionDeniedError(
                f"{what}; the account needs s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, "
                "s3:DeleteObject and s3:AbortMultipartUpload on its objects (without s3:ListBucket an absent "
                "object is answered like this, too)",
                key=key,
            )
        case 404 if isinstance(purpose.condition, IfVersion) and refusal.code != "NoSuchUpload":
            return condition_failed(purpose.condition, key or "", found="another one")
        case 404:
            return _not_found(purpose, refusal)
        case 501 if purpose.condition is not None:
            return UnsupportedError(
                f"{what}; if this store has no conditional writes, give conditional_writes=false, and see to "
                "it that there is one writer at a time",
                key=key,
            )
        case 405 | 501:
            return UnsupportedError(f"{what}; this store cannot do that", key=key)
        case 429 | 503:
            return ThrottledError(what, key=key, retry_after_secs=refusal.retry_after_secs)
        case 408:
            return TransientError(what, key=key, retry_after_secs=refusal.retry_after_secs)
        case 412 if purpose.condition is not None:
            return condition_failed(purpose.condition, key or "", found="another one")
        case 412:
            return NotFoundError(f"{what}; what was to be copied is there in another version", key=key)
        case 507:
            return StorageFullError(what, key=key)
        case status if status >= 500:
            return TransientError(what, key=key, retry_after_secs=refusal.retry_after_secs)
    return StorageError(what, key=key)


def _not_found(purpose: Purpose, refusal: Refusal) -> StorageError:
    match refusal.code, purpose.subject:
        case ("", Subject.BUCKET):
            return bucket_not_found(purpose.bucket, key=purpose.key)
        case ("NoSuchUpload", _) | (_, Subject.UPLOAD):
            return NotFoundError(
                f"{purpose}: the upload was completed, aborted or has expired ({refusal})", key=purpose.key
            )
    return NotFoundError(f"{purpose}: there is no such object ({refusal})", key=purpose.key)


def _elsewhere(what: str, purpose: Purpose, refusal: Refusal) -> StorageError:
    region = refusal.details.get("Region")
    if region is None:
        return StorageError(f"{what}; correct the URL's options 'endpoint' and 'region'", key=purpose.key)
    return StorageError(
        f"{what}; bucket {purpose.bucket!r} is in the region {region}: give region={region}, or leave the "
        "option away",
        key=purpose.key,
    )


DIALECT: Final = Dialect(read=read_refusal, translate=translate)
