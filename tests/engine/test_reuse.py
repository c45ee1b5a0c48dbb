"""What the committed checkpoint before holds already is copied inside the store, and not sent."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ackpt import Checkpointer, KeepLast
from ackpt.checkpoint.manifest import Manifest
from ackpt.engine.reuse import digest_of_file
from ackpt.errors import PermissionDeniedError, StorageError, TransientError, UnsupportedError
from ackpt.events import Committed
from ackpt.options import MiB
from ackpt.testing import FaultScript, On
from ackpt.testing.faults import Fails
from tests.engine.runs import Pinned, Run

FROZEN = os.urandom(MiB)


def files(step: int, frozen: bytes = FROZEN) -> dict[str, bytes]:
    return {
        "data-00000-of-00002": frozen,
        "data-00001-of-00002": bytes([step]) * MiB,
        "index": b"index of %d" % step,
    }


async def save(run: Run, folder: Path, *steps: Pinned, options: str = "") -> list[Committed]:
    outcomes = []
    async with Checkpointer(run.url + options, staging_dir=folder, retention=KeepLast(1)) as checkpointer:
        for each in steps:
            outcome = await (await checkpointer.submit(each))
            assert isinstance(outcome, Committed)
            outcomes.append(outcome)
            await checkpointer.wait()
    return outcomes


async def manifest(run: Run, step: int) -> Manifest:
    key = f"ckpt-{step}.manifest.json"
    return Manifest.from_json(b"".join([block async for block in run.store.get(key)]), key=key)


async def read(run: Run, key: str) -> bytes:
    return b"".join([block async for block in run.store.get(key)])


def sent(run: Run, key: str) -> int:
    return len(run.script.requests("put*", key))


async def test_an_unchanged_file_is_copied_and_not_sent(tmp_path: Path) -> None:
    run = Run()
    first, second = await save(run, tmp_path, Pinned(1, files(1)), Pinned(2, files(2)))
    assert (first.copied, second.copied) == (0, MiB)
    assert sent(run, "ckpt-2.data-00000*") == 0
    assert sent(run, "ckpt-2.data-00001*") > 0
    assert await read(run, "ckpt-2.data-00000-of-00002") == FROZEN
    assert await read(run, "ckpt-2.data-00001-of-00002") == bytes([2]) * MiB


async def test_a_later_process_copies_from_what_an_earlier_one_committed(tmp_path: Path) -> None:
    run = Run()
    await save(run, tmp_path, Pinned(1, files(1)))
    (second,) = await save(run, tmp_path, Pinned(2, files(2)))
    assert second.copied == MiB


async def test_a_changed_file_of_the_same_size_is_sent(tmp_path: Path) -> None:
    run = Run()
    changed = FROZEN[:-1] + bytes([FROZEN[-1] ^ 1])
    _, second = await save(run, tmp_path, Pinned(1, files(1)), Pinned(2, files(2, changed)))
    assert second.copied == 0
    assert await read(run, "ckpt-2.data-00000-of-00002") == changed


async def test_a_changed_file_is_sent_while_its_digest_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run()
    waited: dict[str, bool] = {}

    def digest(path: Path) -> str:
        over = time.monotonic() + 2.0
        while path.name.startswith("ckpt-2.data-00001") and not sent(run, path.name):
            if time.monotonic() > over:
                waited[path.name] = True
                break
            time.sleep(0.005)
        return digest_of_file(path)

    monkeypatch.setattr("ackpt.engine.send.digest_of_file", digest)
    _, second = await save(run, tmp_path, Pinned(1, files(1)), Pinned(2, files(2)))
    assert second.copied == MiB
    assert not waited
    assert all(each.digest for each in (await manifest(run, 2)).objects if each.size >= MiB)


async def test_a_source_that_has_gone_is_sent(tmp_path: Path) -> None:
    run = Run()
    await save(run, tmp_path, Pinned(1, files(1)))
    await run.store.delete("ckpt-1.data-00000-of-00002")
    (second,) = await save(run, tmp_path, Pinned(2, files(2)))
    assert second.copied == 0
    assert await read(run, "ckpt-2.data-00000-of-00002") == FROZEN


@pytest.mark.parametrize(
    "error",
    [
        PermissionDeniedError("no copies here"),
        UnsupportedError("too large for a copy"),
        StorageError("the store refuses a header of the request"),
        TransientError("the store's copies time out"),
    ],
)
async def test_a_copy_that_cannot_be_made_is_sent(tmp_path: Path, error: StorageError) -> None:
    refused = Fails(lambda _: error)
    run = Run(FaultScript(On(fault=refused, operation="copy", times=None)))
    _, second = await save(run, tmp_path, Pinned(1, files(1)), Pinned(2, files(2)))
    assert second.copied == 0
    assert await read(run, "ckpt-2.data-00000-of-00002") == FROZEN


async def test_without_copy_unchanged_everything_is_sent(tmp_path: Path) -> None:
    run = Run()
    both = Pinned(1, files(1)), Pinned(2, files(2))
    _, second = await save(run, tmp_path, *both, options="&copy_unchanged=false")
    assert second.copied == 0
    assert {each.digest for each in (await manifest(run, 2)).objects} == {None}


async def test_the_digest_of_a_copy_is_in_the_next_manifest(tmp_path: Path) -> None:
    run = Run()
    await save(run, tmp_path, Pinned(1, files(1)), Pinned(2, files(2)))
    (third,) = await save(run, tmp_path, Pinned(3, files(3)))
    assert third.copied == MiB


@pytest.mark.parametrize("digest", ["", "zz", 5, "AB" * 32])
async def test_a_manifest_with_a_digest_that_is_none_is_not_trusted(tmp_path: Path, digest: object) -> None:
    import json

    from ackpt.errors import CorruptCheckpointError

    run = Run()
    await save(run, tmp_path, Pinned(1, files(1)))
    found = json.loads((await manifest(run, 1)).to_json())
    found["objects"][0]["sha256"] = digest
    with pytest.raises(CorruptCheckpointError, match="sha256"):
        Manifest.from_json(json.dumps(found).encode(), key="ckpt-1.manifest.json")
