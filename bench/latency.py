"""Measure how much of a long-distance link is used: what each connection may carry, times their number.

    python bench/latency.py [--mib 1024] [--connections 4 8] [--rounds 3] [--smoke]
    python bench/latency.py --only throttled

One object is uploaded in parts, and fetched in ranges into a file, verified both times, through a
link that gives every connection 20 MB/s and a round trip of 30 ms, to a Google Cloud Storage server
in a process of its own. "share" is the throughput over (connections x 20 MB/s).
What bounds it: each part begins with the round trip of its request, and ends with that of its answer;
the parts of the last round, which need not fill all connections; an upload's beginning and end.
Then the ways of choosing the number of connections, side by side: fixed, and adaptive. On a link that
has room for 24 connections ("wide"), which a run begins with 8 of; and against a store that answers 503 to
more than 4 requests at a time ("throttled"): what is refused, and what passes.
Every measurement has a process of its own; figures are medians.
Prints a table and, as its last line, one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import filecmp
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
PART_MIB = 32
FIXED = 8
WIDE = 24
THROTTLED = 8
MOST = 4


async def measure(url: str, mib: int) -> dict[str, float]:
    """Upload an object and fetch it; return the MB/s of both."""
    from ackpt.checkpoint.staged import StagedFile
    from ackpt.engine.store import Store
    from ackpt.transfer.download import download_object
    from ackpt.transfer.upload import upload_object

    size = mib * 2**20
    with tempfile.TemporaryDirectory(prefix="ackpt-latency-") as scratch:
        path = Path(scratch, "object")
        _write(path, size)
        copy = Path(scratch, "copy")
        async with aclosing(Store(url)) as store:
            started = time.perf_counter()
            staged = StagedFile(key="object", path=path, size=size)
            info = await upload_object(store.backend, staged, store.transfer())
            upload_secs = time.perf_counter() - started
        async with aclosing(Store(url)) as store:  # as a restore does, which knows nothing of the store yet
            started = time.perf_counter()
            transfer = store.transfer()
            await download_object(store.backend, "object", copy, transfer, size=size, crc32c=info.crc32c)
            restore_secs = time.perf_counter() - started
        assert filecmp.cmp(path, copy, shallow=False)
    return {"upload": size / 1e6 / upload_secs, "restore": size / 1e6 / restore_secs}


def _write(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for _ in range(0, size, 2**20):
            file.write(os.urandom(2**20))


@contextmanager
def narrow(endpoint: str, rate_bytes: float, delay_secs: float) -> Iterator[str]:
    """Put the link in front of a server; give the endpoint to use."""
    command = [sys.executable, "-m", "bench.narrow", str(urlsplit(endpoint).port)]
    process = subprocess.Popen(
        [*command, str(rate_bytes), str(delay_secs)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def main() -> None:
    """Measure each number of connections, several times, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--connections", type=int, nargs="*", default=[4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate-mb", type=float, default=20.0, help="MB a second of a connection")
    parser.add_argument("--delay-ms", type=float, default=30.0, help="of a round trip")
    parser.add_argument("--part-mib", type=int, default=PART_MIB, help="of what is sent")
    parser.add_argument("--only", choices=["link", "wide", "throttled"], help="one of the three")
    parser.add_argument("--smoke", action="store_true", help="one round of a small object")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asyncio.run(measure(options.one[0], int(options.one[1])))))
        return
    if options.smoke:
        options.mib, options.connections, options.rounds, options.part_mib = 64, [2], 1, 2

    results: dict[str, object] = {}
    if options.only in (None, "link"):
        results |= measure_link(options)
    if options.only in (None, "wide") and not options.smoke:
        results["wide"] = compare(options, "wide", limit=WIDE, most=None)
    if options.only in (None, "throttled"):
        results["throttled"] = compare(options, "throttled", limit=THROTTLED, most=MOST)
    print(json.dumps({"bench": "latency", "mib": options.mib, "results": results}))


def measure_link(options: argparse.Namespace) -> dict[str, object]:
    """Measure each number of connections, several times; print and return the medians."""
    results: dict[str, object] = {}
    print(f"{'connections':>12}{'upload, MB/s':>14}{'share':>8}{'restore, MB/s':>15}{'share':>8}")
    for connections in options.connections:
        ways = f"concurrency={connections}&part_size={options.part_mib}MiB"
        rounds = [_run_round(options, ways, most=None) for _ in range(options.rounds)]
        found = {what: statistics.median(each[what] for each in rounds) for what in rounds[0]}
        full = connections * options.rate_mb
        shares = {f"{what}_share": found[what] / full for what in ("upload", "restore")}
        results[str(connections)] = {**found, **shares}
        print(
            f"{connections:12}{found['upload']:14.1f}{shares['upload_share']:8.2f}"
            f"{found['restore']:15.1f}{shares['restore_share']:8.2f}",
            flush=True,
        )
    return results


def compare(options: argparse.Namespace, name: str, *, limit: int, most: int | None) -> dict[str, object]:
    """Measure fixed and adaptive numbers of connections in turn; print and return the medians."""
    part = options.part_mib
    ways = {
        f"fixed at {FIXED}": f"concurrency={FIXED}&min_concurrency={FIXED}&part_size={part}MiB",
        f"adaptive, 1 to {limit}": f"concurrency={limit}&part_size={part}MiB",
    }
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, how in ways.items():
            rounds[way].append(_run_round(options, how, most=most))
    print(f"\n{name:>22}{'upload, MB/s':>14}{'restore, MB/s':>15}{'refused':>9}")
    results: dict[str, object] = {}
    for way, each in rounds.items():
        found = {what: statistics.median(one[what] for one in each) for what in each[0]}
        results[way.split(" ")[0].rstrip(",")] = found
        print(f"{way:>22}{found['upload']:14.1f}{found['restore']:15.1f}{found['refused']:9.0f}", flush=True)
    return results


def _run_round(options: argparse.Namespace, ways: str, *, most: int | None) -> dict[str, float]:
    from bench.link import run_url, server

    with (
        server(None, most=most) as behind,
        narrow(behind, options.rate_mb * 1e6, options.delay_ms / 2000) as endpoint,
    ):
        found = _run_one(f"{run_url(endpoint, 'latency')}&{ways}", options.mib)
        with urlopen(f"{behind}/_admin/log", timeout=30) as answer:
            log = json.load(answer)
    return {**found, "refused": float(sum(each["status"] == 503 for each in log))}


def _run_one(url: str, mib: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", url, str(mib)],
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
