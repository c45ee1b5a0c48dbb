"""What Azure's refusals mean, in the errors of ackpt; in one place.

The codes: https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes and
https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ackpt.backends.base import Condition, IfAbsent, IfVersion
from ackpt.backends.http.message import Reply
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

_CODE_HEADER: Final = "x-ms-error-code"
_DETAIL: Final = "AuthenticationErrorDetail"

_DAMAGED: Final = frozenset({"Crc64Mismatch", "Md5Mismatch"})
_PASSING: Final = frozenset({"InternalError", "OperationTimedOut", "PendingCopyOperation"})
_NO_CONTAINER: Final = frozenset({"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"})
_BAD_CREDENTIALS: Final = frozenset(
    {"AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"}
)
_FORBIDDEN: Final = frozenset(
    {
        "AccountIsDisabled",
        "AuthorizationFailure",
        "AuthorizationPermissionMismatch",
        "AuthorizationProtocolMismatch",
        "AuthorizationResourceTypeMismatch",
        "AuthorizationServiceMismatch",
        "AuthorizationSourceIPMismatch",
        "InsufficientAccountPermissions",
        "KeyBasedAuthenticationNotPermitted",
        "PublicAccessNotPermitted",
        "UnauthorizedBlobOverwrite",
    }
)
_HELD: Final = frozenset({"BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold", "SnapshotsPresent"})
_LEASED: Final = frozenset({"LeaseIdMissing", "LeaseLost", "LeaseIdMismatchWithBlobOperation"})
_UNKNOWN: Final = frozenset({"APINotImplemented", "FeatureNotSupported", "UnsupportedHttpVerb"})
_BAD_NAME: Final = frozenset(
    {"InvalidResourceName", "InvalidUri", "OutOfRangeInput", "RequestUrlFailedToParse"}
)
_CONDITION: Final = frozenset({"BlobAlreadyExists", "ConditionNotMet", "TargetConditionNotMet"})


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Understand an answer; one to a HEAD has its code in a header, and no words."""
    fields = error_fields(body) or {}
    code = headers.get(_CODE_HEADER) or fields.get("Code", "")
    details = {name: text for name, text in fields.items() if name == _DETAIL}
    if "Date" in headers:
        details["Date"] = headers["Date"]
    return Refusal.of(status, headers, code, fields.get("Message", ""), details)


def translate(purpose: Purpose, refusal: Refusal) -> StorageError:
    """Choose the error for a refused request: by its code, else by its status."""
    key, what = purpose.key, f"{purpose}: {refusal}"
    match refusal.code:
        case code if code in _NO_CONTAINER:
            return container_not_found(purpose.bucket, refusal.code, key=key)
        case code if code in _DAMAGED:
            return ChecksumMismatchError(f"{what}; the bytes arrived damaged and were not stored", key=key)
        case "ServerBusy":  # the account is over its limits
            return ThrottledError(what, key=key, retry_after_secs=refusal.retry_after_secs)
        case code if code in _PASSING:
            return TransientError(what, key=key, retry_after_secs=refusal.retry_after_secs)
        case code if code in _BAD_CREDENTIALS:
            return _bad_credentials(what, refusal, key=key)
        case code if code in _FORBIDDEN:
            return _forbidden(what, key)
        case code if code in _HELD:
            return PermissionDeniedError(
                f"{what}; blobs here may not be replaced or deleted (an immutability policy, a legal hold or "
                "snapshots): use a container without them",
                key=key,
            )
        case code if code in _LEASED:
            return StorageError(f"{what}; somebody holds a lease of the blob: break it, or wait", key=key)
        case "BlobArchived" | "BlobBeingRehydrated":
            return StorageError(f"{what}; the blob is archived: rehydrate it first", key=key)
        case "BlobUsesCustomerSpecifiedEncryption":
            return StorageError(
                f"{what}; it was written with a key of the caller's own: give 'encryption_key_env'", key=key
            )
        case "InvalidBlobOrBlock":
            return StorageError(
                f"{what}; another tool may have left an unfinished upload under this name: delete it (az "
                "storage blob delete), or wait a week until it is gone",
                key=key,
            )
        case "InvalidBlockList":
            return NotFoundError(
                f"{purpose}: what was staged is gone: the upload was completed or aborted, another write to "
                f"the name came first, or a week is over ({refusal})",
                key=key,
            )
        case "InvalidBlobType":
            return StorageError(f"{what}; the name is taken by a blob that is no block blob", key=key)
        case code if code in _UNKNOWN:
            return UnsupportedError(f"{what}; this store cannot do that", key=key)
        case code if code in _BAD_NAME and key is not None:
            return UnsupportedError(
                f"{what}; a name may have 1,024 characters, no control characters, and 254 segments, with "
                "the URL's path",
                key=key,
            )
        case code if code in _CONDITION and purpose.condition is not None:
            return condition_failed(purpose.condition, key or "", found="another one")
    return _by_status(what, purpose, refusal)


def refused(purpose: Purpose, reply: Reply) -> StorageError:
    """Return the error of an answer that was taken for one at first."""
    return translate(purpose, read_refusal(reply.status, reply.headers, reply.body))


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


def container_not_found(container: str, code: str, *, key: str | None = None) -> BucketNotFoundError:
    """Make the error for a missing container."""
    return BucketNotFoundError(
        f"container {container!r} does not exist ({code}); correct the URL or the account, or make it: "
        f"az storage container create --name {container}",
        key=key,
    )


def _by_status(what: str, purpose: Purpose, refusal: Refusal) -> StorageError:
    key = purpose.key
    match refusal.status:
        case 401:
            return _bad_credentials(what, refusal, key=key)
        case 403:
            return _forbidden(what, key)
        case 404:
            return _not_found(purpose, refusal)
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


def _bad_credentials(what: str, refusal: Refusal, *, key: str | None) -> AuthenticationError:
    """Say what is wrong with the credentials, where the store says so itself.

    https://learn.microsoft.com/troubleshoot/azure/azure-storage/blobs/authentication/storage-troubleshoot-403-errors
    """
    detail = refusal.details.get(_DETAIL, "").lower()
    if "date header" in detail:
        advice = (
            f"this machine's clock is wrong: the store's says {refusal.details.get('Date', '?')}; set it, "
            "and keep it set by NTP"
        )
    elif "time frame" in detail:
        advice = "the shared access signature has expired, or is not valid yet: make a new one"
    else:
        advice = (
            "the credentials are refused: log in again (az login), or correct AZURE_STORAGE_KEY, "
            "AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING"
        )
    return AuthenticationError(f"{what}; {advice}", key=key)


def _forbidden(what: str, key: str | None) -> PermissionDeniedError:
    """Name the role, and what a signature has to allow.

    https://learn.microsoft.com/azure/storage/blobs/authorize-access-azure-active-directory#azure-built-in-roles-for-blobs
    """
    return PermissionDeniedError(
        f"{what}; saving takes the role Storage Blob Data Contributor on the container, or a shared access "
        "signature with read, create, write, delete and list; restoring takes Storage Blob Data Reader, or "
        "read and list",
        key=key,
    )


def _not_found(purpose: Purpose, refusal: Refusal) -> StorageError:
    match refusal.code, purpose.subject:
        case ("" | "ResourceNotFound", Subject.BUCKET):
            return container_not_found(purpose.bucket, str(refusal), key=purpose.key)
        case (_, Subject.UPLOAD):
            return NotFoundError(
                f"{purpose}: the upload was completed, aborted or has expired ({refusal})", key=purpose.key
            )
    return NotFoundError(f"{purpose}: there is no such object ({refusal})", key=purpose.key)


DIALECT: Final = Dialect(read=read_refusal, translate=translate)
