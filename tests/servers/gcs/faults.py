"""Faults on demand: the next requests of an operation fail in a way that a test chose.

A fault is a JSON object, posted to `/_admin/faults` or given to `GCSServer.fault`:

    {"operation": "multipart.put_part",   # as in the log; a trailing * stands for anything
     "action": "status",                  # one of ACTIONS
     "count": 1, "skip": 0,               # how many requests, after how many that pass
     "status": 503, "retry_after": "2",   # for "status"
     "body": "",                          # for "status": what to send instead of an error document
     "seconds": 0.5,                      # for "slow"
     "after_bytes": 0}                    # for "reset_before", "refuse", "hang_up", "truncate", "corrupt"
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

ACTIONS = {
    "status": "answer with `status`, having read the body, and do nothing",
    "refuse": "answer with `status` after `after_bytes` of the body, read no more, let the client close",
    "hang_up": "answer with `status` after `after_bytes` of the body, and close at once, which is a reset",
    "reset_before": "reset the connection after `after_bytes` of the body, and do nothing",
    "reset_after": "do it, and reset the connection in place of an answer",
    "wrong_checksum": "do it, and report another crc32c than that of the bytes",
    "corrupt": "change one bit of the body, at `after_bytes`, on its way in",
    "truncate": "send only `after_bytes` of an object's bytes, then close the connection",
    "slow": "wait `seconds`, then do it",
}


@dataclass(slots=True, kw_only=True)
class Fault:
    """Hold one fault and how often it is still to strike."""

    operation: str
    action: str
    count: int = 1
    skip: int = 0
    status: int = 503
    retry_after: str | None = None
    body: str | None = None
    seconds: float = 0.0
    after_bytes: int = 0

    @classmethod
    def of(cls, given: dict[str, Any]) -> Fault:
        """Read a fault.

        Raises:
            ValueError: it names an unknown field or action.
        """
        unknown = given.keys() - {each.name for each in fields(cls)}
        if unknown or given.get("action") not in ACTIONS:
            raise ValueError(f"expected an action of {', '.join(ACTIONS)}, got {given}")
        return cls(**given)

    def matches(self, operation: str) -> bool:
        """Tell whether it is for this operation."""
        if self.operation.endswith("*"):
            return operation.startswith(self.operation[:-1])
        return operation == self.operation


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
            if not fault.matches(operation):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.count -= 1
            if not fault.count:
                self._pending.remove(fault)
            return fault
        return None
