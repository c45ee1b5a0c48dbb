"""Secrets are planted in a run, and all that it says, logs, stages and stores is searched for them."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import aclosing, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import ackpt
from ackpt.checkpoint.catalog import read_object
from ackpt.cli.main import main
from tests.security.saver import save
from tests.security.secrets import TOKEN, environment, files_below, leaks, secrets, token_server
from tests.servers.gcs import GCSServer


class Stage:
    """Be a run with secrets: its server, what works on it, and everything that came of it so far."""

    def __init__(self, server: GCSServer, folder: Path, upload: str) -> None:
        self.server = server
        self.folder = folder
        self.staging = folder / "staging"
        self.bucket = server.create_bucket(f"bucket-{uuid.uuid4()}")
        self.url = (
            f"gs://{self.bucket}/run?endpoint={server.url}&part_size=5MiB&upload={upload}"
            "&encryption_key_env=RUN_KEY&attempts=2&retry_timeout=2s"
        )
        self.said: list[tuple[str, bytes]] = []

    def do(self, what: str, work: Callable[[], object]) -> str:
        """Do something, and keep all that it prints and logs; return that."""
        text = StringIO()
        handler = logging.StreamHandler(text)
        handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s %(args)r"))
        handler.addFilter(lambda record: not record.name.startswith("tests."))
        root = logging.getLogger()
        before = root.level
        root.addHandler(handler)
        root.setLevel(logging.NOTSET)
        try:
            with redirect_stdout(text), redirect_stderr(text):
                work()
        finally:
            root.removeHandler(handler)
            root.setLevel(before)
        self.said.append((f"what {what} says", text.getvalue().encode()))
        return text.getvalue()

    def save(self, step: int, secs: float | None = None) -> str:
        """Save a step."""
        return self.do(f"the save of {step}", lambda: save(self.url, self.staging, step, secs))

    def ackpt(self, command: str, *arguments: str) -> str:
        """Run the command line on the run, as talkative as it can be."""
        return self.do(command, lambda: main(["--verbose", command, self.url, *arguments]))

    def resume(self) -> str:
        """Run `ackpt resume`."""
        return self.ackpt("resume", "--staging-dir", str(self.staging))

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
        for name, value in environment(tmp_path, token_url).items():
            monkeypatch.setenv(name, value)
        yield Stage(server, tmp_path, request.param)


def test_no_secret_shows_in_anything_that_a_run_says_or_keeps(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Committed" in stage.save(1)
    fault_a_save(stage.server)
    assert "Failed" in stage.save(2)
    stage.keep_staging()
    stage.server.reset()
    stage.server.require(TOKEN)
    assert "model.ckpt-2 committed" in stage.resume()
    for operation in ("multipart.complete", "resumable.put"):
        stage.server.fault(operation, "slow", seconds=30, count=9)
    assert "Parked" in stage.save(3, 0.5)
    stage.keep_staging()
    stage.said += asyncio.run(stage.stored())
    stage.server.reset()
    stage.server.require("another")
    assert "the credentials are refused" in stage.resume()
    stage.ackpt("verify")
    stage.server.require(TOKEN)
    assert "model.ckpt-3 committed" in stage.resume()
    assert "ok" in stage.ackpt("verify", "--deep")
    stage.ackpt("gc", "--older-than", "0s", "--delete")
    stage.ackpt("ls")
    stage.ackpt("pull", str(stage.folder / "pulled"))
    stage.keep_staging()
    stage.said += asyncio.run(stage.stored())
    monkeypatch.setenv("RUN_KEY", "bm8ga2V5")
    assert "expected the base64 of 32 bytes" in stage.ackpt("verify")
    assert len(stage.said) > 20
    assert leaks(stage.said, secrets(stage.sessions())) == []


def fault_a_save(server: GCSServer) -> None:
    """Let a save fail in the middle of its upload, with words of the store's own that repeat a secret."""
    body = f"<Error><Code>Odd</Code><Details>Bearer {TOKEN}</Details></Error>"
    for operation in ("multipart.put_part", "resumable.put"):
        server.fault(operation, "status", status=400, body=body, skip=1, count=9)
