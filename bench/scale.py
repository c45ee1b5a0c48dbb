"""Measure growth: what a long run, a large object and many runs at once cost, ten times as large each.

    python bench/scale.py [--smoke]

- a run of N checkpoints (and N/10 that were never committed), in memory and in a local folder: the
  catalog, the restore of the newest, the start of a saver (which reads every manifest), one decision
  of retention, and the search for orphans;
- an object of N parts: the plan of 1 TiB, and the upload of a sparse file of 256 KiB parts to a
  store that reads and forgets them;
- N runs saved to at the same time, each by a checkpointer with a loop and a staging folder of its own.

"growth" is the time of the largest over that of the one before it, divided by the ratio of their
N: 1 is linear, less is better. Memory is the peak of the resident memory over what it was before.
Prints tables and, as its last line, one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ackpt.backends.base import Backend

ROOT = Path(__file__).resolve().parent.parent
PART_BYTES = 256 * 1024
SAVE_BYTES = 2**20
SAVES = 3

T = TypeVar("T")


async def long_run(target: str, size: int, scratch: Path) -> dict[str, float]:
    """Make a run of `size` checkpoints; return the seconds of what is done with it."""
    from ackpt.backends.registry import open_backend
    from ackpt.checkpoint.catalog import list_entries
    from ackpt.checkpoint.restore import restore_checkpoint
    from ackpt.checkpoint.retention import KeepEvery, KeepLast
    from ackpt.checkpoint.sweep import find_orphans, remove_orphans
    from ackpt.engine.retain import Retainer
    from ackpt.options import TransferOptions
    from ackpt.transfer.context import Transfer

    backend = open_backend(target)
    await _fill(backend, size)
    times: dict[str, float] = {}

    async def timed(what: str, work: Awaitable[T]) -> T:
        started = time.perf_counter()
        result = await work
        times[what] = time.perf_counter() - started
        return result

    entries = await timed("catalog", list_entries(backend, name="model.ckpt"))
    assert len(entries) == size
    transfer = Transfer.start(TransferOptions())
    restored = await timed("restore newest", restore_checkpoint(backend, scratch / "restored", transfer))
    assert restored is not None
    assert restored.name == f"model.ckpt-{size - 1}"
    retainer = Retainer(KeepLast(5) | KeepEvery(steps=1000), name="model.ckpt")
    await timed("start of a saver", retainer.load(backend))

    async def decide() -> list[str]:
        return retainer.kept_with(retainer.manifests[-1])

    await timed("decision of retention", decide())
    now = datetime.now(UTC) + timedelta(days=2)
    orphans = await timed("search for orphans", find_orphans(backend, older_than=timedelta(days=1), now=now))
    assert len(orphans) == size // 10 * 2
    await timed("removal of orphans", remove_orphans(backend, orphans))
    await backend.aclose()
    return times


async def _fill(backend: Backend, size: int) -> None:
    """Write `size` checkpoints as a saver leaves them, and size / 10 intents with an object each."""
    from ackpt.checkpoint.intent import declare
    from ackpt.checkpoint.manifest import Manifest, ManifestObject
    from ackpt.transfer.body import BytesBody
    from ackpt.transfer.fan_out import fan_out

    async def commit(step: int) -> None:
        prefix = f"model.ckpt-{step}"
        infos = [
            await backend.put(f"{prefix}.{name}", BytesBody(b"%d" % step))
            for name in ("data-00000-of-00001", "index")
        ]
        objects = tuple(
            ManifestObject(key=i.key, size=i.size, crc32c=i.crc32c or 0, version=i.version) for i in infos
        )
        manifest = Manifest(
            step=step,
            prefix=prefix,
            created=datetime.now(UTC),
            run="scale",
            attempt=1,
            writer="scale",
            objects=objects,
        )
        await backend.put(manifest.key, BytesBody(manifest.to_json()))

    async def begin(step: int) -> None:
        prefix = f"model.ckpt-{step}"
        await declare(backend, prefix=prefix, writer="dead")
        await backend.put(f"{prefix}.data-00000-of-00001", BytesBody(b"torn"))

    begun = range(size, size + size // 10)
    await fan_out([partial(commit, step) for step in range(size)], limit=64)
    await fan_out([partial(begin, step) for step in begun], limit=64)


async def many_parts(parts: int, scratch: Path) -> dict[str, float]:
    """Plan an object of 1 TiB in so many parts, and send a sparse file in so many."""
    from ackpt.checkpoint.staged import StagedFile
    from ackpt.options import TransferOptions
    from ackpt.transfer.context import Transfer
    from ackpt.transfer.plan import plan_parts
    from ackpt.transfer.upload import upload_object
    from bench.sink import SinkBackend

    started = time.perf_counter()
    plan = plan_parts(2**40, -(-(2**40) // parts))
    planned = time.perf_counter() - started
    assert len(plan) == parts
    file = scratch / "sparse"
    with file.open("wb") as opened:
        opened.truncate(parts * PART_BYTES)
    sink = SinkBackend()
    transfer = Transfer.start(TransferOptions(part_bytes=PART_BYTES))
    idle = _peak_kib()
    started = time.perf_counter()
    staged = StagedFile(key="sparse", path=file, size=parts * PART_BYTES)
    await upload_object(sink, staged, transfer)
    sent = time.perf_counter() - started
    assert (sink.parts, sink.bytes_read) == (parts, parts * PART_BYTES)
    return {"plan of 1 TiB": planned, "upload": sent, "MiB": (_peak_kib() - idle) / 1024}


async def many_runs(runs: int, scratch: Path) -> dict[str, float]:
    """Save to so many runs at once, several times; return the seconds until all are committed."""
    import ackpt
    from ackpt import events

    data = scratch / "weights"
    data.write_bytes(os.urandom(SAVE_BYTES))
    with ExitStack() as stack:
        idle, threads = _peak_kib(), threading.active_count()
        started = time.perf_counter()
        savers = [
            stack.enter_context(
                ackpt.BackgroundCheckpointer(
                    f"memory://scale/{number}",
                    staging_dir=scratch / str(number),
                    retention=ackpt.KeepLast(1),
                )
            )
            for number in range(runs)
        ]
        opened = time.perf_counter()
        for step in range(SAVES):
            pending = [saver.save([data], step=step) for saver in savers]
            outcomes = [each.result(600) for each in pending]
            assert all(isinstance(outcome, events.Committed) for outcome in outcomes), outcomes
        saved = time.perf_counter()
        return {
            "start": opened - started,
            "saves": saved - opened,
            "MiB": (_peak_kib() - idle) / 1024,
            "threads": float(threading.active_count() - threads),
        }


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(what: str, size: int) -> dict[str, float]:
    """Measure one of the three, in this process."""
    logging.getLogger("ackpt").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="ackpt-scale-", dir=_fast_folder()) as folder:
        scratch = Path(folder)
        if what == "runs":
            return asyncio.run(many_runs(size, scratch))
        if what == "parts":
            return asyncio.run(many_parts(size, scratch))
        target = "memory://scale/run" if what == "memory" else f"file://{scratch}/run"
        return asyncio.run(long_run(target, size, scratch))


def _fast_folder() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def main() -> None:
    """Measure each at two sizes, in processes of their own, and print what grew and how."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a tenth and less of everything")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    sizes = {"memory": (1000, 10_000), "file": (1000, 10_000), "parts": (1000, 10_000), "runs": (8, 64)}
    if options.smoke:
        sizes = {"memory": (20, 200), "parts": (10, 100), "runs": (2, 8)}
    results: dict[str, dict[str, dict[str, float]]] = {}
    for what, (less, more) in sizes.items():
        few, many = _run_one(what, less), _run_one(what, more)
        results[what] = {str(less): few, str(more): many}
        print(f"\n{what:24}{less:>12}{more:>12}{'growth':>10}{'each':>14}")
        for name, value in many.items():
            growth = value / few[name] * less / more if few[name] else float("nan")
            unit, each = (
                ("s", f"{value / more * 1e6:11.1f} us") if name not in ("MiB", "threads") else ("", "")
            )
            label = f"{name}, {unit}" if unit else name
            print(f"{label:24}{few[name]:12.3f}{value:12.3f}{growth:10.2f}{each:>14}")
    print(json.dumps({"bench": "scale", "results": results}))


def _run_one(what: str, size: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", what, str(size)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
