"""What a request is for, in the words of an error about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ackpt.backends.base import Condition


class Subject(Enum):
    """Name what is missing when a request is answered with 404 and no code that says it."""

    BUCKET = "bucket"
    OBJECT = "object"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """Say what a request is for: `action` is a verb ("put", "list"), `kind` the store's word for a bucket."""

    action: str
    bucket: str
    key: str | None = None
    subject: Subject = Subject.OBJECT
    condition: Condition | None = None
    kind: str = "bucket"

    def __str__(self) -> str:
        return f"{self.action} {self.key if self.key is not None else f'{self.kind} {self.bucket!r}'}"
