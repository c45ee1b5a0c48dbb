"""The errors of ackpt: one class per thing a caller would do differently.

The class decides (retry, fall back, give up), never the text.
Messages are lower case, name the key or step, say what was expected, what came and what to do,
and never hold a credential.
"""

from __future__ import annotations


class AckptError(Exception):
    """Be the base of every error that ackpt raises on purpose."""


class InvalidURLError(AckptError, ValueError):
    """Report a storage URL that cannot be understood, or that holds credentials."""


class UnknownSchemeError(InvalidURLError):
    """Report a URL scheme that no backend is registered for; the message lists the known ones."""


class InvalidOptionError(AckptError, ValueError):
    """Report an option, in a URL or in a call, that is unknown or has a value out of range."""


class MissingDependencyError(AckptError, ImportError):
    """Report an optional package that is needed for what was asked; the message names the extra."""


class StorageError(AckptError):
    """Report a request that a store refused or failed, and that a retry would not mend.

    `key` is the object's key below the backend's URL, where there is one.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class NotFoundError(StorageError):
    """Report an object, or an upload, that is not there (never created, deleted or expired)."""


class UploadCompletedError(NotFoundError):
    """Report an upload whose parts were put together already; `complete` is left to be called, or `abort`.

    A process that dies in the middle of a completion leaves one, where that takes several requests.
    """


class BucketNotFoundError(StorageError):
    """Report a bucket, container or root folder that is not there.

    Not a `NotFoundError`: an absent object is often an answer, an absent bucket never is.
    """


class ConditionFailedError(StorageError):
    """Report that a conditional write found another version than it asked for; nothing was written."""


class AlreadyExistsError(ConditionFailedError):
    """Report that a create-only write found the object there; it was left as it was."""


class PermissionDeniedError(StorageError):
    """Report that the store knows the caller and does not allow the request."""


class AuthenticationError(PermissionDeniedError):
    """Report credentials that are absent, expired beyond renewal, or refused."""


class StorageFullError(StorageError):
    """Report a store, or a local disk, with no room or quota left."""


class UnsupportedError(StorageError):
    """Report something that this store cannot do."""


class TransientError(StorageError):
    """Report a failure that may pass: the core retries it, a backend only raises it.

    `retry_after_secs` is the store's own wish (HTTP `Retry-After`), None where it has none.
    """

    def __init__(
        self, message: str, *, key: str | None = None, retry_after_secs: float | None = None
    ) -> None:
        super().__init__(message, key=key)
        self.retry_after_secs = retry_after_secs


class ThrottledError(TransientError):
    """Report that the store asks for fewer requests (HTTP 429, or 503): the core makes them fewer."""


class ChecksumMismatchError(TransientError):
    """Report bytes that arrived with another checksum than they left with."""


class CheckpointError(AckptError):
    """Be the base of what can go wrong with a checkpoint as a whole.

    `step` is the checkpoint's step, where there is one.
    """

    def __init__(self, message: str, *, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step


class CorruptCheckpointError(CheckpointError):
    """Report a checkpoint whose manifest or objects are damaged, incomplete or not trustworthy."""


class StepConflictError(CheckpointError):
    """Report a step that is committed already, with other content; the committed one was kept."""


class FencedError(CheckpointError):
    """Report that a newer writer has taken over the run; this one may not commit or delete any more."""


class SaveFailedError(CheckpointError):
    """Report a save that ended as failed; `__cause__` is what it failed of."""


class SaveTimeoutError(CheckpointError, TimeoutError):
    """Report a save that took longer than its `save_timeout`; it stays staged for the next start."""


class SnapshotError(CheckpointError):
    """Report state that could not be pinned or written to the staging folder."""


class ListenerError(CheckpointError):
    """Report a listener that raised, or took longer than its timeout."""


class StagingError(AckptError):
    """Report a staging folder that cannot be used (not writable, not a folder, no room)."""


class StagingLockedError(StagingError):
    """Report a staging folder, and so a run, that another saver is using right now."""


class UploaderError(AckptError):
    """Report an uploader process that could not be started, or that failed at what it was asked."""


class LocalFileError(AckptError):
    """Report a local file that cannot be read or written, or that changed while it was being read."""


class DamagedFileError(LocalFileError):
    """Report a local file whose bytes are no longer those that were written: the disk has damaged it."""


class ClosedError(AckptError):
    """Report a call on something that is closed, or not open yet."""


class CloseTimeoutError(AckptError, TimeoutError):
    """Report work that had not ended when the time given to a close or a wait was over."""


class WrongThreadError(AckptError):
    """Report a blocking call on the event loop's own thread, which would wait for itself for ever."""


class ForkedProcessError(AckptError):
    """Report use in a forked child of what belongs to its parent; make a new one after the fork."""


def explain(error: BaseException) -> str:
    """Return what an error says, with what was noted on its way up (how often it was tried)."""
    return "; ".join([str(error), *getattr(error, "__notes__", ())])
