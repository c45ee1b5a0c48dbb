"""Kill a training-like process at random moments, for real: `python -m tests.crash.kill --times 100`.

It saves to a Google Cloud Storage server in a process of its own. After each kill a reader has to
see the newest committed checkpoint, byte for byte, and the next process has to go on from it, or
from a newer one that the killed one had staged. In the end a sweep has to leave nothing behind.
Exits with 1 at the first promise that is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ackpt
from ackpt.checkpoint.catalog import read_object
from ackpt.checkpoint.sweep import find_orphans, remove_orphans
from ackpt.errors import NotFoundError
from tests.crash.promises import BrokenPromise, Promises, check_staging
from tests.crash.trainer import OPTIONS, PART_BYTES, Diary, content

_ENDLESS = 10**9
_LIFE = 2.5
"""How long a process lives at most, from the moment at which it touches the run, in times of what one needs
to save a step: on a busy machine it would otherwise die before it had done anything."""
_WAIT_SECS = 60.0
_BYTES_PER_SEC = 60e6


class Killing:
    """Be one run, on a server at `address`, whose processes are killed; everything local is in `folder`."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._folder = folder
        self.url = f"gs://bucket/run?endpoint={address}&{OPTIONS}"
        self._diary = Diary(folder / "diary.jsonl")
        self._objects: dict[str, bytes] = {}
        self._promises = Promises(lambda: self._objects, content)
        self._parts: Counter[str] = Counter()
        self._lives: Counter[str] = Counter()

    def live_and_die(self, secs: float) -> None:
        """Run a process, and kill it `secs` after it has begun to work."""
        process = self._start(_ENDLESS)
        try:
            process.wait(secs)
        except subprocess.TimeoutExpired:
            return
        finally:
            process.kill()
            said, _ = process.communicate()
        raise BrokenPromise(f"the process ended by itself, with {process.returncode}: {said}")

    def live(self) -> float:
        """Run a process to its end: one step more than there is; return how many seconds it worked."""
        process = self._start(self._diary.highest("Staged") + 1)
        begun = time.monotonic()
        said, _ = process.communicate(timeout=_WAIT_SECS)
        if process.returncode:
            raise BrokenPromise(f"the process ended with {process.returncode}: {said}")
        return time.monotonic() - begun

    @property
    def committed(self) -> int:
        """Return the newest step that a process was told to be committed."""
        return self._diary.highest("Committed")

    def check(self) -> str:
        """Make sure that what was promised holds, and say what there is.

        Raises:
            BrokenPromise: it does not.
        """
        self._fetch()
        self._promises.check_readers()
        newest, told = self._promises.newest, self.committed
        if newest < told:
            raise BrokenPromise(f"step {told} was committed, and the newest is {newest}")
        self._count_parts()
        staged = self._diary.highest("Staged")
        return f"step {newest} committed" + (f", {staged} staged" if staged > newest else "")

    def _count_parts(self) -> None:
        """Make sure that of what was staged at most one part for each death is sent again."""
        sent = Counter(each["name"] for each in self._ask("GET", "log") if _is_part(each))
        self._ask("DELETE", "log")
        for name, count in sent.items():
            key = name.removeprefix("run/").partition(".ackpt-upload-")[0]
            self._parts[key] += count
            self._lives[key] += 1
        for key in list(self._parts):
            step, _, name = key.removeprefix("model.ckpt-").partition(".")
            if int(step) > self._diary.highest("Staged"):
                del self._parts[key], self._lives[key]  # its save was not promised yet, and begins anew
                continue
            parts = -(-len(content(int(step))[name]) // PART_BYTES)
            if self._parts[key] > parts + self._lives[key]:
                raise BrokenPromise(
                    f"{key} has {parts} parts; {self._parts[key]} were sent in {self._lives[key]} lives"
                )

    def check_end(self) -> None:
        """Make sure that a sweep leaves nothing behind."""
        for folder in (self._folder / "staging").iterdir():
            check_staging(folder)
        asyncio.run(self._sweep())
        self._fetch()
        self._promises.check_readers()
        self._promises.check_state()
        self._promises.check_swept(len(self._ask("GET", "uploads")["multipart"]))

    def _start(self, goal: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.crash.trainer", self.url, str(self._folder), str(goal)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        if process.stdout.readline() != "begun\n":
            process.kill()
            raise BrokenPromise(f"the process did not begin: {process.communicate()[0]}")
        return process

    def _fetch(self) -> None:
        """Read all objects, as one who comes by now; again if one goes away meanwhile."""
        self._ask("PUT", "rate", None)
        for _ in range(5):
            try:
                self._objects = asyncio.run(self._read())
                break
            except NotFoundError:
                continue
        self._ask("PUT", "rate", _BYTES_PER_SEC)

    async def _read(self) -> dict[str, bytes]:
        backend = ackpt.open_backend(self.url)
        try:
            async with aclosing(backend.list()) as objects:
                keys = [info.key async for info in objects]
            return {key: await read_object(backend, key) for key in keys}
        finally:
            await backend.aclose()

    async def _sweep(self) -> None:
        backend = ackpt.open_backend(self.url)
        try:
            tomorrow = datetime.now(UTC) + timedelta(days=1)
            found = await find_orphans(backend, older_than=timedelta(hours=1), now=tomorrow)
            await remove_orphans(backend, found)
        finally:
            await backend.aclose()

    def _ask(self, method: str, what: str, given: object = None) -> Any:
        data = json.dumps(given).encode() if method == "PUT" else None
        request = urllib.request.Request(f"{self._address}/_admin/{what}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=_WAIT_SECS) as answer:
            return json.load(answer)


def kill_many(times: int, seed: int, folder: Path) -> None:
    """Let one process live, kill `times`, one after another, and then let one live.

    Raises:
        BrokenPromise: the first one that was broken, with the number of the kill; or none of those
            that were killed had committed anything, which would show nothing.
    """
    chance = random.Random(seed)
    with _server(folder / "gcs") as address:
        killing = Killing(address, folder)
        longest = _LIFE * killing.live()
        for number in range(1, times + 1):
            secs = chance.uniform(0.0, longest)
            try:
                killing.live_and_die(secs)
                said = killing.check()
            except BrokenPromise as broken:
                raise BrokenPromise(f"kill {number} of seed {seed}, after {secs:.3f} s: {broken}") from broken
            print(f"{number:3}  killed after {secs:.3f} s: {said}", flush=True)
        if killing.committed < 2:
            raise BrokenPromise(f"nothing was committed in {times} lives of up to {longest:.3f} s")
        killing.live()
        killing.check()
        killing.check_end()


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.servers.gcs", "--bucket", "bucket", "--folder", str(folder)]
    with folder.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=_WAIT_SECS)


def _is_part(entry: dict[str, Any]) -> bool:
    return bool(entry["operation"] == "multipart.put_part")


def main() -> int:
    """Read the command line, kill, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.kill", description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="ackpt-kill-"))
    started = time.monotonic()
    try:
        kill_many(options.times, seed, folder)
    except BrokenPromise as broken:
        print(f"BROKEN: {broken}\nsee {folder}")
        return 1
    shutil.rmtree(folder)
    print(f"{options.times} kills in {time.monotonic() - started:.0f} s, all promises kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
