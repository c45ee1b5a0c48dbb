"""Whole saves through faults: what a user may count on, whatever a store or the way to it does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle
from typing import ClassVar, TypeVar

from ackpt.errors import explain
from ackpt.events import Committed, Failed
from ackpt.testing.faults import (
    CorruptedPut,
    ExpiredToken,
    ExpiredUpload,
    Fault,
    LostReply,
    Request,
    Reset,
    Slow,
    Stall,
    TruncatedGet,
    TruncatedPut,
    Unavailable,
)
from ackpt.testing.law import Law, Laws, make_law
from ackpt.testing.rehearsal import ATTEMPTS, Rehearsal, Take
from ackpt.testing.script import On
from ackpt.testing.suite import Suite

_STALLED_SECS = 0.5

L = TypeVar("L", bound=Laws)


def scenario(check: Callable[[L, Rehearsal], Awaitable[None]]) -> Law[L]:
    """Make a test of a check that plays in a rehearsal of its own."""
    return make_law(check, Rehearsal)


class Scenarios(Suite):
    """Prove that a run can be saved to a backend's store through all that goes wrong on the way.

    A save ends committed, or failed with an error that names object, part and cause; after a sweep
    nothing of ours is left but what is committed; and a fault costs at most one part sent again.
    Subclass it in a test module, beside `BackendConformance` and with the same fixture:

        class TestMyStoreInTrouble(Scenarios):
            @pytest.fixture
            def make_backend(self):
                url = f"mystore://test/{uuid.uuid4()}"
                return lambda: ackpt.open_backend(url)

    A large file is of two parts and a bit, as small as the backend's limits allow.
    """

    every_request: ClassVar[bool] = False
    """Whether faults come at every single request of a save, rather than at the first of each kind."""

    @scenario
    async def test_a_save_without_faults_sends_every_byte_once(self, run: Rehearsal) -> None:
        """Nothing is sent again, and nobody waits."""
        take = await run.save(size=run.large_bytes)
        await run.committed(take)
        assert take.waited_secs == 0

    @scenario
    async def test_a_fault_before_any_request_does_not_show(self, run: Rehearsal) -> None:
        """A 503, or a reset, before the effect of one request: from the start of the process to its end."""
        await self._at_each_request(run, [Unavailable(503), Reset()])

    @scenario
    async def test_a_lost_reply_to_any_request_does_not_show(self, run: Rehearsal) -> None:
        """A connection that is reset after one request had its effect: nothing is done twice."""
        await self._at_each_request(run, [LostReply()])

    @scenario
    async def test_a_read_that_breaks_off_does_not_show(self, run: Rehearsal) -> None:
        """A get, of a claim or a manifest, whose connection breaks after a byte."""
        await self._at_each_request(run, [TruncatedGet(1)], operation="get")

    @scenario
    async def test_a_store_that_asks_for_patience_gets_it(self, run: Rehearsal) -> None:
        """After a 429 with `Retry-After: 7` the next attempt is at least 7 seconds later."""
        take = await run.save(_data(run, Unavailable(429, 7.0)), size=run.large_bytes)
        await run.committed(take)
        assert take.waited_secs >= 7

    @scenario
    async def test_a_connection_that_breaks_in_a_part_costs_that_part(self, run: Rehearsal) -> None:
        """A reset in the middle of a part's bytes: that part alone is sent again."""
        fault = Reset(after_bytes=run.part_bytes // 2)
        await run.committed(await run.save(_data(run, fault), size=run.large_bytes))

    @scenario
    async def test_a_lost_reply_of_a_part_costs_at_most_that_part(self, run: Rehearsal) -> None:
        """The store has the part, and nobody was told."""
        await run.committed(await run.save(_data(run, LostReply()), size=run.large_bytes))

    @scenario
    async def test_a_lost_reply_of_the_completion_costs_nothing(self, run: Rehearsal) -> None:
        """The object is there, and nobody was told: it is recognised, and no part is sent again."""
        operation = "complete" if run.in_parts else "put"
        lost = On(operation=operation, key=run.key(1), fault=LostReply())
        take = await run.save(lost, size=run.large_bytes)
        await run.committed(take)
        parts = [r for r in take.script.requests("put_part", run.key(1)) if r.outcome == "done"]
        assert sum(request.size for request in parts) in (0, run.large_bytes)

    @scenario
    async def test_an_upload_that_nobody_was_told_of_is_swept(self, run: Rehearsal) -> None:
        """The reply to the beginning of an upload is lost, and with it the upload's name."""
        if run.in_parts:
            lost = On(operation="create_upload", fault=LostReply())
            await run.committed(await run.save(lost, size=run.large_bytes))

    @scenario
    async def test_a_truncated_part_is_noticed(self, run: Rehearsal) -> None:
        """The store acknowledges fewer bytes than were sent: a part, or a whole object."""
        fault = TruncatedPut(run.part_bytes // 2)
        await run.committed(await run.save(_data(run, fault), size=run.large_bytes), damaged=True)
        small = On(operation="put", key=run.key(2), fault=TruncatedPut(100))
        await run.committed(await run.save(small))

    @scenario
    async def test_a_corrupted_part_is_noticed(self, run: Rehearsal) -> None:
        """One bit is flipped on the way to the store: of a part, or of a whole object."""
        fault = CorruptedPut(run.part_bytes // 2)
        await run.committed(await run.save(_data(run, fault), size=run.large_bytes), damaged=True)
        small = On(operation="put", key=run.key(2), fault=CorruptedPut(100))
        await run.committed(await run.save(small))

    @scenario
    async def test_a_slow_store_is_waited_for(self, run: Rehearsal) -> None:
        """Requests that take longer than usual, all of them, are not sent twice."""
        take = await run.save(On(fault=Slow(0.01), times=None), size=run.large_bytes)
        assert isinstance(take.outcome, Committed), take.said
        assert {request.outcome for request in take.script.log} <= {"done", "NotFoundError"}
        await run.whole()

    @scenario
    async def test_a_stalled_part_is_given_up_and_sent_again(self, run: Rehearsal) -> None:
        """Nothing moves in the middle of a part any more, and nothing says so."""
        for fault in [
            Stall(asyncio.Event(), after_bytes=run.part_bytes // 2),
            Stall(asyncio.Event(), late=True),
        ]:
            take = await run.save(_data(run, fault), size=run.large_bytes, stall_secs=_STALLED_SECS)
            await run.committed(take)

    @scenario
    async def test_an_upload_that_expires_is_begun_anew(self, run: Rehearsal) -> None:
        """The store has forgotten the upload, at a part or at its completion: that much is sent again."""
        if run.in_parts:
            for operation, number in [("put_part", 2), ("complete", None)]:
                expired = On(operation=operation, number=number, fault=ExpiredUpload())
                take = await run.save(expired, size=run.large_bytes)
                await run.committed(take, forgotten=True)

    @scenario
    async def test_an_expired_token_fails_the_save_by_name(self, run: Rehearsal) -> None:
        """Credentials that are refused for good, in the middle of an upload, are told of at once."""
        await run.committed(await run.save())
        take = await run.save(_data(run, ExpiredToken(), times=None), size=run.large_bytes)
        _failed(take, run.key(2), "part 2" if run.in_parts else "", "token has expired")
        assert len([request for request in take.script.log if request.fault]) == 1, "it was tried again"
        await run.whole()
        assert await run.steps() == [1]

    @scenario
    async def test_an_outage_without_end_fails_the_save_by_name(self, run: Rehearsal) -> None:
        """A part that is refused again and again: the error names object, part, cause, and how often."""
        await run.committed(await run.save())
        take = await run.save(_data(run, Unavailable(503), times=None), size=run.large_bytes)
        part = "part 2" if run.in_parts else "put"
        _failed(take, run.key(2), part, "503", f"after {ATTEMPTS} of {ATTEMPTS} attempts")
        await run.whole()
        assert await run.steps() == [1]

    @scenario
    async def test_a_failed_save_is_finished_by_the_next_start(self, run: Rehearsal) -> None:
        """What was staged is sent by the next process, and what the store has of it is not sent again."""
        take = await run.save(_data(run, Unavailable(503), times=None), size=run.large_bytes)
        _failed(take, run.key(1))
        told = await run.parts_told()
        finished = await run.start()
        await run.committed(finished)
        assert await run.steps() == [1]
        sent = {request.number for request in finished.script.requests("put_part", run.key(1))}
        assert not told & sent, f"parts {sorted(told & sent)} were there, and were sent again"

    @scenario
    async def test_a_failed_save_is_finished_after_a_sweep_too(self, run: Rehearsal) -> None:
        """Where a sweep has removed what the store had of it, all of it is sent again."""
        take = await run.save(_data(run, Unavailable(503), times=None), size=run.large_bytes)
        _failed(take, run.key(1))
        await run.whole()
        assert await run.steps() == []
        await run.committed(await run.start(), forgotten=True)
        assert await run.steps() == [1]

    @scenario
    async def test_an_outage_from_any_request_on_harms_nothing(self, run: Rehearsal) -> None:
        """A store that answers nothing any more, or refuses us, fails a save by name; the next save mends."""
        for place, fault in await self._places(run, [Unavailable(503), ExpiredToken()], _operation):
            take = await run.save(On(fault=fault, skip=place, times=None))
            refused = {request.key for request in take.script.log if request.fault is not None}
            assert refused, f"no request came at place {place}"
            if not isinstance(take.outcome, Committed):
                assert any(key in take.said for key in refused), f"expected one of {refused}: {take.said!r}"
            await run.committed(await run.save())

    async def _at_each_request(self, run: Rehearsal, faults: Sequence[Fault], operation: str = "*") -> None:
        """Save a small step with a fault at one request, for each request in turn."""
        for place, fault in await self._places(run, faults, _kind, operation):
            await run.committed(await run.save(On(operation=operation, fault=fault, skip=place)))

    async def _places(
        self,
        run: Rehearsal,
        faults: Sequence[Fault],
        kind: Callable[[Request], object],
        operation: str = "*",
    ) -> list[tuple[int, Fault]]:
        """Choose the requests that get a fault, by their places in the row, and which fault."""
        await run.committed(await run.save())
        take = await run.save()  # not the first: it has something to delete
        await run.committed(take)
        requests = take.script.requests(operation)
        if self.every_request:
            return [(place, fault) for place in range(len(requests)) for fault in faults]
        kinds: dict[object, int] = {}
        for place, request in enumerate(requests):
            kinds.setdefault(kind(request), place)
        return list(zip(kinds.values(), cycle(faults), strict=False))


def _kind(request: Request) -> object:
    """Tell requests apart, but not those of two steps."""
    return request.operation, re.sub(r"\d+", "", request.key)


def _operation(request: Request) -> object:
    """Tell operations apart."""
    return request.operation


def _data(run: Rehearsal, fault: Fault, times: int | None = 1) -> On:
    """Put a fault into the second part of a large file, or into the put of it where there are no parts."""
    if run.in_parts:
        return On(operation="put_part", number=2, fault=fault, times=times)
    return On(operation="put", key="*.data-*", fault=fault, times=times)


def _failed(take: Take, *words: str) -> None:
    assert isinstance(take.outcome, Failed), f"expected a failed save, got {take.outcome}"
    said = explain(take.outcome.error)
    missing = [word for word in words if word not in said]
    assert not missing, f"the error does not say {missing}: {said}"
