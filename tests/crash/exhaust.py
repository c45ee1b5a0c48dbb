"""The exhaustive search: a process dies at each of its moments, in each way, and another comes after it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from tests.crash.promises import BrokenPromise
from tests.crash.world import World

Life = Callable[[int | None], bool]


class Death(Enum):
    """Say how a process dies, and what of its changes tells one state after that from another."""

    KILLED = ("store", "sent", "disk")
    POWER_LOST = ("store", "sent", "durable")
    POWER_LOST_AFTER_NAMES = ("store", "sent", "disk", "durable")


def die_everywhere(
    world: World, life: Life, after: Callable[[], None], *, deaths: tuple[Death, ...] = (Death.KILLED,)
) -> int:
    """Let a process live to its end, then die at each of its moments; return how many deaths there were.

    `life` runs it, to be killed at a moment or at none, and `after` is what comes after each death.
    What a death leaves is examined once, though many moments may leave the same.

    Raises:
        BrokenPromise: the first promise that was broken, with the moment of the death.
    """
    bring_back = world.keep()
    life(None)
    after()
    seen: set[object] = set()
    number = 0
    while True:
        bring_back()
        if not life(number):
            return number
        where, changes = world.machine.moments[-1], dict(world.machine.changes)
        left = world.keep()
        for death in deaths:
            state = (death, world.staged, *(changes.get(kind, 0) for kind in death.value))
            if state in seen:
                continue
            seen.add(state)
            left()
            if not _lose_power(world, death):
                continue
            try:
                if ("read", changes.get("store", 0)) not in seen:
                    seen.add(("read", changes.get("store", 0)))
                    world.check_restore()
                after()
            except BrokenPromise as broken:
                raise BrokenPromise(f"{death.name} {where}: {broken}") from broken
        number += 1


def _lose_power(world: World, death: Death) -> bool:
    """Take from the disk what this death takes; tell whether that has to be examined."""
    match death:
        case Death.KILLED:
            return True
        case Death.POWER_LOST:
            return world.disk.lose()
        case Death.POWER_LOST_AFTER_NAMES:
            return world.disk.hollow()
