"""The async core, end to end on a real store in memory, with faults put into its requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

import ackpt
from ackpt import (
    Block,
    Checkpointer,
    CheckpointListener,
    KeepLast,
    Preemption,
    Queue,
    Raise,
    Skip,
    Tolerate,
)
from ackpt.checkpoint.catalog import read_object
from ackpt.checkpoint.lease import is_leased
from ackpt.checkpoint.staged import StagedFile
from ackpt.checkpoint.staging import StagingFolder
from ackpt.checkpoint.sweep import find_orphans
from ackpt.engine.restore import finish_in
from ackpt.engine.store import Store
from ackpt.errors import (
    ClosedError,
    FencedError,
    InvalidOptionError,
    PermissionDeniedError,
    SaveFailedError,
    SnapshotError,
    StagingLockedError,
    StepConflictError,
)
from ackpt.events import (
    Committed,
    Deleted,
    Failed,
    ListenerFailed,
    Outcome,
    Parked,
    Skipped,
    Staged,
    Superseded,
)
from ackpt.testing import (
    CorruptedPut,
    Fails,
    Fault,
    FaultScript,
    LostReply,
    On,
    Request,
    Script,
    Stall,
    Unavailable,
)
from ackpt.transfer.body import BytesBody
from tests.engine.runs import Pinned, Recorder, Run, cannot_be_written, content, until


def stalled_put(key: str) -> tuple[asyncio.Event, FaultScript]:
    go = asyncio.Event()
    return go, FaultScript(On(fault=Stall(go), operation="put*", key=key))


async def test_a_committed_checkpoint_has_all_its_objects_its_manifest_and_the_state_file() -> None:
    run = Run()
    async with Checkpointer(run.url, name="model.ckpt") as checkpointer:
        outcome = await (await checkpointer.submit(Pinned(7)))
    assert isinstance(outcome, Committed)
    assert outcome.prefix == "model.ckpt-7"
    assert outcome.size == sum(map(len, content(7).values()))
    assert await run.keys() == [
        ".ackpt/writer.json",
        "checkpoint",
        "model.ckpt-7.data-00000-of-00001",
        "model.ckpt-7.index",
        "model.ckpt-7.manifest.json",
        "model.ckpt-7.meta",
    ]
    state = b"".join([block async for block in run.store.get("checkpoint")])
    assert state.startswith(b'model_checkpoint_path: "model.ckpt-7"\n')


async def test_the_manifest_comes_after_every_object_and_the_state_file_after_the_manifest() -> None:
    run = Run()
    async with Checkpointer(run.url) as checkpointer:
        await (await checkpointer.submit(Pinned(7)))
    written = [
        r.key for r in run.script.log if r.operation in ("put", "complete") and not r.key.startswith(".")
    ]
    assert written[0] == "ckpt-7.sending.json"
    assert written[-2:] == ["ckpt-7.manifest.json", "checkpoint"]
    assert written.index("ckpt-7.data-00000-of-00001") < written.index("ckpt-7.index")


async def test_the_staging_folder_is_empty_after_a_commit(tmp_path: Path) -> None:
    run = Run()
    async with Checkpointer(run.url, staging_dir=tmp_path) as checkpointer:
        await (await checkpointer.submit(Pinned(7)))
    (folder,) = tmp_path.iterdir()
    assert sorted(each.name for each in folder.iterdir()) == ["lock", "target"]
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_coalesce_gives_the_place_of_a_waiting_save_to_a_newer_one() -> None:
    run = Run()
    go, run.script = stalled_put("ckpt-1.index")
    recorder = Recorder()
    async with Checkpointer(run.url) as checkpointer:
        checkpointer.subscribe(recorder)
        snapshots = [Pinned(step) for step in (1, 2, 3, 4)]
        futures = [await checkpointer.submit(each) for each in snapshots]
        await until(lambda: any(e.step == 4 for e in recorder.of(Staged)))
        go.set()
        outcomes = await asyncio.gather(*futures)
    assert [type(each) for each in outcomes] == [Committed, Superseded, Superseded, Committed]
    assert [each.released for each in snapshots] == [1, 1, 1, 1]
    assert await run.committed() == [1, 4]


async def test_a_save_is_not_superseded_before_the_newer_one_is_staged() -> None:
    run = Run()
    go, run.script = stalled_put("ckpt-1.index")
    recorder = Recorder()
    async with Checkpointer(run.url) as checkpointer:
        checkpointer.subscribe(recorder)
        first = await checkpointer.submit(Pinned(1))
        second = await checkpointer.submit(Pinned(2))
        await until(lambda: any(e.step == 2 for e in recorder.of(Staged)))
        third = await checkpointer.submit(Pinned(3, error=cannot_be_written(3)))
        assert isinstance(await third, Failed)
        go.set()
        assert isinstance(await first, Committed)
        assert isinstance(await second, Committed)
    assert await run.committed() == [1, 2]


async def test_skip_drops_a_save_visibly_and_lets_go_of_its_snapshot() -> None:
    run = Run()
    go, run.script = stalled_put("ckpt-1.index")
    async with Checkpointer(run.url, overlap=Skip()) as checkpointer:
        first = await checkpointer.submit(Pinned(1))
        dropped = Pinned(2)
        outcome = await (await checkpointer.submit(dropped))
        assert isinstance(outcome, Skipped)
        assert outcome.busy_step == 1
        assert (dropped.staged, dropped.released) == (0, 1)
        go.set()
        assert isinstance(await first, Committed)


@pytest.mark.parametrize(("overlap", "taken_at_once"), [(Block(), 1), (Queue(1), 2), (Queue(2), 3)])
async def test_blocking_policies_take_so_many_saves_and_then_wait(
    overlap: Block | Queue, taken_at_once: int
) -> None:
    run = Run()
    go, run.script = stalled_put("ckpt-1.index")
    async with Checkpointer(run.url, overlap=overlap) as checkpointer:
        futures = [await checkpointer.submit(Pinned(step)) for step in range(1, taken_at_once + 1)]
        waiting = asyncio.create_task(checkpointer.submit(Pinned(9)))
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        go.set()
        futures.append(await waiting)
        outcomes = await asyncio.gather(*futures)
    assert all(isinstance(each, Committed) for each in outcomes)


async def test_the_same_step_with_the_same_content_is_committed_already_and_sends_nothing() -> None:
    run = Run()
    async with Checkpointer(run.url) as checkpointer:
        await (await checkpointer.submit(Pinned(7)))
        sent = run.script.bytes_sent
        again = await (await checkpointer.submit(Pinned(7, {**content(7), "meta": b"another graph"})))
    assert isinstance(again, Committed)
    assert again.already
    assert run.script.bytes_sent == sent


async def test_the_same_step_with_other_content_fails_and_leaves_the_committed_one() -> None:
    run = Run()
    async with Checkpointer(run.url) as checkpointer:
        await (await checkpointer.submit(Pinned(7)))
        outcome = await (await checkpointer.submit(Pinned(7, content(8))))
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, StepConflictError)
        assert "step 7 is committed already as ckpt-7 with other content" in str(outcome.error)
        await (await checkpointer.submit(Pinned(8)))
    stored = b"".join([block async for block in run.store.get("ckpt-7.data-00000-of-00001")])
    assert stored == content(7)["data-00000-of-00001"]


async def test_transient_faults_and_lost_replies_are_survived() -> None:
    run = Run(
        FaultScript(
            On(fault=Unavailable(503), operation="put_part", times=2),
            On(fault=LostReply(), operation="complete"),
            On(fault=LostReply(), operation="put", key="*.manifest.json"),
            On(fault=LostReply(), operation="put", key="checkpoint"),
        )
    )
    async with Checkpointer(run.url) as checkpointer:
        outcome = await (await checkpointer.submit(Pinned(7)))
    assert isinstance(outcome, Committed), outcome
    assert not outcome.already
    assert await run.committed() == [7]


async def test_bytes_damaged_on_the_way_are_never_committed() -> None:
    run = Run(FaultScript(On(fault=CorruptedPut(at=3), operation="put_part", times=None)))
    with pytest.raises(SaveFailedError, match="saving step 7"):
        async with Checkpointer(run.url) as checkpointer:
            outcome = await (await checkpointer.submit(Pinned(7)))
            assert isinstance(outcome, Failed)
            assert outcome.staged
    assert await run.committed() == []


async def test_a_failed_save_reaches_the_trainer_when_the_policy_says_so() -> None:
    run = Run(FaultScript(On(fault=Fails(denied), operation="put", key="*.manifest.json", times=2)))
    async with Checkpointer(run.url, failure=Tolerate(1)) as checkpointer:
        await (await checkpointer.submit(Pinned(1)))
        checkpointer.check()
        await (await checkpointer.submit(Pinned(2)))
        with pytest.raises(SaveFailedError, match="2 saves in a row have failed") as raised:
            checkpointer.check()
        assert isinstance(raised.value.__cause__, PermissionDeniedError)
        await (await checkpointer.submit(Pinned(3)))
        checkpointer.check()


async def test_with_raise_the_first_failure_reaches_the_trainer() -> None:
    run = Run(FaultScript(On(fault=Fails(denied), operation="put", key="*.manifest.json")))
    async with Checkpointer(run.url, failure=Raise()) as checkpointer:
        await (await checkpointer.submit(Pinned(1)))
        with pytest.raises(SaveFailedError):
            checkpointer.check()
        await (await checkpointer.submit(Pinned(2)))


async def test_a_snapshot_that_cannot_be_written_fails_and_leaves_nothing_behind(tmp_path: Path) -> None:
    run = Run()
    snapshot = Pinned(1, error=cannot_be_written(1))
    async with Checkpointer(run.url, staging_dir=tmp_path) as checkpointer:
        outcome = await (await checkpointer.submit(snapshot))
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, SnapshotError)
        assert not outcome.staged
        await (await checkpointer.submit(Pinned(2)))
    assert snapshot.released == 1
    assert sorted(each.name for each in next(tmp_path.iterdir()).iterdir()) == ["lock", "target"]
    assert [u.key async for u in run.store.list_uploads()] == []  # type: ignore[attr-defined]


async def test_every_request_has_one_outcome_and_every_snapshot_is_released_once() -> None:
    run = Run(FaultScript(On(fault=Fails(denied), operation="put", key="*-[369].index", times=None)))
    recorder = Recorder()
    snapshots = [Pinned(step) for step in range(1, 12)]
    async with Checkpointer(run.url, failure=Tolerate(99)) as checkpointer:
        checkpointer.subscribe(recorder)
        futures = []
        for snapshot in snapshots:
            futures.append(await checkpointer.submit(snapshot))
            await asyncio.sleep(0.001 * (snapshot.step % 4))
        await asyncio.gather(*futures)
    outcomes = [each for each in recorder.events if isinstance(each, Outcome)]
    assert sorted(each.step for each in outcomes) == list(range(1, 12))
    assert [each.released for each in snapshots] == [1] * 11


async def test_retention_keeps_the_newest_and_deletes_behind_the_saves() -> None:
    run = Run()
    recorder = Recorder()
    async with Checkpointer(run.url, retention=KeepLast(2), overlap=Queue(9)) as checkpointer:
        checkpointer.subscribe(recorder)
        for step in range(1, 6):
            await (await checkpointer.submit(Pinned(step)))
        await checkpointer.wait()
        assert [each.step for each in recorder.of(Deleted)] == [1, 2, 3]
    assert await run.committed() == [4, 5]
    assert not [key for key in await run.keys() if "-3." in key]


async def test_a_checkpoint_whose_save_failed_behind_its_commit_gives_way_like_any_other() -> None:
    run = Run(FaultScript(On(fault=Fails(denied), operation="put", key="checkpoint")))
    async with Checkpointer(run.url, retention=KeepLast(1)) as checkpointer:
        assert isinstance(await (await checkpointer.submit(Pinned(1))), Failed)
        assert await run.committed() == [1]
        assert isinstance(await (await checkpointer.submit(Pinned(2))), Committed)
        await checkpointer.wait()
    assert await run.committed() == [2]


async def test_a_reader_never_sees_a_committed_checkpoint_with_holes() -> None:
    run = Run()
    async with Checkpointer(run.url, retention=KeepLast(1)) as checkpointer:
        for step in (1, 2):
            await (await checkpointer.submit(Pinned(step)))
        await checkpointer.wait()
    deleted = [each.key for each in run.script.requests("delete", "ckpt-1.*")]
    assert deleted[:2] == ["ckpt-1.sending.json", "ckpt-1.manifest.json"]
    assert deleted[2] == "ckpt-1.index"
    assert deleted[-1] == "ckpt-1.deleted.json"


async def test_saves_under_way_do_not_wait_for_a_deletion() -> None:
    go = asyncio.Event()
    run = Run(FaultScript(On(fault=Stall(go), operation="delete_many")))
    files = {f"data-{n:05}-of-00009": b"shard" for n in range(9)}
    async with Checkpointer(run.url, retention=KeepLast(1)) as checkpointer:
        for step in (1, 2):
            assert isinstance(await (await checkpointer.submit(Pinned(step, files))), Committed)
        await until(lambda: run.script.requests("delete_many"))
        for step in (3, 4):
            assert isinstance(await (await checkpointer.submit(Pinned(step, files))), Committed)
        assert await run.committed() == [2, 3, 4]
        assert len([key for key in await run.keys() if key.startswith("ckpt-1.data")]) == 9
        go.set()
        await checkpointer.wait()
        assert await run.committed() == [4]
        assert {key.partition(".")[0] for key in await run.keys()} == {"", "ckpt-4"}


async def test_a_deletion_cut_short_is_finished_by_the_next_start() -> None:
    run = Run(FaultScript(On(fault=Fails(denied), operation="delete_many", key="ckpt-1.data*")))
    async with Checkpointer(run.url, retention=KeepLast(1)) as checkpointer:
        await (await checkpointer.submit(Pinned(1)))
        await (await checkpointer.submit(Pinned(2)))
        await checkpointer.wait()
    assert "ckpt-1.deleted.json" in await run.keys()
    async with Checkpointer(run.url):
        pass
    assert not [key for key in await run.keys() if key.startswith("ckpt-1.")]


async def test_a_newer_writer_fences_the_older_one(tmp_path: Path) -> None:
    run = Run()
    with pytest.raises(SaveFailedError, match="taken over"):
        async with Checkpointer(run.url) as old:
            await (await old.submit(Pinned(1)))
            async with Checkpointer(run.url, staging_dir=tmp_path) as new:
                await (await new.submit(Pinned(2)))
            outcome = await (await old.submit(Pinned(3)))
            assert isinstance(outcome, Failed)
            assert isinstance(outcome.error, FencedError)
            with pytest.raises(SaveFailedError, match="taken over"):
                old.check()
    assert await run.committed() == [1, 2]


@pytest.mark.parametrize("moment", ["ckpt-5.data*", "ckpt-5.index", "ckpt-5.manifest.json"])
@pytest.mark.parametrize("deleted", [False, True])
async def test_a_writer_that_comes_back_to_a_step_that_a_newer_one_has_saved_is_told_of_it(
    tmp_path: Path, moment: str, deleted: bool
) -> None:
    """Real event: a trainer that was stopped in the middle of a save, and went on after the next began."""
    run = Run()
    go, run.script = stalled_put(moment)
    old = Checkpointer(run.url)
    await old.start()
    pending = await old.submit(Pinned(5))
    await until(lambda: run.script.requests("put*", moment))
    run.script = FaultScript()
    async with Checkpointer(run.url, staging_dir=tmp_path, retention=KeepLast(1)) as new:
        assert isinstance(await (await new.submit(Pinned(5, {**content(5), "index": b"other"}))), Committed)
        if deleted:
            await (await new.submit(Pinned(6)))
    go.set()
    outcome = await pending
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, FencedError), outcome.error
    await old.aclose()
    assert await run.committed() == ([6] if deleted else [5])


async def test_two_savers_on_one_machine_are_refused_at_once() -> None:
    run = Run()
    async with Checkpointer(run.url):
        with pytest.raises(StagingLockedError, match="another saver is using"):
            await Checkpointer(run.url).start()
    async with Checkpointer(run.url):
        pass


async def test_objects_of_somebody_else_are_never_written_over() -> None:
    run = Run()
    await put(run, "ckpt-7.data-00000-of-00001", b"theirs")
    async with Checkpointer(run.url) as checkpointer:
        outcome = await (await checkpointer.submit(Pinned(7)))
        assert isinstance(outcome, Failed)
        assert "was not written by ackpt" in str(outcome.error)
        await (await checkpointer.submit(Pinned(8)))
    assert b"".join([b async for b in run.store.get("ckpt-7.data-00000-of-00001")]) == b"theirs"


async def test_a_checkpoint_that_tensorflow_wrote_with_the_same_bytes_is_adopted() -> None:
    run = Run()
    for name, data in {**content(7), "meta": b"their graph"}.items():
        await put(run, f"ckpt-7.{name}", data)
    async with Checkpointer(run.url) as checkpointer:
        outcome = await (await checkpointer.submit(Pinned(7)))
    assert isinstance(outcome, Committed), outcome
    assert b"".join([b async for b in run.store.get("ckpt-7.meta")]) == b"their graph"


async def test_what_was_adopted_outlives_its_checkpoint() -> None:
    run = Run()
    for name, data in content(7).items():
        if name != "meta":
            await put(run, f"ckpt-7.{name}", data)
    async with Checkpointer(run.url, retention=KeepLast(1)) as checkpointer:
        for step in (7, 8):
            assert isinstance(await (await checkpointer.submit(Pinned(step))), Committed)
            await checkpointer.wait()
    assert await run.committed() == [8]
    assert {key for key in await run.keys() if key.startswith("ckpt-7")} == {
        "ckpt-7.data-00000-of-00001",
        "ckpt-7.index",
    }


async def test_a_listener_that_raises_or_hangs_touches_nobody_else() -> None:
    run = Run()
    seen: list[int] = []

    class Raises(CheckpointListener):
        async def on_committed(self, event: Committed) -> None:
            raise RuntimeError("mine")

    class Hangs(CheckpointListener):
        timeout_secs = 0.01

        async def on_committed(self, event: Committed) -> None:
            await asyncio.Event().wait()

    class Fine(CheckpointListener):
        async def on_committed(self, event: Committed) -> None:
            seen.append(event.step)

    recorder = Recorder()
    async with Checkpointer(run.url, listeners=[Raises(), Hangs(), Fine()]) as checkpointer:
        checkpointer.subscribe(recorder)
        await (await checkpointer.submit(Pinned(1)))
        await (await checkpointer.submit(Pinned(2)))
        await checkpointer.wait()
    assert seen == [1, 2]
    failed = sorted((each.step, each.listener.rsplit(".", 1)[-1]) for each in recorder.of(ListenerFailed))
    assert failed == [(1, "Hangs"), (1, "Raises"), (2, "Hangs"), (2, "Raises")]


async def test_a_close_that_is_out_of_time_parks_what_is_staged_and_the_next_start_commits_it() -> None:
    run = Run()
    _, run.script = stalled_put("ckpt-1.index")
    recorder = Recorder()
    checkpointer = Checkpointer(run.url)
    await checkpointer.start()
    checkpointer.subscribe(recorder)
    future = await checkpointer.submit(Pinned(1))
    await until(lambda: recorder.of(Staged))
    assert await checkpointer.aclose(timeout=0.05) is False
    assert isinstance(await future, Parked)
    assert await run.committed() == []
    run.script = FaultScript()
    async with Checkpointer(run.url):
        assert await run.committed() == [1]
    data = b"".join([b async for b in run.store.get("ckpt-1.data-00000-of-00001")])
    assert data == content(1)["data-00000-of-00001"]


async def test_what_was_sent_before_the_process_ended_is_not_sent_again() -> None:
    run = Run()
    _, run.script = stalled_put("ckpt-1.index")
    recorder = Recorder()
    checkpointer = Checkpointer(run.url)
    await checkpointer.start()
    checkpointer.subscribe(recorder)
    await checkpointer.submit(Pinned(1))
    await until(lambda: run.script.requests("put", "*.index"))
    await until(lambda: recorder.of(Staged))
    await checkpointer.aclose(timeout=0.01)
    run.script = FaultScript()
    async with Checkpointer(run.url):
        pass
    assert run.script.requests("put_part") == []
    assert await run.committed() == [1]


async def test_work_that_another_writer_has_replaced_is_not_committed_by_a_late_start(tmp_path: Path) -> None:
    run = Run()
    _, run.script = stalled_put("ckpt-5.index")
    recorder = Recorder()
    old = Checkpointer(run.url)
    await old.start()
    old.subscribe(recorder)
    await old.submit(Pinned(5))
    await until(lambda: recorder.of(Staged))
    await old.aclose(timeout=0.01)
    run.script = FaultScript()
    async with Checkpointer(run.url, staging_dir=tmp_path) as new:
        await (await new.submit(Pinned(4)))
    async with Checkpointer(run.url):
        assert await run.committed() == [4]


async def test_a_closed_checkpointer_takes_nothing_and_lets_go_of_the_snapshot() -> None:
    run = Run()
    checkpointer = Checkpointer(run.url)
    snapshot = Pinned(1)
    with pytest.raises(ClosedError, match="not started"):
        await checkpointer.submit(snapshot)
    async with checkpointer:
        pass
    with pytest.raises(ClosedError, match="closed"):
        await checkpointer.submit(snapshot)
    assert snapshot.released == 2


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "-x", "a\nb"])
def test_a_name_that_is_not_one_plain_segment_is_refused_at_once(name: str) -> None:
    with pytest.raises(InvalidOptionError, match="checkpoint name"):
        Checkpointer("memory://x/run", name=name)


def denied(request: object) -> PermissionDeniedError:
    return PermissionDeniedError(f"not allowed: {request}")


async def put(run: Run, key: str, data: bytes) -> None:
    await run.store.put(key, BytesBody(data))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"overlap": "skip"}, r"overlap: expected ackpt.Coalesce\(\), .*, got 'skip'"),
        ({"overlap": ackpt.Skip}, r"overlap: .* call it: Skip"),
        ({"failure": ackpt.Raise}, r"failure: .* call it: Raise"),
        ({"retention": 5}, r"retention: expected a policy such as ackpt.KeepLast\(5\), got 5"),
        ({"preemption": 25}, r"preemption: expected ackpt.Preemption"),
        ({"listeners": [print]}, r"listeners: expected instances of ackpt.CheckpointListener"),
    ],
)
def test_what_is_no_policy_is_refused_at_once(options: dict[str, object], says: str) -> None:
    with pytest.raises(ackpt.errors.InvalidOptionError, match=says):
        ackpt.Checkpointer("memory://policies/run", **options)


class Broken(ackpt.Retention):
    """Raise whatever is to be kept."""

    def keep(self, candidates: object) -> frozenset[int]:
        raise ZeroDivisionError("mine")


async def test_a_retention_that_raises_deletes_nothing_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    run = Run()
    async with ackpt.Checkpointer(run.url, retention=Broken()) as checkpointer:
        for step in (1, 2):
            assert isinstance(await (await checkpointer.submit(Pinned(step))), Committed)
        await checkpointer.wait()
    assert await run.committed() == [1, 2]
    assert "the retention policy raised; nothing is taken from the state file" in caplog.text
    assert "retention of " in caplog.text


async def test_a_training_that_was_not_restored_is_refused_and_what_is_committed_stays() -> None:
    run = Run()
    async with Checkpointer(run.url) as checkpointer:
        for step in (10, 20):
            await (await checkpointer.submit(Pinned(step)))
    with pytest.raises(SaveFailedError, match="step 15 is behind step 20.*restore the run"):
        async with Checkpointer(run.url, retention=KeepLast(1)) as checkpointer:
            outcome = await (await checkpointer.submit(Pinned(15)))
            assert isinstance(outcome, Failed)
            assert isinstance(outcome.error, StepConflictError)
    assert await run.committed() == [10, 20]


async def test_work_of_an_earlier_process_is_no_start_of_this_one(tmp_path: Path) -> None:
    run = Run(FaultScript(On(fault=Unavailable(), operation="put", key="*.manifest.json", times=None)))
    with pytest.raises(SaveFailedError):
        async with Checkpointer(run.url, staging_dir=tmp_path) as checkpointer:
            await (await checkpointer.submit(Pinned(20)))
    run.script = FaultScript()
    with pytest.raises(SaveFailedError, match="step 15 is behind step 20"):
        async with Checkpointer(run.url, staging_dir=tmp_path, retention=KeepLast(1)) as checkpointer:
            await (await checkpointer.submit(Pinned(15)))
    assert await run.committed() == [20]


@pytest.mark.parametrize("by", ["a saver that starts", "a restore"])
async def test_what_an_earlier_process_left_is_finished_under_a_lease(by: str, tmp_path: Path) -> None:
    run = Run(FaultScript(On(fault=Unavailable(), operation="put", key="*.manifest.json", times=None)))
    with pytest.raises(SaveFailedError):
        async with Checkpointer(run.url, staging_dir=tmp_path) as checkpointer:
            await (await checkpointer.submit(Pinned(20)))
    assert not await is_leased(run.store)
    go, run.script = stalled_put("*.manifest.json")

    async def finish() -> None:
        if by == "a restore":
            store, (folder,) = Store(run.url), tmp_path.iterdir()
            staging = StagingFolder(folder)
            staging.lock()
            try:
                await finish_in(store, staging, lambda event: None)
            finally:
                staging.unlock()
                await store.aclose()
        else:
            async with Checkpointer(run.url, staging_dir=tmp_path):
                pass

    finishing = asyncio.create_task(finish())
    await until(lambda: run.script.requests("put", "*.manifest.json") or finishing.done())
    assert await is_leased(run.store)
    found = await find_orphans(run.store, older_than=timedelta(days=-1))
    assert found == []
    go.set()
    await finishing
    assert await run.committed() == [20]
    assert not await is_leased(run.store)


async def test_what_a_training_commits_that_went_back_does_not_give_way_to_what_was_there() -> None:
    run = Run()
    async with Checkpointer(run.url) as checkpointer:
        for step in (10, 20, 30, 40):
            await (await checkpointer.submit(Pinned(step)))
    async with Checkpointer(run.url, retention=KeepLast(1)) as checkpointer:
        for step in (20, 25):
            assert isinstance(await (await checkpointer.submit(Pinned(step))), Committed)
            await checkpointer.wait()
        assert await run.committed() == [25, 30, 40]
        await (await checkpointer.submit(Pinned(50)))
    assert await run.committed() == [50]


async def test_an_upload_whose_begin_was_never_answered_is_dropped_with_the_commit() -> None:
    run = Run(FaultScript(On(fault=LostReply(), operation="create_upload")))
    async with Checkpointer(run.url) as checkpointer:
        assert isinstance(await (await checkpointer.submit(Pinned(7))), Committed)
    assert [u.key async for u in run.store.list_uploads()] == []  # type: ignore[attr-defined]


async def test_what_cannot_be_dropped_after_the_commit_keeps_its_intent_for_a_sweep() -> None:
    run = Run(FaultScript(On(fault=Fails(denied), operation="list_uploads")))
    async with Checkpointer(run.url) as checkpointer:
        assert isinstance(await (await checkpointer.submit(Pinned(7))), Committed)
    assert "ckpt-7.sending.json" in await run.keys()


async def test_while_a_listener_holds_the_state_no_newer_checkpoint_shows_there() -> None:
    run, told = Run(), []
    go_on = asyncio.Event()

    class Evaluates(CheckpointListener):
        timeout_secs = None
        holds_state = True

        async def on_committed(self, event: Committed) -> None:
            await go_on.wait()
            state = await read_object(run.store, "checkpoint")
            told.append((event.step, state.splitlines()[0].decode()))

    async with Checkpointer(run.url, listeners=[Evaluates()], overlap=Queue(9)) as checkpointer:
        for step in (1, 2, 3):
            await checkpointer.submit(Pinned(step))
        await until(lambda: run.script.requests("put", "ckpt-2.manifest.json"))
        assert b'"ckpt-1"' in await read_object(run.store, "checkpoint")
        go_on.set()
    assert told == [(step, f'model_checkpoint_path: "ckpt-{step}"') for step in (1, 2, 3)]


@pytest.mark.parametrize("step", [1.5, True, "5", None, -1])
def test_a_step_that_is_no_whole_number_is_refused_at_once(step: object, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        ackpt.BackgroundCheckpointer("memory://steps/run") as checkpointer,
        pytest.raises(ackpt.errors.InvalidOptionError, match="step: expected a whole number"),
    ):
        checkpointer.save(tmp_path / "file", step=step)  # type: ignore[arg-type]


async def test_a_whole_number_of_numpy_is_a_step(tmp_path: Path) -> None:
    run = Run()
    (tmp_path / "file").write_text("x")
    async with Checkpointer(run.url) as checkpointer:
        outcome = await checkpointer.save(tmp_path / "file", step=np.int64(5))  # type: ignore[arg-type]
    assert isinstance(outcome, Committed)
    assert await run.committed() == [5]


async def test_what_the_store_has_lost_of_a_committed_checkpoint_is_put_back_by_the_same_save(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Run()
    for _ in range(2):
        async with Checkpointer(run.url) as checkpointer:
            outcome = await (await checkpointer.submit(Pinned(7)))
        await run.store.delete("ckpt-7.data-00000-of-00001")
    assert isinstance(outcome, Committed)
    assert outcome.already
    assert "ckpt-7.data-00000-of-00001 had been lost; it is put back" in caplog.text
    async with Checkpointer(run.url) as checkpointer:
        await (await checkpointer.submit(Pinned(7)))
    for name, data in content(7).items():
        assert await read_object(run.store, f"ckpt-7.{name}") == data


async def parked(run: Run, folder: Path) -> Path:
    """Leave a save parked; return the folder of its files."""
    down = Fails(lambda request: PermissionDeniedError("no", key=request.key))
    run.script = FaultScript(On(fault=down, operation="put", key="*.manifest.json", times=None))
    with pytest.raises(SaveFailedError):
        async with Checkpointer(run.url, staging_dir=folder) as checkpointer:
            await (await checkpointer.submit(Pinned(3)))
    for key in await run.keys():
        if key.startswith("ckpt-3."):
            await run.store.delete(key)
    run.script = FaultScript()
    return next(folder.glob("*/ckpt-3/files"))


async def test_a_staged_file_that_the_disk_has_damaged_is_never_committed(tmp_path: Path) -> None:
    run = Run()
    index = await parked(run, tmp_path) / "ckpt-3.index"
    index.write_bytes(index.read_bytes().replace(b"3", b"4"))
    with pytest.raises(SaveFailedError, match="the local disk has damaged it"):
        async with Checkpointer(run.url, staging_dir=tmp_path):
            pass
    assert await run.committed() == []


async def test_what_was_staged_and_is_no_longer_whole_is_removed_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run()
    (await parked(run, tmp_path) / "ckpt-3.index").unlink()
    async with Checkpointer(run.url, staging_dir=tmp_path):
        pass
    assert await run.committed() == []
    assert "what lies staged of step 3 is damaged" in caplog.text


async def test_a_save_that_is_cut_short_behind_its_commit_is_committed() -> None:
    stuck = FaultScript(On(fault=Stall(asyncio.Event()), operation="put", key="checkpoint", times=None))
    run = Run(stuck)
    checkpointer = Checkpointer(run.url)
    await checkpointer.start()
    pending = await checkpointer.submit(Pinned(7))
    await until(lambda: stuck.requests("put", "checkpoint"))
    assert not await checkpointer.aclose(timeout=0.0)
    assert isinstance(await pending, Committed)
    assert await run.committed() == [7]
    run.script = FaultScript()
    async with Checkpointer(run.url):
        pass
    assert b'"ckpt-7"' in await read_object(run.store, "checkpoint")


class HangingFrom(Script):
    """Let no request end from the first one of this kind on."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self._operation = operation

    def fault_for(self, request: Request) -> Fault | None:
        return Stall(asyncio.Event()) if self.requests(self._operation) else None


class SlowlyStaged(Pinned):
    """Take a while after the first file, which travels already."""

    def stage(self, folder: Path, prefix: str) -> Iterator[StagedFile]:
        for file in super().stage(folder, prefix):
            yield file
            time.sleep(0.5)


@pytest.mark.parametrize(
    ("snapshot", "operation", "end"),
    [
        (Pinned(1), "create_upload", Parked),
        (Pinned(1), "put_part", Parked),
        (SlowlyStaged(1), "put_part", Failed),
    ],
)
async def test_a_store_that_hangs_does_not_keep_a_preempted_save_from_its_outcome(
    snapshot: Pinned, operation: str, end: type[Outcome], tmp_path: Path
) -> None:
    script = HangingFrom(operation)
    policy = Preemption(grace_secs=4.3, reserve_secs=4.0)
    checkpointer = Checkpointer(Run(script).url, staging_dir=tmp_path, preemption=policy)
    await checkpointer.start()
    outcome = await checkpointer.submit(snapshot)
    await until(lambda: script.requests(operation))
    checkpointer.preempt()
    closing = asyncio.create_task(checkpointer.aclose())
    await asyncio.wait([closing], timeout=policy.grace_secs - 0.1)
    checkpointer.notice.withdraw()  # which would end the process of a test that fails
    assert closing.done()
    assert isinstance(outcome.result(), end)
