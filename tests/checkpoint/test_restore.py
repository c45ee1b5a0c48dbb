"""Restore: the newest whole checkpoint or a loud error, nothing outside the folder, nothing fetched twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ackpt.backends.base import Backend
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.hold import FOLDER as HOLDS
from ackpt.checkpoint.manifest import Manifest, ManifestObject
from ackpt.checkpoint.restore import restore_checkpoint
from ackpt.checkpoint.state_file import StateFile
from ackpt.errors import (
    CorruptCheckpointError,
    LocalFileError,
    NotFoundError,
    PermissionDeniedError,
)
from ackpt.options import TransferOptions
from ackpt.testing import CorruptedGet, Fails, FaultScript, On, TruncatedGet, Unavailable, inject
from ackpt.transfer.checksum import crc32c
from ackpt.transfer.context import Transfer
from tests.checkpoint.manifests import manifest
from tests.checkpoint.stores import keys, put


def content(step: int) -> dict[str, bytes]:
    return {
        "data-00000-of-00001": b"%d" % step * 100_000,
        "index": b"index of %d" % step,
        "meta": b"",
    }


async def commit(
    backend: Backend, step: int, files: Mapping[str, bytes] | None = None, mark: str = "."
) -> Manifest:
    """Put a checkpoint and its manifest, whole."""
    files = content(step) if files is None else files
    prefix = f"model.ckpt-{step}"
    for name, data in files.items():
        await put(backend, f"{prefix}{mark}{name}", data)
    made = replace(
        manifest(step),
        objects=tuple(
            ManifestObject(key=f"{prefix}{mark}{n}", size=len(d), crc32c=crc32c(d), version="1")
            for n, d in files.items()
        ),
    )
    await put(backend, made.key, made.to_json())
    return made


async def fetch(backend: Backend, folder: Path, *, step: int | None = None) -> Path | None:
    options = TransferOptions(attempts=2, part_bytes=64 * 1024)
    return await restore_checkpoint(backend, folder, Transfer.start(options), step=step)


def on_disk(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def as_restored(step: int) -> dict[str, bytes]:
    prefix = f"model.ckpt-{step}"
    return {f"{prefix}.{name}": data for name, data in content(step).items()} | {
        "checkpoint": StateFile(prefix, (prefix,)).to_text()
    }


async def test_the_newest_is_fetched_whole_and_the_folder_points_at_it(tmp_path: Path) -> None:
    backend = MemoryBackend()
    for step in (9, 100, 20):
        await commit(backend, step)
    assert await fetch(backend, tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "model.ckpt-100"
    assert on_disk(tmp_path / "new" / "folder") == as_restored(100)


async def test_the_step_that_is_asked_for_is_fetched_and_no_other(tmp_path: Path) -> None:
    backend = MemoryBackend()
    for step in (1, 2, 3):
        await commit(backend, step)
    assert await fetch(backend, tmp_path, step=2) == tmp_path / "model.ckpt-2"
    assert on_disk(tmp_path) == as_restored(2)
    with pytest.raises(NotFoundError, match=r"step 7 is not committed.*1, 2, 3"):
        await fetch(backend, tmp_path, step=7)
    await backend.delete("model.ckpt-2.index")
    with pytest.raises(CorruptCheckpointError, match="the store has nothing"):
        await fetch(backend, tmp_path / "other", step=2)


async def test_a_run_without_a_checkpoint_is_none_and_the_folder_is_left_as_it_is(tmp_path: Path) -> None:
    backend = MemoryBackend()
    assert await fetch(backend, tmp_path / "new") is None
    await put(backend, "graph.pbtxt")
    await put(backend, "model.ckpt-5.index")
    await put(backend, "model.ckpt-5.sending.json")
    assert await fetch(backend, tmp_path / "new") is None
    assert not (tmp_path / "new").exists()


async def bit_flipped(backend: MemoryBackend) -> None:
    data = bytearray(content(2)["data-00000-of-00001"])
    data[70_000] ^= 4
    await put(backend, "model.ckpt-2.data-00000-of-00001", bytes(data))


async def shrunk(backend: MemoryBackend) -> None:
    await put(backend, "model.ckpt-2.data-00000-of-00001", content(2)["data-00000-of-00001"][:-1])


async def emptied(backend: MemoryBackend) -> None:
    await put(backend, "model.ckpt-2.index", b"")


async def no_longer_empty(backend: MemoryBackend) -> None:
    await put(backend, "model.ckpt-2.meta", b"graph")


async def object_missing(backend: MemoryBackend) -> None:
    await backend.delete("model.ckpt-2.index")


async def manifest_garbage(backend: MemoryBackend) -> None:
    await put(backend, "model.ckpt-2.manifest.json", b"\x00garbage")


async def manifest_empty(backend: MemoryBackend) -> None:
    await put(backend, "model.ckpt-2.manifest.json", b"")


async def manifest_nested(backend: MemoryBackend) -> None:
    await put(backend, "model.ckpt-2.manifest.json", b"[" * 100_000)


async def manifest_of_another_step(backend: MemoryBackend) -> None:
    await put(backend, "model.ckpt-2.manifest.json", manifest(1).to_json())


async def manifest_that_names_the_outside(backend: MemoryBackend) -> None:
    document = json.loads(manifest(2).to_json())
    document["objects"][0]["key"] = "model.ckpt-2/../../outside"
    await put(backend, "model.ckpt-2/../../outside", b"abc")
    await put(backend, "model.ckpt-2.manifest.json", json.dumps(document).encode())


DAMAGES = [
    bit_flipped,
    shrunk,
    emptied,
    no_longer_empty,
    object_missing,
    manifest_garbage,
    manifest_empty,
    manifest_nested,
    manifest_of_another_step,
    manifest_that_names_the_outside,
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_newest_gives_way_to_the_next_older_one_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    backend = MemoryBackend()
    for step in (1, 2):
        await commit(backend, step)
    await damage(backend)  # type: ignore[operator]
    folder = tmp_path / "a" / "b"
    assert await fetch(backend, folder) == folder / "model.ckpt-1"
    restored = on_disk(folder)
    assert {name: restored[name] for name in as_restored(1)} == as_restored(1)
    # of the damaged one only whole files may lie there, under their own names
    assert restored.items() - as_restored(1).items() <= as_restored(2).items()
    assert on_disk(tmp_path).keys() == {f"a/b/{name}" for name in restored}
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith("model.ckpt-2 is damaged and is passed over for an older one")


@pytest.mark.parametrize("damage", DAMAGES)
async def test_when_all_are_damaged_it_is_an_error_and_never_none(tmp_path: Path, damage: object) -> None:
    backend = MemoryBackend()
    await commit(backend, 2)
    await damage(backend)  # type: ignore[operator]
    with pytest.raises(
        CorruptCheckpointError, match=r"none of the 1 committed.*model.ckpt-2.*start from nothing"
    ):
        await fetch(backend, tmp_path)
    assert not (tmp_path / "checkpoint").exists()


async def test_of_an_object_that_has_grown_the_bytes_that_were_promised_are_restored(tmp_path: Path) -> None:
    backend = MemoryBackend()
    await commit(backend, 2)
    await put(backend, "model.ckpt-2.index", content(2)["index"] + b"more")
    assert await fetch(backend, tmp_path) == tmp_path / "model.ckpt-2"
    assert on_disk(tmp_path) == as_restored(2)


async def test_bytes_damaged_on_the_way_are_fetched_again(tmp_path: Path) -> None:
    inner = MemoryBackend()
    await commit(inner, 2)
    script = FaultScript(
        On(fault=CorruptedGet(at=7), operation="get", key="*.data*"),
        On(fault=TruncatedGet(after_bytes=3), operation="get", key="*.index"),
        On(fault=Unavailable(), operation="list"),
    )
    assert await fetch(inject(inner, script), tmp_path) == tmp_path / "model.ckpt-2"
    assert on_disk(tmp_path) == as_restored(2)
    assert not script.unused


async def test_a_store_that_cannot_be_read_is_an_error_and_no_reason_for_an_older_one(tmp_path: Path) -> None:
    inner = MemoryBackend()
    for step in (1, 2):
        await commit(inner, step)
    denied = Fails(lambda r: PermissionDeniedError(f"no {r.operation} of {r.key}"))
    for operation, key in [
        ("list", "*"),
        ("get", "model.ckpt-2.manifest.json"),
        ("get", "model.ckpt-2.index"),
    ]:
        script = FaultScript(On(fault=denied, operation=operation, key=key, times=None))
        with pytest.raises(PermissionDeniedError):
            await fetch(inject(inner, script), tmp_path)
        assert not (tmp_path / "checkpoint").exists()


async def test_a_restore_that_was_cut_short_goes_on_file_by_file(tmp_path: Path) -> None:
    inner = MemoryBackend()
    await commit(inner, 2)
    denied = Fails(lambda r: PermissionDeniedError("no"))
    script = FaultScript(On(fault=denied, operation="get", key="*.index"))
    with pytest.raises(PermissionDeniedError):
        await fetch(inject(inner, script), tmp_path)
    data = tmp_path / "model.ckpt-2.data-00000-of-00001"
    data.write_bytes(content(2)["data-00000-of-00001"])
    again = FaultScript()
    assert await fetch(inject(inner, again), tmp_path) == tmp_path / "model.ckpt-2"
    assert again.requests("get", "*.data*") == []
    assert len(again.requests("get", "*.index")) == 1
    assert on_disk(tmp_path) == as_restored(2)


@pytest.mark.parametrize("wrong", [b"", b"x" * 100_000, b"2" * 99_999 + b"3"])
async def test_a_local_file_with_other_bytes_is_replaced(tmp_path: Path, wrong: bytes) -> None:
    backend = MemoryBackend()
    await commit(backend, 2)
    (tmp_path / "model.ckpt-2.data-00000-of-00001").write_bytes(wrong)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-99"\n')
    await fetch(backend, tmp_path)
    assert on_disk(tmp_path) == as_restored(2)


async def test_files_of_any_framework_come_back_in_their_folders_without_a_state_file(tmp_path: Path) -> None:
    backend = MemoryBackend()
    await commit(backend, 3, {"weights.bin": b"w" * 10, "deep/er/opt.bin": b"", "naïve 雪": b"1"}, mark="/")
    assert await fetch(backend, tmp_path) == tmp_path / "model.ckpt-3"
    assert on_disk(tmp_path) == {
        "model.ckpt-3/weights.bin": b"w" * 10,
        "model.ckpt-3/deep/er/opt.bin": b"",
        "model.ckpt-3/naïve 雪": b"1",
    }


async def test_a_folder_that_is_of_no_use_is_a_typed_error_that_names_it(tmp_path: Path) -> None:
    backend = MemoryBackend()
    await commit(backend, 2)
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalFileError, match="file"):
        await fetch(backend, tmp_path / "file")
    (tmp_path / "folder" / "checkpoint" / "in the way").mkdir(parents=True)
    with pytest.raises(LocalFileError, match="checkpoint"):
        await fetch(backend, tmp_path / "folder")


async def tensorflow_run(backend: Backend, *steps: int, latest: str | None = None) -> None:
    """Put what TensorFlow itself leaves: files and a state file, and no manifest."""
    for step in steps:
        for name, data in content(step).items():
            await put(backend, f"model.ckpt-{step}.{name}", data)
    paths = tuple(f"model.ckpt-{step}" for step in steps)
    await put(backend, "checkpoint", StateFile(latest or paths[-1], paths).to_text())


@pytest.mark.parametrize("latest", [None, "/absolute/path/model.ckpt-5", "gs://bucket/run/model.ckpt-5"])
async def test_a_run_that_tensorflow_wrote_is_fetched_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, latest: str | None
) -> None:
    backend = MemoryBackend()
    await tensorflow_run(backend, 4, 5, latest=latest)
    assert await fetch(backend, tmp_path) == tmp_path / "model.ckpt-5"
    assert on_disk(tmp_path) == as_restored(5)
    assert "no manifest vouches for it" in caplog.text


async def test_a_state_file_that_names_what_is_gone_falls_back_to_what_else_it_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = MemoryBackend()
    await tensorflow_run(backend, 3, 4, 5)
    await backend.delete("model.ckpt-5.index")
    await backend.delete("model.ckpt-4.data-00000-of-00001")
    assert await fetch(backend, tmp_path) == tmp_path / "model.ckpt-3"
    assert on_disk(tmp_path) == as_restored(3)
    assert "model.ckpt-5" in caplog.text
    assert "model.ckpt-4" in caplog.text


@pytest.mark.parametrize(
    "state",
    [
        b'model_checkpoint_path: "model.ckpt-7"\n',
        b'model_checkpoint_path: "../.."\n',
        b'model_checkpoint_path: "a/.."\n',
        b'model_checkpoint_path: ".."\n',
        b'model_checkpoint_path: "run/"\n',
        b'model_checkpoint_path: "a\\\\b"\n',
        b"garbage",
        b"",
    ],
)
async def test_a_state_file_of_no_use_is_an_error_and_never_none(tmp_path: Path, state: bytes) -> None:
    backend = MemoryBackend()
    await put(backend, "checkpoint", state)
    await put(backend, ".index", b"")
    await put(backend, "...index", b"")
    await put(backend, "a\\b.index", b"")
    with pytest.raises(CorruptCheckpointError, match=r"state file.*start from nothing"):
        await fetch(backend, tmp_path / "a" / "b")
    assert on_disk(tmp_path) == {}


async def test_objects_that_name_the_outside_are_not_adopted(tmp_path: Path) -> None:
    backend = MemoryBackend()
    await tensorflow_run(backend, 5)
    await put(backend, "model.ckpt-5./../../outside", b"x")
    with pytest.raises(CorruptCheckpointError, match="not a plain path"):
        await fetch(backend, tmp_path / "a" / "b")
    assert "outside" not in on_disk(tmp_path)


async def test_manifests_count_where_there_are_any_whatever_the_state_file_says(tmp_path: Path) -> None:
    backend = MemoryBackend()
    await tensorflow_run(backend, 9)
    await commit(backend, 2)
    assert await fetch(backend, tmp_path) == tmp_path / "model.ckpt-2"


async def test_restoring_changes_nothing_in_the_store(tmp_path: Path) -> None:
    backend = MemoryBackend()
    await commit(backend, 2)
    before = await keys(backend)
    script = FaultScript()
    await fetch(inject(backend, script), tmp_path)
    assert await keys(backend) == before
    writes = [each for each in script.log if each.operation not in ("list", "get", "head")]
    assert all(each.key.startswith(HOLDS) for each in writes)


async def test_a_folder_that_is_moved_back_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = MemoryBackend()
    await commit(backend, 2)
    (tmp_path / "checkpoint").write_bytes(StateFile("model.ckpt-9", ("model.ckpt-9",)).to_text())
    assert await fetch(backend, tmp_path) == tmp_path / "model.ckpt-2"
    assert "was at step 9, and its state file now points to the restored model.ckpt-2" in caplog.text
    caplog.clear()
    assert await fetch(backend, tmp_path) == tmp_path / "model.ckpt-2"
    assert not caplog.records


@pytest.mark.parametrize("size", [10**13, 2**70])
async def test_a_manifest_of_an_absurd_size_is_passed_over_before_room_is_made(
    tmp_path: Path, size: int
) -> None:
    backend = MemoryBackend()
    await commit(backend, 1)
    made = await commit(backend, 2)
    objects = (replace(made.objects[0], size=size), *made.objects[1:])
    await put(backend, made.key, replace(made, objects=objects).to_json())
    assert await fetch(backend, tmp_path) == tmp_path / "model.ckpt-1"
