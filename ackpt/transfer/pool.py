"""A quantity that is counted out in the order of asking, to tasks of one event loop or of many."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

_LOOK_SECS: Final = 1.0
"""How often who waits for other loops looks whether one of them has been closed."""


class Guard(Protocol):
    """Let one thread in at a time: `threading.Lock` is one, and so is `OneThread`."""

    def acquire(self, blocking: bool = True, /) -> bool:
        """Come in; without `blocking` only if nobody is inside. Tell whether the caller is."""

    def release(self) -> None:
        """Go out."""


class OneThread:
    """Be the guard of what one thread has to itself."""

    __slots__ = ("_inside",)

    def __init__(self) -> None:
        self._inside = False

    def acquire(self, blocking: bool = True, /) -> bool:
        """Come in, unless the garbage collector calls from within."""
        if self._inside:
            return False
        self._inside = True
        return True

    def release(self) -> None:
        """Go out."""
        self._inside = False


class Pool:
    """Count out `capacity`, first come first served; who asks for more than all of it gets it alone.

    Holders ask through accounts of their own (`open`), on any loops if the guard is a lock. A waiting
    task is woken through its loop, and holds no thread. What a loop that is closed held, or waited
    for, is given back. What gives back never waits for the guard, so that it may be called by the
    garbage collector, which may come while this very thread is inside: it is noted, and counted by
    whoever goes out next.
    """

    def __init__(self, capacity: int, *, guard: Guard | None = None) -> None:
        """Make one for one loop, or for all threads that `guard` holds apart."""
        self._guard = OneThread() if guard is None else guard
        self._crosses_loops = guard is not None
        self._capacity = capacity
        self._used = 0
        self._waiting: deque[_Place] = deque()
        self._holders: set[Account] = set()
        self._noted: deque[tuple[Account, int] | _Place] = deque()

    @property
    def capacity(self) -> int:
        """Return how much there is to count out."""
        return self._capacity

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        self._guard.acquire()
        try:
            self._capacity = capacity
            self._grant()
        finally:
            self._leave()

    @property
    def used(self) -> int:
        """Return how much is held now."""
        return self._used

    @property
    def wanted(self) -> bool:
        """Tell whether somebody waits."""
        return bool(self._waiting)

    def open(self) -> Account:
        """Open an account, for the tasks of one loop."""
        return Account(self)

    def begin_anew(self, guard: Guard) -> None:
        """Be as new, in a fork: those who hold and wait are in the process that was forked."""
        self._guard = guard
        self._used = 0
        self._waiting.clear()
        self._holders.clear()
        self._noted.clear()

    def _ask(self, account: Account, amount: int) -> _Place | None:
        """Hold `amount` at once, and return None, or return a place in the queue."""
        self._guard.acquire()
        try:
            if not self._waiting and self._has(amount):
                self._hold(account, amount)
                return None
            place = _Place(account, amount, asyncio.get_running_loop())
            self._waiting.append(place)
            if len(self._waiting) == 1:  # those behind look later (`Account._look`)
                self._bury()
            return place
        finally:
            self._leave()

    def _note(self, change: tuple[Account, int] | _Place) -> None:
        """Note what is given back, or a place that is given up, and count it now or very soon."""
        self._noted.append(change)
        self._settle()

    def _leave(self) -> None:
        self._guard.release()
        self._settle()

    def _settle(self) -> None:
        while self._noted and self._guard.acquire(False):  # who is inside looks here when it leaves
            try:
                self._count_back()
                self._grant()
            finally:
                self._guard.release()

    def _count_back(self) -> None:
        while self._noted:
            change = self._noted.popleft()
            if not isinstance(change, _Place):
                self._drop(*change)
            elif change.granted:
                self._drop(change.account, change.amount)
            elif change in self._waiting:
                self._waiting.remove(change)

    def _has(self, amount: int) -> bool:
        return self._used + amount <= self._capacity or not self._used

    def _hold(self, account: Account, amount: int) -> None:
        self._used += amount
        account.held += amount
        if self._crosses_loops and account.held:
            self._holders.add(account)

    def _drop(self, account: Account, amount: int) -> None:
        amount = min(amount, account.held)  # what was buried, or closed, is given back already
        self._used -= amount
        account.held -= amount
        if not account.held:
            self._holders.discard(account)

    def _grant(self) -> None:
        while self._waiting and self._has(self._waiting[0].amount):
            place = self._waiting.popleft()
            place.granted = True
            self._hold(place.account, place.amount)
            if not place.wake():
                self._drop(place.account, place.amount)

    def _look(self) -> None:
        self._guard.acquire()
        try:
            self._bury()
        finally:
            self._leave()

    def _bury(self) -> None:
        """Take back what closed loops hold: nothing of theirs runs any more that could give it back."""
        for account in [each for each in self._holders if each.is_dead]:
            self._drop(account, account.held)
        for place in [each for each in self._waiting if each.account.is_dead]:
            self._waiting.remove(place)
        self._grant()


class Account:
    """Be what the tasks of one loop hold of a pool."""

    __slots__ = ("_asking", "_looking", "_loop", "_pool", "held")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking = 0
        self._looking: asyncio.TimerHandle | None = None
        self.held = 0

    @property
    def is_dead(self) -> bool:
        """Tell whether the loop of its tasks has been closed."""
        return self._loop is not None and self._loop.is_closed()

    async def take(self, amount: int) -> None:
        """Hold `amount` more; waits for its turn, and holds nothing more when it is cancelled."""
        if self._pool._crosses_loops:
            self._loop = asyncio.get_running_loop()
        place = self._pool._ask(self, amount)
        if place is None:
            return
        self._asking += 1
        self._keep_looking()
        try:
            await place.turn
        except BaseException:
            self._pool._note(place)
            raise
        finally:
            self._asking -= 1

    def give(self, amount: int) -> None:
        """Give back `amount` of what is held; from any thread, and whoever calls."""
        if amount:
            self._pool._note((self, amount))

    @asynccontextmanager
    async def lease(self, amount: int) -> AsyncIterator[None]:
        """Hold `amount` inside `async with`."""
        await self.take(amount)
        try:
            yield
        finally:
            self.give(amount)

    def close(self) -> None:
        """Give back all that is held; what is given back later counts no more. Idempotent."""
        self.give(self.held)

    def _keep_looking(self) -> None:
        if self._looking is None and self._loop is not None:
            self._looking = self._loop.call_later(_LOOK_SECS, self._look)

    def _look(self) -> None:
        self._looking = None
        if self._asking:
            self._pool._look()
            self._keep_looking()


class _Place:
    """Be a place in the queue."""

    __slots__ = ("_loop", "account", "amount", "granted", "turn")

    def __init__(self, account: Account, amount: int, loop: asyncio.AbstractEventLoop) -> None:
        self.account = account
        self.amount = amount
        self.granted = False
        self._loop = loop
        self.turn: asyncio.Future[None] = loop.create_future()

    def wake(self) -> bool:
        """Wake who waits; tell whether its loop still runs."""
        if _running_loop() is self._loop:
            self._wake()
            return True
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # what a closed loop says
            return False
        return True

    def _wake(self) -> None:
        if not self.turn.done():  # cancelled: its task notes it when it runs
            self.turn.set_result(None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
