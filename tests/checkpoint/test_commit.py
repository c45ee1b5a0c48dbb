"""The commit: a manifest once and for all, and a state file that only goes forward."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.commit import advance_state, catch_up_state, find_committed, put_manifest
from ackpt.checkpoint.manifest import ManifestObject
from ackpt.checkpoint.state_file import StateFile
from ackpt.errors import (
    ConditionFailedError,
    CorruptCheckpointError,
    PermissionDeniedError,
    StepConflictError,
)
from ackpt.options import TransferOptions
from ackpt.testing import Fails, Fault, FaultScript, LostReply, On, Request, inject
from ackpt.transfer.context import Transfer
from ackpt.transfer.reliable import reliable
from tests.checkpoint.manifests import manifest
from tests.checkpoint.stores import keys, put, read


async def test_the_first_manifest_is_put_and_found() -> None:
    backend = MemoryBackend()
    assert await find_committed(backend, step=5, prefix="model.ckpt-5") is None
    assert await put_manifest(backend, manifest()) == manifest()
    assert await find_committed(backend, step=5, prefix="model.ckpt-5") == manifest()


async def test_the_same_content_of_another_writer_is_success_and_theirs_stays() -> None:
    backend = MemoryBackend()
    theirs = replace(manifest(), writer="them", created=datetime(2025, 1, 1, tzinfo=UTC))
    await put_manifest(backend, theirs)
    assert await put_manifest(backend, manifest()) == theirs
    assert await read(backend, manifest().key) == theirs.to_json()


async def test_other_content_is_a_conflict_that_names_both_and_changes_nothing() -> None:
    backend = MemoryBackend()
    data, index = manifest().objects
    theirs = replace(manifest(), writer="them", objects=(data, replace(index, size=4)))
    await put_manifest(backend, theirs)
    with pytest.raises(
        StepConflictError, match=r"step 5 .*model.ckpt-5 .*7 bytes.*by them.*6 bytes"
    ) as raised:
        await put_manifest(backend, manifest())
    assert raised.value.step == 5
    assert await read(backend, manifest().key) == theirs.to_json()


async def test_a_graph_description_alone_makes_no_conflict() -> None:
    backend = MemoryBackend()
    meta = ManifestObject(key="model.ckpt-5.meta", size=9, crc32c=1, version="1")
    theirs = replace(manifest(), objects=(*manifest().objects, meta))
    await put_manifest(backend, theirs)
    assert await put_manifest(backend, manifest()) == theirs


async def test_garbage_in_the_place_of_the_manifest_is_kept_and_told() -> None:
    backend = MemoryBackend()
    await put(backend, manifest().key, b"garbage")
    with pytest.raises(CorruptCheckpointError):
        await put_manifest(backend, manifest())
    assert await read(backend, manifest().key) == b"garbage"


async def test_a_lost_reply_of_the_manifest_is_not_taken_for_a_conflict() -> None:
    inner = MemoryBackend()
    script = FaultScript(On(fault=LostReply(), operation="put"))
    backend = reliable(inject(inner, script), Transfer.start(TransferOptions()).retry)
    assert await put_manifest(backend, manifest()) == manifest()
    assert not script.unused


async def test_a_refused_manifest_raises_and_commits_nothing() -> None:
    inner = MemoryBackend()
    denied = Fails(lambda r: PermissionDeniedError(f"no {r.operation}"))
    with pytest.raises(PermissionDeniedError):
        await put_manifest(inject(inner, FaultScript(On(fault=denied, operation="put"))), manifest())
    assert await keys(inner) == set()


async def state(backend: MemoryBackend) -> StateFile | None:
    return StateFile.from_text(await read(backend, "checkpoint"))


async def test_the_state_moves_forward_and_never_back() -> None:
    backend = MemoryBackend()
    await put(backend, "m-9.index")
    await advance_state(backend, "m-5", ["m-4", "m-5"])
    assert await state(backend) == StateFile("m-5", ("m-4", "m-5"))
    await advance_state(backend, "m-9", ["m-9"])
    version = (await backend.head("checkpoint")).version
    await advance_state(backend, "m-7", ["m-7"])
    await advance_state(backend, "m-9", ["m-9"])
    assert (await backend.head("checkpoint")).version == version
    assert await state(backend) == StateFile("m-9", ("m-9",))


@pytest.mark.parametrize("data", [b"", b"garbage", b'model_checkpoint_path: "model.ckpt"\n', b"\xff" * 50])
async def test_a_state_file_that_names_no_step_gives_way(data: bytes) -> None:
    backend = MemoryBackend()
    await put(backend, "checkpoint", data)
    await advance_state(backend, "m-1", ["m-1"])
    assert await state(backend) == StateFile("m-1", ("m-1",))


async def test_of_many_writers_at_once_the_highest_step_stays() -> None:
    backend = MemoryBackend()
    steps = [3, 9, 1, 7, 5, 8]
    for step in steps:
        await put(backend, f"m-{step}.index")
    await asyncio.gather(*(advance_state(backend, f"m-{step}", [f"m-{step}"]) for step in steps))
    assert await state(backend) == StateFile("m-9", ("m-9",))


async def test_a_writer_that_got_in_between_is_not_undone() -> None:
    """Between our reading and our writing somebody moves the state to a higher step."""
    inner = MemoryBackend()
    await put(inner, "checkpoint", StateFile("m-1").to_text())
    await put(inner, "m-9.index")
    moved: list[str] = []

    class MovesIt(Fault):
        async def before(self, request: Request) -> None:
            moved.append(request.key)
            await put(inner, "checkpoint", StateFile("m-9").to_text())

    script = FaultScript(On(fault=MovesIt(), operation="get"))
    await advance_state(inject(inner, script), "m-5", ["m-5"])
    assert moved == ["checkpoint"]
    assert await state(inner) == StateFile("m-9")


async def test_writers_that_move_the_state_again_and_again_are_an_error_in_the_end() -> None:
    inner = MemoryBackend()
    lost = Fails(lambda r: ConditionFailedError("somebody else was faster", key=r.key))
    script = FaultScript(On(fault=lost, operation="put", times=None))
    with pytest.raises(ConditionFailedError):
        await advance_state(inject(inner, script), "m-5", ["m-5"])
    assert 2 <= len(script.requests("put")) <= 20


@pytest.mark.parametrize("lies", [None, StateFile("model.ckpt-4", ()), StateFile("elsewhere", ())])
async def test_a_state_file_that_was_not_moved_is_moved_later(lies: StateFile | None) -> None:
    backend = MemoryBackend()
    if lies is not None:
        await put(backend, "checkpoint", lies.to_text())
    await catch_up_state(backend, "model.ckpt-5", ["model.ckpt-5"])
    assert StateFile.from_text(await read(backend, "checkpoint")) == StateFile(
        "model.ckpt-5", ("model.ckpt-5",)
    )


@pytest.mark.parametrize("lies", [StateFile("model.ckpt-5", ("model.ckpt-4",)), StateFile("other-6", ())])
async def test_a_state_file_that_is_not_behind_is_left_alone(lies: StateFile) -> None:
    backend = MemoryBackend()
    await put(backend, "checkpoint", lies.to_text())
    await catch_up_state(backend, "model.ckpt-5", ["model.ckpt-5"])
    assert await read(backend, "checkpoint") == lies.to_text()


async def test_a_state_file_that_points_at_what_is_gone_is_moved_to_what_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = MemoryBackend()
    await put(backend, "checkpoint", StateFile("/old/place/model.ckpt-9", ()).to_text())
    await advance_state(backend, "model.ckpt-5", ["model.ckpt-5"])
    assert b'"model.ckpt-5"' in await read(backend, "checkpoint")
    assert "points at /old/place/model.ckpt-9, which is not there" in caplog.text
    await put(backend, "checkpoint", StateFile("model.ckpt-9", ()).to_text())
    await put(backend, "model.ckpt-9.index")
    await advance_state(backend, "model.ckpt-5", ["model.ckpt-5"])
    assert b'"model.ckpt-9"' in await read(backend, "checkpoint")
