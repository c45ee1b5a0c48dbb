"""What the laws of transfer share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from ackpt.checkpoint.staged import StagedFile
from ackpt.options import KiB, MiB, TransferOptions
from ackpt.transfer.budget import Budget
from ackpt.transfer.context import Transfer
from ackpt.transfer.retry import Deadline, Retry

from .hand_clock import HandClock, longest

PART_BYTES = 300 * KiB


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def retry(clock: HandClock) -> Retry:
    return Retry(attempts=4, deadline=Deadline(300.0, clock=clock), sleep=clock.sleep, uniform=longest)


@pytest.fixture
def budget() -> Budget:
    return Budget(connections=3, memory_bytes=8 * MiB)


@pytest.fixture
def transfer(retry: Retry, budget: Budget) -> Transfer:
    return Transfer(options=TransferOptions(part_bytes=PART_BYTES), budget=budget, retry=retry)


def pattern(size: int, seed: int = 1) -> bytes:
    """Return `size` bytes in which no two blocks are alike."""
    words = (size + 7) // 8
    return b"".join((n * 2654435761 + seed).to_bytes(8, "little") for n in range(words))[:size]


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.fixture
def staged(tmp_path: Path) -> Callable[[int], StagedFile]:
    """Make a staged file of a size."""

    def make(size: int, seed: int = 1) -> StagedFile:
        path = tmp_path / f"model.ckpt-5.data-{size}-{seed}"
        path.write_bytes(pattern(size, seed))
        return StagedFile(key="model.ckpt-5.data-00000-of-00001", path=path, size=size)

    return make
