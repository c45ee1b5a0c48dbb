"""The heartbeat: nothing that a store does to one beat ends it."""

from __future__ import annotations

import asyncio

import pytest

from ackpt.checkpoint import lease
from ackpt.engine import heartbeat
from ackpt.engine.heartbeat import Heartbeat
from ackpt.engine.store import Store
from ackpt.errors import PermissionDeniedError
from ackpt.testing import Fails, Fault, FaultScript, On, Stall
from tests.engine.runs import Run, until


@pytest.mark.parametrize(
    "fault",
    [
        Fails(lambda request: PermissionDeniedError("no", key=request.key)),
        Fails(lambda request: RuntimeError("a backend's own mistake")),
        Stall(asyncio.Event()),
    ],
    ids=["refused", "broken", "hanging"],
)
async def test_a_lease_is_renewed_again_whatever_one_renewal_met(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "RENEW_SECS", 0.01)
    run = Run(FaultScript(On(fault=fault, operation="put", key=lease.KEY)))
    store = Store(run.url)
    async with Heartbeat(store, writer="w"):
        await until(lambda: len(run.script.requests("put", lease.KEY)) > 1)
    assert lease.KEY not in await run.keys()
    await store.aclose()
