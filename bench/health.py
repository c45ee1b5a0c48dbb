"""Show that a long run stays healthy: what memory, threads, file descriptors and tasks grow by.

    python bench/health.py [--memory-saves 100000] [--server-saves 2000] [--seed N] [--smoke]

Saves a small checkpoint again and again, keeping the last two: to `memory://`, and to a Google Cloud
Storage server in a process of its own that is asked for a random fault (503, a reset before or after
the effect, a wrong checksum, a damaged or a slow body) before two saves of three; every tenth of
those saves has a file of several parts. After a tenth of the saves the process is weighed, and again
at the end. Fails when anything grew by more than `ALLOWED`, when a save was lost or did not end
committed, or when anything is left in the store beside the two checkpoints kept.
What bounds the saves a second: the small files of the staging folder, which lie in memory where
there is such a filesystem.
Prints a table and, as its last line, one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import random
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
SMALL_BYTES = 1024
LARGE_BYTES = 12 * 2**20
PART_BYTES = 5 * 2**20
KEPT = 2
CLAIM = ".ackpt/writer.json"
FAULTS = ("status", "reset_before", "reset_after", "wrong_checksum", "corrupt", "slow")

Trouble = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What a process has in hand; `kib` is its resident memory."""

    kib: int
    threads: int
    descriptors: int
    tasks: int

    @classmethod
    def now(cls) -> Weight:
        """Weigh this process, in its event loop."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            kib=pages * resource.getpagesize() // 1024,
            threads=threading.active_count(),
            descriptors=len(os.listdir("/proc/self/fd")),
            tasks=len(asyncio.all_tasks()),
        )


ALLOWED = Weight(kib=32 * 1024, threads=8, descriptors=16, tasks=2)
"""Growth from a tenth of the saves on, however many follow.

Memory: what the allocator keeps of bodies in flight (some parts at once). Threads: the pool of
workers fills up to its limit as it is used. Descriptors: idle connections, and files being read.
"""


async def save_often(
    target: str, saves: int, staging: Path, large_every: int, trouble: Trouble
) -> dict[str, object]:
    """Save `saves` times, one after the other; return what came of it and what grew."""
    import ackpt
    from ackpt import events

    source = staging / "source"
    (staging / "saves").mkdir()
    source.mkdir()
    small, large = source / "small", source / "large"
    outcomes: Counter[str] = Counter()
    told = 0
    failures: list[str] = []

    class Counts(ackpt.CheckpointListener):
        async def on_committed(self, event: events.Committed) -> None:
            nonlocal told
            told += 1

        async def on_failed(self, event: events.Failed) -> None:
            failures.append(f"step {event.step}: {type(event.error).__name__}: {event.error}")

    started = time.perf_counter()
    async with ackpt.Checkpointer(
        target,
        staging_dir=staging / "saves",
        retention=ackpt.KeepLast(KEPT),
        failure=ackpt.Tolerate(0),
        listeners=[Counts()],
    ) as checkpointer:
        for step in range(saves):
            if step == saves // 10:
                before = Weight.now()
            small.write_bytes(b"%d" % step * SMALL_BYTES)
            files = [small]
            if large_every and step % large_every == 0:
                large.write_bytes(os.urandom(LARGE_BYTES))
                files.append(large)
            await trouble()
            outcome = await checkpointer.save(files, step=step)
            outcomes[type(outcome).__name__] += 1
        await checkpointer.wait()
        after = Weight.now()
    secs = time.perf_counter() - started
    grown = {name: value - asdict(before)[name] for name, value in asdict(after).items()}
    return {
        "saves": saves,
        "per_sec": saves / secs,
        "outcomes": dict(outcomes),
        "committed_events": told,
        "failures": failures,
        "grown": grown,
        "left": await _left(target),
    }


def complaints(found: dict[str, object], saves: int) -> list[str]:
    """Say what is not as it has to be."""
    wrong = []
    if found["outcomes"] != {"Committed": saves}:
        wrong.append(f"expected {saves} saves committed, got {found['outcomes']}: {found['failures']}")
    if found["committed_events"] != saves:
        wrong.append(f"expected {saves} events of a commit, got {found['committed_events']}")
    grown = found["grown"]
    assert isinstance(grown, dict)
    for name, allowed in asdict(ALLOWED).items():
        if grown[name] > allowed:
            wrong.append(f"{name} grew by {grown[name]}, and {allowed} is allowed")
    expected = {f"ckpt-{step}" for step in range(max(0, saves - KEPT), saves)}
    left = found["left"]
    assert isinstance(left, dict)
    if set(left["checkpoints"]) != expected or left["others"] or left["uploads"]:
        wrong.append(f"expected {sorted(expected)} in the store and nothing else, found {left}")
    return wrong


async def _left(target: str) -> dict[str, list[str]]:
    """Return what the store holds: checkpoints, other objects, open uploads."""
    from ackpt.backends.base import MultipartBackend
    from ackpt.backends.registry import open_backend

    backend = open_backend(target)
    try:
        async with aclosing(backend.list()) as objects:
            keys = [info.key async for info in objects]
        uploads = []
        if isinstance(backend, MultipartBackend):
            async with aclosing(backend.list_uploads()) as found:
                uploads = [upload.key async for upload in found]
    finally:
        await backend.aclose()
    checkpoints = {key.partition("/")[0].partition(".")[0] for key in keys if key.startswith("ckpt-")}
    others = [key for key in keys if not key.startswith("ckpt-") and key != CLAIM]
    return {"checkpoints": sorted(checkpoints), "others": others, "uploads": uploads}


async def in_memory(saves: int, staging: Path, seed: int) -> dict[str, object]:
    """Save to `memory://`, without troubles."""

    async def none() -> None:
        pass

    return await save_often("memory://health/run", saves, staging, 0, none)


async def to_server(saves: int, staging: Path, seed: int) -> dict[str, object]:
    """Save to the server, with random faults; `seed` gives them."""
    chance = random.Random(seed)
    asked: Counter[str] = Counter()
    async with _server(staging / "server") as url, aiohttp.ClientSession(url) as session:

        async def trouble() -> None:
            if chance.random() < 1 / 3:
                return
            action = chance.choice(FAULTS)
            fault = {
                # elsewhere a bit may fall on the framing of a request, which TLS is there to protect
                "operation": "multipart.put_part" if action == "corrupt" else "*",
                "action": action,
                "skip": chance.randrange(8),
                "seconds": 0.05,
                "after_bytes": chance.randrange(SMALL_BYTES),
            }
            async with session.post("/_admin/faults", json=fault) as answer:
                answer.raise_for_status()
            asked[action] += 1

        target = f"gs://bench/run?endpoint={url}&anonymous=true&part_size={PART_BYTES}"
        found = await save_often(target, saves, staging, 10, trouble)
    return {**found, "faults": dict(asked)}


@asynccontextmanager
async def _server(folder: Path) -> AsyncIterator[str]:
    command = [sys.executable, "-m", "tests.servers.gcs", "--bucket", "bench", "--folder", str(folder)]
    server = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert server.stdout is not None
        yield (await server.stdout.readline()).decode().strip()
    finally:
        server.terminate()
        await server.wait()


def main() -> None:
    """Run both, print what grew, and fail where something is not as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--memory-saves", type=int, default=100_000)
    parser.add_argument("--server-saves", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="a few hundred saves")
    options = parser.parse_args()
    if options.smoke:
        options.memory_saves, options.server_saves = 500, 60
    logging.getLogger("ackpt").setLevel(logging.ERROR)  # that a request is tried again is what is asked for
    results: dict[str, dict[str, object]] = {}
    wrong = []
    print(
        f"{'store':8}{'saves':>9}{'a second':>10}" + "".join(f"{'+' + name:>14}" for name in asdict(ALLOWED))
    )
    for name, saves, run in (
        ("memory", options.memory_saves, in_memory),
        ("server", options.server_saves, to_server),
    ):
        where = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.TemporaryDirectory(prefix="ackpt-health-", dir=where) as folder:
            found = results[name] = asyncio.run(run(saves, Path(folder), options.seed))
        grown = found["grown"]
        assert isinstance(grown, dict)
        print(f"{name:8}{saves:9}{found['per_sec']:10.0f}" + "".join(f"{each:14}" for each in grown.values()))
        wrong += [f"{name}: {each}" for each in complaints(found, saves)]
    print(json.dumps({"bench": "health", "allowed": asdict(ALLOWED), "results": results, "wrong": wrong}))
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
