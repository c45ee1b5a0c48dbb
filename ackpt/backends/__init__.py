"""Where bytes go: one module for each kind of store, and the registry that picks one by URL.

Importing this package imports no store; each is loaded when a URL first names it.
"""

from __future__ import annotations

from ackpt.backends.base import (
    Backend,
    Body,
    BulkDeletingBackend,
    Condition,
    CopyingBackend,
    IfAbsent,
    IfVersion,
    MultipartBackend,
    ObjectInfo,
    PartLimits,
    PartReceipt,
    SequentialUpload,
    SingleWriter,
    Upload,
    UploadInfo,
    check_condition,
)
from ackpt.backends.registry import (
    known_schemes,
    open_backend,
    open_target,
    register_backend,
    split_options,
)

__all__ = [
    "Backend",
    "Body",
    "BulkDeletingBackend",
    "Condition",
    "CopyingBackend",
    "IfAbsent",
    "IfVersion",
    "MultipartBackend",
    "ObjectInfo",
    "PartLimits",
    "PartReceipt",
    "SequentialUpload",
    "SingleWriter",
    "Upload",
    "UploadInfo",
    "check_condition",
    "known_schemes",
    "open_backend",
    "open_target",
    "register_backend",
    "split_options",
]
