"""`Limits`: one budget for whoever shares it, on all loops, in forks, and in uploader processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import ackpt
from ackpt.engine.limits import Limits
from ackpt.engine.sharing import Quotas
from ackpt.engine.store import Store
from ackpt.errors import InvalidOptionError, TransientError
from ackpt.events import Committed, Progressed
from ackpt.options import KiB
from ackpt.testing import Fails, FaultScript, On, Stall
from tests.engine.agent.runs import wait_for
from tests.engine.runs import Pinned, Recorder, Run

SECS = 60.0
DATA_BYTES = 200_000  # of `Pinned`, and a few


class Elsewhere:
    """Be a run that another process sends."""

    def __init__(self) -> None:
        self.quotas: list[Quotas] = []

    def hear_quotas(self, quotas: Quotas) -> None:
        self.quotas.append(quotas)


def saver(run: Run, limits: Limits | None, folder: Path) -> ackpt.BackgroundCheckpointer:
    return ackpt.BackgroundCheckpointer(run.url, limits=limits, staging_dir=folder / run.url.split("/")[2])


def test_the_rate_holds_for_all_runs_together_on_loops_of_their_own(tmp_path: Path) -> None:
    limits = Limits(max_bytes_per_sec=3 * DATA_BYTES)
    with saver(Run(), limits, tmp_path) as first, saver(Run(), limits, tmp_path) as second:
        started = time.monotonic()
        saves = [each.submit(Pinned(1)) for each in (first, second)]
        assert all(isinstance(save.result(SECS), Committed) for save in saves)
        # 2 of 3 times a second, less the quarter of a second that is there at first; more would be no sharing
        assert 0.3 <= time.monotonic() - started <= 30


def test_a_change_reaches_what_is_under_way(tmp_path: Path) -> None:
    limits = Limits(max_bytes_per_sec=1000)
    with saver(Run(), limits, tmp_path) as checkpointer:
        save = checkpointer.submit(Pinned(1))
        with pytest.raises(ackpt.AckptError):
            save.result(0.5)
        limits.max_bytes_per_sec = None
        assert isinstance(save.result(5), Committed)
    assert limits.max_bytes_per_sec is None


def test_a_limit_of_one_run_holds_besides(tmp_path: Path) -> None:
    run = Run()
    with ackpt.BackgroundCheckpointer(
        f"{run.url}&max_bytes_per_sec=400KiB", staging_dir=tmp_path
    ) as checkpointer:
        started = time.monotonic()
        assert isinstance(checkpointer.submit(Pinned(1)).result(SECS), Committed)
        assert time.monotonic() - started >= (DATA_BYTES - 100 * KiB) / (400 * KiB) - 0.35


def test_connections_are_those_of_all_runs_together(tmp_path: Path) -> None:
    stuck, free, released = Run(), Run(), asyncio.Event()
    stall = FaultScript(On(fault=Stall(released), operation="put_part"))
    stuck.script = stall
    limits = Limits(connections=1)
    with saver(stuck, limits, tmp_path) as first, saver(free, limits, tmp_path) as second:
        held = first.submit(Pinned(1))
        wait_for(lambda: limits.sharing.here.connections.used == 1, "the connection is held")
        waiting = second.submit(Pinned(1))
        wait_for(lambda: limits.sharing.here.connections.wanted, "somebody waits for it")
        time.sleep(0.2)
        assert not waiting.done()
        first.start_task(_set(released))
        assert isinstance(waiting.result(SECS), Committed)
        assert isinstance(held.result(SECS), Committed)
    assert limits.sharing.here.connections.used == limits.sharing.here.memory.used == 0


async def _set(event: asyncio.Event) -> None:
    event.set()


def is_down(key: str) -> TransientError:
    return TransientError("down", key=key, retry_after_secs=10)


def test_a_store_that_is_down_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    down, up = Run(), Run()
    down.script = FaultScript(On(fault=Fails(is_down), operation="put_part"))
    limits = Limits(connections=1, memory_bytes=1)
    with saver(down, limits, tmp_path) as first, saver(up, limits, tmp_path) as second:
        stuck = first.submit(Pinned(1))
        wait_for(lambda: down.script.requests("put_part", "*"), "it was tried")  # type: ignore[attr-defined]
        assert isinstance(second.submit(Pinned(1)).result(SECS), Committed)
        assert not stuck.done()
        first.close(0)


def test_a_close_that_cuts_a_save_short_gives_all_back(tmp_path: Path) -> None:
    limits, run = Limits(), Run()
    run.script = FaultScript(On(fault=Stall(asyncio.Event()), operation="put_part"))
    checkpointer = saver(run, limits, tmp_path)
    checkpointer.start()
    checkpointer.submit(Pinned(1))
    wait_for(lambda: limits.sharing.here.connections.used, "it is under way")
    checkpointer.close(0)
    assert limits.sharing.here.connections.used == limits.sharing.here.memory.used == 0


async def test_who_is_given_none_shares_those_of_the_process() -> None:
    first, second, third = Store(Run().url), Store(Run().url), Store(Run().url, Limits(connections=1))
    async with first.transfer().budget.connection(), second.transfer().budget.connection():
        assert Limits.default().sharing.here.connections.used == 2
        async with third.transfer().budget.connection():
            assert Limits.default().sharing.here.connections.used == 2
    for store in (first, second, third):
        await store.aclose()
    assert Limits.default() is Limits.default()


async def test_runs_of_other_processes_have_equal_shares_and_the_sum_is_never_more() -> None:
    limits = Limits(max_bytes_per_sec=900, connections=10, memory_bytes=9000)
    one, two, here = Elsewhere(), Elsewhere(), Store(Run().url, limits)
    limits.sharing.join_elsewhere(one)
    assert one.quotas[-1] == {"max_bytes_per_sec": 900, "connections": 10, "memory_bytes": 9000}
    here.transfer()
    limits.sharing.join_elsewhere(two)
    third = {"max_bytes_per_sec": 300, "connections": 3, "memory_bytes": 3000}
    assert one.quotas[-1] == two.quotas[-1] == third
    assert limits.sharing.here.rate.bytes_per_sec == 300
    limits.max_bytes_per_sec = 600
    assert one.quotas[-1]["max_bytes_per_sec"] == limits.sharing.here.rate.bytes_per_sec == 200
    limits.sharing.leave(two)
    await here.aclose()
    assert one.quotas[-1] == {"max_bytes_per_sec": 600, "connections": 10, "memory_bytes": 9000}
    assert two.quotas[-1]["max_bytes_per_sec"] == 200
    limits.max_bytes_per_sec = None
    assert one.quotas[-1]["max_bytes_per_sec"] is None


def test_the_limit_reaches_the_process_that_sends_also_when_it_is_changed(tmp_path: Path) -> None:
    limits, recorder = Limits(max_bytes_per_sec=1000, connections=5), Recorder()
    checkpointer = ackpt.BackgroundCheckpointer(
        f"file://{tmp_path}/run?part_size=64KiB",
        staging_dir=tmp_path / "s",
        uploader="process",
        limits=limits,
    )
    checkpointer.subscribe(recorder)
    with checkpointer:
        save = checkpointer.submit(Pinned(1))
        with pytest.raises(ackpt.AckptError):
            save.result(1)
        limits.max_bytes_per_sec = None
        assert isinstance(save.result(5), Committed)
    assert {each.connections for each in recorder.of(Progressed)} == {5}  # type: ignore[attr-defined]
    assert not limits.sharing.sharers


def test_in_a_fork_they_are_as_new() -> None:
    code = """
import asyncio, os, threading
from ackpt.engine.limits import Limits

limits = Limits(connections=1)
asyncio.run(limits.sharing.here.connections.open().take(1))
inside, leave = threading.Event(), threading.Event()

def hold():
    pools = (limits.sharing._guard, limits.sharing.here.connections._guard, limits.sharing.here.rate._guard)
    for each in pools:
        each.acquire()
    inside.set()
    leave.wait()
    for each in pools:
        each.release()

holder = threading.Thread(target=hold)
holder.start()
inside.wait()
child = os.fork()
if not child:
    async def use():
        async with asyncio.timeout(10):
            await limits.sharing.here.connections.open().take(1)
            limits.max_bytes_per_sec = 1000
            await limits.sharing.here.rate.take(1)
    asyncio.run(use())
    os._exit(0)
leave.set()
holder.join()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert limits.sharing.here.connections.used == 1
assert limits.max_bytes_per_sec is None
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=SECS)


def test_they_can_be_changed_from_any_thread_while_they_are_used(tmp_path: Path) -> None:
    limits, stop = Limits(), threading.Event()

    def change() -> None:
        while not stop.is_set():
            for value in (None, 10**9, 10**7):
                limits.max_bytes_per_sec = value

    changing = threading.Thread(target=change)
    changing.start()
    try:
        with saver(Run(), limits, tmp_path) as first, saver(Run(), limits, tmp_path) as second:
            for step in (1, 2, 3):
                saves = [each.submit(Pinned(step)) for each in (first, second)]
                assert all(isinstance(save.result(SECS), Committed) for save in saves)
    finally:
        stop.set()
        changing.join()
    assert limits.sharing.here.connections.used == limits.sharing.here.memory.used == 0


@pytest.mark.parametrize(
    "bounds",
    [
        {"max_bytes_per_sec": 0},
        {"max_bytes_per_sec": -1.0},
        {"max_bytes_per_sec": float("nan")},
        {"connections": 0},
        {"memory_bytes": 0},
        {"connections": 1.5},
    ],
)
def test_bounds_that_let_nothing_through_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(InvalidOptionError, match=next(iter(bounds))):
        Limits(**bounds)  # type: ignore[arg-type]


def test_a_bound_that_is_refused_leaves_the_one_before() -> None:
    limits = Limits(max_bytes_per_sec=5)
    with pytest.raises(InvalidOptionError, match="max_bytes_per_sec: expected more than 0"):
        limits.max_bytes_per_sec = 0
    assert limits.max_bytes_per_sec == 5


def test_what_is_no_limits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match=r"limits: expected ackpt\.Limits"):
        ackpt.BackgroundCheckpointer(tmp_path, limits=100)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match=r"limits: expected ackpt\.Limits"):
        ackpt.restore(tmp_path, tmp_path / "model", limits=100)  # type: ignore[arg-type]


def test_a_restore_keeps_to_them(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(DATA_BYTES))
    with ackpt.BackgroundCheckpointer(tmp_path / "run", staging_dir=tmp_path / "s") as checkpointer:
        checkpointer.save(tmp_path / "file", step=1)
    started = time.monotonic()
    limits = Limits(max_bytes_per_sec=DATA_BYTES / 2)
    assert ackpt.restore(tmp_path / "run", tmp_path / "model", limits=limits, staging_dir=tmp_path / "s")
    assert time.monotonic() - started >= 0.4
    assert not limits.sharing.sharers


def test_a_restore_that_holds_up_a_loop_does_not_wait_for_what_that_loop_holds(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
import ackpt

limits = ackpt.Limits(connections=1, memory_bytes=1)
run, folder = Path(sys.argv[1], "run"), Path(sys.argv[1])
(folder / "file").write_bytes(b"1")

async def hold_up():
    shared = limits.sharing.here
    async with shared.connections.open().lease(1), shared.memory.open().lease(1):
        assert ackpt.restore(run, folder / "model", staging_dir=folder, limits=limits)
        assert shared.connections.used == shared.memory.used == 1

with ackpt.BackgroundCheckpointer(run, staging_dir=folder / "s") as checkpointer:
    checkpointer.save(folder / "file", step=1)
asyncio.run(hold_up())
assert not limits.sharing.sharers
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=10)
