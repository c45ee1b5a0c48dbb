"""The simulated machine: it counts every moment at which a process can die, and dies at the one asked for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ackpt.testing import Fault, Request, Script, SimulatedCrash

T = TypeVar("T")

_LIFE_SECS = 30.0
_READS = frozenset({"get", "head", "list", "list_uploads", "open_upload", "parts"})


class Machine:
    """Run processes one after another; each of their moments has a number, from 0 on.

    A moment is the time before, or after, the effect of a request to the store or of an operation on
    a file. Once dead, a process has no effect any more, whatever it still tries in its clean-ups.
    """

    def __init__(self) -> None:
        self.moments: list[str] = []
        self.changes: Counter[str] = Counter()
        self.dead = False
        self._kill_at: int | None = None

    def moment(self, what: str, *, changed: str | None = None) -> None:
        """Pass a moment, or die at it; `changed` says what has changed since the one before it.

        Raises:
            SimulatedCrash: the process dies now, or has died.
        """
        if not self.dead:
            self.moments.append(what)
            if changed is not None:
                self.changes[changed] += 1
            self.dead = len(self.moments) - 1 == self._kill_at
        if self.dead:
            raise SimulatedCrash(f"at moment {len(self.moments) - 1}: {self.moments[-1]}")

    def run(self, life: Callable[[], Coroutine[Any, Any, None]], *, kill_at: int | None = None) -> bool:
        """Run a process to its end, or until it is killed at a moment; tell whether it was.

        Everything happens on one thread, in an order that is the same in every run.
        """
        self.moments, self.changes, self.dead, self._kill_at = [], Counter(), False, kill_at
        with asyncio.Runner(loop_factory=_loop) as runner:
            try:
                runner.run(_limited(life()))
            except BaseException:
                if not self.dead:
                    raise
        return self.dead


class Moments(Script):
    """Make every request of a store two moments of a machine; look at the store after every change."""

    def __init__(self, machine: Machine, look: Callable[[], None]) -> None:
        super().__init__()
        self._moment = _Moment(machine, look)

    def fault_for(self, request: Request) -> Fault:
        """Put the moments into every request."""
        return self._moment


class _Moment(Fault):
    def __init__(self, machine: Machine, look: Callable[[], None]) -> None:
        self._machine = machine
        self._look = look

    async def before(self, request: Request) -> None:
        sends = request.operation.startswith("put")
        self._machine.moment(
            f"before {request.operation} of {request.key}", changed="sent" if sends else None
        )

    async def after(self, request: Request) -> None:
        what = f"after {request.operation} of {request.key}"
        if request.operation in _READS:
            self._machine.moment(what)
        else:
            self._look()
            self._machine.moment(what, changed="store")


class _Loop(asyncio.SelectorEventLoop):
    """Run what is for a worker at once, on the loop's own thread."""

    def run_in_executor(  # type: ignore[override]
        self, executor: object, call: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            result = call(*args)
        except BaseException as error:
            self.call_soon(_settle, future, future.set_exception, error)
        else:
            self.call_soon(_settle, future, future.set_result, result)  # behind what the work has scheduled
        return future


def _settle(future: asyncio.Future[T], settle: Callable[[Any], None], value: object) -> None:
    if not future.done():
        settle(value)


def _loop() -> asyncio.AbstractEventLoop:
    loop = _Loop()
    loop.set_exception_handler(lambda loop, context: None)  # what the dead leave unseen is no news
    return loop


async def _limited(life: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(_LIFE_SECS):
        await life
