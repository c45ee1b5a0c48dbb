"""What a run's store or staging folder says is not trusted: nothing leads out of the run."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import ackpt
from ackpt import BackgroundCheckpointer, KeepLast
from ackpt.backends.base import ObjectInfo, UploadInfo
from ackpt.backends.memory import MemoryBackend
from ackpt.checkpoint.intent import declare
from ackpt.checkpoint.journal import Journal
from ackpt.checkpoint.manifest import ManifestObject
from ackpt.checkpoint.sweep import orphans
from ackpt.cli.main import main
from ackpt.errors import AckptError, CorruptCheckpointError
from ackpt.transfer.checksum import crc32c
from ackpt.url import StorageURL
from tests.checkpoint.manifests import manifest
from tests.checkpoint.stores import put

VICTIM = b"somebody else's"
EVIL = b"let me in"

OUTSIDE = [
    "../victim",
    "../../victim",
    "ckpt-2/../../victim",
    "ckpt-2.x/../../victim",
    "{tmp}/victim",
    "ckpt-2//../../victim",
    "ckpt-2\\..\\..\\victim",
    "/etc/hostname",
]


class Place:
    """Be a run in a store that takes any name, and a folder, with files of other people around both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.staging = folder / "staging"
        self.model = folder / "model" / "deep"
        self.url = f"memory://{uuid.uuid4()}/run"
        self.store = MemoryBackend.from_url(StorageURL.parse(self.url))
        for place in (folder, self.staging, self.model.parent):
            place.mkdir(exist_ok=True)
            (place / "victim").write_bytes(VICTIM)
        with BackgroundCheckpointer(self.url, staging_dir=self.staging) as checkpointer:
            checkpointer.save(self._source(), step=1).result()
        for key in self.outside:
            self.put(key, EVIL)
        self._files = self._files_around()

    @property
    def outside(self) -> list[str]:
        """Return the keys that lead outside, and that this store takes all the same."""
        return [key for key in OUTSIDE if not key.startswith(("/", "{"))]

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        asyncio.run(put(self.store, key, data))

    def objects(self) -> dict[str, bytes]:
        """Return all objects of the run."""
        return {name.removeprefix("run/"): each.data for name, each in self.store.store.objects.items()}

    def use(self) -> None:
        """Do everything that reads what lies there: restore, look, sweep, resume, and go on training."""
        staging = ["--staging-dir", str(self.staging)]
        with suppress(AckptError):
            ackpt.restore(self.url, self.model, staging_dir=self.staging)
        for command in (
            ["ls", self.url],
            ["verify", "--deep", self.url],
            ["resume", self.url, *staging],
            ["gc", self.url, "--delete", "--older-than", "0s"],
        ):
            main(command)
        with BackgroundCheckpointer(
            self.url, staging_dir=self.staging, retention=KeepLast(1)
        ) as checkpointer:
            checkpointer.save(self._source(), step=9).result()
            checkpointer.wait(30)

    def check(self) -> None:
        """Make sure that nothing outside of the run, or of the folders for it, has come, gone or changed."""
        assert self._files_around() == self._files
        objects = self.objects()
        assert {key: objects.get(key) for key in self.outside} == dict.fromkeys(self.outside, EVIL)
        assert not [path for path in self.model.rglob("*") if path.is_file() and path.read_bytes() == EVIL]

    def _source(self) -> Path:
        source = self.folder / "source"
        source.mkdir(exist_ok=True)
        (source / "weights").write_bytes(b"weights")
        return source

    def _files_around(self) -> dict[str, bytes]:
        inside = {"source", "deep", *(each.name for each in self.staging.iterdir() if each.is_dir())}
        return {
            str(path): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and not inside & set(path.relative_to(self.folder).parts)
        }


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    logging.disable(logging.WARNING)
    yield place
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("key", OUTSIDE)
def test_a_manifest_or_a_tombstone_that_names_the_outside_reads_and_deletes_nothing_there(
    place: Place, key: str
) -> None:
    named = ManifestObject(key=key.format(tmp=place.folder), size=len(EVIL), crc32c=crc32c(EVIL), version="1")
    evil = replace(manifest(2, name="ckpt"), objects=(named,)).to_json()
    place.put("ckpt-2.manifest.json", evil)
    place.put("ckpt-3.deleted.json", evil.replace(b"ckpt-2", b"ckpt-3").replace(b'"step": 2', b'"step": 3'))
    place.put("ckpt-2.sending.json", b"{}")
    place.use()
    place.check()


@pytest.mark.parametrize("key", OUTSIDE)
def test_a_state_file_that_names_the_outside_reads_nothing_there(place: Place, key: str) -> None:
    for each in [each for each in place.objects() if each.endswith(".manifest.json")]:
        asyncio.run(place.store.delete(each))
    named = key.format(tmp=place.folder)
    place.put("checkpoint", f'model_checkpoint_path: "{named}"\n'.encode())
    for suffix in (".index", ".data-00000-of-00001", ".data/../../victim"):
        place.put(f"{named.lstrip('/')}{suffix}", EVIL)
        place.put(f"victim{suffix}", EVIL)
    with pytest.raises(CorruptCheckpointError):
        ackpt.restore(place.url, place.model, staging_dir=place.staging)
    place.check()


@pytest.mark.parametrize("key", [*OUTSIDE, "ckpt-2/link", "ckpt-2/folder/victim"])
def test_a_journal_that_names_the_outside_or_a_link_sends_nothing_of_it(place: Place, key: str) -> None:
    (staging,) = [each for each in place.staging.iterdir() if each.is_dir()]
    files = staging / "ckpt-2" / "files"
    (files / "ckpt-2").mkdir(parents=True)
    (files / "ckpt-2" / "link").symlink_to(place.folder / "victim")
    (files / "ckpt-2" / "folder").symlink_to(place.folder)
    for path in (staging / "victim", staging / "ckpt-2" / "victim"):
        path.write_bytes(VICTIM)
    journal = Journal(staging / "ckpt-2" / "journal.jsonl")
    named = key.format(tmp=place.folder)
    size = os.stat(named).st_size if named == "/etc/hostname" else len(VICTIM)
    for record in (
        {"record": "begin", "version": 1, "step": 2, "prefix": "ckpt-2", "metrics": {}},
        {"record": "claim", **json.loads(place.objects()[".ackpt/writer.json"])},
        {"record": "file", "key": named, "size": size},
        {"record": "staged"},
    ):
        journal._append(record)
    journal.close()
    place.use()
    place.check()
    assert "ckpt-2.manifest.json" not in place.objects()
    assert not {VICTIM, Path("/etc/hostname").read_bytes()} & set(place.objects().values())


@pytest.mark.parametrize("key", OUTSIDE)
def test_a_sweep_does_not_believe_a_listing_that_leads_outside(key: str) -> None:
    async def find() -> list[str]:
        store = MemoryBackend()
        await declare(store, prefix="ckpt-2", writer="w")
        await put(store, "ckpt-2.data")
        objects = [info async for info in store.list()]
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        lies = [
            key.format(tmp="/tmp"),
            f".ackpt/holds/{key.format(tmp='/tmp')}/reader-1.json",
            ".ackpt/holds/../../reader-1.json",
        ]
        objects += [ObjectInfo(key=lie, size=1, version="1", modified=long_ago) for lie in lies]
        uploads = [UploadInfo(key=key.format(tmp="/tmp"), upload_id="1", created=long_ago)]
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        return [
            each.key
            for each in orphans(objects, uploads, leased=False, before=tomorrow, readers_before=tomorrow)
        ]

    assert asyncio.run(find()) == ["ckpt-2.data", "ckpt-2.sending.json"]


def test_what_is_staged_is_closed_to_everybody_else_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with BackgroundCheckpointer(
            f"file://{tmp_path}/run", staging_dir=tmp_path / "staging"
        ) as checkpointer:
            modes: list[tuple[str, int]] = []
            (staging,) = (tmp_path / "staging").iterdir()
            checkpointer.subscribe(lambda event: modes.extend(_modes(staging)))
            (tmp_path / "weights").write_bytes(b"weights")
            checkpointer.save(tmp_path / "weights", step=1).result()
    finally:
        os.umask(before)
    seen = dict(modes)
    assert seen["."] == 0o700
    assert seen["ckpt-1"] == 0o700
    assert seen["ckpt-1/files"] == 0o700
    assert seen["ckpt-1/journal.jsonl"] == 0o600
    assert seen["lock"] == 0o600


def _modes(folder: Path) -> Iterator[tuple[str, int]]:
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):
            yield str(path.relative_to(folder)), path.stat().st_mode & 0o777
