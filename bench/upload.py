"""Measure what uploading costs a client: to a server on loopback that throws away what it is sent.

    python bench/upload.py [--rounds 3] [--loads big small checkpoint] [--links plain tls]
                           [--protocols gs s3] [--only NAME ...] [--smoke]

One object of 1 GiB ("big"), 1,000 of 256 KiB ("small"), a checkpoint of 4 x 256 MiB ("checkpoint"); in plain
and over TLS; by the protocols of gs:// and s3://; by ackpt, with its verified CRC-32C, and by the peers that
are installed (`make bench` installs them). Each way runs in a process of its own, in turn, several rounds;
figures are medians. "CPU" is the client's, per GiB. "memory" is how far its peak rises over idle, MiB.
The ratios are to obstore's better way (its coroutines or its blocking calls), each figure for itself.
A client's first request is not counted. The server is described in `bench/loopback.py`.
Prints a table and, as its last line, one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOADS = {"big": (1, 2**30), "small": (1000, 256 * 2**10), "checkpoint": (4, 256 * 2**20)}
SMOKE = {"big": (1, 40 * 2**20), "small": (20, 256 * 2**10), "checkpoint": (2, 10 * 2**20)}


async def measure(
    protocol: str, name: str, endpoint: str, first: Path, files: Sequence[Path]
) -> dict[str, float]:
    """Upload files in one way."""
    from bench.cost import cost
    from bench.uploads import WAYS

    async with AsyncExitStack() as stack:
        send = await WAYS[protocol][name][0](endpoint, stack)
        return await cost(send, first, files)


def main() -> None:
    """Run every way in a process of its own, in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loads", nargs="*", default=list(LOADS), choices=LOADS)
    parser.add_argument("--links", nargs="*", default=["plain", "tls"], choices=["plain", "tls"])
    parser.add_argument("--protocols", nargs="*", default=["gs", "s3"], choices=["gs", "s3"])
    parser.add_argument("--only", nargs="*", help="these clients alone")
    parser.add_argument("--smoke", action="store_true", help="one round of small loads")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        protocol, name, endpoint, scratch, load = options.one
        files = sorted(Path(scratch, load).iterdir())
        (first,) = Path(scratch, "first").iterdir()
        print(json.dumps(asyncio.run(measure(protocol, name, endpoint, first, files))))
        return

    from bench import rounds
    from bench.certificates import make
    from bench.loopback import server
    from bench.uploads import WAYS

    loads = SMOKE if options.smoke else LOADS
    modules = {
        protocol: {
            name: module for name, (_, module) in ways.items() if not options.only or name in options.only
        }
        for protocol, ways in WAYS.items()
        if protocol in options.protocols
    }
    results: dict[str, dict[str, dict[str, float]]] = {}
    print(rounds.HEAD)
    with tempfile.TemporaryDirectory(prefix="ackpt-upload-") as scratch:
        folder = Path(scratch)
        certificates = make(folder)
        rounds.write(folder / "first", 1, 256 * 2**10)
        for load in options.loads:
            rounds.write(folder / load, *loads[load])
        for load in options.loads:
            for link in options.links:
                tls = certificates if link == "tls" else None
                for protocol, named in modules.items():
                    with server(folder, tls) as endpoint:
                        medians = rounds.run(
                            lambda name, where=(protocol, endpoint, load): [
                                __file__,
                                "--one",
                                where[0],
                                name,
                                where[1],
                                scratch,
                                where[2],
                            ],
                            named,
                            rounds=1 if options.smoke else options.rounds,
                            gib=loads[load][0] * loads[load][1] / 2**30,
                            trusted=tls.environment() if tls else {},
                        )
                    what = f"{load}, {link}, {protocol}"
                    results[what] = medians
                    print(what)
                    rounds.show(medians)
    missing = rounds.left_out({name: "" for named in modules.values() for name in named}, results)
    if missing:
        print(f"not measured, since they are not installed or do not run here: {', '.join(missing)}")
    print(json.dumps({"bench": "upload", "results": results, "missing": missing}))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
