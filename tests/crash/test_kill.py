"""Processes that are really killed, at random moments, while they save to a server over a real socket."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.kill import kill_many

KILLS = 12


@pytest.mark.timeout(400)
def test_a_killed_process_loses_nothing_that_was_committed_or_staged(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    kill_many(KILLS, seed, tmp_path)
