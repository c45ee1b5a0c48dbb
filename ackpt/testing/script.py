"""Which request gets which fault: a schedule that is the same in every run, and the log of requests."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from ackpt.testing.faults import Fault, Request, SimulatedCrash

T = TypeVar("T")

_NOTHING = Fault()


@dataclass(frozen=True, slots=True, kw_only=True)
class On:
    """Put `fault` into the requests that match: after `skip` of them, `times` times (None: ever after).

    `operation` and `key` are patterns (`put*`, `*.index`); `number` is a part's, None any or none.
    """

    fault: Fault
    operation: str = "*"
    key: str = "*"
    number: int | None = None
    skip: int = 0
    times: int | None = 1

    def matches(self, request: Request) -> bool:
        """Tell whether a request is meant; its place in the row is not looked at."""
        return (
            fnmatchcase(request.operation, self.operation)
            and fnmatchcase(request.key, self.key)
            and self.number in (None, request.number)
        )


class Script(ABC):
    """Decide on faults, and keep the log; shared by a faulty backend and its uploads."""

    def __init__(self) -> None:
        self.log: list[Request] = []
        self._crashed = False

    @abstractmethod
    def fault_for(self, request: Request) -> Fault | None:
        """Choose the fault of a request; asked once for each, in the order in which they begin."""

    @contextmanager
    def watch(self, request: Request) -> Iterator[Fault]:
        """Enter a request in the log, choose its fault, and keep its outcome.

        Raises:
            SimulatedCrash: a crash came before.
        """
        self.alive()
        self.log.append(request)
        fault = self.fault_for(request)
        request.fault = None if fault is None else type(fault).__name__
        try:
            yield fault or _NOTHING
        except BaseException as error:
            request.outcome = type(error).__name__
            if isinstance(error, SimulatedCrash):
                self._crashed = True
            raise
        request.outcome = "done"

    async def perform(self, request: Request, effect: Callable[[Fault], Awaitable[T]]) -> T:
        """Do a request with its fault: what comes before, the effect, what comes after."""
        with self.watch(request) as fault:
            await fault.before(request)
            result = await effect(fault)
            self.alive()
            await fault.after(request)
            return result

    def alive(self) -> None:
        """Raise SimulatedCrash once the process has 'died'."""
        if self._crashed:
            raise SimulatedCrash("after the crash")

    def requests(self, operation: str = "*", key: str = "*") -> list[Request]:
        """Return the requests in the log that match two patterns, in the order in which they began."""
        return [
            request
            for request in self.log
            if fnmatchcase(request.operation, operation) and fnmatchcase(request.key, key)
        ]

    @property
    def bytes_sent(self) -> int:
        """Return the bytes of all bodies that were sent, those of failed requests too."""
        return sum(request.size for request in self.log if request.operation in ("put", "put_part"))


class FaultScript(Script):
    """Put faults where the lines of a script say; of several lines that match, the first left counts."""

    def __init__(self, *lines: On) -> None:
        super().__init__()
        self._lines = [_Line(line, line.skip, line.times) for line in lines]

    def fault_for(self, request: Request) -> Fault | None:
        """Choose by the lines; a line counts every request that matches it, whatever it gets."""
        chosen: Fault | None = None
        for line in self._lines:
            if line.on.matches(request) and line.is_due(free=chosen is None):
                chosen = line.on.fault
        return chosen

    @property
    def unused(self) -> list[On]:
        """Return the lines that have not done all they were to do; a test that expects none asserts so."""
        return [line.on for line in self._lines if line.left]


@dataclass(slots=True)
class _Line:
    on: On
    to_skip: int
    left: int | None

    def is_due(self, *, free: bool) -> bool:
        if self.to_skip:
            self.to_skip -= 1
            return False
        if self.left == 0 or not free:
            return False
        if self.left is not None:
            self.left -= 1
        return True


class RandomFaults(Script):
    """Put a random one of `faults` into a share of the requests; the same for the same seed and order."""

    def __init__(self, seed: int, share: float, faults: Sequence[Fault], operation: str = "*") -> None:
        """Choose among requests whose operation matches a pattern; `share` is from 0 to 1."""
        super().__init__()
        self._random = random.Random(seed)
        self._share = share
        self._faults = tuple(faults)
        self._operation = operation

    def fault_for(self, request: Request) -> Fault | None:
        """Choose by chance."""
        if fnmatchcase(request.operation, self._operation) and self._random.random() < self._share:
            return self._random.choice(self._faults)
        return None
