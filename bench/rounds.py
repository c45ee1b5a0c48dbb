"""Rounds: every way in a process of its own, in turn; medians, and ratios to the best of one kind of peer."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.cost import environment, installed
from bench.loopback import name_of

SECS = 300
_LITTLE_BYTES = 1 << 20
OURS = "ackpt"
HEAD = f"{'':40}{'wall s':>9}{'CPU s/GiB':>11}{'memory MiB':>12}{'wall':>8}{'CPU':>7}"


def write(folder: Path, count: int, size: int) -> None:
    """Write the files of a load, named as the server wants it, and on the disk, if large."""
    from crc32c import crc32c

    folder.mkdir(exist_ok=True)
    block = os.urandom(min(size, 2**20))
    whole, rest = divmod(size, len(block))
    pieces = [block] * whole + [block[:rest]]
    value = 0
    for piece in pieces:
        value = crc32c(piece, value)
    for number in range(count):
        with Path(folder, name_of(f"{folder.name}-{number:04}", size, value)).open("wb") as file:
            file.writelines(pieces)
            if size > _LITTLE_BYTES:  # a thousand of these would take longer than all measurements
                file.flush()
                os.fsync(file.fileno())


def run(
    command: Callable[[str], Sequence[str]],
    modules: Mapping[str, str],
    *,
    rounds: int,
    gib: float,
    trusted: Mapping[str, str],
) -> dict[str, dict[str, float]]:
    """Run `command(name)` for each name whose module is installed; return its medians, by name.

    What fails in all rounds is left out, with a word on standard error; ours may not fail.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name, each in modules.items() if installed(each)}
    for _ in range(rounds):
        for name, ones in found.items():
            one = _run_one(name, command(name), environment(modules[name], trusted))
            ones.extend([] if one is None else [one])
    return table({name: ones for name, ones in found.items() if ones}, gib)


def table(found: Mapping[str, Sequence[Mapping[str, float]]], gib: float) -> dict[str, dict[str, float]]:
    """Return medians, CPU per GiB, and the ratios to the better of obstore's ways, each figure for itself."""
    medians = {
        name: {
            "wall": statistics.median(each["wall"] for each in ones),
            "cpu": statistics.median(each["cpu"] for each in ones) / gib,
            "memory": statistics.median(each["memory"] for each in ones),
        }
        for name, ones in found.items()
    }
    for what in ("wall", "cpu"):
        peers = [each[what] for name, each in medians.items() if name.startswith("obstore")]
        for each in medians.values():
            if peers:
                each[f"{what}_ratio"] = each[what] / min(peers)
    return medians


def show(medians: Mapping[str, Mapping[str, float]]) -> None:
    """Print the lines of a table."""
    for name, each in medians.items():
        ratios = "".join(
            f"{each[what]:{width}.2f}" if what in each else " " * width
            for what, width in (("wall_ratio", 8), ("cpu_ratio", 7))
        )
        print(f"  {name:38}{each['wall']:9.2f}{each['cpu']:11.2f}{each['memory']:12.0f}{ratios}", flush=True)


def left_out(modules: Mapping[str, str], results: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Return the names that have no figures at all."""
    measured = {name for medians in results.values() for name in medians}
    return sorted(set(modules) - measured)


def _run_one(name: str, command: Sequence[str], variables: dict[str, str]) -> dict[str, float] | None:
    try:
        done = subprocess.run(
            [sys.executable, *command], env=variables, capture_output=True, text=True, timeout=SECS
        )
    except subprocess.TimeoutExpired:
        print(f"  {name}: not done after {SECS} s", file=sys.stderr)
        return None
    if done.returncode:
        if name == OURS:
            raise RuntimeError(done.stderr)
        last = [f"ended with {done.returncode}", *done.stderr.strip().splitlines()][-1]
        print(f"  {name}: {last}", file=sys.stderr)
        return None
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result
