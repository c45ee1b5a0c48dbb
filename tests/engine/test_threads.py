"""The loop's thread and its workers: what crosses, what ends, and what still works at the process's end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

from ackpt.engine.threads.loop import LoopThread
from ackpt.engine.threads.pool import WorkerPool
from ackpt.errors import ClosedError, ForkedProcessError, StorageError, WrongThreadError


async def nothing() -> None:
    """Be an `on_exit` that leaves at once."""


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread(name="ackpt test", workers=2, on_exit=nothing)
    yield thread
    thread.stop()


def test_a_result_and_an_error_cross_as_they_are(loop: LoopThread) -> None:
    error = StorageError("no", key="k")

    async def name() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise error

    assert loop.call(name()) == "ackpt test"
    assert loop.submit(name()).result(10) == "ackpt test"
    with pytest.raises(StorageError) as raised:
        loop.call(fail())
    assert raised.value is error


def test_blocking_work_runs_on_the_workers_of_the_loop(loop: LoopThread) -> None:
    async def names() -> set[str]:
        work = (asyncio.to_thread(lambda: threading.current_thread().name) for _ in range(20))
        return set(await asyncio.gather(*work))

    assert loop.call(names()) <= {"ackpt test-io-0", "ackpt test-io-1"}


def test_calls_that_hang_and_are_given_up_take_no_worker_from_the_others(loop: LoopThread) -> None:
    ended = threading.Event()

    async def hang_and_work() -> str:
        for _ in range(5):  # more than there are workers
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.to_thread(ended.wait)
        async with asyncio.timeout(30):
            return await asyncio.to_thread(lambda: "done")

    try:
        assert loop.call(hang_and_work()) == "done"
    finally:
        ended.set()


def test_work_that_waited_for_a_hanging_call_begins_when_that_is_given_up() -> None:
    pool = WorkerPool(1, name="one")
    ended, began = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        ended.wait()

    hanging = pool.submit(hang)
    waiting = pool.submit(lambda: "done")
    assert began.wait(30)
    assert not hanging.cancel()
    assert waiting.result(30) == "done"
    ended.set()
    pool.shutdown()


def test_there_are_no_more_workers_than_before_once_the_calls_given_up_have_ended() -> None:
    pool = WorkerPool(2, name="two")
    ended = threading.Event()
    for _ in range(6):
        began = threading.Event()
        hanging = pool.submit(lambda began=began: (began.set(), ended.wait()))  # type: ignore[misc]
        assert began.wait(30)
        hanging.cancel()
    ended.set()
    over = time.monotonic() + 30
    while len(pool._workers) > 2 and time.monotonic() < over:
        time.sleep(0.01)
    assert len(pool._workers) == 2
    assert {each.result(30) for each in [pool.submit(lambda: 1) for _ in range(20)]} == {1}
    assert len(pool._workers) == 2
    pool.shutdown()


def test_stopping_twice_does_nothing_and_what_is_submitted_then_is_refused(loop: LoopThread) -> None:
    loop.stop()
    loop.stop()
    with pytest.raises(ClosedError, match="ackpt test is closed"):
        loop.submit(nothing())
    with pytest.raises(ClosedError, match="ackpt test is closed"):
        loop.call(nothing())


def test_work_that_runs_when_the_loop_stops_is_cancelled_and_runs_its_clean_up(loop: LoopThread) -> None:
    began, cleaned = threading.Event(), threading.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    future = loop.submit(work())
    assert began.wait(10)
    loop.stop()
    assert cleaned.is_set()
    with pytest.raises(CancelledError):
        future.result(0)


def test_what_is_submitted_while_the_loop_ends_gets_an_end_too() -> None:
    """Whoever waits for a future of ours must not wait for ever."""
    for _ in range(20):
        thread = LoopThread(name="ackpt test", workers=1, on_exit=nothing)
        futures: list[Future[None]] = []
        going = threading.Event()

        def submit(thread: LoopThread, futures: list[Future[None]], going: threading.Event) -> None:
            while True:
                try:
                    futures.append(thread.submit(nothing()))
                except ClosedError:
                    return
                going.set()

        other = threading.Thread(target=submit, args=(thread, futures, going))
        other.start()
        assert going.wait(10)
        thread.stop()
        other.join(10)
        assert not other.is_alive()
        for future in futures:
            try:
                future.result(10)
            except CancelledError:
                continue


def test_a_call_that_is_overtaken_by_the_end_of_the_loop_says_so(loop: LoopThread) -> None:
    began = threading.Event()
    raised: list[BaseException] = []

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    def call() -> None:
        try:
            loop.call(work())
        except ClosedError as error:
            raised.append(error)

    other = threading.Thread(target=call)
    other.start()
    assert began.wait(10)
    loop.stop()
    other.join(10)
    assert [str(each) for each in raised] == ["ackpt test was closed before the call had ended"]


def test_a_blocking_call_on_the_loops_own_thread_is_refused_rather_than_waiting_for_itself(
    loop: LoopThread,
) -> None:
    async def outer() -> None:
        loop.call(nothing())

    with pytest.raises(WrongThreadError, match="would wait for itself"):
        loop.call(outer())


def test_a_fork_is_refused_with_a_clear_error_and_ends_by_itself(loop: LoopThread) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            loop.submit(nothing())
        except ForkedProcessError as error:
            os.write(writing, str(error).encode())
        loop.stop()
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert f"ackpt test belongs to process {os.getpid()} and was used in its fork {child}" in said
    assert loop.call(asyncio.sleep(0, "still here")) == "still here"


SCRIPT = """
import asyncio, sys, threading, time
from ackpt.engine.threads.loop import LoopThread

async def on_exit():
    await asyncio.sleep(0.05)
    sys.stdout.write("exit: %s\\n" % await asyncio.to_thread(lambda: "a worker still works"))  # in one piece
    sys.stdout.flush()

thread = LoopThread(name="ackpt test", workers=2, on_exit=on_exit)
"""


def run(script: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT + script],
        capture_output=True,
        text=True,
        cwd=root,
        timeout=60,
        check=False,
    )


def test_a_process_whose_main_thread_ends_waits_for_on_exit_and_workers_still_work(root: Path) -> None:
    ended = run("print('main ends')", root)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["main ends", "exit: a worker still works"]


def test_a_process_that_ends_with_an_error_waits_too(root: Path) -> None:
    ended = run("raise SystemExit(3)", root)
    assert (ended.returncode, ended.stdout) == (3, "exit: a worker still works\n")


def test_a_trainer_thread_that_outlives_the_main_thread_is_still_served(root: Path) -> None:
    script = """
def train():
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    time.sleep(0.5)  # longer than the loop's look at who is alive
    print("trainer:", thread.call(asyncio.sleep(0, "served")), flush=True)
threading.Thread(target=train).start()
"""
    ended = run(script, root)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["trainer: served", "exit: a worker still works"]


def test_two_loops_do_not_wait_for_each_other_at_the_end(root: Path) -> None:
    ended = run("other = LoopThread(name='ackpt other', workers=1, on_exit=on_exit)", root)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["exit: a worker still works"] * 2


def test_a_daemon_thread_does_not_keep_the_loop_alive(root: Path) -> None:
    ended = run("threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", root)
    assert ended.stdout.splitlines() == ["exit: a worker still works"]


def test_an_on_exit_that_raises_does_not_hang_the_process(root: Path) -> None:
    ended = run(
        """
async def bad():
    raise RuntimeError("mine")
thread.stop()
LoopThread(name="ackpt bad", workers=1, on_exit=bad)
""",
        root,
    )
    assert "RuntimeError: mine" in ended.stderr


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool(3, name="ackpt pool")
    yield made
    made.shutdown()


def test_a_pool_runs_as_many_calls_at_once_as_it_has_workers_and_no_more(pool: WorkerPool) -> None:
    go = threading.Event()
    guard = threading.Lock()
    running = most = 0

    def call(number: int) -> int:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        go.wait(10)
        with guard:
            running -= 1
        return number

    futures = [pool.submit(call, number) for number in range(10)]
    limit = time.monotonic() + 10
    while most < 3 and time.monotonic() < limit:
        time.sleep(0.001)
    go.set()
    assert [future.result(10) for future in futures] == list(range(10))
    assert most == 3


def test_idle_workers_are_used_again_before_new_ones_are_started(pool: WorkerPool) -> None:
    names = set()
    for _ in range(50):
        names.add(pool.submit(lambda: threading.current_thread().name).result(10))
        time.sleep(0.001)  # the worker is idle again only after its result is known
    assert len(names) <= 2


def test_an_error_of_a_call_crosses_and_the_worker_lives_on(pool: WorkerPool) -> None:
    def fail() -> None:
        raise StorageError("no")

    for _ in range(9):
        with pytest.raises(StorageError):
            pool.submit(fail).result(10)
    assert pool.submit(lambda: "alive").result(10) == "alive"


def test_a_call_that_was_cancelled_before_its_turn_is_not_run(pool: WorkerPool) -> None:
    go = threading.Event()
    busy = [pool.submit(go.wait, 10) for _ in range(3)]
    ran = threading.Event()
    waiting = pool.submit(ran.set)
    assert waiting.cancel()
    go.set()
    for each in busy:
        each.result(10)
    pool.shutdown()
    assert not ran.is_set()


def test_a_shut_down_pool_finishes_what_it_has_and_takes_nothing_more(pool: WorkerPool) -> None:
    go = threading.Event()
    futures = [pool.submit(go.wait, 10) for _ in range(6)]
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="worker pool ackpt pool is closed"):
        pool.submit(lambda: None)
    go.set()
    pool.shutdown()
    pool.shutdown()
    assert all(future.done() for future in futures)
    assert not [t for t in threading.enumerate() if t.name.startswith("ackpt pool")]


def test_a_pool_keeps_nothing_of_a_call_alive_when_it_has_ended(pool: WorkerPool) -> None:
    import weakref

    class Big:
        pass

    big = Big()
    gone = weakref.ref(big)
    pool.submit(lambda each: None, big).result(10)
    del big
    limit = time.monotonic() + 10
    while gone() is not None and time.monotonic() < limit:
        time.sleep(0.001)
    assert gone() is None


def test_a_call_that_never_ends_is_left_behind_and_the_process_ends(root: Path) -> None:
    ended = run(
        """
import ackpt.engine.threads.pool as pool, logging
logging.basicConfig()
pool._END_SECS = 0.1
async def hang():
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 1000)
thread.call(hang())
print("main ends")
""",
        root,
    )
    assert ended.returncode == 0
    assert ended.stdout.splitlines() == ["main ends", "exit: a worker still works"]
    assert "still in a call, and left behind" in ended.stderr
