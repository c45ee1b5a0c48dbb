"""Measure what fetching costs a client: objects on loopback become local files.

    python bench/restore.py [--rounds 3] [--loads big checkpoint] [--links plain tls] [--only NAME ...]
                            [--target FOLDER] [--smoke]

One object of 1 GiB ("big"), and a checkpoint of 4 x 256 MiB ("checkpoint"); in plain and over TLS; by ackpt,
in parallel ranges, every byte verified, the files durable before they have their names; by obstore and
google-cloud-storage. Neither of these makes a file durable, and obstore verifies nothing: what its stream
costs with both is a way of its own. Each way runs in a process of its own, in turn, several rounds; figures
are medians. "CPU" is the client's, per GiB. "memory" is how far its peak rises over idle, MiB. The ratios are
to obstore's best way, verified or not, each figure for itself. The files lie in memory where there is such a
filesystem, so that the disk is not what is measured, and waiting for it (fsync) takes no time; `--target`
names a folder on a disk, where it does. The server is described in `bench/loopback.py`.
Prints a table and, as its last line, one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOADS = {"big": (1, 2**30), "checkpoint": (4, 256 * 2**20)}
SMOKE = {"big": (1, 40 * 2**20), "checkpoint": (2, 10 * 2**20)}


async def measure(name: str, endpoint: str, folder: str, load: str, place: str) -> dict[str, float]:
    """Fetch a load's objects in one way, and compare their sizes."""
    from bench.cost import cost
    from bench.downloads import WAYS
    from bench.loopback import declared

    with tempfile.TemporaryDirectory(prefix="ackpt-restore-", dir=place or _memory()) as target:
        files = [Path(target, name) for name in sorted(os.listdir(Path(folder, load)))]
        (first,) = os.listdir(Path(folder, "first"))
        async with AsyncExitStack() as stack:
            fetch = await WAYS[name][0](endpoint, stack)
            found = await cost(fetch, Path(target, first), files)
        assert [file.stat().st_size for file in files] == [declared(file.name)[0] for file in files]
    return found


def _memory() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def main() -> None:
    """Run every way in a process of its own, in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loads", nargs="*", default=list(LOADS), choices=LOADS)
    parser.add_argument("--links", nargs="*", default=["plain", "tls"], choices=["plain", "tls"])
    parser.add_argument("--only", nargs="*", help="these clients alone")
    parser.add_argument("--target", default="", help="where files are fetched to")
    parser.add_argument("--smoke", action="store_true", help="one round of small loads")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asyncio.run(measure(*options.one))))
        return

    from bench import rounds
    from bench.certificates import make
    from bench.downloads import WAYS
    from bench.loopback import server

    loads = SMOKE if options.smoke else LOADS
    modules = {name: module for name, (_, module) in WAYS.items() if not options.only or name in options.only}
    results: dict[str, dict[str, dict[str, float]]] = {}
    print(rounds.HEAD)
    with tempfile.TemporaryDirectory(prefix="ackpt-objects-", dir=_memory()) as scratch:
        folder = Path(scratch)
        certificates = make(folder)
        rounds.write(folder / "first", 1, 256 * 2**10)
        for load in options.loads:
            rounds.write(folder / load, *loads[load])
        for load in options.loads:
            for link in options.links:
                tls = certificates if link == "tls" else None
                with server(folder, tls) as endpoint:
                    medians = rounds.run(
                        lambda name, where=(endpoint, load): [
                            __file__,
                            "--one",
                            name,
                            where[0],
                            scratch,
                            where[1],
                            options.target,
                        ],
                        modules,
                        rounds=1 if options.smoke else options.rounds,
                        gib=loads[load][0] * loads[load][1] / 2**30,
                        trusted=tls.environment() if tls else {},
                    )
                what = f"{load}, {link}"
                results[what] = medians
                print(what)
                rounds.show(medians)
    missing = rounds.left_out(modules, results)
    if missing:
        print(f"not measured, since they are not installed or do not run here: {', '.join(missing)}")
    print(json.dumps({"bench": "restore", "results": results, "missing": missing}))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
