"""The fence: of several writers only the one that claimed the run last may go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.fence import KEY, check_claim, claim_run, read_claim
from ackpt.errors import ConditionFailedError, CorruptCheckpointError, FencedError
from ackpt.options import TransferOptions
from ackpt.testing import Fails, Fault, FaultScript, LostReply, On, Request, inject
from ackpt.transfer.context import Transfer
from ackpt.transfer.reliable import reliable
from tests.checkpoint.stores import put, read


async def test_a_run_that_nobody_wrote_has_no_claim() -> None:
    assert await read_claim(MemoryBackend()) is None


async def test_each_writer_of_a_run_gets_the_next_attempt_of_the_same_run() -> None:
    backend = MemoryBackend()
    first = await claim_run(backend, writer="one")
    second = await claim_run(backend, writer="two")
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.run == second.run
    assert await read_claim(backend) == second
    await check_claim(backend, second)


async def test_a_writer_that_was_replaced_is_told_by_whom() -> None:
    backend = MemoryBackend()
    first = await claim_run(backend, writer="one")
    await claim_run(backend, writer="two")
    with pytest.raises(FencedError, match=r"attempt 1.*taken over by attempt 2.*stop this process"):
        await check_claim(backend, first)


async def test_a_claim_that_was_deleted_is_put_there_again(caplog: pytest.LogCaptureFixture) -> None:
    backend = MemoryBackend()
    claim = await claim_run(backend, writer="one")
    await backend.delete(KEY)
    await check_claim(backend, claim)
    assert await read_claim(backend) == claim
    assert "was gone; it is written again" in caplog.text


async def test_a_claim_that_was_deleted_gives_way_to_a_newer_one_that_comes_in_between() -> None:
    inner = MemoryBackend()
    claim = await claim_run(inner, writer="one")
    await inner.delete(KEY)

    class ComesInBetween(Fault):
        async def before(self, request: Request) -> None:
            await claim_run(inner, writer="two")

    backend = inject(inner, FaultScript(On(fault=ComesInBetween(), operation="put", key=KEY)))
    with pytest.raises(FencedError, match="taken over by attempt 1"):
        await check_claim(backend, claim)


async def test_of_writers_at_the_same_moment_one_holds_the_run_and_all_know_it() -> None:
    backend = MemoryBackend()
    claims = await asyncio.gather(*(claim_run(backend, writer=str(n)) for n in range(5)))
    assert sorted(each.attempt for each in claims) == [1, 2, 3, 4, 5]
    last = max(claims, key=lambda each: each.attempt)
    await check_claim(backend, last)
    for each in claims:
        if each != last:
            with pytest.raises(FencedError):
                await check_claim(backend, each)


async def test_a_lost_reply_of_the_claim_is_not_taken_for_another_writer() -> None:
    script = FaultScript(On(fault=LostReply(), operation="put", key=KEY))
    backend = reliable(inject(MemoryBackend(), script), Transfer.start(TransferOptions()).retry)
    claim = await claim_run(backend, writer="one")
    assert claim.attempt == 1
    await check_claim(backend, claim)


async def test_writers_that_claim_again_and_again_are_an_error_in_the_end() -> None:
    lost = Fails(lambda r: ConditionFailedError("somebody else was faster", key=r.key))
    script = FaultScript(On(fault=lost, operation="put", times=None))
    with pytest.raises(ConditionFailedError, match="one writer at a time"):
        await claim_run(inject(MemoryBackend(), script), writer="one")


async def test_what_differs_only_by_its_writer_is_another_claim() -> None:
    backend = MemoryBackend()
    claim = await claim_run(backend, writer="one")
    with pytest.raises(FencedError):
        await check_claim(backend, replace(claim, writer="two"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"[]",
        b"null",
        b"{}",
        b'{"run": "r", "attempt": 0, "writer": "w", "time": "t"}',
        b'{"run": "r", "attempt": true, "writer": "w", "time": "t"}',
        b'{"run": 1, "attempt": 1, "writer": "w", "time": "t"}',
        b"[" * 100_000,
    ],
    ids=lambda data: data[:20],
)
async def test_a_claim_that_cannot_be_read_is_kept_and_the_error_says_what_to_do(data: bytes) -> None:
    backend = MemoryBackend()
    await put(backend, KEY, data)
    with pytest.raises(CorruptCheckpointError, match=r"writer.json .*no other trainer is running.*delete it"):
        await claim_run(backend, writer="one")
    assert await read(backend, KEY) == data
