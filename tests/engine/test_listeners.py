"""Listeners: each told everything in order, none touched by another, none waited for without a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ackpt.engine.listeners import CheckpointListener, Dispatcher
from ackpt.errors import ListenerError
from ackpt.events import Committed, Deleted, Event, Failed, ListenerFailed, Parked, Staged

Act = Callable[[Event], object]


class Told(CheckpointListener):
    """Keep what it is told, and do `act` each time."""

    def __init__(self, act: Act | None = None, *, timeout_secs: float | None = 60.0) -> None:
        self.events: list[Event] = []
        self.timeout_secs = timeout_secs
        self._act = act

    async def _take(self, event: Event) -> None:
        self.events.append(event)
        if self._act is not None:
            result = self._act(event)
            if asyncio.iscoroutine(result):
                await result

    on_staged = on_committed = on_failed = on_deleted = _take


def staged(step: int) -> Staged:
    return Staged(step=step, target="t", size=1, stage_secs=0.0)


ONE_OF_EACH: list[Event] = [
    staged(1),
    Committed(step=1, target="t", prefix="p", size=1, stall_secs=0, stage_secs=0, upload_secs=0),
    Failed(step=2, target="t", error=ValueError()),
    Deleted(step=1, target="t", prefix="p"),
]


async def tell(*listeners: CheckpointListener, events: list[Event]) -> list[ListenerFailed]:
    """Tell the listeners of all events, and return what became of it."""
    published: list[ListenerFailed] = []
    dispatcher = Dispatcher(listeners, published.append)
    dispatcher.start()
    for event in events:
        dispatcher.send(event)
    async with asyncio.timeout(10):
        await dispatcher.drain()
    await dispatcher.aclose()
    return published


async def test_every_listener_is_told_of_every_event_in_order() -> None:
    one, two = Told(), Told()
    assert await tell(one, two, events=ONE_OF_EACH * 3) == []
    assert one.events == two.events == ONE_OF_EACH * 3


async def test_a_listener_that_overrides_nothing_is_content() -> None:
    assert await tell(CheckpointListener(), events=ONE_OF_EACH) == []


async def test_what_concerns_no_listener_is_not_told() -> None:
    one = Told()
    assert await tell(one, events=[Parked(step=1, target="t", folder="f")]) == []
    assert one.events == []


def raises(error: BaseException) -> Act:
    def act(event: Event) -> None:
        raise error

    return act


def awaits_what_was_cancelled(event: Event) -> object:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gone.cancel()

    async def wait() -> None:
        await gone

    return wait()


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (raises(ValueError("mine")), r"raised ValueError\('mine'\)"),
        (raises(TimeoutError("mine")), r"raised TimeoutError\('mine'\)"),
        (raises(asyncio.CancelledError()), r"raised CancelledError\(\)"),
        (raises(asyncio.CancelledError("mine")), r"raised CancelledError\(.*\)"),
        (awaits_what_was_cancelled, r"raised CancelledError\(.*\)"),
    ],
)
async def test_a_listener_that_raises_is_told_of_the_next_event_and_touches_no_other(
    act: Act, reason: str
) -> None:
    bad, good = Told(act), Told()
    published = await tell(bad, good, events=ONE_OF_EACH)
    assert bad.events == good.events == ONE_OF_EACH
    assert [(each.step, each.listener) for each in published] == [(e.step, "Told") for e in ONE_OF_EACH]
    assert isinstance(published[0].error, ListenerError)
    with pytest.raises(ListenerError, match=rf"listener Told {reason} at step 1 \(staged\)"):
        raise published[0].error


async def test_a_listener_that_hangs_is_cut_off_at_its_limit_and_the_others_do_not_wait() -> None:
    released = asyncio.Event()
    quick_done = asyncio.Event()

    async def hang(event: Event) -> None:
        await released.wait()

    slow = Told(hang, timeout_secs=0.02)
    quick = Told(lambda event: quick_done.set())
    published = await tell(slow, quick, events=[staged(1), staged(2)])
    assert [event.step for event in slow.events] == [1, 2]
    assert quick_done.is_set()
    assert [str(each.error) for each in published] == [
        f"listener Told took longer than 0.02 s at step {step} (staged)" for step in (1, 2)
    ]


async def test_without_a_limit_a_listener_may_take_its_time() -> None:
    go = asyncio.Event()
    slow = Told(lambda event: go.wait(), timeout_secs=None)
    dispatcher = Dispatcher([slow], lambda failed: None)
    dispatcher.start()
    dispatcher.send(staged(1))
    draining = asyncio.create_task(dispatcher.drain())
    done, _ = await asyncio.wait([draining], timeout=0.05)
    assert not done
    go.set()
    await asyncio.wait_for(draining, 10)
    await dispatcher.aclose()


async def test_a_drain_with_nothing_sent_ends_at_once() -> None:
    dispatcher = Dispatcher([Told()], lambda failed: None)
    await asyncio.wait_for(dispatcher.drain(), 10)
    dispatcher.start()
    await asyncio.wait_for(dispatcher.drain(), 10)
    await dispatcher.aclose()
    await dispatcher.aclose()


async def test_a_close_cancels_a_listener_that_is_at_it_and_publishes_nothing() -> None:
    ended: list[str] = []

    async def hang(event: Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    published: list[ListenerFailed] = []
    dispatcher = Dispatcher([Told(hang, timeout_secs=None)], published.append)
    dispatcher.start()
    dispatcher.send(staged(1))
    dispatcher.send(staged(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.wait_for(dispatcher.aclose(), 10)
    assert ended == ["cancelled"]
    assert published == []


async def test_a_close_does_not_wait_for_a_listener_that_will_not_be_cancelled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ackpt.engine.listeners._CLOSE_SECS", 0.02)
    go = asyncio.Event()

    async def stay(event: Event) -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    dispatcher = Dispatcher([Told(stay, timeout_secs=None)], lambda failed: None)
    dispatcher.start()
    dispatcher.send(staged(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.wait_for(dispatcher.aclose(), 10)
    assert "Told does not end" in caplog.text
    go.set()
    await asyncio.sleep(0.01)


async def test_after_a_close_nothing_is_told() -> None:
    one = Told()
    dispatcher = Dispatcher([one], lambda failed: None)
    dispatcher.start()
    await dispatcher.aclose()
    dispatcher.send(staged(1))
    await asyncio.wait_for(dispatcher.drain(), 10)
    assert one.events == []


async def test_an_event_that_a_listener_causes_is_told_after_those_before_it() -> None:
    dispatcher: Dispatcher

    def act(event: Event) -> None:
        if event.step == 1:
            dispatcher.send(staged(3))

    one = Told(act)
    dispatcher = Dispatcher([one], lambda failed: None)
    dispatcher.start()
    for step in (1, 2):
        dispatcher.send(staged(step))
    await asyncio.wait_for(dispatcher.drain(), 10)
    assert [event.step for event in one.events] == [1, 2, 3]
    await dispatcher.aclose()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
async def test_a_listener_that_asks_for_an_exit_ends_nothing(error: BaseException) -> None:
    def leave(event: Event) -> None:
        raise error

    published: list[ListenerFailed] = []
    other = Told()
    dispatcher = Dispatcher([Told(leave), other], published.append)
    dispatcher.start()
    for step in (1, 2):
        dispatcher.send(staged(step))
    await dispatcher.drain()
    await dispatcher.aclose()
    assert [each.step for each in published] == [1, 2]
    assert [each.step for each in other.events] == [1, 2]
