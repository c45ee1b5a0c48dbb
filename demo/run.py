"""A run under observation: start its training processes, look at its store, kill it at a chosen moment."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import ackpt
from ackpt.checkpoint.journal import JournalState
from ackpt.checkpoint.manifest import SUFFIX, split_prefix
from ackpt.checkpoint.staging import StagingFolder, staging_folder
from ackpt.url import StorageURL
from demo import diary

_POLL_SECS = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Name one run: its URL, and the local folder with all that is not in the store."""

    url: str
    folder: Path
    environment: Mapping[str, str]

    @property
    def diary(self) -> Path:
        """Return where the training processes write down what becomes of saves."""
        return self.folder / "diary.jsonl"

    @property
    def staging(self) -> StagingFolder:
        """Return the run's staging folder."""
        return StagingFolder(staging_folder(StorageURL.parse(self.url), self.folder / "staging"))

    def start(self, *, steps: int, save_steps: int, log: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a training process that goes on from the newest checkpoint to step `steps`.

        What it prints goes to the end of `log`, if given.
        """
        command = [
            *(sys.executable, "-m", "demo.train", "--url", self.url),
            *("--model-dir", str(self.folder / "model")),
            *("--staging", str(self.folder / "staging")),
            *("--diary", str(self.diary)),
            *("--steps", str(steps), "--save-steps", str(save_steps)),
        ]
        if log is None:
            return subprocess.Popen(command, env=self.environment)
        with log.open("ab") as output:
            return subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)

    def evaluate(self) -> str:
        """Evaluate the run in a process and a folder of its own; return what it printed."""
        folder = self.folder / "evaluation"
        command = [sys.executable, "-m", "demo.evaluate", "--url", self.url, "--folder", str(folder)]
        return subprocess.run(
            command, env=self.environment, check=True, stdout=subprocess.PIPE, text=True, timeout=300
        ).stdout

    def committed(self) -> list[int]:
        """Return the committed steps, as the store lists them, oldest first."""

        async def read() -> list[int]:
            backend = ackpt.open_backend(self.url)
            try:
                async with aclosing(backend.list()) as objects:
                    keys = [info.key async for info in objects]
            finally:
                await backend.aclose()
            return sorted(split_prefix(key.removesuffix(SUFFIX))[1] for key in keys if key.endswith(SUFFIX))

        return asyncio.run(read())

    def restored(self) -> int | None:
        """Return the step that the last training process went on from, None where from nothing.

        Raises:
            LookupError: it was killed before it had restored anything.
        """
        for line in reversed(diary.read(self.diary)):
            if line["event"] == "Restored":
                step: int | None = line["step"]
                return step
            if line["event"] == "Started":
                break
        raise LookupError("the last training process did not come as far as restoring")

    def starts(self) -> int:
        """Return how many training processes have begun to restore."""
        return sum(line["event"] == "Started" for line in diary.read(self.diary))

    def on_its_way(self) -> JournalState | None:
        """Return a save that lies whole in the staging folder, to be sent; None where there is none."""
        staging = self.staging
        if not staging.folder.is_dir():
            return None
        states = [save.read() for save in staging.saves()]
        return next((state for state in states if state is not None and state.staged), None)


def kill_in_the_middle_of_a_save(
    run: Run, process: subprocess.Popen[bytes], *, commits: int, timeout_secs: float
) -> JournalState | None:
    """Wait for `commits` commits, then SIGKILL `process` as soon as another save is on its way.

    Returns what the kill left in the staging folder, None where it was committed just before.

    Raises:
        RuntimeError: the process ended by itself, or no save was on its way within `timeout_secs`.
    """
    deadline = time.monotonic() + timeout_secs
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"training ended by itself with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"no save was on its way within {timeout_secs:g} s")
        events = [line["event"] for line in diary.read(run.diary)]
        if events.count("Committed") >= commits and run.on_its_way() is not None:
            break
        time.sleep(_POLL_SECS)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = run.on_its_way()
    return left if left is not None and left.step not in run.committed() else None
