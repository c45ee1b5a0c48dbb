"""Secrets are planted in a run, and all that it says, logs, stages and stores is searched for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

import ackpt
from ackpt.checkpoint.catalog import read_object
from tests.security.secrets import TOKEN, environment, files_below, leaks, secrets, token_server
from tests.servers.gcs import GCSServer

_PROCESS_SECS = 100.0


class Stage:
    """Be a run with secrets: its server, its processes, and everything that came of it so far."""

    def __init__(self, server: GCSServer, folder: Path, token_url: str, upload: str) -> None:
        self.server = server
        self.folder = folder
        self.staging = folder / "staging"
        self.bucket = server.create_bucket(f"bucket-{uuid.uuid4()}")
        self.url = (
            f"gs://{self.bucket}/run?endpoint={server.url}&part_size=5MiB&upload={upload}"
            "&encryption_key_env=RUN_KEY&attempts=2&retry_timeout=2s"
        )
        self.staged = ("--staging-dir", str(self.staging))
        self.said: list[tuple[str, bytes]] = []
        self._environment = {**os.environ, **environment(folder, token_url)}

    def run(self, *command: str, **variables: str) -> str:
        """Run a process with all the secrets, and keep what it says."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env={**self._environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PROCESS_SECS,
        )
        self.said.append((f"what {' '.join(command[:3])} says", done.stdout))
        return done.stdout.decode()

    def save(self, step: int, secs: float | None = None, **variables: str) -> str:
        """Run a saver."""
        rest = [] if secs is None else [str(secs)]
        return self.run("tests.security.saver", self.url, str(self.staging), str(step), *rest, **variables)

    def ackpt(self, command: str, *arguments: str, **variables: str) -> str:
        """Run the command line, as talkative as it can be."""
        return self.run("ackpt", "--verbose", command, *arguments, **variables)

    async def stored(self) -> list[tuple[str, bytes]]:
        """Return all objects."""
        backend = ackpt.open_backend(self.url)
        try:
            async with aclosing(backend.list()) as objects:
                keys = [info.key async for info in objects]
            return [(key, key.encode() + await read_object(backend, key)) for key in keys]
        finally:
            await backend.aclose()

    def sessions(self) -> list[str]:
        """Return the secret part of the URIs of all resumable sessions there were."""
        folder = self.folder / "server" / "sessions"
        return [json.loads(path.read_text())["id"] for path in folder.iterdir()] if folder.is_dir() else []

    def keep_staging(self) -> None:
        """Take note of what is staged now."""
        self.said += files_below(self.staging)


@pytest.fixture(params=["multipart", "resumable"])
def stage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with GCSServer(tmp_path / "server") as server, token_server() as token_url:
        server.require(TOKEN)
        stage = Stage(server, tmp_path, token_url, request.param)
        for name, value in stage._environment.items():
            monkeypatch.setenv(name, value)
        yield stage


async def test_no_secret_shows_in_anything_that_a_run_says_or_keeps(stage: Stage) -> None:
    assert "Committed" in stage.save(1)
    fault_a_save(stage.server)
    assert "Failed" in stage.save(2)
    stage.keep_staging()
    stage.server.reset()
    stage.server.require(TOKEN)
    assert "model.ckpt-2 committed" in stage.ackpt("resume", stage.url, *stage.staged)
    for operation in ("multipart.complete", "resumable.put"):
        stage.server.fault(operation, "slow", seconds=30, count=9)
    assert "Parked" in stage.save(3, 1.5)
    stage.keep_staging()
    stage.said += await stage.stored()
    stage.server.reset()
    stage.server.require("another")
    stage.ackpt("resume", stage.url, *stage.staged)
    stage.ackpt("verify", stage.url)
    stage.server.require(TOKEN)
    assert "model.ckpt-3 committed" in stage.ackpt("resume", stage.url, *stage.staged)
    for command in (["verify", "--deep"], ["gc", "--older-than", "0s", "--delete"], ["ls"]):
        stage.ackpt(command[0], stage.url, *command[1:])
    stage.ackpt("pull", stage.url, str(stage.folder / "pulled"))
    stage.ackpt("verify", stage.url, RUN_KEY="bm8ga2V5")
    stage.keep_staging()
    stage.said += await stage.stored()
    assert len(stage.said) > 15
    assert leaks(stage.said, secrets(stage.sessions())) == []


def fault_a_save(server: GCSServer) -> None:
    """Let a save fail in the middle of its upload, with words of the store's own that repeat a secret."""
    body = f"<Error><Code>Odd</Code><Details>Bearer {TOKEN}</Details></Error>"
    for operation in ("multipart.put_part", "resumable.put"):
        server.fault(operation, "status", status=400, body=body, skip=1, count=9)
