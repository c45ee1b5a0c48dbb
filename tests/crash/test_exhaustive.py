"""A process dies at each moment there is, in memory: what was promised holds, and the next one finishes.

The moments are the times before and after the effect of every request to the store and of every
operation on a file in the staging folder. After each death a reader, the next process and a sweep
come by; readers also look after every change that any of them makes.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ackpt.engine import send
from tests.crash.exhaust import Death, die_everywhere
from tests.crash.mistakes import ORDER_IN_THE_STORE, ORDER_ON_THE_DISK
from tests.crash.promises import BrokenPromise
from tests.crash.world import World

LEFTOVERS = {
    "staged": "after put of ckpt-2.sending.json",
    "with an upload nobody knows": "after create_upload of ckpt-2.data-00000-of-00002",
    "with a part sent": "after put_part of ckpt-2.data-00000-of-00002",
    "with an upload completed": "after complete of ckpt-2.data-00000-of-00002",
    "committed, the state file not moved": "after put of ckpt-2.manifest.json",
    "committed, the older one half deleted": "after delete of ckpt-1.index",
}


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    """Leave out a warning for each of thousands of deaths."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def world() -> Iterator[World]:
    """Make a world, in memory if the machine has a file system there."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="ackpt-crash-", dir=memory) as folder:
        yield World(Path(folder) / "world")


def come_back(world: World) -> None:
    """Start again after a death, train on, and see that all is well."""
    world.train(3)
    world.check_end(3)


def test_a_death_at_any_moment_of_a_save_loses_nothing(world: World) -> None:
    world.train(1)
    deaths = die_everywhere(
        world, lambda kill_at: world.train(2, kill_at=kill_at), lambda: come_back(world), deaths=tuple(Death)
    )
    assert deaths > 150


def test_a_death_at_any_moment_of_a_save_that_copies_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "WORTH_BYTES", 1)  # the graph description is the same at every step
    world.train(1)
    copies: list[str] = []

    def train(kill_at: int | None) -> bool:
        killed = world.train(2, kill_at=kill_at)
        copies.extend(request.outcome for request in world.run.script.requests("copy"))
        return killed

    deaths = die_everywhere(world, train, lambda: come_back(world), deaths=tuple(Death))
    assert deaths > 150
    assert {"done", "SimulatedCrash"} <= set(copies)  # and deaths before, in and behind it


def test_a_death_at_any_moment_of_the_first_start_loses_nothing(world: World) -> None:
    deaths = die_everywhere(
        world, lambda kill_at: world.train(0, kill_at=kill_at), lambda: come_back(world), deaths=tuple(Death)
    )
    assert deaths > 20


@pytest.mark.parametrize("left", LEFTOVERS.values(), ids=LEFTOVERS.keys())
def test_a_death_at_any_moment_of_a_resume_loses_nothing(world: World, left: str) -> None:
    die_at(world, left)
    deaths = die_everywhere(world, lambda kill_at: world.train(2, kill_at=kill_at), lambda: come_back(world))
    assert deaths > 20


@pytest.mark.parametrize("left", ["with a part sent", "committed, the older one half deleted"])
def test_a_death_at_any_moment_of_a_sweep_loses_nothing(world: World, left: str) -> None:
    die_at(world, LEFTOVERS[left])
    deaths = die_everywhere(world, lambda kill_at: world.sweep(kill_at=kill_at), lambda: come_back(world))
    assert deaths > 10


@pytest.mark.parametrize("mistake", ORDER_IN_THE_STORE)
def test_a_mistake_in_the_order_of_requests_breaks_a_promise(world: World, mistake: str) -> None:
    world.train(1)
    with ORDER_IN_THE_STORE[mistake](), pytest.raises(BrokenPromise):
        die_everywhere(world, lambda kill_at: world.train(2, kill_at=kill_at), lambda: come_back(world))


@pytest.mark.parametrize("mistake", ORDER_ON_THE_DISK)
def test_a_mistake_in_the_order_of_files_and_journal_breaks_a_promise(world: World, mistake: str) -> None:
    world.train(1)
    with ORDER_ON_THE_DISK[mistake](), pytest.raises(BrokenPromise):
        die_everywhere(
            world,
            lambda kill_at: world.train(2, kill_at=kill_at),
            lambda: come_back(world),
            deaths=tuple(Death),
        )


def die_at(world: World, moment: str) -> None:
    """Have a process save step 1, and another die at a moment of saving step 2."""
    world.train(1)
    bring_back = world.keep()
    world.train(2)
    number = world.machine.moments.index(moment)
    bring_back()
    assert world.train(2, kill_at=number)
