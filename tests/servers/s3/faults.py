"""Faults on demand: the next requests of an operation fail in a way that a test chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal[
    "status",  # answer with the error, having read the body, and do nothing
    "refuse",  # answer with the error without reading the body, and close
    "reset_before",  # read the body, reset the connection, and do nothing
    "reset_after",  # do it, and reset the connection in place of an answer
    "late_error",  # begin with 200 and white space, do nothing, and end with the error
    "late_end",  # do it, begin with 200 and white space, and end there
    "slow",  # do it, with white space in front of the document
    "corrupt",  # change one bit of the body on its way in
    "truncate",  # send half of an object's bytes, then close
]


@dataclass(slots=True, kw_only=True)
class Fault:
    """Hold one fault and how often it is still to strike."""

    operation: str
    action: Action
    count: int = 1
    status: int = 503
    code: str = "SlowDown"
    message: str = "Please reduce your request rate."
    retry_after: str | None = None


class Faults:
    """Hold the faults to come, in the order they were given."""

    def __init__(self) -> None:
        self._pending: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Line one up."""
        self._pending.append(fault)

    def clear(self) -> None:
        """Forget all."""
        self._pending.clear()

    def take(self, operation: str) -> Fault | None:
        """Return the fault that strikes this request, if any, and count it."""
        for fault in self._pending:
            if fault.operation == operation:
                fault.count -= 1
                if not fault.count:
                    self._pending.remove(fault)
                return fault
        return None
